"""The rows of the store: writing what a step has changed, and reading everything back.

Nothing here commits, opens or closes. What is needless goes in the transaction that makes it
so; the searches touch only rows that go, and at most one that stays.
"""

# ruff: noqa: S608 -- what is put together are names of tables and question marks, all ours
from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from compoint.core.keeping import KeptConnection, KeptMessage, KeptPiece, KeptStream
from mail._batch import Link, Loaded, PostRow, Rows
from mail._envelope import Place
from mail._incoming import Early
from mail._outgoing import Said
from mail._rate import BudgetState
from mail._state import State
from mail._tombstone import Tombstone

if TYPE_CHECKING:
    from compoint.core.keeping import ConnectionChanges, StreamChanges
    from mail._batch import Batch
    from mail._mailbox import Key, MailboxChanges
    from mail._state import Changes

__all__ = ["budget_of", "key_of", "load", "posts_of", "save", "state_of"]

_OF_ONE = (
    "conversations", "links", "said", "early", "arrived", "machines", "streams", "messages",
    "pieces",
)  # fmt: skip
_GONE = [f"DELETE FROM {table} WHERE id = ?" for table in _OF_ONE]
_GONE_STREAM = [
    f"DELETE FROM {table} WHERE id = ? AND stream = ?"
    for table in ("streams", "messages", "pieces")
]


def _marks(count: int) -> str:
    return f"({', '.join('?' * count)})"


_PUT_STATE = f"REPLACE INTO conversations VALUES {_marks(len(State._fields) + 1)}"
_PUT_STONE = f"REPLACE INTO tombstones VALUES {_marks(len(Tombstone._fields) - 1)}"


def _id(key: Key) -> bytes:
    conversation, is_initiator = key
    return conversation + bytes((is_initiator,))


def key_of(row_id: bytes) -> Key:
    """The key that a row's `id` stands for."""
    return row_id[:-1], bool(row_id[-1])


# --- writing ------------------------------------------------------------------------------------


def save(db: sqlite3.Connection, batch: Batch) -> None:
    """Write one step, within a transaction."""
    gone: set[Key] = set()
    if batch.mailbox is not None:
        gone = _save_mailbox(db, batch.mailbox)
    for key, start, body in batch.arrived:
        if key not in gone:
            db.execute("INSERT INTO arrived VALUES (?, ?, ?)", (_id(key), start, body))
    for key, machine in batch.machines:
        if key not in gone:
            _save_machine(db, _id(key), machine)
    for link in batch.links:
        if link.key not in gone:
            db.execute("REPLACE INTO links VALUES (?, ?, ?, ?, ?)", (_id(link.key), *link[1:]))
    for post in batch.posts:
        parts = json.dumps([[_id(key).hex(), handle] for key, handle in post.parts])
        row = (post.number, post.message_id, post.recipient, parts, post.submitted_utc)
        db.execute("REPLACE INTO posts VALUES (?, ?, ?, ?, ?)", row)
    db.executemany("DELETE FROM posts WHERE number = ?", ((one,) for one in batch.done_posts))
    if batch.budget is not None:
        budget = batch.budget
        text = json.dumps([budget.tokens, budget.at, budget.sent])
        db.execute("UPDATE meta SET budget = ?", (text,))


def _save_mailbox(db: sqlite3.Connection, changes: MailboxChanges) -> set[Key]:
    """Returns the conversations of which no row is to be left."""
    for key in changes.gone:
        for statement in _GONE:
            db.execute(statement, (_id(key),))
    for one in changes.changes:
        _save_conversation(db, one)
    forgotten = ((_id(key),) for key in changes.forgotten)
    db.executemany("DELETE FROM tombstones WHERE id = ?", forgotten)
    stones = ((_id((one.conversation, one.is_initiator)), *one[2:]) for one in changes.tombstones)
    db.executemany(_PUT_STONE, stones)
    next_post = changes.next_post
    db.execute("UPDATE meta SET next_post = ? WHERE next_post < ?", (next_post, next_post))
    begun_again = {(one.state.conversation, one.state.is_initiator) for one in changes.changes}
    return set(changes.gone) - begun_again


def _save_conversation(db: sqlite3.Connection, changes: Changes) -> None:
    state = changes.state
    row_id = _id((state.conversation, state.is_initiator))
    db.execute(_PUT_STATE, (row_id, *state.ours, *state.theirs, *state[4:]))
    _insert(db, "said", row_id, changes.said)
    _insert(db, "early", row_id, changes.early)
    _delete_up_to(db, "said", row_id, state.confirmed)
    db.execute("DELETE FROM early WHERE id = ? AND start < ?", (row_id, state.received))


def _insert(db: sqlite3.Connection, table: str, row_id: bytes, rows: list[Any]) -> None:
    db.executemany(f"INSERT INTO {table} VALUES (?, ?, ?)", ((row_id, *row) for row in rows))


def _delete_up_to(db: sqlite3.Connection, table: str, row_id: bytes, end: int) -> None:
    """Rows whose last byte has a lower number."""
    db.execute(
        f"DELETE FROM {table} WHERE id = ? AND start < ? AND start + length(body) <= ?",
        (row_id, end, end),
    )


