"""Bytes from one thread to another: two bounded queues, and names to meet at."""

from __future__ import annotations

import errno
import itertools
import os
import threading
from collections import deque
from collections.abc import Callable
from typing import Final

from compoint.address import ComPointAddress
from compoint.deadline import Deadline
from compoint.drive.arrivals import ArrivalsListener
from compoint.drive.waiter import Waiter
from compoint.drive.wire import Listener, Opener, Wire
from compoint.errors import BusyError, ConnectError, Phase
from compoint.limits import BACKLOG, CHUNK_BYTES

__all__ = ["MemoryListener", "MemoryOpener", "MemoryWire", "memory_pair"]

#: What one end holds for the other to receive: like a system's socket buffer.
PIPE_BYTES: Final = 2 * CHUNK_BYTES


class _End:
    """What is on its way to one of the two ends."""

    __slots__ = ("arrived", "is_ended", "size", "waiter", "when_ready")

    def __init__(self) -> None:
        self.arrived: deque[bytes] = deque()
        self.size = 0
        self.is_ended = False
        self.waiter = Waiter()
        self.when_ready: Callable[[], None] | None = None

    def take(self, most: int) -> bytes:
        """As a system does it: all that is here, up to `most` bytes."""
        pieces = []
        left = most
        while self.arrived and left:
            piece = self.arrived.popleft()
            if len(piece) > left:
                self.arrived.appendleft(piece[left:])
                piece = piece[:left]
            pieces.append(piece)
            left -= len(piece)
        self.size -= most - left
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def tell(self) -> None:
        """Bytes arrived, or room appeared: whoever serves this end should look."""
        self.waiter.wake()
        call = self.when_ready
        if call is not None:
            call()


class MemoryWire(Wire):
    """One end of a pair; made by `memory_pair`."""

    is_local = True
    peer = "memory (this process)"

    def __init__(self, lock: threading.Lock, mine: _End, theirs: _End) -> None:
        # One lock for both ends, held for a few steps at a time, never while waiting.
        self._lock = lock
        self._mine = mine
        self._theirs = theirs
        self._is_closed = False
        #: The last `send` found no room; it is called for when there is some.
        self._waits_for_room = False

    def send(self, data: bytes | memoryview, /) -> int:
        theirs = self._theirs
        with self._lock:
            if theirs.is_ended or self._is_closed:
                raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
            room = PIPE_BYTES - theirs.size
            self._waits_for_room = room <= 0
            if room <= 0:
                raise BlockingIOError
            piece = bytes(data[:room])
            theirs.arrived.append(piece)
            theirs.size += len(piece)
        theirs.tell()
        return len(piece)

    def receive(self, most: int, /) -> bytes:
        mine = self._mine
        with self._lock:
            if not mine.arrived:
                if mine.is_ended:
                    return b""
                raise BlockingIOError
            was_full = mine.size >= PIPE_BYTES
            data = mine.take(most)
        if was_full:
            self._theirs.tell()
        return data

    def receive_into(self, room: memoryview, /) -> int:
        data = self.receive(len(room))
        room[: len(data)] = data
        return len(data)

    def wait(self, timeout_s: float | None, *, to_send: bool) -> None:
        # A bell rung since the last look makes this return at once; nothing is missed.
        if not self._is_ready(to_send=to_send):
            self._mine.waiter.sleep(timeout_s)

    def _is_ready(self, *, to_send: bool) -> bool:
        mine = self._mine
        has_room = to_send and self._theirs.size < PIPE_BYTES
        return bool(mine.arrived) or mine.is_ended or has_room

    def wake(self) -> None:
        self._mine.waiter.wake()

    def fileno(self) -> int:
        return -1

    def on_ready(self, call: Callable[[], None] | None) -> None:
        self._mine.when_ready = call
        if call is not None and self._is_ready(to_send=self._waits_for_room):
            call()

    def close(self) -> None:
        with self._lock:
            self._is_closed = True
            self._theirs.is_ended = True
            self._mine.is_ended = True
        self._mine.when_ready = None
        self._theirs.tell()
        self._mine.tell()

    def close_copy(self) -> None:
        # The other end of a child's copy is a copy, too: nobody is there to be told, and
        # the lock may have been held by a thread that does not exist here.
        self._is_closed = True


def memory_pair() -> tuple[MemoryWire, MemoryWire]:
    """Two wires that are each other's peer."""
    lock = threading.Lock()
    one, other = _End(), _End()
    return MemoryWire(lock, one, other), MemoryWire(lock, other, one)


class MemoryListener(ArrivalsListener[MemoryWire]):
    """A name in this process at which initiators arrive."""

    def _wire_of(self, one: MemoryWire) -> MemoryWire:
        return one

    def _send_away(self, one: MemoryWire) -> None:
        one.close()

    def _withdraw(self) -> None:
        _places.pop(self.address.port, None)


_places: dict[int, MemoryListener] = {}
_places_lock = threading.Lock()
#: Where free ports are looked for, as a system does it.
_FREE_PORTS: Final = range(49152, 65536)


class MemoryOpener(Opener):
    """`memory://:port/path`."""

    def connect(self, address: ComPointAddress, deadline: Deadline) -> Wire:
        listener = _places.get(address.port)
        if listener is None:
            raise ConnectError(
                "nobody listens there in this process", point=str(address),
                phase=Phase.CONNECT, elapsed_s=deadline.elapsed_s,
                hint="open the server first; memory addresses reach no other process",
            )  # fmt: skip
        ours, theirs = memory_pair()
        if not listener.arrive(theirs):
            raise ConnectError(
                f"{BACKLOG} initiators are waiting there", point=str(address),
                phase=Phase.CONNECT, elapsed_s=deadline.elapsed_s, hint="try again later",
            )  # fmt: skip
        return ours

    def listen(self, address: ComPointAddress) -> Listener:
        with _places_lock:
            port = address.port or next(itertools.filterfalse(_places.__contains__, _FREE_PORTS), 0)
            if not port or port in _places:
                raise BusyError(
                    "somebody listens at this port in this process", point=str(address),
                    phase=Phase.OPEN, hint="close that server or take another port (0: any)",
                )  # fmt: skip
            listener = MemoryListener(address.with_port(port))
            _places[port] = listener
        return listener
