"""Mailboxes against a model: whatever mail does, all conversations arrive; and the price."""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable
from typing import NamedTuple

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from mailbox_kit import Mail, Office, Side, settle

from mail._envelope import Kind, Place, find_frames
from mail._mailbox import ROOM_BYTES, Key
from mail._timers import Moment, Pace

ALICE, BOB = "alice@a.test", "bob@b.test"
ROUTES = [(ALICE, BOB), (BOB, ALICE), (ALICE, ALICE)]
CONVERSATIONS = 5


class MailboxModel(RuleBasedStateMachine):
    """Conversations between two mailboxes, and in one of them, over a way that keeps no promise."""

    def __init__(self) -> None:
        super().__init__()
        self.at = Moment(50.0, 1_800_000_000.0)
        pace = Pace(expire_s=30 * 86400.0, window_bytes=2048)
        self.offices = {name: Office(name, self.at, pace) for name in (ALICE, BOB)}
        #: Who began it, and with whom.
        self.routes: dict[bytes, tuple[str, str]] = {}
        self.unsent: list[Mail] = []
        self.travelling: list[Mail] = []
        self.gone: list[Mail] = []

    def _ends(self) -> list[tuple[Office, Key]]:
        """All sides at which a program is."""
        return [
            (office, key) for office in self.offices.values() for key in office.box.conversations
        ]

    # --- what the programs do ---------------------------------------------------------------

    @precondition(lambda self: len(self.routes) < CONVERSATIONS)
    @rule(route=st.sampled_from(ROUTES), data=st.binary(max_size=300))
    def somebody_opens(self, route: tuple[str, str], data: bytes) -> None:
        number = b"conversation %03d" % len(self.routes)
        self.routes[number] = route
        key = self.offices[route[0]].open(number, Place(route[1], 7100))
        self.offices[route[0]].say(key, data, self.at)

    @precondition(lambda self: self._ends())
    @rule(data=st.data(), said=st.binary(min_size=1, max_size=300))
    def somebody_says(self, data: st.DataObject, said: bytes) -> None:
        office, key = data.draw(st.sampled_from(self._ends()))
        office.say(key, said, self.at)

    @precondition(lambda self: self._ends())
    @rule(data=st.data(), really=st.integers(0, 3), is_patient=st.booleans())
    def somebody_ends(self, data: st.DataObject, really: int, is_patient: bool) -> None:
        office, key = data.draw(st.sampled_from(self._ends()))
        if really == 3:
            office.end(key, self.at)
            if not is_patient:
                office.release(key)

    @rule(name=st.sampled_from([ALICE, BOB]), room=st.sampled_from([ROOM_BYTES, 1_000_000]))
    def a_mail_is_made(self, name: str, room: int) -> None:
        self.offices[name].make_mail(self.at, room)

    @rule(name=st.sampled_from([ALICE, BOB]))
    def somebody_commits(self, name: str) -> None:
        self.unsent += self.offices[name].commit(self.at)

    @rule(name=st.sampled_from([ALICE, BOB]), has_sent=st.booleans())
    def somebody_is_killed(self, name: str, has_sent: bool) -> None:
        self.offices[name].kill(self.at)
        if has_sent:
            # The mail system has taken them, and nobody is left to know it.
            self.travelling += [mail for mail in self.unsent if mail.sender == name]
        self.unsent = [mail for mail in self.unsent if mail.sender != name]

    # --- what the way does ------------------------------------------------------------------

    @precondition(lambda self: self.unsent)
    @rule(
        data=st.data(),
        fate=st.sampled_from(["submitted", "submitted", "submitted", "lost", "refused", "both"]),
    )
    def a_mail_is_submitted(self, data: st.DataObject, fate: str) -> None:
        mail = self.unsent.pop(data.draw(st.integers(0, len(self.unsent) - 1)))
        box = self.offices[mail.sender].box
        if fate in {"submitted", "lost"}:
            box.submitted(mail.post, self.at)
        else:
            box.failed(mail.post, "451 later", self.at, is_final=False)
        if fate in {"submitted", "both"}:
            self.travelling.append(mail)
        elif fate == "lost":
            self.gone.append(mail)

    @precondition(lambda self: self.travelling)
    @rule(data=st.data(), again=st.booleans(), cut=st.floats(0, 3))
    def a_mail_arrives(self, data: st.DataObject, again: bool, cut: float) -> None:
        index = data.draw(st.integers(0, len(self.travelling) - 1))
        mail = self.travelling[index] if again else self.travelling.pop(index)
        length = int(min(cut, 1.0) * len(mail.data))
        self.offices[mail.post.recipient].take(b"> " + mail.data[:length] + b"-- \n", self.at)

    @precondition(lambda self: self.gone)
    @rule()
    def a_mail_comes_back(self) -> None:
        mail = self.gone.pop()
        box = self.offices[mail.sender].box
        box.bounced(mail.post, "4.4.7", "expired in a queue", self.at, is_final=False)

    @rule(time_s=st.sampled_from([1.0, 31.0, 700.0, 4000.0]))
    def time_passes(self, time_s: float) -> None:
        self.at = Moment(self.at.now + time_s, self.at.utc + time_s)

    @rule()
    def all_goes_well_for_a_while(self) -> None:
        self._settle()

    def _settle(self) -> list[Mail]:
        for office in self.offices.values():
            self.unsent += office.commit(self.at)
        return settle(self.offices.values(), self.at)

    # --- the ends -----------------------------------------------------------------------------

    def _sides(self, number: bytes) -> list[tuple[Office, Key]]:
        initiator, responder = self.routes[number]
        return [
            (self.offices[initiator], (number, True)), (self.offices[responder], (number, False))
        ]  # fmt: skip

    @invariant()
    def what_is_heard_is_the_beginning_of_what_was_said(self) -> None:
        for number in self.routes:
            here, there = self._sides(number)
            for (speaker, one), (listener, other) in ((here, there), (there, here)):
                said = speaker.kept_sides.get(one, Side())
                heard = listener.sides.get(other, Side()).heard
                assert said.said.startswith(heard)
                live = listener.live(other)
                assert live is None or live.ending is None
                if live is not None and live.has_end:
                    assert heard == said.said

    @invariant()
    def no_number_of_a_mail_is_used_twice(self) -> None:
        for office in self.offices.values():
            assert office.numbers == sorted(set(office.numbers))

    def teardown(self) -> None:
        """On a good way everything arrives, both know the end, and nobody speaks any more."""
        for office in self.offices.values():
            self.unsent += office.commit(self.at)
        for mail in self.unsent:
            self.offices[mail.sender].box.failed(mail.post, "451 later", self.at, is_final=False)
        for _ in range(60):
            self._settle()
            for office, key in self._ends():
                office.end(key, self.at)
                office.release(key)
            self.time_passes(1800.0)
        self._check_all_is_over()
        # However many doubles come now, each asks for one word, and no word for another.
        doubles = self.travelling * 2
        for mail in doubles:
            self.offices[mail.post.recipient].take(mail.data, self.at)
        asked = sum(
            envelope.frame.kind is Kind.DATA
            for mail in doubles
            for envelope in find_frames(mail.data).envelopes
        )
        said = []
        for _ in range(20):
            said += self._settle()
            self.time_passes(31.0)
        assert len(said) <= asked
        assert all(mail.post.is_reply for mail in said)
        assert all(office.box.next_timer(self.at) is None for office in self.offices.values())
        self._check_all_is_over()

    def _check_all_is_over(self) -> None:
        assert self._ends() == []
        for number in self.routes:
            here, there = self._sides(number)
            for (speaker, one), (listener, other) in ((here, there), (there, here)):
                said = speaker.kept_sides.get(one, Side()).said
                assert listener.kept_sides.get(other, Side()).heard == said
                # Whose opening was lost with the process has nothing to remember.
                if one in speaker.kept_sides or other in listener.kept_sides:
                    assert listener.tombstones[other].have == len(said) + 1
        for office in self.offices.values():
            assert office.rows == {}
            assert office.box.refused == 0


