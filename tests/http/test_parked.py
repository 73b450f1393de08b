"""Initiators that were accepted and only wait: what each costs the server."""

from __future__ import annotations

import gc
import http.client
import secrets
import socket
import tracemalloc
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Final

import pytest

from compoint import COMPOINT_SERVER, ComManager, ComPointAddress
from compoint.core.greeting import Greeting, Mode
from compoint.core.turns import TurnReader
from compoint.core.turns_initiator import InitiatorTurns, Kind, Plan, Way
from compoint.deadline import clock
from compoint.drive.lifetime import lifetime
from compoint.http._words import ASK, OPEN, SESSION, TURNS_TYPE, WAIT
from compoint.limits import MESSAGE_BYTES, WINDOW_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from compoint import ComPoint, ServerComPoint

PATIENCE_S: Final = 10.0
FIRST: Final = 10
CROWD: Final = 200
#: As Python counts it, the peer's socket included. The system counts up to a tenth more.
MOST_BYTES: Final = 3600


@pytest.fixture
def server() -> Iterator[ServerComPoint]:
    with ComManager.com_point(COMPOINT_SERVER, ComPointAddress("http", 0)) as server:
        yield server


class Player:
    """An initiator without threads."""

    def __init__(self, port: int, key: str, *, may_stream: bool) -> None:
        self._port = port
        self._key = key
        self._turns = InitiatorTurns(Way(may_stream=may_stream, may_upstream=False), clock())
        self._turns.is_wanted = True
        session = bytes.fromhex(key)
        self._turns.append(Greeting(Mode.PLAIN, MESSAGE_BYTES, WINDOW_BYTES, 0, session).encode())

    def park(self) -> socket.socket:
        """Be welcomed, and wait; the connection at which it does."""
        with ExitStack() as hold:
            asking, listening = [hold.enter_context(_connect(self._port)) for _ in range(2)]
            plan = self._ask(listening)
            sock = listening.sock.dup()
            if plan.kind is Kind.DOWN:
                self._hear(hold.enter_context(listening.getresponse()))
                self._say(asking)
            else:
                self._answered(plan, listening)
                self._say(listening)
                self._ask(listening)
            return sock

    def _hear(self, answer: http.client.HTTPResponse) -> None:
        reader = TurnReader()
        while not (turns := reader.feed(answer.read1())):
            pass
        for turn in turns:
            self._turns.streamed(turn, clock())

    def _say(self, connection: http.client.HTTPConnection) -> None:
        plan = self._ask(connection)
        self._answered(plan, connection)

    def _answered(self, plan: Plan, connection: http.client.HTTPConnection) -> None:
        turns = TurnReader().feed(connection.getresponse().read())
        self._turns.answered(plan, turns, clock())

    def _ask(self, connection: http.client.HTTPConnection) -> Plan:
        plan = self._turns.next_plan(clock())
        assert plan is not None
        headers = {
            "Content-Type": TURNS_TYPE, "User-Agent": "somebody/1.0", "Accept": TURNS_TYPE,
            SESSION: self._key, ASK: plan.kind.value, WAIT: f"{plan.wait_s:g}",
        }  # fmt: skip
        if plan.opens:
            headers[OPEN] = "0"
        connection.request("POST", "/", plan.turn.encode(), headers)
        return plan


def _connect(port: int) -> closing[http.client.HTTPConnection]:
    return closing(http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S))


def forget(port: int, keys: list[str]) -> None:
    """Let the server forget these sessions at once."""
    with _connect(port) as connection:
        for key in keys:
            # Told of the first, its point closes; with the second it is over.
            for _ in range(2):
                headers = {"Content-Type": TURNS_TYPE, SESSION: key, ASK: "write", WAIT: "0"}
                connection.request("POST", "/", b"no turn", headers)
                assert connection.getresponse().read()


@pytest.mark.parametrize("may_stream", [False, True])
def test_an_initiator_that_waits_costs_at_most_4_kib(
    server: ServerComPoint, may_stream: bool
) -> None:
    port = server.address.port
    keys = [secrets.token_hex(16) for _ in range(FIRST + CROWD)]
    timers = len(lifetime.pump()._calls)
    socks: list[socket.socket] = []
    points: list[ComPoint] = []

    def come(keys: list[str]) -> None:
        for key in keys:
            socks.append(Player(port, key, may_stream=may_stream).park())
            points.append(server.accept(timeout=PATIENCE_S))

    try:
        come(keys[:FIRST])
        gc.collect()
        tracemalloc.start()
        come(keys[FIRST:])
        gc.collect()
        took_bytes, _ = tracemalloc.get_traced_memory()
        assert len(lifetime.pump()._calls) < timers + FIRST
    finally:
        tracemalloc.stop()
        for sock in socks:
            sock.close()
        forget(port, keys)
    assert took_bytes / CROWD < MOST_BYTES
