"""Requests of turns, made with `requests`.

Every request has a finite timeout, follows no redirect, and takes no more of an answer than
one of ours can hold. What comes is turns, or an exception of `_verdicts`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final

import requests
import urllib3

from compoint.core.turns import Turn, TurnError, TurnReader
from compoint.deadline import FOR_EVER, Deadline
from compoint.errors import ComPointException
from compoint.http._sessions import OwnSession
from compoint.http._verdicts import Trouble, Verdicts, words_of
from compoint.http._words import ASK, OPEN, SESSION, TURNS_TYPE, WAIT, Ask
from compoint.limits import TURN_BYTES

if TYPE_CHECKING:
    from compoint.core.turns_initiator import Plan

__all__ = ["Requests"]

#: How long a connection may take; and, beyond the time it was asked to wait, an answer.
_CONNECT_S: Final = 10.0
_CONNECT_LEAST_S: Final = 0.05
_ANSWER_S: Final = 10.0
#: An answer of ours is never longer.
_ANSWER_BYTES: Final = TURN_BYTES + 64 * 1024
#: What is read of an answer that is not ours, and how long, to say what it is.
_STRANGE_BYTES: Final = 4096
_STRANGE_S: Final = 1.0
_PIECE_BYTES: Final = 64 * 1024

#: What `requests` and what is below it raise when a request comes to nothing.
_FAULTS: Final = (requests.RequestException, urllib3.exceptions.HTTPError, OSError)


class Requests:
    """The requests of one session. Several threads may make one each."""

    def __init__(self, url: str, point: str, key: str, session: requests.Session) -> None:
        self._url = url
        self._session = session
        self._lock = threading.Lock()
        #: When the session is to be open; until then no connection takes longer than that.
        self.open_by = FOR_EVER
        #: The head of the last answer that was not turns, in words.
        self._seen = ""
        self._headers = {
            "Content-Type": TURNS_TYPE,
            "Accept": f"{TURNS_TYPE}, application/problem+json",
            "Accept-Encoding": "identity",
            SESSION: key,
        }
        verify = None if session.verify is True else session.verify
        self._settings = session.merge_environment_settings(url, {}, None, verify, None)
        proxy = requests.utils.select_proxy(url, self._settings["proxies"])
        self._verdicts = Verdicts(point, proxy)
        self._prepared: requests.PreparedRequest | None = None
        if isinstance(session, OwnSession):
            try:
                request = requests.Request("POST", url, headers=self._headers)
                self._prepared = session.prepare_request(request)
            except requests.RequestException as fault:
                raise self._verdicts.of_fault(fault) from fault

    def ask(self, ask: Ask, plan: Plan, age_s: float) -> list[Turn]:
        """Make a request and return the turns of its answer.

        Raises:
            Trouble, TooLong, Told, ConnectError: see `_verdicts`.
        """
        wait_s = plan.wait_s if ask is Ask.POLL else 0.0
        with self._send(ask, plan, age_s, plan.turn.encode(), wait_s + _ANSWER_S) as answer:
            return self._turns_of(answer)

    def upstream(self, plan: Plan, turns: Iterable[bytes]) -> list[Turn]:
        """Make a request whose body is sent as it comes; the turns of its answer."""
        with self._send(Ask.UPSTREAM, plan, 0.0, turns, _ANSWER_S) as answer:
            return self._turns_of(answer)

    def stream(self, plan: Plan, age_s: float, silence_s: float) -> Iterator[list[Turn]]:
        """Make a request whose answer comes piece by piece: the turns as they come, until
        the caller wants no more of them.

        Raises:
            As `ask`.
        """
        with self._send(Ask.STREAM, plan, age_s, plan.turn.encode(), silence_s) as answer:
            self._check(answer)
            reader = TurnReader()
            try:
                while data := answer.raw.read1(_PIECE_BYTES):
                    yield reader.feed(data)
            except TurnError:
                raise
            except (*_FAULTS, ValueError, AttributeError) as fault:
                # The last two: another thread closed the connection.
                raise Trouble(f"the stream was cut ({words_of(fault)})") from fault
            # Nobody who listens is sent away in good order: this was a cut, which cannot be
            # told from an end where the end of the connection is that of the answer.
            raise Trouble("the stream was cut")

    def too_late(self, trouble: Trouble | None, deadline: Deadline) -> ComPointException:
        """What to tell when the time to open the session is over; `trouble` is the last."""
        has_connected = isinstance(self._session, OwnSession) and self._session.has_connected
        return self._verdicts.too_late(trouble, self._seen, deadline, has_connected=has_connected)

    def close(self) -> None:
        """Give the connections back, unless they are those of a Session of the user's."""
        if isinstance(self._session, OwnSession):
            self._session.close()

    # --- asking ---------------------------------------------------------------------------

    def _send(
        self, ask: Ask, plan: Plan, age_s: float, body: bytes | Iterable[bytes], answer_s: float
    ) -> requests.Response:
        words = {ASK: ask.value, WAIT: f"{plan.wait_s:.3f}"}
        if plan.opens:
            words[OPEN] = f"{age_s:.3f}"
        settings: dict[str, Any] = {**self._settings, "stream": True}
        left_s = self.open_by.remaining_s() if plan.opens else None
        connect_s = _CONNECT_S if left_s is None else min(_CONNECT_S, max(_CONNECT_LEAST_S, left_s))
        try:
            prepared = self._prepare(words, body)
            return self._session.send(
                prepared, timeout=(connect_s, answer_s), allow_redirects=False, **settings
            )
        except _FAULTS as fault:
            raise self._verdicts.of_fault(fault) from fault
        except Exception as fault:
            if not isinstance(self._session, OwnSession):
                raise self._verdicts.of_foreign_session(fault) from fault
            if not isinstance(fault, (ValueError, AttributeError)):
                raise
            # The connection was shut by another thread while this one used it.
            raise Trouble(f"the connection was closed ({words_of(fault)})") from fault

    def _prepare(
        self, words: dict[str, str], body: bytes | Iterable[bytes]
    ) -> requests.PreparedRequest:
        if self._prepared is None:
            request = requests.Request(
                "POST", self._url, headers={**self._headers, **words}, data=body
            )
            # Its authentication looks at every request, and several may be made at once.
            with self._lock:
                return self._session.prepare_request(request)
        prepared = self._prepared.copy()
        if self._session.cookies:
            # Balancers find the server of a session by a cookie.
            prepared.headers.pop("Cookie", None)
            prepared.prepare_cookies(self._session.cookies)
        prepared.headers.update(words)
        prepared.body = body  # type: ignore[assignment]
        if isinstance(body, bytes):
            prepared.headers["Content-Length"] = str(len(body))
        else:
            prepared.headers.pop("Content-Length", None)
            prepared.headers["Transfer-Encoding"] = "chunked"
        return prepared

    # --- answers --------------------------------------------------------------------------

    def _turns_of(self, answer: requests.Response) -> list[Turn]:
        self._check(answer)
        reader = TurnReader()
        turns: list[Turn] = []
        size = 0
        try:
            for data in answer.iter_content(_PIECE_BYTES * 4):
                size += len(data)
                if size > _ANSWER_BYTES:
                    raise TurnError(f"an answer of more than {_ANSWER_BYTES} bytes")
                turns += reader.feed(data)
        except _FAULTS as fault:
            raise Trouble(f"the answer was cut ({words_of(fault)})") from fault
        if not turns or not reader.is_empty:
            # A proxy may take the end of a connection for the end of an answer.
            raise Trouble("the answer was cut")
        return turns

    def _check(self, answer: requests.Response) -> None:
        """Raise unless the answer is turns."""
        kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
        if answer.status_code == 200 and kind == TURNS_TYPE:
            return
        self._seen = self._verdicts.who_answered(answer, kind)
        raise self._verdicts.of_answer(answer, kind, _beginning_of(answer))


def _beginning_of(answer: requests.Response) -> str:
    data = b""
    deadline = Deadline(_STRANGE_S)
    try:
        while len(data) < _STRANGE_BYTES and not deadline.is_over:
            more = answer.raw.read1(_STRANGE_BYTES, decode_content=True)
            if not more:
                break
            data += more
    except (*_FAULTS, ValueError):
        pass  # what is here must do
    return data[:_STRANGE_BYTES].decode("utf-8", errors="replace")
