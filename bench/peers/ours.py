"""Our own: plain ComPoints over tcp, and channels that share one connection."""

from __future__ import annotations

import itertools
import os
from functools import partial
from typing import Any

from bench.peer import AcceptingListener, Line, Peer
from compoint import (
    COMPOINT_INITIATOR,
    COMPOINT_SERVER,
    ComManager,
    ComPoint,
    ComPointAddress,
    ComPointException,
)

__all__ = ["ChannelListener", "Channels", "Plain", "PlainListener", "TypedChannels", "TypedPlain"]


def _bytes_line(point: ComPoint) -> Line:
    return Line(point.write, point.read, point.close, (ComPointException,))


def _order_line(point: ComPoint) -> Line:
    from bench.peers.order import Order

    return Line(point.write, partial(point.read, Order), point.close, (ComPointException,))


class PlainListener(AcceptingListener):
    """A server ComPoint."""

    def __init__(self, peer: Plain) -> None:
        self._peer = peer
        self._server = ComManager.com_point(COMPOINT_SERVER, ComPointAddress(peer.protocol, 0))

    @property
    def address(self) -> str:
        return str(self._server.address.port)

    def accept(self) -> Line:
        return self._peer.line(self.accept_point())

    def accept_point(self) -> ComPoint:
        """The next ComPoint, for who wants no more of it than its memory."""
        return self._server.accept()


class Plain(Peer):
    """A connection of its own for every line."""

    protocol = "tcp"
    line = staticmethod(_bytes_line)

    def listen(self) -> PlainListener:
        return PlainListener(self)

    def at(self, address: str) -> ComPointAddress:
        """Where a listener is, for an initiator."""
        return ComPointAddress(self.protocol, "127.0.0.1", int(address))

    def connect(self, address: str) -> Line:
        return self.line(ComManager.com_point(COMPOINT_INITIATOR, self.at(address)))


class TypedPlain(Plain):
    """Messages of a user's class, validated on arrival."""

    line = staticmethod(_order_line)

    def message(self) -> Any:
        from bench.peers.order import AN_ORDER

        return AN_ORDER


class ChannelListener(AcceptingListener):
    def __init__(self, peer: Channels) -> None:
        from channel import Channel

        self._peer = peer
        self._service_point = Channel.start_service_point_thread(ComPointAddress("tcp", 0))

    @property
    def address(self) -> str:
        return str(self._service_point.address.port)

    def accept(self) -> Line:
        return self.claim(None)

    def claim(self, correlator: str | None) -> Line:
        """The line with this correlator; with None the next one, whatever it is."""
        return self._peer.line(self._service_point.open_responder_channel(None, correlator))


class Channels(Peer):
    """Lines that are channels of one connection, as they are unless asked otherwise."""

    line = staticmethod(_bytes_line)

    def __init__(self, message_bytes: int) -> None:
        super().__init__(message_bytes)
        self._numbers = itertools.count(1)

    def listen(self) -> ChannelListener:
        return ChannelListener(self)

    def connect(self, address: str) -> Line:
        return self.connect_as(address, f"line-{os.getpid()}-{next(self._numbers)}")

    def connect_as(self, address: str, correlator: str) -> Line:
        """Open a line with a correlator that the responder knows."""
        from channel import Channel

        at = ComPointAddress("tcp", "127.0.0.1", int(address))
        return self.line(Channel.open_initiator_channel(at, None, correlator))


class TypedChannels(Channels):
    """Messages of a user's class, validated on arrival."""

    line = staticmethod(_order_line)

    def message(self) -> Any:
        from bench.peers.order import AN_ORDER

        return AN_ORDER
