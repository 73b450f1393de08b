"""The store: what all conversations of one mailbox consist of, in the spool folder, for good.

One step of the mailbox is one transaction. When `commit` has returned, it survives the end of
the process, of the system and of the power; before, nothing of it is there. Steps that may be
done once more survive the end of the process at once, and that of the power with the next step.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from typing import Final

from compoint.errors import ClosedError, ComPointException, ConfigError, InternalError, Phase
from mail._batch import Batch, Link, Loaded, PostRow, Rows
from mail._database import (
    damaged,
    database_path,
    disown,
    fault_of,
    make_durable,
    open_to_write,
    wait_for_disk,
)
from mail._dropbox import Dropbox
from mail._lock import MailboxLock, holder
from mail._peek import ConversationView, SpoolView, peek
from mail._rows import load, save
from mail._schema import create, is_made

__all__ = [
    "Batch", "ConversationView", "Link", "Loaded", "PostRow", "Rows", "SpoolView", "Store",
]  # fmt: skip


class Store:
    """The store of one mailbox, for this process alone until it is closed.

    Makes folder and file where there are none, for their owner only. Any thread may call,
    one at a time: the caller has a lock of its own.

    Raises:
        BusyError: another process uses the mailbox; names it.
        ConfigError: the folder belongs to somebody else, is open to others, or is that of
            another mailbox; the file is damaged, foreign, or of a newer release.
        OSError: the folder cannot be made or used; the disk is full (ENOSPC).
    """

    #: To look into a spool folder, also while a process uses it.
    peek = staticmethod(peek)
    #: The process that uses a spool folder.
    holder = staticmethod(holder)

    #: By which peers see that a store is not the one they knew.
    incarnation: bytes

    def __init__(self, folder: str, mailbox: str) -> None:
        self.folder: Final = folder
        self.mailbox: Final = mailbox
        self._path: Final = database_path(folder)
        self._pid: Final = os.getpid()
        self._lock: Final = _locked(folder, mailbox)
        self._db: sqlite3.Connection | None = None
        self._waits_for_disk = True
        try:
            self._db = open_to_write(self._path)
            self.incarnation = self._take_up(self._db)
        except BaseException as error:
            self.close()
            if isinstance(error, sqlite3.Error):
                raise fault_of(error, self._path) from error
            raise

    def _take_up(self, db: sqlite3.Connection) -> bytes:
        is_there = is_made(db, self._path)
        make_durable(db)
        if not is_there:
            create(db, self.mailbox)
        row = db.execute("SELECT mailbox, incarnation FROM meta").fetchone()
        if row is None:
            raise damaged(self._path)
        kept, incarnation = row
        if kept.casefold() != self.mailbox.casefold():
            raise ConfigError(
                f"the spool folder {self.folder} is that of {kept}, not of {self.mailbox}",
                phase=Phase.CONFIGURE, hint="name a spool folder of its own for each mailbox",
            )  # fmt: skip
        return bytes(incarnation)

    def load(self) -> Loaded:
        """Everything that was committed.

        Raises:
            ConfigError: the file is damaged.
            OSError: it cannot be read.
            ClosedError: the store is closed.
        """
        db = self._open_db()
        try:
            return load(db)
        except sqlite3.Error as error:
            raise fault_of(error, self._path) from error
        except (LookupError, TypeError, ValueError) as error:
            # Each row is well-formed for SQLite, but no program of ours has written it.
            raise damaged(self._path) from error

    def commit(self, batch: Batch, *, is_repeatable: bool = False) -> None:
        """Make one step last; waits for the disk, unless the step is repeatable.

        Raises:
            OSError: it could not be done. Nothing of the batch is there, what was committed
                before is, and the store may be used again; `strerror` is for people. Only
                when the disk itself fails is it unknown what the next process will find.
            ClosedError: the store is closed.
            InternalError: the batch contradicts what is there; nothing of it is there.
        """
        db = self._open_db()
        try:
            if is_repeatable is self._waits_for_disk:
                # In this order: interrupted in between, it is said once more.
                wait_for_disk(db, is_wanted=not is_repeatable)
                self._waits_for_disk = not is_repeatable
            db.execute("BEGIN IMMEDIATE")
            save(db, batch)
            db.execute("COMMIT")
        except BaseException as error:
            # Some faults have ended the transaction already.
            if db.in_transaction:
                db.execute("ROLLBACK")
            if isinstance(error, sqlite3.Error):
                raise _as_os_error(fault_of(error, self._path)) from error
            raise

    def close(self) -> None:
        """Give the mailbox back; everything that was committed stays. Idempotent."""
        if self._pid != os.getpid():
            self.after_fork()
            return
        db, self._db = self._db, None
        if db is not None:
            db.close()
        self._lock.release()

    def after_fork(self) -> None:
        """In a forked child: the store is the parent's, and this copy is closed."""
        db, self._db = self._db, None
        if db is not None:
            disown(db, self._path)
        self._lock.close_copy()

    def _open_db(self) -> sqlite3.Connection:
        if self._db is None or self._pid != os.getpid():
            raise ClosedError(f"the store of {self.mailbox} is closed in this process")
        return self._db


def _locked(folder: str, mailbox: str) -> MailboxLock:
    try:
        # The same folder by the same rules; whoever comes first makes it.
        Dropbox(folder)
        return MailboxLock(folder, mailbox)
    except (PermissionError, NotADirectoryError) as error:
        raise ConfigError(
            f"{folder}: {error.strerror}", phase=Phase.CONFIGURE,
            hint="`spool` in section [mail] names a folder for this user alone",
        ) from error  # fmt: skip
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise OSError(errno.ENOSPC, "the disk of the spool folder is full") from error
        raise


def _as_os_error(fault: ComPointException | OSError) -> Exception:
    """While a conversation runs nothing can be configured; its step has failed, and why."""
    if isinstance(fault, (OSError, InternalError)):
        return fault
    return OSError(errno.EIO, str(fault))
