"""The listener front: mails straight from a mail system, each answered after it was kept."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import smtplib
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from front_kit import LETTER, OUR_REPORT, THEIR_REPORT, Box, a_mail
from receiver_kit import ROOT

import mail._listener
import mail._smtp_server
from compoint.address import ComPointAddress
from compoint.config import MailSettings
from compoint.errors import BusyError, ConfigError, ConnectError
from compoint.testing import eventually
from mail._find import find
from mail._fronts import fronts
from mail._listener import ListenerFront
from mail._settings import ListenSettings, OfficeSettings

HOST = "127.0.0.1"
ALICE = "alice@example.org"
BOB = "bob@example.net"
CAROL = "carol@example.com"

Listen = Callable[..., ListenerFront]


@pytest.fixture
def box(tmp_path: Path) -> Box:
    """Bob's."""
    return Box(tmp_path / "spool")


@pytest.fixture
def other(tmp_path: Path) -> Box:
    """Alice's."""
    return Box(tmp_path / "other")


@pytest.fixture
def listen(box: Box, other: Box) -> Iterator[Listen]:
    """Starts a listener for both; it is stopped in the end."""
    made: list[ListenerFront] = []

    def new(protocol: str, boxes: Any = None, port: int = 0) -> ListenerFront:
        boxes = boxes or {BOB: box.put, ALICE: other.put}
        made.append(
            ListenerFront(
                ListenSettings(HOST if port else "", port, protocol),
                boxes,
                box.poke,
                box.troubles.append,
            )
        )
        made[-1].start()
        return made[-1]

    yield new
    for front in made:
        front.stop()


def client(front: ListenerFront) -> smtplib.SMTP:
    """Speaks what the listener speaks."""
    kind = smtplib.LMTP if front._settings.protocol == "lmtp" else smtplib.SMTP
    return kind(HOST, front.port, local_hostname="client.test", timeout=10)


def send(front: ListenerFront, content: bytes, *recipients: str, sender: str = CAROL) -> Any:
    with client(front) as way:
        return way.sendmail(sender, recipients or [BOB], content.replace(b"\n", b"\r\n"))


def answers_to(front: ListenerFront, content: bytes, *recipients: str) -> list[bytes]:
    """All that an LMTP server says to the content of a mail; smtplib hears only the first."""
    with client(front) as way:
        way.ehlo_or_helo_if_needed()
        way.mail(CAROL)
        for recipient in recipients:
            assert way.rcpt(recipient)[0] == 250
        assert way.docmd("DATA")[0] == 354
        way.send(content.replace(b"\n", b"\r\n") + b"\r\n.\r\n")
        answers = [b"%d %s" % way.getreply() for _ in recipients]
        assert way.noop() == (250, b"OK")
        return answers


BOTH = pytest.mark.parametrize("protocol", ["smtp", "lmtp"])


@BOTH
def test_a_mail_of_ours_is_put_and_poked(protocol, box, listen) -> None:
    send(listen(protocol), a_mail())
    [content] = box.mails
    assert content.replace(b"\r\n", b"\n").endswith(a_mail())
    assert box.pokes == 1


@BOTH
def test_a_mail_is_on_the_disk_before_it_is_answered(protocol, listen) -> None:
    kept: list[bytes] = []
    front = listen(protocol, {BOB: kept.append})
    with client(front) as way:
        way.sendmail(CAROL, [BOB], a_mail())
        assert len(kept) == 1


def test_a_mail_for_two_mailboxes_is_put_into_both(box, other, listen) -> None:
    assert send(listen("smtp"), a_mail(), ALICE, BOB) == {}
    assert len(box.mails) == len(other.mails) == 1
    assert box.mails != other.mails


def test_a_mail_is_put_once_however_often_its_mailbox_is_named(box, other, listen) -> None:
    names = [BOB, BOB, "BOB@example.net", "bob+semper-a@example.net", "bob+b@example.net"]
    assert send(listen("smtp"), a_mail(), *names) == {}
    assert (len(box.mails), len(other.mails), box.pokes) == (1, 0, 1)


