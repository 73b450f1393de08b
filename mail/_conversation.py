"""One side of a conversation over mail: bytes in order, over a way that keeps no promise.

Theory of operation. Each direction numbers its bytes (`Outgoing`, `Incoming`). Everything
a side says carries what it has of the other direction, so acknowledgements ride on data; one
travels alone only when nothing came by for it to ride on, and is never answered. The first
side to speak repeats, until it was heard, that this opens the conversation: whichever of its
frames arrives first does.

Nothing here waits, reads a clock or draws a number. A step is: some verbs, then
`take_changes`, whose rows are committed together with the bytes that `take` returned; only
then may frames of `take_output` leave. If the commit fails, the object is thrown away and
`restore` makes it anew from what is committed. What a step that was not committed had heard
will be said again, what it had said was never sent.
"""

from __future__ import annotations

import math
import struct
from typing import NamedTuple

from compoint.core.codes import Code, Ending, How, decode_reason, encode_reason
from mail._envelope import BODY_BYTES, RANGES, Flag, Frame, Kind, overhead
from mail._incoming import IncomingError, News
from mail._state import KeptConversation
from mail._timers import FIRST_WINDOW_BYTES, Moment, Pace
from mail._tombstone import is_stale

__all__ = ["Conversation", "Output"]


class Output(NamedTuple):
    """What goes into one mail; the handle is for telling what became of it."""

    handle: int
    frames: list[Frame]


