"""Settings: the INI file `_sempconfig`, checked as a whole and frozen.

Each setting is one field below: its key in the file, what it may be, its default and its
sentence in `sempconfig.example`. Everything else here is driven by those declarations.

The file is the first that exists of: the path given to `load`, $SEMPCONFIG, ./_sempconfig,
~/_sempconfig; without any, the defaults hold. A section whose name starts with `x-` belongs
to somebody else (a further transport) and is not looked at.
"""

from __future__ import annotations

import configparser
import difflib
import os
import re
from dataclasses import MISSING, dataclass, field, fields
from typing import TYPE_CHECKING, Any, ClassVar, Final, NoReturn, Protocol, TypeVar

from compoint.address import ComPointAddress
from compoint.errors import AddressError, ConfigError, Phase
from compoint.limits import (
    BACKLOG,
    CONNECT_S,
    EXIT_S,
    FIRST_CREDIT_BYTES,
    GIB,
    GREETING_S,
    HEARTBEAT_S,
    HTTP_GIVE_UP_S,
    IDLE_CONNECTION_S,
    KIB,
    MESSAGE_BYTES,
    MIB,
    QUEUED_BYTES,
    QUEUED_CHANNELS,
    QUEUED_CHANNELS_PER_CONNECTION,
    QUEUED_S,
    WIDE_WINDOW_BYTES,
    WINDOW_BYTES,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "SETTINGS",
    "ChannelSettings",
    "HttpSettings",
    "Kind",
    "MailSettings",
    "PointSettings",
    "Setting",
    "Settings",
    "load",
]

_TIB: Final = 1024 * GIB
_HOUR_S: Final = 3600.0
_DAY_S: Final = 24 * _HOUR_S

#: A longer file is not a `_sempconfig`; no more than this is read of it.
_FILE_BYTES: Final = 1 * MIB

#: With so many faults the file is probably something else; the rest is not told.
_FAULTS: Final = 50

_FOREIGN: Final = "x-"

_Number = TypeVar("_Number", int, float)


# --- what a value may be --------------------------------------------------------------------


class Kind(Protocol):
    """What the value of a setting may be, and how it is read."""

    @property
    def allowed(self) -> str:
        """What may be written, for the end of an error."""

    def parse(self, text: str) -> int | float | str | bool:
        """The value.

        Raises:
            ValueError: why it is none, to be put behind the text: "is too large".
        """


@dataclass(frozen=True, slots=True)
class _Size:
    least: int
    most: int

    UNITS: ClassVar = {"B": 1, "KiB": KIB, "MiB": MIB, "GiB": GIB, "TiB": _TIB}
    PATTERN: ClassVar = re.compile(r"([0-9]{1,19}) ?(B|KiB|MiB|GiB|TiB)?")

    @property
    def allowed(self) -> str:
        return f"a size from {self._named(self.least)} to {self._named(self.most)}, as in 64 KiB"

    def parse(self, text: str) -> int:
        match = self.PATTERN.fullmatch(text)
        if match is None:
            raise ValueError("is not a size (units: B, KiB, MiB, GiB, TiB)")
        return _within(int(match[1]) * self.UNITS[match[2] or "B"], self.least, self.most)

    def _named(self, size_bytes: int) -> str:
        unit = next(name for name in reversed(self.UNITS) if not size_bytes % self.UNITS[name])
        return f"{size_bytes // self.UNITS[unit]} {unit}"


@dataclass(frozen=True, slots=True)
class _Seconds:
    least: float
    most: float
    may_be_off: bool = False

    UNITS: ClassVar = {"s": 1, "min": 60, "h": 3600}
    PATTERN: ClassVar = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?) ?(s|min|h)?")

    @property
    def allowed(self) -> str:
        off = "0 for off, or " if self.may_be_off else ""
        return f"{off}a time from {self.least:g} s to {self._named(self.most)}, as in 1.5 s"

    def parse(self, text: str) -> float:
        match = self.PATTERN.fullmatch(text)
        if match is None:
            raise ValueError("is not a time (units: s, min, h)")
        time_s = float(match[1]) * self.UNITS[match[2] or "s"]
        if self.may_be_off and time_s == 0:
            return 0.0
        return _within(time_s, self.least, self.most)

    def _named(self, time_s: float) -> str:
        unit = next(name for name in reversed(self.UNITS) if not time_s % self.UNITS[name])
        return f"{time_s / self.UNITS[unit]:g} {unit}"


