"""Classes declared as messages: who they are, and the payload of FORM_TYPED.

One byte, the length of the class' name on the wire; the name in UTF-8; then a MessagePack
map of the fields by name. datetime, UUID, Decimal, date, Enum and the like are written as
msgspec writes them, mostly as strings: the reader's class says what they are. That is
why every field must have a concrete type.

Each class carries its `Codec` as an attribute, and the table of names holds codecs
weakly: a class that nobody uses any more is forgotten.
"""

from __future__ import annotations

import dataclasses
import re
import threading
import weakref
from typing import TYPE_CHECKING, Any, Final, TypeVar, dataclass_transform, overload

import msgspec

from compoint._plain import CODEC, below, refuse_doubles, step
from compoint.errors import MessageError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Codec", "Streamable", "codec_of", "fault_from", "known_as", "name_in"]

T = TypeVar("T")

NAME_BYTES: Final = 255

_encode: Final = msgspec.msgpack.Encoder().encode

#: What msgspec raises for values it cannot write.
_UNWRITABLE: Final = (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError)


# --- the table of names -----------------------------------------------------------------------

_table: dict[bytes, tuple[weakref.ref[Codec], ...]] = {}
_table_lock: Final = threading.Lock()


def known_as(name: bytes) -> list[Codec]:
    """The codecs of all living classes with this name on the wire."""
    return [codec for ref in _table.get(name, ()) if (codec := ref()) is not None]


def codec_of(kind: Any) -> Codec | None:
    """The codec of a class declared as a message; None for everything else."""
    codec: Codec | None = getattr(kind, CODEC, None)
    # A subclass inherits the attribute; unless declared itself, it is no message.
    return codec if codec is not None and codec.kind is kind else None


def _declare(kind: type, name: str | None) -> None:
    codec = Codec(kind, kind.__name__ if name is None else name)
    setattr(kind, CODEC, codec)
    with _table_lock:
        # The same place defined again (a notebook's cell, a reload) replaces the older class.
        others = [other for other in known_as(codec.name) if other.place != codec.place]
        _table[codec.name] = tuple(map(weakref.ref, [*others, codec]))


def name_in(payload: bytes) -> bytes:
    """The class' name at the head of a typed payload.

    Raises:
        MessageError: there is none.
    """
    name = payload[1 : 1 + payload[0]] if payload else b""
    if not name or len(name) != payload[0]:
        raise MessageError("a typed message without the name of its class")
    name.decode()
    return name


# --- one class --------------------------------------------------------------------------------


