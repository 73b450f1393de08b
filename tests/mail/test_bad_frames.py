"""Frames that are undamaged and wrong: forged, replayed elsewhere, contradicting, far too many.

Whoever makes them has no part in the conversations of others, and gets no more answers than
docs/PROTOCOL.md §12.4 says.
"""

from __future__ import annotations

import functools
import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import pytest
from forger_kit import (
    ALICE,
    ANSWERED,
    BOB,
    MALLORY,
    PATIENCE_S,
    PORT,
    Scene,
    a_scene,
    frame,
    frames_in,
    mail_of,
    office_of,
)
from world_kit import mail_world

from compoint import COMPOINT_SERVER, ComManager, ComPointAddress, SessionLostError
from compoint.core.codes import Code, decode_reason, encode_reason
from compoint.deadline import clock
from compoint.limits import MIB
from compoint.testing import configured, eventually
from mail import _waiting
from mail._backlog import Backlog, BacklogBounds
from mail._envelope import BODY_BYTES, Flag, Frame, Kind, Place, encode
from mail._mailbox import Mailbox, Taken
from mail._timers import Moment

DAY_S: Final = 86_400
SECRET: Final = b"agreed by telephone, long enough"


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with a_scene(tmp_path) as scene:
        yield scene


def _now() -> int:
    return int(time.time())


# --- forged -------------------------------------------------------------------------------------

NOT_TO_BE_ANSWERED: Final[dict[str, Callable[[], Frame]]] = {
    "for another mailbox": lambda: frame(b"x", receiver=Place(BOB, PORT)),
    "expired": lambda: frame(b"x", expires=_now() - 301),
    "far ahead": lambda: frame(b"x", expires=_now() + 32 * DAY_S),
    "hops": lambda: frame(b"x", hops=9),
    "a confirmation of nothing": lambda: frame(kind=Kind.ACK, flags=Flag(0), body=b""),
    "a confirmation that opens": lambda: frame(kind=Kind.ACK, body=b""),
    "a reset of nothing": lambda: frame(
        kind=Kind.RESET, flags=Flag(0), body=encode_reason(Code.INTERNAL, "begone", None)
    ),
    "a reset without a reason": lambda: frame(kind=Kind.RESET, body=b""),
    "from port 0": lambda: frame(b"x", sender="")._replace(sender=Place(MALLORY, 0)),
    "to port 0": lambda: frame(b"x", receiver=Place(ALICE, 0)),
    "without a sender": lambda: frame(b"x")._replace(sender=Place("", 1)),
    "without a receiver": lambda: frame(b"x", receiver=Place("", 1)),
}
TO_BE_ANSWERED_ONCE: Final[dict[str, Callable[[], Frame]]] = {
    "of no conversation": lambda: frame(b"x", flags=Flag(0)),
    "as if we had asked": lambda: frame(b"x", flags=Flag.RESPONDER),
    "open as a responder": lambda: frame(b"x", flags=Flag.OPEN | Flag.RESPONDER),
    "of our own mailbox": lambda: frame(b"x", flags=Flag(0))._replace(sender=Place(ALICE, PORT)),
}


@pytest.mark.parametrize("what", NOT_TO_BE_ANSWERED)
def test_a_frame_that_is_for_nobody_here_is_not_answered(scene: Scene, what: str) -> None:
    mail = mail_of(NOT_TO_BE_ANSWERED[what]())
    assert scene.gets(*[mail] * 3) == 0
    scene.goes_on()


@pytest.mark.parametrize("what", TO_BE_ANSWERED_ONCE)
def test_a_frame_of_a_conversation_that_is_not_known_is_answered_once_by_a_reset(
    scene: Scene, what: str
) -> None:
    said = TO_BE_ANSWERED_ONCE[what]()
    mail = mail_of(said)
    assert scene.gets(*[mail] * 3) == 1
    assert scene.gets(mail) == 0
    (answer,) = frames_in(scene.left[0][1])
    assert (answer.kind, answer.conversation) == (Kind.RESET, said.conversation)
    assert decode_reason(answer.body)[0] is Code.NO_SUCH_CHANNEL
    assert scene.left[0][0] == said.sender.mailbox
    scene.goes_on()


