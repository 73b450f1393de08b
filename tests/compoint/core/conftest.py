"""The stage for the plays of the protocol machine."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

# The frames and the scene are shared by plays and models; the folder is no package.
_HERE = str(Path(__file__).resolve().parent)
if _HERE not in sys.path:
    sys.path.append(_HERE)

from wire_play import Scene  # noqa: E402 - found by the line above

from compoint.core.connection import Side  # noqa: E402
from compoint.core.greeting import Mode  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def stage() -> Callable[..., Scene]:
    """Makes scenes: `stage(Side.INITIATOR)`."""
    return Scene


@pytest.fixture
def responder() -> Scene:
    """A plain responder that has welcomed its peer; nothing was said behind that."""
    return Scene(Side.RESPONDER).after_greetings()


@pytest.fixture
def initiator() -> Scene:
    """A plain initiator that was welcomed; nothing was said behind that."""
    return Scene(Side.INITIATOR).after_greetings()


@pytest.fixture
def service() -> Scene:
    """A responder on a connection of channels."""
    return Scene(Side.RESPONDER, Mode.CHANNELS).after_greetings()


@pytest.fixture
def caller() -> Scene:
    """An initiator on a connection of channels."""
    return Scene(Side.INITIATOR, Mode.CHANNELS).after_greetings()
