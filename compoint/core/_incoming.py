"""The machine, floor 4: which frame concerns whom, and what comes of those for nobody.

See docs/PROTOCOL.md §3 and §4. The first branch of `_read_frames` is the hot path of
the whole product: one small message for an open stream, without a further call.
"""

from __future__ import annotations

import struct
from collections import deque
from typing import TYPE_CHECKING, Final

from compoint.core._arrivals import Arrivals
from compoint.core._lives import PLAIN, Happening, Side
from compoint.core._outgoing import CONNECTION
from compoint.core.codes import Code, Ending, encode_reason
from compoint.core.framing import ASK_ACK, HEADER, MAY_SKIP, PIECE, Kind
from compoint.core.stream import NOTHING, Stream
from compoint.limits import (
    CHANNELS_PER_CONNECTION,
    CONTROL_BYTES,
    CORRELATOR_BYTES,
    FIRST_CREDIT_BYTES,
    MESSAGE_TOLL_BYTES,
    SKIP_BYTES,
    SMALL_BYTES,
)

if TYPE_CHECKING:
    from compoint.core.greeting import Greeting

__all__ = ["Incoming"]

_U64: Final = struct.Struct("!Q")
_TOLL: Final = MESSAGE_TOLL_BYTES
_HEADER_BYTES: Final = HEADER.size
# A member of an enum costs a look-up of its own, too much where every message passes.
_MESSAGE: Final = int(Kind.MESSAGE)


