"""Writes big messages and ends the program in the manner asked for."""

from __future__ import annotations

import json
import sys

from channel import Channel
from compoint import COMPOINT_INITIATOR, ComManager, ComPoint, ComPointAddress


def open_point(kind: str, port: int) -> ComPoint:
    address = ComPointAddress("tcp", "127.0.0.1", port)
    if kind == "channel":
        return Channel.open_initiator_channel(address, None, "bulk")
    return ComManager.com_point(COMPOINT_INITIATOR, address)


def write_all(point: ComPoint, count: int, size: int) -> None:
    for number in range(count):
        point.write(bytes([number]) * size)


kind, port, manner, count, size = sys.argv[1:]
point = open_point(kind, int(port))
if manner == "leaves a with block":
    with point:
        write_all(point, int(count), int(size))
elif manner == "fails":
    sys.stderr = open("/dev/null", "w")  # noqa: SIM115
    with point:
        write_all(point, int(count), int(size))
        point.flush()
        print(1 // 0)
else:
    write_all(point, int(count), int(size))
    if manner == "closes":
        receipt = point.close()
        told = {
            "written": receipt.written, "confirmed": receipt.confirmed, "reason": receipt.reason,
        }  # fmt: skip
        print(json.dumps(told), flush=True)
