"""One small message there and the answer back: of bytes, and of a user's class."""

from __future__ import annotations

import statistics

from bench.measure import Figure, Measure, Run, Sample, echo, timed_round_trips
from bench.peer import Listener, Peer
from bench.scale import Scale

__all__ = ["RoundTrip", "TypedRoundTrip"]


class RoundTrip(Measure):
    """64 B each way, one at a time."""

    contenders: tuple[str, ...] = (
        "raw",
        "connection",
        "zmq-pair",
        "websockets",
        "compoint",
        "compoint-blocking",
        "channel",
        "channel-blocking",
    )

    @property
    def key(self) -> str:
        return "round-trip"

    def figures(self, scale: Scale) -> tuple[Figure, ...]:
        return (Figure("round-trip", "64 B round trip", "µs", True),)

    def respond(self, listener: Listener, scale: Scale) -> None:
        listener.serve(echo, in_threads=False)

    def initiate(self, peer: Peer, address: str, scale: Scale) -> Run:
        times_us = timed_round_trips(peer.connect(address), peer.message(), scale)
        return {self.key: Sample(statistics.median(times_us), times_us)}


class TypedRoundTrip(RoundTrip):
    """A class with three fields each way, beside plain bytes of 64 B."""

    contenders = (
        "raw",
        "connection",
        "connection-pickle",
        "compoint",
        "compoint-typed",
        "channel",
        "channel-typed",
    )

    @property
    def key(self) -> str:
        return "typed"

    def figures(self, scale: Scale) -> tuple[Figure, ...]:
        return (Figure("typed", "three fields round trip (bytes: 64 B)", "µs", True),)
