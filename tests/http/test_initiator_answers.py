"""Who else may answer at the address of a ComPoint: one clear error names him."""

from __future__ import annotations

import contextlib
import socket
import threading
import tracemalloc
from http.server import BaseHTTPRequestHandler

import pytest
import requests
from initiator_kit import (
    MODES,
    PATIENCE_S,
    TURNS,
    Connection,
    Program,
    RawServer,
    WebServer,
    all_is_said,
    in_mode,
    no_proxies,
    reach,
)

from compoint import (
    COMPOINT_SERVER,
    ComManager,
    ComPointAddress,
    ConnectError,
    Fate,
    Phase,
    PointTimeout,
)
from compoint.core.turns import Turn
from compoint.http import _requests, use_session
from compoint.limits import MIB
from compoint.testing import Background, eventually

#: For who waits in vain.
SHORT_S = 0.1


@pytest.fixture(autouse=True)
def _direct(monkeypatch: pytest.MonkeyPatch) -> None:
    no_proxies(monkeypatch)


# --- answers ------------------------------------------------------------------------------------

HTML = {"Server": "nginx/1.22.1", "Content-Type": "text/html; charset=utf-8"}
JSON = {"Server": "uvicorn", "Content-Type": "application/json"}
PROBLEM = {"Server": "uvicorn", "Content-Type": "application/problem+json"}

ANSWERS = {
    "a page": (
        (200, HTML, "<html><head><title>Welcome\n  to nginx!</title>"),
        "no ComPoint answered: 200 OK from nginx/1.22.1, text/html, 'Welcome to nginx!'",
    ),
    "a page that was not found": (
        (404, {"Content-Type": "text/html"}, "<TITLE lang=en>404 &amp; out</TITLE>"),
        "no ComPoint answered: 404 Not Found from {here}, text/html, '404 & out'",
    ),
    "a login": (
        (302, {"Location": "/login?next=%2Forders", "Server": "Apache"}, ""),
        "redirected to '/login?next=%2Forders', which is not followed: 302 Found from Apache",
    ),
    "a captive portal": (
        (302, {"Location": "http://portal.hotel.example/hello"}, ""),
        ("redirected to 'http://portal.hotel.example/hello', which is not followed: "
        "302 Found from {here}"),
    ),
    "a page of a captive portal": (
        (511, HTML, "<title>Log in to our network</title>"),
        ("no ComPoint answered: 511 Network Authentication Required from nginx/1.22.1, text/html, "
        "'Log in to our network'"),
    ),
    "who wants a password": (
        (401, {"WWW-Authenticate": "Basic", "Server": "Apache"}, ""),
        "not allowed: 401 Unauthorized from Apache",
    ),
    "a firewall": (
        (403, {**HTML, "Server": "cloudflare"}, "<title>Attention Required!</title>"),
        "not allowed: 403 Forbidden from cloudflare, text/html, 'Attention Required!'",
    ),
    "an API": (
        (200, JSON, '{"status": "ok"}'),
        "no ComPoint answered: 200 OK from uvicorn, application/json, '{{\"status\": \"ok\"}}'",
    ),
    "an API with a problem": (
        (400, PROBLEM, '{"title": "Bad", "detail": "no"}'),
        ("no ComPoint answered: 400 Bad Request from uvicorn, application/problem+json, "
        "'{{\"title\": \"Bad\", \"detail\": \"no\"}}'"),
    ),
    "a problem in our words that is none of ours": (
        (503, PROBLEM, '{"title": "busy", "detail": "later", "retry_after_s": []}'),
        ("503 Service Unavailable from uvicorn, application/problem+json, "
        '\'{{"title": "busy", "detail": "later", "retry_after_s": []}}\', again and again'),
    ),
    "a problem that goes too deep": (
        (400, PROBLEM, "[" * 4096),
        "no ComPoint answered: 400 Bad Request from uvicorn, application/problem+json, "
        "'" + "[" * 79 + "…'",
    ),
    "who takes no POST": (
        (405, {"Allow": "GET"}, ""),
        "no ComPoint answered: 405 Method Not Allowed from {here}",
    ),
    "who has nothing to say": ((204, {}, ""), "no ComPoint answered: 204 No Content from {here}"),
    "who says control characters": (
        (200, {"Server": "\x1b[31mred", "Content-Type": "text/html"},
         "<title>\x1b]0;owned\x07</title>"),
        "no ComPoint answered: 200 OK from ?[31mred, text/html, '?]0;owned?'",
    ),
    "who takes no body": (
        (413, HTML, "<title>413 Request Entity Too Large</title>"),
        ("the way takes no request with a body: 413 Request Entity Too Large from nginx/1.22.1, "
        "text/html, '413 Request Entity Too Large'"),
    ),
    "a liar": (
        (200, {"Content-Type": TURNS}, "hello, these are certainly no turns"),
        "the server's answer makes no sense: bytes that are no turn",
    ),
}  # fmt: skip


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("answer", "told"), ANSWERS.values(), ids=ANSWERS)
def test_the_error_names_who_answered(
    answer: tuple[int, dict[str, str], str], told: str, mode: str
) -> None:
    timeout = SHORT_S if "again" in told else PATIENCE_S
    with in_mode(mode), WebServer.of(*answer) as server:
        with pytest.raises(ConnectError) as caught:
            reach(server.port, "/orders", timeout=timeout)
        error = caught.value
        assert error.what == told.format(here=f"127.0.0.1:{server.port}")
        assert (error.phase, error.fate) == (Phase.GREETING, Fate.NOT_SENT)
        assert error.hint
        assert str(error).startswith(f"http://127.0.0.1:{server.port}/orders: greeting: ")


