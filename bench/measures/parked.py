"""Thousands of initiators that wait over HTTP: their memory, and one that is busy beside."""

from __future__ import annotations

import gc
import json
import resource
import statistics
import threading

from bench.measure import Figure, Measure, Run, Sample, timed_round_trips
from bench.measures.memory import resident_bytes
from bench.peer import Line, Listener, Peer
from bench.scale import Scale

__all__ = ["Parked"]

_KIB = 1024
_PARK = b"the others come now"
_TELL = b"what did they cost?"


class Parked(Measure):
    """Accepted by the program and silent: each holds a poll, or a stream, at the server.

    They are played by bare sockets, so that their own process costs the machine little; the
    busy one is a real initiator, measured before they come and again beside them.
    """

    contenders = ("http-streaming", "http-polling")
    is_repeated = False

    @property
    def key(self) -> str:
        return "http-parked"

    def figures(self, scale: Scale) -> tuple[Figure, ...]:
        parked = f"HTTP: {scale.parked:,} parked initiators".replace(",", " ")
        busy = "64 B round trip of a busy one"
        return (
            Figure("parked-each", f"{parked}: memory of each, server's side", "KiB", True),
            Figure("parked-alone", f"{parked}: {busy}, before they came", "µs", True),
            Figure("parked-beside", f"{parked}: {busy}, beside them", "µs", True),
        )

    def respond(self, listener: Listener, scale: Scale) -> None:
        from bench.peers.ours import PlainListener

        assert isinstance(listener, PlainListener)
        _allow_descriptors()
        busy = listener.accept()
        _echo_until(busy, _PARK)
        before_bytes = _settled_bytes()
        busy.send(b"come")
        points = [listener.accept_point() for _ in range(scale.parked)]
        _echo_until(busy, _TELL)
        each = (_settled_bytes() - before_bytes) / len(points) / _KIB
        busy.send(json.dumps(each).encode())
        threading.Event().wait()

    def initiate(self, peer: Peer, address: str, scale: Scale) -> Run:
        from bench.peers.ours_http import Http

        assert isinstance(peer, Http)
        _allow_descriptors()
        busy, message = peer.connect(address), peer.message()
        alone_us = timed_round_trips(busy, message, scale)
        _ask(busy, _PARK)
        # Kept alive, so that they stay connected.
        parked = [peer.park(address) for _ in range(scale.parked)]
        beside_us = timed_round_trips(busy, message, scale)
        each = json.loads(_ask(busy, _TELL))
        assert len(parked) == scale.parked
        return {
            "parked-each": Sample(each),
            "parked-alone": Sample(statistics.median(alone_us), alone_us),
            "parked-beside": Sample(statistics.median(beside_us), beside_us),
        }


def _ask(line: Line, question: bytes) -> bytes:
    line.send(question)
    return bytes(line.receive())


def _echo_until(line: Line, last: bytes) -> None:
    while (message := line.receive()) != last:
        line.send(message)


def _allow_descriptors() -> None:
    """As many as the system lets this process have: each initiator needs one or two."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _settled_bytes() -> int:
    gc.collect()
    return resident_bytes()
