"""One side of a conversation over mail, fact by fact: what it says, and when."""

from __future__ import annotations

import pytest
from conversation_kit import (
    ALICE,
    BOB,
    PACE,
    ROOM,
    START,
    answering,
    initiator,
    later,
    said,
    spoken,
)

from mail._conversation import Conversation
from mail._envelope import RANGES, Flag, Kind, Place, encode, overhead
from mail._timers import FIRST_WINDOW_BYTES, Moment, Pace, RoundTrip
from mail._tombstone import HOPS, SKEW_S

# --- opening --------------------------------------------------------------------------------


def test_the_first_frame_opens_and_brings_the_first_bytes() -> None:
    frame = said(initiator(), b"hello")
    bob = Conversation.opened_by(frame, b"bob   01", PACE, START.utc)
    assert bob is not None
    assert (bob.ours, bob.theirs, bob.is_initiator) == (BOB, ALICE, False)
    assert bob.take(frame, START) == b"hello"


def test_every_frame_opens_until_the_peer_was_heard() -> None:
    alice = initiator()
    first = said(alice, b"one")
    second = said(alice, b"two")
    assert first.flags & second.flags & Flag.OPEN
    alice.take(said(answering(first), b"yes"), START)
    assert not said(alice, b"three").flags & Flag.OPEN


def test_whichever_frame_arrives_first_opens() -> None:
    alice = initiator()
    first, second = said(alice, b"one"), said(alice, b"two")
    bob = answering(second)
    assert bob.take(first, START) == b"onetwo"


def test_a_responder_never_opens() -> None:
    frame = said(initiator(), b"hello")
    assert not said(answering(frame), b"yes").flags & Flag.OPEN
    loop = frame._replace(flags=frame.flags | Flag.RESPONDER)
    assert Conversation.opened_by(loop, b"bob   01", PACE, START.utc) is None


@pytest.mark.parametrize("kind", [Kind.ACK, Kind.RESET])
def test_only_data_opens(kind: Kind) -> None:
    frame = said(initiator(), b"hello")._replace(kind=kind)
    assert Conversation.opened_by(frame, b"bob   01", PACE, START.utc) is None


def test_a_first_frame_that_has_expired_opens_nothing() -> None:
    frame = said(initiator(), b"hello")
    utc = frame.expires + SKEW_S + 1
    assert Conversation.opened_by(frame, b"bob   01", PACE, utc) is None


def test_a_frame_of_one_s_own_that_comes_back_changes_nothing() -> None:
    alice = initiator()
    frame = said(alice, b"hello")
    assert alice.take(frame, START) == b""
    assert alice.next_timer(START) == START.now + PACE.rto_min_s


def test_a_frame_from_another_mailbox_changes_nothing() -> None:
    alice = initiator()
    answer = said(answering(said(alice, b"hello")), b"yes")
    assert alice.take(answer._replace(sender=Place("eve@e.test", 7100)), START) == b""
    assert alice.unconfirmed == 5


# --- order ----------------------------------------------------------------------------------


def test_what_comes_too_early_is_kept_until_it_is_due() -> None:
    alice = initiator()
    one, two, three = (said(alice, data) for data in (b"one", b"two", b"three"))
    bob = answering(one)
    assert bob.take(three, START) == b""
    assert bob.take(two, START) == b"twothree"


def test_a_double_brings_nothing() -> None:
    frame = said(initiator(), b"hello")
    assert answering(frame).take(frame, START) == b""


def test_a_part_that_is_here_already_is_left_out() -> None:
    frame = said(initiator(), b"hello")
    bob = answering(frame)
    assert bob.take(frame._replace(body=b"hello, world"), START) == b", world"


def test_early_parts_that_overlap_are_put_together() -> None:
    frame = said(initiator(), b"0")
    bob = answering(frame)
    for start, body in ((4, b"456"), (8, b"8"), (2, b"23456789ab")):
        assert bob.take(frame._replace(start=start, body=body), START) == b""
    assert bob.take(frame._replace(start=1, body=b"1"), START) == b"123456789ab"


def test_what_lies_beyond_the_window_is_not_kept() -> None:
    frame = said(initiator(), b"0")
    bob = answering(frame, pace=Pace(window_bytes=10))
    bob.take(frame._replace(start=11, body=b"b"), START)
    bob.take(frame._replace(start=9, body=b"9ab"), START)
    (answer,) = spoken(bob, later(30))
    assert answer.ranges == ((9, 11),)


def test_an_end_beyond_the_window_is_not_taken() -> None:
    frame = said(initiator(), b"0")
    bob = answering(frame, pace=Pace(window_bytes=10))
    last = frame._replace(start=1, body=b"0123456789ab", flags=Flag.OPEN | Flag.END)
    assert bob.take(last, START) == b"0123456789"
    assert not bob.has_end
    assert bob.take(last, START) == b"ab"
    assert bob.has_end


def test_a_frame_that_has_expired_changes_nothing() -> None:
    alice = initiator()
    frame = said(alice, b"one")
    bob = answering(frame)
    late = said(alice, b"two")
    assert bob.take(late, later(PACE.expire_s + SKEW_S + 2)) == b""
    assert bob.take(late, later(PACE.expire_s + SKEW_S - 1)) == b"two"


