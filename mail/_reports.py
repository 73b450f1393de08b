"""What mail systems say of our mails later: delivery reports (RFC 3464), and their texts.

Anybody can write such a report. `parse_report` only tells what one says; whether it speaks of
a mail of ours shows in the identifier it names, which is random: see `mail._sent`.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from email.message import Message
from email.parser import BytesParser
from typing import Final

from mail._find import Parts
from mail._outcome import one_line, printable, status_in

__all__ = ["Kind", "Report", "parse_report"]

#: So much of a mail is looked at. The report stands in front; what is cut off is our own
#: mail, returned.
_LOOK_BYTES: Final = 256 * 1024
_TEXT_CHARACTERS: Final = 64 * 1024
#: Parts looked at, and how deep they may nest.
_PARTS: Final = 32
_DEPTH: Final = 8

_WHOM: Final = ("Original-Recipient", "Final-Recipient")

#: Where a returned mail has the identifier that we gave it: Outlook.com gives it another one.
_ID_FIELDS: Final = ("X-Microsoft-Original-Message-ID", "Message-ID")

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


def parse_report(raw: bytes) -> Report | None:
    """What a mail says about the delivery of another; None if it says nothing of that kind.

    Looks for the parts of RFC 3464 first, and scans the text only of mails whose sender is a
    mail system's. Raises nothing, whatever the mail holds.
    """
    try:
        mail: Message = BytesParser(Parts()).parsebytes(raw[:_LOOK_BYTES])
        return _structured(mail) or _scanned(mail)
    except (RecursionError, ValueError, LookupError):
        # Parts nested by the thousand, or costly; broken numbers, encodings or unknown
        # character sets.
        return None


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
                    yield from (_bare(_field(inner, name)) for name in _ID_FIELDS)
            case "text/rfc822-headers" | "message/global-headers":
                text = _text_of(part)
                yield from (_bare(_line(text, name)) for name in _ID_FIELDS)
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


def _line(headers: str, name: str) -> str:
    """The field of this name in headers that are a text."""
    found = re.search(rf"^{name}:((?:.|\n[ \t])*)", headers, re.IGNORECASE | re.MULTILINE)
    return found[1] if found else ""


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


def _unxtext(text: str) -> str:
    """RFC 3461 §4, undone."""
    return printable(_XTEXT.sub(lambda found: chr(int(found[1], 16)), text))
