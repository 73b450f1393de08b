"""What a measure is: two roles, played in two processes, and the figures that come out."""

from __future__ import annotations

import abc
import time
from dataclasses import dataclass, field
from typing import Any

from bench.peer import Line, Listener, Peer
from bench.scale import Scale

__all__ = ["Figure", "Measure", "Run", "Sample", "echo", "timed_round_trips"]


@dataclass(frozen=True, slots=True)
class Figure:
    """One group of rows of the table."""

    key: str
    title: str
    unit: str
    less_is_better: bool
    #: Whether a ratio to the raw loop says anything; beside nearly nothing it does not.
    is_compared: bool = True


@dataclass(frozen=True, slots=True)
class Sample:
    """What one repetition found for one figure; single times only where there are any."""

    value: float
    times_us: list[float] = field(default_factory=list)


#: One repetition with one peer: the samples by figure key.
Run = dict[str, Sample]


class Measure(abc.ABC):
    """The same script for every peer that takes part."""

    #: Peers by key, in the order of the table; "raw" takes part wherever it can.
    contenders: tuple[str, ...]
    #: Whether repeating it tells more than doing it once.
    is_repeated = True

    @property
    @abc.abstractmethod
    def key(self) -> str:
        """Its name for `--only` and in the JSON file."""

    @abc.abstractmethod
    def figures(self, scale: Scale) -> tuple[Figure, ...]:
        """What it finds out."""

    def message_bytes(self, scale: Scale) -> int:
        """The size of its messages."""
        return 64

    @abc.abstractmethod
    def respond(self, listener: Listener, scale: Scale) -> None:
        """The responder's part; may go on until its process is ended."""

    @abc.abstractmethod
    def initiate(self, peer: Peer, address: str, scale: Scale) -> Run:
        """The initiator's part, which measures."""


def echo(line: Line) -> None:
    """Send back what comes until the other side closes."""
    send, receive = line.send, line.receive
    try:
        while True:
            send(receive())
    except line.ends:
        line.close()


def timed_round_trips(line: Line, message: Any, scale: Scale) -> list[float]:
    """Warm up, then ask and wait for the answer as long as the scale says; in µs each."""
    send, receive, now = line.send, line.receive, time.perf_counter_ns
    for _ in range(scale.warm_up):
        send(message)
        receive()
    times_ns: list[int] = []
    note = times_ns.append
    ends_at = now() + int(scale.measuring_s * 1e9)
    while (began_at := now()) < ends_at:
        send(message)
        receive()
        note(now() - began_at)
    return [time_ns / 1000 for time_ns in times_ns]
