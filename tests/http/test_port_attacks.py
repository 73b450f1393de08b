"""The port and peers that mean harm: each test is named after what they try."""

from __future__ import annotations

import pytest
from port_kit import Desk, Serving, at_once, get, post, serving

from compoint.testing import eventually

HIDDEN = b"GET /hidden HTTP/1.1\r\nHost: here\r\n\r\n"


def is_refused(scene: Serving, data: bytes, *statuses: int) -> None:
    """It is answered with such a problem and left; nothing behind it is heard."""
    with scene.peer() as peer:
        peer.say(data)
        answer = peer.hear()
        assert answer.status in statuses
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["connection"] == "close"
        assert answer.value["status"] == answer.status
        assert answer.value["detail"]
        assert peer.hear_end() == b""
    assert [
        visit.request.path for visit in scene.desk.visits if "hidden" in visit.request.path
    ] == []
    assert scene.statistics.broken == 1
    scene.serves()


def head(*lines: str, first: str = "POST / HTTP/1.1") -> bytes:
    return "\r\n".join([first, "Host: here", *lines, "", ""]).encode("latin-1")


# --- request smuggling --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param(["Content-Length: 3", "Transfer-Encoding: chunked"], id="CL.TE"),
        pytest.param(["Transfer-Encoding: chunked", "Content-Length: 3"], id="TE.CL"),
        pytest.param(["transfer-encoding: CHUNKED", "content-length: 3"], id="other letters"),
    ],
)
def test_a_body_with_two_framings_is_refused(lines: list[str]) -> None:
    with serving() as scene:
        is_refused(scene, head(*lines) + b"0\r\n\r\n" + HIDDEN, 400)


@pytest.mark.parametrize(
    "lines",
    [
        ["Content-Length: 5", "Content-Length: 3"],
        ["Content-Length: 3", "Content-Length: 3"],
        ["Content-Length: 3", "content-length: 3"],
        ["Content-Length: 3, 3"],
        ["Content-Length: 3,"],
        ["Content-Length: 3, 5"],
    ],
)
def test_two_lengths_are_refused_even_if_they_are_equal(lines: list[str]) -> None:
    with serving() as scene:
        is_refused(scene, head(*lines) + b"abc" + HIDDEN, 400)


@pytest.mark.parametrize(
    "length",
    ["-1", "+3", "0x3", "3 3", "3.0", "", "٣", "3_0", "1e3", "3;a", '"3"', "9" * 19, "9" * 50],
)
def test_a_length_that_is_no_plain_number_is_refused(length: str) -> None:
    raw = b"POST / HTTP/1.1\r\nHost: here\r\nContent-Length: " + length.encode() + b"\r\n\r\n"
    with serving() as scene:
        is_refused(scene, raw + b"abc" + HIDDEN, 400)


@pytest.mark.parametrize(
    "coding",
    [
        "gzip", "identity", "chunked, chunked", "gzip, chunked", "chunked, identity", "xchunked",
        "chunked;a=b", '"chunked"', "cow", "", ",chunked", "chunked,",
    ],
)  # fmt: skip
def test_a_coding_that_is_not_exactly_chunked_is_refused(coding: str) -> None:
    with serving() as scene:
        is_refused(scene, head(f"Transfer-Encoding: {coding}") + b"0\r\n\r\n" + HIDDEN, 400, 501)


@pytest.mark.parametrize(
    "line",
    [
        "Transfer-Encoding : chunked",
        "Transfer-Encoding\t: chunked",
        " Transfer-Encoding: chunked",
        "Transfer-Encoding: \x0bchunked",
        "Transfer-Encoding: chunked\x0c",
        "Transfer-Encoding: chunked\r",
        "Transfer-Encoding:\r\n chunked",
        "X: y\rTransfer-Encoding: chunked",
        "X: y\nTransfer-Encoding: chunked",
        "X: y\0\r\nTransfer-Encoding: chunked",
        "Transfer\xadEncoding: chunked",
        "Content-Length : 3",
        "Content-Length: \x0b3",
        "Content-Length:\r\n\t3",
        "Content_Length 3",
    ],
)
def test_a_framing_in_disguise_is_refused(line: str) -> None:
    with serving() as scene:
        is_refused(scene, head(line) + b"0\r\n\r\n" + HIDDEN, 400)


def test_a_second_coding_line_is_refused() -> None:
    lines = ["Transfer-Encoding: chunked", "Transfer-Encoding: identity"]
    with serving() as scene:
        is_refused(scene, head(*lines) + b"0\r\n\r\n" + HIDDEN, 400, 501)


