"""Heads, as h11 knows them and as an Exchange shows them: requests read, answers written."""

from __future__ import annotations

import functools
import re
import time
from email.utils import formatdate
from http import HTTPStatus
from typing import Final
from urllib.parse import parse_qsl, unquote

import h11

from compoint.http._exchange import Fields, Request
from compoint.http._strict import Fault, check_length

__all__ = ["begun_answer", "read_request", "whole_answer"]

#: Headers whose values are the same from peer to peer, and no secrets: kept once for all
#: requests that are waiting.
_SHARED: Final = frozenset(
    {"accept", "accept-encoding", "accept-language", "connection", "content-type", "host",
     "user-agent"}
)  # fmt: skip
#: Who shows one of these has come through a proxy, which makes everybody look local.
_PROXIED: Final = frozenset(
    {"forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip"}
)
_VERSIONS: Final = {b"1.1", b"1.0"}
_QUERY_FIELDS: Final = 64
_NO_FIELDS: Final[Fields] = {}
_BROKEN_PERCENT: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
# "%2F" could not be told from "/" any more: a proxy may have let it pass as part of a name.
_ENCODED_SLASH: Final = re.compile(r"%2[Ff]")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_REASONS: Final = {status.value: status.phrase.encode() for status in HTTPStatus}
_NO_BODY: Final = {204, 304}


# --- requests -------------------------------------------------------------------------------


def read_request(http: h11.Connection, head: bytes, peer: str, *, is_loopback: bool) -> Request:
    """Give a whole head to a fresh h11 connection and say what it asks for.

    Raises:
        Fault: it is not HTTP, or in a form that is not taken here.
    """
    http.receive_data(head)
    try:
        event = http.next_event()
    except h11.RemoteProtocolError as error:
        raise Fault(
            error.error_status_hint, "bad request", str(error).partition(":")[0]
        ) from None  # fmt: skip
    assert type(event) is h11.Request
    if event.http_version not in _VERSIONS:
        raise Fault(505, "version", "only HTTP/1.1 and HTTP/1.0 are spoken here")
    method = _token(event.method)
    if not method.isupper():
        raise Fault(501, "bad request", "methods are written in capital letters")
    headers: dict[str, str] = {}
    for raw, value in event.headers.raw_items():
        name = _token(raw.lower())
        text = _shared_text(value) if name in _SHARED else value.decode("latin-1")
        headers[name] = f"{headers[name]}, {text}" if name in headers else text
    if "content-length" in headers:
        check_length(head)
    if "transfer-encoding" in headers and (
        "content-length" in headers or event.http_version == b"1.0"
    ):
        # One of the two would be believed here and the other elsewhere (RFC 9112 §6.1).
        raise Fault(
            400, "bad request", "Transfer-Encoding is not taken with Content-Length or HTTP/1.0"
        )
    path, query = _target(method, event.target.decode("ascii"), headers)
    return Request(
        method=method,
        path=_decoded_path(path),
        query=_decoded_query(query) if query else _NO_FIELDS,
        headers=headers,
        peer=peer,
        # nginx, as it is installed, shows nothing of itself but HTTP/1.0.
        is_local=is_loopback and event.http_version == b"1.1" and _PROXIED.isdisjoint(headers),
    )


@functools.lru_cache(maxsize=128)
def _token(raw: bytes) -> str:
    return raw.decode("ascii")


@functools.lru_cache(maxsize=128)
def _shared_text(raw: bytes) -> str:
    return raw.decode("latin-1")


def _target(method: str, target: str, headers: dict[str, str]) -> tuple[str, str]:
    """The path and the query of the four forms of a target (RFC 9112 §3.2)."""
    if target.startswith("/"):
        path, _, query = target.partition("?")
        return path, query
    if method == "CONNECT":
        return "", ""
    if method == "OPTIONS" and target == "*":
        return "*", ""
    scheme, _, rest = target.partition("://")
    place, _, query = rest.partition("?")
    host, slash, path = place.partition("/")
    if scheme.lower() not in {"http", "https"} or not host or "@" in host:
        raise Fault(400, "bad request", "the target is neither a path nor an http URL")
    headers["host"] = host  # RFC 9112 §3.2.2: what the header said is ignored
    return slash + path, query


@functools.lru_cache(maxsize=128)
def _decoded_path(path: str) -> str:
    if "%" in path:
        if _BROKEN_PERCENT.search(path) or _ENCODED_SLASH.search(path):
            raise Fault(
                400, "bad request", "the path holds a broken '%' or an encoded '/'",
                hint="write '%25' for '%', and '/' as it is",
            )  # fmt: skip
        try:
            path = unquote(path, errors="strict")
        except UnicodeDecodeError:
            raise Fault(400, "bad request", "the path is not UTF-8 once it is decoded") from None
        if _CONTROL.search(path):
            raise Fault(400, "bad request", "the path holds a control character")
    return "" if path == "/" else path


def _decoded_query(text: str) -> Fields:
    if not _BROKEN_PERCENT.search(text):
        try:
            return dict(
                parse_qsl(
                    text, keep_blank_values=True, errors="strict", max_num_fields=_QUERY_FIELDS
                )
            )
        except ValueError:
            pass  # not UTF-8, or far more fields than anybody has
    raise Fault(
        400, "bad request", "the query cannot be decoded",
        hint="write it as name=value&name=value, percent-encoded UTF-8",
    )  # fmt: skip


# --- answers --------------------------------------------------------------------------------


def begun_answer(
    http: h11.Connection, status: int, headers: Fields, *, is_last: bool
) -> list[bytes]:
    """The head of an answer whose body comes in pieces. `is_last`: the connection ends behind it.

    Raises:
        h11.LocalProtocolError, ValueError: it cannot be written.
    """
    if headers.get("connection") == "close":
        # Then it ends as for an HTTP/1.0 peer, and needs no chunks: proxies that put small
        # ones together (haproxy, for 0.2 s) let its bytes pass as they come (decision 0016).
        http.their_http_version = b"1.0"
    return [_head(http, status, headers, is_last=is_last)]


def whole_answer(
    http: h11.Connection, status: int, headers: Fields, body: bytes, *, is_head: bool, is_last: bool
) -> list[bytes]:
    """A whole answer; if `is_head`, without the body it speaks of. Raises as `begun_answer`."""
    has_body = status not in _NO_BODY
    if has_body:
        headers = {**headers, "content-length": str(len(body))}
    parts = [_head(http, status, headers, is_last=is_last)]
    if body and has_body and not is_head:
        parts.append(http.send(h11.Data(body)))
    http.send(h11.EndOfMessage())
    return parts


def _head(http: h11.Connection, status: int, headers: Fields, *, is_last: bool) -> bytes:
    fields = [(b"date", _date(int(time.time()))), (b"server", b"compoint")]
    for name, value in headers.items():
        fields.append((name.encode("ascii"), value.encode("latin-1")))
    if is_last:
        fields.append((b"connection", b"close"))
    reason = _REASONS.get(status, b"")
    return http.send(h11.Response(status_code=status, headers=fields, reason=reason))


@functools.lru_cache(maxsize=1)
def _date(second: int) -> bytes:
    return formatdate(second, usegmt=True).encode()
