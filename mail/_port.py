"""The port of a mailbox at which conversations arrive; many share one mailbox."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from compoint.drive.wire import Listener
from mail._wire import MailWire

if TYPE_CHECKING:
    from compoint.address import ComPointAddress
    from compoint.drive.wire import Wire
    from mail._held import Held
    from mail._offices import Staffed

__all__ = ["MailPort"]


class MailPort(Listener):
    """Conversations that begin here, and those that a former process has left here."""

    def __init__(self, staffed: Staffed, address: ComPointAddress) -> None:
        self._staffed = staffed
        self._arrived: deque[Held] = deque()
        self._on_news: Callable[[], None] | None = None
        self._is_closed = False
        self.address = address.with_port(staffed.office.listen(address.port, self._arrive))

    def _arrive(self, held: Held) -> None:
        self._arrived.append(held)
        call = self._on_news
        if call is not None:
            call()

    def accept(self) -> Wire | None:
        if not self._arrived:
            return None
        self._staffed.enter()
        return MailWire(self._staffed, self._arrived.popleft())

    def fileno(self) -> int:
        return -1

    def on_ready(self, call: Callable[[], None] | None) -> None:
        self._on_news = call
        if call is not None and self._arrived:
            call()

    def close(self) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        self._on_news = None
        office = self._staffed.office
        office.stop_listening(self.address.port)
        while self._arrived:
            # Nobody has seen it: it waits for the next who listens here.
            office.leave(self._arrived.popleft())
        self._staffed.leave()
