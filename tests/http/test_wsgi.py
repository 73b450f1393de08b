"""The WSGI face: inside gunicorn, and called as a WSGI server calls it."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest

from compoint.http import _wsgi
from compoint.http._exchange import IGNORE, Exchange, Taker, WholeBody
from compoint.http._wsgi import WsgiFace
from compoint.testing import Background, eventually

sys.path.insert(0, str(Path(__file__).resolve().parent / "mounted"))
pytest.register_assert_rewrite("facts")

from facts import Facts, request, seen  # noqa: E402
from hosts import Host, gunicorn  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    pytest.importorskip("gunicorn", reason="gunicorn is not installed")
    with gunicorn(tmp_path_factory.mktemp("gunicorn")) as host:
        yield host


class TestGunicorn(Facts):
    """The facts of every server."""


def test_gunicorn_stops_within_its_grace_with_requests_parked(tmp_path: Path) -> None:
    pytest.importorskip("gunicorn", reason="gunicorn is not installed")
    with gunicorn(tmp_path) as host:
        asking = [Background(request, host, "GET", f"/park/{name}") for name in "abc"]
        for name in "abc":
            eventually(lambda name=name: seen(host, name) == ["complete"])
        host.stop()
        host.end(within_s=15)
        for one in asking:
            one.error()


# --- called directly ------------------------------------------------------------------------


class Scripted:
    """An endpoint that does what it is told, and remembers what it was told."""

    def __init__(self, begin: Callable[[Exchange], Taker | None] = lambda _: None) -> None:
        self._begin = begin
        self.seen: list[object] = []
        self.exchange: Exchange | None = None

    def begin(self, exchange: Exchange) -> Taker:
        self.exchange = exchange
        return self._begin(exchange) or self

    def piece(self, data: bytes) -> None:
        self.seen.append(data)

    def complete(self) -> None:
        self.seen.append("complete")

    def gone(self) -> None:
        self.seen.append("gone")

    def room(self) -> None:
        raise AssertionError("nothing was sent in pieces")


class Called:
    """One call of the face, and what the server got."""

    def __init__(self, endpoint: Any, body: bytes | io.BytesIO = b"", **environ: Any) -> None:
        self.input = body if isinstance(body, io.BytesIO) else io.BytesIO(body)
        self.environ: dict[str, Any] = {"REQUEST_METHOD": "POST", "wsgi.input": self.input}
        self.environ |= {"SCRIPT_NAME": "", "PATH_INFO": "/", "QUERY_STRING": ""}
        if isinstance(body, bytes):
            self.environ["CONTENT_LENGTH"] = str(len(body))
        self.environ |= {key.replace("wsgi_", "wsgi."): value for key, value in environ.items()}
        setup_testing_defaults(self.environ)
        self.status = ""
        self.headers: dict[str, str] = {}
        # A conforming server checks what it is given.
        answer = validator(WsgiFace(endpoint))(self.environ, self._start)
        self.body = b"".join(answer)
        answer.close()

    def _start(self, status: str, headers: list[tuple[str, str]], *_: Any) -> Any:
        self.status = status
        self.headers = dict(headers)
        return lambda _: None


def answering(body: bytes = b"here", status: int = 200) -> Scripted:
    """Answers when the request is whole."""
    return Scripted(lambda exchange: WholeBody(
        exchange, 100, lambda _: exchange.answer(status, {"content-type": "text/plain"}, body)
    ))  # fmt: skip


def test_an_answer_has_its_status_its_headers_and_its_length() -> None:
    called = Called(answering(b"here"))
    assert called.status == "200 OK"
    assert called.headers == {"content-type": "text/plain", "content-length": "4"}
    assert called.body == b"here"


def test_a_status_without_a_name_is_no_fault() -> None:
    assert Called(answering(status=299)).status == "299 Unknown"


def test_an_answer_without_content_has_no_length() -> None:
    called = Called(Scripted(lambda exchange: exchange.answer(204, {}) or IGNORE))
    assert (called.status, called.headers) == ("204 No Content", {})


def test_the_answer_to_head_is_its_head() -> None:
    called = Called(answering(b"here"), REQUEST_METHOD="HEAD")
    assert (called.headers["content-length"], called.body) == ("4", b"")


def test_the_mount_is_not_part_of_the_path() -> None:
    endpoint = answering()
    Called(endpoint, SCRIPT_NAME="/mount", PATH_INFO="/orders")
    assert endpoint.exchange is not None
    assert endpoint.exchange.request.path == "/orders"


@pytest.mark.parametrize("path", ["", "/"])
def test_the_root_of_the_mount_is_the_empty_path(path: str) -> None:
    endpoint = answering()
    Called(endpoint, SCRIPT_NAME="/mount", PATH_INFO=path)
    assert endpoint.exchange is not None
    assert endpoint.exchange.request.path == ""


def test_a_path_is_read_as_utf8() -> None:
    endpoint = answering()
    Called(endpoint, PATH_INFO="/été".encode().decode("latin-1"))
    assert endpoint.exchange is not None
    assert endpoint.exchange.request.path == "/été"


def test_a_peer_at_an_unknown_place_is_not_local() -> None:
    """A server at a Unix socket names no address; a proxy is in front of it."""
    endpoint = answering()
    Called(endpoint, REMOTE_ADDR="")
    assert endpoint.exchange is not None
    assert endpoint.exchange.request.is_local is False


def test_nothing_is_read_once_the_endpoint_has_answered() -> None:
    called = Called(answering(), b"x" * (1 << 20))
    assert called.status == "413 Request Entity Too Large"
    assert 100 < called.input.tell() <= 128 << 10


def test_nothing_is_read_of_a_request_that_is_answered_by_its_head() -> None:
    called = Called(Scripted(lambda exchange: exchange.answer(404, {"content-type": "a/b"})), b"x")
    assert called.input.tell() == 0


def test_a_chunked_body_is_read_to_its_end() -> None:
    endpoint = answering()
    body = io.BytesIO(b"chunks, decoded")
    called = Called(endpoint, body, HTTP_TRANSFER_ENCODING="chunked", wsgi_input_terminated=True)
    assert called.status == "200 OK"
    assert body.read() == b""


def test_a_chunked_body_whose_end_the_server_hides_is_refused() -> None:
    called = Called(answering(), io.BytesIO(), HTTP_TRANSFER_ENCODING="chunked")
    assert called.status == "411 Length Required"


@pytest.mark.parametrize("length", ["ten", "-1", "+1", "1_0", "²", "9" * 20])
def test_a_length_that_is_no_number_is_refused(length: str) -> None:
    statuses: list[str] = []
    environ = {"REQUEST_METHOD": "POST", "CONTENT_LENGTH": length}
    setup_testing_defaults(environ)
    WsgiFace(answering())(environ, lambda status, *_: statuses.append(status))
    assert statuses == ["400 Bad Request"]


def test_only_the_body_is_read_of_an_input_that_goes_on() -> None:
    """PEP 3333: an application must not read beyond CONTENT_LENGTH."""
    body = io.BytesIO(b"bodynext request")
    endpoint = Scripted()
    calling = Background(Called, endpoint, body, CONTENT_LENGTH="4")
    eventually(lambda: "complete" in endpoint.seen)
    assert endpoint.seen == [b"body", "complete"]
    assert endpoint.exchange is not None
    endpoint.exchange.answer(200, {"content-type": "a/b"})
    calling.result()
    assert body.read() == b"next request"


def test_a_body_that_breaks_off_is_a_peer_that_left() -> None:
    endpoint = Scripted()
    called = Called(endpoint, io.BytesIO(b"bo"), CONTENT_LENGTH="4")
    assert endpoint.seen == [b"bo", "gone"]
    assert called.status == "400 Bad Request"


class Broken(io.BytesIO):
    """The input of a server that has lost its peer."""

    def read(self, size: int | None = -1) -> bytes:
        raise ConnectionResetError


def test_a_fault_of_the_servers_input_is_the_servers_to_handle() -> None:
    endpoint = Scripted()
    with pytest.raises(ConnectionResetError):
        Called(endpoint, Broken(), CONTENT_LENGTH="4")
    assert endpoint.seen == ["gone"]


def test_no_body_is_read_while_the_endpoint_pauses() -> None:
    endpoint = Scripted(lambda exchange: exchange.pause())
    body = io.BytesIO(b"body")
    calling = Background(Called, endpoint, body, CONTENT_LENGTH="4").blocked()
    assert body.tell() == 0
    assert endpoint.exchange is not None
    endpoint.exchange.resume()
    eventually(lambda: endpoint.seen == [b"body", "complete"])
    endpoint.exchange.answer(200, {"content-type": "a/b"})
    assert calling.result().status == "200 OK"


def test_an_answer_ends_a_pause() -> None:
    endpoint = Scripted(lambda exchange: exchange.pause())
    calling = Background(Called, endpoint, b"body").blocked()
    assert endpoint.exchange is not None
    endpoint.exchange.answer(200, {"content-type": "a/b"})
    assert calling.result().status == "200 OK"
    assert endpoint.seen == []


@pytest.mark.parametrize(
    "begin", [lambda _: None, lambda exchange: exchange.pause()], ids=["answer", "pause"]
)
def test_a_thread_does_not_wait_for_ever(
    begin: Callable[[Exchange], Taker | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_wsgi, "MOST_WAIT_S", 0.05)
    endpoint = Scripted(begin)
    called = Called(endpoint)
    assert called.status == "503 Service Unavailable"
    assert called.headers["retry-after"] == "1"
    assert endpoint.seen[-1] == "gone"


def test_an_answer_that_comes_too_late_harms_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_wsgi, "MOST_WAIT_S", 0.05)
    endpoint = Scripted()
    Called(endpoint)
    assert endpoint.exchange is not None
    endpoint.exchange.answer(200, {})
    endpoint.exchange.resume()


def test_an_error_behind_the_answer_changes_nothing() -> None:
    def answer_and_raise(exchange: Exchange) -> None:
        exchange.answer(200, {"content-type": "a/b"}, b"said")
        raise ValueError

    called = Called(Scripted(answer_and_raise))
    assert (called.status, called.body) == ("200 OK", b"said")


def test_an_answered_request_is_never_gone() -> None:
    endpoint = Scripted()
    calling = Background(Called, endpoint, b"body").blocked()
    assert endpoint.exchange is not None
    endpoint.exchange.answer(200, {"content-type": "a/b"})
    calling.result()
    assert endpoint.seen == [b"body", "complete"]


@pytest.mark.parametrize(
    "verb", [lambda one: one.start(200, {}), lambda one: one.send(b""), lambda one: one.end()],
    ids=["start", "send", "end"],
)  # fmt: skip
def test_streaming_is_misuse(verb: Callable[[Exchange], object]) -> None:
    endpoint = answering()
    Called(endpoint)
    assert endpoint.exchange is not None
    assert endpoint.exchange.can_stream is False
    with pytest.raises(RuntimeError, match="can_stream"):
        verb(endpoint.exchange)
