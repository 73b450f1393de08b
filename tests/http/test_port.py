"""The port: what it hears, what it answers, and when it takes the next request."""

from __future__ import annotations

import contextlib
import email.utils
import os
import resource
import socket
import threading
import time
from typing import TYPE_CHECKING

import pytest
from port_kit import TEXT, Desk, Peer, Visit, at_once, echo, get, post, serving

from compoint import BusyError, ComPointAddress, ConnectError, Phase
from compoint.drive.pump import Pump
from compoint.http._exchange import IGNORE, WholeBody, answer_problem
from compoint.http._port import HttpPort
from compoint.http._served import Reading
from compoint.limits import MIB, RECEIVE_BYTES
from compoint.testing import Background, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

PATIENCE_S = 10.0
CHUNKED = get("/", "Transfer-Encoding: chunked", method="POST")


def free_port(host: str) -> int:
    with socket.socket() as sock:
        sock.bind((host, 0))
        return int(sock.getsockname()[1])


@pytest.fixture
def pump() -> Iterator[Pump]:
    pump = Pump("another-pump")
    yield pump
    pump.stop()


def chunks(*data: bytes) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(one), one) for one in data)


# --- one request --------------------------------------------------------------------------------


def test_a_request_is_answered_with_date_server_and_length() -> None:
    with serving(at_once(lambda visit: visit.answer(b"hello"))) as scene:
        answer = scene.ask(get("/a"))
    assert (answer.status, answer.body) == (200, b"hello")
    assert answer.headers["server"] == "compoint"
    assert answer.headers["content-length"] == "5"
    assert answer.headers["content-type"] == "text/plain"
    date = email.utils.parsedate_to_datetime(answer.headers["date"])
    assert abs(date.timestamp() - time.time()) < 60


def test_the_status_line_names_the_status() -> None:
    with serving(at_once(lambda visit: visit.answer(status=404))) as scene, scene.peer() as peer:
        peer.say(get())
        assert peer.hear_line() == b"HTTP/1.1 404 Not Found\r\n"


def test_the_endpoint_sees_who_asks_for_what() -> None:
    with serving() as scene, scene.peer() as peer:
        peer.say(get("/a%20b/%C3%A9?x=1&x=2&y=a+b%26&z", "X-One: 1", "x-one: 2", method="PUT"))
        peer.hear()
        request = scene.desk.visit().request
        assert request.method == "PUT"
        assert request.path == "/a b/é"
        assert request.query == {"x": "2", "y": "a b&", "z": ""}
        assert request.headers == {"host": "here", "x-one": "1, 2"}
        assert request.peer == f"http://127.0.0.1:{peer.sock.getsockname()[1]}"
        assert request.is_local


def test_who_comes_through_a_proxy_is_not_local() -> None:
    with serving() as scene:
        scene.ask(get("/", "X-Forwarded-For: 192.0.2.7"))
        assert not scene.desk.visit().request.is_local


def test_who_comes_through_a_proxy_that_shows_nothing_but_its_version_is_not_local() -> None:
    # nginx as it is installed asks by HTTP/1.0 and adds no header.
    with serving() as scene, scene.peer() as peer:
        peer.say(b"GET / HTTP/1.0\r\nHost: here\r\n\r\n")
        peer.hear_end()
        assert not scene.desk.visit().request.is_local


@pytest.mark.parametrize(
    ("target", "path", "host"),
    [
        ("/", "", "here"),
        ("/?a=b", "", "here"),
        ("//x", "//x", "here"),
        ("http://there:81/p/q?a=b", "/p/q", "there:81"),
        ("HTTP://there", "", "there"),
        ("http://there?a=b", "", "there"),
    ],
)
def test_a_target_is_a_path_or_an_url(target: str, path: str, host: str) -> None:
    with serving() as scene:
        assert scene.ask(get(target)).status == 200
        request = scene.desk.visit().request
    assert (request.path, request.headers["host"]) == (path, host)
    assert request.query == ({"a": "b"} if "?" in target else {})