def test_what_is_said_to_a_port_at_which_nobody_listens_waits_for_who_comes(scene: Scene) -> None:
    assert scene.gets(mail_of(frame(b"early", receiver=Place(ALICE, 7200)))) == 1
    scene.goes_on()
    with configured(mail=scene.settings):
        server = ComManager.com_point(COMPOINT_SERVER, ComPointAddress("mail", 7200))
    with server:
        point = server.accept(timeout=PATIENCE_S)
        assert point.read(timeout=PATIENCE_S) == b"early"
        point.abort("the test is over")


MEDDLING: Final[dict[str, dict[str, Any]]] = {
    "a reset": {"kind": Kind.RESET, "flags": Flag(0)},
    "an end": {"flags": Flag.END, "start": 1, "body": b""},
    "bytes": {"flags": Flag(0), "body": b"forged"},
    "a confirmation of all": {"kind": Kind.ACK, "flags": Flag(0), "have": 1 << 40, "body": b""},
    "another store": {"flags": Flag(0), "incarnation": b"store 02", "body": b""},
    "ranges": {"kind": Kind.ACK, "flags": Flag(0), "ranges": ((9, 1 << 40),), "body": b""},
}


@pytest.mark.parametrize("what", MEDDLING)
@pytest.mark.parametrize("by", [Place(MALLORY, 50_000), Place(BOB, 50_001)])
def test_nobody_else_can_meddle_with_a_conversation_whose_number_is_known(
    scene: Scene, what: str, by: Place
) -> None:
    said = frame(b"hello", sender=BOB)
    scene.gets(mail_of(said))
    changes: dict[str, Any] = {"start": len(said.body), "sender": by, **MEDDLING[what]}
    forged = said._replace(**changes)
    assert scene.gets(mail_of(forged)) == 0
    behind = said._replace(start=len(said.body), body=frame(b"and more").body[-24:])
    scene.gets(mail_of(behind))
    point = scene.accept()
    assert [point.read(timeout=PATIENCE_S) for _ in range(2)] == [b"hello", b"and more"]
    point.abort("the test is over")


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        ({"start": 10, "flags": Flag.END, "body": b""}, Code.BAD_FRAME),
        ({"have": 1 << 40}, Code.INTERNAL),
        ({"incarnation": b"store 02"}, Code.INTERNAL),
    ],
    ids=["two ends", "confirms what was never said", "another store"],
)
def test_a_peer_that_contradicts_itself_is_told_once_and_cut_off(
    scene: Scene, wrong: dict[str, Any], code: Code
) -> None:
    said = frame(b"hello")
    scene.gets(mail_of(said))
    point = scene.accept()
    assert point.read(timeout=PATIENCE_S) == b"hello"
    scene.settles()
    before = len(scene.left)
    behind = {"start": len(said.body), "flags": Flag(0), "body": b"x", **wrong}
    mail = mail_of(said._replace(**behind))
    assert scene.gets(*[mail] * 5) == 1
    (answer,) = frames_in(scene.left[before][1])
    assert (answer.kind, decode_reason(answer.body)[0]) == (Kind.RESET, code)
    with pytest.raises(SessionLostError):
        point.read(timeout=PATIENCE_S)
    point.close(timeout=0)
    assert scene.gets(mail) == 0
    scene.goes_on()


# --- trust --------------------------------------------------------------------------------------


@pytest.fixture
def trusting(tmp_path: Path) -> Iterator[Scene]:
    """Alice and her peers share a secret."""
    file = tmp_path / "secret"
    file.write_bytes(SECRET)
    file.chmod(0o600)
    with a_scene(tmp_path, trust="secret", secretFile=file) as scene:
        yield scene


