"""The other side of every scene: a server and a service point that do what they are told."""

from __future__ import annotations

import sys

from channel import Channel, ChannelServicePoint
from compoint import (
    COMPOINT_SERVER,
    ComManager,
    ComPoint,
    ComPointAddress,
    ComPointException,
    ServerComPoint,
)

PATIENCE_S = 10.0


def main() -> None:
    with (
        ComManager.com_point(COMPOINT_SERVER, ComPointAddress("tcp", 0)) as server,
        Channel.start_service_point_thread(ComPointAddress("tcp", 0)) as place,
    ):
        peer = Peer(server, place)
        for line in sys.stdin:
            try:
                answer: object = peer.obey(*line.split())
            except ComPointException as error:
                answer = f"{type(error).__name__}: {error}"
            print(answer, flush=True)


class Peer:
    """Its server, its service point, and the point of the present scene."""

    def __init__(self, server: ServerComPoint, place: ChannelServicePoint) -> None:
        self.server = server
        self.place = place
        self.point: ComPoint | None = None

    def obey(self, verb: str, kind: str = "") -> object:
        if verb == "ports":
            return f"{self.server.address.port} {self.place.address.port}"
        if verb == "accept":
            if self.point is not None:
                self.point.abort("the scene is over")
            if kind == "plain":
                self.point = self.server.accept(timeout=PATIENCE_S)
            else:
                self.point = self.place.open_responder_channel(None, "scene", timeout=PATIENCE_S)
            return "accepted"
        assert self.point is not None
        if verb == "read":
            return len(self.point.read(timeout=PATIENCE_S))
        if verb == "write":
            self.point.write(b"hello")
            return "written"
        assert verb == "drain"
        count = 0
        while self.point.read(timeout=PATIENCE_S) != b"after":
            count += 1
        return count


main()
