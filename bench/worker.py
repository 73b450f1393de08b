"""One side of one measurement, in a process of its own: `python -m bench.worker SPEC`.

The responder prints its address and serves until it is ended. The initiator reads that
address, measures, prints the outcome as one line of JSON, and ends at once.
"""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import sys
from typing import Any

from bench.measures import measure
from bench.peers import card
from bench.scale import Scale

__all__ = ["Spec"]


@dataclasses.dataclass(frozen=True, slots=True)
class Spec:
    """What one worker does; its whole command line."""

    role: str
    measure: str
    peer: str
    #: The core to stay on.
    core: int
    scale: dict[str, Any]

    def to_text(self) -> str:
        return json.dumps(dataclasses.asdict(self))


def _main(text: str) -> None:
    spec = Spec(**json.loads(text))
    scale = Scale.from_json(spec.scale)
    signal.alarm(scale.limit_s)
    # Before anything starts a thread, so that all of them stay there.
    os.sched_setaffinity(0, {spec.core})
    play = measure(spec.measure)
    peer = card(spec.peer).load(play.message_bytes(scale))
    if spec.role == "responder":
        listener = peer.listen()
        print(listener.address, flush=True)
        play.respond(listener, scale)
        return
    run = play.initiate(peer, sys.stdin.readline().strip(), scale)
    peer.check()
    print(json.dumps({key: dataclasses.asdict(sample) for key, sample in run.items()}), flush=True)
    # What a library does at the end of a program is not what is measured here.
    os._exit(0)


if __name__ == "__main__":
    _main(sys.argv[1])
