"""What is said to peers outside of conversations: answers of tombstones, and refusals.

Anybody can ask for them, and nobody misses one that is lost: so all of it is bounded, rides
on a mail that goes anyway where it can, and ends with the process.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from mail._envelope import Flag, Frame, overhead
from mail._timers import Moment

__all__ = ["Answers", "Key", "key_for", "room_of"]

#: A conversation in a mailbox, which may hold both of its sides: its number, is_initiator.
Key = tuple[bytes, bool]


def key_for(frame: Frame) -> Key:
    """The conversation that a frame is for."""
    return frame.conversation, bool(frame.flags & Flag.RESPONDER)


def room_of(frames: Iterable[Frame]) -> int:
    """The most bytes that these take in a mail."""
    return sum(overhead(one.sender, one.receiver) + len(one.body) for one in frames)


class Answers:
    """Frames that wait for a mail, by recipient: the latest for each conversation."""

    __slots__ = ("_alone_at", "_count", "_each_s", "_most", "_since", "_waiting")

    def __init__(self, most: int, each_s: float) -> None:
        self._most = most
        self._each_s = each_s
        self._count = 0
        self._waiting: dict[str, dict[Key, Frame]] = {}
        #: When the first of those that wait came.
        self._since: dict[str, float] = {}
        #: When a mail went that was made for nothing else.
        self._alone_at: dict[str, float] = {}

    @property
    def recipients(self) -> list[str]:
        return list(self._waiting)

    def add(self, frame: Frame, at: Moment) -> bool:
        """Have it wait; False: too many do."""
        recipient = frame.receiver.mailbox
        key = key_for(frame)
        is_more = key not in self._waiting.get(recipient, {})
        if self._count + is_more > self._most:
            return False
        self._count += is_more
        self._waiting.setdefault(recipient, {})[key] = frame
        self._since.setdefault(recipient, at.now)
        return True

    def due(self, recipient: str) -> float:
        """When a mail may be made for nothing else; inf: none is asked for."""
        last = self._alone_at.get(recipient, -math.inf)
        return max(self._since.get(recipient, math.inf), last + self._each_s)

    def first(self, recipient: str, room_bytes: int) -> list[Frame]:
        """Those that go into a mail, in half of its room: nobody else is to wait for them."""
        found: list[Frame] = []
        left = room_bytes // 2
        for frame in self._waiting.get(recipient, {}).values():
            left -= room_of([frame])
            if found and left < 0:
                break
            found.append(frame)
        return found

    def take(self, frames: list[Frame], at: Moment, *, is_alone: bool) -> None:
        """These, which `first` has found, are in a mail now."""
        for frame in frames:
            recipient = frame.receiver.mailbox
            del self._waiting[recipient][key_for(frame)]
            self._count -= 1
            if not self._waiting[recipient]:
                del self._waiting[recipient], self._since[recipient]
            if is_alone:
                since = at.now - self._each_s
                self._alone_at = {to: when for to, when in self._alone_at.items() if when > since}
                self._alone_at[recipient] = at.now
