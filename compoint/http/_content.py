"""Content types of HTTP beside the forms of messages.

    application/octet-stream            bytes
    text/plain; charset=utf-8           text
    application/json                    plain data; with the header ComPoint-Type: the fields
                                        of a typed message of that name
    application/vnd.compoint.plain      plain data, as it travels (MessagePack)
    application/vnd.compoint.typed      a typed message, as it travels

JSON is what everybody reads, so it is given to whoever does not ask for our own types by name.
"""

from __future__ import annotations

from email.message import Message
from typing import Final
from urllib.parse import quote, unquote

from compoint._json import (
    class_name,
    plain_from_json,
    plain_to_json,
    typed_from_json,
    typed_to_json,
)
from compoint.errors import MessageError
from compoint.http._exchange import Fields
from compoint.message import FORM_BYTES, FORM_PLAIN, FORM_TEXT, FORM_TYPED

__all__ = ["NAME", "ContentError", "from_content", "is_left_to_curl", "to_content"]

#: The header with the name of the class of a typed message that is written as JSON,
#: percent-encoded.
NAME: Final = "compoint-type"

BYTES: Final = "application/octet-stream"
TEXT: Final = "text/plain"
JSON: Final = "application/json"
OURS: Final = {
    FORM_PLAIN: "application/vnd.compoint.plain",
    FORM_TYPED: "application/vnd.compoint.typed",
}

#: What curl says of a body when it was told nothing.
_UNSAID: Final = "application/x-www-form-urlencoded"
_HINT: Final = "say what the message is: -H 'Content-Type: text/plain'; {} are taken, too".format(
    ", ".join([BYTES, JSON, *OURS.values()])
)
_UTF_8: Final = frozenset({"utf-8", "utf8", "us-ascii"})


class ContentError(Exception):
    """A body that is no message: what the answer is to say."""

    def __init__(self, status: int, code: str, detail: str, hint: str = "") -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.hint = hint


def is_left_to_curl(headers: Fields) -> bool:
    """Whether nobody has said what the body is: an empty one then is no message at all."""
    return _kind_of(headers) in {"", _UNSAID}


def from_content(headers: Fields, body: bytes, most_json: int) -> tuple[int, bytes]:
    """The form and the payload of the message in a body.

    Raises:
        ContentError: its type is not taken, or it is not what its type says.
    """
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise ContentError(415, "unknown content", "a body with a Content-Encoding is not taken")
    kind = _kind_of(headers) or BYTES
    charset = _charset_of(headers)
    if kind in {TEXT, JSON} and charset not in _UTF_8:
        text = f"the charset {charset[:40]!r} is not taken"
        raise ContentError(415, "unknown content", text, "send UTF-8")
    if kind != JSON and NAME in headers:
        text = f"the header ComPoint-Type goes with {JSON} only"
        raise ContentError(400, "bad request", text)
    try:
        return _message_of(kind, headers, body, most_json)
    except MessageError as error:
        where = "" if error.path == "$" else f" at {error.path}"
        raise ContentError(400, "bad content", f"{error.what}{where}", error.hint) from None


def _kind_of(headers: Fields) -> str:
    return headers.get("content-type", "").partition(";")[0].strip().lower()


def _charset_of(headers: Fields) -> str:
    message = Message()
    message["content-type"] = headers.get("content-type", "")
    return str(message.get_param("charset", "utf-8")).lower()


def _message_of(kind: str, headers: Fields, body: bytes, most_json: int) -> tuple[int, bytes]:
    if kind == BYTES:
        return FORM_BYTES, body
    if kind == TEXT:
        try:
            body.decode()
        except UnicodeDecodeError as error:
            raise MessageError(f"the text is not UTF-8 ({error.reason}, byte {error.start})",
                               hint="send it as application/octet-stream") from None  # fmt: skip
        return FORM_TEXT, body
    if kind == JSON:
        if len(body) > most_json:
            text = f"JSON of more than {most_json} bytes is not taken here"
            raise ContentError(413, "too large", text, f"send it as {TEXT} or {BYTES}")
        if NAME in headers:
            return FORM_TYPED, typed_from_json(_name_in(headers), body)
        return FORM_PLAIN, plain_from_json(body)
    if kind == OURS[FORM_PLAIN]:
        return FORM_PLAIN, body
    if kind == OURS[FORM_TYPED]:
        class_name(body)
        return FORM_TYPED, body
    raise ContentError(415, "unknown content", f"a body of type {kind[:80]} is not taken", _HINT)


def _name_in(headers: Fields) -> str:
    try:
        headers[NAME].encode("ascii")
        return unquote(headers[NAME], errors="strict")
    except UnicodeError:
        raise MessageError("ComPoint-Type is no percent-encoded UTF-8") from None


def to_content(form: int, payload: bytes, accept: str) -> tuple[dict[str, str], bytes]:
    """The headers and the body for a message, as far as possible as `accept` wants it."""
    if form == FORM_BYTES:
        return {"content-type": BYTES}, payload
    if form == FORM_TEXT:
        return {"content-type": f"{TEXT}; charset=utf-8"}, payload
    try:
        if form in OURS and not _wants(OURS[form], accept):
            return _as_json(form, payload)
    except MessageError:
        pass  # JSON would lose a part of it, or cannot say it at all
    return {"content-type": OURS.get(form, BYTES)}, payload


def _wants(ours: str, accept: str) -> bool:
    """Whether our own type is named, and JSON not before it."""
    for each in accept.lower().split(","):
        kind = each.partition(";")[0].strip()
        if kind in {ours, JSON}:
            return kind == ours
    return False


def _as_json(form: int, payload: bytes) -> tuple[dict[str, str], bytes]:
    headers = {"content-type": JSON}
    if form == FORM_PLAIN:
        return headers, plain_to_json(payload)
    name, body = typed_to_json(payload)
    return {**headers, NAME: quote(name)}, body
