"""`multiprocessing.connection` over TCP, with bytes and with pickled objects."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from multiprocessing.connection import Client, Listener
from typing import Any

from bench.peer import AcceptingListener, Line, Peer

__all__ = ["MultiprocessingConnection", "PickledConnection"]


@dataclass
class _Order:
    """What the typed peers send, as users of this module would write it."""

    item: str
    count: int
    price: float


def _without_delay(connection: Any) -> Any:
    """Set TCP_NODELAY, for which the module has no option."""
    with socket.socket(fileno=os.dup(connection.fileno())) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def _bytes_line(connection: Any) -> Line:
    return Line(connection.send_bytes, connection.recv_bytes, connection.close)


def _pickle_line(connection: Any) -> Line:
    return Line(connection.send, connection.recv, connection.close)


class _ConnectionListener(AcceptingListener):
    def __init__(self, *, is_pickled: bool) -> None:
        self._listener = Listener(("127.0.0.1", 0), "AF_INET", backlog=1024)
        self._line = _pickle_line if is_pickled else _bytes_line

    @property
    def address(self) -> str:
        return str(self._listener.address[1])

    def accept(self) -> Line:
        return self._line(_without_delay(self._listener.accept()))


class MultiprocessingConnection(Peer):
    """Messages of bytes."""

    def listen(self) -> _ConnectionListener:
        return _ConnectionListener(is_pickled=False)

    def connect(self, address: str) -> Line:
        return _bytes_line(_without_delay(Client(("127.0.0.1", int(address)), "AF_INET")))


class PickledConnection(Peer):
    """Objects, pickled by the module itself."""

    def message(self) -> Any:
        return _Order("a book about the sea", 2, 19.5)

    def listen(self) -> _ConnectionListener:
        return _ConnectionListener(is_pickled=True)

    def connect(self, address: str) -> Line:
        return _pickle_line(_without_delay(Client(("127.0.0.1", int(address)), "AF_INET")))
