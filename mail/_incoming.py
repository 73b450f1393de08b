"""What the peer says over mail: numbered bytes, put back in order.

What comes too early is kept, within a window, and reported as held; so it is kept for good,
and the peer need not say it again.
"""

from __future__ import annotations

import enum
from bisect import bisect_left, bisect_right
from operator import itemgetter
from typing import Final, NamedTuple

__all__ = ["Early", "Incoming", "IncomingError", "News"]

#: So many parts that came too early are kept: each costs more than its bytes.
_EARLY_PARTS: Final = 4096


class IncomingError(ValueError):
    """What the peer says contradicts what it has said before."""


class Early(NamedTuple):
    """Bytes that came too early, as a row to be kept until its start is received."""

    start: int
    body: bytes


class News(enum.Enum):
    """What a frame's bytes were."""

    NEXT = "next"
    EARLY = "early"
    DOUBLE = "double"
    #: Beyond the window; the peer will say it again.
    DROPPED = "dropped"


class Incoming:
    """One direction, seen from the side that listens."""

    __slots__ = ("_early", "_window", "early_bytes", "ends_at", "received")

    def __init__(self, window: int) -> None:
        self._window = window
        #: How many bytes are here in order.
        self.received = 0
        #: How many bytes there are in all, once that is known.
        self.ends_at: int | None = None
        #: In order of their numbers, without overlaps.
        self._early: list[Early] = []
        #: How many bytes came too early and are kept.
        self.early_bytes = 0

    @property
    def has_end(self) -> bool:
        """Everything is here."""
        return self.received == self.ends_at

    @property
    def have(self) -> int:
        """What this side has, the end counted."""
        return self.received + self.has_end

    @property
    def has_gap(self) -> bool:
        """Something is missing before something that is here."""
        return bool(self._early) or (self.ends_at is not None and not self.has_end)

    def ranges(self, most: int) -> tuple[tuple[int, int], ...]:
        """What is held beyond a gap, the end counted; the nearest first."""
        spans = [(start, start + len(body)) for start, body in self._early]
        if self.ends_at is not None and not self.has_end:
            spans.append((self.ends_at, self.ends_at + 1))
        merged: list[tuple[int, int]] = []
        for start, end in spans:
            if merged and merged[-1][1] == start:
                merged[-1] = (merged[-1][0], end)
            else:
                merged.append((start, end))
        return tuple(merged[:most])

    def take(self, start: int, body: bytes, *, is_end: bool) -> tuple[bytes, News, list[Early]]:
        """The bytes that are next in order, what news it was, and the rows that were added.

        Raises:
            IncomingError: the peer has named another end before.
        """
        end = start + len(body)
        self._check_end(end, is_end=is_end)
        is_early = start > self.received
        beyond = end - self.received - self._window
        if beyond > 0:
            body, is_end = body[:-beyond], False
        if (is_early and len(self._early) >= _EARLY_PARTS) or (beyond > 0 and not body):
            return b"", News.DROPPED, []
        is_new_end = is_end and self.ends_at is None
        if is_end:
            self.ends_at = start + len(body)
        if is_early:
            rows = self._keep_early(start, body)
            return b"", News.EARLY if rows or is_new_end else News.DOUBLE, rows
        new = self._join(body[self.received - start :])
        self.received += len(new)
        return new, News.NEXT if new or is_new_end else News.DOUBLE, []

    def _check_end(self, end: int, *, is_end: bool) -> None:
        known = self.received
        if self._early:
            known = self._early[-1].start + len(self._early[-1].body)
        if is_end and end < known:
            raise IncomingError(f"an end at {end} where {known} bytes are known")
        if self.ends_at is not None and (end > self.ends_at or (is_end and end != self.ends_at)):
            raise IncomingError(f"bytes up to {end} where {self.ends_at} was the end")

    def _keep_early(self, start: int, body: bytes) -> list[Early]:
        """Keep the parts that are not here yet."""
        added = []
        end = start + len(body)
        at = start
        # Only those that overlap it are looked at: a mail may hold thousands of parts.
        index = max(0, bisect_right(self._early, start, key=itemgetter(0)) - 1)
        while at < end:
            one = self._early[index] if index < len(self._early) else Early(end, b"")
            stop = min(one.start, end)
            if stop > at:
                added.append(Early(at, body[at - start : stop - start]))
            at = max(at, one.start + len(one.body))
            index += 1
        for one in added:
            self.keep(one)
        return added

    def keep(self, row: Early) -> None:
        """Have the bytes of a row, which overlaps no other."""
        self._early.insert(bisect_left(self._early, row), row)
        self.early_bytes += len(row.body)

    def _join(self, new: bytes) -> bytes:
        """The new bytes together with those that were waiting for them."""
        parts = [new]
        at = self.received + len(new)
        while self._early and self._early[0].start <= at:
            start, body = self._early.pop(0)
            self.early_bytes -= len(body)
            rest = body[at - start :]
            parts.append(rest)
            at += len(rest)
        return b"".join(parts)
