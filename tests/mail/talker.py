"""One of two programs that talk to each other by mail; the tests beside it start them.

    talker.py COUNT CHANNELS [ADDRESS]

Says COUNT messages and hears as many, over one ComPoint, or over each of several channels of
one connection. Without an address it is the one that is called. Prints what was wrong, and
stays until its input ends: what gets lost on the way is only said again while it is there.
"""

from __future__ import annotations

import json
import random
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Final

from channel import Channel
from compoint.address import ComPointAddress
from compoint.errors import EndOfMessages
from compoint.manager import ComManager
from compoint.point import COMPOINT_INITIATOR, COMPOINT_SERVER, ComPoint
from mail import _outbound

# A mail that was not taken is handed over again after seconds, which add up here.
vars(_outbound)["AGAIN_S"] = 0.3

PORT: Final = 7100
#: Whoever is stuck for so long is stuck for good.
PATIENCE_S: Final = 100.0


def message(name: str, number: int) -> bytes:
    """Of 0 to 2000 bytes, each of another content."""
    chance = random.Random(f"{name} {number}")
    return b"%d " % number + chance.randbytes(chance.randrange(2000))


def talk(point: ComPoint, name: str, count: int, *, calls: bool) -> list[str]:
    """Both directions at once; what was wrong."""
    ours, theirs = ("caller", "called") if calls else ("called", "caller")
    wrong = []

    def say() -> None:
        for number in range(count):
            point.write(message(f"{name} {ours}", number), timeout=PATIENCE_S)

    saying = threading.Thread(target=say)
    saying.start()
    for number in range(count):
        came = point.read(timeout=PATIENCE_S)
        if came != message(f"{name} {theirs}", number):
            wrong.append(f"{name}: {came[:10]!r} came instead of message {number}")
    saying.join()
    if calls:
        try:
            wrong.append(f"{name}: {point.read(timeout=PATIENCE_S)[:10]!r} came in the end")
        except EndOfMessages:
            pass  # as it should be
    else:
        point.flush(timeout=PATIENCE_S)
        if point.statistics().received != count:
            wrong.append(f"{name}: {point.statistics().received} came")
    receipt = point.close(timeout=PATIENCE_S)
    if not (receipt.written == receipt.confirmed == count):
        wrong.append(f"{name}: {receipt}")
    return wrong[:5]


def main(count: int, channels: int, text: str = "") -> None:
    names = [f"talk-{number}" for number in range(channels)]
    points: list[ComPoint]
    with ExitStack() as stack:
        if text:
            address = ComPointAddress.parse(text)
            points = [Channel.open_initiator_channel(address, None, name) for name in names] or [
                ComManager.com_point(COMPOINT_INITIATOR, address)
            ]
        elif channels:
            place = stack.enter_context(
                Channel.start_service_point_thread(ComPointAddress("mail", PORT))
            )
            points = [
                place.open_responder_channel(None, name, timeout=PATIENCE_S) for name in names
            ]
        else:
            server = stack.enter_context(
                ComManager.com_point(COMPOINT_SERVER, ComPointAddress("mail", PORT))
            )
            points = [server.accept(timeout=PATIENCE_S)]
        with ThreadPoolExecutor(len(points)) as threads:
            talks = [
                threads.submit(talk, point, name, count, calls=bool(text))
                for point, name in zip(points, names or ["talk"], strict=True)
            ]
            print(json.dumps([wrong for one in talks for wrong in one.result()]), flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:])
