"""Frames of the mail transport: what a mail held is found, whatever happened to it on its way."""

from __future__ import annotations

import hashlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mail._envelope import (
    BODY_BYTES,
    MAGIC,
    RANGES,
    EnvelopeError,
    Flag,
    Frame,
    Kind,
    Place,
    Why,
    encode,
    find_frames,
    overhead,
)

FRAME = Frame(
    kind=Kind.DATA, flags=Flag.OPEN, conversation=bytes(range(16)), incarnation=b"store 01",
    sender=Place("alice@a.test", 49152), receiver=Place("bob@b.test", 7100), start=5, have=7,
    window=1 << 20, created=1_800_000_000, expires=1_800_432_000, ranges=((9, 12), (20, 21)),
    body=b"hello", hops=1,
)  # fmt: skip
SECRET = b"agreed by telephone"


def resealed(data: bytes) -> bytes:
    """With the sum that its bytes should have."""
    return data[:-16] + hashlib.sha256(data[:-16]).digest()[:16]


def changed(at: int, new: bytes) -> bytes:
    """The frame with other bytes here, and a sum that is right."""
    data = encode(FRAME)
    return resealed(data[:at] + new + data[at + len(new) :])


def only_fault(data: bytes) -> EnvelopeError:
    found = find_frames(data)
    assert found.envelopes == []
    (fault,) = found.faults
    return fault


# --- whole frames ---------------------------------------------------------------------------


def test_a_frame_comes_out_as_it_went_in() -> None:
    found = find_frames(encode(FRAME))
    assert [one.frame for one in found.envelopes] == [FRAME]
    assert (found.skipped, found.faults, found.foreign_bytes) == (0, [], 0)


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("flags", [Flag(0), Flag.END, Flag.OPEN | Flag.RESPONDER])
def test_every_kind_and_flag_travels(kind: Kind, flags: Flag) -> None:
    frame = FRAME._replace(kind=kind, flags=flags)
    assert find_frames(encode(frame)).envelopes[0].frame == frame


def test_the_bytes_are_those_of_the_protocol_text() -> None:
    assert encode(FRAME._replace(ranges=(), body=b"hi")).hex(" ") == (
        "53 4d 50 52 01 01 01 00 00 00 00 7d 00 5f 00 01 "
        "00 01 02 03 04 05 06 07 08 09 0a 0b 0c 0d 0e 0f "
        "73 74 6f 72 65 20 30 31 00 00 00 00 00 00 00 05 "
        "00 00 00 00 00 00 00 07 00 10 00 00 00 00 00 00 "
        "6b 49 d2 00 00 00 00 00 6b 50 69 80 c0 00 1b bc "
        "00 0c 00 0a 00 61 6c 69 63 65 40 61 2e 74 65 73 "
        "74 62 6f 62 40 62 2e 74 65 73 74 68 69 94 d8 47 "
        "6e 17 75 13 c0 86 1d 4e a4 93 79 d2 47"
    )


def test_several_frames_of_one_mail_are_found_in_order() -> None:
    frames = [FRAME._replace(start=n) for n in range(3)]
    found = find_frames(b"".join(map(encode, frames)))
    assert [one.frame for one in found.envelopes] == frames


def test_the_overhead_is_never_less_than_what_a_frame_takes_beside_its_body() -> None:
    ranges = tuple((10 * n, 10 * n + 1) for n in range(1, RANGES + 1))
    most = len(encode(FRAME._replace(ranges=ranges, body=b""), SECRET))
    assert overhead(FRAME.sender, FRAME.receiver) == most


@pytest.mark.parametrize(
    "frame",
    [
        FRAME._replace(body=bytes(BODY_BYTES + 1)),
        FRAME._replace(ranges=tuple((10 * n, 10 * n + 1) for n in range(1, RANGES + 2))),
    ],
    ids=["body", "ranges"],
)
def test_more_than_a_frame_may_hold_is_not_encoded(frame: Frame) -> None:
    with pytest.raises(ValueError, match="in a frame"):
        encode(frame)


# --- what mail systems do -------------------------------------------------------------------


