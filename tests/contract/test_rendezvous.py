"""Promises 5, 6, 7 and 12 of service points: queueing, bounds, independence, stopping."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from channel import Channel, ChannelOptions, ChannelPoint, ChannelServicePoint
from compoint import (
    COMPOINT_INITIATOR,
    BusyError,
    ClosedError,
    ComManager,
    ComPointAddress,
    EndOfMessages,
    PointTimeout,
    RefusedError,
    SessionLostError,
    UsageError,
)
from compoint.limits import CORRELATOR_BYTES, FIRST_CREDIT_BYTES, MESSAGE_TOLL_BYTES, MIB
from compoint.testing import Background, configured, eventually
from compoint.testing.contract._base import PATIENCE_S, fill

Ask = Callable[..., ChannelPoint]
Answer = Callable[[ChannelServicePoint, str | None], ChannelPoint]


@pytest.fixture(params=["tcp", "memory"])
def protocol(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def place(protocol: str) -> Iterator[ChannelServicePoint]:
    with Channel.start_service_point_thread(ComPointAddress(protocol, 0)) as place:
        yield place


@pytest.fixture
def ask() -> Iterator[Ask]:
    """Opens initiator channels at a service point; those left open are broken off."""
    with ExitStack() as stack:

        def open_channel(
            place: ChannelServicePoint, correlator: str, *, dedicated: bool = False
        ) -> ChannelPoint:
            address = _address(place)
            options = ChannelOptions(dedicated=dedicated)
            point = Channel.open_initiator_channel(address, options, correlator)
            stack.callback(point.abort, "the test is over")
            return point

        yield open_channel


@pytest.fixture
def answer() -> Iterator[Answer]:
    """Opens responder channels; those left open are broken off."""
    with ExitStack() as stack:

        def open_channel(place: ChannelServicePoint, correlator: str | None) -> ChannelPoint:
            point = place.open_responder_channel(None, correlator, timeout=PATIENCE_S)
            stack.callback(point.abort, "the test is over")
            return point

        yield open_channel


def _address(place: ChannelServicePoint) -> ComPointAddress:
    return ComPointAddress(place.address.protocol, "localhost", place.address.port)


def _queued(place: ChannelServicePoint) -> list[str]:
    return [one.correlator for one in place.waiting().queued]


# --- who meets whom -------------------------------------------------------------------------


def test_a_channel_that_comes_early_waits_for_its_responder(
    place: ChannelServicePoint, ask: Ask, answer: Answer
) -> None:  # magic-wormhole/magic-wormhole #335
    initiator = ask(place, "early")
    initiator.write(b"hello")
    eventually(lambda: _queued(place) == ["early"])
    with answer(place, "early") as responder:
        assert responder.read(timeout=PATIENCE_S) == b"hello"


def test_a_responder_that_comes_early_waits_for_its_channel(
    place: ChannelServicePoint, ask: Ask
) -> None:
    opening = Background(place.open_responder_channel, None, "late").blocked()
    assert [one.correlator for one in place.waiting().responders] == ["late"]
    initiator = ask(place, "late")
    with opening.result() as responder:
        responder.write(b"hello")
        assert initiator.read(timeout=PATIENCE_S) == b"hello"


def test_a_channel_goes_to_the_responder_of_its_correlator_only(
    place: ChannelServicePoint, ask: Ask
) -> None:
    opening = Background(place.open_responder_channel, None, "a").blocked()
    ask(place, "b")
    eventually(lambda: _queued(place) == ["b"])
    assert not opening.is_over
    ask(place, "a").write(b"for a")
    with opening.result() as responder:
        assert responder.read(timeout=PATIENCE_S) == b"for a"


def test_channels_of_one_correlator_are_given_out_in_the_order_they_came(
    place: ChannelServicePoint, ask: Ask, answer: Answer
) -> None:
    for number in range(5):
        ask(place, "same", dedicated=number % 2 == 0).write(number)
        eventually(lambda: len(_queued(place)) == number + 1)  # noqa: B023 - now
    for number in range(5):
        responder = answer(place, "same")
        assert responder.read(timeout=PATIENCE_S) == number


def test_without_a_correlator_the_next_channel_is_opened_whatever_it_is(
    place: ChannelServicePoint, ask: Ask, answer: Answer
) -> None:
    for correlator in ("first", "second"):
        ask(place, correlator)
        eventually(lambda: correlator in _queued(place))  # noqa: B023 - now
    opened = [answer(place, None) for _ in range(2)]
    assert [point.correlator for point in opened] == ["first", "second"]


def test_two_waiting_responders_of_one_correlator_get_one_channel_each(
    place: ChannelServicePoint, ask: Ask
) -> None:
    opening = [Background(place.open_responder_channel, None, "same").blocked() for _ in range(2)]
    for number in range(2):
        ask(place, "same").write(number)
    opened = [one.result() for one in opening]
    assert sorted(point.read(timeout=PATIENCE_S) for point in opened) == [0, 1]
    for point in opened:
        point.abort("the test is over")


def test_a_service_point_iterates_over_its_channels_until_it_is_stopped(
    place: ChannelServicePoint, ask: Ask
) -> None:
    for number in range(3):
        ask(place, str(number))
    served = []
    for responder in place:
        served.append(responder.correlator)
        responder.close()
        if len(served) == 3:
            place.stop()
    assert served == ["0", "1", "2"]


@pytest.mark.parametrize("timeout", [0, 0.02])
def test_a_responder_that_timed_out_may_call_again(
    place: ChannelServicePoint, ask: Ask, answer: Answer, timeout: float
) -> None:  # paramiko/paramiko #1815
    ask(place, "other")
    eventually(lambda: _queued(place) == ["other"])
    with pytest.raises(PointTimeout, match="'other'"):
        place.open_responder_channel(None, "mine", timeout=timeout)
    ask(place, "mine").write(b"now")
    responder = answer(place, "mine")
    assert responder.read(timeout=PATIENCE_S) == b"now"


def test_opening_does_not_wait_for_acceptance(place: ChannelServicePoint, ask: Ask) -> None:
    # stephanfeb/dart_libp2p #29
    initiator = ask(place, "nobody comes")
    initiator.write(b"x" * 1000, timeout=0)
    with pytest.raises(PointTimeout, match="no responder"):
        initiator.read(timeout=0.01)


@pytest.mark.parametrize("correlator", ["", "ä ö/ü\n\0", "x" * CORRELATOR_BYTES])
def test_any_text_up_to_the_limit_is_a_correlator(
    place: ChannelServicePoint, ask: Ask, answer: Answer, correlator: str
) -> None:
    ask(place, correlator).write(b"found")
    responder = answer(place, correlator)
    assert responder.correlator == correlator
    assert responder.read(timeout=PATIENCE_S) == b"found"


def test_a_correlator_of_a_mebibyte_is_refused_before_it_is_sent(
    place: ChannelServicePoint, ask: Ask
) -> None:
    with pytest.raises(UsageError, match="1048576 bytes"):
        ask(place, "x" * MIB)
    with pytest.raises(UsageError, match="1048576 bytes"):
        place.open_responder_channel(None, "x" * MIB)


def test_an_initiator_that_closed_before_its_responder_came_has_delivered(
    place: ChannelServicePoint, ask: Ask, answer: Answer
) -> None:  # zeromq/libzmq #1922
    initiator = ask(place, "posted")
    for number in range(10):
        initiator.write(number)
    receipt = initiator.close()
    responder = answer(place, "posted")
    assert list(responder) == list(range(10))
    assert receipt.is_complete


# --- bounds -----------------------------------------------------------------------------------


def test_a_queued_channel_holds_its_first_credit_and_no_more(
    place: ChannelServicePoint, ask: Ask, answer: Answer
) -> None:
    initiator = ask(place, "queued")
    count = fill(initiator, b"f" * 1000)
    assert count == FIRST_CREDIT_BYTES // (1000 + MESSAGE_TOLL_BYTES)
    responder = answer(place, "queued")
    initiator.write(b"more", timeout=PATIENCE_S)
    assert [len(responder.read(timeout=PATIENCE_S)) for _ in range(count + 1)][-1] == 4


def test_beyond_the_bound_of_the_queue_a_channel_is_refused_with_a_code(
    protocol: str, ask: Ask, answer: Answer
) -> None:  # nanomsg/nng #878
    with configured(channel={"maxQueued": 3}):
        place = Channel.start_service_point_thread(ComPointAddress(protocol, 0))
    with place:
        for number in range(3):
            ask(place, f"early {number}")
        eventually(lambda: len(_queued(place)) == 3)
        late = ask(place, "late")
        with pytest.raises(RefusedError) as caught:
            late.read(timeout=PATIENCE_S)
        assert caught.value.code == "queue full"
        assert caught.value.retry_after_s is not None
        assert place.statistics().refused == 1
        # The others never notice; room appears when one is claimed.
        answer(place, "early 0")
        ask(place, "again").write(b"in")
        responder = answer(place, "again")
        assert responder.read(timeout=PATIENCE_S) == b"in"


def test_one_connection_may_fill_its_share_of_the_queue_only(protocol: str, ask: Ask) -> None:
    with configured(channel={"maxQueuedPerConnection": 2}):
        place = Channel.start_service_point_thread(ComPointAddress(protocol, 0))
    with place:
        points = [ask(place, f"{number}") for number in range(3)]
        with pytest.raises(RefusedError, match="of this connection"):
            points[2].read(timeout=PATIENCE_S)
        ask(place, "another", dedicated=True)
        eventually(lambda: "another" in _queued(place))


def test_beyond_the_bytes_of_the_queue_a_channel_is_refused_with_a_code(
    protocol: str, ask: Ask, answer: Answer
) -> None:
    with configured(channel={"maxQueuedBytes": FIRST_CREDIT_BYTES}):
        place = Channel.start_service_point_thread(ComPointAddress(protocol, 0))
    with place:
        first = ask(place, "first")
        first.write(b"x" * (FIRST_CREDIT_BYTES // 2))
        eventually(lambda: place.statistics().queued_bytes > 0)
        second = ask(place, "second")
        second.write(b"x" * (FIRST_CREDIT_BYTES // 2))
        with pytest.raises(RefusedError) as caught:
            second.read(timeout=PATIENCE_S)
        assert caught.value.code == "queue bytes"
        responder = answer(place, "first")
        assert len(responder.read(timeout=PATIENCE_S)) == FIRST_CREDIT_BYTES // 2
        eventually(lambda: place.statistics().queued_bytes == 0)


def test_a_channel_that_waited_too_long_is_refused_as_expired(protocol: str, ask: Ask) -> None:
    with configured(channel={"maxQueuedAge": "1 s"}):
        place = Channel.start_service_point_thread(ComPointAddress(protocol, 0))
    with place:
        initiator = ask(place, "forgotten")
        with pytest.raises(RefusedError) as caught:
            initiator.read(timeout=3)
        assert caught.value.code == "expired"
        assert _queued(place) == []


def test_a_queued_channel_that_was_aborted_leaves_the_queue(
    place: ChannelServicePoint, ask: Ask
) -> None:
    initiator = ask(place, "gone")
    eventually(lambda: _queued(place) == ["gone"])
    initiator.abort("changed my mind")
    eventually(lambda: _queued(place) == [])


# --- independence -----------------------------------------------------------------------------


def test_a_slow_reader_stops_only_its_own_channel(
    place: ChannelServicePoint, ask: Ask, answer: Answer
) -> None:
    # paritytech/litep2p #604
    slow, quick = ask(place, "slow"), ask(place, "quick")
    answer(place, "slow")
    responder = answer(place, "quick")
    fill(slow)
    stuck = Background(slow.write, bytes(8 * MIB)).blocked()
    for number in range(200):
        quick.write(number, timeout=PATIENCE_S)
        assert responder.read(timeout=PATIENCE_S) == number
        responder.write(b"x" * 100_000, timeout=PATIENCE_S)
        assert len(quick.read(timeout=PATIENCE_S)) == 100_000
    assert not stuck.is_over
    slow.abort("enough")
    assert isinstance(stuck.error(), ClosedError)


def test_all_channels_stuck_in_both_directions_leave_room_for_a_new_one(
    place: ChannelServicePoint, ask: Ask, answer: Answer
) -> None:  # libp2p/rust-yamux #227, hashicorp/yamux #30
    for number in range(4):
        initiator = ask(place, str(number))
        responder = answer(place, str(number))
        fill(initiator)
        fill(responder)
    initiator = ask(place, "new")
    responder = answer(place, "new")
    initiator.write(b"through", timeout=PATIENCE_S)
    assert responder.read(timeout=PATIENCE_S) == b"through"


def test_an_oversized_message_ends_no_channel(
    place: ChannelServicePoint, ask: Ask, answer: Answer
) -> None:
    one, other = ask(place, "one"), ask(place, "other")
    responder = answer(place, "one")
    one.write(b"first")
    with pytest.raises(PointTimeout):
        one.write(bytes(8 * MIB), timeout=0.05)
    one.write(b"second", timeout=PATIENCE_S)
    assert [responder.read(timeout=PATIENCE_S) for _ in range(2)] == [b"first", b"second"]
    other.write(b"unharmed", timeout=0)


def test_aborting_one_channel_leaves_its_neighbours_alone(
    place: ChannelServicePoint, ask: Ask, answer: Answer
) -> None:
    doomed, neighbour = ask(place, "doomed"), ask(place, "neighbour")
    doomed_end = answer(place, "doomed")
    neighbour_end = answer(place, "neighbour")
    doomed.abort("broken")
    with pytest.raises(SessionLostError, match="broken"):
        doomed_end.read(timeout=PATIENCE_S)
    neighbour.write(b"fine")
    assert neighbour_end.read(timeout=PATIENCE_S) == b"fine"


def test_channels_to_one_address_share_a_connection_and_dedicated_ones_do_not(
    place: ChannelServicePoint, ask: Ask
) -> None:
    for number in range(5):
        ask(place, str(number))
    eventually(lambda: len(_queued(place)) == 5)
    assert place.statistics().connections == 1
    ask(place, "own", dedicated=True)
    eventually(lambda: place.statistics().connections == 2)


def test_a_shared_connection_without_channels_is_closed_after_a_while(
    protocol: str, ask: Ask, answer: Answer
) -> None:
    with (
        configured(channel={"idleConnection": "0.1 s"}),
        Channel.start_service_point_thread(ComPointAddress(protocol, 0)) as place,
    ):
        initiator = ask(place, "only")
        answer(place, "only").close()
        initiator.close()
        eventually(lambda: place.statistics().connections == 0)


def test_four_threads_exchange_300_messages_each_on_one_channel(
    place: ChannelServicePoint, ask: Ask, answer: Answer
) -> None:  # tomerfiliba-org/rpyc #381 and the measured peers of field.md §1
    initiator = ask(place, "crowd")
    responder = answer(place, "crowd")
    threads, exchanges = 4, 300

    def echo() -> None:
        for message in responder:
            responder.write(message)

    echoing = Background(echo)

    def write_all(thread: int) -> None:
        for number in range(exchanges):
            initiator.write([thread, number])

    writing = [Background(write_all, thread) for thread in range(threads)]
    seen: dict[int, list[int]] = {thread: [] for thread in range(threads)}
    for _ in range(threads * exchanges):
        thread, number = initiator.read(timeout=PATIENCE_S)
        seen[thread].append(number)
    assert seen == {thread: list(range(exchanges)) for thread in range(threads)}
    for one in writing:
        one.result()
    initiator.close()
    echoing.result()


def test_four_threads_call_on_a_channel_of_their_own_over_one_connection(
    place: ChannelServicePoint, ask: Ask, answer: Answer
) -> None:
    def serve(responder: ChannelPoint) -> None:
        for message in responder:
            responder.write(message)

    def call(initiator: ChannelPoint) -> int:
        right = 0
        for number in range(300):
            initiator.write(number, timeout=PATIENCE_S)
            right += initiator.read(timeout=PATIENCE_S) == number
        initiator.close()
        return right

    serving, calling = [], []
    for name in "abcd":
        initiator = ask(place, name)
        responder = answer(place, name)
        serving.append(Background(serve, responder))
        calling.append(Background(call, initiator))
    assert [one.result(30) for one in calling] == [300] * 4
    for one in serving:
        one.result()


def test_a_new_service_point_at_the_same_address_gets_the_new_channels(
    place: ChannelServicePoint, ask: Ask, answer: Answer
) -> None:
    ask(place, "old")
    answer(place, "old")
    place.stop()
    with Channel.start_service_point_thread(place.address) as again:
        ask(again, "new").write(b"for the new one")
        responder = again.open_responder_channel(None, "new", timeout=2)
        assert responder.read(timeout=PATIENCE_S) == b"for the new one"
        responder.close()


# --- stopping ---------------------------------------------------------------------------------


def test_stopping_refuses_what_is_queued(place: ChannelServicePoint, ask: Ask) -> None:
    shared, own = ask(place, "shared"), ask(place, "own", dedicated=True)
    shared.write(b"early")
    eventually(lambda: len(_queued(place)) == 2)
    place.stop()
    for initiator in (shared, own):
        with pytest.raises(RefusedError) as caught:
            initiator.read(timeout=PATIENCE_S)
        assert caught.value.code == "stopped"
    receipt = shared.close()
    assert receipt.unconfirmed == range(1, 2)


def test_stopping_wakes_every_waiting_responder(place: ChannelServicePoint) -> None:
    opening = [
        Background(place.open_responder_channel, None, correlator).blocked()
        for correlator in ("a", "a", "b", None)
    ]
    place.stop()
    for one in opening:
        assert isinstance(one.error(2), ClosedError)


def test_stopping_again_does_nothing_and_a_responder_is_told(place: ChannelServicePoint) -> None:
    place.stop()
    place.stop()
    with pytest.raises(ClosedError):
        place.open_responder_channel(None, "x", timeout=0)
    assert not place.statistics().is_open


def test_open_channels_outlive_their_service_point(
    place: ChannelServicePoint, ask: Ask, answer: Answer
) -> None:
    initiator = ask(place, "long")
    responder = answer(place, "long")
    place.stop()
    initiator.write(b"still here")
    assert responder.read(timeout=PATIENCE_S) == b"still here"
    responder.write(b"me too")
    assert initiator.read(timeout=PATIENCE_S) == b"me too"
    responder.close()
    with pytest.raises(EndOfMessages):
        initiator.read(timeout=PATIENCE_S)


def test_a_port_is_free_again_after_the_stop(place: ChannelServicePoint) -> None:
    address = ComPointAddress(place.address.protocol, place.address.port)
    with pytest.raises(BusyError):
        Channel.start_service_point_thread(address)
    place.stop()
    Channel.start_service_point_thread(address).stop()


def test_the_waiting_list_shows_who_is_queued_and_who_waits(
    place: ChannelServicePoint, ask: Ask
) -> None:  # data61/MP-SPDZ #875
    started_at = time.monotonic()
    initiator = ask(place, "queued")
    initiator.write(b"12345")
    initiator.write(b"67890")
    Background(place.open_responder_channel, None, "awaited").blocked()
    eventually(lambda: [one.messages for one in place.waiting().queued] == [2])
    waiting = place.waiting()
    (queued,), (responder,) = waiting.queued, waiting.responders
    assert (queued.correlator, queued.bytes) == ("queued", 10 + 2 * MESSAGE_TOLL_BYTES)
    assert 0 <= queued.age_s <= time.monotonic() - started_at
    assert queued.peer
    assert responder.correlator == "awaited"


# --- the wrong door -----------------------------------------------------------------------------


def test_a_plain_initiator_at_a_service_point_is_told_to_open_a_channel(
    place: ChannelServicePoint,
) -> None:
    with (
        ComManager.com_point(COMPOINT_INITIATOR, _address(place)) as point,
        pytest.raises(RefusedError, match="open a channel") as caught,
    ):
        point.read(timeout=PATIENCE_S)
    assert caught.value.code == "wrong mode"


def test_a_channel_at_a_plain_server_is_told_to_open_a_plain_point(protocol: str) -> None:
    from compoint import COMPOINT_SERVER

    with ComManager.com_point(COMPOINT_SERVER, ComPointAddress(protocol, 0)) as server:
        address = ComPointAddress(protocol, "localhost", server.address.port)
        point = Channel.open_initiator_channel(address, None, "x")
        with pytest.raises(RefusedError) as caught:
            point.read(timeout=PATIENCE_S)
        assert caught.value.code == "wrong mode"
        point.close()
