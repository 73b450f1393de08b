"""What lives in this process: closed in order when the program ends, disowned by a fork.

The end of the main thread is the end of the conversation: blocked calls of other threads
then raise ClosedError, and what was written is flushed for at most EXIT_S. A daemon
thread could not be waited for later, and a forgotten one would keep the process alive
for ever (ncclient #230).
"""

from __future__ import annotations

import atexit
import os
import threading
import weakref
from collections.abc import Callable
from typing import Any

from compoint.deadline import Deadline
from compoint.drive.driver import Driver
from compoint.drive.pump import Bell, Pump
from compoint.drive.stream_point import StreamPoint
from compoint.limits import EXIT_S

__all__ = ["Lifetime", "lifetime"]


class Lifetime:
    """All drivers, points, servers and the common pump of one process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pump: Pump | None = None
        #: Every connection that is not closed; each driver takes itself out.
        self.drivers: set[Driver] = set()
        self.servers: weakref.WeakSet[Any] = weakref.WeakSet()
        self._pumps: list[Pump] = []
        self.exit_s: float = EXIT_S
        self._ending: Bell | None = None

    def ending_bell(self) -> Bell:
        """Rings when the program ends, for who waits without a connection yet."""
        if self._ending is None:
            with self._lock:
                if self._ending is None:
                    self._ending = Bell()
        return self._ending

    def pump(self) -> Pump:
        """The common pump, started when it is first needed."""
        pump = self._pump
        if pump is None:
            with self._lock:
                if self._pump is None:
                    self._pump = Pump("compoint-pump")
                pump = self._pump
        return pump

    def own_pump(self, name: str) -> Pump:
        """A pump of one service point; given back by `Pump.stop`."""
        pump = Pump(name)
        with self._lock:
            self._pumps = [one for one in self._pumps if one.is_running]
            self._pumps.append(pump)
        return pump

    def close_all(self) -> None:
        """The program ends: say goodbye everywhere, wait a little for confirmations."""
        deadline = Deadline(self.exit_s)
        self.ending_bell().ring()
        for server in list(self.servers):
            server.close_at_exit()
        points = self._points()
        for point in points:
            point.close_at_exit()
        for point in points:
            point.close(timeout=deadline.remaining_s())
        for driver in list(self.drivers):
            with driver.lock:
                driver.say_goodbye("the program is ending")
        if self._pump is not None:
            self._pump.finish_draining(Deadline(self._pump.linger_s))

    def _points(self) -> list[StreamPoint]:
        streams = [s for d in list(self.drivers) for s in list(d.connection.streams.values())]
        return [s.owner for s in streams if isinstance(s.owner, StreamPoint)]

    def after_fork(self) -> None:
        """In the child: nothing of the parent's may be used or touched."""
        self._lock = threading.Lock()
        if self._ending is not None:
            self._ending.close_copy()
            self._ending = None
        pumps = [*self._pumps] + ([self._pump] if self._pump is not None else [])
        self._pump = None
        self._pumps = []
        for pump in pumps:
            pump.after_fork()
        for owned in [*self.drivers, *self.servers]:
            owned.after_fork()
        self.drivers.clear()
        self.servers.clear()


lifetime = Lifetime()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lifetime.after_fork)

# Threads that wait must be woken before the interpreter waits for them, which it does
# before `atexit`. concurrent.futures uses the same door; without it, `atexit` has to do.
_register: Callable[[Callable[[], None]], Any] = getattr(
    threading, "_register_atexit", atexit.register
)
_register(lifetime.close_all)
