"""A lock that is acquired for a `finally`, whatever a signal handler does."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING

import pytest

from compoint.drive.waiter import acquire_surely

if TYPE_CHECKING:
    from types import FrameType


class Struck(Exception):
    """What the handler raises."""


def test_a_lock_is_held_after_any_exception_and_nothing_hangs() -> None:
    # A handler that raised right behind `acquire` made the thread wait for itself.
    def strike(number: int, frame: FrameType | None) -> None:
        raise Struck

    before = signal.signal(signal.SIGALRM, strike)
    struck = 0
    try:
        for _ in range(4000):
            lock = threading.Lock()
            signal.setitimer(signal.ITIMER_REAL, 0.000_02)
            try:
                for _ in range(50):
                    acquire_surely(lock)
                    lock.release()
            except Struck:
                struck += 1
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
    except Struck:
        struck += 1
    finally:
        signal.signal(signal.SIGALRM, before)
    assert struck


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