@pytest.mark.parametrize(
    ("method", "target", "path"),
    [("OPTIONS", "*", "*"), ("OPTIONS", "/a", "/a"), ("TRACE", "/", ""), ("CONNECT", "a:1", "")],
)
def test_methods_of_all_kinds_are_the_endpoints_business(
    method: str, target: str, path: str
) -> None:
    with serving(at_once(lambda visit: visit.answer(status=405))) as scene, scene.peer() as peer:
        for number in range(2):
            peer.say(get(target, method=method))
            assert peer.hear(method).status == 405
            assert scene.desk.visit(number).request.path == path
            assert scene.desk.visit(number).request.method == method


def test_head_gets_the_head_that_get_would_have_got() -> None:
    with serving(at_once(lambda visit: visit.answer(b"hello"))) as scene, scene.peer() as peer:
        peer.say(get("/", method="HEAD") + get("/next"))
        answer = peer.hear("HEAD")
        assert (answer.headers["content-length"], answer.body) == ("5", b"")
        assert peer.hear().body == b"hello"


def test_head_gets_no_body_of_an_answer_in_pieces_either() -> None:
    def stream(visit: Visit) -> None:
        visit.exchange.start(200, TEXT)
        assert visit.exchange.send(b"hello")
        visit.exchange.end()

    with serving(at_once(stream)) as scene, scene.peer() as peer:
        peer.say(get("/", method="HEAD") + get("/next"))
        assert peer.hear("HEAD").body == b""
        assert peer.hear().body == b"hello"


def test_an_answer_without_content_has_no_length() -> None:
    answered = at_once(lambda visit: visit.answer(b"", status=204))
    with serving(answered) as scene, scene.peer() as peer:
        for _ in range(2):
            peer.say(get())
            answer = peer.hear()
            assert (answer.status, answer.headers.get("content-length")) == (204, None)


def test_an_answer_goes_out_in_one_piece() -> None:
    with serving(at_once(lambda visit: visit.answer(b"x" * 100))) as scene, scene.peer() as peer:
        peer.say(get())
        assert peer.sock.recv(MIB).endswith(b"\r\n\r\n" + b"x" * 100)


def test_a_body_of_a_known_length_comes_through() -> None:
    body = os.urandom(3 * MIB)
    with serving() as scene:
        assert scene.ask(post(body)).value[3] == body.decode("latin-1")
        assert scene.desk.visit().told == ["piece", "complete"]


def test_a_chunked_body_comes_through_without_its_framing() -> None:
    with serving() as scene:
        answer = scene.ask(CHUNKED + chunks(b"one", b"two") + b"3;name=value\r\nend\r\n0\r\n\r\n")
    assert answer.value[3] == "onetwoend"


def test_pieces_of_a_body_are_handed_out_as_they_come() -> None:
    with serving() as scene, scene.peer() as peer:
        peer.say(CHUNKED)
        for number in range(3):
            peer.say(chunks(b"%d" % number))
            visit = scene.desk.visit()
            eventually(lambda n=number: len(visit.pieces) == n + 1)  # noqa: B023
        assert visit.told == ["piece"]
        peer.say(b"0\r\n\r\n")
        assert peer.hear().value[3] == "012"


def test_empty_lines_before_a_request_are_read_over() -> None:
    with serving() as scene, scene.peer() as peer:
        for piece in (b"\r", b"\n\r\n", b"\r", b"\n" + get("/a")):
            peer.say(piece)
        assert peer.hear().value[1] == "/a"


# --- several requests ---------------------------------------------------------------------------


def test_a_connection_is_used_again() -> None:
    with serving() as scene, scene.peer() as peer:
        for number in range(5):
            peer.say(post(b"%d" % number, f"/{number}"))
            assert peer.hear().value == ["POST", f"/{number}", {}, str(number)]
        assert scene.statistics.connections == 1
        assert scene.statistics.requests == 5


