"""Two threads write on one connection: neither's message waits for a third to come."""

from __future__ import annotations

import threading
from typing import Any

from compoint import COMPOINT_INITIATOR, COMPOINT_SERVER, ComManager, ComPointAddress
from compoint.testing import Background, eventually


def test_a_message_written_while_another_is_being_sent_leaves_with_it() -> None:
    # Seen over HTTP, where sending takes longer: it stayed until somebody wrote again.
    with ComManager.com_point(COMPOINT_SERVER, ComPointAddress("memory", 0)) as server:
        address = server.address
        with (
            ComManager.com_point(COMPOINT_INITIATOR, address) as writer,
            server.accept(timeout=5) as reader,
        ):
            writer.write(b"greeted")
            assert reader.read(timeout=5) == b"greeted"
            writer.flush(timeout=5)
            driver: Any = writer._driver
            # The pump looks here no more: nobody but the two writers sends.
            eventually(lambda: not driver.is_gathering)
            send = driver.wire.send
            is_sending, go_on = threading.Event(), threading.Event()

            def slow_send(data: bytes) -> int:
                is_sending.set()
                assert go_on.wait(5)
                sent: int = send(data)
                return sent

            # The first goes alone, as `Sender.is_quiet` allows after a flush.
            driver.wire.send = slow_send
            driver._wrote_last = False
            first = Background(writer.write, b"first")
            assert is_sending.wait(5)
            # Written long after the last sending: not gathered for the pump to look at.
            driver._sent_at = 0.0
            writer.write(b"second")
            driver.wire.send = send
            go_on.set()
            first.result()
            assert [reader.read(timeout=2) for _ in range(2)] == [b"first", b"second"]
