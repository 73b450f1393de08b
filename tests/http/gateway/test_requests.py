"""Requests that are answered by their heads, and answers that every client can use."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from gateway_play import JSON, PATIENCE_S, TEXT

from compoint import Streamable
from compoint.limits import CORRELATOR_BYTES

if TYPE_CHECKING:
    from conftest import GatewayScene


# --- without a session ----------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_look_says_what_this_is_and_takes_nothing(
    gateway_scene: GatewayScene, method: str
) -> None:
    server = gateway_scene.server()
    answer = gateway_scene.client().send(method).result()
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    assert "POST" in answer.json["ask"]
    assert server.statistics().waiting == 0


@pytest.mark.parametrize("method", ["PUT", "PATCH", "OPTIONS", "TRACE", "BREW"])
def test_other_methods_are_named_what_is_allowed(gateway_scene: GatewayScene, method: str) -> None:
    gateway_scene.server()
    answer = gateway_scene.client().send(method, "hello").result()
    assert (answer.status, answer.title) == (405, "bad method")
    assert answer.headers["allow"] == "GET, HEAD, POST, DELETE"


@pytest.mark.parametrize(
    ("method", "query", "headers"),
    [
        ("DELETE", {}, {}),
        ("GET", {"timeout": "20"}, {}),
        ("GET", {}, {"compoint-number": "1"}),
        ("GET", {}, {"compoint-session": "", "compoint-number": "1"}),
    ],
)
def test_a_request_that_has_lost_its_session_is_told_so(
    gateway_scene: GatewayScene, method: str, query: dict[str, str], headers: dict[str, str]
) -> None:
    """A look would be answered by 200, which a program could take for a message."""
    gateway_scene.server()
    answer = gateway_scene.client().send(method, query=query, headers=headers).result()
    assert (answer.status, answer.title) == (400, "bad request")
    assert "ComPoint-Session" in answer.text


@pytest.mark.parametrize("name", ["corelator", "Timeout", "session"])
def test_a_misspelt_parameter_is_not_passed_over(gateway_scene: GatewayScene, name: str) -> None:
    server = gateway_scene.server()
    answer = gateway_scene.client().post("hello", query={name: "1"})
    assert (answer.status, answer.title) == (400, "bad request")
    assert name in answer.text
    assert server.statistics().waiting == 0


def test_a_value_for_open_is_refused(gateway_scene: GatewayScene) -> None:
    gateway_scene.server()
    assert gateway_scene.client().post("hello", query={"open": "false"}).status == 400


def test_a_correlator_that_is_too_long_is_refused(gateway_scene: GatewayScene) -> None:
    gateway_scene.service_point()
    answer = gateway_scene.client().post(
        "hello", query={"correlator": "é" * (CORRELATOR_BYTES // 2 + 1)}
    )
    assert (answer.status, answer.title) == (400, "bad request")


def test_a_request_without_a_message_asks_for_one(gateway_scene: GatewayScene) -> None:
    gateway_scene.server()
    answer = gateway_scene.client().post()
    assert (answer.status, answer.title, answer.fate) == (400, "bad request", "not sent")


def test_a_body_of_curls_own_type_is_answered_with_what_to_say(gateway_scene: GatewayScene) -> None:
    gateway_scene.server()
    form = {"content-type": "application/x-www-form-urlencoded"}
    answer = gateway_scene.client().post(b"two books", headers=form)
    assert (answer.status, answer.title, answer.fate) == (415, "unknown content", "not sent")
    assert "-H 'Content-Type: text/plain'" in answer.json["hint"]


# --- with a session -------------------------------------------------------------------------------


def test_a_look_at_a_session_would_take_a_message(gateway_scene: GatewayScene) -> None:
    gateway_scene.server()
    answer = gateway_scene.client().open().send("HEAD").result()
    assert (answer.status, answer.title) == (405, "bad method")
    assert answer.headers["allow"] == "GET, POST, DELETE"


@pytest.mark.parametrize("number", ["0", "-1", "1.0", "one", "+1", " 1", "01", "9" * 20])
def test_a_number_that_is_none_is_refused(gateway_scene: GatewayScene, number: str) -> None:
    gateway_scene.server()
    session = gateway_scene.client().open()
    for method in ("GET", "POST"):
        answer = session.send(method, "hello", headers={"compoint-number": number}).result()
        assert (answer.status, answer.title) == (400, "bad request"), method


def test_the_parameters_of_an_opening_have_no_meaning_later(gateway_scene: GatewayScene) -> None:
    gateway_scene.server()
    client = gateway_scene.client()
    headers = {"compoint-session": client.open().name, **TEXT}
    answer = client.post("hello", query={"correlator": "order-17"}, headers=headers)
    assert (answer.status, answer.title) == (400, "bad request")


# --- browsers -------------------------------------------------------------------------------------

FOREIGN = [
    {"origin": "https://evil.example", "host": "127.0.0.1:8080"},
    {"origin": "null", "host": "127.0.0.1:8080"},
    {"origin": "http://127.0.0.1:8081", "host": "127.0.0.1:8080"},
    {"sec-fetch-site": "cross-site", "host": "127.0.0.1:8080"},
    {"sec-fetch-site": "same-site", "host": "127.0.0.1:8080"},
]
OWN = [
    {"origin": "http://127.0.0.1:8080", "host": "127.0.0.1:8080"},
    {"sec-fetch-site": "same-origin", "origin": "http://shop.example", "host": "backend:80"},
    {"sec-fetch-site": "none"},
]


@pytest.mark.parametrize("headers", FOREIGN)
def test_a_foreign_page_in_a_browser_here_cannot_write(
    gateway_scene: GatewayScene, headers: dict[str, str]
) -> None:
    """A text/plain POST needs no leave of the browser (cross-site request forgery)."""
    server = gateway_scene.server()
    answer = gateway_scene.client().post("pay me", headers=headers)
    assert (answer.status, answer.title) == (403, "foreign page")
    assert server.statistics().waiting == 0


@pytest.mark.parametrize("headers", OWN)
def test_a_page_of_the_same_site_can_write(
    gateway_scene: GatewayScene, headers: dict[str, str]
) -> None:
    gateway_scene.server()
    assert gateway_scene.client().post(query={"open": ""}, headers=headers).status == 201


# --- every answer ---------------------------------------------------------------------------------


def test_no_cache_keeps_what_was_read_and_no_browser_guesses_what_it_is(
    gateway_scene: GatewayScene,
) -> None:
    server = gateway_scene.server()
    client = gateway_scene.client()
    session = client.open()
    gateway_scene.accept(server).write(b"<script>")
    answers = [
        session.read(), session.read(timeout=0), session.write("hello"), session.close(),
        session.read(), client.send("GET").result(), client.post(),
    ]  # fmt: skip
    assert [each.status for each in answers] == [200, 204, 200, 200, 410, 200, 400]
    for each in answers:
        assert each.headers["cache-control"] == "no-store"
        assert each.headers["x-content-type-options"] == "nosniff"


class Order(Streamable, name="shop.Order"):
    item: str
    count: int = 1


def test_typed_messages_are_written_and_read_as_json(gateway_scene: GatewayScene) -> None:
    server = gateway_scene.server()
    headers = {**JSON, "compoint-type": "shop.Order", "accept": "application/json"}
    asked = gateway_scene.client().send("POST", '{"item": "book"}', headers=headers)
    with gateway_scene.accept(server) as point:
        order = point.read(Order, timeout=PATIENCE_S)
        assert order == Order("book")
        point.write(Order("book", 2))
    assert asked.result().json == {"item": "book", "count": 2}
    assert asked.headers["compoint-type"] == "shop.Order"


def test_a_responder_on_this_machine_knows_that_its_peer_is_local(
    gateway_scene: GatewayScene,
) -> None:
    server = gateway_scene.server()
    for is_local in (True, False):
        gateway_scene.client().send("POST", "hello", is_local=is_local)
        point = gateway_scene.accept(server)
        assert point._driver.wire.is_local is is_local