class Incoming(Arrivals):
    """Bytes behind the greeting in."""

    __slots__ = ("_frames_in", "_pinged", "bytes_in", "heard_at")

    def __init__(self, side: Side, ours: Greeting, now: float, *, is_kept: bool) -> None:
        super().__init__(side, ours, is_kept=is_kept)
        #: When the peer was last heard, and how many bytes it has sent.
        self.heard_at = now
        self.bytes_in = 0
        self._frames_in = 0
        #: Signs of life asked for since then.
        self._pinged = 0

    # --- straight into a large message ----------------------------------------------------

    def room(self) -> memoryview | None:
        """Where the next bytes belong, while a large message is coming; else None.

        Bytes received straight into it are reported with `filled`, not with `feed`.
        """
        stream = self._filling
        if stream is None or stream.assembly is None or not self._reader.is_empty:
            return None
        return stream.assembly.room(self._reader.left)

    def filled(self, count: int, now: float) -> None:
        """`count` bytes have been received into `room()`."""
        self.heard_at = now
        self._pinged = 0
        self.bytes_in += count
        self._reader.bypass(count)
        stream = self._filling
        if stream is not None and stream.assembly is not None:
            stream.assembly.took(count)
        self._after_piece()

    # --- frames -------------------------------------------------------------------------

    def _take_lone_message(self, data: bytes) -> bool:
        """Take exactly one small message that breaks no rule; anything else is left.

        A round trip is made of such bytes, so they get the shortest way: it does in one
        step what the reader and `_read_frames` do for every frame.
        """
        if len(data) < _HEADER_BYTES or not self._reader.is_at_rest:
            return False
        kind, form, flags, number, ack, length = HEADER.unpack_from(data)
        stream = self._lone
        if stream is None or number != PLAIN:
            stream = self._channels.get(number)
        if kind != _MESSAGE or flags or length != len(data) - _HEADER_BYTES or stream is None:
            return False
        acked = stream.acked + ((ack - stream.acked) & 0xFFFF_FFFF)
        cost = stream.in_cost + length + _TOLL
        if (
            acked > stream.written
            or cost > stream.in_limit
            or length > SMALL_BYTES
            or stream.has_waiters
            or stream.wide
            or stream.assembly is not None
            or not stream.is_open
        ):
            return False
        self._frames_in += 1
        stream.acked = acked
        stream.in_cost = cost
        stream.received += 1
        body = data[_HEADER_BYTES:]
        if stream.inbox is NOTHING:
            stream.inbox = deque()
        stream.inbox.append((form, body) if form else body)
        return True

    def _read_frames(self) -> None:
        next_frame = self._reader.next_frame
        channels = self._channels
        while (frame := next_frame()) is not None:
            kind, form, flags, number, ack, payload, length = frame
            stream = self._lone
            if stream is None or number != PLAIN:
                stream = channels.get(number)
            if stream is None or kind < 0 or length > SKIP_BYTES:
                self._take_other(kind, flags, number, payload, length)
                continue
            self._frames_in += 1
            if ack != stream.acked & 0xFFFF_FFFF:
                if not stream.acknowledge(ack):
                    self._fault(stream, Code.BAD_FRAME, "a confirmation of unsent messages")
                    continue
                self._touch(stream)
            if kind == _MESSAGE and stream.is_open and length <= SMALL_BYTES:
                cost = length + _TOLL
                if (
                    stream.in_cost + cost <= stream.in_limit
                    and stream.assembly is None
                    and not stream.wide
                ):
                    stream.in_cost += cost
                    stream.received += 1
                    if stream.inbox is NOTHING:
                        stream.inbox = deque()
                    stream.inbox.append((form, payload) if form else payload)  # type: ignore[arg-type]
                    if not stream.is_touched:
                        stream.is_touched = True
                        self.events.append((Happening.TOUCHED, stream))
                    if flags & ASK_ACK:
                        self._send_credit(stream)
                    continue
            self._take_frame(stream, kind, form, flags, payload, length)

    def _take_other(
        self, kind: int, flags: int, number: int, payload: bytes | memoryview, length: int
    ) -> None:
        """A piece of a payload, or a frame that is not for a living stream."""
        if kind == PIECE:
            self._take_piece(payload)
            return
        self._frames_in += 1
        if length > SKIP_BYTES:
            self._leave_broken(Code.FRAME_TOO_LONG, f"a frame of {length} bytes")
        elif number == CONNECTION:
            self._take_own(kind, flags, payload, length)
        elif kind == Kind.ANNOUNCE:
            self._take_announce(number, payload, length)
        elif number > self._highest and kind not in (Kind.RESET, Kind.GOODBYE):
            # Numbers up to the highest were used once: what still comes for them is late.
            text = f"channel {number} was never announced"
            self._say_of(number, Kind.RESET, encode_reason(Code.NO_SUCH_CHANNEL, text, None))

    def _take_own(self, kind: int, flags: int, payload: bytes | memoryview, length: int) -> None:
        """A frame for the connection itself."""
        if kind not in (Kind.PING, Kind.PONG, Kind.GOODBYE, Kind.RESET):
            if not flags & MAY_SKIP:
                text = f"a frame of kind {kind} for the connection itself"
                self._leave_broken(Code.UNKNOWN_FRAME, text)
        elif length > CONTROL_BYTES:
            text = f"a {Kind(kind).name} frame of {length} bytes"
            self._leave_broken(Code.FRAME_TOO_LONG, text)
        elif kind == Kind.PING:
            self._say_of(CONNECTION, Kind.PONG)
        elif kind != Kind.PONG:
            try:
                self._accept_end(kind, bytes(payload))
            except struct.error as fault:
                self._leave_broken(Code.BAD_FRAME, f"a damaged {Kind(kind).name} frame ({fault})")

    # --- channels -----------------------------------------------------------------------

    def _take_announce(self, number: int, payload: bytes | memoryview, length: int) -> None:
        if self.side is Side.INITIATOR or self.plain is not None:
            code, text = Code.WRONG_MODE, "this side takes no channels"
        elif self.is_leaving:
            code, text = Code.STOPPED, "one side has left this connection"
        elif number <= self._highest:
            code, text = Code.DUPLICATE_CHANNEL, f"channel {number} or a later one was announced"
        elif length - _U64.size > CORRELATOR_BYTES:
            code = Code.CORRELATOR_TOO_LONG
            text = f"a correlator of {length - _U64.size} bytes, allowed are {CORRELATOR_BYTES}"
        elif len(self.streams) >= CHANNELS_PER_CONNECTION:
            code = Code.TOO_MANY_CHANNELS
            text = f"{len(self.streams)} channels are open on this connection"
        else:
            try:
                self._queue_announced(number, bytes(payload))
            except (struct.error, ValueError) as fault:
                code, text = Code.BAD_FRAME, f"a damaged ANNOUNCE frame ({fault})"
            else:
                return
        if self.side is Side.RESPONDER:
            self._highest = max(self._highest, number)
        self._say_of(number, Kind.RESET, encode_reason(code, text, None))

    def _queue_announced(self, number: int, payload: bytes) -> None:
        (out_limit,) = _U64.unpack_from(payload)
        stream = Stream(number, out_limit, FIRST_CREDIT_BYTES, is_kept=self.is_kept)
        stream.correlator = payload[_U64.size :].decode()
        stream.is_claimed = False
        self._highest = number
        self._channels[number] = stream
        self.events.append((Happening.ANNOUNCED, stream))

    def _finish(self, ending: Ending) -> None:
        super()._finish(ending)
        self._filling = None
        self._reader.stop()
