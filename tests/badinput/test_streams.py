"""A peer that breaks the rules on one stream: that stream ends with a code, and only that."""

from __future__ import annotations

import struct
import tracemalloc
from typing import Final

import pytest
from rude import PATIENCE_S, Scene, hear_reset, next_frame, words_of

from compoint import EndOfMessages, MessageError, PointTimeout, SessionLostError
from compoint.core.codes import Code
from compoint.core.framing import ASK_ACK, MAY_SKIP, Kind
from compoint.limits import (
    CHUNK_BYTES,
    CONTROL_BYTES,
    GIB,
    MESSAGE_TOLL_BYTES,
    MIB,
    SMALL_BYTES,
)

UNKNOWN: Final = 77


def check_reset(scene: Scene, code: Code, text: str) -> None:
    """The peer is told the code and the sentence, the program the sentence."""
    assert hear_reset(scene.peer) == (code, text)
    _, error = words_of(scene.point)
    assert isinstance(error, SessionLostError)
    assert error.what == f"the peer broke the rules: {text}"


# --- lengths ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "length"),
    [
        (Kind.MESSAGE, SMALL_BYTES + 1),
        (Kind.BUNDLE, CHUNK_BYTES + 1),
        (Kind.MORE, CHUNK_BYTES + 1),
        (Kind.START, CONTROL_BYTES + 1),
        (Kind.CREDIT, MIB),
        (Kind.GOODBYE, CONTROL_BYTES + 1),
        (Kind.RESET, CONTROL_BYTES + 1),
    ],
)
def test_a_frame_longer_than_its_kind_may_be(scene: Scene, kind: Kind, length: int) -> None:
    scene.peer.say_frame(kind, bytes(length))
    check_reset(scene, Code.FRAME_TOO_LONG, f"a {kind.name} frame of {length} bytes")


def test_a_frame_that_ends_the_stream_takes_no_memory(scene: Scene) -> None:
    payload = bytes(16 * MIB)
    tracemalloc.start()
    try:
        scene.peer.say_frame(Kind.MESSAGE, payload)
        check_reset(scene, Code.FRAME_TOO_LONG, f"a MESSAGE frame of {len(payload)} bytes")
        scene.check_others()
        _, most_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # The frame as it is said (header and payload joined), and what one receive takes.
    assert most_bytes < len(payload) + MIB


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        (b"", "unpack_from requires"),
        (struct.pack("!I", 0), "a bundle of 0 messages in 4 bytes"),
        (struct.pack("!II", 5, 1) + b"x", "a bundle of 5 messages in 9 bytes"),
        (struct.pack("!I", 0xFFFFFFFF) + bytes(100), "a bundle of 4294967295 messages"),
        (struct.pack("!III", 2, 1, 2) + b"xy", "the lengths do not add up"),
        (struct.pack("!III", 2, 1, 0) + b"xy", "the lengths do not add up"),
        (struct.pack("!III", 2, 0xFFFFFFFF, 3) + b"xy", "the lengths do not add up"),
    ],
    ids=["empty", "no messages", "table cut", "huge count", "too few", "too many", "wraps"],
)
def test_a_bundle_with_a_lying_table(scene: Scene, payload: bytes, words: str) -> None:
    scene.peer.say_frame(Kind.BUNDLE, payload)
    code, text = hear_reset(scene.peer)
    assert code is Code.BAD_FRAME
    assert text.startswith("a damaged BUNDLE frame (")
    assert words in text
    read, error = words_of(scene.point)
    assert read == []
    assert text in str(error)


@pytest.mark.parametrize("kind", [Kind.START, Kind.CREDIT, Kind.GOODBYE, Kind.RESET])
def test_a_frame_too_short_for_its_kind(scene: Scene, kind: Kind) -> None:
    scene.peer.say_frame(kind, b"x")
    code, text = hear_reset(scene.peer)
    assert code is Code.BAD_FRAME
    assert text.startswith(f"a damaged {kind.name} frame (")


