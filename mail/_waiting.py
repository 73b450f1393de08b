"""What has arrived in all conversations and was taken by no program: within bounds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mail._backlog import Backlog

if TYPE_CHECKING:
    from mail._answers import Key
    from mail._envelope import Frame
    from mail._held import Held

__all__ = ["Waiting"]


class Waiting:
    """Counts what came in order, and beside it what came too early."""

    def __init__(self) -> None:
        self._in_order = Backlog()
        self._early = Backlog()

    def note(self, held: Held) -> None:
        """Something of this conversation has arrived, or was taken."""
        conversation = held.conversation
        peer = conversation.theirs.mailbox
        self._in_order.note(held.link.key, peer, conversation.received - held.fed)
        self._early.note(held.link.key, peer, conversation.early_bytes)

    def forget(self, key: Key) -> None:
        """The conversation is gone, with all that waited in it."""
        self._in_order.note(key, "", 0)
        self._early.note(key, "", 0)

    def has_room(self, key: Key, held: Held | None, frame: Frame) -> bool:
        """Whether what a frame brings may be kept; `held` is None: it begins a conversation."""
        received = held.conversation.received if held is not None else 0
        peer = frame.sender.mailbox
        # What is next in order does not wait for room beside what came too early: else
        # nothing could ever get less.
        is_early = frame.start > received
        return self._in_order.has_room(key, peer) and (
            not is_early or self._early.has_room(key, peer)
        )
