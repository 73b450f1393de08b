"""Whatever becomes of requests and answers, messages arrive once and in order."""

from __future__ import annotations

import contextlib
import random
import threading
from collections.abc import Callable, Iterator

import pytest
from initiator_kit import MODES, all_is_said, in_mode, no_proxies, reach, serve
from initiator_relay import DEEDS, Badly, Relay, Visit

from compoint import ComPoint, ServerComPoint
from compoint.core import turns_initiator
from compoint.testing import Background, Weather, eventually

PATIENCE_S = 20.0
#: Who streams makes few requests.
SHARES = {"streaming": 0.5, "polling": 0.2}
ROUNDS, BURST = 10, 30


@pytest.fixture(autouse=True)
def _direct(monkeypatch: pytest.MonkeyPatch) -> None:
    no_proxies(monkeypatch)


@pytest.fixture
def server() -> Iterator[ServerComPoint]:
    with serve() as server:
        yield server


def _speak(point: ComPoint, *, first: bool) -> list[object]:
    """Write and read in bursts; what was read."""
    read: list[object] = []
    for number in range(ROUNDS):
        if first:
            for one in range(BURST):
                point.write(number * BURST + one, timeout=PATIENCE_S)
        for _ in range(BURST):
            read.append(point.read(timeout=PATIENCE_S))
        if not first:
            for one in range(BURST):
                point.write(number * BURST + one, timeout=PATIENCE_S)
    return read


@contextlib.contextmanager
def _everything_arrives(point: ComPoint, server: ServerComPoint) -> Iterator[None]:
    """The block ends the bad weather, so that the two can part."""
    with point, server.accept(timeout=PATIENCE_S) as responder:
        answering = Background(_speak, responder, first=False)
        heard = _speak(point, first=True)
        assert answering.result(PATIENCE_S) == list(range(ROUNDS * BURST))
        assert heard == list(range(ROUNDS * BURST))
        yield
        closing = Background(point.close)
        assert responder.close().is_complete
        assert closing.result(PATIENCE_S).is_complete
    all_is_said()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("deed", DEEDS.values(), ids=DEEDS)
def test_300_messages_each_way_arrive_once_and_in_order(
    server: ServerComPoint, deed: Callable[[Visit], None], mode: str
) -> None:
    badly = Badly(1, SHARES[mode], deed)
    with in_mode(mode), Relay(server.address.port, badly) as relay:
        point = reach(relay.port, timeout=PATIENCE_S)
        with _everything_arrives(point, server):
            relay.do = Visit.pass_on
    assert badly.count > 0


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("seed", range(2))
def test_300_messages_each_way_arrive_whatever_happens_in_turn(
    server: ServerComPoint, seed: int, mode: str
) -> None:
    badly = Badly(seed, SHARES[mode], *DEEDS.values())
    with in_mode(mode), Relay(server.address.port, badly) as relay:
        point = reach(relay.port, timeout=PATIENCE_S)
        with _everything_arrives(point, server):
            relay.do = Visit.pass_on
    assert badly.count > 0


def test_a_way_that_cuts_streams_when_they_are_silent_is_polled(
    server: ServerComPoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns_initiator, "_IDLE_CUT_S", 0.1)

    def cut_silent_streams(visit: Visit) -> None:
        visit.pass_on(idle_s=0.15 if visit.ask == "stream" else PATIENCE_S)

    with Relay(server.address.port, cut_silent_streams) as relay:
        point = reach(relay.port)
        with point, server.accept(timeout=PATIENCE_S) as responder:
            reading = Background(point.read)
            eventually(lambda: "poll" in relay.asks)
            responder.write("late")
            assert reading.result() == "late"
            assert point.statistics().carrier == "http, polling"
        all_is_said()
        assert relay.asks.count("stream") == 1


def test_a_stream_that_is_cut_long_after_it_opened_the_session_is_opened_again(
    server: ServerComPoint,
) -> None:
    def cut_the_first_stream(visit: Visit) -> None:
        visit.pass_on(idle_s=0.2 if visit.headers.get("ComPoint-Open") else PATIENCE_S)

    with (
        in_mode("streaming", giveUp=0.1),
        Relay(server.address.port, cut_the_first_stream) as relay,
    ):
        point = reach(relay.port)
        with point, server.accept(timeout=PATIENCE_S) as responder:
            reading = Background(point.read)
            eventually(lambda: relay.asks.count("stream") == 2)
            responder.write("late")
            assert reading.result() == "late"
        all_is_said()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("direction", ["up", "down"])
def test_300_messages_each_way_arrive_over_connections_that_are_cut(
    server: ServerComPoint, direction: str, mode: str
) -> None:
    draw = random.Random(7)
    is_over = threading.Event()

    def cut(weather: Weather) -> None:
        while not is_over.wait(0.05):
            weather.cut_after(draw.randint(0, 6000), direction)

    with in_mode(mode), Weather(server.address.port, seed=7, chunk_bytes=200) as weather:
        point = reach(weather.port, timeout=PATIENCE_S)
        cutting = Background(cut, weather)
        with _everything_arrives(point, server):
            is_over.set()
            cutting.result()
            weather.cut_after(10**9, direction)
