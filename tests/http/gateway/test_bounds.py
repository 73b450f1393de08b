"""What the gateway bounds: time, numbers, bytes; and its end."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

import pytest
from gateway_play import JSON, PATIENCE_S, TEXT

from compoint import PointTimeout, SessionLostError
from compoint.deadline import clock
from compoint.http._gateway import Gateway
from compoint.http._gateway_bounds import Bounds
from compoint.limits import KIB, MIB
from compoint.testing import Background, eventually

if TYPE_CHECKING:
    from conftest import GatewayScene
    from gateway_play import Session

    from compoint import ComPoint


def opened(scene: GatewayScene, **bounds: float) -> tuple[Session, ComPoint]:
    server = scene.server()
    scene.new_gateway(**bounds)
    session = scene.client().open()
    return session, scene.accept(server)


# --- time -----------------------------------------------------------------------------------------


def test_a_session_without_requests_expires_and_both_sides_are_told(
    gateway_scene: GatewayScene,
) -> None:
    session, point = opened(gateway_scene, idle_s=0.2)
    with pytest.raises(SessionLostError, match=r"session expired: no request for 0\.2 s"):
        point.read(timeout=PATIENCE_S)
    for over in (session.read(), session.write("hello"), session.close()):
        assert (over.status, over.title) == (410, "expired")


def test_a_waiting_read_keeps_its_session(gateway_scene: GatewayScene) -> None:
    session, point = opened(gateway_scene, idle_s=0.1)
    asked = session.send("GET", timeout=PATIENCE_S)
    with pytest.raises(PointTimeout):
        point.read(timeout=0.5)
    point.write("still here")
    assert asked.result().text == "still here"


def test_requests_keep_their_session(gateway_scene: GatewayScene) -> None:
    session, _ = opened(gateway_scene, idle_s=0.3)
    until = clock() + 1.0
    while clock() < until:
        assert session.read(timeout=0).status == 204


def test_messages_of_the_responder_do_not_keep_a_session(gateway_scene: GatewayScene) -> None:
    session, point = opened(gateway_scene, idle_s=0.2)

    def write_on() -> None:
        while True:
            point.write("is anybody there?")
            with contextlib.suppress(PointTimeout):
                point.read(timeout=0.02)

    assert isinstance(Background(write_on).error(PATIENCE_S), SessionLostError)
    assert session.read().title == "expired"


def test_a_session_that_the_responder_has_ended_expires_too(gateway_scene: GatewayScene) -> None:
    session, point = opened(gateway_scene, idle_s=0.2)
    point.write("unread")
    point.close()
    eventually(lambda: gateway_scene.gateway.is_empty)
    assert session.read().title == "expired"


def test_expired_sessions_are_forgotten_in_the_end(gateway_scene: GatewayScene) -> None:
    session, point = opened(gateway_scene, idle_s=0.1, kept_s=0.0)
    with pytest.raises(SessionLostError):
        point.read(timeout=PATIENCE_S)
    assert session.read().title == "no such session"


def test_a_request_may_not_wait_longer_than_the_bound(gateway_scene: GatewayScene) -> None:
    gateway_scene.server()
    gateway_scene.new_gateway(longest_wait_s=5.0)
    client = gateway_scene.client()
    for text in ("5.1", "6", "-1", "nan", "inf", "1e0", "", "5s"):
        answer = client.post("hello", query={"timeout": text})
        assert (answer.status, answer.title) == (400, "bad request"), text
        assert "from 0 to 5" in answer.text
    client.send("POST", "hello", {"timeout": "5"})


def test_without_a_word_a_request_waits_as_long_as_is_usual(gateway_scene: GatewayScene) -> None:
    gateway_scene.server()
    gateway_scene.new_gateway(wait_s=0.1)
    assert "within 0.1 s" in gateway_scene.client().post("hello").text


# --- numbers --------------------------------------------------------------------------------------


def test_beyond_so_many_conversations_the_next_is_refused(gateway_scene: GatewayScene) -> None:
    gateway_scene.server()
    gateway_scene.new_gateway(conversations=2)
    client = gateway_scene.client()
    first, _ = client.open(), client.open()
    for query in ({}, {"open": ""}):
        answer = client.post("hello", query=query)
        assert (answer.status, answer.title, answer.fate) == (503, "busy", "not sent")
        assert answer.headers["retry-after"] == "1"
    first.close()
    client.open()


def test_beyond_so_many_waiting_writes_the_next_is_refused(gateway_scene: GatewayScene) -> None:
    session, point = opened(gateway_scene, writes=2)
    session.write("first")
    waiting = [session.send("POST", "x" * 2 * MIB) for _ in range(2)]
    answer = session.write("hello")
    assert (answer.status, answer.title, answer.fate) == (503, "busy", "not sent")
    assert [len(point.read(timeout=PATIENCE_S)) for _ in "123"] == [5, 2 * MIB, 2 * MIB]
    assert [each.result().status for each in waiting] == [200, 200]


# --- bytes ----------------------------------------------------------------------------------------


def test_a_body_that_says_it_is_too_large_is_refused_at_once(gateway_scene: GatewayScene) -> None:
    gateway_scene.server()
    gateway_scene.new_gateway(body_bytes=MIB)
    asked = gateway_scene.client().begin("POST", headers={"content-length": f"{MIB + 1}", **TEXT})
    assert (asked.result().status, asked.title) == (413, "too large")
    assert str(MIB) in asked.text


def test_a_body_that_grows_too_large_is_refused(gateway_scene: GatewayScene) -> None:
    gateway_scene.server()
    gateway_scene.new_gateway(body_bytes=MIB)
    answer = gateway_scene.client().post("x" * (MIB + 1))
    assert (answer.status, answer.title, answer.fate) == (413, "too large", "not sent")


def test_a_message_that_grows_too_large_on_its_way_from_json_is_refused(
    gateway_scene: GatewayScene,
) -> None:
    gateway_scene.server()
    gateway_scene.new_gateway(body_bytes=64 * KIB)
    answer = gateway_scene.client().post(f"[{'1e1,' * 10_000}0]", headers=JSON)
    assert (answer.status, answer.title) == (413, "too large")


def test_json_has_a_bound_of_its_own(gateway_scene: GatewayScene) -> None:
    gateway_scene.server()
    answer = gateway_scene.client().post(f'"{"x" * MIB}"', headers=JSON)
    assert (answer.status, answer.title) == (413, "too large")
    assert "text/plain" in answer.json["hint"]


def test_bodies_on_their_way_are_bounded_together(gateway_scene: GatewayScene) -> None:
    gateway_scene.server()
    gateway_scene.new_gateway(held_bytes=100)
    client = gateway_scene.client()
    first = client.begin("POST", headers=TEXT)
    first.taker.piece(b"x" * 60)
    second = client.begin("POST", headers=TEXT)
    second.taker.piece(b"x" * 60)
    second.taker.piece(b"x" * 60)
    second.taker.complete()
    assert (second.result().status, second.title, second.fate) == (503, "busy", "not sent")
    first.leave()
    third = client.begin("POST", headers=TEXT)
    third.taker.piece(b"x" * 60)
    assert not third.is_answered
    third.leave()


def test_messages_that_wait_for_credit_are_bounded_together(gateway_scene: GatewayScene) -> None:
    session, point = opened(gateway_scene, held_bytes=3 * MIB)
    session.write("first")
    waiting = session.send("POST", "x" * 2 * MIB)
    answer = session.write("x" * 2 * MIB)
    assert (answer.status, answer.title) == (503, "busy")
    assert [len(point.read(timeout=PATIENCE_S)) for _ in "12"] == [5, 2 * MIB]
    assert waiting.result().status == 200


# --- the end --------------------------------------------------------------------------------------


def test_the_end_of_the_gateway_answers_everybody(gateway_scene: GatewayScene) -> None:
    server = gateway_scene.server(backlog=100)
    client = gateway_scene.client()
    session = client.open()
    point = gateway_scene.accept(server)
    asked = [
        session.send("GET"),
        client.send("POST", "one"),
        client.send("POST", "two", headers={"idempotency-key": "0123456789abcdef"}),
        client.send("POST", "x" * MIB, {"open": ""}),
    ]
    half = client.begin("POST", headers=TEXT)
    half.taker.piece(b"half a ")
    gateway_scene.gateway.close()
    half.taker.piece(b"body")
    half.taker.complete()
    for each in [*asked, half, client.send("GET"), session.send("DELETE")]:
        if each.result().status != 201:
            assert (each.status, each.title) == (503, "stopped"), each.request
            assert each.headers["retry-after"] == "1"
    with pytest.raises(SessionLostError, match="the HTTP server was stopped"):
        point.read(timeout=PATIENCE_S)


def test_the_last_conversation_tells_that_nobody_is_left(gateway_scene: GatewayScene) -> None:
    server = gateway_scene.server()
    is_empty = threading.Event()
    gateway_scene.gateway = Gateway(Bounds(), is_empty.set)
    session = gateway_scene.client().open()
    gateway_scene.accept(server)
    assert not is_empty.is_set()
    session.close()
    assert is_empty.wait(PATIENCE_S)