class Conversation(KeptConversation):
    """One conversation, seen from one side. Every verb ends at once."""

    @classmethod
    def opened_by(
        cls, frame: Frame, incarnation: bytes, pace: Pace, utc: float
    ) -> Conversation | None:
        """The responder's side, for a frame of no conversation known here, which is then to
        be given to `take`; None: it opens none."""
        if not frame.flags & Flag.OPEN or frame.flags & Flag.RESPONDER or is_stale(frame, utc):
            return None
        if frame.kind is not Kind.DATA:
            return None
        ours, theirs = frame.receiver, frame.sender
        return cls(frame.conversation, ours, theirs, incarnation, pace, is_initiator=False)

    # --- looking --------------------------------------------------------------------------

    @property
    def room(self) -> int:
        """How many bytes more may be said now."""
        return 0 if self.ending else self._out.room

    @property
    def is_unheard(self) -> bool:
        """No mail of this side's has been submitted: nobody else can know of it."""
        return self.is_initiator and not self._out.on_the_way

    @property
    def received(self) -> int:
        """How many bytes of the peer's have come in order."""
        return self._in.received

    @property
    def early_bytes(self) -> int:
        """How many bytes of the peer's are kept though others before them are missing."""
        return self._in.early_bytes

    @property
    def last_utc(self) -> float:
        """The last time at which what the peer has said so far may still arrive."""
        return self._last_utc

    @property
    def given_up_utc(self) -> float:
        """When there is nothing left to tell a program about a peer that was never heard."""
        return self._give_up_utc + self._pace.expire_s if self._out.said else 0.0

    @property
    def unconfirmed(self) -> int:
        """How many bytes (the end counted) the peer is not known to have."""
        return self._out.total - self._out.confirmed

    @property
    def has_end(self) -> bool:
        """The peer has said all, and all is here."""
        return self._in.has_end

    @property
    def is_over(self) -> bool:
        """Nothing will be said here any more: only a tombstone is needed."""
        if self.ending:
            return not self._is_reset_due
        is_all_said = self._out.is_ended and self._out.is_confirmed
        return is_all_said and self.has_end and self._told == self._in.have

    # --- what this side says --------------------------------------------------------------

    def say(self, data: bytes, at: Moment) -> int:
        """Say more, as far as there is room; how many bytes that was."""
        row = None if self.ending else self._out.say(data)
        if row is None:
            return 0
        self._said_rows.append(row)
        self._expect(at)
        return len(row.body)

    def say_whole(self, data: bytes, at: Moment) -> None:
        """Say all of this, for a caller who stops when there is no room left."""
        row = None if self.ending else self._out.say(data, is_whole=True)
        if row is not None:
            self._said_rows.append(row)
            self._expect(at)

    def say_end(self, at: Moment) -> None:
        """Nothing more will be said."""
        if not self._out.is_ended:
            self._out.is_ended = True
            self._expect(at)

    def _expect(self, at: Moment) -> None:
        if self._give_up_utc == math.inf:
            self._give_up_utc = at.utc + self._pace.expire_s

    def break_off(self, code: Code, text: str) -> None:
        """End it at once in both directions; the peer is told, once."""
        self._break(Ending(How.BROKEN, code, text), tell=True)

    def _break(self, ending: Ending, *, tell: bool) -> None:
        if not self.ending and not self.is_over:
            self.ending = ending
            self._is_reset_due = tell

    # --- what the peer says ---------------------------------------------------------------

    def take(self, frame: Frame, at: Moment) -> bytes:
        """What is new in order in a frame of this conversation, which the peer has sent."""
        is_peers = bool(frame.flags & Flag.RESPONDER) == self.is_initiator
        is_peers &= frame.sender == self.theirs
        if self.ending or not is_peers or is_stale(frame, at.utc):
            return b""
        self._last_utc = max(self._last_utc, frame.expires)
        if frame.kind is Kind.RESET:
            self._take_reset(frame)
        elif self._peer_incarnation not in {None, frame.incarnation}:
            text = "the peer has lost what it had kept of this conversation"
            self._break(Ending(How.CUT, Code.INTERNAL, text), tell=frame.kind is Kind.DATA)
        elif frame.have > self._out.total or any(end > self._out.total for _, end in frame.ranges):
            text = f"the peer has more than the {self._out.said} bytes said: what was kept is lost"
            self._break(Ending(How.CUT, Code.INTERNAL, text), tell=frame.kind is Kind.DATA)
        else:
            self._peer_incarnation = frame.incarnation
            self._confirm(frame, at)
            if frame.kind is Kind.DATA:
                return self._take_data(frame, at)
        return b""

    def _take_reset(self, frame: Frame) -> None:
        try:
            code, text, retry_after_s = decode_reason(frame.body)
        except struct.error:
            code, text, retry_after_s = Code.INTERNAL, "for no reason", None
        self._break(Ending(How.BROKEN, code, text, retry_after_s), tell=False)

    def _confirm(self, frame: Frame, at: Moment) -> None:
        self._out.window = max(frame.window, FIRST_WINDOW_BYTES)
        if self._out.confirm(frame.have, frame.ranges, at.now):
            self._give_up_utc = math.inf
        if self.unconfirmed:
            self._expect(at)
        else:
            self._give_up_utc = math.inf

    def _take_data(self, frame: Frame, at: Moment) -> bytes:
        is_end = bool(frame.flags & Flag.END)
        try:
            new, news, rows = self._in.take(frame.start, frame.body, is_end=is_end)
        except IncomingError as fault:
            self._break(Ending(How.BROKEN, Code.BAD_FRAME, str(fault)), tell=True)
            return b""
        self._early_rows += rows
        if news is News.DOUBLE:
            # Our word may have been lost; but a mail that was doubled asks for nothing.
            if at.now >= self._told_at + self._pace.rto_min_s:
                self._acknowledge_by(at.now)
        elif news is News.NEXT and not self._in.has_gap:
            # Who says no more has nothing for it to ride on.
            is_last = self.has_end and self._out.is_ended
            self._acknowledge_by(at.now + (0.0 if is_last else self._pace.ack_delay_s))
        else:
            self._acknowledge_by(max(at.now, self._told_at + self._pace.ack_delay_s))
        return new

    def _acknowledge_by(self, when: float) -> None:
        self._ack_at = min(self._ack_at, when)

    # --- what goes into the next mail -----------------------------------------------------

    @property
    def is_waiting(self) -> bool:
        """No mail system has all of what is to be said now."""
        return self._is_reset_due if self.ending else self._out.is_waiting

    def hurry(self) -> None:
        """What waits for its next try, or for something to ride on, is due now."""
        self._out.hurry()
        if self._ack_at < math.inf:
            self._ack_at = -math.inf

    def next_timer(self, at: Moment) -> float | None:
        """When `take_output` or `on_timer` has something to do; None: never by itself.

        A time that has passed means now: then the shell waits a moment for more to say, and
        asks when it may send a mail.
        """
        if self.ending:
            return at.now if self._is_reset_due else None
        due = min(self._out.next_due(), self._ack_at, at.now + self._give_up_utc - at.utc)
        return None if due == math.inf else max(due, at.now)

    def on_timer(self, at: Moment) -> None:
        """Time has passed: what was not confirmed for too long is given up."""
        if at.utc >= self._give_up_utc:
            text = f"{self.unconfirmed} bytes were not confirmed in {self._pace.expire_s:.3g} s"
            self._break(Ending(How.CUT, Code.SILENT, text), tell=True)

    def take_output(self, at: Moment, room_bytes: int) -> Output | None:
        """Everything that is due, as far as it fits into a mail; None: nothing is."""
        if self.ending:
            frames = self._reset_frames(at)
        else:
            frames = self._data_frames(at, room_bytes)
            if not frames and self._ack_at <= at.now:
                frames = [self._frame(Kind.ACK, at)]
        if not frames:
            return None
        self._told = self._in.have
        self._told_at = at.now
        self._ack_at = math.inf
        self._next_handle += 1
        return Output(self._next_handle - 1, frames)

    def _data_frames(self, at: Moment, room_bytes: int) -> list[Frame]:
        frames = []
        over = overhead(self.ours, self.theirs)
        while room_bytes >= over:
            most = min(room_bytes - over, BODY_BYTES)
            span = self._out.next_span(self._next_handle, at.now, most)
            if span is None:
                break
            start, body, is_end = span
            frames.append(self._frame(Kind.DATA, at, start, body, is_end=is_end))
            room_bytes -= over + len(body)
        return frames

    def _reset_frames(self, at: Moment) -> list[Frame]:
        if not self._is_reset_due or self.ending is None:
            return []
        self._is_reset_due = False
        self._reset_utc = at.utc
        body = encode_reason(self.ending.code, self.ending.text, None)
        return [self._frame(Kind.RESET, at, body=body)]

    def _frame(
        self, kind: Kind, at: Moment, start: int = -1, body: bytes = b"", *, is_end: bool = False
    ) -> Frame:
        flags = Flag(0) if self.is_initiator else Flag.RESPONDER
        if is_end:
            flags |= Flag.END
        if self.is_initiator and self._peer_incarnation is None and kind is Kind.DATA:
            flags |= Flag.OPEN
        return Frame(
            kind, flags, self.conversation, self._incarnation, self.ours, self.theirs,
            self._out.sent if start < 0 else start, self._in.have, self._pace.window_bytes,
            int(at.utc), math.ceil(at.utc + self._pace.expire_s), self._in.ranges(RANGES), body,
        )  # fmt: skip

    # --- what became of a mail ------------------------------------------------------------

    def submitted(self, handle: int, at: Moment) -> None:
        """A mail was taken by a mail system: from now on the peer's silence counts."""
        self._out.submitted(handle, at.now)

    def failed(self, handle: int, reason: str, at: Moment, *, is_final: bool) -> None:
        """A mail was refused, or (not final) could not be submitted in all its tries."""
        if is_final and (self.unconfirmed or self.is_unheard):
            self._break(Ending(How.CUT, Code.INTERNAL, reason), tell=False)
        else:
            self._out.not_submitted(handle, at.now)

    def bounced(self, handle: int, status: str, text: str, at: Moment, *, is_final: bool) -> None:
        """A mail has come back, by a notice whose token the shell has checked.

        That says nothing new where the peer has all that was said: a copy of it went astray.
        """
        if is_final and self.unconfirmed:
            reason = f"a mail came back: {status} {text}"
            self._break(Ending(How.CUT, Code.INTERNAL, reason), tell=False)
        else:
            self._out.came_back(handle, at.now)