def test_a_strange_answer_is_asked_for_once() -> None:
    with WebServer.of(404, HTML) as server:
        with pytest.raises(ConnectError):
            reach(server.port)
        assert len(server.requests) == 1


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(status: int, mode: str) -> None:
    with in_mode(mode), WebServer.of(200) as there:
        where = {"Location": f"http://127.0.0.1:{there.port}/"}
        with WebServer.of(status, where) as here:
            with pytest.raises(ConnectError, match="which is not followed"):
                reach(here.port)
            assert (len(here.requests), there.requests) == (1, [])


def test_a_redirect_is_not_followed_by_a_session_of_the_users_either() -> None:
    with (
        WebServer.of(200) as there,
        WebServer.of(302, {"Location": f"http://127.0.0.1:{there.port}/"}) as here,
        requests.Session() as session,
    ):
        use_session(session)
        try:
            with pytest.raises(ConnectError, match="which is not followed"):
                reach(here.port)
        finally:
            use_session(None)
        assert (len(here.requests), there.requests) == (1, [])


@pytest.mark.parametrize("status", [500, 502, 503, 504, 408, 425, 429])
def test_an_answer_that_may_pass_is_asked_for_again_and_named_in_the_end(status: int) -> None:
    with WebServer.of(status, HTML, "<title>Oops</title>") as server:
        with pytest.raises(ConnectError, match=f"^http.*: {status} .*again and again") as caught:
            reach(server.port, timeout=3 * SHORT_S)
        assert "nginx/1.22.1, text/html, 'Oops'" in str(caught.value)
        assert caught.value.elapsed_s is not None
        assert caught.value.elapsed_s < 3 * SHORT_S + 1
        assert len(server.requests) > 1


def test_repeats_go_on_for_giveup_at_the_most() -> None:
    with in_mode("streaming", giveUp=0.1), WebServer.of(503) as server:
        with pytest.raises(ConnectError, match="503 Service Unavailable") as caught:
            reach(server.port, timeout=10)
        assert caught.value.elapsed_s is not None
        assert caught.value.elapsed_s < 3


# --- bodies without an end ----------------------------------------------------------------------


