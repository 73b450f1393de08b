"""The post office of one mailbox: all its conversations, in memory and in the store.

Every step is taken under one lock and committed before it shows: bytes are given to a point,
a message is said, a mail leaves only when the store has it. A step that cannot be committed is
undone by reading again what is there. Threads for mails in and out, and the points, come here;
nothing here waits for anything but the disk.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

from compoint.core.codes import Code
from compoint.core.keeping import has_goodbye
from compoint.deadline import clock
from compoint.errors import BusyError, ComPointException, Phase
from mail._answers import key_for
from mail._batch import Batch, Link, PostRow
from mail._envelope import Place
from mail._held import Held
from mail._mailbox import BoundsError, Mailbox, Post
from mail._outcome import is_quota
from mail._reports import Kind
from mail._sent import Sent
from mail._store import Store
from mail._timers import Moment
from mail._waiting import Waiting

if TYPE_CHECKING:
    from compoint.core.keeping import ConnectionChanges
    from mail._answers import Key
    from mail._batch import Rows
    from mail._envelope import Frame
    from mail._reports import Report
    from mail._settings import OfficeSettings

__all__ = ["PostOffice", "moment"]

#: Local ports of initiators, as a system gives them.
_PORTS: Final = range(49152, 65536)
#: How often what nobody has taken up is looked for.
_SWEEP_EACH_S: Final = 3600.0
#: A mail server that takes longer over a mail is named as what keeps it from travelling.
SLOW_S: Final = 2.0

#: Called with each conversation that begins at a port, or was left there.
Arrived = Callable[[Held], object]
#: Called when no conversation can begin any more, with the reason.
Lost = Callable[[str], object]


def moment() -> Moment:
    """Now, by both clocks."""
    return Moment(clock(), time.time())


class _Whole:
    """Entered for each step, under the lock: one that did not come to its end is undone.

    Whatever ended it: a disk, a fault of ours, or Ctrl-C between any two instructions, also
    those of this class. Else the next step would commit half of it.
    """

    def __init__(self, undo: Callable[[], object]) -> None:
        self._undo = undo
        self._is_half = False

    def doubt(self) -> None:
        """Let the next step begin with what the store has."""
        self._is_half = True

    def __enter__(self) -> None:
        if self._is_half:
            self._undo()
        self._is_half = True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: object
    ) -> None:
        # BusyError: it had not begun.
        if kind is not None and not issubclass(kind, BusyError):
            try:
                self._undo()
            except Exception:  # noqa: BLE001 - the next step tries again, and tells why it cannot
                return
        self._is_half = False


class PostOffice:
    """Opened by the first point over mail, closed behind the last; one for each spool folder.

    Raises:
        BusyError, ConfigError, OSError: as `Store`.
    """

    def __init__(self, settings: OfficeSettings) -> None:
        self.settings: Final = settings
        self._lock = threading.Lock()
        self._whole = _Whole(self._undo)
        self._is_closed = False
        self._store = Store(settings.spool, settings.mailbox)
        self._held: dict[Key, Held] = {}
        self._waiting = Waiting()
        self._ports: dict[int, tuple[Arrived, Lost]] = {}
        #: Called when there is, or may be, a mail to be made.
        self.on_said: Callable[[], object] = lambda: None
        #: What keeps mails from travelling, by the name of the room that says so.
        self._troubles: dict[str, str] = {}
        #: Since when the mail server has had to answer; None: it is not asked for anything.
        self.handing_over_since: float | None = None
        #: There is something that the next step is to commit.
        self._is_owed = False
        #: Frames that were not taken because too much waits for programs.
        self.dropped = 0
        try:
            self._load()
        except BaseException:
            self._store.close()
            raise

    # --- what is kept -------------------------------------------------------------------

    def _load(self) -> None:
        """Be what is in the store; points that live go on with what was committed."""
        settings = self.settings
        loaded = self._store.load()
        at = moment()
        self._mailbox = Mailbox(
            settings.mailbox, self._store.incarnation, settings.pace, next_post=loaded.next_post
        )
        kept = ((rows.state, rows.said, rows.early) for rows in loaded.conversations)
        self._mailbox.restore(kept, loaded.tombstones, at)
        self._sent = Sent(loaded.posts)
        self.budget = settings.budget(loaded.budget)
        self._waiting = Waiting()
        self._sweep_at = at.now + _SWEEP_EACH_S
        for rows in loaded.conversations:
            key = rows.state.conversation, rows.state.is_initiator
            held = self._held.get(key)
            if held is not None and held.has_wire:
                held.conversation = self._mailbox.conversations[key]
            else:
                self._take_up(key, rows, at)
            self._held[key].show()
            self._waiting.note(self._held[key])
        for key in [key for key in self._held if key not in self._mailbox.conversations]:
            held = self._held[key] if self._held[key].has_wire else self._held.pop(key)
            held.lost = held.lost or "what was kept of it is lost"

    def _undo(self) -> None:
        """Be what the store has, after half a step. OSError: it cannot be read."""
        if self._is_closed:
            return
        try:
            self._load()
        except ComPointException as error:
            # While programs run nothing can be configured.
            raise OSError(errno.EIO, str(error)) from error

    def _take_up(self, key: Key, rows: Rows, at: Moment) -> None:
        """A conversation that a former process has left."""
        conversation = self._mailbox.conversations[key]
        link = rows.link or Link(key, conversation.ours.port, "", "", is_released=False)
        fed = rows.machine.fed if rows.machine is not None else 0
        arrived = tuple(body[max(0, fed - start) :] for start, body in rows.arrived)
        held = self._held[key] = Held(conversation, link, rows.machine, arrived)
        if self._is_forsaken(held, at):
            self._give_up(held, at)
        # An initiator without a name is gone for good; and nobody is missed who had closed.
        is_gone = conversation.is_initiator and not link.name
        if link.is_released or is_gone or (rows.machine and has_goodbye(rows.machine)):
            conversation.say_end(at)
            held.link = link._replace(is_released=True)
            self._mailbox.touch(key)
            self._mailbox.release(key)

    def _is_forsaken(self, held: Held, at: Moment) -> bool:
        """No program has come for it in all the time for which there was something to do."""
        conversation = held.conversation
        return (conversation.last_utc or conversation.given_up_utc) < at.utc

    def _give_up(self, held: Held, at: Moment) -> None:
        """Nobody has come for it in all the time for which the peer's last words were good."""
        text = f"no program took it up within {self.settings.pace.expire_s:.3g} s"
        held.conversation.break_off(Code.EXPIRED, text)
        held.link = held.link._replace(is_released=True)
        self._mailbox.touch(held.link.key)
        self._mailbox.release(held.link.key)

    def _commit(self, batch: Batch, at: Moment, *, is_repeatable: bool = False) -> None:
        """Make the step lasting. Whatever is raised: it is undone."""
        self._is_owed = False
        batch.mailbox = self._mailbox.take_changes(at)
        here = self._mailbox.conversations
        batch.links = [link for link in batch.links if link.key in here]
        batch.machines = [one for one in batch.machines if one[0] in here]
        self._store.commit(batch, is_repeatable=is_repeatable)
        # Only now, and in this order: an end stands behind what has arrived.
        for key, _, data in batch.arrived:
            self._held[key].arrive(data)
        for changes in batch.mailbox.changes:
            held = self._held.get((changes.state.conversation, changes.state.is_initiator))
            if held is not None:
                held.show()
        for key in batch.mailbox.gone:
            held = self._held.get(key)
            self._waiting.forget(key)
            if held is not None:
                held.show()
            if held is not None and not held.has_wire:
                del self._held[key]

    # --- what points do -----------------------------------------------------------------

    def open(self, theirs: Place, path: str, name: str = "") -> Held:
        """Begin a conversation; the peer learns of it by what is said in it.

        Raises:
            BusyError: there are too many.
            OSError: it cannot be kept.
        """
        with self._lock, self._whole:
            at = moment()
            number = os.urandom(16)
            port = _PORTS[int.from_bytes(number[:2]) % len(_PORTS)]
            try:
                conversation = self._mailbox.open(number, port, theirs)
            except BoundsError as full:
                raise BusyError(
                    str(full), phase=Phase.OPEN, hint="`compoint mail status` shows them"
                ) from None
            key = number, True
            link = Link(key, port, name, path, is_released=False)
            held = self._held[key] = Held(conversation, link)
            self._commit(Batch(links=[link]), at)
            held.has_wire = True
            return held

    def resume(self, theirs: Place, path: str, name: str) -> Held | None:
        """The conversation of this name that a former process has left; None: there is none.

        Raises:
            BusyError: a living point is at it.
        """
        with self._lock, self._whole:
            for held in self._held.values():
                link = held.link
                if (
                    held.conversation.is_initiator
                    and (held.conversation.theirs, link.path, link.name) == (theirs, path, name)
                    and not link.is_released
                ):
                    if held.has_wire:
                        raise BusyError(
                            f"another point of this process has the conversation {name!r}",
                            phase=Phase.OPEN, hint="close it first, or take another name",
                        )  # fmt: skip
                    held.has_wire = True
                    return held
        return None

    def listen(self, port: int, arrived: Arrived, lost: Lost) -> int:
        """Be told of the conversations at a port (0: any that is free), at once of those that
        are there, and when there will be no more; returns the port.

        Raises:
            BusyError: a server of this process is there.
        """
        with self._lock, self._whole:
            if not port:
                used = {held.link.port for held in self._held.values()}
                port = next(one for one in _PORTS if one not in self._ports and one not in used)
            elif port in self._ports:
                raise BusyError(
                    f"another server of this process has the port {port} of "
                    f"{self.settings.mailbox}", phase=Phase.OPEN, hint="take another port",
                )  # fmt: skip
            self._ports[port] = arrived, lost
            for held in self._held.values():
                if held.link.port == port:
                    self._offer(held)
        return port

    def _offer(self, held: Held) -> None:
        """Give a conversation that nobody has to who listens for it.

        Before its first bytes, with the greeting, it is none: anything may begin one.
        """
        port = self._ports.get(held.link.port)
        conversation = held.conversation
        if port is None or conversation.is_initiator or not conversation.received:
            return
        if not (held.has_wire or held.link.is_released):
            held.has_wire = True
            arrived, _ = port
            arrived(held)

    def stop_listening(self, port: int) -> None:
        with self._lock:
            self._ports.pop(port, None)

    def keep(
        self, held: Held, changes: ConnectionChanges, data: bytes, *, is_released: bool
    ) -> None:
        """One step of a point: its machine has changed, and says something.

        OSError: nothing of it happened; the text says why.
        """
        with self._lock, self._whole:
            at = moment()
            if held.lost or self._is_closed:
                raise OSError(errno.EIO, held.lost or "the mailbox is closed in this process")
            key = held.link.key
            if key not in self._mailbox.conversations:
                return
            batch = Batch(machines=[(key, changes)])
            if data:
                held.conversation.say_whole(data, at)
                self._mailbox.touch(key)
            if is_released:
                self._let_go(held, batch)
            self._commit(batch, at)
            held.fed = changes.fed
            if key in self._mailbox.conversations:
                self._waiting.note(held)
        if data:
            self.on_said()

    def end(self, held: Held, *, is_released: bool) -> None:
        """A point says no more; if it is released, it does not read any more either."""
        with self._lock, self._whole:
            at = moment()
            key = held.link.key
            if self._is_closed or key not in self._mailbox.conversations:
                return
            batch = Batch()
            held.conversation.say_end(at)
            self._mailbox.touch(key)
            if is_released:
                self._let_go(held, batch)
            self._commit(batch, at)
        self.on_said()

    def _let_go(self, held: Held, batch: Batch) -> None:
        held.link = held.link._replace(is_released=True)
        batch.links.append(held.link)
        self._mailbox.release(held.link.key)

    def leave(self, held: Held) -> None:
        """A point is gone."""
        with self._lock:
            held.has_wire = False
            key = held.link.key
            if key not in self._mailbox.conversations:
                self._held.pop(key, None)
            elif held.lost:
                # As a later process would, the next step takes up what is kept of it.
                self._whole.doubt()

    # --- mails in -----------------------------------------------------------------------

    def take(self, frames: Iterable[Frame]) -> None:
        """Frames have arrived whose trust was checked; when this returns they are safe.

        OSError: nothing of it happened; the mails are to be kept.
        """
        news: dict[Key, Held] = {}
        with self._lock, self._whole:
            at = moment()
            batch = Batch()
            for frame in frames:
                self._take_in(frame, at, batch, news)
            self._commit(batch, at)
            for held in news.values():
                self._offer(held)
        for held in news.values():
            held.tell()
        self.on_said()

    def _take_in(self, frame: Frame, at: Moment, batch: Batch, news: dict[Key, Held]) -> None:
        key = key_for(frame)
        if frame.body and not self._waiting.has_room(key, self._held.get(key), frame):
            self.dropped += 1
            return
        taken = self._mailbox.take(frame, at)
        if taken is not None and taken.is_new:
            conversation = self._mailbox.conversations[key]
            link = Link(key, conversation.ours.port, "", "", is_released=False)
            batch.links.append(link)
            self._held[key] = Held(conversation, link)
        held = self._held.get(key)
        if held is not None:
            news[key] = held
            if taken is not None and taken.data:
                batch.arrived.append((key, taken.start, taken.data))
            self._waiting.note(held)

    def came_back(self, report: Report) -> bool:
        """A mail system says what became of a mail; whether it was one of ours."""
        with self._lock, self._whole:
            row = self._sent.meant_by(report)
            if row is None:
                return False
            if report.kind is not Kind.FAILED:
                return True
            at = moment()
            post = Post(row.number, row.recipient, [], row.parts, is_reply=False)
            passes = report.status.startswith("4") or is_quota(report.status, report.text)
            self._mailbox.bounced(post, report.status, report.text, at, is_final=not passes)
            self._commit(Batch(done_posts=[row.number]), at)
            self._sent.remove(row.number)
        self._tell(row.parts)
        self.on_said()
        return True

    # --- mails out ----------------------------------------------------------------------

    def next_mail(self) -> float | None:
        """When there is a mail to be made, by the clock; None: not by itself."""
        with self._lock, self._whole:
            at = moment()
            if at.now >= self._sweep_at:
                self._sweep(at)
            due = self._mailbox.next_timer(at)
            if due is None or due > at.now:
                if self._is_owed:
                    self._commit(Batch(), at, is_repeatable=True)
                return due
            if not self._mailbox.on_timer(at):
                return due
            self._commit(Batch(), at)
            over = [held for held in self._held.values() if held.conversation.ending]
        for held in over:
            held.tell()
        return due

    def settle(self) -> None:
        """Commit what would be committed with the next step, which may be long in coming."""
        with self._lock, self._whole:
            if self._is_owed:
                self._commit(Batch(), moment(), is_repeatable=True)

    def _sweep(self, at: Moment) -> None:
        self._sweep_at = at.now + _SWEEP_EACH_S
        for held in self._held.values():
            if not (held.has_wire or held.link.is_released) and self._is_forsaken(held, at):
                self._give_up(held, at)
                self._is_owed = True

    def take_post(self, room_bytes: int, message_id: str) -> Post | None:
        """What the next mail says, if there is one to be made and the budget allows it.

        From here on it may come back: some mail systems report before they have answered.
        """
        with self._lock, self._whole:
            at = moment()
            post = self._mailbox.take_post(at, room_bytes)
            if post is None:
                return None
            self.budget.take(at.utc)
            batch = Batch(budget=self.budget.state())
            if post.parts:
                row = PostRow(post.number, message_id, post.recipient, post.parts, at.utc)
                batch.posts.append(row)
                batch.done_posts = self._sent.remove_old(at.utc)
                self._sent.add(row)
            # All that it says is on the disk. A power cut may undo that it was said: then it
            # is said again, and the peer knows it already.
            self._commit(batch, at, is_repeatable=True)
            return post

    def submitted(self, post: Post) -> None:
        """A mail system has it.

        That is committed with the next step: if there is none, it is handed over twice, which
        the peer does not notice.
        """
        with self._lock, self._whole:
            self._mailbox.submitted(post, moment())
            self._is_owed = True
        self._tell(post.parts)

    def failed(self, post: Post, reason: str, *, is_final: bool, at_once: bool = False) -> None:
        """It was refused; if not for good, it is made again, at once or after a while."""
        with self._lock, self._whole:
            at = moment()
            if at_once:
                self._mailbox.bounced(post, "", reason, at, is_final=False)
            else:
                self._mailbox.failed(post, reason, at, is_final=is_final)
            self._sent.remove(post.number)
            self._commit(Batch(done_posts=[post.number]), at)
        self._tell(post.parts)

    def refuse_all(self, reason: str) -> None:
        """No mail can leave until somebody changes something: whoever waits is told.

        A conversation of which no mail has left never was; the others wait in the store.
        """
        with self._lock, self._whole:
            at = moment()
            told = [held for held in self._held.values() if held.has_wire]
            for held in told:
                if held.conversation.is_unheard:
                    held.conversation.failed(-1, reason, at, is_final=True)
                    self._mailbox.touch(held.link.key)
                else:
                    held.lost = held.lost or reason
            self._commit(Batch(), at)
        for held in told:
            held.tell()

    def lose_all(self, reason: str) -> None:
        """This process can do nothing more for its points; what is kept stands."""
        with self._lock:
            told = [held for held in self._held.values() if held.has_wire]
            for held in told:
                held.lost = held.lost or reason
            ports = list(self._ports.values())
        for held in told:
            held.tell()
        for _, lost in ports:
            lost(reason)

    def _tell(self, parts: Iterable[tuple[Key, int]]) -> None:
        for key, _ in parts:
            held = self._held.get(key)
            if held is not None:
                held.tell()

    # --- looking ------------------------------------------------------------------------

    @property
    def trouble(self) -> str:
        """What keeps mails from travelling at this moment; "": nothing that is known."""
        texts = [text for text in list(self._troubles.values()) if text]
        since = self.handing_over_since
        if since is not None and (waited_s := clock() - since) > SLOW_S:
            texts.append(f"the mail server has not taken a mail for {waited_s:.0f} s")
        return "; ".join(texts)

    def note_trouble(self, room: str, text: str) -> None:
        self._troubles[room] = text

    def counts(self) -> dict[str, int]:
        """What frames were not taken, and why, since this process has begun."""
        mailbox = self._mailbox
        return {
            "foreign": mailbox.foreign, "doubled": mailbox.doubled, "refused": mailbox.refused,
            "dropped": self.dropped, "answered": mailbox.answered,
        }  # fmt: skip

    # --- the end ------------------------------------------------------------------------

    def close(self) -> None:
        with self._lock:
            self._is_closed = True
            self._store.close()

    def after_fork(self) -> None:
        self._lock = threading.Lock()
        self._store.after_fork()
