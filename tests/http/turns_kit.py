"""An initiator in the hands of a test: its requests say exactly what they are told to."""

from __future__ import annotations

import http.client
import json
import os
import struct
from dataclasses import dataclass
from typing import Final, Self

from compoint.core.framing import HEADER, Kind
from compoint.core.greeting import Greeting, Mode
from compoint.core.turns import Turn, TurnReader
from compoint.limits import GIB, MIB
from compoint.testing import eventually

__all__ = ["TURNS", "Answer", "Visitor", "frame", "greeting"]

TURNS: Final = "application/vnd.compoint.turns"
_PATIENCE_S: Final = 10.0
_BYTES_FORM: Final = 0
_NOTHING: Final = Turn(0, 0, 0, b"")


def greeting(session: bytes, path: str = "") -> bytes:
    """What a plain initiator says first."""
    return Greeting(Mode.PLAIN, GIB, MIB, 0, session, path).encode()


def frame(payload: bytes) -> bytes:
    """A whole message of bytes."""
    return HEADER.pack(Kind.MESSAGE, _BYTES_FORM, 0, 1, 0, len(payload)) + payload


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes

    @property
    def turn(self) -> Turn:
        """The one turn it says."""
        assert self.status == 200, self.body
        reader = TurnReader()
        (turn,) = reader.feed(self.body)
        assert reader.is_empty
        return turn

    @property
    def title(self) -> str:
        """Our word for what is wrong."""
        return str(json.loads(self.body)["title"])

    @property
    def detail(self) -> str:
        return str(json.loads(self.body)["detail"])


class Visitor:
    """A session of its own at a server, over a connection of its own."""

    def __init__(self, port: int, path: str = "/", key: bytes | None = None) -> None:
        self.key = os.urandom(16) if key is None else key
        self.path = path
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_PATIENCE_S)
        self.headers = {
            "Content-Type": TURNS,
            "ComPoint-Session": self.key.hex(),
            "ComPoint-Ask": "write",
            "ComPoint-Wait": "1",
        }
        #: How many bytes it has said, by `say`.
        self.said = 0
        #: What the responder has said, as far as it was asked.
        self.heard = b""

    def ask(
        self, body: bytes | Turn = _NOTHING, method: str = "POST",
        **headers: str | None,
    ) -> Answer:  # fmt: skip
        """A request; headers are named as `session`, `ask`, `wait`, `open`, or as they are
        with `_` for `-`. None: without it."""
        sent = dict(self.headers)
        for name, value in headers.items():
            full = name.replace("_", "-").title()
            if name in {"session", "ask", "wait", "open"}:
                full = f"ComPoint-{full}"
            sent.pop(full, None)
            if value is not None:
                sent[full] = value
        data = body.encode() if isinstance(body, Turn) else body
        self._connection.request(method, self.path, data, sent)
        answer = self._connection.getresponse()
        return Answer(answer.status, answer.read())

    def say(self, data: bytes, **headers: str | None) -> Answer:
        """A write that goes on where the last one ended."""
        answer = self.ask(Turn(0, self.said, len(self.heard), data), **headers)
        self.said += len(data)
        return answer

    def greet(self, path: str = "") -> Answer:
        """Open the session in good order."""
        return self.say(greeting(self.key, path), open="0")

    def hear(self, count: int) -> bytes:
        """Poll until so many bytes have been said by the responder; all of them."""

        def is_here() -> bool:
            turn = self.ask(Turn(0, self.said, len(self.heard), b""), ask="poll").turn
            assert turn.start == len(self.heard)
            self.heard += turn.body
            return len(self.heard) >= count

        eventually(is_here, _PATIENCE_S)
        return self.heard

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Break the session, so that the server need not wait for its end."""
        try:
            self.ask(struct.pack("!B", 255) * 24)
        finally:
            self._connection.close()
