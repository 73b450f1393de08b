"""The machine, floor 2: which streams live, how they begin and how they end.

A stream lives here from its announcement (or the greeting) until both sides have said
goodbye, or one broke off. The first cause of an ending is kept. See docs/PROTOCOL.md §6.
"""

from __future__ import annotations

import enum
import struct
from dataclasses import replace
from typing import Final

from compoint.core._outgoing import CONNECTION, Outgoing
from compoint.core.codes import (
    REFUSALS,
    Code,
    Ending,
    How,
    cut_text,
    decode_reason,
    encode_reason,
)
from compoint.core.framing import ASK_ACK, Kind
from compoint.core.greeting import Greeting, Mode
from compoint.core.stream import Stream
from compoint.limits import FIRST_CREDIT_BYTES

__all__ = ["PLAIN", "Event", "Happening", "Lives", "Side"]

_U64: Final = struct.Struct("!Q")
_GOODBYE: Final = struct.Struct("!QH")  # messages taken by the program, code

#: The one stream of a plain ComPoint.
PLAIN: Final = 1
#: The channels of a plain ComPoint: a table of its own would be the most of its memory.
_NONE: Final[dict[int, Stream]] = {}


class Side(enum.Enum):
    """Which end of the connection this machine is."""

    INITIATOR = "initiator"
    RESPONDER = "responder"


class Happening(enum.Enum):
    """What an event tells the shell."""

    GREETED = "greeted"  # the peer's greeting is here; a responder now says welcome or refuses
    TOUCHED = "touched"  # a stream has messages, credit, confirmations or an ending
    ANNOUNCED = "announced"  # the peer asks for a channel
    OVER = "over"  # nothing will ever come any more


Event = tuple[Happening, Stream | None]