def test_two_mailboxes_with_one_way_of_putting_get_a_mail_each(box, listen) -> None:
    send(listen("smtp", {BOB: box.put, ALICE: box.put}), a_mail(), BOB, ALICE)
    facts = [find(io.BytesIO(content)).facts for content in box.mails]
    assert [one.recipient for one in facts] == [BOB, ALICE]


def test_lmtp_answers_for_each_recipient_of_one_mailbox(box, listen) -> None:
    names = [BOB] * 40 + [f"bob+{number}@example.net" for number in range(60)]
    answers = answers_to(listen("lmtp"), a_mail(), *names)
    assert answers == [b"250 2.0.0 taken"] * 100
    assert len(box.mails) == 1


@BOTH
def test_more_recipients_than_a_mail_may_have_are_to_come_with_another_one(
    protocol, box, listen
) -> None:
    front = listen(protocol)
    with client(front) as way:
        way.ehlo_or_helo_if_needed()
        way.mail(CAROL)
        said = [way.rcpt(BOB) for _ in range(102)]
        assert {code for code, _ in said[:100]} == {250}
        assert [(code, text[:5]) for code, text in said[100:]] == [(452, b"4.5.3")] * 2
        # One that is not ours stays unknown.
        assert way.rcpt("eve@example.net")[0] == 550
        way.rset()
        assert way.sendmail(CAROL, [BOB], a_mail()) == {}


def test_the_recipients_that_were_accepted_are_answered_beside_one_too_many(box, listen) -> None:
    front = listen("lmtp")
    with client(front) as way:
        way.ehlo_or_helo_if_needed()
        way.mail(CAROL)
        taken = sum(way.rcpt(BOB)[0] == 250 for _ in range(105))
        assert way.docmd("DATA")[0] == 354
        way.send(a_mail().replace(b"\n", b"\r\n") + b"\r\n.\r\n")
        assert [way.getreply()[0] for _ in range(taken)] == [250] * 100
        assert way.noop() == (250, b"OK")


@pytest.mark.parametrize(
    "mailbox", ["Shop@bücher.example", "shop@BÜCHER.example", "shop@XN--bcher-kva.example"]
)
def test_a_mailbox_with_other_letters_in_its_domain_is_known_as_mail_systems_write_it(
    mailbox, tmp_path
) -> None:
    mine = ComPointAddress("mail", mailbox, 1).host
    facts = MailSettings(receiver_port=1, return_address=mine, mail_host=HOST, trust="none")
    settings = OfficeSettings.of(dataclasses.replace(facts, spool=str(tmp_path)))
    box = Box(tmp_path / "spool")
    settings = dataclasses.replace(settings, listen=ListenSettings("", 0, "smtp"))
    (front,) = fronts(settings, box.put, box.poke, lambda _, text: box.troubles.append(text))
    front.start()
    try:
        send(front, a_mail(), "shop@xn--bcher-kva.example")
        send(front, a_mail(), "SHOP@XN--BCHER-KVA.example")
    finally:
        front.stop()
    assert len(box.mails) == 2


def test_the_mailboxes_may_be_a_function(box, listen) -> None:
    asked: list[str] = []
    front = listen("smtp", lambda address: asked.append(address) or box.put)
    send(front, a_mail(), "Bob+x@Example.NET")
    assert set(asked) == {"bob+x@example.net"}
    assert len(box.mails) == 1


@BOTH
def test_the_envelope_is_written_into_the_mail(protocol, box, listen) -> None:
    send(listen(protocol), a_mail(), "bob+semper-token@example.net")
    with open(box.dropbox.path(box.dropbox.waiting()[0]), "rb") as file:
        facts = find(file).facts
    assert facts.return_path == CAROL
    assert facts.recipient == "bob+semper-token@example.net"


def test_the_null_sender_is_written_into_a_report(box, listen) -> None:
    send(listen("smtp"), OUR_REPORT, sender="")
    with open(box.dropbox.path(box.dropbox.waiting()[0]), "rb") as file:
        assert find(file).facts.return_path == "<>"


