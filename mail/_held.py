"""One conversation as this process holds it: what has arrived for its machine, and who waits."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from compoint.drive.waiter import Waiter

if TYPE_CHECKING:
    from compoint.core.codes import Ending
    from compoint.core.keeping import KeptConnection
    from mail._conversation import Conversation
    from mail._store import Link

__all__ = ["Held"]


class Held:
    """Changed under the lock of the post office, but for what is said to be free."""

    __slots__ = (
        "_arrived",
        "_has_end",
        "conversation",
        "ending",
        "fed",
        "has_wire",
        "kept",
        "link",
        "lost",
        "on_news",
        "waiter",
    )

    def __init__(
        self,
        conversation: Conversation,
        link: Link,
        kept: KeptConnection | None = None,
        arrived: tuple[bytes, ...] = (),
    ) -> None:
        self.conversation = conversation
        self.link = link
        #: What a former process has kept of the machine; None: there was none.
        self.kept = kept
        #: How many of the peer's bytes are in what is kept of the machine.
        self.fed = kept.fed if kept is not None else 0
        #: A point of this process speaks here.
        self.has_wire = False
        #: Why this process can have no part in it any more; what is kept stands.
        self.lost = ""
        #: Why the conversation broke; like all that is free, only once that was committed.
        self.ending: Ending | None = None
        self._has_end = False
        self.waiter = Waiter()
        self.on_news: Callable[[], None] | None = None
        # Bytes in order that the machine has not taken: one thread appends, one takes.
        self._arrived = deque(arrived)

    @property
    def has_arrived(self) -> bool:
        """Bytes are here. Free."""
        return bool(self._arrived)

    @property
    def is_finished(self) -> bool:
        """Nothing more will ever arrive. Free."""
        return bool(self.lost or self.ending or self._has_end)

    def arrive(self, data: bytes) -> None:
        self._arrived.append(data)

    def show(self) -> None:
        """The state of the conversation is committed, and what had arrived has been given."""
        self.ending = self.conversation.ending
        self._has_end = self.conversation.has_end

    def take(self, most: int) -> bytes:
        """What has arrived, at most so many bytes. Free, for one thread at a time."""
        pieces = []
        left = most
        while self._arrived and left:
            piece = self._arrived.popleft()
            if len(piece) > left:
                self._arrived.appendleft(piece[left:])
                piece = piece[:left]
            pieces.append(piece)
            left -= len(piece)
        return b"".join(pieces)

    def tell(self) -> None:
        """Something has changed: whoever serves it should look. Free."""
        self.waiter.wake()
        call = self.on_news
        if call is not None:
            call()
