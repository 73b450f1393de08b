"""Peers that speak something else: recognised by their first bytes, for a clear error.

`look` decides as soon as the bytes can decide and never earlier, so that any chunking
gives the same words.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["HTTP_ANSWER", "MAGIC", "Foreign", "look"]

#: Not ASCII, so no text protocol begins with it; CR LF, so a text-mode path is noticed.
MAGIC: Final = b"\x93ComPt\r\n"


@dataclass(frozen=True, slots=True)
class Foreign:
    """What came is no greeting of ours; `text` says what it looks like."""

    text: str
    is_http: bool = False


_HTTP_REQUEST: Final = Foreign("an HTTP request", is_http=True)
_UNKNOWN: Final = Foreign("bytes of no protocol we know")
_SIGNS: Final[dict[bytes, Foreign]] = {
    b"GET ": _HTTP_REQUEST,
    b"POST ": _HTTP_REQUEST,
    b"PUT ": _HTTP_REQUEST,
    b"HEAD ": _HTTP_REQUEST,
    b"OPTIONS ": _HTTP_REQUEST,
    b"CONNECT ": _HTTP_REQUEST,
    b"PRI * ": _HTTP_REQUEST,
    b"HTTP/": Foreign("an HTTP answer; is this a web server?"),
    b"<!DOCTYPE": Foreign("an HTTP answer (a web page); is this a web server?"),
    b"<html": Foreign("an HTTP answer (a web page); is this a web server?"),
    b"SSH-": Foreign("an SSH banner"),
    b"\x16\x03": Foreign("a TLS handshake; the other side expects TLS"),
    b"\x15\x03": Foreign("a TLS alert; the other side expects TLS"),
    b"220": Foreign("a greeting of a mail or FTP server"),
    b"* OK": Foreign("a greeting of an IMAP server"),
    b"+OK": Foreign("a greeting of a POP3 server"),
    b"\xff\x00\x00\x00\x00\x00\x00\x00": Foreign("a ZeroMQ greeting"),
    MAGIC[:6]: Foreign("our own greeting with its line end changed; does the path alter text?"),
}


def look(data: bytes) -> Foreign | None:
    """What protocol these first bytes belong to; None while they may still be ours, or
    while more of them would say more."""
    if MAGIC.startswith(data[: len(MAGIC)]):
        return None
    for sign, foreign in _SIGNS.items():
        if data.startswith(sign):
            return foreign
    if any(sign.startswith(data) for sign in _SIGNS):
        return None
    return _UNKNOWN


#: For browsers and curl that came to the wrong port.
HTTP_ANSWER: Final = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n"
    b"This port speaks the ComPoint protocol, not HTTP.\r\n"
)
