"""Plain ComPoints: one connection, one conversation."""

from __future__ import annotations

import functools
import threading
from collections import deque
from contextlib import suppress
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
from compoint.drive.waiter import Waiter, acquire_surely
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
        self._lock = threading.Lock()
        self._waiting: deque[tuple[Driver, Stream]] = deque()
        #: The threads in `accept`.
        self._accepting: deque[Waiter] = deque()
        self._is_closed = False
        self._closed_why = "this side closed the server"
        self._accepted = self._refused = 0
        try:
            lifetime.servers.add(self)
            self._reception = Reception(listener, lifetime.pump(), settings, self._answer)
            listener.on_lost = self._lose
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
        waiter = Waiter()
        with self._lock:
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
                self._sleep(waiter, deadline)
            driver, stream = self._waiting.popleft()
            self._accepted += 1
        point = StreamPoint(
            driver, stream, self._address, self._name,
            wide_window=self._settings.wide_window_bytes,
        )  # fmt: skip
        return point

    def _sleep(self, waiter: Waiter, deadline: Deadline) -> None:
        """Wait for an arrival. The lock is held, but not while sleeping."""
        self._accepting.append(waiter)
        is_clean = False
        try:
            self._lock.release()
            waiter.sleep(deadline.remaining_s())
            is_clean = True
        finally:
            acquire_surely(self._lock)
            with suppress(ValueError):  # who is woken is in the line no more
                self._accepting.remove(waiter)
            if not is_clean and self._waiting:
                # Ctrl-C: who this thread may have been woken for goes to another.
                self._wake_one()

    def _wake_one(self) -> None:
        # Out of the line: the next arrival is for another, however slow this one is.
        if self._accepting:
            self._accepting.popleft().wake()

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
            with self._lock:
                self._waiting.append((driver, connection.plain))
                self._wake_one()

    # --- the end ------------------------------------------------------------------------

    def close(self) -> None:
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
            waiting, self._waiting = self._waiting, deque()
            for waiter in self._accepting:
                waiter.wake()
        self._reception.close()
        for driver, _ in waiting:
            with driver.lock:
                driver.connection.leave(Code.STOPPED, "the server was closed")
                driver.shut()

    def _lose(self, reason: str) -> None:
        self._closed_why = reason
        self.close()

    def close_at_exit(self) -> None:
        self._closed_why = "the program is ending"
        self.close()

    def after_fork(self) -> None:
        self._lock = threading.Lock()
        self._accepting.clear()
        self._waiting.clear()
        self._is_closed = True
        self._closed_why = "this server belongs to the parent process"
        self._reception.after_fork()

    def statistics(self) -> ServerStatistics:
        with self._lock:
            return ServerStatistics(
                accepted=self._accepted,
                waiting=len(self._waiting),
                ungreeted=len(self._reception.ungreeted),
                refused=self._refused + self._reception.refused,
                foreign=self._reception.foreign,
                is_open=not self._is_closed,
            )
