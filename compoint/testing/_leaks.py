"""What a test leaves behind in this process: threads, descriptors, open servers."""

from __future__ import annotations

import contextlib
import gc
import os
import threading
from typing import Final

from compoint.drive.lifetime import lifetime
from compoint.testing._patience import eventually

__all__ = ["Leaks"]


#: What is closed is given back within this time, most often at once.
SOON_S: Final = 0.3


class Leaks:
    """Remembers what is there; `check()` fails when there is more.

        leaks = Leaks()
        ...
        leaks.check()

    Points that are closed give back what they hold within moments, possibly on the common
    pump; so `check` waits a little before it complains. The pump itself, which lives as
    long as the process, is started first and never counts.
    """

    def __init__(self) -> None:
        lifetime.pump()
        lifetime.ending_bell()
        self._threads = set(threading.enumerate())
        self._descriptors = _descriptors()
        self._servers = _open_servers()

    def found(self) -> list[str]:
        """What is there now and was not then, in words."""
        threads = [
            f"thread {thread.name}" for thread in threading.enumerate()
            if thread not in self._threads
        ]  # fmt: skip
        descriptors = [
            f"descriptor {number} ({what})" for number, what in _descriptors().items()
            if self._descriptors.get(number) != what
        ]  # fmt: skip
        servers = [f"server {name}" for name in _open_servers() - self._servers]
        return [*threads, *descriptors, *servers]

    def check(self, within_s: float = 2.0) -> None:
        """Fail if something was left behind.

        Raises:
            AssertionError: names all of it.
        """
        try:
            eventually(lambda: not self.found(), SOON_S)
        except AssertionError:
            # An exception kept by a test may hold a point in its traceback.
            gc.collect()
        try:
            eventually(lambda: not self.found(), within_s)
        except AssertionError:
            raise AssertionError(f"left behind: {', '.join(self.found())}") from None


def _descriptors() -> dict[int, str]:
    """The open descriptors of this process and what each stands for (Linux; else none)."""
    found = {}
    try:
        numbers = os.listdir("/proc/self/fd")
    except FileNotFoundError:
        return {}
    for number in numbers:
        with contextlib.suppress(OSError):  # the descriptor of the listing itself
            found[int(number)] = os.readlink(f"/proc/self/fd/{number}")
    return found


def _open_servers() -> set[str]:
    return {
        str(one.address) for one in list(lifetime.servers)
        # The keeper of shared connections stands in the same list and serves nobody.
        if hasattr(one, "statistics") and one.statistics().is_open
    }  # fmt: skip
