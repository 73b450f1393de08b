"""The suite of promises over HTTP; by polls, through proxies and more in tests/ways."""

from __future__ import annotations

from compoint.testing.contract import PointContract, ServerContract


class TestHttpPoints(PointContract):
    protocol = "http"


class TestHttpServers(ServerContract):
    protocol = "http"
