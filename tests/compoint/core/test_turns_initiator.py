"""The initiator's turns: which request is made next, and what its answer means."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from compoint.core.turns import ASK, END, HEARD, Turn
from compoint.core.turns_initiator import InitiatorTurns, Kind, Plan, Way
from compoint.limits import POLL_S, TURN_BYTES, TURNS_ACK_BYTES

START = 100.0
NOTHING = Turn(0, 0, 0, b"")


class Scene:
    """A session of an initiator, its time, and the way it shares with others."""

    def __init__(self, *, may_stream: bool = True, may_upstream: bool = True) -> None:
        self.now = START
        self.way = Way(may_stream=may_stream, may_upstream=may_upstream)
        self.turns = InitiatorTurns(self.way, self.now)

    def plan(self, kind: Kind) -> Plan:
        """Exactly this request is to be made now."""
        (plan,) = self.plans()
        assert plan.kind is kind, plan
        return plan

    def plans(self) -> list[Plan]:
        return list(iter(lambda: self.turns.next_plan(self.now), None))

    def is_quiet(self) -> None:
        """No request is to be made now."""
        assert self.plans() == []

    def answer(self, plan: Plan, *turns: Turn) -> bytes:
        return b"".join(self.turns.answered(plan, list(turns), self.now))

    def hear(self, turn: Turn = NOTHING) -> bytes:
        return self.turns.streamed(turn, self.now)

    def fail(self, plan: Plan, silent_s: float = 0.0) -> None:
        self.turns.failed(plan.kind, self.now, silent_s)

    def say(self, data: bytes) -> None:
        assert self.turns.append(data) == len(data)

    def other(self) -> InitiatorTurns:
        """Another session by the same way, begun now."""
        return InitiatorTurns(self.way, self.now)


@pytest.fixture
def fresh() -> Scene:
    return Scene()


@pytest.fixture
def streaming() -> Scene:
    """The session is open and the responder's words come as they are said."""
    scene = Scene()
    scene.plan(Kind.DOWN)
    scene.hear()
    return scene


@pytest.fixture
def polling() -> Scene:
    """The session is open, and every answer is asked for."""
    scene = Scene(may_stream=False, may_upstream=False)
    scene.answer(scene.plan(Kind.WRITE), NOTHING)
    return scene


@pytest.fixture
def trying(streaming: Scene) -> Scene:
    """An upstream is tried: its first turn is on the way."""
    streaming.say(b"a")
    streaming.answer(streaming.plan(Kind.WRITE), Turn(0, 0, 1, b""))
    streaming.say(b"b")
    assert [plan.kind for plan in streaming.plans()] == [Kind.UP, Kind.WRITE]
    return streaming


@pytest.fixture
def upstreaming(trying: Scene) -> Scene:
    """An upstream is used, and everything said has arrived."""
    trying.hear(Turn(HEARD, 0, 2, b""))
    assert trying.turns.next_up(trying.now) == Turn(ASK, 2, 0, b"")
    trying.hear(Turn(HEARD, 0, 2, b""))
    assert trying.turns.is_upstreaming
    return trying


# --- opening ------------------------------------------------------------------------------------


def test_the_first_request_is_a_stream_that_opens_the_session(fresh: Scene) -> None:
    assert fresh.plan(Kind.DOWN) == Plan(Kind.DOWN, NOTHING, POLL_S, opens=True)


def test_where_the_way_passes_no_streams_a_write_opens_the_session() -> None:
    scene = Scene(may_stream=False)
    assert scene.plan(Kind.WRITE) == Plan(Kind.WRITE, NOTHING, POLL_S, opens=True)


def test_until_the_session_is_open_one_request_is_made_at_a_time(fresh: Scene) -> None:
    fresh.turns.is_wanted = True
    fresh.say(b"early")
    fresh.plan(Kind.DOWN)
    fresh.is_quiet()


def test_a_request_that_opens_and_fails_is_made_again_and_opens(fresh: Scene) -> None:
    fresh.fail(fresh.plan(Kind.DOWN))
    fresh.now += 0.05
    assert fresh.plan(Kind.DOWN).opens


def test_what_opens_a_session_is_no_proof_that_streams_are_cut(fresh: Scene) -> None:
    fresh.fail(fresh.plan(Kind.DOWN), silent_s=10.0)
    fresh.now += 0.05
    fresh.plan(Kind.DOWN)


