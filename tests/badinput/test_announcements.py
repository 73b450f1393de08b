"""A peer that announces channels against the rules, or more of them than anybody wants."""

from __future__ import annotations

import collections
import struct
import time
import tracemalloc
from typing import TYPE_CHECKING, Final

import pytest
from rude import PATIENCE_S, Pair, announcement, hear_reset, next_frame

from channel import Channel, ChannelServicePoint
from compoint import ComPointAddress, SessionLostError
from compoint.core.codes import Code, decode_reason
from compoint.core.framing import HEADER, Kind
from compoint.core.greeting import Mode
from compoint.limits import (
    FIRST_CREDIT_BYTES,
    MESSAGE_TOLL_BYTES,
    MIB,
    QUEUED_CHANNELS,
    QUEUED_CHANNELS_PER_CONNECTION,
)
from compoint.testing import Background, ScriptedPeer, configured, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

FLOOD: Final = 100_000


@pytest.fixture
def place() -> Iterator[ChannelServicePoint]:
    with Channel.start_service_point_thread(ComPointAddress("tcp", 0)) as place:
        yield place


@pytest.fixture
def good(place: ChannelServicePoint) -> Iterator[Pair]:
    """A channel in good order at the same service point; never notices anything."""
    with (
        Channel.open_initiator_channel(place.address, None, "good") as initiator,
        place.open_responder_channel(None, "good", timeout=PATIENCE_S) as responder,
    ):
        pair = Pair(initiator, responder)
        pair.check()
        yield pair
        pair.check()
        initiator.close()


@pytest.fixture
def peer(place: ChannelServicePoint, good: Pair) -> Iterator[ScriptedPeer]:
    with ScriptedPeer.visit(place.address.port) as peer:
        peer.greet(Mode.CHANNELS)
        peer.hear_greeting()
        yield peer


def queued(place: ChannelServicePoint) -> list[str]:
    return [one.correlator for one in place.waiting().queued]


def check_still_welcome(place: ChannelServicePoint, peer: ScriptedPeer, number: int) -> None:
    """The connection goes on: another channel on it is queued and found."""
    peer.say_frame(Kind.ANNOUNCE, announcement(b"in order"), stream=number)
    peer.say_frame(Kind.MESSAGE, b"hello", stream=number)
    with place.open_responder_channel(None, "in order", timeout=PATIENCE_S) as point:
        assert point.read(timeout=PATIENCE_S) == b"hello"
        peer.say_frame(Kind.GOODBYE, bytes(10), stream=number)


def test_a_correlator_of_a_mebibyte(place: ChannelServicePoint, peer: ScriptedPeer) -> None:
    payload = announcement(bytes(MIB))
    tracemalloc.start()
    try:
        peer.say_frame(Kind.ANNOUNCE, payload)
        told = hear_reset(peer)
        _, most_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    text = "a correlator of 1048576 bytes, allowed are 1024"
    assert told == (Code.CORRELATOR_TOO_LONG, text)
    # What the peer says is joined once here; nothing of it is kept there.
    assert most_bytes < len(payload) + MIB // 2
    assert queued(place) == []
    check_still_welcome(place, peer, 2)


@pytest.mark.parametrize(
    ("payload", "code", "words"),
    [
        (announcement(b"x" * 1025), Code.CORRELATOR_TOO_LONG, "of 1025 bytes, allowed are 1024"),
        (announcement(b"\xff\xfe"), Code.BAD_FRAME, "a damaged ANNOUNCE frame"),
        (announcement(b"half \xed\xa0\xbd"), Code.BAD_FRAME, "a damaged ANNOUNCE frame"),
        (b"short", Code.BAD_FRAME, "a damaged ANNOUNCE frame"),
        (b"", Code.BAD_FRAME, "a damaged ANNOUNCE frame"),
    ],
    ids=["too long", "no UTF-8", "a lone surrogate", "too short", "empty"],
)
def test_an_announcement_that_is_none(
    place: ChannelServicePoint, peer: ScriptedPeer, payload: bytes, code: Code, words: str
) -> None:
    peer.say_frame(Kind.ANNOUNCE, payload)
    told, text = hear_reset(peer)
    assert told is code
    assert words in text
    assert queued(place) == []
    check_still_welcome(place, peer, 2)


def test_a_number_that_is_in_use(place: ChannelServicePoint, peer: ScriptedPeer) -> None:
    peer.say_frame(Kind.ANNOUNCE, announcement(b"first"))
    point = place.open_responder_channel(None, "first", timeout=PATIENCE_S)
    peer.say_frame(Kind.ANNOUNCE, announcement(b"second"))
    text = "channel 1 was announced before"
    assert hear_reset(peer) == (Code.DUPLICATE_CHANNEL, text)
    with pytest.raises(SessionLostError, match=f"the peer broke the rules: {text}"):
        point.read(timeout=PATIENCE_S)
    assert queued(place) == []
    check_still_welcome(place, peer, 2)


@pytest.mark.parametrize("number", [1, 5])
def test_a_number_that_was_used_or_left_out(
    place: ChannelServicePoint, peer: ScriptedPeer, number: int
) -> None:
    peer.say_frame(Kind.ANNOUNCE, announcement(b"high"), stream=7)
    eventually(lambda: queued(place) == ["high"])
    peer.say_frame(Kind.ANNOUNCE, announcement(b"low"), stream=number)
    text = f"channel {number} or a later one was announced"
    assert hear_reset(peer, stream=number) == (Code.DUPLICATE_CHANNEL, text)
    assert queued(place) == ["high"]
    check_still_welcome(place, peer, 8)


