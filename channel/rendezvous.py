"""Who has arrived and who is expected: the queue of a service point. Pure.

Channels arrive with a correlator and wait until a responder claims them, first come,
first served. The queue is bounded in number (in all and for each connection), in bytes
and in age; beyond a bound the newcomer is told so with a code. Nothing is dropped here
in silence: what leaves the queue is claimed, withdrawn by its own side, or returned to
the caller to be refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from compoint.core.codes import Code

__all__ = ["Bounds", "Full", "QueuedChannel", "Rendezvous", "WaitingResponder"]

Arrival = TypeVar("Arrival", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much may wait."""

    channels: int
    channels_per_connection: int
    bytes_in_all: int
    age_s: float


@dataclass(frozen=True, slots=True)
class Full:
    """A bound was met: the code and the sentence for the peer."""

    code: Code
    text: str
    retry_after_s: float = 1.0


@dataclass(frozen=True, slots=True)
class QueuedChannel:
    """A channel that waits for its responder, for people to look at."""

    correlator: str
    peer: str
    age_s: float
    messages: int
    bytes: int


@dataclass(frozen=True, slots=True)
class WaitingResponder:
    """A responder that waits for a channel (correlator None: for any)."""

    correlator: str | None
    age_s: float


class _Entry:
    __slots__ = ("arrived_at", "connection", "correlator", "size")

    def __init__(self, correlator: str, connection: int, arrived_at: float) -> None:
        self.correlator = correlator
        self.connection = connection
        self.arrived_at = arrived_at
        self.size = 0


class Rendezvous(Generic[Arrival]):
    """The queue. `Arrival` is whatever stands for a channel; it is opaque here."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        # Dictionaries keep the order of arrival, and give up any entry at once.
        self._entries: dict[Arrival, _Entry] = {}
        self._by_correlator: dict[str, dict[Arrival, None]] = {}
        self._per_connection: Counter[int] = Counter()
        self.bytes_in_all = 0

    def __len__(self) -> int:
        return len(self._entries)

    def arrive(self, arrival: Arrival, correlator: str, connection: int, now: float) -> Full | None:
        """Queue a channel; returns why it cannot be, or None."""
        bounds = self._bounds
        if len(self._entries) >= bounds.channels:
            return Full(Code.QUEUE_FULL, f"{len(self._entries)} channels are waiting here")
        count = self._per_connection[connection]
        if count >= bounds.channels_per_connection:
            return Full(Code.QUEUE_FULL, f"{count} channels of this connection are waiting")
        if self.bytes_in_all >= bounds.bytes_in_all:
            return Full(Code.QUEUE_BYTES, f"{self.bytes_in_all} bytes are waiting here")
        self._entries[arrival] = _Entry(correlator, connection, now)
        self._by_correlator.setdefault(correlator, {})[arrival] = None
        self._per_connection[connection] = count + 1
        return None

    def grow(self, arrival: Arrival, size: int) -> Full | None:
        """Note that a queued channel holds `size` bytes now; returns why it may not."""
        entry = self._entries.get(arrival)
        if entry is None:
            return None
        total = self.bytes_in_all + size - entry.size
        if size > entry.size and total > self._bounds.bytes_in_all:
            return Full(Code.QUEUE_BYTES, f"{self.bytes_in_all} bytes are waiting here")
        self.bytes_in_all = total
        entry.size = size
        return None

    def claim(self, correlator: str | None) -> Arrival | None:
        """Take the first channel with this correlator (None: the first of all)."""
        waiting = self._entries if correlator is None else self._by_correlator.get(correlator)
        if not waiting:
            return None
        arrival = next(iter(waiting))
        self.withdraw(arrival)
        return arrival

    def withdraw(self, arrival: Arrival) -> bool:
        """Take one channel out; False if it is not in the queue."""
        entry = self._entries.pop(arrival, None)
        if entry is None:
            return False
        same = self._by_correlator[entry.correlator]
        del same[arrival]
        if not same:
            del self._by_correlator[entry.correlator]
        self.bytes_in_all -= entry.size
        self._per_connection[entry.connection] -= 1
        if not self._per_connection[entry.connection]:
            del self._per_connection[entry.connection]
        return True

    def expire(self, now: float) -> list[Arrival]:
        """Take out and return the channels that have waited too long."""
        late = []
        for arrival, entry in self._entries.items():
            if now - entry.arrived_at < self._bounds.age_s:
                break
            late.append(arrival)
        for arrival in late:
            self.withdraw(arrival)
        return late

    def clear(self) -> list[Arrival]:
        """Take out and return everything."""
        arrivals = list(self._entries)
        for arrival in arrivals:
            self.withdraw(arrival)
        return arrivals

    def correlators(self, most: int) -> list[str]:
        """Up to `most` correlators that are waiting, for a hint in an error."""
        return [name for name, _ in zip(self._by_correlator, range(most), strict=False)]

    def ages(self, now: float) -> list[tuple[Arrival, float]]:
        """Every queued channel with its age."""
        return [(arrival, now - entry.arrived_at) for arrival, entry in self._entries.items()]
