"""Sessions of `requests`: one of ours for each point, or one of the user's for all.

Ours keep a list of their open connections, so that a request under way can be ended from
another thread.
"""

from __future__ import annotations

import socket
import threading
import weakref
from typing import Any, Final

import requests
import requests.adapters
import urllib3.connection
import urllib3.connectionpool

__all__ = ["OwnSession", "chosen_session", "use_session"]

#: A stream, an upstream, and a write or a poll beside them.
_CONNECTIONS: Final = 4


class _Open:
    """The connections of one session that are open."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._connections: weakref.WeakSet[Any] = weakref.WeakSet()
        self._is_aborted = False

    def add(self, connection: Any) -> None:
        with self._lock:
            self._connections.add(connection)
            is_late = self._is_aborted
        if is_late:
            _shut(connection)

    def abort(self) -> None:
        with self._lock:
            self._is_aborted = True
            connections = list(self._connections)
        for connection in connections:
            _shut(connection)


def _shut(connection: Any) -> None:
    sock = connection.sock
    if sock is None:
        return
    try:
        # The system's verb, below TLS: whoever is reading there finds the end.
        socket.socket.shutdown(sock, socket.SHUT_RDWR)
    except OSError:
        pass  # closed already


class _Adapter(requests.adapters.HTTPAdapter):
    def __init__(self) -> None:
        self.open = _Open()
        super().__init__(pool_maxsize=_CONNECTIONS, max_retries=0)

    def init_poolmanager(self, *args: Any, **named: Any) -> None:
        super().init_poolmanager(*args, **named)
        self.poolmanager.pool_classes_by_scheme = self._pools()

    def proxy_manager_for(self, *args: Any, **named: Any) -> Any:
        manager = super().proxy_manager_for(*args, **named)
        manager.pool_classes_by_scheme = self._pools()
        return manager

    def _pools(self) -> dict[str, Any]:
        opened = self.open

        class Plain(urllib3.connection.HTTPConnection):
            def connect(self) -> None:
                super().connect()
                opened.add(self)

        class Secure(urllib3.connection.HTTPSConnection):
            def connect(self) -> None:
                super().connect()
                opened.add(self)

        class PlainPool(urllib3.connectionpool.HTTPConnectionPool):
            ConnectionCls = Plain

        class SecurePool(urllib3.connectionpool.HTTPSConnectionPool):
            ConnectionCls = Secure

        return {"http": PlainPool, "https": SecurePool}


class OwnSession(requests.Session):
    """A session whose requests can be ended by `abort`, from any thread and for good."""

    def __init__(self, ca_file: str) -> None:
        super().__init__()
        if ca_file:
            self.verify = ca_file
        self._adapter = _Adapter()
        self.mount("http://", self._adapter)
        self.mount("https://", self._adapter)

    def abort(self) -> None:
        self._adapter.open.abort()
        self.close()


_chosen: requests.Session | None = None


def use_session(session: requests.Session | None) -> None:
    """Make the requests of all initiators opened from now on with this Session of yours.

    For authentication, client certificates, proxies, adapters of your own; None: a fresh
    one for each point again, which is the default. Several threads will use it at once. It
    is never closed here. A point over it is closed as fast as its server answers.
    """
    global _chosen  # noqa: PLW0603 - one choice for the process, as its settings are
    _chosen = session


def chosen_session() -> requests.Session | None:
    """What `use_session` was given last."""
    return _chosen
