"""The IMAP front with a real Dovecot: each mail of ours once, everything else untouched."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from front_kit import LETTER, OUR_REPORT, THEIR_REPORT, Box, a_mail
from imap_kit import HOST, PASSWORD, USER, Dovecot, needs_dovecot

import mail._imap
from compoint.testing import eventually
from mail._imap import ImapFront
from mail._imap_connection import Connection, _encoded
from mail._password import Password
from mail._settings import ImapSettings
from mail._smtp import Tls

pytestmark = needs_dovecot

OURS = {rb"\Seen", b"$compoint"}

NewFront = Callable[..., ImapFront]


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def dovecot() -> Iterator[Dovecot]:
    with Dovecot() as dovecot:
        yield dovecot


@pytest.fixture
def secured(authority: trustme.CA) -> Iterator[Dovecot]:
    with Dovecot(authority.issue_cert(HOST)) as dovecot:
        yield dovecot


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path / "spool")


@pytest.fixture
def new_front(tmp_path: Path, box: Box) -> Iterator[NewFront]:
    """Makes fronts and starts them; all are stopped in the end."""
    made: list[ImapFront] = []
    secret = tmp_path / "password"
    secret.touch(0o600)

    def new(
        port: int, tls: Tls = Tls.NONE, password: str = PASSWORD, notes: str = "", **more: Any
    ) -> ImapFront:
        secret.write_text(password)
        settings = ImapSettings(HOST, port, tls, USER, Password(file=str(secret)), **more)
        front = ImapFront(settings, *box.ears, notes)
        made.append(front)
        front.start()
        return front

    yield new
    for front in made:
        front.stop()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mail._imap, "LOGINS_S", 0.2)
    monkeypatch.setattr(mail._imap, "PAUSE_S", (0.1, 0.3))
    monkeypatch.setattr(mail._imap, "RETRY_S", 0.1)


def plain(box: Box) -> list[bytes]:
    """What was kept, with the line ends that it had before IMAP."""
    return [content.replace(b"\r\n", b"\n") for content in box.mails]


def test_a_mail_that_comes_while_it_waits_is_taken(dovecot, box, new_front) -> None:
    new_front(dovecot.port)
    box.eventually_well()
    for number in range(3):
        dovecot.deliver(a_mail(number))
        box.eventually_has(number + 1)
    assert plain(box) == [a_mail(0), a_mail(1), a_mail(2)]
    assert box.pokes == 3


def test_mails_that_came_before_the_start_are_taken(dovecot, box, new_front) -> None:
    dovecot.deliver(a_mail(1), LETTER, a_mail(2))
    new_front(dovecot.port)
    box.eventually_has(2)


def test_a_mail_that_was_taken_is_kept_by_the_server_and_counts_as_read(
    dovecot, box, new_front
) -> None:
    dovecot.deliver(a_mail())
    new_front(dovecot.port)
    box.eventually_well()
    [flags] = dovecot.flags()
    assert flags >= OURS


def test_a_letter_of_a_person_stays_untouched(dovecot, box, new_front) -> None:
    dovecot.deliver(LETTER, a_mail())
    new_front(dovecot.port)
    box.eventually_well()
    letter, ours = dovecot.flags()
    assert not letter & {rb"\Seen", b"$compoint"}
    assert ours >= OURS
    assert len(box.mails) == 1


def test_a_report_about_a_mail_of_ours_is_taken(dovecot, box, new_front) -> None:
    dovecot.deliver(OUR_REPORT)
    new_front(dovecot.port)
    box.eventually_well()
    assert len(box.mails) == 1
    assert dovecot.flags()[0] >= OURS


def test_a_report_about_a_persons_mail_is_copied_and_left_unread(dovecot, box, new_front) -> None:
    dovecot.deliver(THEIR_REPORT)
    new_front(dovecot.port)
    box.eventually_well()
    dovecot.deliver(a_mail())
    box.eventually_has(2)
    assert not dovecot.flags()[0] & OURS


def test_many_mails_are_taken_once_each_in_order(dovecot, box, new_front) -> None:
    new_front(dovecot.port)
    box.eventually_well()
    dovecot.deliver(*map(a_mail, range(250)))
    box.eventually_has(250, 30)
    eventually(lambda: all(flags >= OURS for flags in dovecot.flags()), 30)
    assert plain(box) == [a_mail(number) for number in range(250)]


def test_other_folders_are_looked_into_now_and_then(dovecot, box, new_front, monkeypatch) -> None:
    monkeypatch.setattr(mail._imap, "POLL_S", 0.3)
    other = 'Entwürfe "& mehr"'
    with dovecot.client() as client:
        for name in ("Junk", other):
            escaped = _encoded(name).replace('"', '\\"')
            assert client.create(f'"{escaped}"')[0] == "OK"
    dovecot.deliver(a_mail(1), folder="Junk")
    new_front(dovecot.port, folders=("INBOX", "Junk", other))
    box.eventually_has(1)
    dovecot.deliver(a_mail(2), folder="Junk")
    box.eventually_has(2)
    dovecot.deliver(a_mail(3), folder=escaped.join('""'))
    box.eventually_has(3)
    dovecot.deliver(a_mail(4))
    box.eventually_has(4)
    assert box.troubles == [""]


def test_a_folder_that_is_not_there_is_named_and_the_others_are_watched(
    dovecot, box, new_front
) -> None:
    new_front(dovecot.port, folders=("INBOX", "Spam"))
    box.eventually_told("the folder Spam cannot be opened")
    dovecot.deliver(a_mail())
    box.eventually_has(1)


def test_mails_that_come_while_the_server_is_down_are_taken_when_it_is_back(
    dovecot, box, new_front, impatient
) -> None:
    new_front(dovecot.port)
    box.eventually_well()
    dovecot.deliver(a_mail(0))
    box.eventually_has(1)
    eventually(lambda: dovecot.flags()[0] >= OURS)
    dovecot.kill()
    box.eventually_told(f"{HOST}:{dovecot.port}: ")
    inbox = dovecot.folder / "mail" / "new"
    for number in (1, 2):
        (inbox / f"{time.time_ns()}.{number}.test").write_bytes(a_mail(number))
        (inbox / f"{time.time_ns()}.{number}.letter").write_bytes(LETTER)
        for path in inbox.iterdir():
            path.chmod(0o666)
    dovecot.start()
    box.eventually_has(3, 30)
    box.eventually_well()


def test_a_mail_that_cannot_be_kept_stays_unread_and_is_taken_later(
    dovecot, box, new_front, impatient
) -> None:
    box.is_full = True
    new_front(dovecot.port)
    dovecot.deliver(a_mail(1), a_mail(2))
    eventually(lambda: box.refused >= 2)
    assert box.troubles[-1] == "mails cannot be kept: the disk of the spool folder is full"
    assert not any(flags & OURS for flags in dovecot.flags())
    box.is_full = False
    box.eventually_has(2)
    box.eventually_well()
    assert plain(box) == [a_mail(1), a_mail(2)]


def test_the_next_process_takes_no_mail_again(dovecot, box, new_front, tmp_path) -> None:
    dovecot.deliver(a_mail(1), THEIR_REPORT)
    notes = str(tmp_path / "notes")
    first = new_front(dovecot.port, notes=notes)
    box.eventually_well()
    first.stop()
    new_front(dovecot.port, notes=notes)
    dovecot.deliver(a_mail(2))
    eventually(lambda: plain(box)[2:] == [a_mail(2)])


def test_without_notes_a_mail_that_was_marked_is_not_taken_again(dovecot, box, new_front) -> None:
    dovecot.deliver(a_mail(1))
    first = new_front(dovecot.port)
    box.eventually_well()
    first.stop()
    new_front(dovecot.port)
    dovecot.deliver(a_mail(2))
    eventually(lambda: plain(box)[1:] == [a_mail(2)])


def test_a_server_that_keeps_no_keywords_of_clients_gives_each_mail_once_in_a_run(
    box, new_front, impatient, monkeypatch
) -> None:
    monkeypatch.setattr(mail._imap, "IDLE_S", 0.1)
    fetched: list[int] = []
    fetch = Connection.fetch_mail
    monkeypatch.setattr(
        Connection, "fetch_mail", lambda self, uid: fetched.append(uid) or fetch(self, uid)
    )
    with Dovecot(settings="mail_max_keyword_length = 5\n") as dovecot:
        dovecot.deliver(a_mail(1), LETTER)
        front = new_front(dovecot.port)
        box.eventually_well()
        dovecot.kill()
        box.eventually_told(f"{HOST}:{dovecot.port}: ")
        dovecot.start()
        dovecot.deliver(a_mail(2))
        box.eventually_has(2, 30)
        eventually(lambda: dovecot.flags() == [{rb"\Seen"}, set(), {rb"\Seen"}], 30)
        front.stop()
    assert fetched == [1, 2, 3]


def test_a_folder_that_is_read_only_brings_its_mails_and_stays_as_it_is(
    dovecot, box, new_front
) -> None:
    dovecot.deliver(a_mail(1), LETTER, a_mail(2))
    folders = [dovecot.folder / "mail" / name for name in (".", "cur", "new", "tmp")]
    for folder in folders:
        folder.chmod(0o500)
    new_front(dovecot.port)
    box.eventually_has(2)
    box.eventually_well()
    assert not any(flags & OURS for flags in dovecot.flags())
    for folder in folders:
        folder.chmod(0o700)


# --- how the way is secured -------------------------------------------------------------------


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> str:
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    return str(tmp_path / "ca.pem")


def port_of(dovecot: Dovecot, tls: Tls) -> int:
    return dovecot.tls_port if tls is Tls.IMPLICIT else dovecot.port


BOTH = pytest.mark.parametrize("tls", [Tls.STARTTLS, Tls.IMPLICIT])


@BOTH
def test_mails_come_by_a_connection_that_is_encrypted_and_checked(
    tls, secured, box, new_front, ca_file
) -> None:
    new_front(port_of(secured, tls), tls, ca_file=ca_file)
    box.eventually_well()
    secured.deliver(a_mail())
    box.eventually_has(1)
    log = (secured.folder / "log").read_text()
    # The other logins are those of the test.
    assert [line for line in log.splitlines() if "Login: user=<bob>" in line and ", TLS," in line]


@BOTH
def test_a_certificate_of_an_unknown_authority_is_refused(tls, secured, box, new_front) -> None:
    new_front(port_of(secured, tls), tls)
    text = box.eventually_told("the certificate was refused")
    assert "unable to get local issuer" in text


def test_a_certificate_for_another_name_is_refused(authority, box, new_front, ca_file) -> None:
    with Dovecot(authority.issue_cert("mail.example.org")) as dovecot:
        front = new_front(dovecot.tls_port, Tls.IMPLICIT, ca_file=ca_file)
        assert "IP address mismatch" in box.eventually_told("the certificate was refused")
        front.stop()


def test_a_wrong_password_is_told_and_not_tried_again_soon(dovecot, box, new_front) -> None:
    front = new_front(dovecot.port, password="wrong")
    text = box.eventually_told("the login was refused")
    assert "AUTHENTICATIONFAILED" in text
    assert "wrong" not in text
    assert len(front._logins) == 1
    assert front._failures == 1
