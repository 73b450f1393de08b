"""What may be asked of a channel when it is opened."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ChannelOptions"]


@dataclass(frozen=True, slots=True)
class ChannelOptions:
    """Options of one channel; None in their place means the defaults."""

    #: An initiator's channel gets a connection of its own instead of the one that all
    #: channels of this process to the same address share.
    dedicated: bool = False
    #: An initiator's channel can be taken up again by a later process when this one is killed,
    #: by asking for it with the same correlator and this option: behind the last message
    #: written, and before the first that no `read` has returned. Implies `dedicated`. Only mail
    #: keeps conversations; over other transports a new channel begins.
    resume: bool = False
