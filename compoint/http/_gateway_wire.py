"""A wire whose other end is no wire: a conversation that HTTP requests move."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterable

from compoint.drive.wire import Wire
from compoint.http._arrivals import Arrivals

__all__ = ["GatewayWire"]


class GatewayWire(Wire):
    """The server's end. What it sends is taken at once, by the thread that sends it.

    It never finds the other end full: that end's machine takes in no more than the credit
    it has given.
    """

    has_heartbeat = False
    finds_path = True

    def __init__(
        self,
        peer: str,
        *,
        is_local: bool,
        take: Callable[[bytes], None],
        lost: Callable[[], None],
    ) -> None:
        self.peer = peer
        self.is_local = is_local
        self._take = take
        self._lost = lost
        # Held for a few steps; nothing else is taken inside it.
        self._lock = threading.Lock()
        self._arrivals = Arrivals()
        self._is_ended = False
        self._is_closed = False

    # --- the conversation's side ----------------------------------------------------------

    def put(self, buffers: Iterable[bytes | memoryview]) -> None:
        """Bytes for the server. The conversation's lock may be held."""
        with self._lock:
            if not self._is_closed:
                for buffer in buffers:
                    self._arrivals.put(bytes(buffer))
        self._arrivals.tell()

    def end(self) -> None:
        """Nothing will follow; what the server still sends has nobody to go to."""
        self._is_ended = True
        self._arrivals.tell()

    # --- the server's side ----------------------------------------------------------------

    def send(self, data: bytes | memoryview, /) -> int:
        if self._is_ended or self._is_closed:
            raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
        self._take(bytes(data))
        return len(data)

    def receive(self, most: int, /) -> bytes:
        with self._lock:
            is_over = self._is_over  # before looking: what was put before the end comes first
            data = self._arrivals.take(most)
        if not data and not is_over:
            raise BlockingIOError
        return data

    def receive_into(self, room: memoryview, /) -> int:
        data = self.receive(len(room))
        room[: len(data)] = data
        return len(data)

    @property
    def _is_over(self) -> bool:
        return self._is_ended or self._is_closed

    @property
    def _is_ready(self) -> bool:
        return bool(self._arrivals.size) or self._is_over

    def wait(self, timeout_s: float | None, *, to_send: bool) -> None:
        # A bell rung since the last look makes this return at once; nothing is missed.
        if not (to_send or self._is_ready):
            self._arrivals.sleep(timeout_s)

    def wake(self) -> None:
        self._arrivals.wake()

    def fileno(self) -> int:
        return -1

    def on_ready(self, call: Callable[[], None] | None) -> None:
        self._arrivals.when_ready = call
        if call is not None and self._is_ready:
            call()

    def close(self) -> None:
        with self._lock:
            was_closed, self._is_closed = self._is_closed, True
            self._arrivals.drop()
        self._arrivals.when_ready = None
        self._arrivals.wake()
        if not was_closed:
            self._lost()

    def close_copy(self) -> None:
        # The conversation of a child is a copy, too, and its lock may have been held by a
        # thread that does not exist here.
        self._is_closed = True
