"""The endpoint as an ASGI application (version 3), for a web server that runs already."""

from __future__ import annotations

import re
import threading
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote_to_bytes

from compoint.core.codes import Code
from compoint.http._exchange import IGNORE, Endpoint, Exchange, Fields, Request, Taker
from compoint.http._wsgi import (
    Answer,
    Refusal,
    call_endpoint,
    checked_path,
    parsed_query,
    peer_text,
    whole_fields,
)
from compoint.limits import CHUNK_BYTES

if TYPE_CHECKING:
    import asyncio

__all__ = ["AsgiFace"]

Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

#: So much of an answer may wait for the server to take it before `send` says so.
UNSENT_BYTES: Final = CHUNK_BYTES
# "%2F" could not be told from "/" any more: a proxy may have let it pass as part of a name.
_BROKEN_PATH: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})|%2[Ff]")


class AsgiFace:
    """Serves an endpoint inside an ASGI server that runs on asyncio.

    Bodies and answers are streamed; a parked poll costs two tasks, no thread. The endpoint
    is called on the thread of the event loop and may answer from any other. With uvicorn:

        uvicorn --workers 1 --timeout-graceful-shutdown 10 module:application

    `--workers 1`: sessions live in one process, the others would not know them.
    `--timeout-graceful-shutdown`: without it uvicorn's stop waits for whatever is parked
    or streamed. Who has no answer by then gets 503; a streamed answer is cut off.

    What the endpoint raises is logged and answered with 500; an answer that has begun is
    cut off instead. How long a slow peer may take is the server's business.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    async def __call__(self, scope: Scope, receive: Receive, send: Send, /) -> None:
        kind = scope["type"]
        if kind == "http":
            await self._serve(scope, receive, send)
        elif kind == "lifespan":
            await _live(receive, send)
        elif kind == "websocket":
            await receive()
            await send({"type": "websocket.close"})
        else:
            raise RuntimeError(f"{kind!r} is not served here")

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        import asyncio  # noqa: PLC0415 - slow to import, and here it is loaded already

        try:
            exchange = _AsgiExchange(_request_of(scope))
        except Refusal as refusal:
            await _send_whole(send, scope["method"], refusal.answer)
            return
        exchange.taker = call_endpoint(exchange, self._endpoint.begin, exchange) or IGNORE
        reading: asyncio.Task[None] | None = None
        if not exchange.is_answered:
            # Else a client that waits for "100 Continue" need not be invited any more.
            reading = asyncio.create_task(exchange.read(receive))
        try:
            await exchange.write(send)
        except OSError:
            pass  # the peer left; other servers take what is sent and say nothing
        except asyncio.CancelledError:
            exchange.leave()
            if not exchange.has_begun:
                await _send_whole(send, exchange.request.method, _stopped().answer)
            raise
        finally:
            if reading is not None:
                reading.cancel()
                await asyncio.wait([reading])


class _AsgiExchange(Exchange):
    #: Called on the loop's thread only, by `read`, `write` and `leave`.
    taker: Taker = IGNORE

    def __init__(self, request: Request) -> None:
        import asyncio  # noqa: PLC0415 - as above

        self.request = request
        self._loop = asyncio.get_running_loop()
        #: Held for a few steps at a time.
        self._lock = threading.Lock()
        #: What is to be sent.
        self._head: tuple[int, Fields] | None = None
        self._pieces: list[bytes] = []
        #: With what the server is just taking.
        self._unsent_bytes = 0
        self._is_full = False
        self.has_begun = False
        #: The answer has been given whole.
        self.is_answered = False
        #: No answer can be given any more.
        self._is_over = False
        self._is_broken = False
        self._is_paused = False
        self._is_rung = False
        self._bell = asyncio.Event()
        self._resumed = asyncio.Event()

    # --- for the endpoint, from any thread ----------------------------------------------

    def answer(self, status: int, headers: Fields, body: bytes = b"") -> None:
        with self._lock:
            if self._is_over or self.is_answered:
                return
            if self.has_begun and self._head is None:
                # An internal error behind the head: all that is left is to break off.
                self._is_broken = True
            else:
                self._head = (status, whole_fields(status, headers, body))
                self._pieces = [] if self.request.method == "HEAD" else [body]
                self.has_begun = self.is_answered = True
            self._ring()

    def start(self, status: int, headers: Fields) -> None:
        with self._lock:
            if not (self._is_over or self.has_begun):
                self._head = (status, headers)
                self.has_begun = True
                self._ring()

    def send(self, data: bytes) -> bool:
        with self._lock:
            if self._is_over or self.is_answered:
                return True
            self._pieces.append(data)
            self._unsent_bytes += len(data)
            self._is_full = self._is_full or self._unsent_bytes > UNSENT_BYTES
            self._ring()
            return not self._is_full

    def end(self) -> None:
        with self._lock:
            self.is_answered = True
            self._ring()

    def pause(self) -> None:
        self._is_paused = True

    def resume(self) -> None:
        self._is_paused = False
        self._tell(self._resumed)

    def _ring(self) -> None:
        # Waking the loop costs; once per round of `write` is enough.
        if not self._is_rung:
            self._is_rung = True
            self._tell(self._bell)

    def _tell(self, event: asyncio.Event) -> None:
        try:
            self._loop.call_soon_threadsafe(event.set)
        except RuntimeError:
            pass  # the server has stopped and closed its loop

    # --- for the loop -------------------------------------------------------------------

    def leave(self) -> None:
        """The peer is not there any more; the first to notice tells the endpoint."""
        with self._lock:
            if self._is_over or self.is_answered:
                return
            self._is_over = True
            self._ring()
        call_endpoint(self, self.taker.gone)

    async def read(self, receive: Receive) -> None:
        """Hand out the body; then wait, to see the peer leave."""
        try:
            is_whole = False
            while (event := await receive())["type"] == "http.request":
                # One piece is held here meanwhile; so a peer that leaves is still noticed
                # when it has sent nothing more.
                while self._is_paused:
                    self._resumed.clear()
                    await self._resumed.wait()
                if event.get("body") and not self.is_answered:
                    call_endpoint(self, self.taker.piece, event["body"])
                if not (event.get("more_body") or is_whole or self.is_answered):
                    is_whole = True
                    call_endpoint(self, self.taker.complete)
        finally:
            self.leave()

    async def write(self, send: Send) -> None:
        """Send the answer as it is given; returns behind it, or when the peer has left."""
        while True:
            await self._bell.wait()
            self._bell.clear()
            with self._lock:
                self._is_rung = False
                head, self._head = self._head, None
                pieces, self._pieces = self._pieces, []
                size, is_last = self._unsent_bytes, self.is_answered
                is_over = self._is_over or self._is_broken
            if is_over:
                return
            if head is not None:
                await _send_head(send, *head)
            # Also behind a lone head, which servers may keep until some body comes.
            await _send_body(send, b"".join(pieces), is_last=is_last)
            if is_last:
                return
            with self._lock:
                self._unsent_bytes -= size
                has_room = self._is_full and not self._unsent_bytes
                self._is_full = self._is_full and not has_room
            if has_room:
                call_endpoint(self, self.taker.room)


async def _live(receive: Receive, send: Send) -> None:
    """The server's start and stop; there is nothing to prepare or to tidy."""
    kind = ""
    while kind != "lifespan.shutdown":
        kind = (await receive())["type"]
        await send({"type": f"{kind}.complete"})


