"""Frames: a fixed header of 16 bytes and a payload. See docs/PROTOCOL.md §3.

`FrameReader` turns bytes, cut anywhere, into frames. A frame whose payload is short
comes out whole. The payload of a MORE frame, or of any frame longer than its kind may
be, comes out in pieces, so that nobody holds it who does not want it: its bytes go
straight into the message they belong to, or nowhere.
"""

from __future__ import annotations

import enum
import struct
from typing import Final

from compoint.limits import CHUNK_BYTES, CONTROL_BYTES, SMALL_BYTES

__all__ = [
    "ASK_ACK",
    "HEADER",
    "LONGEST_BYTES",
    "MAY_SKIP",
    "PIECE",
    "Frame",
    "FrameReader",
    "Kind",
]

#: kind, form, flags, stream number, acknowledged messages (low 32 bits), payload length
HEADER: Final = struct.Struct("!BBHIII")
_HEADER_BYTES: Final = HEADER.size

#: Flags: the sender waits for a confirmation; a reader that does not know the kind skips it.
ASK_ACK: Final = 0x0001
MAY_SKIP: Final = 0x8000


class Kind(enum.IntEnum):
    """What a frame is (docs/PROTOCOL.md §4)."""

    MESSAGE = 1
    BUNDLE = 2
    START = 3
    MORE = 4
    DROP = 5
    CREDIT = 6
    ANNOUNCE = 7
    CLAIM = 8
    GOODBYE = 9
    RESET = 10
    PING = 11
    PONG = 12


#: No kind of the wire (those are bytes): the continuation of a payload in pieces.
PIECE: Final = -1

#: How long the payload of a kind may be; CONTROL_BYTES for those not named.
LONGEST_BYTES: Final[dict[int, int]] = {
    Kind.MESSAGE: SMALL_BYTES,
    Kind.BUNDLE: CHUNK_BYTES,
    Kind.MORE: CHUNK_BYTES,
}
#: Up to this length the payload of a kind is waited for and handed out whole.
_WHOLE_BYTES: Final[dict[int, int]] = {**LONGEST_BYTES, Kind.MORE: 0}

# kind, form, flags, stream, ack, payload (or its first piece), length of the whole payload
Frame = tuple[int, int, int, int, int, bytes | memoryview, int]


class FrameReader:
    """Bytes in, frames out; any chunking gives the same frames but for the size of pieces.

    Feed it, then call `next_frame` until it returns None. It judges no frame; it only
    knows which payloads are short enough to wait for.
    """

    __slots__ = ("_data", "_position", "left")

    def __init__(self) -> None:
        self._data = b""
        self._position = 0
        #: Bytes still to come of the payload that is being handed out in pieces.
        self.left = 0

    def feed(self, data: bytes) -> None:
        if self._position < len(self._data):
            self._data = self._data[self._position :] + data
        else:
            self._data = data
        self._position = 0

    @property
    def is_at_rest(self) -> bool:
        """Between two frames, with no byte waiting."""
        return not self.left and self._position >= len(self._data)

    @property
    def waiting(self) -> int:
        """How many bytes wait here for the rest of their frame."""
        return len(self._data) - self._position

    @property
    def is_empty(self) -> bool:
        """No byte is waiting here: what comes next may bypass the reader (see `bypass`)."""
        return self._position >= len(self._data)

    def bypass(self, count: int) -> None:
        """Note that `count` bytes of the current payload have gone where they belong."""
        self.left -= count

    def stop(self) -> None:
        """Forget everything: there is no frame any more."""
        self._data = b""
        self._position = 0
        self.left = 0

    def next_frame(self) -> Frame | None:
        """The next frame, or the next piece of one (`left` then says what is to come)."""
        data = self._data
        position = self._position
        if self.left:
            return self._next_piece()
        start = position + _HEADER_BYTES
        if start > len(data):
            return None
        kind, form, flags, stream, ack, length = HEADER.unpack_from(data, position)
        end = start + length
        if end <= len(data):
            self._position = end
            return (kind, form, flags, stream, ack, data[start:end], length)
        if length <= _WHOLE_BYTES.get(kind, CONTROL_BYTES):
            return None
        piece = memoryview(data)[start:]
        self._position = len(data)
        self.left = length - len(piece)
        return (kind, form, flags, stream, ack, piece, length)

    def _next_piece(self) -> Frame | None:
        if self.is_empty:
            return None
        piece = memoryview(self._data)[self._position : self._position + self.left]
        self._position += len(piece)
        self.left -= len(piece)
        return (PIECE, 0, 0, 0, 0, piece, 0)
