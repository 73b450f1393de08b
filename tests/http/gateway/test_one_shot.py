"""One request, one reply: the shortest way to talk to a responder by HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from gateway_play import PATIENCE_S

from compoint import EndOfMessages, SessionLostError, TooLargeError
from compoint.limits import KIB, MIB
from compoint.testing import Background, eventually

if TYPE_CHECKING:
    from conftest import GatewayScene

    from compoint.drive.plain import PlainServer


def reply_once(server: PlainServer, reply: Any) -> Any:
    """A responder that takes one message, writes one, and waits for the goodbye."""
    with server.accept(timeout=PATIENCE_S) as point:
        message = point.read(timeout=PATIENCE_S)
        point.write(reply, timeout=PATIENCE_S)
        with pytest.raises(EndOfMessages):
            point.read(timeout=PATIENCE_S)
        return message


# --- replies --------------------------------------------------------------------------------------


def test_the_reply_is_the_answer(gateway_scene: GatewayScene) -> None:
    server = gateway_scene.server()
    responder = Background(reply_once, server, "agreed")
    answer = gateway_scene.client().post("two books")
    assert (answer.status, answer.text) == (200, "agreed")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.number == 1
    assert responder.result() == "two books"


def test_a_responder_that_replies_and_leaves_at_once_has_replied(
    gateway_scene: GatewayScene,
) -> None:
    server = gateway_scene.server()
    asked = gateway_scene.client().send("POST", "now")
    with gateway_scene.accept(server) as point:
        point.write("here")
    assert (asked.result().status, asked.text) == (200, "here")


@pytest.mark.parametrize("size", [0, 1, 16 * KIB, 16 * KIB + 1, 64 * KIB, 4 * MIB])
def test_messages_of_every_size_go_both_ways(gateway_scene: GatewayScene, size: int) -> None:
    server = gateway_scene.server()
    message, reply = bytes(range(256)) * (size // 256), b"r" * size
    responder = Background(reply_once, server, reply)
    octets = {"content-type": "application/octet-stream"}
    answer = gateway_scene.client().post(message, headers=octets)
    assert answer.status == 200
    assert answer.body == reply
    assert responder.result() == message


def test_the_responder_sees_who_asks(gateway_scene: GatewayScene) -> None:
    server = gateway_scene.server()
    asked = gateway_scene.client().send("POST", "who am I?")
    with gateway_scene.accept(server) as point:
        point.write(point.peer)
    assert asked.result().text == "http://test:1 (request)"


def test_a_channel_is_asked_by_its_correlator(gateway_scene: GatewayScene) -> None:
    service_point = gateway_scene.service_point()
    asked = gateway_scene.client().send("POST", "two books", {"correlator": "order-17"})
    with service_point.open_responder_channel(None, "order-17", timeout=PATIENCE_S) as point:
        assert point.read(timeout=PATIENCE_S) == "two books"
        point.write("agreed")
    assert (asked.result().status, asked.text) == (200, "agreed")
    eventually(lambda: service_point.statistics().connections == 0)


def test_a_large_message_goes_to_a_channel(gateway_scene: GatewayScene) -> None:
    """More than the first credit: the rest leaves when a responder is there."""
    service_point = gateway_scene.service_point()
    asked = gateway_scene.client().send("POST", "x" * MIB, {"correlator": "order-17"})
    with service_point.open_responder_channel(None, "order-17", timeout=PATIENCE_S) as point:
        assert point.read(timeout=PATIENCE_S) == "x" * MIB
        point.write("y" * MIB, timeout=PATIENCE_S)
    assert asked.result().text == "y" * MIB


def test_many_clients_at_once_get_each_its_own_reply(gateway_scene: GatewayScene) -> None:
    server = gateway_scene.server()
    client = gateway_scene.client()

    def ask(name: str) -> list[str]:
        return [client.post(f"{name}-{index}").text for index in range(25)]

    asking = [Background(ask, f"client-{number}") for number in range(8)]
    for _ in range(8 * 25):
        with server.accept(timeout=PATIENCE_S) as point:
            point.write(f"{point.read(timeout=PATIENCE_S)}!")
    for number, each in enumerate(asking):
        assert each.result(PATIENCE_S) == [f"client-{number}-{index}!" for index in range(25)]


# --- endings without a reply ----------------------------------------------------------------------


def test_a_message_that_wants_no_reply_is_answered_by_204(gateway_scene: GatewayScene) -> None:
    server = gateway_scene.server()
    asked = gateway_scene.client().send("POST", "for your information")
    with gateway_scene.accept(server) as point:
        point.read(timeout=PATIENCE_S)
    assert asked.result().status == 204
    assert asked.body == b""


def test_a_message_that_nobody_reads_is_given_back(gateway_scene: GatewayScene) -> None:
    server = gateway_scene.server()
    asked = gateway_scene.client().send("POST", "read me")
    gateway_scene.accept(server).close()
    assert (asked.result().status, asked.title, asked.fate) == (502, "closed", "not sent")


def test_a_responder_that_breaks_off_says_why(gateway_scene: GatewayScene) -> None:
    server = gateway_scene.server()
    asked = gateway_scene.client().send("POST", "divide by zero")
    point = gateway_scene.accept(server)
    point.read(timeout=PATIENCE_S)
    point.abort("the responder failed with ZeroDivisionError")
    assert (asked.result().status, asked.title, asked.fate) == (502, "abandoned", "delivered")
    assert "ZeroDivisionError" in asked.text


def test_no_reply_in_time_says_that_the_message_was_delivered(gateway_scene: GatewayScene) -> None:
    server = gateway_scene.server()
    asked = gateway_scene.client().send("POST", "slow", {"timeout": "0.2"})
    point = gateway_scene.accept(server)
    assert point.read(timeout=PATIENCE_S) == "slow"
    assert (asked.result().status, asked.title, asked.fate) == (504, "no reply", "delivered")
    assert "holds the message" in asked.text
    with pytest.raises(SessionLostError, match=r"no reply came within 0\.2 s"):
        point.read(timeout=PATIENCE_S)


def test_a_channel_that_nobody_opens_is_named(gateway_scene: GatewayScene) -> None:
    gateway_scene.service_point()
    asked = gateway_scene.client().post("hello", query={"correlator": "order-17", "timeout": "0.1"})
    assert (asked.status, asked.title, asked.fate) == (504, "no reply", "delivered")
    assert "no responder has opened the channel 'order-17'" in asked.text


def test_a_message_larger_than_the_first_credit_is_not_sent_to_nobody(
    gateway_scene: GatewayScene,
) -> None:
    gateway_scene.service_point()
    asked = gateway_scene.client().post(
        "x" * MIB, query={"correlator": "order-17", "timeout": "0.1"}
    )
    assert (asked.status, asked.fate) == (504, "not sent")


def test_a_client_that_leaves_ends_the_conversation(gateway_scene: GatewayScene) -> None:
    server = gateway_scene.server()
    asked = gateway_scene.client().send("POST", "never mind")
    point = gateway_scene.accept(server)
    assert point.read(timeout=PATIENCE_S) == "never mind"
    asked.leave()
    with pytest.raises(SessionLostError, match="the client left"):
        point.read(timeout=PATIENCE_S)


# --- refusals -------------------------------------------------------------------------------------


def test_too_many_waiting_initiators_are_told_to_come_later(gateway_scene: GatewayScene) -> None:
    gateway_scene.server(backlog=1)
    client = gateway_scene.client()
    first = client.send("POST", "one")
    answer = client.post("two")
    assert (answer.status, answer.title, answer.fate) == (503, "busy", "not sent")
    assert answer.headers["retry-after"] == "1"
    assert not first.is_answered


def test_a_place_that_takes_nobody_is_busy(gateway_scene: GatewayScene) -> None:
    gateway_scene.server()
    gateway_scene.opener.places[-1].most = 0
    answer = gateway_scene.client().post("one")
    assert (answer.status, answer.title, answer.fate) == (503, "busy", "not sent")


def test_a_server_that_closes_refuses_who_waits(gateway_scene: GatewayScene) -> None:
    server = gateway_scene.server()
    asked = gateway_scene.client().send("POST", "one")
    eventually(lambda: server.statistics().waiting == 1)
    server.close()
    assert (asked.result().status, asked.title, asked.fate) == (503, "stopped", "not sent")


def test_a_server_that_closed_before_it_looked_refuses_too(gateway_scene: GatewayScene) -> None:
    gateway_scene.server()
    place = gateway_scene.opener.places[-1]
    place.on_ready(None)
    asked = gateway_scene.client().send("POST", "one")
    place.close()
    assert (asked.result().status, asked.title, asked.fate) == (503, "stopped", "not sent")


def test_a_channel_at_a_plain_server_is_refused(gateway_scene: GatewayScene) -> None:
    gateway_scene.server()
    answer = gateway_scene.client().post("hello", query={"correlator": "order-17"})
    assert (answer.status, answer.title, answer.fate) == (409, "wrong mode", "not sent")
    assert "leave ?correlator out" in answer.json["hint"]


def test_a_plain_message_at_a_service_point_is_refused(gateway_scene: GatewayScene) -> None:
    gateway_scene.service_point()
    answer = gateway_scene.client().post("hello")
    assert (answer.status, answer.title) == (409, "wrong mode")
    assert "?correlator=NAME" in answer.json["hint"]


def test_a_channel_of_a_service_point_that_stops_is_refused(gateway_scene: GatewayScene) -> None:
    service_point = gateway_scene.service_point()
    asked = gateway_scene.client().send("POST", "hello", {"correlator": "order-17"})
    eventually(lambda: service_point.statistics().queued == 1)
    service_point.stop()
    assert (asked.result().status, asked.title, asked.fate) == (503, "stopped", "not sent")


# --- sizes ----------------------------------------------------------------------------------------


def test_a_message_beyond_the_responders_limit_is_not_sent(gateway_scene: GatewayScene) -> None:
    server = gateway_scene.server(max_message_bytes=64 * KIB)
    asked = gateway_scene.client().send("POST", "x" * (64 * KIB + 1))
    point = gateway_scene.accept(server)
    assert (asked.result().status, asked.title, asked.fate) == (413, "too large", "not sent")
    assert "65536" in asked.text
    with pytest.raises(SessionLostError):
        point.read(timeout=PATIENCE_S)


def test_a_reply_beyond_the_gateways_limit_fails_where_it_is_written(
    gateway_scene: GatewayScene,
) -> None:
    server = gateway_scene.server()
    gateway_scene.new_gateway(body_bytes=MIB)
    asked = gateway_scene.client().send("POST", "how much?")
    point = gateway_scene.accept(server)
    with pytest.raises(TooLargeError, match=str(MIB)):
        point.write(b"x" * (MIB + 1), timeout=PATIENCE_S)
    point.write("so much")
    assert asked.result().text == "so much"
