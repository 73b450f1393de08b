"""One connection to our own port: its requests, one after the other, and their answers.

The pump reads and calls the endpoint; an answer is written by whatever thread gives it, and
only what the system does not take at once is left to the pump. Everything happens under the
connection's lock, except the calls of the endpoint: so the pump works in *steps*, each of
which ends with a call to be made without the lock, until there is nothing more to do.

    HEAD  -> BODY     a head is here: the endpoint is asked
    BODY  -> WHOLE    the body is here
    WHOLE -> HEAD     the answer was given and taken
    any   -> LINGER   the last answer was given and taken: our output is ended, and input is
                      dropped until the peer ends its own
    any   -> CLOSED

A peer that ends its output behind a request (`nc`, HTTP/1.0) cannot be told from one that
has closed: it gets what is answered within a moment, and then counts as gone. While its
input is not read (paused, or more of it than is kept behind a parked request), only a reset
is noticed; its end is when reading goes on.
"""

from __future__ import annotations

import enum
import logging
import math
import select
import socket
import struct
import threading
from typing import TYPE_CHECKING, Any, Final

import h11

from compoint.deadline import clock
from compoint.http._exchange import IGNORE, Taker, problem
from compoint.http._heads import whole_answer
from compoint.http._outlet import Unsent, send_now, send_rest
from compoint.http._reader import RequestReader
from compoint.http._served_exchange import ServedExchange, Write
from compoint.http._strict import Fault
from compoint.limits import RECEIVE_BYTES

if TYPE_CHECKING:
    from compoint.http._port import HttpPort

__all__ = ["HttpConnection", "Reading"]

_log = logging.getLogger("compoint.http")

#: What the pump listens for, as a sum.
_INPUT: Final = 1
_OUTPUT: Final = 2

#: A call to be made without the lock, and its arguments.
Step = tuple[Any, ...]

_BEFORE_ANSWER: Final = {h11.IDLE, h11.SEND_RESPONSE}
_NOT_HALF: Final = {*_BEFORE_ANSWER, h11.DONE, h11.MUST_CLOSE}
#: For SO_LINGER: closing throws away what was not sent, and tells the peer so.
_RESET: Final = struct.pack("ii", 1, 0)
_FAILURE: Final = problem(500, "internal", "an internal error; the log has more")


class Reading(enum.Enum):
    """What is read now."""

    HEAD = enum.auto()
    BODY = enum.auto()
    WHOLE = enum.auto()
    LINGER = enum.auto()
    CLOSED = enum.auto()


# Looked up once: that costs more than it seems to.
_HEAD: Final = Reading.HEAD
_BODY: Final = Reading.BODY
_WHOLE: Final = Reading.WHOLE
_LINGER: Final = Reading.LINGER
_CLOSED: Final = Reading.CLOSED


