"""One connection to our own port: its requests, one after the other, and their answers.

The pump reads and calls the endpoint; an answer is written by whatever thread gives it, and
only what the system does not take at once is left to the pump. Everything happens under the
connection's lock, except the calls of the endpoint: so the pump works in *steps*, each of
which ends with a call to be made without the lock, until there is nothing more to do.

A request has its own h11 connection, given a checked head and then the body. What was read
beyond the body waits here, as input of the next request; an idle connection costs little.

    HEAD  -> BODY     a head is here: the endpoint is asked
    BODY  -> WHOLE    the body is here
    WHOLE -> HEAD     the answer was given and taken
    any   -> LINGER   the last answer was given and taken: our output is ended, and input is
                      dropped until the peer ends its own
    any   -> CLOSED

A peer that ends its output behind a request (`nc`, HTTP/1.0) cannot be told from one that
has closed: it gets what is answered within a moment, and then counts as gone.
"""

from __future__ import annotations

import enum
import logging
import math
import select
import socket
import threading
from collections import deque
from typing import TYPE_CHECKING, Any, Final

import h11

from compoint.deadline import clock
from compoint.http._exchange import IGNORE, Exchange, Fields, Request, Taker, problem
from compoint.http._heads import begun_answer, read_request, whole_answer
from compoint.http._strict import ChunkGate, Fault, head_end
from compoint.limits import RECEIVE_BYTES

if TYPE_CHECKING:
    from compoint.http._port import HttpPort

__all__ = ["HttpConnection"]

_log = logging.getLogger("compoint.http")

#: Buffers that are longer together are handed to the system without joining them.
_JOIN_BYTES: Final = 32 * 1024
#: How often output is tried while the pump must not listen: it cannot be asked for room
#: alone, and unread input (or the end of it) would keep it awake.
_TRY_S: Final = 0.01

#: What the pump listens for, as a sum.
_INPUT: Final = 1
_OUTPUT: Final = 2

#: A call to be made without the lock, and its arguments.
Step = tuple[Any, ...]


class Phase(enum.Enum):
    """What is read now."""

    HEAD = enum.auto()
    BODY = enum.auto()
    WHOLE = enum.auto()
    LINGER = enum.auto()
    CLOSED = enum.auto()


_BEFORE_ANSWER: Final = {h11.IDLE, h11.SEND_RESPONSE}
_FAILURE: Final = problem(500, "internal", "an internal error; the log has more")


class _Served(Exchange):
    """The verbs of one request; they do nothing once it is no more its connection's."""

    __slots__ = ("_connection", "request")

    def __init__(self, connection: HttpConnection, request: Request) -> None:
        self._connection = connection
        self.request = request

    def answer(self, status: int, headers: Fields, body: bytes = b"") -> None:
        self._connection.answer(self, status, headers, body)

    def start(self, status: int, headers: Fields) -> None:
        self._connection.start(self, status, headers)

    def send(self, data: bytes) -> bool:
        return self._connection.send(self, data)

    def end(self) -> None:
        self._connection.end(self)

    def pause(self) -> None:
        self._connection.pause(self, is_paused=True)

    def resume(self) -> None:
        self._connection.pause(self, is_paused=False)


