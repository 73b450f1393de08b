"""How conversations over HTTP end: by close, by the peer's death, by a way that is gone."""

from __future__ import annotations

import contextlib
import functools
import signal
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme
from initiator_kit import (
    MODES,
    PATIENCE_S,
    TURNS,
    Connection,
    Program,
    RawServer,
    all_is_said,
    in_mode,
    no_proxies,
    reach,
    serve,
)
from initiator_relay import Relay, Visit

from compoint import (
    ClosedError,
    ComPoint,
    ConnectError,
    Fate,
    PointTimeout,
    ServerComPoint,
    SessionLostError,
)
from compoint.core.turns import Turn
from compoint.core.turns_initiator import Way
from compoint.drive import pump
from compoint.http import _initiator, _opener, _requests
from compoint.testing import Background, eventually

SHORT_S = 0.15
GIVE_UP_S = 0.3
#: What a slow machine may add to that.
LITTLE_S = 3.0


@pytest.fixture(autouse=True)
def _direct(monkeypatch: pytest.MonkeyPatch) -> None:
    no_proxies(monkeypatch)


@pytest.fixture(params=MODES)
def mode(request: pytest.FixtureRequest) -> Iterator[str]:
    with in_mode(request.param, giveUp=GIVE_UP_S):
        yield request.param


@pytest.fixture
def server() -> Iterator[ServerComPoint]:
    with serve() as server:
        yield server


ECHO = """
import sys
from compoint import COMPOINT_SERVER, ComManager, ComPointAddress
with ComManager.com_point(COMPOINT_SERVER, ComPointAddress("http", int(sys.argv[1]))) as server:
    print(server.address.port, flush=True)
    for point in server:
        with point:
            for message in point:
                point.write(message)
"""


@contextlib.contextmanager
def _echo(port: int = 0) -> Iterator[tuple[Program, int]]:
    with Program(ECHO, port) as program:
        yield program, int(program.hear())
        all_is_said()


def _speak(point: ComPoint, count: int = 5) -> None:
    for number in range(count):
        point.write(number)
        assert point.read(timeout=PATIENCE_S) == number


def _is_left_within(time_s: float) -> None:
    def nobody_is_on_the_way() -> bool:
        return not any("http-courier" in thread.name for thread in threading.enumerate())

    eventually(nobody_is_on_the_way, time_s, "the couriers end")


# --- the peer's process -------------------------------------------------------------------------


def test_the_death_of_the_server_ends_a_read_within_giveup(mode: str) -> None:
    with _echo() as (program, port), reach(port) as point:
        _speak(point)
        reading = Background(point.read).blocked()
        program.kill()
        started = time.monotonic()
        error = reading.error(PATIENCE_S)
        assert isinstance(error, SessionLostError)
        assert "no request has come through: nobody was reached (Connection refused)" in error.what
        assert time.monotonic() - started < GIVE_UP_S + LITTLE_S


def test_a_server_that_was_started_anew_ends_the_session_at_once() -> None:
    with _echo() as (first, port), reach(port) as point:
        _speak(point)
        reading = Background(point.read).blocked()
        first.kill()
        with _echo(port):
            error = reading.error(PATIENCE_S)
            assert isinstance(error, SessionLostError)
            assert "this session is not known here; the server was started anew" in error.what


def test_a_repeated_opening_is_refused_by_a_server_that_came_later() -> None:
    with _echo() as (_, port), Relay(port, Visit.ask_only) as relay:
        reaching = Background(reach, relay.port)
        # The first one was asked, and asked again.
        eventually(lambda: len(relay.asks) > 2, PATIENCE_S)
        with serve() as later:
            relay.target = later.address.port
            relay.do = Visit.pass_on
            error = reaching.error(PATIENCE_S)
            assert isinstance(error, ConnectError)
            assert error.what == (
                "the server says: this session is older than the server; open a new session"
            )
            assert error.fate is Fate.NOT_SENT
            with pytest.raises(PointTimeout):
                later.accept(timeout=0)


# --- frozen -------------------------------------------------------------------------------------


@pytest.mark.usefixtures("_curt")
def test_close_is_bounded_while_the_server_is_frozen(mode: str) -> None:
    with _echo() as (program, port):
        point = reach(port)
        _speak(point, 20)
        program.signal(signal.SIGSTOP)
        point.write("lost")
        started = time.monotonic()
        receipt = point.close(timeout=SHORT_S)
        assert time.monotonic() - started < SHORT_S + 1
        assert (receipt.written, receipt.confirmed) == (21, 20)
        _is_left_within(LITTLE_S)


@pytest.mark.usefixtures("_curt")
@pytest.mark.parametrize("protocol", ["http", "https"])
def test_close_ends_a_stream_that_lasts_as_long_as_its_connection(
    protocol: str, tmp_path: Path
) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(tls)

    def meet(visitor: Connection) -> None:
        if b"compoint-ask: stream" in visitor.hear_head().lower():
            visitor.say(b"HTTP/1.1 200 OK\r\nContent-Type: %s\r\n" % TURNS.encode())
            visitor.say(b"Connection: close\r\n\r\n" + Turn(0, 0, 0, b"").encode())

    with (
        in_mode("streaming", caFile=tmp_path / "ca.pem"),
        RawServer(meet, tls if protocol == "https" else None) as server,
    ):
        reach(server.port, protocol=protocol).close(timeout=SHORT_S)
        _is_left_within(LITTLE_S)


