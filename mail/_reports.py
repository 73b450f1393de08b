"""What mail systems say of our mails later: delivery reports (RFC 3464), and their texts.

Anybody can write such a report. `parse_report` only tells what one says; whether it speaks of
a mail of ours shows in the token of the return path, which only we can make, or in an
identifier that is outstanding.
"""

from __future__ import annotations

import base64
import email
import enum
import hashlib
import hmac
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from email.message import Message
from typing import Final

from mail._outcome import one_line, printable, status_in

__all__ = ["Kind", "Report", "is_token_of", "new_token", "parse_report", "return_path"]

#: So much of a mail is looked at. The report stands in front; what is cut off is our own
#: mail, returned.
_LOOK_BYTES: Final = 256 * 1024
_TEXT_CHARACTERS: Final = 64 * 1024
#: Parts looked at, and how deep they may nest.
_PARTS: Final = 32
_DEPTH: Final = 8

_TAG: Final = "+semper-"
_TOKEN_BYTES: Final = 10
_USER_LENGTH: Final = 64  # RFC 5321 §4.5.3.1.1
_TOKEN: Final = re.compile(r"\+semper-([a-z2-7]{16})@", re.IGNORECASE | re.ASCII)
#: Where the address stands that the report was sent to, that is, our return path.
_RECIPIENT_FIELDS: Final = ("Delivered-To", "X-Original-To", "Envelope-To", "To")

_WHOM: Final = ("Original-Recipient", "Final-Recipient")

_MESSAGE_ID: Final = re.compile(r"<([!-;=?-~]{1,400})>", re.ASCII)
_MESSAGE_ID_LINE: Final = re.compile(
    r"^[> \t]*Message-ID:\s*<([!-;=?-~]{1,400})>", re.IGNORECASE | re.MULTILINE | re.ASCII
)
_REPORTER: Final = re.compile(r"\b(mailer-daemon|mail-daemon|postmaster)@", re.IGNORECASE)
_STILL_TRYING: Final = re.compile(r"delay|warning|still being retried", re.IGNORECASE)
_CODE_LINE: Final = re.compile(r"^.*\b[45]\d\d[ :-].*$", re.MULTILINE | re.ASCII)
_XTEXT: Final = re.compile(r"\+([0-9A-F]{2})")


class Kind(enum.StrEnum):
    """What became of the mail, as the report has it."""

    FAILED = "failed"
    DELAYED = "delayed"  # it is still being tried
    DELIVERED = "delivered"  # or passed on to where no report comes from


_KINDS: Final = {
    "failed": Kind.FAILED,
    "delayed": Kind.DELAYED,
    "delivered": Kind.DELIVERED,
    "relayed": Kind.DELIVERED,
    "expanded": Kind.DELIVERED,
}
_WORST_FIRST: Final = tuple(Kind)


@dataclass(frozen=True, slots=True)
class Report:
    """What one report says; a part that it does not name is ""."""

    kind: Kind
    #: The enhanced status (RFC 3463). "failed" with 4.x.x: the time for trying is over.
    status: str = ""
    #: What the refusing server said, as one printable line.
    text: str = ""
    recipient: str = ""
    envelope_id: str = ""
    #: Of the mail it is about, without the angle brackets.
    message_id: str = ""
    #: From the address it was sent to; see `is_token_of`.
    token: str = ""


def parse_report(raw: bytes) -> Report | None:
    """What a mail says about the delivery of another; None if it says nothing of that kind.

    Looks for the parts of RFC 3464 first, and scans the text only of mails whose sender is a
    mail system's. Raises nothing, whatever the mail holds.
    """
    try:
        mail = email.message_from_bytes(raw[:_LOOK_BYTES])
        return _structured(mail) or _scanned(mail)
    except (RecursionError, ValueError, LookupError):
        # Parts nested by the thousand; broken numbers, encodings or unknown character sets.
        return None


# --- the token in the return path -----------------------------------------------------------


def new_token(key: bytes, conversation: bytes, number: int) -> str:
    """16 letters and digits that only the holder of `key` can make for this mail.

    In lower case, and without regard to case when compared: mail systems may change it.
    """
    said = len(conversation).to_bytes(2) + conversation + number.to_bytes(8)
    digest = hmac.new(key, b"semper return path" + said, hashlib.sha256).digest()
    return base64.b32encode(digest[:_TOKEN_BYTES]).decode("ascii").lower()


def is_token_of(token: str, key: bytes, conversation: bytes, number: int) -> bool:
    """Whether `token` was made by `new_token` for this mail; takes the same time either way."""
    true = new_token(key, conversation, number)
    return hmac.compare_digest(token.lower().encode(), true.encode())


def return_path(mailbox: str, token: str) -> str:
    """The envelope sender USER+semper-TOKEN@HOST; the plain mailbox if that were too long."""
    user, _, host = mailbox.rpartition("@")
    extended = f"{user}{_TAG}{token}"
    return f"{extended}@{host}" if len(extended) <= _USER_LENGTH else mailbox


