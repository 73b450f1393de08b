"""Turns against a model: whatever happens to requests and answers, bytes arrive once, in order."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from compoint.core.turns import Turn, TurnReader
from compoint.core.turns_initiator import InitiatorTurns, Kind, Plan, Way
from compoint.core.turns_responder import ResponderTurns

BYTES = st.binary(min_size=1, max_size=300)


@dataclass(eq=False)
class Request:
    """A request under way: what it says may still be travelling, and so may its answer."""

    plan: Plan
    #: Turns that have not reached the responder; and those that have not reached the initiator.
    up: list[Turn]
    down: list[Turn] = field(default_factory=list)
    is_asked: bool = False
    is_answered: bool = False
    is_dead: bool = False


class TurnsModel(RuleBasedStateMachine):
    """One session over a way that loses, repeats and delays requests and answers."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 100.0
        self.way = Way()
        self.initiator = InitiatorTurns(self.way, self.now)
        self.responder: ResponderTurns[Request] = ResponderTurns()
        self.requests: list[Request] = []
        #: Copies that come again, late.
        self.zombies: list[tuple[Kind, Turn]] = []
        self.said = {"up": b"", "down": b""}
        self.heard = {"up": b"", "down": b""}

    # --- what the two sides do ------------------------------------------------------------

    @rule(data=BYTES)
    def the_initiator_says(self, data: bytes) -> None:
        if not self.initiator.is_ended and self.initiator.room >= len(data):
            self.initiator.append(data)
            self.said["up"] += data

    @rule(data=BYTES)
    def the_responder_says(self, data: bytes) -> None:
        if not self.responder.is_ended and self.responder.room >= len(data):
            self.responder.say(data)
            self.said["down"] += data
            self._carry_replies()

    @rule(wanted=st.booleans())
    def the_initiator_listens(self, wanted: bool) -> None:
        self.initiator.is_wanted = wanted

    @rule()
    def requests_are_made(self) -> None:
        while (plan := self.initiator.next_plan(self.now)) is not None:
            assert not any(
                one.plan.kind is plan.kind and self.initiator.is_under_way(one.plan)
                for one in self.requests
            )
            self.requests.append(Request(plan, [plan.turn]))

    @rule()
    def the_upstream_goes_on(self) -> None:
        for one in self.requests:
            if one.plan.kind is Kind.UP and self.initiator.is_under_way(one.plan):
                while turn := self.initiator.next_up(self.now):
                    one.up.append(turn)

    # --- what the way does ------------------------------------------------------------------

    def _pick(self, data: st.DataObject) -> Request:
        return data.draw(st.sampled_from(self.requests))

    @precondition(lambda self: self.requests)
    @rule(data=st.data())
    def a_request_arrives(self, data: st.DataObject) -> None:
        one = self._pick(data)
        turns, one.up = one.up, []
        for turn in turns:
            self._deliver(one, turn)
        self._carry_replies()

    def _deliver(self, one: Request, turn: Turn) -> None:
        self.zombies.append((one.plan.kind, turn))
        self.heard["up"] += self.responder.hear(turn)
        if one.is_asked:
            return
        one.is_asked = True
        self._ask(one, one.plan.kind, turn)

    def _ask(self, token: Request, kind: Kind, turn: Turn) -> None:
        if kind is Kind.POLL:
            self.responder.wait(token, turn.have)
        elif kind is Kind.DOWN:
            self.responder.open_stream(token, turn.have)
        elif kind is Kind.WRITE:
            self.responder.answer_write(token)

    def _carry_replies(self) -> None:
        while replies := self.responder.take_replies():
            for token, turn, is_last in replies:
                token.is_answered |= is_last
                if turn is not None:
                    token.down.append(turn)
            if self.responder.has_more:
                self.responder.set_full(is_full=False)

    @precondition(lambda self: self.zombies)
    @rule(data=st.data())
    def a_request_comes_again(self, data: st.DataObject) -> None:
        kind, turn = data.draw(st.sampled_from(self.zombies[-20:]))
        self.heard["up"] += self.responder.hear(turn)
        lost = Request(Plan(kind, turn, 1.0, opens=False), [], is_asked=True, is_dead=True)
        self._ask(lost, kind, turn)
        self._carry_replies()

    @precondition(lambda self: self.requests)
    @rule(data=st.data())
    def an_answer_arrives(self, data: st.DataObject) -> None:
        one = self._pick(data)
        kind = one.plan.kind
        turns, one.down = one.down, []
        if kind is Kind.DOWN:
            for turn in turns:
                if self.initiator.is_under_way(one.plan):
                    self.heard["down"] += self.initiator.streamed(turn, self.now)
            if one.is_answered:
                self.requests.remove(one)
                if self.initiator.is_under_way(one.plan):
                    self.initiator.stream_ended(self.now)
        elif one.is_answered:
            self.requests.remove(one)
            self.heard["down"] += b"".join(self.initiator.answered(one.plan, turns, self.now))

    @precondition(lambda self: self.requests)
    @rule(data=st.data(), silent_s=st.sampled_from([0.0, 5.0]))
    def a_request_fails(self, data: st.DataObject, silent_s: float) -> None:
        one = self._pick(data)
        self.requests.remove(one)
        self.responder.forget(one)
        if self.initiator.is_under_way(one.plan):
            self.initiator.failed(one.plan.kind, self.now, silent_s)

    @precondition(lambda self: self.requests)
    @rule(data=st.data())
    def a_poll_ends_empty(self, data: st.DataObject) -> None:
        self.responder.release()
        self._carry_replies()

    @rule()
    def the_way_buffers(self) -> None:
        for one in self.requests:
            kind = one.plan.kind
            under_way = self.initiator.is_under_way(one.plan)
            if kind is Kind.DOWN and under_way and not self.initiator.is_streaming:
                self.initiator.is_buffered(kind)

    @rule(is_full=st.booleans())
    def the_stream_is_full(self, is_full: bool) -> None:
        self.responder.set_full(is_full=is_full)
        self._carry_replies()

    @rule(time_s=st.sampled_from([0.01, 1.0, 30.0]))
    def time_passes(self, time_s: float) -> None:
        self.now += time_s

    @rule()
    def all_goes_well_for_a_while(self) -> None:
        for _ in range(3):
            self.requests_are_made()
            self.the_upstream_goes_on()
            for one in list(self.requests):
                self._settle(one)

    # --- the ends -----------------------------------------------------------------------------

    @rule()
    def the_initiator_ends(self) -> None:
        self.initiator.is_ended = True

    @rule()
    def the_responder_ends(self) -> None:
        self.responder.say_end()
        self._carry_replies()

    @invariant()
    def what_is_heard_is_the_beginning_of_what_was_said(self) -> None:
        for way in ("up", "down"):
            assert self.said[way].startswith(self.heard[way])
        if self.initiator.has_end:
            assert self.heard["down"] == self.said["down"]
        if self.responder.has_end:
            assert self.heard["up"] == self.said["up"]

    def teardown(self) -> None:
        """On a good way everything arrives, and in the end both know that it is over."""
        for _ in range(60):
            self.initiator.is_wanted = True
            self.now += 2.0
            self.requests_are_made()
            self.the_upstream_goes_on()
            self.responder.set_full(is_full=False)
            for one in list(self.requests):
                self._settle(one)
            if self.heard == self.said:
                self.initiator.is_ended = True
                self.responder.say_end()
                self._carry_replies()
        assert self.heard == self.said
        assert self.initiator.is_over
        # Its last word may have been lost when it was no longer worth repeating.
        assert self.responder.has_end

    def _settle(self, one: Request) -> None:
        turns, one.up = one.up, []
        for turn in turns:
            self._deliver(one, turn)
        self._carry_replies()
        kind = one.plan.kind
        if kind is Kind.DOWN:
            for turn in one.down:
                if self.initiator.is_under_way(one.plan):
                    self.heard["down"] += self.initiator.streamed(turn, self.now)
            one.down = []
            if one.is_answered and one in self.requests:
                self.requests.remove(one)
                if self.initiator.is_under_way(one.plan):
                    self.initiator.stream_ended(self.now)
        elif one.is_answered and one in self.requests:
            self.requests.remove(one)
            turns, one.down = one.down, []
            self.heard["down"] += b"".join(self.initiator.answered(one.plan, turns, self.now))


TestTurns = TurnsModel.TestCase
TestTurns.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)


def _fed(data: bytes, cuts: Any) -> list[Turn]:
    reader = TurnReader()
    turns = []
    at = 0
    for cut in [*cuts, len(data)]:
        turns += reader.feed(data[at:cut])
        at = cut
    assert reader.is_empty
    return turns
