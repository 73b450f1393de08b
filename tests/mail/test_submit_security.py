"""Certificates, logins and passwords: what is refused, and what is said about it."""

from __future__ import annotations

import base64
import datetime
import os
import shlex
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

import pytest
import trustme
from smtp_kit import (
    ALICE,
    BOB,
    HOST,
    SILENT,
    Scripted,
    Secret,
    Taken,
    a_mail,
    real_server,
    server_context,
)

import mail._password
from compoint.deadline import clock
from compoint.errors import ConfigError
from mail._outcome import Outcome, Step, Verdict
from mail._password import Password
from mail._smtp import SubmissionSettings, Tls
from mail._submit import Submission

PASSWORD = "correct horse battery"


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def ca_file(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("authority") / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return str(path)


def sent(port: int, tls: Tls, **more: Any) -> Outcome:
    way = Submission(SubmissionSettings(HOST, port, tls, **more))
    try:
        return way.send(a_mail(), sender=ALICE, recipient=BOB)
    finally:
        way.close()


def secured(tls: Tls, certificate: Any) -> dict[str, Any]:
    """The options of a real server that offers this."""
    context = server_context(certificate)
    return {"ssl_context": context} if tls is Tls.IMPLICIT else {"tls_context": context}


BOTH = pytest.mark.parametrize("tls", [Tls.STARTTLS, Tls.IMPLICIT])


# --- certificates ---------------------------------------------------------------------------


@BOTH
def test_a_mail_goes_by_a_connection_that_is_encrypted_and_checked(tls, authority, ca_file):
    taken = Taken()
    options = secured(tls, authority.issue_cert(HOST))
    with real_server(taken, require_starttls=tls is Tls.STARTTLS, **options) as port:
        outcome = sent(port, tls, ca_file=ca_file)
    assert outcome.verdict is Verdict.ACCEPTED
    assert len(taken.envelopes) == 1


@BOTH
@pytest.mark.parametrize("fault", ["unknown authority", "another name", "expired"])
def test_a_wrong_certificate_is_refused_and_named(tls, fault, authority, ca_file):
    yesterday = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    certificate, reason = {
        "unknown authority": (trustme.CA().issue_cert(HOST), "unable to get local issuer"),
        "another name": (authority.issue_cert("mail.example.org"), "IP address mismatch"),
        "expired": (authority.issue_cert(HOST, not_after=yesterday), "has expired"),
    }[fault]
    taken = Taken()
    with real_server(taken, **secured(tls, certificate)) as port:
        outcome = sent(port, tls, ca_file=ca_file)
    assert (outcome.verdict, outcome.step) == (Verdict.FINAL, Step.TLS)
    assert f"the certificate of {HOST}:{port} was refused: " in outcome.text
    assert reason in outcome.text
    assert outcome.is_of_the_way
    assert taken.envelopes == []


@BOTH
def test_without_a_file_of_authorities_those_of_the_system_decide(tls, authority):
    with real_server(Taken(), **secured(tls, authority.issue_cert(HOST))) as port:
        outcome = sent(port, tls)
    assert (outcome.verdict, outcome.step) == (Verdict.FINAL, Step.TLS)


def test_a_missing_file_of_authorities_is_named():
    outcome = sent(1, Tls.IMPLICIT, ca_file="/nowhere/ca.pem")
    assert (outcome.verdict, outcome.step) == (Verdict.FINAL, Step.TLS)
    assert outcome.text == "the file of authorities /nowhere/ca.pem: No such file or directory"


def test_a_plain_server_where_tls_was_expected_is_told_so():
    with Scripted(greeting=b"220 hello, plain text here\r\n") as server:
        outcome = sent(server.port, Tls.IMPLICIT)
    assert (outcome.verdict, outcome.step) == (Verdict.FINAL, Step.TLS)
    assert "is it the right port?" in outcome.text


def test_a_starttls_offer_that_was_taken_out_on_the_way_ends_it():
    with Scripted() as server:
        outcome = sent(server.port, Tls.STARTTLS, user="alice", password=Password("/nowhere"))
    assert (outcome.verdict, outcome.step) == (Verdict.FINAL, Step.TLS)
    assert "does not offer STARTTLS" in outcome.text
    assert server.verbs() == ["connect", "ehlo"]


def test_a_server_that_has_no_tls_at_the_moment_is_asked_again_later():
    offer = b"250-scripted\r\n250 STARTTLS\r\n"
    with Scripted(ehlo=offer, starttls=b"454 4.7.0 not now\r\n") as server:
        outcome = sent(server.port, Tls.STARTTLS)
    assert (outcome.verdict, outcome.step, outcome.code) == (Verdict.RETRY, Step.TLS, 454)


def test_a_silent_server_in_the_middle_of_the_tls_greeting_is_left():
    with Scripted(greeting=SILENT) as server:
        outcome = sent(server.port, Tls.IMPLICIT, answer_s=0.2)
    assert outcome.verdict is Verdict.RETRY
    assert "timed out" in outcome.text


def test_a_mail_in_the_clear_leaves_this_machine_only_when_that_is_said_by_name(monkeypatch):
    # The check asks the socket, and every socket of these tests is on this machine.
    monkeypatch.setattr("mail._smtp._is_loopback", lambda sock: False)
    with Scripted() as server:
        refused = sent(server.port, Tls.NONE)
        allowed = sent(server.port, Tls.IN_THE_CLEAR)
    assert (refused.verdict, refused.step) == (Verdict.FINAL, Step.CONNECT)
    assert "in-the-clear" in refused.text
    assert allowed.verdict is Verdict.ACCEPTED


@pytest.mark.parametrize(
    ("address", "is_loopback"),
    [
        ("127.0.0.1", True),
        ("127.3.2.1", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("192.0.2.1", False),
        ("::ffff:192.0.2.1", False),
        ("fe80::1%eth0", False),
    ],
)
def test_this_machine_is_known_by_its_address(address, is_loopback):
    class Peer:
        def getpeername(self):
            return (address, 25)

    assert mail._smtp._is_loopback(Peer()) is is_loopback


# --- logins ---------------------------------------------------------------------------------


def file_with(tmp_path: Path, text: str, mode: int = 0o600) -> str:
    path = tmp_path / "password"
    path.write_text(text)
    path.chmod(mode)
    return str(path)


def test_a_login_by_password_file_lets_the_mail_pass(tmp_path, authority, ca_file):
    secret, taken = Secret("alice", PASSWORD), Taken()
    options = {"authenticator": secret, "auth_required": True}
    with real_server(taken, **options, **secured(Tls.STARTTLS, authority.issue_cert(HOST))) as port:
        password = Password(file=file_with(tmp_path, PASSWORD + "\n"))
        outcome = sent(port, Tls.STARTTLS, ca_file=ca_file, user="alice", password=password)
    assert outcome.verdict is Verdict.ACCEPTED


def test_a_login_by_password_command_lets_the_mail_pass(authority, ca_file):
    secret = Secret("alice", PASSWORD)
    command = (sys.executable, "-c", f"print({PASSWORD!r})")
    with real_server(
        Taken(), authenticator=secret, **secured(Tls.STARTTLS, authority.issue_cert(HOST))
    ) as port:
        password = Password(command=command)
        outcome = sent(port, Tls.STARTTLS, ca_file=ca_file, user="alice", password=password)
    assert outcome.verdict is Verdict.ACCEPTED


def test_a_wrong_password_is_tried_once_and_ends_with_535(tmp_path, authority, ca_file):
    secret = Secret("alice", PASSWORD)
    with real_server(
        Taken(), authenticator=secret, **secured(Tls.STARTTLS, authority.issue_cert(HOST))
    ) as port:
        password = Password(file=file_with(tmp_path, "wrong"))
        outcome = sent(port, Tls.STARTTLS, ca_file=ca_file, user="alice", password=password)
    assert (outcome.verdict, outcome.step) == (Verdict.FINAL, Step.LOGIN)
    assert (outcome.code, outcome.status) == (535, "5.7.8")
    assert outcome.is_of_the_way
    assert secret.tries == 1


def test_a_login_that_fails_for_the_moment_is_tried_again_later(tmp_path):
    with Scripted(
        ehlo=b"250-scripted\r\n250 AUTH PLAIN\r\n", auth=b"454 4.7.0 not now\r\n"
    ) as server:
        password = Password(file=file_with(tmp_path, PASSWORD))
        outcome = sent(server.port, Tls.NONE, user="alice", password=password)
    assert (outcome.verdict, outcome.step, outcome.code) == (Verdict.RETRY, Step.LOGIN, 454)


def test_an_access_token_is_given_by_xoauth2(tmp_path):
    with Scripted(
        ehlo=b"250-scripted\r\n250 AUTH PLAIN XOAUTH2\r\n", auth=b"235 welcome\r\n"
    ) as server:
        password = Password(file=file_with(tmp_path, "ya29.token"))
        outcome = sent(server.port, Tls.NONE, user=ALICE, password=password, is_token=True)
    assert outcome.verdict is Verdict.ACCEPTED
    [line] = [line for line in server.said if line.startswith("AUTH")]
    _, way, given = line.split()
    assert way == "XOAUTH2"
    assert base64.b64decode(given) == f"user={ALICE}\1auth=Bearer ya29.token\1\1".encode()


@pytest.mark.parametrize(
    ("offer", "named"), [(b"250 SIZE 0\r\n", "none at all"), (b"250 AUTH NTLM\r\n", "NTLM")]
)
def test_a_server_without_a_login_that_we_know_is_named(offer, named, tmp_path):
    with Scripted(ehlo=b"250-scripted\r\n" + offer) as server:
        password = Password(file=file_with(tmp_path, PASSWORD))
        outcome = sent(server.port, Tls.NONE, user="alice", password=password)
    assert (outcome.verdict, outcome.step) == (Verdict.FINAL, Step.LOGIN)
    assert named in outcome.text


def test_a_server_that_asks_for_a_login_we_have_not_is_trouble_of_the_way():
    with Scripted(mail=b"530 5.7.0 Authentication required\r\n") as server:
        outcome = sent(server.port, Tls.NONE)
    assert (outcome.verdict, outcome.code) == (Verdict.FINAL, 530)
    assert outcome.is_of_the_way


# --- where the password comes from -----------------------------------------------------------


def test_the_first_line_is_the_password(tmp_path):
    assert Password(file=file_with(tmp_path, " a b \r\nnotes")).read() == " a b "


def test_a_password_that_was_changed_is_read_anew(tmp_path):
    password = Password(file=file_with(tmp_path, "old"))
    assert password.read() == "old"
    file_with(tmp_path, "new")
    assert password.read() == "new"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_password_file_that_others_may_read_is_refused(tmp_path, mode):
    with pytest.raises(ConfigError, match="others may read the password file"):
        Password(file=file_with(tmp_path, PASSWORD, mode)).read()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_password_file_that_somebody_else_wrote_is_refused(tmp_path):
    file = file_with(tmp_path, PASSWORD)
    os.chown(file, 12_345, 12_345)
    with pytest.raises(ConfigError, match="belongs to somebody else"):
        Password(file=file).read()


def test_a_missing_password_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"nothing here cannot be read \(No such file"):
        Password(file=str(tmp_path / "nothing here")).read()


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("import sys; sys.exit(3)", "failed with exit code 3"),
        ("pass", "is empty"),
        ("print('a\\tb')", "control character"),
        ("print('pässword')", "not ASCII"),
    ],
)
def test_a_password_command_that_gives_none_says_why(script, reason):
    with pytest.raises(ConfigError, match=reason):
        Password(command=(sys.executable, "-X", "utf8", "-c", script)).read()