class HttpConnection:
    """One peer. The verbs of an exchange may be called by any thread, all else by the pump."""

    __slots__ = (
        "_exchange", "_gate", "_http", "_input", "_is_ended", "_is_last", "_is_loopback",
        "_is_paused", "_is_serving", "_lock", "_looked", "_owes_gone", "_owes_room", "_peer",
        "_phase", "_port", "_socket", "_taker", "_unsent", "_watch", "due",
    )  # fmt: skip

    def __init__(self, port: HttpPort, sock: socket.socket, host: str, number: int) -> None:
        self._port = port
        self._socket = sock
        self._peer = f"http://[{host}]:{number}" if ":" in host else f"http://{host}:{number}"
        self._is_loopback = host == "::1" or host.startswith(("127.", "::ffff:127."))
        self._lock = threading.Lock()
        self._phase = Phase.HEAD
        self._watch = 0
        #: When the peer has been slow for too long. Read by the port without the lock.
        self.due = clock() + port.bounds.head_s
        #: Read and not yet given to h11, and how much of it is known to hold no whole head.
        self._input = b""
        self._looked = 0
        #: Written and not yet taken by the system.
        self._unsent: deque[memoryview] | None = None
        self._http: h11.Connection | None = None
        self._gate: ChunkGate | None = None
        #: The request whose answer is not complete, and who is told of it.
        self._exchange: _Served | None = None
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

    # --- the pump -----------------------------------------------------------------------

    def __call__(self) -> None:
        """The socket is ready, or something was left to do."""
        with self._lock:
            self._is_serving = True
            if self._unsent is not None:
                self._flush()
            self._receive()
        self._serve()

    def listen(self) -> None:
        """Begin. Called by the port once it knows the connection."""
        with self._lock:
            self._listen()

    def on_time(self, now: float) -> None:
        """The peer may have been too slow."""
        with self._lock:
            if now < self.due or self._phase is Phase.CLOSED:
                return
            self._is_serving = True
            if self._unsent is not None or self._phase in {Phase.WHOLE, Phase.LINGER}:
                self._cut()
            elif self._phase is Phase.BODY and self._exchange is not None:
                self._refuse(Fault(408, "too slow", "the body of the request did not come in time"))
            elif self._phase is Phase.HEAD and self._input:
                self._refuse(Fault(408, "too slow", "the head of the request did not come in time"))
            else:
                self._close()
        self._serve()

    def leave(self) -> None:
        """The port is closed: what is answered now is the last. Called by any thread."""
        with self._lock:
            if self._phase is Phase.HEAD:
                self._close()
            elif self._phase is not Phase.CLOSED:
                self._is_last = True
                if self._exchange is None:
                    self._finish()
                self._hand_over()

    def cut(self) -> None:
        """The port is closed, and its patience over."""
        with self._lock:
            self._is_serving = True
            if self._phase is not Phase.CLOSED:
                self._cut()
        self._serve()

    def close_copy(self) -> None:
        """In a child: nothing but the descriptor is given back; the lock may be held for ever."""
        self._phase = Phase.CLOSED
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
            except Exception:
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
        if self._phase is Phase.HEAD:
            return self._read_head()
        if self._phase is Phase.BODY and not self._is_paused:
            return self._read_body()
        return None

    # --- input --------------------------------------------------------------------------

    def _receive(self) -> None:
        if not self._takes_input():
            if not self._watch and self._phase is not Phase.CLOSED and self._is_broken():
                self._cut()
            return
        most = RECEIVE_BYTES
        if self._phase is Phase.WHOLE:
            most = self._port.bounds.early_bytes - len(self._input)
        try:
            data = self._socket.recv(most)
        except BlockingIOError:
            return
        except OSError:
            self._cut()
            return
        if not data:
            self._is_ended = True
            if self._phase is Phase.LINGER:
                self._close()
            elif self._phase is Phase.WHOLE and self._unsent is None:
                self.due = clock() + self._port.bounds.half_closed_s
        elif self._phase is not Phase.LINGER:
            if self._phase is Phase.HEAD and not self._input:
                self.due = min(self.due, clock() + self._port.bounds.head_s)
            self._input += data

    def _takes_input(self) -> bool:
        if self._is_ended or self._phase is Phase.CLOSED:
            return False
        if self._phase is Phase.BODY:
            return not self._is_paused
        if self._phase is Phase.WHOLE:
            return len(self._input) < self._port.bounds.early_bytes
        return True

    def _is_broken(self) -> bool:
        """Whether the pump was woken by a reset, which it tells of all the same."""
        poll = select.poll()
        poll.register(self._socket, 0)
        return bool(poll.poll(0))

    def _read_head(self) -> Step | None:
        bounds = self._port.bounds
        data = self._input
        while data.startswith(b"\r\n"):  # RFC 9112 §2.2
            data = self._input = data[2:]
            self._looked = 0
        end = 0
        try:
            if data:
                end = head_end(data, self._looked, bounds.head_bytes, bounds.head_lines)
                self._looked = len(data)
            if not end:
                if self._is_ended:
                    self._close()
                return None
            self._http = h11.Connection(h11.SERVER, bounds.head_bytes)
            request = read_request(
                self._http, data[:end], self._peer, is_loopback=self._is_loopback
            )  # fmt: skip
        except Fault as fault:
            self._refuse(fault)
            return None
        self._input = data[end:]
        self._looked = 0
        self._phase = Phase.BODY
        self.due = clock() + bounds.body_s
        if "transfer-encoding" in request.headers:
            self._gate = ChunkGate()
        self._exchange = exchange = _Served(self, request)
        self._port.requests += 1
        return (self._begin, exchange)

    def _begin(self, exchange: _Served) -> None:
        taker = self._port.endpoint.begin(exchange)
        with self._lock:
            if self._exchange is exchange or self._owes_gone:
                self._taker = taker

    def _read_body(self) -> Step | None:
        assert self._http is not None
        http = self._http
        try:
            while True:
                event = http.next_event()
                if type(event) is h11.Data:
                    self._hurry_on(len(event.data))
                    if self._exchange is not None:
                        return (self._taker.piece, bytes(event.data))
                elif type(event) is h11.EndOfMessage:
                    return self._be_whole()
                elif self._input:
                    data, self._input = self._input, b""
                    if self._gate is not None:
                        self._gate.check(data)
                    http.receive_data(data)
                else:
                    break
        except Fault as fault:
            self._refuse(fault)
        except h11.RemoteProtocolError as error:
            self._refuse(Fault(400, "bad request", str(error).partition(":")[0]))
        else:
            if self._is_ended:
                self._cut()
            elif http.they_are_waiting_for_100_continue:
                go_on = h11.InformationalResponse(status_code=100, headers=[], reason=b"Continue")
                self._put([http.send(go_on)])
            else:
                return None
        return self._next_step()  # the Taker may have to be told

    def _hurry_on(self, size: int) -> None:
        """Bytes of the body have come: the peer has more time."""
        bounds = self._port.bounds
        latest = clock() + bounds.body_s
        if self._gate is None:
            latest = min(latest, self.due + size / bounds.body_rate)
        self.due = latest

    def _be_whole(self) -> Step | None:
        assert self._http is not None
        # Pipelined requests may have been given to h11 with the end of the body.
        self._input = self._http.trailing_data[0] + self._input
        self._phase = Phase.WHOLE
        if self._exchange is None:
            self._finish()
            return self._next_step()
        self.due = clock() + self._port.bounds.half_closed_s if self._is_ended else math.inf
        return (self._taker.complete,)

    # --- the verbs of an exchange -------------------------------------------------------

    def answer(self, exchange: _Served, status: int, headers: Fields, body: bytes) -> None:
        with self._lock:
            if self._exchange is not exchange:
                return
            assert self._http is not None
            before = self._http.our_state
            try:
                parts = whole_answer(
                    self._http, status, headers, body,
                    is_head=exchange.request.method == "HEAD", is_last=self._must_end(),
                )  # fmt: skip
            except (h11.LocalProtocolError, ValueError):
                self._fail_answer(before)
            else:
                self._settle(parts)

    def start(self, exchange: _Served, status: int, headers: Fields) -> None:
        with self._lock:
            if self._exchange is not exchange:
                return
            assert self._http is not None
            before = self._http.our_state
            try:
                self._put(begun_answer(self._http, status, headers, is_last=self._is_last))
            except (h11.LocalProtocolError, ValueError):
                self._fail_answer(before)
            self._hand_over()

    def send(self, exchange: _Served, data: bytes) -> bool:
        with self._lock:
            if self._exchange is not exchange:
                return True
            assert self._http is not None
            if exchange.request.method == "HEAD":
                return True
            try:
                self._put(self._http.send_with_data_passthrough(h11.Data(data)) or [])
            except h11.LocalProtocolError:
                self._fail_answer(self._http.our_state)
            self._owes_room = self._exchange is exchange and self._unsent is not None
            self._hand_over()
            return not self._owes_room

    def end(self, exchange: _Served) -> None:
        with self._lock:
            if self._exchange is not exchange:
                return
            assert self._http is not None
            try:
                last = self._http.send(h11.EndOfMessage())
            except h11.LocalProtocolError:
                self._fail_answer(self._http.our_state)
            else:
                self._settle([last] if last else [])

    def pause(self, exchange: _Served, *, is_paused: bool) -> None:
        with self._lock:
            if self._exchange is not exchange or self._is_paused is is_paused:
                return
            self._is_paused = is_paused
            if self._phase is Phase.BODY:
                if self._unsent is None:
                    self.due = math.inf if is_paused else clock() + self._port.bounds.body_s
                self._hand_over(is_more=not is_paused)

    # --- output -------------------------------------------------------------------------

    def _must_end(self) -> bool:
        """Whether an answer given now is the connection's last."""
        if self._is_last or self._phase is Phase.WHOLE:
            return self._is_last
        assert self._exchange is not None
        assert self._http is not None
        length = self._exchange.request.headers.get("content-length", "0")
        return (
            self._gate is not None
            or int(length) > self._port.bounds.dropped_bytes
            or self._http.they_are_waiting_for_100_continue
        )

    def _settle(self, parts: list[bytes]) -> None:
        """The answer is complete with these buffers."""
        assert self._http is not None
        is_more = self._is_paused or self._is_ended
        self._is_last = self._must_end() or self._http.our_state is not h11.DONE
        self._exchange = None
        self._taker = IGNORE
        self._owes_room = False
        self._is_paused = False
        self._put(parts)
        if self._phase is Phase.WHOLE or self._is_last:
            self._finish()
        self._hand_over(is_more=is_more or bool(self._input))

    def _finish(self) -> None:
        """The answer was given: when it is taken, the next request is read, or none."""
        if self._unsent is not None or self._phase in {Phase.LINGER, Phase.CLOSED}:
            return
        self._http = None
        self._gate = None
        bounds = self._port.bounds
        if not self._is_last:
            self._phase = Phase.HEAD
            self.due = clock() + (bounds.head_s if self._input else bounds.idle_s)
            return
        self._input = b""
        if self._is_ended:
            self._close()
            return
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError:
            self._close()
            return
        self._phase = Phase.LINGER
        self.due = clock() + bounds.linger_s

    def _put(self, parts: list[bytes]) -> None:
        """Send this, or keep what the system does not take."""
        if self._unsent is not None:
            self._unsent.extend(map(memoryview, parts))
            return
        size = sum(map(len, parts))
        if not size or self._phase is Phase.CLOSED:
            return
        try:
            if len(parts) == 1 or size <= _JOIN_BYTES:
                parts = [b"".join(parts)]
                sent = self._socket.send(parts[0])
            else:
                sent = self._socket.sendmsg(parts)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._cut()
            return
        if sent < size:
            self._unsent = deque()
            for part in parts:
                if sent < len(part):
                    self._unsent.append(memoryview(part)[sent:])
                sent = max(0, sent - len(part))
            self.due = clock() + self._port.bounds.take_s

    def _flush(self) -> None:
        unsent = self._unsent
        assert unsent is not None
        try:
            while unsent:
                sent = self._socket.send(unsent[0])
                self.due = clock() + self._port.bounds.take_s
                if sent < len(unsent[0]):
                    unsent[0] = unsent[0][sent:]
                    return
                unsent.popleft()
        except BlockingIOError:
            return
        except OSError:
            self._cut()
            return
        self._unsent = None
        bounds = self._port.bounds
        if self._exchange is None and (self._phase is Phase.WHOLE or self._is_last):
            self._finish()
        elif self._phase is Phase.BODY:
            self.due = math.inf if self._is_paused else clock() + bounds.body_s
        else:
            self.due = clock() + bounds.half_closed_s if self._is_ended else math.inf

    # --- endings ------------------------------------------------------------------------

    def _refuse(self, fault: Fault) -> None:
        """The peer broke HTTP or was too slow."""
        self._port.count_broken()
        http = self._http
        is_due = http is None or http.our_state in _BEFORE_ANSWER
        self._end(fault.answer if is_due else None)

    def _fail(self) -> None:
        """An internal error, logged already."""
        http = self._http
        is_due = http is None or http.our_state in _BEFORE_ANSWER
        self._end(_FAILURE if is_due and self._exchange is not None else None)

    def _fail_answer(self, before: object) -> None:
        """The endpoint gave an answer that cannot be written; before that, h11 stood there."""
        _log.exception("internal error at an HTTP answer; please report it")
        if before is h11.SEND_RESPONSE:
            self._http = None  # it is of no use any more, and nothing was sent
        self._fail()
        self._hand_over()

    def _end(self, answer: tuple[int, dict[str, str], bytes] | None) -> None:
        """Give this answer, if any, and end the connection."""
        if self._phase in {Phase.LINGER, Phase.CLOSED}:
            return
        is_half = answer is None and self._exchange is not None
        self._lose()
        self._is_last = True
        self._phase = Phase.WHOLE
        self._input = b""
        if answer is not None:
            http = self._http or h11.Connection(h11.SERVER)
            self._put(whole_answer(http, *answer, is_head=False, is_last=True))
        elif is_half:
            self._close()  # half an answer must not look like a whole one
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
        if self._exchange is not None or self._unsent is not None or self._input:
            self._port.count_broken()
        self._lose()
        self._close()

    def _close(self) -> None:
        if self._phase is Phase.CLOSED:
            return
        self._phase = Phase.CLOSED
        self.due = math.inf
        self._input = b""
        self._unsent = None
        self._http = None
        self._gate = None
        self._port.pump.forget_descriptor(self._socket.fileno())
        self._socket.close()
        self._port.left(self)

    # --- what the pump listens for ------------------------------------------------------

    def _hand_over(self, *, is_more: bool = False) -> None:
        """A verb is done; what is left to do is the pump's, if it is not at it anyway."""
        if not self._is_serving:
            if is_more or self._owes_gone:
                self._port.pump.soon(self)
            self._listen()

    def _listen(self) -> None:
        if self._phase is Phase.CLOSED:
            return
        watch = (_INPUT if self._takes_input() else 0) | (_OUTPUT if self._unsent else 0)
        if watch == self._watch:
            return
        self._watch = watch
        pump = self._port.pump
        if watch & _INPUT:
            pump.watch_descriptor(self._socket.fileno(), self, output=bool(watch & _OUTPUT))
        else:
            pump.rest_descriptor(self._socket.fileno())
            if watch & _OUTPUT:
                pump.call_at(clock() + _TRY_S, self._try_output)

    def _try_output(self) -> float | None:
        self()
        return clock() + _TRY_S if self._watch == _OUTPUT and self._unsent else None