def test_requests_sent_together_are_answered_one_after_the_other() -> None:
    with serving() as scene, scene.peer() as peer:
        peer.say(
            get("/0") + post(b"one", "/1") + CHUNKED + chunks(b"two") + b"0\r\n\r\n" + get("/3")
        )
        assert [peer.hear().value[1] for _ in range(4)] == ["/0", "/1", "", "/3"]


def test_a_request_behind_a_parked_one_waits_for_its_answer() -> None:
    with serving(Desk()) as scene, scene.peer() as peer:
        peer.say(get("/0") + get("/1"))
        scene.desk.told("complete")
        peer.say(get("/2"))
        scene.turn()
        assert len(scene.desk.visits) == 1
        scene.desk.visit(0).answer(b"0")
        assert peer.hear().body == b"0"
        scene.desk.told("complete", number=1).answer(b"1")
        scene.desk.told("complete", number=2).answer(b"2")
        assert [peer.hear().body, peer.hear().body] == [b"1", b"2"]


def test_answers_by_another_thread_let_the_next_request_in() -> None:
    def later(visit: Visit) -> None:
        threading.Thread(target=echo, args=[visit]).start()

    with serving(at_once(later)) as scene, scene.peer() as peer:
        peer.say(b"".join(get(f"/{number}") for number in range(50)))
        assert [peer.hear().value[1] for _ in range(50)] == [f"/{n}" for n in range(50)]
        assert all(visit.threads == {"port-pump"} for visit in scene.desk.visits)


def test_an_answer_is_sent_by_the_thread_that_gives_it() -> None:
    """No wake-up of the pump stands between."""
    with serving(Desk()) as scene, scene.peer() as peer:
        peer.say(get())
        visit = scene.desk.told("complete")
        with scene.held_pump():
            visit.answer(b"at once")
            assert peer.hear().body == b"at once"


def test_connection_close_is_heeded() -> None:
    with serving() as scene, scene.peer() as peer:
        peer.say(get("/a", "Connection: close") + get("/never"))
        assert peer.hear().headers["connection"] == "close"
        assert peer.hear_end() == b""
        assert len(scene.desk.visits) == 1


def test_an_upgrade_is_not_taken_and_harms_nothing() -> None:
    with serving() as scene, scene.peer() as peer:
        for _ in range(2):
            peer.say(get("/", "Connection: Upgrade", "Upgrade: h2c"))
            assert peer.hear().status == 200


# --- HTTP/1.0 -----------------------------------------------------------------------------------


def test_an_old_peer_gets_its_answer_and_the_end() -> None:
    with serving() as scene, scene.peer() as peer:
        peer.say(b"GET /old HTTP/1.0\r\n\r\n")
        assert peer.hear().value[1] == "/old"
        assert peer.hear_end() == b""


def test_an_old_peer_gets_pieces_without_framing() -> None:
    def stream(visit: Visit) -> None:
        visit.exchange.start(200, TEXT)
        for piece in (b"one", b"two"):
            visit.exchange.send(piece)
        visit.exchange.end()

    with serving(at_once(stream)) as scene, scene.peer() as peer:
        peer.say(b"GET /old HTTP/1.0\r\n\r\n")
        head, body = peer.hear_end().split(b"\r\n\r\n")
        assert body == b"onetwo"
        assert b"chunked" not in head


def test_an_answer_cut_off_looks_cut_off_to_an_old_peer() -> None:
    def fail(visit: Visit) -> None:
        visit.exchange.start(200, TEXT)
        visit.exchange.send(b"half")
        raise LookupError("a bug of ours")

    with serving(at_once(fail), may_log=True) as scene, scene.peer() as peer:
        peer.say(b"GET /old HTTP/1.0\r\n\r\n")
        with pytest.raises(ConnectionResetError):
            peer.file.read()


# --- 100-continue -------------------------------------------------------------------------------

EXPECTING = get("/", "Expect: 100-continue", "Content-Length: 4", method="POST")