# --- RFC 3464 -------------------------------------------------------------------------------


def _structured(mail: Message) -> Report | None:
    parts = list(_leaves(mail))
    status = next((p for p in parts if p.get_content_type() == "message/delivery-status"), None)
    if status is None:
        return None
    blocks = _inner(status)
    found = [(kind, block) for block in blocks if (kind := _kind_of(block)) is not None]
    if not found:
        return None
    # One mail has one recipient; where an alias made several, one failure fails it.
    kind, block = min(found, key=lambda one: _WORST_FIRST.index(one[0]))
    diagnostic = _value(_field(block, "Diagnostic-Code"))
    return Report(
        kind=kind,
        status=status_in(_field(block, "Status")) or status_in(diagnostic),
        text=one_line(diagnostic) or _notice(parts),
        recipient=_address(_said(_value(_field(block, name)) for name in _WHOM)),
        envelope_id=_unxtext(_said(_field(one, "Original-Envelope-Id") for one in blocks)),
        message_id=_said(_returned_ids(mail, parts, blocks)),
        token=_token_of(mail),
    )


def _kind_of(block: Message) -> Kind | None:
    return _KINDS.get(_field(block, "Action").partition(" ")[0].lower())


def _leaves(mail: Message, depth: int = 0) -> Iterator[Message]:
    """The parts of a mail, without those of the mail that it returns."""
    if mail.get_content_maintype() == "multipart" and depth < _DEPTH:
        for part in _inner(mail):
            yield from _leaves(part, depth + 1)
    else:
        yield mail


def _inner(part: Message) -> list[Message]:
    """The mails in a part: of a multipart, a returned mail, or the blocks of a report."""
    inner = part.get_payload()
    if not isinstance(inner, list):
        return []
    return [one for one in inner[:_PARTS] if isinstance(one, Message)]


def _returned_ids(mail: Message, parts: list[Message], blocks: list[Message]) -> Iterator[str]:
    """The Message-ID in the headers that are returned, and in what may stand for it."""
    for part in parts:
        match part.get_content_type():
            case "message/rfc822" | "message/global":
                for inner in _inner(part):
                    yield _bare(_field(inner, "Message-ID"))
            case "text/rfc822-headers" | "message/global-headers":
                yield _bare(_field(email.message_from_string(_text_of(part)), "Message-ID"))
    for block in blocks:  # Gmail's
        yield _bare(_field(block, "X-Original-Message-ID"))
    yield _bare(_field(mail, "In-Reply-To"))


# --- texts, as the last resort ----------------------------------------------------------------


def _scanned(mail: Message) -> Report | None:
    """What the text of a mail system's own mail says."""
    if not _REPORTER.search(_field(mail, "From")):
        return None
    parts = list(_leaves(mail))
    texts = (_text_of(part) for part in parts if part.get_content_type() == "text/plain")
    text = "\n".join(texts)[:_TEXT_CHARACTERS]
    # What follows the first Message-ID is our own mail again.
    message_id = _MESSAGE_ID_LINE.search(text)
    said = text[: message_id.start()] if message_id else text
    line = _CODE_LINE.search(said)
    if not (message_id or line):
        return None
    is_delayed = _STILL_TRYING.search(_field(mail, "Subject"))
    return Report(
        kind=Kind.DELAYED if is_delayed else Kind.FAILED,
        status=status_in(said),
        text=one_line(line[0] if line else said.strip().partition("\n")[0]),
        recipient=printable(_field(mail, "X-Failed-Recipients").partition(",")[0]),
        message_id=message_id[1] if message_id else _said(_returned_ids(mail, parts, [])),
        token=_token_of(mail),
    )


def _notice(parts: list[Message]) -> str:
    """What is written for people, of those systems that do not quote the refusing server."""
    plain = (_text_of(part) for part in parts if part.get_content_type() == "text/plain")
    return one_line(_said(plain))


def _text_of(part: Message) -> str:
    raw = part.get_payload(decode=True)
    return raw[:_TEXT_CHARACTERS].decode("utf-8", "replace") if isinstance(raw, bytes) else ""


# --- fields -----------------------------------------------------------------------------------


def _field(block: Message, name: str) -> str:
    return str(block.get(name, "")).strip()


def _said(texts: Iterable[str]) -> str:
    """The first that says anything."""
    return next(filter(None, texts), "")


def _value(field: str) -> str:
    """What follows the type in TYPE; VALUE."""
    return field.partition(";")[2].strip() if ";" in field else field


def _address(text: str) -> str:
    return _unxtext(text).strip("<>")


def _bare(field: str) -> str:
    found = _MESSAGE_ID.search(field)
    return found[1] if found else ""


def _token_of(mail: Message) -> str:
    for name in _RECIPIENT_FIELDS:
        found = _TOKEN.search(" ".join(str(value) for value in mail.get_all(name, [])))
        if found:
            return found[1].lower()
    return ""


def _unxtext(text: str) -> str:
    """RFC 3461 §4, undone."""
    return printable(_XTEXT.sub(lambda found: chr(int(found[1], 16)), text))
