"""Promise 3 in one process: deadlines, and two writers that do not stall each other."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from compoint.errors import Fate, PointTimeout
from compoint.limits import MIB
from compoint.testing._background import Background
from compoint.testing.contract._base import PATIENCE_S, ContractBase, Ends, fill

if TYPE_CHECKING:
    from compoint.point import ComPoint

__all__ = ["WaitingContract"]


class WaitingContract(ContractBase):
    """Blocking calls end at their deadline and leave the point unharmed."""

    def test_a_read_that_timed_out_leaves_the_point_usable(self, route: Ends) -> None:
        # zeromq/pyzmq #132
        writer, reader = route
        for _ in range(3):
            with pytest.raises(PointTimeout) as caught:
                reader.read(timeout=0.01)
            assert caught.value.fate is Fate.NOT_SENT
        writer.write(b"late")
        assert reader.read(timeout=PATIENCE_S) == b"late"

    @pytest.mark.parametrize("timeout", [-1, float("nan")])
    def test_a_timeout_that_is_none_is_refused(self, ends: Ends, timeout: float) -> None:
        with pytest.raises(ValueError, match="timeout"):
            ends[0].read(timeout=timeout)

    def test_a_timeout_error_names_the_point_the_phase_and_the_next_step(
        self, ends: Ends
    ) -> None:  # zeromq/pyzmq #1741
        with pytest.raises(PointTimeout) as caught:
            ends[0].read(timeout=0)
        error = caught.value
        assert error.point
        assert error.phase == "read"
        assert error.hint

    @pytest.mark.parametrize("timeout", [0, 0.02])
    @pytest.mark.parametrize("size", [10, 100_000, 5_000_000])
    def test_a_write_that_timed_out_was_not_sent_not_even_in_part(
        self, route: Ends, size: int, timeout: float
    ) -> None:
        writer, reader = route
        count = fill(writer, b"f" * 100_000)
        small = fill(writer, b"f" * 1000)
        empty = fill(writer, b"")
        with pytest.raises(PointTimeout) as caught:
            writer.write(b"x" * size, timeout=timeout)
        assert caught.value.fate is Fate.NOT_SENT
        assert writer.statistics().written == count + small + empty
        came = [len(reader.read(timeout=PATIENCE_S)) for _ in range(count + small + empty)]
        assert came == [100_000] * count + [1000] * small + [0] * empty
        writer.write(b"next", timeout=PATIENCE_S)
        assert reader.read(timeout=PATIENCE_S) == b"next"

    def test_a_large_write_that_timed_out_halfway_is_forgotten_by_the_peer(
        self, route: Ends
    ) -> None:
        writer, reader = route
        writer.write(b"first")
        with pytest.raises(PointTimeout):
            # Behind an unread message, so that it cannot outgrow the window.
            writer.write(b"x" * (8 * MIB), timeout=0.1)
        writer.write(b"second", timeout=PATIENCE_S)
        assert reader.read(timeout=PATIENCE_S) == b"first"
        assert reader.read(timeout=PATIENCE_S) == b"second"
        assert reader.statistics().received == 2
        assert writer.close().written == 2

    def test_a_write_within_the_credit_needs_no_time(self, ends: Ends) -> None:
        initiator, responder = ends
        initiator.write(b"now", timeout=0)
        assert responder.read(timeout=PATIENCE_S) == b"now"

    def test_a_flush_confirms_what_was_written_though_nobody_reads(self, route: Ends) -> None:
        writer, reader = route
        for number in range(10):
            writer.write(number)
        writer.flush(timeout=PATIENCE_S)
        assert writer.statistics().confirmed == 10
        assert reader.read(timeout=0) == 0

    def test_a_flush_of_nothing_returns_at_once(self, ends: Ends) -> None:
        ends[0].flush(timeout=0)

    @pytest.mark.parametrize(("count", "size"), [(32, MIB), (1, 32 * MIB)])
    def test_both_ends_write_32_mib_and_then_read(
        self, ends: Ends, count: int, size: int
    ) -> None:  # libp2p/rust-yamux #227, python-websockets/websockets (measured deadlock)
        def write_then_read(point: ComPoint) -> int:
            message = bytes(size)
            for _ in range(count):
                point.write(message, timeout=20)
            return sum(len(point.read(timeout=20)) for _ in range(count))

        both = [Background(write_then_read, point) for point in ends]
        assert [one.result(40) for one in both] == [32 * MIB, 32 * MIB]

    def test_one_deadline_holds_for_all_steps_of_a_large_write(self, ends: Ends) -> None:
        # redis/redis-py #1305
        initiator, _ = ends
        initiator.write(b"unread")
        started_at = time.monotonic()
        with pytest.raises(PointTimeout):
            initiator.write(bytes(64 * MIB), timeout=0.3)
        assert time.monotonic() - started_at < 0.6

    def test_reading_goes_on_while_the_peer_writes_a_large_message(self, ends: Ends) -> None:
        initiator, responder = ends
        initiator.write(b"unread")
        writing = Background(initiator.write, bytes(4 * MIB)).blocked()
        responder.write(b"meanwhile", timeout=PATIENCE_S)
        assert initiator.read(timeout=PATIENCE_S) == b"meanwhile"
        assert responder.read(timeout=PATIENCE_S) == b"unread"
        assert len(responder.read(timeout=PATIENCE_S)) == 4 * MIB
        writing.result()
