"""The suite of promises over our own transports."""

from __future__ import annotations

from compoint.testing.contract import PointContract, ServerContract


class TestTcpPoints(PointContract):
    protocol = "tcp"


class TestTcpServers(ServerContract):
    protocol = "tcp"


class TestMemoryPoints(PointContract):
    protocol = "memory"


class TestMemoryServers(ServerContract):
    protocol = "memory"
