"""Ten thousand channels queued on one port: their memory, and how fast they are opened."""

from __future__ import annotations

import gc
import json
import threading
import time

from bench.measure import Figure, Measure, Run, Sample
from bench.measures.memory import resident_bytes
from bench.peer import Line, Listener, Peer
from bench.scale import Scale

__all__ = ["Crowd"]

_KIB = 1024
_HUNDRED = 100


class Crowd(Measure):
    """Announced by one process, queued by the other, then claimed in order."""

    contenders = ("channel",)
    is_repeated = False

    @property
    def key(self) -> str:
        return "crowd"

    def figures(self, scale: Scale) -> tuple[Figure, ...]:
        crowd = f"{scale.crowd:,} channels queued on one port".replace(",", " ")
        return (
            Figure("responder", f"{crowd}: memory of each, responder's side", "KiB", True),
            Figure("initiator", f"{crowd}: memory of each, initiator's side", "KiB", True),
            Figure("first", f"{crowd}: opening the first 100 responders", "ms", True),
            Figure("last", f"{crowd}: opening the last 100 responders", "ms", True),
        )

    def respond(self, listener: Listener, scale: Scale) -> None:
        from bench.peers.ours import ChannelListener

        assert isinstance(listener, ChannelListener)
        hello = listener.claim("hello")
        hello.send(hello.receive())
        before_bytes = _settled_bytes()
        # The last one announced on the same connection: when it is here, all are.
        ready = listener.claim("ready")
        ready.receive()
        after_bytes = _settled_bytes()
        lines: list[Line] = []
        times_ms = []
        for start in range(0, scale.crowd, _HUNDRED):
            began_at = time.perf_counter()
            for number in range(start, min(start + _HUNDRED, scale.crowd)):
                lines.append(listener.claim(f"crowd-{number}"))
            times_ms.append((time.perf_counter() - began_at) * 1000)
        told = {
            "responder": (after_bytes - before_bytes) / scale.crowd / _KIB,
            "first": times_ms[0],
            "last": times_ms[-1],
        }
        ready.send(json.dumps(told).encode())
        threading.Event().wait()

    def initiate(self, peer: Peer, address: str, scale: Scale) -> Run:
        from bench.peers.ours import Channels

        assert isinstance(peer, Channels)
        hello = peer.connect_as(address, "hello")
        hello.send(peer.message())
        hello.receive()
        before_bytes = _settled_bytes()
        lines = [peer.connect_as(address, f"crowd-{number}") for number in range(scale.crowd)]
        ready = peer.connect_as(address, "ready")
        after_bytes = _settled_bytes()
        ready.send(b"all are announced")
        told = json.loads(ready.receive())
        own = (after_bytes - before_bytes) / len(lines) / _KIB
        return {name: Sample(value) for name, value in {**told, "initiator": own}.items()}


def _settled_bytes() -> int:
    gc.collect()
    return resident_bytes()
