"""Turns as bytes, and the ledger of what was said and what arrived."""

from __future__ import annotations

import itertools
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compoint.core.turns import ASK, END, HEARD, Ledger, Turn, TurnError, TurnReader
from compoint.limits import TURN_BYTES, TURNS_KEPT_BYTES

TURNS = st.builds(
    Turn,
    flags=st.sampled_from([0, END, ASK, HEARD, END | ASK, END | ASK | HEARD]),
    start=st.integers(0, 2**64 - 1),
    have=st.integers(0, 2**64 - 1),
    body=st.binary(max_size=200),
)


def _cut(data: bytes, at: list[int]) -> list[bytes]:
    edges = [0, *sorted(one % (len(data) + 1) for one in at), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges)]


def _fed(*pieces: bytes) -> list[Turn]:
    reader = TurnReader()
    turns = [turn for piece in pieces for turn in reader.feed(piece)]
    assert reader.is_empty
    return turns


# --- bytes --------------------------------------------------------------------------------------


def test_a_turn_is_24_bytes_and_what_it_says() -> None:
    # docs/PROTOCOL.md §11.1
    assert Turn(END | ASK, 5, 2**40, b"ab").encode() == (
        b"\x03\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\x05\0\0\x01\0\0\0\0\0ab"
    )


@given(turns=st.lists(TURNS, max_size=5), cuts=st.lists(st.integers(0, 2000), max_size=8))
def test_turns_cut_anywhere_come_out_as_they_were(turns: list[Turn], cuts: list[int]) -> None:
    data = b"".join(turn.encode() for turn in turns)
    assert _fed(*_cut(data, cuts)) == turns


@given(turns=st.lists(TURNS, min_size=1, max_size=3))
def test_turns_come_out_byte_by_byte_as_soon_as_they_are_whole(turns: list[Turn]) -> None:
    reader = TurnReader()
    for turn in turns:
        *most, last = turn.encode()
        for byte in most:
            assert reader.feed(bytes([byte])) == []
            assert not reader.is_empty
        assert reader.feed(bytes([last])) == [turn]
        assert reader.is_empty


def test_the_reserved_bytes_are_not_looked_at() -> None:
    data = bytearray(Turn(0, 1, 2, b"x").encode())
    data[1:4] = b"abc"
    assert _fed(bytes(data)) == [Turn(0, 1, 2, b"x")]


def test_the_longest_turn_is_taken() -> None:
    turn = Turn(0, 0, 0, bytes(TURN_BYTES))
    assert _fed(turn.encode()) == [turn]


@pytest.mark.parametrize(
    "head",
    [
        struct.pack("!BxxxIQQ", 8, 0, 0, 0),
        struct.pack("!BxxxIQQ", 255, 0, 0, 0),
        struct.pack("!BxxxIQQ", 0, TURN_BYTES + 1, 0, 0),
        struct.pack("!BxxxIQQ", 0, 2**32 - 1, 0, 0),
        b"HTTP/1.1 200 OK\r\nServer: x",
    ],
)
def test_what_is_no_turn_is_refused_by_its_head(head: bytes) -> None:
    with pytest.raises(TurnError, match="bytes that are no turn"):
        TurnReader().feed(head)


def test_what_is_no_turn_behind_a_turn_is_refused() -> None:
    with pytest.raises(TurnError):
        TurnReader().feed(Turn(0, 0, 0, b"ok").encode() + b"\xff" * 24)


@given(data=st.binary(max_size=200))
def test_any_bytes_are_turns_or_an_error(data: bytes) -> None:
    try:
        TurnReader().feed(data)
    except TurnError:
        pass


# --- what this side says ------------------------------------------------------------------------


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


def test_what_was_said_can_be_said_from_any_byte_on(ledger: Ledger) -> None:
    ledger.append(b"abc", b"", memoryview(b"defg"))
    assert ledger.append(b"h") == 1
    for start in range(9):
        assert ledger.turn(start) == Turn(0, start, 0, b"abcdefgh"[start:])


def test_a_turn_says_no_more_than_it_is_told_to(ledger: Ledger) -> None:
    ledger.append(b"abc", b"def")
    assert ledger.turn(1, most=3).body == b"bcd"
    assert ledger.turn(1, most=0).body == b""


def test_a_turn_is_at_the_most_as_long_as_a_turn_may_be(ledger: Ledger) -> None:
    ledger.append(bytes(TURN_BYTES + 1))
    assert len(ledger.turn(0).body) == TURN_BYTES
    assert ledger.turn(TURN_BYTES).body == b"\0"


def test_a_number_that_is_not_kept_is_taken_for_the_nearest_that_is(ledger: Ledger) -> None:
    ledger.append(b"abcdef")
    ledger.take(Turn(0, 0, 2, b""))
    assert ledger.turn(0) == Turn(0, 2, 0, b"cdef")
    assert ledger.turn(99) == Turn(0, 6, 0, b"")


