"""Moves the bytes of one connection: the thread that waits does it itself.

Theory of operation. A thread that must wait (`Driver.wait_until`) takes the lead if it is
free: it waits on the wire, feeds the machine, wakes whom the events concern, and goes on
until its own wish is fulfilled; then it passes the lead to another waiting thread at
once, or leaves it to the pump. Threads that find the lead taken follow: they sleep until
woken. So a lone reader pays for no helper thread, and a message for another thread costs
one wake-up. When a crowd is waiting, the pump leads, which then is cheaper than passing
the lead around.

One lock guards machine and queues; it is never held while bytes are sent, received or
waited for, nor while user code runs. Sending is the business of `compoint.drive.sender`.

If an exception (Ctrl-C) strikes between receiving bytes and noting them, the stream of
bytes can no longer be trusted, and the connection is cut with that as its reason. While
a thread waits, which is nearly always, an exception leaves everything usable.
"""

from __future__ import annotations

import functools
import math
import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol

from compoint.core.codes import Code, Ending, How
from compoint.core.connection import Connection, Happening
from compoint.core.stream import Stream
from compoint.deadline import Deadline, clock
from compoint.drive.sender import Sender
from compoint.drive.waiter import Waiter, acquire_surely, without
from compoint.limits import RECEIVE_BYTES

if TYPE_CHECKING:
    from compoint.drive.pump import Pump
    from compoint.drive.wire import Wire

__all__ = ["Driver", "StreamOwner"]

#: From this many sleeping threads on, the pump leads.
CROWD: Final = 4
#: How long an answer is looked for before the thread sleeps, if recent ones came so fast.
SPIN_S: Final = 0.000_05
#: After a spin in vain, this many waits at the most go without one.
SPIN_PAUSE: Final = 1024
#: A new connection's first answers are slow anyway.
SPIN_AFTER: Final = 4
MAY_SPIN: Final = os.environ.get("COMPOINT_SPIN", "1") != "0"
#: How many full receives the pump takes from one wire before it looks at the others.
SERVE_ROUNDS: Final = 8
#: Look once, do not wait.
LOOK: Final = Deadline(0.0)


@functools.cache
def _has_cores() -> bool:
    """Whether a peer can run while this process looks for its answer."""
    return MAY_SPIN and (os.cpu_count() or 1) > 1


def _never() -> bool:
    return False


class StreamOwner(Protocol):
    """The shell of a stream: has the threads that wait for it."""

    waiters: tuple[Waiter, ...]

    def await_news(self, waiter: Waiter) -> None: ...
    def forget_waiter(self, waiter: Waiter) -> None: ...
    def after_fork(self) -> None: ...


