"""The connection machine: one greeting, then many streams over one way for bytes.

Theory of operation. Bytes come in through `feed` (or straight into `room`), commands
through the verbs of the floors below; events and bytes go out through `take_events` and
`take_output`. A plain ComPoint is a connection with one stream, open from the greeting
on; a connection of channels has one stream for each channel, announced by the initiator
and claimed by a responder. Everything else (order, credit, confirmation, goodbye) is the
same for both.

The machine never raises for the peer's doing. A fault on one stream resets that stream
and skips its bytes; only what leaves no boundary to trust ends the connection. The first
cause of an ending is kept. It raises only for misuse by its caller.

It is built in floors, each a class that knows only those below, for one reason: a call
from floor to floor costs nothing on the hot paths.

    connection   the doors for bytes and time                       feed, on_timer
    _handshake   who may talk at all                                welcome, refuse
    _incoming    which frame concerns whom                          room, filled
    _arrivals    what a frame does to its stream
    _lives       how streams and the connection begin and end       announce, goodbye, reset
    _outgoing    bytes for the peer                                 gather, begin, grant

See docs/PROTOCOL.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from compoint.core._handshake import Handshake
from compoint.core._lives import Event, Happening, Side
from compoint.core._outgoing import CONNECTION
from compoint.core.codes import Code, Ending, How
from compoint.core.framing import Kind
from compoint.limits import CONTROL_FLOOD_BYTES, GREETING_S, HEARTBEATS_MISSED

if TYPE_CHECKING:
    from compoint.core.greeting import Greeting

__all__ = [
    "Connection",
    "ConnectionStatistics",
    "Event",
    "Happening",
    "Side",
]


@dataclass(frozen=True, slots=True)
class ConnectionStatistics:
    """A snapshot of one connection."""

    streams: int
    frames_in: int
    bytes_in: int
    heard_at: float
    is_greeted: bool
    ending: Ending | None


class Connection(Handshake):
    """The protocol of one connection, seen from one side."""

    __slots__ = ("_greet_by", "_greeting_s")

    def __init__(
        self,
        side: Side,
        ours: Greeting,
        now: float,
        greeting_s: float = GREETING_S,
        *,
        is_kept: bool = False,
    ) -> None:
        super().__init__(side, ours, now, is_kept=is_kept)
        self._greeting_s = greeting_s
        self._greet_by = now + greeting_s

    # --- bytes in -----------------------------------------------------------------------

    def feed(self, data: bytes, now: float) -> None:
        """Take bytes from the peer, cut anywhere."""
        self.heard_at = now
        self._pinged = 0
        self.bytes_in += len(data)
        if self.ending is not None:
            return
        if self.peer is not None and self._take_lone_message(data):
            return
        if self.peer is None:
            self._read_greeting(data)
        elif self._control_bytes > CONTROL_FLOOD_BYTES:
            self._leave_flood()
        else:
            self._reader.feed(data)
            self._read_frames()

    def feed_end(self) -> None:
        """The peer's bytes have ended. In good order only after its goodbye."""
        if self.ending is not None:
            return
        if self.peer is None:
            self._end_before_greeting()
        else:
            self.cut("the peer's process or the way to it is gone: end of data, no goodbye")

    def _leave_flood(self) -> None:
        self._out = None
        text = f"{self._control_bytes} bytes of answers were asked for and not read"
        self._leave_broken(Code.FLOOD, text)

    # --- time ---------------------------------------------------------------------------

    def next_timer(self) -> float | None:
        """When `on_timer` is due; None: never."""
        if self.ending is not None:
            return None
        if self.peer is None:
            return self._greet_by if self._greet_by < math.inf else None
        if not self._heartbeat_s:
            return None
        return self.heard_at + self._heartbeat_s * (self._pinged + 1)

    def on_timer(self, now: float) -> None:
        """The time has come: give up a peer that never greeted, ask a silent one."""
        due = self.next_timer()
        if due is None or now < due:
            return
        if self.peer is None:
            self._give_up_greeting(self._greeting_s)
        elif self._pinged < HEARTBEATS_MISSED:
            self._pinged += 1
            self._say_of(CONNECTION, Kind.PING)
        else:
            silence_s = now - self.heard_at
            text = f"no sign of life from the peer for {silence_s:.3g} s"
            self._finish(Ending(How.CUT, Code.SILENT, text))

    # --- keeping ------------------------------------------------------------------------

    def kept_row(self) -> tuple[dict[str, Any], int]:
        """What `compoint.core.keeping` keeps of the connection itself, and how many of the
        peer's bytes are part of that: not those of a frame that is not all here."""
        filling = self._filling
        row = {
            "mode": self.ours.mode,
            "ours": self.ours.encode().hex(),
            "peer": self.peer.encode().hex() if self.peer else None,
            "asking": self.asking.encode().hex() if self.asking else None,
            "highest": self._highest,
            "is_leaving": self.is_leaving,
            "ending": self.ending,
            "left": self._reader.left,
            "filling": filling.number if filling is not None else 0,
        }
        waiting = len(self._early) + self._reader.waiting
        return row, self.bytes_in - waiting

    # --- looking ------------------------------------------------------------------------

    def statistics(self) -> ConnectionStatistics:
        """A frozen snapshot."""
        return ConnectionStatistics(
            streams=len(self.streams),
            frames_in=self._frames_in,
            bytes_in=self.bytes_in,
            heard_at=self.heard_at,
            is_greeted=self.peer is not None,
            ending=self.ending,
        )
