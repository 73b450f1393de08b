"""The initiator's turns: which request is made next, and what its answer means.

The first request opens the session. Where the way lets an answer pass as it comes, that
is a stream (DOWN), kept as long as the session; else polls (POLL) ask for what there is
to say, one at a time and while somebody listens. What this side says goes with the poll
when none is under way, else by writes (WRITE), one at a time; from the second on, beside
a stream, an upstream (UP) is tried: a request that goes on and on. It is used when the
peer has heard its first turns as fast as it hears writes, so a way that holds requests
back costs nothing but the try.

A write always starts at the first byte that the peer is not known to have. So it may be
repeated, overtake another request or be overtaken, and never leaves a gap.

What a way allows is kept in a `Way`, which all sessions to an address share. The shell
makes the requests, each in a thread of its own, and says how they ended. See
docs/PROTOCOL.md §11.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from compoint.core.turns import ASK, END, HEARD, Ledger, Turn
from compoint.limits import POLL_S, TURN_BYTES, TURNS_ACK_BYTES

__all__ = ["InitiatorTurns", "Kind", "Plan", "Way"]

#: A failed request is repeated after this time, and after twice as long each further time.
_BACKOFF_S: Final = 0.05
_BACKOFF_MOST_S: Final = 1.0
#: A wait that was cut earlier than this was not cut for its length.
_IDLE_CUT_S: Final = 1.0
#: Polls last this part of the time after which one was cut.
_CAUTION: Final = 0.7
#: A lone turn of an upstream that takes longer, and longer than writes do, was held back.
_LONE_TURN_S: Final = 0.05
#: An upstream asks this often, while it is used, whether it is heard; and is given up when
#: it is not heard for so long.
_ASK_EACH_S: Final = 1.0
_UP_SILENCE_S: Final = 5.0
#: A request that carries this little is not taken by the way because of something else.
_SMALLEST_TURN_BYTES: Final = 4096


class Kind(enum.Enum):
    """What a request is for."""

    POLL = "poll"
    WRITE = "write"
    DOWN = "stream"
    UP = "upstream"


class Plan(NamedTuple):
    """A request to be made now."""

    kind: Kind
    #: What it says; an upstream says more as it comes.
    turn: Turn
    #: How long the answer may take (POLL), or the next sign of life of this side (others).
    wait_s: float
    #: It opens the session, if no earlier one has.
    opens: bool


@dataclass(slots=True)
class Way:
    """What is known of the way to an address."""

    may_stream: bool = True
    may_upstream: bool = True
    poll_s: float = POLL_S
    turn_bytes: int = TURN_BYTES


class InitiatorTurns(Ledger):
    """One session, seen from the initiator."""

    __slots__ = (
        "_ask_next",
        "_asked_at",
        "_busy",
        "_has_news",
        "_is_asked_alone",
        "_plans",
        "_retry_at",
        "_retry_s",
        "_shared_way",
        "_speak_by",
        "_up_at",
        "_write_at",
        "_write_s",
        "_writes",
        "failing_since",
        "is_open",
        "is_streaming",
        "is_upstreaming",
        "is_wanted",
        "way",
    )

    def __init__(self, way: Way, now: float) -> None:
        super().__init__()
        #: What this session believes; what it finds out is shared when it goes on by it.
        self.way = replace(way)
        self._shared_way = way
        self._has_news = False
        #: The responder knows the session.
        self.is_open = False
        #: Somebody listens for what the responder says.
        self.is_wanted = False
        #: Answers pass as they come; and so does what this side says.
        self.is_streaming = False
        self.is_upstreaming = False
        #: Since when no request has succeeded; None: the last one has.
        self.failing_since: float | None = None
        #: The requests under way, and how far what they say reaches.
        self._busy: dict[Kind, int] = {}
        self._plans: dict[Kind, Plan] = {}
        self._up_at = 0
        #: When the upstream asked for an answer that is due; and when it is to ask again.
        self._asked_at: float | None = None
        self._ask_next = now
        self._is_asked_alone = False
        self._writes = 0
        self._write_at = now
        #: What the fastest write took.
        self._write_s = math.inf
        self._retry_at = now
        self._retry_s = _BACKOFF_S
        self._speak_by = now

    # --- what to do next ------------------------------------------------------------------

    def next_plan(self, now: float) -> Plan | None:
        """A request to be made now, which then counts as under way; None: no further one.

        To be asked until it says None, whenever something has happened.
        """
        if self.is_upstreaming and now >= self._hear_up_by:
            # Where it is held or lost nobody can tell; what it said is said again.
            self.failed(Kind.UP, now, 0.0)
        if (self.is_over and not self.owes_word) or now < self._retry_at:
            return None
        self._retry_at = 0.0
        kind = self._next_kind(now)
        return None if kind is None else self._plan(kind, now)

    def next_timer(self) -> float | None:
        """When `next_plan` is to be asked again though nothing has happened; None: never."""
        if self.is_over and not self.owes_word:
            return None
        if self._retry_at:
            return self._retry_at
        if self.is_upstreaming:
            return min(self._speak_by, self._hear_up_by)
        return self._speak_by if self.is_streaming else None

    @property
    def _hear_up_by(self) -> float:
        return math.inf if self._asked_at is None else self._asked_at + _UP_SILENCE_S

    @property
    def is_finished(self) -> bool:
        """Both sides have said everything, and both know."""
        return self.is_over and not self.owes_word and Kind.WRITE not in self._busy

    def _next_kind(self, now: float) -> Kind | None:
        busy = self._busy
        if not self.is_open:
            if busy:
                return None
            return Kind.DOWN if self.way.may_stream else Kind.WRITE
        if self.way.may_stream and Kind.DOWN not in busy and self._may_listen:
            return Kind.DOWN
        if Kind.WRITE not in busy and not self.is_upstreaming:
            kind = self._kind_to_say(now)
            if kind is not None:
                return kind
        # Who has ended waits for nothing but the other's end.
        is_wanted = self.is_wanted or self.is_ended
        return Kind.POLL if is_wanted and self._may_listen else None

    def _kind_to_say(self, now: float) -> Kind | None:
        """How to say what nobody says yet, if there is such."""
        if self.due > max(self.confirmed, *self._busy.values(), 0):
            if self._may_listen and not self.is_ended:
                # The answer to what is said may come with the answer to the request.
                return Kind.POLL
            if self._may_try_upstream:
                return Kind.UP
            return Kind.WRITE
        must_speak = self.is_streaming and now >= self._speak_by
        return Kind.WRITE if must_speak or self.owes_word else None

    @property
    def owes_word(self) -> bool:
        """The responder waits to hear that something has arrived."""
        unheard = self.have - self.told
        return unheard >= TURNS_ACK_BYTES or (self.has_end and unheard > 0)

    @property
    def _may_listen(self) -> bool:
        return not (self.has_end or Kind.POLL in self._busy or Kind.DOWN in self._busy)

    @property
    def _may_try_upstream(self) -> bool:
        return (
            self._writes > 0
            and self.is_streaming
            and self.way.may_upstream
            and Kind.UP not in self._busy
            and not self.is_ended
        )

    def _plan(self, kind: Kind, now: float) -> Plan:
        if kind in {Kind.DOWN, Kind.UP}:
            turn = self.turn(self.acked, ASK if kind is Kind.UP else 0, most=0)
            if kind is Kind.UP:
                self._asked_at = now
                self._is_asked_alone = False
        else:
            turn = self.turn(self.acked, most=self.way.turn_bytes)
        self._busy[kind] = turn.start + len(turn.body) + bool(turn.flags & END)
        wait_s = POLL_S
        if kind is Kind.POLL:
            # While requests fail, an early answer tells more than a late one.
            wait_s = 0.0 if self.failing_since is not None else self.way.poll_s
        self._speak_by = now + wait_s
        if kind is Kind.WRITE:
            self._write_at = now
        plan = Plan(kind, turn, wait_s, not self.is_open)
        self._plans[kind] = plan
        return plan

    # --- how requests end -----------------------------------------------------------------

    def is_under_way(self, plan: Plan) -> bool:
        """Nothing has been said yet of how this request ended."""
        return self._plans.get(plan.kind) is plan

    def answered(self, plan: Plan, turns: list[Turn], now: float) -> list[bytes]:
        """A poll, a write or an upstream has ended, with this answer; what is new in it.

        Raises:
            TurnError: it makes no sense; the session is over.
        """
        if self.is_under_way(plan):
            self._end(plan.kind)
        if plan.kind is Kind.WRITE:
            self._writes += 1
            self._write_s = min(self._write_s, now - self._write_at)
        self._succeed()
        return [new for turn in turns if (new := self.take(turn))]

    def streamed(self, turn: Turn, now: float) -> bytes:
        """The stream says this; what is new in it.

        Raises:
            TurnError: it makes no sense; the session is over.
        """
        self.is_streaming = True
        self._succeed()
        if turn.flags & HEARD and Kind.UP in self._busy and self._asked_at is not None:
            self._hear_up(now)
        return self.take(turn)

    def _hear_up(self, now: float) -> None:
        """The upstream was heard. Two turns are tried before it is used: the first travels
        with the head of the request; there are proxies that hold a later, lone one back."""
        assert self._asked_at is not None
        took_s, self._asked_at = now - self._asked_at, None
        if self.is_upstreaming or not self._is_asked_alone:
            return
        if took_s > max(_LONE_TURN_S, 3 * self._write_s):
            self.is_buffered(Kind.UP)
            return
        self.is_upstreaming = True
        # What a write has said may arrive later than what the upstream says.
        self._up_at = self.acked

    def stream_ended(self, now: float) -> None:
        """The stream was ended by the responder, in good order."""
        self._end(Kind.DOWN)
        self._retry_at = max(self._retry_at, now + _BACKOFF_S)

    def failed(self, kind: Kind, now: float, silent_s: float) -> None:
        """A request came to nothing, after a silence of `silent_s` at its end."""
        self._end(kind)
        if not self.is_over:
            # What the request confirmed may not have been heard. Of a session that is over
            # the responder may know already, and be gone.
            self.told = 0
        if self.is_open and kind is not Kind.WRITE and silent_s >= _IDLE_CUT_S:
            self._note_idle_cut(kind, silent_s)
        if self.failing_since is None:
            self.failing_since = now
            self._retry_s = _BACKOFF_S
        self._retry_at = now + self._retry_s
        self._retry_s = min(2 * self._retry_s, _BACKOFF_MOST_S)

    def too_large(self, kind: Kind) -> bool:
        """The way does not take so long a body; whether shorter ones can be tried."""
        self._end(kind)
        if self.way.turn_bytes <= _SMALLEST_TURN_BYTES:
            return False
        self.way.turn_bytes //= 2
        self._has_news = True
        return True

    def is_buffered(self, kind: Kind) -> None:
        """The way holds a stream or an upstream back until it is whole."""
        self._end(kind)
        if kind is Kind.DOWN:
            self.way.may_stream = False
        self.way.may_upstream = False
        self._has_news = True

    def has_ended(self) -> None:
        """The responder has forgotten the session, which it does when both have ended."""
        for kind in tuple(self._busy):
            self._end(kind)
        self.is_end_acked = self.is_ended
        self.told = self.have

    def _note_idle_cut(self, kind: Kind, silent_s: float) -> None:
        """Believed from now on; and by other sessions, once this one has gone on."""
        if kind is Kind.DOWN:
            self.way.may_stream = False
        self.way.may_upstream = False
        if kind is not Kind.UP:
            self.way.poll_s = min(self.way.poll_s, max(_IDLE_CUT_S, _CAUTION * silent_s))
        self._has_news = True

    def _end(self, kind: Kind) -> None:
        """A request is no longer under way."""
        self._busy.pop(kind, None)
        self._plans.pop(kind, None)
        if kind is Kind.DOWN:
            self.is_streaming = False
            # Nothing would tell any more what has arrived by it.
            self._end(Kind.UP)
        elif kind is Kind.UP:
            self.is_upstreaming = False
            self._asked_at = None
            self._writes = 0

    def _succeed(self) -> None:
        self.is_open = True
        self.failing_since = None
        self._retry_at = 0.0
        if self._has_news:
            # The peer lives, so it was the way.
            self._has_news = False
            way, shared = self.way, self._shared_way
            shared.may_stream, shared.may_upstream = way.may_stream, way.may_upstream
            shared.poll_s, shared.turn_bytes = way.poll_s, way.turn_bytes

    # --- the upstream ---------------------------------------------------------------------

    def has_up_word(self, now: float) -> bool:
        """Whether `next_up` would say something."""
        if Kind.UP not in self._busy:
            return False
        if self.is_upstreaming:
            return self._up_at < self.due or now >= self._speak_by or self.owes_word
        return not self._is_asked_alone and self._asked_at is None

    def next_up(self, now: float) -> Turn | None:
        """What the upstream says now; None: nothing yet. Only while it is under way."""
        if not self.has_up_word(now):
            return None
        if not self.is_upstreaming:
            self._is_asked_alone = True
            self._asked_at = now
            return self.turn(self.acked, ASK, most=0)
        flags = 0
        if self._asked_at is None and now >= self._ask_next:
            flags = ASK
            self._asked_at = now
            self._ask_next = now + _ASK_EACH_S
        turn = self.turn(self._up_at, flags)
        self._up_at = turn.start + len(turn.body) + bool(turn.flags & END)
        self._busy[Kind.UP] = self._up_at
        self._speak_by = now + POLL_S
        return turn
