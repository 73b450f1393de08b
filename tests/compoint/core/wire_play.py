"""A stage for the protocol machine: a scripted peer, and what the machine says and sees."""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from compoint.core.codes import Code, encode_reason
from compoint.core.connection import Connection, Happening, Side
from compoint.core.framing import HEADER, Kind
from compoint.core.greeting import Greeting, Mode, Refusal

if TYPE_CHECKING:
    from compoint.core.stream import Stream

WINDOW = 1 << 20
FIRST = 1 << 16
TOLL = 64
SESSION = bytes(range(16))
NOBODY = (Happening.OVER, None)


# --- frames -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Frame:
    """One frame, as it is written in a play."""

    kind: int
    payload: bytes = b""
    stream: int = 1
    ack: int = 0
    flags: int = 0
    form: int = 0

    def encode(self) -> bytes:
        return self.head(len(self.payload)) + self.payload

    def head(self, length: int) -> bytes:
        """The header alone, with whatever length it claims."""
        return HEADER.pack(self.kind, self.form, self.flags, self.stream, self.ack, length)

    def with_(self, **changes: Any) -> Frame:
        return replace(self, **changes)

    def __repr__(self) -> str:
        name = Kind(self.kind).name if self.kind in set(Kind) else f"kind {self.kind}"
        parts = [name, f"stream={self.stream}"]
        parts += [f"{n}={getattr(self, n)}" for n in ("ack", "flags", "form") if getattr(self, n)]
        shown = self.payload if len(self.payload) < 80 else self.payload[:60] + b"..."
        return f"<{' '.join(parts)} {len(self.payload)}: {shown!r}>"


def frames_in(data: bytes) -> list[Frame]:
    """Take a whole number of frames apart."""
    found = []
    position = 0
    while position < len(data):
        kind, form, flags, stream, ack, length = HEADER.unpack_from(data, position)
        position += HEADER.size + length
        assert position <= len(data), "half a frame"
        payload = data[position - length : position]
        found.append(Frame(kind, payload, stream, ack, flags, form))
    return found


def u64(number: int) -> bytes:
    return struct.pack("!Q", number)


def message(body: bytes, **more: Any) -> Frame:
    return Frame(Kind.MESSAGE, body, **more)


def bundle(*bodies: bytes, **more: Any) -> Frame:
    table = struct.pack(f"!{len(bodies) + 1}I", len(bodies), *map(len, bodies))
    return Frame(Kind.BUNDLE, table + b"".join(bodies), **more)


def start(size: int, **more: Any) -> Frame:
    return Frame(Kind.START, u64(size), **more)


def more(piece: bytes, **rest: Any) -> Frame:
    return Frame(Kind.MORE, piece, **rest)


def drop(**rest: Any) -> Frame:
    return Frame(Kind.DROP, **rest)


def credit(limit: int, **rest: Any) -> Frame:
    return Frame(Kind.CREDIT, u64(limit), **rest)


def announce(number: int, correlator: str = "orders", limit: int = WINDOW) -> Frame:
    return Frame(Kind.ANNOUNCE, u64(limit) + correlator.encode(), number)


def claim(number: int, limit: int = WINDOW, **rest: Any) -> Frame:
    return Frame(Kind.CLAIM, u64(limit), number, **rest)


def goodbye(taken: int = 0, text: str = "", **rest: Any) -> Frame:
    return Frame(Kind.GOODBYE, struct.pack("!QH", taken, Code.CLOSED) + text.encode(), **rest)


def reset(code: Code, text: str, retry_after_s: float | None = None, **rest: Any) -> Frame:
    return Frame(Kind.RESET, encode_reason(code, text, retry_after_s), **rest)


def ping() -> Frame:
    return Frame(Kind.PING, stream=0)


def pong() -> Frame:
    return Frame(Kind.PONG, stream=0)


# --- the scene --------------------------------------------------------------------------------


def greeting(mode: Mode, **changes: Any) -> Greeting:
    """The greeting of either side, unless a play wants another."""
    given = {"message_limit": 1 << 30, "window": WINDOW, "heartbeat_ms": 0, "session": SESSION}
    return Greeting(mode, **(given | changes))


class Scene:
    """One machine on the stage; the peer says what the play tells it to say."""

    def __init__(
        self, side: Side, mode: Mode = Mode.PLAIN, *, ours: Any = None, **changes: Any
    ) -> None:
        self.mode = mode
        own = mode if side is Side.INITIATOR else Mode.WELCOME
        self.ours = ours or greeting(own, **changes)
        self.machine = Connection(side, self.ours, 0.0)
        self.now = 0.0

    # --- the peer

    def peer_says(self, *said: Frame | Greeting | Refusal | bytes) -> None:
        """The peer's bytes arrive, all at once."""
        data = b"".join(part if isinstance(part, bytes) else part.encode() for part in said)
        self.machine.feed(data, self.now)

    def peer_greets(self, mode: Mode | None = None, **changes: Any) -> None:
        if mode is None:
            mode = Mode.WELCOME if self.machine.side is Side.INITIATOR else self.mode
        self.peer_says(greeting(mode, **changes))

    def after_greetings(self, **changes: Any) -> Scene:
        """Both sides have greeted, and that is told already."""
        self.peer_greets(**changes)
        self.machine.welcome()
        self.machine.take_output()
        self.machine.take_events()
        return self

    # --- the machine

    @property
    def stream(self) -> Stream:
        """The stream of a plain conversation."""
        assert self.machine.plain is not None
        return self.machine.plain

    def we_write(self, body: bytes, stream: Stream | None = None, form: int = 0) -> None:
        self.machine.gather(stream or self.stream, form, body)

    def we_read(self, stream: Stream | None = None) -> Any:
        """What the shell does for one read."""
        stream = stream or self.stream
        item = stream.inbox.popleft()
        stream.taken += 1
        stream.taken_cost += len(item if isinstance(item, bytes) else item[1]) + TOLL
        if stream.taken_cost >= stream.grant_at:
            self.machine.grant(stream)
        return item

    def we_say(self, *said: Frame | Greeting | Refusal | bytes) -> None:
        """Exactly this has been said since the last look."""
        found = b"".join(self.machine.take_output())
        rest = list(said)
        while rest and not isinstance(rest[0], Frame):
            part = rest.pop(0)
            expected = part if isinstance(part, bytes) else part.encode()
            assert found[: len(expected)] == expected
            found = found[len(expected) :]
        assert frames_in(found) == rest

    def we_see(self, *events: tuple[Happening, Stream | None]) -> None:
        """Exactly this has happened since the last look."""
        assert self.machine.take_events() == list(events)

    def touched(self, stream: Stream | None = None) -> tuple[Happening, Stream]:
        return (Happening.TOUCHED, stream or self.stream)

    def silence(self) -> None:
        """Nothing was said and nothing has happened since the last look."""
        self.we_say()
        self.we_see()
