"""One selector thread: leads where no caller does, and keeps the time.

It accepts, greets, answers heartbeats and confirms for connections nobody is calling on,
sends what was gathered and not flushed, and finishes what a closed point left unsent.

A connection that a caller used lately is not put into the selector at once, since the
caller will most likely come back: it is *watched*, looked at every WATCH_S, and armed
when nobody came. So a busy caller never meets the pump, and an idle process sleeps.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import math
import os
import selectors
import socket
import threading
from collections import deque
from collections.abc import Callable
from typing import Final

from compoint.deadline import clock
from compoint.drive.driver import Driver
from compoint.drive.wire import Listener

__all__ = ["Bell", "Pump"]

_log = logging.getLogger("compoint.pump")

#: How long a connection is left to its callers before the pump listens to it.
WATCH_S: Final = 0.02
#: The longest that a gathered message waits for others.
GATHER_LOOK_S: Final = 0.001
#: Peers accepted from one listener before others are looked at.
ACCEPT_ROUNDS: Final = 64


class Bell:
    """A descriptor that another thread can make readable."""

    __slots__ = ("_read", "_write")

    def __init__(self) -> None:
        if hasattr(os, "eventfd"):
            self._read = self._write = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        else:
            ours, theirs = socket.socketpair()
            ours.setblocking(False)
            theirs.setblocking(False)
            self._read, self._write = ours.detach(), theirs.detach()

    def fileno(self) -> int:
        return self._read

    def ring(self) -> None:
        try:
            os.write(self._write, b"\1\0\0\0\0\0\0\0")
        except OSError:
            pass  # full (it rings already) or closed (nobody listens any more)

    def quiet(self) -> None:
        try:
            os.read(self._read, 4096)
        except OSError:
            pass

    def close(self) -> None:
        os.close(self._read)
        if self._write != self._read:
            os.close(self._write)


class Pump:
    """The thread and its duties. All verbs but `run` may be called by any thread, with
    or without a driver's lock held; they only leave a note and ring."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._notes: deque[tuple[Callable[..., None], tuple[object, ...]]] = deque()
        self._bell = Bell()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._bell.fileno(), selectors.EVENT_READ, None)
        self._registered: dict[Driver, int] = {}
        self._watched: list[Driver] = []
        self._gathering: list[Driver] = []
        self._watch_at = 0.0
        self._wakes_at = 0.0
        # The heap holds numbers only, so that what is forgotten is freed before it is due.
        self._timers: list[tuple[float, int]] = []
        self._calls: dict[int, Callable[[], float | None]] = {}
        self._counter = itertools.count(1)
        self._is_asleep = False
        self._is_stopping = False
        self._thread = threading.Thread(target=self.run, name=name, daemon=True)
        self._thread.start()

    # --- notes from other threads -------------------------------------------------------

    def _note(self, call: Callable[..., None], *arguments: object, within_s: float = 0.0) -> None:
        self._notes.append((call, arguments))
        # Waking the pump costs its callers; it is not done when it wakes soon enough anyway.
        if self._is_asleep and (not within_s or self._wakes_at > clock() + within_s):
            self._bell.ring()

    def adopt(self, driver: Driver, *, arm: bool) -> None:
        """A new connection: keep its timers and, if `arm`, listen to it at once."""
        self._note(self._adopt, driver, arm, within_s=0.0 if arm else 2 * WATCH_S)

    def watch(self, driver: Driver) -> None:
        """A caller has left a connection. Driver's lock held."""
        driver.is_watched = True
        self._note(self._watched.append, driver, within_s=2 * WATCH_S)

    def arm_soon(self, driver: Driver) -> None:
        """Nobody leads this connection and there is something to do."""
        self._note(self._arm, driver)

    def flush_soon(self, driver: Driver) -> None:
        """Messages were gathered; send them if nobody does. Driver's lock held."""
        driver.is_gathering = True
        self._note(self._gathering.append, driver, within_s=2 * GATHER_LOOK_S)

    def forget(self, driver: Driver) -> None:
        """The connection is over."""
        self._unregister(driver)
        self._calls.pop(driver.timer, None)

    def serve_listener(self, listener: Listener, arrived: Callable[[Listener], bool]) -> None:
        """Call `arrived` when peers arrive, until it returns False."""
        self._note(self._serve_listener, listener, arrived)

    def forget_listener(self, listener: Listener) -> None:
        fd = listener.fileno()
        if fd >= 0:
            self._drop_fd(fd)
        else:
            listener.on_ready(None)

    def call_at(self, due: float, call: Callable[[], float | None]) -> None:
        """Call once at `due`, and again at the time it returns, until that is None."""
        self._note(self._push_timer, due, call)

    def stop(self) -> None:
        """End the thread and wait for it. Its connections must have been given away."""
        self._is_stopping = True
        self._bell.ring()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def after_fork(self) -> None:
        """In a child: the thread is gone; give back the copies of its descriptors."""
        self._is_stopping = True
        self._notes.clear()
        self._bell.close()
        # Not `unregister`: the kernel's set is shared with the parent.
        self._selector.close()

    @property
    def is_running(self) -> bool:
        return self._thread.is_alive() and not self._is_stopping

    # --- the thread ---------------------------------------------------------------------

    def run(self) -> None:
        try:
            while not self._is_stopping:
                self._turn()
        finally:
            self._selector.close()
            self._bell.close()

    def _turn(self) -> None:
        timeout_s = self._sleep_s()
        self._wakes_at = math.inf if timeout_s is None else clock() + timeout_s
        self._is_asleep = True
        if self._notes:
            timeout_s = 0.0
        ready = self._selector.select(timeout_s)
        self._is_asleep = False
        self._bell.quiet()
        while self._notes:
            call, arguments = self._notes.popleft()
            self._guarded(call, *arguments)
        for key, _ in ready:
            if key.data is not None:
                self._guarded(key.data)
        self._look_at_gathering()
        self._look_at_watched()
        self._run_timers()

    def _guarded(self, call: Callable[..., object], *arguments: object) -> None:
        try:
            call(*arguments)
        except Exception:
            # One connection's fault must not stop the others.
            _log.exception("internal error in %s; please report it", self.name)

    def _sleep_s(self) -> float | None:
        if self._gathering:
            return GATHER_LOOK_S
        if self._watched:
            return WATCH_S
        if self._timers:
            return max(0.0, self._timers[0][0] - clock())
        return None

    # --- connections --------------------------------------------------------------------

    def _adopt(self, driver: Driver, arm: bool) -> None:
        if driver.is_closed:
            return
        due = driver.connection.next_timer()
        if due is not None:
            driver.timer = self._push_timer(due, driver.on_time)
        if arm:
            self._arm(driver)

    def _arm(self, driver: Driver) -> None:
        with driver.lock:
            if driver.is_closed or driver.is_led:
                return
            wanted = selectors.EVENT_READ
            if driver.is_stuffed:
                wanted |= selectors.EVENT_WRITE
            driver.is_armed = True
            fd = driver.wire.fileno()
            if fd >= 0:
                self._register(driver, fd, wanted)
            else:
                driver.wire.on_ready(lambda: self._note(self._serve, driver))
                self._notes.append((self._serve, (driver,)))

    def _register(self, driver: Driver, fd: int, wanted: int) -> None:
        if driver in self._registered:
            self._selector.modify(fd, wanted, lambda: self._serve(driver))
        else:
            self._selector.register(fd, wanted, lambda: self._serve(driver))
            self._registered[driver] = fd

    def _unregister(self, driver: Driver) -> None:
        fd = self._registered.pop(driver, None)
        if fd is not None:
            self._drop_fd(fd)
        elif driver.wire.fileno() < 0:
            driver.wire.on_ready(None)

    def _drop_fd(self, fd: int) -> None:
        try:
            self._selector.unregister(fd)
        except (KeyError, ValueError, OSError):
            pass  # the pump has ended, or another thread was faster

    def _serve(self, driver: Driver) -> None:
        was_stuffed = driver.is_stuffed
        if not driver.serve():
            self._unregister(driver)
        elif was_stuffed or driver.is_stuffed:
            self._arm(driver)

    def _look_at_gathering(self) -> None:
        if not self._gathering:
            return
        remaining = []
        for driver in self._gathering:
            with driver.lock:
                if driver.connection.has_output:
                    driver.flush()
                    remaining.append(driver)
                else:
                    driver.is_gathering = False
        self._gathering[:] = remaining

    def _look_at_watched(self) -> None:
        if not self._watched:
            return
        now = clock()
        if now < self._watch_at:
            return
        self._watch_at = now + WATCH_S
        idle = []
        remaining = []
        for driver in self._watched:
            with driver.lock:
                if driver.is_closed:
                    driver.is_watched = False
                elif driver.rounds != driver.seen_rounds:
                    driver.seen_rounds = driver.rounds
                    remaining.append(driver)
                else:
                    driver.is_watched = False
                    if not driver.is_led:
                        idle.append(driver)
        self._watched[:] = remaining
        for driver in idle:
            self._arm(driver)

    # --- listeners and timers -----------------------------------------------------------

    def _serve_listener(self, listener: Listener, arrived: Callable[[Listener], bool]) -> None:
        def look() -> None:
            for _ in range(ACCEPT_ROUNDS):
                if not arrived(listener):
                    return

        fd = listener.fileno()
        if fd >= 0:
            self._selector.register(fd, selectors.EVENT_READ, look)
        else:
            listener.on_ready(lambda: self._note(look))
            look()

    def _push_timer(self, due: float, call: Callable[[], float | None]) -> int:
        number = next(self._counter)
        self._calls[number] = call
        heapq.heappush(self._timers, (due, number))
        return number

    def _run_timers(self) -> None:
        now = clock()
        while self._timers and self._timers[0][0] <= now:
            _, number = heapq.heappop(self._timers)
            call = self._calls.get(number)
            if call is None:
                continue  # forgotten meanwhile
            try:
                due = call()
            except Exception:
                _log.exception("internal error in %s; please report it", self.name)
                due = None
            if due is None:
                self._calls.pop(number, None)
            else:
                heapq.heappush(self._timers, (max(due, now + 0.001), number))
