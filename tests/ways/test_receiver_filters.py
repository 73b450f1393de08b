"""The recipes as they are printed, in the real mail systems where those are installed.

The paths of the program and of its settings hold spaces.
"""

from __future__ import annotations

import os
import shlex
import shutil
import smtplib
import subprocess
import sys
from email.message import EmailMessage
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from mail_system_kit import needs_postfix, receiver_interpreter
from receiver_kit import Mailbox, mail_of, program_in

from bench.postfix import DOMAIN, HOST, USER, Postfix, as_mail_user, mailbox_of
from compoint.testing import eventually
from mail._recipes import recipes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


# --- mails ------------------------------------------------------------------------------------


def _mail(text: str | bytes, kind: str = "text/plain", sender: str = "alice") -> bytes:
    head = f"From: {sender}@example.org\nSubject: your mails\nMIME-Version: 1.0\n"
    body = text.encode() if isinstance(text, str) else text
    return f"{head}Content-Type: {kind}\n\n".encode() + body


def _photo(line: str) -> bytes:
    """With this line of base64 in the middle."""
    head = b"From: alice@example.org\nMIME-Version: 1.0\nContent-Type: image/jpeg\n"
    lines = ["/9j/" + "A" * 72, line + "B" * (76 - len(line)), *["C" * 76] * 3000]
    return head + b"Content-Transfer-Encoding: base64\n\n" + "\n".join(lines).encode() + b"\n"


def _with_attachment() -> bytes:
    message = EmailMessage()
    message["From"] = "alice@example.org"
    message.set_content("Dear Bob, see the attached notes.")
    message.add_attachment("notes", filename="delivery-status.txt")
    message.set_boundary("application/x-semper delivery-status")
    return message.as_bytes()


_LETTERS: Final = {
    "plain": _mail("Dear Bob, how are you?\n"),
    "quoting our type": _mail("What is\n\nContent-Type: application/x-semper\n\nfor?\n"),
    "quoting our content": _mail("What is\nU01QUgEAAAAB\nfor?\n"),
    "holding a copy of our mail": _mail(b"Dear Bob, what is this?\n\n" + mail_of()),
    "with all our words in its head": _with_attachment(),
    "a photo": _photo("U01QUg"),
    "a photo in other case": _photo("u01qU"),
}

_REPORTS: Final = {
    "RFC 3464": _mail(
        b"--b\n\nno such user\n--b\nContent-Type: message/delivery-status\n\n"
        b"Final-Recipient: rfc822; bob@example.org\nAction: failed\nStatus: 5.1.1\n"
        b"--b\nContent-Type: message/rfc822\n\n" + mail_of() + b"\n--b--\n",
        'multipart/report;\n report-type=delivery-status; boundary="b"',
        "MAILER-DAEMON",
    ),
    "text": _mail(b"no such user; your mail was:\n\n" + mail_of(), sender="Mailer-Daemon"),
    "text without our mail": _mail("no such user: <1@example.org>\n", sender="mail-daemon"),
}

_OURS: Final = {
    "as it was sent": mail_of(),
    "with lines of CR LF": mail_of().replace(b"\n", b"\r\n"),
    "without its head": b"From: a@b\n\n" + mail_of().partition(b"\n\n")[2],
    "large": mail_of(b"SMPR\x01" + bytes(1_000_000)),
}

_letters = pytest.mark.parametrize("letter", _LETTERS.values(), ids=_LETTERS)
_reports = pytest.mark.parametrize("report", _REPORTS.values(), ids=_REPORTS)
_ours = pytest.mark.parametrize("ours", _OURS.values(), ids=_OURS)
#: And how often it has to be in the inbox.
_kinds = pytest.mark.parametrize(
    ("mail", "copies"), [(mail_of(), 0), (_REPORTS["RFC 3464"], 1)], ids=["ours", "report"]
)


# --- the filters ------------------------------------------------------------------------------


