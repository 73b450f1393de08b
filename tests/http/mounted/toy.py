"""A toy endpoint and its two applications: what the web servers of these tests serve.

/echo          the body, up to 1 MiB; without one, what is known of the request
/park/NAME     answered when told to
/stream/NAME   answered in pieces, as told; its body is watched
/flood/NAME    a streamed answer that is given as fast as there is room
/raise/WHERE   raises in `begin`, `piece` or `complete`; `late`: behind a head and a piece
/tell/NAME?do= answer, say, end, pause, resume; done to NAME by a thread of its own
/seen/NAME     what has been seen of NAME so far
"""

from __future__ import annotations

import dataclasses
import json
import logging
import threading
from typing import Final

from compoint.http._asgi import AsgiFace
from compoint.http._exchange import IGNORE, Exchange, Taker, WholeBody, answer_problem
from compoint.http._wsgi import WsgiFace

BODY_BYTES: Final = 1 << 20
TEXT: Final = {"content-type": "text/plain"}
FLOOD_PIECE: Final = bytes(64 << 10)
FLOOD_PIECES: Final = 1024


class Watched:
    """A request that is remembered by its name; of zeros, how many."""

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self.seen: list[str] = []

    def piece(self, data: bytes) -> None:
        self.seen.append(data.decode() if data.strip(b"\0") else str(len(data)))

    def complete(self) -> None:
        self.seen.append("complete")

    def gone(self) -> None:
        self.seen.append("gone")

    def room(self) -> None:
        self.seen.append("room")


class Flood(Watched):
    """Gives the next piece while there is room, and then again."""

    def __init__(self, exchange: Exchange) -> None:
        super().__init__(exchange)
        self.given = 0

    def complete(self) -> None:
        self.exchange.start(200, TEXT)
        self.room()

    def room(self) -> None:
        while self.given < FLOOD_PIECES:
            self.given += 1
            if not self.exchange.send(FLOOD_PIECE):
                self.seen.append(f"full after {self.given}")
                return
        self.exchange.end()


class Raising(Watched):
    """Raises at one of the calls."""

    def __init__(self, exchange: Exchange, where: str) -> None:
        super().__init__(exchange)
        self.where = where

    def piece(self, data: bytes) -> None:
        if self.where == "late":
            self.exchange.start(200, TEXT)
            self.exchange.send(b"begun")
        if self.where == "piece":
            raise ValueError("a secret of the toy")

    def complete(self) -> None:
        if self.where in {"complete", "late"}:
            raise ValueError("a secret of the toy")


class Toy:
    """The endpoint."""

    def __init__(self) -> None:
        self.watched: dict[str, Watched] = {}

    def begin(self, exchange: Exchange) -> Taker:
        _, verb, name = f"{exchange.request.path}//".split("/", 2)
        name = name.strip("/")
        if verb == "echo":
            return WholeBody(exchange, BODY_BYTES, lambda body: echo(exchange, body))
        if verb in {"park", "stream"}:
            watched = self.watched[name] = Watched(exchange)
            if verb == "stream":
                exchange.start(200, TEXT)
            return watched
        if verb == "flood":
            flood = self.watched[name] = Flood(exchange)
            return flood
        if verb == "raise":
            if name == "begin":
                raise ValueError("a secret of the toy")
            return Raising(exchange, name)
        if verb == "seen":
            answer(exchange, self.watched[name].seen if name in self.watched else None)
            return IGNORE
        if verb == "tell":
            do = exchange.request.query["do"]
            target = self.watched[name].exchange
            return WholeBody(exchange, BODY_BYTES, lambda body: tell(exchange, target, do, body))
        answer_problem(exchange, 404, "no such path", "the toy has nothing there")
        return IGNORE


def echo(exchange: Exchange, body: bytes) -> None:
    if body:
        exchange.answer(200, TEXT, body)
    else:
        answer(exchange, dataclasses.asdict(exchange.request))


def answer(exchange: Exchange, value: object) -> None:
    exchange.answer(200, {"content-type": "application/json"}, json.dumps(value).encode())


def tell(exchange: Exchange, target: Exchange, do: str, body: bytes) -> None:
    """Do it, and answer when it is done, on a thread of its own."""

    def run() -> None:
        if do == "answer":
            target.answer(200, TEXT, body)
        elif do == "say":
            target.send(body)
        else:
            getattr(target, do)()
        answer(exchange, threading.current_thread().name)

    threading.Thread(target=run, name=f"{do}er").start()


logging.basicConfig()  # the application's business, and this is one
toy = Toy()
wsgi = WsgiFace(toy)
asgi = AsgiFace(toy)
