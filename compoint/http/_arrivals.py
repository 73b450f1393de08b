"""Bytes that have arrived at a wire without a descriptor, and who waits for them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from compoint.drive.waiter import Waiter

__all__ = ["Arrivals"]


class Arrivals:
    """What waits to be taken. `put` and `take` are called with the wire's lock held."""

    __slots__ = ("_at", "_pieces", "_waiter", "size", "when_ready")

    def __init__(self) -> None:
        self._pieces: deque[bytes] = deque()
        #: How much of the first piece was taken.
        self._at = 0
        self._waiter = Waiter()
        self.size = 0
        #: To be called when there is something to do for the one who serves the wire.
        self.when_ready: Callable[[], None] | None = None

    def put(self, data: bytes) -> None:
        self._pieces.append(data)
        self.size += len(data)

    def take(self, most: int) -> bytes:
        """All that is here, up to `most` bytes; b"": nothing is here."""
        pieces = self._pieces
        if len(pieces) == 1 and not self._at and self.size <= most:
            self.size = 0
            return pieces.popleft()
        data = bytearray(min(most, self.size))
        self.take_into(memoryview(data))
        return bytes(data)

    def take_into(self, room: memoryview) -> int:
        """Fill `room` with what is here, as far as it goes; how many bytes that were."""
        pieces = self._pieces
        filled = 0
        while pieces and filled < len(room):
            piece = pieces[0]
            part = min(len(piece) - self._at, len(room) - filled)
            room[filled : filled + part] = memoryview(piece)[self._at : self._at + part]
            filled += part
            self._at += part
            if self._at == len(piece):
                pieces.popleft()
                self._at = 0
        self.size -= filled
        return filled

    def drop(self) -> None:
        """Nobody will take what is here."""
        self._pieces.clear()
        self.size = self._at = 0

    def tell(self) -> None:
        """There is something to do: wake whoever serves the wire. Without the lock."""
        self._waiter.wake()
        call = self.when_ready
        if call is not None:
            call()

    def wake(self) -> None:
        """Wake the thread in `sleep`, or the next one to come."""
        self._waiter.wake()

    def sleep(self, timeout_s: float | None) -> None:
        self._waiter.sleep(timeout_s)
