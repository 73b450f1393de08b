"""One scene in a process of its own, for Ctrl-C and for the end of a program.

Says "open", waits for a line; loads, says "blocking" and blocks. For Ctrl-C: says what
ended the call and when, waits for a line, and checks that everything is usable. For the
end of the program: another thread blocks, and the main thread ends on the next line.
"""

from __future__ import annotations

import json
import sys
import threading
import time

from scenes import Scene


def run(scene: Scene) -> None:
    """Block, and say what came of it."""
    try:
        came = repr(scene.block())
    except BaseException as error:
        came = type(error).__name__
        text = str(error)
    else:
        text = ""
    print(json.dumps({"came": came, "text": text, "at": time.monotonic()}), flush=True)


def main(cause: str, call: str, *ports: str) -> None:
    scene = Scene(call, *map(int, ports))
    scene.open()
    print("open", flush=True)
    sys.stdin.readline()
    scene.greet()
    print("greeted", flush=True)
    sys.stdin.readline()
    if scene.point is not None:
        scene.load()
    if cause == "interrupt":
        print(threading.get_native_id(), flush=True)
        run(scene)
        sys.stdin.readline()
        scene.check_usable()
        scene.tidy()
        print("usable", flush=True)
    else:
        thread = threading.Thread(target=run, args=[scene])
        thread.start()
        print(thread.native_id, flush=True)
        sys.stdin.readline()
        print(time.monotonic(), flush=True)


main(*sys.argv[1:])