TestMailbox = MailboxModel.TestCase
TestMailbox.settings = settings(max_examples=120, stateful_step_count=60, deadline=None)


# --- the price, in mails --------------------------------------------------------------------------


class Weather(NamedTuple):
    """What the way does to mails; and how often a side is killed, per event."""

    delay_s: tuple[float, float] = (3.0, 3.0)
    loss: float = 0.0
    double: float = 0.0
    kill: float = 0.0


class Sky:
    """Two mailboxes in simulated time, each with a shell that gathers and has a mail a second."""

    GATHER_S = 0.5
    MAIL_EACH_S = 1.0

    def __init__(self, pace: Pace, weather: Weather) -> None:
        self.at = Moment(0.0, 1_800_000_000.0)
        self.offices = {name: Office(name, self.at, pace) for name in (ALICE, BOB)}
        self.mails = 0
        self._weather = weather
        self._random = random.Random(7)
        self._counter = itertools.count()
        self._events: list[tuple[float, int, str, bytes | None]] = []
        self._woken_at = dict.fromkeys(self.offices, float("inf"))
        self._free_at = dict.fromkeys(self.offices, 0.0)

    def _plan(self, when: float, name: str, data: bytes | None) -> None:
        heapq.heappush(self._events, (when, next(self._counter), name, data))

    def look(self, name: str) -> None:
        """Plan the next mail of a mailbox, after anything has happened to it."""
        due = self.offices[name].box.next_timer(self.at)
        if due is not None:
            when = max(due, self._free_at[name], self.at.now) + self.GATHER_S
            if when < self._woken_at[name]:
                self._woken_at[name] = when
                self._plan(when, name, None)

    def step(self) -> str | None:
        """The next event; whom it happened to, None: nothing happens any more."""
        if not self._events:
            return None
        now, _, name, data = heapq.heappop(self._events)
        self.at = Moment(now, 1_800_000_000.0 + now)
        office = self.offices[name]
        if self._random.random() < self._weather.kill:
            office.kill(self.at)
        if data is not None:
            office.take(data, self.at)
            office.commit(self.at)
        elif now >= self._woken_at[name]:
            self._woken_at[name] = float("inf")
            office.make_mail(self.at)
            self._send(office)
        self.look(name)
        return name

    def _send(self, office: Office) -> None:
        for mail in office.commit(self.at):
            self.mails += 1
            self._free_at[mail.sender] = self.at.now + self.MAIL_EACH_S
            office.box.submitted(mail.post, self.at)
            draw = self._random.random
            copies = (draw() >= self._weather.loss) + (draw() < self._weather.double)
            for _ in range(copies):
                delay_s = self._random.uniform(*self._weather.delay_s)
                self._plan(self.at.now + delay_s, mail.post.recipient, mail.data)

    def open(self, number: int) -> Key:
        return self.offices[ALICE].open(b"conversation %03d" % number, Place(BOB, 7100))

    def say(self, name: str, key: Key, data: bytes) -> None:
        self.offices[name].say(key, data, self.at)
        self.offices[name].commit(self.at)
        self.look(name)

    def run(self, react: Callable[[str], None] = lambda name: None) -> None:
        """Until nothing happens any more."""
        while (name := self.step()) is not None:
            react(name)