# --- whom it is for ---------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize(
    "recipient",
    ["bob@example.net", "BOB@Example.Net", "bob+semper-abc@example.net", "bob+a+b@example.net"],
)
def test_a_recipient_is_known_in_any_case_and_with_an_extension(
    recipient, protocol, box, other, listen
) -> None:
    send(listen(protocol), a_mail(), recipient)
    assert (len(box.mails), len(other.mails)) == (1, 0)


@BOTH
@pytest.mark.parametrize(
    "recipient",
    ["eve@example.net", "bob@example.org", "bob", "bobby@example.net", "+bob@example.net",
     "bob-x@example.net", "bob@example.net.evil.org"],
)  # fmt: skip
def test_a_recipient_that_is_not_ours_is_refused(recipient, protocol, box, listen) -> None:
    with pytest.raises(smtplib.SMTPRecipientsRefused) as refused:
        send(listen(protocol), a_mail(), recipient)
    [(code, text)] = refused.value.recipients.values()
    assert (code, text[:5]) == (550, b"5.1.1")


@BOTH
def test_the_others_get_a_mail_of_which_one_recipient_was_refused(protocol, box, listen) -> None:
    refused = send(listen(protocol), a_mail(), "eve@example.net", BOB)
    assert list(refused) == ["eve@example.net"]
    assert len(box.mails) == 1


def test_a_mailbox_with_an_extension_of_its_own_is_not_taken_for_another(box, other, listen):
    own = "bob+programs@example.net"
    front = listen("smtp", {BOB: other.put, own: box.put})
    send(front, a_mail(), "bob+programs+semper-abc@example.net")
    assert (len(box.mails), len(other.mails)) == (1, 0)


@BOTH
def test_a_letter_of_a_person_is_refused_so_that_its_sender_is_told(protocol, box, listen) -> None:
    front = listen(protocol)
    with pytest.raises((smtplib.SMTPDataError, smtplib.SMTPRecipientsRefused)) as refused:
        send(front, LETTER)
    assert "takes mails for programs only" in str(refused.value)
    assert "550" in str(refused.value)
    assert box.mails == []


@BOTH
@pytest.mark.parametrize("report", [OUR_REPORT, THEIR_REPORT])
def test_a_report_is_taken(report, protocol, box, listen) -> None:
    send(listen(protocol), report, sender="")
    assert len(box.mails) == 1


@BOTH
@pytest.mark.parametrize(
    "command",
    [b"RCPT TO:<bob+\rAuto-Submitted: no@example.net>", b"RCPT TO:<bob+\x00@example.net>"],
)
def test_a_header_hidden_in_a_recipient_is_refused(command, protocol, box, listen) -> None:
    front = listen(protocol)
    with client(front) as way:
        way.ehlo_or_helo_if_needed()
        way.mail(CAROL)
        way.send(command + b"\r\n")
        code, _ = way.getreply()
    assert 500 <= code <= 599


def test_a_header_hidden_in_a_sender_is_refused(listen) -> None:
    with client(listen("smtp")) as way:
        way.ehlo_or_helo_if_needed()
        way.send(b'MAIL FROM:<"a\rAuto-Submitted: no"@example.net>\r\n')
        code, _ = way.getreply()
    assert 500 <= code <= 599


# --- what cannot be kept ----------------------------------------------------------------------


@BOTH
def test_a_mail_that_cannot_be_kept_is_left_to_its_sender_for_later(protocol, box, listen):
    front = listen(protocol)
    box.is_full = True
    with pytest.raises((smtplib.SMTPDataError, smtplib.SMTPRecipientsRefused)) as refused:
        send(front, a_mail())
    assert "452" in str(refused.value)
    assert box.pokes == 0
    assert box.troubles == ["", "mails cannot be kept: the disk of the spool folder is full"]
    box.is_full = False
    send(front, a_mail())
    assert box.troubles[-1] == ""
    assert len(box.mails) == 1