def test_who_asks_before_sending_a_body_is_told_to_go_on() -> None:
    with serving() as scene, scene.peer() as peer:
        for _ in range(2):
            peer.say(EXPECTING)
            assert peer.hear_line() == b"HTTP/1.1 100 Continue\r\n"
            assert peer.hear_line() == b"\r\n"
            peer.say(b"body")
            assert peer.hear().value[3] == "body"


def test_who_is_refused_by_the_head_is_not_told_to_go_on() -> None:
    refusing = Desk({"begin": lambda visit: answer_problem(visit.exchange, 413, "too large", "-")})
    with serving(refusing) as scene, scene.peer() as peer:
        peer.say(EXPECTING)
        assert peer.hear_line() == b"HTTP/1.1 413 Request Entity Too Large\r\n"
        assert b"connection: close" in peer.hear_end()


def test_who_sends_the_body_at_once_need_not_be_told() -> None:
    with serving() as scene, scene.peer() as peer:
        peer.say(EXPECTING + b"body")
        assert peer.hear_line() == b"HTTP/1.1 200 OK\r\n"


# --- answers before the end of the request ------------------------------------------------------


def test_the_rest_of_a_short_body_is_dropped_behind_an_early_answer() -> None:
    refusing = Desk({"begin": lambda visit: visit.answer(b"no", 404)})
    with serving(refusing) as scene, scene.peer() as peer:
        peer.say(get("/", "Content-Length: 1000", method="POST"))
        assert peer.hear().status == 404
        peer.say(b"x" * 1000 + get("/next"))
        assert peer.hear().status == 404
        assert scene.desk.visit(1).request.path == "/next"
        assert scene.desk.visit(0).told == []


def test_a_long_body_behind_an_early_answer_ends_the_connection() -> None:
    refusing = Desk({"begin": lambda visit: visit.answer(b"no", 404)})
    with serving(refusing, dropped_bytes=999) as scene, scene.peer() as peer:
        peer.say(get("/", "Content-Length: 1000", method="POST"))
        assert peer.hear().headers["connection"] == "close"
        assert peer.hear_end() == b""


def test_an_early_answer_to_a_stream_ends_the_connection() -> None:
    refusing = Desk({"begin": lambda visit: visit.answer(b"no", 404)})
    with serving(refusing) as scene, scene.peer() as peer:
        peer.say(CHUNKED)
        assert peer.hear().headers["connection"] == "close"
        assert peer.hear_end() == b""


def test_an_early_answer_arrives_although_the_peer_goes_on_sending() -> None:
    """Closing over unread input would destroy the answer on its way."""

    class Small(Desk):
        def begin(self, exchange):
            return WholeBody(exchange, 1000, lambda body: None)

    with serving(Small(), linger_s=PATIENCE_S) as scene, scene.peer() as peer:
        peer.say(get("/", f"Content-Length: {8 * MIB}", method="POST"))
        peer.say(b"x" * 8 * MIB)
        assert peer.hear().status == 413
        assert peer.hear_end() == b""


def test_an_answer_may_begin_before_the_body_is_whole() -> None:
    with (
        serving(Desk({"begin": lambda visit: visit.exchange.start(200, TEXT)})) as scene,
        scene.peer() as peer,
    ):
        peer.say(CHUNKED)
        visit = scene.desk.visit()
        for number in range(3):
            peer.say(chunks(b"%d" % number))
            eventually(lambda n=number: len(visit.pieces) == n + 1)
            visit.exchange.send(b"%d" % number)
        peer.say(b"0\r\n\r\n" + get("/next"))
        scene.desk.told("piece", "complete")
        visit.exchange.end()
        assert peer.hear().body == b"012"
        scene.desk.told("complete", number=1).exchange.end()
        assert peer.hear().status == 200


# --- answers in pieces --------------------------------------------------------------------------


