"""The INI file `_sempconfig`: found, read, checked as a whole, and made into frozen settings.

What may be set is declared in `_settings.py`; everything here is driven by that.

The file is the first that exists of: the path given to `load`, $SEMPCONFIG, ./_sempconfig,
~/_sempconfig; without any, the defaults hold. A section whose name starts with `x-` belongs
to somebody else (a further transport) and is not looked at.
"""

from __future__ import annotations

import configparser
import difflib
import os
import re
from typing import TYPE_CHECKING, Any, Final, NoReturn

from compoint._kinds import Clash, Kind, Value
from compoint._mail_settings import mail_clashes
from compoint._settings import (
    SECTIONS,
    SETTINGS,
    ChannelSettings,
    HttpSettings,
    MailSettings,
    PointSettings,
    Setting,
    Settings,
    point_clashes,
)
from compoint.errors import ConfigError, Phase
from compoint.limits import MIB

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

#: A longer file is not a `_sempconfig`; no more than this is read of it.
_FILE_BYTES: Final = 1 * MIB

#: With so many faults the file is probably something else; the rest is not told.
_FAULTS: Final = 50

_FOREIGN: Final = "x-"


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
    """For each section the values that are set and right, by attribute; none if it is off."""
    values: dict[str, dict[str, Any]] = {section: {} for section in SECTIONS}
    for section in ini.sections():
        if section in SECTIONS:
            values[section] = _section_values(section, dict(ini.items(section)), faults)
        elif not section.startswith(_FOREIGN):
            faults.add(f"[{section[:80]}]", "is no section", _suggestion(section, SECTIONS))
    return values


def _section_values(section: str, given: dict[str, str], faults: _Faults) -> dict[str, Any]:
    known = {setting.key: setting for setting in SETTINGS if setting.section == section}
    values: dict[str, Any] = {}
    wrong: set[str] = set()
    for key, text in given.items():
        where = f"[{section}] {key[:80]}"
        if key not in known:
            faults.add(where, "is no setting", _place_of(key) or _suggestion(key, known))
            continue
        setting = known[key]
        try:
            values[setting.attribute] = _value(setting.kind, text)
        except ValueError as error:
            wrong.add(key)
            faults.add(where, str(error), f"allowed is {setting.kind.allowed}")
    required = {key: setting.attribute for key, setting in known.items() if setting.default is None}
    missing = [key for key in required if key not in given]
    if missing and len(missing) == len(required):
        return {}
    if missing:
        faults.add(
            f"[{section}]",
            f"{', '.join(missing)} missing",
            f"set all of {', '.join(required)}, or none",
        )
    for clash in _clashes(section, dict.fromkeys(required.values()) | values):
        # What is wrong by itself has its fault already.
        if wrong.isdisjoint(clash.keys):
            faults.add(f"[{section}] {clash.keys[0]}", clash.why, clash.instead)
    return values


def _clashes(section: str, values: dict[str, Any]) -> Iterable[Clash]:
    """What does not go together; the settings without a default have no part in it."""
    match section:
        case "compoint":
            return point_clashes(PointSettings(**values))
        case "mail":
            return mail_clashes(MailSettings(**values))
        case _:
            return ()


def _value(kind: Kind, text: str) -> Value:
    if not text:
        raise ValueError("is empty")
    if "\n" in text:
        raise ValueError("goes on in an indented line, and no setting has more than one")
    try:
        return kind.parse(text)
    except ValueError as error:
        comment = ", and a comment needs a line of its own" if "#" in text or ";" in text else ""
        raise ValueError(f"{_shown(text)} {error}{comment}") from None


def _place_of(key: str) -> str:
    """Where a setting belongs that stands in the wrong section."""
    sections = [f"[{setting.section}]" for setting in SETTINGS if setting.key == key]
    return f"it belongs to {' or '.join(sections)}" if sections else ""


def _suggestion(word: str, known: Iterable[str]) -> str:
    names = {name.casefold(): name for name in known}
    near = difflib.get_close_matches(word[:80].casefold(), names, n=1)
    if near:
        return f"did you mean {names[near[0]]}?"
    return f"allowed are {', '.join(names.values())}"
