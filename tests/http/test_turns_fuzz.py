"""Any bodies and heads of turns: a 4xx or a closed connection, never an internal error."""

from __future__ import annotations

import http.client
import logging
import os
import struct
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from initiator_kit import PATIENCE_S, conversation, no_proxies, reach, serve
from turns_kit import TURNS, Visitor, frame, greeting

from compoint import ServerComPoint
from compoint.core.turns import Turn
from compoint.limits import TURN_BYTES

KEY = bytes(range(16))

NUMBERS = st.one_of(st.integers(0, 200), st.sampled_from([2**31, 2**32, 2**63, 2**64 - 1]))
TURN = st.builds(
    lambda flags, start, have, body: Turn(flags, start, have, body).encode(),
    st.sampled_from([0, 1, 2, 3, 4, 7, 8, 255]),
    NUMBERS,
    NUMBERS,
    st.one_of(st.binary(max_size=100), st.just(greeting(KEY)), st.just(frame(b"hello"))),
)
LYING_TURN = st.builds(
    lambda flags, length, start, have: struct.pack("!BxxxIQQ", flags, length, start, have),
    st.integers(0, 255),
    st.one_of(st.integers(0, 2**32 - 1), st.sampled_from([TURN_BYTES, TURN_BYTES + 1])),
    NUMBERS,
    NUMBERS,
)
BODIES = st.one_of(
    TURN,
    LYING_TURN,
    st.binary(max_size=200),
    st.lists(TURN, max_size=3).map(b"".join),
    st.tuples(TURN, st.integers(0, 100)).map(lambda cut: cut[0][: -1 - cut[1]]),
)
TEXT = st.text(st.characters(min_codepoint=33, max_codepoint=255), max_size=20).map(
    lambda text: text.replace("\x7f", "")
)
SESSIONS = st.one_of(st.just(KEY.hex()), st.just("0" * 32), TEXT)
ASKS = st.one_of(st.sampled_from(["write", "write", "stream", "upstream"]), TEXT)
SECONDS = st.one_of(st.sampled_from(["0", "1", "0.5", "99999", "1e5", "-1"]), TEXT)


@pytest.fixture(scope="module")
def server() -> Iterator[ServerComPoint]:
    with serve() as server:
        yield server


@pytest.fixture(autouse=True)
def _silent(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    no_proxies(monkeypatch)
    with caplog.at_level(logging.WARNING, "compoint"):
        yield
    records = [*caplog.get_records("call"), *caplog.records]
    assert [record.getMessage() for record in records] == []


@given(
    requests=st.lists(
        st.fixed_dictionaries(
            {
                "session": SESSIONS,
                "ask": ASKS,
                "wait": SECONDS,
                "open": st.one_of(st.none(), SECONDS),
                "body": BODIES,
            }
        ),
        min_size=1,
        max_size=4,
    )
)
@settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_request_is_answered_by_turns_or_by_4xx(
    server: ServerComPoint, requests: list[dict[str, Any]]
) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.address.port, timeout=PATIENCE_S)
    # Nothing is left of what earlier examples did to their sessions.
    keys = {KEY.hex(): os.urandom(16), "0" * 32: os.urandom(16)}
    try:
        for request in requests:
            if request["session"] in keys:
                request["session"] = keys[request["session"]].hex()
            body = request.pop("body").replace(KEY, keys[KEY.hex()])
            headers = {f"ComPoint-{name}": value for name, value in request.items() if value}
            connection.request("POST", "/", body, {**headers, "Content-Type": TURNS})
            answer = connection.getresponse()
            assert answer.status == 200 or 400 <= answer.status < 500
            if answer.getheader("Transfer-Encoding") == "chunked":
                break  # a stream, which goes on
            answer.read()
    finally:
        connection.close()
        for key in keys.values():
            with Visitor(server.address.port, key=key):
                pass  # breaks what is left of the session


def test_afterwards_others_are_served(server: ServerComPoint) -> None:
    with reach(server.address.port) as point:
        conversation(point, server)
