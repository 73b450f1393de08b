"""ChannelServicePoint: one port, one thread, many channels found by their correlators."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from channel.channel import ChannelPoint, check_correlator
from channel.options import ChannelOptions
from channel.rendezvous import Bounds, QueuedChannel, Rendezvous, WaitingResponder
from compoint.core.codes import Code, How
from compoint.core.connection import Happening
from compoint.core.greeting import Greeting, Mode
from compoint.core.stream import Stream
from compoint.deadline import Deadline, clock
from compoint.drive.driver import Driver
from compoint.drive.lifetime import lifetime
from compoint.drive.reception import Reception, serves_path
from compoint.drive.waiter import Waiter, acquire_surely
from compoint.errors import ClosedError, Phase, PointTimeout
from compoint.manager import ComManager

if TYPE_CHECKING:
    from compoint.address import ComPointAddress

__all__ = ["ChannelServicePoint", "ServicePointStatistics", "Waiting"]

#: An arrival in the queue: the connection and the stream on it.
Arrival = tuple[Driver, Stream]


@dataclass(frozen=True, slots=True)
class Waiting:
    """Who is queued and who is waiting, at one moment."""

    queued: tuple[QueuedChannel, ...]
    responders: tuple[WaitingResponder, ...]


@dataclass(frozen=True, slots=True)
class ServicePointStatistics:
    """One service point at one moment."""

    connections: int
    ungreeted: int
    queued: int
    queued_bytes: int
    claimed: int
    refused: int
    foreign: int
    is_open: bool


class _Responder:
    """A thread that waits in `open_responder_channel`."""

    __slots__ = ("correlator", "since", "waiter")

    def __init__(self, correlator: str | None) -> None:
        self.correlator = correlator
        self.since = clock()
        self.waiter = Waiter()


class ChannelServicePoint:
    """Takes channels at one address and keeps each until its responder opens it.

    Its thread accepts, greets, queues, and moves the bytes of channels nobody is calling
    on. Any thread may call any verb. A service point is a context manager: leaving the
    block stops it.
    """

    def __init__(self, address: ComPointAddress) -> None:
        settings = ComManager.settings()
        opener = ComManager.opener(address.protocol)
        listener = opener.listen(address)
        self._settings = settings.point
        self._address = listener.address
        bounds = settings.channel
        self._rendezvous: Rendezvous[Arrival] = Rendezvous(
            Bounds(
                channels=bounds.max_queued,
                channels_per_connection=bounds.max_queued_per_connection,
                bytes_in_all=bounds.max_queued_bytes,
                age_s=bounds.max_queued_age_s,
            )
        )
        self._max_age_s = bounds.max_queued_age_s
        # Guards the queue and the responders. Taken inside a driver's lock, so nothing
        # that takes a driver's lock may be done while holding it.
        self._lock = threading.Lock()
        self._responders: dict[str | None, deque[_Responder]] = {}
        self._connections: set[Driver] = set()
        #: Those who only ask who is here.
        self._inquiries: set[Driver] = set()
        self._claimed = self._refused = 0
        self._is_stopped = False
        self._stopped_why = "this side stopped the service point"
        self._pump = lifetime.own_pump(f"compoint-service-point {self._address}")
        self._reception = Reception(
            listener, self._pump, settings.point, self._answer, self._take, is_prompt=True
        )
        listener.on_lost = self._lose
        self._pump.call_at(clock() + min(self._max_age_s, 1.0), self._expire)
        lifetime.servers.add(self)

    @property
    def address(self) -> ComPointAddress:
        """Where this service point listens; a port of 0 has been replaced."""
        return self._address

    def __repr__(self) -> str:
        state = "stopped" if self._is_stopped else "open"
        return f"<ChannelServicePoint {self._address} ({state})>"

    # --- responders ---------------------------------------------------------------------

    def open_responder_channel(
        self,
        options: ChannelOptions | None = None,
        correlator: str | None = None,
        *,
        timeout: float | None = None,
    ) -> ChannelPoint:
        """Wait for the channel with this correlator and return the responder's end.

        With correlator None: the next channel, whatever its correlator. Channels of one
        correlator are given out in the order they arrived; one that arrived earlier is
        returned at once. Several threads may wait, also for the same correlator.

        Raises:
            UsageError: the correlator is no text or too long.
            ClosedError: the service point was stopped, here or in another thread.
            PointTimeout: no such channel came; call again.
        """
        if correlator is not None:
            check_correlator(correlator)
        deadline = Deadline(timeout)
        responder = _Responder(correlator)
        with self._lock:
            while (arrival := self._rendezvous.claim(correlator)) is None:
                if self._is_stopped:
                    raise self._stopped_error()
                if deadline.is_over:
                    raise PointTimeout(
                        f"no channel {_named(correlator)} within {timeout} s",
                        point=str(self._address), phase=Phase.OPEN, hint=self._who_is_here(),
                    )  # fmt: skip
                self._sleep(responder, deadline)
            self._claimed += 1
            if correlator is None and len(self._rendezvous):
                # It took the oldest, which may be another than the one it was woken for.
                self._wake_one_of(None)
        return self._claim(arrival)

    def _sleep(self, responder: _Responder, deadline: Deadline) -> None:
        """Wait for an arrival. The lock is held, but not while sleeping."""
        line = self._responders.setdefault(responder.correlator, deque())
        line.append(responder)
        is_clean = False
        try:
            self._lock.release()
            responder.waiter.sleep(deadline.remaining_s())
            is_clean = True
        finally:
            acquire_surely(self._lock)
            with suppress(ValueError):  # who is woken is in the line no more
                line.remove(responder)
            if not line and self._responders.get(responder.correlator) is line:
                del self._responders[responder.correlator]
            if not is_clean:
                # Ctrl-C: what this thread may have been woken for goes to another.
                for correlator in self._rendezvous.correlators(len(self._rendezvous)):
                    self._wake_responder(correlator)

    def _claim(self, arrival: Arrival) -> ChannelPoint:
        driver, stream = arrival
        with driver.lock:
            point = ChannelPoint(
                driver, stream, self._address, "responder",
                wide_window=self._settings.wide_window_bytes,
            )  # fmt: skip
            driver.connection.claim(stream)
            driver.linger()
        return point

    def _who_is_here(self) -> str:
        names = self._rendezvous.correlators(3)
        if not names:
            return "nobody is queued; is the initiator using this address?"
        more = ", …" if len(self._rendezvous) > len(names) else ""
        return f"queued are: {', '.join(map(repr, names))}{more}"

    def _stopped_error(self) -> ClosedError:
        return ClosedError(
            self._stopped_why, point=str(self._address), phase=Phase.OPEN, hint="start a new one"
        )

    # --- on the thread; the driver's lock is held -----------------------------------------

    def _answer(self, driver: Driver, asking: Greeting) -> None:
        driver.on_closed = self._forget
        connection = driver.connection
        if asking.mode is Mode.STATUS:
            self._answer_status(driver)
        elif asking.mode is not Mode.CHANNELS:
            text = "this is a service point: open a channel with a correlator"
            connection.refuse(Code.WRONG_MODE, text)
        elif not serves_path(self._address, asking, driver.wire):
            text = f"nobody serves the path {asking.path or '/'!r} here"
            connection.refuse(Code.NO_SUCH_PATH, text)
        elif self._is_stopped:
            connection.refuse(Code.STOPPED, "the service point was stopped")
        else:
            self._connections.add(driver)
            connection.welcome()

    def _forget(self, driver: Driver) -> None:
        self._connections.discard(driver)
        self._inquiries.discard(driver)
        lifetime.drivers.discard(driver)

    def _answer_status(self, driver: Driver) -> None:
        connection = driver.connection
        if not driver.wire.is_local:
            connection.refuse(Code.NOT_LOCAL, "the status is shown on the machine itself only")
            return
        from compoint.message import encode  # noqa: PLC0415 - msgspec only when it is needed

        self._inquiries.add(driver)
        connection.welcome()
        assert connection.plain is not None
        form, payload = encode(self._status())
        connection.gather(connection.plain, form, payload)
        connection.goodbye(connection.plain)

    def _status(self) -> dict[str, Any]:
        waiting = self.waiting()
        shown = 64  # as many as fit the first credit whatever their correlators
        return {
            "address": str(self._address),
            "connections": len(self._connections),
            "queued": [_fields(one) for one in waiting.queued[:shown]],
            "queued_in_all": len(waiting.queued),
            "responders": [_fields(one) for one in waiting.responders[:shown]],
            "responders_in_all": len(waiting.responders),
        }

    def _take(self, driver: Driver, happening: Happening, stream: Stream | None) -> None:
        if stream is None:
            pass  # a connection that is over is forgotten when it is closed
        elif happening is Happening.ANNOUNCED:
            self._queue(driver, stream)
        else:
            self._note_growth(driver, stream)

    def _queue(self, driver: Driver, stream: Stream) -> None:
        with self._lock:
            if self._is_stopped:
                self._refuse(driver, stream, Code.STOPPED, "the service point was stopped", None)
                return
            full = self._rendezvous.arrive((driver, stream), stream.correlator, id(driver), clock())
            if full is not None:
                self._refuse(driver, stream, full.code, full.text, full.retry_after_s)
                return
            self._wake_responder(stream.correlator)

    def _wake_responder(self, correlator: str) -> None:
        if not self._wake_one_of(correlator):
            self._wake_one_of(None)

    def _wake_one_of(self, correlator: str | None) -> bool:
        line = self._responders.get(correlator)
        if not line:
            return False
        # Out of the line: the next arrival is for another, however slow this one is.
        line.popleft().waiter.wake()
        return True

    def _note_growth(self, driver: Driver, stream: Stream) -> None:
        """A queued channel has got messages, or its end."""
        with self._lock:
            arrival = (driver, stream)
            ending = stream.ending
            if ending is not None and ending.how is not How.GOODBYE and not stream.inbox:
                # Its initiator is lost and nothing it said is here: nobody will miss it.
                self._rendezvous.withdraw(arrival)
                return
            full = self._rendezvous.grow(arrival, stream.unread_bytes)
            if full is not None:
                self._rendezvous.withdraw(arrival)
                self._refuse(driver, stream, full.code, full.text, full.retry_after_s)

    def _refuse(
        self, driver: Driver, stream: Stream, code: Code, text: str, retry_after_s: float | None
    ) -> None:
        self._refused += 1
        driver.connection.reset(stream, code, text, retry_after_s)

    def _expire(self) -> float | None:
        with self._lock:
            if self._is_stopped:
                return None
            late = self._rendezvous.expire(clock())
        for driver, stream in late:
            with driver.lock:
                text = f"no responder came within {self._max_age_s:.3g} s"
                self._refuse(driver, stream, Code.EXPIRED, text, None)
                driver.flush()
        return clock() + min(self._max_age_s / 4, 1.0)

    # --- the end --------------------------------------------------------------------------

    def stop(self) -> None:
        """Refuse who is queued, wake every waiting responder, end the thread.

        Idempotent. Channels that are open live on; their connections take no new ones.
        """
        with self._lock:
            if self._is_stopped:
                return
            self._is_stopped = True
            late = self._rendezvous.clear()
            for line in self._responders.values():
                for responder in line:
                    responder.waiter.wake()
        self._reception.close()
        for driver, stream in late:
            with driver.lock:
                text = "the service point was stopped"
                self._refuse(driver, stream, Code.STOPPED, text, None)
                driver.flush()
        self._leave_all()
        self._pump.stop()
        # One more may have been welcomed meanwhile.
        self._leave_all()

    def _leave_all(self) -> None:
        for driver in [*self._connections, *self._inquiries]:
            self._leave(driver)

    def _leave(self, driver: Driver) -> None:
        """Close a connection without channels; give one that has some to the common pump."""
        with driver.lock:
            if driver.is_closed or driver.pump is not self._pump:
                return
            driver.connection.leave(Code.CLOSED, "the service point was stopped")
            if driver.connection.ending is None:
                driver.flush()
                # Sending gave the lock up; the last conversation may have ended meanwhile.
                if not driver.is_closed:
                    driver.move_to(lifetime.pump())
            else:
                driver.deliver()
                driver.shut()

    def _lose(self, reason: str) -> None:
        self._stopped_why = reason
        self.stop()

    def close_at_exit(self) -> None:
        self._stopped_why = "the program is ending"
        self.stop()

    def after_fork(self) -> None:
        self._lock = threading.Lock()
        self._rendezvous.clear()
        self._responders = {}
        self._connections = set()
        self._inquiries = set()
        self._is_stopped = True
        self._stopped_why = "this service point belongs to the parent process"
        self._reception.after_fork()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def __iter__(self) -> Iterator[ChannelPoint]:
        return self

    def __next__(self) -> ChannelPoint:
        try:
            return self.open_responder_channel()
        except ClosedError:
            raise StopIteration from None

    # --- looking ----------------------------------------------------------------------------

    def waiting(self) -> Waiting:
        """Who is queued and who is waiting, at this moment, in the order they came."""
        with self._lock:
            now = clock()
            queued = tuple(
                QueuedChannel(
                    correlator=stream.correlator,
                    peer=driver.wire.peer,
                    age_s=age_s,
                    messages=len(stream.inbox),
                    bytes=stream.unread_bytes,
                )
                for (driver, stream), age_s in self._rendezvous.ages(now)
            )
            responders = sorted(
                (one for line in self._responders.values() for one in line),
                key=lambda one: one.since,
            )
            waiting = tuple(WaitingResponder(one.correlator, now - one.since) for one in responders)
        return Waiting(queued, waiting)

    def statistics(self) -> ServicePointStatistics:
        """A frozen snapshot of the counters and the state of this service point."""
        with self._lock:
            return ServicePointStatistics(
                connections=len(self._connections),
                ungreeted=len(self._reception.ungreeted),
                queued=len(self._rendezvous),
                queued_bytes=self._rendezvous.bytes_in_all,
                claimed=self._claimed,
                refused=self._refused + self._reception.refused,
                foreign=self._reception.foreign,
                is_open=not self._is_stopped,
            )


def _named(correlator: str | None) -> str:
    return "came" if correlator is None else f"{correlator!r} came"


def _fields(one: QueuedChannel | WaitingResponder) -> dict[str, Any]:
    return {name: getattr(one, name) for name in one.__slots__}
