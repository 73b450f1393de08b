"""Mails that are damaged, rewritten, doubled, foreign or far too large: what becomes of each.

In each test nobody is shown anything twice or anything wrong, no mail leaves but what
docs/PROTOCOL.md §12 asks for, and whoever comes next is heard.
"""

from __future__ import annotations

import base64
import email.policy
import os
import textwrap
import time
from collections.abc import Callable, Iterator
from email.message import EmailMessage
from email.parser import BytesParser
from pathlib import Path
from typing import Final

import pytest
from forger_kit import (
    ALICE,
    ANSWERED,
    MALLORY,
    PATIENCE_S,
    Scene,
    a_scene,
    check_nothing_harms,
    frame,
    frames_in,
    mail_of,
)
from receiver_kit import Mailbox
from world_kit import REWRITINGS, report

from compoint.core.framing import HEADER
from compoint.core.framing import Kind as InnerKind
from compoint.deadline import clock
from compoint.limits import MIB
from compoint.testing import eventually
from mail import _post_office
from mail._dropbox import BAD_FILES
from mail._envelope import BODY_BYTES, MAGIC, Flag, Kind, encode
from mail._timers import Moment

DAY_S: Final = 86_400.0


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with a_scene(tmp_path) as scene:
        yield scene


def payload_of(mail: bytes) -> bytes:
    payload = BytesParser(policy=email.policy.SMTP).parsebytes(mail).get_payload(decode=True)
    assert isinstance(payload, bytes)
    return payload


# --- damaged, cut off ---------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.05, 0.3, 0.7, 0.99])
def test_a_damaged_mail_is_put_aside_and_repaired_when_it_is_said_again(
    scene: Scene, share: float
) -> None:
    said = frame(b"hello")
    damaged = bytearray(encode(said))
    damaged[int(len(damaged) * share)] ^= 0x10
    assert scene.gets(mail_of(bytes(damaged))) == 0
    assert [file.read_bytes().endswith(b"\n") for file in scene.files("bad")] == [True]
    assert sum(scene.inbound.put_aside.values()) == 1
    scene.gets(mail_of(said))
    scene.reads(b"hello")


@pytest.mark.parametrize("share", [0.01, 0.5, 0.9, 0.98])
def test_a_mail_that_was_cut_off_is_put_aside_and_repaired_when_it_is_said_again(
    scene: Scene, share: float
) -> None:
    mail = mail_of(frame(b"hello"))
    behind = mail.index(b"\r\n\r\n") + 4
    cut = mail[: behind + int((len(mail) - behind) * share)]
    assert scene.gets(cut) == 0
    assert len(scene.files("bad")) == sum(scene.inbound.put_aside.values()) == 1
    scene.gets(mail)
    scene.reads(b"hello")