def test_a_stream_that_is_held_back_is_tried_no_more_and_a_write_opens(fresh: Scene) -> None:
    fresh.plan(Kind.DOWN)
    fresh.turns.is_buffered(Kind.DOWN)
    assert fresh.plan(Kind.WRITE).opens


def test_once_open_no_request_opens(streaming: Scene) -> None:
    assert streaming.turns.is_open
    streaming.say(b"x")
    assert not streaming.plan(Kind.WRITE).opens


# --- saying -------------------------------------------------------------------------------------


def test_what_is_said_goes_by_a_write(streaming: Scene) -> None:
    streaming.is_quiet()
    streaming.say(b"hello")
    assert streaming.plan(Kind.WRITE) == Plan(Kind.WRITE, Turn(0, 0, 0, b"hello"), POLL_S, False)


def test_one_write_is_under_way_at_a_time_and_the_next_says_the_rest(streaming: Scene) -> None:
    streaming.turns.way.may_upstream = False
    streaming.say(b"hello")
    first = streaming.plan(Kind.WRITE)
    streaming.say(b" there")
    streaming.is_quiet()
    streaming.answer(first, Turn(0, 0, 5, b""))
    assert streaming.plan(Kind.WRITE).turn == Turn(0, 5, 0, b" there")


def test_a_write_starts_at_the_first_byte_the_peer_is_not_known_to_have(streaming: Scene) -> None:
    streaming.say(b"hello")
    streaming.fail(streaming.plan(Kind.WRITE))
    streaming.hear(Turn(0, 0, 2, b""))
    streaming.say(b"!")
    assert streaming.plan(Kind.WRITE).turn == Turn(0, 2, 0, b"llo!")


def test_a_long_saying_takes_several_writes(streaming: Scene) -> None:
    streaming.turns.way.may_upstream = False
    streaming.say(bytes(TURN_BYTES + 3))
    first = streaming.plan(Kind.WRITE)
    streaming.answer(first, Turn(0, 0, TURN_BYTES, b""))
    assert [len(first.turn.body), len(streaming.plan(Kind.WRITE).turn.body)] == [TURN_BYTES, 3]


def test_who_streams_and_says_nothing_speaks_in_time(streaming: Scene) -> None:
    assert streaming.turns.next_timer() == START + POLL_S
    streaming.now += POLL_S - 1
    streaming.hear()
    streaming.is_quiet()
    streaming.now += 1
    assert streaming.plan(Kind.WRITE).turn == NOTHING


def test_much_that_has_arrived_is_confirmed_by_a_write(streaming: Scene) -> None:
    streaming.hear(Turn(0, 0, 0, bytes(TURNS_ACK_BYTES - 1)))
    streaming.is_quiet()
    streaming.hear(Turn(0, TURNS_ACK_BYTES - 1, 0, b"x"))
    assert streaming.plan(Kind.WRITE).turn.have == TURNS_ACK_BYTES


# --- listening ----------------------------------------------------------------------------------


def test_who_polls_asks_only_while_somebody_listens(polling: Scene) -> None:
    polling.is_quiet()
    polling.turns.is_wanted = True
    assert polling.plan(Kind.POLL) == Plan(Kind.POLL, NOTHING, POLL_S, opens=False)


def test_one_poll_is_under_way_at_a_time(polling: Scene) -> None:
    polling.turns.is_wanted = True
    poll = polling.plan(Kind.POLL)
    polling.is_quiet()
    assert polling.answer(poll, Turn(0, 0, 0, b"news")) == b"news"
    assert polling.plan(Kind.POLL).turn == Turn(0, 0, 4, b"")


def test_what_is_said_travels_with_the_poll_where_none_is_under_way(polling: Scene) -> None:
    polling.say(b"question")
    assert polling.plan(Kind.POLL).turn == Turn(0, 0, 0, b"question")


def test_what_is_said_goes_by_a_write_beside_a_poll(polling: Scene) -> None:
    polling.turns.is_wanted = True
    polling.plan(Kind.POLL)
    polling.say(b"hello")
    assert polling.plan(Kind.WRITE).turn == Turn(0, 0, 0, b"hello")


def test_while_a_poll_says_it_nobody_else_does(polling: Scene) -> None:
    polling.say(b"question")
    polling.plan(Kind.POLL)
    polling.turns.is_wanted = True
    polling.is_quiet()


def test_behind_the_responders_end_nobody_listens(polling: Scene) -> None:
    polling.turns.is_wanted = True
    polling.answer(polling.plan(Kind.POLL), Turn(END, 0, 0, b""))
    polling.turns.told = polling.turns.have
    polling.is_quiet()


