"""Turns: an unbroken way for bytes over exchanges that fail, are repeated or come late.

Theory of operation. Each direction numbers its bytes from 0. Everything that is said is a
*turn*: the number of its first byte, how many bytes of the other direction its sender has,
and the bytes. Whoever sends keeps bytes until the other side has them, and can say any of
them again at any time; whoever receives takes what is new and drops what it has. So it
does not matter which request failed, was repeated by whom, or was answered late: nothing
is lost and nothing is doubled. The end of a direction counts as one byte more, so it is
confirmed like any other.

Here stand what both sides have in common. `turns_responder` decides, for a server, which
request is answered with what; `turns_initiator` which request is made next. See
docs/PROTOCOL.md §11.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from typing import Final, NamedTuple

from compoint.limits import TURN_BYTES, TURNS_KEPT_BYTES

__all__ = ["ASK", "END", "HEARD", "Ledger", "Turn", "TurnError", "TurnReader"]

#: flags, length, number of the first byte, how many bytes the sender has
_HEAD: Final = struct.Struct("!BxxxIQQ")

#: The sender's direction ends behind this turn's bytes.
END: Final = 1
#: To be answered at once: does the way let turns pass when they are sent?
ASK: Final = 2
#: The answer to ASK.
HEARD: Final = 4

_FLAGS: Final = END | ASK | HEARD


class TurnError(ValueError):
    """The peer's turns make no sense: the session cannot go on."""


class Turn(NamedTuple):
    """One turn."""

    flags: int
    start: int
    have: int
    body: bytes

    def encode(self) -> bytes:
        """Its bytes, as they travel."""
        return _HEAD.pack(self.flags, len(self.body), self.start, self.have) + self.body


class TurnReader:
    """Bytes in, cut anywhere; whole turns out."""

    __slots__ = ("_due", "_pieces", "_size")

    def __init__(self) -> None:
        # What has come of a turn that is not whole, and how much is to be here before
        # another look is worth it: so a long turn is put together once.
        self._pieces: list[bytes] = []
        self._size = 0
        self._due = _HEAD.size

    def feed(self, data: bytes) -> list[Turn]:
        """The turns that are complete now.

        Raises:
            TurnError: this is no turn; nothing that follows can be read.
        """
        if self._pieces or len(data) < self._due:
            self._pieces.append(data)
            self._size += len(data)
            if self._size < self._due:
                return []
            data = b"".join(self._pieces)
        turns = []
        at = 0
        due = _HEAD.size
        while len(data) - at >= due:
            flags, length, start, have = _HEAD.unpack_from(data, at)
            if flags & ~_FLAGS or length > TURN_BYTES:
                raise TurnError("bytes that are no turn")
            due = _HEAD.size + length
            if len(data) - at < due:
                break
            turns.append(Turn(flags, start, have, data[at + _HEAD.size : at + due]))
            at += due
            due = _HEAD.size
        rest = data[at:]
        self._pieces = [rest] if rest else []
        self._size = len(rest)
        self._due = due
        return turns

    @property
    def is_empty(self) -> bool:
        """No turn has begun that has not ended."""
        return not self._size


class Ledger:
    """Both directions of a session, as one side sees them."""

    __slots__ = (
        "_pieces",
        "_starts",
        "acked",
        "has_end",
        "is_end_acked",
        "is_ended",
        "received",
        "said",
        "told",
    )

    def __init__(self) -> None:
        # What was said and may have to be said again, and the number of each first byte.
        # No lists while that is nothing: thousands of sessions may be silent.
        self._pieces: list[bytes | memoryview] | None = None
        self._starts: list[int] | None = None
        #: How many bytes were said, and how many of them the peer has.
        self.said = 0
        self.acked = 0
        #: This side says no more; and the peer knows.
        self.is_ended = False
        self.is_end_acked = False
        #: How many bytes of the peer's are here; and whether it says no more.
        self.received = 0
        self.has_end = False
        #: What the peer was last told that this side has.
        self.told = 0

    # --- what this side says --------------------------------------------------------------

    @property
    def room(self) -> int:
        """How many bytes more may be said now."""
        return max(0, TURNS_KEPT_BYTES - (self.said - self.acked))

    @property
    def due(self) -> int:
        """What the peer has when it has everything said so far, the end counted."""
        return self.said + self.is_ended

    @property
    def confirmed(self) -> int:
        """What the peer is known to have, the end counted."""
        return self.acked + self.is_end_acked

    @property
    def have(self) -> int:
        """What this side has, the end counted."""
        return self.received + self.has_end

    @property
    def is_over(self) -> bool:
        """Both sides have said everything, and this side knows that the peer has it."""
        return self.has_end and self.is_end_acked

    def append(self, *pieces: bytes | memoryview) -> int:
        """Say more, as far as there is room; how many bytes that was.

        The pieces are kept as they are, uncopied: nobody may change them.
        """
        room = self.room
        taken = 0
        for piece in pieces:
            if taken == room:
                break
            if len(piece) > room - taken:
                piece = memoryview(piece)[: room - taken]  # noqa: PLW2901 - the part that fits
            if piece:
                start = self.said + taken
                if self._pieces is None or self._starts is None:
                    self._pieces, self._starts = [piece], [start]
                else:
                    self._pieces.append(piece)
                    self._starts.append(start)
                taken += len(piece)
        self.said += taken
        return taken

    def turn(self, start: int, flags: int = 0, most: int = TURN_BYTES) -> Turn:
        """A turn with what is kept from the byte `start` on, `most` bytes at the most.

        A number that is not kept is taken for the nearest that is.
        """
        start = min(max(start, self.acked), self.said)
        body = self._kept(start, min(start + most, self.said))
        if self.is_ended and start + len(body) == self.said:
            flags |= END
        self.told = self.have
        return Turn(flags, start, self.told, body)

    def _kept(self, start: int, end: int) -> bytes:
        if start >= end:
            return b""
        assert self._pieces is not None
        assert self._starts is not None
        index = bisect_right(self._starts, start) - 1
        found = []
        while start < end:
            piece, first = self._pieces[index], self._starts[index]
            if start > first or end < first + len(piece):
                piece = memoryview(piece)[start - first : end - first]
            found.append(piece)
            start += len(piece)
            index += 1
        return bytes(found[0]) if len(found) == 1 else b"".join(found)

    # --- what the peer says ---------------------------------------------------------------

    def take(self, turn: Turn) -> bytes:
        """What is new in a turn.

        Raises:
            TurnError: the peer has what was never said, or has left something out.
        """
        self._confirm(turn.have)
        if turn.start > self.received:
            raise TurnError(f"a turn from byte {turn.start} on where {self.received} is due")
        if self.has_end:
            return b""
        end = turn.start + len(turn.body)
        new = turn.body[self.received - turn.start :]
        self.received = max(self.received, end)
        if turn.flags & END and end == self.received:
            self.has_end = True
        return new

    def _confirm(self, have: int) -> None:
        if have > self.said + self.is_ended:
            raise TurnError(f"{have} bytes are confirmed where {self.said} were said")
        if have > self.said:
            self.is_end_acked = True
            have = self.said
        if have > self.acked:
            self.acked = have
            self._drop_confirmed()

    def _drop_confirmed(self) -> None:
        if self.acked == self.said:
            self._pieces = self._starts = None
        elif self._pieces is not None and self._starts is not None:
            # A piece of which the peer has only a part is kept whole.
            done = bisect_right(self._starts, self.acked) - 1
            del self._pieces[:done], self._starts[:done]
