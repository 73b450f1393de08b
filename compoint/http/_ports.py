"""The ports of this process at which HTTP is served, each by one endpoint for all its paths.

A port is either our own, opened with its first place and closed when the last session of
the last place is over, or a mount: a web server of the user's listens there and passes
the requests on.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

from compoint.drive.lifetime import lifetime
from compoint.errors import AddressError, BusyError, Phase
from compoint.http._endpoint import HttpEndpoint, HttpListener
from compoint.http._port import HttpPort

if TYPE_CHECKING:
    from compoint.address import ComPointAddress

__all__ = ["HttpPorts", "ports"]

Where = tuple[str, int]


class HttpPorts:
    """Endpoints by host and port. Any thread may call."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._endpoints: dict[Where, HttpEndpoint] = {}
        self._ports: dict[Where, HttpPort] = {}

    def listen(self, address: ComPointAddress) -> HttpListener:
        """A place at this address.

        Raises:
            BusyError: another program listens there, or this one serves that path already.
            ConnectError: the address cannot be listened at.
        """
        with self._lock:
            endpoint = self._endpoints.get((address.host, address.port))
            if endpoint is not None and address.port:
                return endpoint.add(address)
            endpoint = HttpEndpoint(lifetime.pump(), self._look)
            port = HttpPort(address, endpoint, lifetime.pump())
            where = (address.host, port.address.port)
            self._endpoints[where] = endpoint
            self._ports[where] = port
            return endpoint.add(port.address)

    def mount(self, address: ComPointAddress) -> HttpEndpoint:
        """An endpoint whose requests come from a web server of the user's.

        Raises:
            AddressError: the port is 0, by which nobody could find it.
            BusyError: this process serves that port already.
        """
        if not address.port:
            raise AddressError(
                "a mount needs the port at which the web server listens",
                hint="write it into the address, and into those of the servers",
            )
        with self._lock:
            where = (address.host, address.port)
            if where in self._ports:
                raise BusyError(
                    "this program listens at this port by itself", point=str(address),
                    phase=Phase.OPEN, hint="mount before the first server is opened",
                )  # fmt: skip
            if where not in self._endpoints:
                self._endpoints[where] = HttpEndpoint(lifetime.pump(), self._look)
            return self._endpoints[where]

    def _look(self) -> None:
        """An endpoint has become empty: its port is given back."""
        with self._lock:
            for where, port in list(self._ports.items()):
                if self._endpoints[where].is_empty:
                    del self._ports[where]
                    self._endpoints.pop(where).close()
                    port.close()

    def after_fork(self) -> None:
        """In a child: the ports are the parent's."""
        self._lock = threading.RLock()
        for port in self._ports.values():
            port.after_fork()
        self._ports.clear()
        self._endpoints.clear()


ports = HttpPorts()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=ports.after_fork)
