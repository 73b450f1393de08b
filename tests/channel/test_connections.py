"""The connections that channels share: one for each address, opened anew when it is lost."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

import pytest

from channel import Channel, ChannelOptions, ChannelPoint, ChannelServicePoint
from channel.connections import connections
from compoint import AddressError, ComPointAddress, ConnectError, SessionLostError
from compoint.limits import CHANNELS_PER_CONNECTION
from compoint.testing import Background, ScriptedServer, Weather, configured, eventually

PATIENCE_S: Final = 10.0
HERE: Final = ComPointAddress("tcp", 0)

Ask = Callable[..., ChannelPoint]
Answer = Callable[..., ChannelPoint]


def at(port: int) -> ComPointAddress:
    return ComPointAddress("tcp", "127.0.0.1", port)


def test_channels_share_a_connection_and_a_dedicated_one_has_its_own(
    place: ChannelServicePoint, ask: Ask, answer: Answer
) -> None:
    for correlator in ("a", "b", "own"):
        ask(correlator, dedicated=correlator == "own").write(correlator)
    for correlator in ("a", "b", "own"):
        assert answer(correlator).read(timeout=PATIENCE_S) == correlator
    assert place.statistics().connections == 2


def test_the_connection_of_a_dedicated_channel_closes_with_it(
    place: ChannelServicePoint, ask: Ask, answer: Answer
) -> None:
    own = ask("own", dedicated=True)
    responder = answer("own")
    own.write(b"last words")
    closing = Background(own.close)
    assert responder.read(timeout=PATIENCE_S) == b"last words"
    assert closing.result().is_complete
    responder.close()
    eventually(lambda: place.statistics().connections == 0)


def test_threads_that_open_the_first_channel_at_once_share_one_connection(
    place: ChannelServicePoint, ask: Ask
) -> None:
    at_once = threading.Barrier(8)

    def open_channel(number: int) -> None:
        at_once.wait(PATIENCE_S)
        ask(str(number)).write(number)

    for one in [Background(open_channel, number) for number in range(8)]:
        one.result()
    eventually(lambda: place.statistics().queued == 8)
    assert place.statistics().connections == 1


def test_a_connection_that_no_channel_needs_closes_and_the_next_channel_opens_another() -> None:
    with (
        configured(channel={"idleConnection": "0.1 s"}),
        Channel.start_service_point_thread(HERE) as place,
    ):
        for number in range(2):
            with Channel.open_initiator_channel(place.address, None, "x") as initiator:
                initiator.write(number)
                with place.open_responder_channel(None, "x", timeout=PATIENCE_S) as responder:
                    assert responder.read(timeout=PATIENCE_S) == number
            eventually(lambda: place.statistics().connections == 0)
            assert place.address not in connections._places


def test_a_connection_with_a_silent_channel_is_not_idle() -> None:
    with (
        configured(channel={"idleConnection": "0.1 s"}),
        Channel.start_service_point_thread(HERE) as place,
        Channel.open_initiator_channel(place.address, None, "silent") as initiator,
        place.open_responder_channel(None, "silent", timeout=PATIENCE_S) as responder,
        Channel.start_service_point_thread(HERE) as other,
    ):
        # Two idle connections have closed by the time that this one would be.
        for _ in range(2):
            Channel.open_initiator_channel(other.address, None, "x").abort("enough")
            eventually(lambda: other.statistics().connections == 1)
            eventually(lambda: other.statistics().connections == 0)
        initiator.write(b"still here")
        assert responder.read(timeout=PATIENCE_S) == b"still here"


def test_a_cut_ends_all_channels_of_the_connection_and_names_what_is_unconfirmed(
    place: ChannelServicePoint, ask: Ask, answer: Answer
) -> None:
    with Weather(place.address.port) as weather:
        points = [ask(correlator, at=at(weather.port)) for correlator in "abc"]
        own = ask("own", at=at(weather.port), dedicated=True)
        for point in [*points, own]:
            point.write(b"confirmed")
            point.flush(timeout=PATIENCE_S)
        responder = answer("a")
        weather.stall()
        points[0].write(b"lost")
        points[0].write(b"lost too")
        weather.cut()
        for point, unconfirmed in zip(points, [range(2, 4), range(2, 2), range(2, 2)], strict=True):
            with pytest.raises(SessionLostError) as caught:
                point.read(timeout=PATIENCE_S)
            assert caught.value.unconfirmed == unconfirmed
        assert "messages 2 to 3 are unconfirmed" in points[0].close().reason
        assert responder.read(timeout=PATIENCE_S) == b"confirmed"
        with pytest.raises(SessionLostError):
            responder.read(timeout=PATIENCE_S)


def test_after_a_cut_the_next_channel_opens_another_connection(
    place: ChannelServicePoint, ask: Ask, answer: Answer
) -> None:
    with Weather(place.address.port) as weather:
        lost = ask("lost", at=at(weather.port))
        answer("lost").write(b"hello")
        assert lost.read(timeout=PATIENCE_S) == b"hello"
        weather.cut()
        with pytest.raises(SessionLostError):
            lost.read(timeout=PATIENCE_S)
        again = ask("again", at=at(weather.port))
        responder = answer("again")
        again.write(b"here")
        assert responder.read(timeout=PATIENCE_S) == b"here"
        again.abort("the test is over")


def test_a_connection_whose_numbers_are_used_up_is_followed_by_another(
    place: ChannelServicePoint, ask: Ask, answer: Answer
) -> None:
    first = ask("first")
    first_end = answer("first")
    driver = connections._places[place.address].driver
    assert driver is not None
    driver.connection._highest = 0xFFFF_FFFF
    ask("next").write(b"through")
    assert answer("next").read(timeout=PATIENCE_S) == b"through"
    assert place.statistics().connections == 2
    first.write(b"unharmed")
    assert first_end.read(timeout=PATIENCE_S) == b"unharmed"


def test_a_place_that_cannot_be_reached_is_not_remembered() -> None:
    with ScriptedServer() as server:
        nobody = at(server.port)
    before = len(connections._places)
    for _ in range(2):
        with pytest.raises(ConnectError, match="is the server started"):
            Channel.open_initiator_channel(nobody, None, "x")
    assert nobody not in connections._places
    assert len(connections._places) <= before


@pytest.mark.parametrize("dedicated", [False, True])
def test_an_initiator_needs_a_port(dedicated: bool) -> None:
    with pytest.raises(AddressError, match="port 0"):
        Channel.open_initiator_channel(HERE, ChannelOptions(dedicated=dedicated), "x")


def test_the_bound_of_channels_on_a_connection_is_that_of_the_protocol() -> None:
    """Both sides count with it; one that allowed more would meet refusals."""
    from channel import connections as room
    from compoint.core import _incoming

    assert room.CHANNELS_PER_CONNECTION == _incoming.CHANNELS_PER_CONNECTION
    assert CHANNELS_PER_CONNECTION == 65_536
