"""The suite of promises over HTTP, by streams and by polls; more of it in tests/ways."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from compoint.testing import configured
from compoint.testing.contract import PointContract, ServerContract

if TYPE_CHECKING:
    from collections.abc import Iterator


class Polling:
    """No streams: every answer is asked for."""

    @pytest.fixture(autouse=True)
    def _polls(self) -> Iterator[None]:
        with configured(http={"streams": "off"}):
            yield


class TestHttpPoints(PointContract):
    protocol = "http"


class TestHttpServers(ServerContract):
    protocol = "http"


class TestPollingPoints(Polling, PointContract):
    protocol = "http"
