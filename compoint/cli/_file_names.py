"""A safe file name out of whatever a peer says. Pure."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["NAME_BYTES", "safe_name"]

#: What common file systems take.
NAME_BYTES: Final = 255

#: How much of the end of a long name is kept if it looks like an extension.
_EXTENSION_BYTES: Final = 16

#: Names that mean a device on some systems, whatever extension they have.
_DEVICES: Final = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(\..*)?", re.IGNORECASE)

#: Letters that some system gives a meaning in names: streams, patterns, quotes, pipes.
_MEANINGFUL: Final = frozenset(':*?"<>|')


def safe_name(name: str) -> str:
    """The name under which a file may be stored inside a folder; never empty, never a path.

    Only what stands behind the last slash or backslash counts. Characters that do not show
    themselves or have a meaning in names become "_", dots and spaces at the front and
    dots and spaces at the end go, a name that means a device gets "_" in front, and what
    is too long is cut, before its extension if it has one.
    """
    last = re.split(r"[/\\]", name)[-1]
    shown = "".join(
        each if each.isprintable() and each not in _MEANINGFUL else "_" for each in last
    )
    kept = _cut(shown.lstrip(". ")).rstrip(". ")
    if not kept:
        return "_"
    return _cut(f"_{kept}") if _DEVICES.fullmatch(kept) else kept


def _cut(name: str) -> str:
    if len(name.encode()) <= NAME_BYTES:
        return name
    stem, dot, extension = name.rpartition(".")
    end = f"{dot}{extension}".encode()
    if not stem or len(end) > _EXTENSION_BYTES:
        stem, end = name, b""
    # Half a character at the cut is dropped.
    return stem.encode()[: NAME_BYTES - len(end)].decode(errors="ignore") + end.decode()
