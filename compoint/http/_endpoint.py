"""What serves the requests of one port, or of one mount: finds places and sessions.

A *place* is a listening server, found by the path of a request. A request of our own
initiators belongs to a session; any other is the gateway's business.
"""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from compoint.core.turns import TurnError, TurnReader
from compoint.deadline import clock
from compoint.drive.arrivals import ArrivalsListener
from compoint.drive.wire import Wire
from compoint.errors import BusyError, Phase
from compoint.http._exchange import (
    IGNORE,
    Exchange,
    Request,
    Taker,
    WholeBody,
    answer_problem,
)
from compoint.http._gateway import Gateway
from compoint.http._session import HttpSession
from compoint.http._words import ASK, OPEN, SESSION, TURNS_TYPE, WAIT, Ask
from compoint.limits import (
    POLL_S,
    SESSION_REMEMBERED_S,
    SESSIONS,
    SESSIONS_REMEMBERED,
    TURN_BYTES,
)

if TYPE_CHECKING:
    from compoint.address import ComPointAddress
    from compoint.drive.pump import Pump

__all__ = ["HttpEndpoint", "HttpListener"]

_KEY: Final = re.compile(r"[0-9a-f]{32}")
_SECONDS: Final = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")
#: A turn with its head.
_BODY_BYTES: Final = TURN_BYTES + 64
#: How exactly times are kept.
_TICK_S: Final = 0.5
#: An initiator's word on how long it waits is taken up to here.
_WAIT_MOST_S: Final = 2 * POLL_S
#: What is kept of the head of a request that waits for its answer: of thousands, one.
_WAITING: Final = Request("POST", "", {}, {}, peer="", is_local=False)


class HttpListener(ArrivalsListener[Wire]):
    """A place: where the initiators of one path arrive."""

    def __init__(self, address: ComPointAddress, endpoint: HttpEndpoint) -> None:
        super().__init__(address)
        self.since = clock()
        self._endpoint = endpoint

    def arrive(self, one: Wire) -> bool:
        return not self._is_closed and super().arrive(one)

    def _wire_of(self, one: Wire) -> Wire:
        return one

    def _send_away(self, one: Wire) -> None:
        one.close()

    def _withdraw(self) -> None:
        self._endpoint.remove(self)


