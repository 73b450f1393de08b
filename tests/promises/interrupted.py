"""A program that is interrupted again and again in its work; prints what became of it.

After each interrupt the point must be usable (an answer comes back) or cut with that as
its reason; never garbled, never stuck.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import threading

from compoint import (
    COMPOINT_INITIATOR,
    COMPOINT_SERVER,
    ComManager,
    ComPoint,
    ComPointAddress,
    ComPointException,
    ServerComPoint,
    SessionLostError,
)

PATIENCE_S = 5.0


def serve(server: ServerComPoint, faults: list[str]) -> None:
    """Answer what is small; note what the peer's bytes were blamed for."""
    for point in server:
        try:
            for message in point:
                if len(message) < 100:
                    point.write(message)
        except ComPointException as error:
            if "rules" in str(error):
                faults.append(str(error))
            point.abort("the peer is gone")
        else:
            point.close(timeout=1)


def work(point: ComPoint) -> None:
    """Every way of writing and reading, until something raises."""
    while True:
        point.write(b"x" * 50)
        point.read()
        point.write(bytes(300_000))
        for _ in range(20):
            point.write(b"f" * 200)


def fate(point: ComPoint) -> str:
    """What a point is good for after the interrupt."""
    try:
        point.write(b"probe", timeout=PATIENCE_S)
        # An answer that was on its way comes first.
        while point.read(timeout=PATIENCE_S) != b"probe":
            pass
    except SessionLostError as error:
        return "cut" if "interrupted" in str(error) else str(error)
    except ComPointException as error:
        return repr(error)
    return "usable"


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def main(turns: int) -> None:
    faults: list[str] = []
    fates: list[str] = []
    chance = random.Random(turns)
    server = ComManager.com_point(COMPOINT_SERVER, ComPointAddress("tcp", 0))
    threading.Thread(target=serve, args=(server, faults), daemon=True).start()
    address = ComPointAddress("tcp", "127.0.0.1", server.address.port)
    signal.signal(signal.SIGALRM, interrupt)
    for _ in range(turns):
        point = ComManager.com_point(COMPOINT_INITIATOR, address)
        try:
            signal.setitimer(signal.ITIMER_REAL, chance.uniform(0.0005, 0.004))
            work(point)
        except KeyboardInterrupt:
            signal.setitimer(signal.ITIMER_REAL, 0)
        fates.append(fate(point))
        point.close(timeout=1)
    strange = [one for one in fates if one not in ("usable", "cut")]
    print(f"{turns - len(strange)} well, strange: {strange}, blamed: {faults}", flush=True)
    # What a stuck thread of this program would do at its end is not what is asked here.
    os._exit(0)


if __name__ == "__main__":
    main(int(sys.argv[1]))
