"""What an answer that is no turns means, and a request that has no answer.

It is one of four things: the way is troubled (`Trouble`: repeat the request), the body was
too long for it (`TooLong`), our server says no in its own words (`Told`), or there is no way
at all, for a reason that a person must mend (a ConnectError). Whichever it is, it is told
in words that name who answered, so that a person knows where to look.
"""

from __future__ import annotations

import html
import http.client
import json
import re
import socket
import ssl
from typing import TYPE_CHECKING, Final, TypeVar
from urllib.parse import urlsplit

import requests
import urllib3

from compoint.core.foreign import look
from compoint.errors import ComPointException, ConnectError, Phase, PointTimeout

if TYPE_CHECKING:
    from collections.abc import Iterator

    from compoint.deadline import Deadline

__all__ = ["Told", "TooLong", "Trouble", "Verdicts", "words_of"]

F = TypeVar("F", bound=BaseException)

#: Answers of proxies and busy servers that may be others the next time.
_PASSING: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
#: The titles of our own server's problems (docs/PROTOCOL.md §11.4); the last two may pass.
_OURS: Final = frozenset({
    "bad request", "no such path", "broken session", "no such session", "over", "too large",
    "no streams", "busy", "stopped",
})  # fmt: skip
_TITLE: Final = re.compile(r"<title[^>]*>([^<]*)", re.IGNORECASE)
#: How much of foreign texts is told.
_TOLD_CHARACTERS: Final = 80

_START_IT: Final = "is the server started, and is this its address?"
_WHERE: Final = "is host, port and path of the address right, and the server running?"
_PROXY_LOGIN: Final = (
    "put name and password into the proxy's URL, as in HTTP_PROXY=http://name:password@host:port"
)
_WHICH_PROXY: Final = (
    "HTTP_PROXY, HTTPS_PROXY or ALL_PROXY names the proxy, NO_PROXY the hosts reached without"
)
#: Why a certificate is not taken: OpenSSL's numbers, and what is to be done.
_CERTIFICATE_HINTS: Final = {
    9: "is the clock of this machine right?",
    10: "its owner must renew it; is the clock of this machine right?",
    62: "does the address name the host as the certificate does?",
    64: "does the address name the host as the certificate does?",
}
_CA_BUNDLE: Final = "is caFile in [http] right, or REQUESTS_CA_BUNDLE, or CURL_CA_BUNDLE?"
_OTHER_AUTHORITY: Final = (
    "name the file of the authority that signed it: caFile in [http], or REQUESTS_CA_BUNDLE"
)


class Trouble(Exception):
    """The request came to nothing; it may be repeated."""

    def __init__(
        self,
        text: str,
        *,
        is_final: bool = False,
        phase: Phase = Phase.GREETING,
        hint: str = _START_IT,
    ) -> None:
        super().__init__(text)
        self.text = text
        #: While a session is being opened there is no hope in repeating it.
        self.is_final = is_final
        #: What it hinders while a session is being opened, and what to do about it.
        self.phase = phase
        self.hint = hint


