"""The suite of promises over further ways: minutes of tests, run with COMPOINT_TESTS=all."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "contract"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "http"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "mail"))

from receiver_kit import Mailbox

# `.ci/run` asks for them; who changes the HTTP transport should, too.
collect_ignore_glob = [] if os.environ.get("COMPOINT_TESTS") == "all" else ["test_*.py"]


@pytest.fixture
def mailbox(tmp_path: Path) -> Mailbox:
    return Mailbox(tmp_path)
