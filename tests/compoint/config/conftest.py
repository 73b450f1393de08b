"""Empty folders to look for settings in, and two ways to read a text as settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from compoint.config import Settings, load
from compoint.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current and an empty home folder, and nothing in the environment."""
    for folder in ("here", "home"):
        (tmp_path / folder).mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("SEMPCONFIG", raising=False)
    return tmp_path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "settings.ini"


@pytest.fixture
def read(file: Path) -> Callable[[str], Settings]:
    def read(text: str) -> Settings:
        file.write_text(text, encoding="utf-8")
        return load(file)

    return read


@pytest.fixture
def faults(file: Path, read: Callable[[str], Settings]) -> Callable[[str], list[str]]:
    """The faults of a text, one line each, without the name of the file in front."""

    def faults(text: str) -> list[str]:
        with pytest.raises(ConfigError) as caught:
            read(text)
        head, *lines = caught.value.what.split("\n  ")
        assert head == (
            "the configuration has a fault:"
            if len(lines) == 1
            else f"the configuration has {len(lines)} faults:"
        )
        assert all(line.startswith(f"{file}: ") for line in lines)
        return [line.removeprefix(f"{file}: ") for line in lines]

    return faults
