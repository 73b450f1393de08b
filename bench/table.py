"""The Markdown: what this machine is, one table for each placement, and the legend."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from bench.measure import Figure, Measure
from bench.peers import Card
from bench.results import Results
from bench.run import NOT_INSTALLED, Placement
from bench.scale import Scale

__all__ = ["legend", "machine", "number", "table"]

_NOTHING = "–"
Plan = list[tuple[Measure, list[Card]]]

_READING = """\
## How it was measured

- Two fresh processes for each figure; {repetitions} × {measuring_s} s for each peer, the peers
  of a measure in turn (A B C A B C ...); memory, the queued channels and the parked
  initiators once.
- *result*: the median of the repetitions (of a round trip: of their medians); *p50*, *p99*: of
  the single times of all repetitions together. ↓ less is better, ↑ more is better.
- One way: from the first write until the receiver's one answer to the last message is here."""


def number(value: float) -> str:
    """Three digits or so, thousands apart."""
    if abs(value) >= 100:
        return f"{value:,.0f}".replace(",", " ")
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def machine() -> dict[str, str]:
    """What the figures depend on beside the code."""
    return {
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        "kernel": f"{platform.system()} {platform.release()}",
        "CPU": _cpu_model(),
        "cores": str(len(os.sched_getaffinity(0))),
        "pyzmq": _version("pyzmq"),
        "websockets": _version("websockets"),
        "msgspec": _version("msgspec"),
        "requests": _version("requests"),
        "gunicorn": _version("gunicorn"),
        "uvicorn": _version("uvicorn"),
        "uvloop": _version("uvloop"),
        "httptools": _version("httptools"),
    }


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return NOT_INSTALLED


def table(plan: Plan, placement: Placement, scale: Scale, results: Results) -> str:
    """All rows of one placement."""
    lines = [
        f"## Placement `{placement.value}`: {placement}",
        "",
        "| measure | who | result | × raw | p50 µs (× raw) | p99 µs (× raw) | lowest to highest |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for measure, cards in plan:
        for figure in measure.figures(scale):
            lines += _rows(measure, figure, cards, results)
    return "\n".join(lines)


def _rows(measure: Measure, figure: Figure, cards: list[Card], results: Results) -> Iterator[str]:
    arrow = "↓" if figure.less_is_better else "↑"
    for card in cards:
        start = f"| {figure.title}, {figure.unit} {arrow} | {card.title} |"
        value = results.median(figure.key, card.key)
        if value is None:
            why = results.troubles.get((measure.key, card.key), "not measured")
            yield f"{start} {why.replace('|', '/')} | | | | |"
            continue
        values = results.values(figure.key, card.key)
        cells = (
            number(value),
            _ratio(value, results.median(figure.key, "raw") if figure.is_compared else None),
            _time(figure, card, results, 50),
            _time(figure, card, results, 99),
            f"{number(min(values))} to {number(max(values))}" if len(values) > 1 else _NOTHING,
        )
        yield f"{start} {' | '.join(cells)} |"


def _ratio(value: float, raw: float | None) -> str:
    return f"{value / raw:.2f}" if raw is not None and raw > 0 else _NOTHING


def _time(figure: Figure, card: Card, results: Results, percent: int) -> str:
    value = results.percentile(figure.key, card.key, percent)
    if value is None:
        return _NOTHING
    raw = results.percentile(figure.key, "raw", percent)
    return f"{number(value)} ({_ratio(value, raw)})"


def legend(plan: Plan, scale: Scale) -> str:
    """How to read the table, and the settings everybody was given."""
    cards = {card.key: card for _, cards in plan for card in cards}
    lines = [_READING.format(repetitions=scale.repetitions, measuring_s=scale.measuring_s)]
    lines += [f"- {card.title}: {card.settings}." for card in cards.values() if card.settings]
    skipped = [card for card in cards.values() if not card.is_installed]
    missing = sorted({card.package for card in skipped if not card.stage})
    lines += [
        f"- The package `{package}` is not installed: its rows are skipped; the extra `bench`"
        " brings it."
        for package in missing
    ]
    if any(card.stage for card in skipped):
        lines.append("- Postfix is not installed, or not to be started by us, who are not root:"
                     " the mail rows are skipped.")  # fmt: skip
    return "\n".join(lines)