class Codec:
    """Writes and reads the messages of one class.

    The types of the fields are looked at when the first message is written or read, so
    that they may name classes defined further down.
    """

    __slots__ = ("__weakref__", "_check", "_decode", "kind", "name", "place", "prefix")

    def __init__(self, kind: type, name: str) -> None:
        try:
            self.name = name.encode()
        except UnicodeEncodeError:
            self.name = b""
        if not 0 < len(self.name) <= NAME_BYTES:
            raise UsageError(
                f"{kind.__qualname__} cannot be called {name[:40]!r} on the wire",
                hint=f"name it with 1 to {NAME_BYTES} bytes of UTF-8",
            )
        self.kind = kind
        self.place = f"{kind.__module__}.{kind.__qualname__}"
        self.prefix = bytes([len(self.name)]) + self.name
        self._decode: Callable[[bytes], Any] | None = None
        self._check: Callable[[bytes], Any] | None = None

    def prepare(self) -> Callable[[bytes], Any]:
        """Look at the types of the fields, once.

        Raises:
            MessageError: a field has no type that can travel; names it.
        """
        if self._decode is None:
            try:
                has_hook = _look_at(self.kind)
                decode: Callable[[bytes], Any] = msgspec.msgpack.Decoder(self.kind).decode
            except (TypeError, NameError, AttributeError) as error:
                hint = "give every field a concrete type that can be found in its module"
                raise self._unusable("$", str(error)[:300], hint) from error
            except MessageError as error:
                raise self._unusable(error.path, error.what, error.hint) from None
            # A hook of the user's would run for an object that the user never made.
            self._check = None if has_hook else decode
            self._decode = decode
        return self._decode

    def _unusable(self, path: str, what: str, hint: str) -> MessageError:
        what = f"{self.kind.__qualname__} cannot be a message: {what}"
        return MessageError(what, path=path, hint=hint)

    def encode(self, message: Any) -> bytes:
        """The payload for an instance of this class.

        Raises:
            MessageError: a field has a value that is not of its type, or cannot travel.
        """
        if self._decode is None:
            self.prepare()
        try:
            body = _encode(message)
            if self._check is not None:
                self._check(body)
        except _UNWRITABLE as error:
            fault = fault_from(error)
            if not isinstance(error, msgspec.ValidationError):
                fault.path = _path_to_unwritable(message)
            what = f"this {self.kind.__name__} cannot be sent: {fault.what}"
            raise MessageError(what, path=fault.path) from error
        return self.prefix + body

    def decode(self, payload: bytes) -> Any:
        """The instance in a payload that begins with this class' prefix.

        Raises:
            MessageError: a map has the same key twice.
            Exception: whatever msgspec, or a `__post_init__` of the user, says.
        """
        decode = self._decode or self.prepare()
        body = payload[len(self.prefix) :]
        message = decode(body)
        try:
            if _encode(message) == body:
                return message  # the very same bytes: nothing in them was passed over
        except _UNWRITABLE:  # a `__post_init__` of the user's may have changed anything
            pass
        refuse_doubles(body)
        return message


# --- the types of the fields ------------------------------------------------------------------


def _look_at(kind: type) -> bool:
    """Refuse fields without a concrete type; True if a `__post_init__` runs on reading."""
    if not dataclasses.is_dataclass(kind) and kind.__struct_config__.array_like:  # type: ignore[attr-defined]
        raise MessageError("it is array_like", hint="fields travel by name: leave that out")
    kinds: list[type] = []
    _refuse_loose(msgspec.inspect.type_info(kind), kinds)
    return any(hasattr(each, "__post_init__") for each in kinds)


_PARTS: Final = ("item_type", "key_type", "value_type", "type", "item_types", "types")
_LOOSE: Final = (
    msgspec.inspect.AnyType,
    msgspec.inspect.CustomType,
    msgspec.inspect.RawType,
    msgspec.inspect.ExtType,
)


def _refuse_loose(info: Any, kinds: list[type]) -> None:
    if isinstance(info, _LOOSE):
        foreign = getattr(info, "cls", object)
        raise MessageError(
            "its type leaves open what may come (Any, object, a bare list or dict)"
            if foreign is object
            else f"{foreign.__name__} is neither plain nor a dataclass nor a Struct",
            hint="give it a concrete type such as list[int] or dict[str, Decimal]",
        )
    if hasattr(info, "fields"):
        if info.cls in kinds:
            return
        kinds.append(info.cls)
        for field in info.fields:
            try:
                _refuse_loose(field.type, kinds)
            except MessageError as error:
                if error.path == "$":
                    error.what = f"field {field.name!r} of {info.cls.__name__}: {error.what}"
                raise below(field.name, error) from None
    for part in _PARTS:
        inner = getattr(info, part, ())
        for each in inner if isinstance(inner, tuple) else (inner,):
            _refuse_loose(each, kinds)


# --- faults -----------------------------------------------------------------------------------

#: "… - at `$.items[2].price`", "… - at `key` in `$.items`", "… - at `key[1]` in `$.cells`"
_WITH_PATH: Final = re.compile(r"(.*) - at (?:`key[^`]*` in )?`(\$[^`]*)`", re.DOTALL)


