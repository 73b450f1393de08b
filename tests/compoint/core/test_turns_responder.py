"""The responder's turns: which request is answered with what, and when."""

from __future__ import annotations

import pytest

from compoint.core.turns import ASK, END, HEARD, Turn, TurnError
from compoint.core.turns_responder import Reply, ResponderTurns
from compoint.limits import TURN_BYTES, TURNS_ACK_BYTES


@pytest.fixture
def turns() -> ResponderTurns[str]:
    return ResponderTurns()


def _answer(token: str, turn: Turn) -> Reply[str]:
    return Reply(token, turn, is_last=True)


def _piece(token: str, turn: Turn) -> Reply[str]:
    return Reply(token, turn, is_last=False)


def _end(token: str) -> Reply[str]:
    return Reply(token, None, is_last=True)


NOTHING = Turn(0, 0, 0, b"")


# --- writes -------------------------------------------------------------------------------------


def test_a_write_is_answered_at_once_without_bytes(turns: ResponderTurns[str]) -> None:
    turns.say(b"abc")
    assert turns.hear(Turn(0, 0, 0, b"xy")) == b"xy"
    turns.answer_write("w")
    assert turns.take_replies() == [_answer("w", Turn(0, 0, 2, b""))]


def test_a_write_that_comes_again_is_answered_and_not_taken_again(
    turns: ResponderTurns[str],
) -> None:
    for new in (b"xy", b""):
        assert turns.hear(Turn(0, 0, 0, b"xy")) == new
        turns.answer_write("w")
        assert turns.take_replies() == [_answer("w", Turn(0, 0, 2, b""))]


# --- polls --------------------------------------------------------------------------------------


def test_a_poll_is_answered_when_there_is_something_to_say(turns: ResponderTurns[str]) -> None:
    turns.wait("p", 0)
    assert turns.take_replies() == []
    turns.say(b"abc")
    assert turns.take_replies() == [_answer("p", Turn(0, 0, 0, b"abc"))]
    assert turns.poll is None


def test_a_poll_is_answered_at_once_with_what_was_said_before(turns: ResponderTurns[str]) -> None:
    turns.say(b"abc", b"def")
    turns.wait("p", 2)
    assert turns.take_replies() == [_answer("p", Turn(0, 2, 0, b"cdef"))]


def test_what_a_lost_answer_said_is_said_again_to_the_next_poll(turns: ResponderTurns[str]) -> None:
    turns.say(b"abc")
    for token in ("lost", "next"):
        turns.wait(token, 0)
        assert turns.take_replies() == [_answer(token, Turn(0, 0, 0, b"abc"))]


def test_a_newer_poll_answers_the_older_with_nothing(turns: ResponderTurns[str]) -> None:
    turns.wait("old", 0)
    turns.wait("new", 0)
    assert turns.take_replies() == [_answer("old", NOTHING)]
    assert turns.poll == "new"


def test_a_poll_that_has_waited_long_enough_is_answered_with_nothing(
    turns: ResponderTurns[str],
) -> None:
    turns.wait("p", 0)
    turns.release()
    turns.release()
    assert turns.take_replies() == [_answer("p", NOTHING)]


def test_a_poll_that_was_forgotten_is_not_answered(turns: ResponderTurns[str]) -> None:
    turns.wait("p", 0)
    turns.forget("other")
    turns.forget("p")
    turns.say(b"abc")
    assert turns.take_replies() == []


def test_a_poll_is_answered_by_the_end(turns: ResponderTurns[str]) -> None:
    turns.wait("p", 0)
    turns.say_end()
    turns.say_end()
    assert turns.take_replies() == [_answer("p", Turn(END, 0, 0, b""))]


def test_a_poll_is_answered_when_the_initiators_end_is_here(turns: ResponderTurns[str]) -> None:
    turns.wait("p", 0)
    turns.hear(Turn(END, 0, 0, b"x"))
    assert turns.take_replies() == [_answer("p", Turn(0, 0, 2, b""))]


def test_a_poll_is_not_answered_for_what_was_heard_alone(turns: ResponderTurns[str]) -> None:
    turns.wait("p", 0)
    turns.hear(Turn(0, 0, 0, bytes(TURNS_ACK_BYTES)))
    assert turns.take_replies() == []


def test_a_long_answer_is_cut_at_the_length_of_a_turn(turns: ResponderTurns[str]) -> None:
    turns.say(bytes(TURN_BYTES + 5))
    turns.wait("p", 0)
    turns.wait("q", TURN_BYTES)
    first, second = turns.take_replies()
    assert first.turn is not None
    assert second.turn is not None
    assert (len(first.turn.body), len(second.turn.body)) == (TURN_BYTES, 5)


# --- streams ------------------------------------------------------------------------------------


def test_a_stream_is_answered_at_once_and_then_as_it_comes(turns: ResponderTurns[str]) -> None:
    turns.open_stream("s", 0)
    assert turns.take_replies() == [_piece("s", NOTHING)]
    turns.say(b"abc")
    turns.say(b"de")
    assert turns.take_replies() == [
        _piece("s", Turn(0, 0, 0, b"abc")),
        _piece("s", Turn(0, 3, 0, b"de")),
    ]


