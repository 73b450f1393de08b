"""What both ends of a session have in common as wires: bytes that wait, and who waits for them."""

from __future__ import annotations

import abc
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from compoint.core.turns import Ledger
from compoint.drive.wire import Wire
from compoint.http._arrivals import Arrivals

__all__ = ["TurnsWire"]

Turns = TypeVar("Turns", bound=Ledger)


class TurnsWire(Wire, Generic[Turns]):
    """A wire over turns. It has no descriptor: who waits here is woken, or called."""

    __slots__ = ("_arrivals", "_fault", "_is_closed", "_lock", "_turns", "_wants_room")

    has_heartbeat = False
    linger_s = 2.0

    def __init__(self, turns: Turns) -> None:
        # Held for a few steps at a time; never while a request is made or waited for.
        self._lock = threading.Lock()
        self._turns = turns
        self._arrivals = Arrivals()
        #: The last `send` left no room; it is called for when there is some.
        self._wants_room = False
        self._is_closed = False
        #: Why the way is lost.
        self._fault: OSError | None = None

    @property
    @abc.abstractmethod
    def _has_end(self) -> bool:
        """Nothing will arrive any more; or nothing that does is wanted."""

    @abc.abstractmethod
    def _note_room(self) -> None:
        """Some of what has arrived was taken. Lock held."""

    def send(self, data: bytes | memoryview, /) -> int:
        return self.send_many((data,))

    def receive(self, most: int, /) -> bytes:
        with self._lock:
            data = self._arrivals.take(most)
            self._note_taken(len(data))
        return data

    def receive_into(self, room: memoryview, /) -> int:
        with self._lock:
            count = self._arrivals.take_into(room)
            self._note_taken(count)
        return count

    def _note_taken(self, count: int) -> None:
        """So many bytes were taken; if none, that is the end, or nothing is here."""
        if count:
            self._note_room()
        elif self._fault is not None:
            raise self._fault
        elif not self._has_end:
            raise BlockingIOError

    def _is_ready(self, *, to_send: bool) -> bool:
        turns = self._turns
        return bool(
            self._arrivals.size
            or turns.has_end
            or self._fault is not None
            or (to_send and turns.room)
        )

    def wait(self, timeout_s: float | None, *, to_send: bool) -> None:
        # A bell rung since the last look makes this return at once; nothing is missed.
        if not self._is_ready(to_send=to_send):
            self._arrivals.sleep(timeout_s)

    def wake(self) -> None:
        self._arrivals.wake()

    def fileno(self) -> int:
        return -1

    def on_ready(self, call: Callable[[], None] | None) -> None:
        self._arrivals.when_ready = call
        if call is not None and self._is_ready(to_send=self._wants_room):
            call()
