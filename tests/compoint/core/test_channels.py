"""Channels on one connection: announced, queued, claimed, refused, apart from each other."""

from __future__ import annotations

from typing import Any

import pytest
from wire_play import (
    FIRST,
    NOBODY,
    TOLL,
    WINDOW,
    Frame,
    Scene,
    announce,
    claim,
    credit,
    goodbye,
    message,
    more,
    reset,
    start,
    u64,
)

from compoint.core.codes import Code, Ending, How
from compoint.core.connection import Happening
from compoint.core.framing import ASK_ACK, Kind
from compoint.core.stream import Stream
from compoint.limits import CHANNELS_PER_CONNECTION, CORRELATOR_BYTES


def announced(scene: Scene, number: int = 1, correlator: str = "orders") -> Stream:
    """The peer announces a channel, and that is seen."""
    scene.peer_says(announce(number, correlator))
    stream = scene.machine.streams[number]
    scene.we_see((Happening.ANNOUNCED, stream))
    return stream


# --- in good order ----------------------------------------------------------------------------


def test_a_channel_is_announced_and_may_be_written_at_once(caller: Scene) -> None:
    stream = caller.machine.announce("order-17")
    caller.we_write(b"early", stream)
    caller.we_say(announce(1, "order-17"), message(b"early"))
    assert (stream.correlator, stream.is_claimed, stream.out_limit) == ("order-17", False, FIRST)
    other = caller.machine.announce("order-18")
    caller.we_say(announce(2, "order-18"))
    assert other.number == 2


def test_a_claim_brings_the_responder_and_its_credit(caller: Scene) -> None:
    stream = caller.machine.announce("orders")
    caller.peer_says(claim(1, WINDOW))
    caller.we_see(caller.touched(stream))
    assert (stream.is_claimed, stream.out_limit) == (True, WINDOW)


def test_a_claim_without_more_credit_is_told_all_the_same(caller: Scene) -> None:
    stream = caller.machine.announce("orders")
    caller.peer_says(claim(1, FIRST))
    caller.we_see(caller.touched(stream))


def test_a_channel_announced_early_waits_for_its_responder(service: Scene) -> None:
    service.now = 7.0
    stream = announced(service)
    assert (stream.correlator, stream.is_claimed) == ("orders", False)
    assert (stream.out_limit, stream.in_limit) == (WINDOW, FIRST)
    service.peer_says(message(b"early"))
    service.we_see(service.touched(stream))
    service.machine.claim(stream)
    service.we_say(claim(1, WINDOW, ack=1))
    assert service.we_read(stream) == b"early"
    service.silence()


def test_messages_behind_the_announcement_are_told_after_it(service: Scene) -> None:
    service.peer_says(announce(1), message(b"early"))
    stream = service.machine.streams[1]
    service.we_see((Happening.ANNOUNCED, stream), service.touched(stream))


def test_a_queued_channel_holds_no_more_than_its_first_credit(service: Scene) -> None:
    stream = announced(service)
    service.peer_says(start(1 << 30))
    for _ in range(15):
        service.peer_says(more(bytes(4096)))
    service.peer_says(more(bytes(4096 - TOLL)))
    service.we_say()
    assert stream.ending is None
    assert stream.unread_bytes == FIRST
    service.peer_says(more(b"x"))
    service.we_say(reset(Code.CREDIT_OVERRUN, "1 bytes more than this side allowed"))


def test_a_channel_whose_initiator_left_can_be_claimed_for_what_it_wrote(service: Scene) -> None:
    stream = announced(service)
    service.peer_says(message(b"a letter"), goodbye(flags=ASK_ACK))
    service.we_say(credit(FIRST, ack=1))
    service.machine.claim(stream)
    service.we_say(claim(1, WINDOW, ack=1))
    assert service.we_read(stream) == b"a letter"


def test_a_forgotten_channel_leaves_its_neighbours_alone(service: Scene) -> None:
    first, second = announced(service, 1), announced(service, 2)
    service.we_write(b"to first", first)
    service.we_write(b"to second", second)
    service.machine.forget(first)
    service.peer_says(message(b"late", stream=1), message(b"in time", stream=2))
    service.we_say(message(b"to first"), message(b"to second", stream=2, ack=1))
    assert list(second.inbox) == [b"in time"]
    assert not first.inbox


