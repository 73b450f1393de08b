"""The suite of promises over HTTP by polls, and channels by streams and by polls."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from test_channels import ChannelMeeting

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


class TestPollingPoints(Polling, PointContract):
    protocol = "http"


class TestPollingServers(Polling, ServerContract):
    protocol = "http"


class TestHttpChannels(ChannelMeeting):
    protocol = "http"


class TestPollingChannels(Polling, ChannelMeeting):
    protocol = "http"
