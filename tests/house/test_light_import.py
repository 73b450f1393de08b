"""Importing costs next to nothing; what is heavy is loaded when it is first used."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parents[2]
MOST_S: Final = 0.04
HEAVY: Final = ("msgspec", "ssl", "socket", "logging", "requests", "cryptography", "rich")

# The time of the processor: what else runs on the machine does not count.
_LOOK: Final = """
import json, sys, time
before = set(sys.modules)
started_at = time.process_time()
{statement}
took_s = time.process_time() - started_at
print(json.dumps([took_s, sorted(set(sys.modules) - before)]))
"""


def _import(statement: str) -> tuple[float, list[str]]:
    """How long it takes in a fresh interpreter, and which modules it brings."""
    looked = subprocess.run(
        [sys.executable, "-c", _LOOK.format(statement=statement)],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, cwd=ROOT,
        capture_output=True, text=True, timeout=30, check=True,
    )  # fmt: skip
    took_s, modules = json.loads(looked.stdout)
    return took_s, modules


@pytest.mark.parametrize("door", ["compoint", "channel", "mail"])
def test_a_door_is_imported_within_40_ms(door: str) -> None:
    assert min(_import(f"import {door}")[0] for _ in range(5)) < MOST_S


@pytest.mark.parametrize("door", ["compoint", "channel", "mail"])
def test_a_door_brings_nothing_heavy(door: str) -> None:
    _, modules = _import(f"import {door}")
    assert door in modules
    assert sorted(set(HEAVY) & set(modules)) == []


def test_the_names_a_script_begins_with_bring_no_codec_and_no_packaging() -> None:
    _, modules = _import("from compoint import ComManager, ComPointAddress, COMPOINT_INITIATOR")
    heavy = {"msgspec", "ssl", "socket", "logging", "importlib.metadata", "email", "rich"}
    assert sorted(heavy & set(modules)) == []


def test_bytes_and_channels_travel_without_the_codec() -> None:
    """A program that sends bytes only never pays for typed messages."""
    _, modules = _import(
        "from channel import Channel\n"
        "from compoint import ComPointAddress\n"
        "with Channel.start_service_point_thread(ComPointAddress('tcp', 0)) as place:\n"
        "    with Channel.open_initiator_channel(place.address, None, 'x') as point:\n"
        "        point.write(b'hello')\n"
        "        with place.open_responder_channel(None, 'x') as responder:\n"
        "            assert responder.read(timeout=10) == b'hello'\n"
    )
    assert "compoint.tcp" in modules
    assert sorted({"msgspec", "ssl"} & set(modules)) == []
