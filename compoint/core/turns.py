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
docs/PROTOCOL.md §9.
"""

from __future__ import annotations

import struct
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

    __slots__ = ("_data",)

    def __init__(self) -> None:
        self._data = b""

    def feed(self, data: bytes) -> list[Turn]:
        """The turns that are complete now.

        Raises:
            TurnError: this is no turn; nothing that follows can be read.
        """
        if self._data:
            data = self._data + data
        turns = []
        at = 0
        while len(data) - at >= _HEAD.size:
            flags, length, start, have = _HEAD.unpack_from(data, at)
            if flags & ~_FLAGS or length > TURN_BYTES:
                raise TurnError("bytes that are no turn")
            end = at + _HEAD.size + length
            if end > len(data):
                break
            turns.append(Turn(flags, start, have, data[at + _HEAD.size : end]))
            at = end
        self._data = data[at:]
        return turns

    @property
    def is_empty(self) -> bool:
        """No turn has begun that has not ended."""
        return not self._data


class Ledger:
    """Both directions of a session, as one side sees them."""

    __slots__ = ("_kept", "acked", "has_end", "is_end_acked", "is_ended", "received", "told")

    def __init__(self) -> None:
        self._kept = bytearray()
        #: The number of the first byte kept: the peer has those before.
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
        """How many bytes may be appended now."""
        return max(0, TURNS_KEPT_BYTES - len(self._kept))

    @property
    def due(self) -> int:
        """What the peer has when it has everything said so far, the end counted."""
        return self.acked + len(self._kept) + self.is_ended

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

    def append(self, data: bytes | memoryview) -> None:
        """Say more; as much as there is room for."""
        self._kept += data

    def turn(self, start: int, flags: int = 0, most: int = TURN_BYTES) -> Turn:
        """A turn with what is kept from the byte `start` on, `most` bytes at the most.

        A number that is not kept is taken for the nearest that is.
        """
        start = min(max(start, self.acked), self.acked + len(self._kept))
        first = start - self.acked
        body = bytes(memoryview(self._kept)[first : first + most])
        if self.is_ended and first + len(body) == len(self._kept):
            flags |= END
        self.told = self.have
        return Turn(flags, start, self.told, body)

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
        written = self.acked + len(self._kept)
        if have > written + self.is_ended:
            raise TurnError(f"{have} bytes are confirmed where {written} were said")
        if have > written:
            self.is_end_acked = True
            have = written
        if have > self.acked:
            del self._kept[: have - self.acked]
            self.acked = have
