"""One HTTP request and its answer, as a face shows them to the endpoint.

A *face* is where requests come from: our own port, a WSGI server, an ASGI server. The
*endpoint* decides about them and knows no face. Between the two stand these few verbs.

A face makes an Exchange when the head of a request is here and calls `endpoint.begin`;
what that returns, the Taker, is told of the body and of the peer's leaving, by one thread
at a time, and while the face holds no lock of its own. The endpoint answers once, at any
time and from any thread, with its own locks held: so no verb of an Exchange waits, calls a
Taker, or takes a lock that is held around a call of the endpoint.
"""

from __future__ import annotations

import abc
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

__all__ = [
    "IGNORE",
    "Endpoint",
    "Exchange",
    "Fields",
    "Request",
    "Taker",
    "WholeBody",
    "answer_problem",
    "answer_too_large",
    "problem",
]

#: Names in lower case; what came several times is joined by ", ".
Fields = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Request:
    """The head of a request."""

    #: In upper case.
    method: str
    #: Percent-decoded, without the query; "" stands for "/".
    path: str
    #: The decoded query; of a name that comes twice, the last value.
    query: Fields
    headers: Fields
    #: Who asks, for people to read.
    peer: str
    is_local: bool


class Taker(Protocol):
    """What the endpoint has made of a request."""

    def piece(self, data: bytes) -> None:
        """The next bytes of the body."""

    def complete(self) -> None:
        """The body is here whole."""

    def gone(self) -> None:
        """The peer left, was too slow or broke HTTP: no answer can be given any more.

        Not called once the answer has been given whole.
        """

    def room(self) -> None:
        """What was given to `Exchange.send` has been taken."""


class Exchange(abc.ABC):
    """One request and its answer."""

    __slots__ = ("request",)

    request: Request
    #: The face hands a body out as it comes, and sends an answer in pieces as they are given.
    can_stream: bool = True

    @abc.abstractmethod
    def answer(self, status: int, headers: Fields, body: bytes = b"") -> None:
        """Give the whole answer. What is still to come of the body is read and dropped, or
        the connection closed behind the answer. Does nothing when the peer has left."""

    @abc.abstractmethod
    def start(self, status: int, headers: Fields) -> None:
        """Begin an answer in pieces; its head goes out at once, and says nothing of its
        length. Only if `can_stream`.

        With the header `connection: close` it goes up to the end of the connection, without
        chunks where the face can do that.
        """

    @abc.abstractmethod
    def send(self, data: bytes) -> bool:
        """The next piece of a begun answer, sent at once.

        False: the peer has not taken it all; `Taker.room` will tell when it has. It was
        kept all the same; who gives more now makes this side's memory grow.
        """

    @abc.abstractmethod
    def end(self) -> None:
        """The begun answer is complete."""

    @abc.abstractmethod
    def pause(self) -> None:
        """Take no more of the body for now; the peer is made to wait."""

    @abc.abstractmethod
    def resume(self) -> None:
        """Take the body again."""


class Endpoint(Protocol):
    """What a face serves."""

    def begin(self, exchange: Exchange) -> Taker:
        """A request has come; it may be answered at once or at any time later."""


class _Ignore:
    """For requests that were answered by their heads."""

    __slots__ = ()

    def piece(self, data: bytes) -> None:
        pass

    def complete(self) -> None:
        pass

    def gone(self) -> None:
        pass

    def room(self) -> None:
        pass


IGNORE: Final = _Ignore()


class WholeBody(_Ignore):
    """Waits for the whole body, up to `most` bytes, and gives it to `then`."""

    __slots__ = ("_exchange", "_most", "_pieces", "_size", "_then")

    def __init__(self, exchange: Exchange, most: int, then: Callable[[bytes], None]) -> None:
        self._exchange = exchange
        self._most = most
        self._then = then
        self._pieces: list[bytes] = []
        self._size = 0

    def piece(self, data: bytes) -> None:
        if self._size > self._most:
            return
        self._size += len(data)
        if self._size > self._most:
            self._pieces.clear()
            answer_too_large(self._exchange, self._most)
        else:
            self._pieces.append(data)

    def complete(self) -> None:
        if self._size <= self._most:
            pieces, self._pieces = self._pieces, []
            self._then(pieces[0] if len(pieces) == 1 else b"".join(pieces))


def answer_too_large(exchange: Exchange, most: int) -> None:
    """413: the body is longer than this place takes."""
    answer_problem(
        exchange, 413, "too large", f"a body of more than {most} bytes is not taken here"
    )


def answer_problem(
    exchange: Exchange,
    status: int,
    code: str,
    detail: str,
    *,
    hint: str = "",
    retry_after_s: float | None = None,
    headers: Fields | None = None,
) -> None:
    """An answer that says what is wrong and what to do next (RFC 9457).

    `code` is one of our words (docs/PROTOCOL.md), for programs; the rest is for people.
    """
    exchange.answer(*problem(
        status, code, detail, hint=hint, retry_after_s=retry_after_s, headers=headers
    ))  # fmt: skip


def problem(
    status: int,
    code: str,
    detail: str,
    *,
    hint: str = "",
    retry_after_s: float | None = None,
    headers: Fields | None = None,
) -> tuple[int, dict[str, str], bytes]:
    """The status, the headers and the body of such an answer."""
    fields: dict[str, object] = {"title": code, "status": status, "detail": detail}
    if hint:
        fields["hint"] = hint
    head = {"content-type": "application/problem+json", "cache-control": "no-store"}
    if retry_after_s is not None:
        fields["retry_after_s"] = retry_after_s
        head["retry-after"] = str(max(1, round(retry_after_s)))
    return status, {**head, **(headers or {})}, json.dumps(fields).encode() + b"\n"
