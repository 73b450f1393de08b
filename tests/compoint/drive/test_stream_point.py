"""What a ComPoint keeps while nothing comes, whichever transport carries it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from compoint import COMPOINT_INITIATOR, COMPOINT_SERVER, ComManager, ComPointAddress, PointTimeout
from compoint.core.stream import NOTHING
from compoint.drive.driver import Driver
from compoint.drive.stream_point import StreamPoint

if TYPE_CHECKING:
    from collections.abc import Iterator

PATIENCE_S = 10.0


@pytest.fixture
def ends() -> Iterator[tuple[StreamPoint, StreamPoint]]:
    """Both ends of a conversation."""
    with (
        ComManager.com_point(COMPOINT_SERVER, ComPointAddress("memory", 0)) as server,
        ComManager.com_point(COMPOINT_INITIATOR, server.address) as ours,
    ):
        ours.write(b"hello")
        with server.accept(timeout=PATIENCE_S) as theirs:
            assert isinstance(ours, StreamPoint)
            assert isinstance(theirs, StreamPoint)
            yield ours, theirs


def test_a_look_in_vain_gives_the_inbox_back(ends: tuple[StreamPoint, StreamPoint]) -> None:
    ours, theirs = ends
    assert theirs.read(timeout=PATIENCE_S) == b"hello"
    assert theirs._stream.inbox is not NOTHING
    with pytest.raises(PointTimeout):
        theirs.read(timeout=0)
    assert theirs._stream.inbox is NOTHING
    ours.write(b"again")
    assert theirs.read(timeout=PATIENCE_S) == b"again"


def test_a_driver_has_no_dictionary_of_its_own(ends: tuple[StreamPoint, StreamPoint]) -> None:
    assert not any("__dict__" in vars(base) for base in Driver.__mro__)