class HttpConnection:
    """One peer. Any thread may call `give`, `pause` and `leave`; the rest is the pump's."""

    __slots__ = (
        "_exchange", "_is_ended", "_is_last", "_is_loopback", "_is_paused", "_is_serving",
        "_lock", "_owes_gone", "_owes_room", "_peer", "_phase", "_port", "_reader", "_socket",
        "_taker", "_unsent", "_watch", "due",
    )  # fmt: skip

    def __init__(self, port: HttpPort, sock: socket.socket, host: str, number: int) -> None:
        self._port = port
        self._socket = sock
        self._peer = f"http://[{host}]:{number}" if ":" in host else f"http://{host}:{number}"
        self._is_loopback = host == "::1" or host.startswith(("127.", "::ffff:127."))
        self._lock = threading.Lock()
        self._phase = _HEAD
        self._reader = RequestReader()
        #: When the peer has been slow for too long. Read by the port without the lock.
        self.due = clock() + port.bounds.head_s
        #: Written and not yet taken by the system.
        self._unsent: Unsent | None = None
        #: The request whose answer is not complete, and who is told of it.
        self._exchange: ServedExchange | None = None
        self._taker: Taker = IGNORE
        self._owes_gone = False
        self._owes_room = False
        self._is_paused = False
        #: The peer has ended its output.
        self._is_ended = False
        #: Nothing more is answered behind the current answer.
        self._is_last = False
        #: The pump is at it, and will look at everything before it leaves.
        self._is_serving = False
        self._watch = 0

    # --- the pump, and the port ---------------------------------------------------------

    def listen(self) -> None:
        """Begin. Called once the port knows the connection."""
        with self._lock:
            self._listen()

    def __call__(self) -> None:
        """The socket is ready, or something was left to do."""
        with self._lock:
            self._is_serving = True
            if self._unsent is not None:
                self._flush()
            self._receive()
        self._serve()

    def on_time(self, now: float) -> None:
        """The peer may have been too slow."""
        with self._lock:
            if now < self.due or self._phase is _CLOSED:
                return
            self._is_serving = True
            if self._unsent is not None or self._phase in {_WHOLE, _LINGER}:
                self._cut()
            elif self._phase is _BODY and self._exchange is not None:
                self._refuse(Fault(408, "too slow", "the body of the request did not come in time"))
            elif self._phase is _HEAD and self._reader:
                self._refuse(Fault(408, "too slow", "the head of the request did not come in time"))
            else:
                self._close()
        self._serve()

    def leave(self) -> None:
        """The port is closed: what is answered now is the last."""
        with self._lock:
            if self._phase is _HEAD:
                self._close()
            elif self._phase is not _CLOSED:
                self._is_last = True
                if self._exchange is None:
                    self._finish()
                self._hand_over()

    def cut(self) -> None:
        """The port is closed, and its patience is over."""
        with self._lock:
            self._is_serving = True
            self._cut()
        self._serve()

    def close_copy(self) -> None:
        """In a child: give back the descriptor and nothing else; the lock may be held."""
        self._phase = _CLOSED
        self._socket.close()

    def _serve(self) -> None:
        """Make step after step until there is nothing to do."""
        while True:
            try:
                with self._lock:
                    step = self._next_step()
                    if step is None:
                        self._is_serving = False
                        self._listen()
                        return
                step[0](*step[1:])
            except Exception:  # noqa: BLE001
                # One request's fault must not stop the others.
                _log.exception("internal error at an HTTP request; please report it")
                with self._lock:
                    self._fail()

    def _next_step(self) -> Step | None:
        if self._owes_gone:
            self._owes_gone = False
            taker, self._taker = self._taker, IGNORE
            return (taker.gone,)
        if self._owes_room and self._unsent is None:
            self._owes_room = False
            return (self._taker.room,)
        try:
            if self._phase is _HEAD:
                return self._read_head()
            if self._phase is _BODY and not self._is_paused:
                return self._read_body()
        except Fault as fault:
            self._refuse(fault)
            return self._next_step()
        return None

    # --- input --------------------------------------------------------------------------

    def _receive(self) -> None:
        if not self._takes_input():
            if not self._watch and self._phase is not _CLOSED and self._is_broken():
                self._cut()
            return
        bounds = self._port.bounds
        most = RECEIVE_BYTES
        if self._phase is _WHOLE:
            most = bounds.early_bytes - len(self._reader)
        try:
            data = self._socket.recv(most)
        except BlockingIOError:
            return
        except OSError:
            self._cut()
            return
        if not data:
            self._is_ended = True
            if self._phase is _LINGER:
                self._close()
            elif self._phase is _WHOLE and self._unsent is None:
                self.due = clock() + bounds.half_closed_s
        elif self._phase is not _LINGER:
            if self._phase is _HEAD and not self._reader:
                self.due = min(self.due, clock() + bounds.head_s)
            self._reader.feed(data)

    def _takes_input(self) -> bool:
        if self._is_ended or self._phase is _CLOSED:
            return False
        if self._phase is _BODY:
            return not self._is_paused
        if self._phase is _WHOLE:
            return len(self._reader) < self._port.bounds.early_bytes
        return True

    def _is_broken(self) -> bool:
        """Whether the pump was woken by a reset, which it tells of all the same."""
        poll = select.poll()
        poll.register(self._socket, 0)
        return bool(poll.poll(0))

    def _read_head(self) -> Step | None:
        bounds = self._port.bounds
        request = self._reader.head(
            self._peer, bounds.head_bytes, bounds.head_lines, is_loopback=self._is_loopback
        )
        if request is None:
            if self._is_ended:
                self._cut()
            return None
        self._phase = _BODY
        self.due = clock() + bounds.body_s
        self._exchange = exchange = ServedExchange(self, request)
        self._port.requests += 1
        return (self._begin, exchange)

    def _begin(self, exchange: ServedExchange) -> None:
        taker = self._port.endpoint.begin(exchange)
        with self._lock:
            if self._exchange is exchange or self._owes_gone:
                self._taker = taker

    def _read_body(self) -> Step | None:
        piece = self._reader.body()
        if piece:
            self._hurry_on(len(piece))
            return (self._taker.piece, piece)
        if piece is not None:
            return self._be_whole()
        http = self._reader.http
        assert http is not None
        if self._is_ended:
            self._cut()
        elif http.they_are_waiting_for_100_continue:
            go_on = h11.InformationalResponse(status_code=100, headers=[], reason=b"Continue")
            self._put([http.send(go_on)])
        else:
            return None
        return self._next_step()

    def _hurry_on(self, size: int) -> None:
        """Bytes of the body have come: the peer has more time."""
        bounds = self._port.bounds
        latest = clock() + bounds.body_s
        if not self._reader.is_chunked:
            latest = min(latest, self.due + size / bounds.body_rate)
        self.due = latest

    def _be_whole(self) -> Step | None:
        self._phase = _WHOLE
        if self._exchange is None:
            self._finish()
            return self._next_step()
        self.due = clock() + self._port.bounds.half_closed_s if self._is_ended else math.inf
        return (self._taker.complete,)

    # --- output -------------------------------------------------------------------------

    def give(self, exchange: ServedExchange, write: Write, *, is_end: bool) -> bool:
        with self._lock:
            try:
                if self._exchange is not exchange:
                    return True
                self._write(write, is_end=is_end)
                return self._unsent is None
            except BaseException:
                self._cut_short()
                raise

    def pause(self, exchange: ServedExchange, *, is_paused: bool) -> None:
        with self._lock:
            try:
                if self._exchange is exchange and self._is_paused is not is_paused:
                    self._pause(is_paused=is_paused)
            except BaseException:
                self._cut_short()
                raise

    def _write(self, write: Write, *, is_end: bool) -> None:
        http = self._h11()
        before = http.our_state
        try:
            parts = write(http, self._must_end() if is_end else self._is_last)
        except (h11.LocalProtocolError, ValueError):
            _log.exception("internal error at an HTTP answer; please report it")
            if before is h11.SEND_RESPONSE:
                self._reader.done()  # its h11 is of no use any more, and nothing was sent
            self._fail()
            self._hand_over()
            return
        if is_end:
            self._settle(parts)
        else:
            self._put(parts)
            self._owes_room = self._exchange is not None and self._unsent is not None
            self._hand_over()

    def _pause(self, *, is_paused: bool) -> None:
        self._is_paused = is_paused
        if self._phase is _BODY:
            if self._unsent is None:
                self.due = math.inf if is_paused else clock() + self._port.bounds.body_s
            self._hand_over(is_more=not is_paused)

    def _h11(self) -> h11.Connection:
        http = self._reader.http
        assert http is not None
        return http

    def _must_end(self) -> bool:
        """Whether an answer given now is the connection's last."""
        if self._is_last or self._phase is _WHOLE:
            return self._is_last
        assert self._exchange is not None
        length = self._exchange.request.headers.get("content-length", "0")
        return (
            self._reader.is_chunked
            or int(length) > self._port.bounds.dropped_bytes
            or self._h11().they_are_waiting_for_100_continue
        )

    def _settle(self, parts: list[bytes]) -> None:
        """The answer is complete with these buffers."""
        is_more = self._is_paused or self._is_ended
        self._is_last = self._must_end() or self._h11().our_state is not h11.DONE
        self._exchange = None
        self._taker = IGNORE
        self._owes_room = False
        self._is_paused = False
        self._put(parts)
        if self._phase is _WHOLE or self._is_last:
            self._finish()
        self._hand_over(is_more=is_more or bool(self._reader))

    def _finish(self) -> None:
        """The answer was given: once it is taken, the next request is read, or none."""
        if self._unsent is not None or self._phase in {_LINGER, _CLOSED}:
            return
        bounds = self._port.bounds
        self._reader.done()
        if not self._is_last:
            self._phase = _HEAD
            self.due = clock() + (bounds.head_s if self._reader else bounds.idle_s)
            return
        self._reader.drop()
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError:
            self._is_ended = True
        if self._is_ended:
            self._close()
        else:
            self._phase = _LINGER
            self.due = clock() + bounds.linger_s

    def _put(self, parts: list[bytes]) -> None:
        if self._unsent is not None:
            self._unsent.extend(map(memoryview, parts))
        elif self._phase is not _CLOSED:
            try:
                self._unsent = send_now(self._socket, parts)
            except OSError:
                self._cut()
            if self._unsent is not None:
                self.due = clock() + self._port.bounds.take_s

    def _flush(self) -> None:
        assert self._unsent is not None
        bounds = self._port.bounds
        try:
            if send_rest(self._socket, self._unsent):
                self.due = clock() + bounds.take_s
        except OSError:
            self._cut()
            return
        if self._unsent:
            return
        self._unsent = None
        if self._exchange is None and (self._phase is _WHOLE or self._is_last):
            self._finish()
        elif self._phase is _BODY:
            self.due = math.inf if self._is_paused else clock() + bounds.body_s
        else:
            self.due = clock() + bounds.half_closed_s if self._is_ended else math.inf

    # --- endings ------------------------------------------------------------------------

    def _refuse(self, fault: Fault) -> None:
        """The peer broke HTTP or was too slow."""
        self._port.count_broken()
        self._end(fault.answer if self._is_answer_due() else None)

    def _fail(self) -> None:
        """An internal error, logged already."""
        is_due = self._exchange is not None and self._is_answer_due()
        self._end(_FAILURE if is_due else None)

    def _is_answer_due(self) -> bool:
        return self._reader.our_state in _BEFORE_ANSWER

    def _end(self, answer: tuple[int, dict[str, str], bytes] | None) -> None:
        """Give this answer, if any, and end the connection."""
        if self._phase in {_LINGER, _CLOSED}:
            return
        is_half = answer is None and self._exchange is not None
        self._lose()
        self._is_last = True
        self._phase = _WHOLE
        self._reader.drop()
        if answer is not None:
            http = self._reader.http or h11.Connection(h11.SERVER)
            self._put(whole_answer(http, *answer, is_head=False, is_last=True))
        elif is_half:
            self._close()
        self._finish()

    def _lose(self) -> None:
        """No answer can be given any more."""
        if self._exchange is not None:
            self._exchange = None
            self._owes_gone = True
            self._owes_room = False
            self._is_paused = False

    def _cut(self) -> None:
        """The peer left or was too slow."""
        if self._exchange is not None or self._unsent is not None or self._reader:
            self._port.count_broken()
        self._lose()
        self._close()

    def _cut_short(self) -> None:
        """Ctrl-C struck the thread at a verb: nobody knows what was sent or noted."""
        self._cut()
        self._hand_over()

    def _close(self) -> None:
        if self._phase is _CLOSED:
            return
        self._phase = _CLOSED
        self.due = math.inf
        if self._unsent is not None or self._reader.our_state not in _NOT_HALF:
            # Half an answer must not look like a whole one, nor wait in the system for a
            # peer that does not take it.
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._unsent = None
        self._reader.done()
        self._reader.drop()
        self._port.pump.forget_descriptor(self._socket.fileno())
        self._socket.close()
        self._port.left(self)

    # --- what is left to the pump -------------------------------------------------------

    def _hand_over(self, *, is_more: bool = False) -> None:
        """A verb is done; what is left to do is the pump's, if it is not at it anyway."""
        if not self._is_serving:
            if is_more or self._owes_gone:
                self._port.pump.soon(self)
            self._listen()

    def _listen(self) -> None:
        if self._phase is _CLOSED:
            return
        waiting = self._exchange if self._phase is _WHOLE else None
        if waiting is not None and waiting.request.method != "HEAD":
            self._reader.rest()
        watch = (_INPUT if self._takes_input() else 0) | (_OUTPUT if self._unsent else 0)
        if watch == self._watch:
            return
        self._watch = watch
        pump = self._port.pump
        fd = self._socket.fileno()
        if watch:
            pump.watch_descriptor(
                fd, self, output=bool(watch & _OUTPUT), input_too=bool(watch & _INPUT)
            )
        else:
            pump.rest_descriptor(fd)
