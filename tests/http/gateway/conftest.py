"""A gateway, real servers behind it, and a client whose requests need no HTTP."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

# The toys are shared by the tests of this folder, which is no package.
_HERE = str(Path(__file__).resolve().parent)
if _HERE not in sys.path:
    sys.path.append(_HERE)

from gateway_play import PATH, PATIENCE_S, Client, ToyOpener  # noqa: E402 - found by the line above

from channel import ChannelServicePoint  # noqa: E402
from compoint import ComManager, ComPoint, ComPointAddress  # noqa: E402
from compoint.config import PointSettings  # noqa: E402
from compoint.drive.plain import PlainServer  # noqa: E402
from compoint.http._gateway import Gateway  # noqa: E402
from compoint.http._gateway_bounds import Bounds  # noqa: E402
from compoint.testing import eventually  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator

ADDRESS = ComPointAddress("toy", 7, PATH)


class GatewayScene:
    """Makes gateways, servers and clients; in the end nothing of them may be left."""

    def __init__(self, stack: ExitStack) -> None:
        self.opener = ToyOpener()
        self._stack = stack
        self.gateway = self.new_gateway()

    def new_gateway(self, **bounds: float) -> Gateway:
        """The gateway of the clients from now on."""
        self.gateway = gateway = Gateway(Bounds(**bounds))
        self._stack.callback(self._check, gateway)
        self._stack.callback(gateway.close)
        return gateway

    @staticmethod
    def _check(gateway: Gateway) -> None:
        eventually(lambda: gateway.is_empty, what="every conversation ends")
        assert gateway._sessions == {}
        assert gateway._budget.left == gateway.bounds.held_bytes
        assert gateway.repeats._running == {}

    def server(self, **settings: float) -> PlainServer:
        server = PlainServer(self.opener, ADDRESS, PointSettings(**settings))
        self._stack.callback(server.close)
        return server

    def service_point(self) -> ChannelServicePoint:
        service_point = ChannelServicePoint(ADDRESS)
        self._stack.callback(service_point.stop)
        return service_point

    def client(self) -> Client:
        return Client(self.gateway, self.opener.places[-1])

    def accept(self, server: PlainServer) -> ComPoint:
        point = server.accept(timeout=PATIENCE_S)
        self._stack.callback(point.abort, "the test is over")
        return point


@pytest.fixture
def gateway_scene(monkeypatch: pytest.MonkeyPatch) -> Iterator[GatewayScene]:
    with ExitStack() as stack:
        scene = GatewayScene(stack)
        monkeypatch.setitem(ComManager._openers, "toy", scene.opener)
        monkeypatch.setitem(ComManager._states, "toy", "")
        yield scene
