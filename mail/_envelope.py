"""Frames of the mail transport: their bytes, and how they are found in what a mail held.

Nothing outside a frame counts: mail systems rewrite headers and add footers. So a frame
says by itself whose it is and whether it is whole, several stand one behind the other in
a mail, and what lies between or behind them is counted and passed over. See
docs/PROTOCOL.md §12.1.
"""

from __future__ import annotations

import enum
import hashlib
import hmac
import struct
from itertools import pairwise
from typing import Final, NamedTuple

from compoint.address import ComPointAddress
from compoint.errors import AddressError
from compoint.limits import KIB

__all__ = [
    "BODY_BYTES", "MAGIC", "RANGES", "Envelope", "EnvelopeError", "Flag", "Found", "Frame",
    "Kind", "Place", "Trust", "Why", "encode", "find_frames", "overhead",
]  # fmt: skip

MAGIC: Final = b"SMPR"
_VERSION: Final = 1

#: The most bytes one frame carries: a mail that is cut off loses only the frames behind.
BODY_BYTES: Final = 256 * KIB
#: The most ranges of a selective acknowledgement; what is left out is told later.
RANGES: Final = 16
#: The longest frame of any version and kind; what claims more is passed over.
_FRAME_BYTES: Final = BODY_BYTES + 16 * KIB
#: So many places that look like a frame and are none end the search: each may cost a sum
#: over a whole frame.
_FALSE_STARTS: Final = 64
#: So many frames of one mail are read: each costs far more than its bytes, and no sender has
#: so many conversations with one mailbox. What is behind them will be said again.
_FRAMES: Final = 10_000
#: Numbers and times stay below this, so that every store can keep them.
_NUMBERS: Final = 1 << 63

#: magic, version, kind, flags, trust, length of the frame: the same in all versions.
_START: Final = struct.Struct("!4sBBBBI")
#: length of the head, length of the tag, hops, conversation, incarnation, start, have,
#: window, created, expires, ports, length of the mailboxes, count of ranges.
_HEAD: Final = struct.Struct("!HBB16s8sQQIQQHHHHB")
_RANGE: Final = struct.Struct("!QQ")
_SUM_BYTES: Final = 16
_TAG_BYTES: Final = 32


class Kind(enum.IntEnum):
    """What a frame is for."""

    DATA = 1
    ACK = 2
    RESET = 3


class Flag(enum.IntFlag):
    """What else a frame says."""

    #: Opens the conversation where it is not known; until the responder was heard.
    OPEN = 1
    #: This direction ends behind this frame's bytes.
    END = 2
    #: Said by the responder: both sides may share a mailbox.
    RESPONDER = 4


_KINDS: Final = frozenset(Kind)
_FLAGS: Final = int(Flag.OPEN | Flag.END | Flag.RESPONDER)


class Trust(enum.IntEnum):
    """How a frame shows who has made it."""

    NONE = 0
    #: HMAC-SHA256 with a secret that both sides share.
    SECRET = 1


class Why(enum.Enum):
    """What is wrong with what came."""

    FOREIGN = "foreign"
    DAMAGED = "damaged"
    TOO_LONG = "too long"
    VERSION = "other version"
    MALFORMED = "malformed"
    UNTRUSTED = "untrusted"


class EnvelopeError(ValueError):
    """What came is no frame to act on; `why` sorts the reasons, the text names one."""

    def __init__(self, why: Why, text: str) -> None:
        super().__init__(f"{why.value}: {text}")
        self.why = why


class Place(NamedTuple):
    """One end of a conversation; the mailbox as `ComPointAddress` spells it."""

    mailbox: str
    port: int


class Frame(NamedTuple):
    """One frame, as both sides understand it."""

    kind: Kind
    flags: Flag
    conversation: bytes
    incarnation: bytes
    sender: Place
    receiver: Place
    start: int
    have: int
    window: int
    created: int
    expires: int
    ranges: tuple[tuple[int, int], ...] = ()
    body: bytes = b""
    hops: int = 0


class Envelope(NamedTuple):
    """A frame that has arrived undamaged, and what shows who has made it."""

    frame: Frame
    trust: int
    signed: bytes
    tag: bytes

    def check_trust(self, secret: bytes | None) -> None:
        """Nothing, if it is made as agreed: with this secret, or (None) with none.

        Raises:
            EnvelopeError: it is not.
        """
        if secret is None:
            if self.trust != Trust.NONE:
                raise EnvelopeError(Why.UNTRUSTED, "tagged where no secret is agreed")
        elif self.trust != Trust.SECRET:
            raise EnvelopeError(Why.UNTRUSTED, "not tagged with the secret that is agreed")
        elif not hmac.compare_digest(self.tag, hmac.digest(secret, self.signed, "sha256")):
            raise EnvelopeError(Why.UNTRUSTED, "tagged with another secret")


class Found(NamedTuple):
    """What a mail held."""

    envelopes: list[Envelope]
    #: Undamaged frames of kinds that this version does not know.
    skipped: int
    faults: list[EnvelopeError]
    #: Bytes that belong to no frame: footers, rests of damaged ones.
    foreign_bytes: int


