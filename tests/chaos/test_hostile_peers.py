"""Peers that greet properly and then break the rules: each gets its code and its sentence,
the others never notice (promises 7 and 12)."""

from __future__ import annotations

import struct
import tracemalloc
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

import pytest

from channel import Channel, ChannelServicePoint
from compoint import (
    COMPOINT_INITIATOR,
    COMPOINT_SERVER,
    ComManager,
    ComPointAddress,
    ComPointException,
    Fate,
    SessionLostError,
)
from compoint.core.codes import Code
from compoint.core.framing import Kind
from compoint.core.greeting import Mode
from compoint.limits import CORRELATOR_BYTES, GIB, MIB
from compoint.testing import ScriptedPeer, ScriptedServer, configured, eventually

if TYPE_CHECKING:
    from compoint.point import ServerComPoint

PATIENCE_S: Final = 5.0

Deed = Callable[[ScriptedPeer], None]


@pytest.fixture
def server() -> Iterator[ServerComPoint]:
    with ComManager.com_point(COMPOINT_SERVER, ComPointAddress("tcp", 0)) as server:
        yield server


@pytest.fixture
def place() -> Iterator[ChannelServicePoint]:
    with Channel.start_service_point_thread(ComPointAddress("tcp", 0)) as place:
        yield place


def _u64(number: int) -> bytes:
    return struct.pack("!Q", number)


def _visit(port: int, mode: Mode = Mode.PLAIN) -> ScriptedPeer:
    peer = ScriptedPeer.visit(port)
    peer.greet(mode)
    peer.hear_greeting()
    return peer


def _overrun(peer: ScriptedPeer) -> None:
    for _ in range(80):
        peer.say_frame(Kind.MESSAGE, bytes(15_000))