def test_each_piece_of_an_answer_leaves_at_once() -> None:
    with serving(Desk()) as scene, scene.peer() as peer:
        peer.say(get())
        exchange = scene.desk.told("complete").exchange
        exchange.start(200, TEXT)
        while peer.hear_line() != b"\r\n":
            pass
        for piece in (b"one", b"two"):
            assert exchange.send(piece)
            assert peer.hear_bytes(8) == b"3\r\n%b\r\n" % piece
        exchange.end()
        assert peer.hear_bytes(5) == b"0\r\n\r\n"
        peer.say(get())
        scene.desk.told("complete", number=1)


def test_a_peer_that_takes_nothing_is_waited_for_and_loses_nothing() -> None:
    piece = os.urandom(MIB)
    with serving(Desk()) as scene, scene.peer() as peer:
        peer.say(get())
        visit = scene.desk.told("complete")
        visit.exchange.start(200, TEXT)
        given = 1
        while visit.exchange.send(piece):
            given += 1
        assert visit.told == ["complete"]
        hearing = Background(peer.hear)
        scene.desk.told("complete", "room")
        visit.exchange.end()
        assert hearing.result().body == piece * given


def test_a_large_answer_waits_for_a_slow_peer_without_the_endpoint() -> None:
    body = os.urandom(16 * MIB)
    with serving(at_once(lambda visit: visit.answer(body))) as scene, scene.peer() as peer:
        peer.say(get("/0") + get("/1"))
        scene.desk.told("complete")
        scene.turn()
        assert len(scene.desk.visits) == 1
        assert peer.hear().body == body
        assert peer.hear().body == body


# --- pausing ------------------------------------------------------------------------------------


def test_a_paused_body_makes_the_peer_wait() -> None:
    with (
        serving(Desk({"begin": lambda visit: visit.exchange.pause()})) as scene,
        scene.peer() as peer,
    ):
        peer.sock.settimeout(0.2)
        peer.say(get("/", f"Content-Length: {64 * MIB}", method="POST"))
        visit = scene.desk.visit()
        with pytest.raises(TimeoutError):
            peer.say(bytes(64 * MIB))
        assert visit.told == []
        (connection,) = scene.port._connections
        assert len(connection._reader) <= RECEIVE_BYTES


def test_a_paused_body_goes_on_where_it_was() -> None:
    body = os.urandom(4 * MIB)
    with (
        serving(Desk({"piece": lambda visit: visit.exchange.pause()})) as scene,
        scene.peer() as peer,
    ):
        saying = Background(peer.say, post(body))
        visit = scene.desk.visit()
        seen = 0
        while sum(map(len, visit.pieces)) < len(body):
            eventually(lambda: len(visit.pieces) > seen, PATIENCE_S)  # noqa: B023
            seen = len(visit.pieces)
            visit.exchange.resume()
        saying.result()
        scene.desk.told("piece", "complete")
        assert visit.body == body


def test_an_answer_ends_a_pause() -> None:
    with (
        serving(Desk({"begin": lambda visit: visit.exchange.pause()})) as scene,
        scene.peer() as peer,
    ):
        peer.say(post(b"x" * 100) + post(b"", "/next"))
        scene.desk.visit().answer(b"no", 404)
        assert peer.hear().status == 404
        assert scene.desk.visit(1).request.path == "/next"


# --- verbs that come too late, or wrong -----------------------------------------------------------


def test_a_second_answer_is_not_given() -> None:
    def twice(visit: Visit) -> None:
        visit.answer(b"first")
        visit.answer(b"second")
        visit.exchange.start(200, TEXT)
        visit.exchange.send(b"third")
        visit.exchange.end()

    with serving(at_once(twice)) as scene, scene.peer() as peer:
        for _ in range(2):
            peer.say(get())
            assert peer.hear().body == b"first"


def test_an_old_exchange_cannot_answer_a_later_request() -> None:
    with serving(Desk()) as scene, scene.peer() as peer:
        peer.say(get("/0") + get("/1"))
        scene.desk.told("complete").answer(b"0")
        peer.hear()
        visit = scene.desk.told("complete", number=1)
        scene.desk.visit(0).answer(b"of the first")
        visit.answer(b"1")
        assert peer.hear().body == b"1"


