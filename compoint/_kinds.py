"""What makes a setting: its declaration, what its value may be, and what others it clashes with."""

from __future__ import annotations

import os
import re
from typing import Any, ClassVar, Final, NamedTuple, Protocol, TypeAlias, TypeVar

from compoint.address import ComPointAddress
from compoint.errors import AddressError
from compoint.limits import GIB, KIB, MIB

__all__ = [
    "Choice", "Clash", "Command", "Count", "File", "Folder", "Host", "HostAndPort", "Kind", "Or",
    "Rate", "Seconds", "Size", "Switch", "Text", "Texts", "Value", "setting",
]  # fmt: skip

_BYTES: Final = {"B": 1, "KiB": KIB, "MiB": MIB, "GiB": GIB, "TiB": 1024 * GIB}
_SIZE: Final = re.compile(r"([0-9]{1,19}) ?(B|KiB|MiB|GiB|TiB)?")

_SECONDS: Final = {"s": 1, "min": 60, "h": 3600, "d": 86_400}
_TIME: Final = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?) ?(s|min|h|d)?")

_Number = TypeVar("_Number", int, float)

Value: TypeAlias = int | float | str | bool | tuple[str, ...]


def setting(key: str, kind: Kind, sentence: str) -> dict[str, Any]:
    """The metadata of a field that is a setting."""
    return {"key": key, "kind": kind, "sentence": sentence}


class Clash(NamedTuple):
    """Why values that are right one by one are wrong together."""

    #: The keys; it is told at the first, and only if each of the others is right.
    keys: tuple[str, ...]
    why: str
    instead: str


class Kind(Protocol):
    """What the value of a setting may be, and how it is read."""

    @property
    def allowed(self) -> str:
        """What may be written, for the end of an error."""

    def parse(self, text: str) -> Value:
        """The value.

        Raises:
            ValueError: why it is none, to be put behind the text: "is too large".
        """


class Size(NamedTuple):
    least: int
    most: int

    @property
    def allowed(self) -> str:
        return f"a size from {self._named(self.least)} to {self._named(self.most)}, as in 64 KiB"

    def parse(self, text: str) -> int:
        match = _SIZE.fullmatch(text)
        if match is None:
            raise ValueError("is not a size (units: B, KiB, MiB, GiB, TiB)")
        return _within(int(match[1]) * _BYTES[match[2] or "B"], self.least, self.most)

    def _named(self, size_bytes: int) -> str:
        unit = next(name for name in reversed(_BYTES) if not size_bytes % _BYTES[name])
        return f"{size_bytes // _BYTES[unit]} {unit}"


class Seconds(NamedTuple):
    least: float
    most: float
    may_be_off: bool = False

    @property
    def allowed(self) -> str:
        off = "0 for off, or " if self.may_be_off else ""
        return f"{off}a time from {self.least:g} s to {self._named(self.most)}, as in 1.5 s"

    def parse(self, text: str) -> float:
        match = _TIME.fullmatch(text)
        if match is None:
            raise ValueError("is not a time (units: s, min, h, d)")
        time_s = float(match[1]) * _SECONDS[match[2] or "s"]
        if self.may_be_off and time_s == 0:
            return 0.0
        return _within(time_s, self.least, self.most)

    def _named(self, time_s: float) -> str:
        unit = next(name for name in reversed(_SECONDS) if not time_s % _SECONDS[name])
        return f"{time_s / _SECONDS[unit]:g} {unit}"


class Count(NamedTuple):
    least: int
    most: int

    @property
    def allowed(self) -> str:
        return f"a whole number from {self.least} to {self.most}"

    def parse(self, text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,19}", text):
            raise ValueError("is not a whole number")
        return _within(int(text), self.least, self.most)


class Rate(NamedTuple):
    least: float
    most: float

    @property
    def allowed(self) -> str:
        return f"a number from {self.least:g} to {self.most:g}, as in 0.5"

    def parse(self, text: str) -> float:
        if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", text):
            raise ValueError("is not a number")
        return _within(float(text), self.least, self.most)


