"""Frames: any chunking of any bytes gives the same frames."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wire_play import Frame, message, more

from compoint.core.framing import HEADER, LONGEST_BYTES, PIECE, FrameReader, Kind
from compoint.limits import CHUNK_BYTES, CONTROL_BYTES, SMALL_BYTES

LENGTHS = st.one_of(
    st.integers(0, 40),
    st.sampled_from([CONTROL_BYTES, CONTROL_BYTES + 1, SMALL_BYTES, SMALL_BYTES + 1]),
)
FRAMES = st.builds(
    lambda kind, length, form, flags, stream, ack: Frame(
        kind, bytes(i % 251 for i in range(length)), stream, ack, flags, form
    ),
    st.integers(0, 255),
    LENGTHS,
    st.integers(0, 255),
    st.integers(0, 0xFFFF),
    st.integers(0, 0xFFFF_FFFF),
    st.integers(0, 0xFFFF_FFFF),
)


def read_all(chunks: list[bytes]) -> list[Frame]:
    """Every frame, its pieces put together again."""
    reader = FrameReader()
    found: list[Frame] = []
    claimed: list[int] = []
    for chunk in chunks:
        reader.feed(chunk)
        while (frame := reader.next_frame()) is not None:
            kind, form, flags, stream, ack, payload, length = frame
            if kind == PIECE:
                last = found[-1]
                found[-1] = last.with_(payload=last.payload + bytes(payload))
            else:
                found.append(Frame(kind, bytes(payload), stream, ack, flags, form))
                claimed.append(length)
    assert reader.is_empty
    assert reader.left == 0
    assert claimed == [len(frame.payload) for frame in found]
    return found


def cut(data: bytes, cuts: list[int]) -> list[bytes]:
    ends = [0, *sorted(at % (len(data) + 1) for at in cuts), len(data)]
    return [data[a:b] for a, b in pairwise(ends)]


@given(st.lists(FRAMES, max_size=6), st.lists(st.integers(0, 1 << 20), max_size=12))
def test_any_chunking_gives_the_same_frames(frames: list[Frame], cuts: list[int]) -> None:
    data = b"".join(frame.encode() for frame in frames)
    assert read_all(cut(data, cuts)) == frames


@given(st.lists(FRAMES, min_size=1, max_size=3))
def test_frames_come_out_of_single_bytes(frames: list[Frame]) -> None:
    frames = [frame.with_(payload=frame.payload[:60]) for frame in frames]
    data = b"".join(frame.encode() for frame in frames)
    assert read_all([data[i : i + 1] for i in range(len(data))]) == frames


@given(st.binary(max_size=200))
def test_no_bytes_make_the_reader_raise(data: bytes) -> None:
    reader = FrameReader()
    reader.feed(data)
    while reader.next_frame() is not None:
        pass
    assert reader.next_frame() is None


def test_a_header_has_sixteen_bytes() -> None:
    assert HEADER.size == 16


@pytest.mark.parametrize(
    ("kind", "longest"),
    [
        (Kind.MESSAGE, SMALL_BYTES),
        (Kind.BUNDLE, CHUNK_BYTES),
        (Kind.CREDIT, CONTROL_BYTES),
        (200, CONTROL_BYTES),
    ],
)
def test_a_payload_is_waited_for_up_to_the_longest_of_its_kind(kind: int, longest: int) -> None:
    reader = FrameReader()
    reader.feed(Frame(kind).head(longest) + b"x")
    assert reader.next_frame() is None
    reader = FrameReader()
    reader.feed(Frame(kind).head(longest + 1) + b"x")
    frame = reader.next_frame()
    assert frame is not None
    assert bytes(frame[5]) == b"x"
    assert frame[6] == longest + 1
    assert reader.left == longest


def test_the_bytes_of_a_large_message_are_never_waited_for() -> None:
    reader = FrameReader()
    reader.feed(more(b"").head(1000))
    frame = reader.next_frame()
    assert frame is not None
    assert (bytes(frame[5]), frame[6], reader.left) == (b"", 1000, 1000)
    assert LONGEST_BYTES[Kind.MORE] == CHUNK_BYTES


def test_bytes_that_bypass_the_reader_are_counted() -> None:
    reader = FrameReader()
    reader.feed(more(b"").head(10) + b"abc")
    reader.next_frame()
    assert reader.is_empty
    reader.bypass(7)
    reader.feed(message(b"next").encode())
    frame = reader.next_frame()
    assert frame is not None
    assert frame[5] == b"next"


def test_a_stopped_reader_has_no_frames() -> None:
    reader = FrameReader()
    reader.feed(message(b"one").encode() + more(b"").head(10))
    reader.stop()
    assert reader.next_frame() is None
    assert reader.left == 0
