"""Waiting for what must come about, with a bound: the only places of the kit that sleep."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

__all__ = ["asleep", "eventually", "thread_id"]

_LOOK_S: Final = 0.001


def eventually(claim: Callable[[], object], within_s: float = 5.0, what: str = "") -> None:
    """Look again and again until `claim()` is true.

    Raises:
        AssertionError: it was not within `within_s` seconds; names `what`.
    """
    ends_at = time.monotonic() + within_s
    while not claim():
        if time.monotonic() > ends_at:
            raise AssertionError(f"not within {within_s:g} s: {what or claim!r}")
        time.sleep(_LOOK_S)


def asleep(thread: int, process: int | None = None, within_s: float = 5.0) -> None:
    """Wait until a thread (its native id) of a process has gone to sleep and stays there.

    For tests that must know a call to be blocked before they break something. It looks for
    a thread that used no processor time for some looks in a row; where the system does not
    tell, it waits for a twentieth of a second.
    """
    place = f"/proc/{process or os.getpid()}/task/{thread}"
    if not os.path.exists("/proc/self/task"):
        time.sleep(0.05)
        return
    last = ""
    quiet = 0

    def is_quiet() -> bool:
        nonlocal last, quiet
        now = _activity(place)
        quiet = quiet + 1 if now == last and now.startswith("S") else 0
        last = now
        return quiet >= 5

    eventually(is_quiet, within_s, f"thread {thread} goes to sleep")


def _activity(place: str) -> str:
    """The state of a thread and how often it has been switched away from."""
    try:
        with open(f"{place}/stat", encoding="ascii", errors="replace") as file:
            state = file.read().rpartition(")")[2].split()[0]
        with open(f"{place}/status", encoding="ascii", errors="replace") as file:
            switches = [line for line in file if "ctxt_switches" in line]
    except (FileNotFoundError, ProcessLookupError) as error:
        raise AssertionError("the thread is gone instead of blocked") from error
    return state + "".join(switches)


def thread_id(thread: threading.Thread) -> int:
    """The native id of a thread that has been started."""
    eventually(lambda: thread.native_id is not None, what="the thread starts")
    assert thread.native_id is not None
    return thread.native_id
