"""When a conversation over mail acts: its settings, the moment, and how long to be patient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

from compoint.limits import MIB

__all__ = ["FIRST_WINDOW_BYTES", "Moment", "Pace", "RoundTrip"]

#: What every side keeps of bytes that came too early; more only when it has said so.
FIRST_WINDOW_BYTES: Final = 1 * MIB

#: The longest time between two tries, unless an answer itself takes longer.
_RTO_MOST_S: Final = 3600.0


class Moment(NamedTuple):
    """Now, by two clocks: one that never jumps, and one that lasts (UTC, in seconds)."""

    now: float
    utc: float


@dataclass(frozen=True, slots=True)
class Pace:
    """How patient one side is. The defaults suit mail that crosses the Internet."""

    #: The shortest silence after which something is said again.
    rto_min_s: float = 600.0
    #: How long an acknowledgement waits for something to ride on.
    ack_delay_s: float = 30.0
    #: So long nothing is confirmed, then the conversation is given up. Mail systems
    #: themselves try for four to five days (RFC 5321 §4.5.4.1).
    expire_s: float = 5 * 86400.0
    #: How many bytes are kept unconfirmed, and how many that came too early.
    window_bytes: int = 8 * MIB


class RoundTrip:
    """How long an answer takes: smoothed, and what silence follows from it."""

    __slots__ = ("_pace", "smoothed_s")

    def __init__(self, pace: Pace, smoothed_s: float | None = None) -> None:
        self._pace = pace
        self.smoothed_s = smoothed_s

    def measured(self, took_s: float) -> None:
        """An answer to something that was said once came after this time."""
        if self.smoothed_s is None:
            self.smoothed_s = took_s
        else:
            self.smoothed_s += (took_s - self.smoothed_s) / 8

    @property
    def rto_s(self) -> float:
        """The silence after which something said once is said again."""
        return max(self._pace.rto_min_s, 4 * (self.smoothed_s or 0.0))

    def patience_s(self, tries: int) -> float:
        """The silence after which something said again so many times is said once more."""
        # Where answers take hours, repeating every hour would only fill the queues.
        most_s = max(self.rto_s, _RTO_MOST_S)
        return min(self.rto_s * 2.0 ** min(tries, 30), most_s)