class TooLong(Exception):
    """The way does not take a body of this length."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


class Told(Exception):
    """Our server says no."""

    def __init__(self, code: str, text: str, retry_after_s: float | None) -> None:
        super().__init__(text)
        self.code = code
        self.text = text
        self.retry_after_s = retry_after_s


class Verdicts:
    """Judges what came of the requests of one point, for whom `proxy` is in between."""

    def __init__(self, point: str, proxy: str | None) -> None:
        self._point = point
        #: Without its password.
        self._proxy = urlsplit(proxy).netloc.rpartition("@")[2] or proxy if proxy else ""

    # --- answers --------------------------------------------------------------------------

    def of_answer(self, answer: requests.Response, kind: str, body: str) -> Exception:
        """What an answer means that is no turns; `body` is its beginning."""
        status = answer.status_code
        if kind == "application/problem+json":
            told = _told_by(status, body)
            if told is not None:
                return told
        who = self.who_answered(answer, kind, body)
        if status == 413:
            return TooLong(who)
        if status in _PASSING:
            return Trouble(who)
        if status == 407:
            return self._error(f"the proxy does not know us: {who}", Phase.PROXY, _PROXY_LOGIN)
        where = answer.headers.get("location", "")
        if 300 <= status < 400 and where:
            return self._error(
                f"redirected to {_plain(where)!r}, which is not followed: {who}", Phase.GREETING,
                "if that is a login page, log in with a browser; if it is where the server is now, "
                "change the address",
            )  # fmt: skip
        if status in {401, 403}:
            return self._error(
                f"not allowed: {who}", Phase.GREETING,
                "ask who runs it; a Session that logs in can be given to compoint.http.use_session",
            )  # fmt: skip
        return self._error(f"no ComPoint answered: {who}", Phase.GREETING, _WHERE)

    def who_answered(self, answer: requests.Response, kind: str, body: str = "") -> str:
        """Status, sender, type and title of an answer, for people."""
        server = answer.headers.get("server") or urlsplit(answer.url).netloc
        text = f"{answer.status_code} {_plain(answer.reason or '')}".rstrip()
        text += f" from {_plain(server)}"
        if kind:
            text += f", {_plain(kind)}"
        title = _TITLE.search(body)
        if title:
            text += f", {_plain(html.unescape(title[1]))!r}"
        elif body.strip() and kind.startswith(("text/plain", "application/")):
            text += f", {_plain(body)!r}"
        return text + self._way

    @property
    def _way(self) -> str:
        return f" (through the proxy {self._proxy})" if self._proxy else ""

    # --- no answers -----------------------------------------------------------------------

    def of_fault(self, fault: BaseException) -> Exception:
        """What a request means that has no answer."""
        if isinstance(fault, requests.exceptions.ProxyError):
            return self._of_proxy_fault(fault)
        if isinstance(fault, requests.exceptions.SSLError):
            return self._of_tls_fault(fault)
        text = words_of(fault)
        if isinstance(fault, requests.exceptions.ConnectTimeout):
            return Trouble("not reached in time", is_final=True, phase=Phase.CONNECT)
        if isinstance(fault, requests.exceptions.ReadTimeout):
            return Trouble(f"no answer in time{self._way}")
        if _cause(fault, socket.gaierror):
            return Trouble(
                f"the host is not known ({text})", is_final=True, phase=Phase.RESOLVE,
                hint="check the name and the network",
            )  # fmt: skip
        if _cause(fault, urllib3.exceptions.NewConnectionError):
            return Trouble(f"nobody was reached ({text})", is_final=True, phase=Phase.CONNECT)
        if _cause(fault, ConnectionError, EOFError):
            # Also where http.client calls the end of a connection a bad status line.
            return Trouble(f"no answer came ({text}){self._way}")
        if _cause(fault, http.client.HTTPException, urllib3.exceptions.InvalidHeader):
            return Trouble(f"what answered does not speak HTTP: {_said_by(fault)}{self._way}",
                           is_final=True, hint=_WHERE)  # fmt: skip
        if isinstance(fault, requests.RequestException) and isinstance(fault, ValueError):
            return self._error(f"no such request can be made ({text})", Phase.CONNECT,
                               "check the address and the proxy's URL")  # fmt: skip
        if type(fault) is OSError and fault.errno is None:
            # Not the network's: requests has found no file of certificates.
            return self._error(
                f"the authorities' certificates cannot be read ({text})", Phase.TLS,
                _CA_BUNDLE,
            )  # fmt: skip
        return Trouble(f"no answer came ({text}){self._way}")

    def too_late(
        self, trouble: Trouble | None, seen: str, deadline: Deadline, *, has_connected: bool
    ) -> ComPointException:
        """What to tell when a session was not opened in time.

        `trouble` is what the last request has met, `seen` the head of the last strange answer.
        """
        elapsed_s = deadline.elapsed_s
        if trouble is not None:
            return ConnectError(
                f"{trouble.text}, again and again", point=self._point,
                phase=trouble.phase, elapsed_s=elapsed_s, hint=trouble.hint,
            )  # fmt: skip
        if seen:
            return ConnectError(
                f"no ComPoint answered: {seen}, and its answer did not end", point=self._point,
                phase=Phase.GREETING, elapsed_s=elapsed_s, hint=_WHERE,
            )  # fmt: skip
        if has_connected:
            return PointTimeout(
                f"the connection was taken, but no answer came in time{self._way}",
                point=self._point, phase=Phase.GREETING, elapsed_s=elapsed_s, hint=_WHERE,
            )  # fmt: skip
        return PointTimeout(
            f"the peer was not reached in time{self._way}", point=self._point,
            phase=Phase.CONNECT, elapsed_s=elapsed_s, hint="is there a firewall in between?",
        )  # fmt: skip

    def of_foreign_session(self, fault: Exception) -> ConnectError:
        """What it means that the user's own Session has raised something else."""
        return self._error(
            f"the Session given to compoint.http.use_session has failed ({fault!r})",
            Phase.CONNECT, "its authentication, hooks and adapters are yours",
        )  # fmt: skip

    def _of_proxy_fault(self, fault: BaseException) -> Exception:
        """Through a proxy every lost answer is a ProxyError; only the cause tells more."""
        text = words_of(fault)
        if _cause(
            fault, urllib3.exceptions.NewConnectionError, urllib3.exceptions.ConnectTimeoutError
        ):
            return Trouble(
                f"the proxy {self._proxy} was not reached ({text})", is_final=True,
                phase=Phase.PROXY, hint=_WHICH_PROXY,
            )  # fmt: skip
        if "Tunnel connection failed" not in text:
            return Trouble(f"no answer came ({text}){self._way}", phase=Phase.PROXY)
        if " 407" in text:
            return self._error(
                f"the proxy {self._proxy} does not know us ({text})", Phase.PROXY, _PROXY_LOGIN
            )
        is_refused = " 403" in text or " 405" in text
        return Trouble(
            f"the proxy {self._proxy} does not let us through ({text})", is_final=True,
            phase=Phase.PROXY,
            hint="ask who runs it; many allow https to port 443 only" if is_refused else _START_IT,
        )  # fmt: skip

    def _of_tls_fault(self, fault: BaseException) -> Exception:
        untrusted = _cause(fault, ssl.SSLCertVerificationError)
        if untrusted is not None:
            return self._error(
                f"the certificate is not to be trusted ({untrusted.verify_message.rstrip('.')})",
                Phase.TLS, _CERTIFICATE_HINTS.get(untrusted.verify_code, _OTHER_AUTHORITY),
            )  # fmt: skip
        if _cause(fault, ssl.SSLEOFError, ssl.SSLZeroReturnError):
            return Trouble(f"the connection ended in the TLS handshake{self._way}", phase=Phase.TLS,
                           hint="does the server speak https at this port?")  # fmt: skip
        broken = _cause(fault, ssl.SSLError)
        reason = getattr(broken, "reason", None) or words_of(fault)
        if reason == "NO_CERTIFICATE_OR_CRL_FOUND":
            return self._error("the authorities' file has no certificate", Phase.TLS, _CA_BUNDLE)
        return self._error(
            f"no TLS with the peer ({str(reason).replace('_', ' ').lower()}){self._way}", Phase.TLS,
            "does the server speak https at this port, or does it ask for a certificate of ours?",
        )  # fmt: skip

    def _error(self, text: str, phase: Phase, hint: str) -> ConnectError:
        return ConnectError(text, point=self._point, phase=phase, hint=hint)


