"""The database file of a spool folder: opening it, and what is said when SQLite complains."""

from __future__ import annotations

import errno
import os
import sqlite3
from typing import Final
from urllib.parse import quote

from compoint.errors import BusyError, ComPointException, ConfigError, InternalError, Phase

__all__ = [
    "damaged", "database_path", "disown", "fault_of", "make_durable", "open_to_look",
    "open_to_write", "wait_for_disk",
]  # fmt: skip

_FILE: Final = "conversations.sqlite"
#: How long others (someone who looks, a backup) may keep the file to themselves.
_PATIENCE_S: Final = 5.0
#: The log is cut to this when it was longer.
_LOG_BYTES: Final = 16 * 1024 * 1024

_FULL: Final = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_SHMSIZE}
_DAMAGED: Final = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_BUSY: Final = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_BROKEN: Final = {
    sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_NOLFS, sqlite3.SQLITE_PROTOCOL,
}  # fmt: skip

#: Files whose connection a fork has copied into this process; and these connections.
_inherited: Final[dict[str, sqlite3.Connection]] = {}


def database_path(folder: str) -> str:
    return os.path.join(folder, _FILE)


def open_to_write(path: str) -> sqlite3.Connection:
    """The file, for its owner only; made if it is missing."""
    _refuse_inherited(path)
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600))
    except FileExistsError:
        # Not opened here: closing it would take the locks of a connection to it.
        pass
    return sqlite3.connect(path, timeout=_PATIENCE_S, isolation_level=None, check_same_thread=False)


def open_to_look(path: str) -> sqlite3.Connection:
    """The file, which must be there, without the right to change it."""
    _refuse_inherited(path)
    uri = f"file:{quote(os.path.abspath(path))}?mode=ro"
    return sqlite3.connect(uri, uri=True, timeout=_PATIENCE_S, isolation_level=None)


def make_durable(db: sqlite3.Connection) -> None:
    """Have every transaction on the disk when it is committed."""
    db.execute("PRAGMA journal_mode = WAL")
    wait_for_disk(db, is_wanted=True)
    db.execute("PRAGMA fullfsync = ON")
    db.execute(f"PRAGMA journal_size_limit = {_LOG_BYTES}")


def wait_for_disk(db: sqlite3.Connection, *, is_wanted: bool) -> None:
    """Whether the next transactions are on the disk when they are committed, and with them all
    before; or only with the next one that is wanted so. In order they are in any case."""
    db.execute(f"PRAGMA synchronous = {'FULL' if is_wanted else 'NORMAL'}")


def disown(db: sqlite3.Connection, path: str) -> None:
    """In a forked child: never close this connection, which is the parent's.

    Closed here it could take away the log with what the parent has committed. And as long as
    it is here SQLite believes to hold locks on the file that this process does not hold, so
    the file is not opened again by this process.
    """
    _inherited[os.path.realpath(path)] = db
    try:
        import ctypes  # noqa: PLC0415
    except ImportError:
        return
    # Even the interpreter's last tidying must not find it.
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(db))


def _refuse_inherited(path: str) -> None:
    if os.path.realpath(path) in _inherited:
        raise BusyError(
            "this process was forked from one that used this spool folder, and cannot use it",
            phase=Phase.OPEN, hint="start a new program instead (multiprocessing: spawn)",
        )  # fmt: skip


def fault_of(error: sqlite3.Error, path: str) -> ComPointException | OSError:
    """What a complaint of SQLite is to the program; it names no content."""
    code = getattr(error, "sqlite_errorcode", None)
    if code in _FULL:
        return OSError(errno.ENOSPC, "the disk of the spool folder is full")
    # What has no code was no text where one was expected.
    primary = sqlite3.SQLITE_CORRUPT if code is None else code & 0xFF
    if primary in _DAMAGED:
        return damaged(path)
    if primary in _BUSY:
        return BusyError(
            f"another program keeps {path} locked", phase=Phase.OPEN, hint="stop it, and try again"
        )
    if primary in _BROKEN:
        return OSError(errno.EIO, f"the spool folder cannot be used: {error}", path)
    return InternalError(f"the store was asked for something impossible: {error}")


def damaged(path: str) -> ConfigError:
    return ConfigError(
        f"{path} is damaged", phase=Phase.CONFIGURE,
        hint="move it and the files beside it that begin with its name away, and start again; "
        "the conversations in it are lost",
    )  # fmt: skip
