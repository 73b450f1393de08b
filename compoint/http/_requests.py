"""Requests of turns, made with `requests`, and what their answers mean.

Every request has a finite timeout, follows no redirect, and takes no more of an answer than
one of ours can hold. What comes is turns, or one of four things: the way is troubled
(`Trouble`: repeat the request), the body was too long for it (`TooLong`), our server says
no in its own words (`Told`), or there is no way at all, for a reason that a person must
mend (a ComPointException).
"""

from __future__ import annotations

import html
import re
import threading
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import requests
import urllib3

from compoint.core.turns import Turn, TurnError, TurnReader
from compoint.errors import ComPointException, ConnectError, Phase
from compoint.http._words import ASK, OPEN, SESSION, TURNS_TYPE, WAIT, Ask
from compoint.limits import TURN_BYTES

if TYPE_CHECKING:
    from compoint.core.turns_initiator import Plan

__all__ = ["Requests", "Told", "TooLong", "Trouble"]

#: How long a connection may take; and, beyond the time it was asked to wait, an answer.
_CONNECT_S: Final = 10.0
_ANSWER_S: Final = 10.0
#: An answer of ours is never longer.
_ANSWER_BYTES: Final = TURN_BYTES + 64 * 1024
#: What is read of an answer that is not ours, to say what it is.
_STRANGE_BYTES: Final = 4096
_PIECE_BYTES: Final = 64 * 1024

#: Answers of proxies and busy servers that may be others the next time.
_PASSING: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
_TITLE: Final = re.compile(r"<title[^>]*>([^<]*)", re.IGNORECASE)


class Trouble(Exception):
    """The request came to nothing; it may be repeated."""

    def __init__(self, text: str, *, is_final: bool = False, phase: Phase = Phase.CONNECT) -> None:
        super().__init__(text)
        self.text = text
        #: While a session is being opened there is no hope in repeating it.
        self.is_final = is_final
        self.phase = phase


class TooLong(Exception):
    """The way does not take a body of this length."""


class Told(Exception):
    """Our server says no."""

    def __init__(self, code: str, text: str, retry_after_s: float | None) -> None:
        super().__init__(text)
        self.code = code
        self.text = text
        self.retry_after_s = retry_after_s