def test_bytes_are_kept_until_the_peer_has_them(ledger: Ledger) -> None:
    ledger.append(b"abc", b"def", b"ghi")
    for have in (1, 3, 7, 9):
        ledger.take(Turn(0, 0, have, b""))
        assert ledger.turn(have).body == b"abcdefghi"[have:]
        assert ledger.confirmed == have


def test_there_is_room_for_so_much_that_the_peer_does_not_have(ledger: Ledger) -> None:
    assert ledger.append(bytes(TURNS_KEPT_BYTES - 1), b"abc") == TURNS_KEPT_BYTES
    assert (ledger.room, ledger.append(b"x")) == (0, 0)
    assert ledger.turn(TURNS_KEPT_BYTES - 1).body == b"a"
    ledger.take(Turn(0, 0, 10, b""))
    assert (ledger.room, ledger.append(b"0123456789more")) == (10, 10)
    assert ledger.turn(TURNS_KEPT_BYTES).body == b"0123456789"


def test_a_lower_confirmation_changes_nothing(ledger: Ledger) -> None:
    ledger.append(b"abcdef")
    ledger.take(Turn(0, 0, 5, b""))
    ledger.take(Turn(0, 0, 2, b""))
    assert (ledger.confirmed, ledger.turn(0)) == (5, Turn(0, 5, 0, b"f"))


@pytest.mark.parametrize("have", [4, 5, 2**64 - 1])
def test_a_confirmation_of_what_was_never_said_is_an_error(ledger: Ledger, have: int) -> None:
    ledger.append(b"abc")
    with pytest.raises(TurnError, match=f"{have} bytes are confirmed where 3 were said"):
        ledger.take(Turn(0, 0, have, b""))


# --- the end ------------------------------------------------------------------------------------


def test_the_end_is_said_behind_the_last_byte_only(ledger: Ledger) -> None:
    ledger.append(b"abc")
    ledger.is_ended = True
    assert ledger.turn(0, most=2).flags == 0
    assert ledger.turn(0) == Turn(END, 0, 0, b"abc")
    assert ledger.turn(3) == Turn(END, 3, 0, b"")


def test_the_end_counts_as_a_byte(ledger: Ledger) -> None:
    ledger.append(b"abc")
    ledger.is_ended = True
    assert (ledger.due, ledger.confirmed) == (4, 0)
    ledger.take(Turn(0, 0, 3, b""))
    assert (ledger.confirmed, ledger.is_end_acked) == (3, False)
    ledger.take(Turn(0, 0, 4, b""))
    assert (ledger.confirmed, ledger.is_end_acked) == (4, True)
    with pytest.raises(TurnError):
        ledger.take(Turn(0, 0, 5, b""))


def test_the_end_is_confirmed_as_a_byte(ledger: Ledger) -> None:
    assert ledger.take(Turn(END, 0, 0, b"abc")) == b"abc"
    assert (ledger.have, ledger.has_end) == (4, True)
    assert ledger.turn(0).have == 4


def test_an_end_behind_bytes_that_are_here_ends_too(ledger: Ledger) -> None:
    ledger.take(Turn(0, 0, 0, b"abc"))
    assert ledger.take(Turn(END, 1, 0, b"bc")) == b""
    assert ledger.has_end


def test_an_old_turn_before_the_end_ends_nothing(ledger: Ledger) -> None:
    ledger.take(Turn(0, 0, 0, b"abc"))
    ledger.take(Turn(END, 0, 0, b"ab"))
    assert not ledger.has_end


def test_behind_the_end_nothing_is_new(ledger: Ledger) -> None:
    ledger.take(Turn(END, 0, 0, b"abc"))
    assert ledger.take(Turn(0, 0, 0, b"abcdef")) == b""
    assert ledger.have == 4


def test_it_is_over_when_each_has_the_others_end(ledger: Ledger) -> None:
    ledger.is_ended = True
    ledger.take(Turn(0, 0, 1, b""))
    assert not ledger.is_over
    ledger.take(Turn(END, 0, 1, b""))
    assert ledger.is_over


# --- what the peer says -------------------------------------------------------------------------


def test_only_what_is_new_is_taken(ledger: Ledger) -> None:
    assert ledger.take(Turn(0, 0, 0, b"abc")) == b"abc"
    assert ledger.take(Turn(0, 0, 0, b"abc")) == b""
    assert ledger.take(Turn(0, 1, 0, b"bcde")) == b"de"
    assert ledger.take(Turn(0, 0, 0, b"a")) == b""
    assert ledger.take(Turn(0, 5, 0, b"f")) == b"f"
    assert ledger.have == 6


def test_a_gap_is_an_error(ledger: Ledger) -> None:
    ledger.take(Turn(0, 0, 0, b"abc"))
    with pytest.raises(TurnError, match="a turn from byte 4 on where 3 is due"):
        ledger.take(Turn(0, 4, 0, b"x"))


def test_what_the_peer_was_told_is_what_the_last_turn_said(ledger: Ledger) -> None:
    ledger.take(Turn(0, 0, 0, b"abc"))
    assert ledger.told == 0
    assert ledger.turn(0).have == ledger.told == 3
