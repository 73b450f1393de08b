"""One mail around a payload: a fixed header block, and the bytes as base64 lines.

The block is written here and not by the email package because nothing in it is free: every
value is a constant or refused unless it is a plain mailbox, a message identifier or a date.
So no text of a user or a peer can become a header, whatever the email package allows.
"""

from __future__ import annotations

import base64
import email.utils
import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

from compoint.address import ComPointAddress
from compoint.errors import AddressError, UsageError

__all__ = [
    "CONTENT_TYPE",
    "HEAD_BYTES",
    "SUBJECT",
    "Mail",
    "checked_mailbox",
    "largest_payload",
    "new_mail",
    "new_message_id",
]

CONTENT_TYPE: Final = "application/x-semper"
SUBJECT: Final = "SEMPER Message"

#: What is kept free of a size limit for the header block, our own (never above 2 KiB) and
#: the Received lines that the servers on the way add before one of them measures.
HEAD_BYTES: Final = 4096

#: 57 bytes become a line of 76 characters and CRLF (RFC 2045 §6.8): 1.368 of the payload.
_LINE_BYTES: Final = 57
_LINE_CHARACTERS: Final = 78
#: So many lines are encoded at a time: 80 KB, whatever the size of the mail.
_LINES: Final = 1024

# RFC 5322 msg-id with the atoms that all mail systems keep.
_MESSAGE_ID: Final = re.compile(
    r"[A-Za-z0-9!#$%&'*+=?^_`{|}~.-]{1,128}@[A-Za-z0-9_.-]{1,253}", re.ASCII
)
_UNPRINTABLE: Final = re.compile(r"[^\x20-\x7e]")


@dataclass(frozen=True, slots=True)
class Mail:
    """A finished mail. No line of it begins with a dot, so it may follow DATA as it is."""

    #: Without the angle brackets.
    message_id: str
    #: The header block with the empty line behind it.
    head: bytes
    payload: bytes

    @property
    def size(self) -> int:
        """The bytes of the whole mail, as SIZE counts them (RFC 1870)."""
        lines, rest = divmod(len(self.payload), _LINE_BYTES)
        last = (rest + 2) // 3 * 4 + 2 if rest else 0
        return len(self.head) + lines * _LINE_CHARACTERS + last

    def pieces(self, newline: bytes = b"\r\n") -> Iterator[bytes]:
        """The mail from its first byte to its last newline, in pieces of bounded size."""
        step = _LINE_BYTES * _LINES
        head = self.head if newline == b"\r\n" else self.head.replace(b"\r\n", newline)
        for start in range(0, len(self.payload), step):
            lines = base64.encodebytes(self.payload[start : start + step])
            yield head + lines.replace(b"\n", newline)
            head = b""
        if head:
            yield head


def new_mail(
    payload: bytes,
    *,
    sender: str,
    recipient: str,
    message_id: str,
    now: float,
    thread: str = "",
    is_reply: bool = False,
) -> Mail:
    """A mail from `sender` to `recipient` with `payload`, whatever that is.

    `now` is the time of the Date header in seconds since the epoch. `thread` is the message
    identifier that all mails of a conversation name: readers show them as one thread.
    `is_reply` says that nobody but the peer's mail caused this one (a bare acknowledgement).

    Raises:
        UsageError: an argument is not what its header may hold; names the header.
    """
    fields = [
        ("From", f"<{checked_mailbox('From', sender)}>"),
        ("To", f"<{checked_mailbox('To', recipient)}>"),
        ("Date", email.utils.format_datetime(datetime.fromtimestamp(now, UTC))),
        ("Message-ID", _bracketed("Message-ID", message_id)),
        ("Subject", SUBJECT),
        # RFC 3834: nobody's vacation answers. Never Precedence: bulk, which counts as spam.
        ("Auto-Submitted", "auto-replied" if is_reply else "auto-generated"),
        ("MIME-Version", "1.0"),
        # Without a name: readers make file names of it, and some stumble.
        ("Content-Type", CONTENT_TYPE),
        ("Content-Transfer-Encoding", "base64"),
    ]
    if thread and thread != message_id:
        fields.append(("In-Reply-To", _bracketed("In-Reply-To", thread)))
        fields.append(("References", _bracketed("References", thread)))
    for name, value in fields:
        # Whatever the checks above overlook: no line break gets past this one.
        _refuse_unprintable(name, value)
    lines = [f"{name}: {value}\r\n" for name, value in fields]
    return Mail(message_id, "".join([*lines, "\r\n"]).encode("ascii"), payload)


def new_message_id(sender: str) -> str:
    """A new identifier in the domain of `sender`, without the angle brackets.

    A UUID with its hyphens: filters have taken those without for spam.
    """
    domain = checked_mailbox("From", sender).rpartition("@")[2]
    return f"{uuid.uuid4()}@{domain}"


def largest_payload(limit: int) -> int:
    """The longest payload whose mail stays within `limit` bytes, with room for HEAD_BYTES."""
    lines, rest = divmod(max(0, limit - HEAD_BYTES), _LINE_CHARACTERS)
    return lines * _LINE_BYTES + max(0, rest - 2) // 4 * 3


def checked_mailbox(field: str, mailbox: str) -> str:
    """`mailbox` as USER@DOMAIN in ASCII, the domain in its IDNA form.

    Raises:
        UsageError: it is anything else; names `field`.
    """
    if not mailbox:
        raise UsageError(f"{field}: there is no mailbox")
    try:
        return _in_ascii(mailbox)
    except AddressError as error:
        raise UsageError(f"{field}: {error.what}") from None


@lru_cache(maxsize=1024)  # each mail asks five times for the same two
def _in_ascii(mailbox: str) -> str:
    user, _, domain = ComPointAddress("mail", mailbox, 1).host.rpartition("@")
    return f"{user}@{domain.encode('idna').decode('ascii')}"


def _bracketed(field: str, message_id: str) -> str:
    if not _MESSAGE_ID.fullmatch(message_id):
        raise UsageError(f"{field}: {message_id[:80]!r} is no message identifier")
    return f"<{message_id}>"


def _refuse_unprintable(field: str, text: str) -> None:
    found = _UNPRINTABLE.search(text)
    if found:
        raise UsageError(f"{field}: the character U+{ord(found[0]):04X} must not be in it")