DEEDS: Final[dict[str, tuple[Deed, Code, str]]] = {
    "an unknown frame kind": (
        lambda peer: peer.say_frame(99, b"?"), Code.UNKNOWN_FRAME, "kind 99",
    ),
    "a small message of 5 MB": (
        lambda peer: peer.say_frame(Kind.MESSAGE, bytes(1000), length=5_000_000),
        Code.FRAME_TOO_LONG, "5000000 bytes",
    ),
    "a control frame of 1 MB": (
        lambda peer: peer.say_frame(Kind.CREDIT, bytes(1_000_000)), Code.FRAME_TOO_LONG, "CREDIT",
    ),
    "more than the credit": (_overrun, Code.CREDIT_OVERRUN, "allowed"),
    "a confirmation of what was never sent": (
        lambda peer: peer.say_frame(Kind.CREDIT, _u64(MIB), ack=5), Code.BAD_FRAME, "unsent",
    ),
    "a continuation without a start": (
        lambda peer: peer.say_frame(Kind.MORE, b"x"), Code.BAD_FRAME, "no message was started",
    ),
    "more bytes than the message has": (
        lambda peer: (
            peer.say_frame(Kind.START, _u64(10)), peer.say_frame(Kind.MORE, bytes(11)),
        )[0],
        Code.BAD_FRAME, "more bytes",
    ),
    "a bundle whose lengths do not add up": (
        lambda peer: peer.say_frame(Kind.BUNDLE, struct.pack("!II", 1, 999) + b"x"),
        Code.BAD_FRAME, "BUNDLE",
    ),
    "a bundle of 4 billion messages": (
        lambda peer: peer.say_frame(Kind.BUNDLE, struct.pack("!I", 0xFFFF_FFFF)),
        Code.BAD_FRAME, "BUNDLE",
    ),
    "a message over the limit": (
        lambda peer: peer.say_frame(Kind.START, _u64(2 * GIB)),
        Code.MESSAGE_TOO_LARGE, "2147483648",
    ),
    "a damaged goodbye": (
        lambda peer: peer.say_frame(Kind.GOODBYE, b"x"), Code.BAD_FRAME, "GOODBYE",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DEEDS)
def test_who_breaks_the_rules_is_told_the_code_and_the_program_the_sentence(
    server: ServerComPoint, name: str
) -> None:
    deed, code, words = DEEDS[name]
    with _visit(server.address.port) as peer:
        peer.say_frame(Kind.MESSAGE, b"before")
        point = server.accept(timeout=PATIENCE_S)
        deed(peer)
        # Not read before: reading would give the credit that must be overrun.
        eventually(lambda: not point.statistics().is_open)
        assert point.read(timeout=PATIENCE_S) == b"before"
        with pytest.raises(SessionLostError, match=words):
            list(point)
        point.close()
        assert _reset_code(peer) is code


def _reset_code(peer: ScriptedPeer) -> Code:
    """The code of the first RESET this peer hears."""
    while True:
        kind, payload = peer.hear_frame()
        if kind is Kind.RESET:
            return Code(struct.unpack_from("!H", payload)[0])


def test_a_claimed_size_takes_no_memory_before_the_bytes_come(server: ServerComPoint) -> None:
    # magic-wormhole/magic-wormhole-transit-relay #25
    with _visit(server.address.port) as peer:
        point = server.accept(timeout=PATIENCE_S)
        tracemalloc.start()
        try:
            peer.say_frame(Kind.START, _u64(2**63))
            with pytest.raises(SessionLostError, match="bytes"):
                point.read(timeout=PATIENCE_S)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < MIB
        point.close()


def test_a_text_that_is_no_utf8_is_a_fault_of_one_message(server: ServerComPoint) -> None:
    from compoint import MessageError

    with _visit(server.address.port) as peer:
        peer.say_frame(Kind.MESSAGE, b"\xff\xfe", form=1)
        peer.say_frame(Kind.MESSAGE, b"\xc1" * 50, form=2)
        peer.say_frame(Kind.MESSAGE, b"\x91" * 10_000 + b"\xc0", form=2)
        peer.say_frame(Kind.MESSAGE, b"?", form=77)
        peer.say_frame(Kind.MESSAGE, b"fine")
        with server.accept(timeout=PATIENCE_S) as point:
            for _ in range(4):
                with pytest.raises(MessageError):
                    point.read(timeout=PATIENCE_S)
            assert point.read(timeout=PATIENCE_S) == b"fine"
            point.abort("the test is over")


def test_a_frame_that_may_be_skipped_is_skipped(server: ServerComPoint) -> None:
    with _visit(server.address.port) as peer:
        peer.say_frame(200, b"from the future", flags=0x8000)
        peer.say_frame(Kind.MESSAGE, b"fine")
        point = server.accept(timeout=PATIENCE_S)
        assert point.read(timeout=PATIENCE_S) == b"fine"
        point.abort("the test is over")


def test_a_way_cut_before_the_peers_greeting_came_does_not_claim_that_nothing_was_sent() -> None:
    """Messages travel with the greeting: they may have arrived, only the answer was lost."""
    with ScriptedServer() as scripted:
        address = ComPointAddress("tcp", "127.0.0.1", scripted.port)
        point = ComManager.com_point(COMPOINT_INITIATOR, address)
        point.write(b"perhaps delivered")
        peer = scripted.meet()
        peer.hear_greeting()
        assert peer.hear_frame() == (Kind.MESSAGE, b"perhaps delivered")
        peer.reset()
        with pytest.raises(ComPointException) as caught:
            point.read(timeout=PATIENCE_S)
        assert caught.value.fate is Fate.UNKNOWN
        assert point.close().unconfirmed == range(1, 2)


def test_a_responder_that_breaks_the_rules_is_told_to_the_initiator() -> None:
    with ScriptedServer() as scripted:
        address = ComPointAddress("tcp", "127.0.0.1", scripted.port)
        point = ComManager.com_point(COMPOINT_INITIATOR, address)
        with scripted.meet() as peer:
            peer.hear_greeting()
            peer.greet(Mode.WELCOME)
            peer.say_frame(99)
            with pytest.raises(SessionLostError, match="kind 99"):
                point.read(timeout=PATIENCE_S)
        point.close()


# --- at a service point -----------------------------------------------------------------------


def _announce(peer: ScriptedPeer, number: int, correlator: bytes) -> None:
    peer.say_frame(Kind.ANNOUNCE, _u64(MIB) + correlator, stream=number)


def test_bad_announcements_are_refused_and_good_ones_taken(place: ChannelServicePoint) -> None:
    with _visit(place.address.port, Mode.CHANNELS) as peer:
        _announce(peer, 1, b"good")
        _announce(peer, 1, b"same number again")
        assert _reset_code(peer) is Code.DUPLICATE_CHANNEL
        _announce(peer, 2, b"x" * (CORRELATOR_BYTES + 1))
        assert _reset_code(peer) is Code.CORRELATOR_TOO_LONG
        _announce(peer, 3, b"\xff\xfe")
        assert _reset_code(peer) is Code.BAD_FRAME
        peer.say_frame(Kind.MESSAGE, b"to nobody", stream=77)
        assert _reset_code(peer) is Code.NO_SUCH_CHANNEL
        _announce(peer, 78, b"also good")
        eventually(lambda: "also good" in [one.correlator for one in place.waiting().queued])


def test_a_correlator_of_a_mebibyte_on_the_wire_ends_only_itself(
    place: ChannelServicePoint,
) -> None:
    with _visit(place.address.port, Mode.CHANNELS) as peer:
        _announce(peer, 1, b"x" * MIB)
        assert _reset_code(peer) is Code.CORRELATOR_TOO_LONG
        _announce(peer, 2, b"good")
        eventually(lambda: [one.correlator for one in place.waiting().queued] == ["good"])


def test_a_queued_channel_that_overruns_its_credit_is_ended_alone(
    place: ChannelServicePoint,
) -> None:
    address = ComPointAddress("tcp", "127.0.0.1", place.address.port)
    with _visit(place.address.port, Mode.CHANNELS) as peer:
        _announce(peer, 1, b"greedy")
        _announce(peer, 2, b"modest")
        peer.say_frame(Kind.MESSAGE, b"hello", stream=2)
        for _ in range(10):
            peer.say_frame(Kind.MESSAGE, bytes(16_000), stream=1)
        assert _reset_code(peer) is Code.CREDIT_OVERRUN
        modest = place.open_responder_channel(None, "modest", timeout=PATIENCE_S)
        assert modest.read(timeout=PATIENCE_S) == b"hello"
        with Channel.open_initiator_channel(address, None, "bystander") as bystander:
            bystander.write(b"fine")
            responder = place.open_responder_channel(None, "bystander", timeout=PATIENCE_S)
            assert responder.read(timeout=PATIENCE_S) == b"fine"
            responder.close()
        modest.abort("the test is over")


def test_announcements_that_nobody_claims_are_bounded_and_refused() -> None:
    with configured(channel={"maxQueued": 1000, "maxQueuedPerConnection": 500}):
        place = Channel.start_service_point_thread(ComPointAddress("tcp", 0))
    address = ComPointAddress("tcp", "127.0.0.1", place.address.port)
    with place, _visit(place.address.port, Mode.CHANNELS) as peer:
        for number in range(1, 10_001):
            _announce(peer, number, b"nobody %d" % number)
        eventually(lambda: place.statistics().refused == 9_500)
        assert place.statistics().queued == 500
        with Channel.open_initiator_channel(address, None, "good") as good:
            good.write(b"fine")
            responder = place.open_responder_channel(None, "good", timeout=PATIENCE_S)
            assert responder.read(timeout=PATIENCE_S) == b"fine"
            responder.close()


def test_a_plain_server_refuses_channels_from_a_raw_peer(server: ServerComPoint) -> None:
    with ScriptedPeer.visit(server.address.port) as peer:
        peer.greet(Mode.CHANNELS)
        refusal = peer.hear_greeting()
        assert getattr(refusal, "code", None) is Code.WRONG_MODE
