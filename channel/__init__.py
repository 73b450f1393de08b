"""Channels: many conversations over one port, each found by its correlator.

with Channel.open_initiator_channel(address, None, "order-17") as point: ...
with Channel.start_service_point_thread(ComPointAddress("tcp", 7100)) as service_point: ...
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from channel.channel import Channel, ChannelPoint
    from channel.options import ChannelOptions
    from channel.rendezvous import QueuedChannel, WaitingResponder
    from channel.service_point import ChannelServicePoint, ServicePointStatistics, Waiting

_ROOM_OF = {
    "Channel": "channel.channel",
    "ChannelOptions": "channel.options",
    "ChannelPoint": "channel.channel",
    "ChannelServicePoint": "channel.service_point",
    "QueuedChannel": "channel.rendezvous",
    "ServicePointStatistics": "channel.service_point",
    "Waiting": "channel.service_point",
    "WaitingResponder": "channel.rendezvous",
}

__all__ = [
    "Channel",
    "ChannelOptions",
    "ChannelPoint",
    "ChannelServicePoint",
    "QueuedChannel",
    "ServicePointStatistics",
    "Waiting",
    "WaitingResponder",
]


def __getattr__(name: str) -> Any:
    room = _ROOM_OF.get(name)
    if room is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(room), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
