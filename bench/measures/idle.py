"""What waiting costs: the processor time of a process whose thread waits for a message."""

from __future__ import annotations

import time

from bench.measure import Figure, Measure, Run, Sample, timed_round_trips
from bench.peer import Line, Listener, Peer
from bench.scale import Scale

__all__ = ["Idle"]

_PAUSE = b"answer later"


class Idle(Measure):
    """Quick answers first, so that whoever looks again before it sleeps expects another."""

    contenders = ("raw", "zmq-pair", "websockets", "compoint", "channel")

    @property
    def key(self) -> str:
        return "idle"

    def figures(self, scale: Scale) -> tuple[Figure, ...]:
        title = "processor time while waiting for a message"
        return (Figure("idle-cost", title, "ms per s", True),)

    def respond(self, listener: Listener, scale: Scale) -> None:
        def answer(line: Line) -> None:
            while True:
                message = line.receive()
                if message == _PAUSE:
                    time.sleep(scale.measuring_s)
                line.send(message)

        listener.serve(answer, in_threads=False)

    def initiate(self, peer: Peer, address: str, scale: Scale) -> Run:
        line = peer.connect(address)
        timed_round_trips(line, peer.message(), scale)
        began_at, used_before_s = time.perf_counter(), time.process_time()
        line.send(_PAUSE)
        line.receive()
        used_s = time.process_time() - used_before_s
        return {"idle-cost": Sample(used_s / (time.perf_counter() - began_at) * 1000)}
