"""Conversations of several requests: open, write, read, close; and what happens in between."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from gateway_play import PATH, PATIENCE_S, Asked, Client, Session

from compoint import EndOfMessages, Receipt, SessionLostError
from compoint.core.codes import Code, Ending, How
from compoint.http._exchange import Request
from compoint.http._gateway_bounds import Bounds, Budget
from compoint.http._visit import Visit
from compoint.limits import KIB, MIB
from compoint.testing import Background, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import GatewayScene

    from compoint import ComPoint


def opened(scene: GatewayScene, **settings: int) -> tuple[Session, ComPoint]:
    """A session, and the responder's end of it."""
    server = scene.server(**settings)
    session = scene.client().open()
    return session, scene.accept(server)


# --- a whole conversation -------------------------------------------------------------------------


def test_messages_go_both_ways_until_the_client_closes(gateway_scene: GatewayScene) -> None:
    session, point = opened(gateway_scene)
    assert session.write("one").json == {"number": 1, "confirmed": 1}
    assert session.write("two").json == {"number": 2, "confirmed": 2}
    assert [point.read(timeout=PATIENCE_S) for _ in "12"] == ["one", "two"]
    point.write("three")
    point.write(b"four")
    assert [session.read().body for _ in "34"] == [b"three", b"four"]
    closing = session.close()
    assert (closing.status, closing.json) == (
        200, {"written": 2, "confirmed": 2, "unconfirmed": []},
    )  # fmt: skip
    with pytest.raises(EndOfMessages):
        point.read(timeout=PATIENCE_S)
    assert point.close() == Receipt(2, 2)


def test_a_session_is_opened_with_its_first_message(gateway_scene: GatewayScene) -> None:
    server = gateway_scene.server()
    answer = gateway_scene.client().post("hello", query={"open": ""})
    assert answer.status == 201
    session = answer.headers["compoint-session"]
    assert answer.json == {"session": session, "number": 1, "confirmed": 1}
    assert gateway_scene.accept(server).read(timeout=PATIENCE_S) == "hello"


def test_a_session_is_opened_onto_a_channel(gateway_scene: GatewayScene) -> None:
    service_point = gateway_scene.service_point()
    session = gateway_scene.client().open("early", correlator="order-17")
    with service_point.open_responder_channel(None, "order-17", timeout=PATIENCE_S) as point:
        assert point.read(timeout=PATIENCE_S) == "early"
        point.write("agreed")
        assert session.read().text == "agreed"
        assert session.close().json["confirmed"] == 1
        with pytest.raises(EndOfMessages):
            point.read(timeout=PATIENCE_S)


def test_many_conversations_stay_apart(gateway_scene: GatewayScene) -> None:
    server = gateway_scene.server()
    client = gateway_scene.client()

    def echo() -> None:
        for _ in range(100):
            with server.accept(timeout=PATIENCE_S) as point:
                for message in point:
                    point.write(f"{message}!")

    # Opened before any is served: they wait in the server's line together.
    sessions = [client.open(f"hello {index}") for index in range(100)]
    responder = Background(echo)
    for index, session in enumerate(sessions):
        assert session.read().text == f"hello {index}!"
        assert session.close().status == 200
    responder.result(PATIENCE_S)


# --- opening --------------------------------------------------------------------------------------


def test_a_refused_session_does_not_begin(gateway_scene: GatewayScene) -> None:
    gateway_scene.server(backlog=1)
    client = gateway_scene.client()
    client.open()
    answer = client.post(query={"open": ""})
    assert (answer.status, answer.title) == (503, "busy")
    assert "compoint-session" not in answer.headers


def test_a_plain_session_at_a_service_point_is_refused(gateway_scene: GatewayScene) -> None:
    gateway_scene.service_point()
    answer = gateway_scene.client().post("hello", query={"open": ""})
    assert (answer.status, answer.title, answer.fate) == (409, "wrong mode", "not sent")


def test_a_server_that_answers_nothing_is_given_up(gateway_scene: GatewayScene) -> None:
    gateway_scene.server()
    gateway_scene.opener.places[-1].on_ready(None)
    answer = gateway_scene.client().post(query={"open": "", "timeout": "0.1"})
    assert (answer.status, answer.title) == (504, "no answer")


def test_a_session_whose_first_message_finds_no_room_does_not_begin(
    gateway_scene: GatewayScene,
) -> None:
    gateway_scene.service_point()
    query = {"open": "", "correlator": "order-17", "timeout": "0.05"}
    answer = gateway_scene.client().post("x" * MIB, query=query)
    assert (answer.status, answer.title, answer.fate) == (503, "busy", "not sent")
    eventually(lambda: gateway_scene.gateway.is_empty)


