"""Every bound of the HTTP API for foreign clients: its value and its reason.

In one value, so that a test can have shorter times.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Final

from compoint.limits import CLOSE_S, KIB, MIB

__all__ = ["IDEMPOTENCY_KEY", "Bounds", "Budget"]

#: How long an Idempotency-Key is: too long to be hit by chance, short enough to be kept.
IDEMPOTENCY_KEY: Final = range(16, 256)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What one gateway takes; beyond a size the answer is 413, beyond a number 503."""

    #: The largest body of a request, and the largest message of a responder to a client.
    body_bytes: int = 16 * MIB
    #: The largest body that is JSON: reading it takes 0.1 s on the thread that serves all.
    json_bytes: int = 1 * MIB
    #: What all requests together may hold: bodies on their way, messages waiting for credit.
    held_bytes: int = 256 * MIB
    #: Conversations at once.
    conversations: int = 1_000
    #: Messages of one conversation that wait for credit.
    writes: int = 16
    #: How much a responder may write ahead of the client's reads. With a thousand
    #: conversations this side holds a quarter of a gigabyte.
    window_bytes: int = 256 * KIB
    #: How long a request waits unless it says otherwise, and what it may say at most.
    wait_s: float = 30.0
    longest_wait_s: float = 60.0
    #: How long a DELETE waits for confirmation unless it says otherwise.
    close_s: float = CLOSE_S
    #: A conversation without a request ends after this time.
    idle_s: float = 300.0
    #: Answers kept for repeated requests: how many, how large together, how long.
    kept_answers: int = 1_000
    kept_bytes: int = 64 * MIB
    kept_s: float = 300.0


class Budget:
    """Bytes that many share. Any thread may call; a verb never waits long."""

    def __init__(self, most: int) -> None:
        self._lock = threading.Lock()
        self._left = most

    def take(self, count: int) -> bool:
        """Take so many bytes; False: there are not so many left, and none was taken."""
        with self._lock:
            if count > self._left:
                return False
            self._left -= count
            return True

    def give_back(self, count: int) -> None:
        with self._lock:
            self._left += count

    @property
    def left(self) -> int:
        return self._left
