"""`compoint mail status`: the conversations of the mailbox and what waits, as kept on the disk.

It looks into the spool folder and asks no process, so it works beside one and without one.
"""

from __future__ import annotations

import json
import math
import os
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final

from compoint.address import ComPointAddress
from compoint.cli._mail_settings import mail_settings
from compoint.cli._visible import counted, size_in_words
from mail._rate import Budget
from mail._settings import spool_folder
from mail._store import Store

if TYPE_CHECKING:
    import argparse

    from compoint.cli._output import Output
    from compoint.config import MailSettings
    from mail._rate import BudgetState
    from mail._store import ConversationView

__all__ = ["ConversationStatus", "MailStatus", "run"]

#: So much of a conversation's number is shown to people.
_ID_DIGITS: Final = 8


@dataclass(frozen=True, slots=True)
class ConversationStatus:
    """One conversation, as it was last brought to the disk."""

    id: str
    peer: str
    is_initiator: bool
    #: Of this side; of a responder the port at which it serves.
    port: int
    #: The name by which an initiator is taken up again; empty: it has none.
    name: str
    said_bytes: int
    confirmed_bytes: int
    received_bytes: int
    unread_messages: int
    #: Seconds until something is said again; None: nothing that was sent waits for that.
    next_try_s: float | None
    #: open; closing: no program needs it here, the peer does not have all of it yet; broken.
    state: str
    #: Why it broke.
    reason: str


@dataclass(frozen=True, slots=True)
class MailStatus:
    """A mailbox, by its spool folder."""

    mailbox: str
    spool: str
    #: The process that works with it; None: none does.
    pid: int | None
    #: Mails that left in the last 24 hours (counted by the hour), and how many may.
    sent: int
    daily: int
    #: Submitted mails that may still come back.
    submitted: int
    #: Mails in the drop box: those that wait, and those put aside.
    waiting: int
    put_aside: int
    conversations: list[ConversationStatus]


def run(given: argparse.Namespace, out: Output) -> int:
    """Look and print."""
    status = _look(mail_settings(), time.time())
    if given.json:
        out.say(json.dumps(asdict(status)))
    else:
        _show(status, out)
    return 0


# --- looking ----------------------------------------------------------------------------------


def _look(settings: MailSettings, utc: float) -> MailStatus:
    spool = spool_folder(settings)
    with Store.peek(spool) as view:
        return MailStatus(
            mailbox=view.mailbox or settings.return_address,
            spool=spool,
            pid=view.pid,
            sent=_sent(settings, view.budget, utc),
            daily=settings.daily,
            submitted=len(view.posts),
            waiting=_files(os.path.join(spool, "new")),
            put_aside=_files(os.path.join(spool, "bad")),
            conversations=[_of_conversation(one, utc) for one in view.conversations],
        )


def _sent(settings: MailSettings, state: BudgetState | None, utc: float) -> int:
    budget = Budget(settings.rate, 1, settings.daily, state)
    budget.left_today(utc)  # forgets what is older
    return sum(number for _, number in budget.state().sent)


def _files(folder: str) -> int:
    try:
        return len(os.listdir(folder))
    except FileNotFoundError:
        return 0


def _of_conversation(view: ConversationView, utc: float) -> ConversationStatus:
    number, is_initiator = view.key
    return ConversationStatus(
        id=number.hex(),
        peer=str(ComPointAddress("mail", *view.peer)),
        is_initiator=is_initiator,
        port=view.port,
        name=view.name.removeprefix("plain "),
        said_bytes=view.said,
        # Where the end is confirmed too, it counts as one more.
        confirmed_bytes=min(view.confirmed, view.said),
        received_bytes=view.received,
        unread_messages=view.unread,
        next_try_s=max(0.0, view.due_utc - utc) if view.due_utc < math.inf else None,
        state="broken" if view.how else "closing" if view.is_released else "open",
        reason=view.text or view.how,
    )


# --- printing ---------------------------------------------------------------------------------


def _show(status: MailStatus, out: Output) -> None:
    who = f"process {status.pid} works with it" if status.pid else "no process works with it"
    out.say(f"mailbox {status.mailbox}, {who}")
    out.say(f"spool folder {status.spool}")
    out.say(f"{counted(status.sent, 'mail')} sent in the last 24 hours, of {status.daily}")
    put_aside = f", {status.put_aside} put aside in {status.spool}/bad" if status.put_aside else ""
    out.say(f"{counted(status.waiting, 'mail')} in the drop box{put_aside}")
    number = len(status.conversations)
    out.table(
        counted(number, "conversation") if number else "no conversations",
        ("id", "peer", "here", "said", "confirmed", "received", "unread", "state"),
        [
            (
                one.id[:_ID_DIGITS],
                one.peer.removeprefix("mail:"),
                _here(one),
                size_in_words(one.said_bytes),
                size_in_words(one.confirmed_bytes),
                size_in_words(one.received_bytes),
                str(one.unread_messages),
                _state(one),
            )
            for one in status.conversations
        ],
    )


def _here(one: ConversationStatus) -> str:
    return one.name if one.name or one.is_initiator else f"port {one.port}"


def _state(one: ConversationStatus) -> str:
    if one.reason:
        return f"{one.state}: {one.reason}"
    if one.next_try_s is not None:
        return f"{one.state}, next try {_when(one.next_try_s)}"
    return f"{one.state}, waits to be sent" if one.confirmed_bytes < one.said_bytes else one.state


def _when(seconds: float) -> str:
    if seconds < 1:
        return "now"
    return f"in {seconds:.0f} s" if seconds < 120 else f"in {seconds / 60:.0f} min"
