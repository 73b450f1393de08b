"""What a spool folder holds, for people to see, also while a process works with it."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from compoint.errors import ComPointException
from mail._database import damaged, database_path, fault_of, open_to_look
from mail._lock import holder
from mail._rows import budget_of, posts_of, state_of
from mail._schema import is_made

if TYPE_CHECKING:
    from mail._batch import PostRow
    from mail._envelope import Place
    from mail._mailbox import Key
    from mail._rate import BudgetState

__all__ = ["ConversationView", "SpoolView", "peek"]


@dataclass(frozen=True, slots=True)
class ConversationView:
    """One conversation, as it was last committed."""

    key: Key
    peer: Place
    #: The local port; of a responder the one it listens at.
    port: int
    #: The name by which a later process takes it up again; "": none.
    name: str
    #: No program of this side needs it any more.
    is_released: bool
    #: Bytes that were said, that the peer is known to have (the end of them counted as one
    #: more), and that came from it.
    said: int
    confirmed: int
    received: int
    #: Messages that are here and were not read.
    unread: int
    #: When something is to be said again (UTC); inf: nothing is.
    due_utc: float
    #: How it broke and why; "": it did not.
    how: str
    text: str


@dataclass(frozen=True, slots=True)
class SpoolView:
    """Everything at one moment."""

    #: "": there is no store in the folder yet.
    mailbox: str
    #: The process that works with it; None: none does.
    pid: int | None
    conversations: tuple[ConversationView, ...] = ()
    #: Mails that may still come back.
    posts: tuple[PostRow, ...] = ()
    budget: BudgetState | None = None


@contextmanager
def peek(folder: str) -> Iterator[SpoolView]:
    """Look into a spool folder; nothing is made, locked for others or changed.

    Raises:
        ConfigError: the store is damaged, or not one that this release can read.
        BusyError: another program keeps the file to itself.
        OSError: the folder may not be looked into.
    """
    path = database_path(folder)
    pid = holder(folder)
    try:
        os.stat(path)
    except FileNotFoundError:
        yield SpoolView("", pid)
        return
    yield _look(path, pid)


def _look(path: str, pid: int | None) -> SpoolView:
    try:
        with closing(open_to_look(path)) as db:
            db.execute("BEGIN")
            if not is_made(db, path):
                return SpoolView("", pid)
            (mailbox,) = db.execute("SELECT mailbox FROM meta").fetchone()
            conversations = tuple(_conversations(db))
            return SpoolView(mailbox, pid, conversations, tuple(posts_of(db)), budget_of(db))
    except ComPointException:
        raise
    except sqlite3.Error as error:
        raise fault_of(error, path) from error
    except (LookupError, TypeError, ValueError) as error:
        raise damaged(path) from error


def _conversations(db: sqlite3.Connection) -> Iterator[ConversationView]:
    unread = dict(db.execute("SELECT id, count(*) FROM messages GROUP BY id").fetchall())
    links = {row[0]: row[1:] for row in db.execute("SELECT id, port, name, is_released FROM links")}
    query = "SELECT * FROM conversations ORDER BY their_mailbox, their_port, id"
    for row in db.execute(query):
        state = state_of(row)
        port, name, is_released = links.get(row[0], (state.ours.port, "", False))
        yield ConversationView(
            key=(state.conversation, state.is_initiator), peer=state.theirs, port=port, name=name,
            is_released=bool(is_released), said=state.said, confirmed=state.confirmed,
            received=state.received, unread=unread.get(row[0], 0), due_utc=state.due_utc,
            how=state.how, text=state.text,
        )  # fmt: skip
