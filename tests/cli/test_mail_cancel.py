"""`compoint mail cancel`: what is broken off, who is told, and what is remembered of it."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from smtp_kit import HOST, real_server
from work_kit import ALICE, BOB, NUMBER, MailServer, Work, free_port, mail_command, settings

from compoint.cli._faults import CommandFailed
from compoint.cli._parser import parser
from compoint.core.codes import Code
from compoint.testing._settings import sempconfig_text
from mail._batch import Link
from mail._envelope import Kind, Place
from mail._store import Loaded, Store

Start = Callable[..., Any]

OTHER = b"\x00\x01\x02\x09".ljust(16)


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@pytest.fixture
def server() -> Iterator[MailServer]:
    """Takes mails to Alice."""
    server = MailServer(ALICE)
    with real_server(server) as port:
        server.port = port
        yield server


def cancel(server: MailServer, spool: Path, *ids: str) -> str:
    return mail_command(settings(spool, server.port), "cancel", *ids, "--wait", "20")


def kept(spool: Path) -> Loaded:
    store = Store(str(spool), BOB)
    try:
        return store.load()
    finally:
        store.close()


def test_the_peer_is_told_once_and_a_tombstone_is_all_that_is_kept(
    work: Work, server: MailServer, spool: Path
) -> None:
    work.begin(name="orders")
    work.tell_alice()
    work.store.close()
    assert cancel(server, spool, "00010203") == (
        f"00010203 with {ALICE}:7100: cancelled\na mail to {ALICE} was handed over: answers only\n"
    )
    (frame,) = server.frames()
    assert frame.kind is Kind.RESET
    work.alice.take(frame, work.at)
    (conversation,) = work.alice.conversations.values()
    assert conversation.ending is not None
    assert conversation.ending.code is Code.ABANDONED
    assert conversation.ending.text == f"cancelled by a person at {BOB}"
    after = kept(spool)
    assert after.conversations == []
    assert [(one.conversation, one.code) for one in after.tombstones] == [(NUMBER, Code.ABANDONED)]


def test_a_peer_that_cannot_have_heard_of_it_is_not_told(
    work: Work, server: MailServer, spool: Path
) -> None:
    work.begin(name="orders")
    work.store.close()
    assert cancel(server, spool, "0001") == (
        f"00010203 with {ALICE}:7100, which need not be told: cancelled\n"
    )
    assert server.envelopes == []
    assert kept(spool).conversations == []


def test_only_the_conversations_that_are_named_are_broken_off(
    work: Work, server: MailServer, spool: Path
) -> None:
    work.begin(name="orders")
    work.tell_alice()
    work.begin(OTHER, name="others")
    work.store.close()
    cancel(server, spool, "00010203")
    (left,) = kept(spool).conversations
    assert left.state.conversation == OTHER


def test_both_sides_of_a_conversation_within_one_mailbox_are_cancelled(
    work: Work, server: MailServer, spool: Path
) -> None:
    ours = work.mailbox.open(NUMBER, 50000, Place(BOB, 7100))
    ours.say(b"hello", work.at)
    work.mailbox.touch((NUMBER, True))
    work.carry(work.mailbox, work.mailbox)
    links = [Link((NUMBER, is_initiator), 7100, "x", "", is_released=False)
             for is_initiator in (True, False)]  # fmt: skip
    work.commit(links=links)
    work.store.close()
    with pytest.raises(CommandFailed, match=r"^the mail to 2 peers did not leave"):
        cancel(server, spool, "00")  # there is no Bob at this server
    assert kept(spool).conversations == []


@pytest.mark.parametrize(
    ("ids", "reason"),
    [
        (["00010203", "ff"], "^no conversation begins with ff; nothing was cancelled"),
        (["000102"], "^2 conversations begin with 000102; nothing was cancelled"),
    ],
)
def test_when_one_is_not_found_none_is_cancelled(
    work: Work, server: MailServer, spool: Path, ids: list[str], reason: str
) -> None:
    work.begin(name="orders")
    work.begin(OTHER, name="others")
    work.store.close()
    with pytest.raises(CommandFailed, match=reason):
        cancel(server, spool, *ids)
    assert len(kept(spool).conversations) == 2
    assert server.envelopes == []


def test_a_mail_that_does_not_leave_is_a_failure_and_the_conversation_is_broken_off(
    work: Work, spool: Path
) -> None:
    work.begin(name="orders")
    work.tell_alice()
    work.store.close()
    with socket.create_server((HOST, 0)) as probe:
        section = settings(spool, probe.getsockname()[1])
    with pytest.raises(CommandFailed, match=r"^the mail to 1 peer did not leave, .*refused.* then"):
        mail_command(section, "cancel", "0001", "--wait", "0.5")
    assert kept(spool).conversations == []


def test_a_conversation_of_a_running_process_is_left_to_it(
    command: Start, work: Work, spool: Path, tmp_path: Path
) -> None:
    config = tmp_path / "_sempconfig"
    config.write_text(sempconfig_text({"mail": settings(spool, free_port())}))
    work.begin(name="orders")
    run = command("--config", config, "mail", "cancel", "00")
    assert run.ends() == 1
    assert f"another process (pid {os.getpid()}) uses the mailbox {BOB}" in run.said


@pytest.mark.parametrize("wrong", ["", "orders", "0" * 33, "-"])
def test_what_is_no_number_is_wrong_usage(wrong: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        parser().parse_args(["mail", "cancel", wrong])
    assert end.value.code == 2
    assert "no digits of a conversation's number" in capsys.readouterr().err
