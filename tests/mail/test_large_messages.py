"""Messages larger than a mail: how many mails they cost."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Final

import pytest
from world_kit import mail_world

from compoint import COMPOINT_INITIATOR, COMPOINT_SERVER, ComManager, ComPointAddress
from compoint.testing import Background, configured

PATIENCE_S: Final = 50.0
MB: Final = 1_000_000


@pytest.mark.timeout(120)
def test_a_message_of_20_mb_costs_few_mails(tmp_path: Path) -> None:
    """Each limit that a reader tells is a mail; told in steps of a MiB, it would be 60."""
    message = random.Random(1).randbytes(20 * MB)
    with mail_world() as world:
        alice = world.box("alice@example.org", tmp_path / "alice", ackDelay="5 s", rtoMin="30 s")
        bob = world.box("bob@example.net", tmp_path / "bob", ackDelay="5 s", rtoMin="30 s")
        with configured(mail=bob):
            server = ComManager.com_point(COMPOINT_SERVER, ComPointAddress("mail", 7100))
        with server, configured(mail=alice):
            address = ComPointAddress("mail", "bob@example.net", 7100)
            with ComManager.com_point(COMPOINT_INITIATOR, address) as point:
                writing = Background(point.write, message, timeout=PATIENCE_S)
                with server.accept(timeout=PATIENCE_S) as there:
                    assert there.read(timeout=PATIENCE_S) == message
                writing.result(PATIENCE_S)
                mails = world.counts["taken"]
    assert mails <= 32
