"""The examples as they are started by hand: real processes, one for each script."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import compoint

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"

Script = subprocess.Popen[str]
Start = Callable[..., Script]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts an example: `start("initiator.py", address)`."""
    scripts: list[Script] = []
    package = str(Path(compoint.__file__).parents[1])

    def start(name: str, *arguments: str) -> Script:
        scripts.append(
            subprocess.Popen(
                [sys.executable, EXAMPLES / name, *arguments],
                env={**os.environ, "PYTHONPATH": package},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
        return scripts[-1]

    yield start
    for script in scripts:
        script.kill()
        script.communicate()


def served(script: Script) -> str:
    """The address at which a responder says it serves."""
    assert script.stdout is not None
    line = script.stdout.readline()
    match = re.fullmatch(r"serving at (\S+)\n", line)
    assert match, line + script.stdout.read()
    return match[1]


def said(script: Script) -> list[str]:
    """What a script printed, when it has ended well."""
    lines, _ = script.communicate(timeout=20)
    assert script.returncode == 0, lines
    return lines.splitlines()


def test_the_plain_initiator_and_responder_make_a_deal(start: Start) -> None:
    responder = start("responder.py", "tcp://:0")
    initiator = start("initiator.py", served(responder))
    assert said(initiator) == [
        "wrote Order(number=17, item='atlas', count=2)",
        "read Offer(number=17, total=Decimal('49.80'))",
        "read SaleReceipt(number=17, paid=Decimal('49.80'))",
    ]
    assert said(responder) == [
        "read Order(number=17, item='atlas', count=2)",
        "wrote Offer(number=17, total=Decimal('49.80'))",
        "wrote SaleReceipt(number=17, paid=Decimal('49.80'))",
    ]


def test_channels_are_opened_in_another_order_than_they_came(start: Start) -> None:
    responder = start("channel_responder.py", "tcp://:0", "order-19", "order-17")
    address = served(responder)
    early = start("channel_initiator.py", address, "order-17")
    assert early.stdout is not None
    assert early.stdout.readline().startswith("wrote Order(number=17")
    late = start("channel_initiator.py", address, "order-19")
    assert said(late)[-1] == "read SaleReceipt(number=19, paid=Decimal('89.40'))"
    assert said(early)[-1] == "read SaleReceipt(number=17, paid=Decimal('49.80'))"
    assert [line for line in said(responder) if line.startswith("read")] == [
        "read Order(number=19, item='compass', count=12) on order-19",
        "read Order(number=17, item='atlas', count=2) on order-17",
    ]


def test_the_examples_travel_with_the_command() -> None:
    """`compoint demo` of an installation reads the very same files."""
    package = Path(compoint.__file__).parent / "cli" / "examples"
    for file in EXAMPLES.glob("*.*"):
        assert (package / file.name).read_bytes() == file.read_bytes()
