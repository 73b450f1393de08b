"""The ASGI face: inside uvicorn, and called as an ASGI server calls it."""

from __future__ import annotations

import asyncio
import select
import socket
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

import pytest
import requests

from compoint.http._asgi import UNSENT_BYTES, AsgiFace, _AsgiExchange
from compoint.http._exchange import Request
from compoint.testing import Background, eventually

sys.path.insert(0, str(Path(__file__).resolve().parent / "mounted"))
pytest.register_assert_rewrite("facts")

from facts import PATIENCE_S, Facts, request, seen, tell  # noqa: E402
from hosts import Host, uvicorn  # noqa: E402
from toy import FLOOD_PIECE, FLOOD_PIECES, Toy, Watched  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: Far more than the system's buffers take.
MUCH: Final = bytes(16 << 20)


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    pytest.importorskip("uvicorn", reason="uvicorn is not installed")
    with uvicorn(tmp_path_factory.mktemp("uvicorn")) as host:
        yield host


def send_chunk(sock: socket.socket, data: bytes) -> None:
    sock.sendall(b"%x\r\n%b\r\n" % (len(data), data))


def begin_upload(host: Host, path: str) -> socket.socket:
    sock = host.connect()
    sock.sendall(
        b"POST %b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" % path.encode()
    )
    return sock


def head_of(sock: socket.socket) -> bytes:
    """What has come, up to the end of a head."""
    came = b""
    while b"\r\n\r\n" not in came:
        piece = sock.recv(1)
        assert piece, came
        came += piece
    return came


