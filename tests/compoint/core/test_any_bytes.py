"""Whatever the peer sends, cut anywhere: nothing raises, and the cuts do not matter."""

from __future__ import annotations

import struct
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from hypothesis import given, settings
from hypothesis import strategies as st
from wire_play import (
    FIRST,
    SESSION,
    WINDOW,
    Frame,
    announce,
    bundle,
    claim,
    credit,
    drop,
    frames_in,
    goodbye,
    greeting,
    message,
    more,
    ping,
    reset,
    start,
)

from compoint.core.codes import Code, How
from compoint.core.connection import Connection, Happening, Side
from compoint.core.framing import ASK_ACK, MAY_SKIP, Kind
from compoint.core.greeting import Greeting, Mode
from compoint.limits import CHUNK_BYTES, CONTROL_BYTES, SMALL_BYTES

if TYPE_CHECKING:
    from compoint.core.stream import Stream

LIMIT = 4 * WINDOW


def ours(mode: Mode) -> Greeting:
    return Greeting(mode, LIMIT, FIRST, 0, SESSION)


# --- what a peer may say ------------------------------------------------------------------------

NUMBERS = st.integers(0, 4)
SIZES = st.sampled_from([0, 1, 5, 300, CONTROL_BYTES + 1, SMALL_BYTES, SMALL_BYTES + 1])
SENSE = st.one_of(
    st.builds(lambda n, size: message(bytes(size), stream=n), NUMBERS, SIZES),
    st.builds(lambda n, sizes: bundle(*map(bytes, sizes), stream=n), NUMBERS, st.lists(SIZES)),
    st.builds(
        lambda n, size: start(size, stream=n),
        NUMBERS,
        st.sampled_from([0, 5, 300, 20_000, FIRST * 2, LIMIT, LIMIT + 1]),
    ),
    st.builds(lambda n, size: more(bytes(size), stream=n), NUMBERS, SIZES),
    st.builds(lambda n: drop(stream=n), NUMBERS),
    st.builds(lambda n, limit: credit(limit, stream=n), NUMBERS, st.integers(0, 2**64 - 1)),
    st.builds(announce, NUMBERS, st.text(max_size=5)),
    st.builds(claim, NUMBERS, st.integers(0, WINDOW)),
    st.builds(lambda n, taken: goodbye(taken, stream=n), NUMBERS, st.integers(0, 3)),
    st.builds(lambda n, code: reset(code, "why", stream=n), NUMBERS, st.sampled_from(Code)),
    st.just(ping()),
)
NONSENSE = st.builds(Frame, st.integers(0, 255), st.binary(max_size=12) | SIZES.map(bytes), NUMBERS)
FRAMES = st.builds(
    lambda frame, flags, form, ack: frame.with_(flags=flags, form=form, ack=ack),
    st.one_of(SENSE, SENSE, SENSE, NONSENSE),
    st.sampled_from([0, 0, ASK_ACK, MAY_SKIP]),
    st.sampled_from([0, 0, 2]),
    st.sampled_from([0, 0, 0, 0, 1]),
)
SIDES = st.sampled_from(
    [
        (Side.RESPONDER, Mode.PLAIN),
        (Side.RESPONDER, Mode.CHANNELS),
        (Side.INITIATOR, Mode.PLAIN),
        (Side.INITIATOR, Mode.CHANNELS),
    ]
)
CUTS = st.lists(st.integers(0, 1 << 24), max_size=10)


def machine_on(side: Side, mode: Mode) -> Connection:
    machine = Connection(side, ours(mode if side is Side.INITIATOR else Mode.WELCOME), 0.0)
    if side is Side.INITIATOR and mode is Mode.CHANNELS:
        for correlator in ("a", "b"):
            machine.announce(correlator)
    return machine


def greeting_of_peer(side: Side, mode: Mode) -> bytes:
    return greeting(Mode.WELCOME if side is Side.INITIATOR else mode).encode()


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    ends = [0, *sorted(at % (len(data) + 1) for at in cuts), len(data)]
    return [data[a:b] for a, b in pairwise(ends)]


def give(machine: Connection, piece: bytes, *, into_room: bool) -> None:
    """Deliver as a shell does: straight into a large message where there is room for it."""
    while into_room and piece and (room := machine.room()) is not None:
        count = min(len(room), len(piece))
        room[:count] = piece[:count]
        machine.filled(count, 0.0)
        piece = piece[count:]
    if piece:
        machine.feed(piece, 0.0)


