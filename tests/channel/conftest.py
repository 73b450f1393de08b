"""A service point, and ends of channels that are broken off when their test is over."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from channel import Channel, ChannelOptions, ChannelPoint, ChannelServicePoint
from compoint import ComPointAddress

Ask = Callable[..., ChannelPoint]
Answer = Callable[..., ChannelPoint]
PATIENCE_S = 10.0


@pytest.fixture
def place() -> Iterator[ChannelServicePoint]:
    with Channel.start_service_point_thread(ComPointAddress("tcp", 0)) as place:
        yield place


@pytest.fixture
def ask(place: ChannelServicePoint) -> Iterator[Ask]:
    """Opens initiator channels, at the service point unless told otherwise."""
    with ExitStack() as stack:

        def open_channel(
            correlator: str, *, at: ComPointAddress | None = None, dedicated: bool = False
        ) -> ChannelPoint:
            options = ChannelOptions(dedicated=dedicated)
            point = Channel.open_initiator_channel(at or place.address, options, correlator)
            stack.callback(point.abort, "the test is over")
            return point

        yield open_channel


@pytest.fixture
def answer(place: ChannelServicePoint) -> Iterator[Answer]:
    """Opens responder channels at the service point."""
    with ExitStack() as stack:

        def open_channel(correlator: str | None = None) -> ChannelPoint:
            point = place.open_responder_channel(None, correlator, timeout=PATIENCE_S)
            stack.callback(point.abort, "the test is over")
            return point

        yield open_channel
