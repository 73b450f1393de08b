"""Bytes over TCP: non-blocking sockets, waited for with `poll`."""

from __future__ import annotations

import errno
import os
import select
import socket
import threading
from collections.abc import Sequence
from typing import Any, Final

from compoint.address import ComPointAddress
from compoint.deadline import Deadline
from compoint.drive.lifetime import lifetime
from compoint.drive.listening import ListeningSocket
from compoint.drive.pump import Bell
from compoint.drive.wire import Listener, Opener, Wire
from compoint.errors import ClosedError, ConnectError, Phase, PointTimeout

__all__ = ["SocketWire", "TcpListener", "TcpOpener"]

#: The system takes at most this many buffers in one call (1024 on Linux, 16 at worst).
_BUFFERS: Final = 16
#: The longest the system's `poll` can be told to wait; who waits longer asks again.
_POLL_MS: Final = 2**31 - 1
_bells: Final = threading.Lock()


class SocketWire(Wire):
    """One connected socket."""

    can_spin = True

    def send(self, data: bytes | memoryview, /) -> int:
        raise NotImplementedError  # replaced in __init__

    def receive(self, most: int, /) -> bytes:
        raise NotImplementedError  # replaced in __init__

    def receive_into(self, room: memoryview, /) -> int:
        raise NotImplementedError  # replaced in __init__

    def __init__(self, sock: socket.socket, peer: str, *, is_local: bool) -> None:
        sock.setblocking(False)
        self.peer = peer
        self.is_local = is_local
        self._socket = sock
        # The system's verbs are the contract's: nothing stands between.
        self.send = sock.send  # type: ignore[method-assign]
        self.receive = sock.recv  # type: ignore[method-assign]
        self.receive_into = sock.recv_into  # type: ignore[method-assign]
        self._fd = sock.fileno()
        self._bell: Bell | None = None
        self._is_closed = False
        self._poll: select.poll | None = None
        self._polls_output = False

    def send_many(self, buffers: Sequence[bytes | memoryview], /) -> int:
        return self._socket.sendmsg(buffers[:_BUFFERS])

    def wait(self, timeout_s: float | None, *, to_send: bool) -> None:
        poll = self._poll
        if poll is None:
            poll = self._start_polling()
        if to_send is not self._polls_output:
            self._polls_output = to_send
            events = select.POLLIN | select.POLLOUT if to_send else select.POLLIN
            poll.modify(self._fd, events)
        ready = poll.poll(_poll_ms(timeout_s))
        if len(ready) > 1 or (ready and ready[0][0] != self._fd):
            assert self._bell is not None
            self._bell.quiet()

    def _start_polling(self) -> select.poll:
        bell = self._own_bell()
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        poll.register(bell.fileno(), select.POLLIN)
        self._poll = poll
        return poll

    def wake(self) -> None:
        try:
            self._own_bell().ring()
        except OSError:
            pass  # closed: nobody waits there any more

    def _own_bell(self) -> Bell:
        # Made when first needed: a connection that never blocks a thread costs no
        # second descriptor.
        bell = self._bell
        if bell is None:
            with _bells:
                if self._bell is None:
                    if self._is_closed:
                        raise OSError(errno.EBADF, "this side closed the wire")
                    self._bell = Bell()
                bell = self._bell
        return bell

    def fileno(self) -> int:
        return self._fd

    def end_output(self) -> bool:
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError:
            return False
        return True

    def close(self) -> None:
        self._socket.close()
        with _bells:
            self._is_closed = True
            bell, self._bell = self._bell, None
        if bell is not None:
            bell.close()

    def close_copy(self) -> None:
        # Without the lock: a thread of the parent's may hold it.
        self._socket.close()
        self._is_closed = True
        bell, self._bell = self._bell, None
        if bell is not None:
            bell.close_copy()


class TcpListener(Listener):
    """A listening socket."""

    def __init__(self, address: ComPointAddress) -> None:
        self._socket = ListeningSocket(address)
        self.address = self._socket.address

    def accept(self) -> Wire | None:
        visitor = self._socket.accept()
        return None if visitor is None else _wire_of(*visitor)

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()


def _wire_of(sock: socket.socket, name: tuple[str, int]) -> SocketWire:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    host, port = name[:2]
    text = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    is_local = host == "::1" or host.startswith(("127.", "::ffff:127."))
    return SocketWire(sock, f"tcp://{text}", is_local=is_local)


class TcpOpener(Opener):
    """`tcp://host:port/path`."""

    def connect(self, address: ComPointAddress, deadline: Deadline) -> Wire:
        point = str(address)
        host = address.host or "127.0.0.1"
        if deadline.is_over:
            raise _too_late(point, Phase.RESOLVE, deadline)
        try:
            found = _numeric(host, address.port) or socket.getaddrinfo(
                host, address.port, type=socket.SOCK_STREAM
            )
        except socket.gaierror as fault:
            raise ConnectError(
                f"the host {host!r} is not known ({fault.strerror})", point=point,
                phase=Phase.RESOLVE, elapsed_s=deadline.elapsed_s,
                hint="check the name and the network",
            ) from fault  # fmt: skip
        faults = []
        for family, kind, protocol, _, name in found:
            sock: socket.socket | None = None
            try:
                sock = socket.socket(family, kind, protocol)
                _connect(sock, name, deadline)
                wire = _wire_of(sock, name)  # type: ignore[arg-type]
                sock = None
                return wire
            except TimeoutError as fault:
                raise _too_late(point, Phase.CONNECT, deadline) from fault
            except OSError as fault:
                faults.append(fault)
            finally:
                if sock is not None:
                    sock.close()
        raise ConnectError(
            f"nobody was reached ({'; '.join(sorted({str(f.strerror) for f in faults}))})",
            point=point, phase=Phase.CONNECT, elapsed_s=deadline.elapsed_s,
            hint=_hint(faults),
        ) from faults[0]  # fmt: skip

    def listen(self, address: ComPointAddress) -> Listener:
        return TcpListener(address)


def _numeric(host: str, port: int) -> list[Any]:
    """What getaddrinfo would find for a plain IPv4 address, without its cost."""
    try:
        socket.inet_pton(socket.AF_INET, host)
    except OSError:
        return []
    return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", (host, port))]


def _connect(sock: socket.socket, name: tuple[object, ...], deadline: Deadline) -> None:
    sock.setblocking(False)
    code = sock.connect_ex(name)
    if code == errno.EINPROGRESS:
        poll = select.poll()
        poll.register(sock, select.POLLOUT)
        poll.register(lifetime.ending_bell().fileno(), select.POLLIN)
        while not (ready := poll.poll(_poll_ms(deadline.remaining_s()))):
            if deadline.is_over:
                raise TimeoutError
        if sock.fileno() not in [fd for fd, _ in ready]:
            raise ClosedError(
                "the program is ending", phase=Phase.CONNECT, elapsed_s=deadline.elapsed_s
            )
        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if code:
        raise OSError(code, os.strerror(code))


def _poll_ms(time_s: float | None) -> int | None:
    # Rounded up: a wait that ends a fraction early would spin through the rest.
    return None if time_s is None else min(int(time_s * 1000) + 1, _POLL_MS)


def _too_late(point: str, phase: Phase, deadline: Deadline) -> PointTimeout:
    return PointTimeout(
        "the peer was not reached in time", point=point, phase=phase,
        elapsed_s=deadline.elapsed_s, hint="is there a firewall in between?",
    )  # fmt: skip


def _hint(faults: list[OSError]) -> str:
    if any(fault.errno == errno.ECONNREFUSED for fault in faults):
        return "is the server started, and is this its port?"
    return "check host, port and network"