def test_a_footer_behind_the_frames_is_counted_and_passed_over() -> None:
    found = find_frames(encode(FRAME) + b"\r\n-- \r\nscanned by nobody")
    assert len(found.envelopes) == 1
    assert (found.faults, found.foreign_bytes) == ([], 24)


def test_bytes_before_and_between_frames_are_passed_over() -> None:
    found = find_frames(b"Hi,\n" + encode(FRAME) + b"\n\n" + encode(FRAME))
    assert (len(found.envelopes), found.foreign_bytes) == (2, 6)


def test_a_mail_that_is_cut_off_keeps_the_frames_before_the_cut() -> None:
    whole = encode(FRAME)
    found = find_frames(whole + whole[:-1])
    assert [one.frame for one in found.envelopes] == [FRAME]
    assert [fault.why for fault in found.faults] == [Why.DAMAGED]


def test_a_damaged_frame_does_not_hide_the_next_one() -> None:
    whole = encode(FRAME)
    found = find_frames(whole[:60] + b"?" + whole[61:] + whole)
    assert [one.frame for one in found.envelopes] == [FRAME]
    assert [fault.why for fault in found.faults] == [Why.DAMAGED]


def test_a_frame_whose_length_is_damaged_does_not_hide_the_next_one() -> None:
    whole = encode(FRAME)
    found = find_frames(whole[:8] + b"\0\1\0\0" + whole[12:] + whole)
    assert [one.frame for one in found.envelopes] == [FRAME]


@given(at=st.integers(0, len(encode(FRAME)) - 1), bit=st.integers(0, 7))
def test_no_single_bit_can_be_changed(at: int, bit: int) -> None:
    bad = bytearray(encode(FRAME))
    bad[at] ^= 1 << bit
    assert find_frames(bytes(bad)).envelopes == []


@given(data=st.binary(max_size=300))
def test_foreign_bytes_never_raise(data: bytes) -> None:
    for start in (b"", MAGIC, encode(FRAME)[:40], encode(FRAME)[:100]):
        found = find_frames(start + data)
        assert found.envelopes == []
        assert found.foreign_bytes == len(start + data)


@given(data=st.binary(max_size=300), at=st.integers(12, 120))
def test_undamaged_nonsense_never_raises(data: bytes, at: int) -> None:
    bad = bytearray(encode(FRAME))
    bad[at : at + len(data)] = data
    bad[8:12] = struct.pack("!I", len(bad))
    found = find_frames(resealed(bytes(bad)))
    assert len(found.envelopes) + len(found.faults) == 1


# --- what is wrong is said --------------------------------------------------------------------


def test_a_mail_without_a_frame_is_foreign() -> None:
    assert only_fault(b"Dear friend, I am a prince").why is Why.FOREIGN


def test_an_empty_mail_is_foreign() -> None:
    assert only_fault(b"").why is Why.FOREIGN


def test_a_frame_that_claims_to_be_huge_is_too_long() -> None:
    assert only_fault(encode(FRAME)[:8] + b"\x7f\xff\xff\xff" + bytes(100)).why is Why.TOO_LONG


def test_a_frame_of_another_version_is_named_and_passed_over() -> None:
    found = find_frames(changed(4, b"\x02") + encode(FRAME))
    assert [str(fault) for fault in found.faults] == [
        "other version: a frame of version 2; this side speaks 1"
    ]
    assert len(found.envelopes) == 1


def test_a_frame_of_an_unknown_kind_is_skipped() -> None:
    found = find_frames(changed(5, b"\x63") + encode(FRAME))
    assert (found.skipped, found.faults, len(found.envelopes)) == (1, [], 1)


def test_unknown_flags_are_ignored() -> None:
    assert find_frames(changed(6, b"\xf1")).envelopes[0].frame.flags is Flag.OPEN


def test_what_a_later_version_adds_to_the_head_is_skipped() -> None:
    data = encode(FRAME)
    head_bytes = struct.unpack_from("!H", data, 12)[0]
    body_at = 12 + head_bytes
    longer = bytearray(data[:body_at] + b"later" + data[body_at:])
    longer[8:14] = struct.pack("!IH", len(longer), head_bytes + 5)
    assert find_frames(resealed(bytes(longer))).envelopes[0].frame == FRAME


