"""One request to the HTTP API: what it says, checked, and its one answer."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from compoint.errors import Fate
from compoint.http._answers import NUMBER, Answer, Refused, problem_answer
from compoint.http._content import NAME, ContentError, from_content, is_left_to_curl
from compoint.http._gateway_bounds import IDEMPOTENCY_KEY
from compoint.http._words import SESSION
from compoint.limits import CORRELATOR_BYTES

if TYPE_CHECKING:
    from compoint.http._exchange import Exchange
    from compoint.http._gateway_bounds import Bounds, Budget
    from compoint.http._repeats import Repeats

__all__ = ["KEY", "Visit"]

#: The header that names a request.
KEY: Final = "idempotency-key"
_NUMBER: Final = re.compile(r"[1-9][0-9]{0,18}")
_SECONDS: Final = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")
_LENGTH: Final = re.compile(r"[0-9]{1,18}")


def _bad(text: str, hint: str = "") -> Refused:
    return Refused(problem_answer(400, "bad request", text, hint=hint))


class Visit:
    """A request; what takes its body, if the gateway wants that, and its leaving."""

    def __init__(self, exchange: Exchange, bounds: Bounds, budget: Budget) -> None:
        self.request = exchange.request
        self._bounds = bounds
        self._budget = budget
        #: Popped by the one who answers: an answer comes from any thread, and only once.
        self._unanswered = [exchange]
        self._repeats: Repeats | None = None
        self._key = ""
        #: Called with the body when that is here; None: no body is wanted.
        self.when_complete: Callable[[bytes], None] | None = None
        #: Called when the client has left without its answer.
        self.when_gone: Callable[[], object] = lambda: None
        self._pieces: list[bytes] = []
        self._size = 0

    # --- the answer -------------------------------------------------------------------------

    def answer(self, answer: Answer, *, keep: bool = True) -> None:
        """Give the answer, unless one was given; `keep` it for those who repeat the request."""
        try:
            exchange = self._unanswered.pop()
        except IndexError:
            return
        if self._repeats is None:
            exchange.answer(*answer)
        else:
            self._repeats.answer(self._key, answer, keep=keep)

    @property
    def is_answered(self) -> bool:
        return not self._unanswered

    @property
    def is_repeatable(self) -> bool:
        """Whether the client can ask again for the answer of this very request."""
        return self._repeats is not None

    def is_first(self, repeats: Repeats, body: bytes) -> bool:
        """Whether to go on: not if the request repeats another, whose answer it gets.

        Raises:
            Refused: the key is none, or was used for something else.
        """
        key = self.request.headers.get(KEY)
        if key is None:
            return True
        if len(key) not in IDEMPOTENCY_KEY:
            few, many = IDEMPOTENCY_KEY.start, IDEMPOTENCY_KEY.stop - 1
            text = f"an Idempotency-Key has {few} to {many} characters, and not {len(key)}"
            raise _bad(text, "make one by `uuidgen`")
        name = f"{self.request.path} {key}"
        if not repeats.is_first(name, self._digest(body), self._unanswered[0]):
            self._unanswered.clear()
            return False
        self._repeats, self._key = repeats, name
        return True

    def _digest(self, body: bytes) -> bytes:
        """The same for the same request only: else one client could fetch another's answer."""
        headers = self.request.headers
        said = [sorted(self.request.query.items()), headers.get("content-type"), headers.get(NAME)]
        return hashlib.blake2b(repr(said).encode() + body, digest_size=32).digest()

    # --- what it says -------------------------------------------------------------------------

    @property
    def session(self) -> str:
        return self.request.headers.get(SESSION, "")

    @property
    def accept(self) -> str:
        return self.request.headers.get("accept", "")

    @property
    def number(self) -> int:
        """The number of a message that it names; 0: none."""
        text = self.request.headers.get(NUMBER, "")
        if text and not _NUMBER.fullmatch(text):
            raise _bad(f"ComPoint-Number is a whole number from 1, and not {text[:40]!r}")
        return int(text or "0")

    @property
    def correlator(self) -> str | None:
        correlator = self.request.query.get("correlator")
        if correlator is not None and len(correlator.encode()) > CORRELATOR_BYTES:
            raise _bad(f"a correlator has at most {CORRELATOR_BYTES} bytes")
        return correlator

    @property
    def is_opening(self) -> bool:
        if self.request.query.get("open"):
            raise _bad("the parameter open has no value", "write ?open")
        return "open" in self.request.query

    def seconds(self, default: float) -> float:
        """How long it is willing to wait."""
        text = self.request.query.get("timeout")
        if text is None:
            return default
        most = self._bounds.longest_wait_s
        value = float(text) if _SECONDS.fullmatch(text) else math.inf
        if value > most:
            text = f"timeout is a number of seconds from 0 to {most:g}, and not {text[:40]!r}"
            raise _bad(text)
        return value

    def check_query(self, *known: str) -> None:
        """A misspelt name must not be passed over in silence."""
        for name in self.request.query:
            if name not in known:
                raise _bad(
                    f"the parameter {name[:40]!r} has no meaning here",
                    f"known are {', '.join(known)}",
                )

    def check_origin(self) -> None:
        """Whoever visits a foreign page in a browser here must not write to us by it."""
        headers = self.request.headers
        site = headers.get("sec-fetch-site")
        origin = headers.get("origin")
        if site is not None:
            is_foreign = site not in {"same-origin", "none"}
        else:
            is_foreign = origin is not None and origin.partition("://")[2] != headers.get("host")
        if is_foreign:
            text = "a page of another site may not talk to this server"
            raise Refused(problem_answer(403, "foreign page", text))

    def message(self, body: bytes) -> tuple[int, bytes] | None:
        """The form and the payload of the message in the body; None: there is no message.

        Raises:
            Refused: it is none that is taken here.
        """
        if not body and is_left_to_curl(self.request.headers):
            return None
        try:
            form, payload = from_content(self.request.headers, body, self._bounds.json_bytes)
        except ContentError as error:
            raise Refused(
                problem_answer(error.status, error.code, error.detail, hint=error.hint,
                               fate=Fate.NOT_SENT)
            ) from None  # fmt: skip
        if len(payload) > self._bounds.body_bytes:
            raise self._too_large()
        return form, payload

    def message_in(self, body: bytes) -> tuple[int, bytes]:
        """As `message`, where one is needed."""
        message = self.message(body)
        if message is None:
            text = "there is no message in this request"
            hint = "say so with a Content-Type if an empty message is meant"
            raise Refused(problem_answer(400, "bad request", text, hint=hint, fate=Fate.NOT_SENT))
        return message

    def _too_large(self) -> Refused:
        text = f"a body of more than {self._bounds.body_bytes} bytes is not taken here"
        return Refused(problem_answer(413, "too large", text, fate=Fate.NOT_SENT))

    # --- the body: a Taker --------------------------------------------------------------------

    def check_length(self) -> None:
        """Refuse what says at once that it is too large."""
        length = self.request.headers.get("content-length", "")
        if _LENGTH.fullmatch(length) and int(length) > self._bounds.body_bytes:
            raise self._too_large()

    def piece(self, data: bytes) -> None:
        if self.when_complete is None or self.is_answered:
            return
        if self._size + len(data) > self._bounds.body_bytes:
            self._drop_body()
            self.answer(self._too_large().answer)
        elif not self._budget.take(len(data)):
            self._drop_body()
            text = f"all requests together hold {self._bounds.held_bytes} bytes"
            self.answer(problem_answer(503, "busy", text, fate=Fate.NOT_SENT))
        else:
            self._pieces.append(data)
            self._size += len(data)

    def _drop_body(self) -> None:
        self._budget.give_back(self._size)
        self._pieces.clear()
        self._size = 0

    def complete(self) -> None:
        if self.when_complete is None or self.is_answered:
            return
        body = b"".join(self._pieces)
        self._drop_body()
        try:
            self.when_complete(body)
        except Refused as refused:
            self.answer(refused.answer, keep=False)

    def gone(self) -> None:
        self._drop_body()
        self.when_gone()

    def room(self) -> None:
        """The answer is given whole."""
