"""One process per mailbox: a lock on a file of the spool folder.

The system gives it back however the process ends, so nothing has to be cleaned up after a
kill. The file says who holds the lock and is never removed: two processes could lock two
files of one name.
"""

from __future__ import annotations

import fcntl
import os
from typing import Final, NoReturn

from compoint.errors import BusyError, Phase

__all__ = ["MailboxLock", "holder"]

_FILE: Final = "lock"
_LINE_BYTES: Final = 1024


class MailboxLock:
    """Holds the lock from the moment it is made.

    Raises:
        BusyError: somebody holds it; names the process and its mailbox.
        OSError: the file cannot be made or written.
    """

    def __init__(self, folder: str, mailbox: str) -> None:
        path = os.path.join(folder, _FILE)
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            if not _is_taken(self._fd, fcntl.LOCK_EX):
                _fail_busy(*_read(self._fd), mailbox)
            line = f"{os.getpid()} {mailbox}\n".encode()
            # In this order nobody reads an empty file, and a full disk has the block already.
            os.pwrite(self._fd, line, 0)
            os.ftruncate(self._fd, len(line))
        except BaseException:
            os.close(self._fd)
            raise

    def release(self) -> None:
        """Give it back, also when a forked child still has its copy. Idempotent."""
        if self._fd >= 0:
            os.ftruncate(self._fd, 0)
            # Closing alone would leave it to whoever has a copy.
            fcntl.flock(self._fd, fcntl.LOCK_UN)
            self.close_copy()

    def close_copy(self) -> None:
        """In a forked child: the lock is the parent's, and lasts no longer than that."""
        handle, self._fd = self._fd, -1
        if handle >= 0:
            os.close(handle)


def holder(folder: str) -> int | None:
    """The process that holds the lock of a spool folder; None: nobody does.

    Raises:
        OSError: the folder may not be looked into.
    """
    try:
        handle = os.open(os.path.join(folder, _FILE), os.O_RDONLY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    try:
        pid, _ = _read(handle)
        # Only where a process of this number is alive is the lock tried: trying takes it for
        # a moment, in which its next holder must not come.
        if pid is None or not _is_alive(pid) or _is_taken(handle, fcntl.LOCK_SH):
            return None
        return pid
    finally:
        os.close(handle)


def _is_taken(handle: int, how: int) -> bool:
    """Take the lock if it is free; whether it was."""
    try:
        fcntl.flock(handle, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read(handle: int) -> tuple[int | None, str]:
    line = os.pread(handle, _LINE_BYTES, 0).partition(b"\n")[0].decode(errors="replace")
    pid, _, mailbox = line.partition(" ")
    return (int(pid) if pid.isascii() and pid.isdigit() else None), mailbox


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _fail_busy(pid: int | None, theirs: str, mailbox: str) -> NoReturn:
    who = "another process" if pid is None else f"another process (pid {pid})"
    if pid == os.getpid():
        who = "this process already"
    raise BusyError(
        f"{who} uses the mailbox {theirs or mailbox}", phase=Phase.OPEN,
        hint="stop it, or give this program another mailbox or another spool folder",
    )  # fmt: skip
