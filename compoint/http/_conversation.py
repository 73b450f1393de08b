"""A conversation of a client that speaks plain HTTP: the initiator's end, moved by requests.

Theory of operation. The initiator's machine stands here, under one lock; its peer is a wire
that was handed to a server of this process. Two things move it: requests (`write`, `read`,
`close`), which leave something that waits (a `Waiting`) and never wait themselves, and the
server, whose thread brings its bytes. After each step everything that waits is looked at:
what has come about is *settled*, and who waited is told by whichever thread made the step,
with no lock held. A timer settles what has waited long enough, and ends a conversation that
nobody has used for long.

Messages have the numbers of the protocol, from 1 by counting. The message read last is kept
until the next one is asked for or given, so that a lost answer loses nothing.
"""

from __future__ import annotations

import math
import os
import threading
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from compoint.core.codes import Code, Ending, How
from compoint.core.connection import Connection, Side
from compoint.core.greeting import Greeting, Mode, Refusal
from compoint.deadline import clock
from compoint.drive.faults import reason_of
from compoint.drive.lifetime import lifetime
from compoint.errors import Fate
from compoint.http._gateway_wire import GatewayWire
from compoint.http._waiting import Outcome, Reading, Waiting, Writing
from compoint.limits import MESSAGE_TOLL_BYTES, SMALL_BYTES
from compoint.point import Receipt

if TYPE_CHECKING:
    from compoint.http._gateway_bounds import Bounds, Budget

__all__ = ["Conversation"]

_TOLL: Final = MESSAGE_TOLL_BYTES