def test_the_highest_number_leaves_no_room_for_another(
    place: ChannelServicePoint, peer: ScriptedPeer
) -> None:
    peer.say_frame(Kind.ANNOUNCE, announcement(b"last"), stream=0xFFFF_FFFF)
    eventually(lambda: queued(place) == ["last"])
    peer.say_frame(Kind.ANNOUNCE, announcement(b"beyond"), stream=1)
    assert hear_reset(peer)[0] is Code.DUPLICATE_CHANNEL
    assert queued(place) == ["last"]


def test_a_queued_channel_that_says_more_than_its_first_credit(
    place: ChannelServicePoint, peer: ScriptedPeer
) -> None:
    message = bytes(1000)
    allowed = FIRST_CREDIT_BYTES // (1000 + MESSAGE_TOLL_BYTES)
    peer.say_frame(Kind.ANNOUNCE, announcement(b"greedy"))
    for _ in range(allowed + 1):
        peer.say_frame(Kind.MESSAGE, message)
    code, text = hear_reset(peer)
    assert code is Code.CREDIT_OVERRUN
    assert place.statistics().queued_bytes <= FIRST_CREDIT_BYTES
    # What it was allowed to say is still delivered; then its responder is told why it ended.
    point = place.open_responder_channel(None, "greedy", timeout=PATIENCE_S)
    assert [point.read(timeout=PATIENCE_S) for _ in range(allowed)] == [message] * allowed
    with pytest.raises(SessionLostError, match=text):
        point.read(timeout=PATIENCE_S)
    check_still_welcome(place, peer, 2)


def test_a_queued_channel_cannot_be_claimed_by_its_initiator(
    place: ChannelServicePoint, peer: ScriptedPeer
) -> None:
    peer.say_frame(Kind.ANNOUNCE, announcement(b"mine"))
    peer.say_frame(Kind.CLAIM, struct.pack("!Q", MIB))
    code, text = hear_reset(peer)
    assert code is Code.BAD_FRAME
    assert "nobody waits for it" in text
    eventually(lambda: queued(place) == [])
    check_still_welcome(place, peer, 2)


def _flood(count: int, name: bytes) -> bytes:
    payload = announcement(name)
    return b"".join(
        HEADER.pack(Kind.ANNOUNCE, 0, 0, number, 0, len(payload)) + payload
        for number in range(1, count + 1)
    )


def _hear_refusals(peer: ScriptedPeer, count: int) -> collections.Counter[tuple[Code, str]]:
    """The codes and sentences of so many resets."""
    heard: collections.Counter[tuple[Code, str]] = collections.Counter()
    for _ in range(count):
        kind, _, payload = next_frame(peer)
        assert kind == Kind.RESET
        heard[decode_reason(payload)[:2]] += 1
    return heard


def test_a_hundred_thousand_announcements_that_nobody_claims(
    place: ChannelServicePoint, peer: ScriptedPeer, good: Pair
) -> None:
    """One peer fills its share of the queue; everything beyond is refused with a code, and
    everybody else finds room."""
    started_at = time.monotonic()
    flood = _flood(FLOOD, b"nobody")
    flooding = Background(peer.say, flood)
    refused = FLOOD - QUEUED_CHANNELS_PER_CONNECTION
    exchanges = 0
    while place.statistics().refused < refused:
        good.check()
        exchanges += 1
    flooding.result()
    assert exchanges > 1
    text = f"{QUEUED_CHANNELS_PER_CONNECTION} channels of this connection are waiting"
    assert _hear_refusals(peer, refused) == {(Code.QUEUE_FULL, text): refused}
    seen = place.statistics()
    assert (seen.queued, seen.refused) == (QUEUED_CHANNELS_PER_CONNECTION, refused)
    with (
        Channel.open_initiator_channel(place.address, None, "somebody") as initiator,
        place.open_responder_channel(None, "somebody", timeout=PATIENCE_S) as responder,
    ):
        Pair(initiator, responder).check()
        initiator.close()
    peer.hang_up()
    eventually(lambda: place.statistics().queued == 0)
    assert time.monotonic() - started_at < 10


def test_several_peers_together_fill_the_queue_and_no_more(
    place: ChannelServicePoint, good: Pair
) -> None:
    peers = [ScriptedPeer.visit(place.address.port) for _ in range(3)]
    try:
        flood = _flood(QUEUED_CHANNELS_PER_CONNECTION, b"nobody")
        for peer in peers:
            peer.greet(Mode.CHANNELS)
            peer.say(flood)
            peer.hear_greeting()
        refused = 3 * QUEUED_CHANNELS_PER_CONNECTION - QUEUED_CHANNELS
        eventually(lambda: place.statistics().refused == refused, PATIENCE_S)
        assert place.statistics().queued == QUEUED_CHANNELS
    finally:
        for peer in peers:
            peer.hang_up()
    eventually(lambda: place.statistics().queued == 0)


def test_queued_channels_hold_no_more_bytes_than_allowed() -> None:
    with configured(channel={"maxQueuedBytes": "1 MiB"}):
        place = Channel.start_service_point_thread(ComPointAddress("tcp", 0))
    with place, ScriptedPeer.visit(place.address.port) as peer:
        peer.greet(Mode.CHANNELS)
        peer.hear_greeting()
        message = bytes(16_000)
        for number in range(1, 41):
            peer.say_frame(Kind.ANNOUNCE, announcement(b"%d" % number), stream=number)
            for _ in range(4):
                peer.say_frame(Kind.MESSAGE, message, stream=number)
        allowed = MIB // (4 * (16_000 + MESSAGE_TOLL_BYTES))
        eventually(lambda: place.statistics().refused == 40 - allowed)
        assert place.statistics().queued_bytes <= MIB
        kind, number, payload = next_frame(peer)
        assert (kind, number) == (Kind.RESET, allowed + 1)
        assert decode_reason(payload)[0] is Code.QUEUE_BYTES
