"""The connection machine: one greeting, then many streams over one way for bytes.

Theory of operation. Bytes come in through `feed` (or straight into `room`), commands
through the verbs below; events and bytes go out through `take_events` and `take_output`.
A plain ComPoint is a connection with one stream, open from the greeting on; a connection
of channels has one stream for each channel, announced by the initiator and claimed by a
responder. Everything else (order, credit, confirmation, goodbye) is the same for both.

The machine never raises for the peer's doing. A fault on one stream resets that stream
and skips its bytes; only what leaves no boundary to trust ends the connection. The first
cause of an ending is kept. It raises only for misuse by its caller.

See docs/PROTOCOL.md §2–§6.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

from compoint.core.codes import REFUSALS, Code, Ending, How
from compoint.core.framing import (
    ASK_ACK,
    HEADER,
    MAY_SKIP,
    PIECE,
    WHOLE_BYTES,
    FrameReader,
    Kind,
)
from compoint.core.greeting import (
    VERSION,
    Foreign,
    Greeting,
    Mode,
    Refusal,
    parse_greeting,
)
from compoint.core.stream import Assembly, Stream
from compoint.limits import (
    CHANNELS_PER_CONNECTION,
    CONTROL_BYTES,
    CORRELATOR_BYTES,
    FIRST_CREDIT_BYTES,
    GREETING_S,
    HEARTBEATS_MISSED,
    MESSAGE_TOLL_BYTES,
    SKIP_BYTES,
    SMALL_BYTES,
)

__all__ = ["Connection", "ConnectionStatistics", "Event", "Happening", "Side"]

_U64: Final = struct.Struct("!Q")
_GOODBYE: Final = struct.Struct("!QH")  # messages taken by the program, code
_RESET: Final = struct.Struct("!HI")  # code, retry after ms
_COUNT: Final = struct.Struct("!I")
_NEVER_MS: Final = 0xFFFF_FFFF
_TOLL: Final = MESSAGE_TOLL_BYTES
_SMALL_COST: Final = SMALL_BYTES + _TOLL

#: The connection itself, where a frame names a stream.
CONNECTION: Final = 0
#: The one stream of a plain ComPoint.
PLAIN: Final = 1


class Side(enum.Enum):
    """Which end of the connection this machine is."""

    INITIATOR = "initiator"
    RESPONDER = "responder"


class Happening(enum.Enum):
    """What an event tells the shell."""

    GREETED = "greeted"  # the peer's greeting is here; a responder now says welcome or refuses
    TOUCHED = "touched"  # a stream has messages, credit, confirmations or an ending
    ANNOUNCED = "announced"  # the peer asks for a channel
    OVER = "over"  # nothing will ever come any more


Event = tuple[Happening, Stream | None]


@dataclass(frozen=True, slots=True)
class ConnectionStatistics:
    """A snapshot of one connection."""

    streams: int
    frames_in: int
    bytes_in: int
    heard_at: float
    is_greeted: bool
    ending: Ending | None


class Connection:
    """The protocol of one connection, seen from one side."""

    def __init__(
        self, side: Side, ours: Greeting, now: float, greeting_s: float = GREETING_S
    ) -> None:
        self.side = side
        self.ours = ours
        #: The peer's greeting, once it is here and (for a responder) welcomed.
        self.peer: Greeting | None = None
        #: A responder's view of a greeting it has not answered yet.
        self.asking: Greeting | None = None
        #: Why the connection is over; None while it lives.
        self.ending: Ending | None = None
        self.streams: dict[int, Stream] = {}
        self.plain: Stream | None = None
        self.heard_at = now
        self._greet_by = now + greeting_s
        self._greeting_s = greeting_s
        self._heartbeat_s = 0.0
        self._pinged = 0
        self._highest = PLAIN if ours.mode is Mode.PLAIN else 0
        self._reader = FrameReader()
        self._early = b""
        self._filling: Stream | None = None
        self._out: list[bytes | memoryview] = []
        self._gathering: list[Stream] = []
        #: Cost of what is gathered and not yet sealed into frames.
        self.gathered_cost = 0
        self._events: list[Event] = []
        self._frames_in = 0
        self.bytes_in = 0
        if side is Side.INITIATOR:
            self._out.append(ours.encode())
            if ours.mode is not Mode.CHANNELS:
                self._open_plain(FIRST_CREDIT_BYTES)

    # --- bytes in -----------------------------------------------------------------------

    def feed(self, data: bytes, now: float) -> None:
        """Take bytes from the peer, cut anywhere."""
        self.heard_at = now
        self._pinged = 0
        self.bytes_in += len(data)
        if self.ending is not None:
            return
        if self.peer is None:
            self._early += data
            self._read_greeting(now)
        else:
            self._reader.feed(data)
            self._read_frames()

    def room(self) -> memoryview | None:
        """Where the next bytes belong, while a large message is coming; else None.

        Bytes received straight into it are reported with `filled`, not with `feed`.
        """
        stream = self._filling
        if stream is None or not self._reader.is_empty:
            return None
        assembly = stream.assembly
        if assembly is None or not self._reader.left:
            return None
        return assembly.view[assembly.position : assembly.position + self._reader.left]

    def filled(self, count: int, now: float) -> None:
        """`count` bytes have been received into `room()`."""
        self.heard_at = now
        self._pinged = 0
        self.bytes_in += count
        self._reader.bypass(count)
        stream = self._filling
        # The stream may have ended while the bytes came; then they went nowhere.
        if stream is not None and stream.assembly is not None:
            stream.assembly.position += count
            self._after_piece(stream)

    def feed_end(self) -> None:
        """The peer's bytes have ended. In good order only after its goodbye."""
        if self.ending is None:
            if self.peer is None and self.side is Side.INITIATOR:
                seen = f" after {self._early[:16]!r}" if self._early else ""
                text = f"the peer closed the connection before its greeting{seen}"
                self._finish(Ending(How.FOREIGN, Code.BAD_GREETING, text))
            else:
                self.cut("the peer's process or the way to it is gone: end of data, no goodbye")

    def cut(self, text: str) -> None:
        """The way to the peer is lost; `text` says how that was noticed."""
        self._finish(Ending(How.CUT, Code.INTERNAL, text))

    # --- events and bytes out -----------------------------------------------------------

    def take_events(self) -> list[Event]:
        """What has happened since the last call, in order."""
        events = self._events
        if events:
            self._events = []
            for happening, stream in events:
                if happening is Happening.TOUCHED and stream is not None:
                    stream.is_touched = False
        return events

    @property
    def has_output(self) -> bool:
        return bool(self._out or self._gathering)

    def take_output(self) -> list[bytes | memoryview]:
        """All bytes for the peer, in order; gathered messages are sealed into frames."""
        if self._gathering:
            self._seal_all()
        out, self._out = self._out, []
        return out

    # --- time ---------------------------------------------------------------------------

    def next_timer(self) -> float | None:
        """When `on_timer` is due; None: never."""
        if self.ending is not None:
            return None
        if self.peer is None:
            return self._greet_by
        if not self._heartbeat_s:
            return None
        return self.heard_at + self._heartbeat_s * (self._pinged + 1)

    def on_timer(self, now: float) -> None:
        """The time has come: give up a peer that never greeted, ask a silent one."""
        due = self.next_timer()
        if due is None or now < due:
            return
        if self.peer is None:
            self._give_up_greeting()
        elif self._pinged < HEARTBEATS_MISSED:
            self._pinged += 1
            self._control(Kind.PING, None)
        else:
            silence = now - self.heard_at
            text = f"no sign of life from the peer for {silence:.3g} s"
            self._finish(Ending(How.CUT, Code.SILENT, text))

    def _give_up_greeting(self) -> None:
        waited = f"{self._greeting_s:.3g} s"
        if self.side is Side.RESPONDER:
            self._refuse_greeting(Code.GREETING_TIMEOUT, f"no greeting within {waited}")
        else:
            text = f"the peer took the connection and said nothing for {waited}"
            self._finish(Ending(How.FOREIGN, Code.GREETING_TIMEOUT, text))

    # --- greeting -----------------------------------------------------------------------

    def _read_greeting(self, now: float) -> None:
        if self.asking is not None:
            return  # frames behind a greeting that nobody has answered yet
        parsed = parse_greeting(self._early)
        if parsed is None:
            return
        greeting, used = parsed
        if isinstance(greeting, Foreign):
            self._meet_foreign(greeting)
            return
        if greeting.oldest > VERSION or greeting.newest < VERSION:
            self._meet_version(greeting)
            return
        if isinstance(greeting, Refusal):
            how = How.REFUSED if greeting.code in REFUSALS else How.FOREIGN
            self._finish(Ending(how, greeting.code, greeting.text, greeting.retry_after_s))
            return
        if (greeting.mode is Mode.WELCOME) != (self.side is Side.INITIATOR):
            text = f"a greeting in the wrong direction ({greeting.mode.name.lower()})"
            self._meet_foreign(Foreign(text))
            return
        self._early = self._early[used:]
        self._events.append((Happening.GREETED, None))
        if self.side is Side.RESPONDER:
            self.asking = greeting
        else:
            self._begin(greeting)

    def welcome(self) -> None:
        """Answer the greeting: the connection is wanted. Reads what came behind it."""
        if self.asking is None or self.ending is not None:
            return
        greeting, self.asking = self.asking, None
        self._out.append(self.ours.encode())
        if greeting.mode is not Mode.CHANNELS:
            self._open_plain(greeting.window)
        self._begin(greeting)

    def refuse(self, code: Code, text: str, retry_after_s: float | None = None) -> None:
        """Answer the greeting: the connection is not wanted."""
        if self.ending is None:
            self._refuse_greeting(code, text, retry_after_s)

    def _begin(self, greeting: Greeting) -> None:
        self.peer = greeting
        if self.ours.heartbeat_ms and greeting.heartbeat_ms:
            self._heartbeat_s = min(self.ours.heartbeat_ms, greeting.heartbeat_ms) / 1000
        if self.side is Side.INITIATOR and self.plain is not None:
            self.plain.out_limit = max(self.plain.out_limit, greeting.window)
        for stream in self.streams.values():
            self._touch(stream)
        early, self._early = self._early, b""
        if early:
            self._reader.feed(early)
            self._read_frames()

    def _open_plain(self, out_limit: int) -> None:
        self.plain = Stream(PLAIN, out_limit, self.ours.window)
        self.streams[PLAIN] = self.plain
        self._highest = PLAIN

    def _meet_foreign(self, foreign: Foreign) -> None:
        if self.side is Side.RESPONDER:
            if foreign.text == "an HTTP request":
                # Somebody's browser or curl: answer in the words it understands.
                self._out.append(_HTTP_ANSWER)
            else:
                self._out.append(Refusal(Code.BAD_GREETING, f"got {foreign.text}").encode())
        text = f"the peer does not speak our protocol: it sent {foreign.text}"
        self._finish(Ending(How.FOREIGN, Code.BAD_GREETING, text))

    def _meet_version(self, greeting: Greeting | Refusal) -> None:
        text = (
            f"this side speaks version {VERSION} of the protocol, "
            f"the peer versions {greeting.oldest} to {greeting.newest}"
        )
        if self.side is Side.RESPONDER:
            self._out.append(Refusal(Code.VERSION, text).encode())
        self._finish(Ending(How.VERSION, Code.VERSION, text))

    def _refuse_greeting(self, code: Code, text: str, retry_after_s: float | None = None) -> None:
        self._out.append(Refusal(code, text, retry_after_s).encode())
        self._finish(Ending(How.REFUSED, code, text, retry_after_s))

    # --- frames in ----------------------------------------------------------------------

    def _read_frames(self) -> None:
        next_frame = self._reader.next_frame
        streams = self.streams
        while (frame := next_frame()) is not None:
            kind, form, flags, number, ack, payload, left = frame
            if kind == PIECE:
                self._take_piece(payload)
                continue
            self._frames_in += 1
            stream = streams.get(number)
            if stream is None:
                self._stray(kind, flags, number, payload, left)
                if self.ending is not None:
                    return
                continue
            if ack != stream.acked & 0xFFFF_FFFF:
                if not stream.acknowledge(ack):
                    self._fault(stream, Code.BAD_FRAME, "a confirmation of unsent messages")
                    continue
                self._touch(stream)
            if kind == Kind.MESSAGE and stream.is_open and not left:
                cost = len(payload) + _TOLL
                if (
                    cost <= _SMALL_COST
                    and stream.in_cost + cost <= stream.in_limit
                    and stream.assembly is None
                    and not stream.wide
                ):
                    stream.in_cost += cost
                    stream.received += 1
                    stream.inbox.append((form, payload) if form else payload)  # type: ignore[arg-type]
                    if not stream.is_touched:
                        stream.is_touched = True
                        self._events.append((Happening.TOUCHED, stream))
                    if flags & ASK_ACK:
                        self._send_credit(stream)
                    continue
            self._take_frame(stream, kind, form, flags, payload, left)

    def _take_frame(
        self, stream: Stream, kind: int, form: int, flags: int, payload: bytes | memoryview, left: int
    ) -> None:
        handler = _HANDLERS.get(kind)
        length = len(payload) + left
        if handler is None:
            if not flags & MAY_SKIP:
                self._fault(stream, Code.UNKNOWN_FRAME, f"a frame of unknown kind {kind}")
        elif kind != Kind.MORE and (left or length > WHOLE_BYTES.get(kind, CONTROL_BYTES)):
            self._fault(stream, Code.FRAME_TOO_LONG, f"a {Kind(kind).name} frame of {length} bytes")
        else:
            try:
                handler(self, stream, form, payload, left)
            except (struct.error, ValueError) as fault:
                text = f"a damaged {Kind(kind).name} frame ({fault})"
                self._fault(stream, Code.BAD_FRAME, text)
        if left > SKIP_BYTES:
            self._leave_broken(Code.FRAME_TOO_LONG, f"a frame of {length} bytes")
        elif flags & ASK_ACK and not stream.goodbye_said:
            self._send_credit(stream)

    def _stray(
        self, kind: int, flags: int, number: int, payload: bytes | memoryview, left: int
    ) -> None:
        """A frame that belongs to no living stream."""
        length = len(payload) + left
        if left > SKIP_BYTES:
            self._leave_broken(Code.FRAME_TOO_LONG, f"a frame of {length} bytes")
        elif number == CONNECTION:
            self._take_connection_frame(kind, flags, payload, left)
        elif kind == Kind.ANNOUNCE:
            self._take_announce(number, payload, length)
        elif number > self._highest and kind not in (Kind.RESET, Kind.GOODBYE):
            # Numbers up to the highest were used once: what still comes for them is late.
            self._control(Kind.RESET, None, _reset(Code.NO_SUCH_CHANNEL, "unknown"), number)

    def _take_connection_frame(
        self, kind: int, flags: int, payload: bytes | memoryview, left: int
    ) -> None:
        if left:
            self._leave_broken(Code.FRAME_TOO_LONG, f"a control frame of {left} bytes and more")
        elif kind == Kind.PING:
            self._control(Kind.PONG, None)
        elif kind == Kind.GOODBYE:
            self._finish(Ending(How.GOODBYE, Code.CLOSED, "the peer closed the connection"))
        elif kind == Kind.RESET and len(payload) >= _RESET.size:
            self._finish(_ending_of_reset(bytes(payload)))
        elif kind != Kind.PONG and not flags & MAY_SKIP:
            self._leave_broken(Code.UNKNOWN_FRAME, f"a frame of unknown kind {kind}")

    def _take_announce(self, number: int, payload: bytes | memoryview, length: int) -> None:
        stream = Stream(number, 0, FIRST_CREDIT_BYTES)
        if number <= self._highest:
            code, text = Code.DUPLICATE_CHANNEL, f"channel {number} was announced before"
        elif self.side is Side.INITIATOR or self.plain is not None:
            code, text = Code.WRONG_MODE, "this side takes no channels"
        elif length - _U64.size > CORRELATOR_BYTES:
            code = Code.CORRELATOR_TOO_LONG
            text = f"a correlator of {length - _U64.size} bytes, allowed are {CORRELATOR_BYTES}"
        elif len(self.streams) >= CHANNELS_PER_CONNECTION:
            code = Code.TOO_MANY_CHANNELS
            text = f"{len(self.streams)} channels are open on this connection"
        else:
            self._queue_announced(stream, bytes(payload))
            return
        self._highest = max(self._highest, number)
        self._control(Kind.RESET, None, _reset(code, text), number)

    def _queue_announced(self, stream: Stream, payload: bytes) -> None:
        self._highest = stream.number
        try:
            (stream.out_limit,) = _U64.unpack_from(payload)
            stream.correlator = payload[_U64.size :].decode()
        except (struct.error, ValueError) as fault:
            text = f"a damaged ANNOUNCE frame ({fault})"
            self._control(Kind.RESET, None, _reset(Code.BAD_FRAME, text), stream.number)
            return
        stream.is_claimed = False
        stream.announced_at = self.heard_at
        self.streams[stream.number] = stream
        self._events.append((Happening.ANNOUNCED, stream))

    def _take_message(
        self, stream: Stream, form: int, payload: bytes | memoryview, left: int
    ) -> None:
        self._take_bodies(stream, form, [bytes(payload)])

    def _take_bundle(
        self, stream: Stream, form: int, payload: bytes | memoryview, left: int
    ) -> None:
        (count,) = _COUNT.unpack_from(payload)
        start = _COUNT.size * (count + 1)
        if not count or start > len(payload):
            raise ValueError(f"a bundle of {count} messages in {len(payload)} bytes")
        lengths = struct.unpack_from(f"!{count}I", payload, _COUNT.size)
        ends = list(accumulate(lengths, initial=start))
        if ends[-1] != len(payload):
            raise ValueError("the lengths do not add up")
        body = bytes(payload)
        self._take_bodies(stream, form, list(map(body.__getitem__, map(slice, ends, ends[1:]))))

    def _take_bodies(self, stream: Stream, form: int, bodies: list[bytes]) -> None:
        if not self._expects_messages(stream):
            return
        if stream.assembly is not None:
            raise ValueError("another message is not finished")
        cost = sum(map(len, bodies)) + _TOLL * len(bodies)
        if not self._charge(stream, cost):
            return
        stream.received += len(bodies)
        stream.inbox.extend([(form, body) for body in bodies] if form else bodies)
        self._touch(stream)
        if stream.wide:
            self.grant(stream)

    def _take_start(
        self, stream: Stream, form: int, payload: bytes | memoryview, left: int
    ) -> None:
        (size,) = _U64.unpack(payload)
        if not self._expects_messages(stream):
            return
        if stream.assembly is not None:
            raise ValueError("another message is not finished")
        if size > self.ours.message_limit:
            text = f"a message of {size} bytes, allowed are {self.ours.message_limit}"
            self._fault(stream, Code.MESSAGE_TOO_LARGE, text)
        elif self._charge(stream, _TOLL):
            stream.assembly = Assembly(form, size)

    def _take_more(
        self, stream: Stream, form: int, payload: bytes | memoryview, left: int
    ) -> None:
        assembly = stream.assembly
        if not self._expects_messages(stream):
            return
        length = len(payload) + left
        if assembly is None:
            raise ValueError("no message was started")
        if assembly.position + length > assembly.size:
            raise ValueError("more bytes than the message has")
        if self._charge(stream, length):
            self._filling = stream
            assembly.take(payload)
            self._after_piece(stream)

    def _take_piece(self, piece: bytes | memoryview) -> None:
        stream = self._filling
        if stream is not None and stream.assembly is not None:
            stream.assembly.take(piece)
            self._after_piece(stream)

    def _after_piece(self, stream: Stream) -> None:
        assembly = stream.assembly
        if self._reader.left or assembly is None:
            return
        self._filling = None
        if assembly.position == assembly.size:
            stream.assembly = None
            body = assembly.finish()
            stream.received += 1
            stream.inbox.append((assembly.form, body) if assembly.form else body)
            self._touch(stream)
        elif stream.in_limit - stream.in_cost < stream.window // 2:
            self.grant(stream)

    def _take_drop(
        self, stream: Stream, form: int, payload: bytes | memoryview, left: int
    ) -> None:
        if stream.assembly is not None:
            # The sender takes the same cost back, so both counts stay equal.
            stream.in_cost -= stream.assembly.position + _TOLL
            stream.assembly = None

    def _take_credit(
        self, stream: Stream, form: int, payload: bytes | memoryview, left: int
    ) -> None:
        (limit,) = _U64.unpack(payload)
        if limit > stream.out_limit:
            stream.out_limit = limit
            self._touch(stream)

    def _take_claim(
        self, stream: Stream, form: int, payload: bytes | memoryview, left: int
    ) -> None:
        if self.side is Side.RESPONDER:
            raise ValueError("only responders claim")
        stream.is_claimed = True
        self._take_credit(stream, form, payload, left)
        self._touch(stream)

    def _take_goodbye(
        self, stream: Stream, form: int, payload: bytes | memoryview, left: int
    ) -> None:
        taken, code = _GOODBYE.unpack_from(payload)
        text = bytes(payload[_GOODBYE.size :]).decode(errors="replace")
        if stream.assembly is not None:
            raise ValueError("goodbye in the middle of a message")
        stream.peer_unread = max(0, stream.acked - taken)
        self._end(stream, Ending(How.GOODBYE, Code.from_wire(code), text or "the peer closed"))

    def _take_reset(
        self, stream: Stream, form: int, payload: bytes | memoryview, left: int
    ) -> None:
        self._end(stream, _ending_of_reset(bytes(payload)))
        stream.goodbye_said = True  # nothing we could still say would be heard
        self._drop_if_done(stream)

    def _expects_messages(self, stream: Stream) -> bool:
        """Whether a message may come now; what comes after our own goodbye is not taken."""
        if stream.ending is not None:
            raise ValueError("a message behind the goodbye")
        return stream.is_open

    def _charge(self, stream: Stream, cost: int) -> bool:
        if stream.in_cost + cost > stream.in_limit:
            over = stream.in_cost + cost - stream.in_limit
            text = f"{over} bytes more than this side allowed"
            self._fault(stream, Code.CREDIT_OVERRUN, text)
            return False
        stream.in_cost += cost
        return True

    # --- endings ------------------------------------------------------------------------

    def _fault(self, stream: Stream, code: Code, text: str) -> None:
        """The peer broke the rules on one stream: only that one ends."""
        if self._filling is stream:
            self._filling = None
        if not stream.goodbye_said:
            self._control(Kind.RESET, stream, _reset(code, text))
            stream.goodbye_said = True
        self._end(stream, Ending(How.BROKEN, code, f"the peer broke the rules: {text}"))
        self._drop_if_done(stream)

    def _leave_broken(self, code: Code, text: str) -> None:
        """The peer's bytes can no longer be trusted: the connection ends."""
        self._control(Kind.RESET, None, _reset(code, text))
        self._finish(Ending(How.BROKEN, code, f"the peer broke the rules: {text}"))

    def _end(self, stream: Stream, ending: Ending) -> None:
        if stream.ending is None:
            stream.ending = ending
        stream.is_open = False
        stream.assembly = None
        self._touch(stream)
        self._drop_if_done(stream)

    def _drop_if_done(self, stream: Stream) -> None:
        if stream.ending is not None and stream.goodbye_said:
            self.forget(stream)

    def _finish(self, ending: Ending) -> None:
        if self.ending is not None:
            return
        self.ending = ending
        for stream in list(self.streams.values()):
            self._end(stream, ending)
        self._filling = None
        self._events.append((Happening.OVER, None))

    def _touch(self, stream: Stream) -> None:
        if not stream.is_touched:
            stream.is_touched = True
            self._events.append((Happening.TOUCHED, stream))

    # --- commands: messages out ---------------------------------------------------------

    def gather(self, stream: Stream, form: int, payload: bytes) -> None:
        """Put one small message in line; it leaves with the next `take_output`.

        The caller has seen that the stream is open, that nobody is in the middle of a
        large message, and that the credit covers it.
        """
        cost = len(payload) + _TOLL
        stream.out_cost += cost
        stream.written += 1
        self.gathered_cost += cost
        if stream.gathered is None:
            stream.gathered = [payload]
            stream.gathered_form = form
            self._gathering.append(stream)
        elif stream.gathered_form == form:
            stream.gathered.append(payload)
        else:
            self._seal(stream)
            stream.gathered = [payload]
            stream.gathered_form = form
            self._gathering.append(stream)

    def begin(self, stream: Stream, form: int, size: int) -> None:
        """Start a large message; its bytes follow with `more`."""
        stream.out_cost += _TOLL
        self._control(Kind.START, stream, _U64.pack(size), form=form)

    def more(self, stream: Stream, piece: memoryview) -> None:
        """Send the next bytes of a large message; the caller has seen the credit."""
        stream.out_cost += len(piece)
        self._control(Kind.MORE, stream, b"", length=len(piece))
        self._out.append(piece)

    def finish(self, stream: Stream) -> None:
        """The last bytes of a large message have been given."""
        stream.written += 1

    def drop(self, stream: Stream, sent: int) -> None:
        """Take back a large message of which `sent` bytes were given."""
        stream.out_cost -= sent + _TOLL
        self._control(Kind.DROP, stream)

    def _seal_all(self) -> None:
        for stream in list(self._gathering):
            self._seal(stream)
        self.gathered_cost = 0

    def _seal(self, stream: Stream) -> None:
        bodies = stream.gathered
        if bodies is None:
            return
        stream.gathered = None
        self._gathering.remove(stream)
        ack = stream.received & 0xFFFF_FFFF
        form = stream.gathered_form
        if len(bodies) == 1:
            body = bodies[0]
            head = HEADER.pack(Kind.MESSAGE, form, 0, stream.number, ack, len(body))
            self._out.append(head + body)
            return
        count = len(bodies)
        table = struct.pack(f"!{count + 1}I", count, *map(len, bodies))
        text = b"".join(bodies)
        length = len(table) + len(text)
        head = HEADER.pack(Kind.BUNDLE, form, 0, stream.number, ack, length)
        self._out.append(b"".join((head, table, text)))

    # --- commands: the life of a stream -------------------------------------------------

    def announce(self, correlator: str) -> Stream:
        """Ask for a channel; messages may follow at once, up to the first credit."""
        self._highest += 1
        stream = Stream(self._highest, FIRST_CREDIT_BYTES, self.ours.window)
        stream.is_claimed = False
        stream.correlator = correlator
        self.streams[stream.number] = stream
        payload = _U64.pack(stream.in_limit) + correlator.encode()
        self._control(Kind.ANNOUNCE, stream, payload)
        return stream

    def claim(self, stream: Stream) -> None:
        """A responder is here for a queued channel."""
        stream.is_claimed = True
        stream.window = self.ours.window
        stream.note_grant(stream.due_limit())
        self._control(Kind.CLAIM, stream, _U64.pack(stream.in_limit))

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

    def goodbye(self, stream: Stream) -> None:
        """This side's program has closed: no message will follow, none will be read."""
        if stream.goodbye_said:
            return
        stream.goodbye_said = True
        payload = _GOODBYE.pack(stream.taken, Code.CLOSED)
        flags = ASK_ACK if stream.confirmed < stream.written and stream.ending is None else 0
        self._control(Kind.GOODBYE, stream, payload, flags=flags)
        stream.is_open = False
        stream.assembly = None
        self._drop_if_done(stream)

    def reset(
        self, stream: Stream, code: Code, text: str, retry_after_s: float | None = None
    ) -> None:
        """End a stream at once; the peer's program is told why."""
        if not stream.goodbye_said:
            stream.goodbye_said = True
            self._control(Kind.RESET, stream, _reset(code, text, retry_after_s))
        self._end(stream, Ending(How.BROKEN, code, text))

    def forget(self, stream: Stream) -> None:
        """Nothing more is wanted of this stream; what still comes for it is late."""
        self.streams.pop(stream.number, None)
        if stream.gathered is not None:
            self._seal(stream)

    def leave(self, code: Code, text: str) -> None:
        """Say goodbye to the whole connection."""
        if self.ending is None:
            if code is Code.CLOSED:
                self._control(Kind.GOODBYE, None, _GOODBYE.pack(0, code))
                self._finish(Ending(How.GOODBYE, code, text))
            else:
                self._control(Kind.RESET, None, _reset(code, text))
                self._finish(Ending(How.BROKEN, code, text))

    # --- frames out ---------------------------------------------------------------------

    def _send_credit(self, stream: Stream, flags: int = 0) -> None:
        self._control(Kind.CREDIT, stream, _U64.pack(stream.in_limit), flags=flags)

    def _control(
        self,
        kind: Kind,
        stream: Stream | None,
        payload: bytes = b"",
        number: int = CONNECTION,
        *,
        form: int = 0,
        flags: int = 0,
        length: int | None = None,
    ) -> None:
        ack = 0
        if stream is not None:
            if stream.gathered is not None:
                self._seal(stream)
            number = stream.number
            ack = stream.received & 0xFFFF_FFFF
        size = len(payload) if length is None else length
        self._out.append(HEADER.pack(kind, form, flags, number, ack, size) + payload)

    def statistics(self) -> ConnectionStatistics:
        return ConnectionStatistics(
            streams=len(self.streams),
            frames_in=self._frames_in,
            bytes_in=self.bytes_in,
            heard_at=self.heard_at,
            is_greeted=self.peer is not None,
            ending=self.ending,
        )


