"""Sleeping threads: a call is never lost and counts once."""

from __future__ import annotations

import math
import os
import signal
import threading

import pytest

from compoint.drive.waiter import Waiter, acquire_surely
from compoint.testing import Background

PATIENCE_S = 10.0


def test_a_sleeper_is_woken() -> None:
    waiter = Waiter()
    sleeping = Background(waiter.sleep, None).blocked()
    assert waiter.wake()
    assert sleeping.result() is True


def test_a_call_before_the_sleep_is_not_lost() -> None:
    waiter = Waiter()
    waiter.wake()
    assert waiter.sleep(PATIENCE_S)


def test_two_calls_count_once() -> None:
    waiter = Waiter()
    assert [waiter.wake(), waiter.wake()] == [True, False]
    assert waiter.sleep(PATIENCE_S)
    assert not waiter.sleep(0)


def test_a_sleep_ends_when_its_time_is_over() -> None:
    assert not Waiter().sleep(0.001)


@pytest.mark.parametrize("timeout_s", [1e12, math.inf])
def test_a_sleeper_may_wish_for_more_time_than_there_is(timeout_s: float) -> None:
    waiter = Waiter()
    sleeping = Background(waiter.sleep, timeout_s).blocked()
    waiter.wake()
    assert sleeping.result() is True


class _Interrupt(Exception):
    pass


def test_an_interrupt_waits_until_the_lock_is_ours() -> None:
    """So that a `finally` which releases it always can."""

    def interrupt(number: int, frame: object) -> None:
        # Whoever holds the lock gives it up only after the interrupt.
        lock.release()
        raise _Interrupt

    lock = threading.Lock()
    lock.acquire()
    before = signal.signal(signal.SIGUSR1, interrupt)
    main = threading.main_thread()
    try:
        calling = Background(_signal_when_blocked, main)
        with pytest.raises(_Interrupt):
            acquire_surely(lock)
        assert lock.locked()
        calling.result()
    finally:
        signal.signal(signal.SIGUSR1, before)


def _signal_when_blocked(thread: threading.Thread) -> None:
    from compoint.testing import asleep

    assert thread.native_id is not None
    assert thread.ident is not None
    asleep(thread.native_id)
    signal.pthread_kill(thread.ident, signal.SIGUSR1)
    assert os.getpid()
