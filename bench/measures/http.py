"""Where only HTTP passes: us beside `requests` posting to a web server.

A POST is answered before the next one is sent, so the POST rows of one way are the loop of
whoever has nothing else.
"""

from __future__ import annotations

from typing import Final

from bench.measure import Figure
from bench.measures.one_way import OneWay
from bench.measures.round_trip import RoundTrip
from bench.scale import Scale

__all__ = ["OVER_HTTP", "POSTS", "HttpRoundTrip"]

#: The best of them, in the same run, is what we are compared with.
POSTS: Final = ("post-http-server", "post-gunicorn", "post-uvicorn")
_OURS: Final = ("http-streaming", "http-polling")


class HttpRoundTrip(RoundTrip):
    """64 B each way, one at a time."""

    contenders = ("raw", *POSTS, *_OURS)

    @property
    def key(self) -> str:
        return "http-round-trip"

    def figures(self, scale: Scale) -> tuple[Figure, ...]:
        return (Figure(self.key, "HTTP: 64 B round trip", "µs", True),)


OVER_HTTP: Final = (
    HttpRoundTrip(),
    OneWay("http-one-way-64", "HTTP: 64 B one way", 64, (*POSTS, *_OURS)),
    OneWay("http-one-way-1m", "HTTP: 1 MiB one way", 1024 * 1024, ("raw", "compoint", *_OURS)),
)
