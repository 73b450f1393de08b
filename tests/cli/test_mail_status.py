"""`compoint mail status` at real spool folders, beside the process that works with them."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from work_kit import ALICE, BOB, NUMBER, Work

from compoint.core.codes import Code
from compoint.core.keeping import ConnectionChanges, KeptMessage, StreamChanges
from mail._batch import Link
from mail._dropbox import Dropbox
from mail._envelope import Place
from mail._rate import BudgetState

Start = Callable[..., Any]


@pytest.fixture
def spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("SEMPCONFIG", raising=False)
    folder = tmp_path / "spool"
    (tmp_path / "_sempconfig").write_text(
        f"[mail]\nreceiverPort = 9\nreturnAddress = {BOB}\nmailHost = smtp.example.org\n"
        f"trust = none\ndaily = 40\nspool = {folder}\n"
    )
    return folder


def _lines(said: str) -> list[str]:
    return [re.sub(" +", " ", line) for line in said.splitlines()]


def _row(said: str) -> str:
    """The only line of the table."""
    heads, row = _lines(said)[-2:]
    assert heads == " id peer here said confirmed received unread state"
    return row


# --- conversations ----------------------------------------------------------------------------


def test_everything_is_shown_in_plain_columns(command: Start, work: Work, spool: Path) -> None:
    work.begin(name="orders")
    work.tell_alice()
    work.hear_alice(b"y" * 312)
    unread = [KeptMessage(1, 0, b"one"), KeptMessage(2, 0, b"two")]
    stream = StreamChanges(1, b"", 1, unread, has_pieces=False, pieces=[])
    work.commit(machines=[((NUMBER, True), ConnectionChanges(b"", 0, [stream], []))])
    status = command("mail", "status")
    assert status.ends() == 0
    assert _lines(status.said) == [
        f"mailbox {BOB}, process {os.getpid()} works with it",
        f"spool folder {spool}",
        "0 mails sent in the last 24 hours, of 40",
        "0 mails in the drop box",
        "1 conversation",
        " id peer here said confirmed received unread state",
        f" 00010203 {ALICE}:7100 orders 1.5 kB 1.5 kB 312 bytes 2 open",
    ]


def test_everything_is_told_as_json(command: Start, work: Work, spool: Path) -> None:
    work.begin(name="orders")
    work.tell_alice()
    status = command("mail", "status", "--json")
    assert status.ends() == 0
    told = json.loads(status.said)
    (conversation,) = told.pop("conversations")
    assert told == {
        "mailbox": BOB, "spool": str(spool), "pid": os.getpid(), "sent": 0, "daily": 40,
        "submitted": 0, "waiting": 0, "put_aside": 0,
    }  # fmt: skip
    assert 500 < conversation.pop("next_try_s") <= 600
    assert conversation == {
        "id": NUMBER.hex(), "peer": f"mail:{ALICE}:7100", "is_initiator": True, "port": 50211,
        "name": "orders", "said_bytes": 1500, "confirmed_bytes": 0, "received_bytes": 0,
        "unread_messages": 0, "state": "open", "reason": "",
    }  # fmt: skip


def test_what_was_never_sent_is_said_to_wait(command: Start, work: Work) -> None:
    work.begin()
    status = command("mail", "status")
    assert status.ends() == 0
    assert _row(status.said).endswith(" 1.5 kB 0 bytes 0 bytes 0 open, waits to be sent")


@pytest.mark.parametrize(("sent_s", "when"), [(0, "in 10 min"), (540, "in 60 s"), (900, "now")])
def test_what_is_not_confirmed_shows_when_it_is_sent_again(
    command: Start, work: Work, sent_s: int, when: str
) -> None:
    work.begin()
    work.at = work.at._replace(utc=time.time() - sent_s)
    work.tell_alice()
    status = command("mail", "status")
    assert status.ends() == 0
    said = re.sub(r"in [45]\d s", "in 60 s", _row(status.said))
    assert said.endswith(f" open, next try {when}")


def test_a_responder_is_shown_with_the_port_at_which_it_serves(command: Start, work: Work) -> None:
    theirs = work.alice.open(NUMBER, 50000, Place(BOB, 7100))
    theirs.say(b"hello", work.at)
    work.alice.touch((NUMBER, True))
    work.carry(work.alice, work.mailbox)
    work.commit(links=[Link((NUMBER, False), 7100, "", "", is_released=False)])
    status = command("mail", "status")
    assert status.ends() == 0
    assert f" {ALICE}:50000 port 7100 0 bytes 0 bytes 5 bytes 0 open" in _row(status.said)


def test_a_confirmed_end_counts_as_no_byte(command: Start, work: Work) -> None:
    work.begin()
    work.mailbox.conversations[NUMBER, True].say_end(work.at)
    work.mailbox.touch((NUMBER, True))
    work.tell_alice()
    work.hear_alice(b"y")
    work.commit(links=[Link((NUMBER, True), 50211, "", "", is_released=True)])
    status = command("mail", "status")
    assert status.ends() == 0
    assert " 1.5 kB 1.5 kB 1 byte 0 closing" in _row(status.said)
    status = command("mail", "status", "--json")
    assert status.ends() == 0
    assert json.loads(status.said)["conversations"][0]["confirmed_bytes"] == 1500


@pytest.mark.parametrize("terminal", [False, True], ids=["pipe", "terminal"])
def test_an_escape_sequence_in_a_reason_does_not_reach_the_terminal(
    command: Start, work: Work, *, terminal: bool
) -> None:
    work.begin()
    work.mailbox.conversations[NUMBER, True].break_off(Code.INTERNAL, "\x1b]0;owned\x07")
    work.mailbox.touch((NUMBER, True))
    work.commit()
    status = command("mail", "status", terminal=terminal)
    assert status.ends() == 0
    assert "\x1b]0" not in status.said
    assert "broken" in status.said
    assert terminal or _row(status.said).endswith(r" broken: \x1b]0;owned\x07")


# --- what is around them ----------------------------------------------------------------------


def test_when_no_process_works_with_the_mailbox_its_conversations_are_shown(
    command: Start, work: Work
) -> None:
    work.begin()
    work.store.close()
    status = command("mail", "status")
    assert status.ends() == 0
    assert status.said.startswith(f"mailbox {BOB}, no process works with it\n")
    assert f" {ALICE}:7100 " in _row(status.said)


def test_the_process_goes_on_beside_it(command: Start, work: Work) -> None:
    work.begin()
    assert command("mail", "status").ends() == 0
    work.begin(number=b"another".ljust(16))
    status = command("mail", "status")
    assert status.ends() == 0
    assert "\n2 conversations\n" in status.said


def test_only_mails_of_the_last_24_hours_count_as_sent(command: Start, work: Work) -> None:
    hour = int(work.at.utc // 3600)
    state = BudgetState(1.0, work.at.utc, ((hour - 30, 20), (hour - 2, 5), (hour, 3)))
    work.commit(budget=state)
    status = command("mail", "status")
    assert status.ends() == 0
    assert "\n8 mails sent in the last 24 hours, of 40\n" in status.said


def test_mails_in_the_drop_box_and_those_put_aside_are_counted(command: Start, spool: Path) -> None:
    box = Dropbox(str(spool))
    for _ in range(3):
        box.put(b"a mail")
    box.set_aside(box.waiting()[0])
    status = command("mail", "status")
    assert status.ends() == 0
    assert f"\n2 mails in the drop box, 1 put aside in {spool}/bad\n" in status.said


def test_before_the_first_mail_there_is_nothing_and_nothing_is_made(
    command: Start, spool: Path
) -> None:
    status = command("mail", "status")
    assert status.ends() == 0
    assert status.said.startswith(f"mailbox {BOB}, no process works with it\n")
    assert status.said.endswith("\nno conversations\n")
    assert not spool.exists()


# --- what goes wrong --------------------------------------------------------------------------


def test_that_mail_is_off_is_one_sentence(command: Start, tmp_path: Path) -> None:
    (tmp_path / "_sempconfig").write_text("")
    status = command("mail", "status")
    assert status.ends() == 2
    assert status.said == (
        "compoint: configure: mail is off; set receiverPort, returnAddress and mailHost in "
        "[mail] of the _sempconfig\n"
    )


def test_a_damaged_store_is_one_sentence(command: Start, work: Work, spool: Path) -> None:
    work.store.close()
    (database,) = (file for file in spool.iterdir() if file.stat().st_size > 4096)
    database.write_bytes(b"no database " * 1000)
    status = command("mail", "status")
    assert status.ends() == 2
    assert str(database) in status.said
    assert status.said.count("\n") == 1
