"""Sends the bytes of one connection: at once when it is quiet, gathered in a flood.

Sending is combined: whoever finds a sender at work leaves its bytes to it. The lock is
given up while bytes are sent. If an exception (Ctrl-C) strikes between sending bytes and
noting them, the peer's view is unknown, and the connection is cut with that as reason.
"""

from __future__ import annotations

import abc
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from compoint.core.connection import Connection
from compoint.deadline import clock
from compoint.drive.waiter import Waiter, acquire_surely
from compoint.limits import RECEIVE_BYTES

if TYPE_CHECKING:
    from compoint.drive.driver import Driver
    from compoint.drive.pump import Pump
    from compoint.drive.wire import Wire

__all__ = ["Sender", "Step"]

#: Messages written within this time of the last sending are gathered.
GATHER_S: Final = 0.000_1


class Step:
    """A change of the machine that Ctrl-C must not leave half done. Lock held.

    Ctrl-C may strike between any two instructions; what it finds half written cannot be
    trusted any more. While a thread waits no step is open, and nothing is cut.
    """

    __slots__ = ("_sender",)

    def __init__(self, sender: Sender) -> None:
        self._sender = sender

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if kind is not None and not issubclass(kind, Exception):
            self._sender.connection.cut("interrupted in the middle of a step")
            self._sender.deliver()


class Sender(abc.ABC):
    """The outgoing half of a driver; `Driver` is its only kind."""

    __slots__ = (
        "_has_more", "_leader_sleeps", "_sending", "_sent_at", "_shut_later", "_unsent",
        "_wrote_last", "connection", "followers", "is_closed", "is_gathering", "is_led",
        "is_stuffed", "lock", "pump", "wire",
    )  # fmt: skip

    def __init__(self, wire: Wire, connection: Connection, pump: Pump) -> None:
        self.wire = wire
        self.connection = connection
        self.pump = pump
        self.lock = threading.Lock()
        self.is_closed = False
        #: A thread (or the pump) is waiting on or receiving from the wire.
        self.is_led = False
        #: The leader has given up the lock: what it waits for may change behind its back.
        self._leader_sleeps = False
        self.followers: tuple[Waiter, ...] = ()
        #: The wire takes no more for now.
        self.is_stuffed = False
        #: The pump looks at what is gathered here.
        self.is_gathering = False
        self._unsent: Sequence[bytes | memoryview] = ()
        self._sending = False
        self._sent_at = 0.0
        self._wrote_last = False
        self._shut_later = False
        #: Another thread had something to send while one was sending.
        self._has_more = False

    def step(self) -> Step:
        """Surrounds what changes the machine: interrupted there, the connection is cut."""
        return Step(self)

    @abc.abstractmethod
    def deliver(self) -> None:
        """Wake whom the machine's events concern. Lock held."""

    @abc.abstractmethod
    def shut(self) -> None:
        """Give the wire back. Lock held."""

    @abc.abstractmethod
    def itself(self) -> Driver:
        """The driver, for the pump."""

    @property
    def is_quiet(self) -> bool:
        """A message may leave at once: nothing is on its way, and none left just now."""
        return not (
            self._wrote_last
            or self._sending
            or self._unsent
            or self.is_closed
            or self.connection.has_output
        )

    def send_alone(self, frame: bytes) -> None:
        """Send one frame now. Lock held; `is_quiet` was true."""
        self._wrote_last = True
        self._unsent = (frame,)
        self._send_once()
        if self._has_more or self._shut_later:
            self.flush()
        self._sent_at = clock()

    def push(self) -> None:
        """A small message was put in line: send it now, or gather it. Lock held.

        The first goes out at once; what follows quickly is gathered until there is
        enough, until somebody reads or flushes, or until the pump's next look.
        """
        if self._wrote_last:
            if self.is_gathering:
                return
            if clock() - self._sent_at < GATHER_S:
                self.pump.flush_soon(self.itself())
                return
        self.flush()
        self._wrote_last = True
        self._sent_at = clock()

    def linger(self) -> None:
        """There is something to send that may wait a moment for company. Lock held."""
        if not (self.is_gathering or self.is_closed):
            self.pump.flush_soon(self.itself())

    def flush(self) -> None:
        """Send what there is, as far as the wire takes it. Lock held, but not throughout."""
        if self._sending or self.is_closed:
            # Whoever sends at this moment takes it along.
            self._has_more = True
            return
        self._has_more = False
        with self.step():
            while self._unsent or self.connection.has_output:
                if not self._unsent:
                    self._unsent = self.connection.take_output()
                if not self._send_once():
                    break
        if self._shut_later:
            self._shut_later = False
            self.shut()

    def _send_once(self) -> bool:
        """Send from the front of `_unsent`; whether the wire took anything. The lock is
        released meanwhile; whoever comes then finds a sender at work and leaves its bytes."""
        buffers = self._unsent
        wire = self.wire
        lock = self.lock
        fault: OSError | None = None
        sent = -1
        try:
            # Released inside: Ctrl-C strikes after a call, never between `try` and its first.
            self._sending = True
            lock.release()
            sent = wire.send(buffers[0]) if len(buffers) == 1 else wire.send_many(buffers)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            fault = error
            sent = 0
        finally:
            try:
                acquire_surely(lock)
            finally:
                self._sending = False
                if sent < 0:
                    self.connection.cut("interrupted while bytes were being sent")
                    self.deliver()
        if fault is not None:
            self._unsent = ()
            self._lose(fault)
        elif not sent:
            was_stuffed, self.is_stuffed = self.is_stuffed, True
            if self.is_led:
                if not was_stuffed:
                    # The leader waits for input; now it must wait for room, too.
                    self.wire.wake()
            elif not self.is_closed:
                self.pump.arm(self.itself())
        elif len(buffers) == 1 and sent == len(buffers[0]) and not self.is_stuffed:
            self._unsent = ()
        else:
            self._note_sent(sent)
        return sent > 0

    def _note_sent(self, sent: int) -> None:
        if self.is_stuffed:
            self.is_stuffed = False
            for waiter in self.followers:
                waiter.wake()
        unsent = self._unsent
        done = 0
        while done < len(unsent) and sent >= len(unsent[done]):
            sent -= len(unsent[done])
            done += 1
        rest = list(unsent[done:])
        if sent:
            rest[0] = memoryview(rest[0])[sent:]
        self._unsent = rest or ()

    def _lose(self, fault: OSError) -> None:
        """Sending failed. What the peer said before it left is read first: it may have
        said goodbye, and then nothing is lost."""
        if self._leader_sleeps:
            # The leader finds the same end behind the peer's last words.
            self.wire.wake()
            return
        try:
            while data := self.wire.receive(RECEIVE_BYTES):
                self.connection.feed(data, clock())
        except OSError:
            pass  # nothing more is here
        self._note_loss(fault)
        self.deliver()

    def _note_loss(self, fault: OSError) -> None:
        if self.connection.peer is None:
            # Before its greeting nothing was begun that could be lost.
            self.connection.feed_end()
        else:
            self.connection.cut(f"the way to the peer is lost ({fault.strerror or fault})")
