"""What is kept of a conversation between processes, as plain rows.

The store saves what one step has changed in one transaction, and only then lets it be seen:
nothing is acknowledged, submitted or shown that was not committed. See `Conversation`.
"""

from __future__ import annotations

import math
from typing import NamedTuple, Self

from compoint.core.codes import Code, Ending, How
from mail._envelope import Place
from mail._incoming import Early, Incoming
from mail._outgoing import Outgoing, Said
from mail._timers import Moment, Pace, RoundTrip
from mail._tombstone import Tombstone

__all__ = ["Changes", "KeptConversation", "State"]


class State(NamedTuple):
    """The one row of a conversation; all of it may change with every step."""

    conversation: bytes
    is_initiator: bool
    ours: Place
    theirs: Place
    #: Of the peer's store; None: nothing was heard of the peer.
    incarnation: bytes | None
    #: What this side has said. Rows of `Said` that end at or below `confirmed` are needless.
    said: int
    confirmed: int
    is_ended: bool
    peer_window: int
    #: How far it was submitted, when it is due again (UTC) and how often it was tried.
    on_the_way: int
    due_utc: float
    tries: int
    #: What has arrived. Rows of `Early` that begin below `received` are needless.
    received: int
    ends_at: int | None
    told: int
    round_trip_s: float | None
    #: When the conversation is given up, unless something more is confirmed.
    give_up_utc: float
    #: The last time at which a frame of the peer can still arrive.
    last_utc: float
    reset_utc: float
    next_handle: int
    #: How it broke: the value of a `How`, a code and a text; "": it did not.
    how: str
    code: int
    text: str


class Changes(NamedTuple):
    """What the steps since the last commit have changed."""

    state: State
    #: Rows to be added. None of them ever changes; `state` says which are needless.
    said: list[Said]
    early: list[Early]


class KeptConversation:
    """What a conversation consists of, and how it gets into rows and out of them."""

    def __init__(
        self, conversation: bytes, ours: Place, theirs: Place, incarnation: bytes, pace: Pace,
        *, is_initiator: bool,
    ) -> None:  # fmt: skip
        self.conversation = conversation
        self.ours = ours
        self.theirs = theirs
        self.is_initiator = is_initiator
        #: Why it broke; the first reason is kept.
        self.ending: Ending | None = None
        self._incarnation = incarnation
        self._peer_incarnation: bytes | None = None
        self._pace = pace
        self._round_trip = RoundTrip(pace)
        self._out = Outgoing(self._round_trip, pace.window_bytes)
        self._in = Incoming(pace.window_bytes)
        #: What the peer was last told to be here, and when; when it is to be told more.
        self._told = 0
        self._told_at = -math.inf
        self._ack_at = math.inf
        self._give_up_utc = math.inf
        self._last_utc = 0.0
        self._reset_utc = -math.inf
        self._is_reset_due = False
        self._next_handle = 0
        self._said_rows: list[Said] = []
        self._early_rows: list[Early] = []

    def take_changes(self, at: Moment) -> Changes:
        """What is to be committed now; then it counts as committed."""
        said, self._said_rows = self._said_rows, []
        early, self._early_rows = self._early_rows, []
        return Changes(self._state(at), said, early)

    def _state(self, at: Moment) -> State:
        out, ending = self._out, self.ending
        waiting = [one for one in out.segments if one.due < math.inf]
        due = min((one.due for one in waiting), default=math.inf)
        return State(
            conversation=self.conversation, is_initiator=self.is_initiator, ours=self.ours,
            theirs=self.theirs, incarnation=self._peer_incarnation, said=out.said,
            confirmed=out.confirmed, is_ended=out.is_ended, peer_window=out.window,
            on_the_way=out.on_the_way, due_utc=at.utc + max(due - at.now, 0.0),
            tries=max((one.tries for one in waiting), default=0), received=self._in.received,
            ends_at=self._in.ends_at, told=self._told, round_trip_s=self._round_trip.smoothed_s,
            give_up_utc=self._give_up_utc, last_utc=self._last_utc, reset_utc=self._reset_utc,
            next_handle=self._next_handle, how=ending.how.value if ending else "",
            code=ending.code if ending else 0, text=ending.text if ending else "",
        )  # fmt: skip

    @classmethod
    def restore(
        cls, state: State, said: list[Said], early: list[Early], incarnation: bytes, pace: Pace,
        at: Moment,
    ) -> Self:  # fmt: skip
        """What was committed, in a new process; the rows in order of their starts."""
        self = cls(
            state.conversation, state.ours, state.theirs, incarnation, pace,
            is_initiator=state.is_initiator,
        )  # fmt: skip
        self._peer_incarnation = state.incarnation
        self._round_trip.smoothed_s = state.round_trip_s
        out = self._out
        out.confirmed, out.window = state.confirmed, state.peer_window
        for said_row in said:
            out.keep(said_row)
        out.said, out.is_ended = state.said, state.is_ended
        # A clock that was set back must not make it wait longer than it ever would.
        wait_s = min(state.due_utc - at.utc, self._round_trip.patience_s(state.tries))
        out.resume(state.on_the_way, at.now + wait_s, state.tries)
        self._in.received, self._in.ends_at = state.received, state.ends_at
        for early_row in early:
            if early_row.start >= state.received:
                self._in.keep(early_row)
        self._told = state.told
        if self._in.have > state.told:
            self._ack_at = at.now + pace.ack_delay_s
        self._give_up_utc, self._last_utc = state.give_up_utc, state.last_utc
        self._reset_utc, self._next_handle = state.reset_utc, state.next_handle
        if state.how:
            self.ending = Ending(How(state.how), Code.from_wire(state.code), state.text)
        return self

    def tombstone(self) -> Tombstone:
        """What is to be remembered of a conversation that is over."""
        have, code, text = self._in.have, 0, ""
        if self.ending:
            have, code, text = -1, self.ending.code, self.ending.text
        return Tombstone.of_ended(
            self.conversation, have, code, text, self._last_utc, self._reset_utc,
            is_initiator=self.is_initiator,
        )  # fmt: skip
