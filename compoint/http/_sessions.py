"""Sessions of `requests`: one of ours for each point, or one of the user's for all.

Ours keep a list of their open connections, so that a request under way can be ended from
another thread.
"""

from __future__ import annotations

import functools
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


class _Opened:
    """The sockets that one session has opened.

    Not the connections: one whose answer ends it forgets its socket while that is read.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sockets: weakref.WeakSet[Any] = weakref.WeakSet()
        self._is_shut = False
        #: Whether there ever was one.
        self.has_any = False

    def add(self, sock: Any) -> None:
        with self._lock:
            self._sockets.add(sock)
            self.has_any = True
            is_late = self._is_shut
        if is_late:
            _shut(sock)

    def shut(self) -> None:
        """Whoever uses one of them finds the end; and so does whoever opens one."""
        with self._lock:
            self._is_shut = True
            sockets = list(self._sockets)
        for sock in sockets:
            _shut(sock)

    def close(self) -> None:
        """Give them back; nobody uses one of them."""
        with self._lock:
            sockets = list(self._sockets)
        for sock in sockets:
            sock.close()


def _shut(sock: Any) -> None:
    # TLS to a proxy that passes TLS on hides its socket.
    sock = getattr(sock, "socket", sock)
    try:
        # The system's verb, below TLS, and no `close`: the descriptor belongs to its user.
        socket.socket.shutdown(sock, socket.SHUT_RDWR)
    except OSError:
        pass  # closed already


class _Connection(urllib3.connection.HTTPConnection):
    opened: _Opened

    def _new_conn(self) -> socket.socket:
        sock = super()._new_conn()
        self.opened.add(sock)
        return sock


class _SecureConnection(urllib3.connection.HTTPSConnection):
    opened: _Opened

    def _new_conn(self) -> socket.socket:
        sock = super()._new_conn()
        self.opened.add(sock)
        return sock

    def connect(self) -> None:
        super().connect()
        # TLS has made another of it.
        self.opened.add(self.sock)


class _Listed:
    """A pool whose connections note their sockets."""

    def __init__(self, *args: Any, opened: _Opened, **named: Any) -> None:
        super().__init__(*args, **named)
        self._opened = opened

    def _new_conn(self) -> Any:
        connection: Any = super()._new_conn()  # type: ignore[misc]
        connection.opened = self._opened
        return connection


class _Pool(_Listed, urllib3.connectionpool.HTTPConnectionPool):
    ConnectionCls = _Connection


class _SecurePool(_Listed, urllib3.connectionpool.HTTPSConnectionPool):
    ConnectionCls = _SecureConnection


class _Adapter(requests.adapters.HTTPAdapter):
    """What `requests` takes, with connections whose sockets are kept in a list."""

    def __init__(self) -> None:
        self.opened = _Opened()
        super().__init__(pool_maxsize=_CONNECTIONS, max_retries=0)

    def init_poolmanager(self, *args: Any, **named: Any) -> None:
        super().init_poolmanager(*args, **named)
        self._list_sockets_of(self.poolmanager)

    def proxy_manager_for(self, proxy: str, **named: Any) -> Any:
        if proxy.lower().startswith("socks"):
            # Its connections are of a kind of their own.
            return super().proxy_manager_for(proxy, **named)
        # urllib3 sets it for direct connections only; without it each request takes 40 ms more.
        named["socket_options"] = [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)]
        manager = super().proxy_manager_for(proxy, **named)
        self._list_sockets_of(manager)
        return manager

    def _list_sockets_of(self, manager: Any) -> None:
        manager.pool_classes_by_scheme = {
            "http": functools.partial(_Pool, opened=self.opened),
            "https": functools.partial(_SecurePool, opened=self.opened),
        }


class OwnSession(requests.Session):
    """A session whose requests can be ended from any thread."""

    def __init__(self, ca_file: str) -> None:
        super().__init__()
        if ca_file:
            self.verify = ca_file
        self._adapter = _Adapter()
        self.mount("http://", self._adapter)
        self.mount("https://", self._adapter)

    def get_redirect_target(self, resp: requests.Response) -> None:
        """None. Where `requests` finds a target it reads the answer to its end, however
        long that is, also if nobody wants to go there."""
        return

    @property
    def has_connected(self) -> bool:
        """Some connection has come about."""
        return self._adapter.opened.has_any

    def shut(self) -> None:
        """End what is under way, and what is tried later. `close` when all have noticed."""
        self._adapter.opened.shut()

    def close(self) -> None:
        super().close()
        # The pools would do it when they are collected, and nobody knows when that is.
        self._adapter.opened.close()


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
