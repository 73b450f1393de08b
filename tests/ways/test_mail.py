"""The suite of promises over mail: points, servers and channels, and points in bad weather."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import pytest
from test_channels import ChannelMeeting

from compoint.testing import configured
from compoint.testing.contract import PointContract, ServerContract, _base, _closing, _messages

if TYPE_CHECKING:
    from collections.abc import Iterator

pytest.importorskip("aiosmtpd")

from world_kit import GOOD, Weather, mail_world

#: Each message and each mail waits for the disk; not for a slow one here, if it can be helped.
_MEMORY = Path("/dev/shm")


class Mailing:
    """One program talks to itself: all mails pass the mail server and come back."""

    protocol = "mail"
    host = "me@compoint.test"
    has_path = False
    weather: ClassVar[Weather] = GOOD
    #: What differs from the times of the kit.
    times: ClassVar[dict[str, object]] = {}

    @pytest.fixture(autouse=True)
    def _mail(self) -> Iterator[None]:
        folder = Path(tempfile.mkdtemp(dir=_MEMORY if _MEMORY.is_dir() else None))
        try:
            with (
                mail_world(self.weather) as world,
                configured(mail=world.box(self.host, folder, **self.times)),
            ):
                yield
        finally:
            shutil.rmtree(folder)


class TestMailPoints(Mailing, PointContract):
    pass


class TestMailServers(Mailing, ServerContract):
    pass


class TestMailChannels(Mailing, ChannelMeeting):
    # Half a minute of work for the mail server and the disk, which is the same for points.
    test_both_ends_write_32_mib_and_then_read = None
    test_what_a_reader_that_does_not_read_must_hold_is_bounded = None


class TestMailPointsInBadWeather(
    Mailing, _messages.MessagesContract, _closing.ClosingContract, _base.ContractBase
):
    weather = Weather(lost=0.2, doubled=0.2, late=0.2, late_s=0.05)
    times: ClassVar = {"rtoMin": "0.1 s", "ackDelay": "0.02 s"}

    @pytest.fixture(autouse=True)
    def _patience(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A mail may get lost three times in a row, and the silence is longer each time."""
        for room in (_messages, _closing, _base):
            monkeypatch.setattr(room, "PATIENCE_S", 20.0)
