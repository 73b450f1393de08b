"""The endpoint as a WSGI application (PEP 3333), for a web server that runs already.

Below the face stands what it shares with the other mounted face: how a head is read, and
what happens when the endpoint raises.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, ParamSpec, TypeVar
from urllib.parse import parse_qsl

from compoint.core.codes import Code
from compoint.deadline import Deadline
from compoint.drive.waiter import Waiter
from compoint.http._exchange import (
    IGNORE,
    Endpoint,
    Exchange,
    Fields,
    Request,
    answer_problem,
    problem,
)
from compoint.limits import RECEIVE_BYTES

if TYPE_CHECKING:
    from wsgiref.types import InputStream, StartResponse, WSGIEnvironment

__all__ = [
    "Answer",
    "Refusal",
    "WsgiFace",
    "call_endpoint",
    "checked_path",
    "parsed_query",
    "peer_text",
    "whole_fields",
]

#: Status, headers and body.
Answer = tuple[int, Fields, bytes]
P = ParamSpec("P")
T = TypeVar("T")

#: How long a thread waits for an answer, or for the end of a pause. Twice what a poll may
#: be parked; beyond it something is wrong, and the server gets its thread back.
MOST_WAIT_S: Final = 120.0
#: Takes the place of the answer when nobody is there to get one.
_NO_ANSWER: Final[Answer] = (500, {}, b"")

_log = logging.getLogger("compoint.server")


class WsgiFace:
    """Serves an endpoint inside a WSGI server; any number of threads may call it at once.

    A call blocks until the endpoint has answered: a parked poll, which lasts up to a
    minute, holds one worker thread of the server all that time. Answers and bodies travel
    whole, so there is no streaming. With gunicorn that means

        gunicorn --worker-class gthread --workers 1 --threads 64 module:application

    `--threads`: one for each initiator that may wait at the same time, and some for what
    they write meanwhile; while all are taken, the next request waits for one.
    `--workers 1`: sessions live in one process, the others would not know them.
    No `--preload`: what is made before the fork belongs to the parent.
    Not the default worker (`sync`), which serves one request at a time.
    At its stop gunicorn waits up to `--graceful-timeout` (30 s) for parked polls.

    A call that has no answer after 120 s gives 503 and tells the endpoint that the peer is
    gone. What the endpoint raises is logged and answered with 500; what the server's own
    `wsgi.input` raises passes through to the server.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    def __call__(
        self, environ: WSGIEnvironment, start_response: StartResponse, /
    ) -> Iterable[bytes]:
        method = environ["REQUEST_METHOD"].upper()
        try:
            exchange = _WsgiExchange(_request_of(method, environ))
            body = _Body(environ)
        except Refusal as refusal:
            status, headers, data = refusal.answer
        else:
            status, headers, data = self._answer_to(exchange, body)
        fields = whole_fields(status, headers, data)
        start_response(f"{status} {_reason(status)}", [*fields.items()])
        return [] if method == "HEAD" else [data]

    def _answer_to(self, exchange: _WsgiExchange, body: _Body) -> Answer:
        taker = call_endpoint(exchange, self._endpoint.begin, exchange) or IGNORE
        try:
            while exchange.wants_body():
                piece = body.read()
                if not piece:
                    call_endpoint(exchange, taker.complete)
                    break
                call_endpoint(exchange, taker.piece, piece)
            return exchange.wait()
        except Refusal as refusal:
            # Unless an answer was given at the last moment: then that one counts.
            if exchange.settle(refusal.answer):
                call_endpoint(exchange, taker.gone)
            return exchange.wait()
        except BaseException:
            if exchange.settle(_NO_ANSWER):
                call_endpoint(exchange, taker.gone)
            raise


class _WsgiExchange(Exchange):
    can_stream = False

    def __init__(self, request: Request) -> None:
        self.request = request
        self._lock = threading.Lock()
        self._changed = Waiter()
        self._answer: Answer | None = None
        self._is_paused = False

    # --- for the endpoint, from any thread ----------------------------------------------

    def answer(self, status: int, headers: Fields, body: bytes = b"") -> None:
        self.settle((status, headers, body))

    def start(self, status: int, headers: Fields) -> None:
        raise RuntimeError("a WSGI server takes whole answers only (can_stream is False)")

    def send(self, data: bytes) -> bool:
        raise RuntimeError("a WSGI server takes whole answers only (can_stream is False)")

    def end(self) -> None:
        raise RuntimeError("a WSGI server takes whole answers only (can_stream is False)")

    def pause(self) -> None:
        self._is_paused = True

    def resume(self) -> None:
        self._is_paused = False
        self._changed.wake()

    # --- for the thread of the request --------------------------------------------------

    def settle(self, answer: Answer) -> bool:
        """Take this for the answer; False: there is one already."""
        with self._lock:
            if self._answer is not None:
                return False
            self._answer = answer
        self._changed.wake()
        return True

    def wants_body(self) -> bool:
        """Whether the endpoint takes more of the body; waits while it pauses.

        Raises:
            Refusal: it paused for too long.
        """
        self._wait_for(lambda: not self._is_paused)
        return self._answer is None

    def wait(self) -> Answer:
        """Wait for the answer.

        Raises:
            Refusal: none came in time.
        """
        self._wait_for(lambda: False)
        assert self._answer is not None
        return self._answer

    def _wait_for(self, claim: Callable[[], bool]) -> None:
        deadline = Deadline(MOST_WAIT_S)
        while self._answer is None and not claim():
            if deadline.is_over:
                raise Refusal(
                    503, Code.BUSY.word, f"no answer came within {MOST_WAIT_S:g} s",
                    retry_after_s=1.0,
                )  # fmt: skip
            self._changed.sleep(deadline.remaining_s())


