"""Conversations against a model: whatever mail does, bytes arrive once, in order; and the price."""

from __future__ import annotations

import heapq
import itertools
import random
from typing import NamedTuple

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from mail._conversation import Conversation, Output
from mail._envelope import Frame, Place, encode, find_frames
from mail._incoming import Early
from mail._outgoing import Said
from mail._state import State
from mail._timers import Moment, Pace
from mail._tombstone import Tombstone

PLACES = {"alice": Place("alice@a.test", 49152), "bob": Place("bob@b.test", 7100)}
OTHER = {"alice": "bob", "bob": "alice"}
INCARNATIONS = {"alice": b"alice 01", "bob": b"bob   01"}
CONVERSATION = b"a conversation 1"
SECRET = b"agreed by telephone"
ROOM = 7_000_000


class Mail(NamedTuple):
    """A mail that is committed; who it is for, and what tells what became of it."""

    to: str
    handle: int
    data: bytes


class Host:
    """One side with its store: what is not committed is lost when it is killed."""

    def __init__(self, name: str, pace: Pace, at: Moment) -> None:
        self.name = name
        self.pace = pace
        self.live: Conversation | None = None
        self.tombstone: Tombstone | None = None
        self.state: State | None = None
        self.said_rows: list[Said] = []
        self.early_rows: list[Early] = []
        #: What was committed, and what would be if there was a commit now.
        self.inbox = self.heard = b""
        self.kept = self.said = b""
        self._made: list[Mail] = []
        if name == "alice":
            self.live = Conversation(
                CONVERSATION, PLACES["alice"], PLACES["bob"], INCARNATIONS["alice"], pace,
                is_initiator=True,
            )  # fmt: skip
            self.commit(at)

    def say(self, data: bytes, at: Moment) -> None:
        assert self.live is not None
        self.said += data[: self.live.say(data, at)]

    def take(self, data: bytes, at: Moment) -> None:
        for envelope in find_frames(data).envelopes:
            envelope.check_trust(SECRET)
            self._take_frame(envelope.frame, at)

    def _take_frame(self, frame: Frame, at: Moment) -> None:
        if self.tombstone is not None:
            self.tombstone, answer = self.tombstone.answer(frame, INCARNATIONS[self.name], at.utc)
            if answer is not None:
                self._made.append(Mail(OTHER[self.name], -1, encode(answer, SECRET)))
            return
        if self.live is None:
            self.live = Conversation.opened_by(frame, INCARNATIONS[self.name], self.pace, at.utc)
        if self.live is not None:
            self.heard += self.live.take(frame, at)

    def make_mail(self, at: Moment, room: int = ROOM) -> Output | None:
        if self.live is None:
            return None
        self.live.on_timer(at)
        output = self.live.take_output(at, room)
        if output is not None:
            data = b"".join(encode(frame, SECRET) for frame in output.frames)
            assert len(data) <= room or output.frames[0].kind != 1
            self._made.append(Mail(OTHER[self.name], output.handle, data))
        return output

    def commit(self, at: Moment) -> list[Mail]:
        """The mails that may leave now."""
        made, self._made = self._made, []
        if self.live is None:
            return made
        state, said, early = self.live.take_changes(at)
        self.state = state
        self.said_rows = [
            row for row in [*self.said_rows, *said] if row.start + len(row.body) > state.confirmed
        ]
        self.early_rows = sorted(
            row for row in [*self.early_rows, *early] if row.start >= state.received
        )
        self.inbox, self.kept = self.heard, self.said
        return made

    def kill(self, at: Moment) -> None:
        self._made = []
        self.heard, self.said = self.inbox, self.kept
        self.live = None
        if self.state is not None and self.tombstone is None:
            self.live = Conversation.restore(
                self.state, self.said_rows, self.early_rows, INCARNATIONS[self.name], self.pace, at
            )

    def bury(self) -> None:
        if self.live is not None and self.live.is_over:
            self.tombstone, self.live = self.live.tombstone(), None


