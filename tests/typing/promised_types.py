"""What a type checker knows about programs on top of compoint; checked by test_typing.py.

Never run. A line that must be refused carries the code of its refusal: an ignore that
nothing needs is an error itself.
"""

from __future__ import annotations

import dataclasses
from typing import Any, assert_type

from channel import (
    Channel,
    ChannelOptions,
    ChannelPoint,
    ChannelServicePoint,
    QueuedChannel,
    Waiting,
)
from compoint import (
    COMPOINT_INITIATOR,
    COMPOINT_SERVER,
    ComManager,
    ComPoint,
    ComPointAddress,
    ComPointKind,
    MessageError,
    Receipt,
    ServerComPoint,
    SessionLostError,
    Streamable,
)


class Offer(Streamable):
    item: str
    price: float = 0.0


@Streamable.register
@dataclasses.dataclass
class Order:
    item: str
    count: int = 1


def opening(address: ComPointAddress) -> None:
    assert_type(ComManager.com_point(COMPOINT_INITIATOR, address), ComPoint)
    assert_type(ComManager.com_point(COMPOINT_SERVER, address, timeout=1), ServerComPoint)
    assert_type(ComManager.com_point(ComPointKind.INITIATOR, address), ComPoint)
    assert_type(ComManager.init(), dict[str, str])
    ComManager.com_point("initiator", address)  # type: ignore[call-overload]
    ComManager.com_point(COMPOINT_INITIATOR, "tcp://h:1")  # type: ignore[call-overload]


def addresses() -> None:
    assert_type(ComPointAddress("tcp", 7100), ComPointAddress)
    assert_type(ComPointAddress("tcp", "shop.example", 7100, "/orders"), ComPointAddress)
    assert_type(ComPointAddress.parse("tcp://shop.example:7100/orders"), ComPointAddress)
    ComPointAddress(7100)  # type: ignore[call-overload]


def reading(point: ComPoint) -> None:
    assert_type(point.read(), Any)
    assert_type(point.read(timeout=1), Any)
    assert_type(point.read(Offer), Offer)
    assert_type(point.read(Order, timeout=1), Order)
    assert_type(point.read(bytes), bytes)
    assert_type(point.read(dict[str, int]), dict[str, int])
    either: Offer | Order = point.read(Offer | Order)
    point.write(either)
    point.read(Offer, 5)  # type: ignore[call-overload]
    for message in point:
        assert_type(message, Any)


def writing(point: ComPoint) -> None:
    point.write(Offer("book"))
    point.write({"any": ["plain", "data"]}, timeout=1)
    assert_type(point.close(), Receipt)
    assert_type(point.close(timeout=None).unconfirmed, range)
    with point as same:
        assert_type(same, ComPoint)


def messages() -> None:
    assert_type(Offer("book", price=2.5), Offer)
    assert_type(Offer(item="book").price, float)
    assert_type(Order("book").count, int)
    Offer()  # type: ignore[call-arg]
    Offer(item=5)  # type: ignore[arg-type]
    Offer("book", cost=1)  # type: ignore[call-arg]
    Order(5)  # type: ignore[arg-type]


def accepting(server: ServerComPoint) -> None:
    assert_type(server.accept(timeout=1), ComPoint)
    assert_type(server.address, ComPointAddress)
    for point in server:
        assert_type(point, ComPoint)
    with server as same:
        assert_type(same, ServerComPoint)


def channels(address: ComPointAddress) -> None:
    options = ChannelOptions(dedicated=True)
    assert_type(Channel.open_initiator_channel(address, options, "order-17"), ChannelPoint)
    with Channel.open_initiator_channel(address, None, "order-17") as point:
        assert_type(point, ChannelPoint)
        assert_type(point.read(Offer), Offer)
        assert_type(point.correlator, str)
        opening_takes_any_point: ComPoint = point
        reading(opening_takes_any_point)
    with Channel.start_service_point_thread(address) as place:
        assert_type(place, ChannelServicePoint)
        assert_type(place.open_responder_channel(options, "order-17", timeout=60), ChannelPoint)
        assert_type(place.open_responder_channel(), ChannelPoint)
        assert_type(place.waiting(), Waiting)
        assert_type(place.waiting().queued, tuple[QueuedChannel, ...])
        for each in place:
            assert_type(each, ChannelPoint)
    Channel.open_initiator_channel(address, None)  # type: ignore[call-arg]
    Channel.open_initiator_channel(address, None, 17)  # type: ignore[arg-type]


def errors(fault: MessageError, lost: SessionLostError) -> None:
    assert_type(fault.path, str)
    assert_type(lost.unconfirmed, range)
