"""Messages and their bytes: what passes, what is refused, and in which words (P2)."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import decimal
import enum
import gc
import math
import sys
import time
import types
import typing
import uuid
from decimal import Decimal
from typing import Annotated, Any, Optional, Union

import msgspec
import pytest

from compoint.errors import Fate, MessageError, UsageError
from compoint.limits import NESTING_DEPTH
from compoint.message import (
    FORM_BYTES,
    FORM_PLAIN,
    FORM_TEXT,
    FORM_TYPED,
    Streamable,
    decode,
    encode,
)


class Colour(enum.IntEnum):
    RED = 1


Pair = collections.namedtuple("Pair", "left right")  # noqa: PYI024 - the old form is the subject


class Order(Streamable):
    item: str
    count: int = 1


class Cancel(Streamable, name="shop.Cancel"):
    order: int


class Basket(Streamable):
    orders: list[Order]
    later: Optional[Later] = None  # noqa: UP045 - the old form is a subject, too


class Later(Streamable):
    at: datetime.datetime
    price: Decimal
    number: uuid.UUID
    colour: Colour
    where: tuple[int, int]


@Streamable.register
@dataclasses.dataclass
class Offer:
    price: Decimal
    orders: list[Order] = dataclasses.field(default_factory=list)


@Streamable.register(name="shop.Receipt")
class Receipt(msgspec.Struct, frozen=True):
    total: float


@dataclasses.dataclass
class Undeclared:
    price: int


class Anything(Streamable):
    content: Any


class BareList(Streamable):
    content: list  # type: ignore[type-arg]


class HiddenObject(Streamable):
    content: dict[str, list[object]]


class HiddenInside(Streamable):
    inside: list[Anything]


class Complex(Streamable):
    value: complex


class Dangling(Streamable):
    value: NowhereToBeFound  # type: ignore[name-defined]  # noqa: F821


class Arrayed(Streamable, array_like=True):
    a: int


class Hooked(Streamable):
    value: int

    def __post_init__(self) -> None:
        hook_calls.append(self.value)
        if self.value == 7:
            self.value = object()  # type: ignore[assignment]
        if self.value == 13:
            raise KeyError("unlucky")


class Grid(Streamable):
    cells: dict[tuple[int, int], str]
    note: str = ""


class Tree(Streamable):
    value: int
    branches: list[Tree] = msgspec.field(default_factory=list)


hook_calls: list[int] = []

Wanted = Any


def there_and_back(message: object, wanted: Wanted = None) -> Any:
    return decode(*encode(message), wanted)


def refusal_of(message: object) -> MessageError:
    with pytest.raises(MessageError) as caught:
        encode(message)
    assert caught.value.fate is Fate.NOT_SENT
    return caught.value


def fault_in(form: int, payload: bytes, wanted: Wanted = None) -> MessageError:
    with pytest.raises(MessageError) as caught:
        decode(form, payload, wanted)
    return caught.value


def typed(name: bytes, fields: object) -> bytes:
    return bytes([len(name)]) + name + msgspec.msgpack.encode(fields)


# --- what passes as it is ---------------------------------------------------------------------


def test_bytes_pass_as_they_are() -> None:
    assert encode(b"\xff\x00") == (FORM_BYTES, b"\xff\x00")
    assert decode(FORM_BYTES, b"\xff\x00") == b"\xff\x00"


def test_text_passes_as_its_utf8() -> None:
    assert encode("grüß") == (FORM_TEXT, "grüß".encode())
    assert decode(FORM_TEXT, "grüß".encode()) == "grüß"


def test_the_forms_on_the_wire_never_change() -> None:
    assert (FORM_BYTES, FORM_TEXT, FORM_PLAIN, FORM_TYPED) == (0, 1, 2, 3)


PLAIN = [
    None,
    True,
    0,
    -(2**63),
    -(2**63) - 1,
    2**64 - 1,
    2**64,
    -(2**71),
    10**5000,
    -0.0,
    math.inf,
    1e-320,
    [],
    {},
    {"": [None, b"\x00", "x"]},
    {1: "int", "1": "str", b"1": "bytes", None: 0, 1.5: 0, False: 0},
    {2**70: 1, Decimal("1.5"): 2, uuid.UUID(int=7): 3, datetime.datetime(2026, 1, 1): 4, "s": 5},
    [{uuid.UUID(int=1): {Decimal(2): {2**65: [Decimal(3)]}}}],
    Decimal("1.50"),
    Decimal("-0E+400"),
    Decimal("-Infinity"),
    Decimal("NaN123"),
    Decimal("sNaN"),
    Decimal("1E+999999999999999999"),
    Decimal("0." + "123456789" * 20),
    uuid.UUID("12345678-1234-5678-1234-567812345678"),
    datetime.datetime.min,
    datetime.datetime(2026, 11, 20, 10, 5, 51, 716146),
    datetime.datetime(2026, 10, 25, 2, 30, fold=1),
    datetime.datetime(2026, 11, 20, tzinfo=datetime.UTC),
    datetime.datetime(
        2026, 1, 1, 1, tzinfo=datetime.timezone(-datetime.timedelta(hours=5, seconds=7))
    ),
    datetime.datetime(1, 1, 1, tzinfo=datetime.timezone(datetime.timedelta(microseconds=1))),
]


@pytest.mark.parametrize("value", PLAIN, ids=lambda value: type(value).__name__)
def test_plain_data_comes_out_as_the_same_type_and_value(value: object) -> None:
    for message in (value, [value], {"deep": [[[[[[[[value]]]]]]]]}):
        found = there_and_back(message)
        # repr() shows type, fold, sign and zeros; but it is refused for long ints.
        if isinstance(value, int):
            assert found == message
        else:
            assert repr(found) == repr(message)


TOO_BIG_A_DECIMAL = b"\xc7\x16\x02" + b"1E+9999999999999999999"


def test_the_decimal_context_of_the_program_does_not_matter() -> None:
    with decimal.localcontext(decimal.Context(prec=2, capitals=0, traps=[])):
        form, payload = encode(Decimal("1.2345E+30"))
        assert decode(form, payload) == Decimal("1.2345E+30")
        assert "wrong" in fault_in(FORM_PLAIN, TOO_BIG_A_DECIMAL).what
    assert payload.endswith(b"1.2345E+30")


def test_nesting_passes_up_to_the_limit_and_no_deeper() -> None:
    deep: list[Any] = []
    for _ in range(NESTING_DEPTH - 1):
        deep = [deep]
    assert there_and_back(deep) == deep
    assert "levels of nesting" in refusal_of([deep]).what
    assert "levels of nesting" in fault_in(FORM_PLAIN, b"\x91" * (NESTING_DEPTH + 1) + b"\x01").what


# --- what is refused on writing ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "type_name", "advice"),
    [
        ((1,), "tuple", "list"),
        ({1}, "set", "list"),
        (frozenset(), "frozenset", "list"),
        (Pair(1, 2), "Pair", "list"),
        (bytearray(b"x"), "bytearray", "bytes(...)"),
        (memoryview(b"x"), "memoryview", "bytes(...)"),
        (Colour.RED, "Colour", "int(...)"),
        (collections.OrderedDict(), "OrderedDict", "dict(...)"),
        (datetime.date.min, "date", "datetime"),
        (datetime.timedelta(1), "timedelta", "total_seconds()"),
        (1j, "complex", "Streamable"),
        (object(), "object", "Streamable"),
        (Undeclared(1), "Undeclared", "@Streamable.register"),
        (Order("a"), "Order", "field of a Streamable"),
        (Order, "Order", "instance"),
        ("\ud800", "U+D800", "bytes"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_would_not_come_out_the_same_is_refused_with_path_type_and_advice(
    value: object, type_name: str, advice: str
) -> None:
    error = refusal_of({"items": [0, 1, {"price": value, "more": (1,)}]})
    assert error.path == "$.items[2].price"
    assert type_name in error.what
    assert advice in error.hint


@pytest.mark.parametrize("value", [(1,), Colour.RED, Undeclared(1), object(), Order])
def test_a_foreign_object_as_the_whole_message_is_refused(value: object) -> None:
    assert refusal_of(value).path == "$"


def test_a_lone_surrogate_in_a_text_is_refused() -> None:
    assert "half a character" in refusal_of("a\udfff").what


@pytest.mark.parametrize("key", [(1, 2), frozenset(), Colour.RED, "\ud800", datetime.date.min])
def test_a_key_that_is_no_plain_value_is_refused(key: object) -> None:
    error = refusal_of([{"a": {key: 1}}])
    assert error.path == "$[0].a"
    assert "key" in error.what
    assert "UUID" in error.hint


def test_an_odd_key_is_quoted_in_the_path() -> None:
    assert refusal_of({"a b": {7: {2**80: ()}}}).path == "$['a b'][7][<int>]"


def test_a_cycle_is_refused_even_if_it_branches() -> None:
    cycle: list[Any] = [1]
    cycle += [{"a": cycle}, cycle]
    error = refusal_of(cycle)
    assert error.path == "$[1].a"
    assert "contains itself" in error.what


def test_a_hundred_thousand_levels_are_refused_without_recursion_error() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    assert "levels of nesting" in refusal_of(deep).what


def test_an_error_of_a_users_time_zone_becomes_a_message_error() -> None:
    class Zone(datetime.tzinfo):
        def utcoffset(self, _: datetime.datetime | None) -> datetime.timedelta:
            raise RuntimeError("no offset today")

        dst = utcoffset

        def tzname(self, _: datetime.datetime | None) -> str:
            return "nowhere"

    assert "no offset today" in refusal_of([datetime.datetime(2026, 1, 1, tzinfo=Zone())]).what


# --- typed messages ---------------------------------------------------------------------------

LATER = Later(
    datetime.datetime(2026, 1, 1, 1, 2, 3, 4, tzinfo=datetime.UTC),
    Decimal("1.50"),
    uuid.UUID(int=5),
    Colour.RED,
    (1, 2),
)


@pytest.mark.parametrize(
    "message",
    [
        Order("book", 2),
        Cancel(7),
        Basket([Order("a"), Order("b")], LATER),
        LATER,
        Offer(Decimal("1.50"), [Order("a")]),
        Receipt(1.5),
        Grid({(1, 2): "x"}),
        Tree(1, [Tree(2), Tree(3)]),
    ],
    ids=lambda message: type(message).__name__,
)
def test_a_declared_class_comes_out_equal_with_and_without_the_class(message: object) -> None:
    assert there_and_back(message) == message
    found = there_and_back(message, type(message))
    assert found == message
    assert type(found) is type(message)


def test_a_typed_payload_is_the_name_and_a_map_of_the_fields() -> None:
    assert encode(Order("book", 2)) == (FORM_TYPED, b"\x05Order\x82\xa4item\xa4book\xa5count\x02")
    assert encode(Cancel(7)) == (FORM_TYPED, b"\x0bshop.Cancel\x81\xa5order\x07")
    assert encode(Receipt(0.0))[1].startswith(b"\x0cshop.Receipt\x81")


@pytest.mark.parametrize(
    ("message", "path", "what"),
    [
        (Order(3), "$.item", "Expected `str`, got `int`"),  # type: ignore[arg-type]
        (Basket([Order("a"), Order("b", 2.5)]), "$.orders[1].count", "`float`"),  # type: ignore[arg-type]
        (Basket([Order("a"), Order("b", 2**64)]), "$.orders[1].count", "64 bits"),
        (Basket([Order("\ud800")]), "$.orders[0].item", "half a character"),
        (Offer(Decimal(1), [Order("a", object())]), "$.orders[0].count", "object"),  # type: ignore[arg-type]
    ],
)
def test_a_wrong_value_in_a_field_is_refused_before_it_is_sent(
    message: object, path: str, what: str
) -> None:
    error = refusal_of(message)
    assert error.path == path
    assert what in error.what
    assert type(message).__name__ in error.what


def test_writing_does_not_run_a_users_post_init() -> None:
    message = Hooked(1)
    hook_calls.clear()
    form, payload = encode(message)
    assert hook_calls == []
    assert decode(form, payload) == message
    assert hook_calls == [1]


def test_a_post_init_may_put_anything_into_its_message() -> None:
    assert type(decode(FORM_TYPED, typed(b"Hooked", {"value": 7})).value) is object


def test_an_error_in_a_users_post_init_becomes_a_message_error() -> None:
    assert "unlucky" in fault_in(FORM_TYPED, typed(b"Hooked", {"value": 13})).what


@pytest.mark.parametrize(
    ("message", "path", "field"),
    [
        (Anything(1), "$.content", "'content' of Anything"),
        (BareList([]), "$.content", "'content' of BareList"),
        (HiddenObject({}), "$.content", "'content' of HiddenObject"),
        (HiddenInside([]), "$.inside.content", "'content' of Anything"),
        (Complex(1j), "$.value", "'value' of Complex: complex"),
        (Dangling(1), "$", "NowhereToBeFound"),
        (Arrayed(1), "$", "array_like"),
    ],
)
def test_a_field_without_a_concrete_type_is_refused_by_both_sides(
    message: object, path: str, field: str
) -> None:
    name = type(message).__name__
    for error in (refusal_of(message), fault_in(FORM_TYPED, typed(name.encode(), {}))):
        assert error.path == path
        assert field in error.what
        assert name in error.what


def test_a_subclass_of_a_declared_dataclass_is_not_declared() -> None:
    class Sub(Offer):
        pass

    assert "register" in refusal_of(Sub(Decimal(1))).hint


def test_only_dataclasses_and_structs_can_be_registered() -> None:
    with pytest.raises(UsageError, match="above @dataclass"):
        Streamable.register(int)


@pytest.mark.parametrize("name", ["", "x" * 256, "\ud800"])
def test_a_name_that_does_not_fit_on_the_wire_is_refused_at_once(name: str) -> None:
    with pytest.raises(UsageError, match="255"):
        Streamable.register(Undeclared, name=name)


def test_a_field_may_be_called_register_or_name() -> None:
    class Sign(Streamable):
        register: int
        name: str

    assert there_and_back(Sign(1, "x")) == Sign(1, "x")


# --- several classes of one name --------------------------------------------------------------


def class_in(module: str, name: str, **fields: type) -> Any:
    namespace = {"__module__": module, "__annotations__": fields}
    return types.new_class(name, (Streamable,), {}, lambda found: found.update(namespace))


def test_two_classes_of_one_name_are_read_only_with_the_class() -> None:
    first, second = class_in("one", "Twin", a=int), class_in("two", "Twin", a=int)
    form, payload = encode(second(1))
    error = fault_in(form, payload)
    assert "one.Twin and two.Twin" in error.what
    assert "read with the class" in error.hint
    assert type(decode(form, payload, first)) is first
    assert type(decode(form, payload, second | None)) is second
    assert "several" in fault_in(form, payload, first | second).what


def test_a_class_defined_again_in_the_same_place_replaces_the_older() -> None:
    old = class_in("notebook", "Cell", a=int)
    new = class_in("notebook", "Cell", a=int, b=int)
    assert type(there_and_back(new(1, 2))) is new
    assert type(there_and_back(old(1), old)) is old


def test_a_class_nobody_uses_any_more_is_forgotten() -> None:
    payload = encode(class_in("gone", "Gone", a=int)(1))[1]
    gc.collect()
    assert "no class called Gone" in fault_in(FORM_TYPED, payload).what


def test_an_unknown_class_is_named_and_can_be_read_as_a_dict() -> None:
    payload = typed(b"Nope", {"a": [1]})
    error = fault_in(FORM_TYPED, payload)
    assert "Nope" in error.what
    assert "import" in error.hint
    assert "read(dict)" in error.hint
    assert decode(FORM_TYPED, payload, dict) == {"a": [1]}
    assert decode(FORM_TYPED, payload, dict[str, list[int]]) == {"a": [1]}
    assert fault_in(FORM_TYPED, payload, dict[str, list[str]]).path == "$[...][0]"


# --- reading with a type ----------------------------------------------------------------------


def test_another_class_than_wanted_is_refused_by_name() -> None:
    form, payload = encode(Order("a"))
    assert fault_in(form, payload, Offer).what == "expected Offer, got Order"
    assert fault_in(form, payload, Offer | None).what == "expected Offer | None, got Order"
    assert fault_in(form, payload, int).what == "expected int, got Order"


@pytest.mark.parametrize(
    "wanted",
    [Order | Cancel, Union[Cancel, Order], Optional[Order], Order | int, Streamable, Any, object],  # noqa: UP007, UP045
    ids=str,
)
def test_a_union_takes_each_of_its_members(wanted: Wanted) -> None:
    assert there_and_back(Order("a"), wanted) == Order("a")


def test_a_typed_message_is_validated_with_the_path_of_the_fault() -> None:
    payload = typed(b"Basket", {"orders": [{"item": "a"}, {"item": "b", "count": "2"}]})
    assert fault_in(FORM_TYPED, payload).path == "$.orders[1].count"
    assert fault_in(FORM_TYPED, payload, Basket).path == "$.orders[1].count"


def test_the_path_of_a_fault_in_a_key_is_that_of_its_dict() -> None:
    payload = b"\x04Grid\x81\xa5cells\x81\x92\x01\xa0\xa0"  # the key is [1, ""]
    assert fault_in(FORM_TYPED, payload).path == "$.cells"
    assert fault_in(*encode({"a": {1: 2}}), dict[str, dict[str, int]]).path == "$[...]"


def test_of_the_members_of_a_union_the_one_that_nearly_fits_tells_the_fault() -> None:
    assert fault_in(*encode({"a": [0, "x"]}), None | dict[str, list[int]] | str).path == "$[...][1]"


def test_a_field_unknown_to_the_readers_class_is_skipped() -> None:
    assert decode(FORM_TYPED, typed(b"Order", {"new": [1], "item": "a"})) == Order("a")


def test_a_plain_dict_is_taken_for_a_declared_class() -> None:
    fields = {"price": Decimal("1.5"), "orders": [{"item": "a"}]}
    assert there_and_back(fields, Offer) == Offer(Decimal("1.5"), [Order("a")])
    assert there_and_back(fields, Offer | None) == Offer(Decimal("1.5"), [Order("a")])
    assert there_and_back(fields, Order | Offer) == Offer(Decimal("1.5"), [Order("a")])
    assert there_and_back(fields, Offer | dict) == fields
    fields["orders"] = [{"item": 1}]
    assert fault_in(*encode(fields), Offer | None).path == "$.orders[0].item"


def test_what_takes_dicts_as_such_comes_before_a_declared_class() -> None:
    wanted = Cancel | dict[str, int]
    assert there_and_back({"order": 1}, wanted) == {"order": 1}
    assert there_and_back({"order": 1, "by": "me"}, wanted) == Cancel(1)


def test_a_wanted_type_without_hash_is_taken() -> None:
    assert there_and_back([1], Annotated[list[int], []]) == [1]


def test_more_wanted_types_than_are_remembered_are_still_told_apart() -> None:
    for size in range(300):
        wanted = Annotated[list[int], msgspec.Meta(min_length=size)]
        assert there_and_back([0] * size, wanted) == [0] * size
    assert "length" in fault_in(*encode([0]), Annotated[list[int], msgspec.Meta(min_length=2)]).what


@pytest.mark.skipif(sys.version_info < (3, 12), reason="the type statement came with 3.12")
def test_a_named_union_is_taken_for_its_members() -> None:
    alias = typing.TypeAliasType("alias", Order | Cancel)  # type: ignore[attr-defined,unused-ignore]
    assert there_and_back(Order("a"), alias) == Order("a")


def test_a_dict_that_fits_several_classes_is_refused() -> None:
    assert "several" in fault_in(*encode({"item": "a", "order": 1}), Order | Cancel).what


@pytest.mark.parametrize(
    ("message", "wanted"),
    [
        ({"a": 1}, dict[str, int]),
        ([Decimal(1), 2**70], list[Decimal | int]),
        (b"x", bytes),
        (b"x", str | bytes),
        ("x", str | bytes | datetime.datetime | None),
        (None, Order | None),
        (3, int),
        (datetime.datetime(2026, 1, 1), datetime.datetime),
        ({uuid.UUID(int=1): b"x"}, dict[uuid.UUID, bytes]),
        ({"a": Decimal(1)}, dict[str, Any]),
    ],
    ids=str,
)
def test_a_message_of_the_wanted_type_comes_out_as_it_is(message: object, wanted: Wanted) -> None:
    found = there_and_back(message, wanted)
    assert found == message
    assert type(found) is type(message)


@pytest.mark.parametrize(
    ("message", "wanted"),
    [
        (b"x", str),
        ("aGk=", bytes),
        (b"x", Order),
        ("x", Order),
        ("1", int),
        (True, int),
        (1.0, int),
        ({"a": "1"}, dict[str, int]),
        ([1], Order),
        ({}, Streamable),
        (1, 3),
        ({}, Undeclared),
        (b"x", list[int] | list[str]),
        ({}, Anything),
    ],
    ids=str,
)
def test_a_message_of_another_type_than_wanted_is_refused(message: object, wanted: Wanted) -> None:
    assert str(fault_in(*encode(message), wanted))


# --- hostile payloads -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("payload", "what"),
    [
        (b"", "ends in the middle"),
        (b"\x91", "ends in the middle"),
        (b"\xd9\x05abc", "ends in the middle"),
        (b"\xdd\xff\xff\xff\xff", "ends in the middle"),
        (b"\x81\xa1a\xdf\xff\xff\xff\xff", "ends in the middle"),
        (b"\x01\x01", "1 bytes are left over"),
        (b"\x91\xc1", "0xC1"),
        (b"\x91\xa1\xff", "not UTF-8"),
        (b"\x91" * 100_000, "levels of nesting"),
        (b"\x82\xa1a\x01\xa1a\x02", "same key twice"),
        (b"\x82\x01\x02\xc3\x03", "same key twice"),
        (b"\x82\x01\x02\xcb\x3f\xf0\0\0\0\0\0\0\x03", "same key twice"),
        (b"\x95\xc7\0\x06\x01\x02\x01\x02", "same key twice"),
        (b"\x81\x91\x01\x02", "key of a map"),
        (b"\x81\x81\x01\x02\x03", "key of a map"),
        (b"\x81\xd8\x05" + bytes(16) + b"\x01", "key of a map"),
        (b"\xd4\x4d\x01", "code 77 is unknown"),
        (b"\xc7\0\x01", "code 1 is wrong"),
        (b"\xd4\x02x", "code 2 is wrong"),
        (TOO_BIG_A_DECIMAL, "code 2 is wrong"),
        (b"\xd5\x021_", "code 2 is wrong"),
        (b"\xc7\x08\x0320260101", "code 3 is wrong"),
        (b"\xd4\x04\xff", "code 4 is wrong"),
        (b"\xd7\x05" + bytes(8), "code 5 is wrong"),
        (b"\xc7\0\x06", "not first"),
        (b"\x92\x01\xc7\0\x06", "not first"),
        (b"\x93\xc7\x01\x06x\x01\x02", "not empty"),
        (b"\x92\xc7\0\x06\x01", "key without a value"),
        (b"\x93\xc7\0\x06\x90\x01", "list or a dict"),
        (b"\x93\xc7\0\x06\xc7\x04\x02sNaN\x01", "no hash"),
        (b"\xd7\xff" + b"\xff" * 8, "timestamp"),
    ],
)
def test_a_broken_plain_payload_is_refused(payload: bytes, what: str) -> None:
    assert what in fault_in(FORM_PLAIN, payload).what


def test_a_fault_inside_a_plain_payload_has_its_path() -> None:
    assert fault_in(FORM_PLAIN, b"\x91\x81\xa1k\x82\xa1a\x01\xa1a\x02").path == "$[0].k"
    assert fault_in(FORM_PLAIN, b"\x81\xa1k\x92\x01\xd4\x4d\x01").path == "$.k[1]"


@pytest.mark.parametrize(
    ("payload", "what"),
    [
        (b"", "without the name"),
        (b"\0", "without the name"),
        (b"\x09Order", "without the name"),
        (b"\x01\xff\x80", "not UTF-8"),
        (b"\x05Order", "truncated"),
        (b"\x05Order\xa1a", "Expected"),
        (b"\x05Order\x80", "missing required field"),
        (b"\x05Order\x82\xa4item\xa1a\xa4item\xa1b", "same key twice"),
        (b"\x05Order\x82\xa4item\xa1a\xa1x" + b"\x91" * 100_000, "too deep"),
    ],
)
def test_a_broken_typed_payload_is_refused(payload: bytes, what: str) -> None:
    assert what in fault_in(FORM_TYPED, payload).what
    assert fault_in(FORM_TYPED, payload, Order | None)


def test_a_text_that_is_not_utf8_is_refused() -> None:
    assert "its byte 2" in fault_in(FORM_TEXT, b"ab\xff").what


@pytest.mark.parametrize("form", [-1, 4, 255])
def test_an_unknown_form_is_refused(form: int) -> None:
    assert str(form) in fault_in(form, b"").what


def test_other_spellings_of_foreign_encoders_are_read() -> None:
    assert decode(FORM_PLAIN, b"\x82\xd9\x01a\xcc\x01\xa1b\xca\x3f\x80\0\0") == {"a": 1, "b": 1.0}
    epoch = datetime.datetime(1970, 1, 1, 0, 0, 1, tzinfo=datetime.UTC)
    assert decode(FORM_PLAIN, b"\x91\xd6\xff\0\0\0\x01") == [epoch]
    assert decode(FORM_TYPED, b"\x05Order\x82\xd9\x04item\xa1a\xa5count\xcc\x05") == Order("a", 5)


def test_keys_chosen_to_collide_cost_no_time() -> None:
    number = 50_000
    stride = (1 << 61) - 1  # all multiples of it have the same hash

    def extension(value: int) -> bytes:
        return b"\xd8\x05" + value.to_bytes(16, "big")

    pairs = b"".join(extension(i * stride) + b"\x01" for i in range(number))
    as_array = b"\xdd" + (2 * number + 1).to_bytes(4, "big") + b"\xc7\0\x06" + pairs
    as_map = b"\xdf" + number.to_bytes(4, "big") + pairs
    started = time.thread_time()
    assert "same hash" in fault_in(FORM_PLAIN, as_array).what
    assert "key of a map" in fault_in(FORM_PLAIN, as_map).what
    decode(FORM_TYPED, b"\x05Order\x82\xa4item\xa1a\xa1x" + as_map)
    assert time.thread_time() - started < 5  # minutes, if they met in a dict
