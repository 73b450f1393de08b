"""The connections that channels of this process share: one for each address."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from compoint.core.codes import Code
from compoint.core.connection import Happening, Side
from compoint.core.greeting import Mode
from compoint.core.stream import Stream
from compoint.deadline import Deadline, clock
from compoint.drive.driver import Driver
from compoint.drive.lifetime import lifetime
from compoint.drive.reception import drive, machine_for
from compoint.errors import AddressError, Phase, PointTimeout, RefusedError
from compoint.limits import CHANNELS_PER_CONNECTION
from compoint.manager import ComManager

if TYPE_CHECKING:
    from compoint.address import ComPointAddress

__all__ = ["SharedConnections", "connections"]


class _Place:
    """One address: its shared connection, and the right to open it."""

    __slots__ = ("driver", "opening")

    def __init__(self) -> None:
        self.driver: Driver | None = None
        self.opening = threading.Lock()


class SharedConnections:
    """Gives a channel its connection; opens one when there is none, closes an idle one."""

    def __init__(self) -> None:
        self._places: dict[ComPointAddress, _Place] = {}

    def announce(
        self,
        address: ComPointAddress,
        correlator: str,
        deadline: Deadline,
        *,
        is_dedicated: bool,
    ) -> tuple[Driver, Stream]:
        """Announce a channel; it leaves with the first message, or in a moment."""
        while True:
            is_fresh = True
            if is_dedicated:
                driver = self._connect(address, deadline)
            else:
                driver, is_fresh = self._shared(address, deadline)
            with driver.lock:
                connection = driver.connection
                # What is wrong with a new connection is told by the channel; it would be
                # wrong with the next one, too.
                if is_fresh or _takes_channels(driver):
                    if len(connection.streams) >= CHANNELS_PER_CONNECTION:
                        raise _too_many(address)
                    stream = _announced(driver, correlator)
                    if stream is not None:
                        return driver, stream
            # It was cut between the two steps, or is used up: the next round opens another.
            self._forget(address, driver)

    def _shared(self, address: ComPointAddress, deadline: Deadline) -> tuple[Driver, bool]:
        """The connection that is there, or a new one; whether it is new."""
        place = self._places.setdefault(address, _Place())
        driver = place.driver
        if driver is not None:
            with driver.lock:
                # The peer may have left a moment ago, while nobody was listening.
                driver.look()
            if _takes_channels(driver):
                return driver, False
            # A connection found to be over takes its place with it.
            place = self._places.setdefault(address, place)
        remaining_s = deadline.remaining_s()
        if not place.opening.acquire(timeout=-1 if remaining_s is None else remaining_s):
            raise PointTimeout(
                "another thread is still opening the connection", point=str(address),
                phase=Phase.CONNECT, elapsed_s=deadline.elapsed_s, hint="call again",
            )  # fmt: skip
        try:
            driver = place.driver
            if driver is not None and _takes_channels(driver):
                return driver, False
            driver = place.driver = self._connect(address, deadline)
            self._close_when_idle(address, driver)
            return driver, True
        finally:
            place.opening.release()
            if place.driver is None and self._places.get(address) is place:
                del self._places[address]

    def resume(
        self, address: ComPointAddress, correlator: str, deadline: Deadline
    ) -> tuple[Driver, Stream]:
        """The channel that a former process has left, or a new one; alone on its connection."""
        driver = self._connect(address, deadline, resume=f"channel {correlator}")
        with driver.lock:
            for stream in driver.connection.streams.values():
                if stream.correlator == correlator:
                    return driver, stream
            stream = driver.connection.announce(correlator)
            driver.linger()
            return driver, stream

    def _connect(self, address: ComPointAddress, deadline: Deadline, *, resume: str = "") -> Driver:
        if address.port == 0:
            raise AddressError(
                f"{address} has port 0, which only a service point can use",
                hint="take the port from the service point's address",
            )
        settings = ComManager.settings().point
        opener = ComManager.opener(address.protocol)
        if resume:
            wire = opener.resume(address, resume, deadline)
        else:
            wire = opener.connect(address, deadline)
        connection = machine_for(wire, Side.INITIATOR, settings, Mode.CHANNELS, address.path)
        driver = drive(wire, connection, lifetime.pump(), arm=False)
        driver.on_happening = self._on_happening
        with driver.lock:
            driver.pump.watch(driver)
        return driver

    def _on_happening(self, driver: Driver, happening: Happening, stream: Stream | None) -> None:
        if happening is Happening.OVER:
            for address, place in list(self._places.items()):
                if place.driver is driver:
                    self._forget(address, driver)

    def _forget(self, address: ComPointAddress, driver: Driver) -> None:
        place = self._places.get(address)
        if place is not None and place.driver is driver:
            place.driver = None
            self._places.pop(address, None)

    def _close_when_idle(self, address: ComPointAddress, driver: Driver) -> None:
        idle_s = ComManager.settings().channel.idle_connection_s
        seen = -1

        def look() -> float | None:
            nonlocal seen
            with driver.lock:
                if driver.is_closed:
                    return None
                if driver.connection.streams or driver.rounds != seen:
                    seen = driver.rounds
                    return clock() + idle_s
                self._forget(address, driver)
                driver.say_goodbye("no channel needed it any more")
                return None

        driver.pump.call_at(clock() + idle_s, look)

    def after_fork(self) -> None:
        self._places = {}

    def close_at_exit(self) -> None:
        """Nothing: connections say goodbye after the points they carry."""


def _announced(driver: Driver, correlator: str) -> Stream | None:
    try:
        stream = driver.connection.announce(correlator)
    except OverflowError:  # after four thousand million channels
        return None
    driver.linger()
    return stream


def _takes_channels(driver: Driver) -> bool:
    connection = driver.connection
    return connection.ending is None and not connection.is_leaving and not driver.is_closed


def _too_many(address: ComPointAddress) -> RefusedError:
    return RefusedError(
        f"{CHANNELS_PER_CONNECTION} channels are open on this connection",
        point=str(address), phase=Phase.OPEN, code=Code.TOO_MANY_CHANNELS.word,
        hint="close some, or use ChannelOptions(dedicated=True)",
    )  # fmt: skip


connections = SharedConnections()
lifetime.servers.add(connections)