class HttpEndpoint:
    """Places and sessions. Any thread may call any verb."""

    def __init__(self, pump: Pump, when_empty: Callable[[], None]) -> None:
        self._pump = pump
        self._when_empty = when_empty
        self._lock = threading.Lock()
        self._places: dict[str, HttpListener] = {}
        self._sessions: dict[str, HttpSession] = {}
        #: Sessions that have ended, and until when that is remembered.
        self._ended: OrderedDict[str, float] = OrderedDict()
        #: Sessions by the tick at which they are looked at next.
        self._ticks: dict[int, list[HttpSession]] = {}
        self._tick = self._tick_of(clock())
        self._timer = 0
        # Bound once for all sessions.
        self._when_closed = self._closed
        self.gateway = Gateway(when_empty=self._look_if_empty)

    # --- places -----------------------------------------------------------------------------

    def add(self, address: ComPointAddress) -> HttpListener:
        """A place for this path.

        Raises:
            BusyError: there is one already.
        """
        with self._lock:
            if address.path in self._places:
                raise BusyError(
                    "this program serves this path already", point=str(address),
                    phase=Phase.OPEN, hint="close that server or take another path or port",
                )  # fmt: skip
            place = HttpListener(address, self)
            self._places[address.path] = place
            if not self._timer:
                self._timer = self._pump.call_at(clock() + _TICK_S, self._on_tick)
        return place

    def remove(self, place: HttpListener) -> None:
        with self._lock:
            if self._places.get(place.address.path) is place:
                del self._places[place.address.path]
        self.gateway.leave(place)
        self._look_if_empty()

    def close(self) -> None:
        """Nobody is served here any more."""
        self._pump.cancel(self._timer)
        self.gateway.close()

    @property
    def is_empty(self) -> bool:
        """Nobody is served here any more."""
        return not (self._places or self._sessions) and self.gateway.is_empty

    def _look_if_empty(self) -> None:
        if self.is_empty:
            self._pump.cancel(self._timer)
            self._timer = 0
            self._when_empty()

    def _place_of(self, path: str) -> HttpListener | None:
        return self._places.get(path) or self._places.get("")

    # --- requests -----------------------------------------------------------------------------

    def begin(self, exchange: Exchange) -> Taker:
        request = exchange.request
        if request.headers.get("content-type") == TURNS_TYPE:
            return self._begin_turns(exchange)
        return self.gateway.begin(exchange, self._place_of(request.path))

    def _begin_turns(self, exchange: Exchange) -> Taker:
        headers = exchange.request.headers
        try:
            key = _checked(SESSION, headers.get(SESSION, ""), _KEY)
            ask = Ask(headers.get(ASK, ""))
            wait_s = min(float(_checked(WAIT, headers.get(WAIT, ""), _SECONDS)), _WAIT_MOST_S)
            age_s = float(_checked(OPEN, headers[OPEN], _SECONDS)) if OPEN in headers else None
        except ValueError as fault:
            answer_problem(exchange, 400, "bad request", f"a head that is not right: {fault}")
            return IGNORE
        if exchange.request.method != "POST":
            answer_problem(
                exchange, 405, "bad request", "turns are posted", headers={"allow": "POST"}
            )
            return IGNORE
        if ask in {Ask.STREAM, Ask.UPSTREAM} and not exchange.can_stream:
            answer_problem(exchange, 501, "no streams", "this server does not pass streams")
            return IGNORE
        session = self._session_of(exchange, key, age_s)
        if session is None:
            return IGNORE
        if ask is Ask.UPSTREAM:
            return _Upstream(self, session, exchange)
        return self._whole(session, exchange, ask, wait_s)

    def _whole(self, session: HttpSession, exchange: Exchange, ask: Ask, wait_s: float) -> Taker:
        def take(body: bytes) -> None:
            exchange.request = _WAITING
            session.ask(ask, wait_s, exchange, body)
            self.note(session)

        return _Asked(session, exchange, WholeBody(exchange, _BODY_BYTES, take))

    def _session_of(self, exchange: Exchange, key: str, age_s: float | None) -> HttpSession | None:
        session = self._sessions.get(key)
        if session is not None:
            return session
        if key in self._ended:
            answer_problem(exchange, 410, "over", "this session has ended")
        elif age_s is None:
            answer_problem(
                exchange, 410, "no such session", "this session is not known here",
                hint="the server was started anew, or the way leads to another one",
            )  # fmt: skip
        else:
            return self._open(exchange, key, age_s)
        return None

    def _open(self, exchange: Exchange, key: str, age_s: float) -> HttpSession | None:
        request = exchange.request
        place = self._place_of(request.path)
        if place is None:
            _answer_no_place(exchange)
            return None
        if age_s and age_s >= clock() - place.since:
            # Its first request may have reached the one who served here before.
            text = "this session is older than the server"
            answer_problem(exchange, 410, "no such session", text, hint="open a new session")
            return None
        session = HttpSession(key, request.peer, self._when_closed, is_local=request.is_local)
        with self._lock:
            is_full = len(self._sessions) >= SESSIONS
            if not is_full:
                if key in self._sessions:
                    return self._sessions[key]
                self._sessions[key] = session
                self._watch(session)
        if is_full or not place.arrive(session):
            self._forget(session)
            text = "too many initiators are here"
            answer_problem(exchange, 503, "busy", text, retry_after_s=1.0)
            return None
        return session

    def _forget(self, session: HttpSession) -> None:
        """This session is over. A late repeat of its first request finds that out."""
        with self._lock:
            if self._sessions.get(session.key) is session:
                del self._sessions[session.key]
                self._ended[session.key] = clock() + SESSION_REMEMBERED_S
                if len(self._ended) > SESSIONS_REMEMBERED:
                    self._ended.popitem(last=False)
        self._look_if_empty()

    def _closed(self, session: HttpSession) -> None:
        # Its driver's lock may be held here.
        self._pump.soon(lambda: self.note(session))

    def note(self, session: HttpSession) -> None:
        """A request of this session has been dealt with, or its program has closed it."""
        if session.is_over:
            self._forget(session)
        elif self._tick_of(session.due) < session.tick:
            with self._lock:
                self._watch(session)

    # --- time ---------------------------------------------------------------------------------

    def _tick_of(self, time_s: float) -> int:
        return int(time_s / _TICK_S) + 1

    def _watch(self, session: HttpSession) -> None:
        """Look at it when it is due; an earlier look takes the place of a later one. Lock held."""
        session.tick = max(self._tick_of(session.due), self._tick + 1)
        self._ticks.setdefault(session.tick, []).append(session)

    def _on_tick(self) -> float:
        now = clock()
        last = self._tick_of(now) - 1
        while self._tick < last:
            with self._lock:
                self._tick += 1
                sessions = self._ticks.pop(self._tick, ())
            for session in sessions:
                if session.tick == self._tick and session.key in self._sessions:
                    self._look_at(session, now)
        with self._lock:
            while self._ended and next(iter(self._ended.values())) <= now:
                self._ended.popitem(last=False)
        return now + _TICK_S

    def _look_at(self, session: HttpSession, now: float) -> None:
        if session.due <= now:
            session.on_time(now)
        if session.is_over:
            self._forget(session)
        else:
            with self._lock:
                self._watch(session)


class _Asked:
    """A request of a session that is taken when it is here whole."""

    __slots__ = ("_body", "_exchange", "_session")

    def __init__(self, session: HttpSession, exchange: Exchange, body: Taker) -> None:
        self._session = session
        self._exchange = exchange
        self._body = body

    def piece(self, data: bytes) -> None:
        self._body.piece(data)

    def complete(self) -> None:
        # Not kept by a request that waits for its answer.
        body, self._body = self._body, IGNORE
        body.complete()

    def gone(self) -> None:
        self._session.gone(self._exchange)

    def room(self) -> None:
        self._session.room(self._exchange)


class _Upstream:
    """A request whose turns are taken as they come."""

    def __init__(self, endpoint: HttpEndpoint, session: HttpSession, exchange: Exchange) -> None:
        self._endpoint = endpoint
        self._session = session
        self._exchange = exchange
        self._reader: TurnReader | None = TurnReader()

    def piece(self, data: bytes) -> None:
        if self._reader is None:
            return
        try:
            turns = self._reader.feed(data)
        except TurnError as fault:
            self._reader = None
            self._session.end_upstream(self._exchange, fault)
            return
        if turns:
            self._session.hear(turns, self._exchange)
            self._endpoint.note(self._session)

    def complete(self) -> None:
        if self._reader is not None:
            self._session.end_upstream(self._exchange)
            self._endpoint.note(self._session)

    def gone(self) -> None:
        self._session.gone(self._exchange)

    def room(self) -> None:
        pass


def _checked(name: str, value: str, pattern: re.Pattern[str]) -> str:
    if not pattern.fullmatch(value):
        raise ValueError(f"{name} is {value[:40]!r}")
    return value


def _answer_no_place(exchange: Exchange) -> None:
    path = exchange.request.path or "/"
    answer_problem(
        exchange, 404, "no such path", f"nobody serves the path {path!r} here",
        hint="check the path of the address",
    )  # fmt: skip
