"""The HTTP API by which plain `curl` is an initiator. See docs/howto/curl.md.

    POST  /orders              a message; the answer is the reply
    POST  /orders?open         a conversation of several requests: a session
    POST, GET, DELETE /orders  with the header ComPoint-Session: write, read, close

A request never holds a thread: what it waits for stands in its `Conversation`, and whoever
brings that about answers it.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol

from compoint.core.codes import Code, Ending, How
from compoint.drive.lifetime import lifetime
from compoint.errors import Fate
from compoint.http._answers import (
    Refused,
    fields_answer,
    last_answer,
    problem_answer,
    stopped_answer,
)
from compoint.http._asking import Asking, Opening
from compoint.http._conversation import Conversation
from compoint.http._exchange import Exchange, Taker
from compoint.http._gateway_bounds import Bounds, Budget
from compoint.http._repeats import KeptAnswers, Repeats
from compoint.http._talking import Talking
from compoint.http._visit import KEY, Visit

if TYPE_CHECKING:
    from compoint.address import ComPointAddress
    from compoint.drive.wire import Wire

__all__ = ["Gateway", "Place"]

_METHODS: Final = ("GET", "HEAD", "POST", "DELETE")
_BOUNDS: Final = Bounds()
_HOW_TO: Final = {
    "what": "a ComPoint responder: it takes messages and answers with messages",
    "ask": "POST a message with its Content-Type; the answer is the reply",
    "talk": "POST ?open; then POST, GET and DELETE with the header ComPoint-Session it gives",
    "channel": "?correlator=NAME, if there are channels here",
    "more": "docs/howto/curl.md",
}


class Place(Protocol):
    """Where initiators arrive."""

    address: ComPointAddress

    def arrive(self, wire: Wire, /) -> bool:
        """An initiator has come; False: too many are waiting."""


class Gateway:
    """The API of one endpoint. Any thread may call any verb; none waits."""

    def __init__(self, bounds: Bounds = _BOUNDS, when_empty: Callable[[], object] = int) -> None:
        self.bounds = bounds
        self.repeats = Repeats(bounds)
        self.is_closed = False
        self._when_empty = when_empty
        self._budget = Budget(bounds.held_bytes)
        # Held for a few steps; nothing else is taken inside it.
        self._lock = threading.Lock()
        self._conversations: set[Conversation] = set()
        self._sessions: dict[str, Conversation] = {}
        #: What is said of sessions that are over.
        self._ended = KeptAnswers(bounds)

    @property
    def is_empty(self) -> bool:
        """Nobody talks here. Once that is so, `when_empty` is called, on the common pump."""
        return not self._conversations

    def leave(self, place: Place) -> None:
        """A place was closed. Conversations with points that it had accepted live on."""

    def close(self) -> None:
        """End everything: whoever waits is answered, every responder is told."""
        with self._lock:
            self.is_closed = True
            conversations = list(self._conversations)
        for conversation in conversations:
            conversation.abort(Ending(How.BROKEN, Code.STOPPED, "the HTTP server was stopped"))

    # --- requests -----------------------------------------------------------------------------

    def begin(self, exchange: Exchange, place: Place | None) -> Taker:
        """A request has come for a place; None: nobody serves its path any more, but its
        session may live on."""
        visit = Visit(exchange, self.bounds, self._budget)
        try:
            self._check(visit)
            if visit.session:
                self._visit_session(visit)
            else:
                self._visit_place(visit, place)
        except Refused as refused:
            visit.answer(refused.answer)
        return visit

    def _check(self, visit: Visit) -> None:
        if self.is_closed:
            raise Refused(stopped_answer())
        method = visit.request.method
        if method not in _METHODS:
            raise _wrong_method(f"{method[:40]!r} means nothing here", *_METHODS)
        if method == "POST":
            visit.check_length()
        if method in {"POST", "DELETE"} or visit.session:
            visit.check_origin()

    def _visit_place(self, visit: Visit, place: Place | None) -> None:
        method = visit.request.method
        if place is None:
            text = f"nobody serves the path {visit.request.path or '/'!r} here"
            raise Refused(problem_answer(404, Code.NO_SUCH_PATH.word, text))
        if method == "POST":
            visit.check_query("timeout", "correlator", "open")
            kind = Opening if visit.is_opening else Asking
            kind(self, visit, place)
        elif method == "DELETE" or visit.number or visit.request.query:
            text = "the header ComPoint-Session is missing, or empty"
            raise Refused(problem_answer(400, "bad request", text, hint="POST ?open gives one"))
        else:
            visit.answer(fields_answer(200, _HOW_TO))

    def _visit_session(self, visit: Visit) -> None:
        visit.check_query("timeout")
        method = visit.request.method
        if method == "HEAD":
            text = "HEAD would read a message and not show it"
            raise _wrong_method(text, "GET", "POST", "DELETE")
        if KEY in visit.request.headers:
            text = "an Idempotency-Key goes with requests without a session"
            raise Refused(problem_answer(400, "bad request", text, hint="use ComPoint-Number"))
        talking = Talking(self, visit, self._session_of(visit))
        {"POST": talking.write, "GET": talking.read, "DELETE": talking.close}[method]()

    # --- conversations ------------------------------------------------------------------------

    def new(self, visit: Visit, place: Place, correlator: str | None) -> Conversation:
        """A conversation that has arrived at its place.

        Raises:
            Refused: there are too many, here or there.
        """
        request = visit.request
        conversation = Conversation(
            f"{request.peer} (request)", correlator, self.bounds, self._budget,
            is_local=request.is_local,
        )  # fmt: skip
        conversation.when_over = self._forget
        with self._lock:
            is_full = len(self._conversations) >= self.bounds.conversations
            if not (is_full or self.is_closed):
                self._conversations.add(conversation)
        if self.is_closed:
            raise Refused(stopped_answer(Fate.NOT_SENT))
        if is_full or not conversation.begin(place.arrive):
            text = "too many initiators are here"
            raise Refused(problem_answer(503, Code.BUSY.word, text, fate=Fate.NOT_SENT))
        return conversation

    def name(self, conversation: Conversation, path: str) -> str:
        """Make it a session of this path; nobody can guess its name."""
        session = secrets.token_urlsafe(24)
        with self._lock:
            conversation.session = f"{path} {session}"
            if conversation in self._conversations:
                self._sessions[conversation.session] = conversation
            else:  # it was over at once
                self._ended.keep(conversation.session, last_answer(conversation))
        return session

    def _forget(self, conversation: Conversation) -> None:
        with self._lock:
            self._conversations.discard(conversation)
            if self._sessions.pop(conversation.session, None) is not None:
                self._ended.keep(conversation.session, last_answer(conversation))
        if self.is_empty:
            # Not here: a server that gives its wire back holds locks of its own.
            lifetime.pump().soon(self._when_empty)

    def _session_of(self, visit: Visit) -> Conversation:
        name = f"{visit.request.path} {visit.session}"
        with self._lock:
            conversation = self._sessions.get(name)
            kept = None if conversation is not None else self._ended.get(name)
        if conversation is not None:
            return conversation
        if kept is None:
            text = "no such session is known for this path"
            raise Refused(problem_answer(404, "no such session", text, hint="POST ?open gives one"))
        if kept.answer[0] == 200 and visit.request.method != "DELETE":
            text = "this session was closed by a DELETE"
            raise Refused(problem_answer(410, Code.CLOSED.word, text, hint="open a new session"))
        raise Refused(kept.answer)


def _wrong_method(text: str, *allowed: str) -> Refused:
    headers = {"allow": ", ".join(allowed)}
    return Refused(problem_answer(405, "bad method", text, headers=headers))
