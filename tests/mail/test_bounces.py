"""Mails that come back: what their sender is told, and what a forger achieves."""

from __future__ import annotations

import email
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest
from world_kit import GOOD, Weather, World, mail_world, report

from compoint.address import ComPointAddress
from compoint.errors import PointTimeout, SessionLostError
from compoint.manager import ComManager
from compoint.point import COMPOINT_INITIATOR, COMPOINT_SERVER, ComPoint
from compoint.testing import Background, configured, eventually

ALICE: Final = "alice@example.org"
BOB: Final = "bob@example.net"
NOBODY: Final = "nobody@example.net"
PATIENCE_S: Final = 20.0
#: Nothing is said again by itself in these tests.
PATIENT: Final = {"rtoMin": "600 s"}


class Scene:
    """Alice's program, the mail system, and its mails in the order in which they were taken."""

    def __init__(self, world: World, folder: Path) -> None:
        self.world = world
        self.spool = folder / "alice" / "spool"
        self.alice = world.box(ALICE, folder / "alice", **PATIENT)
        self.bob = world.box(BOB, folder / "bob", **PATIENT)
        self.mails: list[bytes] = []
        world.watch = lambda _sender, _recipient, mail: self.mails.append(mail)

    def call(self, mailbox: str, port: int = 7100) -> ComPoint:
        with configured(mail=self.alice):
            return ComManager.com_point(COMPOINT_INITIATOR, ComPointAddress("mail", mailbox, port))

    @contextmanager
    def lost(self) -> Iterator[tuple[ComPoint, ComPoint, bytes]]:
        """Alice and Bob, who talk, and the mail that has got lost with a word of Alice's."""
        with self.talking() as (alice, bob):
            self.world.weather = Weather(lost=1.0)
            before = len(self.mails)
            alice.write(b"lost")
            eventually(lambda: len(self.mails) > before)
            self.world.weather = GOOD
            yield alice, bob, self.mails[before]

    @contextmanager
    def talking(self) -> Iterator[tuple[ComPoint, ComPoint]]:
        with configured(mail=self.bob):
            server = ComManager.com_point(COMPOINT_SERVER, ComPointAddress("mail", 0))
        with server:
            alice = self.call(BOB, server.address.port)
            bob = server.accept(timeout=PATIENCE_S)
            try:
                alice.write(b"hello")
                assert bob.read(timeout=PATIENCE_S) == b"hello"
                alice.flush(timeout=PATIENCE_S)
                yield alice, bob
            finally:
                alice.abort("the test is over")
                bob.abort("the test is over")

    def alice_gets(self, mail: bytes) -> None:
        """A mail arrives at Alice's, who has taken it out of the drop box on return."""
        self.world.deliver(ALICE, mail)
        eventually(lambda: not list((self.spool / "new").iterdir()))


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with mail_world() as world:
        yield Scene(world, tmp_path)


@pytest.fixture(params=["refused at RCPT", "reported later"])
def unknown(scene: Scene, request: pytest.FixtureRequest) -> Scene:
    """Mails to mailboxes that are not there come back in one of two ways."""
    scene.world.reports_later = request.param == "reported later"
    return scene


def _is_told(error: BaseException) -> None:
    assert type(error) is SessionLostError
    assert "5.1.1" in str(error)
    assert "no such mailbox here" in str(error)


@pytest.mark.parametrize("call", ["read", "write", "flush"])
def test_who_waits_is_told_that_the_mailbox_is_unknown(unknown: Scene, call: str) -> None:
    point = unknown.call(NOBODY)
    point.write(b"hello")
    match call:
        case "read":
            waiting = Background(point.read)
        case "write":
            waiting = Background(lambda: [point.write(bytes(1000)) for _ in range(100_000)])
        case _:
            waiting = Background(point.flush)
    _is_told(waiting.error(PATIENCE_S))
    # And so is who asks later.
    with pytest.raises(SessionLostError) as caught:
        point.write(b"late")
    _is_told(caught.value)


