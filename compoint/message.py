"""Messages and the bytes they travel as: the door to msgspec, which nothing else imports.

A message has a form, which travels beside it, and a payload:

    FORM_BYTES  0  bytes: the payload is the message
    FORM_TEXT   1  str: the payload is its UTF-8
    FORM_PLAIN  2  plain data: MessagePack with extensions of ours (`_plain.py`)
    FORM_TYPED  3  an instance of a class declared as a message: its name, then a
                   MessagePack map of its fields (`_typed.py`)

The fields of a typed message are checked twice: by the writer before it is sent (0.15 µs
for a small one; not if a `__post_init__` of the user's would run for it) and by the
reader. A value that looks the same on the wire (a Decimal in a field for str) passes.
Fields that the reader's class does not know are skipped, unless it was made with
`forbid_unknown_fields=True`. Nothing here is ever pickled.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any, Final

import msgspec

from compoint._plain import decode_plain, encode_plain
from compoint._typed import Codec, Streamable, codec_of, fault_from, known_as, name_in
from compoint.errors import Fate, MessageError

__all__ = [
    "FORM_BYTES",
    "FORM_PLAIN",
    "FORM_TEXT",
    "FORM_TYPED",
    "Streamable",
    "decode",
    "encode",
]

FORM_BYTES: Final = 0
FORM_TEXT: Final = 1
FORM_PLAIN: Final = 2
FORM_TYPED: Final = 3


def encode(message: object) -> tuple[int, bytes]:
    """The form and the payload of a message.

    Takes bytes, str, plain data (None, bool, int, float, list, dict, datetime, UUID,
    Decimal; exactly these types, nested up to `limits.NESTING_DEPTH`) and instances of
    classes declared as messages. Safe in any thread.

    Raises:
        MessageError: the message, or the part at `path`, cannot travel; nothing was sent.
    """
    kind = type(message)
    if kind is bytes:
        return FORM_BYTES, message  # type: ignore[return-value]
    try:
        codec = codec_of(kind)
        if codec is not None:
            return FORM_TYPED, codec.encode(message)
        if kind is str:
            return FORM_TEXT, message.encode()  # type: ignore[attr-defined]
        return FORM_PLAIN, encode_plain(message)
    except MessageError as error:
        error.fate = Fate.NOT_SENT
        raise
    except Exception as error:  # e.g. of a tzinfo of the user's
        fault = fault_from(error)
        fault.fate = Fate.NOT_SENT
        raise fault from error


def decode(form: int, payload: bytes, wanted: Any = None) -> Any:
    """The message of a form and a payload.

    Without `wanted` it comes out as it was written. `wanted` is a class, a union, or any
    type msgspec can check (`Order`, `Order | Cancel`, `dict[str, int]`); the message is
    then one of these or refused. Plain dicts are taken for declared classes, so that
    foreign programs can write them; `dict` takes the fields of any typed message.
    Safe in any thread.

    Raises:
        MessageError: the payload is no such message, whatever it is; `path` says where.
    """
    try:
        if wanted is None:
            return _natural(form, payload)
        codec = codec_of(wanted)
        if codec is not None and form == FORM_TYPED and payload.startswith(codec.prefix):
            return codec.decode(payload)
        return _expectation(wanted).take(form, payload)
    except MessageError:
        raise
    except Exception as error:  # the one door for foreign bytes, and users' hooks behind it
        raise fault_from(error) from error


def _natural(form: int, payload: bytes) -> Any:
    if form == FORM_BYTES:
        return payload
    if form == FORM_TEXT:
        return payload.decode()
    if form == FORM_PLAIN:
        return decode_plain(payload)
    if form == FORM_TYPED:
        return _only_one(name_in(payload)).decode(payload)
    raise MessageError(f"a message of form {form}, which is unknown here")


def _only_one(name: bytes) -> Codec:
    codecs = known_as(name)
    if len(codecs) == 1:
        return codecs[0]
    if codecs:
        places = " and ".join(sorted(codec.place for codec in codecs))
        raise MessageError(
            f"several classes are called {name.decode()}: {places}",
            hint="read with the class, or give one of them another name=",
        )
    raise MessageError(
        f"no class called {name.decode()} is known here",
        hint="import or define it (Streamable, @Streamable.register), or read(dict)",
    )


# --- what the reader wants --------------------------------------------------------------------

#: Expectations kept for the next message; when so many are, all are made anew.
_EXPECTATIONS: Final = 256

_expectations: dict[Any, _Expectation] = {}

#: So that a str is not taken for Base64 where bytes are wanted.
_AS_THEY_ARE: Final = (bytes,)


def _expectation(wanted: Any) -> _Expectation:
    try:
        known = _expectations.get(wanted)
    except TypeError:  # not hashable
        return _Expectation(wanted)
    if known is None:
        if len(_expectations) >= _EXPECTATIONS:
            _expectations.clear()
        known = _expectations[wanted] = _Expectation(wanted)
    return known


def _members(wanted: Any) -> Iterator[Any]:
    if typing.get_origin(wanted) in (typing.Union, types.UnionType):
        for member in typing.get_args(wanted):
            yield from _members(member)
    elif hasattr(wanted, "__value__"):  # `type Message = Order | Cancel`
        yield from _members(wanted.__value__)
    else:
        yield wanted


def _takes_fields(member: Any) -> bool:
    origin = typing.get_origin(member) or member
    return origin in (dict, Mapping, MutableMapping) or typing.is_typeddict(origin)


class _Expectation:
    """One `wanted`, taken apart: classes declared as messages, and the others.

    The members of a union are tried one by one: msgspec's own unions hold only one class
    and one of str, bytes, datetime, … Their order does not matter (and is not known, for
    `A | B == B | A`): exactly one must fit.
    """

    def __init__(self, wanted: Any) -> None:
        members = [types.NoneType if each is None else each for each in _members(wanted)]
        self._codecs = [codec for each in members if (codec := codec_of(each)) is not None]
        self._others = [each for each in members if codec_of(each) is None]
        self._takes_all = Any in members or object in members
        self._takes_typed = self._takes_all or Streamable in members
        self._takes_fields = any(map(_takes_fields, members))
        self._label = " | ".join(map(_label, members))

    def take(self, form: int, payload: bytes) -> Any:
        if form == FORM_TYPED:
            return self._take_typed(payload)
        value = _natural(form, payload)
        if self._takes_all or type(value) in self._others:
            return value
        if self._codecs and type(value) is dict:
            return self._fit_fields(value)
        return self._fit(value, self._others)

    def _take_typed(self, payload: bytes) -> Any:
        name = name_in(payload)
        codecs = [codec for codec in self._codecs if codec.name == name]
        if len(codecs) == 1:
            return codecs[0].decode(payload)
        if codecs or self._takes_typed:
            return _only_one(name).decode(payload)
        if not self._takes_fields:
            raise MessageError(f"expected {self._label}, got {name.decode()}")
        fields = decode_plain(payload[1 + len(name) :])
        if type(fields) is not dict:
            raise MessageError(f"the fields of {name.decode()} are no dict")
        return fields if dict in self._others else self._fit(fields, self._others)

    def _fit_fields(self, fields: dict[Any, Any]) -> Any:
        # What takes dicts as such comes first: that is what the peer wrote.
        if self._takes_fields:
            try:
                return self._fit(fields, self._others)
            except MessageError:
                pass
        for codec in self._codecs:
            codec.prepare()
        return self._fit(fields, [codec.kind for codec in self._codecs])

    def _fit(self, value: Any, kinds: list[Any]) -> Any:
        fitting: list[Any] = []
        faults: list[MessageError] = []
        for kind in kinds:
            if kind is not Streamable:
                try:
                    fitting.append(msgspec.convert(value, kind, builtin_types=_AS_THEY_ARE))
                except msgspec.ValidationError as error:
                    faults.append(fault_from(error))
        if len(fitting) == 1:
            return fitting[0]
        found = f"expected {self._label}, got {type(value).__name__}"
        if fitting:
            raise MessageError(f"{found} that fits several of them")
        # The fault deepest inside speaks of the member that was meant.
        deepest = max(faults, key=lambda fault: len(fault.path), default=MessageError(found))
        raise deepest if len(kinds) == 1 or deepest.path != "$" else MessageError(found)


def _label(kind: Any) -> str:
    if kind is types.NoneType:
        return "None"
    return kind.__name__ if isinstance(kind, type) else str(kind)
