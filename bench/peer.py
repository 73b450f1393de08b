"""What a measure needs of a peer: a listener, a connection, and the three verbs of a line.

The verbs of a `Line` are the library's own bound methods wherever it has fitting ones, so
that being wrapped costs nobody anything.
"""

from __future__ import annotations

import abc
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["AcceptingListener", "Handler", "Line", "Listener", "Peer"]


@dataclass(frozen=True, slots=True)
class Line:
    """One conversation, seen from one of its two sides; blocks."""

    #: Sends one whole message.
    send: Callable[[Any], object]
    #: Waits for the next whole message and returns it.
    receive: Callable[[], Any]
    close: Callable[[], object]
    #: What `receive` raises when the other side has closed.
    ends: tuple[type[BaseException], ...] = (EOFError, OSError)


Handler = Callable[[Line], None]


class Listener(abc.ABC):
    """The responder's place: has an address, and serves until its process is ended."""

    @property
    @abc.abstractmethod
    def address(self) -> str:
        """What the initiator's `connect` takes; the text of a port where that is enough."""

    @abc.abstractmethod
    def serve(self, handle: Handler, *, in_threads: bool) -> None:
        """Call `handle(line)` for every line that comes, each in a thread or in turn."""


class AcceptingListener(Listener):
    """A listener of a library where the program itself accepts."""

    @abc.abstractmethod
    def accept(self) -> Line:
        """Wait for the next line."""

    def serve(self, handle: Handler, *, in_threads: bool) -> None:
        while True:
            line = self.accept()
            if in_threads:
                threading.Thread(target=handle, args=(line,), daemon=True).start()
            else:
                handle(line)


class Peer(abc.ABC):
    """One library in one arrangement, made in each worker process anew.

    `message_bytes` is the size of the messages to come, for libraries whose best settings
    depend on it.
    """

    def __init__(self, message_bytes: int) -> None:
        self.message_bytes = message_bytes

    def message(self) -> Any:
        """The message every measure sends; bytes of the asked size unless typed."""
        return b"x" * self.message_bytes

    @abc.abstractmethod
    def listen(self) -> Listener:
        """Listen on a free port of the loopback."""

    @abc.abstractmethod
    def connect(self, address: str) -> Line:
        """Open a line to a listener of the same peer."""

    def check(self) -> None:  # noqa: B027 - most have nothing to check
        """Raise if what was measured is not what the row says; comes behind the measure."""
