"""Mails from a Maildir: looks for new ones five times a second.

Ours are taken out of it; all others stay untouched. A mail reader may have the Maildir open
too and move mails from new/ to cur/ at any time, so both are looked at. Delivery is a rename
into one of them, which changes the folder's time: only then the names are read.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterator
from typing import Final

from compoint.deadline import clock
from mail._front import LOOK_BACK_S, MAIL_BYTES, RETRY_S, Front, Put, Whose, whose

__all__ = ["MaildirFront"]

#: How often the times of the folders are looked at: two system calls each.
LOOK_S: Final = 0.2

#: The names are read once more this long after a change: a second change within one tick of
#: the file system's clock (up to two seconds) leaves the same time.
SETTLED_S: Final = 2.5

#: And at the latest after this time, whatever the folder's times say.
LATEST_S: Final = 60.0


class MaildirFront(Front):
    """Takes what is ours from the Maildir `folder`, which may appear later; see Front.

    What came longer ago than LOOK_BACK_S, or `expire_s` if that is longer, is left alone.
    """

    def __init__(
        self,
        folder: str,
        put: Put,
        poke: Callable[[], None],
        trouble: Callable[[str], None],
        expire_s: float = 0.0,
    ) -> None:
        super().__init__("maildir", put, poke, trouble)
        self._look_back_s = max(LOOK_BACK_S, expire_s)
        self._folder = folder
        self._inner = (os.path.join(folder, "new"), os.path.join(folder, "cur"))
        #: The times of the folders before the names were read, and when to read them again.
        self._changed: tuple[int, ...] = ()
        self._again_at = 0.0
        #: Mails that stay where they are and need not be read again: their names without flags.
        self._known: set[str] = set()
        #: Mails that are kept and could not be taken out yet.
        self._kept: set[str] = set()

    def _work(self) -> None:
        while not self._is_over.is_set():
            try:
                self._look()
            except OSError as error:
                self._tell(f"the Maildir {self._folder} cannot be read ({error.strerror})")
            self._is_over.wait(LOOK_S)

    def _look(self) -> None:
        changed = tuple(os.stat(folder).st_mtime_ns for folder in self._inner)
        if changed == self._changed and clock() < self._again_at:
            return
        is_news = changed != self._changed
        is_all_done = self._take_all()
        self._changed = changed
        pause_s = RETRY_S if not is_all_done else SETTLED_S if is_news else LATEST_S
        self._again_at = clock() + pause_s
        if is_all_done:
            self._tell("")

    def _take_all(self) -> bool:
        """Look at each mail that is not known; False: something has to be tried again."""
        entries = [entry for folder in self._inner for entry in _entries(folder)]
        keys = {_key(entry) for entry in entries}
        self._known &= keys
        self._kept &= keys
        is_all_done = True
        unknown = (entry for entry in entries if _key(entry) not in self._known)
        # The names begin with the time of delivery.
        for entry in sorted(unknown, key=lambda one: one.name):
            if self._is_over.is_set():
                return False
            try:
                if not self._take(entry):
                    return False  # nor could another one be kept now
            except FileNotFoundError:
                continue  # moved or removed by a reader; then the folders have changed again
            except OSError as error:
                self._tell(f"a mail in {self._folder} cannot be taken ({error.strerror})")
                is_all_done = False
        return is_all_done

    def _take(self, entry: os.DirEntry[str]) -> bool:
        """Take one mail, or know it from now on; False: it cannot be kept."""
        key = _key(entry)
        if key not in self._kept:
            content = _content(entry, time.time() - self._look_back_s)
            verdict = Whose.FOREIGN if content is None else whose(content)
            if content is not None and verdict is not Whose.FOREIGN and not self._keep(content):
                return False
            if verdict is not Whose.OURS:
                self._known.add(key)
                return True
            self._kept.add(key)
        os.unlink(entry.path)
        return True


def _entries(folder: str) -> Iterator[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        yield from (entry for entry in entries if not entry.name.startswith("."))


def _key(entry: os.DirEntry[str]) -> str:
    return entry.name.partition(":")[0]


def _content(entry: os.DirEntry[str], since: float) -> bytes | None:
    """The mail, unless it is surely none of ours, or older."""
    about = entry.stat(follow_symlinks=False)
    if not stat.S_ISREG(about.st_mode) or about.st_size > MAIL_BYTES or about.st_mtime < since:
        return None
    with open(entry.path, "rb") as file:
        return file.read(MAIL_BYTES + 1)
