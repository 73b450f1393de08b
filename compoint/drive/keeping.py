"""The driver of a connection whose every step is kept, for a process that comes later.

What is said is kept together with the counts that belong to it, and what is read is kept as
read before `read` returns it. So a process that is killed loses nothing, and the next one
says nothing twice. A step is one transaction of the wire, made with the lock held: it takes
as long as the disk does, which is nothing beside such a wire's journeys.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from compoint.core.codes import Code, Ending, How
from compoint.core.keeping import Keeper
from compoint.drive.driver import Driver

if TYPE_CHECKING:
    from compoint.core.connection import Connection
    from compoint.drive.pump import Pump
    from compoint.drive.wire import Wire

__all__ = ["KeepingDriver"]


class KeepingDriver(Driver):
    """A driver over a wire that keeps."""

    __slots__ = ("_has_end", "_is_kept", "_is_retiring", "_keeper")

    def __init__(self, wire: Wire, connection: Connection, pump: Pump) -> None:
        super().__init__(wire, connection, pump)
        # Before the first bytes are fed: what they bring is not kept yet.
        self._keeper = Keeper(connection)
        #: False: what is kept stands as it is, and waits for a process to go on with it.
        self._is_kept = True
        self._is_retiring = False
        #: The peer has said all it will ever say.
        self._has_end = False

    @property
    def is_quiet(self) -> bool:
        """Never: a message goes through the machine's line, and with it into the same step."""
        return False

    def push(self) -> None:
        # A message is kept before `write` returns; gathering is up to the wire.
        self.flush()

    def linger(self) -> None:
        self.flush()

    def flush(self) -> None:
        """Keep what is said and read, in one step. Lock held throughout."""
        if not self._is_kept:
            self.connection.take_output()
            return
        try:
            with self.step():
                self.wire.keep(self.connection, self._keeper)
        except OSError as fault:
            self._abandon(fault.strerror or str(fault))
        # Asked once: an acknowledgement may make room at any moment.
        is_full = self.wire.is_full
        if self.is_stuffed is not is_full:
            self.is_stuffed = is_full
            if self.is_stuffed and self._leader_sleeps:
                # The leader waits for input; now it must wait for room, too.
                self.wire.wake()
            for waiter in () if self.is_stuffed else self.followers:
                waiter.wake()

    def note_read(self) -> bool:
        self.flush()
        return self._is_kept

    def _take(self, data: bytes | int | None, fault: OSError | None) -> None:
        if fault is None and data is not None and not data:
            self._has_end = True
        super()._take(data, fault)

    def deliver(self) -> None:
        ending = self.connection.ending
        is_over = self._is_retiring or self._has_end or self.wire.has_ended
        is_lost = self._is_kept and not is_over
        if is_lost and ending is not None and ending.how is How.CUT:
            # A step was interrupted, and nobody knows how much of it happened.
            self._abandon(ending.text)
        super().deliver()

    def _abandon(self, why: str) -> None:
        """From here on this process has no part in it; what is kept stands as it is."""
        self._is_kept = False
        self.wire.abandon()
        self.connection.cut(why)
        self.connection.take_output()
        ending = Ending(How.CUT, Code.ABANDONED, why)
        for stream in self.connection.streams.values():
            # Whoever goes on reads these messages; nobody may have read them before. So the
            # peer's goodbye, if it is here, is not what this program may take for the end.
            stream.inbox.clear()
            stream.ending = ending
        self.deliver()

    def retire(self) -> None:
        self._is_retiring = True
        super().retire()
        # Also while the pump waits here: who has closed it may open it again at once.
        self.wire.close()
        # The last step: nothing of it is needed any more.
        self.flush()

    def _note_loss(self, fault: OSError) -> None:
        # Also before the greeting there is more to tell than that it did not come.
        self.connection.cut(fault.strerror or str(fault))
