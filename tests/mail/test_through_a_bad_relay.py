"""Two programs with a mailbox each, and between them a mail system that keeps no promise."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import pytest
from receiver_kit import ROOT
from world_kit import Weather, World, mail_world

from compoint.testing import Background
from compoint.testing._settings import sempconfig_text

ALICE: Final = "alice@example.org"
BOB: Final = "bob@example.net"
PROGRAM: Final = Path(__file__).with_name("talker.py")
#: Small mails, so that there are many, and times to match.
SETTINGS: Final = {"maxMail": "16 KiB", "rtoMin": "0.3 s", "ackDelay": "0.05 s"}
#: For each of the programs; a machine that does nothing else takes a fifth of it.
PATIENCE_S: Final = 50.0


@contextmanager
def _talking(
    world: World, folder: Path, mailbox: str, *arguments: object
) -> Iterator[subprocess.Popen[str]]:
    folder = folder / mailbox
    folder.mkdir()
    config = folder / "_sempconfig"
    config.write_text(sempconfig_text({"mail": world.box(mailbox, folder, **SETTINGS)}))
    program = subprocess.Popen(
        [sys.executable, str(PROGRAM), *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": str(ROOT), "SEMPCONFIG": str(config)},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with program:
        try:
            yield program
        except BaseException:
            program.kill()
            raise


def _talk(world: World, folder: Path, count: int, channels: int = 0) -> list[str]:
    """Let the two talk to their ends; what was wrong."""
    wrong = []
    with ExitStack() as stack:
        programs = [
            stack.enter_context(_talking(world, folder, BOB, count, channels)),
            stack.enter_context(
                _talking(world, folder, ALICE, count, channels, f"mail:{BOB}:7100")
            ),
        ]
        for program in programs:
            assert program.stdout is not None
            said = Background(program.stdout.readline).result(PATIENCE_S)
            wrong += json.loads(said or '["it failed"]')
        for program in programs:
            program.communicate(timeout=PATIENCE_S)
    return wrong


@pytest.mark.timeout(120)
def test_where_mails_are_lost_doubled_and_overtaken_all_messages_arrive_once_and_in_order(
    tmp_path: Path,
) -> None:
    with mail_world(Weather(lost=0.2, doubled=0.2, late=0.2)) as world:
        assert _talk(world, tmp_path, 1_000) == []
    for fate in ("lost", "doubled", "late"):
        assert world.counts[fate] > world.counts["taken"] / 10


@pytest.mark.parametrize(
    "weather",
    [
        Weather(cut=0.3), Weather(rewritten=1.0), Weather(late=0.9, late_s=0.5),
        Weather(refused=0.2), Weather(sent_away=0.2), Weather(unanswered=0.3),
    ],
    ids=["cut", "rewritten", "late", "refused", "sent away", "unanswered"],
)  # fmt: skip
@pytest.mark.timeout(120)
def test_whatever_becomes_of_mails_messages_arrive_once_and_in_order(
    weather: Weather, tmp_path: Path
) -> None:
    with mail_world(weather) as world:
        assert _talk(world, tmp_path, 60) == []
    assert world.counts["well"] < world.counts["taken"]


@pytest.mark.timeout(120)
def test_channels_that_share_a_connection_each_keep_their_order(tmp_path: Path) -> None:
    with mail_world(Weather(lost=0.1, doubled=0.2, late=0.2)) as world:
        assert _talk(world, tmp_path, 60, channels=4) == []
    assert world.counts["lost"]
