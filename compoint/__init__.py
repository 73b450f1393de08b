"""Blocking communication between Python programs: the door.

    ComManager.com_point(COMPOINT_INITIATOR, ComPointAddress("tcp", "shop.example", 7100))

Everything is loaded on first use, so that importing costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from compoint.address import ComPointAddress
    from compoint.errors import (
        AddressError,
        BrokenError,
        BusyError,
        ClosedError,
        ComPointException,
        ConfigError,
        ConnectError,
        EndOfMessages,
        Fate,
        FrameError,
        InternalError,
        MessageError,
        PeerError,
        Phase,
        PointTimeout,
        RefusedError,
        SessionLostError,
        ShadowedPackageError,
        TooLargeError,
        UsageError,
        VersionError,
    )
    from compoint.manager import ComManager
    from compoint.message import Streamable
    from compoint.point import (
        COMPOINT_INITIATOR,
        COMPOINT_SERVER,
        ComPoint,
        ComPointKind,
        Receipt,
        ServerComPoint,
    )

__version__ = "0.1.0"

_ROOMS = {
    "compoint.address": ["ComPointAddress"],
    "compoint.errors": [
        "AddressError",
        "BrokenError",
        "BusyError",
        "ClosedError",
        "ComPointException",
        "ConfigError",
        "ConnectError",
        "EndOfMessages",
        "Fate",
        "FrameError",
        "InternalError",
        "MessageError",
        "PeerError",
        "Phase",
        "PointTimeout",
        "RefusedError",
        "SessionLostError",
        "ShadowedPackageError",
        "TooLargeError",
        "UsageError",
        "VersionError",
    ],
    "compoint.manager": ["ComManager"],
    "compoint.message": ["Streamable"],
    "compoint.point": [
        "COMPOINT_INITIATOR",
        "COMPOINT_SERVER",
        "ComPoint",
        "ComPointKind",
        "Receipt",
        "ServerComPoint",
    ],
}
_ROOM_OF = {name: room for room, names in _ROOMS.items() for name in names}

__all__ = [
    "COMPOINT_INITIATOR",
    "COMPOINT_SERVER",
    "AddressError",
    "BrokenError",
    "BusyError",
    "ClosedError",
    "ComManager",
    "ComPoint",
    "ComPointAddress",
    "ComPointException",
    "ComPointKind",
    "ConfigError",
    "ConnectError",
    "EndOfMessages",
    "Fate",
    "FrameError",
    "InternalError",
    "MessageError",
    "PeerError",
    "Phase",
    "PointTimeout",
    "Receipt",
    "RefusedError",
    "ServerComPoint",
    "SessionLostError",
    "ShadowedPackageError",
    "Streamable",
    "TooLargeError",
    "UsageError",
    "VersionError",
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
