"""What a stranger's mail, or a program's text, must never achieve: headers, loops, file names."""

from __future__ import annotations

import email
import logging
import os
import re
import socket
import string
import threading
import time
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path
from typing import Final

import pytest
from forger_kit import (
    ALICE,
    BOB,
    MALLORY,
    PATIENCE_S,
    PORT,
    Scene,
    a_scene,
    frame,
    frames_in,
    mail_of,
)
from hypothesis import example, given
from hypothesis import strategies as st
from receiver_kit import Mailbox
from world_kit import report

from compoint import AddressError, ComPointAddress
from compoint.testing import eventually
from mail._envelope import Flag, Kind, Place, Why, encode, find_frames
from mail._mime import new_mail, new_message_id

#: What stands in the head of every mail that leaves, and nothing else.
HEADERS: Final = [
    "From", "To", "Date", "Message-ID", "Subject", "Auto-Submitted", "MIME-Version",
    "Content-Type", "Content-Transfer-Encoding",
]  # fmt: skip


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with a_scene(tmp_path) as scene:
        yield scene


# --- heads --------------------------------------------------------------------------------------

INJECTIONS: Final = [
    "mallory@example.com\r\nBcc: bob@example.net", "mallory@example.com\n", "\rmallory@example.com",
    "mallory@exam\0ple.com", "<mallory@example.com>", "mallory@example.com>,<bob@example.net",
    '"mallory\r\nX: "@example.com', "mal lory@example.com", "mallory@example.com NOTIFY=SUCCESS",
    "mallory@example.com\r\n.\r\nMAIL FROM:<x@y.z>", "mallory", "@example.com", "mallory@", "",
    "m\x85allory@example.com", "mallory@example.com\u2028", "mallory@[192.0.2.1]",
    "m" * 65 + "@example.com",
]  # fmt: skip


@pytest.mark.parametrize("evil", INJECTIONS)
def test_a_frame_whose_mailbox_would_get_into_a_head_is_put_aside_and_not_answered(
    scene: Scene, evil: str
) -> None:
    opened = frame(b"hello")._replace(sender=Place(evil, 1))
    # An answer would go to it.
    unknown = opened._replace(flags=Flag(0), conversation=os.urandom(16))
    assert scene.gets(mail_of(opened), mail_of(unknown), mail_of(opened, unknown)) == 0
    assert scene.inbound.put_aside == {"malformed": 3}
    assert scene.left == []
    scene.goes_on()


@given(
    st.text(string.ascii_letters + string.digits + "@.-_%s'\"<> \r\n\0\t\\,;:=é\u2028", max_size=40)
    | st.text(max_size=20).map(lambda text: f"{text}@example.org")
    | st.text(max_size=20).map(lambda text: f"a@{text}.org")
)
@example("")
@example("a%s@example.org")
@example("-oQ/tmp@example.org")
def test_whoever_a_frame_can_name_can_be_written_to_and_adds_nothing_to_a_head(
    mailbox: str,
) -> None:
    try:
        said = frame()._replace(sender=Place(mailbox, 1))
        (envelope,) = find_frames(encode(said)).envelopes
    except ValueError:
        return
    recipient = envelope.frame.sender.mailbox
    mail = new_mail(
        b"x", sender=ALICE, recipient=recipient, message_id=new_message_id(ALICE), now=0.0
    )
    parsed = email.message_from_bytes(b"".join(mail.pieces()))
    assert parsed.keys() == HEADERS
    assert mail.head.count(b"\n") == len(HEADERS) + 1


@pytest.mark.parametrize("evil", INJECTIONS[:-2])
def test_a_program_cannot_name_such_a_mailbox_either(evil: str) -> None:
    if evil:
        with pytest.raises(AddressError):
            ComPointAddress("mail", evil, PORT)
    with pytest.raises(AddressError):
        ComPointAddress.parse(f"mail:{evil}:x{PORT}")


