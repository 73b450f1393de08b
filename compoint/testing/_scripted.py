"""Peers that do exactly what a test says, byte for byte, in the test's own thread."""

from __future__ import annotations

import contextlib
import socket
import struct
from typing import TYPE_CHECKING, Final, Self

from compoint.core.framing import HEADER, Kind
from compoint.core.greeting import Greeting, Mode, Refusal, parse_greeting
from compoint.limits import GIB, MIB

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["ScriptedPeer", "ScriptedServer"]

_PATIENCE_S: Final = 5.0


class ScriptedPeer:
    """A raw TCP connection in the hands of a test.

    What it does not say is silence, for as long as the test holds it.
    """

    def __init__(self, sock: socket.socket) -> None:
        sock.settimeout(_PATIENCE_S)
        self.socket = sock
        self._heard = b""

    @classmethod
    def visit(cls, port: int, host: str = "127.0.0.1") -> ScriptedPeer:
        """Connect to a server."""
        return cls(socket.create_connection((host, port), timeout=_PATIENCE_S))

    def say(self, data: bytes) -> None:
        self.socket.sendall(data)

    def say_frame(
        self, kind: Kind | int, payload: bytes = b"", *, stream: int = 1, ack: int = 0,
        form: int = 0, flags: int = 0, length: int | None = None,
    ) -> None:  # fmt: skip
        """Say one frame; `length` may lie about the payload."""
        size = len(payload) if length is None else length
        self.say(HEADER.pack(kind, form, flags, stream, ack, size) + payload)

    def hear(self, count: int) -> bytes:
        """The next `count` bytes of the peer.

        Raises:
            EOFError: it has closed before.
            TimeoutError: it says nothing for 5 seconds.
        """
        while len(self._heard) < count:
            data = self.socket.recv(65536)
            if not data:
                raise EOFError(f"the peer closed after {self._heard!r}")
            self._heard += data
        heard, self._heard = self._heard[:count], self._heard[count:]
        return heard

    def hear_all(self) -> bytes:
        """Everything until the peer closes; a reset counts as the end."""
        with contextlib.suppress(ConnectionError):
            while data := self.socket.recv(65536):
                self._heard += data
        heard, self._heard = self._heard, b""
        return heard

    def hear_greeting(self) -> Greeting | Refusal:
        """The peer's greeting, or its refusal."""
        while (parsed := parse_greeting(self._heard)) is None:
            data = self.socket.recv(65536)
            if not data:
                raise EOFError(f"the peer closed after {self._heard!r}")
            self._heard += data
        greeting, used = parsed
        self._heard = self._heard[used:]
        assert isinstance(greeting, (Greeting, Refusal)), greeting
        return greeting

    def hear_frame(self) -> tuple[Kind, bytes]:
        """The next frame of the peer: its kind and its payload."""
        kind, _, _, _, _, length = HEADER.unpack(self.hear(HEADER.size))
        return Kind(kind), self.hear(length)

    def greet(
        self, mode: Mode = Mode.PLAIN, *, path: str = "", window: int = MIB,
        message_limit: int = GIB, heartbeat_ms: int = 0,
    ) -> None:  # fmt: skip
        """Say a proper greeting of ours: as initiator with PLAIN, as responder with WELCOME."""
        greeting = Greeting(mode, message_limit, window, heartbeat_ms, b"s" * 16, path)
        self.say(greeting.encode())

    def hang_up(self) -> None:
        """Close in good order, as far as the system is concerned."""
        self.socket.close()

    def reset(self) -> None:
        """Close with a reset, as a crashing machine does."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.socket.close()


class ScriptedServer:
    """A listening socket whose visitors are met by the test itself.

    The system completes connections by itself, so an initiator under test gets through
    before `meet` is called, and no thread is needed.
    """

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._socket.settimeout(_PATIENCE_S)
        self.port: int = self._socket.getsockname()[1]

    def meet(self) -> ScriptedPeer:
        """The next visitor."""
        return ScriptedPeer(self._socket.accept()[0])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._socket.close()
