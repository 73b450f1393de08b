"""Safe repeats: whatever request is lost or repeated, no message is lost or doubled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest
from gateway_play import JSON, PATIENCE_S, TEXT, Asked

from compoint.http._exchange import Request
from compoint.http._gateway_bounds import Bounds
from compoint.http._repeats import KeptAnswers, Repeats
from compoint.limits import KIB, MIB
from compoint.testing import eventually

if TYPE_CHECKING:
    from conftest import GatewayScene
    from gateway_play import Session

    from compoint import ComPoint

KEY: Final = {"idempotency-key": "0a1b2c3d-one-request"}


def opened(scene: GatewayScene, **settings: int) -> tuple[Session, ComPoint]:
    server = scene.server(**settings)
    session = scene.client().open()
    return session, scene.accept(server)


# --- writes with numbers --------------------------------------------------------------------------


def test_a_repeated_write_is_not_delivered_twice(gateway_scene: GatewayScene) -> None:
    session, point = opened(gateway_scene)
    first = session.write("one", number=1)
    assert session.write("one", number=1).json == first.json
    assert session.write("two", number=2).number == 2
    assert session.write("one", number=1).number == 1
    session.close()
    assert list(point) == ["one", "two"]


def test_a_number_too_high_is_refused_and_names_the_right_one(gateway_scene: GatewayScene) -> None:
    session, point = opened(gateway_scene)
    answer = session.write("two", number=2)
    assert (answer.status, answer.title, answer.fate) == (409, "wrong number", "not sent")
    assert answer.number == 1
    session.close()
    assert list(point) == []


def test_a_repeat_of_a_write_that_waits_for_credit_gets_the_same_answer(
    gateway_scene: GatewayScene,
) -> None:
    session, point = opened(gateway_scene, window_bytes=64 * KIB)
    session.write("first", number=1)
    asked = [session.send("POST", "x" * MIB, number=2) for _ in range(2)]
    assert not any(each.is_answered for each in asked)
    assert [len(point.read(timeout=PATIENCE_S)) for _ in "12"] == [5, MIB]
    assert [each.result().json["number"] for each in asked] == [2, 2]
    session.close()
    assert list(point) == []


def test_a_repeat_of_a_write_that_never_gets_credit_is_answered_too(
    gateway_scene: GatewayScene,
) -> None:
    session, point = opened(gateway_scene, window_bytes=64 * KIB)
    session.write("first", number=1)
    asked = [session.send("POST", "x" * MIB, number=2) for _ in range(2)]
    point.close()
    assert [each.result().title for each in asked] == ["closed", "closed"]


def test_a_repeat_of_a_write_that_was_not_taken_is_a_new_one(gateway_scene: GatewayScene) -> None:
    session, point = opened(gateway_scene, window_bytes=64 * KIB)
    session.write("first", number=1)
    assert session.write("x" * MIB, number=2, timeout=0.05).status == 503
    assert point.read(timeout=PATIENCE_S) == "first"
    asked = session.send("POST", "x" * MIB, number=2)
    assert len(point.read(timeout=PATIENCE_S)) == MIB
    assert asked.result().number == 2


def test_a_write_behind_one_that_was_given_up_does_not_take_its_number(
    gateway_scene: GatewayScene,
) -> None:
    session, point = opened(gateway_scene, window_bytes=64 * KIB)
    session.write("first", number=1)
    second = session.send("POST", "x" * MIB, number=2, timeout=0.05)
    third = session.send("POST", "third", number=3)
    assert second.result().status == 503
    assert (third.result().status, third.title, third.number) == (409, "wrong number", 2)
    session.close()
    assert list(point) == ["first"]


def test_a_repeated_write_after_the_end_tells_what_became_of_it(
    gateway_scene: GatewayScene,
) -> None:
    session, point = opened(gateway_scene)
    session.write("one", number=1)
    assert point.read(timeout=PATIENCE_S) == "one"
    session.write("two", number=2)
    point.close()
    eventually(lambda: session.read().status == 410)
    assert session.write("one", number=1).status == 200
    given_back = session.write("two", number=2)
    assert (given_back.status, given_back.title, given_back.fate) == (410, "closed", "not sent")


# --- reads with numbers ---------------------------------------------------------------------------


def test_a_numbered_read_can_be_repeated_until_the_next_is_asked_for(
    gateway_scene: GatewayScene,
) -> None:
    session, point = opened(gateway_scene)
    for message in ("one", "two"):
        point.write(message)
    for number, text in ((1, "one"), (1, "one"), (2, "two"), (2, "two")):
        answer = session.read(number=number)
        assert (answer.text, answer.number) == (text, number)
    forgotten = session.read(number=1)
    assert (forgotten.status, forgotten.title, forgotten.number) == (409, "wrong number", 3)


def test_a_numbered_read_of_a_later_message_is_refused(gateway_scene: GatewayScene) -> None:
    session, point = opened(gateway_scene)
    point.write("one")
    answer = session.read(number=2)
    assert (answer.status, answer.title, answer.number) == (409, "wrong number", 1)
    assert session.read(number=1).text == "one"


def test_a_read_without_a_number_gives_each_message_once(gateway_scene: GatewayScene) -> None:
    session, point = opened(gateway_scene)
    for message in ("one", "two"):
        point.write(message)
    assert [session.read().text for _ in "12"] == ["one", "two"]
    assert session.read(timeout=0).status == 204


def test_asking_for_the_next_message_forgets_the_last(gateway_scene: GatewayScene) -> None:
    session, point = opened(gateway_scene)
    point.write("one")
    session.read(number=1)
    assert session.read(number=2, timeout=0).status == 204
    assert session.read(number=1).title == "wrong number"


# --- requests with a key --------------------------------------------------------------------------


def test_a_repeated_request_gets_the_same_reply_from_memory(gateway_scene: GatewayScene) -> None:
    server = gateway_scene.server()
    client = gateway_scene.client()
    asked = client.send("POST", "two books", headers=KEY)
    with gateway_scene.accept(server) as point:
        point.write("agreed")
    first = asked.result()
    again = client.post("two books", headers=KEY)
    assert (again.status, again.headers, again.body) == (200, first.headers, b"agreed")
    assert server.statistics().accepted == 1
    assert server.statistics().waiting == 0


def test_a_request_that_is_repeated_before_its_reply_waits_for_the_same(
    gateway_scene: GatewayScene,
) -> None:
    server = gateway_scene.server()
    client = gateway_scene.client()
    first = client.send("POST", "two books", headers=KEY)
    first.leave()
    second = client.send("POST", "two books", headers=KEY)
    with gateway_scene.accept(server) as point:
        assert point.read(timeout=PATIENCE_S) == "two books"
        point.write("agreed")
    assert second.result().text == "agreed"
    assert server.statistics().waiting == 0


def test_a_repeated_opening_gets_the_same_session(gateway_scene: GatewayScene) -> None:
    server = gateway_scene.server()
    client = gateway_scene.client()
    names = {
        client.post("hello", query={"open": ""}, headers=KEY).headers["compoint-session"]
        for _ in range(3)
    }
    assert len(names) == 1
    assert gateway_scene.accept(server).read(timeout=PATIENCE_S) == "hello"
    assert server.statistics().waiting == 0


def test_a_request_that_was_refused_can_be_repeated_in_earnest(gateway_scene: GatewayScene) -> None:
    server = gateway_scene.server(backlog=1)
    client = gateway_scene.client()
    client.open()
    assert client.post("two books", headers=KEY).status == 503
    gateway_scene.accept(server)
    asked = client.send("POST", "two books", headers=KEY)
    with gateway_scene.accept(server) as point:
        point.write("agreed")
    assert asked.result().text == "agreed"


@pytest.mark.parametrize("is_answered", [False, True])
@pytest.mark.parametrize(
    ("body", "query", "kind"),
    [
        ("3", {}, JSON),
        ("{}", {"timeout": "9"}, JSON),
        ("{}", {}, TEXT),
        ("{}", {}, {**JSON, "compoint-type": "Order"}),
    ],
    ids=["body", "query", "content type", "class"],
)
def test_a_key_used_for_another_request_is_refused(
    gateway_scene: GatewayScene,
    body: str,
    query: dict[str, str],
    kind: dict[str, str],
    *,
    is_answered: bool,
) -> None:
    """Whoever hits upon somebody's key must not get that one's reply."""
    server = gateway_scene.server()
    client = gateway_scene.client()
    asked = client.send("POST", "{}", headers={**JSON, **KEY})
    if is_answered:
        with gateway_scene.accept(server) as point:
            point.write("agreed")
        asked.result()
    answer = client.post(body, query=query, headers={**kind, **KEY})
    assert (answer.status, answer.title) == (422, "key reused")


def test_the_same_key_at_another_path_is_another_request(gateway_scene: GatewayScene) -> None:
    server = gateway_scene.server()
    for path in ("/orders", "/offers"):
        client = gateway_scene.client()
        client.path = path
        asked = client.send("POST", "two books", headers=KEY)
        with gateway_scene.accept(server) as point:
            point.write(path)
        assert asked.result().text == path


@pytest.mark.parametrize("key", ["", "17", "x" * 15, "x" * 256])
def test_a_key_that_others_could_hit_upon_is_refused(gateway_scene: GatewayScene, key: str) -> None:
    gateway_scene.server()
    answer = gateway_scene.client().post("hello", headers={"idempotency-key": key})
    assert (answer.status, answer.title) == (400, "bad request")
    assert "uuidgen" in answer.json["hint"]


def test_a_session_takes_numbers_and_no_keys(gateway_scene: GatewayScene) -> None:
    session, _ = opened(gateway_scene)
    answer = session.write("hello", headers=KEY)
    assert (answer.status, answer.json["hint"]) == (400, "use ComPoint-Number")


# --- what is kept ---------------------------------------------------------------------------------


def answer_of(size: int) -> tuple[int, dict[str, str], bytes]:
    return 200, {}, bytes(size)


def test_only_so_many_answers_are_kept() -> None:
    kept = KeptAnswers(Bounds(kept_answers=3))
    for index in range(5):
        kept.keep(f"{index}", answer_of(0))
    assert [index for index in range(5) if kept.get(f"{index}")] == [2, 3, 4]


def test_only_so_many_bytes_are_kept() -> None:
    kept = KeptAnswers(Bounds(kept_bytes=100 * KIB))
    for index in range(5):
        kept.keep(f"{index}", answer_of(30 * KIB))
    assert [index for index in range(5) if kept.get(f"{index}")] == [2, 3, 4]
    kept.keep("huge", answer_of(MIB))
    assert not kept.get("huge")


def test_an_answer_is_kept_only_so_long() -> None:
    kept = KeptAnswers(Bounds(kept_s=0.0))
    for index in range(3):
        kept.keep(f"{index}", answer_of(0))
        assert not kept.get(f"{index}")
    assert len(kept._kept) == 0


def test_an_answer_kept_again_counts_once() -> None:
    kept = KeptAnswers(Bounds(kept_bytes=100 * KIB))
    for _ in range(5):
        kept.keep("one", answer_of(90 * KIB))
    assert kept.get("one")


def test_an_answer_that_is_not_kept_is_asked_for_again() -> None:
    repeats = Repeats(Bounds())
    exchanges = [Asked(Request("POST", "/orders", {}, {}, "", True)) for _ in range(2)]
    assert repeats.is_first("key", b"digest", exchanges[0])
    repeats.answer("key", answer_of(1), keep=False)
    assert exchanges[0].result().status == 200
    assert repeats.is_first("key", b"digest", exchanges[1])