def test_every_mail_that_leaves_has_the_same_headers_and_says_that_a_program_made_it(
    scene: Scene,
) -> None:
    text = b"hello\r\nBcc: bob@example.net\r\n\r\n"
    scene.gets(mail_of(frame(text)))
    point = scene.accept()
    point.write("an answer\r\nX-Evil: yes\r\n\r\n")
    scene.settles()
    point.abort("broken\r\nX-Evil: off")
    scene.settles()
    scene.gets(mail_of(frame(text, receiver=Place(ALICE, 7200))))
    heads = [email.message_from_bytes(mail) for _, mail in scene.left]
    assert len(heads) >= 3
    threads = set()
    for head in heads:
        # A mail of answers only belongs to no conversation that readers could show.
        thread = ["In-Reply-To", "References"] if "References" in head else []
        assert head.keys() == [*HEADERS, *thread]
        threads |= {head[name] for name in thread}
        assert (head["From"], head["To"]) == (f"<{ALICE}>", f"<{MALLORY}>")
        assert head["Subject"] == "SEMPER Message"
    kinds = {
        head["Auto-Submitted"]: {one.kind for one in frames_in(head.as_bytes())} for head in heads
    }
    assert all(re.fullmatch(r"<[0-9a-f-]{36}@conversation\.invalid>", one) for one in threads)
    assert len(threads) == 2
    assert Kind.DATA in kinds["auto-generated"]
    assert kinds["auto-replied"] <= {Kind.ACK, Kind.RESET}


# --- no loops -----------------------------------------------------------------------------------

NOT_FROM_A_PEER: Final = {
    "a list": "List-Id: <friends.example.com>\r\n",
    "a bulk mail": "Precedence: bulk\r\n",
    "a list of old": "Precedence: LIST\r\n",
    "junk": "precedence: junk\r\n",
    "a null sender": "Return-Path: <>\r\n",
    "a mail system": "From: MAILER-DAEMON@example.com\r\n",
    "a report": "Content-Type: multipart/report; report-type=delivery-status; boundary=x\r\n",
}


@pytest.mark.parametrize("what", NOT_FROM_A_PEER)
def test_what_comes_from_a_list_or_a_mail_system_changes_nothing_and_is_not_answered(
    scene: Scene, what: str
) -> None:
    said, unknown = frame(b"hello"), frame(b"hello", flags=Flag(0))
    head = NOT_FROM_A_PEER[what]
    mails = [mail_of(one, head=head) for one in (said, unknown)]
    for mail in mails:
        _deliver_bare(scene, mail)
    scene.settles()
    assert scene.made == 0
    assert len(scene.files("bad")) == 2
    scene.goes_on()


def _deliver_bare(scene: Scene, mail: bytes) -> None:
    """Without a line of its own about the sender."""
    scene.world._boxes[ALICE].deliver(mail)


@pytest.fixture
def heard(scene: Scene) -> tuple[Scene, bytes]:
    """Alice has answered bob, and her last mail."""
    scene.gets(mail_of(frame(b"hello", sender=BOB), sender=BOB))
    point = scene.accept()
    assert point.read(timeout=PATIENCE_S) == b"hello"
    point.write(b"an answer")
    scene.settles()
    point.abort("the test is over")
    scene.settles()
    return scene, scene.left[-1][1]


def test_an_answer_of_a_person_or_of_a_vacation_program_changes_nothing(
    heard: tuple[Scene, bytes],
) -> None:
    scene, mail = heard
    answer = EmailMessage()
    answer["From"], answer["To"] = f"<{BOB}>", f"<{ALICE}>"
    answer["Auto-Submitted"], answer["In-Reply-To"] = "auto-replied", "<x@example.net>"
    answer.set_content(
        "I am away.\n" + "\n".join(f"> {line}" for line in mail.decode().splitlines())
    )
    with_copy = EmailMessage()
    with_copy["From"], with_copy["To"] = f"<{BOB}>", f"<{ALICE}>"
    with_copy.set_content("I am away. Your mail is attached.")
    with_copy.add_attachment(email.message_from_bytes(mail, policy=email.policy.default))
    assert scene.gets(answer.as_bytes(), with_copy.as_bytes(), mail, sender=BOB) == 0
    assert scene.office.counts()["foreign"] > 0
    scene.goes_on()


def test_an_alias_that_sends_our_mails_back_to_us_ends_there(heard: tuple[Scene, bytes]) -> None:
    scene, _ = heard
    assert scene.gets(*[mail for _, mail in scene.left]) == 0
    scene.goes_on()


def test_a_report_about_a_mail_that_is_not_ours_is_put_aside_and_not_answered(
    heard: tuple[Scene, bytes],
) -> None:
    scene, _ = heard
    theirs = mail_of(frame(b"hello"), sender=BOB)
    forged = report(theirs, ALICE, "5.1.1", "550 no such mailbox here")
    assert scene.gets(forged, forged.replace(b"failed", b"delayed"), sender="") == 0
    assert scene.inbound.put_aside == {"a report about no mail of ours": 2}
    scene.goes_on()