class Lives(Outgoing):
    """The streams of one connection."""

    __slots__ = (
        "_channels", "_highest", "_lone", "events", "is_kept", "is_leaving", "ours", "plain",
        "side",
    )  # fmt: skip

    def __init__(self, side: Side, ours: Greeting, *, is_kept: bool) -> None:
        super().__init__()
        self.side = side
        #: A later process shall be able to go on with it: see `compoint.core.keeping`.
        self.is_kept = is_kept
        self.ours = ours
        #: The one stream of a plain ComPoint; None on a connection of channels.
        self.plain: Stream | None = None
        #: The same while it lives; and the channels that live, by number.
        self._lone: Stream | None = None
        self._channels = _NONE
        #: The highest number that was used for a stream.
        self._highest = PLAIN if ours.mode is Mode.PLAIN else 0
        #: One side has said goodbye to the connection: no stream begins any more.
        self.is_leaving = False
        self.events: list[Event] = []

    @property
    def streams(self) -> dict[int, Stream]:
        """The streams that live, by number."""
        return self._channels if self._lone is None else {PLAIN: self._lone}

    def take_events(self) -> list[Event]:
        """What has happened since the last call, in order."""
        events = self.events
        if events:
            self.events = []
            for happening, stream in events:
                if happening is Happening.TOUCHED and stream is not None:
                    stream.is_touched = False
        return events

    def _touch(self, stream: Stream) -> None:
        if not stream.is_touched:
            stream.is_touched = True
            self.events.append((Happening.TOUCHED, stream))

    # --- beginnings ---------------------------------------------------------------------

    def announce(self, correlator: str) -> Stream:
        """Ask for a channel; messages may follow at once, up to the first credit.

        OverflowError: the numbers of this connection are used up; open another.
        """
        if self._highest == 0xFFFF_FFFF:
            raise OverflowError("a connection has no more than 4294967295 channels in its life")
        self._highest += 1
        window = self.ours.window
        stream = Stream(self._highest, FIRST_CREDIT_BYTES, window, is_kept=self.is_kept)
        stream.is_claimed = False
        stream.correlator = correlator
        self._channels[stream.number] = stream
        self._say(stream, Kind.ANNOUNCE, _U64.pack(stream.in_limit) + correlator.encode())
        if self.ending is not None:
            self._end(stream, self.ending)
        return stream

    def claim(self, stream: Stream) -> None:
        """A responder is here for a queued channel."""
        # One of a former process may have been here before: then the peer was told.
        kind = Kind.CREDIT if stream.is_claimed else Kind.CLAIM
        stream.is_claimed = True
        stream.window = self.ours.window
        stream.note_grant(max(stream.in_limit, stream.due_limit()))
        self._say(stream, kind, _U64.pack(stream.in_limit))

    def _open(self, mode: Mode, out_limit: int) -> None:
        """The initiator wants this; it takes so much at first."""
        if mode is Mode.CHANNELS:
            self._channels = {}
        else:
            stream = Stream(PLAIN, out_limit, self.ours.window, is_kept=self.is_kept)
            self.plain = self._lone = stream
            self._highest = PLAIN

    # --- endings by this side -----------------------------------------------------------

    def goodbye(self, stream: Stream) -> None:
        """This side's program has closed: no message will follow, none will be read.

        A large message that was not given whole is taken back first.
        """
        if stream.goodbye_said:
            return
        self.drop(stream)
        flags = ASK_ACK if stream.confirmed < stream.written and stream.ending is None else 0
        self._say(stream, Kind.GOODBYE, _GOODBYE.pack(stream.taken, Code.CLOSED), flags=flags)
        stream.goodbye_said = True
        stream.is_open = False
        stream.assembly = None
        self._forget_if_done(stream)

    def reset(
        self, stream: Stream, code: Code, text: str, retry_after_s: float | None = None
    ) -> None:
        """End a stream at once; the peer's program is told why."""
        self._say_reset(stream, code, text, retry_after_s)
        self._end(stream, Ending(How.BROKEN, code, text))

    def forget(self, stream: Stream) -> None:
        """Nothing more is wanted of this stream; what still comes for it is late."""
        if stream is self._lone:
            self._lone = None
        else:
            self._channels.pop(stream.number, None)
        self._seal(stream)
        self._finish_if_left()

    def leave(self, code: Code, text: str) -> None:
        """Say goodbye to the whole connection.

        With CLOSED no stream will begin any more; those that live go on, and with the
        last of them the connection is over. With another code everything ends now.
        """
        self._seal_all()
        if code is Code.CLOSED:
            self._say_of(CONNECTION, Kind.GOODBYE, _GOODBYE.pack(0, code) + cut_text(text))
            self.is_leaving = True
            self._finish_if_left(text)
        else:
            self._say_of(CONNECTION, Kind.RESET, encode_reason(code, text, None))
            self._finish(Ending(How.BROKEN, code, text))

    # --- endings by the peer ------------------------------------------------------------

    def cut(self, text: str) -> None:
        """The way to the peer is lost; `text` says how that was noticed."""
        self._finish(Ending(How.CUT, Code.INTERNAL, text))

    def _accept_goodbye(self, stream: Stream, payload: bytes) -> None:
        taken, code = _GOODBYE.unpack_from(payload)
        text = payload[_GOODBYE.size :].decode(errors="replace") or "the peer closed"
        stream.peer_unread = max(0, stream.acked - taken)
        self._end(stream, Ending(How.GOODBYE, Code.from_wire(code), text))

    def _accept_reset(self, stream: Stream, payload: bytes) -> None:
        ending = _ending_of_reset(payload)
        stream.goodbye_said = True  # nothing we could still say would be heard
        if stream.gathered is not None:
            stream.gathered = None
            assert self._gathering is not None
            self._gathering.remove(stream)
        self._end(stream, ending)

    def _accept_end(self, kind: int, payload: bytes) -> None:
        """The peer's GOODBYE or RESET for the connection itself."""
        if kind == Kind.RESET:
            self._finish(_ending_of_reset(payload))
        else:
            _GOODBYE.unpack_from(payload)
            text = payload[_GOODBYE.size :].decode(errors="replace")
            self.is_leaving = True
            self._finish_if_left(text or "the peer closed the connection")

    def _fault(self, stream: Stream, code: Code, text: str) -> None:
        """The peer broke the rules on one stream: only that one ends."""
        self._say_reset(stream, code, text)
        self._end(stream, Ending(How.BROKEN, code, f"the peer broke the rules: {text}"))

    def _leave_broken(self, code: Code, text: str) -> None:
        """The peer's bytes can no longer be trusted: the connection ends."""
        self._say_of(CONNECTION, Kind.RESET, encode_reason(code, text, None))
        self._finish(Ending(How.BROKEN, code, f"the peer broke the rules: {text}"))

    # --- the end ------------------------------------------------------------------------

    def _say_reset(
        self, stream: Stream, code: Code, text: str, retry_after_s: float | None = None
    ) -> None:
        if not stream.goodbye_said:
            self._say(stream, Kind.RESET, encode_reason(code, text, retry_after_s))
            stream.goodbye_said = True

    def _end(self, stream: Stream, ending: Ending) -> None:
        if stream.ending is None:
            stream.ending = self._as_seen_by(stream, ending)
            if stream.ending.how is How.REFUSED:
                # Nobody has answered, so nobody has read what was confirmed on arrival.
                stream.peer_unread = stream.acked
        stream.is_open = False
        stream.assembly = None
        stream.out_left = 0
        self._touch(stream)
        self._forget_if_done(stream)

    def _as_seen_by(self, stream: Stream, ending: Ending) -> Ending:
        """A refusal is one only while nobody has answered: what was told to a program that
        then stopped may have been heard."""
        is_answered = stream.received or (stream.is_claimed and stream is not self.plain)
        if ending.how is How.REFUSED and (is_answered or self.side is Side.RESPONDER):
            return replace(ending, how=How.BROKEN)
        return ending

    def _forget_if_done(self, stream: Stream) -> None:
        ending = stream.ending
        if ending is None or not stream.goodbye_said:
            return
        is_news = ending.how is not How.GOODBYE and (stream is self.plain or stream.inbox)
        # A later process may have to tell its program of it: then the shell forgets it.
        if not (stream.is_kept and is_news):
            self.forget(stream)

    def _finish_if_left(self, text: str = "the last conversation is over") -> None:
        """A side has left and no stream is alive: nothing will ever come."""
        if self.is_leaving and not self.streams:
            self._finish(Ending(How.GOODBYE, Code.CLOSED, text))

    def _finish(self, ending: Ending) -> None:
        if self.ending is not None:
            return
        self.ending = ending
        self._gathering = None
        for stream in list(self.streams.values()):
            stream.gathered = None
            self._end(stream, ending)
        self.events.append((Happening.OVER, None))


def _ending_of_reset(payload: bytes) -> Ending:
    code, text, retry_after_s = decode_reason(payload)
    how = How.REFUSED if code in REFUSALS else How.BROKEN
    return Ending(how, code, text, retry_after_s)
