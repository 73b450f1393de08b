"""One thread that leads where no caller does, and keeps the time.

It accepts, greets, answers heartbeats and confirms for connections nobody is calling on,
sends what was gathered and not flushed, and finishes what a closed point left unsent.

A connection is *armed* while the pump listens to it. A caller that takes the lead disarms
it. When the caller leaves, a connection at which others may arrive (a service point's)
is armed at once; any other is *watched*: the caller will most likely come back, so it is
looked at every WATCH_S and armed when nobody came. So a busy caller of a plain point
never meets the pump, and an idle process sleeps.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import math
import os
import select
import socket
import threading
from collections import deque
from collections.abc import Callable
from typing import Final

from compoint.deadline import Deadline, clock
from compoint.drive.driver import Driver
from compoint.drive.poller import new_poller
from compoint.drive.wire import Listener

__all__ = ["Bell", "Pump"]

_log = logging.getLogger("compoint.pump")

#: How long a connection is left to its callers before the pump listens to it.
WATCH_S: Final = 0.02
#: The longest that a gathered message waits for others.
GATHER_LOOK_S: Final = 0.001
#: So many looks in vain end the looking.
GATHER_LOOKS: Final = 20
#: How long a peer that does not close is waited for after a goodbye.
DRAIN_S: Final = 1.0
DRAIN_LOOK_S: Final = 0.01
#: So many forgotten timers, and as many as there are others, are left in the heap.
FORGOTTEN: Final = 64
#: Peers accepted from one listener before others are looked at.
ACCEPT_ROUNDS: Final = 64

Timer = Callable[[], float | None]


class Bell:
    """A descriptor that another thread can make readable."""

    __slots__ = ("_lock", "_read", "_write")

    def __init__(self) -> None:
        # Whoever rings must not hit a descriptor that was closed in this moment: its number
        # may be somebody's socket by then, and the ring would be bytes in a conversation.
        # Reentrant, because a signal handler may ring in the middle of a ring.
        self._lock = threading.RLock()
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
        with self._lock:
            if self._write >= 0:
                try:
                    os.write(self._write, b"\1\0\0\0\0\0\0\0")
                except BlockingIOError:
                    pass  # full: it rings already

    def quiet(self) -> None:
        with self._lock:
            if self._read >= 0:
                try:
                    os.read(self._read, 4096)
                except BlockingIOError:
                    pass  # nobody has rung

    def close(self) -> None:
        with self._lock:
            fds, self._read, self._write = {self._read, self._write}, -1, -1
            for fd in fds - {-1}:
                os.close(fd)

    def close_copy(self) -> None:
        """Give back a child process' copy; a thread of the parent's may hold the lock."""
        self._lock = threading.RLock()
        self.close()


class Pump:
    """The thread and its duties.

    All verbs may be called by any thread. Those that name a driver are called with the
    driver's lock held; the pump itself takes that lock for every look at a driver, and
    holds no lock of its own.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._bell = Bell()
        self._poller = new_poller()
        self._poller.watch(self._bell.fileno(), output=False)
        self._served: dict[int, Callable[[], object]] = {}
        self._notes: deque[Callable[[], object]] = deque()
        # Others append while the thread takes from the front: no lock is needed.
        self._watched: deque[Driver] = deque()
        self._watch_at = 0.0
        self._gathering: deque[Driver] = deque()
        self._gather_at = 0.0
        self._gather_looks = 0
        # Closed connections whose wire is read to its end, and until when at the most.
        self._draining: dict[Driver, float] = {}
        self._drain_at = 0.0
        # The heap holds numbers only, so that what is forgotten is freed before it is due.
        self._timers: list[tuple[float, int]] = []
        self._calls: dict[int, Timer] = {}
        self._counter = itertools.count(1)
        self._is_asleep = False
        self._wakes_at = 0.0
        self._is_stopping = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    # --- what others ask for ------------------------------------------------------------

    def adopt(self, driver: Driver, *, arm: bool) -> None:
        """Take a new connection: keep its timers and, if `arm`, listen to it at once."""
        self.keep_time(driver)
        if arm:
            self.arm(driver)

    def keep_time(self, driver: Driver) -> None:
        """See to it that the machine's next timer is met."""
        due = driver.connection.next_timer()
        if due is None:
            if driver.connection.ending is None:
                # The peer has greeted, and there is no heartbeat.
                self.cancel(driver.timer)
                driver.timer_due = math.inf
        elif due < driver.timer_due:
            self.cancel(driver.timer)
            driver.timer_due = due
            driver.timer = self.call_at(due, driver.on_time)

    def arm(self, driver: Driver) -> None:
        """Listen to this connection: nobody else does."""
        driver.is_armed = True
        driver.armed_output = driver.is_stuffed
        wire = driver.wire
        fd = wire.fileno()
        if fd >= 0:
            self._served[fd] = driver.serve
            self._poller.watch(fd, output=driver.armed_output)
        else:
            wire.on_ready(driver)

    def disarm(self, driver: Driver) -> None:
        """Listen no more: a caller leads."""
        driver.is_armed = False
        fd = driver.wire.fileno()
        if fd >= 0:
            self._poller.drop(fd)
        else:
            driver.wire.on_ready(None)

    def watch(self, driver: Driver) -> None:
        """A caller has left a connection and may come back."""
        driver.is_watched = True
        self._watched.append(driver)
        self._wake_within(2 * WATCH_S)

    def flush_soon(self, driver: Driver) -> None:
        """Messages were gathered; send them if nobody else does."""
        driver.is_gathering = True
        self._gathering.append(driver)
        self._wake_within(2 * GATHER_LOOK_S)

    def forget(self, driver: Driver) -> None:
        """The connection is over; its wire is still open."""
        self.disarm(driver)
        self._served.pop(driver.wire.fileno(), None)
        self._calls.pop(driver.timer, None)

    def drain(self, driver: Driver) -> None:
        """The connection is over, but its wire is to be read to its end before it is closed.

        Looked at now and then, since waking for each would cost more than it is worth.
        """
        self.forget(driver)
        self._draining[driver] = clock() + DRAIN_S
        self._wake_within(2 * DRAIN_LOOK_S)

    def finish_draining(self, deadline: Deadline) -> None:
        """Wait until everything is drained, or the deadline is over. Called at the end."""
        while self._draining and not deadline.is_over:
            self._look_at_draining(clock())
            if self._draining:
                waiting = select.poll()
                left_s = deadline.remaining_s() or 0.0
                for driver in list(self._draining):
                    fd = driver.wire.fileno()
                    if fd >= 0:
                        waiting.register(fd, select.POLLIN)
                    else:
                        left_s = min(left_s, DRAIN_LOOK_S)
                waiting.poll(int(left_s * 1000) + 1)

    @property
    def linger_s(self) -> float:
        """How long `finish_draining` should be given."""
        return max((driver.wire.linger_s for driver in list(self._draining)), default=0.0)

    def drain_all(self) -> None:
        """Close what is being drained, at once."""
        for driver in list(self._draining):
            self._end_drain(driver)

    def serve_listener(self, listener: Listener, arrived: Callable[[Listener], bool]) -> None:
        """Call `arrived` when peers arrive, several times until it returns False."""

        def look() -> None:
            for _ in range(ACCEPT_ROUNDS):
                if not arrived(listener):
                    return

        fd = listener.fileno()
        if fd >= 0:
            self._served[fd] = look
            self._poller.watch(fd, output=False)
        else:
            listener.on_ready(lambda: self._note(look))

    def forget_listener(self, listener: Listener) -> None:
        fd = listener.fileno()
        if fd >= 0:
            self._poller.drop(fd)
            self._served.pop(fd, None)
        else:
            listener.on_ready(None)

    def watch_descriptor(
        self, fd: int, ready: Callable[[], None], *, output: bool, input_too: bool = True
    ) -> None:
        """Call `ready` on the thread whenever `fd` is readable (unless not `input_too`), or,
        if `output`, writable, or broken; replaces what was said of it before."""
        self._served[fd] = ready
        self._poller.watch(fd, output=output, input_too=input_too)

    def rest_descriptor(self, fd: int) -> None:
        """Listen to `fd` no more for now. A broken one is told of all the same."""
        self._poller.drop(fd)

    def forget_descriptor(self, fd: int) -> None:
        """Listen to `fd` no more; called before it is closed."""
        self._poller.drop(fd)
        self._served.pop(fd, None)

    def soon(self, call: Callable[[], object]) -> None:
        """Call this on the thread, as soon as it has time."""
        self._note(call)

    def call_at(self, due: float, call: Timer) -> int:
        """Call at `due`, and again at the time it returns, until that is None.

        Returns a number for `cancel`.
        """
        number = next(self._counter)
        self._calls[number] = call
        # The heap belongs to the thread; a timer is rarely the next thing that happens.
        self._notes.append(lambda: heapq.heappush(self._timers, (due, number)))
        self._wake_within(due - clock())
        return number

    def cancel(self, number: int) -> None:
        self._calls.pop(number, None)

    def stop(self) -> None:
        """End the thread and wait for it. Its connections must have been given away."""
        self._is_stopping = True
        self._bell.ring()
        if threading.current_thread() is not self._thread:
            self._thread.join()
        self.drain_all()

    def after_fork(self) -> None:
        """In a child: the thread is gone; give back the copies of its descriptors."""
        if self._is_stopping:
            return
        self._is_stopping = True
        self._notes.clear()
        self._bell.close_copy()
        # Nothing is dropped from the set: the system shares it with the parent.
        self._poller.close()

    @property
    def is_running(self) -> bool:
        return self._thread.is_alive() and not self._is_stopping

    def _note(self, call: Callable[[], object]) -> None:
        self._notes.append(call)
        self._wake_within(0.0)

    def _wake_within(self, time_s: float) -> None:
        # Waking the pump costs its callers; not done when it wakes soon enough anyway.
        if self._is_asleep and self._wakes_at > clock() + time_s:
            self._bell.ring()

    # --- the thread ---------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not self._is_stopping:
                self._turn()
        finally:
            self._poller.close()
            self._bell.close()

    def _turn(self) -> None:
        self._wakes_at = math.inf
        self._is_asleep = True
        # Whoever leaves something from here on sees a sleeper and rings.
        timeout_s = self._sleep_s()
        self._wakes_at = math.inf if timeout_s is None else clock() + timeout_s
        ready = self._poller.wait(timeout_s)
        self._is_asleep = False
        self._bell.quiet()
        for fd in ready:
            serve = self._served.get(fd)
            if serve is not None:
                self._guarded(serve)
        while self._notes:
            self._guarded(self._notes.popleft())
        if self._gathering or self._gather_looks:
            self._look_at_gathering()
        if self._watched:
            self._look_at_watched()
        if self._draining:
            now = clock()
            if now >= self._drain_at:
                self._drain_at = now + DRAIN_LOOK_S
                self._look_at_draining(now)
        if self._timers:
            self._run_timers()

    def _guarded(self, call: Callable[[], object]) -> object:
        try:
            return call()
        except Exception:  # noqa: BLE001
            # One connection's fault must not stop the others.
            _log.exception("internal error in %s; please report it", self.name)
            return None

    def _sleep_s(self) -> float | None:
        if self._notes:
            return 0.0
        if self._gathering or self._gather_looks:
            return GATHER_LOOK_S
        if self._watched:
            return WATCH_S
        if self._draining:
            return DRAIN_LOOK_S
        if self._timers:
            return max(0.0, self._timers[0][0] - clock())
        return None

    def _look_at_gathering(self) -> None:
        """Send what has been gathered since the last look, at the earliest a look later.

        Looking goes on for a while after the last find: whoever gathers now then need
        not ring.
        """
        now = clock()
        if not self._gather_looks:
            self._gather_looks = GATHER_LOOKS
            self._gather_at = now + GATHER_LOOK_S
            return
        if now < self._gather_at:
            return
        self._gather_at = now + GATHER_LOOK_S
        self._gather_looks -= 1
        for _ in range(len(self._gathering)):
            driver = self._gathering.popleft()
            with driver.lock:
                driver.is_gathering = False
                if driver.connection.has_output:
                    driver.flush()
                    # Most likely more is being gathered: keep looking, without being asked.
                    driver.is_gathering = True
                    self._gathering.append(driver)
                    self._gather_looks = GATHER_LOOKS

    def _end_drain(self, driver: Driver) -> None:
        with driver.lock:
            if self._draining.pop(driver, None) is not None:
                driver.wire.close()

    def _look_at_draining(self, now: float) -> None:
        for driver, due in list(self._draining.items()):
            if now >= due or driver.drain():
                self._end_drain(driver)

    def _look_at_watched(self) -> None:
        now = clock()
        if now < self._watch_at:
            return
        self._watch_at = now + WATCH_S
        for _ in range(len(self._watched)):
            driver = self._watched.popleft()
            with driver.lock:
                if driver.rounds != driver.seen_rounds and not driver.is_closed:
                    driver.seen_rounds = driver.rounds
                    self._watched.append(driver)
                    continue
                driver.is_watched = False
                if not (driver.is_led or driver.is_closed or driver.is_armed):
                    self.arm(driver)

    def _run_timers(self) -> None:
        if len(self._timers) > 2 * len(self._calls) + FORGOTTEN:
            self._timers = [one for one in self._timers if one[1] in self._calls]
            heapq.heapify(self._timers)
        now = clock()
        while self._timers and self._timers[0][0] <= now:
            _, number = heapq.heappop(self._timers)
            call = self._calls.get(number)
            if call is None:
                continue  # forgotten meanwhile
            due = self._guarded(call)
            if isinstance(due, float):
                heapq.heappush(self._timers, (max(due, now + 0.001), number))
            else:
                self._calls.pop(number, None)
