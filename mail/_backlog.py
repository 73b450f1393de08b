"""How much has arrived that no program has taken, so that it stays within bounds. Pure.

The credit of a conversation bounds what an honest peer says ahead; this bounds the others, and
those who write to a port at which nobody listens. What is beyond counts as lost on the way:
the peer says it again, later.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final, NamedTuple

from compoint.limits import MIB

if TYPE_CHECKING:
    from mail._answers import Key

__all__ = ["Backlog", "BacklogBounds"]


class BacklogBounds(NamedTuple):
    """In bytes. One more frame is taken when a bound is not reached yet."""

    per_conversation: int = 8 * MIB
    per_peer: int = 64 * MIB
    in_all: int = 512 * MIB


_BOUNDS: Final = BacklogBounds()


class Backlog:
    """Counts by conversation and by peer."""

    __slots__ = ("_bounds", "_bytes", "_peers", "in_all")

    def __init__(self, bounds: BacklogBounds = _BOUNDS) -> None:
        self._bounds = bounds
        self._bytes: dict[Key, tuple[str, int]] = {}
        self._peers: Counter[str] = Counter()
        self.in_all = 0

    def has_room(self, key: Key, peer: str) -> bool:
        """Whether more of this conversation may be taken."""
        bounds = self._bounds
        _, waiting = self._bytes.get(key, ("", 0))
        return (
            waiting < bounds.per_conversation
            and self._peers[peer.casefold()] < bounds.per_peer
            and self.in_all < bounds.in_all
        )

    def note(self, key: Key, peer: str, waiting: int) -> None:
        """So many bytes of this conversation wait now."""
        name, before = self._bytes.get(key, (peer.casefold(), 0))
        self._peers[name] += waiting - before
        self.in_all += waiting - before
        if waiting:
            self._bytes[key] = name, waiting
        else:
            self._bytes.pop(key, None)
        if not self._peers[name]:
            del self._peers[name]
