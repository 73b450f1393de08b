"""Ctrl-C at any instruction (zeromq/pyzmq #64, googleapis/google-cloud-python #7694)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

TURNS = 25


def test_an_interrupt_in_the_middle_of_work_leaves_a_point_usable_or_cut() -> None:
    program = Path(__file__).with_name("interrupted.py")
    done = subprocess.run(
        [sys.executable, str(program), str(TURNS)],
        capture_output=True, text=True, timeout=50, check=False,
    )  # fmt: skip
    assert done.stdout == f"{TURNS} well, strange: [], blamed: []\n", done.stdout + done.stderr