@pytest.mark.parametrize("conversations", [1, 5])
def test_a_ping_pong_takes_at_most_1_1_mails_per_message(conversations: int) -> None:
    sky = Sky(Pace(), Weather())

    def react(name: str) -> None:
        """Alice begins, and goes on when she has an answer to everything; Bob answers."""
        for key, side in list(sky.offices[name].sides.items()):
            if len(side.heard) >= len(side.said) + 64 * (name == BOB) and len(side.said) < 50 * 64:
                sky.say(name, key, bytes(64))

    for number in range(conversations):
        sky.open(number)
    react(ALICE)
    sky.run(react)
    for office in sky.offices.values():
        assert len(office.kept_sides) == conversations
        assert {side.said for side in office.kept_sides.values()} == {bytes(64 * 50)}
        assert {side.heard for side in office.kept_sides.values()} == {bytes(64 * 50)}
    # What several conversations say to one peer at a time goes into one mail.
    assert sky.mails <= 110


@pytest.mark.parametrize("conversations", [1, 5])
def test_a_flood_carries_at_least_20_messages_per_mail(conversations: int) -> None:
    sky = Sky(Pace(), Weather())
    keys = [sky.open(number) for number in range(conversations)]
    for count in range(1000):
        # A message every 50 ms; what is due meanwhile happens meanwhile.
        when = sky.at.now + 0.05
        while sky._events and sky._events[0][0] <= when:
            sky.step()
        sky.at = Moment(when, 1_800_000_000.0 + when)
        sky.say(ALICE, keys[count % conversations], bytes(64))
    sky.run()
    heard = [side.heard for side in sky.offices[BOB].kept_sides.values()]
    assert heard == [bytes(64 * 1000 // conversations)] * conversations
    assert sky.mails <= 1000 / 20


@pytest.mark.parametrize(
    "weather",
    [
        Weather((1.0, 60.0), loss=0.2, double=0.2),
        Weather((1.0, 60.0), loss=0.2, double=0.2, kill=0.05),
    ],
    ids=["loss and doubles", "and kills"],
)
def test_a_thousand_messages_each_way_arrive_once_in_order(weather: Weather) -> None:
    sky = Sky(Pace(rto_min_s=120.0, ack_delay_s=5.0), weather)
    keys = [sky.open(number) for number in range(4)]
    said: dict[tuple[str, Key], bytes] = {}
    for key in keys:
        for name, end in ((ALICE, key), (BOB, (key[0], False))):
            said[name, end] = b"".join(b"%s %04d;" % (key[0], count) for count in range(250))
    sky.say(ALICE, keys[0], b"conv")

    def react(name: str) -> None:
        for key, side in list(sky.offices[name].sides.items()):
            rest = said[name, key][len(side.said) :]
            if rest:
                sky.say(name, key, rest[:22])

    sky.run(react)
    for key in keys:
        other = key[0], False
        assert sky.offices[BOB].kept_sides[other].heard == said[ALICE, key]
        assert sky.offices[ALICE].kept_sides[key].heard == said[BOB, other]
