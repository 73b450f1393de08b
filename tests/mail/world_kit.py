"""The mail system of these tests: an SMTP server with drop boxes behind it, in any weather."""

from __future__ import annotations

import base64
import email
import email.policy
import os
import random
import socket
import textwrap
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import EmailMessage, Message
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

from aiosmtpd.smtp import Envelope
from smtp_kit import HOST, real_server

from compoint.testing import eventually
from mail._dropbox import Dropbox

#: Points must not wait for long where a mail takes milliseconds.
TIMES: Final = {"rtoMin": "0.5 s", "ackDelay": "0.1 s", "rate": 1000, "daily": 1_000_000}
#: Threads of post offices hand over what is left, then end.
ENDED_S: Final = 15.0


class Weather(NamedTuple):
    """To which share of the mails each of these happens; at most one of them to each."""

    #: Taken, and never seen again.
    lost: float = 0.0
    doubled: float = 0.0
    #: Held back for at most `late_s`, while others overtake.
    late: float = 0.0
    late_s: float = 0.3
    #: The end is missing, anywhere behind the headers.
    cut: float = 0.0
    #: As gateways, lists and filters do; see REWRITINGS.
    rewritten: float = 0.0
    #: 451: not taken, try again.
    refused: float = 0.0
    #: 421: not taken, and the connection is over.
    sent_away: float = 0.0
    #: Taken, but the connection breaks instead of the answer.
    unanswered: float = 0.0


GOOD: Final = Weather()


@dataclass
class Box:
    """A mailbox whose mails a program takes out of a spool folder."""

    mailbox: str
    spool: Path
    port: int

    def deliver(self, mail: bytes) -> None:
        """As the receiver program does: keep it, then poke."""
        Dropbox(str(self.spool)).put(mail)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"", (HOST, self.port))