class TestUvicorn(Facts):
    """The facts of every server, and what needs streams."""

    def test_an_answer_arrives_piece_by_piece(self, host: Host) -> None:
        with host.connect() as sock:
            sock.sendall(b"GET /stream/pieces HTTP/1.1\r\nHost: x\r\n\r\n")
            # The head comes at once, and each piece before the next one is given.
            assert head_of(sock).startswith(b"HTTP/1.1 200 ")
            for piece in (b"first", b"second"):
                assert tell(host, "pieces", "say", piece) == "sayer"
                assert sock.recv(100) == b"%x\r\n%b\r\n" % (len(piece), piece)
            tell(host, "pieces", "end")
            assert sock.recv(100) == b"0\r\n\r\n"
        assert seen(host, "pieces") == ["complete"]

    def test_a_body_is_seen_piece_by_piece(self, host: Host) -> None:
        with begin_upload(host, "/park/upload") as sock:
            for number in range(3):
                send_chunk(sock, b"%d" % number)
                expected = [str(one) for one in range(number + 1)]
                eventually(lambda expected=expected: seen(host, "upload") == expected)
            send_chunk(sock, b"")
            eventually(lambda: seen(host, "upload")[-1] == "complete")
            tell(host, "upload", "answer", b"thanks")
            head_of(sock)
            assert sock.recv(100) == b"thanks"

    def test_a_body_and_its_answer_are_streamed_at_the_same_time(self, host: Host) -> None:
        with begin_upload(host, "/stream/both") as sock:
            head_of(sock)
            send_chunk(sock, b"up")
            eventually(lambda: seen(host, "both") == ["up"])
            tell(host, "both", "say", b"down")
            assert sock.recv(100) == b"4\r\ndown\r\n"
            send_chunk(sock, b"")
            eventually(lambda: seen(host, "both") == ["up", "complete"])
            tell(host, "both", "end")

    @pytest.mark.parametrize("verb", ["park", "stream"])
    def test_who_leaves_before_the_answer_is_complete_is_gone(self, host: Host, verb: str) -> None:
        with host.connect() as sock:
            sock.sendall(b"GET /%b/leaving-%b HTTP/1.1\r\nHost: x\r\n\r\n" % ((verb.encode(),) * 2))
            eventually(lambda: seen(host, f"leaving-{verb}") == ["complete"])
        eventually(lambda: seen(host, f"leaving-{verb}") == ["complete", "gone"])
        # What is given now goes nowhere, and harms nobody.
        for do in ("answer", "say", "end", "resume"):
            tell(host, f"leaving-{verb}", do)

    def test_who_leaves_amid_the_body_is_gone(self, host: Host) -> None:
        with begin_upload(host, "/park/cut") as sock:
            send_chunk(sock, b"half")
            eventually(lambda: seen(host, "cut") == ["half"])
        eventually(lambda: seen(host, "cut") == ["half", "gone"])

    def test_an_answered_request_is_never_gone(self, host: Host) -> None:
        with host.connect() as sock:
            sock.sendall(b"GET /park/done HTTP/1.1\r\nHost: x\r\n\r\n")
            eventually(lambda: seen(host, "done") == ["complete"])
            tell(host, "done", "answer", b"done")
            head_of(sock)
        # The loop has seen that one leave before it takes this one.
        assert seen(host, "done") == ["complete"]

    def test_a_slow_peer_makes_the_endpoint_wait_and_gets_everything(self, host: Host) -> None:
        with requests.get(f"{host.url}/flood/slow", stream=True, timeout=PATIENCE_S) as response:
            eventually(lambda: seen(host, "slow"))
            first = seen(host, "slow")[0]
            assert first == f"full after {UNSENT_BYTES // len(FLOOD_PIECE) + 1}"
            came = sum(len(piece) for piece in response.iter_content(1 << 20))
        assert came == FLOOD_PIECES * len(FLOOD_PIECE)

    def test_a_peer_that_reads_nothing_is_given_little(self, host: Host) -> None:
        with host.connect() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
            sock.sendall(b"GET /flood/deaf HTTP/1.1\r\nHost: x\r\n\r\n")
            assert select.select([sock], [], [], PATIENCE_S)[0]
            eventually(lambda: seen(host, "deaf"))
            given = int(seen(host, "deaf")[-1].split()[-1])
            assert given < FLOOD_PIECES / 2
        eventually(lambda: seen(host, "deaf")[-1] == "gone")

    def test_a_pause_makes_the_peer_wait(self, host: Host) -> None:
        with begin_upload(host, "/park/paused") as sock:
            eventually(lambda: seen(host, "paused") == [])
            tell(host, "paused", "pause")
            sending = Background(send_chunk, sock, MUCH)
            sending.blocked()
            assert seen(host, "paused") == []
            tell(host, "paused", "resume")
            sending.result(PATIENCE_S)
            send_chunk(sock, b"")
            eventually(lambda: seen(host, "paused")[-1:] == ["complete"])
            assert sum(map(int, seen(host, "paused")[:-1])) == len(MUCH)

    def test_nobody_is_invited_to_send_a_body_that_is_refused(self, host: Host) -> None:
        with host.connect() as sock:
            sock.sendall(
                b"POST /nothing-there HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n"
                b"Expect: 100-continue\r\n\r\n"
            )
            assert head_of(sock).startswith(b"HTTP/1.1 404 ")

    def test_an_exception_behind_the_head_cuts_the_answer_off(self, host: Host) -> None:
        with begin_upload(host, "/raise/late") as sock:
            send_chunk(sock, b"x")
            head_of(sock)
            assert sock.recv(100) == b"5\r\nbegun\r\n"
            send_chunk(sock, b"")
            # No last chunk: the client sees that something is missing.
            assert sock.recv(100) == b""

    def test_an_exception_before_the_head_has_left_is_answered_with_500(self, host: Host) -> None:
        response = request(host, "POST", "/raise/late", data=b"x")
        assert (response.status_code, response.json()["title"]) == (500, "internal")


def test_uvicorn_stops_within_its_grace_and_answers_who_is_parked(tmp_path: Path) -> None:
    pytest.importorskip("uvicorn", reason="uvicorn is not installed")
    with uvicorn(tmp_path) as host:
        asking = [Background(request, host, "GET", f"/park/{name}") for name in "abc"]
        for name in "abc":
            eventually(lambda name=name: seen(host, name) == ["complete"])
        host.stop()
        host.end(within_s=15)
        for one in asking:
            response = one.result()
            assert response.status_code == 503
            assert response.json()["title"] == "stopped"