def state_of(machine: Connection) -> dict[str, Any]:
    """Everything a shell, or the peer, could tell apart."""
    streams: dict[int, Stream] = {}
    events = []
    for happening, stream in machine.take_events():
        events.append((happening, stream.number if stream else None))
        if stream is not None:
            streams[id(stream)] = stream
    ending = machine.ending
    return {
        "events": events,
        "output": b"".join(machine.take_output()),
        "living": sorted(machine.streams),
        "ending": None if ending is None else (ending.how, ending.code),
        "why": "" if ending is None or ending.how is How.FOREIGN else ending.text,
        "streams": [
            (
                s.number, list(s.inbox), s.received, s.in_cost, s.in_limit, s.dropped_cost,
                s.out_limit, s.confirmed, s.is_open, s.is_claimed, s.goodbye_said, s.correlator,
                None if s.ending is None else (s.ending.how, s.ending.code),
            )
            for s in streams.values()
        ],
    }  # fmt: skip


def play(side: Side, mode: Mode, chunks: list[bytes], *, into_room: bool) -> dict[str, Any]:
    machine = machine_on(side, mode)
    for chunk in chunks:
        give(machine, chunk, into_room=into_room)
        machine.welcome()
    return state_of(machine)


@settings(max_examples=600)
@given(SIDES, st.lists(FRAMES, max_size=12), CUTS, st.booleans())
def test_any_chunking_gives_the_same_events_and_the_same_output(
    who: tuple[Side, Mode], frames: list[Frame], cuts: list[int], into_room: bool
) -> None:
    hello = greeting_of_peer(*who)
    data = b"".join(frame.encode() for frame in frames)
    whole = play(*who, [hello, data], into_room=False)
    assert play(*who, [hello, *pieces(data, cuts)], into_room=into_room) == whole


@settings(max_examples=150)
@given(SIDES, st.lists(FRAMES, max_size=6))
def test_single_bytes_give_the_same_events_and_the_same_output(
    who: tuple[Side, Mode], frames: list[Frame]
) -> None:
    frames = [frame.with_(payload=frame.payload[:64]) for frame in frames]
    data = greeting_of_peer(*who) + b"".join(frame.encode() for frame in frames)
    singles = [data[at : at + 1] for at in range(len(data))]
    assert play(*who, singles, into_room=False) == play(*who, [data], into_room=False)


@settings(max_examples=400, deadline=None)
@given(SIDES, st.lists(FRAMES, max_size=12), st.booleans())
def test_frames_that_come_alone_change_a_stream_nobody_waits_for_in_the_same_way(
    who: tuple[Side, Mode], frames: list[Frame], into_room: bool
) -> None:
    # Such a message takes a shortcut, and wakes nobody; that is the only difference.
    hello = greeting_of_peer(*who)

    def state(chunks: list[bytes]) -> dict[str, Any]:
        machine = machine_on(*who)
        machine.feed(hello, 0.0)
        machine.welcome()
        known = list(machine.streams.values())
        for chunk in chunks:
            for stream in machine.streams.values():
                stream.has_waiters = False
            known += [each for each in machine.streams.values() if each not in known]
            give(machine, chunk, into_room=into_room)
        for stream in [*known, *machine.streams.values()]:
            stream.is_touched = True
            machine.events.append((Happening.TOUCHED, stream))
        found = state_of(machine)
        found["events"] = [event for event in found["events"] if event[0] != Happening.TOUCHED]
        found["streams"].sort(key=lambda stream: stream[0])
        found["frames"] = machine.statistics().frames_in
        return found

    alone = [frame.encode() for frame in frames]
    halves = [half for data in alone for half in (data[:9], data[9:])]
    assert state(alone) == state(halves)


# --- noise --------------------------------------------------------------------------------------


def answer_events(machine: Connection) -> None:
    for happening, stream in machine.take_events():
        if happening is Happening.GREETED:
            machine.welcome()
        elif stream is not None and not stream.is_claimed and machine.side is Side.RESPONDER:
            machine.claim(stream)


def use(machine: Connection, stream: Stream, step: int) -> None:
    """What a program does with a stream, in some order that depends on the step."""
    if stream.inbox and step % 3:
        item = stream.inbox.popleft()
        stream.taken += 1
        stream.taken_cost += len(item if isinstance(item, bytes) else item[1]) + 64
        machine.grant(stream)
    if stream.is_open and step % 5 == 1 and stream.out_cost + 70 <= stream.out_limit:
        machine.gather(stream, 0, b"answer")
    if step % 11 == 7:
        machine.set_stuck(stream, WINDOW)
    if step % 17 == 13:
        machine.goodbye(stream)
    elif step % 19 == 17:
        machine.reset(stream, Code.ABANDONED, "so")


