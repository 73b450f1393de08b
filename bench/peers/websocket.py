"""`websockets.sync`: the threaded client and server of websockets."""

from __future__ import annotations

from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from websockets.sync.server import ServerConnection, serve

from bench.peer import Handler, Line, Listener, Peer

__all__ = ["WebSocket"]

_SETTINGS: dict[str, Any] = {
    "compression": None,
    "max_size": None,
    "ping_interval": None,
}


def _line(connection: Any) -> Line:
    return Line(connection.send, connection.recv, connection.close, (ConnectionClosed,))


class _WebSocketListener(Listener):
    """The library accepts itself and always gives a connection a thread of its own."""

    def __init__(self) -> None:
        self._handle: Handler | None = None
        self._server = serve(self._begin, "127.0.0.1", 0, **_SETTINGS)

    @property
    def address(self) -> str:
        return str(self._server.socket.getsockname()[1])

    def serve(self, handle: Handler, *, in_threads: bool) -> None:
        self._handle = handle
        self._server.serve_forever()

    def _begin(self, connection: ServerConnection) -> None:
        assert self._handle is not None, "connections come only after serve()"
        self._handle(_line(connection))


class WebSocket(Peer):
    """Binary messages over ws://."""

    def listen(self) -> _WebSocketListener:
        return _WebSocketListener()

    def connect(self, address: str) -> Line:
        return _line(connect(f"ws://127.0.0.1:{address}/", proxy=None, **_SETTINGS))
