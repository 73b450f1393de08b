"""Codes and reasons: what travels in a refusal and a RESET."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compoint.core.codes import Code, cut_text, decode_reason, encode_reason


@given(
    st.sampled_from(Code),
    st.text(max_size=50),
    st.none() | st.integers(0, 4_000_000_000).map(lambda ms: ms / 1000),
)
def test_a_reason_comes_out_as_it_was_given(code: Code, text: str, retry: float | None) -> None:
    text = text.encode(errors="replace").decode()
    assert decode_reason(encode_reason(code, text, retry))[:2] == (code, text)
    found = decode_reason(encode_reason(code, text, retry))[2]
    assert found is retry or found == pytest.approx(retry, abs=0.0011)


@given(st.text(min_size=300, max_size=1100))
def test_a_long_text_is_cut_between_characters(text: str) -> None:
    data = cut_text(text)
    assert len(data) <= 1024
    whole = text.encode(errors="replace").decode()
    assert whole.startswith(data.decode())
    assert len(data) > 1020 or data.decode() == whole


def test_half_a_character_in_a_text_does_no_harm() -> None:
    assert cut_text("left \ud800") == b"left ?"


def test_a_wait_beyond_the_field_is_the_longest_there_is() -> None:
    payload = encode_reason(Code.BUSY, "", 1e12)
    assert decode_reason(payload)[2] == 0xFFFF_FFFE / 1000


def test_a_wait_below_zero_is_none_at_all() -> None:
    assert decode_reason(encode_reason(Code.BUSY, "", -5.0))[2] == 0.0


def test_a_code_of_a_newer_peer_counts_as_its_internal_error() -> None:
    assert Code.from_wire(60_000) is Code.INTERNAL
    assert Code.from_wire(4) is Code.QUEUE_FULL


def test_half_a_reason_is_refused() -> None:
    with pytest.raises(struct.error):
        decode_reason(b"\0\0\0")


def test_a_code_is_shown_in_words() -> None:
    assert Code.CORRELATOR_TOO_LONG.word == "correlator too long"