# --- refusals ---------------------------------------------------------------------------------


def test_a_queued_channel_can_be_refused(service: Scene) -> None:
    stream = announced(service)
    service.machine.reset(stream, Code.QUEUE_FULL, "100 channels are waiting here", 2.0)
    service.we_say(reset(Code.QUEUE_FULL, "100 channels are waiting here", 2.0))


def test_a_refused_initiator_knows_the_code(caller: Scene) -> None:
    stream = caller.machine.announce("orders")
    caller.peer_says(reset(Code.QUEUE_FULL, "full", 2.0))
    assert stream.ending == Ending(How.REFUSED, Code.QUEUE_FULL, "full", 2.0)


def test_a_claimed_channel_cannot_be_refused_any_more(caller: Scene) -> None:
    stream = caller.machine.announce("orders")
    caller.peer_says(claim(1), reset(Code.STOPPED, "stopping"))
    assert stream.ending == Ending(How.BROKEN, Code.STOPPED, "stopping")


def test_a_connection_that_stops_refuses_only_who_was_not_answered(caller: Scene) -> None:
    answered, waiting = caller.machine.announce("a"), caller.machine.announce("b")
    caller.peer_says(claim(1), reset(Code.STOPPED, "stopping", stream=0))
    assert answered.ending is not None
    assert waiting.ending is not None
    assert (answered.ending.how, waiting.ending.how) == (How.BROKEN, How.REFUSED)


def refused(scene: Scene, said: Frame, code: Code, text: str) -> None:
    """Only this announcement is refused; a neighbour goes on, and the next one comes through."""
    neighbour = announced(scene, 4)
    number = said.stream
    scene.peer_says(said, message(b"unheard", stream=number), message(b"heard", stream=4))
    scene.we_say(reset(code, text, stream=number))
    scene.we_see(scene.touched(neighbour))
    assert list(neighbour.inbox) == [b"heard"]
    assert list(scene.machine.streams) == [4]
    announced(scene, 9)
    scene.silence()


def test_a_correlator_of_a_mebibyte_refuses_only_its_channel(service: Scene) -> None:
    said = Frame(Kind.ANNOUNCE, u64(WINDOW) + bytes(1 << 20), 5)
    text = "a correlator of 1048576 bytes, allowed are 1024"
    refused(service, said, Code.CORRELATOR_TOO_LONG, text)


def test_a_correlator_may_be_as_long_as_the_limit_says(service: Scene) -> None:
    announced(service, 1, "x" * CORRELATOR_BYTES)
    text = "a correlator of 1025 bytes, allowed are 1024"
    said = announce(5, "x" * (CORRELATOR_BYTES + 1))
    service.peer_says(said)
    service.we_say(reset(Code.CORRELATOR_TOO_LONG, text, stream=5))


def test_a_correlator_that_is_no_text_refuses_only_its_channel(service: Scene) -> None:
    said = Frame(Kind.ANNOUNCE, u64(WINDOW) + b"\xff", 5)
    text = (
        "a damaged ANNOUNCE frame "
        "('utf-8' codec can't decode byte 0xff in position 0: invalid start byte)"
    )
    refused(service, said, Code.BAD_FRAME, text)


def test_half_an_announcement_refuses_only_its_channel(service: Scene) -> None:
    text = (
        "a damaged ANNOUNCE frame (unpack_from requires a buffer of at least 8 bytes for "
        "unpacking 8 bytes at offset 0 (actual buffer size is 3))"
    )
    refused(service, Frame(Kind.ANNOUNCE, b"abc", 5), Code.BAD_FRAME, text)


def test_a_number_lower_than_the_last_is_refused(service: Scene) -> None:
    text = "channel 3 or a later one was announced"
    refused(service, announce(3), Code.DUPLICATE_CHANNEL, text)


def test_a_number_used_before_is_refused_though_its_channel_is_gone(service: Scene) -> None:
    stream = announced(service, 2)
    service.machine.reset(stream, Code.EXPIRED, "late")
    service.machine.take_output()
    service.machine.take_events()
    text = "channel 2 or a later one was announced"
    refused(service, announce(2), Code.DUPLICATE_CHANNEL, text)