async def _send_whole(send: Send, method: str, answer: Answer) -> None:
    status, headers, body = answer
    await _send_head(send, status, whole_fields(status, headers, body))
    await _send_body(send, b"" if method == "HEAD" else body, is_last=True)


async def _send_head(send: Send, status: int, headers: Fields) -> None:
    fields = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": fields})


async def _send_body(send: Send, data: bytes, *, is_last: bool) -> None:
    await send({"type": "http.response.body", "body": data, "more_body": not is_last})


def _request_of(scope: Scope) -> Request:
    headers: dict[str, str] = {}
    for name, value in scope["headers"]:
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        headers[key] = f"{headers[key]}, {text}" if key in headers else text
    host, port = scope.get("client") or ("", None)
    return Request(
        method=scope["method"].upper(),
        path=_path_of(scope),
        query=parsed_query(scope.get("query_string", b"").decode("latin-1")),
        headers=headers,
        peer=peer_text(scope.get("scheme", "http"), host, port),
        # A web server in between makes everybody look so.
        is_local=False,
    )


def _path_of(scope: Scope) -> str:
    """The path below the mount."""
    raw: bytes = scope.get("raw_path") or b""
    if _BROKEN_PATH.search(raw):
        raise Refusal(
            400, "bad request", "the path holds a broken '%' or an encoded '/'",
            hint="write '%25' for '%', and '/' as it is",
        )  # fmt: skip
    # Servers decode the path leniently; what came can only be judged by its bytes.
    checked_path(unquote_to_bytes(raw))
    path: str = scope["path"]
    mount: str = scope.get("root_path", "")
    if mount and (path == mount or path.startswith(f"{mount}/")):
        path = path[len(mount) :]
    return checked_path(path.encode())


def _stopped() -> Refusal:
    return Refusal(503, Code.STOPPED.word, "the server is stopping", retry_after_s=1.0)