def _sum(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()[:_SUM_BYTES]


# --- out ------------------------------------------------------------------------------------


def overhead(sender: Place, receiver: Place) -> int:
    """The most bytes a frame between these two takes beside its body."""
    names = len(sender.mailbox.encode()) + len(receiver.mailbox.encode())
    return _START.size + _HEAD.size + names + RANGES * _RANGE.size + _TAG_BYTES + _SUM_BYTES


def encode(frame: Frame, secret: bytes | None = None) -> bytes:
    """Its bytes, tagged with the secret if there is one.

    Raises:
        ValueError: it has more of something than a frame can hold.
    """
    if len(frame.body) > BODY_BYTES or len(frame.ranges) > RANGES:
        raise ValueError(f"{len(frame.body)} bytes, {len(frame.ranges)} ranges in a frame")
    names = [frame.sender.mailbox.encode(), frame.receiver.mailbox.encode()]
    trust, tag_bytes = (Trust.SECRET, _TAG_BYTES) if secret is not None else (Trust.NONE, 0)
    head_bytes = _HEAD.size + sum(map(len, names)) + _RANGE.size * len(frame.ranges)
    length = _START.size + head_bytes + len(frame.body) + tag_bytes + _SUM_BYTES
    data = b"".join(
        [
            _START.pack(MAGIC, _VERSION, frame.kind, frame.flags, trust, length),
            _HEAD.pack(
                head_bytes, tag_bytes, frame.hops, frame.conversation, frame.incarnation,
                frame.start, frame.have, frame.window, frame.created, frame.expires,
                frame.sender.port, frame.receiver.port, *map(len, names), len(frame.ranges),
            ),
            *names,
            *(_RANGE.pack(*one) for one in frame.ranges),
            frame.body,
        ]
    )  # fmt: skip
    if secret is not None:
        data += hmac.digest(secret, data, "sha256")
    return data + _sum(data)


# --- in -------------------------------------------------------------------------------------


def find_frames(data: bytes) -> Found:
    """Every frame in what a mail held, in order. Never raises."""
    found: list[Envelope] = []
    faults: list[EnvelopeError] = []
    skipped = used = at = 0
    while (at := data.find(MAGIC, at)) >= 0:
        if len(faults) >= _FALSE_STARTS or len(found) + skipped >= _FRAMES:
            break
        try:
            whole = _whole(data, at)
        except EnvelopeError as fault:
            faults.append(fault)
            # Its length cannot be believed; the next frame may begin anywhere behind.
            at += len(MAGIC)
            continue
        at += len(whole)
        used += len(whole)
        try:
            envelope = _read(whole)
        except EnvelopeError as fault:
            faults.append(fault)
            continue
        if envelope is None:
            skipped += 1
        else:
            found.append(envelope)
    if not (used or faults):
        faults.append(EnvelopeError(Why.FOREIGN, "no frame in it"))
    return Found(found, skipped, faults, len(data) - used)


def _whole(data: bytes, at: int) -> bytes:
    """The frame that begins here, of whatever version, whole and undamaged."""
    if len(data) - at < _START.size:
        raise EnvelopeError(Why.DAMAGED, "a frame is cut off in its first bytes")
    length = _START.unpack_from(data, at)[5]
    if length > _FRAME_BYTES:
        raise EnvelopeError(Why.TOO_LONG, f"a frame of {length} bytes")
    if length < _START.size + _SUM_BYTES or length > len(data) - at:
        raise EnvelopeError(Why.DAMAGED, f"a frame of {length} bytes, {len(data) - at} are here")
    whole = data[at : at + length]
    if _sum(whole[:-_SUM_BYTES]) != whole[-_SUM_BYTES:]:
        raise EnvelopeError(Why.DAMAGED, f"the sum of a frame of {length} bytes is wrong")
    return whole


def _read(whole: bytes) -> Envelope | None:
    """What an undamaged frame says; None: its kind is not known here."""
    _, version, kind, flags, trust, _ = _START.unpack_from(whole)
    if version != _VERSION:
        raise EnvelopeError(Why.VERSION, f"a frame of version {version}; this side speaks 1")
    if kind not in _KINDS:
        return None
    try:
        return _parse(whole, Kind(kind), Flag(flags & _FLAGS), trust)
    except (struct.error, ValueError, AddressError) as fault:
        raise EnvelopeError(Why.MALFORMED, str(fault)) from None


def _parse(whole: bytes, kind: Kind, flags: Flag, trust: int) -> Envelope:
    (
        head_bytes, tag_bytes, hops, conversation, incarnation, start, have, window, created,
        expires, from_port, to_port, from_bytes, to_bytes, count,
    ) = _HEAD.unpack_from(whole, _START.size)  # fmt: skip
    at = _START.size + _HEAD.size
    # What follows the ranges in the head is for later versions.
    body_at = _START.size + head_bytes
    body_end = len(whole) - _SUM_BYTES - tag_bytes
    if at + from_bytes + to_bytes + count * _RANGE.size > body_at or body_at > body_end:
        raise ValueError("its parts are longer than the frame")
    if body_end - body_at > BODY_BYTES or count > RANGES:
        raise ValueError(f"{body_end - body_at} bytes, {count} ranges in a frame")
    sender = _place(whole[at : at + from_bytes], from_port)
    at += from_bytes
    receiver = _place(whole[at : at + to_bytes], to_port)
    at += to_bytes
    ranges = tuple(_RANGE.iter_unpack(whole[at : at + count * _RANGE.size]))
    body = whole[body_at:body_end]
    numbers = [have, *(number for one in ranges for number in one)]
    if any(one >= other for one, other in pairwise(numbers)):
        raise ValueError("its ranges are not in order")
    if max(start + len(body), created, expires, *numbers) >= _NUMBERS - 1:
        raise ValueError("a number is too large")
    frame = Frame(
        kind, flags, conversation, incarnation, sender, receiver, start, have, window, created,
        expires, ranges, body, hops,
    )  # fmt: skip
    return Envelope(frame, trust, whole[:body_end], whole[body_end : body_end + tag_bytes])


def _place(name: bytes, port: int) -> Place:
    # Answers will go there: what is no mailbox must never come near a mail's head.
    address = ComPointAddress("mail", name.decode(), port)
    if not address.host:
        raise ValueError("a frame without a mailbox")
    return Place(address.host, port)
