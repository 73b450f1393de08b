"""A mailbox that no program works with, in a person's hands: what waits leaves now.

A post office like any other, but worked by the thread that has opened it, which is told of
everything that happens.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Self

from compoint.core.codes import Code
from compoint.deadline import clock
from mail._batch import Batch
from mail._envelope import Kind
from mail._inbound import Inbound
from mail._outbound import Outbound
from mail._post_office import PostOffice, moment

if TYPE_CHECKING:
    from mail._answers import Key
    from mail._mailbox import Post
    from mail._settings import OfficeSettings

__all__ = ["Visit"]

#: What tells of an event in one line.
Tell = Callable[[str], None]


class Visit(PostOffice):
    """The mailbox is this process's until the end of the `with` block.

    Raises:
        BusyError, ConfigError, OSError: as `PostOffice` and `Inbound`.
    """

    def __init__(self, settings: OfficeSettings, tell: Tell) -> None:
        super().__init__(settings)
        self._say = tell
        self._told: dict[str, str] = {}
        self._has_looked = threading.Event()
        # Conversations that spoke in a mail that was handed over, and those in one that was not.
        self._spoken: set[Key] = set()
        self._unspoken: set[Key] = set()
        #: How many mails were refused for good, with the conversations in them.
        self.refused = 0
        try:
            self._inbound = Inbound(self)
        except BaseException:
            super().close()
            raise
        self._outbound = Outbound(self)
        self._waited = self._inbound.dropbox.waiting()
        self._inbound.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._inbound.stop()
        self._outbound.close()
        self.close()

    # --- what a person wants ------------------------------------------------------------

    def take_in(self, until: float) -> tuple[int, int]:
        """Wait until the drop box was looked through, at the latest until then by the clock; how
        many of its mails were taken, and how many put aside. The others stay there."""
        self._has_looked.wait(max(0.0, until - clock()))
        gone = set(self._waited).difference(self._inbound.dropbox.waiting())
        put_aside = gone.intersection(os.listdir(os.path.join(self.settings.spool, "bad")))
        return len(gone - put_aside), len(put_aside)

    def hurry(self) -> None:
        """What waits for its next try, or to ride on something, is due now.

        OSError: nothing of it happened.
        """
        with self._lock, self._whole:
            self._mailbox.hurry()
            self._commit(Batch(), moment())

    def cancel(self, keys: Iterable[Key]) -> set[Key]:
        """Break conversations off, and keep nothing of them; returns those whose peers `send`
        tells. The others are over already, or their peers cannot have heard of them.

        OSError: nothing of it happened.
        """
        text = f"cancelled by a person at {self.settings.mailbox}"
        with self._lock, self._whole:
            at = moment()
            batch = Batch()
            to_be_told = set()
            for key in keys:
                conversation = self._mailbox.conversations[key]
                if conversation.is_unheard:
                    conversation.failed(-1, text, at, is_final=True)
                conversation.break_off(Code.ABANDONED, text)
                if not conversation.is_over:
                    to_be_told.add(key)
                self._mailbox.touch(key)
                self._let_go(self._held[key], batch)
            self._commit(batch, at)
        return to_be_told

    def send(self, until: float) -> None:
        """Hand over what is due; ends when nothing is, when no mail would be taken, or when the
        time is over. Once in a visit."""
        self._outbound.ends_at = until
        self._outbound.run()

    # --- looking ------------------------------------------------------------------------

    def peers(self) -> dict[Key, str]:
        """With whom each conversation is."""
        with self._lock:
            here = self._mailbox.conversations.items()
            return {key: "{}:{}".format(*one.theirs) for key, one in here}

    def waiting(self) -> list[Key]:
        """The conversations of which no mail system has all that is to be said now."""
        with self._lock:
            here = self._mailbox.conversations
            return [key for key in here if here[key].is_waiting or key in self._unspoken]

    def has_spoken(self, key: Key) -> bool:
        """A mail with something of this conversation was handed over in this visit."""
        return key in self._spoken

    # --- what the threads tell ----------------------------------------------------------

    def submitted(self, post: Post) -> None:
        super().submitted(post)
        keys = {key for key, _ in post.parts}
        self._spoken |= keys
        self._unspoken -= keys
        said = sum(len(frame.body) for frame in post.frames if frame.kind is Kind.DATA)
        what = "answers only" if post.is_reply else f"{said} bytes said"
        self._say(f"a mail to {post.recipient} was handed over: {what}")

    def failed(self, post: Post, reason: str, *, is_final: bool, at_once: bool = False) -> None:
        super().failed(post, reason, is_final=is_final, at_once=at_once)
        self._unspoken.update(key for key, _ in post.parts)
        if is_final:
            self.refused += 1
            self._say(reason)

    def note_trouble(self, room: str, text: str) -> None:
        super().note_trouble(room, text)
        if text and text != self._told.get(room):
            self._say(text)
        self._told[room] = text
        if room == "in":
            # It says so behind each look.
            self._has_looked.set()
        if room == "budget" and text:
            # It would be for longer than anybody waits.
            self._outbound.ends_at = clock()