def test_uvicorn_stops_within_its_grace_amid_a_streamed_answer(tmp_path: Path) -> None:
    pytest.importorskip("uvicorn", reason="uvicorn is not installed")
    with uvicorn(tmp_path) as host, host.connect() as sock:
        sock.sendall(b"GET /stream/x HTTP/1.1\r\nHost: x\r\n\r\n")
        head_of(sock)
        host.stop()
        host.end(within_s=15)
        # No last chunk: the client sees that something is missing.
        assert sock.recv(100) == b""


# --- called directly ------------------------------------------------------------------------


class Called:
    """One call of the face by a server that has these events to offer, and then no more."""

    def __init__(self, scope: dict[str, Any], *events: dict[str, Any]) -> None:
        self.toy = Toy()
        self.scope = {"method": "POST", "headers": [], "path": "/echo", **scope}
        self.sent: list[dict[str, Any]] = []
        self._events = list(events)
        self.was_asked_for_more = asyncio.Event()

    async def receive(self) -> dict[str, Any]:
        if not self._events:
            self.was_asked_for_more.set()
            await asyncio.Event().wait()
        return self._events.pop(0)

    async def send(self, event: dict[str, Any]) -> None:
        self.sent.append(event)

    async def run(self) -> None:
        await AsgiFace(self.toy)(self.scope, self.receive, self.send)

    def now(self) -> Called:
        asyncio.run(self.run())
        return self


def test_the_start_and_the_stop_of_a_server_are_confirmed() -> None:
    events = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
    called = Called({"type": "lifespan"}, *events).now()
    assert [event["type"] for event in called.sent] == [
        "lifespan.startup.complete", "lifespan.shutdown.complete",
    ]  # fmt: skip


def test_a_web_socket_is_turned_away() -> None:
    called = Called({"type": "websocket"}, {"type": "websocket.connect"}).now()
    assert [event["type"] for event in called.sent] == ["websocket.close"]


def test_an_unknown_scope_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="'gopher' is not served here"):
        Called({"type": "gopher"}).now()


@pytest.mark.parametrize(
    ("root", "path", "seen_as"),
    [
        ("/mount", "/mount/echo/x", "/echo/x"),
        ("/mount", "/echo/mount", "/echo/mount"),
        ("/echo", "/echoes", "/echoes"),
        ("", "/echo/", "/echo/"),
    ],
)
def test_the_mount_is_not_part_of_the_path(root: str, path: str, seen_as: str) -> None:
    asked: list[Request] = []

    class Asked(Toy):
        def begin(self, exchange: Any) -> Any:
            asked.append(exchange.request)
            exchange.answer(200, {})
            return super().begin(exchange)

    called = Called({"type": "http", "root_path": root, "path": path})
    called.toy = Asked()
    called.now()
    assert [one.path for one in asked] == [seen_as]


@pytest.mark.parametrize("path", ["/mount", "/mount/"])
def test_the_root_of_the_mount_is_the_empty_path(path: str) -> None:
    scope = {"method": "GET", "headers": [], "root_path": "/mount", "path": path}
    from compoint.http._asgi import _path_of

    assert _path_of(scope) == ""


@pytest.mark.parametrize("raw", [b"/%zz", b"/%", b"/orders%2Flast"])
def test_a_broken_percent_or_an_encoded_slash_is_refused(raw: bytes) -> None:
    called = Called({"type": "http", "path": unquote(raw.decode()), "raw_path": raw}).now()
    assert called.sent[0]["status"] == 400


def test_a_server_that_raises_for_a_peer_that_left_is_understood() -> None:
    """ASGI 2.4: `send` may raise OSError; then the endpoint hears of it."""

    async def refuse(event: dict[str, Any]) -> None:
        raise OSError

    called = Called({"type": "http", "path": "/stream/x"})
    called.send = refuse
    called.now()
    assert called.toy.watched["x"].seen == ["gone"]


def exchange_of_a_loop_that_is_closed() -> _AsgiExchange:
    async def make() -> _AsgiExchange:
        return _AsgiExchange(Request("GET", "", {}, {}, "", is_local=True))

    return asyncio.run(make())


