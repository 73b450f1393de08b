"""The blocking shell of one stream: the ComPoint of every transport, and every channel."""

from __future__ import annotations

import threading
from types import UnionType
from typing import TYPE_CHECKING, Any, Final, TypeVar, overload

from compoint.core.codes import Code, How
from compoint.core.connection import Connection
from compoint.core.stream import NOTHING, Item, Stream
from compoint.deadline import FOR_EVER, Deadline
from compoint.drive.driver import Driver
from compoint.drive.faults import error_of, reason_of
from compoint.drive.waiter import Waiter, without
from compoint.errors import (
    BusyError,
    ClosedError,
    ComPointException,
    EndOfMessages,
    Fate,
    MessageError,
    Phase,
    PointTimeout,
    TooLargeError,
)
from compoint.limits import (
    CHUNK_BYTES,
    CLOSE_S,
    MESSAGE_TOLL_BYTES,
    SMALL_BYTES,
    WIDE_WINDOW_BYTES,
)
from compoint.observe import PointStatistics
from compoint.point import ComPoint, Receipt

if TYPE_CHECKING:
    from compoint.address import ComPointAddress

__all__ = ["StreamPoint"]

T = TypeVar("T")

_TOLL: Final = MESSAGE_TOLL_BYTES
_SMALL_COST: Final = SMALL_BYTES + _TOLL


