"""The raw Python socket loop: what everybody is compared with."""

from __future__ import annotations

import socket
import struct

from bench.peer import AcceptingListener, Line, Peer

__all__ = ["Raw"]

_LENGTH = struct.Struct("!I")
#: Up to here joining header and payload costs less than a second buffer.
_JOINED_BYTES = 16 * 1024
#: From here receiving into one buffer beats joining parts.
_ONE_BUFFER_BYTES = 64 * 1024


class _Framed:
    """Length-prefixed messages over one blocking socket."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sock = sock

    def line(self) -> Line:
        return Line(self.send, self.receive, self._sock.close)

    def send(self, payload: bytes) -> None:
        header = _LENGTH.pack(len(payload))
        if len(payload) <= _JOINED_BYTES:
            self._sock.sendall(header + payload)
            return
        sent = self._sock.sendmsg((header, payload)) - len(header)
        if sent < len(payload):
            self._sock.sendall(memoryview(payload)[max(sent, 0) :])

    def receive(self) -> bytes | bytearray:
        (length,) = _LENGTH.unpack(self._exactly(_LENGTH.size))
        return self._exactly(length)

    def _exactly(self, size: int) -> bytes | bytearray:
        if size >= _ONE_BUFFER_BYTES:
            return self._into_one_buffer(size)
        payload = self._sock.recv(size)
        if len(payload) == size:
            return payload
        return self._rest(payload, size)

    def _into_one_buffer(self, size: int) -> bytearray:
        payload = bytearray(size)
        view, filled = memoryview(payload), 0
        while filled < size:
            received = self._sock.recv_into(view[filled:])
            if not received:
                raise EOFError("the other side has closed")
            filled += received
        return payload

    def _rest(self, first: bytes, size: int) -> bytes:
        parts = [first]
        missing = size - len(first)
        while missing and parts[-1]:
            parts.append(self._sock.recv(missing))
            missing -= len(parts[-1])
        if missing:
            raise EOFError("the other side has closed")
        return b"".join(parts)


class _RawListener(AcceptingListener):
    def __init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=1024)

    @property
    def address(self) -> str:
        return str(self._listening.getsockname()[1])

    def accept(self) -> Line:
        return _Framed(self._listening.accept()[0]).line()


class Raw(Peer):
    """Hand-written, as short and as fast as a careful person writes it."""

    def listen(self) -> _RawListener:
        return _RawListener()

    def connect(self, address: str) -> Line:
        return _Framed(socket.create_connection(("127.0.0.1", int(address)))).line()
