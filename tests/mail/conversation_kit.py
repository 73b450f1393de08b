"""Both sides of a conversation over mail, and what each of them says."""

from __future__ import annotations

from mail._conversation import Conversation
from mail._envelope import Frame, Place
from mail._timers import Moment, Pace

__all__ = [
    "ALICE", "BOB", "DAY", "PACE", "ROOM", "START", "answering", "initiator", "later", "pair",
    "reborn", "said", "spoken",
]  # fmt: skip

ALICE = Place("alice@a.test", 49152)
BOB = Place("bob@b.test", 7100)
PACE = Pace()
START = Moment(1000.0, 1_800_000_000.0)
ROOM = 1_000_000
DAY = 86400.0


def later(seconds: float) -> Moment:
    return Moment(START.now + seconds, START.utc + seconds)


def initiator(pace: Pace = PACE) -> Conversation:
    return Conversation(b"c" * 16, ALICE, BOB, b"alice 01", pace, is_initiator=True)


def spoken(conversation: Conversation, at: Moment = START, room: int = ROOM) -> list[Frame]:
    """What goes into a mail now; it is submitted at once."""
    output = conversation.take_output(at, room)
    if output is None:
        return []
    conversation.submitted(output.handle, at)
    return output.frames


def said(conversation: Conversation, data: bytes, at: Moment = START) -> Frame:
    conversation.say(data, at)
    (frame,) = spoken(conversation, at)
    return frame


def answering(frame: Frame, at: Moment = START, pace: Pace = PACE) -> Conversation:
    """The responder, who has taken the first frame."""
    bob = Conversation.opened_by(frame, b"bob   01", pace, at.utc)
    assert bob is not None
    bob.take(frame, at)
    return bob


def pair(at: Moment = START) -> tuple[Conversation, Conversation]:
    """Two sides that have heard of each other; nothing is unconfirmed, no word is owed."""
    alice = initiator()
    bob = answering(said(alice, b"hi", at), at)
    alice.take(said(bob, b"ho", at), at)
    bob.take(said(alice, b".", at), at)
    alice.take(said(bob, b".", at), at)
    bob.take(spoken(alice, Moment(at.now + 30, at.utc + 30))[0], at)
    assert alice.next_timer(at) is bob.next_timer(at) is None
    return alice, bob


def reborn(old: Conversation, at: Moment, pace: Pace = PACE) -> Conversation:
    """In a new process, from everything that was ever committed."""
    state, said_rows, early_rows = old.take_changes(at)
    return Conversation.restore(state, said_rows, sorted(early_rows), b"alice 01", pace, at)