def _endless(head: bytes) -> RawServer:
    def meet(visitor: Connection) -> None:
        visitor.hear_head()
        visitor.say(head)
        while True:
            visitor.say(b"<!--" + bytes(65536) + b"-->")

    return RawServer(meet)


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<title>On and on</title>",
        b"HTTP/1.1 302 Found\r\nLocation: /there\r\n\r\n<title>On and on</title>",
    ],
)
def test_an_answer_without_an_end_is_read_to_a_bound(head: bytes) -> None:
    with _endless(head) as server:
        tracemalloc.start()
        try:
            with pytest.raises(ConnectError, match="'On and on'"):
                reach(server.port)
            assert tracemalloc.get_traced_memory()[1] < MIB
        finally:
            tracemalloc.stop()


@pytest.mark.parametrize("mode", MODES)
def test_an_answer_whose_body_does_not_come_is_named_all_the_same(mode: str) -> None:
    def meet(visitor: Connection) -> None:
        visitor.hear_head()
        visitor.say(b"HTTP/1.1 200 OK\r\nServer: slow\r\nContent-Length: 100\r\n\r\n")

    told = "200 OK from slow"
    with in_mode(mode), RawServer(meet) as server, pytest.raises(ConnectError, match=told):
        reach(server.port, timeout=SHORT_S)


