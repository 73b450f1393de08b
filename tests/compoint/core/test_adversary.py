"""Peers that break the rules: each gets its code, and only what it touched ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from wire_play import (
    FIRST,
    NOBODY,
    TOLL,
    WINDOW,
    Frame,
    Scene,
    announce,
    bundle,
    credit,
    drop,
    frames_in,
    goodbye,
    message,
    more,
    ping,
    pong,
    reset,
    start,
    u64,
)

from compoint.core.assembly import Assembly
from compoint.core.codes import Code, Ending, How
from compoint.core.connection import Happening, Side
from compoint.core.framing import ASK_ACK, MAY_SKIP, Kind
from compoint.core.greeting import Mode
from compoint.core.stream import Stream
from compoint.limits import (
    CHUNK_BYTES,
    CONTROL_BYTES,
    CONTROL_FLOOD_BYTES,
    RECEIVE_BYTES,
    SKIP_BYTES,
    SMALL_BYTES,
)

if TYPE_CHECKING:
    from collections.abc import Callable

# --- a fault on one stream ----------------------------------------------------------------------

BAD = "a damaged {} frame ({})"
NO_START = "no message was started"
UNFINISHED = "another message is not finished"

FAULTS: dict[str, tuple[list[Frame], Code, str]] = {
    "a message longer than allowed": (
        [message(bytes(SMALL_BYTES + 1))],
        Code.FRAME_TOO_LONG,
        "a MESSAGE frame of 16385 bytes",
    ),
    "a bundle longer than allowed": (
        [Frame(Kind.BUNDLE, bytes(CHUNK_BYTES + 1))],
        Code.FRAME_TOO_LONG,
        "a BUNDLE frame of 262145 bytes",
    ),
    "a piece longer than allowed": (
        [start(1 << 20), more(bytes(CHUNK_BYTES + 1))],
        Code.FRAME_TOO_LONG,
        "a MORE frame of 262145 bytes",
    ),
    "a control frame longer than allowed": (
        [Frame(Kind.CREDIT, bytes(CONTROL_BYTES + 1))],
        Code.FRAME_TOO_LONG,
        "a CREDIT frame of 4097 bytes",
    ),
    "an unknown kind": ([Frame(99, b"x")], Code.UNKNOWN_FRAME, "a frame of kind 99 on a stream"),
    "kind zero": ([Frame(0, b"x")], Code.UNKNOWN_FRAME, "a frame of kind 0 on a stream"),
    "a long frame of an unknown kind": (
        [Frame(99, bytes(CONTROL_BYTES + 1))],
        Code.UNKNOWN_FRAME,
        "a frame of kind 99 on a stream",
    ),
    "a sign of life on a stream": (
        [Frame(Kind.PING)],
        Code.UNKNOWN_FRAME,
        "a frame of kind 11 on a stream",
    ),
    "more than the credit at once": (
        [bundle(*[b""] * (WINDOW // TOLL // 2))] * 2 + [message(b"")],
        Code.CREDIT_OVERRUN,
        "64 bytes more than this side allowed",
    ),
    "more than the credit by a start": (
        [bundle(*[b""] * (WINDOW // TOLL // 2))] * 2 + [start(5)],
        Code.CREDIT_OVERRUN,
        "64 bytes more than this side allowed",
    ),
    "more than the credit by a bundle": (
        [bundle(*[b""] * (WINDOW // TOLL + 1))],
        Code.CREDIT_OVERRUN,
        "64 bytes more than this side allowed",
    ),
    "a message larger than this side takes": (
        [start((1 << 30) + 1)],
        Code.MESSAGE_TOO_LARGE,
        "a message of 1073741825 bytes, allowed are 1073741824",
    ),
    "two messages at once": (
        [start(100), message(b"x")],
        Code.BAD_FRAME,
        BAD.format("MESSAGE", UNFINISHED),
    ),
    "a bundle in a message": (
        [start(100), bundle(b"x", b"y")],
        Code.BAD_FRAME,
        BAD.format("BUNDLE", UNFINISHED),
    ),
    "two starts": ([start(100), start(100)], Code.BAD_FRAME, BAD.format("START", UNFINISHED)),
    "a piece of nothing": ([more(b"x")], Code.BAD_FRAME, BAD.format("MORE", NO_START)),
    "a piece without bytes": (
        [start(100), more(b"")],
        Code.BAD_FRAME,
        BAD.format("MORE", "no bytes"),
    ),
    "more bytes than the message has": (
        [start(100), more(bytes(60)), more(bytes(41))],
        Code.BAD_FRAME,
        BAD.format("MORE", "more bytes than the message has"),
    ),
    "nothing to drop": ([drop()], Code.BAD_FRAME, BAD.format("DROP", NO_START)),
    "a drop with a payload": (
        [start(100), Frame(Kind.DROP, b"x")],
        Code.BAD_FRAME,
        BAD.format("DROP", "a payload"),
    ),
    "an empty bundle": (
        [bundle()],
        Code.BAD_FRAME,
        BAD.format("BUNDLE", "a bundle of 0 messages in 4 bytes"),
    ),
    "a bundle that counts more than it holds": (
        [Frame(Kind.BUNDLE, b"\xff\xff\xff\xff" + bytes(8))],
        Code.BAD_FRAME,
        BAD.format("BUNDLE", "a bundle of 4294967295 messages in 12 bytes"),
    ),
    "a bundle whose lengths are too small": (
        [Frame(Kind.BUNDLE, bundle(b"x", b"y").payload + b"z")],
        Code.BAD_FRAME,
        BAD.format("BUNDLE", "the lengths do not add up"),
    ),
    "a bundle whose lengths are too large": (
        [Frame(Kind.BUNDLE, bundle(b"x", b"y").payload[:-1])],
        Code.BAD_FRAME,
        BAD.format("BUNDLE", "the lengths do not add up"),
    ),
    "a goodbye in the middle of a message": (
        [start(100), goodbye()],
        Code.BAD_FRAME,
        BAD.format("GOODBYE", "in the middle of a message"),
    ),
    "a confirmation of what was never sent": (
        [credit(WINDOW, ack=1)],
        Code.BAD_FRAME,
        "a confirmation of unsent messages",
    ),
    "a confirmation that goes back": (
        [credit(WINDOW, ack=0xFFFF_FFFF)],
        Code.BAD_FRAME,
        "a confirmation of unsent messages",
    ),
}


@pytest.mark.parametrize("step", [1 << 30, 5000, "frame by frame, and nobody waits"])
@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_ends_one_channel_and_no_other(service: Scene, name: str, step: int | str) -> None:
    said, code, text = FAULTS[name]
    service.peer_says(announce(1), announce(2), announce(3))
    for number in (1, 2, 3):
        service.machine.claim(service.machine.streams[number])
    first, faulty, last = service.machine.streams.values()
    service.machine.take_output()
    service.machine.take_events()
    service.peer_says(start(10, stream=1), more(b"first", stream=1))
    frames = [frame.with_(stream=2).encode() for frame in said]
    if isinstance(step, int):
        data = b"".join(frames)
        frames = [data[at : at + step] for at in range(0, len(data), step)]
    else:
        faulty.has_waiters = False  # then a lone message takes a shortcut
    for part in frames:
        service.peer_says(part)
    service.peer_says(message(b"unheard", stream=2, flags=ASK_ACK))
    service.peer_says(more(b" last", stream=1), message(b"heard", stream=3))
    ending = Ending(How.BROKEN, code, f"the peer broke the rules: {text}")
    assert faulty.ending == ending
    resets = [f for f in said_by(service) if f.kind == Kind.RESET]
    assert resets == [reset(code, text, stream=2, ack=faulty.received & 0xFFFF_FFFF)]
    assert b"unheard" not in faulty.inbox
    assert list(first.inbox) == [b"first last"]
    assert list(last.inbox) == [b"heard"]
    assert service.machine.ending is None
    assert list(service.machine.streams) == [1, 3]


def said_by(scene: Scene) -> list[Frame]:
    return frames_in(b"".join(scene.machine.take_output()))


DAMAGED = {
    Kind.BUNDLE: b"abc",
    Kind.START: bytes(7),
    Kind.CREDIT: bytes(9),
    Kind.GOODBYE: bytes(9),
    Kind.RESET: bytes(5),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_frame_of_the_wrong_size_ends_its_stream(responder: Scene, kind: Kind) -> None:
    responder.peer_says(Frame(kind, DAMAGED[kind]))
    ending = responder.stream.ending
    assert ending is not None
    assert ending.code is Code.BAD_FRAME
    assert f"a damaged {kind.name} frame" in ending.text
    assert [frame.kind for frame in said_by(responder)] == [Kind.RESET]


def test_messages_behind_a_goodbye_break_the_rules(responder: Scene) -> None:
    responder.peer_says(message(b"last"), goodbye(), message(b"one more"))
    text = "a damaged MESSAGE frame (a message behind the goodbye)"
    responder.we_say(reset(Code.BAD_FRAME, text, ack=1))
    stream = responder.stream
    assert list(stream.inbox) == [b"last"]
    assert stream.ending is not None
    assert stream.ending.how is How.GOODBYE  # the first cause


@pytest.mark.parametrize("said", [start(5), more(b"x"), drop(), bundle(b"x", b"y"), goodbye()])
def test_nothing_may_follow_a_goodbye(responder: Scene, said: Frame) -> None:
    responder.peer_says(goodbye(), said)
    assert [frame.kind for frame in said_by(responder)] == [Kind.RESET]


def test_a_second_goodbye_cannot_take_confirmations_back(initiator: Scene) -> None:
    initiator.we_write(b"one")
    initiator.peer_says(goodbye(taken=1, ack=1), goodbye(taken=0, ack=1))
    assert initiator.stream.confirmed == 1


def test_a_fault_after_our_goodbye_is_not_answered(responder: Scene) -> None:
    responder.machine.goodbye(responder.stream)
    responder.we_say(goodbye())
    responder.peer_says(Frame(99))
    responder.we_say()
    assert not responder.machine.streams


# --- sizes --------------------------------------------------------------------------------------


def test_a_message_of_just_the_longest_length_is_taken(responder: Scene) -> None:
    responder.peer_says(message(bytes(SMALL_BYTES)))
    assert responder.stream.ending is None


@pytest.mark.parametrize("step", [1, 7, 1 << 20])
def test_a_frame_too_long_is_skipped_to_its_last_byte(service: Scene, step: int) -> None:
    service.peer_says(announce(1), announce(2))
    poison = message(b"!", stream=2).encode() * 300
    data = Frame(Kind.RESET, poison, 1).encode() + message(b"heard", stream=2).encode()
    for at in range(0, len(data), step):
        service.peer_says(data[at : at + step])
    assert list(service.machine.streams[2].inbox) == [b"heard"]
    assert service.machine.ending is None


@pytest.mark.parametrize("number", [0, 1, 2])
@pytest.mark.parametrize("flags", [0, MAY_SKIP])
@pytest.mark.parametrize("kind", [Kind.MESSAGE, Kind.MORE, Kind.PING, 99])
def test_a_frame_too_long_to_skip_ends_the_connection(
    responder: Scene, number: int, flags: int, kind: int
) -> None:
    responder.peer_says(Frame(kind, b"", number, flags=flags, ack=77).head(SKIP_BYTES + 1))
    text = f"a frame of {SKIP_BYTES + 1} bytes"
    responder.we_say(reset(Code.FRAME_TOO_LONG, text, stream=0))
    ending = Ending(How.BROKEN, Code.FRAME_TOO_LONG, f"the peer broke the rules: {text}")
    assert responder.machine.ending == responder.stream.ending == ending
    responder.we_see(responder.touched(), NOBODY)
    responder.peer_says(bytes(100), message(b"x"))
    responder.silence()


def test_what_stands_behind_the_last_straw_is_not_read(responder: Scene) -> None:
    responder.peer_says(Frame(99, b"", 0), message(b"x"), message(b"y"))
    assert not responder.stream.inbox
    responder.we_say(
        reset(Code.UNKNOWN_FRAME, "a frame of kind 99 for the connection itself", stream=0)
    )


# --- frames of later versions -------------------------------------------------------------------


@pytest.mark.parametrize("number", [0, 1, 2])
@pytest.mark.parametrize("length", [0, 10, CONTROL_BYTES + 1, 300_000])
def test_an_unknown_frame_that_may_be_skipped_is_skipped(
    service: Scene, number: int, length: int
) -> None:
    service.peer_says(announce(1), announce(2))
    service.machine.take_events()
    unknown = Frame(99, bytes(length), number, flags=MAY_SKIP)
    service.peer_says(unknown, message(b"next", stream=2))
    service.we_say()
    service.we_see(service.touched(service.machine.streams[2]))


def test_an_unknown_frame_for_the_connection_ends_it(service: Scene) -> None:
    service.peer_says(announce(0))
    text = "a frame of kind 7 for the connection itself"
    service.we_say(reset(Code.UNKNOWN_FRAME, text, stream=0))
    service.we_see(NOBODY)


def test_a_skipped_frame_still_confirms_and_asks(responder: Scene) -> None:
    responder.we_write(b"one")
    responder.machine.take_output()
    responder.peer_says(Frame(99, flags=MAY_SKIP | ASK_ACK, ack=1))
    assert responder.stream.confirmed == 1
    responder.we_say(credit(WINDOW))


# --- frames for the connection --------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Kind.PING, Kind.PONG, Kind.GOODBYE, Kind.RESET])
def test_a_long_frame_for_the_connection_ends_it(responder: Scene, kind: Kind) -> None:
    responder.peer_says(Frame(kind, bytes(CONTROL_BYTES + 1), 0))
    text = f"a {kind.name} frame of 4097 bytes"
    responder.we_say(reset(Code.FRAME_TOO_LONG, text, stream=0))


@pytest.mark.parametrize("kind", [Kind.GOODBYE, Kind.RESET])
def test_half_an_end_of_the_connection_ends_it_too(responder: Scene, kind: Kind) -> None:
    responder.peer_says(Frame(kind, b"abc", 0))
    assert responder.machine.ending is not None
    assert responder.machine.ending.code is Code.BAD_FRAME


def test_a_reset_of_the_connection_is_the_end_of_all_its_streams(service: Scene) -> None:
    service.peer_says(announce(1), announce(2), reset(Code.INTERNAL, "out of order", stream=0))
    endings = {stream.ending for stream in service.machine.streams.values()}
    assert endings == {Ending(How.BROKEN, Code.INTERNAL, "out of order")}
    assert service.machine.take_events()[-1] == NOBODY


# --- floods ---------------------------------------------------------------------------------------


@pytest.fixture
def small_flood(monkeypatch: pytest.MonkeyPatch) -> int:
    """The same bound, reached sooner."""
    monkeypatch.setattr("compoint.core.connection.CONTROL_FLOOD_BYTES", 1 << 18)
    return 1 << 18


def test_a_peer_that_asks_and_never_reads_is_left(responder: Scene, small_flood: int) -> None:
    pings = ping().encode() * 4096
    for _ in range(small_flood // len(pings)):
        responder.peer_says(pings)
    assert responder.machine.ending is None
    responder.peer_says(ping())
    responder.peer_says(ping())
    text = f"{small_flood + 16} bytes of answers were asked for and not read"
    responder.we_say(reset(Code.FLOOD, text, stream=0))
    assert responder.machine.ending is not None
    assert responder.machine.ending.code is Code.FLOOD


def test_a_peer_that_reads_may_ask_for_ever(responder: Scene, small_flood: int) -> None:
    pings = ping().encode() * 4096
    for _ in range(small_flood // len(pings) + 2):
        responder.peer_says(pings)
        responder.machine.take_output()
    assert responder.machine.ending is None


def test_a_flood_is_far_beyond_what_one_receive_can_ask_for() -> None:
    assert CONTROL_FLOOD_BYTES >= 16 * RECEIVE_BYTES


def test_a_hundred_thousand_claims_of_huge_messages_take_no_memory() -> None:
    stream = Stream(1, FIRST, FIRST)
    stream.assembly = Assembly(0, 1 << 62)
    stream.assembly.take(bytes(SMALL_BYTES - 1))
    assert stream.assembly.position == SMALL_BYTES - 1
    assert stream.assembly.room(10) is None


def test_a_message_too_large_for_the_memory_fails_alone(stage: Callable[..., Scene]) -> None:
    scene = stage(Side.RESPONDER, Mode.CHANNELS, message_limit=1 << 62).after_greetings()
    scene.peer_says(announce(1), announce(2))
    scene.machine.take_events()
    scene.peer_says(start(1 << 61), more(bytes(SMALL_BYTES)), more(b"x"))
    text = f"no memory here for a message of {1 << 61} bytes"
    scene.we_say(reset(Code.MESSAGE_TOO_LARGE, text))
    scene.peer_says(message(b"heard", stream=2))
    assert list(scene.machine.streams[2].inbox) == [b"heard"]


def test_an_extreme_credit_is_just_a_number(initiator: Scene) -> None:
    initiator.peer_says(credit((1 << 64) - 1))
    initiator.we_write(b"x")
    initiator.we_say(message(b"x"))
    assert initiator.stream.ending is None


def test_a_sign_of_life_nobody_asked_for_is_harmless(responder: Scene) -> None:
    responder.peer_says(pong())
    responder.silence()


def test_every_frame_for_a_finished_stream_is_late_and_ignored(service: Scene) -> None:
    service.peer_says(announce(1))
    service.machine.reset(service.machine.streams[1], Code.EXPIRED, "late")
    service.machine.take_output()
    service.machine.take_events()
    for kind in Kind:
        if kind is not Kind.ANNOUNCE:
            service.peer_says(Frame(kind, u64(5), 1, ack=9, flags=ASK_ACK))
    service.silence()


def test_an_announcement_is_seen_even_in_single_bytes(service: Scene) -> None:
    data = announce(1).encode()
    for at in range(len(data)):
        service.peer_says(data[at : at + 1])
    service.we_see((Happening.ANNOUNCED, service.machine.streams[1]))
