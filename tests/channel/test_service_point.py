"""A service point over real sockets: who is found, who is told what, who is woken.

What holds over every transport is in tests/contract/test_rendezvous.py.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any, Final

import pytest

from channel import Channel, ChannelPoint, ChannelServicePoint, service_point
from compoint import (
    COMPOINT_INITIATOR,
    ClosedError,
    ComManager,
    ComPointAddress,
    ConnectError,
    EndOfMessages,
    PointTimeout,
    RefusedError,
    SessionLostError,
    UsageError,
)
from compoint.core.framing import Kind
from compoint.core.greeting import Mode
from compoint.deadline import Deadline
from compoint.drive.plain import open_plain
from compoint.drive.waiter import Waiter
from compoint.limits import CORRELATOR_BYTES
from compoint.testing import Background, ScriptedPeer, configured, eventually

PATIENCE_S: Final = 10.0

Ask = Callable[..., ChannelPoint]
Answer = Callable[..., ChannelPoint]


def queued(place: ChannelServicePoint) -> list[str]:
    return [one.correlator for one in place.waiting().queued]


def announcement(correlator: bytes) -> bytes:
    return (1 << 20).to_bytes(8, "big") + correlator


# --- correlators ------------------------------------------------------------------------------

_NO_CORRELATORS: Final = [
    ("x" * (CORRELATOR_BYTES + 1), "1025 bytes, allowed are 1024"),
    ("ä" * (CORRELATOR_BYTES // 2 + 1), "1026 bytes, allowed are 1024"),
    ("half \ud83d", "no valid text"),
    (b"bytes", "not bytes"),
    (17, "not int"),
]


@pytest.mark.parametrize(("correlator", "words"), _NO_CORRELATORS)
def test_what_is_no_correlator_is_refused_on_both_sides(
    place: ChannelServicePoint, correlator: Any, words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        Channel.open_initiator_channel(place.address, None, correlator)
    with pytest.raises(UsageError, match=words):
        place.open_responder_channel(None, correlator, timeout=0)
    assert place.statistics().connections == 0


def test_an_initiator_needs_a_correlator(place: ChannelServicePoint) -> None:
    nothing: Any = None
    with pytest.raises(UsageError, match="not NoneType"):
        Channel.open_initiator_channel(place.address, None, nothing)


@pytest.mark.parametrize("correlator", ["order 17", "\N{SNOWMAN} ü\n\0", "\U0001f4e6" * 256, ""])
def test_both_ends_and_the_list_know_the_correlator(
    place: ChannelServicePoint, ask: Ask, answer: Answer, correlator: str
) -> None:
    initiator = ask(correlator)
    eventually(lambda: queued(place) == [correlator])
    assert initiator.correlator == answer(correlator).correlator == correlator
    assert repr(correlator) in repr(initiator)


# --- who gets which ---------------------------------------------------------------------------


def test_the_oldest_channel_is_next_whatever_its_correlator(
    place: ChannelServicePoint, ask: Ask, answer: Answer
) -> None:
    for number, correlator in enumerate("abac"):
        ask(correlator, dedicated=number % 2 == 0).write(number)
        eventually(lambda: len(queued(place)) == number + 1)  # noqa: B023
    assert queued(place) == ["a", "b", "a", "c"]
    taken = [answer(wanted) for wanted in (None, "a", "c", None)]
    assert [point.read(timeout=PATIENCE_S) for point in taken] == [0, 2, 3, 1]


def test_a_responder_of_this_correlator_comes_before_one_for_any(
    place: ChannelServicePoint, ask: Ask
) -> None:
    for_any = Background(place.open_responder_channel).blocked()
    for_this = Background(place.open_responder_channel, None, "this").blocked()
    ask("this")
    for_this.result().abort("the test is over")
    assert not for_any.is_over
    ask("other")
    with for_any.result() as point:
        assert point.correlator == "other"


def test_as_many_responders_as_channels_all_find_one(place: ChannelServicePoint, ask: Ask) -> None:
    opening = [Background(place.open_responder_channel).blocked() for _ in range(6)]
    for correlator in "abcabc":
        ask(correlator)
    found = [one.result() for one in opening]
    assert sorted(point.correlator for point in found) == ["a", "a", "b", "b", "c", "c"]
    for point in found:
        point.abort("the test is over")


def test_of_two_arrivals_each_wakes_a_responder_though_the_first_is_slow(
    place: ChannelServicePoint, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_awake, may_go_on = threading.Event(), threading.Event()

    class SlowWaiter(Waiter):
        def sleep(self, timeout_s: float | None) -> bool:
            woken = super().sleep(timeout_s)
            if threading.current_thread() is slow.thread:
                is_awake.set()
                may_go_on.wait(PATIENCE_S)
            return woken

    monkeypatch.setattr(service_point, "Waiter", SlowWaiter)
    slow: Background[ChannelPoint] = Background(place.open_responder_channel, None, "a")
    slow.blocked()
    other = Background(place.open_responder_channel, None, "a").blocked()
    ask("a")
    assert is_awake.wait(PATIENCE_S)
    ask("a")
    try:
        other.result().abort("the test is over")
    finally:
        may_go_on.set()
    slow.result().abort("the test is over")


def test_a_responder_for_any_that_takes_another_channel_passes_its_call_on(
    place: ChannelServicePoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two channels arrive; the first one's responder is slow, and the one called for the
    second takes the first. The second must then call for the third responder."""
    may_go_on = threading.Event()

    class SlowWaiter(Waiter):
        def sleep(self, timeout_s: float | None) -> bool:
            woken = super().sleep(timeout_s)
            if threading.current_thread() is slow.thread:
                may_go_on.wait(PATIENCE_S)
            return woken

    monkeypatch.setattr(service_point, "Waiter", SlowWaiter)
    slow: Background[ChannelPoint] = Background(
        place.open_responder_channel, None, "a", timeout=PATIENCE_S
    )
    slow.blocked()
    others = [Background(place.open_responder_channel).blocked() for _ in range(2)]
    with ScriptedPeer.visit(place.address.port) as peer:
        peer.greet(Mode.CHANNELS)
        peer.hear_greeting()
        for number, correlator in enumerate([b"a", b"b"]):
            peer.say_frame(Kind.ANNOUNCE, announcement(correlator), stream=number + 1)
        found = [one.result(2) for one in others]
        assert sorted(point.correlator for point in found) == ["a", "b"]
        place.stop()
        may_go_on.set()
        assert isinstance(slow.error(), ClosedError)
        for point in found:
            point.abort("the test is over")


