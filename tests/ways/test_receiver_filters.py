"""The recipes as they are printed, in the real mail systems where those are installed."""

from __future__ import annotations

import json
import os
import shutil
import smtplib
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from receiver_kit import ROOT, Mailbox, mail_of, program_in

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

_USER: Final = "nobody"

_MAIN: Final = """\
compatibility_level = 3.6
queue_directory = {folder}/queue
data_directory = {folder}/data
maillog_file_prefixes = {folder}
maillog_file = {folder}/log
myhostname = mail.example.org
mydestination = example.org
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
smtpd_relay_restrictions = permit_mynetworks, reject
smtpd_peername_lookup = no
local_recipient_maps =
alias_maps =
forward_path = {folder}/forward
default_transport = error:this test sends nothing away
multi_instance_enable = yes
"""

_MASTER: Final = """\
127.0.0.1:{port} inet n - n - - smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
flush unix n - n 1000? 0 flush
showq unix n - n - - showq
error unix - - n - - error
local unix - n n - - local
postlog unix-dgram n - n - 1 postlogd
"""


class Postfix:
    """A Postfix of this test alone: its own configuration, queue and port."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / "config"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.config.mkdir()
        (folder / "queue").mkdir()
        (folder / "data").mkdir()
        shutil.chown(folder / "data", "postfix")
        (self.config / "main.cf").write_text(_MAIN.format(folder=folder))
        (self.config / "master.cf").write_text(_MASTER.format(port=self.port))
        self._command("start")
        eventually(self._listens, 10, "Postfix listens")

    def _command(self, *words: str) -> None:
        # Its daemons keep the outputs open: a pipe would never end.
        with (self.folder / "said").open("ab") as said:
            subprocess.run(
                ["postfix", "-c", self.config, *words], stdin=subprocess.DEVNULL, stdout=said,
                stderr=said, timeout=30, check=True,
            )  # fmt: skip

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def deliver(self, mail: bytes) -> None:
        with smtplib.SMTP("127.0.0.1", self.port, local_hostname="test", timeout=10) as server:
            server.sendmail("alice@example.org", [f"{_USER}@example.org"], mail)

    def forward(self, text: str) -> None:
        (self.folder / "forward").write_text(text)
        shutil.chown(self.folder / "forward", _USER)

    def queued(self) -> list[str]:
        """Why each mail is still in the queue; empty for one that is being delivered."""
        ran = subprocess.run(
            ["postqueue", "-c", self.config, "-j"], capture_output=True, timeout=30, check=True
        )
        mails = [json.loads(line) for line in ran.stdout.splitlines()]
        return [to.get("delay_reason", "") for mail in mails for to in mail["recipients"]]

    def try_again(self) -> None:
        subprocess.run(["postqueue", "-c", self.config, "-f"], timeout=30, check=True)

    def log(self) -> str:
        return (self.folder / "log").read_text()

    def stop(self) -> None:
        self._command("stop")


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that the user of the mail system may enter, as tmp_path is not."""
    folder = Path(tempfile.mkdtemp(prefix="mail-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def postfix(open_folder: Path) -> Iterator[Postfix]:
    if shutil.which("postfix") is None:
        pytest.skip("postfix is not installed")
    if os.geteuid() != 0:
        pytest.skip("only root can start a Postfix")
    postfix = Postfix(open_folder)
    yield postfix
    postfix.stop()


@pytest.fixture
def interpreter() -> str:
    """One that the user of the mail system may run: ours may lie in the home of another."""
    for one in (sys.executable, "/usr/bin/python3"):
        try:
            subprocess.run(
                [one, "-P", "-c", "import mail.receiver"], user=_USER, check=True, cwd="/",
                env={"PYTHONPATH": str(ROOT)}, capture_output=True, timeout=30,
            )  # fmt: skip
        except (OSError, subprocess.CalledProcessError):
            continue
        return one
    pytest.skip(f"the user {_USER} may run no interpreter, or not read these sources")


@pytest.fixture
def theirs(postfix: Postfix, interpreter: str, monkeypatch: pytest.MonkeyPatch) -> Mailbox:
    """The mailbox of the user to whom that Postfix delivers, who has written the .forward."""
    home = postfix.folder / "home"
    home.mkdir()
    program_in(home, interpreter)
    mailbox = Mailbox(home)
    monkeypatch.setattr(sys, "executable", str(home / "python"))
    postfix.forward(recipes(_USER, str(mailbox.config))[".forward"])
    shutil.chown(home, _USER)
    return mailbox


def test_postfix_hands_our_mail_over_by_a_forward_file(postfix: Postfix, theirs: Mailbox) -> None:
    postfix.deliver(mail_of())
    eventually(theirs.waiting, 20, "the mail is taken")
    (mail,) = theirs.waiting()
    assert b"Return-Path: <alice@example.org>" in mail
    assert b"Delivered-To: nobody@example.org" in mail
    eventually(lambda: postfix.queued() == [], 20, "the queue is empty")


def test_postfix_keeps_a_mail_that_could_not_be_taken_and_tries_again(
    postfix: Postfix, theirs: Mailbox
) -> None:
    theirs.spool.mkdir(mode=0o755)
    shutil.chown(theirs.spool, _USER)
    postfix.deliver(mail_of())
    eventually(lambda: "open to others" in "".join(postfix.queued()), 20, "the mail is kept")
    theirs.spool.chmod(0o700)
    postfix.try_again()
    eventually(theirs.waiting, 20, "the mail is taken")
    assert "status=bounced" not in postfix.log()


def test_postfix_keeps_a_mail_while_the_program_is_missing(
    postfix: Postfix, theirs: Mailbox
) -> None:
    program = theirs.folder / "compoint-mail-receiver"
    program.rename(program.with_suffix(".away"))
    postfix.deliver(mail_of())
    eventually(lambda: "not found" in "".join(postfix.queued()), 20, "the mail is kept")
    program.with_suffix(".away").rename(program)
    postfix.try_again()
    eventually(theirs.waiting, 20, "the mail is taken")
    assert "status=bounced" not in postfix.log()
