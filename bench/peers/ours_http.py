"""Our own over http: the mode the way allows by itself, and forced polls."""

from __future__ import annotations

from bench.peer import Line
from bench.peers.ours import Plain
from compoint import COMPOINT_INITIATOR, ComManager, ComPoint
from compoint.testing import configured

__all__ = ["Http", "Polling", "Streaming"]


class Http(Plain):
    """A plain ComPoint whose address says http; nothing else differs from tcp."""

    protocol = "http"
    #: Whether the initiator may try to stream.
    may_stream: bool

    def __init__(self, message_bytes: int) -> None:
        super().__init__(message_bytes)
        self._points: list[ComPoint] = []

    def connect(self, address: str) -> Line:
        with configured(http={"streams": "on" if self.may_stream else "off"}):
            point = ComManager.com_point(COMPOINT_INITIATOR, self.at(address))
        self._points.append(point)
        return self.line(point)

    def park(self, address: str) -> object:
        """An initiator that waits for a message and nothing else; waits while it is kept."""
        from bench.peers.parked import park

        return park("127.0.0.1", int(address), "", may_stream=self.may_stream)

    def check(self) -> None:
        expected = "http, streaming" if self.may_stream else "http, polling"
        for point in self._points:
            carrier = point.statistics().carrier
            if carrier != expected:
                raise RuntimeError(f"measured was {carrier!r}, the row is about {expected!r}")


class Streaming(Http):
    """As it is by default, where nothing on the way holds anything back."""

    may_stream = True


class Polling(Http):
    """As behind a proxy that holds answers back until they are whole."""

    may_stream = False
