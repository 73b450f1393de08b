"""The recipes as they are printed, in the real mail systems where those are installed."""

from __future__ import annotations

import os
import shutil
import smtplib
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from mail_system_kit import needs_postfix, receiver_interpreter
from receiver_kit import Mailbox, mail_of, program_in

from bench.postfix import HOST, USER, Postfix, mailbox_of
from compoint.testing import eventually
from mail._recipes import recipes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_LETTER: Final = b"From: alice@example.org\n\nDear Bob, how are you?\n"

_REPORT: Final = (
    b"From: MAILER-DAEMON@example.org\n"
    b'Content-Type: multipart/report;\n report-type=delivery-status; boundary="b"\n\n'
    b"--b\n\nno such user\n--b\nContent-Type: message/rfc822\n\n" + mail_of() + b"\n--b--\n"
)


def _needs(program: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"{program} is not installed")


@pytest.fixture
def recipe(
    mailbox: Mailbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], str]:
    """A recipe by its name, for a program in a folder with a space in its name."""
    folder = tmp_path / "my programs"
    folder.mkdir()
    program_in(folder)
    monkeypatch.setattr(sys, "executable", str(folder / "python"))
    return lambda name: recipes("bob", str(mailbox.config))[name]


def _filter(command: list[object], mail: bytes, home: Path) -> int:
    return subprocess.run(
        [str(word) for word in command], input=mail, cwd=home, timeout=30, check=False,
        capture_output=True, env={"HOME": str(home), "PATH": os.environ["PATH"]},
    ).returncode  # fmt: skip


# --- procmail ---------------------------------------------------------------------------------


@pytest.fixture
def procmail(recipe: Callable[[str], str], tmp_path: Path) -> Callable[[bytes], int]:
    rules = tmp_path / "procmailrc"
    rules.write_text(f"DEFAULT={tmp_path}/inbox\nSHELL=/bin/sh\n{recipe('procmail')}")
    rules.chmod(0o600)
    return lambda mail: _filter(["procmail", rules], mail, tmp_path)


@_needs("procmail")
def test_procmail_hands_our_mail_over(
    procmail: Callable[[bytes], int], mailbox: Mailbox, tmp_path: Path
) -> None:
    assert procmail(mail_of()) == 0
    assert len(mailbox.waiting()) == 1
    assert not (tmp_path / "inbox").exists()


@_needs("procmail")
def test_procmail_hands_mail_over_whose_headers_were_lost(
    procmail: Callable[[bytes], int], mailbox: Mailbox
) -> None:
    body = mail_of().partition(b"\n\n")[2]
    assert procmail(b"From: a@b\n\n" + body) == 0
    assert len(mailbox.waiting()) == 1


@_needs("procmail")
def test_procmail_leaves_other_mail_to_the_inbox(
    procmail: Callable[[bytes], int], mailbox: Mailbox, tmp_path: Path
) -> None:
    assert procmail(_LETTER) == 0
    assert b"Dear Bob" in (tmp_path / "inbox").read_bytes()
    assert mailbox.waiting() == []


@_needs("procmail")
def test_procmail_hands_reports_over_and_leaves_them_to_the_inbox(
    procmail: Callable[[bytes], int], mailbox: Mailbox, tmp_path: Path
) -> None:
    assert procmail(_REPORT) == 0
    assert len(mailbox.waiting()) == 1
    assert b"no such user" in (tmp_path / "inbox").read_bytes()


@_needs("procmail")
def test_procmail_gives_back_what_could_not_be_taken(
    procmail: Callable[[bytes], int], mailbox: Mailbox, tmp_path: Path
) -> None:
    mailbox.spool.mkdir(mode=0o755)
    assert procmail(mail_of()) == 75
    assert not (tmp_path / "inbox").exists()


# --- maildrop ---------------------------------------------------------------------------------


@pytest.fixture
def maildrop(recipe: Callable[[str], str], tmp_path: Path) -> Callable[[bytes], int]:
    rules = tmp_path / "mailfilter"
    rules.write_text(f"SHELL=/bin/sh\n{recipe('maildrop')}\nto {tmp_path}/inbox\n")
    rules.chmod(0o600)
    return lambda mail: _filter(["maildrop", rules], mail, tmp_path)


