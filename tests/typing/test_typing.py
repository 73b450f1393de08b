"""A type checker that reads a program on top of compoint knows what the program gets."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parents[2]


def test_the_promised_types_are_those_a_checker_sees() -> None:
    if importlib.util.find_spec("mypy") is None:
        pytest.skip("mypy is not installed (extra: lint)")
    program = Path(__file__).with_name("promised_types.py")
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", str(program)],
        env={**os.environ, "MYPYPATH": str(ROOT)}, cwd=ROOT,
        capture_output=True, text=True, timeout=55, check=False,
    )  # fmt: skip
    assert checked.returncode == 0, checked.stdout + checked.stderr
