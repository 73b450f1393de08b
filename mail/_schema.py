"""The tables of the store, and whether a file has them."""

from __future__ import annotations

import os
import sqlite3
from typing import Final

from compoint.errors import ConfigError, Phase

__all__ = ["create", "is_made"]

#: "SMPR", by which a file of ours is known.
_APPLICATION: Final = 0x534D5052
_VERSION: Final = 1

# `id` is a conversation and the side of it: 16 bytes and 0 or 1 (the initiator). Its rows lie
# side by side, so what is needless is found without a search through what is not.
_TABLES: Final = (
    """CREATE TABLE meta (
        one INTEGER PRIMARY KEY CHECK (one = 1),
        mailbox TEXT NOT NULL, incarnation BLOB NOT NULL,
        next_post INTEGER NOT NULL, budget TEXT
    ) STRICT""",
    # In the order of `mail._state.State`.
    """CREATE TABLE conversations (
        id BLOB NOT NULL PRIMARY KEY,
        our_mailbox TEXT NOT NULL, our_port INTEGER NOT NULL,
        their_mailbox TEXT NOT NULL, their_port INTEGER NOT NULL,
        incarnation BLOB, said INTEGER NOT NULL, confirmed INTEGER NOT NULL,
        is_ended INTEGER NOT NULL, peer_window INTEGER NOT NULL, on_the_way INTEGER NOT NULL,
        due_utc REAL NOT NULL, tries INTEGER NOT NULL, received INTEGER NOT NULL,
        ends_at INTEGER, told INTEGER NOT NULL, round_trip_s REAL, give_up_utc REAL NOT NULL,
        last_utc REAL NOT NULL, reset_utc REAL NOT NULL, next_handle INTEGER NOT NULL,
        how TEXT NOT NULL, code INTEGER NOT NULL, text TEXT NOT NULL
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE links (
        id BLOB NOT NULL PRIMARY KEY, port INTEGER NOT NULL, name TEXT NOT NULL,
        path TEXT NOT NULL, is_released INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE said (
        id BLOB NOT NULL, start INTEGER NOT NULL, body BLOB NOT NULL, PRIMARY KEY (id, start)
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE early (
        id BLOB NOT NULL, start INTEGER NOT NULL, body BLOB NOT NULL, PRIMARY KEY (id, start)
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE arrived (
        id BLOB NOT NULL, start INTEGER NOT NULL, body BLOB NOT NULL, PRIMARY KEY (id, start)
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE machines (
        id BLOB NOT NULL PRIMARY KEY, row BLOB NOT NULL, fed INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE streams (
        id BLOB NOT NULL, stream INTEGER NOT NULL, row BLOB NOT NULL, PRIMARY KEY (id, stream)
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE messages (
        id BLOB NOT NULL, stream INTEGER NOT NULL, number INTEGER NOT NULL,
        form INTEGER NOT NULL, body BLOB NOT NULL, PRIMARY KEY (id, stream, number)
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE pieces (
        id BLOB NOT NULL, stream INTEGER NOT NULL, start INTEGER NOT NULL, body BLOB NOT NULL,
        PRIMARY KEY (id, stream, start)
    ) STRICT, WITHOUT ROWID""",
    # In the order of `mail._tombstone.Tombstone`.
    """CREATE TABLE tombstones (
        id BLOB NOT NULL PRIMARY KEY, have INTEGER NOT NULL, code INTEGER NOT NULL,
        text TEXT NOT NULL, until_utc REAL NOT NULL, answered_utc REAL NOT NULL
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE posts (
        number INTEGER PRIMARY KEY, message_id TEXT NOT NULL, recipient TEXT NOT NULL,
        parts TEXT NOT NULL, submitted_utc REAL NOT NULL
    ) STRICT""",
)


def is_made(db: sqlite3.Connection, path: str) -> bool:
    """Whether the tables are there; False: the file is empty.

    Raises:
        ConfigError: they are those of a newer release, or of another program.
        sqlite3.Error: it is no database.
    """
    (application,) = db.execute("PRAGMA application_id").fetchone()
    (version,) = db.execute("PRAGMA user_version").fetchone()
    (tables,) = db.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if application != _APPLICATION and (application or version or tables):
        raise ConfigError(
            f"{path} is the database of another program", phase=Phase.CONFIGURE,
            hint="name another spool folder",
        )  # fmt: skip
    if version > _VERSION:
        raise ConfigError(
            f"{path} was made by a newer release (its version is {version}, known here is "
            f"{_VERSION})", phase=Phase.CONFIGURE, hint="use that release, or another spool folder",
        )  # fmt: skip
    return bool(version)


def create(db: sqlite3.Connection, mailbox: str) -> None:
    """Make the tables for a mailbox: all of them, or (after an exception) none."""
    db.execute("BEGIN IMMEDIATE")
    for table in _TABLES:
        db.execute(table)
    db.execute("INSERT INTO meta VALUES (1, ?, ?, 1, NULL)", (mailbox, os.urandom(8)))
    db.execute(f"PRAGMA application_id = {_APPLICATION}")
    db.execute(f"PRAGMA user_version = {_VERSION}")
    db.execute("COMMIT")
