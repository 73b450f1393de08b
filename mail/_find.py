"""Finds what a mail brings us, whatever gateways, lists and readers have made of it.

A payload is known by its first bytes alone: types, names and encodings of MIME parts are
changed on the way. It may stand in any part, also of a mail attached to the mail (filters
wrap what they suspect). A mail about a mail that was not delivered is a report; it may hold
our own payload, which must not be taken for one of the peer's.

A mail is read in pieces; at its largest, memory holds its text (about three times the mail
while parsing) and the payload, never more copies. Of one that was made to be costly, of many
parts, of empty lines or of long headers, no more is parsed than any mail of ours may have
become.
"""

from __future__ import annotations

import binascii
import email.utils
import enum
from email.feedparser import BytesFeedParser
from email.message import Message
from typing import Any, BinaryIO, Final, NamedTuple

from mail._glance import ENCODED_MAGIC, MAGIC

__all__ = ["Facts", "Found", "Kind", "Parts", "find"]

_PIECE_BYTES: Final = 64 * 1024

#: A mail with more ends of lines (CR and LF, each for itself) is none of ours: the largest in
#: lines of 60 characters has fewer.
_LINE_ENDS: Final = 2_000_000
#: The same for the ends of lines times the parts: the parser looks at each line once for each
#: part around it.
_LOOKS: Final = 20_000_000
#: The same for the lengths of all headers about content, each squared: what stands behind a
#: type is looked through once for each semicolon in it. One may be as long as 8 KiB.
_CONTENT_LOOKS: Final = 8_192**2
#: So much of any other header is looked at.
_HEADER_CHARACTERS: Final = 16_384

