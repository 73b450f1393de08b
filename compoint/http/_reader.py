"""The requests in what one peer sends: bytes in; heads, pieces of bodies and faults out.

h11 does the reading. Each request has an h11 connection of its own, which is given a head
that has been looked at before (`_strict`), and then the body. What was read beyond the body
waits here for the next request. Between requests there is no h11 connection at all, nor while
a request waits for its answer (`_resting`).

Pure: no socket, no clock, no lock. Any chunking gives the same requests.
"""

from __future__ import annotations

import h11

from compoint.http._exchange import Request
from compoint.http._heads import read_request
from compoint.http._resting import Point, rest, wake
from compoint.http._strict import ChunkGate, Fault, head_end

__all__ = ["RequestReader"]


class RequestReader:
    """The input of one connection: `head`, then `body` until it is whole, then `done`."""

    __slots__ = ("_early", "_gate", "_http", "_looked")

    def __init__(self) -> None:
        #: Fed and not yet given to h11, and how much of it is known to hold no whole head.
        self._early = b""
        self._looked = 0
        self._gate: ChunkGate | None = None
        self._http: h11.Connection | Point | None = None

    def __len__(self) -> int:
        """How many bytes wait to be read."""
        return len(self._early)

    @property
    def is_chunked(self) -> bool:
        return self._gate is not None

    @property
    def http(self) -> h11.Connection | None:
        """The h11 connection of the request whose head was read and that is not done."""
        if isinstance(self._http, Point):
            self._http = wake(self._http)
        return self._http

    @property
    def our_state(self) -> object:
        """How far the answer to that request is, in h11's words; IDLE: there is no request."""
        http = self._http
        if isinstance(http, Point):
            return h11.SEND_RESPONSE if http is Point.ASKED else h11.SEND_BODY
        return h11.IDLE if http is None else http.our_state

    def rest(self) -> None:
        """The request is here whole and waits, perhaps for long. Not for HEAD."""
        if isinstance(self._http, h11.Connection):
            self._http = rest(self._http) or self._http

    def feed(self, data: bytes) -> None:
        self._early += data

    def head(
        self, peer: str, most_bytes: int, most_lines: int, *, is_loopback: bool
    ) -> Request | None:
        """The next request; None while its head is not here whole.

        Raises:
            Fault: there is no reading on.
        """
        data = self._early
        while data.startswith(b"\r\n"):  # RFC 9112 §2.2
            data = self._early = data[2:]
        if not data:
            return None
        end = head_end(data, self._looked, most_bytes, most_lines)
        if not end:
            self._looked = len(data)
            return None
        self._early = data[end:]
        self._looked = 0
        self._http = http = h11.Connection(h11.SERVER, most_bytes)
        request = read_request(http, data[:end], peer, is_loopback=is_loopback)
        if "transfer-encoding" in request.headers:
            self._gate = ChunkGate()
        return request

    def body(self) -> bytes | None:
        """The next piece of the body; b"": it is whole; None: more must be fed first.

        Raises:
            Fault: there is no reading on.
        """
        http = self.http
        assert http is not None
        try:
            while True:
                event = http.next_event()
                if type(event) is h11.Data:
                    return bytes(event.data)
                if type(event) is h11.EndOfMessage:
                    # What follows may have been given to h11 together with the end.
                    self._early = http.trailing_data[0] + self._early
                    return b""
                if not self._early:
                    return None
                if self._gate is not None:
                    self._gate.check(self._early)
                http.receive_data(self._early)
                self._early = b""
        except h11.RemoteProtocolError as error:
            raise Fault(400, "bad request", str(error).partition(":")[0]) from None

    def done(self) -> None:
        """The request has been answered."""
        self._http = None
        self._gate = None

    def drop(self) -> None:
        """What waits will not be read."""
        self._early = b""