@pytest.mark.parametrize("verb", [
    lambda one: one.answer(200, {}), lambda one: one.start(200, {}), lambda one: one.send(b"x"),
    lambda one: one.end(), lambda one: one.pause(), lambda one: one.resume(),
], ids=["answer", "start", "send", "end", "pause", "resume"])  # fmt: skip
def test_an_answer_after_the_end_of_the_server_harms_nobody(
    verb: Callable[[_AsgiExchange], object],
) -> None:
    verb(exchange_of_a_loop_that_is_closed())


def test_a_parked_request_whose_task_is_cancelled_is_gone() -> None:
    called = Called({"type": "http", "path": "/park/x"}, {"type": "http.request"})

    async def send(event: dict[str, Any]) -> None:
        called.sent.append(event)
        # Too late, and the endpoint has been told so.
        called.toy.watched["x"].exchange.answer(200, {})

    async def cut_short() -> None:
        called.send = send
        task = asyncio.create_task(called.run())
        await called.was_asked_for_more.wait()
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()

    asyncio.run(cut_short())
    assert called.toy.watched["x"].seen == ["complete", "gone"]
    assert [event.get("status") for event in called.sent] == [503, None]


def test_a_loop_that_sleeps_is_woken_by_an_answer() -> None:
    called = Called({"type": "http", "path": "/park/x"})

    async def answer() -> None:
        task = asyncio.create_task(called.run())
        await called.was_asked_for_more.wait()
        exchange = called.toy.watched["x"].exchange
        answering = threading.Thread(target=exchange.answer, args=[200, {}])
        answering.start()
        await asyncio.wait_for(task, 5)
        answering.join()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    # The debug mode tells safe calls from those that happen to work.
    asyncio.run(answer(), debug=True)
    assert called.sent[0]["status"] == 200


def test_pieces_given_together_leave_together() -> None:
    called = Called({"type": "http", "path": "/stream/x"})

    async def give() -> None:
        task = asyncio.create_task(called.run())
        await called.was_asked_for_more.wait()
        exchange = called.toy.watched["x"].exchange
        for piece in (b"one", b"two", b"three"):
            assert exchange.send(piece)
        exchange.end()
        await task

    asyncio.run(give())
    assert b"".join(event.get("body", b"") for event in called.sent) == b"onetwothree"
    assert len(called.sent) <= 3
    assert called.sent[-1]["more_body"] is False


def test_a_lone_head_is_followed_by_an_empty_piece() -> None:
    """A server may keep the head until it has some of the body."""
    called = Called({"type": "http", "path": "/stream/x"})

    async def look() -> None:
        followed = asyncio.Event()

        async def send(event: dict[str, Any]) -> None:
            called.sent.append(event)
            if event["type"] == "http.response.body":
                followed.set()

        called.send = send
        task = asyncio.create_task(called.run())
        await asyncio.wait_for(followed.wait(), 5)
        task.cancel()
        await asyncio.wait([task])

    asyncio.run(look())
    assert called.sent[1] == {"type": "http.response.body", "body": b"", "more_body": True}


def test_the_answer_to_head_is_its_head() -> None:
    scope = {"type": "http", "method": "HEAD", "path": "/seen/nobody"}
    head, body = Called(scope).now().sent
    assert (b"content-length", b"4") in head["headers"]
    assert body["body"] == b""


def test_what_comes_behind_the_answer_is_dropped() -> None:
    class Short(Toy):
        def begin(self, exchange: Any) -> Any:
            super().begin(exchange)
            watched = self.watched["x"]

            class Answering(Watched):
                def piece(self, data: bytes) -> None:
                    watched.piece(data)
                    exchange.answer(413, {})

                def complete(self) -> None:
                    watched.complete()

            return Answering(exchange)

    called = Called(
        {"type": "http", "path": "/park/x"},
        {"type": "http.request", "body": b"first", "more_body": True},
        {"type": "http.request", "body": b"second", "more_body": True},
        {"type": "http.request"},
    )
    called.toy = Short()
    called.now()
    assert called.toy.watched["x"].seen == ["first"]
