"""The initiator's end: a wire whose bytes go and come by requests.

`InitiatorTurns` says which request is to be made; a *courier*, a thread that waits for one
answer at a time, makes it. A point that streams has two or three couriers, one that polls
two; they end with it.
"""

from __future__ import annotations

import errno
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Final

import requests

from compoint.core.codes import Code
from compoint.core.greeting import Refusal
from compoint.core.turns import TurnError
from compoint.core.turns_initiator import InitiatorTurns, Kind, Plan, Way
from compoint.deadline import Deadline, clock
from compoint.drive.lifetime import lifetime
from compoint.drive.waiter import Waiter
from compoint.errors import ClosedError, ComPointException, ConnectError, Phase
from compoint.http._requests import Requests
from compoint.http._sessions import OwnSession
from compoint.http._verdicts import Told, TooLong, Trouble
from compoint.http._wire import TurnsWire
from compoint.http._words import Ask
from compoint.limits import STREAM_PROBE_S, STREAM_SIGN_S, TURNS_UNTAKEN_BYTES

if TYPE_CHECKING:
    from compoint.core.turns import Turn

__all__ = ["HttpWire"]

_log = logging.getLogger("compoint.http")

#: A courier without work ends after this time.
_IDLE_S: Final = 5.0
#: How long the last words may take.
_LINGER_S: Final = 2.0
#: A stream that is silent for so long is dead.
_SILENCE_S: Final = 3 * STREAM_SIGN_S

_ASKS: Final = {
    Kind.POLL: Ask.POLL,
    Kind.WRITE: Ask.WRITE,
    Kind.DOWN: Ask.STREAM,
    Kind.UP: Ask.UPSTREAM,
}
#: What our server says no with, and what a refusal of a greeting says.
_REFUSALS: Final = {
    "no such path": Code.NO_SUCH_PATH,
    "busy": Code.BUSY,
    "stopped": Code.STOPPED,
}