def _told_by(status: int, body: str) -> Told | Trouble | None:
    """What our server says; None: it is another's problem."""
    try:
        fields = json.loads(body)
        code, text, hint = fields["title"], fields["detail"], fields.get("hint")
        retry_after_s = fields.get("retry_after_s")
        if code not in _OURS:
            return None
        if status in _PASSING and code not in {"busy", "stopped"}:
            return Trouble(f"{status}: {text}")
        if hint and code != "no such path":
            text = f"{text}; {hint}"
        return Told(code, str(text), None if retry_after_s is None else float(retry_after_s))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def words_of(fault: BaseException) -> str:
    """The innermost reason, without the layers around it."""
    *_, inner = _layers(fault)
    if type(inner) is ValueError:
        # What http.client says of a connection that ended where a chunk should begin.
        return "the connection ended"
    text = getattr(inner, "strerror", None) or str(inner) or type(inner).__name__
    return _plain(str(text), 200)


def _said_by(fault: BaseException) -> str:
    """What came instead of an answer."""
    line = _cause(fault, http.client.BadStatusLine)
    if line is None or not line.args:
        return words_of(fault)
    said = str(line.args[0]).encode("latin-1", "replace")
    foreign = look(said)
    text = f"{_plain(str(line.args[0]))!r}"
    return text if foreign is None else f"{text}, {foreign.text}"


def _plain(text: str, most: int = _TOLD_CHARACTERS) -> str:
    """A foreign text on one line, of a bearable length and without control characters."""
    text = " ".join(text[: 4 * most].split())
    text = "".join(one if one.isprintable() else "?" for one in text)
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _layers(fault: BaseException) -> Iterator[BaseException]:
    """An exception and the chain of those it was made of, the innermost last."""
    seen: set[int] = set()
    one: object = fault
    while isinstance(one, BaseException) and id(one) not in seen:
        seen.add(id(one))
        yield one
        inner: object = getattr(one, "reason", None)
        if not isinstance(inner, BaseException):
            inner = one.__cause__ or one.__context__
        if not isinstance(inner, BaseException):
            inner = next((arg for arg in one.args if isinstance(arg, BaseException)), None)
        one = inner


def _cause(fault: BaseException, *kinds: type[F]) -> F | None:
    """The outermost of these kinds among what a fault was made of."""
    seen: list[BaseException] = [fault]
    for one in seen:
        if isinstance(one, kinds):
            return one
        for inner in (getattr(one, "reason", None), one.__cause__, one.__context__, *one.args):
            if isinstance(inner, BaseException) and inner not in seen:
                seen.append(inner)
    return None
