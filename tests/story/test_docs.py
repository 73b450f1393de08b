"""The documents: links lead somewhere, decisions are whole, the example transport keeps the law."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import compoint.manager
from compoint.testing.contract import PointContract, ServerContract

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
DECISIONS = sorted((ROOT / "docs" / "decisions").glob("*.md"))
ARCHITECTURE = (ROOT / "docs" / "ARCHITECTURE.md").read_text(encoding="utf-8")


def name(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()


def prose(file: Path) -> str:
    """A document without its code blocks."""
    return re.sub(
        r"^```.*?^```$", "", file.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL
    )


def anchors(file: Path) -> set[str]:
    """The names by which a document's headings can be linked to."""
    headings = re.findall(r"^#+ (.*)$", prose(file), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


# --- links ------------------------------------------------------------------------------------


def test_the_documents_are_found() -> None:
    assert {"README.md", "CHANGELOG.md", "docs/ARCHITECTURE.md", "docs/glossary.md"} <= set(
        map(name, DOCUMENTS)
    )


@pytest.mark.parametrize("file", DOCUMENTS, ids=name)
def test_every_link_leads_somewhere(file: Path) -> None:
    dead = []
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(file)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        there = (file.parent / path).resolve() if path else file
        if not there.exists() or (anchor and anchor not in anchors(there)):
            dead.append(target)
    assert dead == []


def test_every_file_the_architecture_names_is_there() -> None:
    named = re.findall(r"`((?:\w+/)*\w+\.py)`", ARCHITECTURE)
    parts = {file.name for file in ROOT.rglob("*.py") if ".venv" not in file.parts}
    folders = [ROOT, ROOT / "compoint", ROOT / "compoint" / "drive", ROOT / "compoint" / "core"]
    lost = [
        path for path in named
        if not any((folder / path).is_file() for folder in folders)
        and ("/" in path or path not in parts)
    ]  # fmt: skip
    assert named
    assert lost == []


# --- floors -------------------------------------------------------------------------------------


def floors(lines: list[str]) -> list[str]:
    """The packages of each floor with what stands between them, under their full names."""
    firsts = [re.split(r"\s{2,}", line.strip())[0] for line in lines]
    return [re.sub(r"(?<= )\.", "compoint.", first) for first in firsts]


def test_the_floors_are_those_that_are_checked() -> None:
    section = ARCHITECTURE[ARCHITECTURE.index("## Floors") :]
    drawn = section.split("```")[1].strip().splitlines()
    setup = (ROOT / "setup.cfg").read_text(encoding="utf-8")
    checked = setup[setup.index("layers =") :].split("\n\n")[0].splitlines()[1:]
    assert floors(drawn) == floors(checked)


# --- decisions ------------------------------------------------------------------------------


@pytest.mark.parametrize("file", DECISIONS, ids=name)
def test_a_decision_has_a_date_a_rule_a_reason_and_what_would_change_it(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert text.startswith(f"# {file.name[:4]}: ")
    parts = re.findall(
        r"^(Date: \d{4}-\d\d-\d\d|\*\*Rule\.\*\* \S|\*\*Reason\.\*\* \S"
        r"|\*\*What would change it\.\*\* \S)",
        text,
        re.MULTILINE,
    )
    starts = ["Date", "**Rule", "**Reason", "**What"]
    assert [part.startswith(start) for part, start in zip(parts, starts, strict=True)] == [True] * 4


def test_decisions_are_numbered_without_a_gap() -> None:
    assert [int(file.name[:4]) for file in DECISIONS] == list(range(1, len(DECISIONS) + 1))
    assert DECISIONS


# --- the glossary ---------------------------------------------------------------------------


def test_the_glossary_is_in_order() -> None:
    text = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    words = re.findall(r"^\| ([^|]+?) \|", text, re.MULTILINE)[1:]
    assert len(words) > 50
    assert words == sorted(words, key=str.lower)


# --- the example transport --------------------------------------------------------------------


def example(file: str) -> str:
    """A code block of the architecture that begins with its file's name."""
    match = re.search(rf"^```python\n(# {file}\n.*?)^```$", ARCHITECTURE, re.MULTILINE | re.DOTALL)
    assert match
    return match[1]


@pytest.fixture(scope="module", autouse=True)
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The example transport, as if its package were installed."""
    folder = tmp_path_factory.mktemp("site")
    for file in ("unix_transport.py", "test_unix_transport.py"):
        (folder / file).write_text(example(file), encoding="utf-8")
    about = folder / "unix_transport-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: unix-transport\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(
        "[compoint.transports]\nunix = unix_transport:UnixOpener\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        patch.setattr(compoint.manager.ComManager, "_openers", {})
        patch.setattr(compoint.manager.ComManager, "_states", {})
        yield folder
        sys.modules.pop("unix_transport", None)


def test_the_example_transport_is_offered_as_the_text_says() -> None:
    block = re.search(r"^compoint\.transports =\n    unix = (\S+)$", ARCHITECTURE, re.MULTILINE)
    assert block
    assert [each.value for each in entry_points(group="compoint.transports", name="unix")] == [
        block[1]
    ]


class TestExamplePoints(PointContract):
    protocol = "unix"


class TestExampleServers(ServerContract):
    protocol = "unix"


def test_the_example_test_is_the_one_that_runs_here(installed: Path) -> None:
    """As a user runs it, but only to see that pytest finds the suite."""
    found = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider",
         "-c", str(ROOT / "setup.cfg"), "--rootdir", str(installed),
         str(installed / "test_unix_transport.py")],
        capture_output=True, text=True, timeout=50, check=False, cwd=ROOT,
    )  # fmt: skip
    assert "TestUnixPoints::" in found.stdout, found.stdout + found.stderr
    assert "TestUnixServers::" in found.stdout
