"""The port and any bytes at all: cut anywhere, mutated, or made up."""

from __future__ import annotations

import contextlib
import socket

from hypothesis import example, given, settings
from hypothesis import strategies as st
from port_kit import Serving, at_once, get, post, serving

from compoint.http._exchange import Request
from compoint.http._reader import RequestReader
from compoint.http._strict import Fault

Heard = list[tuple[str, str, bytes]]


def read(pieces: list[bytes], most_bytes: int = 2000, most_lines: int = 20) -> tuple[Heard, int]:
    """The whole requests in these pieces, and the status of the fault behind them, or 0."""
    reader = RequestReader()
    heard: Heard = []
    request: Request | None = None
    body = b""
    for piece in pieces:
        reader.feed(piece)
        try:
            while True:
                if request is None:
                    request = reader.head("peer", most_bytes, most_lines, is_loopback=True)
                    body = b""
                if request is None:
                    break
                while more := reader.body():
                    body += more
                if more is None:
                    break
                heard.append((request.method, request.path, body))
                reader.done()
                request = None
        except Fault as fault:
            return heard, fault.answer[0]
    return heard, 0


CHUNKED = (
    get("/c", "Transfer-Encoding: chunked", method="POST") + b"3;x=y\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
)
GOOD = [get("/a"), post(b"body", "/b"), CHUNKED, b"\r\n" + get("/d?e=f"), post(b"", "/g")]


@st.composite
def cut(draw: st.DrawFn, data: st.SearchStrategy[bytes]) -> list[bytes]:
    """Some bytes, cut anywhere."""
    whole = draw(data)
    at = sorted(draw(st.lists(st.integers(0, len(whole)), max_size=8)))
    return [whole[a:b] for a, b in zip([0, *at], [*at, len(whole)], strict=True) if b > a]


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """Good requests in which some bytes were replaced, doubled or lost."""
    data = bytearray(b"".join(draw(st.lists(st.sampled_from(GOOD), min_size=1, max_size=4))))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(data) - 1))
        width = draw(st.integers(0, 4))
        odd = st.sampled_from([
            b"\r", b"\n", b"\r\n", b" ", b"\t", b"\0", b":", b"0", b"F" * 9, b"\xff", b"%",
            b"\r\n\r\n", b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n", b"HTTP/1.0",
            b"x" * 2000, b"A: b\r\n" * 20,
        ])  # fmt: skip
        data[at : at + width] = draw(odd | st.binary(max_size=3))
        if not data:
            data += b"x"
    return bytes(data)


# --- the reader ---------------------------------------------------------------------------------


@given(st.lists(st.sampled_from(GOOD), max_size=5).flatmap(lambda g: cut(st.just(b"".join(g)))))
def test_good_requests_are_read_however_they_were_cut(pieces: list[bytes]) -> None:
    heard, status = read(pieces)
    assert status == 0
    assert b"".join(pieces).count(b"Host") == len(heard)
    assert (heard, status) == read([b"".join(pieces)])


@given(mutated())
@settings(max_examples=400)
@example(b"GET / HTTP/1.1\r\nHost: here\r\n" + b"A: b\r\n" * 20 + b"B: \0\r\n\r\n")
@example(b"GET / HTTP/1.1\r\nHost: here\r\nA: \r" + b"x" * 2000 + b"\r\n\r\n")
@example(b"GET /" + b"x" * 1995 + b"\0")
@example(b"GET /" + b"x" * 1994 + b"\0")
def test_any_cutting_of_the_same_bytes_gives_the_same_requests(data: bytes) -> None:
    whole = read([data])
    assert read([data[at : at + 1] for at in range(len(data))]) == whole
    assert read([data[at : at + 7] for at in range(0, len(data), 7)]) == whole


@given(cut(st.binary(max_size=300)))
def test_made_up_bytes_are_no_request(pieces: list[bytes]) -> None:
    heard, status = read(pieces)
    assert (heard, status) == read([b"".join(pieces)])
    assert status in {0, 400, 431, 501, 505}


# --- the port -----------------------------------------------------------------------------------


def said_to(scene: Serving, pieces: list[bytes]) -> bytes:
    """Say it and no more; all that is answered."""
    with scene.peer() as peer:
        with contextlib.suppress(ConnectionError):
            for piece in pieces:
                peer.say(piece)
            peer.sock.shutdown(socket.SHUT_WR)
        return peer.hear_end()


def test_whatever_is_said_the_port_answers_4xx_or_ends_and_serves_on() -> None:
    """And logs no internal error: `serving` looks."""
    with serving(at_once(lambda visit: visit.answer()), half_closed_s=0.01) as scene:

        @given(cut(mutated() | st.binary(max_size=200)))
        @settings(max_examples=300, deadline=None)
        def say(pieces: list[bytes]) -> None:
            heard = said_to(scene, pieces)
            expected, status = read([b"".join(pieces)], 16 << 10, 100)
            assert heard.count(b"HTTP/1.1 200 OK\r\n") == len(expected)
            if status:
                assert heard.count(b"HTTP/1.1 %d " % status) == 1
            else:
                assert heard.count(b"HTTP/1.1 ") == len(expected)

        say()
        scene.serves()
