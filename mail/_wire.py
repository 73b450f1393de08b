"""The wire of one conversation over mail: what arrives is in the store, what is said goes there."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn

from compoint.drive.wire import Wire

if TYPE_CHECKING:
    from compoint.core.connection import Connection
    from compoint.core.keeping import ConnectionChanges, Keeper
    from mail._held import Held
    from mail._offices import Staffed

__all__ = ["MailWire"]


class MailWire(Wire):
    """Bytes that travel in mails, kept in the store until the peer has them."""

    __slots__ = (
        "_changes", "_connection", "_held", "_is_abandoned", "_is_closed", "_is_released",
        "_office", "_staffed", "_waits_for_room", "kept", "peer",
    )  # fmt: skip

    has_heartbeat = False
    keeps = True

    def __init__(self, staffed: Staffed, held: Held) -> None:
        """For one who has entered; leaves when nothing of it is needed any more."""
        self._staffed = staffed
        self._office = staffed.office
        self._held = held
        self._connection: Connection | None = None
        self._changes: ConnectionChanges | None = None
        self._is_closed = False
        self._is_abandoned = False
        self._is_released = False
        #: The last step found no room; it is called for when there is some.
        self._waits_for_room = False
        self.kept = held.kept
        theirs = held.conversation.theirs
        self.peer = f"mail:{theirs.mailbox}:{theirs.port}"

    @property
    def carrier(self) -> str:
        return "mail"

    @property
    def is_full(self) -> bool:  # type: ignore[override]
        return not (self._held.conversation.room or self._held.is_finished)

    @property
    def has_ended(self) -> bool:  # type: ignore[override]
        return self._held.ending is not None

    @property
    def trouble(self) -> str:
        return self._office.trouble

    # --- keeping ------------------------------------------------------------------------

    def keep(self, connection: Connection, keeper: Keeper) -> None:
        output = connection.take_output()
        if self._is_released:
            return
        self._connection = connection
        changes = keeper.changes()
        data = b"" if self._is_closed else b"".join(output)
        is_released = self._is_closed and not self._has_reader()
        before = self._changes
        if data or is_released or before is None or _differ(before, changes):
            self._office.keep(self._held, changes, data, is_released=is_released)
            self._changes = changes
        self._waits_for_room = self.is_full
        if is_released:
            self._leave()

    def abandon(self) -> None:
        self._is_abandoned = True
        self._held.lost = "this process has given it up"
        if self._is_closed:
            # It was closed already, and was only here for what is unread.
            self._leave()

    def _has_reader(self) -> bool:
        """A point may still read what has arrived."""
        connection = self._connection
        return connection is not None and any(
            stream.owner is not None and (stream.inbox or not stream.is_end_told)
            for stream in connection.streams.values()
        )

    def _leave(self) -> None:
        """Nothing will be kept here any more."""
        if not self._is_released:
            self._is_released = True
            try:
                self._office.leave(self._held)
            finally:
                self._staffed.leave()

    # --- receiving ----------------------------------------------------------------------

    def receive(self, most: int, /) -> bytes:
        held = self._held
        # In this order: what ends it comes behind what has arrived.
        is_finished = held.is_finished
        data = held.take(most)
        if data:
            return data
        if not is_finished:
            raise BlockingIOError
        if held.lost or held.ending:
            _raise_over(held)
        return b""

    def receive_into(self, room: memoryview, /) -> int:
        data = self.receive(len(room))
        room[: len(data)] = data
        return len(data)

    def wait(self, timeout_s: float | None, *, to_send: bool) -> None:
        if not self._is_ready(to_send=to_send):
            self._held.waiter.sleep(timeout_s)

    def _is_ready(self, *, to_send: bool) -> bool:
        held = self._held
        return held.has_arrived or held.is_finished or (to_send and not self.is_full)

    def wake(self) -> None:
        self._held.waiter.wake()

    def fileno(self) -> int:
        return -1

    def on_ready(self, call: Callable[[], None] | None) -> None:
        self._held.on_news = call
        if call is not None and self._is_ready(to_send=self._waits_for_room):
            # Told once; room that comes later is news.
            self._waits_for_room = self.is_full
            call()

    def send(self, data: bytes | memoryview, /) -> NoReturn:
        raise NotImplementedError  # `keep` says it

    # --- the end ------------------------------------------------------------------------

    def close(self) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        self._held.on_news = None
        if self._is_abandoned:
            self._leave()
            return
        is_released = not self._has_reader()
        try:
            self._office.end(self._held, is_released=is_released)
        except OSError as error:
            # The disk is full: who takes it up again ends it, or time does.
            self._held.lost = error.strerror or str(error)
            is_released = True
        if is_released:
            self._leave()

    def close_copy(self) -> None:
        # A child's copy: the parent's store must not notice.
        self._is_closed = self._is_released = True


def _differ(before: ConnectionChanges, now: ConnectionChanges) -> bool:
    return bool(now.streams or now.gone or now.row != before.row)


def _raise_over(held: Held) -> NoReturn:
    ending = held.ending
    raise OSError(errno.ECONNABORTED, held.lost or (ending.text if ending else ""))
