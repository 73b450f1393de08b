"""What is kept of h11 by requests that wait for their answers.

Thousands may wait, and at nearly all of them h11 has come to the same point. So a request that
waits gives its h11 connection away, and goes on with any that has come to that point; most
often it gets its own back.
"""

from __future__ import annotations

import enum
from collections import deque
from typing import Final

import h11

__all__ = ["Point", "rest", "wake"]


class Point(enum.Enum):
    """How far h11 has come with a request that is here whole."""

    #: Nothing was answered yet.
    ASKED = "asked"
    #: An answer in chunks was begun ...
    CHUNKS = "chunks"
    #: ... or one that ends with the connection.
    LAST = "last"


#: So many are kept for who goes on next; to make one takes some 25 µs.
_SPARE: Final = 16
# Taken and given by any thread: each verb of a deque is one step.
_spare: Final = {point: deque[h11.Connection](maxlen=_SPARE) for point in Point}
#: Of a peer that speaks HTTP/1.1 and wants its connection kept: no other is ever DONE.
_KEPT: Final = {h11.SEND_RESPONSE: Point.ASKED, h11.SEND_BODY: Point.CHUNKS}


def rest(http: h11.Connection) -> Point | None:
    """Give `http` away; None: it is at some other point, and has to be kept.

    Not for answers to HEAD, nor for those whose heads have told a length: they differ.
    """
    point = _point_of(http)
    if point is not None and not http.trailing_data[0]:
        _spare[point].append(http)
    return point


def _point_of(http: h11.Connection) -> Point | None:
    ours, theirs = http.our_state, http.their_state
    if theirs is h11.DONE:
        return _KEPT.get(ours)
    is_last = theirs is h11.MUST_CLOSE and ours is h11.SEND_BODY
    return Point.LAST if is_last and http.their_http_version == b"1.0" else None


def wake(point: Point) -> h11.Connection:
    """An h11 connection that has come to this point."""
    try:
        return _spare[point].pop()
    except IndexError:
        return _new(point)


def _new(point: Point) -> h11.Connection:
    http = h11.Connection(h11.SERVER)
    http.receive_data(_REQUEST)
    while http.their_state is not h11.DONE:
        http.next_event()
    if point is Point.LAST:
        http.their_http_version = b"1.0"
    if point is not Point.ASKED:
        close = [("connection", "close")] if point is Point.LAST else []
        http.send(h11.Response(status_code=200, headers=close))
    return http


def _request() -> bytes:
    http = h11.Connection(h11.CLIENT)
    head = http.send(h11.Request(method="POST", target="/", headers=[("host", "")]))
    return head + http.send(h11.EndOfMessage())


_REQUEST: Final = _request()
