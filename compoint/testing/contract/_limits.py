"""Promises 1 and 12: an oversized message fails alone; nothing grows without bound."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from compoint.errors import Fate, TooLargeError
from compoint.limits import FIRST_CREDIT_BYTES, MESSAGE_TOLL_BYTES, WINDOW_BYTES
from compoint.testing._background import Background
from compoint.testing._settings import configured
from compoint.testing.contract._base import PATIENCE_S, ContractBase, Ends, fill

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["LimitsContract"]

LIMIT_BYTES = 128 * 1024


class LimitsContract(ContractBase):
    """The bounds of one conversation."""

    @pytest.fixture
    def strict_ends(self) -> Iterator[Ends]:
        """A pair whose sides take messages up to LIMIT_BYTES."""
        with configured(compoint={"maxMessage": LIMIT_BYTES}), self.pair() as ends:
            yield ends

    @pytest.mark.parametrize("size", [LIMIT_BYTES + 1, 2 * LIMIT_BYTES, 50_000_000])
    def test_a_message_over_the_peers_limit_fails_alone(
        self, strict_ends: Ends, size: int
    ) -> None:  # capnproto/capnproto #407, evennia/evennia #1636
        initiator, responder = strict_ends
        initiator.write(b"before")
        with pytest.raises(TooLargeError) as caught:
            initiator.write(bytes(size), timeout=PATIENCE_S)
        assert caught.value.fate is Fate.NOT_SENT
        assert str(LIMIT_BYTES) in str(caught.value)
        initiator.write(b"after")
        assert [responder.read(timeout=PATIENCE_S) for _ in range(2)] == [b"before", b"after"]
        assert initiator.close().is_complete

    def test_a_message_exactly_at_the_limit_passes(self, strict_ends: Ends) -> None:
        # grpc/grpc #23388
        initiator, responder = strict_ends
        writing = Background(initiator.write, b"m" * LIMIT_BYTES)
        assert len(responder.read(timeout=PATIENCE_S)) == LIMIT_BYTES
        writing.result()

    @pytest.mark.parametrize("piece", [b"", b"p", b"p" * 1000, b"p" * 100_000])
    def test_what_a_reader_that_does_not_read_must_hold_is_bounded(
        self, ends: Ends, piece: bytes
    ) -> None:  # libp2p/rust-libp2p #1257, magic-wormhole/magic-wormhole-transit-relay #25
        initiator, responder = ends
        count = fill(initiator, piece)
        assert count * (len(piece) + MESSAGE_TOLL_BYTES) <= WINDOW_BYTES
        assert responder.statistics().unread_bytes <= WINDOW_BYTES
        # Something must get through at once, or two programs could not start to talk.
        assert count * (len(piece) + MESSAGE_TOLL_BYTES) > WINDOW_BYTES - FIRST_CREDIT_BYTES * 2
        # Reading gives the credit back.
        assert [responder.read(timeout=PATIENCE_S) for _ in range(count)] == [piece] * count
        initiator.write(b"more", timeout=PATIENCE_S)
        assert responder.read(timeout=PATIENCE_S) == b"more"

    def test_a_message_larger_than_the_window_passes_all_the_same(self, ends: Ends) -> None:
        initiator, responder = ends
        writing = Background(initiator.write, bytes(3 * WINDOW_BYTES))
        assert len(responder.read(timeout=PATIENCE_S)) == 3 * WINDOW_BYTES
        writing.result()

    @pytest.mark.parametrize("timeout", [None, PATIENCE_S])
    def test_messages_that_together_outgrow_the_window_reach_a_reader(
        self, route: Ends, timeout: float | None
    ) -> None:  # paramiko/paramiko #448
        # The first message finds a waiting reader, who lets the peer run ahead; the next ones
        # do not, so the credit ends in the middle of one.
        writer, reader = route
        size = WINDOW_BYTES * 19 // 20
        first = Background(reader.read).blocked()
        writing = Background(lambda: [writer.write(bytes(size)) for _ in range(6)])
        assert len(first.result()) == size
        writing.blocked()
        reading = Background(lambda: [len(reader.read(timeout=timeout)) for _ in range(5)])
        assert reading.result() == [size] * 5
        writing.result()
