"""What one placement gave: all repetitions, and the numbers drawn from them."""

from __future__ import annotations

import statistics
from collections import defaultdict
from typing import Any

from bench.measure import Run

__all__ = ["Results", "percentile"]


def percentile(times: list[float], percent: float) -> float:
    """The smallest of the times that `percent` of them do not exceed."""
    ordered = sorted(times)
    rank = -(-len(ordered) * percent // 100)
    return ordered[max(0, int(rank) - 1)]


class Results:
    """Samples by figure and peer; None comes back for what was not measured."""

    def __init__(self) -> None:
        self._values: dict[tuple[str, str], list[float]] = defaultdict(list)
        self._times: dict[tuple[str, str], list[float]] = defaultdict(list)
        #: Why a peer has no figures in a measure, by measure and peer.
        self.troubles: dict[tuple[str, str], str] = {}

    def add(self, peer: str, run: Run) -> None:
        """Note one repetition."""
        for figure, sample in run.items():
            self._values[figure, peer].append(sample.value)
            self._times[figure, peer].extend(sample.times_us)

    def values(self, figure: str, peer: str) -> list[float]:
        """One value for each repetition."""
        return self._values.get((figure, peer), [])

    def median(self, figure: str, peer: str) -> float | None:
        """The median over the repetitions."""
        values = self.values(figure, peer)
        return statistics.median(values) if values else None

    def percentile(self, figure: str, peer: str, percent: float) -> float | None:
        """A percentile of the single times of all repetitions together, in µs."""
        times = self._times.get((figure, peer), [])
        return percentile(times, percent) if times else None

    def to_json(self) -> dict[str, Any]:
        """The numbers without the single times."""
        found: dict[str, Any] = defaultdict(dict)
        for figure, peer in self._values:
            found[figure][peer] = {
                "median": self.median(figure, peer),
                "repetitions": self.values(figure, peer),
                "p50_us": self.percentile(figure, peer, 50),
                "p99_us": self.percentile(figure, peer, 99),
            }
        troubles = {f"{measure} {peer}": why for (measure, peer), why in self.troubles.items()}
        return {"figures": dict(found), "troubles": troubles}
