"""How the tests of the suite come by their points."""

from __future__ import annotations

from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Final

import pytest

from compoint.address import ComPointAddress
from compoint.errors import PointTimeout
from compoint.manager import ComManager
from compoint.point import COMPOINT_INITIATOR, COMPOINT_SERVER, ComPoint, ServerComPoint

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["PATIENCE_S", "ContractBase", "Ends", "PlainMeeting", "fill"]

#: What must come at once is given this long on a busy machine.
PATIENCE_S: Final = 5.0

Ends = tuple[ComPoint, ComPoint]


class PlainMeeting:
    """Servers and pairs of one protocol of ComManager."""

    protocol: str = ""
    #: The host by which an initiator in this process reaches a server of its own.
    host: str = "localhost"
    #: Addresses of the protocol have a path.
    has_path: bool = True

    def open_server(self, path: str = "") -> ServerComPoint:
        if path and not self.has_path:
            pytest.skip(f"addresses of {self.protocol} have no path")
        return ComManager.com_point(COMPOINT_SERVER, ComPointAddress(self.protocol, 0, path))

    def open_initiator(self, server: ServerComPoint, path: str | None = None) -> ComPoint:
        path = server.address.path if path is None else path
        address = ComPointAddress(self.protocol, self.host, server.address.port, path)
        return ComManager.com_point(COMPOINT_INITIATOR, address)


class ContractBase(PlainMeeting):
    """The fixtures of the point suite."""

    @contextmanager
    def meeting(self) -> Iterator[Ends]:
        """A connected pair, initiator and responder; the tests close what they close."""
        with self.open_server() as server:
            initiator = self.open_initiator(server)
            try:
                responder = server.accept(timeout=PATIENCE_S)
            except BaseException:
                initiator.abort("the meeting failed")
                raise
            yield initiator, responder

    def pair(self) -> AbstractContextManager[Ends]:
        """A meeting whose points are surely closed afterwards."""
        return _tidied(self.meeting())

    @pytest.fixture
    def ends(self) -> Iterator[Ends]:
        with self.pair() as ends:
            yield ends

    @pytest.fixture(params=["from initiator", "from responder"])
    def route(self, request: pytest.FixtureRequest, ends: Ends) -> Ends:
        """The pair as (writer, reader), once in each direction."""
        return ends if request.param == "from initiator" else (ends[1], ends[0])


@contextmanager
def _tidied(meeting: AbstractContextManager[Ends]) -> Iterator[Ends]:
    with meeting as ends:
        try:
            yield ends
        finally:
            for point in ends:
                point.abort("the test is over")


def fill(point: ComPoint, piece: bytes = b"f" * 100_000) -> int:
    """Write until the peer, which does not read, takes no more; how many it took."""
    count = 0
    while True:
        try:
            point.write(piece, timeout=0.05)
        except PointTimeout:
            return count
        count += 1
