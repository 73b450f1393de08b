"""Eight threads on eight lines between the same two processes."""

from __future__ import annotations

import threading
import time

from bench.measure import Figure, Measure, Run, Sample, echo
from bench.peer import Line, Listener, Peer
from bench.scale import Scale

__all__ = ["EightThreads"]

_THREADS = 8


class EightThreads(Measure):
    """All round trips of all threads together."""

    contenders = ("raw", "zmq-dealer", "compoint", "channel")

    @property
    def key(self) -> str:
        return "threads"

    def figures(self, scale: Scale) -> tuple[Figure, ...]:
        title = "8 threads on 8 lines, 64 B round trips, total (channels: one connection)"
        return (Figure("threads", title, "per s", False),)

    def respond(self, listener: Listener, scale: Scale) -> None:
        listener.serve(echo, in_threads=True)

    def initiate(self, peer: Peer, address: str, scale: Scale) -> Run:
        group = _Group(peer, scale)
        threads = [
            threading.Thread(target=group.run, args=(peer.connect(address),), daemon=True)
            for _ in range(_THREADS)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if len(group.rates) < _THREADS:
            raise RuntimeError(f"only {len(group.rates)} of {_THREADS} threads came through")
        return {"threads": Sample(sum(group.rates))}


class _Group:
    """What the threads share: one start, and where each puts its rate."""

    def __init__(self, peer: Peer, scale: Scale) -> None:
        self._message = peer.message()
        self._scale = scale
        self._start = threading.Barrier(_THREADS)
        self.rates: list[float] = []

    def run(self, line: Line) -> None:
        send, receive, now = line.send, line.receive, time.perf_counter
        message, count = self._message, 0
        for _ in range(self._scale.warm_up // 10):
            send(message)
            receive()
        self._start.wait(timeout=10)
        began_at = now()
        ends_at = began_at + self._scale.measuring_s
        while now() < ends_at:
            send(message)
            receive()
            count += 1
        self.rates.append(count / (now() - began_at))
