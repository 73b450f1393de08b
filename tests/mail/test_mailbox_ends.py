"""How the conversations of a mailbox end, and how long that is remembered."""

from __future__ import annotations

import pytest
from conversation_kit import BOB, DAY, PACE, START, later
from mailbox_kit import (
    HERE,
    NUMBER,
    THERE,
    alice,
    bob,
    ended,
    leaving,
    reason,
    saying,
    sent,
    settle,
    talking,
)

from compoint.core.codes import Code, How
from mail._envelope import Kind
from mail._mailbox import Bounds
from mail._timers import Moment

# --- how conversations end ----------------------------------------------------------------------


def test_a_conversation_that_is_over_becomes_a_tombstone_when_it_is_released() -> None:
    here, there = ended(release=True)
    for office, key in ((here, HERE), (there, THERE)):
        assert (office.rows, office.box.conversations) == ({}, {})
        assert list(office.tombstones) == [key]
    assert there.tombstones[THERE].have == 3


def test_a_conversation_stays_until_it_is_released() -> None:
    here, _ = ended(release=False)
    assert list(here.rows) == [HERE]
    here.release(HERE)
    here.commit(START)
    assert (here.rows, list(here.tombstones)) == ({}, [HERE])


@pytest.mark.parametrize("is_killed", [False, True], ids=["the same process", "the next process"])
def test_a_late_double_does_not_begin_a_conversation_again(is_killed: bool) -> None:
    here, there = alice(), bob()
    frame = saying(here, b"hello")
    there.take_frame(frame, START)
    here.end(HERE, START)
    here.release(HERE)
    there.end(THERE, START)
    there.release(THERE)
    settle([here, there], START)
    settle([here, there], later(30))
    if is_killed:
        there.kill(later(31))
    assert there.box.take(frame, later(100)) is None
    assert (there.box.conversations, there.box.doubled) == ({}, 1)
    # And is told once more that everything is here, at most once a minute.
    (answer,) = sent(there, later(100)).post.frames
    assert (answer.kind, answer.have) == (Kind.ACK, 6)
    if is_killed:
        there.kill(later(159))
    there.take_frame(frame, later(159))
    assert there.make_mail(later(159)) is None


def test_a_peer_that_missed_a_break_is_told_again_before_the_program_lets_go() -> None:
    here, there = talking()
    there.box.conversations[THERE].break_off(Code.ABANDONED, "enough")
    there.box.touch(THERE)
    sent(there, START)
    here.say(HERE, b"more", START)
    (frame,) = sent(here, START).post.frames
    there.take_frame(frame, later(600))
    assert there.make_mail(later(600)) is None
    there.take_frame(frame, later(3600))
    assert reason(sent(there, later(3600)).post.frames[0]) == (Code.ABANDONED, "enough")
    there.release(THERE)
    there.take_frame(frame, later(3700))
    assert there.make_mail(later(3700)) is None


def test_that_something_was_given_up_is_committed() -> None:
    office = alice()
    office.say(office.open(NUMBER, BOB), b"hello", START)
    sent(office, START)
    office.commit(START)
    office.box.on_timer(later(PACE.expire_s))
    office.commit(later(PACE.expire_s))
    assert office.rows[HERE][0].how == How.CUT.value


def test_what_nobody_confirms_is_given_up_and_forgotten() -> None:
    office = alice()
    office.say(office.open(NUMBER, BOB), b"hello", START)
    office.release(HERE)
    sent(office, START)
    at = later(PACE.expire_s)
    (frame,) = sent(office, at).post.frames
    assert reason(frame)[0] is Code.SILENT
    office.commit(at)
    assert (office.rows, list(office.tombstones)) == ({}, [HERE])


def test_what_is_said_last_has_all_its_time_to_be_confirmed() -> None:
    here, _ = talking()
    here.end(HERE, later(4 * DAY))
    here.release(HERE)
    sent(here, later(4 * DAY))
    here.box.on_timer(later(8 * DAY))
    assert here.box.conversations[HERE].ending is None


