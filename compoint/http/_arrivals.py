"""Bytes that have arrived at a wire without a descriptor, and who waits for them."""

from __future__ import annotations

from collections.abc import Callable

from compoint.drive.waiter import Waiter

__all__ = ["Arrivals"]


class Arrivals:
    """What waits to be taken. `put` and `take` are called with the wire's lock held.

    Thousands of wires may be silent: where nothing waits is no list, and where nobody has
    slept yet no waiter.
    """

    __slots__ = ("_at", "_is_awake", "_pieces", "_waiter", "size", "when_ready")

    def __init__(self) -> None:
        self._pieces: list[bytes] | None = None
        #: How much of the first piece was taken.
        self._at = 0
        self._waiter: Waiter | None = None
        #: `wake` was called; looked at by the first to sleep only.
        self._is_awake = False
        self.size = 0
        #: To be called when there is something to do for the one who serves the wire.
        self.when_ready: Callable[[], None] | None = None

    def put(self, data: bytes) -> None:
        if self._pieces is None:
            self._pieces = [data]
        else:
            self._pieces.append(data)
        self.size += len(data)

    def take(self, most: int) -> bytes:
        """All that is here, up to `most` bytes; b"": nothing is here."""
        pieces = self._pieces or ()
        if len(pieces) == 1 and not self._at and self.size <= most:
            self.drop()
            return pieces[0]
        if pieces and len(pieces[0]) - self._at > most:
            data = pieces[0][self._at : self._at + most]
            self._at += most
            self.size -= most
            return data
        room = bytearray(min(most, self.size))
        self.take_into(memoryview(room))
        return bytes(room)

    def take_into(self, room: memoryview) -> int:
        """Fill `room` with what is here, as far as it goes; how many bytes that were."""
        pieces = self._pieces or []
        filled = done = 0
        while done < len(pieces) and filled < len(room):
            piece = pieces[done]
            part = min(len(piece) - self._at, len(room) - filled)
            room[filled : filled + part] = memoryview(piece)[self._at : self._at + part]
            filled += part
            self._at += part
            if self._at == len(piece):
                done += 1
                self._at = 0
        self._pieces = pieces[done:] or None
        self.size -= filled
        return filled

    def drop(self) -> None:
        """Nobody will take what is here."""
        self._pieces = None
        self.size = self._at = 0

    def tell(self) -> None:
        """There is something to do: wake whoever serves the wire. Without the lock."""
        self.wake()
        call = self.when_ready
        if call is not None:
            call()

    def wake(self) -> None:
        """Wake the thread in `sleep`, or the next one to come."""
        # Said before the look for a waiter, which is made before the look for what was said.
        self._is_awake = True
        if self._waiter is not None:
            self._waiter.wake()

    def sleep(self, timeout_s: float | None) -> None:
        """Sleep until `wake`, or until the time is over. One thread at a time."""
        if self._waiter is None:
            self._waiter = Waiter()
            if self._is_awake:
                return
        self._waiter.sleep(timeout_s)
