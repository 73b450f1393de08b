"""The suite of promises inside web servers: an ASGI and a WSGI server pass the requests on."""

from __future__ import annotations

import socketserver
import threading
from typing import TYPE_CHECKING, ClassVar
from wsgiref.simple_server import ServerHandler, WSGIRequestHandler, WSGIServer

import pytest
from middleboxes import ReservedPort

from compoint.address import ComPointAddress
from compoint.http import asgi_application, wsgi_application
from compoint.manager import ComManager
from compoint.point import COMPOINT_SERVER, ServerComPoint
from compoint.testing import configured, eventually
from compoint.testing.contract import PointContract

if TYPE_CHECKING:
    from collections.abc import Iterator

uvicorn = pytest.importorskip("uvicorn")


class Mounted(PointContract):
    """All servers of the class are opened at the port of one web server, in turn."""

    protocol = "http"
    host = "127.0.0.1"
    port: ClassVar[int]

    def open_server(self, path: str = "") -> ServerComPoint:
        return ComManager.com_point(COMPOINT_SERVER, ComPointAddress("http", self.port, path))


class TestUnderUvicorn(Mounted):
    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def _server(cls) -> Iterator[None]:
        with configured(), ReservedPort() as port:
            cls.port = port.number
            application = asgi_application(ComPointAddress("http", cls.port))
            config = uvicorn.Config(application, port=cls.port, log_level="error", lifespan="off")
            server = uvicorn.Server(config)
            thread = threading.Thread(target=server.run)
            thread.start()
            eventually(lambda: server.started, 10)
            yield
            server.should_exit = True
            thread.join()


class _Threads(socketserver.ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    def log_message(self, *_: object) -> None:
        pass

    def handle(self) -> None:
        # Closed before a request, as connections that were only opened are.
        line = self.rfile.readline(65537)
        if line:
            self.raw_requestline = line
            if self.parse_request():
                handler = ServerHandler(
                    self.rfile, self.wfile, self.get_stderr(), self.get_environ(), multithread=True
                )
                handler.request_handler = self
                handler.run(self.server.get_app())


class TestUnderWsgi(Mounted):
    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def _server(cls) -> Iterator[None]:
        with configured(), ReservedPort() as port:
            cls.port = port.number
            server = _Threads(("127.0.0.1", cls.port), _Quiet)
            server.set_app(wsgi_application(ComPointAddress("http", cls.port)))
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
            thread.start()
            yield
            server.shutdown()
            thread.join()
            server.server_close()