class MailModel(RuleBasedStateMachine):
    """One conversation over a way that loses, doubles, delays, reorders, cuts and rewrites."""

    def __init__(self) -> None:
        super().__init__()
        self.at = Moment(50.0, 1_800_000_000.0)
        pace = Pace(expire_s=30 * 86400.0, window_bytes=2048)
        self.hosts = {name: Host(name, pace, self.at) for name in PLACES}
        self.unsent: list[Mail] = []
        self.travelling: list[Mail] = []
        self.gone: list[Mail] = []

    def _live(self, name: str) -> Conversation | None:
        return self.hosts[name].live

    # --- what the two sides do ------------------------------------------------------------

    @rule(name=st.sampled_from(sorted(PLACES)), data=st.binary(min_size=1, max_size=300))
    def somebody_says(self, name: str, data: bytes) -> None:
        if self._live(name) is not None:
            self.hosts[name].say(data, self.at)

    @rule(name=st.sampled_from(sorted(PLACES)), really=st.integers(0, 3))
    def somebody_ends(self, name: str, really: int) -> None:
        live = self._live(name)
        if live is not None and really == 3:
            live.say_end(self.at)

    @rule(name=st.sampled_from(sorted(PLACES)), room=st.sampled_from([650, 1200, ROOM]))
    def a_mail_is_made(self, name: str, room: int) -> None:
        self.hosts[name].make_mail(self.at, room)

    @rule(name=st.sampled_from(sorted(PLACES)))
    def somebody_commits(self, name: str) -> None:
        self.unsent += self.hosts[name].commit(self.at)

    @rule(name=st.sampled_from(sorted(PLACES)), has_sent=st.booleans())
    def somebody_is_killed(self, name: str, has_sent: bool) -> None:
        self.hosts[name].kill(self.at)
        if has_sent:
            # The mail system has taken them, and nobody is left to know it.
            self.travelling += [mail for mail in self.unsent if mail.to != name]
        self.unsent = [mail for mail in self.unsent if mail.to == name]

    @rule(name=st.sampled_from(sorted(PLACES)))
    def who_is_done_is_forgotten(self, name: str) -> None:
        self.unsent += self.hosts[name].commit(self.at)
        self.hosts[name].bury()

    # --- what the way does ------------------------------------------------------------------

    @precondition(lambda self: self.unsent)
    @rule(
        data=st.data(),
        fate=st.sampled_from(["submitted", "submitted", "submitted", "lost", "refused", "both"]),
    )
    def a_mail_is_submitted(self, data: st.DataObject, fate: str) -> None:
        mail = self.unsent.pop(data.draw(st.integers(0, len(self.unsent) - 1)))
        live = self._live(OTHER[mail.to])
        if live is not None and fate in {"submitted", "lost"}:
            live.submitted(mail.handle, self.at)
        elif live is not None:
            live.failed(mail.handle, "451 later", self.at, is_final=False)
        if fate in {"submitted", "both"}:
            self.travelling.append(mail)
        elif fate == "lost":
            self.gone.append(mail)

    @precondition(lambda self: self.travelling)
    @rule(data=st.data(), again=st.booleans(), footer=st.binary(max_size=40))
    def a_mail_arrives(self, data: st.DataObject, again: bool, footer: bytes) -> None:
        index = data.draw(st.integers(0, len(self.travelling) - 1))
        mail = self.travelling[index] if again else self.travelling.pop(index)
        self.hosts[mail.to].take(footer + mail.data + b"-- \nchecked by nobody", self.at)

    @precondition(lambda self: self.travelling)
    @rule(data=st.data(), keep=st.floats(0, 1), flip=st.booleans())
    def a_mail_arrives_damaged(self, data: st.DataObject, keep: float, flip: bool) -> None:
        mail = self.travelling.pop(data.draw(st.integers(0, len(self.travelling) - 1)))
        bad = bytearray(mail.data)
        index = min(int(keep * len(bad)), len(bad) - 1)
        if flip:
            bad[index] ^= 1 << data.draw(st.integers(0, 7))
        else:
            del bad[index:]
        self.hosts[mail.to].take(bytes(bad), self.at)

    @precondition(lambda self: self.gone)
    @rule()
    def a_mail_comes_back(self) -> None:
        mail = self.gone.pop()
        live = self._live(OTHER[mail.to])
        if live is not None:
            live.bounced(mail.handle, "4.4.7", "expired in a queue", self.at, is_final=False)

    @rule(time_s=st.sampled_from([1.0, 31.0, 700.0, 4000.0]))
    def time_passes(self, time_s: float) -> None:
        self.at = Moment(self.at.now + time_s, self.at.utc + time_s)

    @rule()
    def all_goes_well_for_a_while(self) -> None:
        for _ in range(2):
            self._settle()

    def _settle(self) -> None:
        """Everything that is due is made, committed, submitted and arrives."""
        for name, host in self.hosts.items():
            host.make_mail(self.at)
            for mail in host.commit(self.at):
                live = self._live(name)
                if live is not None:
                    live.submitted(mail.handle, self.at)
                self.hosts[mail.to].take(mail.data, self.at)
        for host in self.hosts.values():
            assert host.commit(self.at) == [] or host.tombstone is not None

    # --- the ends -----------------------------------------------------------------------------

    @invariant()
    def what_is_heard_is_the_beginning_of_what_was_said(self) -> None:
        alice, bob = self.hosts["alice"], self.hosts["bob"]
        for speaker, listener in ((alice, bob), (bob, alice)):
            assert speaker.kept.startswith(listener.heard)
            live = listener.live
            assert live is None or live.ending is None
            if live is not None and live.has_end:
                assert listener.heard == speaker.kept

    def teardown(self) -> None:
        """On a good way everything arrives, both know the end, and nobody speaks any more."""
        for mail in self.unsent:
            sender = self._live(OTHER[mail.to])
            if sender is not None:
                sender.failed(mail.handle, "451 later", self.at, is_final=False)
        for _ in range(60):
            self._settle()
            for live in (self._live("alice"), self._live("bob")):
                if live is not None and not live.unconfirmed:
                    live.say_end(self.at)
            for host in self.hosts.values():
                host.bury()
            self.time_passes(1800.0)
        alice_host, bob_host = self.hosts["alice"], self.hosts["bob"]
        assert alice_host.inbox == bob_host.said
        assert bob_host.inbox == alice_host.said
        for host in self.hosts.values():
            assert host.tombstone is not None
            assert host.tombstone.have == len(host.inbox) + 1
        for mail in self.travelling:
            self.hosts[mail.to].take(mail.data, self.at)
        assert alice_host.live is None
        assert bob_host.live is None