@pytest.mark.parametrize("kind", list(Kind))
@pytest.mark.parametrize("secret", [None, b"another one, of the same length!"])
def test_who_does_not_have_the_secret_changes_nothing_and_is_not_answered(
    trusting: Scene, kind: Kind, secret: bytes | None
) -> None:
    said = frame(b"hello", sender=BOB)
    trusting.gets(mail_of(said, secret=SECRET))
    forged = said._replace(kind=kind, flags=Flag.END, start=len(said.body), body=b"")
    assert trusting.gets(mail_of(forged, frame(b"forged"), secret=secret)) == 0
    assert trusting.inbound.put_aside == {"untrusted": 1}
    trusting.reads(b"hello")


def test_a_changed_frame_with_a_right_sum_changes_nothing(trusting: Scene) -> None:
    good = encode(frame(b"hello"), SECRET)
    other = encode(frame(b"forged"), b"x" * 32)
    assert trusting.gets(mail_of(other), mail_of(good[:-48] + other[-48:])) == 0
    assert len(trusting.files("bad")) == 2
    trusting.gets(mail_of(good))
    trusting.reads(b"hello")


def test_beside_a_forged_frame_a_good_one_is_taken(trusting: Scene) -> None:
    trusting.gets(mail_of(frame(b"forged"), encode(frame(b"hello"), SECRET)))
    trusting.reads(b"hello")


def test_a_tagged_frame_changes_nothing_where_no_secret_is_agreed(scene: Scene) -> None:
    assert scene.gets(mail_of(frame(b"hello"), secret=SECRET)) == 0
    assert scene.inbound.put_aside == {"untrusted": 1}
    scene.goes_on()


# --- storms -------------------------------------------------------------------------------------


def _garbage(chance: random.Random, numbers: list[bytes]) -> Frame:
    """Any undamaged frame between alice and bob."""
    places = [Place(ALICE, PORT), Place(BOB, PORT), Place(ALICE, 50_000), Place(BOB, 50_000)]
    sender, receiver = chance.sample(places, 2)
    flags = Flag(chance.randrange(8))
    start = chance.choice([0, 1, 10, 50, 1 << 40])
    have = chance.choice([0, 0, 1, 70, 1 << 40])
    return frame()._replace(
        kind=chance.choice(list(Kind)), flags=flags, conversation=chance.choice(numbers),
        incarnation=chance.choice([b"store 01", b"store 02"]), sender=sender, receiver=receiver,
        start=start, have=have, ranges=chance.choice([(), ((have + 5, have + 9),)]),
        body=chance.randbytes(chance.randrange(60)), hops=chance.randrange(10),
        expires=_now() + chance.choice([-DAY_S, DAY_S, 30 * DAY_S]),
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(3))
def test_two_mailboxes_that_are_fed_with_garbage_come_to_rest(tmp_path: Path, seed: int) -> None:
    """Each gets the same frames, and all that the other one answers."""
    chance = random.Random(seed)
    numbers = [chance.randbytes(16) for _ in range(20)]
    with ExitStack() as stack:
        world = stack.enter_context(mail_world())
        offices = []
        for mailbox in (ALICE, BOB):
            settings = world.box(
                mailbox, tmp_path / mailbox, rtoMin="0.3 s", ackDelay="0.02 s", expire="100 s"
            )
            with configured(mail=settings):
                address = ComPointAddress("mail", PORT)
                stack.enter_context(ComManager.com_point(COMPOINT_SERVER, address))
            offices.append(office_of(settings))
        for _ in range(10):
            garbage = [_garbage(chance, numbers) for _ in range(20)]
            for mailbox in (ALICE, BOB):
                world.deliver(mailbox, mail_of(*garbage))
        eventually(
            lambda: all(one.next_mail() is None or _is_far(one.next_mail()) for one in offices),
            PATIENCE_S, "both come to rest",
        )  # fmt: skip
        # A frame is answered at most once, and several answers share a mail.
        assert world.counts["taken"] < 200


def _is_far(due: float | None) -> bool:
    """Nothing but the time at which conversations are given up."""
    return due is not None and due > clock() + 30


