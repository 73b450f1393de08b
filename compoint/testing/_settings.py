"""Settings for one block of a test."""

from __future__ import annotations

import os
import tempfile
from contextlib import contextmanager
from typing import TYPE_CHECKING

from compoint.manager import ComManager

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["configured", "sempconfig_text"]


def sempconfig_text(sections: Mapping[str, Mapping[str, object]]) -> str:
    """A `_sempconfig` file with these sections."""
    lines = []
    for section, settings in sections.items():
        lines.append(f"[{section}]")
        lines += [f"{key} = {value}" for key, value in settings.items()]
    return "\n".join([*lines, ""])


#: The sections of the blocks that are open.
_around: dict[str, dict[str, object]] = {}


@contextmanager
def configured(**sections: Mapping[str, object]) -> Iterator[None]:
    """Points opened in this block, in any thread, have these settings.

        with configured(compoint={"maxMessage": "64 KiB"}, channel={"maxQueued": 2}):

    They are written to a file and read as a program's would be; the sections of a block
    around this one hold, too, key by key. Afterwards the settings that held before are read
    again.
    """
    before = ComManager.settings().sources
    merged = {name: {**_around.get(name, {})} for name in [*_around, *sections]}
    for name, settings in sections.items():
        merged[name].update(settings)
    around = dict(_around)
    _around.update(merged)
    handle, path = tempfile.mkstemp(suffix="_sempconfig")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(sempconfig_text(merged))
        ComManager.init(path)
        yield
    finally:
        _around.clear()
        _around.update(around)
        os.unlink(path)
        ComManager.init(before[0] if before else None)
