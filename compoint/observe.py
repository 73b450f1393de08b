"""What can be seen from outside: frozen snapshots, and the loggers' names.

Loggers: `compoint`, `compoint.pump`, `compoint.server`, `channel`. The library never
configures logging and never logs what messages contain.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

__all__ = ["PointStatistics", "ServerStatistics", "log"]

log = logging.getLogger("compoint")
log.addHandler(logging.NullHandler())


@dataclass(frozen=True, slots=True)
class PointStatistics:
    """One point at one moment."""

    #: Messages the program wrote, and how many of them the peer has confirmed.
    written: int
    confirmed: int
    #: Messages that have arrived whole, and how many of them the program has read.
    received: int
    read: int
    #: What waits for the program: bytes, with the toll of each message.
    unread_bytes: int
    #: How much the peer still allows this side to send: bytes, with the toll.
    credit_bytes: int
    is_open: bool
    #: Why it is over; empty while it is not.
    ending: str
    #: How the bytes travel, in the transport's words.
    carrier: str


@dataclass(frozen=True, slots=True)
class ServerStatistics:
    """One server at one moment."""

    accepted: int
    #: Initiators that have greeted and wait for `accept`.
    waiting: int
    #: Connections that have not greeted yet.
    ungreeted: int
    #: Peers turned away because a bound was reached, and peers that spoke something else.
    refused: int
    foreign: int
    is_open: bool
