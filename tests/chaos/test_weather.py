"""Bad networks: what arrives in pieces, late, half, or not at all (promises 1, 3, 5, 9)."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import pytest

from channel import Channel
from compoint import (
    COMPOINT_INITIATOR,
    COMPOINT_SERVER,
    ComManager,
    ComPoint,
    ComPointAddress,
    ComPointException,
    ConnectError,
    EndOfMessages,
    FrameError,
    SessionLostError,
)
from compoint.testing import Background, Weather, configured, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

PATIENCE_S = 5.0
KINDS = ["plain", "channel"]


@contextmanager
def storm(
    kind: str, *, seed: int = 0, chunk_bytes: int = 65536, delay_s: float = 0.0
) -> Iterator[tuple[ComPoint, ComPoint, Weather]]:
    """A connected pair with weather in between."""
    here = ComPointAddress("tcp", 0)
    with ExitStack() as stack:
        initiator: ComPoint
        responder: ComPoint
        if kind == "plain":
            server = stack.enter_context(ComManager.com_point(COMPOINT_SERVER, here))
            weather = Weather(
                server.address.port, seed=seed, chunk_bytes=chunk_bytes, delay_s=delay_s
            )
            stack.enter_context(weather)
            address = ComPointAddress("tcp", "127.0.0.1", weather.port)
            initiator = ComManager.com_point(COMPOINT_INITIATOR, address)
            stack.callback(initiator.abort, "the test is over")
            responder = server.accept(timeout=PATIENCE_S)
        else:
            place = stack.enter_context(Channel.start_service_point_thread(here))
            weather = Weather(
                place.address.port, seed=seed, chunk_bytes=chunk_bytes, delay_s=delay_s
            )
            stack.enter_context(weather)
            address = ComPointAddress("tcp", "127.0.0.1", weather.port)
            initiator = Channel.open_initiator_channel(address, None, "storm")
            stack.callback(initiator.abort, "the test is over")
            responder = place.open_responder_channel(None, "storm", timeout=PATIENCE_S)
        stack.callback(responder.abort, "the test is over")
        yield initiator, responder, weather


def message(number: int, size: int) -> bytes:
    return bytes([number % 256]) * size


@pytest.mark.parametrize("kind", KINDS)
def test_a_network_that_passes_byte_by_byte_changes_nothing(kind: str) -> None:
    sizes = [0, 1, 15, 16, 17, 300, 20_000]
    with storm(kind, chunk_bytes=1) as (initiator, responder, _):
        writing = Background(
            lambda: [initiator.write(message(at, size)) for at, size in enumerate(sizes)]
        )
        for at, size in enumerate(sizes):
            assert responder.read(timeout=PATIENCE_S) == message(at, size)
        writing.result()
        responder.write("answer")
        assert initiator.read(timeout=PATIENCE_S) == "answer"


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", KINDS)
def test_a_network_that_cuts_the_bytes_anywhere_changes_nothing(kind: str, seed: int) -> None:
    sizes = [1, 70_000, 3, 16_384, 16_385, 262_144, 262_145, 5, 400_000, 0]
    with storm(kind, seed=seed, chunk_bytes=5_000) as (initiator, responder, _):

        def exchange(writer: ComPoint, reader: ComPoint) -> list[bool]:
            writing = Background(
                lambda: [writer.write(message(at, size)) for at, size in enumerate(sizes)]
            )
            right = [
                reader.read(timeout=PATIENCE_S) == message(at, size)
                for at, size in enumerate(sizes)
            ]
            writing.result()
            return right

        one = Background(exchange, initiator, responder)
        other = Background(exchange, responder, initiator)
        assert all(one.result(20))
        assert all(other.result(20))


@pytest.mark.parametrize("kind", KINDS)
def test_a_slow_network_delays_but_loses_nothing(kind: str) -> None:
    with storm(kind, delay_s=0.03) as (initiator, responder, _):
        for number in range(200):
            initiator.write(number)
        closing = Background(initiator.close)
        assert list(responder) == list(range(200))
        assert closing.result().is_complete


@pytest.mark.parametrize("kind", KINDS)
def test_a_cut_is_told_to_both_sides_and_names_what_is_unconfirmed(kind: str) -> None:
    with storm(kind) as (initiator, responder, weather):
        initiator.write(b"confirmed")
        initiator.flush(timeout=PATIENCE_S)
        assert responder.read(timeout=PATIENCE_S) == b"confirmed"
        weather.stall()
        initiator.write(b"on its way")
        weather.cut()
        for point in (initiator, responder):
            with pytest.raises(SessionLostError) as caught:
                point.read(timeout=PATIENCE_S)
        with pytest.raises(SessionLostError) as caught:
            initiator.read(timeout=PATIENCE_S)
        assert caught.value.unconfirmed == range(2, 3)
        receipt = initiator.close()
        assert receipt.unconfirmed == range(2, 3)
        assert receipt.reason


@pytest.mark.parametrize("kind", KINDS)
def test_a_cut_wakes_a_blocked_reader_and_a_blocked_writer(kind: str) -> None:
    with storm(kind) as (initiator, responder, weather):
        reading = Background(responder.read).blocked()
        weather.stall()
        writing = Background(initiator.write, bytes(50_000_000)).blocked()
        weather.cut()
        assert isinstance(reading.error(2), SessionLostError)
        assert isinstance(writing.error(2), SessionLostError)


@pytest.mark.parametrize("count", [*range(10, 130, 12), 1000, 70_000, 300_000])
@pytest.mark.parametrize("kind", KINDS)
def test_a_cut_at_any_byte_delivers_a_prefix_and_then_says_so(kind: str, count: int) -> None:
    """Whatever is lost, what was read is the beginning of what was written, and no receipt
    confirms what did not arrive."""
    sizes = [10, 1000, 20_000, 100_000, 300_000, 7]
    with storm(kind) as (initiator, responder, weather):
        initiator.flush(timeout=PATIENCE_S)
        weather.cut_after(count)

        def write_all() -> None:
            for at, size in enumerate(sizes):
                initiator.write(message(at, size), timeout=PATIENCE_S)

        writing = Background(write_all)
        came: list[bytes] = []
        with pytest.raises(SessionLostError):
            came.extend(iter(lambda: responder.read(timeout=PATIENCE_S), None))
        expected = [message(at, size) for at, size in enumerate(sizes)][: len(came)]
        assert (came == expected) is True
        eventually(lambda: writing.is_over)
        assert initiator.close().confirmed <= responder.statistics().received


@pytest.mark.parametrize("kind", KINDS)
def test_the_end_of_data_without_a_goodbye_is_no_good_end(kind: str) -> None:
    with storm(kind) as (initiator, responder, weather):
        initiator.write(b"one")
        initiator.flush(timeout=PATIENCE_S)
        weather.half_close("up")
        assert responder.read(timeout=PATIENCE_S) == b"one"
        with pytest.raises(SessionLostError, match="no goodbye"):
            responder.read(timeout=PATIENCE_S)


@pytest.mark.parametrize("kind", KINDS)
def test_a_goodbye_counts_though_the_connection_is_reset_behind_it(kind: str) -> None:
    with storm(kind) as (initiator, responder, weather):
        initiator.write(b"last words")
        assert initiator.close().is_complete
        eventually(lambda: not responder.statistics().is_open)
        weather.cut()
        assert responder.read(timeout=PATIENCE_S) == b"last words"
        with pytest.raises(EndOfMessages):
            responder.read(timeout=PATIENCE_S)


@pytest.mark.parametrize("kind", KINDS)
def test_a_stalled_network_is_noticed_by_heartbeats_and_a_slow_one_is_not(kind: str) -> None:
    # pika/pika #418: the caller is elsewhere meanwhile; heartbeats are not its business
    with (
        configured(compoint={"heartbeat": "0.1 s"}),
        storm(kind, delay_s=0.05) as (initiator, responder, weather),
    ):
        quiet = Background(responder.read, timeout=0.7)
        with pytest.raises(ComPointException, match="no message within"):
            quiet.result()
        assert initiator.statistics().is_open
        weather.stall()
        for point in (initiator, responder):
            with pytest.raises(SessionLostError, match="no sign of life"):
                point.read(timeout=2)


def test_a_network_that_swallows_the_greeting_is_noticed() -> None:
    with (
        configured(compoint={"greetingTimeout": "0.2 s"}),
        ComManager.com_point(COMPOINT_SERVER, ComPointAddress("tcp", 0)) as server,
        Weather(server.address.port) as weather,
    ):
        weather.stall()
        address = ComPointAddress("tcp", "127.0.0.1", weather.port)
        with (
            ComManager.com_point(COMPOINT_INITIATOR, address) as initiator,
            pytest.raises((ConnectError, FrameError)),
        ):
            initiator.read(timeout=PATIENCE_S)


def test_after_a_cut_the_next_channel_opens_a_new_connection() -> None:
    with (
        Channel.start_service_point_thread(ComPointAddress("tcp", 0)) as place,
        Weather(place.address.port) as weather,
    ):
        address = ComPointAddress("tcp", "127.0.0.1", weather.port)
        for correlator in ("before", "after"):
            initiator = Channel.open_initiator_channel(address, None, correlator)
            initiator.write(correlator)
            initiator.flush(timeout=PATIENCE_S)
            responder = place.open_responder_channel(None, correlator, timeout=PATIENCE_S)
            assert responder.read(timeout=PATIENCE_S) == correlator
            weather.cut()
            with pytest.raises(SessionLostError):
                initiator.read(timeout=PATIENCE_S)
            with pytest.raises(SessionLostError):
                responder.read(timeout=PATIENCE_S)
            initiator.close()
            responder.close()