@pytest.fixture
def mailbox(tmp_path: Path) -> Mailbox:
    (tmp_path / "my mail").mkdir()
    return Mailbox(tmp_path / "my mail")


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The receiver program of the recipes."""
    folder = tmp_path / "my programs"
    folder.mkdir()
    monkeypatch.setattr(sys, "executable", str(folder / "python"))
    return program_in(folder)


class _Filter:
    """A user's filter with nothing in it but our recipe, and the inbox that it fills."""

    def __init__(self, name: str, program: Path, mailbox: Mailbox) -> None:
        self.program = program
        self.mailbox = mailbox
        self._home = mailbox.folder.parent
        self._inbox = self._home / "inbox"
        for folder in ("new", "cur", "tmp"):
            (self._inbox / folder).mkdir(parents=True)
        self._rules = self._home / "rules"
        recipe = recipes("bob", str(mailbox.config))[name]
        self._rules.write_text(
            {
                "procmail": f"DEFAULT={self._inbox}/\n{recipe}",
                "maildrop": f'{recipe}to "{self._inbox}/"\n',
                # With a rule for other mail, of those that store what has been taken already.
                "sieve": f'{recipe}if header :contains "Content-Type" "semper" {{ keep; }}\n',
            }[name]
        )
        self._rules.chmod(0o600)
        self._command = [name, str(self._rules)] if name != "sieve" else self._sieve()

    def _sieve(self) -> list[str]:
        """What Dovecot does by its `sieve` plugin, with the settings that the recipe asks for."""
        programs = self._home / "bin"
        programs.mkdir()
        (programs / self.program.name).symlink_to(self.program)
        config = self._home / "dovecot.conf"
        config.write_text(
            "plugin {\n  sieve_plugins = sieve_extprograms\n"
            f"  sieve_extensions = +vnd.dovecot.pipe\n  sieve_pipe_bin_dir = {programs}\n}}\n"
        )
        command = f"sieve-test -e -c {config} -l maildir:{self._inbox} {self._rules} mail"
        if os.geteuid():
            return command.split()
        # It handles no mail of root's.
        for folder, _, _ in os.walk(self._home):
            shutil.chown(folder, USER)
        return as_mail_user(*command.split())

    def take(self, mail: bytes) -> int:
        """Returns its exit code."""
        file = self._home / "mail"
        file.write_bytes(mail)
        with file.open("rb") as source:
            return subprocess.run(
                self._command, stdin=source, cwd=self._home, timeout=30, check=False,
                capture_output=True, env={"HOME": str(self._home), "PATH": os.environ["PATH"]},
            ).returncode  # fmt: skip

    def has(self) -> tuple[int, int]:
        """How many mails are in the spool folder, and in the inbox."""
        inbox = [*self._inbox.glob("new/*"), *self._inbox.glob("cur/*")]
        return len(self.mailbox.waiting()), len(inbox)


def _needs(name: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(name) is None, reason=f"{name} is not installed")


_GIVE_BACK: Final = [
    pytest.param("procmail", marks=_needs("procmail")),
    pytest.param("maildrop", marks=_needs("maildrop")),
]
_SIEVE: Final = pytest.param("sieve", marks=_needs("sieve-test"))

_each_filter = pytest.mark.parametrize("name", [*_GIVE_BACK, _SIEVE])
_each_that_gives_back = pytest.mark.parametrize("name", _GIVE_BACK)
_only_sieve = pytest.mark.parametrize("name", [_SIEVE])


@pytest.fixture
def rules(name: str, program: Path, mailbox: Mailbox) -> _Filter:
    return _Filter(name, program, mailbox)


@_each_filter
@_ours
def test_a_filter_hands_ours_over_and_keeps_it_out_of_the_inbox(
    rules: _Filter, ours: bytes
) -> None:
    assert rules.take(ours) == 0
    assert rules.has() == (1, 0)


@_each_filter
@_letters
def test_a_filter_leaves_a_letter_to_the_inbox(rules: _Filter, name: str, letter: bytes) -> None:
    # 1: Sieve kept it since the program has refused it; for Dovecot all is well then.
    assert rules.take(letter) in ({0, 1} if name == "sieve" else {0})
    assert rules.has() == (0, 1)


@_each_filter
@_reports
def test_a_filter_hands_a_report_over_and_leaves_it_to_the_inbox(
    rules: _Filter, report: bytes
) -> None:
    assert rules.take(report) == 0
    assert rules.has() == (1, 1)