class World:
    """Takes mails for its mailboxes on `port`; see `mail_world`.

    Mails for others are refused, or, if `reports_later`, taken and reported.
    """

    def __init__(self, weather: Weather = GOOD, seed: int = 1) -> None:
        self.weather = weather
        self.reports_later = False
        #: What became of the mails, by the names in Weather; "taken" are all.
        self.counts: Counter[str] = Counter()
        #: The mails that were taken, as (sender, recipient, content), if somebody wants them.
        self.watch: Callable[[str, str, bytes], object] = lambda *_: None
        self.port = 0
        self._boxes: dict[str, Box] = {}
        self._random = random.Random(seed)

    def box(self, mailbox: str, folder: Path, **more: object) -> dict[str, object]:
        """Make a mailbox; section [mail] for the program behind it."""
        box = self._boxes[mailbox] = Box(mailbox, folder / "spool", _free_port())
        return {
            "receiverPort": box.port, "returnAddress": mailbox, "mailHost": HOST,
            "smtpPort": self.port, "smtpTls": "none", "trust": "none", "spool": box.spool,
            **TIMES, **more,
        }  # fmt: skip

    def also(self, alias: str, mailbox: str) -> None:
        """The mailbox has another name."""
        self._boxes[alias] = self._boxes[mailbox]

    def forget(self, mailbox: str) -> None:
        """The mailbox is not there any more."""
        del self._boxes[mailbox]

    def deliver(self, mailbox: str, mail: bytes, sender: str = "") -> None:
        """Put a mail into a mailbox, whatever the weather."""
        envelope = f"Return-Path: <{sender}>\r\nDelivered-To: {mailbox}\r\n"
        self._boxes[mailbox].deliver(envelope.encode() + mail)

    # --- aiosmtpd's hooks -----------------------------------------------------------------

    async def handle_RCPT(  # noqa: N802
        self, server: Any, session: Any, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if address not in self._boxes and not self.reports_later:
            self.counts["unknown"] += 1
            return f"550 5.1.1 <{address}>: no such mailbox here"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 ok"

    async def handle_DATA(  # noqa: N802
        self, server: Any, session: Any, envelope: Envelope
    ) -> str:
        (recipient,) = envelope.rcpt_tos
        sender = envelope.mail_from or ""
        content = envelope.original_content or b""
        self.counts["taken"] += 1
        self.watch(sender, recipient, content)
        if recipient not in self._boxes:
            told = report(content, recipient, "5.1.1", "550 no such mailbox here")
            # Before the answer: so early do some mail systems say it.
            self.deliver(sender, told)
            return "250 2.0.0 taken"
        fate = self._fate()
        self.counts[fate] += 1
        match fate:
            case "refused":
                return "451 4.3.0 try again"
            case "sent_away":
                _end_behind(server)
                return "421 4.3.2 enough for now"
            case "unanswered":
                self.deliver(recipient, content, sender)
                server.transport.abort()
            case "doubled":
                self.deliver(recipient, content, sender)
                self.deliver(recipient, content, sender)
            case "late":
                later_s = self._random.uniform(0, self.weather.late_s)
                server.loop.call_later(later_s, partial(self.deliver, recipient, content, sender))
            case "cut":
                behind = content.index(b"\r\n\r\n") + 4
                end = self._random.randrange(behind, len(content))
                self.deliver(recipient, content[:end], sender)
            case "rewritten":
                rewrite = self._random.choice(REWRITINGS)
                self.deliver(recipient, rewrite(content), sender)
            case "well":
                self.deliver(recipient, content, sender)
        return "250 2.0.0 taken"

    def _fate(self) -> str:
        drawn = self._random.random()
        for name, share in self.weather._asdict().items():
            if name != "late_s":
                drawn -= share
                if drawn < 0:
                    return name
        return "well"


@contextmanager
def mail_world(weather: Weather = GOOD, seed: int = 1) -> Iterator[World]:
    """Ends behind the post offices of this process, which hand over their mails to the last."""
    world = World(weather, seed)
    before = _offices()
    with real_server(world) as world.port:
        try:
            yield world
        finally:
            eventually(lambda: not _offices() - before, ENDED_S, "the post offices end")


def _offices() -> set[threading.Thread]:
    """Their threads in this process."""
    return {one for one in threading.enumerate() if one.name.startswith("compoint-mail")}


def _end_behind(server: Any) -> None:
    """Close a connection, once what is answered now has been said."""
    server.loop.call_soon(server.transport.close)


def _free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((HOST, 0))
        port: int = sock.getsockname()[1]
        return port


# --- what gateways, lists and filters make of a mail ------------------------------------------


def _parsed(mail: bytes) -> tuple[Message, bytes]:
    parsed = email.message_from_bytes(mail)
    payload = parsed.get_payload(decode=True)
    assert isinstance(payload, bytes)
    return parsed, payload


def _with_few_headers(mail: bytes) -> bytes:
    parsed, payload = _parsed(mail)
    body = base64.encodebytes(payload).replace(b"\n", b"\r\n")
    head = (
        f"From: {parsed['From']}\r\nMessage-ID: <{os.urandom(8).hex()}@gateway.example>\r\n"
        "Content-Type: application/x-semper\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    )
    return head.encode() + body


def _wrapped_anew(mail: bytes) -> bytes:
    parsed, payload = _parsed(mail)
    body = textwrap.fill(base64.b64encode(payload).decode(), 61)
    parsed.set_payload(body)
    return parsed.as_bytes(policy=email.policy.SMTP)


def _with_a_footer(mail: bytes) -> bytes:
    parsed, payload = _parsed(mail)
    whole = EmailMessage()
    whole["From"], whole["To"] = parsed["From"], parsed["To"]
    whole.set_content("This mail was found to be clean.")
    whole.add_attachment(payload, "application", "x-semper", filename="noname")
    return whole.as_bytes(policy=email.policy.SMTP)


def _of_another_type(mail: bytes) -> bytes:
    parsed, _ = _parsed(mail)
    parsed.replace_header("Content-Type", 'application/octet-stream; name="ATT00001.bin"')
    return parsed.as_bytes(policy=email.policy.SMTP)


def _in_another_encoding(mail: bytes) -> bytes:
    parsed, payload = _parsed(mail)
    whole = EmailMessage()
    whole["From"], whole["To"] = parsed["From"], parsed["To"]
    whole.set_content(payload, "application", "x-semper", cte="quoted-printable")
    return whole.as_bytes(policy=email.policy.SMTP)


REWRITINGS: Final = (
    _with_few_headers, _wrapped_anew, _with_a_footer, _of_another_type, _in_another_encoding,
)  # fmt: skip


# --- reports ----------------------------------------------------------------------------------


def report(mail: bytes, recipient: str, status: str, text: str, action: str = "failed") -> bytes:
    """What a mail system writes to the sender of a mail about its fate (RFC 3464)."""
    head, _, _ = mail.partition(b"\r\n\r\n")
    sender = email.message_from_bytes(head)["From"]
    return "\r\n".join(
        [
            "From: Mail Delivery System <MAILER-DAEMON@relay.test>", f"To: {sender}",
            "Subject: Undelivered Mail", "Auto-Submitted: auto-replied", "MIME-Version: 1.0",
            "Content-Type: multipart/report; report-type=delivery-status;", ' boundary="b0"', "",
            "--b0", "", "I am sorry to have to tell you.",
            "--b0", "Content-Type: message/delivery-status", "",
            "Reporting-MTA: dns; relay.test", "",
            f"Final-Recipient: rfc822; {recipient}", f"Action: {action}", f"Status: {status}",
            f"Diagnostic-Code: smtp; {text}", "",
            "--b0", "Content-Type: text/rfc822-headers", "", head.decode(), "", "--b0--", "",
        ]
    ).encode()  # fmt: skip
