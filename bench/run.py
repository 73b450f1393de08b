"""One placement of the processes: every measure, its peers in turn, again and again."""

from __future__ import annotations

import enum
import os
import re
from collections.abc import Callable

from bench.cell import CellError, run_cell
from bench.measure import Measure
from bench.measures import MEASURES
from bench.peers import Card, card
from bench.results import Results
from bench.scale import Scale

__all__ = ["NOT_INSTALLED", "Placement", "chosen", "run"]

#: The trouble of a peer whose package is not there; not a failure.
NOT_INSTALLED = "not installed"

Say = Callable[[str], None]


class Placement(enum.Enum):
    """Where the two processes of a measurement run."""

    TWO = "two"  # each on a core of its own
    ONE = "one"  # both on one and the same core

    @property
    def cores(self) -> tuple[int, int]:
        """The cores of the responder and of the initiator.

        Left to itself, the kernel puts two processes that wake each other now on one core,
        now on two, and every figure has two values.
        """
        allowed = sorted(os.sched_getaffinity(0))
        return allowed[-1], allowed[-1 if self is Placement.ONE else 0]

    def __str__(self) -> str:
        if self is Placement.ONE:
            return "both processes on one core"
        return "each process on a core of its own"


def chosen(only: re.Pattern[str] | None) -> list[tuple[Measure, list[Card]]]:
    """The measures with their peers, cut down to the pairs "MEASURE PEER" that match."""
    pairs = []
    for measure in MEASURES:
        cards = [card(key) for key in measure.contenders]
        if only is not None:
            cards = [one for one in cards if only.search(f"{measure.key} {one.key}")]
        if cards:
            pairs.append((measure, cards))
    return pairs


def run(
    plan: list[tuple[Measure, list[Card]]], placement: Placement, scale: Scale, say: Say
) -> Results:
    """Measure everything of the plan in one placement."""
    results = Results()
    for measure, cards in plan:
        say(f"{placement.value}: {measure.key}")
        for _ in range(scale.repetitions if measure.is_repeated else 1):
            for one in cards:
                _run_once(measure, one, placement, scale, results)
    return results


def _run_once(
    measure: Measure, one: Card, placement: Placement, scale: Scale, results: Results
) -> None:
    if (measure.key, one.key) in results.troubles:
        return
    if not one.is_installed:
        results.troubles[measure.key, one.key] = NOT_INSTALLED
        return
    try:
        results.add(one.key, run_cell(measure, one, scale, placement.cores))
    except CellError as trouble:
        results.troubles[measure.key, one.key] = f"failed: {trouble}"