def test_a_stream_that_ended_in_good_order_is_opened_again(streaming: Scene) -> None:
    streaming.turns.stream_ended(streaming.now)
    streaming.is_quiet()
    assert streaming.turns.next_timer() == streaming.now + 0.05
    streaming.now += 0.05
    assert streaming.plan(Kind.DOWN) == Plan(Kind.DOWN, NOTHING, POLL_S, opens=False)


# --- answers ------------------------------------------------------------------------------------


def test_an_answer_that_comes_late_is_taken_and_ends_no_later_request(polling: Scene) -> None:
    polling.turns.is_wanted = True
    late = polling.plan(Kind.POLL)
    polling.fail(late)
    polling.now += 0.05
    poll = polling.plan(Kind.POLL)
    assert polling.answer(late, Turn(0, 0, 0, b"news")) == b"news"
    assert (polling.turns.is_under_way(late), polling.turns.is_under_way(poll)) == (False, True)
    assert polling.answer(poll, Turn(0, 0, 0, b"news")) == b""


def test_an_answer_that_does_not_confirm_what_was_said_has_it_said_again(polling: Scene) -> None:
    polling.say(b"hello")
    polling.answer(polling.plan(Kind.POLL), NOTHING)
    assert polling.plan(Kind.POLL).turn.body == b"hello"


# --- failures -----------------------------------------------------------------------------------


def test_a_failed_request_is_made_again_after_longer_and_longer_times(polling: Scene) -> None:
    polling.turns.is_wanted = True
    for pause in (0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0):
        polling.fail(polling.plan(Kind.POLL))
        polling.is_quiet()
        due = polling.turns.next_timer()
        assert due == pytest.approx(polling.now + pause)
        polling.now = due or 0.0


def test_since_when_all_fails_is_known_until_something_succeeds(polling: Scene) -> None:
    polling.turns.is_wanted = True
    polling.fail(polling.plan(Kind.POLL))
    since = polling.now
    polling.now += 0.05
    polling.fail(polling.plan(Kind.POLL))
    assert polling.turns.failing_since == since
    polling.now += 0.1
    polling.answer(polling.plan(Kind.POLL), NOTHING)
    assert polling.turns.failing_since is None
    assert polling.turns.next_timer() is None
    polling.fail(polling.plan(Kind.POLL))
    assert polling.turns.next_timer() == pytest.approx(polling.now + 0.05)


def test_while_a_request_is_repeated_no_timer_runs(polling: Scene) -> None:
    polling.turns.is_wanted = True
    polling.fail(polling.plan(Kind.POLL))
    polling.now += 0.05
    polling.plan(Kind.POLL)
    assert polling.turns.next_timer() is None


def test_what_a_failed_request_confirmed_is_confirmed_again(streaming: Scene) -> None:
    streaming.hear(Turn(0, 0, 0, bytes(TURNS_ACK_BYTES)))
    streaming.fail(streaming.plan(Kind.WRITE))
    streaming.now += 0.05
    assert streaming.plan(Kind.WRITE).turn.have == TURNS_ACK_BYTES


def test_while_a_request_waits_to_be_repeated_none_is_made(streaming: Scene) -> None:
    streaming.say(b"x")
    streaming.fail(streaming.plan(Kind.WRITE))
    streaming.say(b"y")
    streaming.is_quiet()


# --- what the way does not take -----------------------------------------------------------------


def test_a_body_that_is_too_long_is_said_by_halves(polling: Scene) -> None:
    polling.turns.is_wanted = True
    polling.plan(Kind.POLL)
    polling.say(bytes(TURN_BYTES))
    sizes = []
    may_go_on = True
    while may_go_on:
        sizes.append(len(polling.plan(Kind.WRITE).turn.body))
        may_go_on = polling.turns.too_large(Kind.WRITE)
    assert sizes == [TURN_BYTES >> shift for shift in range(8)]
    assert sizes[-1] == 4096