def test_a_password_command_that_does_not_exist_is_named():
    with pytest.raises(ConfigError, match="/nowhere/pass cannot be started"):
        Password(command=("/nowhere/pass",)).read()


def test_a_password_command_that_never_ends_is_ended(monkeypatch):
    monkeypatch.setattr(mail._password, "COMMAND_S", 0.2)
    with pytest.raises(ConfigError, match=r"did not end within 0\.2 s"):
        Password(command=(sys.executable, "-c", "while True: pass")).read()


def test_a_process_that_the_password_command_leaves_behind_is_not_waited_for(tmp_path):
    pid = tmp_path / "pid"
    script = f"echo {PASSWORD}; sleep 60 & echo $! > {pid}"
    began = clock()
    try:
        assert Password(command=("/bin/sh", "-c", script)).read() == PASSWORD
        assert clock() - began < 20
        # Nor does that process keep the password.
        assert Path(f"/proc/{pid.read_text().strip()}/fd/1").read_bytes() == b""
    finally:
        os.kill(int(pid.read_text()), signal.SIGKILL)


def test_what_a_password_command_prints_is_in_no_file_that_has_a_name(tmp_path):
    seen = tmp_path / "seen"
    links = "import os, sys; os.write(2, b'%d' % os.fstat(1).st_nlink)"
    script = f"echo {PASSWORD}; '{sys.executable}' -c {shlex.quote(links)} 2> {seen}"
    assert Password(command=("/bin/sh", "-c", script)).read() == PASSWORD
    assert seen.read_text() == "0"


