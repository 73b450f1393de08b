"""A toy face and a toy place for the tests of the gateway: requests without any HTTP."""

from __future__ import annotations

import json
import threading
from collections import deque
from typing import TYPE_CHECKING, Any

from compoint import ComPointAddress
from compoint.drive.wire import Listener, Opener, Wire
from compoint.http._exchange import Exchange, Fields, Request

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from compoint.deadline import Deadline
    from compoint.http._exchange import Taker
    from compoint.http._gateway import Gateway

PATIENCE_S = 10.0
PATH = "/orders"
TEXT = {"content-type": "text/plain"}
JSON = {"content-type": "application/json"}


class Asked(Exchange):
    """One request, and its answer once there is one."""

    can_stream = False
    taker: Taker

    def __init__(self, request: Request) -> None:
        self.request = request
        self._answered = threading.Event()
        self._has_left = False
        self.status = 0
        self.headers: Fields = {}
        self.body = b""

    # --- for the gateway ------------------------------------------------------------------

    def answer(self, status: int, headers: Fields, body: bytes = b"") -> None:
        if self._has_left:
            return
        assert not self._answered.is_set(), "answered twice"
        assert all(name == name.lower() and value.isascii() for name, value in headers.items())
        self.status, self.headers, self.body = status, headers, body
        self._answered.set()

    def start(self, status: int, headers: Fields) -> None:
        raise AssertionError("the gateway streams nothing")

    def send(self, data: bytes) -> bool:
        raise AssertionError("the gateway streams nothing")

    def end(self) -> None:
        raise AssertionError("the gateway streams nothing")

    def pause(self) -> None:
        raise AssertionError("the gateway pauses nobody")

    def resume(self) -> None:
        raise AssertionError("the gateway pauses nobody")

    # --- for the test -----------------------------------------------------------------------

    @property
    def is_answered(self) -> bool:
        return self._answered.is_set()

    def leave(self) -> None:
        """The client goes away, without an answer or in the middle of it."""
        self._has_left = True
        self._answered.set()
        self.taker.gone()

    def result(self) -> Asked:
        """Itself, once it is answered."""
        assert self._answered.wait(PATIENCE_S), f"no answer to {self.request}"
        return self

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def title(self) -> str:
        """The code of a problem."""
        assert self.headers["content-type"] == "application/problem+json"
        assert self.json["status"] == self.status
        title = self.json["title"]
        assert isinstance(title, str)
        return title

    @property
    def number(self) -> int:
        return int(self.headers["compoint-number"])

    @property
    def fate(self) -> str:
        return self.headers["compoint-fate"]


class ToyListener(Listener):
    """A place where the gateway's wires arrive."""

    def __init__(self, address: ComPointAddress) -> None:
        self.address = address
        self.most = 1000
        self._arrived: deque[Wire] = deque()
        self._when_ready: Callable[[], None] | None = None

    def arrive(self, wire: Wire, /) -> bool:
        if len(self._arrived) >= self.most:
            return False
        self._arrived.append(wire)
        if self._when_ready is not None:
            self._when_ready()
        return True

    def accept(self) -> Wire | None:
        return self._arrived.popleft() if self._arrived else None

    def fileno(self) -> int:
        return -1

    def on_ready(self, call: Callable[[], None] | None) -> None:
        self._when_ready = call

    def close(self) -> None:
        self._when_ready = None
        while self._arrived:
            self._arrived.popleft().close()


class ToyOpener(Opener):
    """Remembers the places that were opened."""

    def __init__(self) -> None:
        self.places: list[ToyListener] = []

    def connect(self, address: ComPointAddress, deadline: Deadline) -> Wire:
        raise AssertionError("the gateway connects to nobody")

    def listen(self, address: ComPointAddress) -> Listener:
        self.places.append(ToyListener(address))
        return self.places[-1]


class Client:
    """Somebody with a curl."""

    def __init__(self, gateway: Gateway, place: ToyListener | None, path: str = PATH) -> None:
        self.gateway = gateway
        self.place = place
        self.path = path

    def begin(
        self,
        method: str,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        is_local: bool = True,
    ) -> Asked:
        """The head of a request."""
        request = Request(method, self.path, query or {}, headers or {}, "http://test:1", is_local)
        asked = Asked(request)
        asked.taker = self.gateway.begin(asked, self.place)
        return asked

    def send(
        self,
        method: str,
        body: bytes | str = b"",
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        is_local: bool = True,
    ) -> Asked:
        """A whole request; its answer may come at any time."""
        data = body.encode() if isinstance(body, str) else body
        said = TEXT if isinstance(body, str) and body else {}
        asked = self.begin(method, query, {**said, **(headers or {})}, is_local=is_local)
        for start in range(0, len(data), 65_536):
            asked.taker.piece(data[start : start + 65_536])
        asked.taker.complete()
        return asked

    def post(self, body: bytes | str = b"", **more: Any) -> Asked:
        return self.send("POST", body, **more).result()

    def open(self, body: bytes | str = b"", **query: str) -> Session:
        """Open a session."""
        answer = self.post(body, query={"open": "", **query})
        assert answer.status == 201, answer.text
        return Session(self, answer.headers["compoint-session"])


class Session:
    """A session of a client."""

    def __init__(self, client: Client, name: str) -> None:
        self.client = client
        self.name = name

    def send(
        self,
        method: str,
        body: bytes | str = b"",
        *,
        number: int = 0,
        timeout: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Asked:
        said = {"compoint-session": self.name, **(headers or {})}
        if number:
            said["compoint-number"] = str(number)
        query = {} if timeout is None else {"timeout": f"{timeout:g}"}
        return self.client.send(method, body, query, said)

    def write(self, body: bytes | str, **more: Any) -> Asked:
        return self.send("POST", body, **more).result()

    def read(self, **more: Any) -> Asked:
        return self.send("GET", **more).result()

    def close(self, **more: Any) -> Asked:
        return self.send("DELETE", **more).result()