def test_a_client_that_leaves_before_it_has_its_session_leaves_nothing(
    gateway_scene: GatewayScene,
) -> None:
    server = gateway_scene.server()
    gateway_scene.client().send("POST", "hello", {"open": ""}).leave()
    with pytest.raises(SessionLostError, match="the client left"):
        for _ in gateway_scene.accept(server):
            pass
    eventually(lambda: gateway_scene.gateway.is_empty)


def test_an_opening_body_that_curl_sends_for_nothing_is_no_message(
    gateway_scene: GatewayScene,
) -> None:
    """`curl -d ''` says that it is a form."""
    server = gateway_scene.server()
    form = {"content-type": "application/x-www-form-urlencoded"}
    assert gateway_scene.client().post(query={"open": ""}, headers=form).status == 201
    assert gateway_scene.accept(server).statistics().received == 0


# --- reading --------------------------------------------------------------------------------------


def test_a_read_waits_for_the_message(gateway_scene: GatewayScene) -> None:
    session, point = opened(gateway_scene)
    asked = session.send("GET")
    assert not asked.is_answered
    point.write("here it is")
    assert asked.result().text == "here it is"


def test_a_read_in_vain_is_answered_by_204_and_can_be_repeated(
    gateway_scene: GatewayScene,
) -> None:
    session, point = opened(gateway_scene)
    assert session.read(timeout=0.05).status == 204
    assert session.read(timeout=0).status == 204
    point.write("late")
    assert session.read().text == "late"


def test_a_message_for_a_client_that_has_left_goes_to_its_next_read(
    gateway_scene: GatewayScene,
) -> None:
    session, point = opened(gateway_scene)
    asked = session.send("GET")
    asked.leave()
    point.write("not lost")
    assert session.read().text == "not lost"


def test_a_message_that_crossed_with_the_clients_leaving_is_not_lost(
    gateway_scene: GatewayScene,
) -> None:
    """It was given to a request whose client the face had not seen leaving."""
    session, point = opened(gateway_scene)
    asked = session.send("GET")
    asked._has_left = True
    point.write("not lost")
    point.flush(timeout=PATIENCE_S)
    asked.taker.gone()
    assert session.read().text == "not lost"


def test_a_message_that_was_not_received_goes_to_a_read_that_waits_already(
    gateway_scene: GatewayScene,
) -> None:
    """The client's next request is seen before its leaving is."""
    session, point = opened(gateway_scene)
    first = session.send("GET")
    first._has_left = True
    point.write("not lost")
    point.flush(timeout=PATIENCE_S)
    second = session.send("GET")
    first.taker.gone()
    assert second.result().text == "not lost"


def test_a_later_read_takes_the_place_of_an_earlier_one(gateway_scene: GatewayScene) -> None:
    """The client of the earlier one has most likely left, and nobody has noticed."""
    session, point = opened(gateway_scene)
    first = session.send("GET")
    second = session.send("GET")
    assert (first.result().status, first.title) == (409, "replaced")
    point.write("for the second")
    assert second.result().text == "for the second"


def test_a_reader_holds_up_the_writer_behind_the_window(gateway_scene: GatewayScene) -> None:
    server = gateway_scene.server()
    gateway_scene.new_gateway(window_bytes=64 * KIB)
    session = gateway_scene.client().open()
    point = gateway_scene.accept(server)

    def flood() -> None:
        for index in range(100):
            point.write(bytes([index]) * 10 * KIB)

    writing = Background(flood).blocked()
    assert [session.read().body[0] for _ in range(100)] == list(range(100))
    writing.result()


# --- writing --------------------------------------------------------------------------------------


def test_a_write_waits_for_credit(gateway_scene: GatewayScene) -> None:
    session, point = opened(gateway_scene, window_bytes=64 * KIB)
    for _ in range(4):
        session.write("x" * 15 * KIB)
    asked = session.send("POST", "x" * 15 * KIB)
    assert not asked.is_answered
    for _ in range(5):
        point.read(timeout=PATIENCE_S)
    assert asked.result().json == {"number": 5, "confirmed": 5}


def test_without_credit_in_time_nothing_is_taken(gateway_scene: GatewayScene) -> None:
    session, point = opened(gateway_scene, window_bytes=64 * KIB)
    for _ in range(4):
        session.write("x" * 15 * KIB)
    answer = session.write("y" * 15 * KIB, timeout=0.05)
    assert (answer.status, answer.title, answer.fate) == (503, "busy", "not sent")
    assert answer.headers["retry-after"] == "1"
    for _ in range(4):
        point.read(timeout=PATIENCE_S)
    assert session.write("z").number == 5
    assert point.read(timeout=PATIENCE_S) == "z"


