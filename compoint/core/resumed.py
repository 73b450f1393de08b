"""A connection of a process that is gone, made anew from what was kept of it.

An initiator's goes on where it was. A responder's asks once more to be welcomed, since
whoever serves its address now may want something else; then it goes on, and channels are
announced again, those too that a responder of the former process had claimed.
"""

from __future__ import annotations

import json
from typing import Any

from compoint.core._lives import PLAIN, Happening, Side
from compoint.core.assembly import Assembly
from compoint.core.codes import Code, Ending, How
from compoint.core.connection import Connection
from compoint.core.greeting import Greeting, Mode, parse_greeting
from compoint.core.keeping import KeptConnection, KeptStream, ending_of
from compoint.core.stream import Stream
from compoint.limits import MESSAGE_TOLL_BYTES

__all__ = ["ResumedConnection"]


class ResumedConnection(Connection):
    """Behaves like the connection whose changes were kept, from the last kept step on."""

    __slots__ = ("_was_welcomed",)

    def __init__(self, side: Side, kept: KeptConnection, now: float, greeting_s: float) -> None:
        row = json.loads(kept.row)
        ours = _greeting(row["ours"])
        assert ours is not None
        super().__init__(side, ours, now, greeting_s, is_kept=True)
        # What a new initiator says and opens, this one has said and opened before.
        self._out = None
        self._lone = None
        self._highest = row["highest"]
        self.is_leaving = row["is_leaving"]
        self.ending = ending_of(row["ending"])
        self.bytes_in = kept.fed
        self._reader.left = row["left"]
        peer = _greeting(row["peer"])
        #: A peer that was welcomed by a former process has to be welcomed once more.
        self._was_welcomed = peer is not None and side is Side.RESPONDER
        if side is Side.INITIATOR:
            self.peer = peer
            self._take_up(ours.mode, kept.streams, row["filling"])
        else:
            self.asking = peer or _greeting(row["asking"])
            if peer is not None:
                self._take_up(peer.mode, kept.streams, row["filling"])
            if self.asking is not None and (self._was_welcomed or self.ending is None):
                self.events.append((Happening.GREETED, None))
        if self.ending is not None:
            self.events.append((Happening.OVER, None))

    def welcome(self) -> None:
        if not self._was_welcomed:
            super().welcome()
            return
        self._go_on()
        for stream in self.streams.values():
            if stream is self.plain:
                self._touch(stream)
            elif not stream.goodbye_said:
                # One that was closed here waits for the peer's last word, and for nobody else.
                self.events.append((Happening.ANNOUNCED, stream))
        early, self._early = self._early, b""
        if early:
            self._reader.feed(early)
            self._read_frames()

    def refuse(self, code: Code, text: str, retry_after_s: float | None = None) -> None:
        if self._was_welcomed:
            self._go_on()
            # The peer was welcomed once: what it hears now is an end, not an answer.
            self.leave(code, text)
        else:
            super().refuse(code, text, retry_after_s)

    def room(self) -> memoryview | None:
        # What comes before the welcome waits in line.
        return None if self._was_welcomed else super().room()

    def kept_row(self) -> tuple[dict[str, Any], int]:
        row, fed = super().kept_row()
        if self._was_welcomed:
            # As it was: a next process, too, may have to welcome it once more.
            row["peer"], row["asking"] = row["asking"], None
        return row, fed

    def _go_on(self) -> None:
        """Be the connection that was welcomed."""
        self._was_welcomed = False
        self.peer, self.asking = self.asking, None

    def _take_up(self, mode: int, kept: list[KeptStream], filling: int) -> None:
        streams = {one.number: one for one in map(self._stream, kept)}
        self._filling = streams.get(filling)
        if self._filling is not None and self._filling.assembly is not None:
            # Its cost was taken with the head of the frame: these bytes are still to come.
            self._filling.taken_cost -= self._reader.left
        if mode == Mode.CHANNELS:
            self._channels = streams
        elif streams:
            self.plain = self._lone = streams[PLAIN]
        else:
            self.plain = self._over()
        for stream in streams.values():
            # A large message that was not given whole is given by nobody any more.
            self.drop(stream)

    def _over(self) -> Stream:
        """The one stream of a plain ComPoint whose rows are gone."""
        stream = Stream(PLAIN, 0, self.ours.window, is_kept=True)
        text = "the conversation was over before this process began"
        stream.ending = self.ending or Ending(How.CUT, Code.INTERNAL, text)
        stream.goodbye_said = True
        stream.is_open = False
        return stream

    def _stream(self, kept: KeptStream) -> Stream:
        row: dict[str, Any] = json.loads(kept.row)
        stream = Stream(row["number"], row["out_limit"], row["window"], is_kept=True)
        stream.correlator = row["correlator"]
        stream.is_open = row["is_open"]
        stream.ending = ending_of(row["ending"])
        stream.goodbye_said = row["goodbye_said"]
        stream.is_claimed = row["is_claimed"]
        stream.written, stream.acked = row["written"], row["acked"]
        stream.out_cost, stream.out_left = row["out_cost"], row["out_left"]
        stream.peer_unread = row["peer_unread"]
        stream.received = row["received"]
        stream.in_cost, stream.in_limit = row["in_cost"], row["in_limit"]
        stream.dropped_cost = row["dropped_cost"]
        waiting = 0
        if kept.messages:
            stream.put((form, body) if form else body for _, form, body in kept.messages)
            waiting = sum(len(body) + MESSAGE_TOLL_BYTES for _, _, body in kept.messages)
        if row["assembly"] is not None:
            stream.assembly = Assembly(*row["assembly"])
            for _, piece in kept.pieces:
                stream.assembly.take(piece)
            waiting += stream.assembly.position + MESSAGE_TOLL_BYTES
        stream.taken = stream.received - len(stream.inbox)
        stream.taken_cost = stream.in_cost - stream.dropped_cost - waiting
        return stream


def _greeting(text: str | None) -> Greeting | None:
    if text is None:
        return None
    parsed = parse_greeting(bytes.fromhex(text))
    assert parsed is not None
    greeting = parsed[0]
    assert isinstance(greeting, Greeting)
    return greeting