def test_the_receipt_says_that_the_mailbox_is_unknown(unknown: Scene) -> None:
    point = unknown.call(NOBODY)
    point.write(b"hello")
    receipt = point.close(timeout=PATIENCE_S)
    assert (receipt.written, receipt.confirmed) == (1, 0)
    assert "5.1.1" in receipt.reason
    assert "no such mailbox here" in receipt.reason


def test_a_mailbox_that_vanishes_in_the_middle_ends_the_conversation(unknown: Scene) -> None:
    with unknown.talking() as (alice, _):
        unknown.world.forget(BOB)
        alice.write(b"are you there?")
        with pytest.raises(SessionLostError) as caught:
            alice.read(timeout=PATIENCE_S)
        _is_told(caught.value)


def test_an_unknown_mailbox_harms_no_other_conversation(unknown: Scene) -> None:
    with unknown.talking() as (alice, bob):
        lost = unknown.call(NOBODY)
        lost.write(b"hello")
        _is_told(Background(lost.read).error(PATIENCE_S))
        alice.write(b"still here")
        assert bob.read(timeout=PATIENCE_S) == b"still here"


def test_a_report_of_a_passing_failure_makes_the_mail_leave_again(scene: Scene) -> None:
    with scene.lost() as (_, bob, mail):
        scene.alice_gets(report(mail, BOB, "4.4.7", "delivery time expired"))
        assert bob.read(timeout=PATIENCE_S) == b"lost"


@pytest.mark.parametrize("action", ["delayed", "relayed", "delivered"])
def test_a_report_that_is_no_failure_changes_nothing(scene: Scene, action: str) -> None:
    with scene.lost() as (alice, _, mail):
        before = len(scene.mails)
        scene.alice_gets(report(mail, BOB, "4.4.1", "still trying", action))
        _is_unimpressed(scene, alice, before)


def test_a_forged_report_of_a_mail_that_never_was_changes_nothing(scene: Scene) -> None:
    with scene.lost() as (alice, _, mail):
        before = len(scene.mails)
        ours = email.message_from_bytes(mail)["Message-ID"]
        forged = mail.replace(ours.encode(), b"<11111111-2222-3333-4444-555555555555@example.org>")
        scene.alice_gets(report(forged, BOB, "5.1.1", "550 no such mailbox here"))
        _is_unimpressed(scene, alice, before)


def test_a_report_at_another_mailbox_than_the_senders_changes_nothing(scene: Scene) -> None:
    with scene.lost() as (alice, bob, mail):
        before = len(scene.mails)
        scene.world.deliver(BOB, report(mail, BOB, "5.1.1", "550 no such mailbox here"))
        eventually(lambda: list((scene.spool.parents[1] / "bob" / "spool" / "bad").iterdir()))
        _is_unimpressed(scene, alice, before)
        _is_unimpressed(scene, bob, before)


def test_a_report_from_who_only_guesses_is_put_aside(scene: Scene) -> None:
    text = b"From: MAILER-DAEMON@example.net\r\nSubject: failure\r\n\r\n550 5.1.1 <bob> unknown\r\n"
    with scene.lost() as (alice, _, _):
        before = len(scene.mails)
        scene.alice_gets(text)
        assert len(list((scene.spool / "bad").iterdir())) == 1
        _is_unimpressed(scene, alice, before)


def test_a_report_again_and_again_is_heard_once(scene: Scene) -> None:
    with scene.lost() as (_, bob, mail):
        scene.world.weather = Weather(lost=1.0)
        before = len(scene.mails)
        scene.alice_gets(report(mail, BOB, "4.4.7", "delivery time expired"))
        eventually(lambda: len(scene.mails) == before + 1)
        for _ in range(3):
            scene.alice_gets(report(mail, BOB, "4.4.7", "delivery time expired"))
        _is_unimpressed(scene, bob, before + 1)


def _is_unimpressed(scene: Scene, point: ComPoint, mails: int) -> None:
    """The point lives, and no mail has left."""
    with pytest.raises(PointTimeout):
        point.read(timeout=0.1)
    assert len(scene.mails) == mails
    assert point.statistics().is_open