def test_lmtp_answers_for_each_recipient(box, other, listen) -> None:
    other.is_full = True
    answers = answers_to(listen("lmtp"), a_mail(), BOB, ALICE, "bob+x@example.net")
    assert [answer[:9] for answer in answers] == [b"250 2.0.0", b"452 4.3.1", b"250 2.0.0"]


def test_smtp_leaves_a_mail_to_its_sender_when_one_of_two_boxes_is_full(box, other, listen):
    other.is_full = True
    with pytest.raises(smtplib.SMTPDataError) as refused:
        send(listen("smtp"), a_mail(), BOB, ALICE)
    assert refused.value.smtp_code == 452


def test_lmtp_answers_for_each_recipient_when_a_mail_is_refused_as_a_whole(
    listen, monkeypatch
) -> None:
    monkeypatch.setattr(mail._smtp_server, "MAIL_BYTES", 4096 + 1000)
    front = listen("lmtp")
    answers = answers_to(front, a_mail() + b"x\n" * 2000, BOB, ALICE)
    assert [answer[:3] for answer in answers] == [b"552", b"552"]
    assert len(answers_to(front, LETTER, BOB, ALICE)) == 2


def test_lmtp_stays_in_step_after_refusals_and_a_reset(box, listen) -> None:
    front = listen("lmtp")
    with client(front) as way:
        way.ehlo_or_helo_if_needed()
        way.mail(CAROL)
        way.rcpt(BOB)
        way.rcpt(ALICE)
        assert way.rset()[0] == 250
        assert way.docmd("DATA")[0] == 503
        assert way.noop()[0] == 250
        assert way.sendmail(CAROL, [BOB], a_mail()) == {}
        assert way.noop() == (250, b"OK")


@BOTH
def test_a_mail_that_is_too_large_is_refused_before_it_is_sent(
    protocol, box, listen, monkeypatch
) -> None:
    monkeypatch.setattr(mail._smtp_server, "MAIL_BYTES", 4096 + 1000)
    front = listen(protocol)
    with pytest.raises(smtplib.SMTPSenderRefused) as refused:
        send(front, a_mail() + b"x\n" * 2000)
    assert refused.value.smtp_code == 552


@BOTH
def test_a_fault_of_ours_does_not_return_the_mail(protocol, box, listen, monkeypatch) -> None:
    front = listen(protocol)

    def fault(content: bytes) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(mail._listener, "whose", fault)
    with pytest.raises((smtplib.SMTPDataError, smtplib.SMTPRecipientsRefused)) as refused:
        send(front, a_mail())
    assert "451" in str(refused.value)
    monkeypatch.undo()
    send(front, a_mail())
    assert len(box.mails) == 1


# --- connections ------------------------------------------------------------------------------


def test_many_connections_are_served_at_once(box, listen) -> None:
    front = listen("smtp")
    with contextlib.ExitStack() as stack:
        ways = [stack.enter_context(client(front)) for _ in range(20)]
        for number, way in enumerate(ways):
            way.sendmail(CAROL, [BOB], a_mail(number))
    assert len(box.mails) == 20


def test_commands_in_bulk_do_not_keep_other_connections_waiting(listen, monkeypatch) -> None:
    front = listen("smtp")
    answered: list[str] = []
    ehlo, noop = mail._smtp_server.Protocol.smtp_EHLO, mail._smtp_server.Protocol.smtp_NOOP

    async def note_ehlo(self: Any, arg: str) -> None:
        answered.append("ehlo")
        await ehlo(self, arg)

    async def note_noop(self: Any, arg: str) -> None:
        answered.append("noop")
        await noop(self, arg)

    monkeypatch.setattr(mail._smtp_server.Protocol, "smtp_EHLO", note_ehlo)
    monkeypatch.setattr(mail._smtp_server.Protocol, "smtp_NOOP", note_noop)
    with client(front) as way, socket.create_connection((HOST, front.port), 5) as sock:
        sock.sendall(b"EHLO x\r\n" * 8000)
        eventually(lambda: answered)
        way.noop()
        assert answered.index("noop") < 4000


