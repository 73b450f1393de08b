"""A mailbox with its programs and its store, and a way that carries mails between some of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from conversation_kit import ALICE, BOB, PACE, START, later

from compoint.core.codes import Code, decode_reason
from mail._conversation import Conversation
from mail._envelope import Flag, Frame, Kind, Place, encode, find_frames
from mail._incoming import Early
from mail._mailbox import ROOM_BYTES, Bounds, Key, Mailbox, Post
from mail._outgoing import Said
from mail._state import State
from mail._timers import Moment, Pace
from mail._tombstone import Tombstone

__all__ = [
    "HERE", "NUMBER", "THERE", "Mail", "Office", "Side", "alice", "bob", "ended", "leaving",
    "reason", "saying", "sent", "settle", "stranger", "talking",
]  # fmt: skip

SECRET = b"agreed by telephone"
NUMBER = b"conversation 001"
HERE: Key = (NUMBER, True)
THERE: Key = (NUMBER, False)


class Side(NamedTuple):
    """What the program at one side of a conversation has said and heard."""

    said: bytes = b""
    heard: bytes = b""
    is_ended: bool = False
    is_released: bool = False


class Mail(NamedTuple):
    """A mail that is committed, and whose it is."""

    sender: str
    post: Post
    data: bytes


class Office:
    """One mailbox; what is not committed is lost when it is killed."""

    def __init__(
        self, mailbox: str, at: Moment, pace: Pace | None = None, bounds: Bounds | None = None
    ) -> None:
        self.mailbox = mailbox
        self._incarnation = mailbox.encode()[:8].ljust(8)
        self._pace = pace or Pace()
        self._bounds = bounds or Bounds()
        self.sides: dict[Key, Side] = {}
        #: The store.
        self.rows: dict[Key, tuple[State, list[Said], list[Early]]] = {}
        self.tombstones: dict[Key, Tombstone] = {}
        self.kept_sides: dict[Key, Side] = {}
        self._next_post = 1
        self._made: list[Mail] = []
        self.numbers: list[int] = []
        self.kill(at)

    def kill(self, at: Moment) -> None:
        """And begin anew with what was committed."""
        self._made = []
        self.sides = dict(self.kept_sides)
        self.box = Mailbox(
            self.mailbox, self._incarnation, self._pace, self._bounds, self._next_post
        )
        self.box.restore(self.rows.values(), self.tombstones.values(), at)
        for key, side in self.sides.items():
            if side.is_released:
                self.box.release(key)

    def commit(self, at: Moment) -> list[Mail]:
        """The mails that may leave now."""
        changes = self.box.take_changes(at)
        for key in changes.gone:
            self.rows.pop(key, None)
        for state, said, early in changes.changes:
            key = state.conversation, state.is_initiator
            _, old_said, old_early = self.rows.get(key, (state, [], []))
            self.rows[key] = (
                state,
                [row for row in old_said + said if row.start + len(row.body) > state.confirmed],
                sorted(row for row in old_early + early if row.start >= state.received),
            )
        for stone in changes.tombstones:
            self.tombstones[stone.conversation, stone.is_initiator] = stone
        for key in changes.forgotten:
            self.tombstones.pop(key, None)
        self._next_post = changes.next_post
        self.kept_sides = dict(self.sides)
        made, self._made = self._made, []
        self.numbers += [mail.post.number for mail in made]
        return made

    # --- programs -----------------------------------------------------------------------------

    def open(self, conversation: bytes, theirs: Place) -> Key:
        self.box.open(conversation, 49152, theirs)
        self.sides[conversation, True] = Side()
        return conversation, True

    def live(self, key: Key) -> Conversation | None:
        return self.box.conversations.get(key)

    def say(self, key: Key, data: bytes, at: Moment) -> None:
        count = self.box.conversations[key].say(data, at)
        self.box.touch(key)
        side = self.sides[key]
        self.sides[key] = side._replace(said=side.said + data[:count])

    def end(self, key: Key, at: Moment) -> None:
        if key in self.box.conversations:
            self.box.conversations[key].say_end(at)
            self.box.touch(key)
            self.sides[key] = self.sides[key]._replace(is_ended=True)

    def release(self, key: Key) -> None:
        self.box.release(key)
        self.sides[key] = self.sides[key]._replace(is_released=True)

    # --- mails --------------------------------------------------------------------------------

    def make_mail(self, at: Moment, room: int = 1_000_000) -> Mail | None:
        self.box.on_timer(at)
        post = self.box.take_post(at, room)
        if post is None:
            return None
        data = b"".join(encode(frame, SECRET) for frame in post.frames)
        assert room >= ROOM_BYTES
        assert len(data) <= room
        assert {frame.receiver.mailbox for frame in post.frames} == {post.recipient}
        mail = Mail(self.mailbox, post, data)
        self._made.append(mail)
        return mail

    def take(self, data: bytes, at: Moment) -> None:
        for envelope in find_frames(data).envelopes:
            envelope.check_trust(SECRET)
            self.take_frame(envelope.frame, at)

    def take_frame(self, frame: Frame, at: Moment) -> None:
        taken = self.box.take(frame, at)
        if taken is not None:
            assert taken.is_new == (taken.key not in self.sides)
            side = self.sides.get(taken.key, Side())
            assert taken.start == len(side.heard)
            self.sides[taken.key] = side._replace(heard=side.heard + taken.data)


def settle(offices: Iterable[Office], at: Moment, room: int = 1_000_000) -> list[Mail]:
    """Everything that is due is made, committed, submitted and arrives, until nothing is;
    which mails that were."""
    by_mailbox = {office.mailbox: office for office in offices}
    sent: list[Mail] = []
    while True:
        made = [mail for one in by_mailbox.values() if (mail := one.make_mail(at, room))]
        if not made:
            break
        for office in by_mailbox.values():
            for mail in office.commit(at):
                office.box.submitted(mail.post, at)
                by_mailbox[mail.post.recipient].take(mail.data, at)
                sent.append(mail)
        assert len(sent) < 1000, "mails without end"
    for office in by_mailbox.values():
        assert office.commit(at) == []
    return sent


# --- small plays -----------------------------------------------------------------------------


def alice(at: Moment = START, bounds: Bounds | None = None) -> Office:
    return Office(ALICE.mailbox, at, bounds=bounds)


def bob(at: Moment = START, bounds: Bounds | None = None) -> Office:
    return Office(BOB.mailbox, at, bounds=bounds)


def saying(office: Office, data: bytes, at: Moment = START, number: int = 1) -> Frame:
    """The first frame of a new conversation with bob, which is in no mail that arrives."""
    key = office.open(b"conversation %03d" % number, BOB)
    office.say(key, data, at)
    (frame,) = sent(office, at).post.frames
    return frame


def sent(office: Office, at: Moment) -> Mail:
    """The one mail that is due; it is submitted."""
    assert office.make_mail(at)
    (mail,) = office.commit(at)
    office.box.submitted(mail.post, at)
    return mail


def talking(at: Moment = START) -> tuple[Office, Office]:
    """A conversation that both have heard of; nothing is due."""
    here, there = alice(at), bob(at)
    here.say(here.open(NUMBER, BOB), b"hi", at)
    settle([here, there], at)
    settle([here, there], Moment(at.now + 30, at.utc + 30))
    assert there.sides[THERE].heard == b"hi"
    assert here.box.next_timer(at) is there.box.next_timer(at) is None
    return here, there


def stranger(number: int = 9, *, at: Moment = START, who: Place = ALICE) -> Frame:
    """Of a conversation that is not known here and that it does not open."""
    return Frame(
        Kind.DATA, Flag(0), b"unheard-of   %03d" % number, b"alice 01", who, BOB, 5, 0, 1 << 20,
        int(at.utc), int(at.utc + PACE.expire_s), (), b"...",
    )  # fmt: skip


def reason(frame: Frame) -> tuple[Code, str]:
    assert frame.kind is Kind.RESET
    return decode_reason(frame.body)[:2]


def ended(*, release: bool) -> tuple[Office, Office]:
    here, there = talking()
    for office, key in ((here, HERE), (there, THERE)):
        office.end(key, START)
        if release:
            office.release(key)
    settle([here, there], START)
    settle([here, there], later(30))
    return here, there


def leaving() -> tuple[Office, Office]:
    """One has said all and gone, the other has heard it and is silent."""
    here, there = talking()
    here.end(HERE, START)
    here.release(HERE)
    settle([here, there], START)
    settle([here, there], later(30))
    return here, there
