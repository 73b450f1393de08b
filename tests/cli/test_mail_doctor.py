"""`compoint mail doctor`: all is right, or the step that fails is named; each really fails once."""

from __future__ import annotations

import io
import os
import re
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from receiver_kit import receive
from smtp_kit import HOST, Secret, real_server, server_context
from work_kit import BOB, MailServer, Work, free_port, mail_command, settings

from compoint.cli._faults import CommandFailed
from compoint.errors import ConfigError
from compoint.testing._settings import sempconfig_text
from mail._dropbox import Dropbox
from mail._store import Store

Start = Callable[..., Any]

DOCTOR = ("doctor", "--wait", "20")


class Way:
    """From a mail server to Bob's mailbox; and what the doctor says of it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.spool = folder / "spool"
        self.said = io.StringIO()
        self.server = MailServer(BOB, deliver=self._deliver)
        self.section: dict[str, object] = {}
        #: What the last mail system on the way does.
        self.deliver: Callable[[bytes], object] = self.to_receiver

    def _deliver(self, mail: bytes) -> None:
        self.deliver(mail)

    def to_receiver(self, mail: bytes) -> None:
        """As by a .forward."""
        config = self._folder / "receivers_sempconfig"
        config.write_text(sempconfig_text({"mail": self.section}))
        assert receive("--config", config, content=mail).code == 0

    def doctor(self, wait_s: float = 20, **more: object) -> str:
        self.section |= more
        return mail_command(self.section, "doctor", "--wait", str(wait_s), said=self.said)

    def fails(self, reason: str, wait_s: float = 20, **more: object) -> str:
        """What is said until the doctor finds this; the last thing that was right."""
        with pytest.raises(CommandFailed, match=reason):
            self.doctor(wait_s, **more)
        *_, last = [line for line in self.said.getvalue().splitlines() if line[:5] == "right"]
        return last.removeprefix("right  ")


@pytest.fixture
def way(tmp_path: Path) -> Iterator[Way]:
    way = Way(tmp_path)
    with real_server(way.server) as port:
        way.section = settings(way.spool, port)
        yield way


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def private(file: Path, text: str) -> Path:
    file.write_text(text)
    file.chmod(0o600)
    return file


# --- all is right -----------------------------------------------------------------------------


def test_every_step_of_a_way_that_works_is_told(way: Way) -> None:
    said = re.sub(r"\d+\.\d\d s", "0.01 s", way.doctor())
    assert said.splitlines() == [
        f"right  configuration: mailbox {BOB}, trust is none",
        f"right  spool folder: {way.spool} can be used, and no process works with it",
        f"right  receiver port: {way.section['receiverPort']} is free",
        "right  receiver program: took a mail in an empty environment (0.01 s)",
        "note   mails are awaited by the receiver program, as a mail system or reader starts it",
        f"right  mail server: {HOST}:{way.section['smtpPort']} is reached",
        f"right  mail server: takes mails from {BOB}",
        f"right  mail server: takes mails to {BOB}",
        "right  mail server: takes the mail (taken) (0.01 s)",
        "right  the mail arrived by the receiver program after 0.01 s, undamaged",
    ]
    assert Dropbox(str(way.spool)).waiting() == []


def test_tls_login_and_secret_are_tried_too(
    tmp_path: Path, way: Way, authority: trustme.CA
) -> None:
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    options = {
        "tls_context": server_context(authority.issue_cert(HOST)), "require_starttls": True,
        "authenticator": Secret("bob", "hidden"), "auth_required": True,
    }  # fmt: skip
    with real_server(way.server, **options) as port:
        said = way.doctor(
            smtpPort=port, smtpTls="starttls", caFile=tmp_path / "ca.pem", smtpUser="bob",
            passwordFile=private(tmp_path / "password", "hidden\n"),
            trust="secret", secretFile=private(tmp_path / "secret", "agreed by telephone\n"),
        )  # fmt: skip
    assert f"mailbox {BOB}, trust is a secret\n" in said
    assert "right  mail server: speaks TLS, and its certificate is good\n" in said
    assert "right  mail server: lets bob in\n" in said
    assert said.endswith("undamaged\n")


def test_a_mail_that_comes_by_a_maildir_is_told_so(way: Way, tmp_path: Path) -> None:
    maildir = tmp_path / "Maildir"
    for inner in ("new", "cur", "tmp"):
        (maildir / inner).mkdir(parents=True)
    way.deliver = (maildir / "new" / "mail").write_bytes
    said = way.doctor(maildir=maildir)
    assert f"note   mails are awaited by Maildir {maildir}\n" in said
    assert f"right  the mail arrived by Maildir {maildir} after " in said
    assert not (maildir / "new" / "mail").exists()


def test_mails_of_others_stay_in_the_drop_box(way: Way) -> None:
    Dropbox(str(way.spool)).put(b"of somebody else")
    way.doctor()
    assert len(Dropbox(str(way.spool)).waiting()) == 1


def test_the_mail_counts_in_the_budget_of_the_day(way: Way) -> None:
    way.doctor()
    with Store.peek(str(way.spool)) as view:
        assert view.budget is not None
        assert sum(number for _, number in view.budget.sent) == 1


# --- this machine -----------------------------------------------------------------------------


def test_a_mailbox_with_which_a_process_works_is_named(
    command: Start, work: Work, spool: Path, tmp_path: Path
) -> None:
    config = tmp_path / "_sempconfig"
    config.write_text(sempconfig_text({"mail": settings(spool, free_port())}))
    run = command("--config", config, "mail", "doctor")
    assert run.ends() == 1
    assert run.said.startswith("right  configuration: ")
    assert f"another process (pid {os.getpid()}) uses the mailbox {BOB}; stop it" in run.said


def test_mail_that_is_off_is_a_fault_of_the_configuration() -> None:
    with pytest.raises(ConfigError, match=r"^configure: mail is off; set receiverPort"):
        mail_command({}, *DOCTOR)


def test_a_receiver_port_that_is_taken_is_named(way: Way) -> None:
    port = way.section["receiverPort"]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((HOST, port))
        assert "spool folder" in way.fails(f"^receiver port {port}: Address already in use; give")


def test_a_budget_that_is_used_up_is_named(way: Way) -> None:
    way.doctor(daily=1)
    way.fails(r"^rate and daily allow no mail now; try again in [89]\d{4} s$")
    assert len(way.server.envelopes) == 1


# --- the receiver program ---------------------------------------------------------------------


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Installs another receiver program: a script."""

    def install(script: str) -> None:
        monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
        file = tmp_path / "compoint-mail-receiver"
        file.write_text(script)
        file.chmod(0o755)

    return install


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("#!/bin/sh\necho boom >&2; exit 1\n", "ended with exit code 1: boom; is compoint inst"),
        ("#!/bin/sh\ncat >/dev/null\n", "put the mail elsewhere; has its _sempconfig the spool"),
        ('#!/bin/sh\n[ "$PWD$HOME$SEMPCONFIG" != / ] || exit 7\n', "ended with exit code 7: ;"),
        ("#!/nowhere/python\n", "compoint-mail-receiver --config .*: No such file or directory"),
    ],
    ids=["fails", "elsewhere", "nothing around it", "gone"],
)
def test_a_receiver_program_that_does_not_work_is_named(
    way: Way, program: Callable[[str], None], script: str, reason: str
) -> None:
    program(script)
    assert "receiver port" in way.fails(f"^receiver program: /.*{reason}")
    assert way.server.envelopes == []


