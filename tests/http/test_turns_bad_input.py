"""Requests of turns that break the rules: each gets its 4xx, and nobody else notices."""

from __future__ import annotations

import logging
import os
import struct
from collections.abc import Iterator
from typing import Any

import pytest
from initiator_kit import PATIENCE_S, all_is_said, no_proxies, reach, serve
from initiator_relay import Relay, Visit
from turns_kit import Answer, Visitor, frame, greeting

from compoint import ComPoint, PointTimeout, ServerComPoint, SessionLostError
from compoint.core.codes import Code
from compoint.core.greeting import Refusal, parse_greeting
from compoint.core.turns import END, Turn
from compoint.limits import TURN_BYTES
from compoint.testing import eventually


@pytest.fixture(autouse=True)
def _silent(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Whatever comes, the log has no error of ours."""
    no_proxies(monkeypatch)
    with caplog.at_level(logging.WARNING, "compoint"):
        yield
    records = [*caplog.get_records("call"), *caplog.records]
    assert [record.getMessage() for record in records] == []


@pytest.fixture
def server() -> Iterator[ServerComPoint]:
    with serve("/orders") as server:
        yield server


@pytest.fixture
def visitor(server: ServerComPoint) -> Iterator[Visitor]:
    with Visitor(server.address.port, "/orders") as visitor:
        yield visitor


@pytest.fixture
def bystander(server: ServerComPoint) -> Iterator[ComPoint]:
    """Somebody else, who converses before and after."""
    with reach(server.address.port, "/orders") as point:
        point.write("before")
        with server.accept(timeout=PATIENCE_S) as responder:
            assert responder.read(timeout=PATIENCE_S) == "before"
            yield point
            responder.write("after")
            assert point.read(timeout=PATIENCE_S) == "after"


def _refused(answer: Answer, status: int, title: str) -> None:
    assert (answer.status, answer.title) == (status, title)


# --- heads --------------------------------------------------------------------------------------


HEADS: dict[str, dict[str, Any]] = {
    "no session": {"session": None},
    "an empty session": {"session": ""},
    "a short session": {"session": "ab" * 15},
    "a long session": {"session": "ab" * 17},
    "a session in capitals": {"session": "AB" * 16},
    "a session that is no number": {"session": "zz" * 16},
    "two sessions": {"session": "ab" * 16 + ", " + "cd" * 16},
    "no ask": {"ask": None},
    "an unknown ask": {"ask": "please"},
    "an ask in capitals": {"ask": "WRITE"},
    "no wait": {"wait": None},
    "a wait that is negative": {"wait": "-1"},
    "a wait that is no number": {"wait": "nan"},
    "a wait without an end": {"wait": "inf"},
    "a wait with an exponent": {"wait": "1e9"},
    "a wait of a thousand digits": {"wait": "9" * 1000},
    "a wait in other digits": {"wait": "\u0661".encode().decode("latin-1")},
    "an open that is no number": {"open": "yes"},
    "an open that is negative": {"open": "-0"},
    "an empty open": {"open": ""},
}


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
def test_a_head_that_is_not_right_is_refused(
    visitor: Visitor, bystander: ComPoint, head: dict[str, Any]
) -> None:
    _refused(visitor.ask(**{"open": "0", **head}), 400, "bad request")


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS"])
def test_turns_are_posted(visitor: Visitor, method: str) -> None:
    _refused(visitor.ask(method=method, open="0"), 405, "bad request")


def test_a_path_that_nobody_serves_is_refused(server: ServerComPoint) -> None:
    with Visitor(server.address.port, "/elsewhere") as visitor:
        answer = visitor.greet()
        _refused(answer, 404, "no such path")
        assert "'/elsewhere'" in answer.detail


# --- sessions -----------------------------------------------------------------------------------


def test_a_session_that_nobody_opened_is_not_known(visitor: Visitor) -> None:
    for ask in ("write", "poll", "stream", "upstream"):
        _refused(visitor.ask(ask=ask), 410, "no such session")


def test_a_thousand_guesses_find_no_session(
    server: ServerComPoint, visitor: Visitor, bystander: ComPoint
) -> None:
    found = {
        (answer.status, answer.title)
        for answer in (visitor.ask(session=os.urandom(16).hex()) for _ in range(1000))
    }
    assert found == {(410, "no such session")}


def test_a_session_is_not_found_by_a_part_or_another_spelling_of_its_id(visitor: Visitor) -> None:
    assert visitor.greet().status == 200
    key = visitor.key.hex()
    for wrong in (key[:-1], key + "0", key.upper() + "x", f" {key[:-1]}"):
        _refused(visitor.ask(session=wrong), 400, "bad request")
    last = "0" if key[-1] != "0" else "1"
    _refused(visitor.ask(session=key[:-1] + last), 410, "no such session")


def test_a_greeting_that_names_another_session_is_refused(
    server: ServerComPoint, visitor: Visitor, bystander: ComPoint
) -> None:
    visitor.say(greeting(os.urandom(16)), open="0")
    parsed = parse_greeting(visitor.hear(1))
    assert parsed is not None
    assert isinstance(parsed[0], Refusal)
    assert parsed[0].code is Code.BAD_GREETING
    with pytest.raises(PointTimeout):
        server.accept(timeout=0)


def test_who_knows_a_session_does_not_move_it_to_another_path(visitor: Visitor) -> None:
    visitor.greet()
    visitor.hear(1)
    with serve("/secrets", visitor._connection.port) as other:
        visitor.path = "/secrets"
        assert visitor.greet("/secrets").status == 200
        visitor.say(frame(b"x"))
        with pytest.raises(PointTimeout):
            other.accept(timeout=0.05)


def test_an_opening_that_is_older_than_the_server_is_refused(visitor: Visitor) -> None:
    answer = visitor.ask(open="1000")
    _refused(answer, 410, "no such session")
    assert answer.detail == "this session is older than the server"


# --- turns --------------------------------------------------------------------------------------


@pytest.fixture
def responder(server: ServerComPoint, visitor: Visitor) -> Iterator[ComPoint]:
    """Of the visitor, who has greeted and said one message."""
    visitor.greet("/orders")
    visitor.say(frame(b"one"))
    with server.accept(timeout=PATIENCE_S) as responder:
        assert responder.read(timeout=PATIENCE_S) == b"one"
        yield responder


BAD_TURNS: dict[str, tuple[int, int, bytes, str]] = {
    "a gap": (0, 1, b"", "on where"),
    "a gap as far as can be": (0, 2**63, b"", "on where"),
    "bytes that were never said": (10_000_000, 0, b"", "bytes are confirmed where"),
}


def _breaks(responder: ComPoint, visitor: Visitor, answer: Answer, told: str) -> None:
    """The visitor is told what is wrong; the responder, too; and the session is over."""
    _refused(answer, 409, "broken session")
    assert told in answer.detail
    with pytest.raises(SessionLostError) as caught:
        responder.read(timeout=PATIENCE_S)
    assert "the initiator broke the rules: " in caught.value.what
    assert told in caught.value.what
    responder.close()
    eventually(lambda: visitor.ask().status == 410, PATIENCE_S)
    _refused(visitor.ask(open="0"), 410, "over")


@pytest.mark.parametrize("ask", ["write", "poll"])
@pytest.mark.parametrize(("have", "ahead", "data", "told"), BAD_TURNS.values(), ids=BAD_TURNS)
def test_a_turn_that_makes_no_sense_ends_the_session(
    visitor: Visitor, responder: ComPoint, bystander: ComPoint, ask: str, have: int, ahead: int,
    data: bytes, told: str,
) -> None:  # fmt: skip
    answer = visitor.ask(Turn(0, visitor.said + ahead, have, data), ask=ask)
    _breaks(responder, visitor, answer, told)


BAD_BODIES: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "exactly one turn"),
    "half a head": (b"\0" * 12, "exactly one turn"),
    "half a turn": (Turn(0, 0, 0, b"hello").encode()[:-1], "exactly one turn"),
    "two turns": (Turn(0, 0, 0, b"").encode() * 2, "exactly one turn"),
    "a turn and a half": (Turn(0, 0, 0, b"").encode() + b"\0", "exactly one turn"),
    "text": (b'{"order": 17, "customer": "ann"}', "bytes that are no turn"),
    "an unknown flag": (Turn(8, 0, 0, b"").encode(), "bytes that are no turn"),
    "a length without an end": (
        struct.pack("!BxxxIQQ", 0, 2**32 - 1, 0, 0), "bytes that are no turn",
    ),
    "a length one too long": (
        struct.pack("!BxxxIQQ", 0, TURN_BYTES + 1, 0, 0), "bytes that are no turn",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("body", "told"), BAD_BODIES.values(), ids=BAD_BODIES)
def test_a_body_that_is_not_one_turn_ends_the_session(
    visitor: Visitor, responder: ComPoint, bystander: ComPoint, body: bytes, told: str
) -> None:
    _breaks(responder, visitor, visitor.ask(body), told)


def test_a_stream_is_asked_for_by_a_turn_that_makes_sense(
    visitor: Visitor, responder: ComPoint
) -> None:
    _breaks(responder, visitor, visitor.ask(b"\xff" * 24, ask="stream"), "bytes that are no turn")


@pytest.mark.parametrize(
    ("body", "told"),
    [(b"\xff" * 24, "no turn"), (Turn(0, 2**40, 0, b"").encode(), "on where")],
)
def test_an_upstream_that_makes_no_sense_ends_the_session(
    visitor: Visitor, responder: ComPoint, body: bytes, told: str
) -> None:
    _breaks(responder, visitor, visitor.ask(body, ask="upstream"), told)


def test_a_body_longer_than_a_turn_is_not_taken(visitor: Visitor, responder: ComPoint) -> None:
    body = Turn(0, visitor.said, 0, bytes(TURN_BYTES)).encode() + bytes(1000)
    _refused(visitor.ask(body), 413, "too large")
    # Nothing of it was, so the session goes on.
    visitor.say(frame(b"two"))
    assert responder.read(timeout=PATIENCE_S) == b"two"


def test_the_longest_turn_is_taken(visitor: Visitor, responder: ComPoint) -> None:
    count = TURN_BYTES // 1016
    data = frame(bytes(1000)) * count
    assert visitor.say(data).status == 200
    assert [len(responder.read(timeout=PATIENCE_S)) for _ in range(count)] == [1000] * count


def test_what_is_said_behind_the_end_is_not_taken(visitor: Visitor, responder: ComPoint) -> None:
    visitor.ask(Turn(END, visitor.said, 0, b""))
    answer = visitor.ask(Turn(0, visitor.said, 0, frame(b"more")))
    assert answer.turn.have == visitor.said + 1
    with pytest.raises(SessionLostError):
        responder.read(timeout=PATIENCE_S)


# --- replays ------------------------------------------------------------------------------------


class Tape:
    """Records the requests that pass a relay."""

    def __init__(self) -> None:
        self.kept: list[tuple[dict[str, str], bytes]] = []

    def __call__(self, visit: Visit) -> None:
        self.kept.append(
            ({name.lower(): value for name, value in visit.headers.items()}, visit.body)
        )
        visit.pass_on()

    def replay(self, visitor: Visitor) -> list[Answer]:
        """All of them again, in order; upstreams without what came later."""
        answers = []
        for headers, body in list(self.kept):
            words = {name.removeprefix("compoint-"): value for name, value in headers.items()
                     if name.startswith("compoint-")}  # fmt: skip
            if words["ask"] in {"write", "poll"}:
                answers.append(visitor.ask(body, **words))
        return answers


def test_recorded_requests_deliver_nothing_twice(server: ServerComPoint) -> None:
    tape = Tape()
    with (
        Relay(server.address.port, tape) as relay,
        Visitor(server.address.port, "/orders") as replayer,
    ):
        with reach(relay.port, "/orders") as point, server.accept(timeout=PATIENCE_S) as responder:
            for number in range(10):
                point.write(number)
                assert responder.read(timeout=PATIENCE_S) == number
                # While the conversation goes on, all old requests come again.
                assert {answer.status for answer in tape.replay(replayer)} <= {200}
            responder.write("done")
            assert point.read(timeout=PATIENCE_S) == "done"
            with pytest.raises(PointTimeout):
                responder.read(timeout=0)
        all_is_said()
        answers = tape.replay(replayer)
        assert {(answer.status, answer.title) for answer in answers} == {(410, "over")}
    with pytest.raises(PointTimeout):
        server.accept(timeout=0)


def test_the_first_request_come_again_opens_nothing_twice(
    server: ServerComPoint, visitor: Visitor
) -> None:
    first = Turn(0, 0, 0, greeting(visitor.key) + frame(b"one"))
    for age in ("0", "0.001", "0"):
        assert visitor.ask(first, open=age).turn.have == len(first.body)
    with server.accept(timeout=PATIENCE_S) as responder:
        assert responder.read(timeout=PATIENCE_S) == b"one"
        visitor.ask(first, open="0")
        with pytest.raises(PointTimeout):
            responder.read(timeout=0)
        with pytest.raises(PointTimeout):
            server.accept(timeout=0)
        responder.abort("done")