def test_a_frame_that_runs_in_circles_changes_nothing() -> None:
    alice = initiator()
    bob = answering(said(alice, b"one"))
    assert bob.take(said(alice, b"two")._replace(hops=HOPS + 1), START) == b""


# --- acknowledging --------------------------------------------------------------------------


def test_an_acknowledgement_rides_on_data() -> None:
    bob = answering(said(initiator(), b"hello"))
    assert said(bob, b"yes").have == 5
    assert bob.next_timer(later(1)) == START.now + PACE.rto_min_s


def test_an_acknowledgement_travels_alone_after_a_while() -> None:
    bob = answering(said(initiator(), b"hello"))
    assert bob.next_timer(START) == START.now + PACE.ack_delay_s
    assert spoken(bob, later(29)) == []
    (frame,) = spoken(bob, later(30))
    assert (frame.kind, frame.have, frame.body) == (Kind.ACK, 5, b"")


def test_an_acknowledgement_is_not_acknowledged() -> None:
    alice = initiator()
    bob = answering(said(alice, b"hello"))
    alice.take(spoken(bob, later(30))[0], later(40))
    assert alice.unconfirmed == 0
    assert alice.next_timer(later(40)) is None


def test_a_gap_is_told_at_once() -> None:
    alice = initiator()
    bob = answering(said(alice, b"one"))
    said(alice, b"two")
    bob.take(said(alice, b"three"), START)
    (frame,) = spoken(bob)
    assert (frame.kind, frame.have, frame.ranges) == (Kind.ACK, 3, ((6, 11),))


def test_gaps_are_told_at_most_once_in_the_delay_of_acknowledgements() -> None:
    alice = initiator()
    bob = answering(said(alice, b"one"))
    said(alice, b"two")
    bob.take(said(alice, b"three"), START)
    spoken(bob)
    bob.take(said(alice, b"four"), later(1))
    assert bob.next_timer(later(1)) == START.now + PACE.ack_delay_s


def test_a_double_soon_after_the_answer_asks_for_nothing() -> None:
    frame = said(initiator(), b"hello")
    bob = answering(frame)
    spoken(bob, later(30))
    bob.take(frame, later(31))
    assert bob.next_timer(later(31)) is None


def test_a_double_long_after_the_answer_is_answered_again() -> None:
    frame = said(initiator(), b"hello")
    bob = answering(frame)
    spoken(bob, later(30))
    bob.take(frame, later(630))
    assert [one.have for one in spoken(bob, later(630))] == [5]


def test_at_most_so_many_ranges_are_told_the_nearest_first() -> None:
    frame = said(initiator(), b"0")
    bob = answering(frame)
    for n in range(40, 0, -1):
        bob.take(frame._replace(start=10 * n, body=b"x"), START)
    (answer,) = spoken(bob, later(30))
    assert answer.ranges == tuple((10 * n, 10 * n + 1) for n in range(1, RANGES + 1))


# --- saying again -----------------------------------------------------------------------------


def test_silence_counts_from_the_submission() -> None:
    alice = initiator()
    alice.say(b"hello", START)
    output = alice.take_output(START, ROOM)
    assert output is not None
    assert alice.take_output(later(3600), ROOM) is None
    alice.submitted(output.handle, later(3600))
    assert alice.next_timer(later(3600)) == later(3600 + PACE.rto_min_s).now


def test_what_was_not_confirmed_in_time_is_said_again() -> None:
    alice = initiator()
    first = said(alice, b"hello")
    assert spoken(alice, later(599)) == []
    (again,) = spoken(alice, later(600))
    assert (again.start, again.body) == (first.start, first.body)
    assert again.expires > first.expires


def test_the_time_between_two_tries_doubles_up_to_an_hour() -> None:
    alice = initiator()
    said(alice, b"hello")
    at, waits = START, []
    for _ in range(5):
        due = alice.next_timer(at)
        assert due is not None
        waits.append(due - at.now)
        at = Moment(due, at.utc + due - at.now)
        assert spoken(alice, at)
    assert waits == [600.0, 1200.0, 2400.0, 3600.0, 3600.0]


def test_slow_answers_make_patient() -> None:
    trip = RoundTrip(PACE)
    trip.measured(7200.0)
    assert trip.patience_s(0) == trip.patience_s(5) == 4 * 7200.0


def test_round_trips_are_smoothed() -> None:
    trip = RoundTrip(PACE)
    trip.measured(100.0)
    trip.measured(900.0)
    assert trip.smoothed_s == 200.0


def test_a_round_trip_is_measured_on_what_was_said_once() -> None:
    alice = initiator()
    bob = answering(said(alice, b"hello"))
    alice.take(spoken(bob, later(400))[0], later(400))
    said(alice, b"more", later(400))
    assert alice.next_timer(later(400)) == later(400 + 4 * 400).now


