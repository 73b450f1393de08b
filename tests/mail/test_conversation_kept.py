"""What is kept of conversations over mail: between processes, and when they are over."""

from __future__ import annotations

import dataclasses

import pytest
from conversation_kit import (
    ALICE,
    BOB,
    DAY,
    PACE,
    ROOM,
    START,
    answering,
    initiator,
    later,
    pair,
    reborn,
    said,
    spoken,
)

from compoint.core.codes import Code, decode_reason, encode_reason
from mail._conversation import Conversation
from mail._envelope import Flag, Frame, Kind
from mail._timers import Moment
from mail._tombstone import SKEW_S, Tombstone

# --- across processes ---------------------------------------------------------------------------


def test_what_was_said_and_not_submitted_is_said_by_the_next_process() -> None:
    alice = initiator()
    alice.say(b"hello", START)
    alice.take_output(START, ROOM)
    (frame,) = spoken(reborn(alice, START))
    assert (frame.start, frame.body) == (0, b"hello")


def test_what_the_last_process_has_sent_unknown_to_this_one_can_be_confirmed() -> None:
    alice = initiator()
    alice.say(b"hello", START)
    output = alice.take_output(START, ROOM)
    assert output is not None
    bob = answering(output.frames[0])
    again = reborn(alice, START)
    again.take(spoken(bob, later(30))[0], later(30))
    assert (again.unconfirmed, again.next_timer(later(30))) == (0, None)
    more = said(again, b", world", later(31))
    assert (more.start, more.body) == (5, b", world")


def test_what_was_submitted_keeps_its_timer() -> None:
    alice = initiator()
    said(alice, b"hello")
    state, said_rows, early_rows = alice.take_changes(later(100))
    # The clock that never jumps begins anew with the machine.
    at = Moment(5.0, START.utc + 400)
    again = Conversation.restore(state, said_rows, early_rows, b"alice 01", PACE, at)
    assert again.next_timer(at) == 5.0 + 200


def test_a_clock_that_was_set_back_makes_nobody_wait_longer() -> None:
    alice = initiator()
    said(alice, b"hello")
    state, said_rows, early_rows = alice.take_changes(START)
    at = Moment(5.0, START.utc - 30 * DAY)
    again = Conversation.restore(state, said_rows, early_rows, b"alice 01", PACE, at)
    assert again.next_timer(at) == 5.0 + PACE.rto_min_s


def test_what_came_too_early_is_here_in_the_next_process() -> None:
    alice = initiator()
    one, two, three = (said(alice, data) for data in (b"one", b"two", b"three"))
    bob = answering(one)
    bob.take(three, START)
    assert reborn(bob, START).take(two, START) == b"twothree"


def test_an_acknowledgement_that_is_owed_is_paid_by_the_next_process() -> None:
    bob = reborn(answering(said(initiator(), b"hello")), START)
    assert [one.have for one in spoken(bob, later(30))] == [5]


def test_an_acknowledgement_that_was_paid_is_not_paid_again_after_a_restart() -> None:
    bob = answering(said(initiator(), b"hello"))
    spoken(bob, later(30))
    assert reborn(bob, later(31)).next_timer(later(31)) is None


def test_the_reason_of_a_break_is_known_to_the_next_process() -> None:
    alice = initiator()
    alice.bounced(0, "5.1.1", "no such user", START, is_final=True)
    assert reborn(alice, START).ending == alice.ending


def test_the_next_process_knows_everything_that_was_committed() -> None:
    alice, bob = pair(later(7))
    said(bob, b"lost too", later(90))
    alice.take(said(bob, b"early", later(100)), later(200))
    bob.take(said(alice, b"more", later(300)), later(300))
    bob.say(b"!", later(1200))
    alice.take(spoken(bob, later(1200))[-1]._replace(window=5 << 20), later(1200))
    said(alice, b"lost", later(1300))
    spoken(alice, later(8000))
    alice.say_end(later(8001))
    at = later(8002)
    state = alice.take_changes(at).state
    assert state.tries == 1
    assert reborn(alice, at).take_changes(at).state == state


def test_rows_that_are_no_longer_needed_do_no_harm() -> None:
    alice = initiator()
    first, second = said(alice, b"one"), said(alice, b"two")
    bob = answering(first)
    bob.take(second._replace(start=4, body=b"wo"), START)
    bob.take(second, START)
    bob.say(b"yes", START)
    alice.take(spoken(bob)[0], START)
    for name, old in (("alice", alice), ("bob", bob)):
        again = reborn(old, START)
        frame = said(again, b"more", later(1))
        assert (name, frame.ranges, frame.body) == (name, (), b"more")


def test_a_broken_conversation_remembers_its_reset_across_processes() -> None:
    alice, bob = pair()
    bob.break_off(Code.ABANDONED, "")
    spoken(bob, later(10))
    tombstone = reborn(bob, later(15)).tombstone()
    assert tombstone == bob.tombstone()
    assert tombstone.answer(said(alice, b"hm"), b"bob   01", later(20).utc)[1] is None


