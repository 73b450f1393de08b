"""Bad mails at a program that serves by mail: some of each kind, which take no time.

Many more stand in tests/mail: test_bad_mails, test_bad_frames, test_safety and
test_bad_surroundings.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

sys.path.append(str(Path(__file__).resolve().parents[1] / "mail"))

from forger_kit import (
    ALICE,
    ANSWERED,
    BOB,
    PATIENCE_S,
    PORT,
    Scene,
    a_scene,
    check_nothing_harms,
    frame,
    frames_in,
    mail_of,
)
from smtp_kit import Scripted
from world_kit import REWRITINGS, report

from compoint import COMPOINT_INITIATOR, ComManager, ComPointAddress, SessionLostError
from compoint.testing import configured, eventually
from mail import _offices
from mail._envelope import Flag, Kind, Place, encode

DAY_S: Final = 86_400


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with a_scene(tmp_path) as scene:
        yield scene


def test_a_damaged_mail_and_one_that_was_cut_off_are_repaired_when_it_is_said_again(
    scene: Scene,
) -> None:
    said = frame(b"hello")
    damaged = bytearray(encode(said))
    damaged[len(damaged) // 2] ^= 1
    whole = mail_of(said)
    assert scene.gets(mail_of(bytes(damaged)), whole[:-40]) == 0
    assert scene.inbound.put_aside == {"damaged": 2}
    scene.gets(whole)
    scene.reads(b"hello")


def test_a_mail_that_comes_again_and_again_rewritten_in_every_way_is_read_once(
    scene: Scene,
) -> None:
    mail = mail_of(frame(b"hello"))
    assert scene.gets(*[rewrite(mail) for rewrite in REWRITINGS], mail, mail) in ANSWERED
    scene.reads(b"hello")
    scene.goes_on()


def test_what_brings_nothing_is_put_aside_and_not_answered(scene: Scene) -> None:
    good = mail_of(frame(b"hello"))
    mails = [
        b"", b"From: a@example.com\r\nSubject: lunch?\r\n\r\nAt one?\r\n", b"SMPR" * 100,
        mail_of(b"\x89SEMPER payment 1.0" + bytes(100)),
        mail_of(b"SMPR\x01\x01\x00\x00\xff\xff\xff\xff" + bytes(100)),
        b"Subject: Re\r\n\r\n> " + good.replace(b"\r\n", b"\r\n> "),
        mail_of(frame(b"hello"), head="List-Id: <friends.example.com>\r\n"),
        mail_of(frame(b"hello"), head="Precedence: bulk\r\n"),
        mail_of(frame(b"hello"), secret=b"nothing was agreed"),
        report(good, ALICE, "5.1.1", "550 no such mailbox here"),
    ]  # fmt: skip
    assert scene.gets(*mails) == 0
    assert scene.gets(good, sender="") == 0
    assert len(scene.files("bad")) == sum(scene.inbound.put_aside.values()) == len(mails) + 1
    scene.goes_on()


def test_a_frame_that_is_for_nobody_here_is_not_answered(scene: Scene) -> None:
    now = int(time.time())
    frames = [
        frame(b"x", receiver=Place(BOB, PORT)), frame(b"x", expires=now - 301),
        frame(b"x", expires=now + 32 * DAY_S), frame(b"x", hops=9), frame(kind=Kind.ACK, body=b""),
        frame(kind=Kind.RESET, flags=Flag(0), body=b""), frame(b"x", receiver=Place(ALICE, 0)),
    ]  # fmt: skip
    assert scene.gets(*map(mail_of, frames)) == 0
    scene.goes_on()


def test_frames_of_conversations_that_are_not_known_are_answered_once_in_one_mail(
    scene: Scene,
) -> None:
    mail = mail_of(*[frame(b"x", flags=Flag(0)) for _ in range(20)])
    assert scene.gets(mail, mail) in ANSWERED
    answers = frames_in(scene.left[0][1])
    assert [one.kind for one in answers] == [Kind.RESET] * 20
    assert scene.gets(mail) == 0
    scene.goes_on()


@pytest.mark.parametrize("evil", ["m@example.com\r\nBcc: b@example.net", "m@exam\0ple.com", ""])
def test_a_mailbox_that_would_get_into_a_head_is_no_mailbox(scene: Scene, evil: str) -> None:
    said = frame(b"hello")._replace(sender=Place(evil, 1))
    assert scene.gets(mail_of(said), mail_of(said._replace(flags=Flag(0)))) == 0
    assert scene.inbound.put_aside == {"malformed": 2}
    scene.goes_on()


def test_whatever_comes_the_program_goes_on(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    check_nothing_harms(scene, 10)
    assert [one for one in caplog.records if one.levelname == "ERROR"] == []


def test_a_mail_that_is_refused_for_good_ends_what_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_offices, "LINGER_S", 0.1)
    with Scripted(rcpt=b"550 5.1.1 nobody\r\n") as server, a_scene(tmp_path) as scene:
        scene.stop()
        with configured(mail=scene.settings | {"smtpPort": server.port}):
            point = ComManager.com_point(COMPOINT_INITIATOR, ComPointAddress("mail", BOB, PORT))
        point.write(b"hello")
        with pytest.raises(SessionLostError, match=r"550 5\.1\.1: nobody"):
            point.read(timeout=PATIENCE_S)
        point.close(timeout=0)
        eventually(lambda: not _offices._open, PATIENCE_S)