# --- large messages -----------------------------------------------------------------------------


def test_a_message_of_2_to_the_63_bytes(scene: Scene) -> None:
    scene.peer.say_frame(Kind.START, struct.pack("!Q", 2**63))
    text = f"a message of 9223372036854775808 bytes, allowed are {GIB}"
    check_reset(scene, Code.MESSAGE_TOO_LARGE, text)


def test_a_claim_of_a_large_message_costs_no_memory(scene: Scene) -> None:
    tracemalloc.start()
    try:
        scene.peer.say_frame(Kind.START, struct.pack("!Q", GIB))
        scene.peer.say_frame(Kind.MORE, bytes(SMALL_BYTES // 2))
        scene.check_others()
        with pytest.raises(PointTimeout, match="8192 of 1073741824 bytes"):
            scene.point.read(timeout=0.05)
        _, most_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most_bytes < MIB


@pytest.mark.parametrize(
    ("frames", "words"),
    [
        ([(Kind.MORE, b"x")], "no message was started"),
        ([(Kind.DROP, b"")], "no message was started"),
        ([(Kind.START, struct.pack("!Q", 5)), (Kind.MORE, b"123456")], "more bytes than"),
        ([(Kind.START, struct.pack("!Q", 5)), (Kind.MORE, b"")], "no bytes"),
        ([(Kind.START, struct.pack("!Q", 5)), (Kind.DROP, b"x")], "a payload"),
        ([(Kind.START, struct.pack("!Q", 5))] * 2, "another message is not finished"),
        ([(Kind.START, struct.pack("!Q", 5)), (Kind.MESSAGE, b"x")], "another message"),
        ([(Kind.START, struct.pack("!Q", 5)), (Kind.GOODBYE, bytes(10))], "in the middle of"),
    ],
    ids=[
        "MORE without START", "DROP without START", "too many bytes", "an empty MORE",
        "a DROP with a payload", "START twice", "MESSAGE inside", "GOODBYE inside",
    ],
)  # fmt: skip
def test_frames_in_an_order_that_makes_no_sense(
    scene: Scene, frames: list[tuple[Kind, bytes]], words: str
) -> None:
    for kind, payload in frames:
        scene.peer.say_frame(kind, payload)
    code, text = hear_reset(scene.peer)
    assert code is Code.BAD_FRAME
    assert words in text
    _, error = words_of(scene.point)
    assert isinstance(error, SessionLostError)


@pytest.mark.parametrize("kind", [Kind.MESSAGE, Kind.GOODBYE])
def test_what_comes_behind_a_goodbye_does_not_change_it(scene: Scene, kind: Kind) -> None:
    scene.peer.say_frame(Kind.GOODBYE, bytes(10))
    scene.peer.say_frame(kind, bytes(10))
    # A plain connection may be closed by then; a channel's is not, and its peer is told.
    if scene.neighbour is not None:
        assert hear_reset(scene.peer)[0] is Code.BAD_FRAME
    read, error = words_of(scene.point)
    assert read == []
    assert isinstance(error, EndOfMessages)


# --- credit and confirmation ----------------------------------------------------------------------


def test_more_messages_than_the_credit_allows(scene: Scene) -> None:
    message = bytes(SMALL_BYTES)
    cost = SMALL_BYTES + MESSAGE_TOLL_BYTES
    allowed, over = divmod(MIB, cost)
    for _ in range(allowed + 1):
        scene.peer.say_frame(Kind.MESSAGE, message)
    code, text = hear_reset(scene.peer)
    assert (code, text) == (Code.CREDIT_OVERRUN, f"{cost - over} bytes more than this side allowed")
    read, error = words_of(scene.point)
    assert read == [message] * allowed
    assert f"the peer broke the rules: {text}" in str(error)


def test_a_piece_of_a_message_beyond_the_credit(scene: Scene) -> None:
    scene.peer.say_frame(Kind.MESSAGE, b"nobody reads this one")
    scene.peer.say_frame(Kind.START, struct.pack("!Q", 2 * MIB))
    for _ in range(4):
        scene.peer.say_frame(Kind.MORE, bytes(CHUNK_BYTES))
    code, _ = hear_reset(scene.peer)
    assert code is Code.CREDIT_OVERRUN


@pytest.mark.parametrize("ack", [1, 5, 0xFFFF_FFFF])
def test_a_confirmation_of_messages_never_sent(scene: Scene, ack: int) -> None:
    scene.peer.say_frame(Kind.MESSAGE, b"x", ack=ack)
    check_reset(scene, Code.BAD_FRAME, "a confirmation of unsent messages")
    assert scene.point.close(timeout=PATIENCE_S).confirmed == 0


def test_a_goodbye_that_claims_to_have_read_what_was_never_sent(scene: Scene) -> None:
    scene.peer.say_frame(Kind.GOODBYE, struct.pack("!QH", 2**64 - 1, 0))
    with pytest.raises(EndOfMessages):
        scene.point.read(timeout=PATIENCE_S)
    receipt = scene.point.close(timeout=PATIENCE_S)
    assert (receipt.written, receipt.confirmed) == (0, 0)


# --- kinds ----------------------------------------------------------------------------------------


def test_an_unknown_frame_that_may_be_skipped(scene: Scene) -> None:
    scene.peer.say_frame(UNKNOWN, bytes(100_000), flags=MAY_SKIP)
    scene.peer.say_frame(UNKNOWN, b"", flags=MAY_SKIP)
    scene.peer.say_frame(Kind.MESSAGE, b"behind them")
    assert scene.point.read(timeout=PATIENCE_S) == b"behind them"


@pytest.mark.parametrize("payload", [b"", bytes(100_000)])
def test_an_unknown_frame_that_may_not_be_skipped(scene: Scene, payload: bytes) -> None:
    scene.peer.say_frame(UNKNOWN, payload)
    check_reset(scene, Code.UNKNOWN_FRAME, f"a frame of kind {UNKNOWN} on a stream")


def test_a_skipped_frame_may_ask_for_a_confirmation(scene: Scene) -> None:
    scene.peer.say_frame(Kind.MESSAGE, b"one")
    scene.peer.say_frame(UNKNOWN, b"", flags=MAY_SKIP | ASK_ACK)
    kind, number, payload = next_frame(scene.peer)
    while kind == Kind.CLAIM:
        kind, number, payload = next_frame(scene.peer)
    assert (kind, number, len(payload)) == (Kind.CREDIT, 1, 8)
    assert scene.point.read(timeout=PATIENCE_S) == b"one"


@pytest.mark.parametrize("form", [4, 99, 255])
def test_a_message_of_an_unknown_form_fails_alone(scene: Scene, form: int) -> None:
    scene.peer.say_frame(Kind.MESSAGE, b"x", form=form)
    scene.peer.say_frame(Kind.MESSAGE, b"next")
    with pytest.raises(MessageError, match=f"form {form}"):
        scene.point.read(timeout=PATIENCE_S)
    assert scene.point.read(timeout=PATIENCE_S) == b"next"


# --- channels -------------------------------------------------------------------------------------


def test_what_is_late_for_a_broken_channel_is_skipped(channels: Scene) -> None:
    channels.peer.say_frame(UNKNOWN)
    hear_reset(channels.peer)
    for kind in (Kind.MESSAGE, UNKNOWN, Kind.GOODBYE, Kind.START):
        channels.peer.say_frame(kind, b"late")
    channels.check_others()


def test_a_frame_for_a_channel_that_was_never_announced(channels: Scene) -> None:
    channels.peer.say_frame(Kind.MESSAGE, b"x", stream=99)
    code, text = hear_reset(channels.peer, stream=99)
    assert (code, text) == (Code.NO_SUCH_CHANNEL, "channel 99 was never announced")
    channels.peer.say_frame(Kind.MESSAGE, b"for one that is")
    assert channels.point.read(timeout=PATIENCE_S) == b"for one that is"