def test_of_a_mail_that_was_cut_off_the_whole_frames_are_taken(scene: Scene) -> None:
    first, second = frame(b"first"), frame(b"second")
    mail = mail_of(first, second)
    scene.gets(mail[: -len(mail) // 4])
    assert scene.files("bad") == []
    scene.reads(b"first")
    scene.gets(mail)
    scene.reads(b"second")
    scene.goes_on()


# --- rewritten ----------------------------------------------------------------------------------


def _wrapped(payload: bytes, *, kind: str = "application/x-semper", eol: str = "\r\n") -> bytes:
    body = eol.join(textwrap.wrap(base64.b64encode(payload).decode(), 72))
    head = [
        f"From: <{MALLORY}>", f"Content-Type: {kind}", "Content-Transfer-Encoding: base64", "",
        body, "",
    ]  # fmt: skip
    return eol.join(head).encode()


def _forwarded(mail: bytes) -> bytes:
    whole = EmailMessage()
    whole["From"], whole["To"] = "filter@example.org", ALICE
    whole.set_content("This was suspicious.")
    whole.add_attachment(BytesParser(policy=email.policy.default).parsebytes(mail))
    return whole.as_bytes(policy=email.policy.SMTP)


def _with_html(mail: bytes) -> bytes:
    whole = EmailMessage()
    whole["From"], whole["To"] = MALLORY, ALICE
    whole.set_content("An attachment.")
    whole.add_alternative("<p>An attachment.</p>", subtype="html")
    whole.add_attachment(payload_of(mail), "application", "x-semper", filename="ATT001.dat")
    return whole.as_bytes(policy=email.policy.SMTP)


def _binary(mail: bytes) -> bytes:
    head = f"From: <{MALLORY}>\nContent-Type: application/x-semper\n"
    return f"{head}Content-Transfer-Encoding: binary\n\n".encode() + payload_of(mail)


def _in_a_mailbox_file(mail: bytes) -> bytes:
    return f"From {MALLORY} Fri Nov 20 12:00:00 2026\n".encode() + mail.replace(b"\r\n", b"\n")


def _with_a_footer_behind(mail: bytes) -> bytes:
    return mail + b"\r\n-- \r\nThis mail was found to be clean by Somebody's filter.\r\n"


REWRITTEN: Final[dict[str, Callable[[bytes], bytes]]] = {
    **{one.__name__.strip("_"): one for one in REWRITINGS},
    "forwarded as an attachment": _forwarded,
    "with HTML beside": _with_html,
    "binary": _binary,
    "in a mailbox file": _in_a_mailbox_file,
    "with a footer behind": _with_a_footer_behind,
    "line feeds only": lambda mail: mail.replace(b"\r\n", b"\n"),
    "of a renamed type": lambda mail: _wrapped(payload_of(mail), kind="text/plain; charset=utf-8"),
    "the decoded part": payload_of,
    "the encoded part": lambda mail: base64.encodebytes(payload_of(mail)),
    "with spaces before lines": lambda mail: mail.replace(b"\r\nU01Q", b"\r\n  U01Q"),
}


@pytest.mark.parametrize("how", REWRITTEN)
def test_a_rewritten_mail_is_read_once(scene: Scene, how: str) -> None:
    mail = mail_of(frame(b"hello"))
    rewritten = REWRITTEN[how](mail)
    assert rewritten != mail
    assert scene.gets(rewritten) in ANSWERED
    assert scene.gets(mail) == 0
    scene.reads(b"hello")
    scene.goes_on()


# --- again --------------------------------------------------------------------------------------


def test_a_mail_that_comes_fifty_times_is_read_once_and_confirmed_once(scene: Scene) -> None:
    mail = mail_of(frame(b"hello"))
    assert scene.gets(*[mail] * 50) in ANSWERED
    assert scene.office.counts()["doubled"] == 49
    scene.reads(b"hello")
    scene.goes_on()


def test_a_part_that_is_displayed_twice_is_read_once(scene: Scene, tmp_path: Path) -> None:
    mailbox = Mailbox(tmp_path, int(str(scene.settings["receiverPort"])))
    mailbox.configure(receiverPort=scene.settings["receiverPort"], spool=scene.spool)
    part = tmp_path / "part"
    part.write_bytes(encode(frame(b"hello")))
    for _ in range(2):
        assert mailbox.receive(part).code == 0
    scene.settles()
    assert scene.made in ANSWERED
    scene.reads(b"hello")
    scene.goes_on()


@pytest.fixture
def ended(scene: Scene) -> tuple[Scene, list[bytes]]:
    """A conversation that is over for both sides, and the mails of its peer."""
    first = frame(b"hello")
    goodbye = HEADER.pack(InnerKind.GOODBYE, 0, 0, 1, 0, 10) + bytes(10)
    goodbye += HEADER.pack(InnerKind.GOODBYE, 0, 0, 0, 0, 10) + bytes(10)
    said = len(first.body)
    last = first._replace(start=said, flags=Flag.END, body=goodbye)
    mails = [mail_of(first), mail_of(last)]
    scene.gets(*mails)
    point = scene.accept()
    assert point.read(timeout=PATIENCE_S) == b"hello"
    point.close(timeout=0)
    scene.settles()
    # All of what alice has said is confirmed.
    eventually(lambda: any(_is_end(mail) for _, mail in scene.left), PATIENCE_S)
    heard = max(one.start + len(one.body) for _, mail in scene.left for one in frames_in(mail))
    mails.append(
        mail_of(last._replace(kind=Kind.ACK, flags=Flag(0), start=0, have=heard + 1, body=b""))
    )
    scene.gets(mails[-1])
    return scene, mails


def _is_end(mail: bytes) -> bool:
    return any(Flag.END in one.flags for one in frames_in(mail))


def test_mails_of_a_conversation_that_is_over_change_nothing(
    ended: tuple[Scene, list[bytes]],
) -> None:
    scene, mails = ended
    assert scene.gets(*mails * 20) <= 1
    assert scene.gets(*mails * 20) == 0
    scene.goes_on()


@pytest.mark.parametrize("kind", [Kind.ACK, Kind.RESET])
def test_nothing_answers_a_confirmation_or_a_reset_of_a_conversation_that_is_over(
    ended: tuple[Scene, list[bytes]], kind: Kind
) -> None:
    scene, mails = ended
    (last,) = frames_in(mails[1])
    assert scene.gets(mail_of(last._replace(kind=kind, flags=Flag(0), body=b""))) == 0
    scene.goes_on()


def test_mails_of_a_conversation_that_is_over_change_nothing_in_the_next_process(
    ended: tuple[Scene, list[bytes]],
) -> None:
    scene, mails = ended
    scene.restart()
    assert scene.gets(*mails * 20) <= 1
    scene.goes_on()


def test_mails_of_a_conversation_that_nobody_remembers_are_too_old_to_change_anything(
    ended: tuple[Scene, list[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    scene, mails = ended
    scene.stop()
    for days in (1.1, 2.1, 40):
        later_s = days * DAY_S
        monkeypatch.setattr(
            _post_office,
            "moment",
            lambda later_s=later_s: Moment(clock(), time.time() + later_s),
        )
        scene.start()
        before = scene.made
        for mail in mails:
            scene.world.deliver(ALICE, mail, MALLORY)
        eventually(lambda: not scene.files("new"), PATIENCE_S)
        assert scene.made == before
        scene.stop()
    scene.start()
    monkeypatch.undo()
    scene.goes_on()


def test_a_part_of_an_old_conversation_cannot_be_played_into_a_new_one(scene: Scene) -> None:
    old, new = frame(b"old"), frame(b"new")
    scene.gets(mail_of(old))
    scene.gets(mail_of(new))
    scene.reads(b"old")
    scene.gets(mail_of(old._replace(start=len(new.body), body=b"old again" * 20)))
    scene.reads(b"new")


# --- foreign ------------------------------------------------------------------------------------

_TEXT: Final = b"From: a@example.com\r\nTo: alice@example.org\r\nSubject: lunch?\r\n\r\nAt one?\r\n"
FOREIGN: Final[dict[str, bytes]] = {
    "a letter": _TEXT,
    "nothing": b"",
    "a head only": b"From: a@example.com\r\n",
    "noise": bytes(range(256)) * 40,
    "another program's": _wrapped(b"\x89SEMPER payment 1.0\r\n" + bytes(500)),
    "our name only": _wrapped(MAGIC),
    "our first bytes only": _wrapped(MAGIC + b"\x01\x01\x00\x00\x00\x00\x00\x7d"),
    "another version": _wrapped(MAGIC + b"\x02" + os.urandom(200)),
    "a frame quoted by a person": _TEXT
    + b"\r\n".join(b"> " + line for line in mail_of(frame(b"quoted")).splitlines()),
    "a broken multipart": b"Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n--x--\r\n--x",
    "a claim of 4 GB": _wrapped(MAGIC + b"\x01\x01\x00\x00\xff\xff\xff\xff" + bytes(100)),
}


@pytest.mark.parametrize("what", FOREIGN)
def test_a_mail_that_brings_nothing_is_put_aside_counted_and_not_answered(
    scene: Scene, what: str
) -> None:
    assert scene.gets(FOREIGN[what]) == 0
    assert len(scene.files("bad")) == 1
    assert sum(scene.inbound.put_aside.values()) == 1
    scene.goes_on()


def test_of_what_is_put_aside_the_newest_are_kept(scene: Scene) -> None:
    assert scene.gets(*[_TEXT] * (2 * BAD_FILES), *[mail_of(b"SMPR")] * BAD_FILES) == 0
    eventually(lambda: len(scene.files("bad")) == BAD_FILES)
    assert sum(scene.inbound.put_aside.values()) == 3 * BAD_FILES
    scene.goes_on()


def test_what_a_stranger_s_filter_returns_is_not_taken_for_a_peer_s(scene: Scene) -> None:
    """A report holds the mail it is about."""
    mail = mail_of(frame(b"hello"))
    assert scene.gets(report(mail, ALICE, "5.1.1", "no such user") + mail, sender="") == 0
    assert len(scene.files("bad")) == 1
    scene.goes_on()


# --- too much -----------------------------------------------------------------------------------


def _most_memory(*, anew: bool = False) -> int:
    """The most memory that this process has had since it was asked anew, in bytes."""
    if anew:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    (line,) = [
        line for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        if line.startswith("VmHWM:")
    ]  # fmt: skip
    return int(line.split()[1]) * 1024


def _nested(depth: int) -> bytes:
    return b"".join(
        b"Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n" % (one, one)
        for one in range(depth)
    )


_LARGE: Final = 8 * MIB
COSTLY: Final[dict[str, Callable[[], bytes]]] = {
    "a million parts": lambda: b"Content-Type: multipart/mixed; boundary=b\n\n" + b"--b\n\n" * MIB,
    "many lines": lambda: b"From: <a@example.com>\n\n" + b"\n\n" * (_LARGE // 2),
    "many headers": lambda: b"a:\n" * (_LARGE // 3),
    "a long parameter": lambda: b'Content-Type: a/b; c="' + b";" * _LARGE + b'"\n\nU01QUgEB\n',
    "long parameters": lambda: (
        b"Content-Type: multipart/mixed; boundary=b\n\n"
        + (b'--b\nContent-Type: multipart/mixed; c="' + b";" * 15_000 + b'"\n\nx\n') * 500
    ),
    "a long parameter of a report": lambda: (
        b'From: mailer-daemon@example.com\nContent-Type: multipart/report; c="' + b";" * _LARGE
    ),
    "parts in parts": lambda: _nested(200) + (b"-" * 60 + b"\n") * (_LARGE // 61),
    "false starts": lambda: mail_of(encode(frame())[:20] * 50_000),
    "a long line": lambda: b"Subject: " + b"x" * _LARGE,
    "one part": lambda: mail_of(os.urandom(_LARGE)),
}


@pytest.mark.parametrize("how", COSTLY)
def test_a_mail_that_was_made_to_be_costly_takes_little(scene: Scene, how: str) -> None:
    """Seconds at most, and no more memory than an honest mail of its size."""
    mail = COSTLY[how]()
    before = _most_memory(anew=True)
    began = time.process_time()
    assert scene.gets(mail) == 0
    assert time.process_time() - began < 15
    assert _most_memory() - before < 30 * _LARGE
    assert len(scene.files("bad")) == 1
    scene.goes_on()


def test_a_mail_of_thousands_of_frames_is_taken_in_part_and_bounded(scene: Scene) -> None:
    said = frame(b"hello")
    nonsense = encode(frame(kind=Kind.ACK, flags=Flag(0), body=b""))
    began = time.process_time()
    assert scene.gets(mail_of(said, nonsense * 50_000, frame(b"too late"))) in ANSWERED
    assert time.process_time() - began < 15
    scene.reads(b"hello")
    scene.goes_on()


def test_a_mail_of_60_megabytes_is_read(scene: Scene) -> None:
    """As large as any that the receiver program takes."""
    said = frame(b"hello")
    filling = [encode(frame(receiver=said.sender, body=bytes(BODY_BYTES)))] * 170
    assert scene.gets(mail_of(*filling, said)) in ANSWERED
    assert scene.office.counts()["foreign"] == 170
    scene.reads(b"hello")


def test_whatever_comes_the_program_goes_on(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    check_nothing_harms(scene, 150)
    assert [one for one in caplog.records if one.levelname == "ERROR"] == []
