"""Reading a file with a secret in it, which must be out of reach for others."""

from __future__ import annotations

import os
import stat
from typing import Final, NoReturn

from compoint.errors import ConfigError, Phase

__all__ = ["read_private"]

#: Nothing that is read here is longer.
FILE_BYTES: Final = 64 * 1024


def read_private(file: str, what: str) -> bytes:
    """What the file holds; `what` names it in errors, as in "password file".

    Raises:
        ConfigError: it cannot be read, is too long, belongs to somebody else (root's are
            as good as one's own), or others may read or change it.
    """
    try:
        with open(file, "rb") as opened:
            about = os.fstat(opened.fileno())
            if about.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
                _fail(f"others may read the {what} {file}", "chmod 600 it")
            if about.st_uid not in {os.geteuid(), 0}:
                _fail(f"the {what} {file} belongs to somebody else")
            content = opened.read(FILE_BYTES + 1)
    except OSError as error:
        _fail(f"the {what} {file} cannot be read ({error.strerror})")
    if len(content) > FILE_BYTES:
        _fail(f"the {what} {file} is longer than {FILE_BYTES} bytes")
    return content


def _fail(what: str, hint: str = "") -> NoReturn:
    raise ConfigError(what, phase=Phase.CONFIGURE, hint=hint) from None
