"""What is remembered of a conversation that is over, or was never known here.

A late double must not begin it again, and a peer that goes on must not wait for ever: it is
told once more that everything is here, or at most once an hour that nobody is.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

from compoint.core.codes import Code, encode_reason
from mail._envelope import Flag, Frame, Kind

__all__ = ["HOPS", "SKEW_S", "Tombstone", "is_stale", "reset"]

#: Clocks may differ by this much.
SKEW_S: Final = 300.0
#: A frame that was passed on more often runs in circles.
HOPS: Final = 8
#: How far ahead a frame may expire: else a peer could have itself remembered for ever.
_FAR_S: Final = 31 * 86400.0
#: How long a conversation is remembered beyond its last frame's expiry.
_REMEMBERED_S: Final = 86400.0
#: A peer is told at most so often that nobody is here.
_RESET_EACH_S: Final = 3600.0
_ACK_EACH_S: Final = 60.0


def is_stale(frame: Frame, utc: float) -> bool:
    """It is too late, too far ahead or too far travelled to be acted on."""
    return not utc - SKEW_S <= frame.expires <= utc + _FAR_S or frame.hops > HOPS


def reset(about: Frame, code: Code, text: str) -> Frame:
    """The frame that breaks the conversation of another one off, in answer to it."""
    return about._replace(
        kind=Kind.RESET, flags=(about.flags & Flag.RESPONDER) ^ Flag.RESPONDER,
        sender=about.receiver, receiver=about.sender, start=about.have, have=0, window=0,
        ranges=(), body=encode_reason(code, text, None), hops=0,
    )  # fmt: skip


class Tombstone(NamedTuple):
    """A plain row. To be forgotten after `until_utc`."""

    conversation: bytes
    is_initiator: bool
    #: Everything the peer has said is here, so many numbers; -1: the conversation broke.
    have: int
    code: int
    text: str
    until_utc: float
    answered_utc: float = -math.inf

    @classmethod
    def of_stranger(cls, frame: Frame) -> Tombstone:
        """For a frame of a conversation that is not known and that it does not open."""
        text = "this conversation is not known here: what was kept of it is lost"
        is_initiator = bool(frame.flags & Flag.RESPONDER)
        until_utc = frame.expires + _REMEMBERED_S
        code = Code.NO_SUCH_CHANNEL
        return cls(frame.conversation, is_initiator, -1, code, text, until_utc)

    @classmethod
    def of_ended(
        cls, conversation: bytes, have: int, code: int, text: str, last_utc: float,
        reset_utc: float, *, is_initiator: bool,
    ) -> Tombstone:  # fmt: skip
        """For a conversation whose last frame expires at `last_utc`."""
        until_utc = last_utc + _REMEMBERED_S
        return cls(conversation, is_initiator, have, code, text, until_utc, reset_utc)

    def answer(
        self, frame: Frame, incarnation: bytes, utc: float
    ) -> tuple[Tombstone, Frame | None]:
        """What is remembered from now on, and what the frame is answered with."""
        if is_stale(frame, utc):
            return self, None
        later = self._replace(until_utc=max(self.until_utc, frame.expires + _REMEMBERED_S))
        # Nothing answers an ACK or a RESET: two sides that disagree come to rest.
        each_s = _RESET_EACH_S if self.have < 0 else _ACK_EACH_S
        if frame.kind is not Kind.DATA or utc < self.answered_utc + each_s:
            return later, None
        answer = reset(frame, Code.from_wire(self.code), self.text)
        if self.have >= 0:
            answer = answer._replace(kind=Kind.ACK, have=self.have, body=b"")
        lasts = frame.expires - frame.created
        answer = answer._replace(
            incarnation=incarnation, created=int(utc), expires=int(utc) + max(0, lasts)
        )
        return later._replace(answered_utc=utc), answer