def test_a_large_message_that_is_not_taken_in_time_is_taken_back(
    gateway_scene: GatewayScene,
) -> None:
    session, point = opened(gateway_scene, window_bytes=64 * KIB)
    session.write("first")
    answer = session.write("x" * MIB, timeout=0.05)
    assert (answer.status, answer.fate) == (503, "not sent")
    assert point.read(timeout=PATIENCE_S) == "first"
    assert session.write("second").number == 2
    assert point.read(timeout=PATIENCE_S) == "second"


def test_writes_of_several_requests_stay_whole_and_in_order(gateway_scene: GatewayScene) -> None:
    session, point = opened(gateway_scene, window_bytes=64 * KIB)
    asked = [session.send("POST", f"{index}" * 100 * KIB) for index in range(5)]
    for index in range(5):
        assert point.read(timeout=PATIENCE_S) == f"{index}" * 100 * KIB
    assert [each.result().number for each in asked] == [1, 2, 3, 4, 5]


def test_both_sides_may_write_before_they_read(gateway_scene: GatewayScene) -> None:
    session, point = opened(gateway_scene, window_bytes=64 * KIB)
    writing = Background(point.write, b"r" * MIB)
    written = session.send("POST", "x" * MIB)
    assert session.read().body == b"r" * MIB
    assert point.read(timeout=PATIENCE_S) == "x" * MIB
    assert written.result().status == 200
    writing.result()


# --- the responder ends it ------------------------------------------------------------------------


def test_what_was_written_before_the_responder_closed_can_be_read(
    gateway_scene: GatewayScene,
) -> None:
    session, point = opened(gateway_scene)
    point.write("one")
    point.write("two")
    point.close()
    assert [session.read().text for _ in "12"] == ["one", "two"]
    over = session.read()
    assert (over.status, over.title) == (410, "closed")
    assert session.close().json == {"written": 0, "confirmed": 0, "unconfirmed": []}


def test_a_waiting_read_is_told_that_the_responder_closed(gateway_scene: GatewayScene) -> None:
    session, point = opened(gateway_scene)
    asked = session.send("GET")
    point.close()
    assert (asked.result().status, asked.title) == (410, "closed")


def test_a_waiting_read_is_told_that_the_responder_broke_off(gateway_scene: GatewayScene) -> None:
    session, point = opened(gateway_scene)
    asked = session.send("GET")
    point.abort("out of paper")
    assert (asked.result().status, asked.title) == (410, "abandoned")
    assert "out of paper" in asked.text


def test_a_way_that_is_cut_is_told_from_a_goodbye(gateway_scene: GatewayScene) -> None:
    session, point = opened(gateway_scene)
    session.write("hello")
    with point._driver.lock:
        point._driver.retire()
    over = session.read()
    assert (over.status, over.title) == (410, "lost")


def test_a_write_after_the_responder_closed_is_not_sent(gateway_scene: GatewayScene) -> None:
    session, point = opened(gateway_scene)
    point.close()
    over = session.write("too late")
    assert (over.status, over.title, over.fate) == (410, "closed", "not sent")


def test_a_write_that_waits_while_the_responder_closes_is_not_sent(
    gateway_scene: GatewayScene,
) -> None:
    session, point = opened(gateway_scene, window_bytes=64 * KIB)
    session.write("what nobody reads keeps the rest waiting")
    asked = session.send("POST", "x" * MIB)
    assert not asked.is_answered
    point.close()
    assert (asked.result().status, asked.title, asked.fate) == (410, "closed", "not sent")


def test_the_receipt_names_what_the_responder_did_not_read(gateway_scene: GatewayScene) -> None:
    session, point = opened(gateway_scene)
    for message in ("one", "two", "three"):
        session.write(message)
    assert point.read(timeout=PATIENCE_S) == "one"
    point.close()
    receipt = session.close().json
    assert receipt.pop("reason") == "the peer closed without reading 2 of 3 messages"
    assert receipt == {"written": 3, "confirmed": 1, "unconfirmed": [2, 3]}


def test_the_refusal_of_a_channel_is_told_to_its_session(gateway_scene: GatewayScene) -> None:
    service_point = gateway_scene.service_point()
    session = gateway_scene.client().open("early", correlator="order-17")
    service_point.stop()
    over = session.read()
    assert (over.status, over.title) == (410, "stopped")
    assert "refused" in over.text
    assert session.close().json["unconfirmed"] == [1]


# --- the client ends it ---------------------------------------------------------------------------


def test_a_waiting_read_is_told_that_its_session_was_closed(gateway_scene: GatewayScene) -> None:
    session, _ = opened(gateway_scene)
    asked = session.send("GET")
    session.close()
    assert (asked.result().status, asked.title) == (410, "closed")


