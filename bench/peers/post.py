"""What people do without us: `requests` posts, one of three web servers answers.

A line is one kept connection of one Session; `send` posts and waits, `receive` gives the
body that came back. So a round trip is one POST, and so is one message of many.
"""

from __future__ import annotations

import http.server
import os
import socket
import sys
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import requests

from bench.peer import Handler, Line, Listener, Peer

__all__ = ["Gunicorn", "HttpServer", "Uvicorn", "asgi_echo", "wsgi_echo"]

_TIMEOUT_S = 10


class _Poster:
    """The loop a good user writes: one Session, one call for each message."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._session = requests.Session()
        self._content = b""

    def line(self) -> Line:
        return Line(self.send, self.receive, self._session.close)

    def send(self, payload: bytes) -> None:
        answer = self._session.post(self._url, data=payload, timeout=_TIMEOUT_S)
        self._content = answer.content

    def receive(self) -> bytes:
        return self._content


class _EchoListener(Listener):
    """A web server that gives back what was posted; it knows nothing of the measure."""

    def __init__(self) -> None:
        # Inherited by what is accepted, so nobody's second write waits for an acknowledgement.
        self.listening = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    @property
    def address(self) -> str:
        return str(self.listening.getsockname()[1])


class _Post(Peer):
    """The client is the same for all three."""

    def connect(self, address: str) -> Line:
        line = _Poster(f"http://127.0.0.1:{address}/echo").line()
        # A server that boots, or answers something else, must not show in the times.
        line.send(b"hello")
        if line.receive() != b"hello":
            raise RuntimeError("the server does not echo")
        return line


# --- http.server ----------------------------------------------------------------------------


class _Echo(http.server.BaseHTTPRequestHandler):
    """Keeps the connection, and sends head and body in one write."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class _HttpServerListener(_EchoListener):
    def serve(self, handle: Handler, *, in_threads: bool) -> None:
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Echo, bind_and_activate=False)
        server.socket.close()
        server.socket = self.listening
        server.serve_forever()


class HttpServer(_Post):
    """`ThreadingHTTPServer` of the standard library."""

    def listen(self) -> Listener:
        return _HttpServerListener()


# --- gunicorn -------------------------------------------------------------------------------


def wsgi_echo(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
    """The WSGI application."""
    body: bytes = environ["wsgi.input"].read()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


class _GunicornListener(_EchoListener):
    def serve(self, handle: Handler, *, in_threads: bool) -> None:
        number = os.dup(self.listening.fileno())
        os.set_inheritable(number, True)
        command = [sys.executable, "-m", "gunicorn", "--bind", f"fd://{number}"]
        command += ["--worker-class", "gthread", "--workers", "1", "--threads", "4"]
        command += ["--keep-alive", "60", "--log-level", "error", f"{__name__}:wsgi_echo"]
        # In place of this process, so that whoever ends it ends gunicorn.
        os.execv(sys.executable, command)


class Gunicorn(_Post):
    """gunicorn as it is started from a shell."""

    def listen(self) -> Listener:
        return _GunicornListener()


# --- uvicorn --------------------------------------------------------------------------------

_Receive = Callable[[], Awaitable[dict[str, Any]]]
_Send = Callable[[dict[str, Any]], Awaitable[None]]


async def asgi_echo(_scope: dict[str, Any], receive: _Receive, send: _Send) -> None:
    """The ASGI application."""
    body, is_more = b"", True
    while is_more:
        event = await receive()
        body += event.get("body", b"")
        is_more = event.get("more_body", False)
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class _UvicornListener(_EchoListener):
    def serve(self, handle: Handler, *, in_threads: bool) -> None:
        import uvicorn

        application: Any = asgi_echo
        config = uvicorn.Config(
            application, lifespan="off", ws="none", log_level="error", timeout_keep_alive=60
        )
        uvicorn.Server(config).run(sockets=[self.listening])


class Uvicorn(_Post):
    """uvicorn with the fastest loop and parser it finds."""

    def listen(self) -> Listener:
        return _UvicornListener()
