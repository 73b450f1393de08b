"""pyzmq: PAIR for round trips, PUSH/PULL for one way, DEALER/ROUTER for many lines."""

from __future__ import annotations

from functools import partial
from typing import Any

import zmq

from bench.peer import Handler, Line, Listener, Peer

__all__ = ["DealerRouter", "Pair", "PushPull"]

#: From here not copying pays for what it costs.
_LARGE_BYTES = 64 * 1024
#: Up to here more than the default of 1000 messages in its queues is faster; above, slower.
_TINY_BYTES = 256

_Socket = zmq.Socket[bytes]


class _ZeroMq(Peer):
    """The context and the settings that all three arrangements share."""

    def __init__(self, message_bytes: int) -> None:
        super().__init__(message_bytes)
        self._context = zmq.Context(io_threads=1)
        # DEALERs of a crowd of lines: the default allows only 1023 sockets at once.
        self._context.set(zmq.MAX_SOCKETS, 65_000)
        self._is_large = message_bytes >= _LARGE_BYTES

    def socket(self, kind: int) -> _Socket:
        socket = self._context.socket(kind)
        socket.linger = 0
        if self.message_bytes <= _TINY_BYTES:
            socket.set_hwm(10_000)
        return socket

    def bound(self, kind: int) -> tuple[_Socket, str]:
        socket = self.socket(kind)
        return socket, str(socket.bind_to_random_port("tcp://127.0.0.1"))

    def connected(self, kind: int, port: str) -> _Socket:
        socket = self.socket(kind)
        socket.connect(f"tcp://127.0.0.1:{port}")
        return socket

    def line(self, outgoing: _Socket, incoming: _Socket) -> Line:
        ends = (zmq.ZMQError,)
        if not self._is_large:
            return Line(outgoing.send, incoming.recv, outgoing.close, ends)
        return Line(
            partial(outgoing.send, copy=False),
            partial(_received, incoming),
            outgoing.close,
            ends,
        )


def _received(socket: _Socket) -> Any:
    """The message as a view of the library's own memory, without a copy."""
    return socket.recv(copy=False).buffer


class _OneLineListener(Listener):
    """A socket that has one other side at most, or tells its other sides apart itself."""

    def __init__(self, address: str, line: Line) -> None:
        self._address = address
        self._line = line

    @property
    def address(self) -> str:
        return self._address

    def serve(self, handle: Handler, *, in_threads: bool) -> None:
        handle(self._line)


class Pair(_ZeroMq):
    """One PAIR socket on each side."""

    def listen(self) -> Listener:
        socket, port = self.bound(zmq.PAIR)
        return _OneLineListener(port, self.line(socket, socket))

    def connect(self, address: str) -> Line:
        socket = self.connected(zmq.PAIR, address)
        return self.line(socket, socket)


class PushPull(_ZeroMq):
    """A pipeline there, and a second one for what comes back."""

    def listen(self) -> Listener:
        incoming, there = self.bound(zmq.PULL)
        outgoing, back = self.bound(zmq.PUSH)
        return _OneLineListener(f"{there} {back}", self.line(outgoing, incoming))

    def connect(self, address: str) -> Line:
        there, back = address.split()
        return self.line(self.connected(zmq.PUSH, there), self.connected(zmq.PULL, back))


class DealerRouter(_ZeroMq):
    """A DEALER for each line, one ROUTER for all of them.

    The ROUTER's messages carry the name of their DEALER in front, so sending back what was
    received is an echo to whoever asked.
    """

    def listen(self) -> Listener:
        socket, port = self.bound(zmq.ROUTER)
        line = Line(socket.send_multipart, socket.recv_multipart, socket.close, (zmq.ZMQError,))
        return _OneLineListener(port, line)

    def connect(self, address: str) -> Line:
        socket = self.connected(zmq.DEALER, address)
        return self.line(socket, socket)
