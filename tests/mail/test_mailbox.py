"""The conversations of one mailbox: whose a frame is, what is refused, what it costs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from conversation_kit import ALICE, BOB, PACE, START, later
from mailbox_kit import (
    HERE,
    NUMBER,
    THERE,
    Office,
    alice,
    bob,
    ended,
    reason,
    saying,
    sent,
    settle,
    stranger,
    talking,
)

from compoint.core.codes import Code, Ending, How
from mail._envelope import Kind, Place
from mail._mailbox import Bounds, BoundsError, Key
from mail._timers import Moment

# --- whose a frame is ---------------------------------------------------------------------------


def test_a_first_frame_begins_a_conversation() -> None:
    there = bob()
    taken = there.box.take(saying(alice(), b"hello"), START)
    assert taken == (THERE, 0, b"hello", True)
    assert list(there.box.conversations) == [THERE]


def test_a_second_frame_is_numbered_behind_the_first() -> None:
    here, there = talking()
    here.say(HERE, b"more", START)
    (frame,) = sent(here, START).post.frames
    assert there.box.take(frame, START) == (THERE, 2, b"more", False)


def test_a_frame_for_another_mailbox_is_foreign() -> None:
    box = Office("carol@c.test", START).box
    assert box.take(saying(alice(), b"hello"), START) is None
    assert (box.foreign, box.conversations, box.next_timer(START)) == (1, {}, None)


def test_case_makes_no_other_mailbox() -> None:
    box = Office("Bob@B.Test", START).box
    assert box.take(saying(alice(), b"hello"), START)


def test_both_sides_of_a_conversation_may_share_a_mailbox() -> None:
    office = alice()
    key = office.open(NUMBER, Place(ALICE.mailbox, 7100))
    office.say(key, b"hello myself", START)
    settle([office], START)
    office.say(THERE, b"hello you", START)
    settle([office], START)
    assert (office.sides[THERE].heard, office.sides[HERE].heard) == (b"hello myself", b"hello you")


def test_a_double_brings_nothing_and_is_counted() -> None:
    there = bob()
    frame = saying(alice(), b"hello")
    there.take_frame(frame, START)
    assert there.box.take(frame, START) is None
    assert there.box.doubled == 1


def test_what_came_too_early_is_no_double() -> None:
    there = bob()
    frame = saying(alice(), b"hello")._replace(start=5)
    assert there.box.take(frame, START) == (THERE, 0, b"", True)
    assert there.box.take(frame._replace(start=10), START) is None
    assert there.box.doubled == 0


def test_an_acknowledgement_brings_nothing() -> None:
    here, there = alice(), bob()
    there.take_frame(saying(here, b"hello"), START)
    (ack,) = sent(there, later(30)).post.frames
    assert here.box.take(ack, later(30)) is None
    assert here.box.conversations[HERE].unconfirmed == 0


def test_an_end_without_bytes_is_news() -> None:
    here, there = talking()
    here.end(HERE, START)
    (frame,) = sent(here, START).post.frames
    assert there.box.take(frame, START) == (THERE, 2, b"", False)
    assert there.box.conversations[THERE].has_end


def test_the_break_of_a_conversation_is_news() -> None:
    here, there = talking()
    here.box.conversations[HERE].break_off(Code.ABANDONED, "enough")
    here.box.touch(HERE)
    (frame,) = sent(here, START).post.frames
    assert there.box.take(frame, START) == (THERE, 2, b"", False)
    assert there.box.conversations[THERE].ending == Ending(How.BROKEN, Code.ABANDONED, "enough")


def test_a_conversation_broken_by_its_first_frame_is_never_shown() -> None:
    there = bob()
    frame = saying(alice(), b"hello")._replace(have=3)
    assert there.box.take(frame, START) is None
    (answer,) = sent(there, START).post.frames
    assert answer.kind is Kind.RESET
    there.commit(START)
    assert (there.box.conversations, list(there.tombstones)) == ({}, [THERE])


# --- bounds -------------------------------------------------------------------------------------


def test_a_full_mailbox_opens_no_more() -> None:
    box = alice(bounds=Bounds(conversations=1)).box
    box.open(b"1" * 16, 1, BOB)
    with pytest.raises(BoundsError, match=r"alice@a\.test has 1 conversations"):
        box.open(b"2" * 16, 1, Place("carol@c.test", 1))


def test_no_peer_has_more_than_its_share() -> None:
    box = alice(bounds=Bounds(conversations_per_peer=1)).box
    box.open(b"1" * 16, 1, BOB)
    with pytest.raises(BoundsError, match=r"1 conversations with BOB@b\.test"):
        box.open(b"2" * 16, 1, Place("BOB@b.test", 2))
    box.open(b"3" * 16, 1, Place("carol@c.test", 1))


def test_a_conversation_that_is_over_makes_room() -> None:
    box = alice(bounds=Bounds(conversations=1, conversations_per_peer=1)).box
    box.open(b"1" * 16, 1, BOB)
    box.conversations[b"1" * 16, True].failed(0, "no such user", START, is_final=True)
    box.release((b"1" * 16, True))
    box.open(b"2" * 16, 1, BOB)


def test_a_full_mailbox_tells_a_peer_that_it_is_busy() -> None:
    here, there = alice(), bob(bounds=Bounds(conversations_per_peer=1))
    there.take_frame(saying(here, b"first"), START)
    assert there.box.take(saying(here, b"second", number=2), START) is None
    post = sent(there, START).post
    assert [reason(frame)[0] for frame in post.frames] == [Code.BUSY]
    assert list(there.box.conversations) == [THERE]
    assert there.rows.keys() == {THERE}
    assert here.box.take(post.frames[0], START)


def test_who_was_turned_away_is_told_once_an_hour() -> None:
    here, there = alice(), bob(bounds=Bounds(conversations=0))
    frame = saying(here, b"hello")
    told = []
    for minute in range(0, 121, 10):
        at = later(60 * minute)
        there.take_frame(frame, at)
        told += [minute for _ in settle([there, here], at)]
    assert told == [0, 60, 120]
    assert there.box.refused == 13


def test_who_was_turned_away_is_not_let_in_by_a_late_double() -> None:
    here, there = alice(), bob(bounds=Bounds(conversations=1))
    there.take_frame(saying(here, b"first"), START)
    frame = saying(here, b"second", number=2)
    there.take_frame(frame, START)
    there.box.conversations[THERE].say(b"yes", START)
    there.box.conversations[THERE].failed(0, "no such user", START, is_final=True)
    there.box.release(THERE)
    assert there.box.take(frame, later(60)) is None
    assert there.box.conversations == {}


def test_who_was_turned_away_is_told_the_same_reason_again() -> None:
    here, there = alice(), bob(bounds=Bounds(conversations=1, answers=1))
    there.take_frame(saying(here, b"first"), START)
    frame = saying(here, b"second", number=2)
    there.take_frame(frame, START)
    first = reason(sent(there, START).post.frames[0])
    there.box.conversations[THERE].failed(0, "no such user", START, is_final=True)
    there.release(THERE)
    there.take_frame(frame, later(3600))
    assert reason(sent(there, later(3600)).post.frames[0]) == first


def test_who_was_told_longest_ago_makes_room_for_another() -> None:
    there = bob(bounds=Bounds(answers=2))
    # The first is told again, so the second is the one that makes room for the third.
    for minute, number in ((0, 1), (30, 2), (60, 1), (90, 3)):
        at = later(60 * minute)
        there.take_frame(stranger(number, at=at), at)
        assert sent(there, at).post.frames[0].conversation == stranger(number).conversation


# --- what it costs ------------------------------------------------------------------------------


class NotToBeLookedAt(dict[Key, Any]):
    def __getitem__(self, key: Key) -> Any:
        raise AssertionError(key)

    def __iter__(self) -> Iterator[Key]:
        raise AssertionError

    values = items = __iter__  # type: ignore[assignment]


def test_conversations_at_rest_are_not_looked_at() -> None:
    here, _ = talking()
    conversations, here.box.conversations = here.box.conversations, NotToBeLookedAt()
    assert here.box.next_timer(later(60)) is None
    assert here.make_mail(later(60)) is None
    here.box.take_changes(later(60))
    here.box.conversations = conversations
    here.say(HERE, b"more", later(60))
    assert here.make_mail(later(60))


def test_only_what_was_touched_is_committed() -> None:
    here, _ = talking()
    other = here.open(b"conversation 002", BOB)
    changes = here.box.take_changes(START)
    assert [change.state.conversation for change in changes.changes] == [other[0]]
    assert here.box.take_changes(START) == ([], [], [], [], changes.next_post)


def test_what_is_over_is_committed_once() -> None:
    here, _ = ended(release=False)
    here.release(HERE)
    changes = here.box.take_changes(START)
    assert (changes.changes, changes.gone, len(changes.tombstones)) == ([], [HERE], 1)
    assert here.box.take_changes(START) == ([], [], [], [], changes.next_post)


def test_time_alone_commits_nothing() -> None:
    here, there = alice(), bob()
    here.say(here.open(NUMBER, BOB), b"hello", START)
    settle([here, there], START)
    # Something is due, but no mail may be sent yet.
    here.box.on_timer(later(4000))
    assert here.box.next_timer(later(4000)) is not None
    assert here.box.take_changes(later(4000)).changes == []


def test_a_clock_set_back_does_not_make_it_restless() -> None:
    office = alice()
    office.say(office.open(NUMBER, BOB), b"hello", START)
    office.make_mail(START)
    office.commit(START)
    at = Moment(later(PACE.expire_s).now, START.utc)
    office.box.on_timer(at)
    assert office.box.next_timer(at) == at.now + PACE.expire_s
