"""A large message on its way in."""

from __future__ import annotations

from io import BytesIO

from compoint.limits import SMALL_BYTES

__all__ = ["Assembly"]


class Assembly:
    """The memory of a message that comes in pieces, filled as the bytes come.

    The size a peer claims is believed once the first bytes of the message are here:
    address space is bounded, too, and a claim costs the peer nothing. Then the final
    memory is taken at once: `bytes(n)` asks the system for zeroed pages, which cost
    nothing until they are written, and a BytesIO gives its buffer away without a copy.
    So one message needs its own size once, however large it is.
    """

    __slots__ = ("_room", "_store", "_view", "form", "position", "size")

    def __init__(self, form: int, size: int) -> None:
        self.form = form
        self.size = size
        self.position = 0
        self._store = BytesIO()
        self._view: memoryview | None = None
        self._room: memoryview | None = None

    @property
    def is_complete(self) -> bool:
        return self.position == self.size

    def room(self, length: int) -> memoryview | None:
        """Where the next `length` bytes belong; None as long as the size is not believed."""
        if self._view is None:
            return None
        self._room = self._view[self.position : self.position + length]
        return self._room

    def take(self, piece: bytes | memoryview) -> None:
        """Add the next bytes. MemoryError: the system has no room for such a message."""
        end = self.position + len(piece)
        if self._view is None:
            if end < SMALL_BYTES:
                self._store.write(piece)
                self.position = end
                return
            first = self._store.getvalue()
            self._store = BytesIO(bytes(self.size))
            self._view = self._store.getbuffer()
            self._view[: self.position] = first
        self._view[self.position : end] = piece
        self.position = end

    def since(self, start: int) -> bytes:
        """A copy of what came behind the first `start` bytes."""
        if self._view is None:
            return self._store.getvalue()[start : self.position]
        return bytes(self._view[start : self.position])

    def took(self, count: int) -> None:
        """Note that `count` bytes have been put into `room()`."""
        self.position += count

    def finish(self) -> bytes:
        """The whole message. Neither this object nor its rooms may be used afterwards."""
        # As long as a view is held, perhaps by the shell, `getvalue` would make a copy.
        for view in (self._room, self._view):
            if view is not None:
                view.release()
        return self._store.getvalue()