def test_chunks_of_an_old_peer_are_refused() -> None:
    raw = head("Transfer-Encoding: chunked", first="POST / HTTP/1.0")
    with serving() as scene:
        is_refused(scene, raw + b"0\r\n\r\n" + HIDDEN, 400)


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"GET / HTTP/1.1\nHost: here\n\n", id="everywhere"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: here\r\nX: y\n\r\n", id="a header"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: here\r\n\n", id="the end"),
        pytest.param(b"GET / HTTP/1.1\nHost: here\r\n\r\n", id="the first line"),
        pytest.param(b"\nGET / HTTP/1.1\r\nHost: here\r\n\r\n", id="an empty line"),
        pytest.param(b"GET / HTTP/1.1\rHost: here\r\r\n\r\n", id="CR alone"),
    ],
)
def test_a_bare_line_end_in_a_head_is_refused(raw: bytes) -> None:
    with serving() as scene:
        is_refused(scene, raw + HIDDEN, 400)


@pytest.mark.parametrize("fold", [" folded", "\tfolded"])
def test_a_folded_line_is_refused(fold: str) -> None:
    with serving() as scene:
        is_refused(scene, head("X: y", fold) + HIDDEN, 400)


@pytest.mark.parametrize(
    "chunks",
    [
        pytest.param(b"FFFFFFFFFFFFFFFF\r\nabc", id="2**64-1"),
        pytest.param(b"10000000000000003\r\nabc\r\n0\r\n\r\n", id="3 if cut to 64 bits"),
        pytest.param(b"100000003\r\nabc\r\n0\r\n\r\n", id="3 if cut to 32 bits"),
        pytest.param(b"0" * 100 + b"3\r\nabc\r\n0\r\n\r\n", id="many zeros"),
        pytest.param(b"-3\r\nabc\r\n0\r\n\r\n", id="negative"),
        pytest.param(b"+3\r\nabc\r\n0\r\n\r\n", id="plus"),
        pytest.param(b"0x3\r\nabc\r\n0\r\n\r\n", id="0x"),
        pytest.param(b"3_0\r\nabc\r\n0\r\n\r\n", id="underscore"),
        pytest.param(b"\r\nabc\r\n0\r\n\r\n", id="no size"),
        pytest.param(b"3 \r\nabc\r\n0\r\n\r\n", id="blank behind"),
        pytest.param(b" 3\r\nabc\r\n0\r\n\r\n", id="blank before"),
        pytest.param(b"3\nabc\n0\n\n", id="bare LF"),
        pytest.param(b"3\r\r\nabc\r\n0\r\n\r\n", id="CR CR LF"),
        pytest.param(b"3;\nabc\r\n0\r\n\r\n", id="LF in the extension"),
        pytest.param(b"3;a\rb\r\nabc\r\n0\r\n\r\n", id="CR in the extension"),
        pytest.param(b"3;" + b"x" * 1000 + b"\r\nabc\r\n0\r\n\r\n", id="long extension"),
        pytest.param(b"3\r\nabcX\r\n0\r\n\r\n", id="longer than its size"),
        pytest.param(b"3\r\nabcXX0\r\n\r\n", id="no line end behind"),
        pytest.param(b"3\r\nabc\r\n0\r\nX: y\r\n\r\n", id="trailer fields"),
        pytest.param(b"3\r\nabc\r\n0\r\nContent-Length: 5\r\n\r\n", id="a length behind"),
        pytest.param(b"3\r\nabc\r\n0\r\n\n", id="bare LF at the end"),
        pytest.param(b"x" * 10_000, id="no line"),
    ],
)
def test_odd_chunks_are_refused(chunks: bytes) -> None:
    with serving(Desk()) as scene, scene.peer() as peer:
        peer.say(head("Transfer-Encoding: chunked") + chunks + HIDDEN)
        answer = peer.hear()
        assert answer.status == 400
        assert answer.headers["connection"] == "close"
        assert peer.hear_end() == b""
        visit = scene.desk.visit()
        eventually(lambda: visit.told[-1:] == ["gone"])
        assert "complete" not in visit.told
        assert len(scene.desk.visits) == 1


def test_odd_chunks_behind_a_begun_answer_cut_it_off() -> None:
    with serving(Desk({"begin": lambda visit: visit.exchange.start(200, {})})) as scene:
        with scene.peer() as peer:
            peer.say(head("Transfer-Encoding: chunked") + b"odd\r\n")
            heard = peer.hear_end()
        assert heard.count(b"HTTP/1.1") <= 1
        assert b"0\r\n\r\n" not in heard
        scene.desk.told("gone")


# --- heads --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", id="none"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", id="two"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n", id="two equal"),
        pytest.param(b"GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", id="two in 1.0"),
    ],
)
def test_a_host_that_is_not_clear_is_refused(raw: bytes) -> None:
    with serving() as scene:
        is_refused(scene, raw, 400)


@pytest.mark.parametrize(
    "first",
    ["GET / HTTP/2.0", "GET / HTTP/0.9", "GET / HTTP/1.2", "PRI * HTTP/2.0", "GET / HTTP/9.9"],
)
def test_another_version_is_refused_by_name(first: str) -> None:
    with serving() as scene:
        is_refused(scene, head(first=first), 505)


