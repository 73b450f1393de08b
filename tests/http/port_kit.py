"""A port with an endpoint that remembers, and a peer that says exactly the bytes it is told."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import socket
import threading
from dataclasses import dataclass
from http.client import HTTPResponse
from typing import TYPE_CHECKING, Any, Final, Self

from compoint import ComPointAddress
from compoint.deadline import clock
from compoint.drive.pump import Pump
from compoint.http._exchange import Exchange, Request
from compoint.http._port import HttpPort, PortBounds, PortStatistics
from compoint.testing import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = [
    "BOUNDS",
    "TEXT",
    "Answer",
    "Desk",
    "Peer",
    "Serving",
    "Visit",
    "at_once",
    "echo",
    "get",
    "post",
    "serving",
]

PATIENCE_S: Final = 10.0
TEXT: Final = {"content-type": "text/plain"}
#: Deadlines that do not come while a test runs, and a port that is soon gone behind it.
BOUNDS: Final = {"sweep_s": 0.01, "close_s": 0.1, "linger_s": 0.2}


# --- the endpoint ---------------------------------------------------------------------------


class Visit:
    """One request, as the endpoint was told of it. Answered by the desk's `when`, or a test."""

    def __init__(self, exchange: Exchange, desk: Desk) -> None:
        self.exchange = exchange
        self.pieces: list[bytes] = []
        #: What was called, in order: "piece" (several in a row count once), "complete", ...
        self.told: list[str] = []
        self.threads: set[str] = set()
        self._desk = desk

    @property
    def request(self) -> Request:
        return self.exchange.request

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)

    def answer(self, body: bytes = b"ok", status: int = 200) -> None:
        self.exchange.answer(status, TEXT, body)

    def piece(self, data: bytes) -> None:
        assert data
        self.pieces.append(data)
        self._note("piece")

    def complete(self) -> None:
        self._note("complete")

    def gone(self) -> None:
        self._note("gone")

    def room(self) -> None:
        self._note("room")

    def _note(self, what: str) -> None:
        self.threads.add(threading.current_thread().name)
        if self.told[-1:] != [what] or what != "piece":
            self.told.append(what)
        self._desk.note(what, self)


When = dict[str, "Callable[[Visit], object]"]


class Desk:
    """An endpoint that remembers its visits; `when` says what to do at which call."""

    def __init__(self, when: When | None = None) -> None:
        self.when = when or {}
        self.visits: list[Visit] = []

    def begin(self, exchange: Exchange) -> Visit:
        visit = Visit(exchange, self)
        self.visits.append(visit)
        self.note("begin", visit)
        return visit

    def note(self, what: str, visit: Visit) -> None:
        if what in self.when:
            self.when[what](visit)

    def visit(self, number: int = 0) -> Visit:
        """Wait for a visit."""
        eventually(lambda: len(self.visits) > number, PATIENCE_S, f"visit {number} comes")
        return self.visits[number]

    def told(self, *what: str, number: int = 0) -> Visit:
        """Wait until exactly this was told of a visit."""
        visit = self.visit(number)
        eventually(lambda: visit.told == list(what), PATIENCE_S, f"{what}, not {visit.told}")
        return visit


def echo(visit: Visit) -> None:
    """Answer with what was asked."""
    request = visit.request
    told = [request.method, request.path, dict(request.query), visit.body.decode("latin-1")]
    visit.exchange.answer(200, {"content-type": "application/json"}, json.dumps(told).encode())


def at_once(do: Callable[[Visit], object] = echo) -> Desk:
    """A desk that answers when the request is here whole."""
    return Desk({"complete": do})


# --- the port -------------------------------------------------------------------------------


