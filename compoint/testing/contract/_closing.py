"""Promise 5: close tells the truth; the other ways in which a conversation ends."""

from __future__ import annotations

import pytest

from compoint.errors import (
    ClosedError,
    EndOfMessages,
    Fate,
    PointTimeout,
    SessionLostError,
)
from compoint.limits import MIB
from compoint.point import Receipt
from compoint.testing._background import Background
from compoint.testing._patience import eventually
from compoint.testing.contract._base import PATIENCE_S, ContractBase, Ends, fill

__all__ = ["ClosingContract"]


class ClosingContract(ContractBase):
    """Goodbye, receipts, aborts."""

    def test_close_is_idempotent_and_gives_the_same_receipt(self, route: Ends) -> None:
        writer, reader = route
        writer.write(b"one")
        assert reader.read(timeout=PATIENCE_S) == b"one"
        receipt = writer.close()
        assert receipt == Receipt(1, 1)
        assert writer.close() is receipt
        assert writer.close(timeout=0) is receipt

    def test_everything_before_the_peers_close_is_delivered(self, route: Ends) -> None:
        # zeromq/libzmq #1922
        writer, reader = route
        for number in range(100):
            writer.write(number)
        receipt = writer.close()
        assert [reader.read(timeout=PATIENCE_S) for _ in range(100)] == list(range(100))
        with pytest.raises(EndOfMessages):
            reader.read(timeout=PATIENCE_S)
        assert receipt == Receipt(100, 100)

    def test_a_large_message_right_before_the_close_is_delivered(self, route: Ends) -> None:
        # zeromq/libzmq #1922
        writer, reader = route
        writing = Background(lambda: (writer.write(bytes(4 * MIB)), writer.close())[1])
        assert len(reader.read(timeout=PATIENCE_S)) == 4 * MIB
        with pytest.raises(EndOfMessages):
            reader.read(timeout=PATIENCE_S)
        assert writing.result() == Receipt(1, 1)

    def test_the_end_of_messages_is_said_again_and_again(self, route: Ends) -> None:
        writer, reader = route
        writer.close()
        for timeout in (PATIENCE_S, 0, None):
            with pytest.raises(EndOfMessages):
                reader.read(timeout=timeout)

    def test_a_write_after_the_peers_close_was_not_sent(self, route: Ends) -> None:
        # pika/pika #748
        closer, writer = route
        closer.close()
        with pytest.raises(EndOfMessages):
            writer.read(timeout=PATIENCE_S)
        for size in (10, 100_000):
            with pytest.raises(EndOfMessages, match="not sent") as caught:
                writer.write(bytes(size), timeout=PATIENCE_S)
            assert caught.value.fate is Fate.NOT_SENT
        assert writer.close() == Receipt(0, 0)

    def test_the_receipt_names_what_the_peer_closed_without_reading(self, route: Ends) -> None:
        # codypiersall/pynng #41
        writer, reader = route
        for number in range(10):
            writer.write(number)
        writer.flush(timeout=PATIENCE_S)
        assert [reader.read(timeout=PATIENCE_S) for _ in range(4)] == [0, 1, 2, 3]
        reader.close()
        eventually(lambda: not writer.statistics().is_open)
        receipt = writer.close()
        assert (receipt.written, receipt.confirmed) == (10, 4)
        assert receipt.unconfirmed == range(5, 11)
        assert receipt.reason

    def test_a_flush_after_the_peer_closed_without_reading_says_so(self, route: Ends) -> None:
        writer, reader = route
        writer.write(b"unread")
        writer.flush(timeout=PATIENCE_S)
        reader.close()
        eventually(lambda: not writer.statistics().is_open)
        with pytest.raises(EndOfMessages, match="without reading 1 of 1"):
            writer.flush(timeout=PATIENCE_S)

    def test_closing_with_unread_messages_does_not_hang(self, route: Ends) -> None:
        # python-websockets/websockets #1336
        writer, reader = route
        fill(writer)
        closing = Background(reader.close)
        assert closing.result(2) == Receipt(0, 0)
        assert writer.close(timeout=PATIENCE_S).confirmed == 0

    def test_both_ends_may_close_at_once(self, ends: Ends) -> None:
        for point in ends:
            point.write(b"last")
        closings = [Background(point.close) for point in ends]
        receipts = [closing.result(3) for closing in closings]
        for receipt in receipts:
            assert receipt.written == 1
            assert receipt.is_complete or receipt.reason

    @pytest.mark.parametrize(
        "call", ["read", "write", "flush"], ids=lambda call: f"{call} after the own close"
    )
    def test_a_call_after_the_own_close_says_that_this_side_closed(
        self, ends: Ends, call: str
    ) -> None:
        initiator, _ = ends
        initiator.close()
        with pytest.raises(ClosedError) as caught:
            initiator.write(b"late") if call == "write" else getattr(initiator, call)()
        assert caught.value.point
        assert caught.value.fate is Fate.NOT_SENT

    def test_messages_unread_at_the_own_close_are_gone(self, route: Ends) -> None:
        writer, reader = route
        writer.write(b"unread")
        writer.flush(timeout=PATIENCE_S)
        reader.close()
        with pytest.raises(ClosedError):
            reader.read(timeout=0)

    def test_close_without_time_says_what_is_not_confirmed(self, ends: Ends) -> None:
        # zeromq/libzmq #2586, nanomsg/nng #349
        initiator, _ = ends
        for _ in range(5):
            initiator.write(bytes(1000))
        receipt = initiator.close(timeout=0)
        assert receipt.written == 5
        assert receipt.is_complete or receipt.reason

    def test_an_abort_gives_the_peer_the_reason(self, route: Ends) -> None:
        breaker, reader = route
        breaker.write(b"before")
        breaker.flush(timeout=PATIENCE_S)
        breaker.abort("the printer is on fire")
        assert reader.read(timeout=PATIENCE_S) == b"before"
        with pytest.raises(SessionLostError, match="the printer is on fire"):
            reader.read(timeout=PATIENCE_S)
        with pytest.raises(ClosedError):
            breaker.write(b"after")

    def test_an_abort_under_full_load_gives_the_peer_the_reason(self, route: Ends) -> None:
        breaker, reader = route
        count = fill(breaker)
        breaker.abort("out of paper")
        for _ in range(count):
            assert len(reader.read(timeout=PATIENCE_S)) == 100_000
        with pytest.raises(SessionLostError, match="out of paper"):
            reader.read(timeout=PATIENCE_S)

    def test_the_error_after_an_abort_names_what_is_unconfirmed(self, route: Ends) -> None:
        breaker, writer = route
        writer.write(b"one")
        writer.write(b"two")
        writer.flush(timeout=PATIENCE_S)
        breaker.abort("gone")
        with pytest.raises(SessionLostError) as caught:
            writer.read(timeout=PATIENCE_S)
        assert caught.value.unconfirmed == range(3, 3)
        assert writer.close().written == 2

    def test_an_abort_of_a_closed_point_does_nothing(self, ends: Ends) -> None:
        initiator, responder = ends
        initiator.close()
        initiator.abort("too late")
        with pytest.raises(EndOfMessages):
            responder.read(timeout=PATIENCE_S)

    def test_a_with_block_closes_in_good_order(self, route: Ends) -> None:
        writer, reader = route
        with writer:
            writer.write(b"inside")
        assert reader.read(timeout=PATIENCE_S) == b"inside"
        with pytest.raises(EndOfMessages):
            reader.read(timeout=PATIENCE_S)
        with pytest.raises(ClosedError):
            writer.write(b"outside")

    def test_leaving_a_with_block_by_an_exception_breaks_the_conversation_off(
        self, route: Ends
    ) -> None:
        writer, reader = route
        writer.write(b"half")
        writer.flush(timeout=PATIENCE_S)
        with pytest.raises(KeyError), writer:
            raise KeyError("bug")
        assert reader.read(timeout=PATIENCE_S) == b"half"
        with pytest.raises(SessionLostError, match="KeyError"):
            reader.read(timeout=PATIENCE_S)

    def test_a_close_in_the_middle_of_a_large_write_delivers_what_was_before(
        self, route: Ends
    ) -> None:
        writer, reader = route
        writer.write(b"before")
        writing = Background(writer.write, bytes(8 * MIB)).blocked()
        closing = Background(writer.close)
        assert isinstance(writing.error(), ClosedError)
        assert reader.read(timeout=PATIENCE_S) == b"before"
        with pytest.raises(EndOfMessages):
            reader.read(timeout=PATIENCE_S)
        assert closing.result() == Receipt(1, 1)

    def test_a_deadline_of_a_read_does_not_end_the_conversation_of_the_other_side(
        self, ends: Ends
    ) -> None:  # irmen/Pyro4 #172
        initiator, responder = ends
        with pytest.raises(PointTimeout):
            initiator.read(timeout=0)
        responder.write(b"still here")
        assert initiator.read(timeout=PATIENCE_S) == b"still here"

    def test_statistics_add_up(self, ends: Ends) -> None:
        initiator, responder = ends
        for number in range(7):
            initiator.write(number)
        initiator.flush(timeout=PATIENCE_S)
        for _ in range(3):
            responder.read(timeout=PATIENCE_S)
        ours, theirs = initiator.statistics(), responder.statistics()
        assert (ours.written, ours.confirmed, ours.received, ours.read) == (7, 7, 0, 0)
        assert (theirs.written, theirs.received, theirs.read) == (0, 7, 3)
        assert theirs.unread_bytes > 0
        assert ours.credit_bytes > 0
        assert [ours.is_open, theirs.is_open] == [True, True]
        assert ours.ending == ""
        initiator.close()
        assert not initiator.statistics().is_open

    def test_the_statistics_of_a_point_whose_peer_closed_say_why_it_is_over(
        self, route: Ends
    ) -> None:
        closer, other = route
        closer.close()
        eventually(lambda: not other.statistics().is_open)
        assert "closed" in other.statistics().ending

    def test_a_point_shows_its_address_and_its_peer(self, ends: Ends) -> None:
        for point in ends:
            assert point.address.protocol
            assert point.peer
            assert str(point.address.port) in repr(point)
