"""A mailbox with conversations, as a program has left it; its peer; and a mail server."""

from __future__ import annotations

import importlib
import io
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aiosmtpd.smtp import Envelope
from smtp_kit import HOST, Taken

from compoint.cli._output import Output
from compoint.cli._parser import ROOMS, parser
from compoint.testing import configured
from mail._batch import Batch, Link
from mail._envelope import Frame, Place, encode, find_frames
from mail._find import find
from mail._mailbox import Mailbox
from mail._mime import new_mail, new_message_id
from mail._store import Store
from mail._timers import Moment, Pace

__all__ = ["ALICE", "BOB", "NUMBER", "MailServer", "Work", "free_port", "mail_command", "settings"]

ALICE, BOB = "alice@example.org", "bob@example.org"
NUMBER = bytes(range(16))
_ROOM = 1_000_000


class Work:
    """The process that works with Bob's mailbox: this one."""

    def __init__(self, spool: Path) -> None:
        self.at = Moment(0.0, time.time())
        self.store = Store(str(spool), BOB)
        self.mailbox = Mailbox(BOB, self.store.incarnation, Pace())
        self.alice = Mailbox(ALICE, b"incarnat", Pace())

    def begin(self, number: bytes = NUMBER, name: str = "") -> None:
        """A conversation of ours at Alice's port 7100; we say 1500 bytes, which wait."""
        key = number, True
        conversation = self.mailbox.open(number, 50211, Place(ALICE, 7100))
        conversation.say(b"x" * 1500, self.at)
        self.mailbox.touch(key)
        self.commit(links=[Link(key, 50211, name, "", is_released=False)])

    def tell_alice(self) -> None:
        self.carry(self.mailbox, self.alice)

    def hear_alice(self, data: bytes) -> None:
        self._alice_says(data)
        self.carry(self.alice, self.mailbox)

    def mail_of_alice(self, data: bytes) -> bytes:
        """It says this, and confirms what it has heard."""
        self._alice_says(data)
        post = self.alice.take_post(self.at, _ROOM)
        assert post is not None
        payload = b"".join(map(encode, post.frames))
        mail = new_mail(
            payload, sender=ALICE, recipient=BOB, message_id=new_message_id(ALICE), now=self.at.utc
        )
        return b"".join(mail.pieces())

    def _alice_says(self, data: bytes) -> None:
        (key,) = self.alice.conversations
        self.alice.conversations[key].say(data, self.at)
        self.alice.touch(key)

    def carry(self, giver: Mailbox, taker: Mailbox) -> None:
        post = giver.take_post(self.at, _ROOM)
        assert post is not None
        giver.submitted(post, self.at)
        for frame in post.frames:
            taker.take(frame, self.at)
        self.commit()

    def commit(self, **changes: Any) -> None:
        self.store.commit(Batch(mailbox=self.mailbox.take_changes(self.at), **changes))


class MailServer(Taken):
    """Takes mails to its mailboxes and has each delivered: an aiosmtpd handler."""

    def __init__(self, *mailboxes: str, deliver: Callable[[bytes], object] | None = None) -> None:
        super().__init__()
        #: Where it listens, for who remembers.
        self.port = 0
        self._mailboxes = mailboxes
        self._deliver = deliver

    async def handle_RCPT(  # noqa: N802
        self, server: Any, session: Any, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if address not in self._mailboxes:
            return "550 5.1.1 no such user"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 ok"

    async def handle_DATA(self, server: Any, session: Any, envelope: Envelope) -> str:  # noqa: N802
        if self._deliver is not None:
            self._deliver(envelope.original_content or b"")
        return await super().handle_DATA(server, session, envelope)

    def frames(self) -> list[Frame]:
        """All that was said in the mails that it took."""
        mails = (find(io.BytesIO(one.original_content or b"")) for one in self.envelopes)
        payloads = (payload for mail in mails for payload in mail.payloads)
        return [one.frame for each in payloads for one in find_frames(each).envelopes]


def free_port() -> int:
    """Of datagrams."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((HOST, 0))
        port: int = sock.getsockname()[1]
        return port


def settings(spool: Path, smtp_port: int, **more: object) -> dict[str, object]:
    """Section [mail] for Bob."""
    return {
        "receiverPort": free_port(), "returnAddress": BOB, "mailHost": HOST,
        "smtpPort": smtp_port, "smtpTls": "none", "trust": "none", "spool": spool, **more,
    }  # fmt: skip


def mail_command(section: dict[str, object], *words: str, said: io.StringIO | None = None) -> str:
    """What `compoint mail` says with these settings, in this process; raises as it does."""
    said = said or io.StringIO()
    with configured(mail=section):
        given = parser().parse_args(["mail", *words])
        assert importlib.import_module(ROOMS[given.command]).run(given, Output(said)) == 0
    return said.getvalue()