TestMail = MailModel.TestCase
TestMail.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)


# --- the price, in mails --------------------------------------------------------------------------


class Weather(NamedTuple):
    """What the way does to mails; delays in seconds."""

    delay_s: tuple[float, float] = (3.0, 3.0)
    loss: float = 0.0
    double: float = 0.0


class Sky:
    """Two hosts in simulated time, each with a shell that gathers and has a mail a second."""

    GATHER_S = 0.5
    MAIL_EACH_S = 1.0

    def __init__(self, pace: Pace, weather: Weather) -> None:
        self.at = Moment(0.0, 1_800_000_000.0)
        self.hosts = {name: Host(name, pace, self.at) for name in PLACES}
        self.mails = {"alice": 0, "bob": 0}
        self._weather = weather
        self._random = random.Random(7)
        self._counter = itertools.count()
        self._events: list[tuple[float, int, str, bytes | None]] = []
        self._woken_at = dict.fromkeys(PLACES, float("inf"))
        self._free_at = dict.fromkeys(PLACES, 0.0)

    def _plan(self, when: float, name: str, data: bytes | None) -> None:
        heapq.heappush(self._events, (when, next(self._counter), name, data))

    def look(self, name: str) -> None:
        """Plan the next mail of a host, after anything has happened to it."""
        live = self.hosts[name].live
        due = live.next_timer(self.at) if live is not None else None
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
        host = self.hosts[name]
        if data is not None:
            host.take(data, self.at)
            host.commit(self.at)
        elif now >= self._woken_at[name]:
            self._woken_at[name] = float("inf")
            self._send(host)
        self.look(name)
        return name

    def _send(self, host: Host) -> None:
        host.make_mail(self.at)
        for mail in host.commit(self.at):
            self.mails[host.name] += 1
            self._free_at[host.name] = self.at.now + self.MAIL_EACH_S
            assert host.live is not None
            host.live.submitted(mail.handle, self.at)
            draw = self._random.random
            copies = (draw() >= self._weather.loss) + (draw() < self._weather.double)
            for _ in range(copies):
                delay_s = self._random.uniform(*self._weather.delay_s)
                self._plan(self.at.now + delay_s, mail.to, mail.data)

    def say(self, name: str, data: bytes) -> None:
        self.hosts[name].say(data, self.at)
        self.look(name)


def test_a_ping_pong_takes_at_most_1_1_mails_per_message() -> None:
    sky = Sky(Pace(), Weather())
    sky.say("alice", bytes(64))
    while sum(len(host.said) for host in sky.hosts.values()) < 100 * 64:
        name = sky.step()
        assert name is not None
        host = sky.hosts[name]
        # Who began goes on when it has an answer to everything, the other one answers.
        if len(host.heard) >= len(host.said) + 64 * (name == "bob"):
            sky.say(name, bytes(64))
    while sky.step() is not None:
        pass
    assert sky.hosts["bob"].inbox == sky.hosts["alice"].said == bytes(64 * 50)
    assert sky.hosts["alice"].inbox == sky.hosts["bob"].said == bytes(64 * 50)
    assert sum(sky.mails.values()) <= 110


def test_a_flood_carries_at_least_20_messages_per_mail() -> None:
    sky = Sky(Pace(), Weather())
    for _ in range(2000):
        # A message every 50 ms; what is due meanwhile happens meanwhile.
        when = sky.at.now + 0.05
        while sky._events and sky._events[0][0] <= when:
            sky.step()
        sky.at = Moment(when, 1_800_000_000.0 + when)
        sky.say("alice", bytes(64))
    while sky.step() is not None:
        pass
    assert sky.hosts["bob"].inbox == bytes(64 * 2000)
    assert sum(sky.mails.values()) <= 2000 / 20


@pytest.mark.parametrize(
    "weather",
    [
        Weather((1.0, 60.0), loss=0.2),
        Weather((1.0, 60.0), double=0.3),
        Weather((1.0, 60.0), loss=0.2, double=0.2),
    ],
    ids=["loss", "doubles", "both"],
)
def test_a_thousand_messages_each_way_arrive_once_in_order(weather: Weather) -> None:
    sky = Sky(Pace(rto_min_s=120.0, ack_delay_s=5.0), weather)
    said = {
        name: b"".join(b"%s %04d;" % (name.encode(), n) for n in range(1000)) for name in PLACES
    }
    sky.say("alice", said["alice"][:12])
    rest = {"alice": said["alice"][12:], "bob": said["bob"]}
    while (name := sky.step()) is not None:
        if sky.hosts[name].live is not None and rest[name]:
            sky.say(name, rest[name][:100])
            rest[name] = rest[name][100:]
    assert sky.hosts["bob"].inbox == said["alice"]
    assert sky.hosts["alice"].inbox == said["bob"]