def test_where_mails_come_another_way_the_receiver_program_need_not_work(
    way: Way, program: Callable[[str], None], tmp_path: Path
) -> None:
    program("#!/bin/sh\nexit 1\n")
    (tmp_path / "new").mkdir()
    (tmp_path / "cur").mkdir()
    way.deliver = (tmp_path / "new" / "mail").write_bytes
    said = way.doctor(maildir=tmp_path)
    assert "note   receiver program: " in said
    assert said.endswith("undamaged\n")


# --- the mail server --------------------------------------------------------------------------


def test_a_server_that_is_down_is_named(way: Way) -> None:
    with socket.create_server((HOST, 0)) as probe:
        port = probe.getsockname()[1]
    last = way.fails(
        r"^mail server: retry later \(connect\): .*refused; are mailHost", smtpPort=port
    )
    assert last.startswith("receiver program: ")


def test_a_wrong_certificate_is_named(way: Way, authority: trustme.CA) -> None:
    certificate = authority.issue_cert(HOST)
    with real_server(way.server, tls_context=server_context(certificate)) as port:
        last = way.fails(
            r"^mail server: refused \(TLS\): the certificate of .*caFile names the authority",
            smtpPort=port, smtpTls="starttls",
        )  # fmt: skip
    assert last == f"mail server: {HOST}:{port} is reached"