@pytest.mark.parametrize(
    "first",
    [
        "GET /", "GET  / HTTP/1.1", "GET / HTTP/1.1 ", " GET / HTTP/1.1", "GET / HTTP/1", "/",
        "GET / http/1.1", "G@T / HTTP/1.1", "GET /\xe9 HTTP/1.1", "GET / HTTP/11.1", "GET",
        "GET /a b HTTP/1.1", "GET\t/ HTTP/1.1",
    ],
)  # fmt: skip
def test_a_broken_first_line_is_refused(first: str) -> None:
    with serving() as scene:
        is_refused(scene, head(first=first), 400)


def test_a_method_in_small_letters_is_not_taken_for_the_one_in_capitals() -> None:
    with serving() as scene:
        is_refused(scene, head(first="head / HTTP/1.1"), 501)


@pytest.mark.parametrize(
    "target",
    [
        "secret", "*", "ftp://here/x", "http://", "http:///x", "http://user:word@here/x",
        "?a=b", "here:80", "/%", "/%4", "/%zz", "/%ff", "/a%2fb", "/a%2Fb", "/%00", "/%0d%0aX:y",
        "/?a=%", "/?a=%ff", "/?" + "a=b&" * 100,
    ],
)  # fmt: skip
def test_a_target_that_can_be_read_in_two_ways_is_refused(target: str) -> None:
    with serving() as scene:
        is_refused(scene, head(first=f"GET {target} HTTP/1.1"), 400)


def test_a_head_that_is_too_long_is_refused() -> None:
    with serving(head_bytes=1000) as scene:
        is_refused(scene, head("X: " + "y" * 1000), 431)


def test_a_head_that_never_ends_is_refused() -> None:
    with serving(head_bytes=1000) as scene:
        is_refused(scene, b"GET /" + b"x" * 995, 431)


def test_a_head_of_the_longest_length_is_taken() -> None:
    with serving(head_bytes=1000) as scene:
        short = get("/", "X: ")
        assert scene.ask(get("/", "X: " + "y" * (1000 - len(short)))).status == 200


def test_a_head_of_very_many_lines_is_refused() -> None:
    with serving(head_lines=50) as scene:
        is_refused(scene, head(*[f"X{number}: y" for number in range(50)]), 431)


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100), id="TLS"),
        pytest.param(b"\x93ComPt\r\n" + bytes(30), id="our own"),
        pytest.param(b"SSH-2.0-OpenSSH_9.2\r\n\r\n", id="SSH"),
        pytest.param(b"\x00" * 10, id="zeros"),
        pytest.param(b"\xff\x00\x00\x00\x00\x00\x00\x00\x01\x7f", id="ZeroMQ"),
        pytest.param(b"EHLO here\r\n\r\n", id="mail"),
    ],
)
def test_who_speaks_something_else_is_told_so(raw: bytes) -> None:
    with serving() as scene:
        is_refused(scene, raw, 400)


def test_who_speaks_tls_is_told_that_this_is_not() -> None:
    with serving() as scene:
        assert "not TLS" in scene.ask(b"\x16\x03\x01\x02\x00").value["detail"]


def test_a_refusal_repeats_nothing_of_what_was_said() -> None:
    with serving() as scene:
        assert b"script" not in scene.ask(b"GET <script> X\r\n\r\n").body


# --- costs --------------------------------------------------------------------------------------


def test_requests_sent_ahead_are_kept_up_to_a_bound() -> None:
    """What is not read stays with the system, and there the peer is made to wait."""
    with serving(Desk(), early_bytes=1000) as scene, scene.peer() as peer:
        peer.say(get())
        scene.desk.told("complete")
        peer.say(post(bytes(100_000), "/next"))
        scene.turn()
        (connection,) = scene.port._connections
        assert len(connection._reader) == 1000
        scene.desk.visit().answer()
        assert peer.hear().status == 200
        visit = scene.desk.told("piece", "complete", number=1)
        assert len(visit.body) == 100_000
        visit.answer()


def test_answers_that_are_not_taken_keep_further_requests_out() -> None:
    """A peer that asks on without reading does not fill the memory with answers."""
    answering = at_once(lambda visit: visit.answer(bytes(8 << 20)))
    with serving(answering, take_s=0.1) as scene, scene.peer() as peer:
        peer.say(get() * 200)
        scene.desk.told("complete")
        scene.is_empty()
        assert len(scene.desk.visits) <= 2


def test_five_hundred_silent_connections_delay_nobody() -> None:
    with serving() as scene:
        peers = scene.peers(500)
        for peer in peers:
            peer.say(b"GET / HT")
        scene.serves()
        for peer in peers:
            peer.close()