def test_the_number_of_a_living_channel_ends_that_channel_alone(service: Scene) -> None:
    first, second = announced(service, 1), announced(service, 2)
    service.peer_says(announce(1, "other"))
    service.we_say(reset(Code.DUPLICATE_CHANNEL, "channel 1 was announced before"))
    service.we_see(service.touched(first))
    assert second.ending is None


def test_too_many_channels_refuse_only_the_next(service: Scene) -> None:
    streams = service.machine.streams
    for number in range(1, CHANNELS_PER_CONNECTION + 1):
        streams[number] = Stream(number, 0, FIRST)
    service.machine._highest = CHANNELS_PER_CONNECTION
    service.peer_says(announce(70_000))
    text = "65536 channels are open on this connection"
    service.we_say(reset(Code.TOO_MANY_CHANNELS, text, stream=70_000))
    service.machine.forget(streams[5])
    announced(service, 70_001)


@pytest.mark.parametrize("whom", ["caller", "initiator", "responder"])
def test_who_takes_no_channels_says_so(whom: str, request: Any) -> None:
    scene: Scene = request.getfixturevalue(whom)
    scene.peer_says(announce(0xFFFF_FFFF))
    text = "this side takes no channels"
    scene.we_say(reset(Code.WRONG_MODE, text, stream=0xFFFF_FFFF))
    scene.we_see()


def test_a_peer_cannot_use_up_our_numbers(caller: Scene) -> None:
    caller.peer_says(announce(0xFFFF_FFFF))
    assert caller.machine.announce("orders").number == 1


def test_the_numbers_of_a_connection_are_used_up_at_last(caller: Scene) -> None:
    caller.machine._highest = 0xFFFF_FFFE
    assert caller.machine.announce("last").number == 0xFFFF_FFFF
    with pytest.raises(OverflowError, match="no more than 4294967295 channels"):
        caller.machine.announce("one more")


def test_a_channel_announced_on_a_dead_connection_is_over_at_once(caller: Scene) -> None:
    caller.machine.cut("gone")
    caller.we_see(NOBODY)
    stream = caller.machine.announce("orders")
    assert stream.ending == caller.machine.ending
    caller.we_say()


# --- frames in the wrong place ------------------------------------------------------------------


def test_a_claim_by_the_initiator_ends_that_channel(service: Scene) -> None:
    announced(service)
    service.peer_says(claim(1))
    service.we_say(reset(Code.BAD_FRAME, "a damaged CLAIM frame (nobody waits for it)"))


def test_a_second_claim_ends_that_channel(caller: Scene) -> None:
    caller.machine.announce("orders")
    caller.machine.take_output()
    caller.peer_says(claim(1), claim(1))
    caller.we_say(reset(Code.BAD_FRAME, "a damaged CLAIM frame (nobody waits for it)"))


def test_a_frame_for_a_channel_never_announced_is_answered_once_each(service: Scene) -> None:
    service.peer_says(message(b"x", stream=7))
    text = "channel 7 was never announced"
    service.we_say(reset(Code.NO_SUCH_CHANNEL, text, stream=7))
    service.we_see()


def test_resets_are_never_answered_with_resets(service: Scene, caller: Scene) -> None:
    for scene in (service, caller):
        scene.peer_says(
            reset(Code.NO_SUCH_CHANNEL, "unknown", stream=7), goodbye(stream=8, flags=ASK_ACK)
        )
        scene.silence()


def test_two_machines_that_disagree_come_to_rest(service: Scene, caller: Scene) -> None:
    caller.machine._highest = 40
    stream = caller.machine.announce("orders")
    caller.machine.take_output()  # lost: the service never hears of the channel
    caller.we_write(b"hello", stream)
    for _ in range(3):
        service.peer_says(b"".join(caller.machine.take_output()))
        caller.peer_says(b"".join(service.machine.take_output()))
    assert stream.ending is not None
    assert stream.ending.code is Code.NO_SUCH_CHANNEL
    service.we_say()
    caller.we_say()
