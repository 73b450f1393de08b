"""Conversations through real mail systems: Postfix in between, and each of the ways in."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import imap_kit
import pytest
import trustme
from imap_kit import Dovecot, needs_dovecot
from mail_system_kit import PORT, User, needs_postfix, own_port

from bench.postfix import HOST, Postfix, mailbox_of
from compoint.testing import eventually

pytestmark = [needs_postfix, pytest.mark.timeout(150)]


@pytest.fixture
def postfix() -> Iterator[Postfix]:
    with Postfix() as postfix:
        yield postfix


def talk(alice: User, bob: User) -> None:
    """Some messages there and back, one of some MB each way, and the end in good order."""
    with bob.plays("responder", f"mail::{PORT}") as responder:
        assert responder.stdout is not None
        serving = responder.stdout.readline()
        with alice.plays("initiator", f"mail:{bob.mailbox}:{PORT}") as initiator:
            said = [serving + one.communicate(timeout=120)[0] for one in (initiator, responder)]
            assert [initiator.returncode, responder.returncode] == [0, 0], said
    assert "all 24 messages are confirmed" in said[0]
    assert "the initiator has closed in good order" in said[1]


def two_users(postfix: Postfix, *, is_root: bool = False) -> tuple[User, User]:
    return User("alice", postfix, is_root=is_root), User("bob", postfix, is_root=is_root)


def test_two_programs_talk_by_forward_files(
    postfix: Postfix, monkeypatch: pytest.MonkeyPatch
) -> None:
    users = two_users(postfix)
    for user in users:
        user.mails_go_to_the_receiver(monkeypatch)
    talk(*users)


def test_two_programs_talk_by_maildirs(postfix: Postfix) -> None:
    users = two_users(postfix)
    for user in users:
        user.mails_go_to(user.maildir)
        user.configure(maildir=user.maildir)
    talk(*users)


@needs_dovecot
def test_two_programs_talk_by_imap(postfix: Postfix) -> None:
    users = two_users(postfix)
    with Dovecot() as one, Dovecot() as other:
        for user, dovecot in zip(users, (one, other), strict=True):
            user.mails_go_to(dovecot.folder / "mail")
            user.configure(
                imapHost=HOST, imapPort=dovecot.port, imapTls="none", imapUser=imap_kit.USER,
                passwordFile=user.write("password", f"{imap_kit.PASSWORD}\n"),
            )  # fmt: skip
        talk(*users)


@pytest.mark.skipif(shutil.which("run-mailcap") is None, reason="run-mailcap is not installed")
def test_two_programs_talk_by_what_a_mail_reader_shows(postfix: Postfix) -> None:
    alice, bob = two_users(postfix)
    with alice.reads_mail(), bob.reads_mail():
        talk(alice, bob)


def test_two_programs_talk_by_lmtp() -> None:
    ports = own_port(), own_port()
    routes = " ".join(
        f"{{ {mailbox_of(name)} = lmtp:inet:{HOST}:{port} }}"
        for name, port in zip(("alice", "bob"), ports, strict=True)
    )
    with Postfix(f"transport_maps = inline:{{ {routes} }}\n") as postfix:
        users = two_users(postfix)
        for user, port in zip(users, ports, strict=True):
            user.configure(listen=f"{HOST}:{port}")
        talk(*users)


def test_mails_leave_by_the_sendmail_command(postfix: Postfix) -> None:
    # As root: only the system's own Postfix takes mails of others by its command.
    users = two_users(postfix, is_root=True)
    for user in users:
        user.mails_go_to(user.maildir)
        user.configure(maildir=user.maildir, sendmailCommand=postfix.sendmail, smtpPort=1)
    talk(*users)


# --- what goes wrong ------------------------------------------------------------------------


def failure(user: User, address: str) -> str:
    """What the initiator's program says of its end."""
    with user.plays("initiator", address) as initiator:
        said, _ = initiator.communicate(timeout=100)
        assert initiator.returncode == 1, said
    return said


def test_a_mail_that_comes_back_from_an_unknown_user_ends_the_conversation(
    postfix: Postfix, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice = User("alice", postfix)
    alice.mails_go_to_the_receiver(monkeypatch)
    said = failure(alice, f"mail:nosuch@example.org:{PORT}")
    assert said.startswith("SessionLostError: ")
    assert "5.1.1" in said
    assert "status=bounced" in postfix.log()


def test_an_unknown_user_that_is_refused_at_once_ends_it_by_the_same_error() -> None:
    with Postfix("local_recipient_maps = unix:passwd.byname\n") as postfix:
        said = failure(User("alice", postfix), f"mail:nosuch@example.org:{PORT}")
        assert said.startswith("SessionLostError: ")
        assert "5.1.1" in said
        assert "NOQUEUE: reject" in postfix.log()


# --- a server that asks for TLS and a login -------------------------------------------------

_LOGIN = """\
smtpd_tls_chain_files = {chain}
smtpd_sasl_auth_enable = yes
smtpd_sasl_type = dovecot
smtpd_sasl_path = {socket}
"""


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def guarded(authority: trustme.CA, tmp_path: Path) -> Iterator[Postfix]:
    """A Postfix that takes mails from who has logged in, by TLS; Dovecot knows the password."""
    chain = tmp_path / "chain.pem"
    chain.write_bytes(authority.issue_cert(HOST).private_key_and_cert_chain_pem.bytes())
    with Dovecot() as dovecot:
        socket = dovecot.folder / "run" / "auth-client"
        eventually(socket.exists, 10, "Dovecot answers about passwords")
        # For the eyes of Postfix, too.
        dovecot.folder.chmod(0o755)
        socket.chmod(0o666)
        with Postfix(_LOGIN.format(chain=chain, socket=socket)) as postfix:
            yield postfix


def log_in(user: User, authority: trustme.CA, password: str = imap_kit.PASSWORD) -> None:
    """Have a user's mails leave by the guarded port, and come to a Maildir."""
    file = user.write("authority", authority.cert_pem.bytes().decode())
    user.mails_go_to(user.maildir)
    user.configure(
        maildir=user.maildir, smtpPort=user.postfix.submission_port, smtpTls="starttls",
        caFile=file, smtpUser=imap_kit.USER, passwordFile=user.write("password", f"{password}\n"),
    )  # fmt: skip


@needs_dovecot
def test_two_programs_talk_by_a_server_that_asks_for_tls_and_a_login(
    guarded: Postfix, authority: trustme.CA
) -> None:
    users = two_users(guarded)
    for user in users:
        log_in(user, authority)
    talk(*users)
    assert "sasl_username=bob" in guarded.log()


@needs_dovecot
def test_a_certificate_of_an_unknown_authority_is_one_clear_error(guarded: Postfix) -> None:
    alice = User("alice", guarded)
    log_in(alice, trustme.CA())
    said = failure(alice, f"mail:{mailbox_of('bob')}:{PORT}")
    assert re.match("SessionLostError: .*the certificate of 127.0.0.1:[0-9]+ was refused", said)
    assert "sasl_username" not in guarded.log()


@needs_dovecot
def test_a_wrong_password_is_one_clear_error(guarded: Postfix, authority: trustme.CA) -> None:
    alice = User("alice", guarded)
    log_in(alice, authority, "wrong")
    said = failure(alice, f"mail:{mailbox_of('bob')}:{PORT}")
    assert re.match("SessionLostError: .*535 5.7.8", said)
    assert guarded.log().count("authentication failed") == 1
