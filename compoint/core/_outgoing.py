"""The machine, floor 1: bytes for the peer. Knows single streams, and no other floor.

Small messages are gathered on their stream and sealed into one frame when the bytes are
taken, or before anything else of the stream is said: the order within a stream is kept,
streams among each other have none. See docs/PROTOCOL.md §4 and §5.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from compoint.core.framing import ASK_ACK, HEADER, Kind
from compoint.limits import CHUNK_BYTES, GATHER_BYTES, MESSAGE_TOLL_BYTES, SMALL_BYTES

if TYPE_CHECKING:
    from compoint.core.codes import Ending
    from compoint.core.stream import Stream

__all__ = ["CONNECTION", "Outgoing"]

_U64: Final = struct.Struct("!Q")
_TOLL: Final = MESSAGE_TOLL_BYTES

#: The connection itself, where a frame names a stream.
CONNECTION: Final = 0
_MESSAGE: Final = int(Kind.MESSAGE)


class Outgoing:
    """Commands in, bytes out."""

    __slots__ = ("_control_bytes", "_gathering", "_out", "ending")

    def __init__(self) -> None:
        #: Why the connection is over; None while it lives. Nothing is said afterwards.
        self.ending: Ending | None = None
        # No list while there is nothing in it: thousands of connections may be silent.
        self._out: list[bytes | memoryview] | None = None
        # Each stream with gathered messages, and perhaps some whose were sealed early.
        self._gathering: list[Stream] | None = None
        #: Bytes of control frames put in line since bytes were last taken.
        self._control_bytes = 0

    @property
    def has_output(self) -> bool:
        """Whether `take_output` has something to give."""
        return bool(self._out or self._gathering)

    def take_output(self) -> list[bytes | memoryview]:
        """All bytes for the peer, in order; gathered messages are sealed into frames."""
        if self._gathering:
            self._seal_all()
        self._control_bytes = 0
        out, self._out = self._out, None
        return out or []

    def _put(self, piece: bytes | memoryview) -> None:
        """Put bytes in line, behind all others."""
        if self._out is None:
            self._out = [piece]
        else:
            self._out.append(piece)

    # --- small messages -----------------------------------------------------------------

    def gather(self, stream: Stream, form: int, payload: bytes) -> None:
        """Put one message in line, whole; it leaves with the next `take_output`.

        The caller has seen that the stream is open, that nobody is in the middle of a
        large message, and that the credit covers it.
        """
        cost = len(payload) + _TOLL
        stream.out_cost += cost
        stream.written += 1
        if stream.gathered_form != form:
            self._seal(stream)
        if stream.gathered is None:
            stream.gathered = [payload]
            stream.gathered_form = form
            stream.gather_room = min(GATHER_BYTES, stream.out_limit - stream.out_cost)
            if self._gathering is None:
                self._gathering = [stream]
            else:
                self._gathering.append(stream)
        else:
            stream.gathered.append(payload)
            stream.gather_room -= cost

    def frame(self, stream: Stream, form: int, payload: bytes) -> bytes:
        """One small message as the frame that carries it, to be sent at once.

        As `gather`, but the caller has also seen that `has_output` is false: nothing that
        was said before is still here.
        """
        stream.out_cost += len(payload) + _TOLL
        stream.written += 1
        ack = stream.received & 0xFFFF_FFFF
        return HEADER.pack(_MESSAGE, form, 0, stream.number, ack, len(payload)) + payload

    def _seal_all(self) -> None:
        gathering, self._gathering = self._gathering, None
        for stream in gathering or ():
            self._seal(stream)

    def _seal(self, stream: Stream) -> None:
        """Turn what is gathered on the stream into frames."""
        bodies = stream.gathered
        if bodies is None:
            return
        stream.gathered = None
        if len(bodies) == 1 and len(bodies[0]) <= SMALL_BYTES:
            body = bodies[0]
            self._put(
                HEADER.pack(
                    Kind.MESSAGE, stream.gathered_form, 0,
                    stream.number, stream.received & 0xFFFF_FFFF, len(body),
                ) + body
            )  # fmt: skip
        else:
            self._bundle(stream, bodies)

    def _bundle(self, stream: Stream, bodies: list[bytes]) -> None:
        count = len(bodies)
        if count == 1:
            # Longer than a MESSAGE may be, and put in line whole all the same.
            size = _U64.pack(len(bodies[0]))
            self._say(stream, Kind.START, size, form=stream.gathered_form)
            self._say_more(stream, memoryview(bodies[0]))
            return
        text = b"".join(bodies)
        length = 4 * (count + 1) + len(text)
        if length > CHUNK_BYTES:
            # So much comes together while the wire is slow and many threads write.
            self._bundle(stream, bodies[: count // 2])
            self._bundle(stream, bodies[count // 2 :])
            return
        ack = stream.received & 0xFFFF_FFFF
        head = HEADER.pack(Kind.BUNDLE, stream.gathered_form, 0, stream.number, ack, length)
        table = struct.pack(f"!{count + 1}I", count, *map(len, bodies))
        self._put(b"".join((head, table, text)))

    # --- large messages -----------------------------------------------------------------

    def begin(self, stream: Stream, form: int, size: int) -> None:
        """Start a large message; its bytes follow with `more`."""
        if stream.out_left:
            raise ValueError("another message is not finished")
        stream.out_cost += _TOLL
        stream.out_left = size
        self._say(stream, Kind.START, _U64.pack(size), form=form)
        if not size:
            stream.written += 1

    def more(self, stream: Stream, piece: memoryview) -> None:
        """Give the next bytes of a large message; the caller has seen the credit.

        With its last bytes the message counts as written: the peer may confirm it before
        the caller runs again.
        """
        if not 0 < len(piece) <= stream.out_left:
            raise ValueError(f"{len(piece)} bytes, where {stream.out_left} are missing")
        stream.out_cost += len(piece)
        stream.out_left -= len(piece)
        if not stream.out_left:
            stream.written += 1
        self._say_more(stream, piece)

    def drop(self, stream: Stream) -> None:
        """Take back a large message that was not given whole.

        Its cost stays spent until the peer allows more. Does nothing when there is none:
        a goodbye has taken it back already.
        """
        if stream.out_left:
            stream.out_left = 0
            self._say(stream, Kind.DROP)

    # --- credit and confirmation ----------------------------------------------------------

    def grant(self, stream: Stream) -> None:
        """Allow the peer more, if that is worth a frame."""
        limit = stream.due_limit()
        if stream.is_open and limit - stream.in_limit >= stream.window // 4:
            stream.note_grant(limit)
            self._send_credit(stream)

    def set_stuck(self, stream: Stream, wide: int) -> None:
        """This side's program is stuck in writing (`wide` > 0), or is so no more (0).

        Stuck, it takes in what the peer writes, up to `wide`, as if it had been read.
        """
        stream.wide = wide
        if wide:
            self.grant(stream)

    def ask_ack(self, stream: Stream) -> None:
        """Ask the peer to confirm at once what it holds."""
        self._send_credit(stream, ASK_ACK)

    def _send_credit(self, stream: Stream, flags: int = 0) -> None:
        self._say(stream, Kind.CREDIT, _U64.pack(stream.in_limit), flags=flags)

    # --- frames -------------------------------------------------------------------------

    def _say(
        self, stream: Stream, kind: Kind, payload: bytes = b"", *, form: int = 0, flags: int = 0
    ) -> None:
        """Put a control frame of a stream in line, behind the messages gathered on it."""
        if self.ending is not None:
            return
        if stream.gathered is not None:
            self._seal(stream)
        ack = stream.received & 0xFFFF_FFFF
        head = HEADER.pack(kind, form, flags, stream.number, ack, len(payload))
        self._put(head + payload)
        self._control_bytes += len(head) + len(payload)

    def _say_more(self, stream: Stream, body: memoryview) -> None:
        if self.ending is not None:
            return
        ack = stream.received & 0xFFFF_FFFF
        for start in range(0, len(body), CHUNK_BYTES):
            piece = body[start : start + CHUNK_BYTES]
            self._put(HEADER.pack(Kind.MORE, 0, 0, stream.number, ack, len(piece)))
            self._put(piece)

    def _say_of(self, number: int, kind: Kind, payload: bytes = b"") -> None:
        """Put a frame in line for the connection, or for a stream that is unknown here."""
        if self.ending is None:
            head = HEADER.pack(kind, 0, 0, number, 0, len(payload))
            self._put(head + payload)
            self._control_bytes += len(head) + len(payload)
