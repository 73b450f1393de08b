"""Waiting threads: how one is put to sleep, and how another wakes it."""

from __future__ import annotations

import threading
from typing import Final

__all__ = ["Waiter", "acquire_surely", "without"]

_WAITING: Final = (True,)


class Waiter:
    """One sleeping thread. `wake` may come before, during or after `sleep`; it counts once."""

    __slots__ = ("_bell",)

    def __init__(self) -> None:
        self._bell = threading.Lock()
        self._bell.acquire()

    def sleep(self, timeout_s: float | None) -> bool:
        """Sleep until woken (True) or until the time is over. Ctrl-C ends it by raising."""
        if timeout_s is None:
            return self._bell.acquire()
        return self._bell.acquire(timeout=min(timeout_s, threading.TIMEOUT_MAX))

    def wake(self) -> bool:
        """Wake it; False if somebody else already has."""
        try:
            self._bell.release()
        except RuntimeError:
            return False
        return True


def without(waiters: tuple[Waiter, ...], waiter: Waiter) -> tuple[Waiter, ...]:
    """The others, in order. Waiters stand in tuples, since an empty one takes no memory."""
    at = waiters.index(waiter)
    return waiters[:at] + waiters[at + 1 :]


def acquire_surely(lock: threading.Lock) -> bool:
    """Acquire a lock that a `finally` is going to release.

    A signal handler that raises while `acquire` waits would leave the lock free, and the
    release in the `finally` would fail; so the exception waits until the lock is ours. One
    that raises right behind `acquire` must not make this acquire again, for ever.
    """
    held: list[bool] = []
    raised: BaseException | None = None
    while not held:
        try:
            # Acquired and noted in one step: no handler runs between the two.
            held.extend(map(lock.acquire, _WAITING))
        except BaseException as error:  # noqa: BLE001 - whatever a signal handler raises
            raised = error
    if raised is not None:
        raise raised
    return True
