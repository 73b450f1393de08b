"""What people see: foreign text made harmless, sizes in words. Pure."""

from __future__ import annotations

from typing import Final

__all__ = ["counted", "size_in_words", "visible"]

_UNITS: Final = ("kB", "MB", "GB", "TB", "PB", "EB")


def visible(text: str) -> str:
    """The text with everything escaped that does not show itself.

    What a peer sends must not move the cursor, set a title, type into the terminal, start
    a line that looks like ours, or turn the direction of writing: control characters,
    line breaks, invisible and unassigned ones come out as `\\x1b`, `\\n`, `\\u202e`.
    """
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in text
    )


def size_in_words(size_bytes: int) -> str:
    """A number of bytes for people: `312 bytes`, `1.2 MB`."""
    if size_bytes < 1000:
        return counted(size_bytes, "byte")
    size = float(size_bytes)
    for unit in _UNITS:
        size /= 1000
        if size < 999.95:  # more would be rounded up to four digits
            return f"{size:.1f} {unit}"
    return f"{size:.1f} {_UNITS[-1]}"


def counted(number: int, noun: str) -> str:
    """`1 file`, `2 files`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
