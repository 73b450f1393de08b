"""The scenes beside these tests can be imported by name."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

from typing import TYPE_CHECKING

from rude import SCENES, Scene

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(params=sorted(SCENES))
def scene(request: pytest.FixtureRequest) -> Iterator[Scene]:
    """A scripted peer in each of the four places it can have."""
    with SCENES[request.param]() as scene:
        yield scene
        scene.check_others()


@pytest.fixture(params=["channel responder", "channel initiator"])
def channels(request: pytest.FixtureRequest) -> Iterator[Scene]:
    """The same where it has two channels."""
    with SCENES[request.param]() as scene:
        yield scene
        scene.check_others()
