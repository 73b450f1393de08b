"""Promises 1 and 2: whole messages, in order, as the same type and value."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import uuid
from typing import Any, Final

import pytest

from compoint.errors import EndOfMessages, Fate, MessageError, PointTimeout
from compoint.limits import (
    CHUNK_BYTES,
    FIRST_CREDIT_BYTES,
    GATHER_BYTES,
    MESSAGE_TOLL_BYTES,
    NESTING_DEPTH,
    RECEIVE_BYTES,
    SMALL_BYTES,
    WINDOW_BYTES,
)
from compoint.message import Streamable
from compoint.testing._background import Background
from compoint.testing.contract._base import PATIENCE_S, ContractBase, Ends

__all__ = ["Counter", "MessagesContract", "Offer", "content"]


class Offer(Streamable, name="contract.Offer"):
    """A typed message of the suite."""

    item: str
    price: decimal.Decimal
    tags: list[str] = []  # noqa: RUF012 - msgspec copies it


@Streamable.register
@dataclasses.dataclass(frozen=True)
class Counter:
    """A dataclass as a message."""

    number: int
    at: dt.datetime


def _around(*sizes: int) -> list[int]:
    return [size + by for size in sizes for by in (-1, 0, 1)]


SIZES: Final = sorted(
    {
        0, 1, 64, 5_000_000,
        *_around(
            SMALL_BYTES, CHUNK_BYTES, GATHER_BYTES, RECEIVE_BYTES, FIRST_CREDIT_BYTES,
            FIRST_CREDIT_BYTES - MESSAGE_TOLL_BYTES, WINDOW_BYTES,
            WINDOW_BYTES - MESSAGE_TOLL_BYTES,
        ),
    }
)  # fmt: skip

MESSAGES: Final[list[Any]] = [
    b"", b"\x00\xff", "", "grüße \N{SNOWMAN}", None, True, False, 0, -1, 2**63, -(2**63), 1.5,
    float("inf"), [], {}, [1, "two", b"three", [None]], {"a": {"b": [1.25]}},
    dt.datetime(2026, 2, 28, 12, 30, 1, 250, tzinfo=dt.UTC),
    uuid.UUID(int=7), decimal.Decimal("12.340"),
    Offer(item="book", price=decimal.Decimal("9.90"), tags=["new"]),
    Counter(number=3, at=dt.datetime(2026, 1, 1, tzinfo=dt.UTC)),
]  # fmt: skip


def content(size: int, seed: int = 0) -> bytes:
    """Bytes in which a lost, doubled or moved piece shows."""
    block = b"".join(number.to_bytes(4) for number in range(seed, seed + 256))
    return (block * (size // len(block) + 1))[:size]


class MessagesContract(ContractBase):
    """Whole messages, in order; types and values."""

    @pytest.mark.parametrize("size", SIZES)
    def test_a_message_of_any_size_arrives_whole_between_its_neighbours(
        self, ends: Ends, size: int
    ) -> None:
        initiator, responder = ends
        sent = [b"before", content(size), b"after"]
        writing = Background(lambda: [initiator.write(one) for one in sent])
        for message in sent:
            # Not compared with == in the assertion: nobody wants a diff of megabytes.
            assert (responder.read(timeout=PATIENCE_S) == message) is True
        writing.result()

    def test_messages_of_mixed_sizes_keep_their_order(self, route: Ends) -> None:
        writer, reader = route
        sizes = [size for size in SIZES if size < 100_000] * 4
        sizes = sizes[::3] + sizes[1::3] + sizes[2::3]
        sent = [content(size, seed) for seed, size in enumerate(sizes)]
        writing = Background(lambda: [writer.write(message) for message in sent])
        came = [reader.read(timeout=PATIENCE_S) for _ in sent]
        writing.result()
        wrong = [at for at, one in enumerate(sent) if came[at] != one]
        assert wrong == []

    def test_a_flood_of_small_messages_keeps_its_order(self, route: Ends) -> None:
        writer, reader = route
        count = 3_000
        writing = Background(lambda: [writer.write(b"%d" % one) for one in range(count)])
        assert [int(reader.read(timeout=PATIENCE_S)) for _ in range(count)] == list(range(count))
        writing.result()

    def test_both_ends_may_talk_at_once(self, ends: Ends) -> None:
        def exchange(point: Any, name: bytes) -> list[bytes]:
            for number in range(200):
                point.write(name + b"%d" % number)
            return [point.read(timeout=PATIENCE_S) for _ in range(200)]

        one = Background(exchange, ends[0], b"a")
        other = Background(exchange, ends[1], b"b")
        assert one.result() == [b"b%d" % number for number in range(200)]
        assert other.result() == [b"a%d" % number for number in range(200)]

    @pytest.mark.parametrize("message", MESSAGES, ids=lambda one: repr(one)[:40])
    def test_a_message_comes_out_as_the_same_type_and_value(self, ends: Ends, message: Any) -> None:
        initiator, responder = ends
        initiator.write(message)
        came = responder.read(timeout=PATIENCE_S)
        assert (type(came), came) == (type(message), message)

    def test_forms_may_alternate_in_any_order(self, route: Ends) -> None:
        writer, reader = route
        sent = MESSAGES * 3
        for message in sent:
            writer.write(message)
        assert [reader.read(timeout=PATIENCE_S) for _ in sent] == sent

    @pytest.mark.parametrize("size", [70_000, 2_000_000])
    def test_a_large_text_and_a_large_list_come_out_as_they_were(
        self, ends: Ends, size: int
    ) -> None:
        initiator, responder = ends
        sent: list[Any] = ["ä" * size, ["x" * 1000] * (size // 1000)]
        writing = Background(lambda: [initiator.write(one) for one in sent])
        for message in sent:
            assert (responder.read(timeout=PATIENCE_S) == message) is True
        writing.result()

    def test_a_read_with_a_class_gives_an_instance_of_it(self, route: Ends) -> None:
        writer, reader = route
        offer = Offer(item="book", price=decimal.Decimal("1.50"))
        writer.write(offer)
        assert reader.read(Offer, timeout=PATIENCE_S) == offer

    def test_a_read_with_a_union_gives_the_class_that_was_written(self, ends: Ends) -> None:
        initiator, responder = ends
        counter = Counter(number=1, at=dt.datetime(2026, 1, 1, tzinfo=dt.UTC))
        initiator.write(counter)
        assert responder.read(Offer | Counter, timeout=PATIENCE_S) == counter

    def test_a_message_of_another_type_is_refused_with_its_path_and_used_up(
        self, route: Ends
    ) -> None:
        writer, reader = route
        writer.write({"item": "book", "price": [], "tags": []})
        writer.write(b"next")
        with pytest.raises(MessageError) as caught:
            reader.read(Offer, timeout=PATIENCE_S)
        assert caught.value.path == "$.price"
        assert reader.read(timeout=PATIENCE_S) == b"next"

    @pytest.mark.parametrize(
        "message", [object(), {1, 2}, [lambda: 0], {"key": {"deep": object()}}],
        ids=["an object", "a set", "a function in a list", "an object in a dict"],
    )  # fmt: skip
    def test_what_is_no_message_is_refused_before_it_is_sent(
        self, ends: Ends, message: Any
    ) -> None:
        initiator, responder = ends
        with pytest.raises(MessageError) as caught:
            initiator.write(message)
        assert caught.value.fate is Fate.NOT_SENT
        initiator.write(b"usable")
        assert responder.read(timeout=PATIENCE_S) == b"usable"
        assert initiator.statistics().written == 1

    def test_plain_data_that_nests_too_deep_is_refused_and_the_point_usable(
        self, ends: Ends
    ) -> None:
        initiator, responder = ends
        nest: list[Any] = []
        for _ in range(NESTING_DEPTH + 1):
            nest = [nest]
        with pytest.raises(MessageError):
            initiator.write(nest)
        initiator.write("usable")
        assert responder.read(timeout=PATIENCE_S) == "usable"

    def test_a_point_iterates_over_its_messages_until_the_peer_closes(self, route: Ends) -> None:
        writer, reader = route
        for number in range(5):
            writer.write(number)
        closing = Background(writer.close)
        assert list(reader) == [0, 1, 2, 3, 4]
        assert closing.result().is_complete

    def test_an_empty_conversation_ends_in_good_order(self, route: Ends) -> None:
        writer, reader = route
        writer.close()
        with pytest.raises(EndOfMessages):
            reader.read(timeout=PATIENCE_S)

    def test_a_timeout_of_zero_takes_what_is_here_and_nothing_else(self, ends: Ends) -> None:
        initiator, responder = ends
        with pytest.raises(PointTimeout):
            responder.read(timeout=0)
        initiator.write(b"now")
        initiator.flush(timeout=PATIENCE_S)
        assert responder.read(timeout=0) == b"now"
