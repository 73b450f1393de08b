"""One deadline per operation, shared by all its steps; and the clock everything uses."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

__all__ = ["FOR_EVER", "Deadline", "clock"]

#: The clock seam: seconds, monotonic. Pure machines get its value as an argument (`now`).
clock: Final[Callable[[], float]] = time.monotonic


#: What lies further off than the system can wait counts as never.
_LONGEST_S: Final = threading.TIMEOUT_MAX


class Deadline:
    """A point in time by which an operation ends; `Deadline(None)` never comes.

    Made once at the door of a blocking call and handed down, so that the steps of one
    operation share one allowance (redis-py #1305: two timeouts for one wait contradict
    each other).
    """

    __slots__ = ("ends_at", "started_at")

    def __init__(self, timeout_s: float | None) -> None:
        if timeout_s is not None and not timeout_s >= 0:
            raise ValueError(f"a timeout is None or a number of seconds >= 0, not {timeout_s!r}")
        self.started_at = clock()
        self.ends_at: float | None = None
        if timeout_s is not None and timeout_s <= _LONGEST_S:
            self.ends_at = self.started_at + timeout_s

    def remaining_s(self) -> float | None:
        """Seconds left, never below 0; None if the deadline never comes."""
        if self.ends_at is None:
            return None
        return max(0.0, self.ends_at - clock())

    @property
    def is_over(self) -> bool:
        return self.ends_at is not None and clock() >= self.ends_at

    @property
    def elapsed_s(self) -> float | None:
        """Seconds since the operation began; None for `FOR_EVER`, which begins nowhere."""
        return None if self is FOR_EVER else clock() - self.started_at

    def capped(self, timeout_s: float) -> Deadline:
        """The earlier of this deadline and `timeout_s` from now; the start stays the same."""
        capped = Deadline(timeout_s)
        if self.ends_at is not None and capped.ends_at is not None:
            capped.ends_at = min(self.ends_at, capped.ends_at)
        capped.started_at = self.started_at
        return capped


FOR_EVER: Final = Deadline(None)
