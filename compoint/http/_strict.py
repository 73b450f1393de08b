"""What is refused although h11 takes it: sizes it leaves open, and forms that another program
on the way may read differently (request smuggling).

h11 reads the requests. What stands here looks at the same bytes before h11 gets them and
lets pass only what every program reads alike. It decides alike however the bytes were cut.
"""

from __future__ import annotations

import re
from typing import Final

from compoint.http._exchange import problem
from compoint.limits import HTTP_CHUNK_LINE_BYTES

__all__ = ["ChunkGate", "Fault", "check_length", "head_end"]


class Fault(Exception):
    """The peer broke HTTP or a bound: what it is answered before it is left."""

    def __init__(self, status: int, code: str, detail: str, *, hint: str = "") -> None:
        super().__init__(detail)
        self.answer = problem(status, code, detail, hint=hint)


# Control characters, line ends without CR, and folded lines (RFC 9112 §2.2, §5.2). A CR that is
# not at the end of a line is refused by h11.
_ODD: Final = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|(?<!\r)\n|\n[ \t]")
_LENGTHS: Final = re.compile(rb"\ncontent-length:[ \t]*([^\r]*)", re.IGNORECASE)
#: More digits overflow the number of some program on the way.
_LENGTH: Final = re.compile(rb"[0-9]{1,18}[ \t]*")
# The same for the size of a chunk. An extension is read over (RFC 9112 §7.1.1); trailer
# fields are not taken.
_CHUNK: Final = re.compile(rb"([0-9A-Fa-f]{1,8})(?:;[\t\x20-\x7e\x80-\xff]*)?\r\n")
_TLS_HANDSHAKE: Final = b"\x16"


def head_end(data: bytes, looked: int, most_bytes: int, most_lines: int) -> int:
    """How long the head is that `data` begins with; 0 while it is not here whole.

    The first `looked` bytes have been looked at before.

    Raises:
        Fault: it is too long, or no head.
    """
    end = data.find(b"\r\n\r\n", max(0, looked - 3), most_bytes) + 4
    if end < 4:
        end = 0
    odd = _ODD.search(data, max(0, looked - 1), end or most_bytes)
    # Lines behind an oddity do not count: cut otherwise, they would not have been seen.
    if data.count(b"\n", 0, odd.start() + 1 if odd else end or most_bytes) > most_lines:
        raise Fault(431, "too large", f"a head of more than {most_lines} lines is not taken here")
    if odd:
        if data.startswith(_TLS_HANDSHAKE):
            raise Fault(400, "bad request", "this port speaks plain HTTP, not TLS")
        raise Fault(
            400, "bad request", "a control character, a bare line end or a folded line in the head"
        )
    if not end and len(data) >= most_bytes:
        raise Fault(431, "too large", f"a head of more than {most_bytes} bytes is not taken here")
    return end


def check_length(head: bytes) -> None:
    """For heads with a Content-Length: it is one number, once.

    h11 takes equal ones twice, as RFC 9110 §8.6 allows, and a number of any size.
    """
    lengths = _LENGTHS.findall(head)
    if len(lengths) != 1 or not _LENGTH.fullmatch(lengths[0]):
        raise Fault(400, "bad request", "Content-Length is not one number of at most 18 digits")


class ChunkGate:
    """Looks at a chunked body before h11 reads it."""

    __slots__ = ("_is_last", "_is_over", "_left", "_line")

    def __init__(self) -> None:
        #: Bytes of this chunk and of the CR LF behind it that are still to come.
        self._left = 0
        self._line = b""
        self._is_last = False
        self._is_over = False

    def check(self, data: bytes) -> None:
        """Raises Fault if this is no sequel; what follows the body is not looked at."""
        at = 0
        while at < len(data) and not self._is_over:
            if self._left:
                step = min(self._left, len(data) - at)
                self._left -= step
                at += step
                continue
            end = data.find(b"\n", at) + 1
            self._line += data[at : end or at + HTTP_CHUNK_LINE_BYTES + 1]
            if len(self._line) > HTTP_CHUNK_LINE_BYTES:
                raise Fault(400, "bad request", "the line before a chunk is too long")
            if not end:
                return
            at = end
            line, self._line = self._line, b""
            self._take(line)

    def _take(self, line: bytes) -> None:
        if self._is_last:
            if line != b"\r\n":
                raise Fault(400, "bad request", "fields behind a chunked body are not taken here")
            self._is_over = True
            return
        match = _CHUNK.fullmatch(line)
        if match is None:
            raise Fault(400, "bad request", "a chunk begins with its size, of at most 8 digits")
        size = int(match[1], 16)
        self._is_last = size == 0
        self._left = size + 2 if size else 0
