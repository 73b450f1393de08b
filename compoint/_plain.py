"""Plain data as MessagePack that loses nothing: the payload of FORM_PLAIN.

None, bool, int (64 bits), float, str, bytes, list and dict are MessagePack's own. The
rest travels in extension types of ours:

    code 1  int beyond 64 bits: two's complement, big-endian
    code 2  Decimal: its text ("1.50", "-0", "1E+400", "NaN", "sNaN12", "Infinity"), ASCII
    code 3  datetime: ISO 8601 as `isoformat()` writes it ("2026-11-20T10:05:51.716146",
            "2026-11-20T10:05:51+01:00"), ASCII; no offset: a naive datetime
    code 4  datetime with fold=1: as code 3
    code 5  UUID: its 16 bytes
    code 6  (empty) the first item of an array that stands for a dict with keys of codes
            1-5; behind it key, value, key, value, ...

Keys of a MessagePack map are None, bool, int, float, str or bytes. Others must use the
array of code 6, whose keys are checked before they meet in a dict: with chosen UUIDs or
tuples as keys a peer could make one short message cost minutes (msgpack-python forbids
them by `strict_map_key`). MessagePack's timestamp (code -1) is read, never written.

An aware datetime keeps its instant and its offset; its time zone's name does not travel.

Reading has two ways with one result. The fast one is proof: a decoder that knows only
the everyday types, and an encoder that gives the very same bytes back. What fails there
(foreign encoders, bytes, extensions, deep nesting, lies) is looked at in `_tokens.py` first.
"""

from __future__ import annotations

import dataclasses
import decimal
import re
from collections import Counter
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import msgspec
from msgspec.msgpack import Ext

from compoint._tokens import map_sizes
from compoint.errors import MessageError
from compoint.limits import NESTING_DEPTH

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

__all__ = ["CODEC", "below", "decode_plain", "encode_plain", "refuse_doubles", "step"]

#: The attribute by which a class says that it is a message (`compoint/message.py` sets it).
CODEC: Final = "__compoint_codec__"

INT, DECIMAL, DATETIME, DATETIME_FOLDED, UUID_BYTES, PAIRS = 1, 2, 3, 4, 5, 6

#: As many keys of one dict may share a hash. More is no accident: see above.
SAME_HASHES: Final = 64

_NATIVE: Final = frozenset({type(None), bool, int, float, str, bytes})

#: The fast decoder knows this many levels (its size doubles with each).
_FAST_LEVELS: Final = 6


def _everyday(levels: int) -> Any:
    leaf: Any = bool | int | float | str | None
    inner = leaf
    for _ in range(levels):
        inner = leaf | list[inner] | dict[str, inner]  # type: ignore[valid-type]
    return inner


_encode: Final = msgspec.msgpack.Encoder().encode
_decode_everyday: Final = msgspec.msgpack.Decoder(_everyday(_FAST_LEVELS)).decode
_decode_any: Final = msgspec.msgpack.Decoder().decode


# --- paths ------------------------------------------------------------------------------------


def step(key: object) -> str:
    """One step of a path: `.price`, `[2]`, `['odd key']`."""
    if type(key) is str:
        return f".{key}" if key.isidentifier() else f"[{key[:40]!r}]"
    if type(key) is int and key.bit_length() <= 64:
        return f"[{key}]"
    return f"[<{type(key).__name__}>]"


def below(key: object, error: MessageError) -> MessageError:
    """The same error, seen from the container that holds the faulty part under `key`."""
    error.path = f"${step(key)}{error.path[1:]}"
    return error


# --- writing ----------------------------------------------------------------------------------

#: The user's decimal context must not matter: not its traps, not its taste in letters.
_STRICT: Final = decimal.Context(capitals=1, traps=[decimal.InvalidOperation])

_EXTEND: Final[dict[type, Callable[[Any], Ext]]] = {
    Decimal: lambda value: Ext(DECIMAL, _STRICT.to_sci_string(value).encode("ascii")),
    datetime: lambda value: Ext(
        DATETIME_FOLDED if value.fold else DATETIME, value.isoformat().encode("ascii")
    ),
    UUID: lambda value: Ext(UUID_BYTES, value.bytes),
}

_SIMPLE, _EXTENDED, _FAULTY = 0, 1, 2


def encode_plain(value: object) -> bytes:
    """The MessagePack of plain data.

    Raises:
        MessageError: some part is no plain data; names its path and its type.
    """
    found = _survey(value, NESTING_DEPTH)
    try:
        if found == _SIMPLE:
            try:
                return _encode(value)
            except OverflowError:
                found = _EXTENDED
        if found == _EXTENDED:
            return _encode(_extended(value))
    except UnicodeEncodeError:
        pass
    fault = _fault_in(value, set())
    if fault is None:
        fault = _refusal("the message was changed by another thread while it was encoded", "")
    raise fault