class Switch:
    allowed: ClassVar = "on or off"

    def parse(self, text: str) -> bool:
        if text not in {"on", "off"}:
            raise ValueError("is neither on nor off")
        return text == "on"


class Choice(NamedTuple):
    words: tuple[str, ...]

    @property
    def allowed(self) -> str:
        return f"{', '.join(self.words[:-1])} or {self.words[-1]}"

    def parse(self, text: str) -> str:
        if text not in self.words:
            raise ValueError("is none of them")
        return text


class Or(NamedTuple):
    """A word that stands for `meaning`, or what the other kind takes."""

    word: str
    meaning: Value
    kind: Kind

    @property
    def allowed(self) -> str:
        return f"{self.word}, or {self.kind.allowed}"

    def parse(self, text: str) -> Value:
        return self.meaning if text == self.word else self.kind.parse(text)


class Text(NamedTuple):
    allowed: str

    def parse(self, text: str) -> str:
        if not text.isprintable():
            raise ValueError("holds a character that cannot be shown")
        return text


class Texts(NamedTuple):
    """Several, with commas between them."""

    allowed: str

    def parse(self, text: str) -> tuple[str, ...]:
        texts = tuple(one.strip() for one in text.split(","))
        if not (all(texts) and text.isprintable()):
            raise ValueError("holds an empty one, or a character that cannot be shown")
        if len({*texts}) < len(texts):
            raise ValueError("names one of them twice")
        return texts


class Command:
    """A program and its arguments, written as for a shell, which is not asked."""

    allowed: ClassVar = "a command with its arguments, as in pass show mail"

    def parse(self, text: str) -> tuple[str, ...]:
        import shlex  # noqa: PLC0415 - rarely needed, and settings are read at every start

        try:
            command = tuple(shlex.split(text))
        except ValueError as error:
            raise ValueError(f"is not a command ({error})") from None
        if not (command and command[0] and text.isprintable()):
            raise ValueError("is not a command")
        return command


class File:
    allowed: ClassVar = "the name of a file that exists"

    def parse(self, text: str) -> str:
        file = os.path.abspath(os.path.expanduser(text))
        if not os.path.isfile(file):
            raise ValueError("is no file")
        return file


class Folder:
    """A folder that may be made later. Kept as written: whose home `~` is, its user knows."""

    allowed: ClassVar = "the whole path of a folder, as in /var/mail/x or ~/x"

    def parse(self, text: str) -> str:
        if not (text == "~" or text.startswith(("~/", "/"))):
            raise ValueError("is not a whole path")
        if not text.isprintable():
            raise ValueError("holds a character that cannot be shown")
        return text


class Host(NamedTuple):
    """What stands for the host in an address of this protocol."""

    protocol: str
    allowed: str

    def parse(self, text: str) -> str:
        try:
            return ComPointAddress(self.protocol, text, 1).host
        except AddressError as error:
            raise ValueError(f"is not right: {error.what}") from None


class HostAndPort:
    """Where to listen; a port alone is one of this machine, out of reach for others."""

    allowed: ClassVar = "a port, or host:port, as in 127.0.0.1:2525"

    def parse(self, text: str) -> str:
        is_port = re.fullmatch(r"[0-9]+", text)
        try:
            address = ComPointAddress.parse(f"lmtp://{'127.0.0.1:' if is_port else ''}{text}")
        except AddressError as error:
            raise ValueError(f"is not right: {error.what}") from None
        if address.is_local or address.path:
            raise ValueError("is not a host and a port")
        return str(address).removeprefix("lmtp://")


def _within(value: _Number, least: _Number, most: _Number) -> _Number:
    if value < least:
        raise ValueError("is too small")
    if value > most:
        raise ValueError("is too large")
    return value
