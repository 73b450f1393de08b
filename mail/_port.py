"""The port of a mailbox at which conversations arrive; many share one mailbox."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from compoint.drive.arrivals import ArrivalsListener
from mail._held import Held
from mail._wire import MailWire

if TYPE_CHECKING:
    from compoint.address import ComPointAddress
    from mail._offices import Staffed

__all__ = ["MailPort"]


class MailPort(ArrivalsListener[Held]):
    """Conversations that begin here, and those that a former process has left here."""

    def __init__(self, staffed: Staffed, address: ComPointAddress) -> None:
        # The mailbox bounds them, and none is refused that was left here.
        super().__init__(address, sys.maxsize)
        self._staffed = staffed
        self._pid = os.getpid()
        port = staffed.office.listen(address.port, self.arrive, self._lose)
        self.address = address.with_port(port)

    def close(self) -> None:
        if os.getpid() != self._pid:
            # A child's copy: the office's lock may have been held by a thread of its parent.
            self._is_closed = True
        elif not self._is_closed:
            super().close()
            self._staffed.leave()

    def _lose(self, reason: str) -> None:
        if self.on_lost is not None:
            self.on_lost(reason)

    def _wire_of(self, one: Held) -> MailWire:
        self._staffed.enter()
        return MailWire(self._staffed, one)

    def _send_away(self, one: Held) -> None:
        # Nobody has seen it: it waits for the next who listens here.
        self._staffed.office.leave(one)

    def _withdraw(self) -> None:
        self._staffed.office.stop_listening(self.address.port)
