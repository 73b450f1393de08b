"""Reads some messages, says so, and waits to be killed or told to close."""

from __future__ import annotations

import sys

from channel import Channel
from compoint import COMPOINT_SERVER, ComManager, ComPoint, ComPointAddress


def serve(point: ComPoint, count: int) -> None:
    for _ in range(count):
        point.read(timeout=20)
    print(f"{count} read", flush=True)
    if sys.stdin.readline():
        point.close()
        print("closed", flush=True)
        sys.stdin.readline()


here = ComPointAddress("tcp", 0)
if sys.argv[1] == "channel":
    with Channel.start_service_point_thread(here) as place:
        print(place.address.port, flush=True)
        serve(place.open_responder_channel(None, "bulk"), int(sys.argv[2]))
else:
    with ComManager.com_point(COMPOINT_SERVER, here) as server:
        print(server.address.port, flush=True)
        serve(server.accept(), int(sys.argv[2]))
