"""The scripts and helpers beside these tests can be imported by name."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

from typing import TYPE_CHECKING

from processes import Process

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def lasting_peer() -> Iterator[Process]:
    """One peer process for all scenes that leave it alive.

    A channel that nobody answers keeps this process' shared connection to it alive, so
    that the connection belongs to the session and not to the test that came first.
    """
    from channel import Channel
    from compoint import ComPointAddress, PointTimeout

    with Process("peer.py") as peer:
        address = ComPointAddress("tcp", "127.0.0.1", int(peer.ask("ports").split()[1]))
        with Channel.open_initiator_channel(address, None, "keeper") as keeper:
            with pytest.raises(PointTimeout):
                keeper.read(timeout=0.01)
            yield peer