def test_a_length_that_is_taken_holds_for_other_sessions(polling: Scene) -> None:
    polling.turns.is_wanted = True
    polling.plan(Kind.POLL)
    polling.say(bytes(TURN_BYTES))
    polling.plan(Kind.WRITE)
    polling.turns.too_large(Kind.WRITE)
    assert polling.way.turn_bytes == TURN_BYTES
    polling.answer(polling.plan(Kind.WRITE), Turn(0, 0, TURN_BYTES // 2, b""))
    assert polling.way.turn_bytes == TURN_BYTES // 2


@pytest.mark.parametrize(("cut_after", "waits"), [(20.0, 14.0), (10.0, 7.0), (1.0, 1.0)])
def test_a_poll_that_was_cut_is_made_shorter(
    polling: Scene, cut_after: float, waits: float
) -> None:
    polling.turns.is_wanted = True
    polling.fail(polling.plan(Kind.POLL), silent_s=cut_after)
    polling.now += 0.05
    polling.answer(polling.plan(Kind.POLL), NOTHING)
    assert polling.plan(Kind.POLL).wait_s == pytest.approx(waits)


def test_a_poll_that_repeats_a_failed_request_is_to_be_answered_at_once(polling: Scene) -> None:
    # So a server that is frozen is given up sooner (P9).
    polling.turns.is_wanted = True
    polling.fail(polling.plan(Kind.POLL))
    polling.now += 0.05
    assert polling.plan(Kind.POLL).wait_s == 0.0


def test_a_way_that_cuts_after_20_seconds_just_works(polling: Scene) -> None:
    polling.turns.is_wanted = True
    failures = 0
    for _ in range(20):
        plan = polling.plan(Kind.POLL)
        if plan.wait_s > 20:
            failures += 1
            polling.now += 20
            polling.fail(plan, silent_s=20.0)
            polling.now += 0.05
        else:
            polling.now += plan.wait_s
            polling.answer(plan, NOTHING)
    assert failures == 1
    assert polling.other().way.poll_s < 20


def test_a_poll_that_was_cut_soon_was_not_cut_for_its_length(polling: Scene) -> None:
    polling.turns.is_wanted = True
    polling.fail(polling.plan(Kind.POLL), silent_s=0.9)
    polling.now += 0.05
    polling.answer(polling.plan(Kind.POLL), NOTHING)
    assert polling.plan(Kind.POLL).wait_s == POLL_S


def test_a_write_that_was_cut_was_not_cut_for_its_silence(polling: Scene) -> None:
    polling.turns.is_wanted = True
    poll = polling.plan(Kind.POLL)
    polling.say(b"x")
    polling.fail(polling.plan(Kind.WRITE), silent_s=9.0)
    polling.answer(poll, NOTHING)
    assert polling.plan(Kind.POLL).wait_s == POLL_S


def test_a_stream_that_was_cut_in_its_silence_is_not_opened_again(streaming: Scene) -> None:
    streaming.fail(next(_under_way(streaming)), silent_s=10.0)
    streaming.now += 0.05
    streaming.turns.is_wanted = True
    streaming.answer(streaming.plan(Kind.POLL), NOTHING)
    assert streaming.plan(Kind.POLL).wait_s == pytest.approx(7.0)


def test_a_stream_that_was_cut_while_it_spoke_is_opened_again(streaming: Scene) -> None:
    streaming.fail(next(_under_way(streaming)), silent_s=0.5)
    streaming.now += 0.05
    streaming.plan(Kind.DOWN)


def _under_way(scene: Scene) -> Iterator[Plan]:
    return (plan for plan in scene.turns._plans.values())


def test_news_of_a_way_is_shared_once_the_session_has_gone_on(streaming: Scene) -> None:
    streaming.fail(next(_under_way(streaming)), silent_s=10.0)
    # It may have been the peer's death: nobody else is to believe it yet.
    assert streaming.way == Way()
    assert streaming.other().way == Way()
    streaming.now += 0.05
    streaming.turns.is_wanted = True
    streaming.answer(streaming.plan(Kind.POLL), NOTHING)
    assert streaming.way == Way(may_stream=False, may_upstream=False, poll_s=pytest.approx(7.0))


def test_a_way_that_holds_streams_back_is_known_to_others_once_the_session_has_gone_on(
    fresh: Scene,
) -> None:
    fresh.plan(Kind.DOWN)
    fresh.turns.is_buffered(Kind.DOWN)
    assert fresh.way.may_stream
    fresh.answer(fresh.plan(Kind.WRITE), NOTHING)
    assert not fresh.way.may_stream
    assert fresh.other().next_plan(fresh.now).kind is Kind.WRITE  # type: ignore[union-attr]


# --- the upstream -------------------------------------------------------------------------------


def test_an_upstream_is_tried_beside_a_stream_from_the_second_saying_on(streaming: Scene) -> None:
    streaming.say(b"a")
    streaming.answer(streaming.plan(Kind.WRITE), Turn(0, 0, 1, b""))
    streaming.say(b"b")
    up, write = streaming.plans()
    # It says nothing itself until it is known to be heard: a write does.
    assert up == Plan(Kind.UP, Turn(ASK, 1, 0, b""), POLL_S, opens=False)
    assert write.turn == Turn(0, 1, 0, b"b")


@pytest.mark.parametrize("scene", [Scene(may_upstream=False), Scene(may_stream=False)])
def test_where_the_way_does_not_allow_it_no_upstream_is_tried(scene: Scene) -> None:
    plan = scene.plans()[0]
    if plan.kind is Kind.DOWN:
        scene.hear()
    else:
        scene.answer(plan, NOTHING)
        scene.turns.is_wanted = True
        scene.plan(Kind.POLL)
    for number in range(3):
        scene.say(b"x")
        scene.answer(scene.plan(Kind.WRITE), Turn(0, 0, number + 1, b""))


def test_an_upstream_is_proven_by_two_asks(trying: Scene) -> None:
    turns = trying.turns
    assert not turns.has_up_word(trying.now)
    trying.hear(Turn(HEARD, 0, 2, b""))
    assert not turns.is_upstreaming
    assert turns.has_up_word(trying.now)
    assert turns.next_up(trying.now) == Turn(ASK, 2, 0, b"")
    assert not turns.has_up_word(trying.now)
    trying.hear(Turn(HEARD, 0, 2, b""))
    assert turns.is_upstreaming


def test_a_stream_that_does_not_say_heard_proves_nothing(trying: Scene) -> None:
    for _ in range(3):
        trying.hear(Turn(0, 0, 2, b""))
    assert not trying.turns.has_up_word(trying.now)


def test_an_upstream_whose_lone_turn_was_held_back_is_not_used(trying: Scene) -> None:
    trying.hear(Turn(HEARD, 0, 2, b""))
    trying.turns.next_up(trying.now)
    trying.now += 0.2
    trying.hear(Turn(HEARD, 0, 2, b""))
    assert not trying.turns.is_upstreaming
    trying.say(b"c")
    trying.answer(next(p for p in _under_way(trying) if p.kind is Kind.WRITE), Turn(0, 0, 2, b""))
    trying.plan(Kind.WRITE)
    assert not trying.way.may_upstream


def test_an_upstream_on_a_slow_way_is_used_if_writes_are_no_faster(streaming: Scene) -> None:
    streaming.say(b"a")
    write = streaming.plan(Kind.WRITE)
    streaming.now += 0.3
    streaming.answer(write, Turn(0, 0, 1, b""))
    streaming.say(b"b")
    streaming.plans()
    for _ in range(2):
        streaming.turns.next_up(streaming.now)
        streaming.now += 0.6
        streaming.hear(Turn(HEARD, 0, 2, b""))
    assert streaming.turns.is_upstreaming


def test_what_is_said_goes_by_the_upstream_that_is_used(upstreaming: Scene) -> None:
    upstreaming.say(b"c")
    upstreaming.say(b"d")
    turns = upstreaming.turns
    assert turns.next_up(upstreaming.now) == Turn(ASK, 2, 0, b"cd")
    upstreaming.say(b"e")
    assert turns.next_up(upstreaming.now) == Turn(0, 4, 0, b"e")
    assert turns.next_up(upstreaming.now) is None


def test_an_upstream_says_again_what_a_write_may_bring_later(trying: Scene) -> None:
    trying.hear(Turn(HEARD, 0, 1, b""))
    trying.turns.next_up(trying.now)
    trying.hear(Turn(HEARD, 0, 1, b""))
    trying.say(b"c")
    assert trying.turns.next_up(trying.now) == Turn(ASK, 1, 0, b"bc")


def test_while_an_upstream_is_used_nothing_is_written(upstreaming: Scene) -> None:
    write = next(plan for plan in _under_way(upstreaming) if plan.kind is Kind.WRITE)
    upstreaming.answer(write, Turn(0, 0, 2, b""))
    upstreaming.say(b"c")
    upstreaming.is_quiet()


def test_an_upstream_asks_once_a_second_whether_it_is_heard(upstreaming: Scene) -> None:
    asked = []
    for _ in range(25):
        upstreaming.say(b"x")
        turn = upstreaming.turns.next_up(upstreaming.now)
        assert turn is not None
        asked.append(bool(turn.flags & ASK))
        upstreaming.hear(Turn(HEARD if asked[-1] else 0, 0, 2, b""))
        upstreaming.now += 0.1
    assert 2 <= sum(asked) <= 3


def test_an_upstream_that_is_not_heard_is_given_up_and_said_again_by_writes(
    upstreaming: Scene,
) -> None:
    write = next(plan for plan in _under_way(upstreaming) if plan.kind is Kind.WRITE)
    upstreaming.answer(write, Turn(0, 0, 2, b""))
    upstreaming.say(b"lost")
    upstreaming.turns.next_up(upstreaming.now)
    assert upstreaming.turns.next_timer() == upstreaming.now + 5.0
    upstreaming.now += 4.9
    upstreaming.is_quiet()
    upstreaming.now += 0.1
    upstreaming.is_quiet()
    assert not upstreaming.turns.is_upstreaming
    upstreaming.now += 0.05
    assert upstreaming.plan(Kind.WRITE).turn == Turn(0, 2, 0, b"lost")


def test_an_upstream_ends_with_its_stream(upstreaming: Scene) -> None:
    up = next(plan for plan in _under_way(upstreaming) if plan.kind is Kind.UP)
    upstreaming.turns.stream_ended(upstreaming.now)
    assert not upstreaming.turns.is_under_way(up)
    assert upstreaming.turns.next_up(upstreaming.now) is None


def test_an_upstream_that_says_nothing_speaks_in_time(upstreaming: Scene) -> None:
    upstreaming.now += POLL_S
    assert upstreaming.turns.has_up_word(upstreaming.now)
    assert upstreaming.turns.next_up(upstreaming.now) == Turn(ASK, 2, 0, b"")


def test_the_end_goes_by_the_upstream(upstreaming: Scene) -> None:
    upstreaming.turns.is_ended = True
    assert upstreaming.turns.next_up(upstreaming.now) == Turn(END | ASK, 2, 0, b"")
    assert upstreaming.turns.next_up(upstreaming.now) is None


# --- the end ------------------------------------------------------------------------------------


def test_the_end_is_said_by_a_write_and_confirmed_as_a_byte(streaming: Scene) -> None:
    streaming.say(b"x")
    streaming.turns.is_ended = True
    write = streaming.plan(Kind.WRITE)
    assert write.turn == Turn(END, 0, 0, b"x")
    streaming.answer(write, Turn(0, 0, 2, b""))
    streaming.is_quiet()
    assert streaming.turns.is_end_acked


def test_an_end_that_is_not_confirmed_is_said_again(streaming: Scene) -> None:
    streaming.say(b"x")
    streaming.turns.is_ended = True
    streaming.answer(streaming.plan(Kind.WRITE), Turn(0, 0, 1, b""))
    assert streaming.plan(Kind.WRITE).turn == Turn(END, 1, 0, b"")


def test_who_has_ended_listens_for_the_others_end(polling: Scene) -> None:
    polling.turns.is_ended = True
    write, poll = polling.plans()
    assert (write.kind, write.turn) == (Kind.WRITE, Turn(END, 0, 0, b""))
    assert (poll.kind, poll.turn) == (Kind.POLL, Turn(END, 0, 0, b""))


def test_the_responders_end_is_confirmed_and_then_all_is_finished(streaming: Scene) -> None:
    streaming.turns.is_ended = True
    streaming.answer(streaming.plan(Kind.WRITE), Turn(0, 0, 1, b""))
    streaming.hear(Turn(END, 0, 1, b""))
    assert (streaming.turns.is_over, streaming.turns.is_finished) == (True, False)
    last = streaming.plan(Kind.WRITE)
    assert last.turn == Turn(END, 0, 1, b"")
    assert not streaming.turns.is_finished
    streaming.answer(last, Turn(END, 0, 1, b""))
    assert streaming.turns.is_finished
    streaming.is_quiet()
    assert streaming.turns.next_timer() is None


def test_the_last_word_of_all_is_not_repeated(streaming: Scene) -> None:
    streaming.turns.is_ended = True
    streaming.answer(streaming.plan(Kind.WRITE), Turn(0, 0, 1, b""))
    streaming.hear(Turn(END, 0, 1, b""))
    # The responder may have heard it, and be gone.
    streaming.fail(streaming.plan(Kind.WRITE))
    assert streaming.turns.is_finished


def test_a_responder_that_has_forgotten_the_session_has_heard_the_end(streaming: Scene) -> None:
    streaming.turns.is_ended = True
    streaming.plan(Kind.WRITE)
    streaming.hear(Turn(END, 0, 0, b""))
    streaming.turns.has_ended()
    assert streaming.turns.is_over
    assert not streaming.turns.owes_word