# --- our own faults -----------------------------------------------------------------------------


def test_a_frame_that_shows_a_fault_of_ours_takes_nothing_of_others_with_it(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = Mailbox.take

    def faulty(self: Mailbox, frame: Frame, at: Moment) -> Taken | None:
        if b"poison" in frame.body:
            raise ZeroDivisionError
        return honest(self, frame, at)

    monkeypatch.setattr(Mailbox, "take", faulty)
    said = frame(b"hello")
    assert scene.gets(mail_of(said, frame(b"poison"))) == 0
    assert len(scene.files("bad")) == 1
    scene.gets(mail_of(said))
    scene.reads(b"hello")
    scene.goes_on()


# --- crowds -------------------------------------------------------------------------------------


def test_a_peer_that_begins_2000_conversations_has_as_many_as_one_may_have(scene: Scene) -> None:
    frames = [frame(b"hello") for _ in range(2000)]
    mails = [mail_of(*frames[start : start + 500]) for start in range(0, 2000, 500)]
    # Confirmations for those that were taken; as many refusals as are ever kept.
    assert scene.gets(*mails) < 100
    answers = [one for _, mail in scene.left for one in frames_in(mail)]
    refused = {one.conversation for one in answers if one.kind is Kind.RESET}
    taken = {one.conversation for one in answers if one.kind is not Kind.RESET}
    assert (len(taken), len(refused), len(taken & refused)) == (1000, 1000, 0)
    scene.reads(b"hello")
    other = mail_of(frame(b"good", sender=BOB))
    assert scene.gets(other) in ANSWERED


def test_more_than_may_wait_at_a_port_of_nobody_is_not_taken_and_harms_no_other(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    _bound_backlog(scene, monkeypatch, BacklogBounds(per_conversation=MIB, per_peer=2 * MIB))
    first = frame(receiver=Place(ALICE, 7200), body=os.urandom(BODY_BYTES))
    frames = [first._replace(start=at * BODY_BYTES) for at in range(20)]
    for one in frames:
        scene.gets(mail_of(one))
    assert scene.office.dropped == 16
    assert _kept(scene) < 3 * MIB
    scene.goes_on()
    # And it says so.
    confirmed = [one.have for _, mail in scene.left for one in frames_in(mail)]
    assert max(confirmed) == 4 * BODY_BYTES


def test_what_comes_early_is_bounded_for_each_conversation(scene: Scene) -> None:
    first = frame(b"hello")
    gaps = [first._replace(start=1000 + 2 * at, body=b"x") for at in range(5000)]
    made = sum(scene.gets(mail_of(*gaps[at : at + 1000])) for at in range(0, 5000, 1000))
    assert made <= 5
    scene.gets(mail_of(first))
    scene.reads(b"hello")
    scene.goes_on()


def test_what_comes_early_is_bounded_for_each_peer_and_harms_no_other(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    _bound_backlog(scene, monkeypatch, BacklogBounds(per_conversation=MIB, per_peer=2 * MIB))
    firsts = [frame(b"hello") for _ in range(20)]
    for first in firsts:
        early = [
            first._replace(start=1000 + BODY_BYTES * at, body=bytes(BODY_BYTES)) for at in range(3)
        ]
        scene.gets(mail_of(*early))
    assert _kept(scene) < 4 * MIB
    scene.goes_on()
    # What closes a gap is always taken: else nothing could ever get less.
    scene.gets(mail_of(firsts[0]))
    scene.reads(b"hello")


def _bound_backlog(scene: Scene, monkeypatch: pytest.MonkeyPatch, bounds: BacklogBounds) -> None:
    """The same in small."""
    scene.stop()
    monkeypatch.setattr(_waiting, "Backlog", functools.partial(Backlog, bounds))
    scene.start()


def _kept(scene: Scene) -> int:
    """How much the store has become; what is its log is bounded by itself."""
    scene.restart()
    return (scene.spool / "conversations.sqlite").stat().st_size
