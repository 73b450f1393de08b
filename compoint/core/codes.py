"""Why things end: the codes of the wire, how a reason travels, and the ending it leads to.

The table of codes in docs/PROTOCOL.md §7 is checked against this enum by a test.
"""

from __future__ import annotations

import enum
import struct
from dataclasses import dataclass
from typing import Final

__all__ = ["REFUSALS", "Code", "Ending", "How", "cut_text", "decode_reason", "encode_reason"]


class Code(enum.IntEnum):
    """A reason in a refusal, a goodbye or a reset (docs/PROTOCOL.md §7)."""

    CLOSED = 0
    ABANDONED = 1
    STOPPED = 2
    BUSY = 3
    QUEUE_FULL = 4
    QUEUE_BYTES = 5
    EXPIRED = 6
    CORRELATOR_TOO_LONG = 7
    TOO_MANY_CHANNELS = 8
    NO_SUCH_PATH = 9
    WRONG_MODE = 10
    NOT_LOCAL = 11
    VERSION = 12
    BAD_GREETING = 13
    GREETING_TIMEOUT = 14
    FRAME_TOO_LONG = 15
    UNKNOWN_FRAME = 16
    BAD_FRAME = 17
    CREDIT_OVERRUN = 18
    DUPLICATE_CHANNEL = 19
    MESSAGE_TOO_LARGE = 20
    NO_SUCH_CHANNEL = 21
    SILENT = 22
    INTERNAL = 23
    FLOOD = 24

    @property
    def word(self) -> str:
        """The code as it is shown to people: `queue full`."""
        return self.name.lower().replace("_", " ")

    @classmethod
    def from_wire(cls, number: int) -> Code:
        """A code of a newer peer that we do not know counts as INTERNAL of that peer."""
        try:
            return cls(number)
        except ValueError:
            return cls.INTERNAL


class How(enum.Enum):
    """In which way a stream or a connection came to its end, seen from this side."""

    GOODBYE = "goodbye"  # the peer's program closed in good order
    REFUSED = "refused"  # the peer did not take the conversation
    BROKEN = "broken"  # the peer broke it off, or one side broke the rules
    FOREIGN = "foreign"  # the peer does not speak our protocol
    VERSION = "version"  # the peer speaks no version of ours
    CUT = "cut"  # the way to the peer was lost
    FORKED = "forked"  # this is a child's copy of a point that belongs to its parent


@dataclass(frozen=True, slots=True)
class Ending:
    """Why a stream or a connection is over; the first one is kept."""

    how: How
    code: Code
    text: str
    retry_after_s: float | None = None


#: The codes by which a peer says no to a conversation before anyone has answered it.
REFUSALS: Final = frozenset(
    {
        Code.STOPPED,
        Code.BUSY,
        Code.QUEUE_FULL,
        Code.QUEUE_BYTES,
        Code.EXPIRED,
        Code.CORRELATOR_TOO_LONG,
        Code.TOO_MANY_CHANNELS,
        Code.NO_SUCH_PATH,
        Code.WRONG_MODE,
        Code.NOT_LOCAL,
    }
)

# --- a reason on the wire: in a refusal and in a RESET ------------------------------------------

_REASON: Final = struct.Struct("!HI")  # code, retry after ms
_NEVER_MS: Final = 0xFFFF_FFFF
_TEXT_BYTES: Final = 1024


def encode_reason(code: Code, text: str, retry_after_s: float | None) -> bytes:
    """A code, when asking again may help (None: never), and a sentence for people."""
    retry_ms = _NEVER_MS
    if retry_after_s is not None:
        retry_ms = int(max(0, min(retry_after_s * 1000, _NEVER_MS - 1)))
    return _REASON.pack(code, retry_ms) + cut_text(text)


def decode_reason(payload: bytes) -> tuple[Code, str, float | None]:
    """The code, the text and the seconds of `encode_reason`; struct.error if too short."""
    number, retry_ms = _REASON.unpack_from(payload)
    text = payload[_REASON.size :].decode(errors="replace")
    return Code.from_wire(number), text, None if retry_ms == _NEVER_MS else retry_ms / 1000


def cut_text(text: str) -> bytes:
    """A text for people as UTF-8: at most 1024 bytes, no half characters."""
    data = text.encode(errors="replace")
    return data[:_TEXT_BYTES].decode(errors="ignore").encode() if data[_TEXT_BYTES:] else data
