"""What the HTTP API answers: messages, receipts, and what is wrong."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from compoint.core.codes import Code, Ending, How
from compoint.errors import Fate
from compoint.http._content import to_content
from compoint.http._exchange import problem
from compoint.http._waiting import Outcome

if TYPE_CHECKING:
    from compoint.core.stream import Item
    from compoint.http._conversation import Conversation
    from compoint.http._waiting import Writing
    from compoint.point import Receipt

__all__ = [
    "NUMBER",
    "Answer",
    "Refused",
    "empty_answer",
    "ending_answer",
    "fields_answer",
    "last_answer",
    "message_answer",
    "not_written_answer",
    "over_answer",
    "problem_answer",
    "stopped_answer",
    "wrong_number_answer",
]

#: Status, headers, body.
Answer = tuple[int, dict[str, str], bytes]

#: The headers with the number of a message, and with what became of one.
NUMBER: Final = "compoint-number"
FATE: Final = "compoint-fate"

#: On every answer: no cache may keep what was read, and no browser guess what it is.
_ALWAYS: Final = {"cache-control": "no-store", "x-content-type-options": "nosniff"}

#: When a conversation ends before there is a reply: why, and as which status.
_STATUS: Final = {
    Code.STOPPED: 503,
    Code.BUSY: 503,
    Code.QUEUE_FULL: 503,
    Code.QUEUE_BYTES: 503,
    Code.TOO_MANY_CHANNELS: 503,
    Code.EXPIRED: 504,
    Code.NO_SUCH_PATH: 404,
    Code.WRONG_MODE: 409,
    Code.NOT_LOCAL: 403,
    Code.CORRELATOR_TOO_LONG: 400,
    Code.MESSAGE_TOO_LARGE: 413,
}
_AGAIN_S: Final = 1.0


class Refused(Exception):
    """A request that is answered by a problem."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer[0])
        self.answer = answer


def problem_answer(
    status: int,
    code: str,
    detail: str,
    *,
    hint: str = "",
    fate: Fate | None = None,
    retry_after_s: float | None = None,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """A problem; `fate` says what became of the message that came with the request."""
    more = {**_ALWAYS, **(headers or {})}
    if fate is not None:
        more[FATE] = str(fate)
    if status == 503 and retry_after_s is None:
        retry_after_s = _AGAIN_S
    return problem(status, code, detail, hint=hint, retry_after_s=retry_after_s, headers=more)


def fields_answer(
    status: int, fields: Mapping[str, object], headers: Mapping[str, str] | None = None
) -> Answer:
    """A small JSON object for programs and people."""
    head = {"content-type": "application/json", **_ALWAYS, **(headers or {})}
    return status, head, json.dumps(fields).encode() + b"\n"


def empty_answer() -> Answer:
    return 204, dict(_ALWAYS), b""


def message_answer(item: Item, number: int, accept: str) -> Answer:
    """A message of the responder."""
    form, payload = (0, item) if isinstance(item, bytes) else item
    headers, body = to_content(form, payload, accept)
    return 200, {**headers, NUMBER: str(number), **_ALWAYS}, body


def last_answer(conversation: Conversation) -> Answer:
    """What is said of a conversation that this side has ended."""
    if conversation.receipt is not None:
        return _receipt_answer(conversation.receipt)
    assert conversation.ending is not None
    return over_answer(conversation.ending)


def _receipt_answer(receipt: Receipt) -> Answer:
    fields: dict[str, object] = {
        "written": receipt.written,
        "confirmed": receipt.confirmed,
        "unconfirmed": list(receipt.unconfirmed),
    }
    if receipt.reason:
        fields["reason"] = receipt.reason
    return fields_answer(200, fields)


def over_answer(ending: Ending, fate: Fate | None = None) -> Answer:
    """The session is known, and its conversation is over."""
    return problem_answer(
        410, _word_of(ending), _sentence_of(ending), fate=fate, retry_after_s=ending.retry_after_s,
        hint="open a new session",
    )  # fmt: skip


def ending_answer(ending: Ending, fate: Fate, hint: str = "") -> Answer:
    """A conversation of one request was over before there was a reply."""
    status = _STATUS.get(ending.code, 502) if ending.how is How.REFUSED else 502
    return problem_answer(
        status, _word_of(ending), _sentence_of(ending), fate=fate, hint=hint,
        retry_after_s=ending.retry_after_s,
    )  # fmt: skip


def stopped_answer(fate: Fate | None = None) -> Answer:
    return problem_answer(503, Code.STOPPED.word, "the HTTP server is stopping", fate=fate)


def wrong_number_answer(expected: int, fate: Fate | None = None) -> Answer:
    text = f"the number that is due is {expected}"
    headers = {NUMBER: str(expected)}
    return problem_answer(409, "wrong number", text, fate=fate, headers=headers)


def not_written_answer(writing: Writing) -> Answer:
    """The message was not written, and the conversation goes on."""
    if writing.outcome is Outcome.WRONG_NUMBER:
        return wrong_number_answer(writing.number, writing.fate)
    if writing.outcome is Outcome.TOO_LARGE:
        text = f"the responder takes messages of up to {writing.number} bytes"
        return problem_answer(413, "too large", text, fate=writing.fate)
    text = "the responder takes no more at the moment"
    if writing.outcome is Outcome.TOO_MANY:
        text = "too many messages wait to be taken"
    return problem_answer(503, Code.BUSY.word, text, fate=writing.fate)


def _word_of(ending: Ending) -> str:
    if ending.how is How.CUT:
        return "lost"
    return ending.code.word


def _sentence_of(ending: Ending) -> str:
    if ending.how is How.REFUSED:
        return f"the responder refused: {ending.text}"
    return ending.text
