"""A relay before a server that works on whole HTTP requests: it passes them on, or does
with them what middleboxes on bad days do."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import random
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final, Self

__all__ = ["DEEDS", "Badly", "Relay", "Visit"]

_PATIENCE_S: Final = 30.0


class Visit:
    """One request at the relay, and the verbs to deal with it."""

    def __init__(self, handler: BaseHTTPRequestHandler, relay: Relay) -> None:
        self.headers = handler.headers
        self.ask: str = handler.headers.get("ComPoint-Ask", "")
        self._handler = handler
        self._relay = relay
        self.body = b""
        length = handler.headers.get("Content-Length")
        if length is not None:
            self.body = handler.rfile.read(int(length))

    @property
    def is_upstream(self) -> bool:
        return self.headers.get("Transfer-Encoding") == "chunked"

    def pass_on(
        self,
        cut_after: int | None = None,
        headers: dict[str, str] | None = None,
        idle_s: float = _PATIENCE_S,
    ) -> None:
        """Ask the server and give its answer; `cut_after` so many bytes of a body, cut. When
        nothing comes for `idle_s`, the connection ends."""
        with self._asked(idle_s) as answer:
            self._give(answer, cut_after, headers or {})

    def ask_only(self) -> None:
        """Ask the server, and lose its answer once it has begun."""
        with self._asked():
            self.drop()

    def ask_twice(self) -> None:
        """Pass it on; later ask the server the same again, and lose the answer."""
        self.pass_on()
        if not self.is_upstream:
            self._relay.ask_later(self._head(), self.body)

    def drop(self) -> None:
        """Close the connection without an answer."""
        self._handler.close_connection = True
        with contextlib.suppress(OSError):
            self._handler.connection.shutdown(socket.SHUT_RDWR)

    def say(self, status: int) -> None:
        """An answer of the relay's own; what is still to come of the request is not read."""
        self._handler.close_connection = True
        with contextlib.suppress(OSError):
            self._handler.send_error(status)

    def _head(self) -> dict[str, str]:
        return {name: value for name, value in self.headers.items() if name != "Connection"}

    @contextlib.contextmanager
    def _asked(self, idle_s: float = _PATIENCE_S) -> Iterator[http.client.HTTPResponse]:
        with self._relay.connection(idle_s) as far:
            far.putrequest("POST", self._handler.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self._head().items():
                far.putheader(name, value)
            far.endheaders(self.body)
            if self.is_upstream:
                self._pass_chunks(far)
            yield far.getresponse()

    def _pass_chunks(self, far: http.client.HTTPConnection) -> None:
        rfile = self._handler.rfile
        while True:
            line = rfile.readline()
            size = int(line or b"0", 16)
            far.send(line + rfile.read(size + 2))
            if not size:
                return

    def _give(
        self, answer: http.client.HTTPResponse, cut_after: int | None, headers: dict[str, str]
    ) -> None:
        handler = self._handler
        handler.send_response_only(answer.status, answer.reason)
        for name, value in [*answer.getheaders(), *headers.items()]:
            handler.send_header(name, value)
        handler.end_headers()
        given = 0
        while data := answer.read1(65536):
            if cut_after is not None:
                data = data[: cut_after - given]
            given += len(data)
            handler.wfile.write(b"%x\r\n%b\r\n" % (len(data), data) if answer.chunked else data)
            if given == cut_after:
                self.drop()
                return
        if answer.chunked:
            handler.wfile.write(b"0\r\n\r\n")


class Relay:
    """Before the server at `target`; what it does with each request is `do`'s decision."""

    def __init__(self, target: int, do: Callable[[Visit], None] = Visit.pass_on) -> None:
        self.target = target
        self.do = do
        #: The requests that have come, by what they ask for, in order.
        self.asks: list[str] = []
        self._is_over = threading.Event()
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        relay = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def setup(self) -> None:
                relay._sockets.append(self.request)
                super().setup()

            def do_POST(self) -> None:
                with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
                    visit = Visit(self, relay)
                    relay.asks.append(visit.ask)
                    relay.do(visit)
                    return
                self.close_connection = True

            def log_message(self, *_: object) -> None:
                """Tests print nothing."""

        class Server(ThreadingHTTPServer):
            daemon_threads = False

            def handle_error(self, *_: object) -> None:
                """A connection was cut: that is our business here."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self.port: int = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    @contextlib.contextmanager
    def connection(self, idle_s: float = _PATIENCE_S) -> Iterator[http.client.HTTPConnection]:
        far = http.client.HTTPConnection("127.0.0.1", self.target, timeout=idle_s)
        try:
            far.connect()
            self._sockets.append(far.sock)
            yield far
        finally:
            far.close()

    def ask_later(self, head: dict[str, str], body: bytes) -> None:
        """Repeat a request on a connection of its own in a moment; nobody hears the answer."""

        def ask() -> None:
            self._is_over.wait(0.02)
            with contextlib.suppress(OSError, http.client.HTTPException), self.connection() as far:
                far.request("POST", "/", body, head)
                far.getresponse()

        thread = threading.Thread(target=ask, name="relay-repeat")
        self._threads.append(thread)
        thread.start()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._server.shutdown()
        self._thread.join()
        for sock in list(self._sockets):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._server.server_close()


_PASSING: Final = itertools.cycle((502, 503, 504))

DEEDS: Final[dict[str, Callable[[Visit], None]]] = {
    "drops requests": Visit.drop,
    "drops answers": Visit.ask_only,
    "repeats requests late": Visit.ask_twice,
    "answers 502, 503 or 504": lambda visit: visit.say(next(_PASSING)),
    "cuts answers short": lambda visit: visit.pass_on(cut_after=30),
    "cuts answers later": lambda visit: visit.pass_on(cut_after=500),
}


class Badly:
    """Does one of these with a share of the requests, and passes the others on."""

    def __init__(self, seed: int, share: float, *deeds: Callable[[Visit], None]) -> None:
        self._draw = random.Random(seed)
        self._share = share
        self._deeds = deeds
        self._lock = threading.Lock()
        #: How often it has not passed a request on.
        self.count = 0

    def __call__(self, visit: Visit) -> None:
        deed = Visit.pass_on
        with self._lock:
            if self._draw.random() < self._share:
                deed = self._draw.choice(self._deeds)
                self.count += 1
        deed(visit)
