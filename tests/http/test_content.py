"""Content types and forms of messages: what comes in, what goes out, and what is refused."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compoint import Streamable
from compoint.http._content import ContentError, from_content, is_left_to_curl, to_content
from compoint.limits import MIB
from compoint.message import FORM_BYTES, FORM_PLAIN, FORM_TEXT, FORM_TYPED, decode, encode

PLAIN = "application/vnd.compoint.plain"
TYPED = "application/vnd.compoint.typed"


def taken(kind: str, body: bytes, **headers: str) -> tuple[int, bytes]:
    more = {name.replace("_", "-"): value for name, value in headers.items()}
    return from_content({"content-type": kind, **more}, body, MIB)


def refused(kind: str, body: bytes, **headers: str) -> ContentError:
    with pytest.raises(ContentError) as caught:
        taken(kind, body, **headers)
    return caught.value


# --- in -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "body", "message"),
    [
        ("application/octet-stream", b"\xff\0", b"\xff\0"),
        ("text/plain", "grün".encode(), "grün"),
        ("text/plain; charset=utf-8", "grün".encode(), "grün"),
        ('TEXT/Plain;Charset="UTF-8"', b"green", "green"),
        ("text/plain; charset=us-ascii", b"green", "green"),
        ("application/json", b'{"item": "book", "count": 2}', {"item": "book", "count": 2}),
        ("application/json; charset=utf-8", b" [1.5, null, true] ", [1.5, None, True]),
    ],
)
def test_a_body_becomes_the_message_that_it_is(kind: str, body: bytes, message: Any) -> None:
    assert decode(*taken(kind, body)) == message


def test_a_body_without_a_type_is_bytes() -> None:
    assert from_content({}, b"\xff", MIB) == (FORM_BYTES, b"\xff")


@pytest.mark.parametrize(("form", "kind"), [(FORM_PLAIN, PLAIN), (FORM_TYPED, TYPED)])
def test_our_own_types_pass_as_they_are(form: int, kind: str) -> None:
    payload = b"\x05Order\x81\xa4item\xa4book"
    assert taken(kind, payload) == (form, payload)
    assert to_content(form, payload, kind) == ({"content-type": kind}, payload)


@pytest.mark.parametrize(
    "kind",
    [
        "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/html",
        "text/plain, text/plain", "garbage", "application/vnd.compoint.turns", "*/*",
    ],
)  # fmt: skip
def test_other_types_are_refused_with_what_to_write_instead(kind: str) -> None:
    error = refused(kind, b"x")
    assert (error.status, error.code) == (415, "unknown content")
    assert "-H 'Content-Type: text/plain'" in error.hint
    assert "application/json" in error.hint


@pytest.mark.parametrize("kind", ["text/plain", "application/json"])
def test_other_charsets_are_refused(kind: str) -> None:
    error = refused(f"{kind}; charset=latin-1", b"1")
    assert (error.status, error.code) == (415, "unknown content")
    assert "latin-1" in error.detail


def test_a_packed_body_is_refused() -> None:
    error = refused("text/plain", b"\x1f\x8b", content_encoding="gzip")
    assert (error.status, error.code) == (415, "unknown content")


def test_a_text_that_is_not_utf_8_is_named_where() -> None:
    error = refused("text/plain", b"gr\xfcn")
    assert (error.status, error.code) == (400, "bad content")
    assert "byte 2" in error.detail


@pytest.mark.parametrize(
    ("body", "where"),
    [(b"[1, 2,]", "byte 6"), (b'{"a": 1', "byte 7"), (b'{"a": 1, "a": 2}', "'a' twice"),
     (b'[{"b": [NaN]}]', "byte 8"), (b"[" * 101 + b"]" * 101, "100 levels"),
     (b"[" * 9999, "nested too deep"), (b"1e999", "out of range")],
)  # fmt: skip
def test_json_that_is_none_is_named_where(body: bytes, where: str) -> None:
    error = refused("application/json", body)
    assert (error.status, error.code) == (400, "bad content")
    assert where in error.detail


def test_a_typed_message_without_a_name_is_refused() -> None:
    assert refused(TYPED, b"\x05Ord").status == 400
    assert refused(TYPED, b"").status == 400
    assert refused(TYPED, b"\x02\0\x80").status == 400


class ContentOrder(Streamable):
    item: str
    count: int = 1


def test_json_with_a_type_is_a_typed_message() -> None:
    form, payload = taken("application/json", b'{"item": "book"}', compoint_type="ContentOrder")
    assert form == FORM_TYPED
    assert decode(form, payload) == ContentOrder("book")


def test_the_name_of_a_type_is_percent_encoded() -> None:
    class Bestellung(Streamable, name="Größe 1"):
        count: int

    headers, body = to_content(*encode(Bestellung(2)), "")
    assert headers["compoint-type"] == "Gr%C3%B6%C3%9Fe%201"
    form, payload = taken("application/json", body, compoint_type=headers["compoint-type"])
    assert decode(form, payload) == Bestellung(2)


@pytest.mark.parametrize("name", ["", "x" * 256, "Gr%FC%DFe", "Größe"])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    assert refused("application/json", b"{}", compoint_type=name).status == 400


@pytest.mark.parametrize("body", [b"[]", b'"book"', b"null"])
def test_the_fields_of_a_typed_message_are_an_object(body: bytes) -> None:
    error = refused("application/json", body, compoint_type="ContentOrder")
    assert (error.status, error.code) == (400, "bad content")


def test_an_int_beyond_64_bits_is_no_field() -> None:
    error = refused(
        "application/json", b'{"count": 18446744073709551616}', compoint_type="ContentOrder"
    )
    assert (error.status, error.code) == (400, "bad content")
    assert "64 bits" in error.detail


def test_a_type_beside_anything_but_json_is_refused() -> None:
    """It would be passed over otherwise, and another message be delivered than was meant."""
    assert refused("text/plain", b"{}", compoint_type="ContentOrder").status == 400


def test_json_is_bounded() -> None:
    with pytest.raises(ContentError) as caught:
        from_content({"content-type": "application/json"}, b'"12345"', 6)
    assert (caught.value.status, caught.value.code) == (413, "too large")


def test_what_curl_says_by_itself_is_told_from_what_somebody_said() -> None:
    assert is_left_to_curl({})
    assert is_left_to_curl({"content-type": "application/x-www-form-urlencoded"})
    assert not is_left_to_curl({"content-type": "text/plain"})


@given(
    kind=st.sampled_from(["text/plain", "application/json", PLAIN, TYPED]),
    body=st.binary(max_size=200),
    name=st.sampled_from([{}, {"compoint-type": "ContentOrder"}]),
)
def test_no_body_does_anything_else_than_pass_or_be_refused(
    kind: str, body: bytes, name: dict[str, str]
) -> None:
    with contextlib.suppress(ContentError):
        form, _ = from_content({"content-type": kind, **name}, body, MIB)
        assert form in {FORM_TEXT, FORM_PLAIN, FORM_TYPED}


# --- out ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "kind", "body"),
    [
        (b"\xff\0", "application/octet-stream", b"\xff\0"),
        ("grün", "text/plain; charset=utf-8", "grün".encode()),
        ({"a": [1, None]}, "application/json", b'{"a":[1,null]}'),
        (ContentOrder("book"), "application/json", b'{"item":"book","count":1}'),
    ],
)
def test_a_message_becomes_the_body_that_it_is(message: Any, kind: str, body: bytes) -> None:
    headers, found = to_content(*encode(message), "*/*")
    assert (headers["content-type"], found) == (kind, body)


def test_a_typed_message_as_json_names_its_type() -> None:
    assert to_content(*encode(ContentOrder("book")), "")[0]["compoint-type"] == "ContentOrder"


@pytest.mark.parametrize(
    ("accept", "is_ours"),
    [
        ("", False), ("*/*", False), ("application/json", False), ("text/html", False),
        (TYPED, True), (TYPED.upper(), True), (f"text/html, {TYPED};q=0.5", True),
        (f"{TYPED}, application/json", True), (f"application/json, {TYPED}", False),
    ],
)  # fmt: skip
def test_our_own_type_is_given_to_who_asks_for_it_by_name(accept: str, is_ours: bool) -> None:
    form, payload = encode(ContentOrder("book"))
    headers, body = to_content(form, payload, accept)
    assert (headers["content-type"] == TYPED) is is_ours
    assert (body == payload) is is_ours


def test_what_json_has_no_word_for_is_written_as_text() -> None:
    message = [
        b"\xff", datetime(2026, 11, 20, 10, 5, tzinfo=UTC), datetime(2026, 11, 20), UUID(int=7),
        Decimal("1.50"), float("inf"), 10**30, {1: 2},
    ]  # fmt: skip
    _, body = to_content(*encode(message), "")
    assert body == (
        b'["/w==","2026-11-20T10:05:00Z","2026-11-20T00:00:00",'
        b'"00000000-0000-0000-0000-000000000007","1.50",null,'
        b'1000000000000000000000000000000,{"1":2}]'
    )


@pytest.mark.parametrize("message", [{1: "a", "1": "b"}, {None: 1}, [{True: 1}]])
def test_what_json_would_lose_is_given_as_it_travels(message: Any) -> None:
    form, payload = encode(message)
    assert to_content(form, payload, "application/json") == ({"content-type": PLAIN}, payload)


def test_a_message_that_is_damaged_is_given_as_it_is() -> None:
    assert to_content(FORM_PLAIN, b"\xc1", "") == ({"content-type": PLAIN}, b"\xc1")
    for payload in (b"\x09x", b"\x02\0\x80"):
        assert to_content(FORM_TYPED, payload, "") == ({"content-type": TYPED}, payload)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)  # fmt: skip


@given(JSON_VALUES)
def test_json_goes_in_and_comes_out_the_same(value: Any) -> None:
    headers, body = to_content(*encode(value), "application/json")
    if headers["content-type"] == "application/json":
        assert decode(*taken("application/json", body)) == value
