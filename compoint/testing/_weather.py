"""A bad network: a proxy between an initiator and a server that sees every byte.

One thread moves the bytes of all its connections. What it does is given by settings that
may change at any time, and by chance drawn from a seed, so a run can be repeated.
"""

from __future__ import annotations

import collections
import contextlib
import random
import selectors
import socket
import struct
import threading
import time
from typing import TYPE_CHECKING, Final, Self

from compoint.testing._patience import eventually

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["Weather"]

_HOLD_BYTES: Final = 64 * 1024


class _Way:
    """The bytes of one direction of one connection."""

    def __init__(self, source: socket.socket, target: socket.socket) -> None:
        self.source = source
        self.target = target
        self.held: collections.deque[tuple[float, bytes]] = collections.deque()
        self.held_bytes = 0
        self.is_ended = False
        self.is_shut = False
        #: The other direction of the same connection.
        self.back: _Way = self


class Weather:
    """Stands between an initiator and the server at `port`; initiators come to `self.port`.

    `chunk_bytes`: at most so many bytes are passed on at once, how many exactly is drawn
    from the seed (1: byte by byte). `delay_s`: how long every byte is under way.
    """

    def __init__(
        self, port: int, *, seed: int = 0, chunk_bytes: int = _HOLD_BYTES, delay_s: float = 0.0
    ) -> None:
        self._target_port = port
        self._draw = random.Random(seed)  # noqa: S311 - weather, not secrets
        self.chunk_bytes = chunk_bytes
        self.delay_s = delay_s
        #: Bytes passed on so far: to the server, to the initiators.
        self.forwarded = {"up": 0, "down": 0}
        self._cut_after = {"up": -1, "down": -1}
        self._is_stalled = False
        self._is_over = False
        self._orders: collections.deque[str] = collections.deque()
        self._ways: list[tuple[_Way, str]] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.setblocking(False)
        self.port: int = self._listener.getsockname()[1]
        self._bell, self._ring = socket.socketpair()
        self._selector = selectors.DefaultSelector()
        self._thread = threading.Thread(target=self._run, name="weather", daemon=True)
        self._thread.start()

    # --- what a test asks for -----------------------------------------------------------

    def stall(self) -> None:
        """Pass nothing on any more; nobody is told."""
        self._is_stalled = True
        self._order("look")

    def resume(self) -> None:
        self._is_stalled = False
        self._order("look")

    def cut(self) -> None:
        """Reset all connections, on both sides; what was under way is gone."""
        self._order("cut")
        eventually(lambda: not self._ways, what="the weather cuts all connections")

    def half_close(self, direction: str = "up") -> None:
        """End the bytes of one direction ("up": to the server); the other goes on."""
        self._order(f"end {direction}")

    def cut_after(self, count: int, direction: str = "up") -> None:
        """Cut everything when so many more bytes have passed in this direction."""
        self._cut_after[direction] = self.forwarded[direction] + count

    def _order(self, what: str) -> None:
        self._orders.append(what)
        self._ring.send(b"!")

    def close(self) -> None:
        self._is_over = True
        self._order("cut")
        self._thread.join(5)
        self._ring.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # --- the thread ---------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not self._is_over or self._orders:
                self._turn()
        finally:
            self._cut_all()
            self._listener.close()
            self._bell.close()
            self._selector.close()

    def _turn(self) -> None:
        self._watch()
        ready = {key.fileobj for key, _ in self._selector.select(self._pause_s())}
        if self._bell in ready:
            self._bell.recv(4096)
        while self._orders:
            self._obey(self._orders.popleft())
        if self._listener in ready:
            self._take_visitor()
        for way, direction in list(self._ways):
            if way.source.fileno() < 0:
                continue  # cut in this very turn
            if way.source in ready:
                self._take(way)
            self._give(way, direction)
        self._ways = [one for one in self._ways if one[0].source.fileno() >= 0]

    def _pause_s(self) -> float | None:
        if self._is_stalled:
            return None
        due = [way.held[0][0] for way, _ in self._ways if way.held and self.delay_s]
        return max(0.0, min(due) - time.monotonic()) if due else None

    def _watch(self) -> None:
        wanted: dict[socket.socket, int] = {
            self._bell: selectors.EVENT_READ,
            self._listener: selectors.EVENT_READ,
        }
        if not self._is_stalled:
            now = time.monotonic()
            for way, _ in self._ways:
                if not way.is_ended and way.held_bytes < _HOLD_BYTES:
                    wanted[way.source] = wanted.get(way.source, 0) | selectors.EVENT_READ
                if way.held and way.held[0][0] <= now:
                    wanted[way.target] = wanted.get(way.target, 0) | selectors.EVENT_WRITE
        for key in list(self._selector.get_map().values()):
            if key.fileobj not in wanted:
                self._selector.unregister(key.fileobj)
        for sock, events in wanted.items():
            try:
                self._selector.modify(sock, events)
            except KeyError:
                self._selector.register(sock, events)

    def _obey(self, order: str) -> None:
        if order == "cut":
            self._cut_all()
        elif order.startswith("end "):
            for way, direction in self._ways:
                if direction == order[4:]:
                    way.is_ended = True
                    way.held.clear()
                    self._shut(way)

    def _take_visitor(self) -> None:
        near, _ = self._listener.accept()
        try:
            far = socket.create_connection(("127.0.0.1", self._target_port), timeout=5)
        except OSError:
            near.close()
            return
        for sock in (near, far):
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        up, down = _Way(near, far), _Way(far, near)
        up.back, down.back = down, up
        self._ways += [(up, "up"), (down, "down")]

    def _take(self, way: _Way) -> None:
        try:
            data = way.source.recv(_HOLD_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            way.held.append((time.monotonic() + self.delay_s, data))
            way.held_bytes += len(data)
        else:
            way.is_ended = True

    def _give(self, way: _Way, direction: str) -> None:
        now = time.monotonic()
        while way.held and way.held[0][0] <= now and not self._is_stalled:
            due, data = way.held[0]
            most = self._draw.randint(1, self.chunk_bytes)
            until_cut = self._cut_after[direction] - self.forwarded[direction]
            if self._cut_after[direction] >= 0:
                most = min(most, until_cut)
            if most <= 0:
                self._cut_after[direction] = -1
                self._cut_all()
                return
            try:
                sent = way.target.send(data[:most])
            except BlockingIOError:
                return
            except OSError:
                self._cut_one(way)
                return
            self.forwarded[direction] += sent
            way.held_bytes -= sent
            if sent == len(data):
                way.held.popleft()
            else:
                way.held[0] = (due, data[sent:])
        if way.is_ended and not way.held:
            self._shut(way)

    def _shut(self, way: _Way) -> None:
        if not way.is_shut:
            way.is_shut = True
            with contextlib.suppress(OSError):
                way.target.shutdown(socket.SHUT_WR)
            if way.back.is_shut:
                self._close(way.source)
                self._close(way.target)

    def _cut_all(self) -> None:
        for way, _ in self._ways:
            self._cut_one(way)
        self._ways = []

    def _cut_one(self, way: _Way) -> None:
        for sock in (way.source, way.target):
            if sock.fileno() >= 0:
                linger = struct.pack("ii", 1, 0)
                with contextlib.suppress(OSError):
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                self._close(sock)

    def _close(self, sock: socket.socket) -> None:
        if sock.fileno() >= 0:
            with contextlib.suppress(KeyError):
                self._selector.unregister(sock)
            sock.close()