@pytest.mark.parametrize("where", ["begin", "piece", "complete"])
def test_an_exception_of_the_endpoint_is_a_500_without_its_text(where: str) -> None:
    def fail(visit: Visit) -> None:
        raise LookupError("a secret of the endpoint")

    with serving(Desk({where: fail}), may_log=True) as scene:
        with scene.peer() as peer:
            peer.say(post(b"x"))
            answer = peer.hear()
            assert answer.status == 500
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.headers["connection"] == "close"
            assert "secret" not in answer.body.decode()
            assert peer.hear_end() == b""
        assert [record.getMessage() for record in scene.records] == [
            "internal error at an HTTP request; please report it"
        ]
        if where != "begin":
            eventually(lambda: scene.desk.visit().told[-1] == "gone")
        scene.desk.when = {"complete": echo}
        scene.serves()


def test_an_exception_behind_an_answer_does_not_add_to_it() -> None:
    def fail(visit: Visit) -> None:
        visit.answer(b"fine")
        raise LookupError("a bug of ours")

    with serving(at_once(fail), may_log=True) as scene, scene.peer() as peer:
        peer.say(get() + get())
        assert peer.hear().body == b"fine"
        assert peer.hear_end() == b""


@pytest.mark.parametrize(
    "headers", [{"x": "a\r\nSet-Cookie: b"}, {"x y": "a"}, {"x": "€"}, {"x": "\0"}]
)
def test_a_header_that_would_break_the_answer_is_a_500(headers: dict[str, str]) -> None:
    def answer(visit: Visit) -> None:
        visit.exchange.answer(200, headers, b"")

    with serving(at_once(answer), may_log=True) as scene, scene.peer() as peer:
        peer.say(get())
        assert peer.hear().status == 500
        assert peer.hear_end() == b""
        assert len(scene.records) == 1


def test_an_answer_that_http_does_not_know_is_a_500() -> None:
    """To CONNECT, success means that no more HTTP is spoken."""
    with serving(at_once(lambda visit: visit.answer(b"tunnel")), may_log=True) as scene:
        assert scene.ask(get("here:1", method="CONNECT")).status == 500
        assert len(scene.records) == 1


@pytest.mark.parametrize("verb", ["answer", "start", "send", "end", "pause"])
def test_ctrl_c_within_a_verb_leaves_the_connection_cut(verb: str) -> None:
    """How much has been sent nobody knows; an initiator asks again."""
    with serving(Desk()) as scene, scene.peer() as peer:
        peer.say(CHUNKED)
        visit = scene.desk.visit()
        verbs = {
            "answer": visit.answer,
            "start": lambda: visit.exchange.start(200, TEXT),
            "send": lambda: visit.exchange.send(b"x"),
            "end": visit.exchange.end,
            "pause": visit.exchange.pause,
        }
        if verb in {"send", "end"}:
            verbs["start"]()
        (connection,) = scene.port._connections

        class Interrupted(type(connection)):
            __slots__ = ()

            def _hand_over(self, **_: object) -> None:
                if self._phase is not Reading.CLOSED:
                    raise KeyboardInterrupt
                super()._hand_over()

        connection.__class__ = Interrupted
        with pytest.raises(KeyboardInterrupt):
            verbs[verb]()
        peer.hear_end()
        scene.is_empty()
        if verb in {"start", "send", "pause"}:
            scene.desk.told("gone")
        visit.answer()
        assert not connection._lock.locked()


# --- the port itself ----------------------------------------------------------------------------


def test_the_port_listens_as_soon_as_it_is_made_and_says_where() -> None:
    with serving() as scene:
        assert scene.port.address == ComPointAddress("http", scene.number)
        assert scene.number != 0
        scene.serves()


def test_a_port_in_use_is_named(pump: Pump) -> None:
    with serving() as scene:
        with pytest.raises(BusyError, match="another program listens at this port") as caught:
            HttpPort(scene.port.address, Desk(), pump)
        assert caught.value.phase is Phase.OPEN