def test_a_read_ends_by_its_deadline_while_the_server_is_frozen(mode: str) -> None:
    with _echo() as (program, port), reach(port) as point:
        _speak(point)
        program.signal(signal.SIGSTOP)
        started = time.monotonic()
        with pytest.raises(PointTimeout):
            point.read(timeout=SHORT_S)
        assert time.monotonic() - started < SHORT_S + 1
        program.signal(signal.SIGCONT)
        _speak(point)


@pytest.fixture
def _curt(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last words are tried for a shorter time."""
    monkeypatch.setattr(pump, "DRAIN_S", 0.1)
    monkeypatch.setattr(_initiator, "_LINGER_S", 0.2)


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The times of a request, made short: nobody waits 35 s for a test."""
    monkeypatch.setattr(_requests, "_ANSWER_S", 0.1)
    monkeypatch.setattr(_opener, "Way", functools.partial(Way, poll_s=0.1))


@pytest.mark.usefixtures("_impatient")
def test_a_way_on_which_no_request_is_answered_any_more_is_given_up() -> None:
    go_on = threading.Event()
    with (
        _echo() as (_, port),
        in_mode("polling", giveUp=GIVE_UP_S),
        Relay(port) as relay,
        reach(relay.port) as point,
    ):
        _speak(point)
        relay.do = lambda _: go_on.wait(PATIENCE_S)
        reading = Background(point.read)
        error = reading.error(PATIENCE_S)
        go_on.set()
        assert isinstance(error, SessionLostError)
        assert "no request has come through: no answer in time" in error.what


# --- close --------------------------------------------------------------------------------------


def test_a_closed_point_leaves_nothing_within_two_seconds(
    mode: str, server: ServerComPoint
) -> None:
    point = reach(server.address.port)
    with server.accept(timeout=PATIENCE_S) as responder:
        for number in range(20):
            point.write(number)
            assert responder.read(timeout=PATIENCE_S) == number
        reading = Background(point.read).blocked()
        point.close()
        assert isinstance(reading.error(), ClosedError)
        _is_left_within(2)


def test_a_point_that_is_aborted_leaves_nothing_within_two_seconds(
    mode: str, server: ServerComPoint
) -> None:
    point = reach(server.address.port)
    with server.accept(timeout=PATIENCE_S) as responder:
        writing = Background(lambda: [point.write(bytes(1_000_000)) for _ in range(100)])
        responder.read(timeout=PATIENCE_S)
        point.abort("enough")
        writing.error()
        _is_left_within(2)
        with pytest.raises(SessionLostError, match="enough"):
            list(responder)


def test_a_point_that_was_reached_and_never_used_leaves_nothing(
    mode: str, server: ServerComPoint
) -> None:
    reach(server.address.port).close()
    _is_left_within(2)


def test_an_opening_that_is_interrupted_leaves_nothing() -> None:
    program = """
import signal, sys, threading
from compoint import COMPOINT_INITIATOR, ComManager, ComPointAddress

print("ready", flush=True)
try:
    ComManager.com_point(
        COMPOINT_INITIATOR, ComPointAddress("http", "127.0.0.1", int(sys.argv[1])), timeout=30
    )
except KeyboardInterrupt:
    couriers = [one for one in threading.enumerate() if "courier" in one.name]
    for one in couriers:
        one.join(5)
    print(any(one.is_alive() for one in couriers), flush=True)
"""
    with RawServer(lambda _: None) as silent, Program(program, silent.port) as running:
        assert running.hear() == "ready"
        eventually(lambda: silent.visits == 1, PATIENCE_S)
        running.signal(signal.SIGINT)
        assert running.hear() == "False"
        assert running.end() == 0


READER = """
from compoint import COMPOINT_SERVER, ComManager, ComPointAddress

with ComManager.com_point(COMPOINT_SERVER, ComPointAddress("http", 0)) as server:
    print(server.address.port, flush=True)
    with server.accept(timeout=10) as point:
        print([int.from_bytes(message[:2]) for message in point] == list(range(100)), flush=True)
"""
WRITER = """
import sys
from compoint import COMPOINT_INITIATOR, ComManager, ComPointAddress

address = ComPointAddress("http", "127.0.0.1", int(sys.argv[1]))
point = ComManager.com_point(COMPOINT_INITIATOR, address)
for number in range(100):
    point.write(number.to_bytes(2) + bytes(30_000))
if sys.argv[2] == "closes":
    assert point.close().is_complete
"""


@pytest.mark.parametrize(
    ("mode", "manner"),
    [("streaming", "just ends"), ("polling", "just ends"), ("polling", "closes")],
)
def test_a_program_that_writes_and_exits_loses_nothing(
    mode: str, manner: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings = tmp_path / "_sempconfig"
    settings.write_text("[http]\nstreams = " + ("on" if mode == "streaming" else "off") + "\n")
    monkeypatch.setenv("SEMPCONFIG", str(settings))
    with Program(READER) as reader, Program(WRITER, reader.hear(), manner) as writer:
        assert writer.end() == 0
        assert reader.hear() == "True"
