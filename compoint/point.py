"""The law: what every ComPoint does, whatever carries it.

A transport or a refinement (a channel) is right when it keeps the docstrings of this
module; `compoint.testing` holds the suite that checks them.
"""

from __future__ import annotations

import abc
import enum
from dataclasses import dataclass
from types import TracebackType, UnionType
from typing import TYPE_CHECKING, Any, Final, Literal, Self, TypeVar, overload

from compoint.errors import ClosedError, EndOfMessages
from compoint.limits import CLOSE_S

if TYPE_CHECKING:
    from collections.abc import Iterator

    from compoint.address import ComPointAddress
    from compoint.observe import PointStatistics, ServerStatistics

__all__ = [
    "COMPOINT_INITIATOR",
    "COMPOINT_SERVER",
    "ComPoint",
    "ComPointKind",
    "Receipt",
    "ServerComPoint",
]

T = TypeVar("T")


class ComPointKind(enum.Enum):
    """Which end of a conversation a program wants."""

    INITIATOR = "initiator"
    SERVER = "server"


COMPOINT_INITIATOR: Final[Literal[ComPointKind.INITIATOR]] = ComPointKind.INITIATOR
COMPOINT_SERVER: Final[Literal[ComPointKind.SERVER]] = ComPointKind.SERVER


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of the messages written on a point, known when it was closed.

    Messages are numbered from 1 in the order they were written. *Confirmed* means: the
    peer's process holds the message for its program, and has not said that it closed
    without reading it.
    """

    written: int
    confirmed: int
    #: Why the rest is not confirmed; empty when nothing is missing.
    reason: str = ""

    @property
    def unconfirmed(self) -> range:
        """The numbers of the messages the peer has not confirmed."""
        return range(self.confirmed + 1, self.written + 1)

    @property
    def is_complete(self) -> bool:
        return self.confirmed == self.written


class ComPoint(abc.ABC):
    """One end of a conversation: reads and writes whole messages, and blocks.

    Threads may share a point: several may write (whole messages interleave), one at a
    time may read, anyone may close. Every call that waits takes `timeout` in seconds
    (None: for ever; 0: only look) and ends within 50 ms of its deadline, of Ctrl-C, of
    `close()` in another thread, of the loss of the peer becoming known, and of the end of
    the main thread. After `fork()` the child's copy raises ClosedError.

    A point is a context manager: leaving the block closes it in good order; leaving it by
    an exception tells the peer that the conversation was broken off. It is an iterator
    over the peer's messages until the peer has closed.
    """

    @property
    @abc.abstractmethod
    def address(self) -> ComPointAddress:
        """The address this point was opened with (initiator) or accepted at (responder)."""

    @property
    @abc.abstractmethod
    def peer(self) -> str:
        """Who is at the other end, as far as the transport knows; for people to read."""

    @overload
    def read(self, message_type: None = None, *, timeout: float | None = None) -> Any: ...

    @overload
    def read(self, message_type: type[T], *, timeout: float | None = None) -> T: ...

    @overload
    def read(self, message_type: UnionType, *, timeout: float | None = None) -> Any: ...

    @abc.abstractmethod
    def read(self, message_type: Any = None, *, timeout: float | None = None) -> Any:
        """Wait for the next message and return it.

        Without `message_type` the message comes out as the type and value that were
        written. With a class (`Offer`, `dict[str, int]`, `Order | Cancel`) the message is
        validated against it. Waits until a message is here, the peer has closed, or
        `timeout` seconds have passed (None: for ever; 0: only look).

        Raises:
            EndOfMessages: the peer closed in good order; nothing is missing.
            SessionLostError: the way to the peer was lost, or the peer broke the
                conversation off; later messages may be missing. The point is closed.
            RefusedError: the peer did not take this conversation. The point is closed.
            MessageError: the message is not of that type, or cannot be decoded. It is
                used up; the next read returns the next one.
            ClosedError: this side closed the point, here or in another thread.
            BusyError: another thread is reading.
            PointTimeout: nothing came; the point is unharmed, call again.
        """

    @abc.abstractmethod
    def write(self, message: Any, *, timeout: float | None = None) -> None:
        """Send one whole message.

        Takes `bytes`, `str`, plain data (None, bool, int, float, str, bytes, list, dict,
        datetime, UUID, Decimal) and instances of `Streamable` classes. Returns when the
        message is on its way, which is not yet a confirmation: `flush()` and the receipt
        of `close()` are. Waits while the peer allows no more; meanwhile what the peer
        writes is taken in, so that two writers do not stall each other.

        Raises:
            MessageError: the message cannot be sent as it is; says which part and why.
            TooLargeError: the message is longer than the peer takes; the point is usable.
            EndOfMessages: the peer has closed; the message was not sent.
            SessionLostError: the way to the peer was lost. The point is closed.
            RefusedError: the peer did not take this conversation. The point is closed.
            ClosedError: this side closed the point, here or in another thread.
            PointTimeout: the peer took nothing; the message was not sent, not even in
                part; the point is unharmed, call again.
        """

    @abc.abstractmethod
    def flush(self, *, timeout: float | None = None) -> None:
        """Wait until the peer has confirmed every message written so far.

        Raises:
            EndOfMessages: the peer closed without taking all of them.
            SessionLostError, RefusedError, ClosedError: as in `write`.
            PointTimeout: not all are confirmed yet; the point is unharmed, call again.
        """

    @abc.abstractmethod
    def close(self, *, timeout: float | None = CLOSE_S) -> Receipt:
        """Say goodbye, wait for the confirmation of what was written, and close.

        Idempotent: every call returns the same receipt. Threads that wait in `read`,
        `write` or `flush` are woken with ClosedError. Messages of the peer that nobody
        has read are given back: the peer's receipt names them. Waits for the peer's
        confirmations at most `timeout` seconds; never raises because of the peer, the
        network or the deadline: the receipt says what is missing and why.
        """

    @abc.abstractmethod
    def abort(self, reason: str) -> None:
        """Break the conversation off without waiting; the peer's read raises with `reason`.

        For a program that cannot go on. Does nothing on a closed point; never raises.
        """

    @abc.abstractmethod
    def statistics(self) -> PointStatistics:
        """A frozen snapshot of the counters and the state of this point."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()
        else:
            # "Closed in good order" would be a lie: a reader would take half a
            # conversation for a whole one.
            self.abort(f"the peer's program left with {kind.__name__}")

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        try:
            return self.read()
        except EndOfMessages:
            raise StopIteration from None


class ServerComPoint(abc.ABC):
    """A place where initiators arrive; each one accepted becomes a responder ComPoint.

    Greeting happens off the accept path: a silent or foreign peer delays nobody and is
    never returned by `accept`.
    """

    @property
    @abc.abstractmethod
    def address(self) -> ComPointAddress:
        """Where this server listens; a port of 0 has been replaced by the one taken."""

    @abc.abstractmethod
    def accept(self, *, timeout: float | None = None) -> ComPoint:
        """Wait for the next initiator and return the responder ComPoint for it.

        Several threads may wait; each initiator goes to one of them.

        Raises:
            ClosedError: this side closed the server, here or in another thread.
            PointTimeout: nobody came; the server is unharmed, call again.
        """

    @abc.abstractmethod
    def close(self) -> None:
        """Stop listening, refuse who is waiting, wake every `accept`.

        Idempotent. Points accepted earlier live on.
        """

    @abc.abstractmethod
    def statistics(self) -> ServerStatistics:
        """A frozen snapshot of the counters and the state of this server."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[ComPoint]:
        return self

    def __next__(self) -> ComPoint:
        try:
            return self.accept()
        except ClosedError:
            raise StopIteration from None
