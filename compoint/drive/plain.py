"""Plain ComPoints: one connection, one conversation."""

from __future__ import annotations

import functools
import threading
from collections import deque
from typing import TYPE_CHECKING

from compoint.core.codes import Code
from compoint.core.connection import Side
from compoint.core.greeting import Greeting, Mode
from compoint.core.stream import Stream
from compoint.deadline import Deadline
from compoint.drive.driver import Driver
from compoint.drive.lifetime import lifetime
from compoint.drive.reception import Reception, drive, machine_for, serves_path
from compoint.drive.stream_point import StreamPoint
from compoint.drive.wire import Opener
from compoint.errors import ClosedError, Phase, PointTimeout
from compoint.observe import ServerStatistics
from compoint.point import ComPoint, ServerComPoint

if TYPE_CHECKING:
    from compoint.address import ComPointAddress
    from compoint.config import PointSettings

__all__ = ["PlainServer", "open_plain"]


def open_plain(
    opener: Opener,
    address: ComPointAddress,
    settings: PointSettings,
    deadline: Deadline,
    mode: Mode = Mode.PLAIN,
    resume: str = "",
) -> StreamPoint:
    """Reach a server and return the initiator's ComPoint.

    Returns as soon as the way is open. The greeting travels with the first message, so
    what the peer thinks of it is known at the first read, flush or close.
    """
    connect = functools.partial(opener.resume, name=resume) if resume else opener.connect
    wire = connect(address, deadline=deadline)
    connection = machine_for(wire, Side.INITIATOR, settings, mode, address.path)
    assert connection.plain is not None
    driver = drive(wire, connection, lifetime.pump(), arm=False)
    point = StreamPoint(
        driver, connection.plain, address, f"{address} (initiator)",
        wide_window=settings.wide_window_bytes,
    )  # fmt: skip
    with driver.lock:
        # The greeting travels with the first message, or by itself in a moment.
        driver.linger()
        driver.pump.watch(driver)
    return point


class PlainServer(ServerComPoint):
    """A server ComPoint over any transport. The contract is that of ServerComPoint."""

    def __init__(self, opener: Opener, address: ComPointAddress, settings: PointSettings) -> None:
        self._settings = settings
        listener = opener.listen(address)
        self._address = listener.address
        #: Of all its points.
        self._name = f"{self._address} (responder)"
        self._arrived = threading.Condition(threading.Lock())
        self._waiting: deque[tuple[Driver, Stream]] = deque()
        self._is_closed = False
        self._closed_why = "this side closed the server"
        self._accepted = self._refused = 0
        try:
            lifetime.servers.add(self)
            self._reception = Reception(listener, lifetime.pump(), settings, self._answer)
        except BaseException:  # Ctrl-C
            listener.close()
            raise

    @property
    def address(self) -> ComPointAddress:
        return self._address

    def __repr__(self) -> str:
        state = "closed" if self._is_closed else "open"
        return f"<ServerComPoint {self._address} ({state})>"

    def accept(self, *, timeout: float | None = None) -> ComPoint:
        deadline = Deadline(timeout)
        with self._arrived:
            while not self._waiting:
                if self._is_closed:
                    raise ClosedError(
                        self._closed_why, point=str(self._address), phase=Phase.ACCEPT,
                        hint="open a new one",
                    )  # fmt: skip
                if deadline.is_over:
                    raise PointTimeout(
                        f"nobody came within {timeout} s", point=str(self._address),
                        phase=Phase.ACCEPT, hint=self._who_came(),
                    )  # fmt: skip
                self._arrived.wait(deadline.remaining_s())
            driver, stream = self._waiting.popleft()
            self._accepted += 1
        point = StreamPoint(
            driver, stream, self._address, self._name,
            wide_window=self._settings.wide_window_bytes,
        )  # fmt: skip
        return point

    def _who_came(self) -> str:
        if self._reception.foreign:
            return f"{self._reception.foreign} peers came that speak something else"
        if self._reception.ungreeted:
            return f"{len(self._reception.ungreeted)} connections came and have not greeted yet"
        return "is the initiator using this address?"

    def _answer(self, driver: Driver, asking: Greeting) -> None:
        """A peer has greeted: welcome it, or say why not. The driver's lock is held."""
        connection = driver.connection
        if asking.mode is not Mode.PLAIN:
            text = "this is a plain server ComPoint, not a service point for channels"
            connection.refuse(Code.WRONG_MODE, text)
        elif not serves_path(self._address, asking, driver.wire):
            text = f"nobody serves the path {asking.path or '/'!r} here"
            connection.refuse(Code.NO_SUCH_PATH, text)
        elif self._is_closed:
            connection.refuse(Code.STOPPED, "the server was closed")
        elif len(self._waiting) >= self._settings.backlog and driver.wire.kept is None:
            self._refused += 1
            text = f"{len(self._waiting)} initiators are waiting to be accepted"
            connection.refuse(Code.BUSY, text, retry_after_s=1.0)
        else:
            connection.welcome()
            driver.answer_may_wait = True
            assert connection.plain is not None
            with self._arrived:
                self._waiting.append((driver, connection.plain))
                self._arrived.notify()

    # --- the end ------------------------------------------------------------------------

    def close(self) -> None:
        with self._arrived:
            if self._is_closed:
                return
            self._is_closed = True
            waiting, self._waiting = self._waiting, deque()
            self._arrived.notify_all()
        self._reception.close()
        for driver, _ in waiting:
            with driver.lock:
                driver.connection.leave(Code.STOPPED, "the server was closed")
                driver.shut()

    def close_at_exit(self) -> None:
        self._closed_why = "the program is ending"
        self.close()

    def after_fork(self) -> None:
        self._arrived = threading.Condition(threading.Lock())
        self._waiting.clear()
        self._is_closed = True
        self._closed_why = "this server belongs to the parent process"
        self._reception.after_fork()

    def statistics(self) -> ServerStatistics:
        with self._arrived:
            return ServerStatistics(
                accepted=self._accepted,
                waiting=len(self._waiting),
                ungreeted=len(self._reception.ungreeted),
                refused=self._refused + self._reception.refused,
                foreign=self._reception.foreign,
                is_open=not self._is_closed,
            )
