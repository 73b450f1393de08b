"""The suite of promises through real middleboxes: every message passes one on its way."""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING, ClassVar

import pytest
from middleboxes import HAProxy, Middlebox, Nginx, ReservedPort, Squid

from compoint.address import ComPointAddress
from compoint.manager import ComManager
from compoint.point import COMPOINT_INITIATOR, COMPOINT_SERVER, ComPoint, ServerComPoint
from compoint.testing import configured
from compoint.testing.contract import PointContract

if TYPE_CHECKING:
    from collections.abc import Iterator


class ThroughBox(PointContract, abc.ABC):
    """A box stands before the port at which all servers of the class listen in turn."""

    protocol = "http"
    streams: ClassVar[str] = "on"
    upstream: ClassVar[int]
    port: ClassVar[int]

    @classmethod
    @abc.abstractmethod
    def box(cls, upstream: int) -> Middlebox:
        """The box."""

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def _box(cls) -> Iterator[None]:
        with (
            configured(http={"streams": cls.streams}),
            ReservedPort() as upstream,
            cls.box(upstream.number) as box,
        ):
            cls.upstream, cls.port = upstream.number, box.port
            yield

    def open_server(self, path: str = "") -> ServerComPoint:
        return ComManager.com_point(COMPOINT_SERVER, ComPointAddress("http", self.upstream, path))

    def open_initiator(self, server: ServerComPoint, path: str | None = None) -> ComPoint:
        path = server.address.path if path is None else path
        address = ComPointAddress("http", "127.0.0.1", self.port, path)
        return ComManager.com_point(COMPOINT_INITIATOR, address)


class TestThroughNginx(ThroughBox):
    @classmethod
    def box(cls, upstream: int) -> Middlebox:
        return Nginx(upstream)


class TestThroughNginxThatBuffersAll(ThroughBox):
    @classmethod
    def box(cls, upstream: int) -> Middlebox:
        return Nginx.deaf(upstream)


class TestThroughHaproxy(ThroughBox):
    @classmethod
    def box(cls, upstream: int) -> Middlebox:
        return HAProxy(upstream)


class TestThroughHaproxyByPolls(ThroughBox):
    streams = "off"

    @classmethod
    def box(cls, upstream: int) -> Middlebox:
        return HAProxy(upstream)


class TestThroughSquid(ThroughBox):
    @classmethod
    def box(cls, upstream: int) -> Middlebox:
        return Squid()

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def _proxy(cls, _box: None) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("HTTP_PROXY", f"http://127.0.0.1:{cls.port}")
            patch.setenv("http_proxy", f"http://127.0.0.1:{cls.port}")
            patch.delenv("NO_PROXY", raising=False)
            patch.delenv("no_proxy", raising=False)
            yield

    def open_initiator(self, server: ServerComPoint, path: str | None = None) -> ComPoint:
        path = server.address.path if path is None else path
        address = ComPointAddress("http", "127.0.0.1", self.upstream, path)
        return ComManager.com_point(COMPOINT_INITIATOR, address)