@pytest.mark.parametrize(
    ("host", "what"),
    [("nowhere.invalid", "the interface 'nowhere.invalid' is not known"),
     ("192.0.2.1", "cannot listen here")],
)  # fmt: skip
def test_an_interface_that_is_not_ours_is_named(pump: Pump, host: str, what: str) -> None:
    with pytest.raises(ConnectError, match=what):
        HttpPort(ComPointAddress("http", host, 7), Desk(), pump)


def test_a_port_can_be_taken_again_at_once() -> None:
    with serving() as scene, scene.peer() as peer:
        peer.say(get())
        peer.hear()
        address = scene.port.address
        scene.port.close()
        HttpPort(address, scene.desk, scene.port.pump).close()


def test_without_a_host_only_this_machine_is_served() -> None:
    with serving() as scene, pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", scene.number))


def test_who_comes_from_another_machine_is_not_local(pump: Pump) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("this machine has no address but the loopback's")
        host = sock.getsockname()[0]
    if host.startswith("127."):
        pytest.skip("this machine has no address but the loopback's")
    desk = at_once()
    port = HttpPort(ComPointAddress("http", host, free_port(host)), desk, pump)
    with socket.create_connection((host, port.address.port), PATIENCE_S) as sock:
        sock.sendall(get("/", "Connection: close"))
        assert sock.recv(100).startswith(b"HTTP/1.1 200")
        request = desk.visit().request
        assert not request.is_local
        assert request.peer.startswith(f"http://{host}:")
    eventually(lambda: port.statistics().connections == 0)
    port.close()


def test_one_connection_too_many_is_told_to_come_later() -> None:
    with serving(connections=2) as scene, contextlib.ExitStack() as stack:
        here = [stack.enter_context(scene.peer()) for _ in range(2)]
        eventually(lambda: scene.statistics.connections == 2)
        with scene.peer() as third:
            answer = third.hear()
            assert answer.status == 503
            assert answer.headers["retry-after"] == "1"
            assert answer.headers["content-type"] == "application/problem+json"
            assert third.hear_end() == b""
        assert scene.statistics.refused == 1
        here.pop().close()
        eventually(lambda: scene.statistics.connections == 1)
        scene.serves()


def test_without_a_descriptor_left_peers_are_turned_away_and_the_pump_sleeps() -> None:
    with serving() as scene, contextlib.ExitStack() as stack:
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        peers = [stack.enter_context(socket.socket()) for _ in range(3)]
        resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")), before[1]))
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, before)
        fill = stack.enter_context(contextlib.ExitStack())
        with contextlib.suppress(OSError):
            while True:
                fill.callback(os.close, os.open(os.devnull, os.O_RDONLY))
        for peer in peers:
            peer.settimeout(PATIENCE_S)
            peer.connect(("127.0.0.1", scene.number))
        assert [peer.recv(1) for peer in peers] == [b"", b"", b""]
        assert scene.statistics.refused == 3
        fill.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
        scene.serves()


def test_what_happened_can_be_counted() -> None:
    with serving(Desk(), half_closed_s=0.01) as scene:
        with scene.peer() as peer:
            peer.say(get() + get())
            scene.desk.told("complete").answer()
            peer.hear()
            scene.desk.told("complete", number=1)
            statistics = scene.statistics
            assert (statistics.connections, statistics.requests, statistics.broken) == (1, 2, 0)
        scene.is_empty()
        assert scene.statistics.broken == 1


def test_a_second_burst_of_connections_has_deadlines_too() -> None:
    with serving(head_s=0.05) as scene:
        for _ in range(2):
            with scene.peer() as peer:
                assert peer.hear_end() == b""
            scene.is_empty()
            scene.moment(0.05)


# --- closing ------------------------------------------------------------------------------------


def test_a_closed_port_is_not_listened_at() -> None:
    with serving() as scene:
        scene.port.close()
        scene.port.close()
        with pytest.raises(ConnectionRefusedError):
            Peer(scene.number)