class _Body:
    """The body of one request, and where it ends."""

    def __init__(self, environ: WSGIEnvironment) -> None:
        self._input: InputStream = environ["wsgi.input"]
        #: None: the server says where the end is.
        self._left: int | None = None
        if "HTTP_TRANSFER_ENCODING" in environ:
            if not environ.get("wsgi.input_terminated"):
                raise Refusal(
                    411, "bad request", "this server takes bodies of a known length only",
                    hint="send Content-Length",
                )  # fmt: skip
            return
        length = environ.get("CONTENT_LENGTH") or "0"
        if not (length.isascii() and length.isdigit() and len(length) < 20):
            raise Refusal(400, "bad request", "the Content-Length is not a number")
        self._left = int(length)

    def read(self) -> bytes:
        """The next piece; empty at the end."""
        if self._left is None:
            return self._input.read(RECEIVE_BYTES)
        piece = self._input.read(min(self._left, RECEIVE_BYTES)) if self._left else b""
        if self._left and not piece:
            raise Refusal(400, "bad request", "the body broke off")
        self._left -= len(piece)
        return piece


def _request_of(method: str, environ: WSGIEnvironment) -> Request:
    # PEP 3333: bytes, shown as the characters of latin-1.
    path = checked_path(environ.get("PATH_INFO", "").encode("latin-1"))
    headers = {
        name[5:].replace("_", "-").lower(): value
        for name, value in environ.items() if name.startswith("HTTP_")
    }  # fmt: skip
    for name in ("CONTENT_TYPE", "CONTENT_LENGTH"):
        if environ.get(name):
            headers[name.replace("_", "-").lower()] = environ[name]
    host = environ.get("REMOTE_ADDR", "")
    return Request(
        method=method,
        path=path,
        query=parsed_query(environ.get("QUERY_STRING", "")),
        headers=headers,
        peer=peer_text(environ["wsgi.url_scheme"], host, environ.get("REMOTE_PORT")),
        # A web server in between makes everybody look so.
        is_local=False,
    )


def _reason(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"


# --- what both mounted faces need ---------------------------------------------------------


class Refusal(Exception):
    """A request that the face answers itself, with a problem (RFC 9457)."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        hint: str = "",
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(detail)
        self.answer: Answer = problem(
            status, code, detail, hint=hint, retry_after_s=retry_after_s
        )  # fmt: skip


def call_endpoint(
    exchange: Exchange, call: Callable[P, T], /, *arguments: P.args, **options: P.kwargs
) -> T | None:
    """Call the endpoint, or its Taker. What it raises is logged and answered with 500."""
    try:
        return call(*arguments, **options)
    except Exception:  # noqa: BLE001 - one request's fault must not stop the server
        _log.exception("internal error at an HTTP request; please report it")
        answer_problem(exchange, 500, Code.INTERNAL.word, "an internal error; the log has more")
        return None


_BROKEN_PERCENT: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
#: No request of ours has more than a handful.
_QUERY_FIELDS: Final = 64


def checked_path(raw: bytes) -> str:
    """A path, given without its percents; "" stands for "/".

    Raises:
        Refusal: it is not UTF-8, or holds a control character.
    """
    try:
        path = raw.decode()
    except UnicodeDecodeError:
        raise Refusal(400, "bad request", "the path is not UTF-8 once it is decoded") from None
    if _CONTROL.search(path):
        raise Refusal(400, "bad request", "the path holds a control character")
    return "" if path == "/" else path


def parsed_query(text: str) -> Fields:
    """The query, decoded; of a name that comes twice, the last value.

    Raises:
        Refusal: it is no query, or not UTF-8.
    """
    try:
        if text.isascii() and not _BROKEN_PERCENT.search(text):
            return dict(
                parse_qsl(
                    text, keep_blank_values=True, errors="strict", max_num_fields=_QUERY_FIELDS
                )
            )
    except ValueError:
        pass  # in the same words
    raise Refusal(
        400, "bad request", "the query cannot be decoded",
        hint="write it as name=value&name=value, percent-encoded UTF-8",
    )  # fmt: skip


def peer_text(scheme: str, host: str, port: object) -> str:
    """Who asks, for people: `http://192.0.2.7:50112`."""
    place = f"[{host}]" if ":" in host else host or "unknown"
    return f"{scheme}://{place}:{port}" if port else f"{scheme}://{place}"


def whole_fields(status: int, headers: Fields, body: bytes) -> Fields:
    """The headers of a whole answer, with its length (RFC 9110, 8.6)."""
    if status in {204, 304}:
        return headers
    return {"content-length": str(len(body)), **headers}