class Serving:
    """A port, its desk, and what it logged."""

    def __init__(self, port: HttpPort, desk: Desk, records: list[logging.LogRecord]) -> None:
        self.port = port
        self.desk = desk
        self.records = records

    @property
    def number(self) -> int:
        return self.port.address.port

    @property
    def statistics(self) -> PortStatistics:
        return self.port.statistics()

    def url(self, path: str = "/") -> str:
        return f"http://127.0.0.1:{self.number}{path}"

    @contextlib.contextmanager
    def peer(self) -> Iterator[Peer]:
        with Peer(self.number) as peer:
            yield peer

    def peers(self, count: int) -> list[Peer]:
        """Several, to be closed by the test."""
        return [Peer(self.number) for _ in range(count)]

    def ask(self, data: bytes) -> Answer:
        """Say this on a connection of its own; the first answer."""
        with self.peer() as peer:
            peer.say(data)
            return peer.hear()

    def serves(self) -> None:
        """Somebody else is still answered."""
        answer = self.ask(get("/still"))
        assert answer.status == 200

    def turn(self) -> None:
        """Let the pump see all that has been said so far."""
        for _ in range(2):
            turned = threading.Event()
            self.port.pump.soon(turned.set)
            assert turned.wait(PATIENCE_S)

    def moment(self, time_s: float) -> None:
        """Wait for a timer of the pump."""
        over = threading.Event()
        self.port.pump.call_at(clock() + time_s, over.set)
        assert over.wait(PATIENCE_S)

    @contextlib.contextmanager
    def held_pump(self) -> Iterator[None]:
        """The pump does nothing meanwhile."""
        released = threading.Event()
        held = threading.Event()

        def hold() -> None:
            held.set()
            released.wait(PATIENCE_S)

        self.port.pump.soon(hold)
        assert held.wait(PATIENCE_S)
        try:
            yield
        finally:
            released.set()

    def is_empty(self) -> None:
        """Wait until nobody is connected."""
        eventually(lambda: self.statistics.connections == 0, PATIENCE_S, "all have left")


class _Records(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@contextlib.contextmanager
def serving(desk: Desk | None = None, *, may_log: bool = False, **bounds: Any) -> Iterator[Serving]:
    """A port at work. An internal error in its log fails the test, unless it `may_log`."""
    desk = desk or at_once()
    records = _Records()
    loggers = [logging.getLogger(name) for name in ("compoint.http", "compoint.pump")]
    for logger in loggers:
        logger.addHandler(records)
    pump = Pump("port-pump")
    port = HttpPort(
        ComPointAddress("http", 0), desk, pump, PortBounds(**{**BOUNDS, **bounds})
    )  # fmt: skip
    scene = Serving(port, desk, records.records)
    try:
        yield scene
    finally:
        port.close()
        scene.is_empty()
        pump.stop()
        for logger in loggers:
            logger.removeHandler(records)
    if not may_log:
        assert [record.getMessage() for record in records.records] == []


# --- the peer -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def value(self) -> Any:
        """The body, as JSON."""
        return json.loads(self.body)


class _Kept(io.BufferedIOBase):
    """The peer's input, which outlives one answer."""

    def __init__(self, file: io.BufferedReader) -> None:
        self._file = file
        self.readline = file.readline
        self.read = file.read
        self.read1 = file.read1
        self.readinto = file.readinto

    def makefile(self, mode: str) -> _Kept:
        return self

    def close(self) -> None:
        pass


class Peer:
    """One connection, seen from outside."""

    def __init__(self, number: int) -> None:
        self.sock = socket.create_connection(("127.0.0.1", number), PATIENCE_S)
        self.file = self.sock.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.file.close()
        self.sock.close()

    def say(self, data: bytes) -> None:
        self.sock.sendall(data)

    def end(self) -> None:
        """Say nothing more."""
        self.sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Leave without a goodbye."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.close()

    def hear(self, method: str = "GET") -> Answer:
        """The next answer; "100 Continue" is read over."""
        response = HTTPResponse(_Kept(self.file), method=method)  # type: ignore[arg-type]
        response.begin()
        body = response.read()
        return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, body)

    def hear_bytes(self, count: int) -> bytes:
        return self.file.read(count)

    def hear_line(self) -> bytes:
        return self.file.readline()

    def hear_end(self) -> bytes:
        """All that still comes until the connection ends, in whatever way."""
        data = b""
        with contextlib.suppress(ConnectionResetError):
            while more := self.file.read1():
                data += more
        return data


def get(path: str = "/", *headers: str, method: str = "GET") -> bytes:
    """A request without a body."""
    lines = [f"{method} {path} HTTP/1.1", "Host: here", *headers, "", ""]
    return "\r\n".join(lines).encode("latin-1")


def post(body: bytes, path: str = "/", *headers: str) -> bytes:
    """A request with a body of a known length."""
    return get(path, f"Content-Length: {len(body)}", *headers, method="POST") + body