def fault_from(error: Exception) -> MessageError:
    """What msgspec, a codec of Python's or a hook of the user's raised, as a MessageError."""
    text = str(error)
    if isinstance(error, UnicodeDecodeError):
        return MessageError(f"a text is not UTF-8: {error.reason} at its byte {error.start}")
    if isinstance(error, UnicodeEncodeError):
        return MessageError("a str holds half a character, which UTF-8 cannot carry")
    if isinstance(error, OverflowError):
        return MessageError("an int beyond 64 bits cannot be the value of a field")
    if isinstance(error, RecursionError):
        return MessageError("the message is nested too deep")
    if isinstance(error, msgspec.ValidationError):
        found = _WITH_PATH.fullmatch(text)
        return MessageError(found[1], path=found[2]) if found else MessageError(text)
    if isinstance(error, msgspec.DecodeError):
        return MessageError(f"the payload is damaged: {text}")
    return MessageError(f"{type(error).__name__}: {text[:1000]}")


def _path_to_unwritable(value: Any) -> str:
    """Where in a typed message the value is that msgspec does not write."""
    for key, item in _parts(value):
        try:
            _encode(item)
        except RecursionError:
            return "$"
        except _UNWRITABLE:
            return f"${step(key)}{_path_to_unwritable(item)[1:]}"
    return "$"


def _parts(value: Any) -> Iterator[tuple[object, Any]]:
    if isinstance(value, msgspec.Struct):
        yield from ((name, getattr(value, name)) for name in value.__struct_fields__)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield from ((field.name, getattr(value, field.name)) for field in dataclasses.fields(value))
    elif isinstance(value, dict):
        yield from value.items()
    elif isinstance(value, (list, tuple)):
        yield from enumerate(value)


# --- what users derive from -------------------------------------------------------------------


# Said here again, or type checkers take `Streamable` itself for a class that is not frozen.
@dataclass_transform(field_specifiers=(msgspec.field,))
class _StreamableMeta(msgspec.StructMeta):
    """Declares each subclass of `Streamable`; holds `register` away from the users' fields."""

    def __new__(
        mcs,
        class_name: str,
        bases: tuple[type, ...],
        namespace: dict[str, Any],
        /,
        *,
        name: str | None = None,
        **options: Any,
    ) -> Any:
        kind = super().__new__(mcs, class_name, bases, namespace, **options)
        if any(isinstance(base, _StreamableMeta) for base in bases):
            _declare(kind, name)
        return kind

    @overload
    def register(self, kind: type[T], /, *, name: str | None = None) -> type[T]: ...

    @overload
    def register(self, /, *, name: str) -> Callable[[type[T]], type[T]]: ...

    def register(self, kind: type[Any] | None = None, /, *, name: str | None = None) -> Any:
        """Declare a dataclass or a `msgspec.Struct` as a message; returns the class.

        `name` is its name on the wire, by default the name of the class.

        Raises:
            UsageError: it is neither, or the name is too long.
        """
        if kind is None:
            return lambda kind: self.register(kind, name=name)
        is_struct = isinstance(kind, msgspec.StructMeta)
        if not isinstance(kind, type) or not (is_struct or "__dataclass_fields__" in vars(kind)):
            raise UsageError(
                f"{kind!r} is neither a dataclass nor a msgspec.Struct",
                hint="put @Streamable.register above @dataclass",
            )
        _declare(kind, name)
        return kind


class Streamable(msgspec.Struct, metaclass=_StreamableMeta):
    """Base of the classes whose instances are messages.

        class Order(Streamable):
            item: str
            count: int = 1

    has an `__init__`, `==` and `repr`, is written by `point.write(Order("book", 2))` and read
    by `point.read(Order)`. Fields have concrete types: str, int, float, bool, bytes, None,
    datetime, UUID, Decimal, Enum, other such classes, and list, dict, tuple, set and
    unions of these; an int beyond 64 bits cannot be a field's value. Name on the wire:
    `class Order(Streamable, name="shop.Order")`; further keywords are those of
    `msgspec.Struct` (`frozen=True`, `kw_only=True`, `forbid_unknown_fields=True`, …).
    Classes that are no subclasses are declared by `@Streamable.register`.
    """