class Requests:
    """The requests of one session. Several threads may make one each."""

    def __init__(
        self, url: str, point: str, key: str, session: requests.Session, *, is_ours: bool
    ) -> None:
        self._point = point
        self._session = session
        self._is_ours = is_ours
        self._lock = threading.Lock()
        self._headers = {
            "Content-Type": TURNS_TYPE,
            "Accept": f"{TURNS_TYPE}, application/problem+json",
            "Accept-Encoding": "identity",
            SESSION: key,
        }
        self._request = requests.Request("POST", url, headers=self._headers)
        self._prepared = session.prepare_request(self._request)
        self._settings = session.merge_environment_settings(
            self._prepared.url, {}, None, None if session.verify is True else session.verify, None
        )
        #: Whether a proxy stands in between; then a refusal may pass.
        self.has_proxy = bool(requests.utils.select_proxy(url, self._settings["proxies"]))

    def ask(self, ask: Ask, plan: Plan, age_s: float) -> list[Turn]:
        """Make a request and return the turns of its answer.

        Raises:
            Trouble, TooLong, Told, ComPointException: see above.
        """
        wait_s = plan.wait_s if ask is Ask.POLL else 0.0
        with self._send(ask, plan, age_s, plan.turn.encode(), wait_s + _ANSWER_S) as answer:
            return self._turns_of(answer)

    def upstream(self, plan: Plan, turns: Iterable[bytes]) -> list[Turn]:
        """Make a request whose body is sent as it comes; the turns of its answer."""
        with self._send(Ask.UPSTREAM, plan, 0.0, turns, _ANSWER_S) as answer:
            return self._turns_of(answer)

    def stream(self, plan: Plan, age_s: float, silence_s: float) -> Iterator[list[Turn]]:
        """Make a request whose answer comes piece by piece: the turns as they come."""
        with self._send(Ask.STREAM, plan, age_s, plan.turn.encode(), silence_s) as answer:
            self._check(answer)
            reader = TurnReader()
            try:
                while data := answer.raw.read1(_PIECE_BYTES):
                    yield reader.feed(data)
            except (urllib3.exceptions.HTTPError, OSError, ValueError) as fault:
                # ValueError: another thread closed the connection.
                if isinstance(fault, TurnError):
                    raise
                raise Trouble(f"the stream was cut ({_words_of(fault)})") from fault

    def close(self) -> None:
        """Give the connections back, unless they are those of a Session of the user's."""
        if self._is_ours:
            self._session.close()

    # --- asking ---------------------------------------------------------------------------

    def _send(
        self, ask: Ask, plan: Plan, age_s: float, body: bytes | Iterable[bytes], answer_s: float
    ) -> requests.Response:
        prepared = self._prepare()
        headers = prepared.headers
        headers[ASK] = ask.value
        headers[WAIT] = f"{plan.wait_s:.3f}"
        if plan.opens:
            headers[OPEN] = f"{age_s:.3f}"
        prepared.body = body  # type: ignore[assignment]
        if isinstance(body, bytes):
            headers["Content-Length"] = str(len(body))
        else:
            headers.pop("Content-Length", None)
            headers["Transfer-Encoding"] = "chunked"
        settings: dict[str, Any] = {**self._settings, "stream": True}
        try:
            return self._session.send(
                prepared, timeout=(_CONNECT_S, answer_s), allow_redirects=False, **settings
            )
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as fault:
            raise self._fault_of(fault) from fault
        except (ValueError, AttributeError) as fault:
            # The connection was closed by another thread while this one used it.
            raise Trouble(f"the connection was closed ({_words_of(fault)})") from fault

    def _prepare(self) -> requests.PreparedRequest:
        if not self._is_ours:
            # Its authentication may look at every request.
            with self._lock:
                return self._session.prepare_request(self._request)
        prepared = self._prepared.copy()
        if self._session.cookies:
            # Balancers find the server of a session by a cookie.
            prepared.headers.pop("Cookie", None)
            prepared.prepare_cookies(self._session.cookies)
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
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as fault:
            raise Trouble(f"the answer was cut ({_words_of(fault)})") from fault
        if not reader.is_empty:
            raise Trouble("the answer was cut")
        return turns

    def _check(self, answer: requests.Response) -> None:
        """Raise unless the answer is turns."""
        kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
        status = answer.status_code
        if status == 200 and kind == TURNS_TYPE:
            return
        body = _beginning_of(answer)
        if kind == "application/problem+json":
            told = _told_by(answer, body)
            if told is not None:
                raise told
        raise self._judged(answer, status, kind, body)

    def _judged(self, answer: requests.Response, status: int, kind: str, body: str) -> Exception:
        who = _who_answered(answer, kind, body)
        if status == 413:
            return TooLong()
        if status in _PASSING:
            return Trouble(f"{status} {answer.reason} from {who}")
        if status == 407:
            return self._error(
                f"the proxy wants to know who asks (407 from {who})", Phase.PROXY,
                "put name and password into the proxy's URL: HTTP_PROXY=http://name:word@host:port",
            )  # fmt: skip
        if 300 <= status < 400:
            where = answer.headers.get("location", "")
            return self._error(
                f"redirected to {where!r} ({status} from {who}), which is not followed",
                Phase.GREETING, "use that address if it is the right one; it may be a login page",
            )  # fmt: skip
        if status in {401, 403}:
            return self._error(
                f"not allowed: {status} {answer.reason} from {who}", Phase.GREETING,
                "ask who runs it, or give compoint a Session that knows how to log in",
            )  # fmt: skip
        return self._error(
            f"an ordinary web server answered: {status} {answer.reason} from {who}",
            Phase.GREETING, "is host, port and path of the address right, and the server running?",
        )  # fmt: skip

    def _fault_of(self, fault: Exception) -> Exception:
        """What a request that had no answer means."""
        text = _words_of(fault)
        if isinstance(fault, requests.exceptions.ProxyError):
            if "407" in text:
                return self._error(
                    "the proxy wants to know who asks (407)", Phase.PROXY,
                    "put name and password into the proxy's URL: "
                    "HTTPS_PROXY=http://name:word@host:port",
                )  # fmt: skip
            # Through a proxy every lost answer is one of these; only the cause tells.
            is_refused = _is_caused_by(fault, urllib3.exceptions.NewConnectionError)
            if is_refused or "Tunnel connection failed" in text:
                return Trouble(f"not let through ({text})", is_final=True, phase=Phase.PROXY)
            return Trouble(f"cut ({text})", phase=Phase.PROXY)
        if isinstance(fault, requests.exceptions.SSLError):
            return self._error(
                f"no trust in the peer ({text})", Phase.TLS,
                "name the file of the right authority: [http] caFile, or REQUESTS_CA_BUNDLE",
            )  # fmt: skip
        if isinstance(fault, requests.exceptions.ConnectTimeout):
            return Trouble("no connection in time", is_final=True)
        if isinstance(fault, requests.exceptions.ReadTimeout):
            return Trouble("no answer in time", phase=Phase.GREETING)
        if isinstance(fault, ValueError) and isinstance(fault, requests.RequestException):
            return self._error(f"cannot be asked for ({text})", Phase.CONNECT, "")
        is_refused = _is_caused_by(fault, urllib3.exceptions.NewConnectionError)
        return Trouble(f"not reached ({text})", is_final=is_refused)

    def _error(self, text: str, phase: Phase, hint: str) -> ComPointException:
        return ConnectError(text, point=self._point, phase=phase, hint=hint)