# --- names and texts ----------------------------------------------------------------------------

_NAME: Final = re.compile(r"\d{20}\.\d+\.[0-9a-f]{8}")


@pytest.mark.parametrize(
    "name", ["../../../../tmp/evil", "-rf", "a b; touch c", "$(touch c)", "%s", "x\ny", "a" * 250]
)
def test_no_name_in_a_mail_becomes_the_name_of_a_file(scene: Scene, name: str) -> None:
    mail = EmailMessage()
    mail["From"], mail["To"] = f"<{MALLORY}>", f"<{ALICE}>"
    mail["Message-ID"] = f"<{'../' * 5}x@example.com>"
    mail.set_content("see")
    mail.add_attachment(encode(frame(b"hello")), "application", "x-semper", filename="@NAME@")
    named = mail.as_bytes().replace(b"@NAME@", name.replace("\n", "\n ").encode())
    before = set(scene.spool.rglob("*"))
    scene.gets(named, named.replace(b"U01Q", b"AAAA"))
    new = {path for path in scene.spool.rglob("*") if path not in before}
    assert [bool(_NAME.fullmatch(path.name)) for path in new if path.is_file()] == [True]
    scene.reads(b"hello")


@pytest.mark.parametrize("name", ["a b", "-x", "$(id)", "`id`", "%s", "'", '"', "a;b", "\\", "é\n"])
def test_the_receiver_takes_a_part_whatever_its_file_is_called(
    mailbox: Mailbox, tmp_path: Path, name: str
) -> None:
    part = tmp_path / name
    part.write_bytes(b"SMPR and so on")
    assert mailbox.receive("--", part).code == 0
    assert mailbox.waiting() == [b"SMPR and so on"]
    assert [bool(_NAME.fullmatch(file.name)) for file in mailbox.files("new")] == [True]


def test_no_message_no_secret_and_no_control_character_gets_into_a_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    secret = b"agreed by telephone, long enough"
    file = tmp_path / "secret"
    file.write_bytes(secret)
    file.chmod(0o600)
    with (
        caplog.at_level(logging.DEBUG),
        a_scene(tmp_path, trust="secret", secretFile=file) as scene,
    ):
        said = frame(b"a word in confidence")
        good = encode(said, secret)
        evil = encode(said._replace(sender=Place("a\x1b[2J\r\n@b.test", 1)), secret)
        scene.gets(mail_of(good), mail_of(good[:-1] + b"!"), mail_of(evil), mail_of(said))
        scene.gets(b"Subject: a word in confidence\x1b[2J\r\n\r\na word in confidence\r\n")
        scene.reads(b"a word in confidence")
    assert len(caplog.records) >= 4
    assert "confidence" not in caplog.text
    assert "telephone" not in caplog.text
    assert all(record.getMessage().isprintable() for record in caplog.records)


# --- the poke -----------------------------------------------------------------------------------


def test_the_receiver_port_is_for_this_machine_only(scene: Scene) -> None:
    assert scene.inbound._socket.getsockname()[0] == "127.0.0.1"


def test_pokes_of_anybody_change_nothing_and_cost_little(scene: Scene) -> None:
    address = ("127.0.0.1", int(str(scene.settings["receiverPort"])))
    pause = threading.Event()
    began, used = time.monotonic(), time.process_time()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as poker:
        poked = 0
        while time.monotonic() - began < 0.5:
            poker.sendto(encode(frame(b"poked")), address)
            poked += 1
            pause.wait(0.0005)
    assert scene.made == 0
    assert time.process_time() - used < 0.4
    assert poked > 100
    scene.goes_on()


def test_a_frame_for_a_conversation_of_ours_from_its_peer_s_mailbox_but_another_port(
    scene: Scene,
) -> None:
    said = frame(b"hello")
    scene.gets(mail_of(said))
    other = said._replace(sender=Place(MALLORY, 1), start=len(said.body), body=b"x" * 50)
    assert scene.gets(mail_of(other)) == 0
    eventually(lambda: not scene.files("bad"))
    scene.reads(b"hello")


def test_all_that_is_wrong_with_a_mailbox_in_a_frame_is_malformed() -> None:
    for evil in INJECTIONS:
        said = frame()._replace(receiver=Place(evil, 1))
        assert [fault.why for fault in find_frames(encode(said)).faults] == [Why.MALFORMED], evil
