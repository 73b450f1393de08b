"""What waits for its time in a mailbox, and leaves at once when somebody is in a hurry."""

from __future__ import annotations

from conversation_kit import BOB, START, later
from mailbox_kit import HERE, Office, alice, sent, settle, talking

from mail._envelope import Kind


def frames_due(office: Office) -> list[Kind]:
    mail = office.make_mail(START)
    return [] if mail is None else [frame.kind for frame in mail.post.frames]


def unanswered() -> Office:
    """It has said something, the mail has left, and nothing came back."""
    here, _ = talking()
    here.say(HERE, b"anybody?", START)
    sent(here, START)
    here.commit(START)
    assert frames_due(here) == []
    return here


def test_what_waits_for_its_next_try_is_due_at_once() -> None:
    here = unanswered()
    here.box.hurry()
    assert frames_due(here) == [Kind.DATA]


def test_it_is_said_once_more_and_not_again_and_again() -> None:
    here = unanswered()
    here.box.hurry()
    sent(here, START)
    assert frames_due(here) == []


def test_an_acknowledgement_does_not_wait_for_something_to_ride_on() -> None:
    here, there = talking()
    here.say(HERE, b"news", START)
    settle([here, there], START)
    assert frames_due(there) == []
    there.box.hurry()
    assert frames_due(there) == [Kind.ACK]


def test_where_nothing_waits_a_hurry_makes_no_mail() -> None:
    here, there = talking()
    for office in (here, there):
        office.box.hurry()
        assert frames_due(office) == []


def test_what_is_being_handed_over_is_not_put_into_a_second_mail() -> None:
    here, _ = talking()
    here.say(HERE, b"on its way", START)
    assert frames_due(here) == [Kind.DATA]
    here.box.hurry()
    assert frames_due(here) == []


def test_a_hurry_outlives_the_process() -> None:
    here = unanswered()
    here.box.hurry()
    here.commit(START)
    here.kill(later(1))
    assert here.make_mail(later(1)) is not None


def test_a_conversation_waits_until_a_mail_system_has_all_of_it() -> None:
    here = alice()
    key = here.open(HERE[0], BOB)
    conversation = here.box.conversations[key]
    assert not conversation.is_waiting
    here.say(key, b"hello", START)
    assert conversation.is_waiting
    mail = here.make_mail(START)
    assert mail is not None
    assert conversation.is_waiting
    here.box.submitted(mail.post, START)
    assert not conversation.is_waiting