def test_a_peer_that_never_ends_is_broken_off() -> None:
    here, _ = leaving()
    assert here.box.next_timer(later(30)) == later(30 + PACE.expire_s).now
    at = later(30 + PACE.expire_s)
    post = sent(here, at).post
    assert [reason(frame)[0] for frame in post.frames] == [Code.EXPIRED]
    here.commit(at)
    assert (here.rows, list(here.tombstones)) == ({}, [HERE])


def test_a_peer_that_never_ends_is_broken_off_though_processes_live_for_a_day() -> None:
    here, _ = leaving()
    for day in range(1, 6):
        assert list(here.rows) == [HERE]
        at = later(31 + day * DAY)
        # The clock that never jumps begins anew with the machine.
        here.kill(Moment(at.now - 1000 * day, at.utc))
        here.make_mail(Moment(at.now - 1000 * day, at.utc))
        here.commit(at)
    assert (here.rows, list(here.tombstones)) == ({}, [HERE])


def test_a_peer_that_goes_on_is_not_broken_off() -> None:
    here, there = talking()
    here.end(HERE, START)
    here.release(HERE)
    for day in range(10):
        there.say(THERE, b"another day", later(day * DAY))
        settle([here, there], later(day * DAY))
        settle([here, there], later(day * DAY + 30))
    assert list(here.rows) == [HERE]
    assert here.box.conversations[HERE].ending is None


def test_who_is_not_released_may_be_silent_for_ever() -> None:
    here, _ = talking()
    assert here.box.next_timer(later(100 * DAY)) is None
    assert here.make_mail(later(100 * DAY)) is None
    assert here.box.conversations[HERE].ending is None


# --- tombstones ---------------------------------------------------------------------------------


def test_a_tombstone_is_forgotten_when_no_double_can_come_any_more() -> None:
    here, _ = ended(release=True)
    until_utc = here.tombstones[HERE].until_utc
    for after_s, count in ((0, 1), (3600, 0)):
        at = Moment(START.now + 10 * DAY + after_s, until_utc + after_s)
        here.box.on_timer(at)
        here.commit(at)
        assert len(here.tombstones) == count


def test_a_restored_tombstone_is_forgotten_too() -> None:
    here, _ = ended(release=True)
    here.kill(later(10 * DAY))
    here.commit(later(10 * DAY))
    assert here.tombstones == {}


def test_beyond_the_bound_the_oldest_tombstone_is_forgotten() -> None:
    office = alice(bounds=Bounds(tombstones=2))
    keys = [office.open(b"conversation %03d" % number, BOB) for number in range(3)]
    for key in keys:
        office.box.conversations[key].failed(0, "no", START, is_final=True)
        office.release(key)
        office.commit(START)
    assert list(office.tombstones) == keys[1:]


def test_of_restored_tombstones_the_oldest_is_forgotten_first() -> None:
    office = alice(bounds=Bounds(tombstones=2))
    keys = [office.open(b"conversation %03d" % number, BOB) for number in range(3)]
    for index, until_s in enumerate((200, 100)):
        stone = office.box.conversations[keys[index]].tombstone()
        office.tombstones[keys[index]] = stone._replace(until_utc=later(until_s).utc)
    office.commit(START)
    office.kill(START)
    office.box.conversations[keys[2]].failed(0, "no", START, is_final=True)
    office.release(keys[2])
    office.commit(START)
    assert list(office.tombstones) == [keys[0], keys[2]]


def test_a_tombstone_may_be_forgotten_before_it_was_committed() -> None:
    office = alice(bounds=Bounds(tombstones=1))
    keys = [office.open(b"conversation %03d" % number, BOB) for number in range(3)]
    for key in keys:
        office.box.conversations[key].failed(0, "no", START, is_final=True)
        office.release(key)
    office.commit(START)
    assert list(office.tombstones) == keys[2:]