@_needs("maildrop")
def test_maildrop_hands_our_mail_over(
    maildrop: Callable[[bytes], int], mailbox: Mailbox, tmp_path: Path
) -> None:
    assert maildrop(mail_of()) == 0
    assert len(mailbox.waiting()) == 1
    assert not (tmp_path / "inbox").exists()


@_needs("maildrop")
def test_maildrop_hands_mail_over_whose_headers_were_lost(
    maildrop: Callable[[bytes], int], mailbox: Mailbox
) -> None:
    body = mail_of().partition(b"\n\n")[2]
    assert maildrop(b"From: a@b\n\n" + body) == 0
    assert len(mailbox.waiting()) == 1


@_needs("maildrop")
def test_maildrop_leaves_other_mail_to_the_inbox(
    maildrop: Callable[[bytes], int], mailbox: Mailbox, tmp_path: Path
) -> None:
    assert maildrop(_LETTER) == 0
    assert b"Dear Bob" in (tmp_path / "inbox").read_bytes()
    assert mailbox.waiting() == []


@_needs("maildrop")
def test_maildrop_hands_reports_over_and_leaves_them_to_the_inbox(
    maildrop: Callable[[bytes], int], mailbox: Mailbox, tmp_path: Path
) -> None:
    assert maildrop(_REPORT) == 0
    assert len(mailbox.waiting()) == 1
    assert b"no such user" in (tmp_path / "inbox").read_bytes()


@_needs("maildrop")
def test_maildrop_gives_back_what_could_not_be_taken(
    maildrop: Callable[[bytes], int], mailbox: Mailbox
) -> None:
    mailbox.spool.mkdir(mode=0o755)
    assert maildrop(mail_of()) == 75


# --- Postfix ----------------------------------------------------------------------------------

_BOB: Final = mailbox_of("bob")


@pytest.fixture
def postfix() -> Iterator[Postfix]:
    with Postfix() as postfix:
        yield postfix


@pytest.fixture
def theirs(postfix: Postfix, monkeypatch: pytest.MonkeyPatch) -> Mailbox:
    """The mailbox of a user of that Postfix, who has written the .forward."""
    home = postfix.home / "bob"
    home.mkdir()
    program_in(home, receiver_interpreter())
    mailbox = Mailbox(home)
    monkeypatch.setattr(sys, "executable", str(home / "python"))
    postfix.forward("bob", recipes(USER, str(mailbox.config))[".forward"])
    shutil.chown(home, USER)
    return mailbox


def _deliver(postfix: Postfix, mail: bytes) -> None:
    with smtplib.SMTP(HOST, postfix.port, local_hostname="test", timeout=10) as server:
        server.sendmail("alice@example.org", [_BOB], mail)


@needs_postfix
def test_postfix_hands_our_mail_over_by_a_forward_file(postfix: Postfix, theirs: Mailbox) -> None:
    _deliver(postfix, mail_of())
    eventually(theirs.waiting, 20, "the mail is taken")
    (mail,) = theirs.waiting()
    assert b"Return-Path: <alice@example.org>" in mail
    assert f"Delivered-To: {_BOB}".encode() in mail
    eventually(lambda: postfix.queued() == [], 20, "the queue is empty")


@needs_postfix
def test_postfix_keeps_a_mail_that_could_not_be_taken_and_tries_again(
    postfix: Postfix, theirs: Mailbox
) -> None:
    theirs.spool.mkdir(mode=0o755)
    shutil.chown(theirs.spool, USER)
    _deliver(postfix, mail_of())
    eventually(lambda: "open to others" in "".join(postfix.queued()), 20, "the mail is kept")
    theirs.spool.chmod(0o700)
    postfix.try_again()
    eventually(theirs.waiting, 20, "the mail is taken")
    assert "status=bounced" not in postfix.log()


@needs_postfix
def test_postfix_keeps_a_mail_while_the_program_is_missing(
    postfix: Postfix, theirs: Mailbox
) -> None:
    program = theirs.folder / "compoint-mail-receiver"
    program.rename(program.with_suffix(".away"))
    _deliver(postfix, mail_of())
    eventually(lambda: "not found" in "".join(postfix.queued()), 20, "the mail is kept")
    program.with_suffix(".away").rename(program)
    postfix.try_again()
    eventually(theirs.waiting, 20, "the mail is taken")
    assert "status=bounced" not in postfix.log()
