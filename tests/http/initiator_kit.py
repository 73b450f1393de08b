"""What stands in for an initiator's server in these tests: web servers, raw sockets, relays."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

import pytest

from compoint import COMPOINT_INITIATOR, COMPOINT_SERVER, ComManager, ComPointAddress
from compoint.testing import configured, eventually

if TYPE_CHECKING:
    from compoint import ComPoint, ServerComPoint

__all__ = [
    "MODES",
    "PATIENCE_S",
    "TURNS",
    "Connection",
    "Program",
    "RawServer",
    "WebServer",
    "all_is_said",
    "conversation",
    "in_mode",
    "no_proxies",
    "reach",
    "serve",
    "tls_before",
]

PATIENCE_S: Final = 10.0
TURNS: Final = "application/vnd.compoint.turns"
ROOT: Final = Path(__file__).resolve().parent.parent.parent

#: The two ways in which bytes come: as they are said, or when they are asked for.
MODES: Final = ("streaming", "polling")


@contextlib.contextmanager
def in_mode(mode: str, **http: object) -> Iterator[None]:
    """Points opened in this block stream, if they can, or poll."""
    with configured(http={"streams": "on" if mode == "streaming" else "off", **http}):
        yield


def reach(
    port: int, path: str = "", *, timeout: float = PATIENCE_S, protocol: str = "http",
    host: str = "127.0.0.1",
) -> ComPoint:  # fmt: skip
    """An initiator's point."""
    address = ComPointAddress(protocol, host, port, path)
    return ComManager.com_point(COMPOINT_INITIATOR, address, timeout=timeout)


def serve(path: str = "", port: int = 0) -> ServerComPoint:
    """A server's point on loopback."""
    return ComManager.com_point(COMPOINT_SERVER, ComPointAddress("http", port, path))


def conversation(initiator: ComPoint, server: ServerComPoint) -> None:
    """One message each way, by a responder that then is gone."""
    initiator.write("ping", timeout=PATIENCE_S)
    with server.accept(timeout=PATIENCE_S) as responder:
        assert responder.read(str, timeout=PATIENCE_S) == "ping"
        responder.write("pong")
        assert initiator.read(str, timeout=PATIENCE_S) == "pong"


def all_is_said(within_s: float = PATIENCE_S) -> None:
    """Wait until the last words of all initiators were taken: what is in between may go."""

    def nobody_is_on_the_way() -> bool:
        return not any("http-courier" in thread.name for thread in threading.enumerate())

    eventually(nobody_is_on_the_way, within_s, "the couriers end")


def no_proxies(patch: pytest.MonkeyPatch) -> None:
    """Of the environment only what the test sets has a say."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy",
                 "requests_ca_bundle", "curl_ca_bundle"):  # fmt: skip
        patch.delenv(name, raising=False)
        patch.delenv(name.upper(), raising=False)


# --- ordinary web servers ---------------------------------------------------------------------


class WebServer:
    """A server of the standard library that answers each POST by `answer`."""

    def __init__(self, answer: Callable[[BaseHTTPRequestHandler], None]) -> None:
        #: What was asked for, in order: the headers of each request, and its target.
        self.requests: list[tuple[str, Mapping[str, str]]] = []
        scene = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                scene.requests.append((self.path, dict(self.headers)))
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                with contextlib.suppress(ConnectionError):
                    answer(self)

            do_GET = do_POST  # noqa: N815 - the name is the library's

            def log_message(self, *_: object) -> None:
                """Tests print nothing."""

        class Server(ThreadingHTTPServer):
            daemon_threads = False

        self._server = Server(("127.0.0.1", 0), Handler)
        self.port: int = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    @classmethod
    def of(
        cls, status: int, headers: Mapping[str, str] | None = None, body: str = "", reason: str = ""
    ) -> Self:
        """One that gives always the same answer."""

        def answer(request: BaseHTTPRequestHandler) -> None:
            request.send_response_only(status, reason or None)
            for name, value in (headers or {}).items():
                request.send_header(name, value)
            request.send_header("Content-Length", str(len(body.encode())))
            request.end_headers()
            request.wfile.write(body.encode())

        return cls(answer)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


# --- raw sockets ------------------------------------------------------------------------------


class Connection:
    """One visitor of a raw server."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        sock.settimeout(PATIENCE_S)

    def hear_head(self) -> bytes:
        """The head of a request (and what comes with it)."""
        data = b""
        while b"\r\n\r\n" not in data:
            more = self.sock.recv(65536)
            if not more:
                break
            data += more
        return data

    def say(self, data: bytes) -> None:
        self.sock.sendall(data)


class RawServer:
    """Does `meet` with each visitor, in a thread each, and keeps the connection until the end,
    unless `meet` has closed it."""

    def __init__(
        self, meet: Callable[[Connection], object], tls: ssl.SSLContext | None = None
    ) -> None:
        self._meet = meet
        self._tls = tls
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port: int = self._socket.getsockname()[1]
        #: How many visitors have come.
        self.visits = 0
        self._is_over = False
        self._kept: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._run, name="raw-server")]

    def _run(self) -> None:
        while not self._is_over:
            sock, _ = self._socket.accept()
            if self._is_over:
                sock.close()
                return
            self.visits += 1
            self._kept.append(sock)
            thread = threading.Thread(target=self._serve, args=(sock,), name="raw-visit")
            self._threads.append(thread)
            thread.start()

    def _serve(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError):
            if self._tls is not None:
                sock = self._tls.wrap_socket(sock, server_side=True)
                self._kept.append(sock)
            self._meet(Connection(sock))

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over = True
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        self._threads[0].join(PATIENCE_S)
        for sock in self._kept:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(PATIENCE_S)
        for sock in [*self._kept, self._socket]:
            sock.close()


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    for sock in (source, target):
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)


def tls_before(port: int, tls: ssl.SSLContext) -> RawServer:
    """Ends TLS and passes everything on to a port."""

    def meet(near: Connection) -> None:
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as far:
            for sock in (near.sock, far):
                sock.settimeout(None)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            back = threading.Thread(target=_pass_on, args=(far, near.sock))
            back.start()
            _pass_on(near.sock, far)
            back.join(PATIENCE_S)

    return RawServer(meet, tls)


# --- programs -----------------------------------------------------------------------------------


class Program:
    """A script given as text, in an interpreter of its own; its lines are its answers."""

    def __init__(self, text: str, *arguments: object) -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        self._process = subprocess.Popen(
            [sys.executable, "-c", text, *map(str, arguments)], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True, env=environment,
        )  # fmt: skip
        self.id = self._process.pid

    def hear(self) -> str:
        """Its next line; "": it has ended."""
        assert self._process.stdout is not None
        return self._process.stdout.readline().rstrip("\n")

    def say(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(PATIENCE_S)

    def end(self, within_s: float = PATIENCE_S) -> int:
        return self._process.wait(within_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait(PATIENCE_S)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
