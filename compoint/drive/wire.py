"""What a transport brings: a way for bytes to one peer, and a place where peers arrive.

Everything else (greeting, messages, credit, confirmation, channels) is the same over
every transport and is built on these few verbs. See docs/ARCHITECTURE.md, "adding a
transport".
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from compoint.limits import GREETING_S

if TYPE_CHECKING:
    from compoint.address import ComPointAddress
    from compoint.config import Settings
    from compoint.core.connection import Connection
    from compoint.core.keeping import Keeper, KeptConnection
    from compoint.deadline import Deadline

__all__ = ["Listener", "Opener", "Wire"]


class Wire(abc.ABC):
    """Bytes to one peer and back: in order, none lost, none doubled, until it is cut.

    No verb but `wait` ever waits. One thread at a time sends, one at a time receives or
    waits; the driver takes care of that. Any verb may raise OSError: the wire is cut.
    """

    __slots__ = ()

    #: Who is at the other end, for people to read.
    peer: str = ""
    #: Whether the peer is known to be on this machine.
    is_local: bool = False
    #: Whether silence can be asked for a sign of life (not over mail).
    has_heartbeat: bool = True
    #: Whether looking again for a few µs can find an answer (another process sends it).
    can_spin: bool = False
    #: Whether the transport itself has found whom the path names; servers then do not ask.
    finds_path: bool = False
    #: The session that this side's greeting names, where the transport knows it.
    session: bytes | None = None
    #: How long the program's end may wait for the peer to take the last words.
    linger_s: float = 0.2
    #: How long the peer may take for its greeting.
    greeting_s: float = GREETING_S

    @property
    def peer_session(self) -> bytes | None:
        """The session that the peer's greeting must name, where the transport knows it."""
        return None

    #: Whether what is said and read is kept for a process that comes later (over mail).
    #: Then `keep` is called in place of `send`.
    keeps: bool = False
    #: What a process that is gone has kept of this conversation; None: it is a new one.
    kept: KeptConnection | None = None
    #: The wire takes no more for now (only asked where `keeps`).
    is_full: bool = False
    #: The conversation itself has ended: nobody can go on with it (only asked where `keeps`).
    has_ended: bool = False

    def keep(self, connection: Connection, keeper: Keeper) -> None:
        """Take the machine's output, and keep it together with what `keeper` says has changed.

        On return both are safe, or OSError tells why neither is. Called with the driver's
        lock held, also after `close`, since what has arrived may be read then.
        """
        raise NotImplementedError

    def abandon(self) -> None:
        """This process has no part in the conversation any more; what is kept stands."""
        raise NotImplementedError

    @property
    def trouble(self) -> str:
        """What keeps the bytes from travelling at this moment, in words; "": nothing."""
        return ""

    @property
    def carrier(self) -> str:
        """How the bytes travel at this moment, for people to read."""
        return type(self).__name__

    @abc.abstractmethod
    def send(self, data: bytes | memoryview, /) -> int:
        """Send from the front of `data`; returns how many bytes went.

        Raises BlockingIOError if none can go now.
        """

    def send_many(self, buffers: Sequence[bytes | memoryview], /) -> int:
        """Like `send`, from the front of the first buffers together."""
        return self.send(b"".join(buffers[:16]))

    @abc.abstractmethod
    def receive(self, most: int, /) -> bytes:
        """What has arrived, at most `most` bytes; b"": the end.

        Raises BlockingIOError if nothing is here now.
        """

    @abc.abstractmethod
    def receive_into(self, room: memoryview, /) -> int:
        """Like `receive`, straight into `room`; 0: the end."""

    @abc.abstractmethod
    def wait(self, timeout_s: float | None, *, to_send: bool) -> None:
        """Wait until bytes may have arrived (or, if `to_send`, may be sent), until `wake`
        is called by another thread, or until the time is over. May return early."""

    @abc.abstractmethod
    def wake(self) -> None:
        """Let the thread in `wait`, or the next one to come, return at once."""

    @abc.abstractmethod
    def fileno(self) -> int:
        """A descriptor that a selector can watch, or -1: then `on_ready` is used."""

    def on_ready(self, call: Callable[[], None] | None) -> None:
        """For wires without a descriptor: call this whenever bytes arrive or room appears,
        and at once if bytes are here already. None: call nothing any more."""
        raise NotImplementedError

    @abc.abstractmethod
    def close(self) -> None:
        """Give everything back to the system. Bytes already sent still travel."""

    def end_output(self) -> bool:
        """Let the peer know that nothing more comes; whether `close` must then wait.

        True where closing with unread input would destroy what is still on its way to the
        peer: then the input is read to its end first.
        """
        return False

    def close_copy(self) -> None:
        """Give back a child process' copy; the parent's wire must not notice."""
        self.close()


class Listener(abc.ABC):
    """A place where peers arrive."""

    #: The address listened at; a port of 0 has been replaced by the one taken.
    address: ComPointAddress
    #: Called by a thread of the transport, with the reason, when nobody can arrive any more.
    on_lost: Callable[[str], None] | None = None

    @abc.abstractmethod
    def accept(self) -> Wire | None:
        """The next peer that has arrived; None: nobody now. Never waits."""

    @abc.abstractmethod
    def fileno(self) -> int:
        """As in `Wire`."""

    def on_ready(self, call: Callable[[], None] | None) -> None:
        """As in `Wire`."""
        raise NotImplementedError

    @abc.abstractmethod
    def close(self) -> None:
        """Stop listening; peers that have arrived and were not accepted are cut."""


class Opener(abc.ABC):
    """One transport: what stands behind a protocol name.

    A package offers one by an entry point of the group `compoint.transports` whose name
    is the protocol and whose object is a subclass that can be called without arguments.
    """

    def initialise(self, settings: Settings) -> str:
        """Read the settings; an empty text, or why this transport is not configured."""
        return ""

    @abc.abstractmethod
    def connect(self, address: ComPointAddress, deadline: Deadline) -> Wire:
        """Reach the peer at `address`.

        Raises:
            ConnectError: it was not reached; names the phase and the next step.
            PointTimeout: not within the deadline.
        """

    def resume(self, address: ComPointAddress, name: str, deadline: Deadline) -> Wire:
        """Like `connect`; but go on with the conversation of this name with `address` that a
        process which was killed has left here, if there is one.

        Raises:
            BusyError: a living point is at it.
        """
        return self.connect(address, deadline)

    @abc.abstractmethod
    def listen(self, address: ComPointAddress) -> Listener:
        """Start listening at a local address.

        Raises:
            BusyError: somebody else listens there.
            ConnectError: the address cannot be listened at.
        """