@dataclass(frozen=True, slots=True)
class _Count:
    least: int
    most: int

    @property
    def allowed(self) -> str:
        return f"a whole number from {self.least} to {self.most}"

    def parse(self, text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,19}", text):
            raise ValueError("is not a whole number")
        return _within(int(text), self.least, self.most)


@dataclass(frozen=True, slots=True)
class _Switch:
    allowed: ClassVar = "on or off"

    def parse(self, text: str) -> bool:
        if text not in {"on", "off"}:
            raise ValueError("is neither on nor off")
        return text == "on"


@dataclass(frozen=True, slots=True)
class _File:
    allowed: ClassVar = "default, or the name of a file that exists"

    def parse(self, text: str) -> str:
        if text == "default":
            return ""
        file = os.path.abspath(os.path.expanduser(text))
        if not os.path.isfile(file):
            raise ValueError("is no file")
        return file


@dataclass(frozen=True, slots=True)
class _Host:
    """What stands for the host in an address of this protocol."""

    protocol: str
    allowed: str

    def parse(self, text: str) -> str:
        try:
            return ComPointAddress(self.protocol, text, 1).host
        except AddressError as error:
            raise ValueError(f"is not right: {error.what}") from None


def _within(value: _Number, least: _Number, most: _Number) -> _Number:
    if value < least:
        raise ValueError("is too small")
    if value > most:
        raise ValueError("is too large")
    return value


# --- the settings ---------------------------------------------------------------------------


def _setting(key: str, kind: Kind, sentence: str) -> dict[str, Any]:
    """The metadata of a field that is a setting."""
    return {"key": key, "kind": kind, "sentence": sentence}