class StreamPoint(ComPoint):
    """A ComPoint on one stream of a driven connection. The contract is that of ComPoint."""

    __slots__ = (
        "_address", "_closed_why", "_driver", "_is_closing", "_name", "_reader", "_receipt",
        "_stream", "_wide_window", "_writers_stuck", "waiters",
    )  # fmt: skip

    def __init__(
        self,
        driver: Driver,
        stream: Stream,
        address: ComPointAddress,
        name: str,
        *,
        wide_window: int = WIDE_WINDOW_BYTES,
    ) -> None:
        self._driver = driver
        self._stream = stream
        self._address = address
        self._name = name
        self._wide_window = wide_window
        #: The thread that is reading; 0: none.
        self._reader = 0
        self._writers_stuck = 0
        self._is_closing = False
        self._closed_why = "this side closed the point"
        self._receipt: Receipt | None = None
        self.waiters: tuple[Waiter, ...] = ()
        stream.owner = self
        stream.has_waiters = False

    @property
    def address(self) -> ComPointAddress:
        return self._address

    @property
    def peer(self) -> str:
        return self._driver.wire.peer

    def __repr__(self) -> str:
        state = "closed" if self._is_closing else "open"
        return f"<{type(self).__name__} {self._name} ({state})>"

    # --- reading ------------------------------------------------------------------------

    @overload
    def read(self, message_type: None = None, *, timeout: float | None = None) -> Any: ...

    @overload
    def read(self, message_type: type[T], *, timeout: float | None = None) -> T: ...

    @overload
    def read(self, message_type: UnionType, *, timeout: float | None = None) -> Any: ...

    def read(self, message_type: Any = None, *, timeout: float | None = None) -> Any:
        me = threading.get_ident()
        # No lock: Ctrl-C right after taking it would leave it taken. What is left behind
        # here by an interrupt of this thread is told from a read that goes on.
        if self._reader and (self._reader != me or self._is_waited_for()):
            raise BusyError(
                "another thread is reading here", point=self._name, phase=Phase.READ,
                hint="let one thread read and hand the messages on",
            )  # fmt: skip
        try:
            self._reader = me
            stream = self._stream
            if stream.is_kept:
                item: Item = self._read_kept(timeout)
            else:
                inbox = stream.inbox
                item = inbox.popleft() if inbox else self._await_item(timeout)
                stream.taken += 1
                size = len(item) if isinstance(item, bytes) else len(item[1])
                stream.taken_cost += size + _TOLL
                if stream.taken_cost >= stream.grant_at:
                    self._grant()
        finally:
            self._reader = 0
        if not isinstance(item, bytes):
            return self._decode(item[0], item[1], message_type)
        return item if message_type is None else self._decode(0, item, message_type)

    def _is_waited_for(self) -> bool:
        """Whether a thread sleeps here at this moment."""
        return bool(self.waiters) or (self._driver.is_led and self._driver.leader is self)

    def _await_item(self, timeout: float | None) -> Item:
        driver = self._driver
        stream = self._stream
        with driver.lock:
            if stream.inbox:
                return stream.inbox.popleft()
            if (
                timeout is None
                and stream.is_open
                and stream.assembly is None
                and driver.may_lead_alone
            ):
                # The common case in the fewest steps: this thread alone waits here.
                driver.lead_alone(self)
                if stream.inbox:
                    return stream.inbox.popleft()
            return self._await_item_slowly(timeout)

    def _await_item_slowly(self, timeout: float | None) -> Item:
        deadline = FOR_EVER if timeout is None else Deadline(timeout)
        driver = self._driver
        stream = self._stream
        if stream.assembly is not None:
            driver.connection.grant(stream)
        driver.wait_until(self._has_something_to_read, self, deadline)
        if self._is_closing:
            raise self._closed_error(Phase.READ)
        if stream.inbox:
            return stream.inbox.popleft()
        if stream.ending is not None:
            raise error_of(stream.ending, stream, self._name, Phase.READ, deadline.elapsed_s)
        # Who has thousands of points looks at each now and then.
        stream.inbox = NOTHING
        raise PointTimeout(
            f"no message within {timeout} s", point=self._name, phase=Phase.READ,
            hint=self._why_nothing_comes(),
        )  # fmt: skip

    def _has_something_to_read(self) -> object:
        return self._stream.inbox or self._is_closing or self._stream.ending

    def _grant(self) -> None:
        driver = self._driver
        with driver.lock, driver.step():
            driver.connection.grant(self._stream)
            driver.flush()

    def _read_kept(self, timeout: float | None) -> Item:
        """Take a message and keep it as read, with the lock held from the one to the other: a
        step of another thread must not count a message as read that this one then fails to keep."""
        driver = self._driver
        stream = self._stream
        with driver.lock:
            try:
                item = self._await_item_slowly(timeout)
            except ComPointException:
                self._note_told()
                raise
            with driver.step():
                stream.taken += 1
                size = len(item) if isinstance(item, bytes) else len(item[1])
                stream.taken_cost += size + _TOLL
                driver.connection.grant(stream)
                is_kept = driver.note_read()
            if not is_kept:
                assert stream.ending is not None
                raise error_of(stream.ending, stream, self._name, Phase.READ, None)
            return item

    def _why_nothing_comes(self) -> str:
        if not self._stream.is_claimed:
            return "no responder has opened the channel yet; call again"
        if self._driver.connection.peer is None:
            return self._driver.wire.trouble or "the peer has not greeted yet; call again"
        if self._stream.assembly is not None:
            assembly = self._stream.assembly
            return f"a message is {assembly.position} of {assembly.size} bytes here; call again"
        return self._driver.wire.trouble or "the peer has sent nothing yet; call again"

    def _decode(self, form: int, payload: bytes, message_type: Any) -> Any:
        from compoint.message import decode  # noqa: PLC0415 - msgspec only when it is needed

        try:
            return decode(form, payload, message_type)
        except MessageError as fault:
            fault.point = self._name
            fault.phase = Phase.READ
            raise

    # --- writing ------------------------------------------------------------------------

    def write(self, message: Any, *, timeout: float | None = None) -> None:
        form, payload = (0, message) if type(message) is bytes else self._encode(message)
        cost = len(payload) + _TOLL
        driver = self._driver
        stream = self._stream
        with driver.lock:
            try:
                gathered = stream.gathered
                if (
                    gathered is not None
                    and form == stream.gathered_form
                    and cost <= stream.gather_room
                ):
                    # In the middle of a flood: what `Connection.gather` does, without a call.
                    gathered.append(payload)
                    stream.gather_room -= cost
                    stream.out_cost += cost
                    stream.written += 1
                    return
                is_written = self._write_at_once(driver, stream, form, payload, cost)
            except BaseException:
                # Ctrl-C between two counts: nobody can tell what the peer will get.
                driver.connection.cut("interrupted in the middle of a write")
                driver.deliver()
                raise
            if not is_written:
                self._write_waiting(form, payload, Deadline(timeout))
            if stream.is_kept and not stream.is_open:
                # It was open a moment ago, with the lock held: the step was not kept.
                self._raise_over(Phase.WRITE, Deadline(timeout))

    def _write_at_once(
        self, driver: Driver, stream: Stream, form: int, payload: bytes, cost: int
    ) -> bool:
        """Write a small message if nothing is to be waited for; else False."""
        if (
            cost > _SMALL_COST
            or not stream.is_open
            or stream.is_writing
            or stream.out_cost + cost > stream.out_limit
            or driver.is_stuffed
        ):
            return False
        if driver.is_quiet:
            driver.send_alone(driver.connection.frame(stream, form, payload))
            return True
        if stream.gathered is not None:
            driver.flush()
        driver.connection.gather(stream, form, payload)
        driver.push()
        return True

    def _encode(self, message: Any) -> tuple[int, bytes]:
        from compoint.message import encode  # noqa: PLC0415 - msgspec only when it is needed

        try:
            return encode(message)
        except MessageError as fault:
            fault.point = self._name
            fault.phase = Phase.WRITE
            raise

    def _write_waiting(self, form: int, payload: bytes, deadline: Deadline) -> None:
        """Write with waiting: for credit, for the wire, for another writer. Lock held."""
        stream = self._stream
        self._wait_to_write(lambda: not stream.is_writing, deadline)
        stream.is_writing = True
        try:
            if len(payload) <= SMALL_BYTES:
                cost = len(payload) + _TOLL
                self._wait_to_write(lambda: self._may_send(cost), deadline)
                self._driver.connection.gather(stream, form, payload)
                self._driver.push()
            else:
                self._write_large(form, payload, deadline)
        finally:
            stream.is_writing = False
            self._driver.tell(self)

    def _write_large(self, form: int, payload: bytes, deadline: Deadline) -> None:
        driver = self._driver
        connection = driver.connection
        stream = self._stream
        size = len(payload)
        self._wait_to_write(lambda: connection.peer is not None, deadline)
        self._check_size(connection, size)
        self._wait_to_write(lambda: self._may_send(_TOLL), deadline)
        view = memoryview(payload)
        sent = 0
        try:
            with driver.step():
                connection.begin(stream, form, size)
            while sent < size:
                least = min(size - sent, SMALL_BYTES)
                self._wait_to_write(lambda: self._may_send(least), deadline)  # noqa: B023
                allowed = stream.out_limit - stream.out_cost
                end = min(size, sent + CHUNK_BYTES, sent + allowed)
                with driver.step():
                    connection.more(stream, view[sent:end])
                sent = end
                driver.flush()
        except BaseException:
            # Timeout, close or Ctrl-C: the peer forgets what it has of this message.
            if stream.is_open:
                connection.drop(stream)
                driver.flush()
            raise

    def _check_size(self, connection: Connection, size: int) -> None:
        assert connection.peer is not None
        limit = connection.peer.message_limit
        if size > limit:
            raise TooLargeError(
                f"a message of {size} bytes; the peer takes {limit}", point=self._name,
                phase=Phase.WRITE, fate=Fate.NOT_SENT,
                hint="send it in parts, or raise maxMessage in the peer's _sempconfig",
            )  # fmt: skip

    def _may_send(self, cost: int) -> bool:
        stream = self._stream
        return not self._driver.is_stuffed and stream.out_cost + cost <= stream.out_limit

    def _wait_to_write(self, may: Any, deadline: Deadline) -> None:
        """Wait until `may()`; raises when the stream is over or the time is. Lock held."""
        stream = self._stream
        driver = self._driver
        if stream.is_open and may() and not self._is_closing:
            return
        # Stuck here, this side takes in what the peer writes meanwhile, up to the wide
        # window: two programs that both write first must not wait for each other.
        self._widen(+1)
        try:
            driver.wait_until(
                lambda: self._is_closing or not stream.is_open or may(), self, deadline
            )
        finally:
            self._widen(-1)
        if self._is_closing:
            raise self._closed_error(Phase.WRITE)
        if not stream.is_open:
            self._raise_over(Phase.WRITE, deadline)
        if not may():
            raise PointTimeout(
                "the peer took no more in time", point=self._name, phase=Phase.WRITE,
                elapsed_s=deadline.elapsed_s, hint=self._why_nothing_goes(),
            )  # fmt: skip

    def _widen(self, step: int) -> None:
        stream = self._stream
        self._writers_stuck += step
        if stream.is_claimed and stream.is_open:
            wide = self._wide_window if self._writers_stuck else 0
            self._driver.connection.set_stuck(stream, wide)

    def _why_nothing_goes(self) -> str:
        stream = self._stream
        if not stream.is_claimed:
            return "no responder has opened the channel yet and its first credit is used up"
        if stream.unread_bytes > self._driver.connection.ours.window:
            return (
                f"both sides write and neither reads: {stream.unread_bytes} bytes of the peer "
                "wait here; read them"
            )
        return self._driver.wire.trouble or "its program does not read; call again"

    def _note_told(self) -> None:
        """The program hears why it is over, if it is: nobody else has to tell it. Lock held."""
        stream = self._stream
        if stream.is_kept and stream.ending is not None and not stream.inbox:
            stream.is_end_told = True
            self._driver.flush()

    def _raise_over(self, phase: Phase, deadline: Deadline) -> None:
        self._note_told()
        stream = self._stream
        ending = stream.ending
        assert ending is not None
        if ending.how is How.GOODBYE:
            raise EndOfMessages(
                f"{ending.text}; the message was not sent", point=self._name, phase=phase,
                hint="open a new point",
            )  # fmt: skip
        raise error_of(ending, stream, self._name, phase, deadline.elapsed_s)

    def await_news(self, waiter: Waiter) -> None:
        """A thread of this point falls asleep. Lock held."""
        self.waiters += (waiter,)
        self._stream.has_waiters = True

    def forget_waiter(self, waiter: Waiter) -> None:
        """It is awake again. Lock held."""
        self.waiters = without(self.waiters, waiter)
        self._stream.has_waiters = bool(self.waiters)

    # --- flushing -----------------------------------------------------------------------

    def flush(self, *, timeout: float | None = None) -> None:
        deadline = Deadline(timeout)
        driver = self._driver
        stream = self._stream
        with driver.lock:
            goal = stream.written
            if stream.confirmed < goal and stream.is_open:
                driver.connection.ask_ack(stream)
            driver.wait_until(
                lambda: stream.confirmed >= goal or not stream.is_open, self, deadline
            )
            if self._is_closing:
                raise self._closed_error(Phase.FLUSH)
            if stream.confirmed >= goal:
                return
            self._note_told()
            if stream.ending is None:
                raise PointTimeout(
                    f"{goal - stream.confirmed} of {goal} messages are not confirmed yet",
                    point=self._name, phase=Phase.FLUSH, elapsed_s=deadline.elapsed_s,
                    fate=Fate.UNKNOWN, hint=driver.wire.trouble or "call again",
                )  # fmt: skip
            if stream.ending.how is How.GOODBYE:
                raise EndOfMessages(
                    reason_of(stream.ending, stream), point=self._name, phase=Phase.FLUSH,
                    fate=Fate.UNKNOWN,
                )  # fmt: skip
            raise error_of(stream.ending, stream, self._name, Phase.FLUSH, deadline.elapsed_s)

    # --- closing ------------------------------------------------------------------------

    def close(self, *, timeout: float | None = CLOSE_S) -> Receipt:
        if self._receipt is not None:
            return self._receipt
        deadline = Deadline(timeout)
        driver = self._driver
        stream = self._stream
        with driver.lock:
            self._start_closing()
            if stream.is_writing:
                # A writer in the middle of a message leaves first, and takes it back.
                driver.wait_until(lambda: not stream.is_writing, self, deadline)
            with driver.step():
                driver.connection.goodbye(stream)
            if not self._is_settled():
                driver.wait_until(self._is_settled, self, deadline)
            self._settle(f"not confirmed within {timeout} s")
            assert self._receipt is not None
            return self._receipt

    def abort(self, reason: str) -> None:
        driver = self._driver
        with driver.lock:
            if self._receipt is None:
                self._start_closing()
                driver.connection.reset(self._stream, Code.ABANDONED, reason)
                driver.flush()
                self._settle(reason)

    def _start_closing(self) -> None:
        self._is_closing = True
        self._stream.inbox.clear()
        self._driver.tell(self)

    def _is_settled(self) -> object:
        """Nothing that could still come would change the receipt."""
        stream = self._stream
        return (
            self._receipt is not None
            or stream.ending is not None
            or (stream.confirmed == stream.written and not self._driver.is_stuffed)
        )

    def _settle(self, reason: str) -> None:
        if self._receipt is not None:
            return
        stream = self._stream
        written, confirmed = stream.written, stream.confirmed
        if stream.ending is not None:
            reason = reason_of(stream.ending, stream)
        self._receipt = Receipt(written, confirmed, "" if confirmed == written else reason)
        self._driver.connection.forget(stream)
        stream.inbox.clear()
        self._driver.tell(self)
        self._release()

    def _release(self) -> None:
        """The stream is over; a plain point's connection is, too. Lock held."""
        self._driver.retire()

    def _closed_error(self, phase: Phase) -> ComPointException:
        ending = self._stream.ending
        if ending is not None and ending.how is How.FORKED:
            return error_of(ending, self._stream, self._name, phase, 0.0)
        return ClosedError(self._closed_why, point=self._name, phase=phase, hint="open a new one")

    def close_at_exit(self) -> None:
        """Start the goodbye and wake everybody; used when the program ends."""
        with self._driver.lock:
            if self._receipt is None and not self._is_closing:
                self._closed_why = "the program is ending"
                self._start_closing()
                self._driver.connection.goodbye(self._stream)
                self._driver.flush()

    def after_fork(self) -> None:
        self._reader = 0
        self.waiters = ()
        self._receipt = Receipt(0, 0)

    # --- looking ------------------------------------------------------------------------

    def statistics(self) -> PointStatistics:
        stream = self._stream
        with self._driver.lock:
            return PointStatistics(
                written=stream.written,
                confirmed=stream.confirmed,
                received=stream.received,
                read=stream.taken,
                unread_bytes=stream.unread_bytes,
                credit_bytes=max(0, stream.out_limit - stream.out_cost),
                is_open=stream.is_open and not self._is_closing,
                ending="" if stream.ending is None else stream.ending.text,
                carrier=self._driver.wire.carrier,
            )