def test_changes_are_given_once() -> None:
    alice = initiator()
    alice.say(b"hello", START)
    assert alice.take_changes(START).said == [(0, b"hello")]
    assert alice.take_changes(START).said == []


def test_every_field_of_the_row_is_plain() -> None:
    alice, _ = pair()
    for name, value in alice.take_changes(START).state._asdict().items():
        parts = value if isinstance(value, tuple) else (value,)
        assert all(isinstance(part, (bytes, str, int, float, type(None))) for part in parts), name


# --- tombstones ---------------------------------------------------------------------------------


def ended() -> tuple[Tombstone, Frame]:
    """Bob's memory of a conversation that ended well, and Alice's last frame."""
    alice, bob = pair()
    bob.say_end(later(40))
    alice.take(spoken(bob, later(40))[0], later(41))
    alice.say_end(later(41))
    (last,) = spoken(alice, later(41))
    bob.take(last, later(42))
    spoken(bob, later(42))
    assert bob.is_over
    return bob.tombstone(), last


def test_who_has_not_heard_of_the_end_is_told_again() -> None:
    tombstone, last = ended()
    _, answer = tombstone.answer(last, b"bob   01", later(700).utc)
    assert answer is not None
    assert (answer.kind, answer.have) == (Kind.ACK, 4)
    assert (answer.sender, answer.receiver) == (BOB, ALICE)
    assert answer.incarnation == b"bob   01"
    assert answer.flags & Flag.RESPONDER


def test_a_late_first_frame_does_not_begin_an_ended_conversation_again() -> None:
    tombstone, last = ended()
    late = last._replace(flags=Flag.OPEN, start=0, body=b"hi")
    _, answer = tombstone.answer(late, b"bob   01", later(700).utc)
    assert answer is not None
    assert answer.kind is Kind.ACK


def test_an_ended_conversation_is_remembered_longer_than_its_frames_may_travel() -> None:
    tombstone, last = ended()
    assert tombstone.until_utc >= last.expires + SKEW_S
    newer = last._replace(expires=last.expires + 100)
    later_one, _ = tombstone.answer(newer, b"bob   01", later(700).utc)
    assert later_one.until_utc == tombstone.until_utc + 100


def test_a_stranger_that_goes_on_is_told_that_nobody_is_here() -> None:
    alice, _ = pair()
    frame = said(alice, b"still there?")
    _, answer = Tombstone.of_stranger(frame).answer(frame, b"bob   02", START.utc)
    assert answer is not None
    assert answer.kind is Kind.RESET
    alice.take(answer, START)
    assert alice.ending is not None
    assert alice.ending.code is Code.NO_SUCH_CHANNEL
    assert "lost" in alice.ending.text


@pytest.mark.parametrize("kind", [Kind.ACK, Kind.RESET])
def test_a_stranger_s_acknowledgement_or_reset_is_not_answered(kind: Kind) -> None:
    alice, _ = pair()
    frame = said(alice, b"hm")._replace(kind=kind)
    assert Tombstone.of_stranger(frame).answer(frame, b"bob   02", START.utc)[1] is None


def test_a_conversation_is_reset_at_most_once_an_hour() -> None:
    alice, _ = pair()
    frame = said(alice, b"still there?")
    tombstone = Tombstone.of_stranger(frame)
    answers = []
    for minutes in (0, 1, 59, 61):
        tombstone, answer = tombstone.answer(frame, b"bob   02", later(60 * minutes).utc)
        answers.append(answer is not None)
    assert answers == [True, False, False, True]


def test_a_reset_that_was_sent_counts_for_the_hour() -> None:
    alice, bob = pair()
    bob.break_off(Code.ABANDONED, "")
    spoken(bob, later(10))
    _, answer = bob.tombstone().answer(said(alice, b"hm"), b"bob   01", later(20).utc)
    assert answer is None


def test_a_broken_conversation_tells_a_peer_that_goes_on_why() -> None:
    alice, bob = pair()
    bob.say(b"yes", START)
    bob.bounced(0, "5.1.1", "no such user", START, is_final=True)
    _, answer = bob.tombstone().answer(said(alice, b"hm"), b"bob   01", START.utc)
    assert answer is not None
    assert decode_reason(answer.body)[1] == "a mail came back: 5.1.1 no such user"


def test_a_stale_frame_is_not_answered() -> None:
    tombstone, last = ended()
    utc = last.expires + SKEW_S + 1
    assert tombstone.answer(last, b"bob   01", utc) == (tombstone, None)


def test_nobody_can_have_itself_remembered_for_ever() -> None:
    tombstone, last = ended()
    far = last._replace(expires=1 << 60)
    assert tombstone.answer(far, b"bob   01", START.utc) == (tombstone, None)


def test_the_settings_cannot_be_changed_on_the_way() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        PACE.expire_s = 1.0  # type: ignore[misc]


def test_a_reason_travels_as_in_every_other_reset() -> None:
    alice, _ = pair()
    alice.break_off(Code.ABANDONED, "left")
    assert spoken(alice)[0].body == encode_reason(Code.ABANDONED, "left", None)