@dataclass(frozen=True, slots=True, kw_only=True)
class PointSettings:
    """Section `[compoint]`: what holds for every ComPoint of the program."""

    max_message_bytes: int = field(
        default=MESSAGE_BYTES,
        metadata=_setting(
            "maxMessage",
            _Size(FIRST_CREDIT_BYTES, 1 * _TIB),
            "The largest message this side takes; the writer of a larger one gets TooLargeError.",
        ),
    )
    window_bytes: int = field(
        default=WINDOW_BYTES,
        metadata=_setting(
            "window",
            _Size(FIRST_CREDIT_BYTES, 1 * GIB),
            "How much the peer may send ahead of this program's reads.",
        ),
    )
    wide_window_bytes: int = field(
        default=WIDE_WINDOW_BYTES,
        metadata=_setting(
            "wideWindow",
            _Size(FIRST_CREDIT_BYTES, 16 * GIB),
            "The window while this program waits in write(); never smaller than window.",
        ),
    )
    connect_timeout_s: float = field(
        default=CONNECT_S,
        metadata=_setting(
            "connectTimeout",
            _Seconds(0.1, _HOUR_S),
            "How long reaching a peer may take unless the call says otherwise.",
        ),
    )
    greeting_timeout_s: float = field(
        default=GREETING_S,
        metadata=_setting(
            "greetingTimeout",
            _Seconds(0.1, _HOUR_S),
            "How long a new connection may take to say who it is; then it is closed.",
        ),
    )
    exit_timeout_s: float = field(
        default=EXIT_S,
        metadata=_setting(
            "exitTimeout",
            _Seconds(0, _DAY_S),
            "How long all points together may take to say goodbye when the program ends.",
        ),
    )
    heartbeat_s: float = field(
        default=HEARTBEAT_S,
        metadata=_setting(
            "heartbeat",
            _Seconds(0.1, _HOUR_S, may_be_off=True),
            "How often a silent connection is asked for a sign of life; 0 turns it off.",
        ),
    )
    backlog: int = field(
        default=BACKLOG,
        metadata=_setting(
            "backlog",
            _Count(1, 65_536),
            "How many peers may wait to be accepted; the next one is refused.",
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelSettings:
    """Section `[channel]`: what a service point queues, and the connections channels share."""

    max_queued: int = field(
        default=QUEUED_CHANNELS,
        metadata=_setting(
            "maxQueued",
            _Count(1, 1_000_000),
            "How many channels may wait for their responders; the next one is refused.",
        ),
    )
    max_queued_per_connection: int = field(
        default=QUEUED_CHANNELS_PER_CONNECTION,
        metadata=_setting(
            "maxQueuedPerConnection",
            _Count(1, 1_000_000),
            "How many of the waiting channels may come from one connection.",
        ),
    )
    max_queued_bytes: int = field(
        default=QUEUED_BYTES,
        metadata=_setting(
            "maxQueuedBytes",
            _Size(FIRST_CREDIT_BYTES, 16 * GIB),
            "How much the messages of all waiting channels may hold; what comes then is refused.",
        ),
    )
    max_queued_age_s: float = field(
        default=QUEUED_S,
        metadata=_setting(
            "maxQueuedAge",
            _Seconds(1, 30 * _DAY_S),
            "How long a channel waits for its responder; then it is refused.",
        ),
    )
    idle_connection_s: float = field(
        default=IDLE_CONNECTION_S,
        metadata=_setting(
            "idleConnection",
            _Seconds(0, _DAY_S),
            "How long a shared connection without channels is kept for the next one.",
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpSettings:
    """Section `[http]`: how initiators make their requests, and what servers take."""

    streams: bool = field(
        default=True,
        metadata=_setting(
            "streams",
            _Switch(),
            "Whether answers may come piece by piece where the way allows it; off: only polls.",
        ),
    )
    ca_file: str = field(
        default="",
        metadata=_setting(
            "caFile",
            _File(),
            "The authorities that vouch for https servers, as PEM; default: those of requests.",
        ),
    )
    give_up_s: float = field(
        default=HTTP_GIVE_UP_S,
        metadata=_setting(
            "giveUp",
            _Seconds(0.1, _HOUR_S),
            "How long requests that fail are repeated before the way counts as lost.",
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class MailSettings:
    """Section `[mail]`: the three that switch the mail transport on, together or not at all."""

    receiver_port: int = field(
        metadata=_setting(
            "receiverPort",
            _Count(1, 65_535),
            "The port of this machine on which the receiver program tells of new mail.",
        )
    )
    return_address: str = field(
        metadata=_setting(
            "returnAddress",
            _Host("mail", "a mailbox, as in me@example.org"),
            "The mailbox of this program: the sender of its mails and where answers arrive.",
        )
    )
    mail_host: str = field(
        metadata=_setting(
            "mailHost",
            _Host("smtp", "a host name or IP address, as in smtp.example.org"),
            "The mail server that takes the mails of this program.",
        )
    )


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings of a program; `Settings()` holds the defaults."""

    point: PointSettings = PointSettings()
    channel: ChannelSettings = ChannelSettings()
    http: HttpSettings = HttpSettings()
    #: None: the mail transport is not configured.
    mail: MailSettings | None = None
    #: The absolute paths of the files that were read; empty if there are only defaults.
    sources: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Setting:
    """One line of the table of all settings, for documentation and checks."""

    section: str
    key: str
    #: The name of the attribute in the class of its section.
    attribute: str
    kind: Kind
    #: None: it has none and must be set together with the others of its section.
    default: int | float | str | None
    sentence: str


_SECTIONS: Final = {
    "compoint": PointSettings,
    "channel": ChannelSettings,
    "http": HttpSettings,
    "mail": MailSettings,
}

#: Every setting, in the order of `sempconfig.example`.
SETTINGS: Final = tuple(
    Setting(
        section=section,
        attribute=declared.name,
        default=None if declared.default is MISSING else declared.default,
        **declared.metadata,
    )
    for section, settings in _SECTIONS.items()
    for declared in fields(settings)
)


def load(path: str | os.PathLike[str] | None = None) -> Settings:
    """Read the settings from the first file that exists.

    Looks at `path`, $SEMPCONFIG, ./_sempconfig and ~/_sempconfig, in this order. The first
    two must exist if they are given; without any file the defaults hold.

    Raises:
        ConfigError: the file is missing or cannot be read, or has faults; the error has one
            line for each of them.
    """
    file = _found(path)
    if file is None:
        return Settings()
    faults = _Faults(file)
    values = _values(_parsed(_text_of(file), faults), faults)
    _check_together(values, faults)
    faults.end()
    return Settings(
        point=PointSettings(**values["compoint"]),
        channel=ChannelSettings(**values["channel"]),
        http=HttpSettings(**values["http"]),
        mail=MailSettings(**values["mail"]) if values["mail"] else None,
        sources=(file,),
    )


# --- the file -------------------------------------------------------------------------------


class _Faults:
    """What is wrong in one file, collected so that all of it is told at once."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._lines: list[str] = []

    def add(self, where: str, why: str, instead: str) -> None:
        self._lines.append(f"{self._file}: {where}: {why}; {instead}")
        if len(self._lines) >= _FAULTS:
            _fail(*self._lines, f"{self._file}: the rest was not read; correct these first")

    def end(self) -> None:
        """Raises ConfigError if there are any."""
        if self._lines:
            _fail(*self._lines)


def _fail(*lines: str) -> NoReturn:
    number = "a fault" if len(lines) == 1 else f"{len(lines)} faults"
    what = "\n  ".join([f"the configuration has {number}:", *lines])
    raise ConfigError(what, phase=Phase.CONFIGURE) from None


def _shown(text: str) -> str:
    shown = repr(text)
    return shown if len(shown) <= 80 else f"{shown[:77]}..."


def _found(path: str | os.PathLike[str] | None) -> str | None:
    """The absolute path of the file to read, None if there is none."""
    in_environment = os.environ.get("SEMPCONFIG", "")
    if path is not None:
        return _existing(os.fspath(path), "was asked for")
    if in_environment:
        return _existing(in_environment, "is named by $SEMPCONFIG")
    for place in ("_sempconfig", os.path.join("~", "_sempconfig")):
        file = os.path.abspath(os.path.expanduser(place))
        # A link to nowhere was meant to be a configuration: it is found, and reading it fails.
        if os.path.lexists(file):
            return file
    return None


def _existing(path: str, why: str) -> str:
    file = os.path.abspath(os.path.expanduser(path))
    if not path or not os.path.lexists(file):
        _fail(f"{path or _shown(path)}: {why} and does not exist; create it or name another")
    return file


def _text_of(file: str) -> str:
    try:
        with open(file, "rb") as opened:
            raw = opened.read(_FILE_BYTES + 1)
    except OSError as error:
        _fail(f"{file}: cannot be read ({error.strerror}); allow it, or name another file")
    if len(raw) > _FILE_BYTES:
        _fail(f"{file}: is longer than {_FILE_BYTES} bytes; is it a _sempconfig at all?")
    raw = raw.removeprefix(b"\xef\xbb\xbf")  # some editors mark UTF-8 so
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        line_number = raw.count(b"\n", 0, error.start) + 1
        _fail(f"{file}: line {line_number}: is not UTF-8; save the file as UTF-8")


class _Ini(configparser.RawConfigParser):
    """INI as we read it: keys as they are written, no [DEFAULT], no interpolation."""

    # The inherited one takes "[compoint] backlog = 5" for a header and drops the rest.
    SECTCRE = re.compile(r"\[(?P<header>[^]]+)\]$")

    def __init__(self) -> None:
        # No header can hold the line break, so no section is the default of all others.
        super().__init__(default_section="\n", empty_lines_in_values=False)

    def optionxform(self, optionstr: str) -> str:
        return optionstr


def _parsed(text: str, faults: _Faults) -> _Ini:
    """The sections of the text; lines that are not INI become faults and are taken out."""
    lines = text.split("\n")
    while True:
        ini = _Ini()
        try:
            ini.read_file(lines)
        except (
            configparser.ParsingError,
            configparser.DuplicateSectionError,
            configparser.DuplicateOptionError,
        ) as error:
            # The parser stops at most faults: repair the line and read again for the others.
            _repair(lines, error, faults)
        else:
            return ini


def _repair(lines: list[str], error: configparser.Error, faults: _Faults) -> None:
    match error:
        case configparser.MissingSectionHeaderError():
            faults.add(
                f"line {error.lineno}",
                "stands before any section",
                "write a line such as [compoint] above",
            )
            lines[error.lineno - 1] = f"[{_FOREIGN} no section]"
        case configparser.DuplicateSectionError():
            number = error.lineno or 1
            faults.add(f"line {number}", f"[{error.section}] comes twice", "write it once")
            lines[number - 1] = f"[{_FOREIGN} line {number}]"
        case configparser.DuplicateOptionError():
            number = error.lineno or 1
            where = f"[{error.section}] {error.option}"
            faults.add(f"line {number}", f"{where} is set twice", "delete one of them")
            lines[number - 1] = ""
        case configparser.ParsingError():
            for number, _ in error.errors:
                faults.add(
                    f"line {number}",
                    f"{_shown(lines[number - 1].strip())} is no setting",
                    "write [section], key = value, or a comment that starts with #",
                )
                lines[number - 1] = ""


# --- from texts to values -------------------------------------------------------------------


def _values(ini: _Ini, faults: _Faults) -> dict[str, dict[str, Any]]:
    """For each section the values that are set and right, by attribute."""
    values: dict[str, dict[str, Any]] = {section: {} for section in _SECTIONS}
    for section in ini.sections():
        if section in _SECTIONS:
            values[section] = _section_values(section, ini.items(section), faults)
        elif not section.startswith(_FOREIGN):
            faults.add(f"[{section[:80]}]", "is no section", _suggestion(section, _SECTIONS))
    return values


def _section_values(
    section: str, items: Iterable[tuple[str, str]], faults: _Faults
) -> dict[str, Any]:
    known = {setting.key: setting for setting in SETTINGS if setting.section == section}
    values: dict[str, Any] = {}
    given = dict(items)
    for key, text in given.items():
        where = f"[{section}] {key[:80]}"
        if key not in known:
            faults.add(where, "is no setting", _place_of(key) or _suggestion(key, known))
            continue
        setting = known[key]
        try:
            values[setting.attribute] = _value(setting.kind, text)
        except ValueError as error:
            faults.add(where, str(error), f"allowed is {setting.kind.allowed}")
    missing = [
        key for key, setting in known.items() if setting.default is None and key not in given
    ]
    if given and missing:
        faults.add(
            f"[{section}]",
            f"{', '.join(missing)} missing",
            f"set all of {', '.join(known)}, or none",
        )
    return values


def _value(kind: Kind, text: str) -> int | float | str:
    if not text:
        raise ValueError("is empty")
    if "\n" in text:
        raise ValueError("goes on in an indented line, and no setting has more than one")
    try:
        return kind.parse(text)
    except ValueError as error:
        comment = ", and a comment needs a line of its own" if "#" in text or ";" in text else ""
        raise ValueError(f"{_shown(text)} {error}{comment}") from None


def _check_together(values: dict[str, dict[str, Any]], faults: _Faults) -> None:
    point = PointSettings(**values["compoint"])
    if point.wide_window_bytes < point.window_bytes:
        faults.add(
            "[compoint] wideWindow",
            f"{point.wide_window_bytes} bytes are less than window, {point.window_bytes} bytes",
            "allowed is at least as much as window",
        )


def _place_of(key: str) -> str:
    """Where a setting belongs that stands in the wrong section."""
    sections = [setting.section for setting in SETTINGS if setting.key == key]
    return f"it belongs to [{sections[0]}]" if sections else ""


def _suggestion(word: str, known: Iterable[str]) -> str:
    names = {name.casefold(): name for name in known}
    near = difflib.get_close_matches(word[:80].casefold(), names, n=1)
    if near:
        return f"did you mean {names[near[0]]}?"
    return f"allowed are {', '.join(names.values())}"
