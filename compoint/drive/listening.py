"""A listening TCP socket, for every transport that has one."""

from __future__ import annotations

import errno
import os
import socket
from typing import Any

from compoint.address import ComPointAddress
from compoint.errors import BusyError, ConnectError, Phase
from compoint.limits import BACKLOG

__all__ = ["ListeningSocket"]


class ListeningSocket:
    """Listens at a local address, from when it is made until `close`.

    It keeps a spare descriptor. When the process has no other left, the visitors in line
    are turned away with it; left where they are, they would keep the pump awake for ever.

    Raises:
        BusyError: somebody else listens there.
        ConnectError: the address cannot be listened at.
    """

    def __init__(self, address: ComPointAddress) -> None:
        self._socket = _listening(address)
        self._fd = self._socket.fileno()
        self._spare = _spare()
        #: A port of 0 has been replaced by the one taken.
        self.address = address.with_port(self._socket.getsockname()[1])
        #: Visitors turned away because no descriptor was left.
        self.turned_away = 0

    def fileno(self) -> int:
        return self._fd

    def accept(self) -> tuple[socket.socket, Any] | None:
        """The next visitor and its name; None: nobody now. Never waits."""
        try:
            return self._socket.accept()
        except OSError as fault:
            if fault.errno in {errno.EMFILE, errno.ENFILE}:
                self._turn_away()
            # Else nobody is there, or is gone again.
            return None

    def _turn_away(self) -> None:
        self.turned_away += 1
        self._close_spare()
        try:
            self._socket.accept()[0].close()
        except OSError:
            pass  # gone again, or another thread was faster; the next look tries again
        self._spare = _spare()

    def _close_spare(self) -> None:
        spare, self._spare = self._spare, -1
        if spare >= 0:
            os.close(spare)

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()
        self._close_spare()


def _spare() -> int:
    try:
        return os.open(os.devnull, os.O_RDONLY)
    except OSError:
        return -1


def _listening(address: ComPointAddress) -> socket.socket:
    # Without a host only this machine is served: leaving it must be asked for.
    host = address.host or "127.0.0.1"
    point = str(address)
    try:
        family, kind, protocol, _, name = socket.getaddrinfo(
            host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except socket.gaierror as fault:
        raise ConnectError(
            f"the interface {host!r} is not known ({fault.strerror})", point=point,
            phase=Phase.RESOLVE, hint="name an address of this machine",
        ) from fault  # fmt: skip
    try:
        sock = socket.socket(family, kind, protocol)
    except OSError as fault:
        raise _cannot_listen(fault, point) from fault
    try:
        if os.name == "posix":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(name)
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except OSError as fault:
        sock.close()
        raise _cannot_listen(fault, point) from fault
    return sock


def _cannot_listen(fault: OSError, point: str) -> Exception:
    if fault.errno == errno.EADDRINUSE:
        return BusyError(
            "another program listens at this port", point=point, phase=Phase.OPEN,
            hint="stop it or take another port (0: any free one)",
        )  # fmt: skip
    return ConnectError(
        f"cannot listen here ({fault.strerror})", point=point, phase=Phase.OPEN,
        hint="name an address of this machine and a port you may use",
    )  # fmt: skip
