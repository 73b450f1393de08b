"""Scenes for peers that break the rules: one of them is scripted, all others are real.

In each scene the scripted peer holds stream 1 of a connection whose other end is `point`;
somebody else holds a conversation with the same process at the same time, and must never
notice.
"""

from __future__ import annotations

import struct
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from channel import Channel, ChannelServicePoint
from compoint import (
    COMPOINT_INITIATOR,
    COMPOINT_SERVER,
    ComManager,
    ComPoint,
    ComPointAddress,
    ComPointException,
    ServerComPoint,
)
from compoint.core.codes import Code, decode_reason
from compoint.core.framing import HEADER, Kind
from compoint.core.greeting import Mode
from compoint.limits import MIB
from compoint.testing import ScriptedPeer, ScriptedServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["SCENES", "Pair", "Scene", "announcement", "hear_reset", "next_frame", "words_of"]

PATIENCE_S: Final = 10.0
HERE: Final = ComPointAddress("tcp", 0)


def next_frame(peer: ScriptedPeer) -> tuple[int, int, bytes]:
    """The next frame the peer hears: kind, stream, payload."""
    kind, _, _, stream, _, length = HEADER.unpack(peer.hear(HEADER.size))
    return kind, stream, peer.hear(length)


def hear_reset(peer: ScriptedPeer, stream: int = 1) -> tuple[Code, str]:
    """The code and the sentence of the next RESET, which is for this stream."""
    kind = -1
    while kind != Kind.RESET:
        kind, number, payload = next_frame(peer)
    assert number == stream
    code, text, _ = decode_reason(payload)
    return code, text


def announcement(correlator: bytes, limit: int = MIB) -> bytes:
    return struct.pack("!Q", limit) + correlator


def words_of(point: ComPoint) -> tuple[list[Any], ComPointException]:
    """What a point still reads, and with which error it ends."""
    read: list[Any] = []
    try:
        while True:
            read.append(point.read(timeout=PATIENCE_S))
    except ComPointException as error:
        return read, error


@dataclass
class Pair:
    """Two real ends in good order."""

    initiator: ComPoint
    responder: ComPoint
    count: int = 0

    def check(self) -> None:
        """They exchange messages in both directions."""
        for one, other in ((self.initiator, self.responder), (self.responder, self.initiator)):
            self.count += 1
            one.write(self.count, timeout=PATIENCE_S)
            assert other.read(timeout=PATIENCE_S) == self.count


@dataclass
class Scene:
    """A scripted peer at work, the point it talks to, and those who must not notice."""

    peer: ScriptedPeer
    point: ComPoint
    good: Pair
    #: The real end of channel 2 on the scripted peer's connection, if there are channels.
    neighbour: ComPoint | None = None
    place: ServerComPoint | ChannelServicePoint | None = None
    said: int = field(default=0)

    def check_others(self) -> None:
        """Nobody else has noticed anything."""
        self.good.check()
        if self.neighbour is not None:
            self.said += 1
            text = b"to the neighbour %d" % self.said
            self.peer.say_frame(Kind.MESSAGE, text, stream=2)
            assert self.neighbour.read(timeout=PATIENCE_S) == text
            self.neighbour.write(text, timeout=PATIENCE_S)
            kind, stream = -1, 0
            while (kind, stream) != (Kind.MESSAGE, 2):
                kind, stream, payload = next_frame(self.peer)
            assert payload == text


@contextmanager
def responder_of_a_server() -> Iterator[Scene]:
    """The scripted peer is an initiator at a plain server."""
    with ExitStack() as stack:
        server = stack.enter_context(ComManager.com_point(COMPOINT_SERVER, HERE))
        good = stack.enter_context(_good_pair(server))
        peer = stack.enter_context(ScriptedPeer.visit(server.address.port))
        peer.greet(Mode.PLAIN)
        peer.hear_greeting()
        point = server.accept(timeout=PATIENCE_S)
        stack.callback(point.abort, "the test is over")
        yield Scene(peer, point, good, place=server)


@contextmanager
def responder_of_a_channel() -> Iterator[Scene]:
    """The scripted peer is an initiator with two channels at a service point."""
    with ExitStack() as stack:
        place = stack.enter_context(Channel.start_service_point_thread(HERE))
        good = stack.enter_context(_good_channel(place))
        peer = stack.enter_context(ScriptedPeer.visit(place.address.port))
        peer.greet(Mode.CHANNELS)
        points = []
        for number in (1, 2):
            correlator = f"rude {number}"
            peer.say_frame(Kind.ANNOUNCE, announcement(correlator.encode()), stream=number)
            point = place.open_responder_channel(None, correlator, timeout=PATIENCE_S)
            stack.callback(point.abort, "the test is over")
            points.append(point)
        peer.hear_greeting()
        yield Scene(peer, points[0], good, points[1], place)


@contextmanager
def initiator_at_a_server() -> Iterator[Scene]:
    """The scripted peer is the server of a plain initiator."""
    with ExitStack() as stack:
        elsewhere = stack.enter_context(ComManager.com_point(COMPOINT_SERVER, HERE))
        good = stack.enter_context(_good_pair(elsewhere))
        server = stack.enter_context(ScriptedServer())
        address = ComPointAddress("tcp", "127.0.0.1", server.port)
        point = ComManager.com_point(COMPOINT_INITIATOR, address)
        stack.callback(point.abort, "the test is over")
        peer = stack.enter_context(server.meet())
        peer.hear_greeting()
        peer.greet(Mode.WELCOME)
        yield Scene(peer, point, good)


@contextmanager
def initiator_of_a_channel() -> Iterator[Scene]:
    """The scripted peer is the service point of two channels on one connection."""
    with ExitStack() as stack:
        elsewhere = stack.enter_context(Channel.start_service_point_thread(HERE))
        good = stack.enter_context(_good_channel(elsewhere))
        server = stack.enter_context(ScriptedServer())
        address = ComPointAddress("tcp", "127.0.0.1", server.port)
        points = []
        for number in (1, 2):
            point = Channel.open_initiator_channel(address, None, f"rude {number}")
            stack.callback(point.abort, "the test is over")
            points.append(point)
        peer = stack.enter_context(server.meet())
        peer.hear_greeting()
        peer.greet(Mode.WELCOME)
        for number in (1, 2):
            assert next_frame(peer)[:2] == (Kind.ANNOUNCE, number)
            peer.say_frame(Kind.CLAIM, struct.pack("!Q", MIB), stream=number)
        yield Scene(peer, points[0], good, points[1])


@contextmanager
def _good_pair(server: ServerComPoint) -> Iterator[Pair]:
    with (
        ComManager.com_point(COMPOINT_INITIATOR, server.address) as initiator,
        server.accept(timeout=PATIENCE_S) as responder,
    ):
        pair = Pair(initiator, responder)
        pair.check()
        yield pair
        initiator.close()


@contextmanager
def _good_channel(place: ChannelServicePoint) -> Iterator[Pair]:
    with (
        Channel.open_initiator_channel(place.address, None, "good") as initiator,
        place.open_responder_channel(None, "good", timeout=PATIENCE_S) as responder,
    ):
        pair = Pair(initiator, responder)
        pair.check()
        yield pair
        initiator.close()


SCENES: Final[dict[str, Callable[[], Any]]] = {
    "plain responder": responder_of_a_server,
    "channel responder": responder_of_a_channel,
    "plain initiator": initiator_at_a_server,
    "channel initiator": initiator_of_a_channel,
}