def test_a_waiting_write_is_taken_back_when_its_session_is_closed(
    gateway_scene: GatewayScene,
) -> None:
    session, point = opened(gateway_scene, window_bytes=64 * KIB)
    session.write("what nobody reads keeps the rest waiting")
    asked = session.send("POST", "x" * MIB)
    session.close()
    assert (asked.result().status, asked.title, asked.fate) == (410, "closed", "not sent")
    assert len(list(point)) == 1


def test_what_the_client_has_not_read_is_given_back(gateway_scene: GatewayScene) -> None:
    session, point = opened(gateway_scene)
    for message in ("one", "two", "three"):
        point.write(message)
    assert session.read().text == "one"
    session.close()
    receipt = point.close()
    assert (receipt.written, receipt.confirmed) == (3, 1)


def test_what_the_client_never_received_is_given_back(gateway_scene: GatewayScene) -> None:
    session, point = opened(gateway_scene)
    asked = session.send("GET")
    asked._has_left = True
    point.write("nobody has it")
    point.flush(timeout=PATIENCE_S)
    asked.taker.gone()
    session.close()
    assert list(point) == []
    assert point.close().unconfirmed == range(1, 2)


def test_a_closed_session_is_gone_and_its_receipt_can_be_asked_for_again(
    gateway_scene: GatewayScene,
) -> None:
    session, _ = opened(gateway_scene)
    session.write("one")
    receipt = session.close().json
    for over in (session.read(), session.write("two")):
        assert (over.status, over.title) == (410, "closed")
    assert session.close().json == receipt
    assert gateway_scene.gateway.is_empty


@pytest.fixture
def deaf(gateway_scene: GatewayScene) -> Iterator[Session]:
    """A session whose server does not get to confirming anything."""
    service_point = gateway_scene.service_point()
    gateway_scene.new_gateway(close_s=0.05)
    session = gateway_scene.client().open(correlator="order-17")
    with service_point.open_responder_channel(None, "order-17", timeout=PATIENCE_S) as point:
        driver = point._driver
        # The service point has a pump of its own: only that one is held up.
        with driver.lock:
            yield session


def test_a_write_that_is_not_confirmed_in_time_says_so(deaf: Session) -> None:
    answer = deaf.write("hello", timeout=0.05)
    assert (answer.status, answer.json) == (202, {"number": 1, "confirmed": 0})


@pytest.mark.parametrize("timeout", [None, 0.05])
def test_closing_waits_for_confirmation_only_so_long(deaf: Session, timeout: float | None) -> None:
    deaf.write("hello", timeout=0)
    assert deaf.close(timeout=timeout).json == {
        "written": 1, "confirmed": 0, "unconfirmed": [1], "reason": "not confirmed in time",
    }  # fmt: skip


def test_a_session_that_is_over_before_it_has_its_name_is_known(
    gateway_scene: GatewayScene,
) -> None:
    gateway_scene.server()
    gateway, place = gateway_scene.gateway, gateway_scene.opener.places[-1]
    exchange = Asked(Request("POST", PATH, {}, {}, "http://test:1", True))
    conversation = gateway.new(Visit(exchange, Bounds(), Budget(0)), place, None)
    conversation.abort(Ending(How.BROKEN, Code.ABANDONED, "it was quick"))
    over = Session(gateway_scene.client(), gateway.name(conversation, PATH)).read()
    assert (over.status, over.title) == (410, "abandoned")


# --- unknown sessions -----------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_an_unknown_session_is_not_found(gateway_scene: GatewayScene, method: str) -> None:
    session, _ = opened(gateway_scene)
    session.name = session.name[:-1]
    answer = session.send(method, "x").result()
    assert (answer.status, answer.title) == (404, "no such session")


def test_a_session_is_not_found_at_another_path(gateway_scene: GatewayScene) -> None:
    session, point = opened(gateway_scene)
    point.write("for /orders only")
    session.client = Client(gateway_scene.gateway, gateway_scene.opener.places[-1], "/other")
    assert (session.read().status, session.read().title) == (404, "no such session")


def test_sessions_have_names_that_nobody_can_guess(gateway_scene: GatewayScene) -> None:
    gateway_scene.server()
    client = gateway_scene.client()
    names = {client.open().name for _ in range(50)}
    assert len(names) == 50
    assert all(len(name) == 32 for name in names)


def test_a_session_lives_on_when_its_place_is_closed(gateway_scene: GatewayScene) -> None:
    """As every point that a server has accepted."""
    server = gateway_scene.server()
    session = gateway_scene.client().open()
    point = gateway_scene.accept(server)
    server.close()
    session.client.place = None
    session.write("still here")
    assert point.read(timeout=PATIENCE_S) == "still here"
    assert session.client.post("hello").status == 404
