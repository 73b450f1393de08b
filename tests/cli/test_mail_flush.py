"""`compoint mail flush`: what leaves at once, what is not said again, and what keeps it."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from smtp_kit import HOST, Secret, real_server
from work_kit import ALICE, NUMBER, MailServer, Work, free_port, mail_command, settings

from compoint.cli._faults import CommandFailed
from compoint.errors import BusyError
from compoint.testing._settings import sempconfig_text
from mail._dropbox import Dropbox
from mail._envelope import Flag, Kind
from mail._rate import BudgetState
from mail._store import Store

Start = Callable[..., Any]

FLUSH = ("flush", "--wait", "20")
KEPT = "orders"


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


def flush(server: MailServer, spool: Path, **more: object) -> str:
    return mail_command(settings(spool, server.port, **more), *FLUSH)


# --- what leaves ------------------------------------------------------------------------------


def test_what_was_never_sent_leaves(work: Work, server: MailServer, spool: Path) -> None:
    work.begin(name=KEPT)
    work.store.close()
    assert flush(server, spool) == (
        f"a mail to {ALICE} was handed over: 1500 bytes said\nnothing waits to be sent\n"
    )
    (frame,) = server.frames()
    assert (frame.kind, frame.start, len(frame.body)) == (Kind.DATA, 0, 1500)


def test_what_waits_for_its_next_try_is_said_again_now(
    work: Work, server: MailServer, spool: Path
) -> None:
    work.begin(name=KEPT)
    work.tell_alice()
    work.store.close()
    flush(server, spool)
    (frame,) = server.frames()
    assert (frame.start, len(frame.body)) == (0, 1500)


def test_an_acknowledgement_that_waits_for_something_to_ride_on_leaves(
    work: Work, server: MailServer, spool: Path
) -> None:
    work.begin(name=KEPT)
    work.tell_alice()
    work.hear_alice(b"yes")
    work.store.close()
    assert f"a mail to {ALICE} was handed over: answers only\n" in flush(server, spool)
    (frame,) = server.frames()
    assert (frame.kind, frame.have) == (Kind.ACK, 3)


def test_what_a_mail_in_the_drop_box_confirms_is_not_said_again(
    work: Work, server: MailServer, spool: Path
) -> None:
    work.begin(name=KEPT)
    work.tell_alice()
    work.store.close()
    Dropbox(str(spool)).put(work.mail_of_alice(b"yes"))
    assert flush(server, spool).startswith("1 mail taken out of the drop box\n")
    assert [frame.kind for frame in server.frames()] == [Kind.ACK]
    assert Dropbox(str(spool)).waiting() == []


def test_an_initiator_whom_nobody_can_take_up_says_goodbye(
    work: Work, server: MailServer, spool: Path
) -> None:
    work.begin()
    work.store.close()
    flush(server, spool)
    (frame,) = server.frames()
    assert frame.flags & Flag.END


def test_a_second_flush_finds_that_nothing_waits_only_until_the_next_try(
    work: Work, server: MailServer, spool: Path
) -> None:
    """A flush is a try: it brings the next one forward, every time."""
    work.begin(name=KEPT)
    work.store.close()
    flush(server, spool)
    flush(server, spool)
    assert len(server.envelopes) == 2


def test_where_nothing_waits_nobody_is_called(spool: Path) -> None:
    with socket.create_server((HOST, 0)) as nobody:
        nobody.setblocking(False)
        section = settings(spool, nobody.getsockname()[1])
        assert mail_command(section, *FLUSH) == "nothing waits to be sent\n"
        with pytest.raises(BlockingIOError):
            nobody.accept()


def test_a_mail_that_is_none_of_ours_is_put_aside_and_that_is_said(
    server: MailServer, spool: Path
) -> None:
    Dropbox(str(spool)).put(b"From: x@example.org\n\nhello")
    assert flush(server, spool).startswith(f"1 mail put aside in {spool}/bad\n")


# --- what keeps it ----------------------------------------------------------------------------


def test_a_server_that_is_down_is_tried_until_the_time_is_over(work: Work, spool: Path) -> None:
    work.begin(name=KEPT)
    work.store.close()
    with socket.create_server((HOST, 0)) as probe:
        section = settings(spool, probe.getsockname()[1])
    with pytest.raises(CommandFailed, match=r"^not everything has left \(1 .*Connection refused"):
        mail_command(section, "flush", "--wait", "0.5")
    with Store.peek(str(spool)) as view:
        assert [one.key for one in view.conversations] == [(NUMBER, True)]


def test_a_wrong_password_ends_it_at_once(work: Work, spool: Path, tmp_path: Path) -> None:
    work.begin(name=KEPT)
    work.store.close()
    password = tmp_path / "password"
    password.write_text("guessed\n")
    password.chmod(0o600)
    door = Secret("bob", "hidden")
    options = {"authenticator": door, "auth_require_tls": False}
    with real_server(MailServer(ALICE), **options) as port:
        section = settings(spool, port, smtpUser="bob", passwordFile=password)
        started_at = time.monotonic()
        with pytest.raises(CommandFailed, match=r"takes no mail of this program: .*login.*535"):
            mail_command(section, *FLUSH)
    assert time.monotonic() - started_at < 10
    assert door.tries == 1


def test_a_budget_that_is_used_up_ends_it_at_once(
    work: Work, server: MailServer, spool: Path
) -> None:
    work.begin(name=KEPT)
    now = time.time()
    work.commit(budget=BudgetState(3.0, now, ((int(now // 3600), 40),)))
    work.store.close()
    started_at = time.monotonic()
    with pytest.raises(CommandFailed, match="the daily budget of mails is used up"):
        flush(server, spool, daily=40)
    assert time.monotonic() - started_at < 10
    assert server.envelopes == []


def test_a_recipient_who_is_refused_is_a_failure(work: Work, spool: Path) -> None:
    work.begin(name=KEPT)
    work.store.close()
    with (
        real_server(MailServer()) as port,
        pytest.raises(CommandFailed, match=r"^1 mail refused; what was said in it is broken off$"),
    ):
        mail_command(settings(spool, port), *FLUSH)


def test_a_taken_receiver_port_is_named(spool: Path) -> None:
    section = settings(spool, 9)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((HOST, section["receiverPort"]))
        with pytest.raises(BusyError, match=f"the receiver port {section['receiverPort']} "):
            mail_command(section, *FLUSH)


def test_a_process_that_works_with_the_mailbox_sends_by_itself(
    command: Start, work: Work, spool: Path, tmp_path: Path
) -> None:
    config = tmp_path / "_sempconfig"
    config.write_text(sempconfig_text({"mail": settings(spool, free_port())}))
    run = command("--config", config, "mail", "flush")
    assert run.ends() == 1
    assert run.said == (
        f"compoint: process {os.getpid()} works with the mailbox bob@example.org and sends what "
        "waits; `compoint mail status` shows it\n"
    )
