"""Rows for the store as steps make them, and what a folder holds after a step."""

from __future__ import annotations

import math
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import mail
from compoint.core.keeping import ConnectionChanges, KeptMessage, KeptPiece, StreamChanges
from mail._batch import Batch
from mail._envelope import Place
from mail._mailbox import MailboxChanges
from mail._state import Changes, State

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mail._incoming import Early
    from mail._mailbox import Key
    from mail._outgoing import Said
    from mail._tombstone import Tombstone

__all__ = [
    "BOB", "KEY", "OTHER", "left_in", "machine", "mailbox_step", "program", "state", "step",
    "stream",
]  # fmt: skip

BOB: Final = "bob@example.org"
KEY: Final = (b"c" * 16, True)
#: The other side of the same conversation, in the same mailbox.
OTHER: Final = (b"c" * 16, False)


def state(key: Key = KEY, **fields: Any) -> State:
    """The state of a conversation that has just begun, but for some fields."""
    fresh = State(
        conversation=key[0], is_initiator=key[1], ours=Place(BOB, 49152),
        theirs=Place("alice@example.org", 7100), incarnation=None, said=0, confirmed=0,
        is_ended=False, peer_window=1 << 20, on_the_way=0, due_utc=math.inf, tries=0, received=0,
        ends_at=None, told=0, round_trip_s=None, give_up_utc=math.inf, last_utc=0.0,
        reset_utc=-math.inf, next_handle=0, how="", code=0, text="",
    )  # fmt: skip
    return fresh._replace(**fields)


def step(
    of: State | None = None, said: Iterable[Said] = (), early: Iterable[Early] = (), **more: Any
) -> Batch:
    """A batch with one conversation; more of a batch by its names."""
    changes = [] if of is None else [Changes(of, list(said), list(early))]
    return Batch(mailbox=mailbox_step(*changes), **more)


def mailbox_step(
    *changes: Changes, gone: Iterable[Key] = (), tombstones: Iterable[Tombstone] = (),
    forgotten: Iterable[Key] = (), next_post: int = 1,
) -> MailboxChanges:  # fmt: skip
    return MailboxChanges(
        changes=list(changes), gone=list(gone), tombstones=list(tombstones),
        forgotten=list(forgotten), next_post=next_post,
    )  # fmt: skip


def machine(
    *streams: StreamChanges, row: bytes = b"connection", fed: int = 0, gone: Iterable[int] = ()
) -> ConnectionChanges:
    return ConnectionChanges(row, fed, list(streams), list(gone))


def stream(
    number: int = 1, row: bytes = b"stream", first_unread: int = 1,
    messages: Iterable[tuple[int, int, bytes]] = (), *, has_pieces: bool = False,
    pieces: Iterable[tuple[int, bytes]] = (),
) -> StreamChanges:  # fmt: skip
    return StreamChanges(
        number, row, first_unread, [KeptMessage(*one) for one in messages], has_pieces,
        [KeptPiece(*one) for one in pieces],
    )  # fmt: skip


def left_in(folder: Path) -> dict[str, int]:
    """How many rows each table holds that is not empty."""
    with closing(sqlite3.connect(folder / "conversations.sqlite")) as db:
        tables = [name for (name,) in db.execute("SELECT name FROM sqlite_schema")]
        counts = {
            name: db.execute(f"SELECT count(*) FROM {name}").fetchone()[0]
            for name in tables if not name.startswith("sqlite_") and name != "meta"
        }  # fmt: skip
    return {name: count for name, count in counts.items() if count}


def program(script: str, *arguments: object, under: Iterable[str] = ()) -> subprocess.Popen[str]:
    """A process of its own that runs a script; it ends when its input does."""
    paths = [str(Path(mail.__file__).parents[1]), str(Path(__file__).parent)]
    return subprocess.Popen(
        [*under, sys.executable, "-P", "-W", "error", "-c", script, *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)}, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
