"""Messages under Hypothesis: all plain data comes back; no payload does worse than MessageError."""

from __future__ import annotations

import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from compoint.errors import MessageError
from compoint.message import FORM_PLAIN, FORM_TYPED, Streamable, decode, encode


class Parcel(Streamable):
    label: str
    weight: float = 0.0
    parts: list[Parcel] = msgspec.field(default_factory=list)
    marks: dict[int, bytes | None] = msgspec.field(default_factory=dict)
    cells: dict[tuple[int, int], str] = msgspec.field(default_factory=dict)
    price: Decimal | None = None


offsets = st.timedeltas(
    min_value=datetime.timedelta(hours=-23), max_value=datetime.timedelta(hours=23)
).map(datetime.timezone) | st.integers(-(10**6), 10**6).map(
    lambda found: datetime.timezone(datetime.timedelta(microseconds=found))
)
moments = st.datetimes(timezones=st.none() | offsets) | st.builds(
    lambda moment, fold: moment.replace(fold=fold), st.datetimes(), st.integers(0, 1)
)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
numbers = st.integers() | st.integers(-(2**200), 2**200) | st.floats(allow_nan=False)
keys = (
    st.none()
    | st.booleans()
    | numbers
    | texts
    | st.binary(max_size=20)
    | moments
    | st.uuids()
    | st.decimals(allow_nan=False)
)
leaves = keys | st.decimals()
plain = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.dictionaries(texts, inner, max_size=5)
        | st.dictionaries(keys, inner, max_size=20)
    ),
    max_leaves=30,
)
fields: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {"label": texts | st.just(3)},
    optional={
        "weight": st.integers(-(2**63), 2**64 - 1) | st.floats(),
        "parts": st.lists(st.fixed_dictionaries({"label": texts}), max_size=3),
        "marks": st.dictionaries(st.integers(-5, 5), st.binary(max_size=3)),
        "cells": st.dictionaries(st.tuples(st.integers(0, 5), st.integers(0, 5)), texts),
        "other": st.lists(st.integers(0, 5)),
    },
)

#: Every way in which a program may ask.
wanted_types = st.sampled_from(
    [None, Parcel, Parcel | None, dict, dict[str, int], list[UUID], int | str | bytes, Any]
)


def shape(value: Any) -> Any:
    """A value with its types, so that 1, True and 1.0 differ and NaN equals NaN."""
    if type(value) is list:
        return [shape(item) for item in value]
    if type(value) is dict:
        return [(shape(key), shape(item)) for key, item in value.items()]
    return (type(value), repr(value))


def only_a_message_error(form: int, payload: bytes, wanted: Any) -> None:
    """Decodes, or raises MessageError; anything else fails the test by itself."""
    fault = None
    try:
        decode(form, payload, wanted)
    except MessageError as error:
        fault = error
    assert fault is None or (fault.what and fault.path.startswith("$"))


@given(plain)
def test_plain_data_comes_out_as_the_same_types_and_values(message: Any) -> None:
    assert shape(decode(*encode(message))) == shape(message)


@given(st.integers(0, 4), st.binary(max_size=200), wanted_types)
def test_any_bytes_of_any_form_decode_or_raise_message_error(
    form: int, payload: bytes, wanted: Any
) -> None:
    only_a_message_error(form, payload, wanted)


@st.composite
def damaged(draw: st.DrawFn, whole: st.SearchStrategy[bytes]) -> bytes:
    """A payload with some bytes changed, cut off, doubled or added."""
    payload = bytearray(draw(whole))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(payload)))
        payload[at : at + draw(st.integers(0, 3))] = draw(st.binary(max_size=3))
    return bytes(payload)


@given(damaged(plain.map(lambda message: encode([message])[1])), wanted_types)
def test_damaged_plain_payloads_decode_or_raise_message_error(payload: bytes, wanted: Any) -> None:
    only_a_message_error(FORM_PLAIN, payload, wanted)


@given(damaged(fields.map(msgspec.msgpack.encode)), wanted_types)
def test_damaged_typed_payloads_decode_or_raise_message_error(payload: bytes, wanted: Any) -> None:
    only_a_message_error(FORM_TYPED, b"\x06Parcel" + payload, wanted)


@given(damaged(plain.map(lambda message: encode([message])[1])))
def test_whatever_is_decoded_is_plain_data_again(payload: bytes) -> None:
    try:
        message = decode(FORM_PLAIN, payload)
    except MessageError:
        return
    assert shape(decode(*encode([message]))) == [shape(message)]