def behave(machine: Connection, step: int) -> None:
    """What shells do between deliveries."""
    answer_events(machine)
    for stream in list(machine.streams.values()):
        use(machine, stream, step)
    machine.on_timer(float(step))
    said = b"".join(machine.take_output())
    if machine.peer is not None:
        frames_in(said.removeprefix(machine.ours.encode()))


def survive(who: tuple[Side, Mode], chunks: list[bytes]) -> None:
    machine = machine_on(*who)
    if who[0] is Side.RESPONDER and chunks:
        machine.feed(chunks.pop(0), 0.0)
        machine.welcome()
    machine.take_output()
    for step, chunk in enumerate(chunks, 2):
        give(machine, chunk, into_room=bool(step % 2))
        behave(machine, step)
        for stream in machine.streams.values():
            most = max(stream.window, stream.wide)
            assert stream.unread_bytes <= most + LIMIT + 64
            assert 0 <= stream.confirmed <= stream.written
            assert stream.in_cost <= stream.in_limit
    machine.feed_end()
    machine.take_events()
    machine.take_output()
    assert machine.ending is not None


@settings(max_examples=1500)
@given(SIDES, st.lists(st.binary(max_size=100), max_size=10), st.booleans())
def test_no_noise_makes_the_machine_raise(
    who: tuple[Side, Mode], chunks: list[bytes], has_greeted: bool
) -> None:
    survive(who, [greeting_of_peer(*who), *chunks] if has_greeted else chunks)


@settings(max_examples=600)
@given(
    SIDES,
    st.lists(FRAMES, min_size=1, max_size=25),
    st.lists(st.tuples(st.integers(0, 1 << 24), st.integers(0, 255)), max_size=6),
    CUTS,
)
def test_no_damage_to_a_valid_conversation_makes_the_machine_raise(
    who: tuple[Side, Mode],
    frames: list[Frame],
    damage: list[tuple[int, int]],
    cuts: list[int],
) -> None:
    data = bytearray(b"".join(frame.encode() for frame in frames))
    for at, value in damage:
        if value % 8 == 0:
            del data[at % len(data) : at % len(data) + value // 8]
        elif value % 8 == 1:
            data[at % len(data) : at % len(data)] = struct.pack("!I", at)
        else:
            data[at % len(data)] = value
        if not data:
            break
    survive(who, [greeting_of_peer(*who), *pieces(bytes(data), cuts)])


# --- one fault, many streams ----------------------------------------------------------------------


@settings(max_examples=1500)
@given(
    st.lists(FRAMES.map(lambda frame: frame.with_(stream=2)), max_size=8),
    st.lists(st.binary(max_size=30), min_size=1, max_size=6),
    CUTS,
)
def test_whatever_happens_on_one_channel_its_neighbours_never_notice(
    poison: list[Frame], bodies: list[bytes], cuts: list[int]
) -> None:
    machine = Connection(Side.RESPONDER, ours(Mode.WELCOME), 0.0)
    machine.feed(greeting(Mode.CHANNELS).encode(), 0.0)
    machine.welcome()
    machine.feed(b"".join(announce(n).encode() for n in (1, 2, 3)), 0.0)
    first, _, last = machine.streams.values()
    for stream in list(machine.streams.values()):
        machine.claim(stream)
    machine.take_output()
    whole = b"".join(bodies) + bytes(CHUNK_BYTES // 8)
    said = [start(len(whole), stream=3), more(whole[:5], stream=3)]
    for at in range(max(len(poison), len(bodies))):
        said += [message(body, stream=1) for body in bodies[at : at + 1]]
        said += poison[at : at + 1]
    said += [more(whole[5:], stream=3)]
    data = b"".join(frame.encode() for frame in said)
    for piece in pieces(data, cuts):
        machine.feed(piece, 0.0)
    assert list(first.inbox) == bodies
    assert list(last.inbox) == [whole]
    assert first.ending is None
    assert last.ending is None
    assert machine.ending is None
    answers = frames_in(b"".join(machine.take_output()))
    assert {frame.stream for frame in answers} <= {1, 2, 3}
    assert all(f.kind == Kind.CREDIT for f in answers if f.stream != 2)