def test_closing_ends_idle_connections_at_once() -> None:
    with serving() as scene, scene.peer() as fresh, scene.peer() as used:
        used.say(get())
        used.hear()
        eventually(lambda: scene.statistics.connections == 2)
        scene.port.close()
        assert scene.statistics.connections == 0
        assert (fresh.hear_end(), used.hear_end()) == (b"", b"")


def test_an_answer_given_behind_the_close_is_the_last_and_arrives() -> None:
    with serving(Desk(), close_s=PATIENCE_S) as scene, scene.peer() as peer:
        peer.say(get() + get())
        visit = scene.desk.told("complete")
        scene.port.close()
        visit.answer(b"late")
        answer = peer.hear()
        assert (answer.body, answer.headers["connection"]) == (b"late", "close")
        assert peer.hear_end() == b""
        assert len(scene.desk.visits) == 1


def test_an_answer_on_its_way_outlives_the_close() -> None:
    body = os.urandom(16 * MIB)
    with (
        serving(at_once(lambda visit: visit.answer(body)), close_s=PATIENCE_S) as scene,
        scene.peer() as peer,
    ):
        peer.say(get())
        scene.desk.told("complete")
        scene.port.close()
        assert peer.hear().body == body
        assert peer.hear_end() == b""


def test_a_body_that_nobody_wants_does_not_keep_a_closed_port() -> None:
    refusing = Desk({"begin": lambda visit: visit.answer(b"no", 404)})
    with serving(refusing, close_s=60) as scene, scene.peer() as peer:
        peer.say(get("/", "Content-Length: 1000", method="POST"))
        assert peer.hear().status == 404
        scene.port.close()
        assert peer.hear_end() == b""


def test_an_answer_that_is_not_given_does_not_keep_a_closed_port() -> None:
    with serving(Desk(), close_s=0.05) as scene, scene.peer() as peer:
        peer.say(get())
        scene.desk.told("complete")
        scene.port.close()
        scene.desk.told("complete", "gone")
        assert peer.hear_end() == b""


def test_closing_does_not_wait() -> None:
    with serving(Desk(), close_s=PATIENCE_S) as scene, scene.peer() as peer:
        peer.say(get())
        visit = scene.desk.told("complete")
        started_at = time.monotonic()
        scene.port.close()
        assert time.monotonic() - started_at < 1
        visit.answer()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_fork_leaves_the_parents_connections_alone() -> None:
    with serving() as scene, scene.peer() as peer:
        peer.say(get())
        peer.hear()
        child = os.fork()
        if not child:
            status = 1
            try:
                before = len(os.listdir("/proc/self/fd"))
                scene.port.after_fork()
                # The listener, its spare and one connection.
                status = 0 if len(os.listdir("/proc/self/fd")) == before - 3 else 2
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        peer.say(get("/again"))
        assert peer.hear().value[1] == "/again"
        scene.serves()


def test_ignoring_is_enough_for_a_request_that_was_answered_by_its_head() -> None:
    class Refusing(Desk):
        def begin(self, exchange):
            answer_problem(exchange, 404, "no such path", "nothing is here")
            return IGNORE

    with serving(Refusing()) as scene, scene.peer() as peer:
        for _ in range(2):
            peer.say(post(b"body"))
            assert peer.hear().value["title"] == "no such path"


def test_an_answer_that_ends_with_its_connection_has_no_chunks() -> None:
    # haproxy holds a lone small chunk back for 0.2 s (its documented default).
    with serving(Desk()) as scene, scene.peer() as peer:
        peer.say(get())
        exchange = scene.desk.told("complete").exchange
        exchange.start(200, {**TEXT, "connection": "close"})
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += peer.hear_line()
        assert b"chunked" not in head
        assert head.lower().count(b"connection: close") == 1
        exchange.send(b"one")
        assert peer.hear_bytes(3) == b"one"
        exchange.end()
        assert peer.hear_bytes(1) == b""
