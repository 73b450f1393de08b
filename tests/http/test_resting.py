"""Requests that wait for their answers keep no h11 connection, and nobody can tell."""

from __future__ import annotations

import gc
from contextlib import ExitStack

import h11
import pytest
from port_kit import TEXT, Desk, get, post, serving

from compoint.http import _resting
from compoint.http._heads import whole_answer
from compoint.http._reader import RequestReader

CROWD = 100


@pytest.fixture(autouse=True)
def nothing_spare() -> None:
    """The first that goes on makes its h11 connection anew."""
    for spare in _resting._spare.values():
        spare.clear()


def asked(data: bytes) -> RequestReader:
    """A reader that has read this request whole."""
    reader = RequestReader()
    reader.feed(data)
    assert reader.head("peer", 10_000, 100, is_loopback=True)
    while reader.body():
        pass
    return reader


def streaming(data: bytes) -> RequestReader:
    """The same, and an answer in pieces was begun."""
    reader = asked(data)
    http(reader).send(h11.Response(status_code=200, headers=[]))
    return reader


def http(reader: RequestReader) -> h11.Connection:
    assert reader.http is not None
    return reader.http


def whole(reader: RequestReader) -> bytes:
    parts = whole_answer(http(reader), 200, TEXT, b"hello", is_head=False, is_last=False)
    return b"".join(parts).partition(b"server:")[2]


def rest_of(reader: RequestReader) -> bytes:
    said = http(reader).send(h11.Data(b"hello")) or b""
    return said + (http(reader).send(h11.EndOfMessage()) or b"")


def h11_connections() -> int:
    return sum(isinstance(one, h11.Connection) for one in gc.get_objects())


#: Its answer in pieces ends with the connection, and has no chunks.
OLD = b"GET / HTTP/1.0\r\n\r\n"
REQUESTS = [
    get(),
    post(b"body"),
    get("/", "Transfer-Encoding: chunked", method="POST") + b"1\r\nx\r\n0\r\n\r\n",
    post(b"body") + get("/next"),
]


@pytest.mark.parametrize("request_", REQUESTS)
@pytest.mark.parametrize("has_spare", [False, True])
def test_an_answer_after_a_rest_is_the_same(request_: bytes, has_spare: bool) -> None:
    expected = whole(asked(request_))
    if has_spare:
        asked(get("/other")).rest()
    reader = asked(request_)
    reader.rest()
    assert reader.our_state is h11.SEND_RESPONSE
    assert whole(reader) == expected
    assert reader.our_state is h11.DONE


@pytest.mark.parametrize("request_", [*REQUESTS, OLD])
@pytest.mark.parametrize("spare", [None, get("/other"), OLD])
def test_an_answer_in_pieces_goes_on_after_a_rest(request_: bytes, spare: bytes | None) -> None:
    expected = rest_of(streaming(request_))
    if spare:
        streaming(spare).rest()
    reader = streaming(request_)
    reader.rest()
    assert reader.our_state is h11.SEND_BODY
    assert rest_of(reader) == expected


@pytest.mark.parametrize(
    "data",
    [
        get("/", "Connection: close"),
        OLD,
        get("/", "Connection: upgrade", "Upgrade: websocket"),
        get("a:1", method="CONNECT"),
    ],
)
def test_who_is_answered_otherwise_keeps_its_own(data: bytes) -> None:
    reader = asked(data)
    own = reader.http
    reader.rest()
    asked(get("/other")).rest()
    assert reader.http is own


def test_what_was_read_behind_a_request_is_not_kept_for_another() -> None:
    reader = asked(post(b"body") + get("/secret"))
    reader.rest()
    assert reader.http is not None
    assert b"secret" not in reader.http.trailing_data[0]


@pytest.mark.parametrize(
    ("made", "request_"), [(asked, get()), (streaming, get()), (streaming, OLD)]
)
def test_a_crowd_that_waits_keeps_next_to_no_h11_connections(made, request_: bytes) -> None:
    gc.collect()
    before = h11_connections()
    crowd = [made(request_) for _ in range(CROWD)]
    for reader in crowd:
        reader.rest()
    gc.collect()
    assert h11_connections() - before < CROWD / 2


@pytest.mark.parametrize("is_streamed", [False, True])
def test_a_port_keeps_next_to_no_h11_connections_of_who_waits(is_streamed: bool) -> None:
    gc.collect()
    before = h11_connections()
    with serving(Desk()) as scene, ExitStack() as hold:
        peers = [hold.enter_context(scene.peer()) for _ in range(CROWD)]
        for peer in peers:
            peer.say(post(b"body"))
        for number in range(CROWD):
            visit = scene.desk.told("piece", "complete", number=number)
            if is_streamed:
                visit.exchange.start(200, TEXT)
                visit.exchange.send(b"hello")
        scene.turn()
        gc.collect()
        assert h11_connections() - before < CROWD / 2


def test_a_head_that_waited_is_answered_without_a_body() -> None:
    with serving(Desk()) as scene, scene.peer() as peer, scene.peer() as other:
        peer.say(get("/", method="HEAD"))
        visit = scene.desk.told("complete")
        other.say(get("/other"))
        scene.desk.told("complete", number=1)
        scene.turn()
        visit.answer(b"hello")
        answer = peer.hear("HEAD")
        assert (answer.headers["content-length"], answer.body) == ("5", b"")
        scene.desk.visit(1).answer(b"other")
        assert other.hear().body == b"other"
