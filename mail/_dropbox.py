"""The drop box: the folder in which mail waits between the receiver program and its reader.

    tmp/  being written        new/  whole, waiting        bad/  put aside, for a person to see

The way in is that of a Maildir: a mail is written in tmp/, brought to the disk, and only then
moved to new/, so whatever stands in new/ is whole, wherever a writer was killed. A writer
that was killed in between leaves a file in tmp/, which `tidy` takes away.
Light on purpose: the receiver program starts for every single mail.
"""

from __future__ import annotations

import errno
import os
import stat
import time

# Not from typing, whose import alone costs a tenth of the receiver's start.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Final

__all__ = ["Dropbox"]

_MIB: Final = 1024 * 1024

#: What may wait in tmp/ and new/ together; then the mail system has to keep the next ones.
WAITING_FILES: Final = 10_000
WAITING_BYTES: Final = 512 * _MIB

#: What is kept in bad/; beyond it the oldest go.
BAD_FILES: Final = 100
BAD_BYTES: Final = 64 * _MIB

#: What is left to others on the disk; a mail that would go below is not taken.
SPARE_BYTES: Final = 16 * _MIB

#: A file this old in tmp/ belongs to a writer that was killed.
ABANDONED_S: Final = 3600.0


class Dropbox:
    """One drop box; any number of processes may put, one takes.

    Makes the folder where there is none, for its owner only.

    Raises:
        OSError: it cannot be made, or belongs to somebody else, or is open to others. The
            text (`strerror`) names no path; it may be shown to the sender of a mail.
    """

    def __init__(self, folder: str) -> None:
        self.folder: Final = folder
        self._tmp, self._new, self._bad = (
            os.path.join(folder, name) for name in ("tmp", "new", "bad")
        )
        _make(folder)
        _check(os.lstat(folder))
        for inner in (self._tmp, self._new, self._bad):
            _make(inner)

    def put(self, mail: bytes) -> str:
        """Keep one mail; returns its name when it is whole in new/ and on the disk.

        Raises:
            OSError: it cannot be kept (disk or drop box full, no rights). It is then not
                in new/, unless only the last step, bringing the folder to the disk, failed.
        """
        self._check_room(len(mail))
        name = f"{time.time_ns():020d}.{os.getpid()}.{os.urandom(4).hex()}"
        begun = os.path.join(self._tmp, name)
        try:
            _write(begun, mail)
            os.rename(begun, os.path.join(self._new, name))
        except BaseException:
            _unlink(begun)
            raise
        _sync(self._new)
        return name

    def waiting(self) -> list[str]:
        """The names of the mails in new/, the oldest first (by the clock of this machine).

        What is no file (a folder, a link, a pipe that would be waited for) is no mail.
        """
        return sorted(entry.name for entry in _files(self._new))

    def path(self, name: str) -> str:
        """Where a waiting mail lies, for reading it piece by piece."""
        return os.path.join(self._new, name)

    def remove(self, name: str) -> None:
        """Forget a waiting mail. After a crash of the machine it may be there again."""
        _unlink(self.path(name))

    def set_aside(self, name: str) -> None:
        """Move a waiting mail to bad/, whose oldest go when there are too many."""
        os.rename(self.path(name), os.path.join(self._bad, name))
        kept_bytes = 0
        newest_first = sorted(_files(self._bad), key=lambda bad: bad.name, reverse=True)
        for kept_files, bad in enumerate(newest_first, start=1):
            try:
                kept_bytes += bad.stat(follow_symlinks=False).st_size
                if kept_files > BAD_FILES or kept_bytes > BAD_BYTES:
                    os.unlink(bad.path)
            except OSError:  # a person has just taken it away; or it will not go
                continue

    def tidy(self) -> None:
        """Take away what killed writers have left in tmp/."""
        for begun in _files(self._tmp):
            try:
                if time.time() - begun.stat(follow_symlinks=False).st_mtime > ABANDONED_S:
                    os.unlink(begun.path)
            except OSError:  # its writer is alive and has just moved it; or it will not go
                continue

    def _check_room(self, length: int) -> None:
        disk = os.statvfs(self._tmp)
        if disk.f_bavail * disk.f_frsize < length + SPARE_BYTES:
            raise OSError(errno.ENOSPC, "the disk of the spool folder is full")
        files = 0
        for folder in (self._new, self._tmp):
            for entry in os.scandir(folder):
                files += 1
                try:
                    length += entry.stat(follow_symlinks=False).st_size
                except FileNotFoundError:  # it has just been moved or taken
                    continue
        if files >= WAITING_FILES or length > WAITING_BYTES:
            raise OSError(errno.EDQUOT, "too much mail waits in the spool folder")


def _check(found: os.stat_result) -> None:
    if not stat.S_ISDIR(found.st_mode):
        raise NotADirectoryError(errno.ENOTDIR, "the spool folder is a link or a file")
    if found.st_uid != os.geteuid():
        raise PermissionError(errno.EPERM, "the spool folder belongs to somebody else")
    if found.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise PermissionError(errno.EPERM, "the spool folder is open to others; chmod it to 0700")


def _files(folder: str) -> Iterator[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        yield from (entry for entry in entries if entry.is_file(follow_symlinks=False))


def _make(folder: str) -> None:
    """Make a folder and those it stands in, for good, unless it is there."""
    if os.path.lexists(folder):
        return
    above = os.path.dirname(folder)
    _make(above)
    try:
        os.mkdir(folder, 0o700)
    except FileExistsError:  # another receiver was faster
        return
    _sync(above)


def _write(path: str, mail: bytes) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        rest = memoryview(mail)
        while rest:
            rest = rest[os.write(handle, rest) :]
        os.fsync(handle)
    finally:
        os.close(handle)


def _sync(folder: str) -> None:
    """Bring the entries of a folder to the disk."""
    handle = os.open(folder or ".", os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