def test_without_files_in_memory_what_a_password_command_prints_has_no_name_either(
    tmp_path, monkeypatch
):
    monkeypatch.delattr(os, "memfd_create")
    test_what_a_password_command_prints_is_in_no_file_that_has_a_name(tmp_path)


def test_a_password_command_is_no_shell(tmp_path):
    touched = tmp_path / "touched"
    with pytest.raises(ConfigError):
        Password(command=("/bin/false", f"; touch {touched}")).read()
    assert not touched.exists()


@pytest.mark.parametrize("offer", [b"PLAIN", b"LOGIN", b"CRAM-MD5"])
def test_the_password_is_in_no_error_no_log_and_no_object_afterwards(tmp_path, offer, caplog):
    caplog.set_level(0)
    challenge = b"334 " + base64.b64encode(b"<1@x>") + b"\r\n"
    answer = {b"PLAIN": b"535 5.7.8 no\r\n", b"LOGIN": b"535 no\r\n", b"CRAM-MD5": challenge}[offer]
    with Scripted(ehlo=b"250-scripted\r\n250 AUTH " + offer + b"\r\n", auth=answer) as server:
        password = Password(file=file_with(tmp_path, PASSWORD))
        way = Submission(SubmissionSettings(HOST, server.port, Tls.NONE, "alice", password))
        outcome = way.send(a_mail(), sender=ALICE, recipient=BOB)
        way.close()
    assert outcome.verdict is not Verdict.ACCEPTED
    for text in (repr(outcome), repr(way), repr(password), caplog.text, str(vars(way))):
        assert PASSWORD not in text


def test_an_open_connection_does_not_keep_the_password(tmp_path):
    offer = b"250-scripted\r\n250 AUTH PLAIN\r\n"
    with Scripted(ehlo=offer, auth=b"235 welcome\r\n") as server:
        password = Password(file=file_with(tmp_path, PASSWORD))
        way = Submission(SubmissionSettings(HOST, server.port, Tls.NONE, "alice", password))
        assert way.send(a_mail(), sender=ALICE, recipient=BOB).verdict is Verdict.ACCEPTED
        smtp = way._connection._smtp
        assert smtp is not None
        assert PASSWORD not in str(vars(smtp))
        way.close()


def test_the_password_that_cannot_be_sent_is_not_in_the_error_either(tmp_path):
    password = Password(file=file_with(tmp_path, "gehëim"))
    with pytest.raises(ConfigError) as raised:
        password.read()
    assert "geh" not in "".join(traceback.format_exception(raised.value))
