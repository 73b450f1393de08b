"""Requests of a session: write, read, close."""

from __future__ import annotations

from typing import TYPE_CHECKING

from compoint.core.codes import Ending
from compoint.deadline import clock
from compoint.errors import Fate
from compoint.http._answers import (
    NUMBER,
    Answer,
    empty_answer,
    fields_answer,
    last_answer,
    message_answer,
    not_written_answer,
    over_answer,
    problem_answer,
    stopped_answer,
    wrong_number_answer,
)
from compoint.http._waiting import Outcome, Reading, Waiting, Writing

if TYPE_CHECKING:
    from compoint.http._conversation import Conversation
    from compoint.http._gateway import Gateway
    from compoint.http._visit import Visit

__all__ = ["Talking"]


class Talking:
    """One request of a session."""

    def __init__(self, gateway: Gateway, visit: Visit, conversation: Conversation) -> None:
        self._gateway = gateway
        self._visit = visit
        self._conversation = conversation
        default_s = gateway.bounds.wait_s
        if visit.request.method == "DELETE":
            default_s = gateway.bounds.close_s
        self._wait_s = visit.seconds(default_s)
        self._number = visit.number

    # --- POST -------------------------------------------------------------------------------

    def write(self) -> None:
        self._visit.when_complete = self._write

    def _write(self, body: bytes) -> None:
        form, payload = self._visit.message_in(body)
        due = clock() + self._wait_s
        self._conversation.write(
            Writing(due, self._written, wanted=self._number, form=form, payload=payload)
        )

    def _written(self, writing: Writing) -> None:
        if writing.is_given:
            status = 200 if writing.outcome is Outcome.DONE else 202
            fields = {"number": writing.number, "confirmed": writing.confirmed}
            headers = {NUMBER: str(writing.number)}
            self._visit.answer(fields_answer(status, fields, headers))
        elif writing.outcome is Outcome.OVER and writing.ending is not None:
            self._visit.answer(self._over_answer(writing.ending, writing.fate))
        else:
            self._visit.answer(not_written_answer(writing))

    # --- GET --------------------------------------------------------------------------------

    def read(self) -> None:
        reading = Reading(clock() + self._wait_s, self._has_read, wanted=self._number)
        self._visit.when_gone = lambda: self._conversation.left(reading)
        self._conversation.read(reading)

    def _has_read(self, reading: Reading) -> None:
        if reading.outcome is Outcome.DONE:
            answer = message_answer(reading.item, reading.number, self._visit.accept)
        elif reading.outcome is Outcome.NOT_IN_TIME:
            answer = empty_answer()
        elif reading.outcome is Outcome.REPLACED:
            answer = problem_answer(409, "replaced", "a later request reads here now")
        elif reading.outcome is Outcome.OVER and reading.ending is not None:
            answer = self._over_answer(reading.ending)
        else:
            answer = wrong_number_answer(reading.number)
        self._visit.answer(answer)

    # --- DELETE -----------------------------------------------------------------------------

    def close(self) -> None:
        closing = Waiting(clock() + self._wait_s, self._closed)
        self._conversation.close(closing, "this session was closed by a DELETE")

    def _closed(self, closing: Waiting) -> None:
        self._visit.answer(last_answer(self._conversation))

    def _over_answer(self, ending: Ending, fate: Fate | None = None) -> Answer:
        return stopped_answer(fate) if self._gateway.is_closed else over_answer(ending, fate)
