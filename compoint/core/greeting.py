"""The first bytes of a connection: who we are, what we want, what we take.

Both sides send one greeting. The initiator may send frames right behind its own, up to
the first credit, without waiting for the answer. See docs/PROTOCOL.md §2.
"""

from __future__ import annotations

import enum
import struct
from dataclasses import dataclass
from typing import Final

from compoint.core.codes import Code, decode_reason, encode_reason
from compoint.core.foreign import MAGIC, Foreign, look
from compoint.limits import FIRST_CREDIT_BYTES, GREETING_BYTES

__all__ = [
    "MAGIC",
    "VERSION",
    "Foreign",
    "Greeting",
    "Mode",
    "OtherVersion",
    "Parsed",
    "Refusal",
    "parse_greeting",
]

VERSION: Final = 1

_HEAD: Final = struct.Struct("!8sBBBxI")  # magic, newest, oldest, mode, length
_BODY: Final = struct.Struct("!QQI16sH")  # message limit, window, heartbeat ms, session, path


class Mode(enum.IntEnum):
    """What an initiator wants; or, from the responder's side, the answer."""

    PLAIN = 1
    CHANNELS = 2
    STATUS = 3
    WELCOME = 16
    REFUSAL = 17


@dataclass(frozen=True, slots=True)
class Greeting:
    """What one side tells the other before the first frame."""

    mode: Mode
    message_limit: int
    window: int
    heartbeat_ms: int
    session: bytes
    path: str = ""
    newest: int = VERSION
    oldest: int = VERSION

    def encode(self) -> bytes:
        """Its bytes; ValueError if the path is longer than a greeting may be."""
        path = self.path.encode()
        length = _BODY.size + len(path)
        if length > GREETING_BYTES:
            longest = GREETING_BYTES - _BODY.size
            raise ValueError(f"a path of {len(path)} bytes, allowed are {longest}")
        body = _BODY.pack(
            self.message_limit, self.window, self.heartbeat_ms, self.session, len(path)
        )
        return _HEAD.pack(MAGIC, self.newest, self.oldest, self.mode, length) + body + path


@dataclass(frozen=True, slots=True)
class Refusal:
    """The answer of a side that does not want this connection."""

    code: Code
    text: str
    retry_after_s: float | None = None
    newest: int = VERSION
    oldest: int = VERSION

    def encode(self) -> bytes:
        body = encode_reason(self.code, self.text, self.retry_after_s)
        return _HEAD.pack(MAGIC, self.newest, self.oldest, Mode.REFUSAL, len(body)) + body


@dataclass(frozen=True, slots=True)
class OtherVersion:
    """A greeting, or a refusal, of a peer that does not speak our version."""

    newest: int
    oldest: int


Parsed = Greeting | Refusal | OtherVersion | Foreign


def parse_greeting(data: bytes) -> tuple[Parsed, int] | None:
    """Read a greeting from the front of `data`; None while it is not all there.

    Returns what it is and how many bytes it took. Bytes that can no longer become a
    greeting are recognised as soon as they say what they are instead.
    """
    strange = look(data) or _look_at_head(data)
    if strange is not None:
        return strange, 0
    if len(data) < _HEAD.size:
        return None
    _, newest, oldest, mode, length = _HEAD.unpack_from(data)
    end = _HEAD.size + length
    if len(data) < end:
        return None
    try:
        return _parse_body(mode, data[_HEAD.size : end], newest, oldest), end
    except (ValueError, struct.error) as fault:
        return Foreign(f"a damaged greeting ({fault})"), 0


def _look_at_head(data: bytes) -> OtherVersion | Foreign | None:
    if len(data) < _HEAD.size:
        return None
    _, newest, oldest, _, length = _HEAD.unpack_from(data)
    if not oldest <= VERSION <= newest:
        # What a body of another version looks like is not known here.
        return OtherVersion(newest, oldest)
    if length > GREETING_BYTES:
        return Foreign(f"a greeting of {length} bytes, allowed are {GREETING_BYTES}")
    return None


def _parse_body(mode: int, body: bytes, newest: int, oldest: int) -> Greeting | Refusal:
    if mode == Mode.REFUSAL:
        return Refusal(*decode_reason(body), newest, oldest)
    message_limit, window, heartbeat_ms, session, path_length = _BODY.unpack_from(body)
    path_end = _BODY.size + path_length
    if path_end > len(body):
        raise ValueError("the path is longer than the greeting")
    if window < FIRST_CREDIT_BYTES:
        raise ValueError(f"a window of {window} bytes, at least {FIRST_CREDIT_BYTES} are due")
    if message_limit < FIRST_CREDIT_BYTES:
        raise ValueError(
            f"a message limit of {message_limit} bytes, at least {FIRST_CREDIT_BYTES} are due"
        )
    # What follows the path belongs to later versions and is skipped.
    path = body[_BODY.size : path_end].decode()
    return Greeting(Mode(mode), message_limit, window, heartbeat_ms, session, path, newest, oldest)