class Driver(Sender):
    """One connection in motion."""

    __slots__ = (
        "_is_at_risk", "_is_looking", "_is_shutting", "_may_spin", "_onlookers", "_spin_next",
        "_spin_pause", "answer_may_wait", "armed_output", "is_armed", "is_prompt", "is_watched",
        "leader", "on_closed", "on_happening", "rounds", "seen_rounds", "timer", "timer_due",
    )  # fmt: skip

    def __init__(self, wire: Wire, connection: Connection, pump: Pump) -> None:
        super().__init__(wire, connection, pump)
        #: Called under the lock for what concerns no single stream's waiters.
        self.on_happening: Callable[[Driver, Happening, Stream | None], None] | None = None
        #: Called under the lock when the wire is given back.
        self.on_closed: Callable[[Driver], object] | None = None
        #: Whose thread leads, or led last.
        self.leader: StreamOwner | None = None
        #: Rounds led so far; the pump sees by it whether anyone is at work here.
        self.rounds = 0
        self._is_shutting = False
        self._is_at_risk = False
        self._is_looking = False
        self._onlookers: tuple[Waiter, ...] = ()
        self._may_spin = wire.can_spin and _has_cores()
        self._spin_pause = SPIN_AFTER
        self._spin_next = 1
        #: What the next round has to say may wait a moment for the program's own words.
        self.answer_may_wait = False
        #: Others may arrive here (channels): the pump listens whenever nobody leads.
        self.is_prompt = False
        # Kept by the pump.
        self.is_watched = False
        self.is_armed = False
        self.armed_output = False
        self.seen_rounds = 0
        self.timer = 0
        self.timer_due = math.inf

    def itself(self) -> Driver:
        return self

    # --- waiting ------------------------------------------------------------------------

    def wait_until(
        self, ready: Callable[[], object], owner: StreamOwner, deadline: Deadline
    ) -> bool:
        """Wait until `ready()` holds (True) or the deadline is over (False).

        The caller holds the lock, and holds it again afterwards; `ready` is called with
        it. An exception of a signal handler passes through, with the lock held.
        """
        self._wrote_last = False
        if self.connection.has_output:
            self.flush()
        has_looked = False
        try:
            while not ready():
                if has_looked and deadline.is_over:
                    return False
                if self.is_closed:
                    return bool(ready())
                if self.is_led or (self.is_armed and len(self.followers) >= CROWD):
                    self._follow(owner, deadline)
                else:
                    if self.is_armed:
                        self.pump.disarm(self)
                    self.leader = owner
                    self._lead(ready, deadline)
                has_looked = True
            return True
        finally:
            if not self.is_led:
                self._pass_lead()

    def note_read(self) -> bool:
        """A message was taken by the program, and more may be allowed to the peer. Lock held.

        False: the message must not be given to the program after all.
        """
        self.flush()
        return True

    def look(self) -> None:
        """Take what has arrived, without waiting for more. Lock held.

        A leader that sleeps has taken everything; one that looks, too, is waited for.
        """
        while self._is_looking:
            self._look_on()
        if self.is_led or self.is_closed:
            return
        self._is_looking = True
        try:
            self._lead(_never, LOOK)
        finally:
            self._is_looking = False
            for waiter in self._onlookers:
                waiter.wake()
            if not (self.is_watched or self.is_armed):
                # The pump has seen a leader at work meanwhile, and left the connection to it.
                self._pass_lead()

    def _look_on(self) -> None:
        waiter = Waiter()
        self._onlookers += (waiter,)
        try:
            self.lock.release()
            waiter.sleep(None)
        finally:
            acquire_surely(self.lock)
            self._onlookers = without(self._onlookers, waiter)

    def _follow(self, owner: StreamOwner, deadline: Deadline) -> None:
        waiter = Waiter()
        owner.await_news(waiter)
        self.followers += (waiter,)
        try:
            self.lock.release()
            waiter.sleep(deadline.remaining_s())
        finally:
            try:
                acquire_surely(self.lock)
            finally:
                owner.forget_waiter(waiter)
                self.followers = without(self.followers, waiter)

    @property
    def may_lead_alone(self) -> bool:
        """Nobody leads, nobody follows, and nothing else is to be done."""
        return not (
            self.is_led
            or self.followers
            or self.is_stuffed
            or self.is_closed
            or self.connection.has_output
        )

    def lead_alone(self, owner: StreamOwner) -> None:
        """One round for the reader `owner`. Lock held; `may_lead_alone` was true.

        The same as `wait_until`, in the few steps of the commonest case: every call here
        is paid by every round trip.
        """
        self._wrote_last = False
        if self.is_armed:
            self.pump.disarm(self)
        self.leader = owner
        try:
            self.is_led = True
            self._round(None)
        finally:
            self._end_lead()
        if self.followers or not (self.is_watched or self.is_armed):
            self._pass_lead()

    def _lead(self, ready: Callable[[], object], deadline: Deadline) -> None:
        timeout_s: float | None = None
        try:
            self.is_led = True
            while True:
                if deadline.ends_at is not None:
                    timeout_s = deadline.remaining_s()
                self._round(timeout_s)
                if ready() or timeout_s == 0.0 or self.is_closed:
                    return
        finally:
            self._end_lead()

    def _end_lead(self) -> None:
        self.is_led = False
        if self._is_at_risk:
            self._is_at_risk = False
            self.connection.cut("interrupted while bytes were being received")
            self.deliver()
        plain = self.connection.plain
        if self.connection.ending is not None or (plain is not None and plain.ending is not None):
            # Of a plain point's peer nothing comes after its end, and nothing can go to it.
            self.shut()

    def _round(self, timeout_s: float | None) -> None:
        """Wait once on the wire, take what came, tell whom it concerns. Lock held, but
        not while waiting and receiving."""
        lock = self.lock
        connection = self.connection
        wire = self.wire
        to_send = self.is_stuffed
        room = connection.room()
        fault: OSError | None = None
        data: bytes | int | None = None
        self.rounds += 1
        try:
            self._leader_sleeps = True
            lock.release()
            if timeout_s != 0.0:
                if self._may_spin and not to_send:
                    data = self._spin(room)
                if data is None:
                    wire.wait(timeout_s, to_send=to_send)
            if data is None:
                self._is_at_risk = True
                data = wire.receive(RECEIVE_BYTES) if room is None else wire.receive_into(room)
        except BlockingIOError:
            pass
        except OSError as error:
            fault = error
        finally:
            try:
                acquire_surely(lock)
            finally:
                self._leader_sleeps = False
        if data and room is None:
            connection.feed(data, clock())  # type: ignore[arg-type]
        else:
            self._take(data, fault)
        if connection.events:
            self.deliver()
        self._is_at_risk = False
        if connection.has_output or self.is_stuffed:
            if self.answer_may_wait:
                self.answer_may_wait = False
                self.linger()
            else:
                self.flush()

    def _take(self, data: bytes | int | None, fault: OSError | None) -> None:
        """Give the machine what is no plain chunk of bytes."""
        if data:
            self.connection.filled(data, clock())  # type: ignore[arg-type]
        elif fault is not None:
            self._note_loss(fault)
        elif data is not None:
            self.connection.feed_end()

    def _pass_lead(self) -> None:
        """The lead is free: wake a follower to take it, or leave it to the pump."""
        if self.is_closed:
            return
        if self.followers and len(self.followers) < CROWD:
            self.followers[0].wake()
        elif self.followers or self.is_prompt or self.is_stuffed:
            if not self.is_armed:
                self.pump.arm(self)
        elif not (self.is_watched or self.is_armed):
            self.pump.watch(self)

    def _spin(self, room: memoryview | None) -> bytes | int | None:
        """Look for an answer a little while before sleeping.

        Waking a sleeping thread costs more than a fast peer needs for its answer. A spin
        in vain doubles the number of waits that then go without one, so a slow peer or a
        busy machine pays next to nothing.
        """
        if self._spin_pause:
            self._spin_pause -= 1
            return None
        wire = self.wire
        until = clock() + SPIN_S
        self._is_at_risk = True
        while True:
            try:
                data = wire.receive(RECEIVE_BYTES) if room is None else wire.receive_into(room)
            except BlockingIOError:
                if clock() > until:
                    break
            else:
                self._spin_next = 1
                return data
        self._is_at_risk = False
        self._spin_pause = self._spin_next
        self._spin_next = min(self._spin_next * 2, SPIN_PAUSE)
        return None

    def deliver(self) -> None:
        """Wake whom the machine's events concern. Lock held."""
        # Answering an event (welcome, refuse) may bring further ones.
        while events := self.connection.take_events():
            for happening, stream in events:
                if happening is Happening.GREETED:
                    # A heartbeat may be due before the greeting's time would have been up.
                    self.pump.keep_time(self)
                owner = stream.owner if stream is not None else None
                if owner is not None:
                    self.tell(owner)
                elif self.on_happening is not None:
                    self.on_happening(self, happening, stream)

    def tell(self, owner: StreamOwner) -> None:
        """Let every thread that waits for `owner` look again, the leading one too. Lock held."""
        for waiter in owner.waiters:
            waiter.wake()
        if self._leader_sleeps and self.leader is owner:
            self.wire.wake()

    # --- the pump's share ---------------------------------------------------------------

    def __call__(self) -> None:
        """Something may have come by a wire without a descriptor, which calls this."""
        self.pump.soon(self.serve)

    def serve(self) -> None:
        """Bytes may have come and nobody leads: take them. Called by the pump only."""
        with self.lock:
            if self.is_led or self.is_closed:
                return
            for _ in range(SERVE_ROUNDS):
                before = self.connection.bytes_in
                self.look()
                if self.is_closed:
                    return
                if self.connection.bytes_in - before < RECEIVE_BYTES // 2:
                    break
            if (
                not self.is_armed
                or self.wire.fileno() < 0
                or self.is_stuffed is not self.armed_output
            ):
                self.pump.arm(self)
            if self.followers and len(self.followers) < CROWD:
                self.followers[0].wake()

    def on_time(self) -> float | None:
        """A timer of the machine may be due; returns when the next one is."""
        with self.lock:
            self.connection.on_timer(clock())
            self.deliver()
            if self.connection.has_output:
                self.flush()
            if self.connection.ending is not None:
                self.shut()
            due = self.connection.next_timer()
            self.timer_due = math.inf if due is None else due
            return due

    # --- the end ------------------------------------------------------------------------

    def say_goodbye(self, text: str) -> None:
        """Leave in good order: nothing is open on this connection any more. Lock held."""
        self.connection.leave(Code.CLOSED, text)
        self.deliver()
        self.shut()

    def after_stream(self) -> None:
        """A conversation on this connection is over; it may have been the last. Lock held."""
        if self.connection.ending is not None:
            self.deliver()
            self.shut()
        else:
            # Its goodbye may travel with what the next one says.
            self.linger()

    def retire(self) -> None:
        """Nothing more is wanted of this connection. Lock held."""
        self.connection.cut("this side closed the connection")
        self.deliver()
        self.shut()

    def shut(self) -> None:
        """Give the wire back. Lock held; if another thread leads, it will do it."""
        if self._is_shutting:
            return
        self._is_shutting = True
        # Sending gives the lock up; whoever comes meanwhile finds the work being done.
        if self.connection.has_output and not self.is_led:
            self.flush()
        if self.is_led or self._sending:
            # Whoever leads or sends at this moment does it in the end.
            self._is_shutting = False
            self._shut_later = self._sending
            if self.is_led:
                self.wire.wake()
            return
        self.is_closed = True
        if self.on_closed is not None:
            self.on_closed(self)
        if self._must_drain():
            self.pump.drain(self)
        else:
            self.pump.forget(self)
            self.wire.close()

    def _must_drain(self) -> bool:
        """Whether closing now could take the last words from the peer."""
        return not (self.is_stuffed or self.drain()) and self.wire.end_output()

    def drain(self) -> bool:
        """Read and drop what the peer still says; whether it has come to its end."""
        try:
            # In portions: a peer that has not heard the goodbye yet may write on and on.
            for _ in range(SERVE_ROUNDS):
                if not self.wire.receive(RECEIVE_BYTES):
                    return True
        except BlockingIOError:
            pass
        except OSError:
            return True
        return False

    def move_to(self, pump: Pump) -> None:
        """Another pump takes over. Lock held."""
        self.pump.forget(self)
        self.pump = pump
        self.is_watched = self.is_gathering = False
        pump.adopt(self, arm=not self.is_led)

    def after_fork(self) -> None:
        """This is a child's copy: make every use of it an error, touch nothing shared."""
        self.lock = threading.Lock()
        self.followers = ()
        self.is_led = False
        self.is_closed = True
        ending = Ending(How.FORKED, Code.INTERNAL, "this point belongs to the parent process")
        for stream in self.connection.streams.values():
            stream.inbox.clear()
            stream.ending = ending
            stream.is_open = False
            if stream.owner is not None:
                stream.owner.after_fork()
        self.wire.close_copy()
