"""One initiator's session on the server: a wire whose bytes come and go by HTTP requests.

Requests arrive on the pump (or on a thread of somebody's web server) and leave their turns
here; the server's threads write, and the request that waits is answered by the thread that
wrote. The decisions are `ResponderTurns`'; here are the lock, the waiting and the clock.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from typing import Final

from compoint.core.turns import Turn, TurnError, TurnReader
from compoint.core.turns_responder import ResponderTurns
from compoint.deadline import clock
from compoint.http._exchange import Exchange, answer_problem
from compoint.http._wire import TurnsWire
from compoint.http._words import TURNS_TYPE, Ask
from compoint.limits import (
    SESSION_GRACE_S,
    SESSION_LAST_S,
    SESSION_LINGER_S,
    STREAM_SIGN_S,
    TURN_BYTES,
    TURNS_UNTAKEN_BYTES,
)

__all__ = ["HttpSession"]

_HEADERS: Final = {"content-type": TURNS_TYPE, "cache-control": "no-store, no-transform"}
#: nginx holds an answer back until it is whole unless it is told not to; haproxy holds small
#: chunks back, and none are needed by an answer that ends with its connection.
_STREAM_HEADERS: Final = {**_HEADERS, "x-accel-buffering": "no", "connection": "close"}


class HttpSession(TurnsWire[ResponderTurns[Exchange]]):
    """The responder's end; made by the endpoint for a request that opens a session."""

    finds_path = True

    __slots__ = (
        "_hear_by", "_held", "_paused", "_poll_by", "_sign_at", "_when_closed", "is_local", "key",
        "peer", "tick",
    )  # fmt: skip

    def __init__(
        self, key: str, peer: str, when_closed: Callable[[HttpSession], None], *, is_local: bool
    ) -> None:
        super().__init__(ResponderTurns())
        self.key = key
        self._when_closed = when_closed
        #: When the endpoint looks at it next.
        self.tick = 0
        self.peer = peer
        self.is_local = is_local
        #: Requests that are not answered, or not read on, until what came is taken.
        self._held: tuple[Exchange, ...] = ()
        self._paused: Exchange | None = None
        #: The answer to the poll, the next sign of a stream, and the end if nothing comes.
        self._poll_by = self._sign_at = 0.0
        self._hear_by = clock() + SESSION_GRACE_S

    # --- requests -------------------------------------------------------------------------

    def ask(self, ask: Ask, wait_s: float, exchange: Exchange, body: bytes) -> None:
        """A request of this session, whole."""
        reader = TurnReader()
        with self._lock:
            if not self._may_take(exchange):
                return
            now = clock()
            self._hear_by = now + wait_s + SESSION_GRACE_S
            try:
                turns = reader.feed(body)
                if len(turns) != 1 or not reader.is_empty:
                    raise TurnError("a request says exactly one turn")  # noqa: TRY301
                self._hear(turns[0])
            except TurnError as fault:
                self._break(fault, exchange)
            else:
                self._answer(ask, turns[0], exchange, now, wait_s)
            self._perform()
        self._arrivals.tell()

    def _may_take(self, exchange: Exchange) -> bool:
        if self._arrivals.size > TURNS_UNTAKEN_BYTES + TURN_BYTES:
            # An initiator in good order waits for the answer that is held back.
            text = f"{self._arrivals.size} bytes of this session have not been taken yet"
            answer_problem(exchange, 503, "busy", text, retry_after_s=1.0)
            return False
        return True

    def _answer(self, ask: Ask, turn: Turn, exchange: Exchange, now: float, wait_s: float) -> None:
        if ask is Ask.POLL:
            self._poll_by = now + wait_s
            self._turns.wait(exchange, turn.have)
        elif ask is Ask.STREAM:
            self._sign_at = now + STREAM_SIGN_S
            exchange.start(200, _STREAM_HEADERS)
            self._turns.open_stream(exchange, turn.have)
        elif self._arrivals.size > TURNS_UNTAKEN_BYTES:
            self._held += (exchange,)
        else:
            self._turns.answer_write(exchange)

    def hear(self, turns: list[Turn], exchange: Exchange) -> None:
        """Turns of an upstream."""
        with self._lock:
            self._hear_by = clock() + SESSION_GRACE_S + STREAM_SIGN_S
            try:
                for turn in turns:
                    self._hear(turn)
            except TurnError as fault:
                self._break(fault, exchange)
            if self._arrivals.size > TURNS_UNTAKEN_BYTES:
                self._paused = exchange
                exchange.pause()
            self._perform()
        self._arrivals.tell()

    def end_upstream(self, exchange: Exchange, fault: TurnError | None = None) -> None:
        """An upstream has ended, in good order or with something that is no turn."""
        with self._lock:
            if fault is not None:
                self._break(fault, exchange)
            else:
                self._turns.answer_write(exchange)
            self._perform()
        self._arrivals.tell()

    def gone(self, exchange: Exchange) -> None:
        """The peer of a request has left without its answer."""
        with self._lock:
            self._turns.forget(exchange)
            self._held = tuple(one for one in self._held if one is not exchange)
            if self._paused is exchange:
                self._paused = None

    def room(self, exchange: Exchange) -> None:
        """The stream's peer has taken what was said."""
        with self._lock:
            if self._turns.stream is exchange:
                self._turns.set_full(is_full=False)
                self._perform()
            has_room = self._wants_room and self._turns.room > 0
        if has_room:
            self._arrivals.tell()

    def _hear(self, turn: Turn) -> None:
        new = self._turns.hear(turn)
        if new and not self._is_closed:
            self._arrivals.put(new)

    def _break(self, fault: TurnError, exchange: Exchange) -> None:
        answer_problem(exchange, 409, "broken session", str(fault), hint="open a new session")
        self._cut(OSError(errno.EPROTO, f"the initiator broke the rules: {fault}"))

    def _cut(self, fault: OSError) -> None:
        if self._fault is None:
            self._fault = fault
            self._turns.say_end()

    def _perform(self) -> None:
        """Give the replies out. Lock held."""
        turns = self._turns
        if self._is_closed:
            linger_s = SESSION_LAST_S if turns.has_end else SESSION_LINGER_S
            self._hear_by = min(self._hear_by, clock() + linger_s)
        if turns.is_over:
            turns.release()
            turns.end_stream()
        while replies := turns.take_replies():
            for exchange, turn, is_last in replies:
                if turn is None:
                    exchange.end()
                elif is_last:
                    exchange.answer(200, _HEADERS, turn.encode())
                else:
                    self._sign_at = clock() + STREAM_SIGN_S
                    if not exchange.send(turn.encode()):
                        turns.set_full(is_full=True)
            if turns.has_more:
                turns.set_full(is_full=False)

    # --- time -----------------------------------------------------------------------------

    @property
    def due(self) -> float:
        """When `on_time` has something to do, if nothing happens until then."""
        turns = self._turns
        due = self._hear_by
        if turns.poll is not None:
            due = min(due, self._poll_by)
        if turns.stream is not None:
            due = min(due, self._sign_at)
        return due

    @property
    def is_over(self) -> bool:
        """Nothing will be said any more, here or there."""
        return self._turns.is_over or (self._is_closed and self._fault is not None)

    def on_time(self, now: float) -> None:
        """Answer the poll, show that the stream lives, or give the initiator up."""
        with self._lock:
            if self._turns.poll is not None and now >= self._poll_by:
                self._turns.release()
            if self._turns.stream is not None and now >= self._sign_at:
                self._turns.show_life()
            if now >= self._hear_by:
                self._cut(OSError(errno.ETIMEDOUT, "no request of the initiator has come"))
            self._perform()
            is_cut = self._fault is not None
        if is_cut:
            self._arrivals.tell()

    # --- the wire -------------------------------------------------------------------------

    @property
    def peer_session(self) -> bytes:
        return bytes.fromhex(self.key)

    def send_many(self, buffers: Sequence[bytes | memoryview], /) -> int:
        with self._lock:
            if self._fault is not None:
                raise self._fault
            turns = self._turns
            if self._is_closed or turns.has_end:
                raise BrokenPipeError(errno.EPIPE, "the initiator has ended the session")
            sent = turns.say(*buffers)
            self._wants_room = not turns.room
            self._perform()
        if not sent:
            raise BlockingIOError
        return sent

    @property
    def _has_end(self) -> bool:
        return self._turns.has_end or self._turns.is_end_acked

    def _note_room(self) -> None:
        if self._arrivals.size <= TURNS_UNTAKEN_BYTES and (self._held or self._paused):
            self._go_on()

    def _go_on(self) -> None:
        held, self._held = self._held, ()
        for exchange in held:
            self._turns.answer_write(exchange)
        paused, self._paused = self._paused, None
        if paused is not None:
            paused.resume()
        self._perform()

    def end_output(self) -> bool:
        with self._lock:
            self._turns.say_end()
            self._perform()
            # The last words are fetched by the initiator's next request.
            return not self._turns.is_end_acked

    def close(self) -> None:
        with self._lock:
            self._is_closed = True
            self._arrivals.when_ready = None
            self._arrivals.drop()
            self._turns.say_end()
            self._go_on()
        self._arrivals.wake()
        # It may be over by this, and is to end sooner in any case.
        self._when_closed(self)

    def close_copy(self) -> None:
        # The lock may have been held by a thread that does not exist in this child.
        self._is_closed = True