def _survey(value: Any, room: int) -> int:
    """Whether msgspec carries `value` as it is, with our extensions, or must not see it."""
    kind = type(value)
    if kind is dict:
        found = _SIMPLE
        for key in value:
            if type(key) is not str and type(key) not in _NATIVE:
                if type(key) not in _EXTEND:
                    return _FAULTY
                found = _EXTENDED
        items: Iterable[Any] = value.values()
    elif kind is list:
        found, items = _SIMPLE, value
    else:
        return _SIMPLE if kind in _NATIVE else _EXTENDED if kind in _EXTEND else _FAULTY
    if not room:
        return _FAULTY
    for item in items:
        if type(item) not in _NATIVE:
            inside = _survey(item, room - 1)
            if inside == _FAULTY:
                return _FAULTY  # at once: a cycle that branches would never end otherwise
            found |= inside
    return found


def _extended(value: Any) -> Any:
    """A copy of plain data in which our extensions stand for what MessagePack lacks."""
    kind = type(value)
    if kind is int and not -(1 << 63) <= value < 1 << 64:
        return Ext(INT, value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True))
    if kind in _EXTEND:
        return _EXTEND[kind](value)
    if kind is list:
        return [_extended(item) for item in value]
    if kind is not dict:
        return value
    keys = [_extended(key) for key in value]
    items = [_extended(item) for item in value.values()]
    if any(type(key) is Ext for key in keys):
        return [Ext(PAIRS, b""), *(part for pair in zip(keys, items, strict=True) for part in pair)]
    return dict(zip(keys, items, strict=True))


# --- what is wrong with it --------------------------------------------------------------------

_ADVICE: Final = {
    "tuple": "make it a list, or a field of a Streamable class",
    "set": "make it a list, or a field of a Streamable class",
    "frozenset": "make it a list, or a field of a Streamable class",
    "bytearray": "make it bytes(...)",
    "memoryview": "make it bytes(...)",
    "date": "make it a datetime, or its isoformat()",
    "time": "make it a datetime, or its isoformat()",
    "timedelta": "make it its total_seconds()",
}


def _refusal(what: str, hint: str) -> MessageError:
    return MessageError(what, path="$", hint=hint)


def _fault_in(value: Any, above: set[int]) -> MessageError | None:
    """The first part of `value` that cannot be sent, with its path; `above` are its holders."""
    kind = type(value)
    if kind is str:
        return _fault_in_text(value)
    if kind is not dict and kind is not list:
        return None if kind in _NATIVE or kind in _EXTEND else _foreign(value)
    if id(value) in above:
        return _refusal(f"the {kind.__name__} contains itself", "send a tree")
    if len(above) >= NESTING_DEPTH:
        return _refusal(f"more than {NESTING_DEPTH} levels of nesting", "send a flatter message")
    above.add(id(value))
    for key, item in value.items() if kind is dict else enumerate(value):
        fault = _fault_in_key(key) if kind is dict else None
        if fault is None and (fault := _fault_in(item, above)) is not None:
            below(key, fault)
        if fault is not None:
            return fault
    above.discard(id(value))
    return None


def _fault_in_key(key: object) -> MessageError | None:
    fault = _fault_in(key, set())
    if fault is None:
        return None
    return _refusal(
        f"a key of this dict cannot be sent: {fault.what}",
        "keys are None, bool, int, float, str, bytes, datetime, UUID or Decimal",
    )


def _fault_in_text(text: str) -> MessageError | None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        found = f"U+{ord(text[error.start]):04X} at index {error.start}"
        return _refusal(f"the str holds half a character ({found})", "replace it, or send bytes")
    return None


def _foreign(value: object) -> MessageError:
    kind = type(value)
    name = kind.__name__
    if isinstance(value, type):
        return _refusal(f"{value.__name__} is a class", "send an instance of it")
    if hasattr(kind, CODEC):
        return _refusal(
            f"{name} cannot stand inside plain data, or is a mere subclass of a declared class",
            "send it alone, as a field of a Streamable class, or put @Streamable.register above it",
        )
    if dataclasses.is_dataclass(kind) or isinstance(value, msgspec.Struct):
        return _refusal(f"{name} is not declared as a message", "put @Streamable.register above it")
    for base in kind.__mro__:
        if base.__name__ in _ADVICE:
            return _refusal(f"{name} is no plain data", _ADVICE[base.__name__])
        if base in _NATIVE or base in _EXTEND or base is dict or base is list:
            return _refusal(
                f"{name} is a subclass of {base.__name__} and would not arrive as {name}",
                f"make it {base.__name__}(...), or a field of a Streamable class",
            )
    return _refusal(f"{name} is no plain data", "make it plain, or a Streamable class")


