"""A lock that is acquired for a `finally`, whatever a signal handler does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import compoint
from compoint.drive.waiter import acquire_surely

if TYPE_CHECKING:
    from types import FrameType


PACKAGE = str(Path(compoint.__file__).parents[1])


class Struck(Exception):
    """What the handler raises."""


STRIKING = """
import signal, threading
from compoint.drive.waiter import acquire_surely

class Struck(Exception):
    pass

def strike(number, frame):
    raise Struck

signal.signal(signal.SIGALRM, strike)
struck = 0
for _ in range(4000):
    lock = threading.Lock()
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.000_02)
        for _ in range(50):
            acquire_surely(lock)
            lock.release()
        signal.setitimer(signal.ITIMER_REAL, 0)
    except Struck:
        struck += 1
print("struck" if struck else "never")
"""


def test_a_thread_never_waits_for_a_lock_that_it_has() -> None:
    # A handler that raised right behind `acquire` made it do so. In a process of its own,
    # since the exception may strike anything.
    done = subprocess.run(
        [sys.executable, "-c", STRIKING],
        env={**os.environ, "PYTHONPATH": PACKAGE}, capture_output=True, text=True, timeout=30,
        check=False,
    )  # fmt: skip
    assert done.stdout == "struck\n", done.stderr


def test_an_exception_that_strikes_a_waiting_thread_comes_when_the_lock_is_ours() -> None:
    def strike(number: int, frame: FrameType | None) -> None:
        raise Struck

    lock = threading.Lock()
    lock.acquire()
    before = signal.signal(signal.SIGALRM, strike)
    threading.Timer(0.05, lock.release).start()
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        with pytest.raises(Struck):
            acquire_surely(lock)
        assert lock.locked()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