_NOT_BASE64: Final = bytes(
    set(range(256)) - set(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=")
)

#: Who sends reports, when they are not in the form of RFC 3464 (GMX and Yahoo send such).
_REPORTERS: Final = ("mailer-daemon", "mail-daemon")
#: And who does if nobody is to answer, but writes letters too.
_POSTMASTER: Final = "postmaster"

#: Where mail systems write for whom they took the mail, before aliases.
_RECIPIENT_HEADERS: Final = ("X-Original-To", "Envelope-To", "Delivered-To")


class Kind(enum.Enum):
    """What a mail is to us."""

    PAYLOADS = "payloads"  # frames of a peer
    REPORT = "report"  # of a mail system, about a mail that may be ours
    FOREIGN = "foreign"  # neither


class Facts(NamedTuple):
    """What the headers say: hints, all of which a sender can forge; empty if unknown."""

    #: The address in From.
    sender: str = ""
    #: The envelope's sender; "<>" is the null sender, who must never be answered.
    return_path: str = ""
    #: The envelope's recipient, with an extension such as `bob+token@`.
    recipient: str = ""
    #: RFC 3834, in small letters: "auto-generated", "auto-replied", "no", or something else.
    auto_submitted: str = ""
    message_id: str = ""
    is_from_list: bool = False


class Found(NamedTuple):
    kind: Kind
    #: Each begins with MAGIC; behind its last frame there may be rubbish.
    payloads: tuple[bytes, ...] = ()
    facts: Facts = Facts()


def find(source: BinaryIO) -> Found:
    """Read a payload, or a whole mail, to its end and say what it brings.

    Never raises for what is in the mail: what cannot be parsed is foreign.

    Raises:
        OSError: it cannot be read.
        MemoryError: it is too large for this machine.
    """
    start = source.read(_PIECE_BYTES)
    if start.startswith((MAGIC, ENCODED_MAGIC)):
        return Found(Kind.PAYLOADS, (_payload(start + source.read()),))
    try:
        return _in_mail(_parsed(start, source))
    except (OSError, MemoryError):
        raise
    except Exception:  # noqa: BLE001 - too costly, or a fault of the parser
        return Found(Kind.FOREIGN)


class Parts:
    """Makes the parts of one mail for the parser, which ends with ValueError if it is costly."""

    def __init__(self) -> None:
        self.count = 0
        self._looks = 0

    def __call__(self, **options: Any) -> Message:
        self.count += 1
        return _Part(self, **options)

    def note(self, header: str, value: str) -> None:
        if header.lower().startswith("content-"):
            self._looks += len(value) ** 2
            if self._looks > _CONTENT_LOOKS:
                raise ValueError("too costly")


class _Part(Message):
    def __init__(self, parts: Parts, **options: Any) -> None:
        super().__init__(**options)
        self._parts = parts

    def set_raw(self, name: str, value: str) -> None:
        """Called by the parser with each header."""
        self._parts.note(name, value)
        super().set_raw(name, value)


def _parsed(start: bytes, source: BinaryIO) -> Message:
    parts = Parts()
    parser: BytesFeedParser[Message] = BytesFeedParser(parts)
    piece = start
    line_ends = 0
    while piece:
        parser.feed(piece)
        line_ends += piece.count(b"\n") + piece.count(b"\r")
        if line_ends > _LINE_ENDS or line_ends * parts.count > _LOOKS:
            raise ValueError("too costly")
        piece = source.read(_PIECE_BYTES)
    return parser.close()


def _in_mail(mail: Message) -> Found:
    facts = _facts(mail)
    if _is_report(mail, facts):
        return Found(Kind.REPORT, facts=facts)
    leaves = (part for part in mail.walk() if not part.is_multipart())
    payloads = tuple(payload for payload in map(_in_leaf, leaves) if payload)
    return Found(Kind.PAYLOADS if payloads else Kind.FOREIGN, payloads, facts)


# --- a leaf -----------------------------------------------------------------------------------


def _in_leaf(part: Message) -> bytes:
    """The payload that a part without parts holds, or nothing."""
    text = part.get_payload()
    if not isinstance(text, str):
        return b""
    if text[:200].lstrip().encode("ascii", "ignore").startswith(ENCODED_MAGIC):
        return _from_base64(text)
    return _payload(part.get_payload(decode=True))


def _payload(content: object) -> bytes:
    if not isinstance(content, bytes):
        return b""
    if content.startswith(MAGIC):
        return content
    if content[:200].lstrip().startswith(ENCODED_MAGIC):
        return _from_base64(content.decode("ascii", "ignore"))
    return b""


def _from_base64(text: str) -> bytes:
    """Decode what can be: any line lengths, footers behind it, an end that is cut off."""
    decoded = bytearray()
    rest = b""
    for start in range(0, len(text), _PIECE_BYTES):
        piece = text[start : start + _PIECE_BYTES].encode("ascii", "ignore")
        rest += piece.translate(None, _NOT_BASE64)
        rest, padding, _ = rest.partition(b"=")
        whole = len(rest) // 4 * 4
        decoded += binascii.a2b_base64(rest[:whole])
        rest = rest[whole:]
        if padding:  # what follows is somebody else's
            break
    if len(rest) > 1:
        decoded += binascii.a2b_base64(rest + b"=" * (4 - len(rest)))
    return bytes(decoded)


# --- headers ----------------------------------------------------------------------------------


def _header(part: Message, name: str) -> str:
    """The first header of this name: mail systems write theirs on top of what came."""
    return str(part.get(name, ""))[:_HEADER_CHARACTERS].strip()


def _facts(mail: Message) -> Facts:
    recipients = (_header(mail, name) for name in _RECIPIENT_HEADERS)
    return Facts(
        sender=email.utils.parseaddr(_header(mail, "From"))[1],
        return_path=_return_path(mail),
        recipient=email.utils.parseaddr(next(filter(None, recipients), ""))[1],
        auto_submitted=_keyword(_header(mail, "Auto-Submitted")),
        message_id=_header(mail, "Message-ID"),
        is_from_list="List-Id" in mail
        or _header(mail, "Precedence").lower() in {"bulk", "junk", "list"},
    )


def _keyword(value: str) -> str:
    """The first word of a header, without parameters and comments."""
    return value.replace(";", " ").replace("(", " ").lower().partition(" ")[0]


def _return_path(mail: Message) -> str:
    if "Return-Path" in mail:
        return email.utils.parseaddr(_header(mail, "Return-Path"))[1] or "<>"
    # The line that mailbox files and pipes put before a mail: From ADDRESS DATE
    address = (mail.get_unixfrom() or "").partition(" ")[2].partition(" ")[0]
    return "<>" if address.upper() == "MAILER-DAEMON" else address


def _is_report(mail: Message, facts: Facts) -> bool:
    if mail.get_content_type() == "multipart/report":
        kind = email.utils.collapse_rfc2231_value(mail.get_param("report-type", "") or "")
        return kind.lower() in {"", "delivery-status"}
    sender = facts.sender.partition("@")[0].lower()
    return sender in _REPORTERS or (sender == _POSTMASTER and facts.return_path == "<>")
