"""Two programs that talk to each other, the same over every protocol: `... ROLE ADDRESS`.

What is in a message depends on its number only, so that each side knows what is to come.
"""

import hashlib
import random
import sys

from compoint import (
    COMPOINT_INITIATOR,
    COMPOINT_SERVER,
    ComManager,
    ComPointAddress,
    ComPointException,
    EndOfMessages,
)

#: A message of some MB: with mails of at most 1 MiB it takes several.
LARGE_BYTES = 3_000_000
WAIT_S = 50


def large(seed: int) -> bytes:
    return random.Random(seed).randbytes(LARGE_BYTES)


def digest(message: bytes) -> str:
    return hashlib.sha256(message).hexdigest()


def initiate(address: ComPointAddress) -> None:
    with ComManager.com_point(COMPOINT_INITIATOR, address, timeout=WAIT_S) as point:
        for number in range(3):
            point.write({"number": number})
            assert point.read(timeout=WAIT_S) == {"heard": number}
        point.write(large(1))
        assert point.read(str, timeout=WAIT_S) == digest(large(1))
        assert point.read(bytes, timeout=WAIT_S) == large(2)
        for number in range(20):
            point.write(number)
        assert point.read(timeout=WAIT_S) == list(range(20))
        receipt = point.close(timeout=WAIT_S)
    assert not receipt.unconfirmed, receipt
    print(f"all {receipt.written} messages are confirmed", flush=True)


def respond(address: ComPointAddress) -> None:
    with ComManager.com_point(COMPOINT_SERVER, address) as server:
        print(f"serving at {server.address}", flush=True)
        with server.accept(timeout=WAIT_S) as point:
            for number in range(3):
                assert point.read(timeout=WAIT_S) == {"number": number}
                point.write({"heard": number})
            point.write(digest(point.read(bytes, timeout=WAIT_S)))
            point.write(large(2))
            point.write([point.read(timeout=WAIT_S) for _ in range(20)])
            try:
                point.read(timeout=WAIT_S)
            except EndOfMessages:
                print("the initiator has closed in good order", flush=True)


if __name__ == "__main__":
    play = {"initiator": initiate, "responder": respond}[sys.argv[1]]
    try:
        play(ComPointAddress.parse(sys.argv[2]))
    except ComPointException as error:
        sys.exit(f"{type(error).__name__}: {error}")
