"""The floors of the house: imports go down only (the contracts stand in setup.cfg)."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parents[2]


def test_imports_go_down_only() -> None:
    beside = Path(sys.executable).with_name("lint-imports")
    command = str(beside) if beside.exists() else shutil.which("lint-imports")
    if command is None:
        pytest.skip("import-linter is not installed (extra: lint)")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    looked = subprocess.run(
        [command, "--config", str(ROOT / "setup.cfg"), "--no-cache"],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert looked.returncode == 0, looked.stdout[looked.stdout.find("Contracts") :]
    assert "Contracts: 3 kept, 0 broken." in looked.stdout
