"""What a mailbox answers to strangers, when, and how often."""

from __future__ import annotations

import pytest
from conversation_kit import ALICE, BOB, DAY, PACE, START, later
from mailbox_kit import (
    HERE,
    THERE,
    Mail,
    Office,
    alice,
    bob,
    leaving,
    reason,
    saying,
    sent,
    settle,
    stranger,
    talking,
)

from compoint.core.codes import Code
from mail._envelope import Kind, Place
from mail._mailbox import ROOM_BYTES, Bounds
from mail._timers import Moment


def sent_small(office: Office, at: Moment) -> Mail:
    office.make_mail(at, ROOM_BYTES)
    (mail,) = office.commit(at)
    return mail


def test_a_frame_of_an_unknown_conversation_is_answered_by_a_reset() -> None:
    there = bob()
    assert there.box.take(stranger(), START) is None
    post = sent(there, START).post
    (answer,) = post.frames
    assert reason(answer)[0] is Code.NO_SUCH_CHANNEL
    assert (answer.sender, answer.receiver) == (BOB, ALICE)
    assert (post.recipient, post.parts, post.is_reply) == (ALICE.mailbox, (), True)
    assert (there.box.refused, there.box.answered) == (1, 1)


@pytest.mark.parametrize("kind", [Kind.ACK, Kind.RESET])
def test_nothing_answers_an_ack_or_a_reset(kind: Kind) -> None:
    there = bob()
    there.take_frame(stranger()._replace(kind=kind, body=b""), START)
    assert there.make_mail(START) is None
    assert there.box.refused == 0


def test_a_stale_frame_of_a_stranger_is_not_answered() -> None:
    there = bob()
    there.take_frame(stranger(), later(6 * DAY))
    assert there.make_mail(later(6 * DAY)) is None


def test_strangers_leave_nothing_in_the_store() -> None:
    there = bob()
    there.take_frame(stranger(), START)
    sent(there, START)
    assert (there.rows, there.tombstones) == ({}, {})


def test_strangers_get_no_more_answers_than_the_bound_in_an_hour() -> None:
    there = bob(bounds=Bounds(answers=3))
    for number in range(10):
        who = Place(f"user{number}@a.test", 1)
        there.take_frame(stranger(number, who=who), START)
        while there.make_mail(START):
            pass
    assert there.box.answered == 3
    there.take_frame(stranger(11, at=later(3600)), later(3600))
    assert there.box.answered == 4


def test_mailboxes_without_a_conversation_get_twenty_mails_an_hour_whoever_names_them() -> None:
    there = bob()
    for number in range(50):
        who = Place(f"user{number}@a.test", 1)
        there.take_frame(stranger(number, who=who), START)
    assert there.box.answered == 20
    there.take_frame(stranger(51, at=later(3600)), later(3600))
    assert there.box.answered == 21


def test_a_peer_with_whom_there_is_a_conversation_is_answered_beyond_that() -> None:
    _, there = talking()
    for number in range(50):
        there.take_frame(stranger(number), START)
    assert there.box.answered == 50


def test_no_more_answers_wait_than_the_bound() -> None:
    # Tombstones answer without a guard, so only the waiting is bounded here.
    here, there = alice(), bob(bounds=Bounds(answers=2))
    frames = []
    for number in range(5):
        frames.append(saying(here, b"hello", number=number))
        there.take_frame(frames[-1], START)
        conversation = there.box.conversations[frames[-1].conversation, False]
        conversation.say(b"yes", START)
        conversation.failed(0, "no such user", START, is_final=True)
        there.release((frames[-1].conversation, False))
    for frame in frames:
        there.take_frame(frame, later(60))
    assert there.box.answered == 2
    sent(there, later(60))
    # Who got none can ask again.
    for frame in frames:
        there.take_frame(frame, later(120))
    assert there.box.answered == 4


def test_a_peer_gets_a_mail_of_answers_only_once_in_the_acknowledgement_delay() -> None:
    there = bob()
    there.take_frame(stranger(1), START)
    sent(there, START)
    there.take_frame(stranger(2), later(1))
    there.take_frame(stranger(3), later(2))
    assert there.box.next_timer(later(2)) == later(30).now
    assert there.make_mail(later(29)) is None
    assert len(sent(there, later(30)).post.frames) == 2


def test_answers_to_one_peer_do_not_delay_those_to_another() -> None:
    there = bob()
    there.take_frame(stranger(1), START)
    sent(there, START)
    there.take_frame(stranger(2, who=Place("carol@c.test", 1)), later(1))
    assert sent(there, later(1)).post.recipient == "carol@c.test"


def test_an_answer_rides_on_the_next_mail_at_once() -> None:
    _, there = talking()
    there.take_frame(stranger(1), START)
    sent(there, START)
    there.take_frame(stranger(2), later(1))
    there.say(THERE, b"ho", later(1))
    post = sent(there, later(1)).post
    assert [frame.kind for frame in post.frames] == [Kind.RESET, Kind.DATA]
    assert (post.parts[0][0], post.is_reply) == (THERE, False)


def test_answers_that_rode_along_do_not_delay_others() -> None:
    _, there = talking()
    there.say(THERE, b"ho", START)
    there.take_frame(stranger(1), START)
    sent(there, START)
    there.take_frame(stranger(2), later(1))
    assert sent(there, later(1)).post.parts == ()


def test_every_peer_has_its_own_delay_of_answers() -> None:
    there = bob()
    for second, who in enumerate([ALICE, Place("carol@c.test", 1), ALICE]):
        assert there.make_mail(later(second)) is None
        there.take_frame(stranger(second, who=who), later(second))
        assert (there.make_mail(later(second)) is None) == (second == 2)
    assert there.box.next_timer(later(2)) == later(30).now


def test_the_answers_that_wait_longest_go_first() -> None:
    there = bob()
    for second, who in enumerate([ALICE, Place("carol@c.test", 1), ALICE]):
        there.take_frame(stranger(second, who=who), later(second))
    assert sent(there, later(3)).post.recipient == ALICE.mailbox


def test_answers_before_their_time_do_not_go_because_somebody_has_to_be_given_up() -> None:
    here, _ = leaving()
    at = later(30 + PACE.expire_s)
    to_us = {"who": BOB, "at": at}
    here.take_frame(stranger(1, **to_us)._replace(receiver=ALICE), at)
    sent_answer = here.box.take_post(at, ROOM_BYTES)
    assert sent_answer is not None
    here.take_frame(stranger(2, **to_us)._replace(receiver=ALICE), at)
    assert here.box.next_timer(at) == at.now
    assert here.box.take_post(at, ROOM_BYTES) is None


def test_a_later_answer_replaces_one_that_waits() -> None:
    here, there = alice(), bob(bounds=Bounds(answers=1))
    frame = saying(here, b"hello")
    there.take_frame(frame, START)
    there.end(THERE, START)
    there.release(THERE)
    here.end(HERE, START)
    settle([here, there], START)
    settle([here, there], later(30))
    for minute in (1, 3):
        there.take_frame(frame, later(60 * minute))
    (answer,) = sent(there, later(200)).post.frames
    assert answer.created == int(later(180).utc)
    assert there.box.answered == 2


def test_answers_leave_half_of_a_mail_to_conversations() -> None:
    _, there = talking()
    for number in range(100):
        there.take_frame(stranger(number), START)
    there.say(THERE, bytes(20_000), START)
    kinds = [frame.kind for frame in sent_small(there, START).post.frames]
    assert Kind.DATA in kinds
    assert len(kinds) > 1
