"""The mail transport: ComPoints whose bytes travel in e-mail.

Everything is loaded on first use: the receiver program starts for every single mail, and
what it does not need would be its latency.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from mail._opener import MailOpener
    from mail.receiver import ComPointMailReceiver

_ROOM_OF = {
    "ComPointMailReceiver": "mail.receiver",
    "MailOpener": "mail._opener",
}

__all__ = ["ComPointMailReceiver", "MailOpener"]


def __getattr__(name: str) -> Any:
    room = _ROOM_OF.get(name)
    if room is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib  # noqa: PLC0415 - the receiver program does not come by here

    value = getattr(importlib.import_module(room), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
