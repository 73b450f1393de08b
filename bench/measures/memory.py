"""What one large message costs the process that receives it, beyond its own size."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Final

from bench.measure import Figure, Measure, Run, Sample
from bench.peer import Line, Listener, Peer
from bench.scale import Scale

__all__ = ["LargeMessage", "resident_bytes"]

_KIB = 1024
_MIB = 1024 * _KIB
_PROC: Final = Path("/proc/self")


def resident_bytes() -> int:
    """The memory of this process that is in use now."""
    return _status_bytes("VmRSS")


def _peak_bytes() -> int:
    # Not getrusage: its peak is inherited from the process that started this one.
    return _status_bytes("VmHWM")


def _status_bytes(name: str) -> int:
    for text in (_PROC / "status").read_text().splitlines():
        if text.startswith(f"{name}:"):
            return int(text.split()[1]) * _KIB
    raise RuntimeError(f"/proc/self/status has no {name}; this measure needs Linux")


def _forget_peak() -> None:
    """Start a new peak; where that is not allowed the old one stands, for everybody alike."""
    with contextlib.suppress(OSError):
        (_PROC / "clear_refs").write_text("5")


class LargeMessage(Measure):
    """A fresh process receives one message, after one small exchange."""

    contenders = (
        "raw",
        "connection",
        "zmq-pair",
        "websockets",
        "compoint",
        "channel",
    )
    is_repeated = False

    @property
    def key(self) -> str:
        return "memory"

    def figures(self, scale: Scale) -> tuple[Figure, ...]:
        large = f"one {scale.large_bytes // _MIB} MiB message"
        title = f"peak memory to receive {large}, beyond its size"
        return (Figure("memory", title, "MiB", True, is_compared=False),)

    def message_bytes(self, scale: Scale) -> int:
        return scale.large_bytes

    def respond(self, listener: Listener, scale: Scale) -> None:
        listener.serve(_receive_and_tell, in_threads=False)

    def initiate(self, peer: Peer, address: str, scale: Scale) -> Run:
        line = peer.connect(address)
        line.send(b"small")
        line.receive()
        line.send(peer.message())
        told = json.loads(bytes(line.receive()))
        return {"memory": Sample((told["peak_bytes"] - told["size_bytes"]) / _MIB)}


def _receive_and_tell(line: Line) -> None:
    line.send(line.receive())
    _forget_peak()
    before_bytes = _peak_bytes()
    size_bytes = len(line.receive())
    peak_bytes = _peak_bytes() - before_bytes
    line.send(json.dumps({"peak_bytes": peak_bytes, "size_bytes": size_bytes}).encode())
    try:
        line.receive()
    except line.ends:
        line.close()
