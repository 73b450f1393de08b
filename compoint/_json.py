"""JSON beside the payloads of plain data and typed messages, for peers that know no MessagePack.

Into a payload: null, true, false, numbers, texts, arrays and objects become plain data, as
deep as plain data may nest. An int may have any size up to 308 digits; a number with a point
or an exponent is a float. The same key twice, NaN and numbers beyond a float are refused.

Out of a payload: what JSON has no word for is written as msgspec writes it. bytes become
Base64, datetime ISO 8601 (UTC as "Z"), UUID and Decimal their texts, NaN and the infinities
null, keys that are no str their texts.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import Any, Final

import msgspec

from compoint._plain import decode_plain, encode_plain
from compoint._typed import fault_from, name_in
from compoint.errors import MessageError

__all__ = [
    "class_name",
    "plain_from_json",
    "plain_to_json",
    "typed_from_json",
    "typed_to_json",
]

#: The longest name of a class: its length is one byte.
_NAME_BYTES: Final = 255

_read: Final = msgspec.json.Decoder().decode
_write: Final = msgspec.json.Encoder().encode
_pack: Final = msgspec.msgpack.Encoder().encode


def plain_from_json(text: bytes) -> bytes:
    """The payload of FORM_PLAIN for a JSON text.

    Raises:
        MessageError: it is no JSON, or no plain data; says what and where.
    """
    return _value_of(text)[1]


def typed_from_json(name: str, text: bytes) -> bytes:
    """The payload of FORM_TYPED for a JSON object of the fields of the class `name`.

    Whether the fields are right is the reader's to say, who knows the class.

    Raises:
        MessageError: it is no JSON object, or the name is none.
    """
    fields, _ = _value_of(text)
    if type(fields) is not dict:
        raise MessageError("the fields of a typed message are a JSON object")
    label = name.encode()
    if not 0 < len(label) <= _NAME_BYTES:
        raise MessageError(f"the name of a class has 1 to {_NAME_BYTES} bytes")
    try:
        return bytes([len(label)]) + label + _pack(fields)
    except OverflowError as error:
        raise fault_from(error) from None


def plain_to_json(payload: bytes) -> bytes:
    """The JSON text for a payload of FORM_PLAIN.

    Raises:
        MessageError: it cannot be written as JSON without losing a part of it.
    """
    try:
        return _text_of(decode_plain(payload))
    except MessageError:
        raise
    except Exception as error:  # as `message.decode`: the one door for foreign bytes
        raise fault_from(error) from error


def typed_to_json(payload: bytes) -> tuple[str, bytes]:
    """The name of the class and the JSON object of the fields of a payload of FORM_TYPED.

    Raises:
        MessageError: as `plain_to_json`.
    """
    name = class_name(payload)
    return name, plain_to_json(payload[1 + len(name.encode()) :])


def class_name(payload: bytes) -> str:
    """The name of the class in a payload of FORM_TYPED.

    Raises:
        MessageError: there is none.
    """
    try:
        return name_in(payload).decode()
    except UnicodeDecodeError as error:
        raise fault_from(error) from None


def _value_of(text: bytes) -> tuple[Any, bytes]:
    """What a JSON text means, and its payload as plain data."""
    try:
        characters = text.decode()
    except UnicodeDecodeError as error:
        raise MessageError(f"the JSON is not UTF-8 ({error.reason}, byte {error.start})") from None
    try:
        value = _read(text)
    except RecursionError as error:
        raise fault_from(error) from None
    except msgspec.DecodeError as error:
        what = str(error).removeprefix("JSON is malformed: ")
        where = "" if "byte" in what else f" (byte {len(text)})"
        raise MessageError(f"this is no valid JSON: {what}{where}") from None
    payload = encode_plain(value)  # before anything recurses into it: it may nest too deep
    if text.count(b":") > 1:
        # The last of several would win in silence; only Python's own reader shows them all.
        json.loads(characters, object_pairs_hook=_refuse_doubles)
    return value, payload


def _refuse_doubles(pairs: list[tuple[str, Any]]) -> None:
    if len(dict(pairs)) != len(pairs):
        ((key, _),) = Counter(key for key, _ in pairs).most_common(1)
        raise MessageError(f"an object has the key {key[:40]!r} twice")


def _text_of(value: Any) -> bytes:
    text = _write(value)
    # Keys of different types can become the same text; then reading shows fewer of them.
    if _write(_read(text)) != text:
        raise MessageError("two keys of a dict are the same text in JSON")
    return text
