"""The suite of promises over channels: shared and dedicated connections, tcp and memory."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from channel import Channel, ChannelOptions
from compoint.address import ComPointAddress
from compoint.testing.contract import PointContract
from compoint.testing.contract._base import PATIENCE_S, Ends

if TYPE_CHECKING:
    from collections.abc import Iterator


class ChannelMeeting(PointContract):
    """A pair of channel ends; another channel idles on the same connection."""

    options: ChannelOptions | None = None

    @contextmanager
    def meeting(self) -> Iterator[Ends]:
        with Channel.start_service_point_thread(ComPointAddress(self.protocol, 0)) as place:
            address = ComPointAddress(self.protocol, self.host, place.address.port)
            neighbour = Channel.open_initiator_channel(address, None, "neighbour")
            initiator = Channel.open_initiator_channel(address, self.options, "order-17")
            responder = place.open_responder_channel(self.options, "order-17", timeout=PATIENCE_S)
            try:
                yield initiator, responder
            finally:
                neighbour.abort("the test is over")


class TestTcpChannels(ChannelMeeting):
    protocol = "tcp"


class TestDedicatedTcpChannels(ChannelMeeting):
    protocol = "tcp"
    options = ChannelOptions(dedicated=True)


class TestMemoryChannels(ChannelMeeting):
    protocol = "memory"
