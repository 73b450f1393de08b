"""The responder's turns: which request of an initiator is answered with what, and when.

An initiator asks in four ways. A *poll* is answered as soon as there is something to say,
or by nothing after a while; it may bring a turn of the initiator's. A *write* brings one
and is answered at once. A *stream* is answered by turns as they come, for as long as it
lasts. And an *upstream* brings turns as they come; it is answered when it ends.

At most one poll waits: a newer one answers the older, which then was given up by whoever
sent it. A stream ends when a poll comes. What was said to an answer that did not arrive
is said again to the next one, since the bytes are kept until the initiator has them.

A token stands for a request; what it is, is the shell's business.
"""

from __future__ import annotations

from typing import Generic, NamedTuple, TypeVar

from compoint.core.turns import ASK, END, HEARD, Ledger, Turn
from compoint.limits import TURNS_ACK_BYTES

__all__ = ["Reply", "ResponderTurns"]

Token = TypeVar("Token")


class Reply(NamedTuple, Generic[Token]):
    """What is said to a request; for a stream there may be many, and `is_last` ends it."""

    token: Token
    turn: Turn | None
    is_last: bool


class ResponderTurns(Ledger, Generic[Token]):
    """One session, seen from the server.

    Every verb may put replies in line; the shell gives them out with `take_replies`.
    """

    __slots__ = ("_at", "_is_full", "_is_heard", "_replies", "poll", "stream")

    def __init__(self) -> None:
        super().__init__()
        #: The requests that wait for something to be said.
        self.poll: Token | None = None
        self.stream: Token | None = None
        #: The number of the next byte said to whichever waits.
        self._at = 0
        self._is_full = False
        self._is_heard = False
        self._replies: list[Reply[Token]] | None = None

    def take_replies(self) -> list[Reply[Token]]:
        """What is to be said now, in order."""
        replies, self._replies = self._replies, None
        return replies or []

    def _reply(self, token: Token, turn: Turn | None, *, is_last: bool) -> None:
        if self._replies is None:
            self._replies = []
        self._replies.append(Reply(token, turn, is_last))

    # --- requests; their turns have been taken ----------------------------------------------

    def wait(self, token: Token, have: int) -> None:
        """A poll of an initiator that has `have`."""
        self.release()
        self.end_stream()
        self.poll = token
        self._at = have
        self._speak()

    def open_stream(self, token: Token, have: int) -> None:
        """A stream for an initiator that has `have`; it is answered by a turn at once."""
        self.release()
        self.end_stream()
        self.stream = token
        self._at = have
        self._is_full = False
        self._say_to_stream(0)

    def answer_write(self, token: Token) -> None:
        """A write, which is told at once what is here."""
        self._reply(token, self.turn(self.acked, most=0), is_last=True)

    def hear(self, turn: Turn) -> bytes:
        """Take a turn that came by any request; what is new in it.

        Raises:
            TurnError: it makes no sense.
        """
        new = self.take(turn)
        if turn.flags & ASK:
            self._is_heard = True
        is_waited_for = self._is_heard or (self.has_end and self.told < self.have)
        if is_waited_for or self.received - self.told >= TURNS_ACK_BYTES:
            self._acknowledge(is_waited_for=is_waited_for)
        return new

    def _acknowledge(self, *, is_waited_for: bool) -> None:
        """Tell what is here. A poll is not answered for that alone, unless it is waited for."""
        flags = HEARD if self._is_heard else 0
        if self.stream is not None and not self._is_full:
            self._say_to_stream(flags)
        elif self.poll is not None and is_waited_for:
            self._answer_poll(flags)
        else:
            return
        self._is_heard = False

    # --- what happens to them -----------------------------------------------------------

    def release(self) -> None:
        """The poll has waited long enough."""
        if self.poll is not None:
            self._answer_poll(0)

    def show_life(self) -> None:
        """The stream has been silent for long."""
        if self.stream is not None and not self._is_full:
            self._say_to_stream(0)

    def end_stream(self) -> None:
        """The stream is to end in good order."""
        if self.stream is not None:
            self._reply(self.stream, None, is_last=True)
            self.stream = None

    def forget(self, token: Token) -> None:
        """Nothing can be said to this request any more."""
        if self.poll is token:
            self.poll = None
        if self.stream is token:
            self.stream = None

    def set_full(self, *, is_full: bool) -> None:
        """Whether the stream takes no more for now."""
        self._is_full = is_full
        self._speak()

    @property
    def has_more(self) -> bool:
        """The stream could be told more right now."""
        return self.stream is not None and not self._is_full and self._at < self.due

    # --- what the server says -------------------------------------------------------------

    def say(self, *pieces: bytes | memoryview) -> int:
        """More bytes, as far as there is room; how many that was."""
        taken = self.append(*pieces)
        self._speak()
        return taken

    def say_end(self) -> None:
        """Nothing more will be said."""
        if not self.is_ended:
            self.is_ended = True
            self._speak()

    def _speak(self) -> None:
        if self._at >= self.due:
            return
        if self.poll is not None:
            self._answer_poll(0)
        elif self.stream is not None and not self._is_full:
            # One turn at a time: whether there is room for the next is told in between.
            self._say_to_stream(0)

    def _answer_poll(self, flags: int) -> None:
        assert self.poll is not None
        token, self.poll = self.poll, None
        self._reply(token, self.turn(self._at, flags), is_last=True)

    def _say_to_stream(self, flags: int) -> None:
        assert self.stream is not None
        turn = self.turn(self._at, flags)
        self._at = turn.start + len(turn.body) + bool(turn.flags & END)
        self._reply(self.stream, turn, is_last=False)
