"""What stands behind the names `http` and `https`."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING
from urllib.parse import quote

from compoint.core.turns_initiator import Way
from compoint.deadline import Deadline, clock
from compoint.drive.wire import Listener, Opener, Wire
from compoint.errors import AddressError
from compoint.http._initiator import HttpWire
from compoint.http._ports import ports
from compoint.http._sessions import OwnSession, chosen_session
from compoint.limits import HTTP_GIVE_UP_S, WAY_REMEMBERED_S

if TYPE_CHECKING:
    from compoint.address import ComPointAddress
    from compoint.config import Settings

__all__ = ["HttpOpener", "HttpsOpener"]


class HttpOpener(Opener):
    """`http://host:port/path`."""

    scheme = "http"

    def __init__(self) -> None:
        self._may_stream = True
        self._ca_file = ""
        self._give_up_s = HTTP_GIVE_UP_S
        self._lock = threading.Lock()
        #: What is known of the way to a host and port, and until when it is believed.
        self._ways: dict[tuple[str, int], tuple[Way, float]] = {}

    def initialise(self, settings: Settings) -> str:
        self._may_stream = settings.http.streams
        self._ca_file = settings.http.ca_file
        self._give_up_s = settings.http.give_up_s
        self._ways = {}
        return ""

    def connect(self, address: ComPointAddress, deadline: Deadline) -> Wire:
        url = _url_of(address, self.scheme)
        session = chosen_session() or OwnSession(self._ca_file)
        wire = HttpWire(
            url, str(address), self._way_to(address), session, os.urandom(16), self._give_up_s
        )
        try:
            wire.open(deadline)
        except BaseException:
            # Also Ctrl-C: nobody else knows of its threads.
            wire.close()
            raise
        return wire

    def _way_to(self, address: ComPointAddress) -> Way:
        where = (address.host, address.port)
        now = clock()
        with self._lock:
            way, until = self._ways.get(where, (None, 0.0))
            if way is None or until <= now:
                way = Way(may_stream=self._may_stream, may_upstream=self._may_stream)
                self._ways = {w: kept for w, kept in self._ways.items() if kept[1] > now}
                self._ways[where] = (way, now + WAY_REMEMBERED_S)
            return way

    def listen(self, address: ComPointAddress) -> Listener:
        return ports.listen(address)


class HttpsOpener(HttpOpener):
    """`https://host:port/path`, for initiators."""

    scheme = "https"

    def listen(self, address: ComPointAddress) -> Listener:
        raise AddressError(
            f"{address}: no server can be opened for https",
            hint="serve http, behind a web server that ends TLS or mounted into one",
        )


def _url_of(address: ComPointAddress, scheme: str) -> str:
    host = address.host or "127.0.0.1"
    if ":" in host:
        host = f"[{host.replace('%', '%25')}]"
    return f"{scheme}://{host}:{address.port}{quote(address.path or '/', safe=_PLAIN_IN_PATH)}"


_PLAIN_IN_PATH = "/:@!$&'()*+,;="  # RFC 3986 §3.3, beside the unreserved characters
