"""The suite of promises over further ways: minutes of tests, run with COMPOINT_TESTS=all."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent.parent
sys.path.extend(str(TESTS / folder) for folder in ("http", "contract", "mail"))

from receiver_kit import Mailbox


@pytest.fixture
def mailbox(tmp_path: Path) -> Mailbox:
    return Mailbox(tmp_path)


# `.ci/run` asks for them; who changes the HTTP transport should, too.
collect_ignore_glob = [] if os.environ.get("COMPOINT_TESTS") == "all" else ["test_*.py"]
