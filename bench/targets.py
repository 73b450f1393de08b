"""What the product promises to reach, computed from the same run."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass

from bench.measures.http import POSTS
from bench.results import Results
from bench.run import Placement
from bench.table import number

__all__ = ["TARGETS", "Target", "Verdict", "targets_table", "verdicts"]

Reading = Callable[[Results], float | None]


class Verdict(enum.StrEnum):
    """How a target came out."""

    MET = "met"
    MISSED = "**missed**"
    NOT_MEASURED = "not measured"


@dataclass(frozen=True, slots=True)
class Target:
    """One promise: a reading that is at most, or at least, some limit."""

    title: str
    reading: Reading
    limit: float
    is_at_most: bool
    unit: str
    #: Where it holds; a free core is not to be had when both processes share one.
    placements: tuple[Placement, ...] = (Placement.TWO, Placement.ONE)

    def judge(self, measured: float | None) -> Verdict:
        if measured is None:
            return Verdict.NOT_MEASURED
        is_met = measured <= self.limit if self.is_at_most else measured >= self.limit
        return Verdict.MET if is_met else Verdict.MISSED

    @property
    def bound(self) -> str:
        return f"{'≤' if self.is_at_most else '≥'} {self.limit:g} {self.unit}".rstrip()


def _value(figure: str, peer: str) -> Reading:
    return lambda results: results.median(figure, peer)


def _ratio(figure: str, peer: str, other: str) -> Reading:
    def read(results: Results) -> float | None:
        ours, theirs = results.median(figure, peer), results.median(figure, other)
        return ours / theirs if ours is not None and theirs else None

    return read


def _to_best_post(figure: str, peer: str, best: Callable[[list[float]], float]) -> Reading:
    def read(results: Results) -> float | None:
        ours = results.median(figure, peer)
        posts = [results.median(figure, post) for post in POSTS]
        measured = [post for post in posts if post]
        return ours / best(measured) if ours is not None and measured else None

    return read


def _beside_parked(peer: str) -> Reading:
    def read(results: Results) -> float | None:
        alone = results.median("parked-alone", peer)
        beside = results.median("parked-beside", peer)
        return beside / alone if alone and beside is not None else None

    return read


def _opening_time(results: Results) -> float | None:
    """How much longer than raw, so the other way round than the rates of the table."""
    return _ratio("opening", "raw", "compoint")(results)


def _p99_beside_flood(results: Results) -> float | None:
    idle = results.percentile("idle", "channel", 99)
    flooded = results.percentile("flooded", "channel", 99)
    return (flooded - idle) / 1000 if idle is not None and flooded is not None else None


def _waiting(results: Results) -> float | None:
    ours, raw = results.median("idle-cost", "compoint"), results.median("idle-cost", "raw")
    return ours - raw if ours is not None and raw is not None else None


def _last_to_first(results: Results) -> float | None:
    first, last = results.median("first", "channel"), results.median("last", "channel")
    return last / first if first and last is not None else None


_RAW = "× raw"
_ZMQ = "× pyzmq"
_POST = "× best POST"
_FREE = (Placement.TWO,)

TARGETS = (
    Target(
        "ComPoint, blocking: 64 B round trip",
        _ratio("round-trip", "compoint-blocking", "raw"),
        1.15,
        True,
        _RAW,
    ),
    Target(
        "ComPoint, brief spin: 64 B round trip, a core free",
        _ratio("round-trip", "compoint", "raw"),
        0.5,
        True,
        _RAW,
        _FREE,
    ),
    Target(
        "ComPoint: waiting costs nothing measurable, beyond raw (tolerance 2 ms per s)",
        _waiting,
        2,
        True,
        "ms per s",
    ),
    Target(
        "ComPoint: 64 B one way",
        _ratio("one-way-64", "compoint", "zmq-push"),
        1.2,
        False,
        f"{_ZMQ} PUSH/PULL",
    ),
    Target("ComPoint: 64 B one way", _ratio("one-way-64", "compoint", "raw"), 4, False, _RAW),
    Target(
        "ComPoint: 1 KiB one way",
        _ratio("one-way-1k", "compoint", "zmq-push"),
        1,
        False,
        f"{_ZMQ} PUSH/PULL",
    ),
    Target("ComPoint: 1 MiB one way", _ratio("one-way-1m", "compoint", "raw"), 0.9, False, _RAW),
    Target(
        "ComPoint: typed small message, round trip",
        _ratio("typed", "compoint-typed", "compoint"),
        1.3,
        True,
        "× bytes",
    ),
    Target("Channel: 64 B round trip", _ratio("round-trip", "channel", "raw"), 1.3, True, _RAW),
    Target(
        "Channel, blocking: 64 B round trip",
        _ratio("round-trip", "channel-blocking", "raw"),
        1.3,
        True,
        _RAW,
    ),
    Target(
        "Channel: 64 B round trip",
        _ratio("round-trip", "channel", "zmq-pair"),
        1,
        True,
        f"{_ZMQ} PAIR",
    ),
    Target(
        "Channel: 64 B one way",
        _ratio("one-way-64", "channel", "zmq-push"),
        1,
        False,
        f"{_ZMQ} PUSH/PULL",
    ),
    Target(
        "8 threads on 8 channels of one connection, to 8 raw connections",
        _ratio("threads", "channel", "raw"),
        0.6,
        False,
        _RAW,
    ),
    Target(
        "8 threads on 8 channels of one connection",
        _ratio("threads", "channel", "zmq-dealer"),
        1,
        False,
        f"{_ZMQ} DEALER/ROUTER",
    ),
    Target(
        "Channel: p99 beside a flood, beyond the p99 beside an idle channel",
        _p99_beside_flood,
        1,
        True,
        "ms",
    ),
    Target("ComPoint: time to open, exchange and close", _opening_time, 1.5, True, _RAW),
    Target(
        "Channel on an existing connection: open, exchange, close",
        _value("opening", "channel"),
        5000,
        False,
        "per s",
    ),
    Target(
        "10 000 queued channels: each, responder's side",
        _value("responder", "channel"),
        4,
        True,
        "KiB",
    ),
    Target(
        "10 000 queued channels: each, initiator's side",
        _value("initiator", "channel"),
        4,
        True,
        "KiB",
    ),
    Target(
        "10 000 queued channels: the last 100 open as fast as the first (tolerance 1.25)",
        _last_to_first,
        1.25,
        True,
        "× first",
    ),
    Target(
        "ComPoint: receiving one large message, beyond its size",
        _value("memory", "compoint"),
        1,
        True,
        "MiB",
    ),
    Target(
        "Channel: receiving one large message, beyond its size",
        _value("memory", "channel"),
        1,
        True,
        "MiB",
    ),
    Target(
        "ComPoint over http, streaming: 64 B round trip",
        _to_best_post("http-round-trip", "http-streaming", min),
        0.35,
        True,
        _POST,
    ),
    Target(
        "ComPoint over http, polling: 64 B round trip",
        _to_best_post("http-round-trip", "http-polling", min),
        1.2,
        True,
        _POST,
    ),
    Target(
        "ComPoint over http: 64 B one way",
        _to_best_post("http-one-way-64", "http-streaming", max),
        20,
        False,
        _POST,
    ),
    Target(
        "ComPoint over http: 1 MiB one way",
        _ratio("http-one-way-1m", "http-streaming", "compoint"),
        0.5,
        False,
        "× tcp",
    ),
    *(
        target
        for peer, mode in (("http-streaming", "streaming"), ("http-polling", "polling"))
        for target in (
            Target(
                f"5 000 parked initiators over http, {mode}: each",
                _value("parked-each", peer),
                4,
                True,
                "KiB",
            ),
            Target(
                f"5 000 parked initiators over http, {mode}: a busy one beside them",
                _beside_parked(peer),
                1.5,
                True,
                "× alone",
            ),
        )
    ),
    Target(
        "ComPoint over mail: from submitting to read(), through Postfix",
        _ratio("mail-submit-to-read", "mail", "mail-trivial"),
        1.5,
        True,
        "× trivial script",
    ),
    Target(
        "ComPoint over mail: messages in turn, default acknowledge delay",
        _value("mail-ping-pong", "mail"),
        1.1,
        True,
        "mails per message",
    ),
    Target(
        "ComPoint over mail: one way, default rate",
        _value("mail-flood", "mail-default-rate"),
        20,
        False,
        "messages per mail",
    ),
    *(
        Target(
            f"ComPoint over mail: submitting small mails, {what}",
            _ratio("mail-submit", peer, "smtplib"),
            0.9,
            False,
            "× smtplib",
        )
        for peer, what in (("mail-submission", "alone"), ("mail-outbound", "out of the store"))
    ),
)


def verdicts(found: dict[Placement, Results]) -> list[tuple[Target, Placement, float | None]]:
    """Each target in each placement it holds for, with what was measured."""
    return [
        (target, placement, target.reading(results))
        for target in TARGETS
        for placement, results in found.items()
        if placement in target.placements
    ]


def targets_table(found: dict[Placement, Results]) -> str:
    """The targets as Markdown."""
    lines = [
        "## Targets",
        "",
        "| target | asked | placement | measured | |",
        "|---|---:|---|---:|---|",
    ]
    for target, placement, measured in verdicts(found):
        shown = "–" if measured is None else number(measured)
        lines.append(
            f"| {target.title} | {target.bound} | {placement.value} | {shown}"
            f" | {target.judge(measured)} |"
        )
    return "\n".join(lines)
