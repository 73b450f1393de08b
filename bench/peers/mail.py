"""Our own over mail."""

from __future__ import annotations

import os
import time
from typing import Any

from bench.peer import Line
from bench.peers.mail_stage import FOLDER
from bench.peers.ours import Plain, PlainListener
from bench.postfix import mailbox_of
from compoint import ComManager, ComPointAddress
from mail._outcome import Outcome
from mail._submit import Submission

__all__ = ["Mail"]


class Mail(Plain):
    """A ComPoint whose address says mail; each role has a mailbox."""

    protocol = "mail"

    def __init__(self, message_bytes: int) -> None:
        super().__init__(message_bytes)
        #: When each mail of this process was given to the mail server, in ns.
        self.submitted_ns: list[int] = []
        _note_submissions(self.submitted_ns)

    def listen(self) -> PlainListener:
        _take_settings_of("responder")
        return PlainListener(self)

    def connect(self, address: str) -> Line:
        _take_settings_of("initiator")
        return super().connect(address)

    def at(self, address: str) -> ComPointAddress:
        return ComPointAddress(self.protocol, mailbox_of("responder"), int(address))


def _take_settings_of(role: str) -> None:
    ComManager.init(os.path.join(os.environ[FOLDER], role, "_sempconfig"))


def _note_submissions(times_ns: list[int]) -> None:
    send = Submission.send

    def noting(submission: Submission, *arguments: Any, **options: Any) -> Outcome:
        times_ns.append(time.monotonic_ns())
        return send(submission, *arguments, **options)

    setattr(Submission, "send", noting)  # noqa: B010 - seen by mypy as another signature