def test_an_answer_that_drips_is_not_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_requests, "_STRANGE_S", 0.1)
    is_over = threading.Event()

    def meet(visitor: Connection) -> None:
        visitor.hear_head()
        visitor.say(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<title>Drip</title>")
        while not is_over.wait(0.02):
            visitor.say(b".")

    with RawServer(meet) as server:
        with pytest.raises(ConnectError, match=r"200 OK from .*, text/html, 'Drip'"):
            reach(server.port)
        is_over.set()


@pytest.mark.parametrize("body", [b"", Turn(0, 0, 0, b"hello").encode()[:-1]])
def test_an_answer_without_a_whole_turn_was_cut(body: bytes) -> None:
    def meet(visitor: Connection) -> None:
        visitor.hear_head()
        visitor.say(b"HTTP/1.1 200 OK\r\nContent-Type: %s\r\n\r\n" % TURNS.encode() + body)
        visitor.sock.shutdown(socket.SHUT_WR)

    with in_mode("polling"), RawServer(meet) as server:
        with pytest.raises(ConnectError, match="the answer was cut, again and again"):
            reach(server.port, timeout=SHORT_S)
        assert server.visits > 1


def test_turns_without_an_end_are_read_to_a_bound() -> None:
    def meet(visitor: Connection) -> None:
        visitor.hear_head()
        visitor.say(b"HTTP/1.1 200 OK\r\nContent-Type: %s\r\n\r\n" % TURNS.encode())
        while True:
            visitor.say(bytes(24 * 1000))

    told = "an answer of more than 589824 bytes"
    with in_mode("polling"), RawServer(meet) as server, pytest.raises(ConnectError, match=told):
        reach(server.port)


# --- who does not speak HTTP --------------------------------------------------------------------


FOREIGN = {
    "ssh": (b"SSH-2.0-OpenSSH_9.2\r\n", "'SSH-2.0-OpenSSH_9.2', an SSH banner"),
    "mail": (b"220 mx.example ESMTP\r\n", ("'220 mx.example ESMTP', a greeting of a mail or FTP "
             "server")),
    "a TLS alert": (b"\x15\x03\x01\x00\x02\x02\n", ("'??????', a TLS alert; the other side expects "
                    "TLS")),
    "noise": (b"\x00\x01noise\xff\n", "'??noiseÿ', bytes of no protocol we know"),
    "a head without an end of lines": (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70000 + b"\r\n\r\n",
                                       "got more than 65536 bytes when reading header line"),
    "lines without end": (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n",
                          "got more than 100 headers"),
    "two lengths": (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
                    "Content-Length contained multiple unmatching values (1, 2)"),
}  # fmt: skip


@pytest.mark.parametrize(("said", "told"), FOREIGN.values(), ids=FOREIGN)
def test_who_does_not_speak_http_is_quoted(said: bytes, told: str) -> None:
    def meet(visitor: Connection) -> None:
        visitor.say(said)
        with contextlib.suppress(OSError):
            visitor.hear_head()
            visitor.sock.shutdown(socket.SHUT_WR)

    with RawServer(meet) as server:
        with pytest.raises(ConnectError) as caught:
            reach(server.port)
        assert caught.value.what == f"what answered does not speak HTTP: {told}"
        assert (caught.value.phase, server.visits) == (Phase.GREETING, 1)


def test_a_server_of_ours_for_tcp_says_so() -> None:
    with (
        ComManager.com_point(COMPOINT_SERVER, ComPointAddress("tcp", 0)) as server,
        pytest.raises(ConnectError, match="speaks the ComPoint protocol, not HTTP"),
    ):
        reach(server.address.port)


# --- who says nothing ---------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_who_takes_the_connection_and_says_nothing_is_waited_for_in_time(mode: str) -> None:
    with in_mode(mode), RawServer(lambda _: None) as server:
        with pytest.raises(PointTimeout, match="the connection was taken, but") as caught:
            reach(server.port, timeout=SHORT_S)
        assert caught.value.phase is Phase.GREETING
        assert caught.value.hint
        assert caught.value.elapsed_s is not None
        assert caught.value.elapsed_s < SHORT_S + 1


@pytest.mark.parametrize("mode", MODES)
def test_who_closes_at_once_is_named_as_such(mode: str) -> None:
    def meet(visitor: Connection) -> None:
        visitor.hear_head()
        visitor.sock.shutdown(socket.SHUT_RDWR)

    with in_mode(mode), RawServer(meet) as server:
        with pytest.raises(ConnectError, match=r"no answer came .*again and again") as caught:
            reach(server.port, timeout=SHORT_S)
        assert caught.value.phase is Phase.GREETING
        assert server.visits > 1


def test_nobody_at_the_port_is_known_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        port = reserved.getsockname()[1]
    with pytest.raises(ConnectError, match=r"nobody was reached \(Connection refused\)") as caught:
        reach(port)
    assert (caught.value.phase, caught.value.fate) == (Phase.CONNECT, Fate.NOT_SENT)


def test_a_host_that_is_not_known_is_an_error_of_phase_resolve() -> None:
    with pytest.raises(ConnectError, match="the host is not known") as caught:
        reach(80, host="nowhere.invalid")
    assert caught.value.phase is Phase.RESOLVE


def test_a_port_that_takes_no_connection_is_waited_for_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, contextlib.ExitStack() as stack:
        for _ in range(4):
            knock = stack.enter_context(socket.socket())
            knock.setblocking(False)
            knock.connect_ex(full.getsockname())
        with pytest.raises((PointTimeout, ConnectError), match="not reached in time") as caught:
            reach(full.getsockname()[1], timeout=SHORT_S)
        assert caught.value.phase is Phase.CONNECT
        # Nobody goes on knocking, though nobody has answered yet.
        all_is_said(within_s=SHORT_S + 1)


# --- the program meanwhile ----------------------------------------------------------------------


def test_the_end_of_the_program_ends_the_opening() -> None:
    def meet(visitor: Connection) -> None:
        visitor.hear_head()

    program = """
import sys, threading
from compoint import COMPOINT_INITIATOR, ComManager, ComPointAddress, ComPointException

def reach():
    try:
        ComManager.com_point(COMPOINT_INITIATOR, ComPointAddress("http", "127.0.0.1", port))
    except ComPointException as error:
        print(type(error).__name__, error.what, flush=True)

port = int(sys.argv[1])
thread = threading.Thread(target=reach)
thread.start()
sys.stdin.readline()
"""
    with RawServer(meet) as server, Program(program, server.port) as running:
        eventually(lambda: server.visits == 1, 10)
        running.say("end")
        ending = Background(running.end)
        assert running.hear() == "ClosedError the program is ending"
        assert ending.result(5) == 0


def test_an_answer_after_a_while_is_taken() -> None:
    answers = iter([503, 502])

    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_error(next(answers, 404))

    with WebServer(answer) as server:
        with pytest.raises(ConnectError, match="404 Not Found"):
            reach(server.port)
        assert len(server.requests) == 3
