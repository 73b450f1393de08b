"""Opening: with one exchange and closing again, and opening channels alone."""

from __future__ import annotations

import threading
import time

from bench.measure import Figure, Measure, Run, Sample, echo
from bench.peer import Line, Listener, Peer
from bench.scale import Scale

__all__ = ["Opening", "OpeningAlone"]


class Opening(Measure):
    """Open, ask, hear the answer, close; again and again, one at a time.

    For channels the connection exists: the first, untimed rounds have opened it.
    """

    contenders = ("raw", "connection", "zmq-dealer", "websockets", "compoint", "channel")

    @property
    def key(self) -> str:
        return "opening"

    def figures(self, scale: Scale) -> tuple[Figure, ...]:
        return (Figure("opening", "open + one exchange + close", "per s", False),)

    def respond(self, listener: Listener, scale: Scale) -> None:
        listener.serve(echo, in_threads=False)

    def initiate(self, peer: Peer, address: str, scale: Scale) -> Run:
        message, now = peer.message(), time.perf_counter
        for _ in range(5):
            _once(peer.connect(address), message)
        times_us: list[float] = []
        began_at = now()
        while now() < began_at + scale.measuring_s and len(times_us) < scale.most_opens:
            one_began_at = now()
            _once(peer.connect(address), message)
            times_us.append((now() - one_began_at) * 1e6)
        rate = len(times_us) / (now() - began_at)
        return {"opening": Sample(rate, times_us)}


def _once(line: Line, message: object) -> None:
    line.send(message)
    line.receive()
    line.close()


class OpeningAlone(Measure):
    """Channels opened one after the other on an existing connection, nothing said on them.

    The time runs until the answer on a last channel shows that all of them have arrived.
    """

    contenders = ("channel",)

    @property
    def key(self) -> str:
        return "opening-alone"

    def figures(self, scale: Scale) -> tuple[Figure, ...]:
        return (Figure("opening-alone", "open alone, connection exists", "per s", False),)

    def respond(self, listener: Listener, scale: Scale) -> None:
        from bench.peers.ours import ChannelListener

        assert isinstance(listener, ChannelListener)
        for correlator in ("first", "last"):
            line = listener.claim(correlator)
            line.send(line.receive())
        # The process, and with it the queue, stays until it is ended.
        threading.Event().wait()

    def initiate(self, peer: Peer, address: str, scale: Scale) -> Run:
        from bench.peers.ours import Channels

        assert isinstance(peer, Channels)
        first = peer.connect_as(address, "first")
        first.send(peer.message())
        first.receive()
        began_at = time.perf_counter()
        # Kept alive, so that nothing of closing is in the time.
        lines = [peer.connect_as(address, f"line-{n}") for n in range(scale.most_opens)]
        last = peer.connect_as(address, "last")
        last.send(peer.message())
        last.receive()
        elapsed_s = time.perf_counter() - began_at
        return {"opening-alone": Sample((len(lines) + 1) / elapsed_s)}