class Conversation:
    """One conversation. Any thread may call any verb; none waits."""

    def __init__(
        self,
        peer: str,
        correlator: str | None,
        bounds: Bounds,
        budget: Budget,
        *,
        is_local: bool,
    ) -> None:
        #: None: a plain conversation.
        self.correlator = correlator
        #: By which requests find it; empty: it lasts for one request only.
        self.session = ""
        #: Told once, without a lock, when nothing will happen here any more.
        self.when_over: Callable[[Conversation], object] = id
        #: What became of the messages, once this side has closed in good order.
        self.receipt: Receipt | None = None
        self._wire = GatewayWire(peer, is_local=is_local, take=self._take, lost=self._lose)
        self._bounds = bounds
        self._budget = budget
        # Taken inside a driver's lock (by `GatewayWire.close`), never the other way round.
        self._lock = threading.Lock()
        self._told: deque[tuple[Callable[[Any], object], object]] = deque()
        self._used_at = clock()
        ours = Greeting(
            mode=Mode.PLAIN if correlator is None else Mode.CHANNELS,
            message_limit=bounds.body_bytes,
            window=bounds.window_bytes,
            heartbeat_ms=0,
            session=os.urandom(16),
        )
        self._connection = Connection(Side.INITIATOR, ours, self._used_at)
        self._stream = self._connection.plain or self._connection.announce(correlator or "")
        self._welcomes: list[Waiting] = []
        #: Not given whole to the machine; only the first is begun.
        self._writes: deque[Writing] = deque()
        self._unconfirmed: list[Writing] = []
        self._reading: Reading | None = None
        #: Whose answer was the last message, while that may have to be given again.
        self._given: Reading | None = None
        #: The client left before it had that answer whole.
        self._is_given_lost = False
        self._closings: list[Waiting] = []
        #: How this side has ended it: nothing is written or read any more.
        self._ended: Ending | None = None
        self._is_over = False
        self._pump = lifetime.pump()
        self._timer = 0
        self._timer_due = math.inf

    # --- looking --------------------------------------------------------------------------

    @property
    def ending(self) -> Ending | None:
        """Why it is over; this side's reason, if it had one."""
        return self._ended or self._stream.ending

    @property
    def is_claimed(self) -> bool:
        """Whether a responder is here: always, but for a queued channel."""
        return self._stream.is_claimed

    # --- requests -------------------------------------------------------------------------

    def begin(self, arrive: Callable[[GatewayWire], bool]) -> bool:
        """Go to a server, before every other verb; False: it takes nobody more."""
        with self._lock:
            self._step()
        if arrive(self._wire):
            return True
        self.abort(Ending(How.REFUSED, Code.BUSY, "too many initiators are waiting there"))
        return False

    def await_welcome(self, waiting: Waiting) -> None:
        """Settled when the server has taken the conversation."""
        with self._lock:
            self._welcomes.append(waiting)
            self._step_for_request()
        self._tell()

    def write(self, writing: Writing) -> None:
        """Put a message in line; one that wants an earlier number waits for that one."""
        with self._lock:
            wanted = writing.wanted
            ahead = wanted - self._stream.written - 1
            if wanted and ahead < 0:
                writing.number = wanted
                self._unconfirmed.append(writing)
            elif wanted and ahead < len(self._writes) and self._writes[ahead].wanted == wanted:
                self._writes[ahead].repeats.append(writing)
            elif wanted and ahead != len(self._writes):
                writing.number = self._stream.written + len(self._writes) + 1
                self._settle(writing, Outcome.WRONG_NUMBER)
            elif self._ended is not None or not self._stream.is_open:
                self._settle(writing, Outcome.OVER)
            elif not self._has_place_for(writing):
                self._settle(writing, Outcome.TOO_MANY)
            else:
                self._writes.append(writing)
            self._step_for_request()
        self._tell()

    def _has_place_for(self, writing: Writing) -> bool:
        return len(self._writes) < self._bounds.writes and self._budget.take(len(writing.payload))

    def read(self, reading: Reading) -> None:
        """Wait for the next message, or get the last one again; an earlier read ends."""
        with self._lock:
            if self._reading is not None:
                self._settle(self._reading, Outcome.REPLACED)
                self._reading = None
            last = self._stream.taken
            if reading.wanted == last + 1:
                self._given = None  # the client has the one before
            if reading.wanted == last and self._given is not None:
                self._is_given_lost = True
            elif reading.wanted not in {0, last + 1}:
                reading.number = last + 1
                self._settle(reading, Outcome.WRONG_NUMBER)
            if reading.outcome is None:
                self._reading = reading
            self._step_for_request()
        self._tell()

    def left(self, reading: Reading) -> None:
        """The client of this read has left: it waits no more, or has not got the message."""
        with self._lock:
            if self._reading is reading:
                self._reading = None
            elif self._given is reading:
                self._is_given_lost = True
            self._step_for_request()
        self._tell()

    def close(self, closing: Waiting, why: str) -> None:
        """Say goodbye. Settled when everything is confirmed that ever will be."""
        with self._lock:
            if self._ended is None:
                self._ended = Ending(How.GOODBYE, Code.CLOSED, why)
                if self._given is not None and self._is_given_lost:
                    self._stream.taken -= 1  # nobody has it: its writer's receipt says so
                self._connection.goodbye(self._stream)
            self._closings.append(closing)
            self._step_for_request()
        self._tell()

    def abort(self, ending: Ending) -> None:
        """End it at once; the peer's program is told why. Does nothing when it is over."""
        with self._lock:
            self._break_off(ending)
            self._step()
        self._tell()

    # --- the server -----------------------------------------------------------------------

    def _take(self, data: bytes) -> None:
        with self._lock:
            if not self._is_over:
                self._connection.feed(data, clock())
                self._step()
        self._tell()

    def _lose(self) -> None:
        with self._lock:
            if self._connection.peer is None:
                # The server was closed before it looked at this one.
                refusal = Refusal(Code.STOPPED, "the server was closed").encode()
                self._connection.feed(refusal, clock())
            self._connection.feed_end()
            self._step()
        self._tell()

    # --- time -----------------------------------------------------------------------------

    def _on_time(self) -> float | None:
        with self._lock:
            now = clock()
            self._connection.on_timer(now)
            self._step()
            if self._next_due() <= now:
                text = f"the initiator's session expired: no request for {self._bounds.idle_s:g} s"
                self._break_off(Ending(How.BROKEN, Code.EXPIRED, text))
                self._step()
            self._timer_due = due = self._next_due()
        self._tell()
        return None if due == math.inf else due

    def _next_due(self) -> float:
        if self._is_over:
            return math.inf
        waiting = [*self._welcomes, *self._writes, *self._unconfirmed, *self._closings]
        if self._reading is not None:
            waiting.append(self._reading)
        due = min((each.due for each in waiting), default=self._used_at + self._bounds.idle_s)
        return min(due, self._connection.next_timer() or math.inf)

    def _keep_time(self) -> None:
        """See to it that what is due next is met; looking too early does no harm."""
        due = self._next_due()
        if due < self._timer_due:
            self._pump.cancel(self._timer)
            self._timer_due = due
            self._timer = self._pump.call_at(due, self._on_time)
        elif self._is_over:
            self._pump.cancel(self._timer)

    # --- one step; the lock is held ---------------------------------------------------------

    def _step_for_request(self) -> None:
        self._used_at = clock()
        self._step()

    def _step(self) -> None:
        """Let everything come about that can, and say what is to be said."""
        now = clock()
        self._connection.take_events()  # what they tell of is looked at here
        self._settle_welcomes(now)
        self._give_writes(now)
        self._settle_unconfirmed(now)
        self._settle_reading(now)
        self._settle_closings(now)
        if self._connection.has_output:
            self._wire.put(self._connection.take_output())
        if self._is_over:
            self._wire.end()
        self._keep_time()

    def _settle_welcomes(self, now: float) -> None:
        for waiting in self._welcomes:
            if self.ending is not None:
                self._settle(waiting, Outcome.OVER)
            elif self._connection.peer is not None:
                self._settle(waiting, Outcome.DONE)
            elif now >= waiting.due:
                self._settle(waiting, Outcome.NOT_IN_TIME)
        self._welcomes = [each for each in self._welcomes if each.outcome is None]

    def _give_writes(self, now: float) -> None:
        """Give the machine what is in line, as far as the credit goes."""
        stream = self._stream
        for writing in list(self._writes):
            is_first = writing is self._writes[0]
            if self._ended is not None or not stream.is_open:
                self._settle(writing, Outcome.OVER)
            elif is_first and writing.wanted not in {0, stream.written + 1}:
                writing.number = stream.written + 1  # one before it was given up
                self._settle(writing, Outcome.WRONG_NUMBER)
            elif is_first and self._give(writing):
                self._note_given(writing)
            elif writing.outcome is None and now >= writing.due:
                if is_first:
                    self._connection.drop(stream)
                self._settle(writing, Outcome.NOT_IN_TIME)
            elif writing.outcome is None:
                continue  # it waits for credit, or for the one before it
            self._writes.remove(writing)
            self._budget.give_back(len(writing.payload))
            writing.payload = b""

    def _give(self, writing: Writing) -> bool:
        """Give the machine of one message what the credit covers; whether that was the rest."""
        connection, stream, payload = self._connection, self._stream, writing.payload
        size = len(payload)
        room = stream.out_limit - stream.out_cost
        if size <= SMALL_BYTES:
            if room >= size + _TOLL:
                connection.gather(stream, writing.form, payload)
                return True
            return False
        if writing.position < 0:
            if connection.peer is None or room < _TOLL:
                return False
            if size > connection.peer.message_limit:
                writing.number = connection.peer.message_limit
                self._settle(writing, Outcome.TOO_LARGE)
                return False
            connection.begin(stream, writing.form, size)
            writing.position = 0
            room -= _TOLL
        end = min(size, writing.position + room)
        if end == size or end - writing.position >= SMALL_BYTES:
            connection.more(stream, memoryview(payload)[writing.position : end])
            writing.position = end
        return writing.position == size

    def _note_given(self, writing: Writing) -> None:
        # Nothing rides back by itself as long as the responder's program says nothing.
        self._connection.ask_ack(self._stream)
        for each in (writing, *writing.repeats):
            each.number = self._stream.written
            self._unconfirmed.append(each)
        writing.repeats = []

    def _settle_unconfirmed(self, now: float) -> None:
        stream = self._stream
        for writing in self._unconfirmed:
            if writing.number <= stream.confirmed:
                self._settle(writing, Outcome.DONE)
            elif stream.ending is not None or self._is_over:
                self._settle(writing, Outcome.OVER)
            elif now >= writing.due:
                self._settle(writing, Outcome.NOT_IN_TIME)
        self._unconfirmed = [each for each in self._unconfirmed if each.outcome is None]

    def _settle_reading(self, now: float) -> None:
        reading, given = self._reading, self._given
        if reading is None:
            return
        if self._ended is not None:
            self._settle(reading, Outcome.OVER)
        elif given is not None and self._is_given_lost:
            reading.item, reading.number = given.item, given.number
            self._hand_over(reading)
        elif self._stream.inbox:
            self._read_next(reading)
        elif self._stream.ending is not None:
            self._settle(reading, Outcome.OVER)
        elif now >= reading.due:
            self._settle(reading, Outcome.NOT_IN_TIME)
        if reading.outcome is not None:
            self._reading = None

    def _read_next(self, reading: Reading) -> None:
        stream = self._stream
        item = reading.item = stream.inbox.popleft()
        stream.taken += 1
        stream.taken_cost += _TOLL + len(item if isinstance(item, bytes) else item[1])
        reading.number = stream.taken
        self._connection.grant(stream)
        self._hand_over(reading)

    def _hand_over(self, reading: Reading) -> None:
        self._given = reading
        self._is_given_lost = False
        self._settle(reading, Outcome.DONE)

    def _settle_closings(self, now: float) -> None:
        stream = self._stream
        if self._closings and not self._is_over:
            is_late = any(now >= each.due for each in self._closings)
            if stream.ending is not None or stream.confirmed == stream.written or is_late:
                reason = "not confirmed in time"
                if stream.ending is not None:
                    reason = reason_of(stream.ending, stream)
                written, confirmed = stream.written, stream.confirmed
                self.receipt = Receipt(written, confirmed, "" if confirmed == written else reason)
                self._finish()
        if self._is_over:
            outcome = Outcome.OVER if self.receipt is None else Outcome.DONE
            for closing in self._closings:
                self._settle(closing, outcome)
            self._closings.clear()

    def _settle(self, waiting: Waiting, outcome: Outcome) -> None:
        waiting.outcome = outcome
        waiting.ending = self.ending
        waiting.confirmed = self._stream.confirmed
        self._told.append((waiting.then, waiting))
        if isinstance(waiting, Writing):
            waiting.fate = self._fate_of(waiting, outcome)
            for repeat in waiting.repeats:
                repeat.number = waiting.number
                self._settle(repeat, outcome)

    def _fate_of(self, writing: Writing, outcome: Outcome) -> Fate:
        if outcome is Outcome.DONE:
            return Fate.DELIVERED
        if outcome not in {Outcome.NOT_IN_TIME, Outcome.OVER} or not writing.number:
            return Fate.NOT_SENT
        ending = self._stream.ending
        if ending is not None and ending.how in {How.GOODBYE, How.REFUSED}:
            return Fate.NOT_SENT  # its program has given it back, or never had it
        return Fate.UNKNOWN

    # --- the end; the lock is held ----------------------------------------------------------

    def _break_off(self, ending: Ending) -> None:
        if self._is_over:
            return
        if self._ended is None:
            self._ended = ending
        self._connection.reset(self._stream, ending.code, ending.text)
        self._finish()

    def _finish(self) -> None:
        self._is_over = True
        self._told.append((self.when_over, self))

    def _tell(self) -> None:
        """Tell who waited, in order, while no lock is held here."""
        while self._told:
            try:
                then, what = self._told.popleft()
            except IndexError:  # another thread was faster
                return
            then(what)