def test_a_new_stream_ends_the_old_and_begins_where_its_initiator_is(
    turns: ResponderTurns[str],
) -> None:
    turns.open_stream("old", 0)
    turns.say(b"abc")
    turns.take_replies()
    turns.open_stream("new", 1)
    assert turns.take_replies() == [_end("old"), _piece("new", Turn(0, 1, 0, b"bc"))]


def test_a_poll_ends_a_stream_and_a_stream_answers_a_poll(turns: ResponderTurns[str]) -> None:
    turns.open_stream("s", 0)
    turns.take_replies()
    turns.wait("p", 0)
    assert turns.take_replies() == [_end("s")]
    turns.open_stream("t", 0)
    assert turns.take_replies() == [_answer("p", NOTHING), _piece("t", NOTHING)]


def test_a_stream_that_takes_no_more_is_told_nothing_until_it_does(
    turns: ResponderTurns[str],
) -> None:
    turns.open_stream("s", 0)
    turns.set_full(is_full=True)
    turns.take_replies()
    turns.say(b"abc")
    turns.say(b"de")
    turns.show_life()
    turns.hear(Turn(0, 0, 0, bytes(TURNS_ACK_BYTES)))
    assert (turns.take_replies(), turns.has_more) == ([], False)
    turns.set_full(is_full=False)
    assert turns.take_replies() == [_piece("s", Turn(0, 0, TURNS_ACK_BYTES, b"abcde"))]


def test_a_stream_is_told_one_turn_at_a_time(turns: ResponderTurns[str]) -> None:
    turns.open_stream("s", 0)
    turns.take_replies()
    turns.say(bytes(TURN_BYTES + 1))
    assert [len(turn.body) for _, turn, _ in turns.take_replies() if turn] == [TURN_BYTES]
    assert turns.has_more
    turns.set_full(is_full=False)
    assert [len(turn.body) for _, turn, _ in turns.take_replies() if turn] == [1]
    assert not turns.has_more


def test_a_silent_stream_shows_that_it_lives(turns: ResponderTurns[str]) -> None:
    turns.open_stream("s", 0)
    turns.take_replies()
    turns.show_life()
    assert turns.take_replies() == [_piece("s", NOTHING)]


def test_a_stream_tells_what_has_arrived_when_it_is_much(turns: ResponderTurns[str]) -> None:
    turns.open_stream("s", 0)
    turns.take_replies()
    turns.hear(Turn(0, 0, 0, bytes(TURNS_ACK_BYTES - 1)))
    assert turns.take_replies() == []
    turns.hear(Turn(0, TURNS_ACK_BYTES - 1, 0, b"x"))
    assert turns.take_replies() == [_piece("s", Turn(0, 0, TURNS_ACK_BYTES, b""))]


def test_a_stream_says_the_end_and_hears_the_others(turns: ResponderTurns[str]) -> None:
    turns.open_stream("s", 0)
    turns.take_replies()
    turns.say(b"bye")
    turns.say_end()
    turns.hear(Turn(END, 0, 3, b""))
    assert turns.take_replies() == [
        _piece("s", Turn(0, 0, 0, b"bye")),
        _piece("s", Turn(END, 3, 0, b"")),
        _piece("s", Turn(END, 3, 1, b"")),
    ]


# --- whether an upstream is heard ---------------------------------------------------------------


def test_who_asks_whether_he_is_heard_is_told_at_once(turns: ResponderTurns[str]) -> None:
    turns.open_stream("s", 0)
    turns.take_replies()
    turns.hear(Turn(ASK, 0, 0, b"x"))
    assert turns.take_replies() == [_piece("s", Turn(HEARD, 0, 1, b""))]
    turns.hear(Turn(0, 1, 0, bytes(TURNS_ACK_BYTES)))
    assert turns.take_replies() == [_piece("s", Turn(0, 0, 1 + TURNS_ACK_BYTES, b""))]


def test_who_asks_and_cannot_be_told_is_told_when_he_can(turns: ResponderTurns[str]) -> None:
    turns.hear(Turn(ASK, 0, 0, b"x"))
    turns.open_stream("s", 0)
    turns.take_replies()
    turns.hear(Turn(0, 1, 0, b"y"))
    assert turns.take_replies() == [_piece("s", Turn(HEARD, 0, 2, b""))]


# --- nonsense -----------------------------------------------------------------------------------


@pytest.mark.parametrize("turn", [Turn(0, 1, 0, b"x"), Turn(0, 0, 1, b"")])
def test_turns_that_make_no_sense_are_an_error_and_answer_nobody(
    turns: ResponderTurns[str], turn: Turn
) -> None:
    turns.wait("p", 0)
    with pytest.raises(TurnError):
        turns.hear(turn)
    assert (turns.take_replies(), turns.poll) == ([], "p")


@pytest.mark.parametrize("have", [0, 7, 2**64 - 1])
def test_a_poll_that_claims_to_have_more_or_less_is_answered_with_what_is_kept(
    turns: ResponderTurns[str], have: int
) -> None:
    turns.say(b"abcdef")
    turns.hear(Turn(0, 0, 2, b""))
    turns.wait("p", have)
    turns.release()
    ((_, turn, _),) = turns.take_replies()
    assert turn is not None
    assert turn.start == (2 if have == 0 else 6)
