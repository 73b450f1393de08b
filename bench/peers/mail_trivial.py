"""What mail costs without us: smtplib, a script that Postfix starts, and a look into a folder."""

from __future__ import annotations

import configparser
import os
import smtplib
import socket
import time
from pathlib import Path
from typing import Final

from bench.peer import AcceptingListener, Line, Peer
from bench.peers.mail_stage import FOLDER
from bench.postfix import HOST, mailbox_of

__all__ = ["Trivial"]

#: About what ours has: a frame of base64.
_HEAD: Final = (
    "From: <{sender}>\r\nTo: <{recipient}>\r\nSubject: SEMPER Message\r\nMIME-Version: 1.0\r\n"
    "Content-Type: application/x-semper\r\nContent-Transfer-Encoding: base64\r\n"
    "X-Filler: {filler}\r\n\r\n"
)


class _Mailbox:
    """Sends mails to the other role, and waits for what the script has kept of its mails."""

    def __init__(self, own: str, peer: str) -> None:
        self._own = mailbox_of(own)
        self._peer = mailbox_of(peer)
        self._folder = Path(os.environ[FOLDER]) / own
        settings = configparser.ConfigParser()
        settings.read(self._folder / "_sempconfig")
        self._poked = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._poked.bind((HOST, settings.getint("mail", "receiverPort")))
        self.smtp = smtplib.SMTP(HOST, int(os.environ["SMTP_PORT"]), local_hostname="bench")
        self.submitted_ns: list[int] = []

    def send(self, message: bytes) -> None:
        head = _HEAD.format(sender=self._own, recipient=self._peer, filler="x" * 400)
        self.submitted_ns.append(time.monotonic_ns())
        self.smtp.sendmail(self._own, [self._peer], head.encode() + message)

    def receive(self) -> bytes:
        while True:
            for file in self._folder.glob("*.mail"):
                mail = file.read_bytes()
                file.unlink()
                return mail.partition(b"\n\n")[2].strip()
            self._poked.recv(16)


class _Listener(AcceptingListener):
    @property
    def address(self) -> str:
        return "there is only one"

    def accept(self) -> Line:
        mailbox = _Mailbox("responder", "initiator")
        return Line(mailbox.send, mailbox.receive, mailbox.smtp.quit)


class Trivial(Peer):
    """One message is one mail."""

    def __init__(self, message_bytes: int) -> None:
        super().__init__(message_bytes)
        self.submitted_ns: list[int] = []

    def listen(self) -> _Listener:
        return _Listener()

    def connect(self, address: str) -> Line:
        mailbox = _Mailbox("initiator", "responder")
        self.submitted_ns = mailbox.submitted_ns
        return Line(mailbox.send, mailbox.receive, mailbox.smtp.quit)