@_each_that_gives_back
@_kinds
def test_a_filter_gives_back_what_cannot_be_taken_until_it_can(
    rules: _Filter, mail: bytes, copies: int
) -> None:
    rules.mailbox.spool.mkdir(mode=0o755)
    assert [rules.take(mail), rules.take(mail)] == [75, 75]
    assert rules.has() == (0, 0)
    rules.mailbox.spool.chmod(0o700)
    assert rules.take(mail) == 0
    assert rules.has() == (1, copies)


@_each_that_gives_back
@_kinds
def test_a_filter_gives_mail_back_while_the_program_is_missing(
    rules: _Filter, mail: bytes, copies: int
) -> None:
    away = rules.program.rename(rules.program.with_suffix(".away"))
    assert [rules.take(mail), rules.take(mail)] == [75, 75]
    assert rules.has() == (0, 0)
    away.rename(rules.program)
    assert rules.take(mail) == 0
    assert rules.has() == (1, copies)


@_each_that_gives_back
@_kinds
def test_a_filter_gives_mail_back_while_the_program_cannot_start(
    rules: _Filter, mail: bytes, copies: int
) -> None:
    """Of a virtual environment that an update of Python has broken."""
    text = rules.program.read_text()
    rules.program.write_text(text.replace("mail.receiver", "mail.missing"))
    assert rules.take(mail) == 75
    assert rules.has() == (0, 0)
    rules.program.write_text(text)
    assert rules.take(mail) == 0
    assert rules.has() == (1, copies)


@_only_sieve
@pytest.mark.parametrize("mail", [mail_of(), _REPORTS["RFC 3464"]], ids=["ours", "report"])
def test_sieve_leaves_what_cannot_be_taken_to_the_inbox(rules: _Filter, mail: bytes) -> None:
    rules.mailbox.spool.mkdir(mode=0o755)
    rules.take(mail)
    assert rules.has() == (0, 1)
    rules.program.unlink()
    rules.take(mail)
    assert rules.has() == (0, 2)


# --- .forward, without a shell ----------------------------------------------------------------


@pytest.fixture
def exim(program: Path, mailbox: Mailbox) -> Callable[[bytes], tuple[int, bytes]]:
    """Run the line of a .forward by Exim's rules: no shell, and quotes around whole words.

    Returns the exit code, and what was said.
    """
    text = recipes("bob", str(mailbox.config))[".forward"]
    (line,) = [line for line in text.splitlines() if not line.startswith("#")]
    assert (line[:3], line[-1]) == ('"|/', '"')

    def deliver(mail: bytes) -> tuple[int, bytes]:
        ran = subprocess.run(
            shlex.split(line[2:-1]), input=mail, cwd="/", env={"PATH": "/usr/bin:/bin"},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=30, check=False,
        )  # fmt: skip
        return ran.returncode, ran.stdout

    return deliver


@_ours
def test_a_forward_file_needs_no_shell_and_says_nothing_of_what_it_takes(
    exim: Callable[[bytes], tuple[int, bytes]], mailbox: Mailbox, ours: bytes
) -> None:
    # What is said makes a failure of it where `return_output` is set.
    assert exim(ours) == (0, b"")
    assert len(mailbox.waiting()) == 1


@_letters
def test_a_forward_file_returns_a_letter_with_a_sentence(
    exim: Callable[[bytes], tuple[int, bytes]], mailbox: Mailbox, letter: bytes
) -> None:
    assert exim(letter) == (65, b"This mail is not for programs.\n")
    assert mailbox.waiting() == []


def test_a_forward_file_silently_gives_back_what_cannot_be_taken(
    exim: Callable[[bytes], tuple[int, bytes]], mailbox: Mailbox, program: Path
) -> None:
    mailbox.spool.mkdir(mode=0o755)
    assert exim(mail_of()) == (75, b"")
    program.unlink()
    assert exim(mail_of()) == (75, b"")


# --- Postfix ----------------------------------------------------------------------------------

_BOB: Final = mailbox_of("bob")
_ALIAS: Final = f"semper@{DOMAIN}"
_SETTINGS: Final = "alias_maps = $default_database_type:{folder}/home/mail-aliases\n"


@pytest.fixture
def postfix() -> Iterator[Postfix]:
    with Postfix(_SETTINGS) as postfix:
        yield postfix