def test_a_wrong_password_is_named(way: Way, tmp_path: Path) -> None:
    door = Secret("bob", "hidden")
    with real_server(way.server, authenticator=door, auth_require_tls=False) as port:
        last = way.fails(
            r"^mail server: refused \(login\): 535 .*are smtpUser and the password right\?",
            smtpPort=port, smtpUser="bob", passwordFile=private(tmp_path / "password", "wrong\n"),
        )  # fmt: skip
    assert last == f"mail server: {HOST}:{port} is reached"
    assert door.tries == 1


def test_a_server_that_does_not_know_the_mailbox_is_named(way: Way) -> None:
    last = way.fails(
        r"^mail server: refused \(recipient\): 550 5.1.1: no such user; is returnAddress spelled",
        returnAddress="rob@example.org",
    )
    assert last == "mail server: takes mails from rob@example.org"


def test_a_sendmail_command_that_fails_is_named(way: Way) -> None:
    words = r"^mail server: retry later \(command\): 1; is sendmailCommand"
    way.fails(words, sendmailCommand="false")


# --- behind it --------------------------------------------------------------------------------


def test_a_mail_that_never_arrives_is_waited_for_and_advice_is_given(way: Way) -> None:
    way.deliver = len
    last = way.fails(
        r"^the mail did not arrive within 0.3 s; .*spam.*`compoint mail install --show`", 0.3
    )
    assert last.startswith("mail server: takes the mail (taken)")


def test_a_mail_that_arrives_too_late_concerns_nobody(way: Way) -> None:
    way.deliver = len
    way.fails("did not arrive", 0.01)
    (late,) = way.server.envelopes
    Dropbox(str(way.spool)).put(late.original_content or b"")
    said = mail_command(way.section, "flush", "--wait", "20")
    assert said == "1 mail taken out of the drop box\nnothing waits to be sent\n"


def a_report(head: str) -> bytes:
    """About the mail with this head."""
    return "\r\n".join(
        [
            "From: Mail Delivery System <MAILER-DAEMON@example.org>", f"To: {BOB}",
            "MIME-Version: 1.0",
            "Content-Type: multipart/report; report-type=delivery-status; boundary=b0", "",
            "--b0", "Content-Type: message/delivery-status", "",
            "Reporting-MTA: dns; example.org", "", f"Final-Recipient: rfc822; {BOB}",
            "Action: failed", "Status: 5.2.2", "Diagnostic-Code: smtp; 552 mailbox full",
            "", "--b0", "Content-Type: text/rfc822-headers", "", head, "", "--b0--", "",
        ]
    ).encode()  # fmt: skip


def test_a_mail_that_comes_back_says_why(way: Way) -> None:
    way.deliver = lambda mail: way.to_receiver(a_report(mail.partition(b"\r\n\r\n")[0].decode()))
    way.fails("^the mail came back: 5.2.2 mailbox full; ")
    assert Dropbox(str(way.spool)).waiting() == []


def test_that_another_mail_came_back_is_no_answer(way: Way) -> None:
    way.deliver = lambda _: way.to_receiver(a_report("Message-ID: <another@example.org>"))
    way.fails("^the mail did not arrive within 0.5 s", 0.5)
    assert len(Dropbox(str(way.spool)).waiting()) == 1


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda mail: mail[: len(mail) // 2], "damaged: a frame of .* are here"),
        (lambda mail: b"List-Id: <all.example.org>\r\n" + mail, "it came by a mailing list"),
        (lambda mail: b"Return-Path: <>\r\n" + mail, "it came without an envelope sender"),
    ],
    ids=["cut off", "mailing list", "null sender"],
)
def test_a_mail_that_is_changed_on_the_way_is_told_so(
    way: Way, change: Callable[[bytes], bytes], fault: str
) -> None:
    way.deliver = lambda mail: way.to_receiver(change(mail))
    way.fails(rf"^the mail arrived by the receiver program after \d\.\d\d s, but {fault}")