def test_a_connection_too_many_is_told_to_come_later(box, listen, monkeypatch) -> None:
    monkeypatch.setattr(mail._listener, "CONNECTIONS", 2)
    front = listen("smtp")
    with client(front) as first, client(front):
        with pytest.raises(smtplib.SMTPConnectError) as refused:
            client(front)
        assert refused.value.smtp_code == 421
        first.sendmail(CAROL, [BOB], a_mail())
    eventually(lambda: not front._connections)
    send(front, a_mail())
    assert len(box.mails) == 2


HALF = b"MAIL FROM:<a@b.c>\r\nRCPT TO:<bob@example.net>\r\nDATA\r\nSubject: half"


@pytest.mark.parametrize("said", [b"", b"EHLO x\r\n", b"EHLO x\r\n" + HALF])
def test_a_connection_that_breaks_leaves_nothing_behind(said, box, listen, caplog) -> None:
    front = listen("smtp")
    for _ in range(10):
        with socket.create_connection((HOST, front.port), 5) as sock:
            sock.sendall(said)
            sock.recv(10)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    eventually(lambda: not front._connections)
    send(front, a_mail())
    assert len(box.mails) == 1
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


@BOTH
@pytest.mark.parametrize("said", [b"", HALF])
def test_stopping_ends_open_connections_at_once(said, protocol, listen) -> None:
    front = listen(protocol)
    with socket.create_connection((HOST, front.port), 5) as sock:
        sock.recv(10)
        sock.sendall((b"LHLO x\r\n" if protocol == "lmtp" else b"EHLO x\r\n") + said)
        began_at = time.monotonic()
        front.stop()
        assert time.monotonic() - began_at < 1.5
        assert not front._thread.is_alive()
        with contextlib.suppress(ConnectionError):
            while sock.recv(4096):
                pass


def test_stopping_does_not_wait_for_a_client_that_takes_no_answers(listen) -> None:
    front = listen("smtp")
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect((HOST, front.port))
        sock.settimeout(0.3)
        with contextlib.suppress(TimeoutError):
            while True:
                sock.sendall(b"EHLO x\r\n" * 4096)
        began_at = time.monotonic()
        front.stop()
        assert time.monotonic() - began_at < 1.5
        assert not front._thread.is_alive()


def test_stopping_twice_or_before_the_start_is_no_fault(box) -> None:
    front = ListenerFront(ListenSettings("", 0, "smtp"), {}, box.poke, box.troubles.append)
    front.stop()
    front.stop()


def test_after_the_stop_the_port_is_free(listen) -> None:
    front = listen("smtp")
    port = front.port
    front.stop()
    listen("smtp", port=port)


def test_a_port_that_is_taken_is_told_and_nothing_is_left_behind(listen) -> None:
    first = listen("smtp")
    with pytest.raises(BusyError, match="another program listens at this port"):
        listen("smtp", port=first.port)


def test_an_address_of_another_machine_cannot_be_listened_at(box) -> None:
    front = ListenerFront(ListenSettings("192.0.2.1", 2525), {}, box.poke, box.troubles.append)
    with pytest.raises(ConnectError, match="cannot listen here"):
        front.start()


def test_without_a_host_only_this_machine_is_served(box) -> None:
    front = ListenerFront(ListenSettings("", 0), {}, box.poke, box.troubles.append)
    front.start()
    try:
        assert front._listening is not None
        assert front._listening._socket.getsockname()[0] == HOST
    finally:
        front.stop()


def test_without_the_extra_the_error_names_it(box, monkeypatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "aiosmtpd"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "aiosmtpd", None)
    monkeypatch.delitem(sys.modules, "mail._smtp_server")
    front = ListenerFront(ListenSettings("", 0), {}, box.poke, box.troubles.append)
    with pytest.raises(ConfigError, match=r"pip install 'compoint\[mail\]'"):
        front.start()


def test_the_extra_is_imported_by_nobody_before_it_is_used() -> None:
    code = (
        "import sys, mail._listener; assert not {'aiosmtpd', 'mail._smtp_server'} & {*sys.modules}"
    )
    subprocess.run(
        [sys.executable, "-c", code], check=True, timeout=30,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
