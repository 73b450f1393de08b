"""What is remembered of conversations that are over, and of those that were turned away."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from mail._answers import Key
from mail._timers import Moment
from mail._tombstone import Tombstone

__all__ = ["Graveyard", "Guards"]

#: As long as a tombstone is silent after a RESET.
_GUARDED_S: Final = 3600.0
#: How often old tombstones are looked for: one that is there too long harms nobody.
_SWEEP_EACH_S: Final = 3600.0


class Graveyard:
    """The tombstones of one mailbox, and which of them are to be committed."""

    __slots__ = ("_forgotten", "_most", "_stones", "_sweep_at", "_touched")

    def __init__(self, most: int) -> None:
        self._most = most
        self._sweep_at = 0.0
        #: The oldest comes first.
        self._stones: dict[Key, Tombstone] = {}
        # Sets that keep their order.
        self._touched: dict[Key, None] = {}
        self._forgotten: dict[Key, None] = {}

    def restore(self, stones: Iterable[Tombstone], at: Moment) -> None:
        """What was committed."""
        for stone in sorted(stones, key=lambda stone: stone.until_utc):
            self._stones[stone.conversation, stone.is_initiator] = stone
        self._sweep(at)

    def get(self, key: Key) -> Tombstone | None:
        return self._stones.get(key)

    def keep(self, key: Key, stone: Tombstone) -> None:
        """Add or replace one; beyond the bound the oldest is forgotten."""
        self._stones[key] = stone
        self._touched[key] = None
        while len(self._stones) > self._most:
            self._forget(next(iter(self._stones)))

    def _forget(self, key: Key) -> None:
        del self._stones[key]
        self._touched.pop(key, None)
        self._forgotten[key] = None

    def on_timer(self, at: Moment) -> None:
        """Forget what need not be remembered any longer."""
        if at.now >= self._sweep_at:
            self._sweep(at)

    def _sweep(self, at: Moment) -> None:
        self._sweep_at = at.now + _SWEEP_EACH_S
        for key in [key for key, stone in self._stones.items() if stone.until_utc < at.utc]:
            self._forget(key)

    def take_changes(self) -> tuple[list[Tombstone], list[Key]]:
        """Those to be added or replaced, and those to be removed."""
        touched, self._touched = self._touched, {}
        forgotten, self._forgotten = self._forgotten, {}
        return [self._stones[key] for key in touched], list(forgotten)


class Guards:
    """Tombstones of what was turned away, so that it is told once an hour and not taken in
    after all. In memory only: they must not push out those of real conversations."""

    __slots__ = ("_most", "_stones")

    def __init__(self, most: int) -> None:
        self._most = most
        #: Who was told longest ago comes first.
        self._stones: dict[Key, Tombstone] = {}

    def get(self, key: Key) -> Tombstone | None:
        return self._stones.get(key)

    def pop(self, key: Key) -> Tombstone | None:
        return self._stones.pop(key, None)

    def has_room(self, key: Key, utc: float) -> bool:
        """Another can be kept, if need be instead of one that was told an hour ago."""
        while key not in self._stones and len(self._stones) >= self._most:
            oldest = next(iter(self._stones), None)
            if oldest is None or utc < self._stones[oldest].answered_utc + _GUARDED_S:
                return False
            del self._stones[oldest]
        return True

    def keep(self, key: Key, stone: Tombstone) -> None:
        old = self._stones.get(key)
        if old is not None and old.answered_utc != stone.answered_utc:
            del self._stones[key]
        self._stones[key] = stone
