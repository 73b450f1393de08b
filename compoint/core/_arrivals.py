"""The machine, floor 3: what each kind of frame does to the living stream it is for.

A handler raises ValueError or struct.error where the peer broke the rules; `_take_frame`
turns that into the end of this one stream. See docs/PROTOCOL.md §4.
"""

from __future__ import annotations

import struct
from itertools import accumulate
from typing import TYPE_CHECKING, Final

from compoint.core._lives import Lives, Side
from compoint.core.assembly import Assembly
from compoint.core.codes import Code
from compoint.core.framing import (
    ASK_ACK,
    LONGEST_BYTES,
    MAY_SKIP,
    FrameReader,
    Kind,
)
from compoint.limits import CONTROL_BYTES, MESSAGE_TOLL_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable

    from compoint.core.greeting import Greeting
    from compoint.core.stream import Stream

__all__ = ["Arrivals"]

_U64: Final = struct.Struct("!Q")
_COUNT: Final = struct.Struct("!I")
_TOLL: Final = MESSAGE_TOLL_BYTES


class Arrivals(Lives):
    """Frames of living streams in, messages and events out."""

    __slots__ = ("_filling", "_reader")

    def __init__(self, side: Side, ours: Greeting, *, is_kept: bool) -> None:
        super().__init__(side, ours, is_kept=is_kept)
        self._reader = FrameReader()
        #: The stream whose large message the reader's pieces belong to.
        self._filling: Stream | None = None

    def _take_frame(
        self,
        stream: Stream,
        kind: int,
        form: int,
        flags: int,
        payload: bytes | memoryview,
        length: int,
    ) -> None:
        """Take one frame, whole or (too long, or a MORE) its first piece."""
        try:
            if kind in _MESSAGES or kind in _CONTROLS or kind == Kind.MORE:
                if length > LONGEST_BYTES.get(kind, CONTROL_BYTES):
                    text = f"a {Kind(kind).name} frame of {length} bytes"
                    self._fault(stream, Code.FRAME_TOO_LONG, text)
                else:
                    self._take_known(stream, kind, form, payload, length)
            elif kind == Kind.ANNOUNCE:
                text = f"channel {stream.number} was announced before"
                self._fault(stream, Code.DUPLICATE_CHANNEL, text)
            elif not flags & MAY_SKIP:
                self._fault(stream, Code.UNKNOWN_FRAME, f"a frame of kind {kind} on a stream")
        except (struct.error, ValueError) as fault:
            text = f"a damaged {Kind(kind).name} frame ({fault})"
            self._fault(stream, Code.BAD_FRAME, text)
        if flags & ASK_ACK and not stream.goodbye_said:
            self._send_credit(stream)

    def _take_known(
        self, stream: Stream, kind: int, form: int, payload: bytes | memoryview, length: int
    ) -> None:
        if kind == Kind.MORE:
            self._take_more(stream, payload, length)
        elif kind in _MESSAGES:
            if self._expects_messages(stream):
                _MESSAGES[kind](self, stream, form, bytes(payload))
        else:
            _CONTROLS[kind](self, stream, bytes(payload))

    def _expects_messages(self, stream: Stream) -> bool:
        """Whether a message may come now; what comes after our own goodbye is not taken."""
        if stream.ending is not None:
            raise ValueError("a message behind the goodbye")
        return stream.is_open

    def _charge(self, stream: Stream, cost: int) -> bool:
        over = stream.in_cost + cost - stream.in_limit
        if over > 0:
            text = f"{over} bytes more than this side allowed"
            self._fault(stream, Code.CREDIT_OVERRUN, text)
            return False
        stream.in_cost += cost
        return True

    # --- small messages -----------------------------------------------------------------

    def _take_message(self, stream: Stream, form: int, payload: bytes) -> None:
        self._take_bodies(stream, form, [payload])

    def _take_bundle(self, stream: Stream, form: int, payload: bytes) -> None:
        (count,) = _COUNT.unpack_from(payload)
        start = _COUNT.size * (count + 1)
        if not count or start > len(payload):
            raise ValueError(f"a bundle of {count} messages in {len(payload)} bytes")
        lengths = struct.unpack_from(f"!{count}I", payload, _COUNT.size)
        ends = list(accumulate(lengths, initial=start))
        if ends[-1] != len(payload):
            raise ValueError("the lengths do not add up")
        bodies = list(map(payload.__getitem__, map(slice, ends, ends[1:])))
        self._take_bodies(stream, form, bodies)

    def _take_bodies(self, stream: Stream, form: int, bodies: list[bytes]) -> None:
        if stream.assembly is not None:
            raise ValueError("another message is not finished")
        if not self._charge(stream, sum(map(len, bodies)) + _TOLL * len(bodies)):
            return
        stream.received += len(bodies)
        stream.put([(form, body) for body in bodies] if form else bodies)
        self._touch(stream)
        if stream.wide:
            self.grant(stream)

    # --- large messages -----------------------------------------------------------------

    def _take_start(self, stream: Stream, form: int, payload: bytes) -> None:
        (size,) = _U64.unpack(payload)
        if stream.assembly is not None:
            raise ValueError("another message is not finished")
        if size > self.ours.message_limit:
            text = f"a message of {size} bytes, allowed are {self.ours.message_limit}"
            self._fault(stream, Code.MESSAGE_TOO_LARGE, text)
        elif self._charge(stream, _TOLL):
            stream.assembly = Assembly(form, size)
            if not size:
                self._complete(stream, stream.assembly)

    def _take_more(self, stream: Stream, payload: bytes | memoryview, length: int) -> None:
        if not self._expects_messages(stream):
            return
        assembly = stream.assembly
        if assembly is None:
            raise ValueError("no message was started")
        if not length:
            raise ValueError("no bytes")
        if assembly.position + length > assembly.size:
            raise ValueError("more bytes than the message has")
        if self._charge(stream, length):
            self._filling = stream
            self._take_piece(payload)

    def _take_piece(self, piece: bytes | memoryview) -> None:
        """The next bytes of the payload in hand: of a message, or of nobody's concern."""
        stream = self._filling
        if stream is not None and stream.assembly is not None:
            try:
                stream.assembly.take(piece)
            except MemoryError:
                text = f"no memory here for a message of {stream.assembly.size} bytes"
                self._fault(stream, Code.MESSAGE_TOO_LARGE, text)
        self._after_piece()

    def _after_piece(self) -> None:
        if self._reader.left:
            return
        stream, self._filling = self._filling, None
        # The stream may have ended while the bytes came; then they went nowhere.
        if stream is None or stream.assembly is None:
            return
        if stream.assembly.is_complete:
            self._complete(stream, stream.assembly)
        elif stream.in_limit - stream.in_cost < stream.large_window() // 2:
            self.grant(stream)

    def _complete(self, stream: Stream, assembly: Assembly) -> None:
        stream.assembly = None
        body = assembly.finish()
        stream.received += 1
        stream.put([(assembly.form, body) if assembly.form else body])
        self._touch(stream)

    def _take_drop(self, stream: Stream, payload: bytes) -> None:
        if not self._expects_messages(stream):
            return
        if stream.assembly is None or payload:
            raise ValueError("no message was started" if stream.assembly is None else "a payload")
        # The cost stays spent on both sides; no memory is held for it, so it counts as taken.
        stream.dropped_cost += stream.assembly.position + _TOLL
        stream.assembly = None
        stream.note_grant(stream.in_limit)
        self.grant(stream)

    # --- the rest -----------------------------------------------------------------------

    def _take_credit(self, stream: Stream, payload: bytes) -> None:
        (limit,) = _U64.unpack(payload)
        if limit > stream.out_limit:
            stream.out_limit = limit
            self._touch(stream)

    def _take_claim(self, stream: Stream, payload: bytes) -> None:
        if stream.is_claimed or self.side is Side.RESPONDER:
            raise ValueError("nobody waits for it")
        self._take_credit(stream, payload)
        stream.is_claimed = True
        self._touch(stream)

    def _take_goodbye(self, stream: Stream, payload: bytes) -> None:
        if stream.ending is not None:
            raise ValueError("the second")
        if stream.assembly is not None:
            raise ValueError("in the middle of a message")
        self._accept_goodbye(stream, payload)


# ruff: noqa: SLF001 - the tables belong to the class
_MESSAGES: Final[dict[int, Callable[[Arrivals, Stream, int, bytes], None]]] = {
    Kind.MESSAGE: Arrivals._take_message,
    Kind.BUNDLE: Arrivals._take_bundle,
    Kind.START: Arrivals._take_start,
}
_CONTROLS: Final[dict[int, Callable[[Arrivals, Stream, bytes], None]]] = {
    Kind.DROP: Arrivals._take_drop,
    Kind.CREDIT: Arrivals._take_credit,
    Kind.CLAIM: Arrivals._take_claim,
    Kind.GOODBYE: Arrivals._take_goodbye,
    Kind.RESET: Arrivals._accept_reset,
}