@pytest.mark.parametrize(
    ("at", "new"),
    [
        (12, b"\xff\xff"),
        (14, b"\xff"),
        (80, b"\xff\xff"),
        (84, b"\xff"),
        (40, b"\xff" * 8),
        (48, b"\xff" * 8),
        (60, b"\xff" * 8),
        (68, b"\xff" * 8),
        (48, struct.pack("!Q", 9)),
    ],
    ids=["head", "tag", "name", "ranges", "start", "have", "created", "expires", "order"],
)
def test_an_undamaged_frame_that_makes_no_sense_is_malformed(at: int, new: bytes) -> None:
    assert only_fault(changed(at, new)).why is Why.MALFORMED


def test_a_body_that_is_longer_than_bodies_may_be_is_malformed() -> None:
    data = bytearray(encode(FRAME._replace(body=bytes(BODY_BYTES))))
    data[-16:-16] = b"!"
    data[8:12] = struct.pack("!I", len(data))
    assert only_fault(resealed(bytes(data))).why is Why.MALFORMED


@pytest.mark.parametrize(
    "evil", [b"a@b.test\r\nX:", b"al ce@a.test", b"alice@a.tes\0", b"\xff" * 12]
)
def test_a_mailbox_that_would_get_into_a_mail_s_head_is_refused(evil: bytes) -> None:
    data = encode(FRAME)
    bad = data.replace(b"alice@a.test", evil[:12].ljust(12, b"\n"))
    assert only_fault(resealed(bad)).why is Why.MALFORMED


def test_a_mailbox_is_spelt_as_addresses_spell_it() -> None:
    frame = FRAME._replace(sender=Place("alice@A.Test", 1))
    assert find_frames(encode(frame)).envelopes[0].frame.sender == Place("alice@a.test", 1)


def test_a_mail_full_of_false_starts_costs_little() -> None:
    start = MAGIC + bytes(4) + struct.pack("!I", 200_000)
    found = find_frames(start * 100_000)
    assert found.envelopes == []
    assert len(found.faults) == 64


# --- trust ------------------------------------------------------------------------------------


def test_a_tag_made_with_the_secret_is_trusted() -> None:
    (envelope,) = find_frames(encode(FRAME, SECRET)).envelopes
    envelope.check_trust(SECRET)
    assert envelope.frame == FRAME


def test_a_tag_made_with_another_secret_is_not_trusted() -> None:
    (envelope,) = find_frames(encode(FRAME, b"guessed")).envelopes
    with pytest.raises(EnvelopeError, match="untrusted: tagged with another secret"):
        envelope.check_trust(SECRET)


def test_a_frame_without_a_tag_is_not_trusted_where_a_secret_is_agreed() -> None:
    (envelope,) = find_frames(encode(FRAME)).envelopes
    with pytest.raises(EnvelopeError, match="untrusted: not tagged"):
        envelope.check_trust(SECRET)


def test_a_tag_is_not_taken_where_no_secret_is_agreed() -> None:
    (envelope,) = find_frames(encode(FRAME, SECRET)).envelopes
    with pytest.raises(EnvelopeError, match="no secret is agreed"):
        envelope.check_trust(None)


def test_a_kind_of_trust_that_is_not_known_is_not_trusted() -> None:
    data = bytearray(encode(FRAME, SECRET))
    data[7] = 9
    (envelope,) = find_frames(resealed(bytes(data))).envelopes
    with pytest.raises(EnvelopeError, match="untrusted"):
        envelope.check_trust(SECRET)


def test_a_tag_that_was_cut_short_is_not_trusted() -> None:
    data = bytearray(encode(FRAME, SECRET))
    del data[-48:-16]
    data[8:12] = struct.pack("!I", len(data))
    data[14] = 0
    (envelope,) = find_frames(resealed(bytes(data))).envelopes
    with pytest.raises(EnvelopeError, match="untrusted"):
        envelope.check_trust(SECRET)


def test_a_changed_frame_with_a_right_sum_is_not_trusted() -> None:
    data = encode(FRAME, SECRET).replace(b"hello", b"jello")
    (envelope,) = find_frames(resealed(data)).envelopes
    with pytest.raises(EnvelopeError, match="untrusted"):
        envelope.check_trust(SECRET)
