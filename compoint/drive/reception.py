"""Where peers arrive: accepts and greets them on the pump, off everybody's path.

A silent or foreign peer costs a descriptor for a bounded time and delays nobody.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from compoint.core.codes import Code
from compoint.core.connection import Connection, Happening, Side
from compoint.core.greeting import Greeting, Mode
from compoint.core.stream import Stream
from compoint.deadline import clock
from compoint.drive.driver import Driver
from compoint.drive.lifetime import lifetime
from compoint.drive.wire import Listener, Wire
from compoint.limits import UNGREETED

if TYPE_CHECKING:
    from compoint.address import ComPointAddress
    from compoint.config import PointSettings
    from compoint.drive.pump import Pump

__all__ = ["Reception", "drive", "greeting_for", "machine_for", "serves_path"]

#: What a server does with a peer that has greeted: welcome it or refuse it. Called with
#: the driver's lock held.
Answer = Callable[[Driver, Greeting], None]
#: What else happens on a welcomed connection. Called with the driver's lock held.
Further = Callable[[Driver, Happening, Stream | None], None]

# Bound once for all drivers.
_disown: Final = lifetime.drivers.discard


def greeting_for(settings: PointSettings, mode: Mode, wire: Wire, path: str = "") -> Greeting:
    """What this side tells the peer about itself."""
    return Greeting(
        mode=mode,
        message_limit=settings.max_message_bytes,
        window=settings.window_bytes,
        heartbeat_ms=round(settings.heartbeat_s * 1000) if wire.has_heartbeat else 0,
        session=wire.session or os.urandom(16),
        path=path,
    )


def serves_path(address: ComPointAddress, asking: Greeting, wire: Wire) -> bool:
    """Whether who greets means the server at `address`; one without a path is meant by all."""
    return wire.finds_path or not address.path or asking.path == address.path


def drive(wire: Wire, connection: Connection, pump: Pump, *, arm: bool) -> Driver:
    """Put a connection in motion."""
    driver = Driver(wire, connection, pump) if not wire.keeps else _keeping(wire, connection, pump)
    lifetime.drivers.add(driver)
    driver.on_closed = _disown
    with driver.lock:
        pump.adopt(driver, arm=arm)
    return driver


def _keeping(wire: Wire, connection: Connection, pump: Pump) -> Driver:
    from compoint.drive.keeping import KeepingDriver  # noqa: PLC0415 - few wires keep

    return KeepingDriver(wire, connection, pump)


def machine_for(
    wire: Wire, side: Side, settings: PointSettings, mode: Mode, path: str = ""
) -> Connection:
    """The machine for a new wire: new as well, or what was kept for it."""
    greeting_s = min(wire.greeting_s, settings.greeting_timeout_s)
    if wire.keeps and side is Side.INITIATOR:
        # Where a journey takes hours, so may the answer. Who comes brings its greeting along.
        greeting_s = math.inf
    if wire.kept is not None:
        from compoint.core.resumed import ResumedConnection  # noqa: PLC0415 - few wires keep

        return ResumedConnection(side, wire.kept, clock(), greeting_s)
    ours = greeting_for(settings, mode, wire, path)
    return Connection(side, ours, clock(), greeting_s, is_kept=wire.keeps)


class Reception:
    """Accepts and greets for one server; the server decides about each greeting."""

    def __init__(
        self,
        listener: Listener,
        pump: Pump,
        settings: PointSettings,
        answer: Answer,
        further: Further | None = None,
        *,
        is_prompt: bool = False,
    ) -> None:
        self._listener = listener
        self._pump = pump
        self._settings = settings
        self._answer = answer
        self._further = further
        self._is_prompt = is_prompt
        self._is_closed = False
        # Bound once for all drivers.
        self._hear = self._on_happening
        self.ungreeted: set[Driver] = set()
        #: Peers turned away because too many had not greeted.
        self.refused = 0
        #: Peers that spoke something else, or nothing.
        self.foreign = 0
        pump.serve_listener(listener, self._take_peer)

    def _take_peer(self, listener: Listener) -> bool:
        if self._is_closed:
            return False
        wire = listener.accept()
        if wire is None:
            return False
        if len(self.ungreeted) >= UNGREETED:
            self.refused += 1
            wire.close()
            return True
        connection = machine_for(wire, Side.RESPONDER, self._settings, Mode.WELCOME)
        driver = drive(wire, connection, self._pump, arm=False)
        driver.on_happening = self._hear
        driver.is_prompt = self._is_prompt
        self.ungreeted.add(driver)
        if connection.events:
            # One that was kept has greeted before.
            with driver.lock:
                driver.deliver()
        # Most peers' greetings are here already; looking saves a turn.
        driver.serve()
        return True

    def _on_happening(self, driver: Driver, happening: Happening, stream: Stream | None) -> None:
        if happening is Happening.GREETED:
            self.ungreeted.discard(driver)
            asking = driver.connection.asking
            assert asking is not None
            if driver.wire.peer_session in {None, asking.session}:
                self._answer(driver, asking)
            else:
                text = "the greeting names another session than the requests"
                driver.connection.refuse(Code.BAD_GREETING, text)
            # A heartbeat may be due before the greeting's time would have been up.
            self._pump.keep_time(driver)
            return
        if happening is Happening.OVER and driver in self.ungreeted:
            self.ungreeted.discard(driver)
            self.foreign += 1
        elif self._further is not None:
            self._further(driver, happening, stream)

    def close(self) -> None:
        """Stop listening and send away who has not greeted yet."""
        if self._is_closed:
            return
        self._is_closed = True
        self._pump.forget_listener(self._listener)
        self._listener.close()
        for driver in list(self.ungreeted):
            with driver.lock:
                driver.connection.refuse(Code.STOPPED, "the server was closed")
                driver.shut()

    def after_fork(self) -> None:
        self._is_closed = True
        self._listener.close()
