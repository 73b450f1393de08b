"""All conversations of one mailbox: whose a frame is, what is remembered, what the next mail says.

Theory of operation. A frame is for a conversation that is here, for one that is remembered by
a tombstone, or for a stranger; only DATA frames of the latter two are answered, within bounds.
A conversation whose program has let go of it becomes a tombstone as soon as it is over, so
everything that was ever begun comes to an end: by both sides, or by time.

Pure, like `Conversation`, and with the same rule: a step is some verbs, then `take_changes`,
whose rows are committed; only then may a post that `take_post` has made leave, or bytes that
`take` has returned be shown.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from itertools import chain
from operator import itemgetter
from typing import Final, NamedTuple

from compoint.core.codes import Code
from mail._answers import Answers, Key, key_for, room_of
from mail._conversation import Conversation
from mail._envelope import Frame, Kind, Place, overhead
from mail._graveyard import Graveyard, Guards
from mail._incoming import Early
from mail._outgoing import Said
from mail._state import Changes, State
from mail._timers import Moment, Pace
from mail._tombstone import Tombstone, is_stale

__all__ = [
    "ROOM_BYTES", "Bounds", "BoundsError", "Key", "Mailbox", "MailboxChanges", "Post", "Taken",
]  # fmt: skip

#: The least room of a mail: for one answer and one frame of the longest names, and some bytes.
ROOM_BYTES: Final = 8192
#: Whatever a RESET says fits into this.
_RESET_BYTES: Final = 1030

#: Mailboxes with which there is no conversation are answered so often in this time.
_STRANGERS: Final = 20
_STRANGERS_EACH_S: Final = 3600.0

#: How often all that wait are looked at, whether they have waited for too long.
_LOOK_EACH_S: Final = 1.0


class Bounds(NamedTuple):
    """How much one mailbox keeps; what is beyond is refused."""

    conversations: int = 10_000
    conversations_per_peer: int = 1_000
    #: Beyond it the oldest is forgotten.
    tombstones: int = 100_000
    #: So many answers wait, and so many conversations that were turned away are remembered.
    answers: int = 1_000


_BOUNDS: Final = Bounds()


class BoundsError(Exception):
    """No more conversations can be had at a time; the text says how many there are."""


class Post(NamedTuple):
    """One mail to be made."""

    #: Never used twice in the life of the store.
    number: int
    #: The mailbox of the peer.
    recipient: str
    frames: list[Frame]
    #: Each conversation that speaks in it, with a handle; none: there are only answers.
    parts: tuple[tuple[Key, int], ...]
    #: It holds nothing but ACK and RESET.
    is_reply: bool


class Taken(NamedTuple):
    """What a frame has brought: bytes in order, the end, or the break of a conversation."""

    key: Key
    #: The number of the first byte.
    start: int
    data: bytes
    #: The frame has begun the conversation.
    is_new: bool


class MailboxChanges(NamedTuple):
    """What the steps since the last commit have changed."""

    #: Conversations that were touched.
    changes: list[Changes]
    #: Conversations all of whose rows are needless; these go first.
    gone: list[Key]
    #: To be added or replaced.
    tombstones: list[Tombstone]
    #: Tombstones to be removed.
    forgotten: list[Key]
    #: The number of the next post.
    next_post: int


class Mailbox:
    """The conversations of one mailbox. Every verb ends at once."""

    def __init__(
        self, mailbox: str, incarnation: bytes, pace: Pace, bounds: Bounds = _BOUNDS,
        next_post: int = 1,
    ) -> None:  # fmt: skip
        self.mailbox = mailbox
        #: To be looked at, and to call verbs on, each followed by `touch`.
        self.conversations: dict[Key, Conversation] = {}
        #: Frames for other mailboxes; DATA that brought nothing new; DATA that was turned away;
        #: and answers that tombstones and refusals have given.
        self.foreign = self.doubled = self.refused = self.answered = 0
        self._incarnation = incarnation
        self._pace = pace
        self._bounds = bounds
        self._next_post = next_post
        self._graveyard = Graveyard(bounds.tombstones)
        self._guards = Guards(bounds.answers)
        self._answers = Answers(bounds.answers, pace.ack_delay_s)
        self._per_peer: Counter[str] = Counter()
        self._released: set[Key] = set()
        #: When the peer was last heard (UTC).
        self._heard: dict[Key, float] = {}
        #: When a conversation has something to do; who waits longest stays first. Those that
        #: are at rest are not in it, and cost nothing.
        self._due: dict[Key, float] = {}
        #: When mailboxes were answered with which there was no conversation.
        self._strangers: deque[float] = deque()
        #: When those that had become due were looked at, and when all of them are again.
        self._timed_at = self._all_at = -math.inf
        # Sets that keep their order, so that the same steps always have the same outcome:
        # whose timers are to be looked at anew, and what is to be committed.
        self._unseen: dict[Key, None] = {}
        self._touched: dict[Key, None] = {}
        self._gone: dict[Key, None] = {}

    def restore(
        self,
        kept: Iterable[tuple[State, list[Said], list[Early]]],
        tombstones: Iterable[Tombstone],
        at: Moment,
    ) -> None:
        """What was committed, in a new process. What was released is to be released again."""
        for state, said, early in kept:
            conversation = Conversation.restore(
                state, said, early, self._incarnation, self._pace, at
            )
            key = self._add(conversation)
            if state.last_utc:
                self._heard[key] = state.last_utc - self._pace.expire_s
        self._graveyard.restore(tombstones, at)

    # --- what the programs do ---------------------------------------------------------------

    def open(self, conversation: bytes, port: int, theirs: Place) -> Conversation:
        """Begin one, by a number drawn at random; the peer learns of it by what is said in it.

        Raises:
            BoundsError: there are too many.
        """
        why = self._why_full(theirs.mailbox)
        if why:
            raise BoundsError(why)
        ours = Place(self.mailbox, port)
        new = Conversation(
            conversation, ours, theirs, self._incarnation, self._pace, is_initiator=True
        )
        self.touch(self._add(new))
        return new

    def _why_full(self, peer: str) -> str:
        count, most = len(self.conversations), self._bounds.conversations
        if count >= most:
            return f"{self.mailbox} has {count} conversations, and takes no more at a time"
        count, most = self._per_peer[peer.casefold()], self._bounds.conversations_per_peer
        if count >= most:
            return f"{self.mailbox} has {count} conversations with {peer}, and takes no more"
        return ""

    def _add(self, conversation: Conversation) -> Key:
        key = conversation.conversation, conversation.is_initiator
        self.conversations[key] = conversation
        self._per_peer[conversation.theirs.mailbox.casefold()] += 1
        self._unseen[key] = None
        return key

    def touch(self, key: Key) -> None:
        """A verb was called on a conversation."""
        if key in self.conversations:
            self._unseen[key] = self._touched[key] = None

    def release(self, key: Key) -> None:
        """No program needs it any more: its rows go as soon as it is over, maybe at once."""
        if key in self.conversations:
            self._released.add(key)
            self._unseen[key] = None
            self._bury_if_over(key)

    def _bury_if_over(self, key: Key) -> bool:
        conversation = self.conversations[key]
        if key not in self._released or not conversation.is_over:
            return False
        del self.conversations[key]
        peer = conversation.theirs.mailbox.casefold()
        self._per_peer[peer] -= 1
        if not self._per_peer[peer]:
            del self._per_peer[peer]
        self._released.discard(key)
        for table in (self._heard, self._due, self._unseen, self._touched):
            table.pop(key, None)
        self._gone[key] = None
        # The guard knows when the peer was last told.
        self._graveyard.keep(key, self._guards.pop(key) or conversation.tombstone())
        return True

    def hurry(self) -> None:
        """What waits in any conversation for its next try, or to ride on something, is due."""
        for key, conversation in self.conversations.items():
            conversation.hurry()
            self.touch(key)

    # --- what the peers say -----------------------------------------------------------------

    def take(self, frame: Frame, at: Moment) -> Taken | None:
        """A frame whose trust was checked; None: it brings nothing new for a program."""
        if frame.receiver.mailbox.casefold() != self.mailbox.casefold():
            self.foreign += 1
            return None
        key = key_for(frame)
        if key in self.conversations:
            return self._take_known(key, frame, at)
        stone = self._graveyard.get(key)
        if stone is None:
            return self._take_stranger(key, frame, at)
        later = self._answer(stone, frame, at)
        if later != stone:
            self._graveyard.keep(key, later)
        self.doubled += frame.kind is Kind.DATA
        return None

    def _take_known(
        self, key: Key, frame: Frame, at: Moment, *, is_new: bool = False
    ) -> Taken | None:
        conversation = self.conversations[key]
        is_peers = frame.sender == conversation.theirs and not is_stale(frame, at.utc)
        if conversation.ending:
            # If that was not told, or got lost, the peer must not go on for days.
            if is_peers and conversation.is_over:
                self._turn_away(key, conversation.tombstone(), frame, at)
            return None
        start, had_end = conversation.received, conversation.has_end
        end = frame.start + len(frame.body)
        data = conversation.take(frame, at)
        if is_peers:
            self._heard[key] = at.utc
        self.touch(key)
        if is_new and conversation.ending:
            # It was broken by its first frame: there is nothing to show.
            self.release(key)
            return None
        if data or is_new or conversation.ending or had_end != conversation.has_end:
            return Taken(key, start, data, is_new)
        self.doubled += frame.kind is Kind.DATA and end <= start
        return None

    def _take_stranger(self, key: Key, frame: Frame, at: Moment) -> Taken | None:
        new = Conversation.opened_by(frame, self._incarnation, self._pace, at.utc)
        why_full = self._why_full(frame.sender.mailbox)
        if new is not None and not why_full and self._guards.get(key) is None:
            self._add(new)
            return self._take_known(key, frame, at, is_new=True)
        stone = Tombstone.of_stranger(frame)
        if new is not None:
            stone = stone._replace(code=Code.BUSY, text=why_full)
        self._turn_away(key, stone, frame, at)
        return None

    def _turn_away(self, key: Key, stone: Tombstone, frame: Frame, at: Moment) -> None:
        if frame.kind is not Kind.DATA or is_stale(frame, at.utc):
            return
        self.refused += 1
        if self._guards.has_room(key, at.utc) and self._may_answer(frame.sender.mailbox, at):
            later = self._answer(self._guards.get(key) or stone, frame, at)
            self._guards.keep(key, later)

    def _may_answer(self, peer: str, at: Moment) -> bool:
        """Whether one more mail may go to a mailbox with which there is no conversation.

        Anybody can name it as the sender: it must not get mails of ours without end, and how
        many we may send is counted.
        """
        if self._per_peer[peer.casefold()]:
            return True
        while self._strangers and self._strangers[0] <= at.now - _STRANGERS_EACH_S:
            self._strangers.popleft()
        if len(self._strangers) >= _STRANGERS:
            return False
        self._strangers.append(at.now)
        return True

    def _answer(self, stone: Tombstone, frame: Frame, at: Moment) -> Tombstone:
        later, answer = stone.answer(frame, self._incarnation, at.utc)
        if answer is not None:
            if not self._answers.add(answer, at):
                return stone
            self.answered += 1
        return later

    # --- when something is to be done ---------------------------------------------------------

    def next_timer(self, at: Moment) -> float | None:
        """When `take_post` or `on_timer` has something to do; None: never by itself.

        A time that has passed means now. Old tombstones wait for something else to happen.
        """
        self._look(at)
        alone = (self._answers.due(recipient) for recipient in self._answers.recipients)
        return min(chain(self._due.values(), alone), default=None)

    def _look(self, at: Moment) -> None:
        """Look at what has happened to conversations since the last time."""
        unseen, self._unseen = self._unseen, {}
        for key in unseen:
            if self._bury_if_over(key):
                continue
            self._heard.setdefault(key, at.utc)
            due = min(self._timer(key, at), self._forsaken_at(key, at))
            if due == math.inf:
                self._due.pop(key, None)
            elif max(due, self._due.get(key, math.inf)) > at.now:
                # Else it goes on waiting since it was due first.
                self._due[key] = due

    def _timer(self, key: Key, at: Moment) -> float:
        due = self.conversations[key].next_timer(at)
        return math.inf if due is None else due

    def _forsaken_at(self, key: Key, at: Moment) -> float:
        """When nothing is to be hoped for from the peer, and nobody here waits for it."""
        conversation = self.conversations[key]
        if key not in self._released or conversation.ending or conversation.unconfirmed:
            return math.inf
        return at.now + self._heard[key] + self._pace.expire_s - at.utc

    def on_timer(self, at: Moment) -> bool:
        """Time has passed: give up what was silent for too long, forget what is long over.

        Whether a conversation has come to its end by it. All else may be committed later.
        """
        has_ended = False
        self._look(at)
        # Who waits for a mail is not looked at again for each mail that leaves before.
        since = self._timed_at if at.now < self._all_at else -math.inf
        self._timed_at = at.now
        if since == -math.inf:
            self._all_at = at.now + _LOOK_EACH_S
        for key in [key for key, due in self._due.items() if since < due <= at.now]:
            conversation = self.conversations[key]
            had_ended = conversation.ending
            conversation.on_timer(at)
            if self._forsaken_at(key, at) <= at.now:
                text = f"nothing came from the peer in {self._pace.expire_s:.3g} s"
                conversation.break_off(Code.EXPIRED, text)
            # The other clock may have been set: then it is due later than it seemed.
            self._unseen[key] = None
            if conversation.ending is not had_ended:
                has_ended = True
                self.touch(key)
        self._graveyard.on_timer(at)
        return has_ended

    # --- the mails ----------------------------------------------------------------------------

    def take_post(self, at: Moment, room_bytes: int) -> Post | None:
        """Everything that is due for one recipient, the longest waiting first, as far as its
        frames fit into a mail of at least `ROOM_BYTES`; None: nothing is.

        Exactly one of `submitted` and `failed` is to be called for it, and `bounced` when it
        comes back, also by a process that only knows its number, recipient and parts.
        """
        self._look(at)
        speakers: dict[str, list[tuple[float, Key]]] = {}
        for key, due in self._due.items():
            if due <= at.now:
                peer = self.conversations[key].theirs.mailbox
                speakers.setdefault(peer, []).append((due, key))
        since = {peer: min(waiting)[0] for peer, waiting in speakers.items()}
        for peer in self._answers.recipients:
            due = self._answers.due(peer)
            if due <= at.now:
                since[peer] = min(due, since.get(peer, due))
        for peer in sorted(since, key=since.__getitem__):
            waiting = sorted(speakers.get(peer, ()), key=itemgetter(0))
            post = self._post_for(peer, [key for _, key in waiting], at, room_bytes)
            if post is not None:
                return post
        return None

    def _post_for(self, peer: str, keys: list[Key], at: Moment, room_bytes: int) -> Post | None:
        answers = self._answers.first(peer, room_bytes)
        room_bytes -= room_of(answers)
        said: list[Frame] = []
        parts = []
        for key in keys:
            conversation = self.conversations[key]
            if room_bytes < overhead(conversation.ours, conversation.theirs) + _RESET_BYTES:
                break
            output = conversation.take_output(at, room_bytes)
            if output is not None:
                said += output.frames
                parts.append((key, output.handle))
                room_bytes -= room_of(output.frames)
                # What did not fit goes to the end of the queue.
                del self._due[key]
                self.touch(key)
        if not parts and self._answers.due(peer) > at.now:
            return None
        self._answers.take(answers, at, is_alone=not parts)
        frames = [*answers, *said]
        is_reply = all(frame.kind is not Kind.DATA for frame in frames)
        self._next_post += 1
        return Post(self._next_post - 1, peer, frames, tuple(parts), is_reply)

    def submitted(self, post: Post, at: Moment) -> None:
        """It was taken by a mail system: from now on the peer's silence counts."""
        for conversation, handle in self._speakers(post):
            conversation.submitted(handle, at)

    def failed(self, post: Post, reason: str, at: Moment, *, is_final: bool) -> None:
        """It was refused, or (not final) could not be submitted in all its tries."""
        for conversation, handle in self._speakers(post):
            conversation.failed(handle, reason, at, is_final=is_final)

    def bounced(self, post: Post, status: str, text: str, at: Moment, *, is_final: bool) -> None:
        """It has come back, by a notice whose token was checked."""
        for conversation, handle in self._speakers(post):
            conversation.bounced(handle, status, text, at, is_final=is_final)

    def _speakers(self, post: Post) -> Iterator[tuple[Conversation, int]]:
        for key, handle in post.parts:
            if key in self.conversations:
                self.touch(key)
                yield self.conversations[key], handle

    # --- the commit ---------------------------------------------------------------------------

    def take_changes(self, at: Moment) -> MailboxChanges:
        """What is to be committed now; then it counts as committed."""
        self._look(at)
        gone, self._gone = self._gone, {}
        touched, self._touched = self._touched, {}
        changes = [self.conversations[key].take_changes(at) for key in touched]
        tombstones, forgotten = self._graveyard.take_changes()
        return MailboxChanges(changes, list(gone), tombstones, forgotten, self._next_post)
