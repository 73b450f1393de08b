"""A small round trip beside a flood of 1 MiB messages, and beside nothing.

Channels share one connection for both; others, raw sockets first of all, have one each.
"""

from __future__ import annotations

import statistics
import threading
import time

from bench.measure import Figure, Measure, Run, Sample, echo, timed_round_trips
from bench.peer import Line, Listener, Peer
from bench.scale import Scale

__all__ = ["Flood"]

_MIB = 1024 * 1024


class Flood(Measure):
    """Idle first, then flooded, on the same two lines."""

    contenders = ("raw", "connection", "compoint", "channel")

    @property
    def key(self) -> str:
        return "flood"

    def figures(self, scale: Scale) -> tuple[Figure, ...]:
        return (
            Figure("idle", "64 B round trip, other line idle", "µs", True),
            Figure("flooded", "64 B round trip, other line floods 1 MiB messages", "µs", True),
            Figure("flood", "what the flood carried meanwhile", "MiB/s", False),
        )

    def respond(self, listener: Listener, scale: Scale) -> None:
        listener.serve(_play_role, in_threads=True)

    def initiate(self, peer: Peer, address: str, scale: Scale) -> Run:
        small, large = peer.connect(address), peer.connect(address)
        small.send(b"echo")
        large.send(b"swallow")
        large.receive()
        message = peer.message()
        idle_us = timed_round_trips(small, message, scale)
        flooder = _Flooder(large)
        flooder.start()
        began_at, sent_before = time.perf_counter(), flooder.sent
        flooded_us = timed_round_trips(small, message, scale)
        elapsed_s = time.perf_counter() - began_at
        rate = (flooder.sent - sent_before) / elapsed_s
        if not flooder.is_alive():
            raise RuntimeError("the flood broke off")
        return {
            "idle": Sample(statistics.median(idle_us), idle_us),
            "flooded": Sample(statistics.median(flooded_us), flooded_us),
            "flood": Sample(rate),
        }


class _Flooder(threading.Thread):
    """Writes without a pause until the process ends."""

    def __init__(self, line: Line) -> None:
        super().__init__(daemon=True)
        self._send = line.send
        #: Messages of 1 MiB, so this is MiB, too.
        self.sent = 0

    def run(self) -> None:
        message = b"x" * _MIB
        while True:
            self._send(message)
            self.sent += 1


def _play_role(line: Line) -> None:
    if bytes(line.receive()) == b"echo":
        echo(line)
        return
    line.send(b"ready")
    try:
        while True:
            line.receive()
    except line.ends:
        line.close()
