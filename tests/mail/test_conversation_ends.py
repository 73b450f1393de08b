"""How conversations over mail end, in good order or broken."""

from __future__ import annotations

import pytest
from conversation_kit import (
    DAY,
    ROOM,
    START,
    answering,
    initiator,
    later,
    pair,
    said,
    spoken,
)

from compoint.core.codes import Code, How
from mail._envelope import Flag, Kind

# --- ending -----------------------------------------------------------------------------------


def test_the_end_travels_with_the_last_bytes_and_is_confirmed() -> None:
    alice = initiator()
    alice.say(b"bye", START)
    alice.say_end(START)
    (frame,) = spoken(alice)
    assert frame.flags & Flag.END
    bob = answering(frame)
    assert bob.has_end
    alice.take(spoken(bob, later(30))[0], later(30))
    assert alice.unconfirmed == 0


def test_an_end_that_comes_too_early_waits_for_the_bytes_before_it() -> None:
    alice = initiator()
    first = said(alice, b"one")
    alice.say_end(START)
    bob = answering(spoken(alice)[0])
    assert not bob.has_end
    assert bob.take(first, START) == b"one"
    assert bob.has_end


def test_a_conversation_is_over_when_both_know_both_ends() -> None:
    alice, bob = pair()
    alice.say_end(later(40))
    bob.take(spoken(alice, later(40))[0], later(41))
    bob.say_end(later(42))
    alice.take(spoken(bob, later(42))[0], later(43))
    assert not bob.is_over
    assert not alice.is_over
    bob.take(spoken(alice, later(43))[0], later(44))
    assert alice.is_over
    assert bob.is_over


def test_nothing_is_said_behind_the_end() -> None:
    alice = initiator()
    alice.say_end(START)
    assert alice.say(b"more", START) == 0


def test_two_different_ends_break_the_conversation() -> None:
    alice = initiator()
    alice.say(b"bye", START)
    alice.say_end(START)
    (frame,) = spoken(alice)
    bob = answering(frame)
    bob.take(frame._replace(body=b"goodbye"), START)
    assert bob.ending is not None
    assert (bob.ending.how, bob.ending.code) == (How.BROKEN, Code.BAD_FRAME)


# --- breaking ---------------------------------------------------------------------------------


def test_breaking_off_is_told_once() -> None:
    alice, bob = pair()
    alice.break_off(Code.ABANDONED, "left by an exception")
    (frame,) = spoken(alice, later(1))
    assert frame.kind is Kind.RESET
    assert spoken(alice, later(DAY)) == []
    assert alice.is_over
    bob.take(frame, later(2))
    assert bob.ending is not None
    assert (bob.ending.code, bob.ending.text) == (Code.ABANDONED, "left by an exception")


def test_a_reset_is_not_answered() -> None:
    alice, bob = pair()
    alice.break_off(Code.ABANDONED, "")
    bob.take(spoken(alice)[0], START)
    assert bob.next_timer(START) is None
    assert spoken(bob, later(DAY)) == []


def test_a_reset_without_a_reason_is_taken() -> None:
    alice, bob = pair()
    alice.break_off(Code.ABANDONED, "")
    bob.take(spoken(alice)[0]._replace(body=b"?"), START)
    assert bob.ending is not None
    assert bob.ending.code is Code.INTERNAL


def test_the_first_reason_is_kept() -> None:
    alice, _ = pair()
    alice.break_off(Code.STOPPED, "first")
    alice.break_off(Code.BUSY, "second")
    assert alice.ending is not None
    assert alice.ending.text == "first"


def test_a_peer_whose_store_is_new_has_lost_the_conversation() -> None:
    alice, bob = pair()
    alice.take(said(bob, b"hm")._replace(incarnation=b"bob   02"), START)
    assert alice.ending is not None
    assert alice.ending.how is How.CUT
    assert "lost" in alice.ending.text
    assert spoken(alice)[0].kind is Kind.RESET