Handler = Callable[[Connection, Stream, int, bytes | memoryview, int], None]

_HANDLERS: Final[dict[int, Handler]] = {
    Kind.MESSAGE: Connection._take_message,
    Kind.BUNDLE: Connection._take_bundle,
    Kind.START: Connection._take_start,
    Kind.MORE: Connection._take_more,
    Kind.DROP: Connection._take_drop,
    Kind.CREDIT: Connection._take_credit,
    Kind.CLAIM: Connection._take_claim,
    Kind.GOODBYE: Connection._take_goodbye,
    Kind.RESET: Connection._take_reset,
}


def _reset(code: Code, text: str, retry_after_s: float | None = None) -> bytes:
    retry_ms = _NEVER_MS if retry_after_s is None else min(round(retry_after_s * 1000), _NEVER_MS)
    return _RESET.pack(code, retry_ms) + text.encode()[:1024]


def _ending_of_reset(payload: bytes) -> Ending:
    code, retry_ms = _RESET.unpack_from(payload)
    text = payload[_RESET.size :].decode(errors="replace")
    code = Code.from_wire(code)
    how = How.REFUSED if code in REFUSALS else How.BROKEN
    return Ending(how, code, text, None if retry_ms == _NEVER_MS else retry_ms / 1000)


#: For browsers and curl that came to the wrong port.
_HTTP_ANSWER: Final = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n"
    b"This port speaks the ComPoint protocol, not HTTP.\r\n"
)
