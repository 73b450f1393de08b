"""What the store is given and what it gives back: plain rows, and one transaction of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from compoint.core.keeping import ConnectionChanges, KeptConnection
    from mail._incoming import Early
    from mail._mailbox import Key, MailboxChanges
    from mail._outgoing import Said
    from mail._rate import BudgetState
    from mail._state import State
    from mail._tombstone import Tombstone

__all__ = ["Batch", "Link", "Loaded", "PostRow", "Rows"]


class PostRow(NamedTuple):
    """A mail that was submitted and may still come back."""

    number: int
    message_id: str
    recipient: str
    #: Conversation and handle of each part, for telling it what became of the mail.
    parts: tuple[tuple[Key, int], ...]
    submitted_utc: float


class Link(NamedTuple):
    """What ties a conversation to the programs of this side."""

    key: Key
    #: The local port; of a responder the one it listens at.
    port: int
    #: The name by which a later process takes it up again; "": none.
    name: str
    path: str
    is_released: bool


@dataclass(slots=True)
class Batch:
    """All that one step has changed, for one transaction."""

    mailbox: MailboxChanges | None = None
    #: Bytes in order that no machine has taken: conversation, start, body.
    arrived: list[tuple[Key, int, bytes]] = field(default_factory=list)
    machines: list[tuple[Key, ConnectionChanges]] = field(default_factory=list)
    #: Added or replaced.
    links: list[Link] = field(default_factory=list)
    posts: list[PostRow] = field(default_factory=list)
    #: Numbers of posts whose rows are needless.
    done_posts: list[int] = field(default_factory=list)
    budget: BudgetState | None = None


class Rows(NamedTuple):
    """Everything that was kept of one conversation; the lists in order of their starts."""

    state: State
    said: list[Said]
    early: list[Early]
    arrived: list[tuple[int, bytes]]
    machine: KeptConnection | None
    link: Link | None


class Loaded(NamedTuple):
    """Everything that was kept."""

    conversations: list[Rows]
    tombstones: list[Tombstone]
    posts: list[PostRow]
    budget: BudgetState | None
    next_post: int
