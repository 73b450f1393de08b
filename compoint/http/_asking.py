"""Requests without a session: one message and its reply, or the beginning of a session."""

from __future__ import annotations

from typing import TYPE_CHECKING

from compoint.core.codes import Code, Ending, How
from compoint.deadline import clock
from compoint.errors import Fate
from compoint.http._answers import (
    Answer,
    empty_answer,
    ending_answer,
    fields_answer,
    message_answer,
    not_written_answer,
    problem_answer,
    stopped_answer,
)
from compoint.http._waiting import Outcome, Reading, Waiting, Writing
from compoint.http._words import SESSION

if TYPE_CHECKING:
    from compoint.http._conversation import Conversation
    from compoint.http._gateway import Gateway, Place
    from compoint.http._visit import Visit

__all__ = ["Asking", "Opening"]


class _Beginning:
    """What both kinds have in common: a body that becomes a conversation."""

    def __init__(self, gateway: Gateway, visit: Visit, place: Place) -> None:
        self.gateway = gateway
        self.visit = visit
        self._place = place
        self.wait_s = visit.seconds(gateway.bounds.wait_s)
        self._correlator = visit.correlator
        visit.when_complete = self._begin

    def _begin(self, body: bytes) -> None:
        raise NotImplementedError

    def start(self, body: bytes) -> Conversation | None:
        """A conversation that has arrived at its place; None: the request is a repeated one."""
        if not self.visit.is_first(self.gateway.repeats, body):
            return None
        conversation = self.gateway.new(self.visit, self._place, self._correlator)
        if not self.visit.is_repeatable:
            # Nobody will ever fetch what comes of it.
            ending = Ending(How.BROKEN, Code.ABANDONED, "the client left before it had its answer")
            self.visit.when_gone = lambda: conversation.abort(ending)
        return conversation

    def fail(self, answer: Answer, fate: Fate, conversation: Conversation, why: str) -> None:
        """Answer, and break the conversation off if it is not over."""
        self.visit.answer(answer, keep=fate is not Fate.NOT_SENT)
        conversation.abort(Ending(How.BROKEN, Code.ABANDONED, why))

    def over_answer(self, ending: Ending, fate: Fate) -> Answer:
        """It was over before there was what the client waits for."""
        if self.gateway.is_closed:
            return stopped_answer(fate)
        hint = ""
        if ending.code is Code.WRONG_MODE:
            is_plain = self._correlator is None
            hint = "name a channel: ?correlator=NAME" if is_plain else "leave ?correlator out"
        return ending_answer(ending, fate, hint)


class Asking(_Beginning):
    """One message, one reply: the answer."""

    def _begin(self, body: bytes) -> None:
        form, payload = self.visit.message_in(body)
        conversation = self.start(body)
        if conversation is None:
            return
        self._conversation = conversation
        due = clock() + self.wait_s
        self._writing = Writing(due, self._written, form=form, payload=payload)
        conversation.read(Reading(due, self._replied))
        conversation.write(self._writing)

    def _written(self, writing: Writing) -> None:
        """What came of the message the reading tells, but where it could not be taken."""
        if writing.outcome in {Outcome.TOO_LARGE, Outcome.TOO_MANY}:
            answer = not_written_answer(writing)
            self.fail(answer, writing.fate, self._conversation, "the message could not be taken")

    def _replied(self, reading: Reading) -> None:
        fate = self._writing.fate
        if fate is Fate.DELIVERED and not reading.confirmed:
            fate = Fate.NOT_SENT  # it was confirmed on arrival, and given back unread
        ending = reading.ending
        if reading.outcome is Outcome.DONE:
            self.visit.answer(message_answer(reading.item, reading.number, self.visit.accept))
            self._close()
        elif ending is None:
            text = f"no reply came within {self.wait_s:g} s"
            self.fail(self._no_reply_answer(fate), fate, self._conversation, text)
        elif ending.how is How.GOODBYE and fate is Fate.DELIVERED:
            self.visit.answer(empty_answer())
            self._close()
        else:
            self.fail(self.over_answer(ending, fate), fate, self._conversation, "no reply came")

    def _close(self) -> None:
        """Say goodbye for a client that does not ask what came of it."""
        due = clock() + self.gateway.bounds.close_s
        self._conversation.close(Waiting(due, id), "the client has its answer")

    def _no_reply_answer(self, fate: Fate) -> Answer:
        text = {
            Fate.DELIVERED: "the responder holds the message and has not replied",
            Fate.UNKNOWN: "the message was sent, and the responder has not confirmed it",
            Fate.NOT_SENT: "the responder has not taken the message",
        }[fate]
        if not self._conversation.is_claimed:
            text = f"no responder has opened the channel {self._correlator!r}"
        return problem_answer(504, "no reply", f"{text} within {self.wait_s:g} s", fate=fate)


class Opening(_Beginning):
    """The beginning of a session, perhaps with a first message."""

    def _begin(self, body: bytes) -> None:
        message = self.visit.message(body)
        conversation = self.start(body)
        if conversation is None:
            return
        self._conversation = conversation
        due = clock() + self.wait_s
        if message is None:
            conversation.await_welcome(Waiting(due, self._welcomed))
        else:
            form, payload = message
            conversation.write(Writing(due, self._written, form=form, payload=payload))

    def _welcomed(self, waiting: Waiting) -> None:
        if waiting.outcome is Outcome.DONE:
            self._give_session({})
        elif waiting.ending is not None:
            self._fail(self.over_answer(waiting.ending, Fate.NOT_SENT), Fate.NOT_SENT)
        else:
            text = f"the server of this path has not answered within {self.wait_s:g} s"
            self._fail(problem_answer(504, "no answer", text), Fate.NOT_SENT)

    def _written(self, writing: Writing) -> None:
        if writing.is_given:
            self._give_session({"number": writing.number, "confirmed": writing.confirmed})
        elif writing.ending is not None:
            self._fail(self.over_answer(writing.ending, writing.fate), writing.fate)
        else:
            self._fail(not_written_answer(writing), writing.fate)

    def _give_session(self, fields: dict[str, object]) -> None:
        session = self.gateway.name(self._conversation, self.visit.request.path)
        answer = fields_answer(201, {"session": session, **fields}, {SESSION: session})
        self.visit.answer(answer)

    def _fail(self, answer: Answer, fate: Fate) -> None:
        self.fail(answer, fate, self._conversation, "the session was not begun")