def test_an_acknowledgement_of_a_new_store_is_not_answered() -> None:
    alice, bob = pair()
    ack = said(bob, b"hm")._replace(incarnation=b"bob   02", kind=Kind.ACK)
    alice.take(ack, START)
    assert alice.ending is not None
    assert spoken(alice) == []


@pytest.mark.parametrize("more", [{"have": 99}, {"ranges": ((50, 99),)}], ids=["have", "ranges"])
def test_a_peer_that_has_what_was_never_said_shows_that_our_store_is_old(
    more: dict[str, object],
) -> None:
    alice, bob = pair()
    alice.take(said(bob, b"hm")._replace(**more), START)
    assert alice.ending is not None
    assert "more than the 3 bytes said" in alice.ending.text


def test_what_is_not_confirmed_for_days_is_given_up() -> None:
    alice = initiator()
    said(alice, b"hello")
    alice.on_timer(later(5 * DAY - 1))
    assert alice.ending is None
    alice.on_timer(later(5 * DAY))
    assert alice.ending is not None
    assert alice.ending.code is Code.SILENT
    assert alice.ending.text == "5 bytes were not confirmed in 4.32e+05 s"


def test_every_confirmation_gives_new_days() -> None:
    alice = initiator()
    bob = answering(said(alice, b"hello"))
    alice.say(b"more", START)
    alice.take(spoken(bob, later(30))[0], later(4 * DAY))
    alice.on_timer(later(8 * DAY))
    assert alice.ending is None


def test_a_silent_conversation_without_debts_is_not_given_up() -> None:
    alice, _ = pair()
    assert alice.next_timer(later(300 * DAY)) is None


# --- what became of mails ---------------------------------------------------------------------


def test_a_mail_that_was_refused_for_good_breaks_the_conversation() -> None:
    alice = initiator()
    alice.say(b"hello", START)
    output = alice.take_output(START, ROOM)
    assert output is not None
    alice.failed(output.handle, "550 5.1.1 no such user", START, is_final=True)
    assert alice.ending is not None
    assert alice.ending.text == "550 5.1.1 no such user"
    assert spoken(alice) == []


def test_a_mail_that_was_not_taken_is_made_again_later() -> None:
    alice = initiator()
    alice.say(b"hello", START)
    output = alice.take_output(START, ROOM)
    assert output is not None
    alice.failed(output.handle, "451 try later", START, is_final=False)
    assert spoken(alice, later(599)) == []
    assert [one.body for one in spoken(alice, later(600))] == [b"hello"]


def test_a_bounce_breaks_the_conversation_with_status_and_text() -> None:
    alice = initiator()
    said(alice, b"hello")
    alice.bounced(0, "5.1.1", "no such user", later(60), is_final=True)
    assert alice.ending is not None
    assert alice.ending.text == "a mail came back: 5.1.1 no such user"


@pytest.mark.parametrize("verb", ["failed", "bounced"])
def test_a_mail_that_comes_back_when_the_peer_has_all_of_it_ends_nothing(verb: str) -> None:
    """A copy went astray: the peer forwards its mails, or one was handed over twice."""
    alice, _ = pair()
    if verb == "failed":
        alice.failed(0, "550 5.1.1 no such user", later(60), is_final=True)
    else:
        alice.bounced(0, "5.1.1", "no such user", later(60), is_final=True)
    assert alice.ending is None


def test_a_mail_that_came_back_for_now_is_said_again_at_once_and_once() -> None:
    alice = initiator()
    said(alice, b"hello")
    alice.bounced(0, "4.4.7", "expired", later(60), is_final=False)
    assert len(spoken(alice, later(60))) == 1
    alice.bounced(1, "4.4.7", "expired", later(70), is_final=False)
    assert spoken(alice, later(70)) == []


def test_a_bounce_of_a_mail_nobody_waits_for_changes_nothing() -> None:
    alice, _ = pair()
    alice.bounced(77, "4.4.7", "expired", later(60), is_final=False)
    assert alice.next_timer(later(60)) is None
