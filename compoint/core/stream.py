"""One conversation in both directions: numbers, credit, confirmation, assembly.

Messages are numbered from 1 by counting; the numbers need no bytes on the wire, since a
connection keeps order and both sides count. Confirmation is the count of messages the
other side holds; credit is an absolute count of cost the other side allows. The cost of
a message is its length plus a toll, so that empty messages are not free. No count ever
goes down, not even when a message is dropped on the way: so both sides agree on them
whatever crosses on the wire.

This is bookkeeping only; which frames say it is the business of the machine.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Final

from compoint.limits import LARGE_WINDOW_BYTES, MESSAGE_TOLL_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from compoint.core.assembly import Assembly
    from compoint.core.codes import Ending

__all__ = ["NOTHING", "Item", "Stream"]

# A message in an inbox: raw bytes as they are, any other form with its number beside it.
Item = bytes | tuple[int, bytes]

#: The inbox of every stream that has got nothing: a deque of its own takes 760 bytes, and
#: thousands of streams may be silent. It takes nothing.
NOTHING: Final[deque[Item]] = deque(maxlen=0)


class Stream:
    """The state of one conversation, seen from this side."""

    __slots__ = (
        "acked",
        "assembly",
        "correlator",
        "dropped_cost",
        "ending",
        "gather_room",
        "gathered",
        "gathered_form",
        "goodbye_said",
        "grant_at",
        "has_waiters",
        "in_cost",
        "in_limit",
        "inbox",
        "is_claimed",
        "is_end_told",
        "is_kept",
        "is_open",
        "is_touched",
        "is_writing",
        "number",
        "out_cost",
        "out_left",
        "out_limit",
        "owner",
        "peer_unread",
        "received",
        "taken",
        "taken_cost",
        "wide",
        "window",
        "written",
    )

    def __init__(self, number: int, out_limit: int, window: int, *, is_kept: bool = False) -> None:
        self.number = number
        #: What is read of it is to be kept, each time: see `compoint.core.keeping`.
        self.is_kept = is_kept
        #: Both sides may still talk: nobody has said goodbye and nothing is broken.
        self.is_open = True
        #: Why the peer's direction is over; the first cause is kept.
        self.ending: Ending | None = None
        self.goodbye_said = False
        #: A responder is here (always true but for a queued channel).
        self.is_claimed = True
        self.correlator = ""
        #: The shell of this stream; opaque here.
        self.owner: Any = None
        self.is_touched = False
        #: The program has heard that and why it is over (only noted where `is_kept`).
        self.is_end_told = False
        #: Somebody is to be told of every message. False: the one reader looks by itself.
        self.has_waiters = True

        # outgoing
        self.written = 0
        self.acked = 0
        self.out_cost = 0
        self.out_limit = out_limit
        #: Bytes of the large message being written that were not given yet.
        self.out_left = 0
        self.is_writing = False
        self.gathered: list[bytes] | None = None
        self.gathered_form = 0
        #: How much more cost may be appended to `gathered` without asking anyone.
        self.gather_room = 0
        #: How many confirmed messages the peer gave back unread with its goodbye.
        self.peer_unread = 0

        # incoming
        self.inbox = NOTHING
        self.received = 0
        self.in_cost = 0
        self.window = window
        #: While this side's program is stuck in writing: how much may come all the same.
        self.wide = 0
        self.in_limit = window
        self.assembly: Assembly | None = None
        #: The cost of messages the peer took back half way: spent, and no memory held.
        self.dropped_cost = 0
        # The two counts of what the program has taken are written by the one reader only.
        self.taken = 0
        self.taken_cost = 0
        self.grant_at = 0 if is_kept else window // 2

    def put(self, items: Iterable[Item]) -> None:
        """Messages have arrived."""
        if self.inbox is NOTHING:
            self.inbox = deque()
        self.inbox.extend(items)

    @property
    def confirmed(self) -> int:
        """How many of our messages the peer holds for its program."""
        return self.acked - self.peer_unread

    @property
    def unread_bytes(self) -> int:
        """What waits here for the program, toll included, an unfinished message too."""
        return self.in_cost - self.taken_cost - self.dropped_cost

    def acknowledge(self, low: int) -> bool:
        """Take the low 32 bits of the peer's count; False if it confirms what was never sent."""
        count = self.acked + ((low - self.acked) & 0xFFFF_FFFF)
        if count > self.written:
            return False
        self.acked = count
        return True

    def due_limit(self) -> int:
        """The credit the peer should have now.

        One message may outgrow the window: while nothing complete waits here, the bytes
        of an unfinished message count as taken, or it could never be finished. Not while
        no responder is here, for then nobody waits for it.
        """
        taken = self.taken_cost + self.dropped_cost
        if self.wide:
            taken = min(self.in_cost, taken + max(0, self.wide - self.window))
        elif self.assembly is not None and not self.inbox and self.is_claimed:
            return taken + self.assembly.position + self.large_window()
        return taken + self.window

    def large_window(self) -> int:
        """How much of the large message that is coming may come ahead."""
        if self.is_kept and self.assembly is not None:
            rest = self.assembly.size - self.assembly.position + MESSAGE_TOLL_BYTES
            return max(self.window, min(rest, LARGE_WINDOW_BYTES))
        return self.window

    def note_grant(self, limit: int) -> None:
        """The peer is told `limit`; the next grant is worth a look at `grant_at` taken."""
        self.in_limit = limit
        if not self.is_kept:
            self.grant_at = limit - self.dropped_cost - self.window // 2
