"""Promise 4, and the part of promise 3 that needs a second thread."""

from __future__ import annotations

import collections
from typing import TYPE_CHECKING

import pytest

from compoint.errors import BusyError, ClosedError, Fate
from compoint.limits import MIB
from compoint.testing._background import Background
from compoint.testing.contract._base import PATIENCE_S, ContractBase, Ends, fill

if TYPE_CHECKING:
    from collections.abc import Callable

    from compoint.point import ComPoint

__all__ = ["ThreadsContract"]


class ThreadsContract(ContractBase):
    """Threads share a point."""

    def test_a_second_reader_is_told_that_another_is_reading(self, route: Ends) -> None:
        writer, reader = route
        first = Background(reader.read).blocked()
        with pytest.raises(BusyError) as caught:
            reader.read(timeout=PATIENCE_S)
        assert caught.value.fate is Fate.NOT_SENT
        writer.write(b"for the first")
        assert first.result() == b"for the first"
        writer.write(b"for the next")
        assert reader.read(timeout=PATIENCE_S) == b"for the next"

    @pytest.mark.parametrize("sizes", [(10, 10, 10, 10), (100, 20_000, 300_000, 1_500_000)])
    def test_several_writers_interleave_whole_messages(
        self, route: Ends, sizes: tuple[int, ...]
    ) -> None:  # zeromq/pyzmq #2043
        writer, reader = route
        count = 25

        def write_all(name: int, size: int) -> None:
            for number in range(count):
                writer.write(bytes([name, number]) * (size // 2))

        writing = [Background(write_all, name, size) for name, size in enumerate(sizes)]
        seen: dict[int, list[int]] = collections.defaultdict(list)
        for _ in range(count * len(sizes)):
            message = reader.read(timeout=PATIENCE_S)
            name, number = message[:2]
            assert (message == bytes([name, number]) * (sizes[name] // 2)) is True
            seen[name].append(number)
        for one in writing:
            one.result()
        assert dict(sorted(seen.items())) == {
            name: list(range(count)) for name in range(len(sizes))
        }

    @pytest.mark.parametrize("stop", ["close", "abort"])
    @pytest.mark.parametrize("call", ["read", "write", "large write"])
    def test_closing_wakes_a_waiting_thread(self, ends: Ends, call: str, stop: str) -> None:
        # python/cpython #91913, websocket-client/websocket-client #592
        initiator, _ = ends
        waiting = Background(_blocking(initiator, call)).blocked()
        if stop == "close":
            initiator.close(timeout=0.1)
        else:
            initiator.abort("enough")
        assert isinstance(waiting.error(2), ClosedError)

    def test_closing_wakes_reader_and_writer_together(self, ends: Ends) -> None:
        initiator, _ = ends
        writing = Background(_blocking(initiator, "write")).blocked()
        reading = Background(initiator.read).blocked()
        initiator.close(timeout=0.1)
        assert isinstance(reading.error(2), ClosedError)
        assert isinstance(writing.error(2), ClosedError)

    def test_two_threads_that_close_get_the_same_receipt(self, ends: Ends) -> None:
        initiator, responder = ends
        initiator.write(b"one")
        closings = [Background(initiator.close) for _ in range(4)]
        receipts = [closing.result(3) for closing in closings]
        assert len({id(receipt) for receipt in receipts}) == 1
        assert responder.read(timeout=PATIENCE_S) == b"one"

    def test_one_thread_reads_while_another_writes(self, ends: Ends) -> None:
        initiator, responder = ends

        def answer() -> None:
            for message in responder:
                responder.write(message)

        answering = Background(answer)
        writing = Background(lambda: [initiator.write(number) for number in range(2_000)])
        assert [initiator.read(timeout=PATIENCE_S) for _ in range(2_000)] == list(range(2_000))
        writing.result()
        initiator.close()
        answering.result()

    def test_a_reader_is_woken_while_another_thread_is_stuck_writing(self, ends: Ends) -> None:
        initiator, responder = ends
        writing = Background(_blocking(initiator, "large write")).blocked()
        reading = Background(initiator.read).blocked()
        responder.write(b"for the reader", timeout=PATIENCE_S)
        assert reading.result() == b"for the reader"
        initiator.abort("enough")
        writing.error(2)

    def test_many_flushers_are_all_woken(self, ends: Ends) -> None:
        initiator, responder = ends
        initiator.write(b"one")
        flushing = [Background(initiator.flush, timeout=PATIENCE_S) for _ in range(8)]
        for one in flushing:
            one.result()
        assert responder.read(timeout=PATIENCE_S) == b"one"


def _blocking(point: ComPoint, call: str) -> Callable[[], object]:
    """A call that will block on this point, whose peer does not read."""
    if call == "read":
        return point.read
    if call == "write":
        fill(point)
        fill(point, b"")
        return lambda: point.write(b"x" * 1000)
    point.write(b"unread")
    return lambda: point.write(bytes(8 * MIB))