def _beginning_of(answer: requests.Response) -> str:
    try:
        data = answer.raw.read(_STRANGE_BYTES, decode_content=True)
    except (urllib3.exceptions.HTTPError, OSError, ValueError):
        return ""
    return data.decode("utf-8", errors="replace") if isinstance(data, bytes) else ""


def _told_by(answer: requests.Response, body: str) -> Told | Trouble | None:
    import json  # noqa: PLC0415 - needed only when something is wrong

    try:
        fields = json.loads(body)
        code, text = str(fields["title"]), str(fields["detail"])
        retry_after_s = fields.get("retry_after_s")
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    if answer.status_code in _PASSING and code not in {"busy", "stopped"}:
        return Trouble(f"{answer.status_code}: {text}")
    return Told(code, text, float(retry_after_s) if retry_after_s is not None else None)


def _who_answered(answer: requests.Response, kind: str, body: str) -> str:
    """The answer's sender, in a few words for people."""
    words = [answer.headers.get("server") or urlsplit(answer.url).netloc]
    if kind:
        words.append(kind)
    title = _TITLE.search(body)
    if title:
        words.append(repr(" ".join(html.unescape(title[1]).split())[:60]))
    return ", ".join(words)


def _words_of(fault: BaseException) -> str:
    """The innermost reason, without the layers around it."""
    seen = set()
    while id(fault) not in seen:
        seen.add(id(fault))
        inner: object = getattr(fault, "reason", None)
        if not isinstance(inner, BaseException):
            inner = fault.__cause__ or fault.__context__
        if not isinstance(inner, BaseException):
            inner = next((arg for arg in fault.args if isinstance(arg, BaseException)), None)
        if inner is None:
            break
        fault = inner
    if type(fault) is ValueError:
        # What http.client says of a connection that ended where a chunk should begin.
        return "the connection ended"
    text = getattr(fault, "strerror", None) or str(fault) or type(fault).__name__
    return text[:200]


def _is_caused_by(fault: BaseException, kind: type[BaseException]) -> bool:
    seen: list[BaseException] = [fault]
    for one in seen:
        if isinstance(one, kind):
            return True
        for inner in (getattr(one, "reason", None), one.__cause__, one.__context__, *one.args):
            if isinstance(inner, BaseException) and inner not in seen:
                seen.append(inner)
    return False
