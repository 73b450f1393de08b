"""What one side says over mail: numbered bytes, kept and said again until the peer has them.

What has been given to a mail is a *segment*. Its clock starts when the mail is submitted,
not before: how long it waits for its turn is not the peer's silence. The end of a direction
counts as one byte more, so it travels and is confirmed like any other.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from mail._timers import FIRST_WINDOW_BYTES, RoundTrip

__all__ = ["Outgoing", "Said", "Segment", "Span"]

#: So many segments reported that were said behind a missing one: it was lost, not overtaken.
_LOST_AFTER: Final = 3


class Said(NamedTuple):
    """Bytes that may have to be said again, as a row to be kept."""

    start: int
    body: bytes


class Span(NamedTuple):
    """What one frame says."""

    start: int
    body: bytes
    is_end: bool


@dataclass(slots=True)
class Segment:
    """A part that has been given to a mail and is not confirmed."""

    start: int
    end: int
    handle: int
    #: How often it was said again.
    tries: int = 0
    submitted_at: float | None = None
    due: float = math.inf
    #: How many segments said behind it are reported while it is not.
    missed: int = 0


class Outgoing:
    """One direction, seen from the side that speaks."""

    __slots__ = (
        "_kept_bytes", "_pieces", "_round_trip", "_starts", "confirmed", "is_ended", "said",
        "segments", "sent", "window",
    )  # fmt: skip

    def __init__(self, round_trip: RoundTrip, kept_bytes: int) -> None:
        self._round_trip = round_trip
        self._kept_bytes = kept_bytes
        self._pieces: list[bytes] = []
        self._starts: list[int] = []
        #: How many bytes were said; how far they were given to mails and how far the peer is
        #: known to have them, the end counted.
        self.said = 0
        self.sent = 0
        self.confirmed = 0
        self.is_ended = False
        #: What the peer keeps of bytes that come too early.
        self.window = FIRST_WINDOW_BYTES
        #: In order of their numbers, without overlaps.
        self.segments: list[Segment] = []

    # --- what this side says --------------------------------------------------------------

    @property
    def total(self) -> int:
        """What the peer has when it has everything said so far, the end counted."""
        return self.said + self.is_ended

    @property
    def room(self) -> int:
        """How many bytes more may be said now."""
        return max(0, self._kept_bytes - (self.said - self.confirmed)) * (not self.is_ended)

    @property
    def is_confirmed(self) -> bool:
        """The peer has everything."""
        return self.confirmed == self.total

    def say(self, data: bytes, *, is_whole: bool = False) -> Said | None:
        """Say as much of this as there is room for, or all of it; the row that was added."""
        data = data if is_whole else data[: self.room]
        if not data or self.is_ended:
            return None
        row = Said(self.said, data)
        self.keep(row)
        return row

    def keep(self, row: Said) -> None:
        """Have the bytes of a row, which follow those that are here."""
        self._starts.append(row.start)
        self._pieces.append(row.body)
        self.said = row.start + len(row.body)

    # --- what the peer has ------------------------------------------------------------------

    def confirm(self, have: int, ranges: tuple[tuple[int, int], ...], now: float) -> bool:
        """The peer has these; whether that was new in any part."""
        news = [start for part in ((0, have), *ranges) for start in self._take_out(*part, now)]
        self._note_missing(news)
        is_progress = have > self.confirmed
        if is_progress:
            self.confirmed = have
            self.sent = max(self.sent, have)
            done = bisect_right(self._starts, have) - 1
            if have >= self.said:
                done = len(self._pieces)
            del self._pieces[:done], self._starts[:done]
        return is_progress or bool(news)

    def _take_out(self, start: int, end: int, now: float) -> list[int]:
        """Confirm a part of what is under way; where the segments began that it touches."""
        kept = []
        touched = []
        for one in self.segments:
            if one.end <= start or one.start >= end:
                kept.append(one)
                continue
            touched.append(one.start)
            if one.start < start:
                kept.append(replace(one, end=start))
            if one.end > end:
                kept.append(replace(one, start=end))
            elif not one.tries and one.submitted_at is not None:
                # What was said twice may be answered for either time.
                self._round_trip.measured(now - one.submitted_at)
        self.segments = kept
        return touched

    def _note_missing(self, reported: list[int]) -> None:
        """Segments that begin here are reported; one missed for long enough is due."""
        for one in self.segments:
            was_missed = one.missed
            one.missed += sum(start > one.start for start in reported)
            # Once: what was said again is left to its timer.
            is_lost = was_missed < _LOST_AFTER <= one.missed
            if is_lost and not one.tries and one.submitted_at is not None:
                one.due = -math.inf

    # --- what goes into the next mail -------------------------------------------------------

    @property
    def is_waiting(self) -> bool:
        """No mail system has all of what may be said now."""
        return self.on_the_way < self._fresh_end

    def hurry(self) -> None:
        """Whatever is in no mail at the moment is due."""
        for one in self.segments:
            if one.due < math.inf:
                one.due = -math.inf

    def next_due(self) -> float:
        """When there is something to put into a mail: -inf is at once, inf is never."""
        if self._fresh_end > self.sent:
            return -math.inf
        return min((one.due for one in self.segments), default=math.inf)

    @property
    def _fresh_end(self) -> int:
        end = min(self.said, self.confirmed + self.window)
        return end + (self.is_ended and end == self.said)

    def next_span(self, handle: int, now: float, most: int) -> Span | None:
        """What goes into the next frame, at most so many bytes; None: nothing more is due."""
        # What the peer waits for comes before what it could not use yet.
        index = next((i for i, one in enumerate(self.segments) if one.due <= now), None)
        if index is not None:
            return self._again(index, handle, now, most)
        if self._fresh_end > self.sent:
            span = self._span(self.sent, self._fresh_end, most)
            if span is not None:
                self.sent = _end(span)
                self.segments.append(Segment(span.start, self.sent, handle))
            return span
        return None

    def _again(self, index: int, handle: int, now: float, most: int) -> Span | None:
        """Say a segment again, together with those due behind it that fit."""
        first = last = self.segments[index]
        # Mails are what is scarce: whatever is nearly due comes along.
        soon = now + self._round_trip.rto_s / 4
        stop = index + 1
        for one in self.segments[index + 1 :]:
            if one.start != last.end or one.due > soon or one.end - first.start > most:
                break
            last = one
            stop += 1
        span = self._span(first.start, last.end, most)
        if span is None:
            return None
        tries = 1 + max(one.tries for one in self.segments[index:stop])
        again = [Segment(span.start, _end(span), handle, tries)]
        if _end(span) < last.end:
            again.append(replace(last, start=_end(span)))
        self.segments[index:stop] = again
        return span

    def _span(self, start: int, end: int, most: int) -> Span | None:
        body_end = min(end, self.said, start + most)
        is_end = self.is_ended and body_end == self.said < end
        if body_end == start and not is_end:
            return None
        return Span(start, self._kept(start, body_end), is_end)

    def _kept(self, start: int, end: int) -> bytes:
        found = []
        index = bisect_right(self._starts, start) - 1
        while start < end:
            piece, first = self._pieces[index], self._starts[index]
            found.append(piece[start - first : end - first])
            start = first + len(piece)
            index += 1
        return b"".join(found)

    # --- what became of the mails -----------------------------------------------------------

    def submitted(self, handle: int, now: float) -> None:
        """A mail is on its way: from now on the peer's silence counts."""
        for one in self._in_mail(handle):
            one.submitted_at = now
        self.not_submitted(handle, now)

    def not_submitted(self, handle: int, now: float) -> None:
        """A mail was not taken; its parts are said again as if it had been lost."""
        for one in self._in_mail(handle):
            one.due = now + self._round_trip.patience_s(one.tries)

    def came_back(self, handle: int, now: float) -> None:
        """A mail has come back and may be tried once more: the first time at once."""
        for one in self._in_mail(handle):
            one.due = now + self._round_trip.patience_s(one.tries) if one.tries else -math.inf

    def _in_mail(self, handle: int) -> list[Segment]:
        return [one for one in self.segments if one.handle == handle]

    # --- across processes -------------------------------------------------------------------

    @property
    def on_the_way(self) -> int:
        """How far everything was submitted; what follows is lost when the process ends."""
        waiting = (one.start for one in self.segments if one.due == math.inf)
        return min(waiting, default=self.sent)

    def resume(self, on_the_way: int, due: float, tries: int) -> None:
        """After a restart: what had been submitted counts as one segment."""
        self.sent = on_the_way
        if self.sent > self.confirmed:
            one = Segment(self.confirmed, self.sent, -1, tries, None, due)
            self.segments.append(one)


def _end(span: Span) -> int:
    return span.start + len(span.body) + span.is_end