def test_a_round_trip_is_not_measured_on_what_was_said_twice() -> None:
    alice = initiator()
    bob = answering(said(alice, b"hello"))
    spoken(alice, later(600))
    alice.take(spoken(bob, later(900))[0], later(900))
    said(alice, b"more", later(900))
    assert alice.next_timer(later(900)) == later(900 + PACE.rto_min_s).now


def test_what_three_later_frames_have_overtaken_is_said_again_at_once() -> None:
    alice = initiator()
    bob = answering(said(alice, b"0"))
    said(alice, b"lost")
    for n in range(3):
        bob.take(said(alice, b"later"), later(n))
        if n < 2:
            continue
        alice.take(spoken(bob, later(30))[0], later(30))
    assert [one.body for one in spoken(alice, later(30))] == [b"lost"]


def test_what_two_later_frames_have_overtaken_waits() -> None:
    alice = initiator()
    bob = answering(said(alice, b"0"))
    said(alice, b"late")
    for n in range(2):
        bob.take(said(alice, b"later"), later(n))
    alice.take(spoken(bob, later(30))[0], later(30))
    assert spoken(alice, later(31)) == []


def test_what_was_said_again_is_left_to_its_timer() -> None:
    alice = initiator()
    bob = answering(said(alice, b"0"))
    alice.take(spoken(bob, later(30))[0], later(30))
    said(alice, b"lost", later(30))
    assert [one.body for one in spoken(alice, later(630))] == [b"lost"]
    for n in range(3):
        bob.take(said(alice, b"later", later(631)), later(632 + n))
    alice.take(spoken(bob, later(700))[0], later(700))
    assert spoken(alice, later(700)) == []


def test_a_report_that_was_doubled_counts_once() -> None:
    alice = initiator()
    bob = answering(said(alice, b"0"))
    said(alice, b"late")
    bob.take(said(alice, b"later"), START)
    (report,) = spoken(bob)
    for n in range(5):
        alice.take(report, later(n))
    assert spoken(alice, later(10)) == []


def test_what_is_reported_as_held_is_not_said_again() -> None:
    alice = initiator()
    bob = answering(said(alice, b"0"))
    said(alice, b"lost")
    bob.take(said(alice, b"held"), START)
    alice.take(spoken(bob)[0], START)
    assert [one.body for one in spoken(alice, later(600))] == [b"lost"]


def test_what_is_held_between_two_lost_parts_is_not_said_again() -> None:
    alice = initiator()
    bob = answering(said(alice, b"0"))
    said(alice, b"lost")
    bob.take(said(alice, b"held"), START)
    said(alice, b"too")
    alice.take(spoken(bob)[0], START)
    assert [one.body for one in spoken(alice, later(600))] == [b"lost", b"too"]


def test_a_part_that_fits_no_more_is_said_again_in_two_mails() -> None:
    alice = initiator()
    frame = said(alice, bytes(range(200)))
    room = overhead(ALICE, BOB) + 150
    (first,) = spoken(alice, later(600), room)
    (second,) = spoken(alice, later(600), room)
    assert (first.start, second.start) == (0, 150)
    assert first.body + second.body == frame.body


def test_what_is_nearly_due_comes_along() -> None:
    alice = initiator()
    said(alice, b"one")
    said(alice, b"two", later(100))
    assert [one.body for one in spoken(alice, later(600))] == [b"onetwo"]


def test_what_is_due_again_comes_before_what_is_new() -> None:
    alice = initiator()
    said(alice, b"one")
    alice.say(b"two", later(600))
    assert [one.body for one in spoken(alice, later(600))] == [b"one", b"two"]


# --- bounds -----------------------------------------------------------------------------------


def test_everything_said_meanwhile_goes_into_one_frame() -> None:
    alice = initiator()
    for _ in range(100):
        alice.say(b"message;", START)
    assert [one.body for one in spoken(alice)] == [b"message;" * 100]


def test_a_mail_holds_no_more_than_its_room_and_the_rest_follows() -> None:
    alice = initiator()
    alice.say(bytes(1000), START)
    sizes = [len(encode(spoken(alice, room=900)[0])) for _ in range(3)]
    assert max(sizes) < 900
    assert alice.next_timer(START) == START.now + PACE.rto_min_s


def test_a_mail_without_room_for_a_frame_takes_none() -> None:
    alice = initiator()
    alice.say(b"hello", START)
    assert spoken(alice, room=100) == []


def test_no_more_is_said_than_the_window_takes() -> None:
    alice = initiator(Pace(window_bytes=10))
    assert alice.say(b"hello, world", START) == 10
    assert (alice.room, alice.say(b"more", START)) == (0, 0)


def test_a_peer_that_was_not_heard_is_sent_no_more_than_the_first_window() -> None:
    alice = initiator()
    alice.say(bytes(2 * FIRST_WINDOW_BYTES), START)
    first = spoken(alice, room=10 * FIRST_WINDOW_BYTES)
    assert sum(len(one.body) for one in first) == FIRST_WINDOW_BYTES
    bob = answering(first[0])
    alice.take(said(bob, b"yes"), START)
    rest = spoken(alice, room=10 * FIRST_WINDOW_BYTES)
    assert sum(len(one.body) for one in rest) == FIRST_WINDOW_BYTES