# --- reading ----------------------------------------------------------------------------------


def decode_plain(payload: bytes) -> Any:
    """Plain data from MessagePack.

    Raises:
        MessageError: the payload is no plain data, or breaks the rules above.
        msgspec.DecodeError, ValueError, RecursionError, MemoryError: likewise, in the
            words of the decoder.
    """
    try:
        value = _decode_everyday(payload)
        if _encode(value) == payload:
            return value
    except (msgspec.DecodeError, ValueError, RecursionError):
        pass
    sizes = iter(map_sizes(payload))
    return _finished(_decode_any(payload), sizes)


def refuse_doubles(payload: bytes) -> None:
    """Raise MessageError if a map of `payload`, the body of a typed message, has a key twice.

    A typed message may hold what plain data may not (arrays as keys); then it is let pass,
    for it has been read already, and reading it as plain data would be dangerous.
    """
    try:
        sizes = iter(map_sizes(payload))
    except MessageError:
        return
    _finished(_decode_any(payload), sizes)


def _finished(value: Any, sizes: Iterator[int]) -> Any:
    """`value` with our extensions resolved in place, its dicts compared with their headers."""
    kind = type(value)
    if kind is Ext:
        return _from_extension(value.code, value.data)
    if kind is dict:
        if len(value) != next(sizes):
            raise MessageError("a dict has the same key twice")
        _finish_items(value, value.items(), sizes)
    elif kind is list:
        if value and type(value[0]) is Ext and value[0].code == PAIRS and not value[0].data:
            del value[0]
            _finish_items(value, enumerate(value), sizes)
            return _from_pairs(value)
        _finish_items(value, enumerate(value), sizes)
    return value


def _finish_items(holder: Any, items: Iterable[tuple[Any, Any]], sizes: Iterator[int]) -> None:
    for key, item in items:
        if type(item) not in _NATIVE:
            try:
                holder[key] = _finished(item, sizes)
            except MessageError as error:
                raise below(key, error) from None


def _from_pairs(parts: list[Any]) -> dict[Any, Any]:
    keys = parts[::2]
    if len(parts) % 2:
        raise MessageError("a dict has a key without a value")
    if not all(type(key) in _NATIVE or type(key) in _EXTEND for key in keys):
        raise MessageError("a key of a dict is a list or a dict")
    try:
        hashes = Counter(map(hash, keys))
    except TypeError as error:
        raise MessageError(f"a key of a dict has no hash: {error}") from None
    if hashes and max(hashes.values()) > SAME_HASHES:
        raise MessageError(f"more than {SAME_HASHES} keys of a dict have the same hash")
    found = dict(zip(keys, parts[1::2], strict=True))
    if len(found) != len(keys):
        raise MessageError("a dict has the same key twice")
    return found


_DECIMAL: Final = re.compile(r"-?(\d+(\.\d+)?(E[+-]\d+)?|Infinity|s?NaN\d*)", re.ASCII)


#: CPython's fromisoformat() reads an offset shorter than a second as none.
_FINE_OFFSET: Final = re.compile(r"(.+)([+-])(\d\d):(\d\d):(\d\d)\.(\d{6})", re.ASCII)


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if fine := _FINE_OFFSET.fullmatch(text):
        hours, minutes, seconds, microseconds = map(int, fine.groups()[2:])
        offset = timedelta(0, seconds, microseconds, 0, minutes, hours)
        zone = timezone(-offset if fine[2] == "-" else offset)
        moment = datetime.fromisoformat(fine[1]).replace(tzinfo=zone)
    if moment.isoformat() != text:  # fromisoformat() takes many more ways to write it
        raise ValueError(text)
    return moment


def _from_extension(code: int, data: bytes) -> Any:
    try:
        if code == UUID_BYTES:
            return UUID(bytes=data)
        if code == INT and data:
            return int.from_bytes(data, "big", signed=True)
        text = data.decode("ascii")
        if code == DECIMAL and _DECIMAL.fullmatch(text):
            return Decimal(text, _STRICT)
        if code in (DATETIME, DATETIME_FOLDED):
            return _moment(text).replace(fold=code == DATETIME_FOLDED)
    except (ValueError, ArithmeticError):
        pass
    if code in (INT, DECIMAL, DATETIME, DATETIME_FOLDED, UUID_BYTES):
        raise MessageError(f"the content of an extension of code {code} is wrong")
    if code == PAIRS:
        raise MessageError(f"an extension of code {code} is not empty or not first in an array")
    raise MessageError(f"an extension of code {code} is unknown here")