def test_a_responder_in_vain_is_told_who_is_here(place: ChannelServicePoint, ask: Ask) -> None:
    with pytest.raises(PointTimeout, match="nobody is queued"):
        place.open_responder_channel(None, "x", timeout=0)
    for number, correlator in enumerate("abcd"):
        ask(correlator)
        eventually(lambda: len(queued(place)) == number + 1)  # noqa: B023
    with pytest.raises(PointTimeout, match="queued are: 'a', 'b', 'c', …"):
        place.open_responder_channel(None, "x", timeout=0)


# --- what is left of an initiator ---------------------------------------------------------------

_INITIATOR: Final = """
import sys
from channel import Channel
from compoint import ComPointAddress
point = Channel.open_initiator_channel(ComPointAddress.parse(sys.argv[1]), None, "left")
for number in range(int(sys.argv[2])):
    point.write(number)
if int(sys.argv[2]):
    point.flush()
print("ready", flush=True)
point.read()
"""


def _killed_after(place: ChannelServicePoint, messages: int) -> None:
    """An initiator in a process of its own that is killed while its channel is queued."""
    with subprocess.Popen(
        [sys.executable, "-c", _INITIATOR, str(place.address), str(messages)],
        stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        eventually(lambda: [one.messages for one in place.waiting().queued] == [messages])
        process.kill()


def test_what_a_killed_initiator_had_said_is_still_delivered(
    place: ChannelServicePoint, answer: Answer
) -> None:
    _killed_after(place, messages=3)
    eventually(lambda: place.statistics().connections == 0)
    responder = answer("left")
    assert [responder.read(timeout=PATIENCE_S) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(SessionLostError):
        responder.read(timeout=PATIENCE_S)


def test_a_killed_initiator_that_had_said_nothing_leaves_the_queue(
    place: ChannelServicePoint,
) -> None:
    _killed_after(place, messages=0)
    eventually(lambda: queued(place) == [])
    assert place.statistics().refused == 0


def test_an_initiator_that_closed_without_a_word_is_found_and_has_said_nothing(
    place: ChannelServicePoint, ask: Ask, answer: Answer
) -> None:
    ask("hello and goodbye").close()
    responder = answer("hello and goodbye")
    with pytest.raises(EndOfMessages):
        responder.read(timeout=PATIENCE_S)


# --- refusals -----------------------------------------------------------------------------------


def _check_refused(point: ChannelPoint, code: str) -> None:
    """Every verb says so, and the receipt tells that nothing was taken."""
    verbs: list[Callable[[], object]] = [
        lambda: point.read(timeout=PATIENCE_S),
        lambda: point.write(b"more", timeout=PATIENCE_S),
        lambda: point.flush(timeout=PATIENCE_S),
    ]
    for verb in verbs:
        with pytest.raises(RefusedError) as caught:
            verb()
        assert caught.value.code == code
    receipt = point.close(timeout=PATIENCE_S)
    assert (receipt.written, receipt.confirmed) == (1, 0)
    assert receipt.reason


def test_every_verb_of_a_refused_channel_says_why(ask: Ask, place: ChannelServicePoint) -> None:
    with configured(channel={"maxQueuedPerConnection": 1}):
        full = Channel.start_service_point_thread(ComPointAddress("tcp", 0))
    with full:
        ask("first", at=full.address)
        late = ask("late", at=full.address)
        late.write(b"lost")
        _check_refused(late, "queue full")


def test_a_path_that_nobody_serves_is_refused() -> None:
    with Channel.start_service_point_thread(ComPointAddress("tcp", 0, "/orders")) as place:
        elsewhere = ComPointAddress("tcp", "127.0.0.1", place.address.port, "/bills")
        with pytest.raises(RefusedError, match="nobody serves the path '/bills' here") as caught:
            Channel.open_initiator_channel(elsewhere, None, "x").read(timeout=PATIENCE_S)
        assert caught.value.code == "no such path"
        right = ComPointAddress("tcp", "127.0.0.1", place.address.port, "/orders")
        with Channel.open_initiator_channel(right, None, "x") as initiator:
            initiator.write(b"found")
            with place.open_responder_channel(None, "x", timeout=PATIENCE_S) as responder:
                assert responder.read(timeout=PATIENCE_S) == b"found"


def test_a_claimed_channel_leaves_its_share_of_the_queue_to_the_next(
    ask: Ask, place: ChannelServicePoint
) -> None:
    with configured(channel={"maxQueuedPerConnection": 1}):
        narrow = Channel.start_service_point_thread(ComPointAddress("tcp", 0))
    with narrow:
        for _ in range(3):
            ask("next", at=narrow.address).write(b"in")
            with narrow.open_responder_channel(None, "next", timeout=PATIENCE_S) as responder:
                assert responder.read(timeout=PATIENCE_S) == b"in"
        assert narrow.statistics().refused == 0


# --- looking --------------------------------------------------------------------------------------


def test_the_counters_tell_what_has_happened(
    place: ChannelServicePoint, ask: Ask, answer: Answer
) -> None:
    with ScriptedPeer.visit(place.address.port) as foreign:
        foreign.say(b"SSH-2.0-OpenSSH_9.6\r\n")
        foreign.hear_all()
    ask("a")
    ask("b").write(b"12345")
    eventually(lambda: place.statistics().queued_bytes)
    answer("a")
    seen = place.statistics()
    assert (seen.connections, seen.queued, seen.claimed, seen.foreign) == (1, 1, 1, 1)
    assert (seen.queued_bytes, seen.refused, seen.ungreeted, seen.is_open) == (69, 0, 0, True)


def test_the_status_can_be_asked_for_from_this_machine(
    place: ChannelServicePoint, ask: Ask
) -> None:
    ask("order-17").write(b"12345")
    waiting = Background(place.open_responder_channel, None, "order-18").blocked()
    eventually(lambda: [one.messages for one in place.waiting().queued] == [1])
    settings = ComManager.settings().point
    with open_plain(
        ComManager.opener("tcp"), place.address, settings, Deadline(PATIENCE_S), Mode.STATUS
    ) as point:
        status = point.read(timeout=PATIENCE_S)
        with pytest.raises(EndOfMessages):
            point.read(timeout=PATIENCE_S)
    assert status["address"] == str(place.address)
    assert status["connections"] == 1
    assert (status["queued_in_all"], status["responders_in_all"]) == (1, 1)
    assert [one["correlator"] for one in status["queued"]] == ["order-17"]
    assert [one["correlator"] for one in status["responders"]] == ["order-18"]
    place.stop()
    assert isinstance(waiting.error(), ClosedError)


def test_who_asked_for_the_status_is_served_after_the_stop_too(
    place: ChannelServicePoint,
) -> None:
    with ScriptedPeer.visit(place.address.port) as peer:
        peer.greet(Mode.STATUS)
        peer.hear_greeting()
        assert [peer.hear_frame()[0] for _ in range(2)] == [Kind.MESSAGE, Kind.GOODBYE]
        place.stop()
        peer.say_frame(Kind.GOODBYE, bytes(10), ack=1)
        peer.hear_all()


def test_a_conversation_may_end_while_its_service_point_stops() -> None:
    settings = ComManager.settings().point
    for _ in range(60):  # without care, one of ten fails
        with Channel.start_service_point_thread(ComPointAddress("tcp", 0)) as place:
            address, opener = place.address, ComManager.opener("tcp")
            with open_plain(opener, address, settings, Deadline(PATIENCE_S), Mode.STATUS) as point:
                assert point.read(timeout=PATIENCE_S)["queued"] == []
        assert not place.statistics().is_open


def test_a_plain_point_is_sent_to_the_right_door(place: ChannelServicePoint) -> None:
    with ComManager.com_point(COMPOINT_INITIATOR, place.address) as point:
        with pytest.raises(RefusedError, match="open a channel with a correlator") as caught:
            point.read(timeout=PATIENCE_S)
        assert caught.value.code == "wrong mode"


# --- stopping -------------------------------------------------------------------------------------


def test_a_stopped_service_point_takes_no_channels_and_the_open_ones_live_on(
    place: ChannelServicePoint, ask: Ask, answer: Answer
) -> None:
    initiator = ask("old")
    responder = answer("old")
    place.stop()
    # Refused on the old connection, or, where its goodbye was read already, on none.
    with pytest.raises((RefusedError, ConnectError)):
        ask("new").read(timeout=PATIENCE_S)
    initiator.write(b"still")
    assert responder.read(timeout=PATIENCE_S) == b"still"


def test_stopping_ends_the_thread(place: ChannelServicePoint) -> None:
    name = f"compoint-service-point {place.address}"
    assert name in [thread.name for thread in threading.enumerate()]
    place.stop()
    assert name not in [thread.name for thread in threading.enumerate()]
    assert repr(place) == f"<ChannelServicePoint {place.address} (stopped)>"


def test_leaving_the_block_stops(ask: Ask) -> None:
    with Channel.start_service_point_thread(ComPointAddress("tcp", 0)) as place:
        queued_one = ask("x", at=place.address)
        eventually(lambda: queued(place) == ["x"])
    with pytest.raises(RefusedError):
        queued_one.read(timeout=PATIENCE_S)
    with pytest.raises(ClosedError):
        place.open_responder_channel(None, "x")
