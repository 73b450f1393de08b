"""Our own HTTP/1.1 server: a listening socket and its connections, on the pump."""

from __future__ import annotations

import socket
import threading
from dataclasses import dataclass
from typing import Final

import h11

from compoint.address import ComPointAddress
from compoint.deadline import clock
from compoint.drive.listening import ListeningSocket
from compoint.drive.pump import Pump
from compoint.http._exchange import Endpoint, problem
from compoint.http._heads import whole_answer
from compoint.http._served import HttpConnection
from compoint.limits import (
    HTTP_BODY_RATE,
    HTTP_BODY_S,
    HTTP_CLOSE_S,
    HTTP_CONNECTIONS,
    HTTP_DROPPED_BYTES,
    HTTP_EARLY_BYTES,
    HTTP_HALF_CLOSED_S,
    HTTP_HEAD_BYTES,
    HTTP_HEAD_LINES,
    HTTP_HEAD_S,
    HTTP_IDLE_S,
    HTTP_LINGER_S,
    HTTP_SWEEP_S,
    HTTP_TAKE_S,
    RECEIVE_BYTES,
)

__all__ = ["HttpPort", "PortBounds", "PortStatistics"]

#: Peers accepted before other duties of the pump are looked at.
_ACCEPT_ROUNDS: Final = 64


@dataclass(frozen=True, slots=True)
class PortBounds:
    """What one port takes; the reasons stand in `compoint/limits.py`."""

    connections: int = HTTP_CONNECTIONS
    head_bytes: int = HTTP_HEAD_BYTES
    head_lines: int = HTTP_HEAD_LINES
    head_s: float = HTTP_HEAD_S
    body_s: float = HTTP_BODY_S
    body_rate: float = HTTP_BODY_RATE
    early_bytes: int = HTTP_EARLY_BYTES
    dropped_bytes: int = HTTP_DROPPED_BYTES
    idle_s: float = HTTP_IDLE_S
    take_s: float = HTTP_TAKE_S
    half_closed_s: float = HTTP_HALF_CLOSED_S
    linger_s: float = HTTP_LINGER_S
    close_s: float = HTTP_CLOSE_S
    sweep_s: float = HTTP_SWEEP_S


@dataclass(frozen=True, slots=True)
class PortStatistics:
    """One port at one moment."""

    #: Open now.
    connections: int
    #: Requests the endpoint was asked about.
    requests: int
    #: Peers turned away: too many connections, or no descriptor left.
    refused: int
    #: Connections on which the peer broke HTTP, was too slow, or left before its answer.
    broken: int


class HttpPort:
    """Serves an endpoint at a local address, from when it is made until `close`.

    It has no thread: the pump accepts, reads and calls the endpoint, and answers are
    written by whoever gives them. Any thread may call.

    Raises:
        BusyError: somebody else listens there.
        ConnectError: the address cannot be listened at.
    """

    def __init__(
        self,
        address: ComPointAddress,
        endpoint: Endpoint,
        pump: Pump,
        bounds: PortBounds | None = None,
    ) -> None:
        self.endpoint = endpoint
        self.pump = pump
        self.bounds = bounds or PortBounds()
        self.requests = 0
        self._refused = 0
        self._broken = 0
        self._lock = threading.Lock()
        # As a set, they would take up to three times the memory.
        self._connections: dict[HttpConnection, None] = {}
        self._is_closed = False
        self._cut_at = 0.0
        self._is_sweeping = False
        self._socket = ListeningSocket(address)
        #: Where it listens; a port of 0 has been replaced by the one taken.
        self.address = self._socket.address
        pump.watch_descriptor(self._socket.fileno(), self._accept_some, output=False)

    def close(self) -> None:
        """Stop listening and end the connections; returns without waiting.

        Idle connections are closed before it returns. Where an answer is due or on its
        way, the connection ends behind it, and after HTTP_CLOSE_S in any case.
        """
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
            self.pump.forget_descriptor(self._socket.fileno())
            self._socket.close()
            self._cut_at = clock() + self.bounds.close_s
            connections = list(self._connections)
        for connection in connections:
            connection.leave()

    def after_fork(self) -> None:
        """In a child: give back the copies of the descriptors, and touch nothing shared."""
        # No lock: a thread that does not exist here may hold it.
        self._is_closed = True
        self._socket.close()
        for connection in self._connections:
            connection.close_copy()
        self._connections.clear()

    def statistics(self) -> PortStatistics:
        """What has happened so far."""
        with self._lock:
            refused = self._refused + self._socket.turned_away
            return PortStatistics(len(self._connections), self.requests, refused, self._broken)

    # --- for its connections ------------------------------------------------------------

    def left(self, connection: HttpConnection) -> None:
        """The connection is closed."""
        with self._lock:
            self._connections.pop(connection, None)

    def count_broken(self) -> None:
        with self._lock:
            self._broken += 1

    # --- the pump -----------------------------------------------------------------------

    def _accept_some(self) -> None:
        for _ in range(_ACCEPT_ROUNDS):
            # Held all the time: the descriptor must not be closed, and its number be
            # somebody else's, while it is used.
            with self._lock:
                if self._is_closed:
                    return
                visitor = self._socket.accept()
                if visitor is None:
                    return
                connection = self._welcome(*visitor)
            if connection is not None:
                connection.listen()

    def _welcome(self, sock: socket.socket, name: tuple[str, int]) -> HttpConnection | None:
        sock.setblocking(False)
        if len(self._connections) >= self.bounds.connections:
            self._refused += 1
            self._refuse(sock)
            return None
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError:
            sock.close()  # it is gone again
            return None
        connection = HttpConnection(self, sock, *name[:2])
        self._connections[connection] = None
        if not self._is_sweeping:
            self._is_sweeping = True
            self.pump.call_at(clock() + self.bounds.sweep_s, self._sweep)
        return connection

    def _refuse(self, sock: socket.socket) -> None:
        with sock:
            try:
                sock.send(_busy_answer())
                sock.shutdown(socket.SHUT_WR)
                # Closing over an unread request could destroy the answer on its way.
                sock.recv(RECEIVE_BYTES)
            except OSError:
                pass  # it is gone, or has asked nothing yet

    def _sweep(self) -> float | None:
        now = clock()
        with self._lock:
            if not self._connections:
                self._is_sweeping = False
                return None
            is_over = self._is_closed and now >= self._cut_at
            late = [one for one in self._connections if is_over or one.due <= now]
        for connection in late:
            if is_over:
                connection.cut()
            else:
                connection.on_time(now)
        return now + self.bounds.sweep_s


def _busy_answer() -> bytes:
    answer = problem(503, "busy", "there are too many connections", retry_after_s=1.0)
    http = h11.Connection(h11.SERVER)
    return b"".join(whole_answer(http, *answer, is_head=False, is_last=True))
