"""The verbs of one request at our own port: what the endpoint says, in h11's words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import h11

from compoint.http._exchange import Exchange, Fields, Request
from compoint.http._heads import begun_answer, whole_answer

__all__ = ["Connection", "ServedExchange", "Write"]

#: Gives the buffers of a part of an answer; told whether the connection ends behind it.
#: Raises h11.LocalProtocolError or ValueError if it cannot be written.
Write = Callable[[h11.Connection, bool], list[bytes]]


class Connection(Protocol):
    """Where the request came from. Neither verb does anything for an exchange that is over."""

    def give(self, exchange: ServedExchange, write: Write, *, is_end: bool) -> bool:
        """Write a part of the answer, or its end; False: the system has not taken it all."""

    def pause(self, exchange: ServedExchange, *, is_paused: bool) -> None:
        """Take the body, or do not for now."""


class ServedExchange(Exchange):
    """One request; any thread may call."""

    __slots__ = ("_connection",)

    def __init__(self, connection: Connection, request: Request) -> None:
        self._connection = connection
        self.request = request

    def answer(self, status: int, headers: Fields, body: bytes = b"") -> None:
        is_head = self.request.method == "HEAD"

        def write(http: h11.Connection, is_last: bool) -> list[bytes]:
            return whole_answer(http, status, headers, body, is_head=is_head, is_last=is_last)

        self._connection.give(self, write, is_end=True)

    def start(self, status: int, headers: Fields) -> None:
        def write(http: h11.Connection, is_last: bool) -> list[bytes]:
            return begun_answer(http, status, headers, is_last=is_last)

        self._connection.give(self, write, is_end=False)

    def send(self, data: bytes) -> bool:
        if self.request.method == "HEAD":
            return True

        def write(http: h11.Connection, _: bool) -> list[bytes]:
            return http.send_with_data_passthrough(h11.Data(data)) or []

        return self._connection.give(self, write, is_end=False)

    def end(self) -> None:
        def write(http: h11.Connection, _: bool) -> list[bytes]:
            return [http.send(h11.EndOfMessage())]

        self._connection.give(self, write, is_end=True)

    def pause(self) -> None:
        self._connection.pause(self, is_paused=True)

    def resume(self) -> None:
        self._connection.pause(self, is_paused=False)