class HttpWire(TurnsWire[InitiatorTurns]):
    """One session with a server."""

    def __init__(
        self,
        url: str,
        point: str,
        way: Way,
        session: requests.Session,
        key: bytes,
        give_up_s: float,
    ) -> None:
        self._since = clock()
        super().__init__(InitiatorTurns(way, self._since))
        self.session = key
        self.peer = point
        self._point = point
        self._give_up_s = give_up_s
        self._http_session = session
        self._requests = Requests(url, point, key.hex(), session)
        #: What the last request has met, while the session is being opened.
        self._trouble: Trouble | None = None
        #: What an opening that failed raises.
        self._error: ComPointException | None = None
        self._idle: list[_Courier] = []
        self._couriers = 0
        self._timer = 0
        self._timer_due = 0.0
        self._linger = 0
        self._ended_at = 0.0
        self._upstream_bell = Waiter()
        self._room_bell = Waiter()

    # --- opening --------------------------------------------------------------------------

    def open(self, deadline: Deadline) -> None:
        """Wait until the server knows this session, or has refused it.

        Raises:
            ConnectError, PointTimeout: as `Opener.connect`.
        """
        # Who stands there is told when the program ends.
        lifetime.servers.add(self)
        try:
            self._wait_for_opening(deadline)
        finally:
            lifetime.servers.discard(self)

    def close_at_exit(self) -> None:
        """The program ends, and this is still being opened."""
        self._note_error(
            ClosedError("the program is ending", point=self._point, phase=Phase.CONNECT)
        )

    def _wait_for_opening(self, deadline: Deadline) -> None:
        self._requests.open_by = deadline
        with self._lock:
            self._go_on()
        while True:
            with self._lock:
                if self._error is not None:
                    break
                if self._turns.is_open or self._fault is not None or self._arrivals.size:
                    return
                if deadline.is_over:
                    self._error = self._requests.too_late(self._trouble, deadline)
                    break
            self._arrivals.sleep(deadline.remaining_s())
        self.close()
        assert self._error is not None
        self._error.elapsed_s = deadline.elapsed_s
        raise self._error

    # --- requests -------------------------------------------------------------------------

    def _go_on(self, courier: _Courier | None = None) -> Plan | None:
        """Have made what is to be made now. Lock held. One plan is the caller's, if it is
        a courier."""
        turns = self._turns
        own: Plan | None = None
        if self._fault is None and self._error is None:
            now = clock()
            while (plan := turns.next_plan(now)) is not None:
                if courier is not None and own is None:
                    own = plan
                elif self._idle:
                    self._idle.pop().take(plan)
                else:
                    self._couriers += 1
                    _Courier(self, plan, self._couriers).start()
            self._set_timer()
        return own

    def _set_timer(self) -> None:
        due = self._turns.next_timer()
        if due is not None and (not self._timer or due < self._timer_due):
            pump = lifetime.pump()
            pump.cancel(self._timer)
            self._timer_due = due
            self._timer = pump.call_at(due, self._on_time)

    def _on_time(self) -> float | None:
        with self._lock:
            self._timer = 0
            if not self._is_done:
                self._go_on()
                self._upstream_bell.wake()
        return None

    def run(self, plan: Plan) -> None:
        """Make one request, to its end. Called by a courier."""
        started = clock()
        heard = [started]
        try:
            if plan.kind is Kind.DOWN:
                self._run_stream(plan, heard)
            elif plan.kind is Kind.UP:
                self._note_answer(plan, self._requests.upstream(plan, self._upstream(plan, heard)))
            else:
                age_s = started - self._since if plan.opens else 0.0
                self._note_answer(plan, self._requests.ask(_ASKS[plan.kind], plan, age_s))
        except Trouble as trouble:
            self._note_trouble(plan, trouble, clock() - heard[0])
        except TooLong as fault:
            self._note_too_long(plan, fault)
        except Told as told:
            self._note_told(plan, told)
        except TurnError as fault:
            self._lose(OSError(errno.EPROTO, f"the server's answer makes no sense: {fault}"))
        except ComPointException as error:
            self._note_error(error)
        except Exception as fault:  # noqa: BLE001 - nobody must wait for a dead thread
            _log.exception("internal error in %s; please report it", self._point)
            self._lose(OSError(errno.EIO, f"internal error: {fault!r}"))

    def _run_stream(self, plan: Plan, heard: list[float]) -> None:
        probe = lifetime.pump().call_at(clock() + STREAM_PROBE_S, self._end_probe)
        age_s = clock() - self._since if plan.opens else 0.0
        try:
            for turns in self._requests.stream(plan, age_s, _SILENCE_S):
                heard[0] = clock()
                if not self._note_stream(plan, turns, heard[0]):
                    break
        finally:
            lifetime.pump().cancel(probe)
        with self._lock:
            if self._turns.is_under_way(plan):
                self._turns.stream_ended(clock())
                self._upstream_bell.wake()

    def _end_probe(self) -> None:
        """The stream's first bytes should be here by now."""
        with self._lock:
            if not self._turns.is_streaming:
                self._turns.is_buffered(Kind.DOWN)
                self._go_on()

    def _note_stream(self, plan: Plan, turns: list[Turn], heard_at: float) -> bool:
        """What a stream has said; False: nobody wants it any more."""
        with self._lock:
            if not self._turns.is_under_way(plan):
                return False
            for turn in turns:
                new = self._turns.streamed(turn, heard_at)
                if new:
                    self._put(new)
            self._go_on()
            if self._turns.has_up_word(heard_at):
                self._upstream_bell.wake()
            is_over = self._turns.has_end
        self._arrivals.tell()
        while self._arrivals.size > TURNS_UNTAKEN_BYTES and not self._is_done:
            # The server is made to wait by the system's own buffers.
            self._room_bell.sleep(1.0)
        return not is_over

    def _upstream(self, plan: Plan, heard: list[float]) -> Iterator[bytes]:
        """The body of an upstream, as it comes."""
        yield plan.turn.encode()
        until = clock() + 2 * STREAM_PROBE_S
        while True:
            with self._lock:
                turns = self._turns
                if self._is_done or not turns.is_under_way(plan):
                    return
                now = clock()
                if not turns.is_upstreaming and now >= until:
                    turns.is_buffered(Kind.UP)
                    self._go_on()
                    return
                turn = turns.next_up(now)
                left_s = None if turns.is_upstreaming else until - now
            if turn is not None:
                yield turn.encode()
                heard[0] = clock()
            else:
                self._upstream_bell.sleep(left_s)

    # --- how they end; called by couriers ---------------------------------------------------

    def _note_answer(self, plan: Plan, turns: list[Turn]) -> None:
        with self._lock:
            for new in self._turns.answered(plan, turns, clock()):
                self._put(new)
        self._arrivals.tell()

    def _put(self, new: bytes) -> None:
        """Bytes have arrived. Who waited for them may have something to say first, with
        which a poll can travel; if not, it will listen again."""
        self._arrivals.put(new)
        self._turns.is_wanted = False

    def _note_trouble(self, plan: Plan, trouble: Trouble, silent_s: float) -> None:
        now = clock()
        with self._lock:
            turns = self._turns
            if not turns.is_under_way(plan):
                return
            turns.failed(plan.kind, now, silent_s)
            self._upstream_bell.wake()
            # The stream that opened the session may end long after that.
            is_opening = not turns.is_open
            since = self._since if is_opening else turns.failing_since or now
            is_hopeless = is_opening and trouble.is_final
            self._trouble = trouble
        if not is_hopeless and now - since < self._give_up_s:
            return
        if is_opening:
            text = trouble.text if is_hopeless else f"{trouble.text}, again and again"
            error = ConnectError(text, point=self._point, phase=trouble.phase, hint=trouble.hint)
            self._note_error(error)
        else:
            waited = f"for {now - since:.3g} s no request has come through"
            self._lose(OSError(errno.ETIMEDOUT, f"{waited}: {trouble.text}"))

    def _note_too_long(self, plan: Plan, fault: TooLong) -> None:
        with self._lock:
            may_go_on = self._turns.too_large(plan.kind)
        if not may_go_on:
            text = f"the way takes no request with a body: {fault.text}"
            self._lose(OSError(errno.EMSGSIZE, text))

    def _note_told(self, plan: Plan, told: Told) -> None:
        if told.code == "no streams":
            with self._lock:
                self._turns.is_buffered(plan.kind)
                return
        if told.code == "busy" and not plan.opens:
            self._note_trouble(plan, Trouble(told.text), 0.0)
        elif plan.opens and told.code in _REFUSALS:
            refusal = Refusal(_REFUSALS[told.code], told.text, told.retry_after_s)
            with self._lock:
                # As if the server had answered the greeting: the machine knows what to say.
                self._arrivals.put(refusal.encode())
                self._fault = OSError(errno.ECONNREFUSED, told.text)
            self._arrivals.tell()
        elif told.code == "over" and self._turns.has_end:
            with self._lock:
                self._turns.has_ended()
            self._arrivals.tell()
        else:
            self._lose(OSError(errno.ECONNRESET, f"the server says: {told.text}"), hint="")

    def _note_error(self, error: ComPointException) -> None:
        with self._lock:
            self._error = error
        self._lose(OSError(errno.ECONNABORTED, error.what))

    def _lose(self, fault: OSError, hint: str = "is this the address of a ComPoint?") -> None:
        with self._lock:
            if not self._turns.is_open and self._error is None:
                self._error = ConnectError(
                    str(fault.strerror), point=self._point, phase=Phase.GREETING, hint=hint
                )
            if self._fault is None:
                self._fault = fault
            self._wake_all()
        self._arrivals.tell()

    # --- couriers -------------------------------------------------------------------------

    @property
    def _is_done(self) -> bool:
        """No request is to be made any more."""
        return self._fault is not None or (self._is_closed and self._turns.is_finished)

    def next_for(self, courier: _Courier) -> Plan | None:
        """What a courier is to do next, waited for; None: it is not needed any more."""
        with self._lock:
            plan = self._go_on(courier)
            if plan is not None:
                return plan
            if self._is_done:
                self._wake_all()
                return None
            self._idle.append(courier)
        while True:
            is_rung = courier.sleep()
            with self._lock:
                plan, courier.plan = courier.plan, None
                if plan is not None:
                    return plan
                is_idle = courier in self._idle
                if self._is_done or not is_rung:
                    if is_idle:
                        self._idle.remove(courier)
                    return None
                if not is_idle:
                    self._idle.append(courier)

    def left(self) -> None:
        """A courier has ended."""
        with self._lock:
            self._couriers -= 1
            is_last = self._couriers == 0 and self._is_closed
        if is_last:
            lifetime.pump().cancel(self._linger)
            self._requests.close()

    def _wake_all(self) -> None:
        """Lock held."""
        idle, self._idle = self._idle, []
        for courier in idle:
            courier.wake()
        self._upstream_bell.wake()
        self._room_bell.wake()

    # --- the wire -------------------------------------------------------------------------

    @property
    def carrier(self) -> str:
        turns = self._turns
        if turns.is_streaming:
            return "http, streaming" if turns.is_upstreaming else "http, streamed answers"
        return "http, polling"

    def send_many(self, buffers: Sequence[bytes | memoryview], /) -> int:
        with self._lock:
            if self._fault is not None:
                raise self._fault
            turns = self._turns
            if turns.is_ended or turns.has_end:
                raise BrokenPipeError(errno.EPIPE, "the server has ended the session")
            sent = turns.append(*buffers)
            self._wants_room = not turns.room
            if turns.is_upstreaming:
                self._upstream_bell.wake()
            else:
                self._go_on()
        if not sent:
            raise BlockingIOError
        return sent

    @property
    def _has_end(self) -> bool:
        return self._turns.has_end

    def _note_room(self) -> None:
        if self._arrivals.size <= TURNS_UNTAKEN_BYTES:
            self._room_bell.wake()

    def wait(self, timeout_s: float | None, *, to_send: bool) -> None:
        if self._is_ready(to_send=to_send):
            return
        self._listen(is_wanted=True)
        try:
            self._arrivals.sleep(timeout_s)
        finally:
            self._listen(is_wanted=self._arrivals.when_ready is not None)

    def _listen(self, *, is_wanted: bool) -> None:
        """Somebody waits for what the server says: one who polls must ask for it."""
        turns = self._turns
        turns.is_wanted = is_wanted
        if is_wanted and not turns.is_streaming:
            with self._lock:
                self._go_on()

    def on_ready(self, call: Callable[[], None] | None) -> None:
        self._listen(is_wanted=call is not None)
        super().on_ready(call)

    # --- the end --------------------------------------------------------------------------

    def end_output(self) -> bool:
        with self._lock:
            if self._fault is not None:
                return False
            self._say_end()
        return True

    def _say_end(self) -> None:
        if not self._turns.is_ended:
            self._turns.is_ended = True
            self._ended_at = clock()
        self._upstream_bell.wake()
        self._go_on()

    def close(self) -> None:
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
            self._arrivals.when_ready = None
            self._arrivals.drop()
            if self._fault is None and self._turns.is_open:
                self._say_end()
            elif self._fault is None:
                self._fault = OSError(errno.ECONNABORTED, "this side closed the wire")
            is_done = self._is_done
            self._wake_all()
        if is_done:
            self._abort()
        else:
            # The last words are on their way; whoever brings them ends with them.
            self._linger = lifetime.pump().call_at(self._ended_at + _LINGER_S, self._abort)

    def _abort(self) -> None:
        with self._lock:
            if self._fault is None:
                self._fault = OSError(errno.ECONNABORTED, "this side closed the wire")
            lifetime.pump().cancel(self._timer)
            self._wake_all()
            is_last = self._couriers == 0
        if is_last:
            self._requests.close()
        elif isinstance(self._http_session, OwnSession):
            self._http_session.shut()

    def close_copy(self) -> None:
        # The couriers are the parent's; their sockets are only given back here.
        self._is_closed = True
        self._requests.close()


class _Courier(threading.Thread):
    """A thread that makes one request at a time for one wire."""

    def __init__(self, wire: HttpWire, plan: Plan, number: int) -> None:
        super().__init__(name=f"compoint-http-courier-{number}", daemon=True)
        self._wire = wire
        #: What it is woken for.
        self.plan: Plan | None = plan
        self._bell = Waiter()

    def take(self, plan: Plan) -> None:
        """Do this next. The wire's lock is held."""
        self.plan = plan
        self._bell.wake()

    def wake(self) -> None:
        self._bell.wake()

    def sleep(self) -> bool:
        """Wait to be woken; False: that has not happened for long."""
        return self._bell.sleep(_IDLE_S)

    def run(self) -> None:
        plan, self.plan = self.plan, None
        while plan is not None:
            self._wire.run(plan)
            plan = self._wire.next_for(self)
        self._wire.left()