def _save_machine(db: sqlite3.Connection, row_id: bytes, machine: ConnectionChanges) -> None:
    db.execute("REPLACE INTO machines VALUES (?, ?, ?)", (row_id, machine.row, machine.fed))
    _delete_up_to(db, "arrived", row_id, machine.fed)
    for stream in machine.streams:
        _save_stream(db, row_id, stream)
    for number in machine.gone:
        for statement in _GONE_STREAM:
            db.execute(statement, (row_id, number))


def _save_stream(db: sqlite3.Connection, row_id: bytes, stream: StreamChanges) -> None:
    of_stream = (row_id, stream.number)
    db.execute("REPLACE INTO streams VALUES (?, ?, ?)", (*of_stream, stream.row))
    messages = ((*of_stream, *message) for message in stream.messages)
    db.executemany("INSERT INTO messages VALUES (?, ?, ?, ?, ?)", messages)
    db.execute(
        "DELETE FROM messages WHERE id = ? AND stream = ? AND number < ?",
        (*of_stream, stream.first_unread),
    )
    if not stream.has_pieces:
        db.execute("DELETE FROM pieces WHERE id = ? AND stream = ?", of_stream)
    pieces = ((*of_stream, *piece) for piece in stream.pieces)
    db.executemany("INSERT INTO pieces VALUES (?, ?, ?, ?)", pieces)


# --- reading ------------------------------------------------------------------------------------


def load(db: sqlite3.Connection) -> Loaded:
    """Read everything."""
    said = _by_id(db, "said")
    early = _by_id(db, "early")
    arrived = _by_id(db, "arrived")
    machines = _load_machines(db)
    links = {
        row_id: Link(key_of(row_id), port, name, path, bool(is_released))
        for row_id, port, name, path, is_released in db.execute("SELECT * FROM links")
    }
    conversations = [
        Rows(
            state_of(row),
            [Said(*one) for one in said[row[0]]],
            [Early(*one) for one in early[row[0]]],
            arrived[row[0]],
            machines.get(row[0]),
            links.get(row[0]),
        )
        for row in db.execute("SELECT * FROM conversations ORDER BY id")
    ]
    tombstones = [
        Tombstone(*key_of(row_id), *row)
        for row_id, *row in db.execute("SELECT * FROM tombstones ORDER BY id")
    ]
    (next_post,) = db.execute("SELECT next_post FROM meta").fetchone()
    return Loaded(conversations, tombstones, posts_of(db), budget_of(db), next_post)


def state_of(row: tuple[Any, ...]) -> State:
    """A row of `conversations`."""
    row_id, our_mailbox, our_port, their_mailbox, their_port, *rest = row
    ours, theirs = Place(our_mailbox, our_port), Place(their_mailbox, their_port)
    state = State(*key_of(row_id), ours, theirs, *rest)
    return state._replace(is_ended=bool(state.is_ended))


def posts_of(db: sqlite3.Connection) -> list[PostRow]:
    """The mails that may still come back, in order of their numbers."""
    return [
        PostRow(number, message_id, recipient, _parts(parts), submitted_utc)
        for number, message_id, recipient, parts, submitted_utc in db.execute(
            "SELECT * FROM posts ORDER BY number"
        )
    ]


def _parts(text: str) -> tuple[tuple[Key, int], ...]:
    return tuple((key_of(bytes.fromhex(row_id)), handle) for row_id, handle in json.loads(text))


def budget_of(db: sqlite3.Connection) -> BudgetState | None:
    """What is left of the mails that may go."""
    (text,) = db.execute("SELECT budget FROM meta").fetchone()
    if text is None:
        return None
    tokens, at, sent = json.loads(text)
    return BudgetState(tokens, at, tuple((hour, mails) for hour, mails in sent))


def _by_id(db: sqlite3.Connection, table: str) -> defaultdict[bytes, list[tuple[int, bytes]]]:
    """The numbered bodies of every conversation, in order."""
    found = defaultdict(list)
    for row_id, start, body in db.execute(f"SELECT * FROM {table} ORDER BY id, start"):
        found[row_id].append((start, body))
    return found


def _load_machines(db: sqlite3.Connection) -> dict[bytes, KeptConnection]:
    found = {
        row_id: KeptConnection(row, fed, [])
        for row_id, row, fed in db.execute("SELECT * FROM machines")
    }
    streams = {}
    for row_id, number, row in db.execute("SELECT * FROM streams ORDER BY id, stream"):
        stream = streams[row_id, number] = KeptStream(row, [], [])
        found[row_id].streams.append(stream)
    messages = db.execute("SELECT * FROM messages ORDER BY id, stream, number")
    for row_id, number, *message in messages:
        streams[row_id, number].messages.append(KeptMessage(*message))
    for row_id, number, *piece in db.execute("SELECT * FROM pieces ORDER BY id, stream, start"):
        streams[row_id, number].pieces.append(KeptPiece(*piece))
    return found
