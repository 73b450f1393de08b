"""A file on its way in: under a name of its own until it is whole, then under the right one."""

from __future__ import annotations

import errno
import os
import secrets
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final, Self

from compoint.cli._faults import CommandFailed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

__all__ = ["IncomingFile"]

#: What a file system answers that has no hard links.
_NO_LINKS: Final = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})

_FLAGS: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class IncomingFile:
    """Collects a file beside its place and puts it there in one step, or leaves no trace.

        with IncomingFile(folder, "report.pdf", may_overwrite=False) as file:
            file.write(piece)
            file.store()

    Leaving the block without `store`, by Ctrl-C too, removes what has been collected.
    Every verb raises CommandFailed for what the system refuses; what the peer may know of
    it names the file and not the folder.
    """

    def __init__(self, folder: str, name: str, *, may_overwrite: bool) -> None:
        self._folder = folder
        self._name = name
        self._may_overwrite = may_overwrite
        self.path = os.path.join(folder, name)
        self._partial = os.path.join(folder, f".compoint-{secrets.token_hex(8)}.part")
        self._is_there = False
        self._file = -1

    def __enter__(self) -> Self:
        # Asked before anything travels; `store` makes sure.
        if os.path.isdir(self.path) or (not self._may_overwrite and os.path.lexists(self.path)):
            raise self._taken()
        self._is_there = True  # said first: Ctrl-C may come between the two steps
        try:
            with self._refusals():
                self._file = os.open(self._partial, _FLAGS, 0o666)
        except BaseException:
            self._discard()
            raise
        return self

    def write(self, piece: bytes) -> None:
        """Take the next bytes, all of them."""
        rest = memoryview(piece)
        with self._refusals():
            while rest:
                rest = rest[os.write(self._file, rest) :]

    def store(self) -> None:
        """Put the file under its name, on the disk for good."""
        with self._refusals():
            os.fsync(self._file)
            if self._may_overwrite:
                os.replace(self._partial, self.path)
                self._is_there = False
            else:
                self._link()
            self._sync_folder()

    def _link(self) -> None:
        # A link fails if somebody has taken the name meanwhile; renaming would replace it.
        try:
            os.link(self._partial, self.path)
        except FileExistsError:
            raise self._taken() from None
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            if os.path.lexists(self.path):
                raise self._taken() from None
            os.rename(self._partial, self.path)
            self._is_there = False

    def _sync_folder(self) -> None:
        folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._discard()

    def _discard(self) -> None:
        file, self._file = self._file, -1
        if file >= 0:
            os.close(file)
        if self._is_there:
            self._is_there = False
            with suppress(OSError):  # it went with its folder, or may not be removed by us
                os.unlink(self._partial)

    def _taken(self) -> CommandFailed:
        if os.path.isdir(self.path):
            return CommandFailed(
                f"{self.path}: there is a folder of this name",
                for_peer=f"{self._name}: there is a folder of this name",
            )
        return CommandFailed(
            f"{self.path}: exists already; --overwrite would replace it",
            for_peer=f"{self._name} exists already and is not overwritten",
        )

    @contextmanager
    def _refusals(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            reason = error.strerror or str(error)
            if not os.path.isdir(self._folder):
                reason = "the folder is gone"
            raise CommandFailed(
                f"{self.path}: cannot be stored: {reason}",
                for_peer=f"{self._name} cannot be stored: {reason}",
            ) from error