@pytest.fixture
def theirs(postfix: Postfix, monkeypatch: pytest.MonkeyPatch) -> Mailbox:
    """The mailbox of a user of that Postfix, who has written the .forward and the alias file."""
    home = postfix.home / "my mail"
    home.mkdir()
    program_in(home, receiver_interpreter())
    mailbox = Mailbox(home)
    monkeypatch.setattr(sys, "executable", str(home / "python"))
    texts = recipes(USER, str(mailbox.config))
    postfix.forward("bob", texts[".forward"])
    aliases = postfix.home / "mail-aliases"
    aliases.write_text(texts["postfix alias"])
    for one in (home, aliases):
        shutil.chown(one, USER)
    make = as_mail_user(shutil.which("postalias", path="/usr/sbin"), "-c", postfix.config, aliases)
    subprocess.run(make, check=True, timeout=30, cwd="/")
    return mailbox


_each_way = pytest.mark.parametrize("to", [_BOB, _ALIAS], ids=[".forward", "alias"])


def _deliver(postfix: Postfix, to: str, mail: bytes, sender: str = "alice@example.org") -> None:
    with smtplib.SMTP(HOST, postfix.port, local_hostname="test", timeout=10) as server:
        server.sendmail(sender, [to], mail)


@needs_postfix
@_each_way
def test_postfix_hands_our_mail_over(postfix: Postfix, theirs: Mailbox, to: str) -> None:
    _deliver(postfix, to, mail_of())
    eventually(theirs.waiting, 20, "the mail is taken")
    (mail,) = theirs.waiting()
    assert b"Return-Path: <alice@example.org>" in mail
    assert f"Delivered-To: {to}".encode() in mail
    eventually(lambda: postfix.queued() == [], 20, "the queue is empty")


@needs_postfix
def test_postfix_runs_an_alias_as_the_user_whose_file_it_is(
    postfix: Postfix, theirs: Mailbox
) -> None:
    _deliver(postfix, _ALIAS, mail_of())
    eventually(theirs.waiting, 20, "the mail is taken")
    (file,) = theirs.files("new")
    assert file.owner() == USER


@needs_postfix
@_each_way
def test_postfix_returns_a_letter_to_its_sender(postfix: Postfix, theirs: Mailbox, to: str) -> None:
    returned = postfix.home / "returned"
    postfix.forward("alice", f"{returned}\n")
    _deliver(postfix, to, _LETTERS["holding a copy of our mail"], mailbox_of("alice"))
    eventually(lambda: returned.exists() and postfix.queued() == [], 20, "the letter is returned")
    assert b"This mail is not for programs." in returned.read_bytes()
    assert returned.read_bytes().count(b"Dear Bob, what is this?") == 1
    assert theirs.waiting() == []


@needs_postfix
@_each_way
def test_postfix_keeps_a_mail_that_could_not_be_taken_and_tries_again(
    postfix: Postfix, theirs: Mailbox, to: str
) -> None:
    theirs.spool.mkdir(mode=0o755)
    shutil.chown(theirs.spool, USER)
    _deliver(postfix, to, mail_of())
    eventually(lambda: any(postfix.queued()), 20, "the mail is kept")
    theirs.spool.chmod(0o700)
    postfix.try_again()
    eventually(theirs.waiting, 20, "the mail is taken")
    assert "status=bounced" not in postfix.log()


@needs_postfix
@_each_way
def test_postfix_keeps_a_mail_while_the_program_is_missing(
    postfix: Postfix, theirs: Mailbox, to: str
) -> None:
    program = theirs.folder / "compoint-mail-receiver"
    away = program.rename(program.with_suffix(".away"))
    _deliver(postfix, to, mail_of())
    eventually(lambda: any(postfix.queued()), 20, "the mail is kept")
    away.rename(program)
    postfix.try_again()
    eventually(theirs.waiting, 20, "the mail is taken")
    assert "status=bounced" not in postfix.log()


@needs_postfix
def test_postfix_logs_why_an_alias_could_not_take_a_mail(postfix: Postfix, theirs: Mailbox) -> None:
    theirs.spool.mkdir(mode=0o755)
    shutil.chown(theirs.spool, USER)
    _deliver(postfix, _ALIAS, mail_of())
    eventually(lambda: "open to others" in "".join(postfix.queued()), 20, "the reason is shown")
