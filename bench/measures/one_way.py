"""As many messages as go through in one direction.

The receiver counts, and confirms the last one with one answer: the time runs from the
first write until that answer has come, so nothing that is merely buffered counts.
"""

from __future__ import annotations

import time
from typing import Any

from bench.measure import Figure, Measure, Run, Sample
from bench.peer import Line, Listener, Peer
from bench.scale import Scale

__all__ = ["OneWay"]

_MIB = 1024 * 1024
#: Never more than this in one repetition: it might all stand in some queue.
_MOST_BYTES = 512 * _MIB
#: Up to here messages per second tell more than bytes.
_SMALL_BYTES = 64 * 1024


class OneWay(Measure):
    """Messages of one size."""

    contenders: tuple[str, ...] = (
        "raw",
        "connection",
        "zmq-push",
        "websockets",
        "compoint",
        "channel",
    )

    def __init__(
        self, key: str, title: str, message_bytes: int, contenders: tuple[str, ...] = contenders
    ) -> None:
        self.contenders = contenders
        self._key = key
        self._title = title
        self._message_bytes = message_bytes
        self._is_small = message_bytes <= _SMALL_BYTES

    @property
    def key(self) -> str:
        return self._key

    def figures(self, scale: Scale) -> tuple[Figure, ...]:
        unit = "messages/s" if self._is_small else "MiB/s"
        return (Figure(self._key, self._title, unit, False),)

    def message_bytes(self, scale: Scale) -> int:
        return self._message_bytes

    def respond(self, listener: Listener, scale: Scale) -> None:
        listener.serve(_count_and_confirm, in_threads=False)

    def initiate(self, peer: Peer, address: str, scale: Scale) -> Run:
        line, message = peer.connect(address), peer.message()
        # Two probes: the first warms up, the second tells how many fill the time.
        _send_many(line, message, 200 if self._is_small else 8)
        rate = self._rate(line, message, 500 if self._is_small else 16)
        rate = self._rate(line, message, self._count(rate, scale.measuring_s / 10))
        rate = self._rate(line, message, self._count(rate, scale.measuring_s))
        return {self._key: Sample(rate if self._is_small else rate * self._message_bytes / _MIB)}

    def _rate(self, line: Line, message: Any, count: int) -> float:
        return count / _send_many(line, message, count)

    def _count(self, rate: float, measuring_s: float) -> int:
        most = _MOST_BYTES // self._message_bytes
        return max(16, min(int(rate * measuring_s), most))


def _send_many(line: Line, message: Any, count: int) -> float:
    """Send `count` messages and wait for the confirmation; the seconds it took."""
    send = line.send
    send(b"%d" % count)
    line.receive()
    began_at = time.perf_counter()
    for _ in range(count):
        send(message)
    line.receive()
    return time.perf_counter() - began_at


def _count_and_confirm(line: Line) -> None:
    receive = line.receive
    try:
        while True:
            count = int(bytes(receive()))
            line.send(b"ready")
            for _ in range(count):
                receive()
            line.send(b"all here")
    except line.ends:
        line.close()
