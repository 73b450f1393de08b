"""The first bytes of a connection: who we are, what we want, what we take.

Both sides send one greeting. The initiator may send frames right behind its own, up to
the first credit, without waiting for the answer. See docs/PROTOCOL.md §2.
"""

from __future__ import annotations

import enum
import struct
from dataclasses import dataclass
from typing import Final

from compoint.core.codes import Code
from compoint.limits import FIRST_CREDIT_BYTES, GREETING_BYTES

__all__ = [
    "MAGIC",
    "VERSION",
    "Foreign",
    "Greeting",
    "Mode",
    "Refusal",
    "describe_foreign",
    "parse_greeting",
]

#: Not ASCII, so no text protocol begins with it; CR LF, so a text-mode path is noticed.
MAGIC: Final = b"\x93ComPt\r\n"
VERSION: Final = 1

_HEAD: Final = struct.Struct("!8sBBBxI")  # magic, newest, oldest, mode, length
_BODY: Final = struct.Struct("!QQI16sH")  # message limit, window, heartbeat ms, session, path
_REFUSAL: Final = struct.Struct("!HI")  # code, retry after ms
NEVER_MS: Final = 0xFFFF_FFFF


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
        path = self.path.encode()
        body = _BODY.pack(
            self.message_limit, self.window, self.heartbeat_ms, self.session, len(path)
        )
        head = _HEAD.pack(MAGIC, self.newest, self.oldest, self.mode, len(body) + len(path))
        return head + body + path


@dataclass(frozen=True, slots=True)
class Refusal:
    """The answer of a side that does not want this connection."""

    code: Code
    text: str
    retry_after_s: float | None = None
    newest: int = VERSION
    oldest: int = VERSION

    def encode(self) -> bytes:
        retry_ms = NEVER_MS if self.retry_after_s is None else round(self.retry_after_s * 1000)
        body = _REFUSAL.pack(self.code, min(retry_ms, NEVER_MS)) + self.text.encode()[:1024]
        return _HEAD.pack(MAGIC, self.newest, self.oldest, Mode.REFUSAL, len(body)) + body


@dataclass(frozen=True, slots=True)
class Foreign:
    """What came is no greeting of ours; `text` says what it looks like."""

    text: str


def parse_greeting(data: bytes) -> tuple[Greeting | Refusal | Foreign, int] | None:
    """Read a greeting from the front of `data`; None while it is not all there.

    Returns what it is and how many bytes it took. Bytes that can no longer become a
    greeting are recognised at the first wrong one.
    """
    seen = min(len(data), len(MAGIC))
    if data[:seen] != MAGIC[:seen]:
        return Foreign(describe_foreign(data)), 0
    if len(data) < _HEAD.size:
        return None
    _, newest, oldest, mode, length = _HEAD.unpack_from(data)
    if length > GREETING_BYTES:
        return Foreign(f"a greeting of {length} bytes, allowed are {GREETING_BYTES}"), 0
    end = _HEAD.size + length
    if len(data) < end:
        return None
    body = data[_HEAD.size : end]
    try:
        if mode == Mode.REFUSAL:
            return _parse_refusal(body, newest, oldest), end
        return _parse_body(Mode(mode), body, newest, oldest), end
    except (ValueError, struct.error) as fault:
        return Foreign(f"a damaged greeting ({fault})"), 0


def _parse_body(mode: Mode, body: bytes, newest: int, oldest: int) -> Greeting:
    message_limit, window, heartbeat_ms, session, path_length = _BODY.unpack_from(body)
    path_end = _BODY.size + path_length
    if path_end > len(body):
        raise ValueError("the path is longer than the greeting")
    if window < FIRST_CREDIT_BYTES:
        raise ValueError(f"a window of {window} bytes, at least {FIRST_CREDIT_BYTES} are due")
    if message_limit < FIRST_CREDIT_BYTES:
        raise ValueError(f"a message limit of {message_limit} bytes")
    # What follows the path belongs to later versions and is skipped.
    path = body[_BODY.size : path_end].decode()
    return Greeting(mode, message_limit, window, heartbeat_ms, session, path, newest, oldest)


def _parse_refusal(body: bytes, newest: int, oldest: int) -> Refusal:
    code, retry_ms = _REFUSAL.unpack_from(body)
    text = body[_REFUSAL.size :].decode(errors="replace")
    retry_after_s = None if retry_ms == NEVER_MS else retry_ms / 1000
    return Refusal(Code.from_wire(code), text, retry_after_s, newest, oldest)


_SIGNS: Final = (
    (b"HTTP/", "an HTTP answer; is this a web server?"),
    (b"SSH-", "an SSH banner"),
    (b"\x16\x03", "a TLS handshake; the other side expects TLS"),
    (b"\x15\x03", "a TLS alert; the other side expects TLS"),
    (b"220", "a greeting of a mail or FTP server"),
    (b"* OK", "a greeting of an IMAP server"),
    (b"+OK", "a greeting of a POP3 server"),
    (b"\xff\x00\x00\x00\x00\x00\x00\x00", "a ZeroMQ greeting"),
    (b"\x93ComPt", "our own greeting with its line end changed; does the path alter text?"),
)
_HTTP_VERBS: Final = (b"GET ", b"POST ", b"PUT ", b"HEAD ", b"OPTIONS ", b"CONNECT ", b"PRI * ")


def describe_foreign(data: bytes) -> str:
    """Say in a few words what protocol these first bytes belong to."""
    if data.startswith(_HTTP_VERBS):
        return "an HTTP request"
    for sign, words in _SIGNS:
        if data.startswith(sign):
            return words
    return f"{data[:16]!r}, which is no protocol we know"
