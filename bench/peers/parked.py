"""Initiators that only wait, played on bare sockets: what ours would send, and no more.

The decisions are our own core's and the grammar is h11's, so nothing here knows how HTTP or
turns are written; but there is no thread, no Session and no ComPoint.
"""

from __future__ import annotations

import secrets
import socket
import time
from collections.abc import Iterator

import h11
import requests

from compoint.core.greeting import Greeting, Mode
from compoint.core.turns import Turn, TurnReader
from compoint.core.turns_initiator import InitiatorTurns, Plan, Way
from compoint.http._words import ASK, OPEN, SESSION, TURNS_TYPE, WAIT
from compoint.limits import MESSAGE_BYTES, WINDOW_BYTES

__all__ = ["park"]

_TIMEOUT_S = 10


def park(host: str, port: int, path: str, *, may_stream: bool) -> socket.socket:
    """Open a session, be welcomed, and leave it waiting; the connection it keeps."""
    return _Parked(host, port, path, Way(may_stream=may_stream, may_upstream=False)).park()


class _Parked:
    """One initiator, until it waits."""

    def __init__(self, host: str, port: int, path: str, way: Way) -> None:
        self._at = (host, port)
        self._path = path
        self._key = secrets.token_hex(16)
        self._turns = InitiatorTurns(way, time.monotonic())
        self._turns.is_wanted = True
        greeting = Greeting(
            Mode.PLAIN, MESSAGE_BYTES, WINDOW_BYTES, 0, bytes.fromhex(self._key), path
        )
        self._turns.append(greeting.encode())

    def park(self) -> socket.socket:
        turns = self._turns
        if not turns.way.may_stream:
            asking = self._connect()
            while not turns.received:
                plan = self._plan()
                turns.answered(plan, list(self._ask(asking, plan)), time.monotonic())
            self._ask(asking, self._plan())
            return asking
        listening, asking = self._connect(), self._connect()
        plan = self._plan()
        said = self._ask(listening, plan)
        turns.streamed(next(said), time.monotonic())
        plan = self._plan()
        turns.answered(plan, list(self._ask(asking, plan)), time.monotonic())
        while not turns.received:
            turns.streamed(next(said), time.monotonic())
        # Either side closes it when it has not been used for about a minute.
        asking.close()
        return listening

    def _connect(self) -> socket.socket:
        sock = socket.create_connection(self._at, _TIMEOUT_S)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock

    def _plan(self) -> Plan:
        plan = self._turns.next_plan(time.monotonic())
        if plan is None:
            raise RuntimeError("the core makes no further request; has the protocol changed?")
        return plan

    def _ask(self, sock: socket.socket, plan: Plan) -> Iterator[Turn]:
        """Send a request now; the turns of its answer as they come."""
        connection = h11.Connection(h11.CLIENT)
        body = plan.turn.encode()
        headers = {
            **requests.utils.default_headers(),
            "Host": f"{self._at[0]}:{self._at[1]}",
            "Content-Type": TURNS_TYPE,
            "Accept": f"{TURNS_TYPE}, application/problem+json",
            "Accept-Encoding": "identity",
            SESSION: self._key,
            ASK: plan.kind.value,
            WAIT: f"{plan.wait_s:.3g}",
            "Content-Length": str(len(body)),
        }
        if plan.opens:
            headers[OPEN] = "0"
        request = h11.Request(method="POST", target=self._path or "/", headers=[*headers.items()])
        sent = [connection.send(request), connection.send(h11.Data(data=body))]
        sock.sendall(b"".join(part or b"" for part in sent))
        connection.send(h11.EndOfMessage())
        return _turns(sock, connection)


def _turns(sock: socket.socket, connection: h11.Connection) -> Iterator[Turn]:
    reader = TurnReader()
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(sock.recv(65536))
        elif isinstance(event, h11.Response) and event.status_code != 200:
            raise RuntimeError(f"the server answered {event.status_code}, {bytes(event.reason)!r}")
        elif isinstance(event, h11.Data):
            yield from reader.feed(bytes(event.data))
        elif not isinstance(event, h11.Response):
            return
