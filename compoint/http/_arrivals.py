"""Bytes that have arrived at a wire without a descriptor, and who waits for them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from compoint.drive.waiter import Waiter

__all__ = ["Arrivals"]


class Arrivals:
    """What waits to be taken. `put` and `take` are called with the wire's lock held."""

    __slots__ = ("_pieces", "_waiter", "size", "when_ready")

    def __init__(self) -> None:
        self._pieces: deque[bytes] = deque()
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
        if not pieces:
            return b""
        data = pieces.popleft()
        if pieces and len(data) < most:
            taken = [data]
            size = len(data)
            while pieces and size < most:
                taken.append(pieces.popleft())
                size += len(taken[-1])
            data = b"".join(taken)
        if len(data) > most:
            pieces.appendleft(data[most:])
            data = data[:most]
        self.size -= len(data)
        return data

    def drop(self) -> None:
        """Nobody will take what is here."""
        self._pieces.clear()
        self.size = 0

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
