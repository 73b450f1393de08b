"""docs/howto/curl.md as a newcomer takes it: its commands say what the text says they say."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import compoint
from compoint.core.codes import Code
from compoint.http._answers import _STATUS
from compoint.http._content import BYTES, JSON, OURS, TEXT
from compoint.http._gateway_bounds import IDEMPOTENCY_KEY, Bounds
from compoint.limits import MIB

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
HOWTO = (ROOT / "docs" / "howto" / "curl.md").read_text(encoding="utf-8")

BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", HOWTO, re.MULTILINE | re.DOTALL)
#: The port in the text; the tests put a free one in its place.
PORT = "8080"
#: What stands in the text for what differs from run to run.
ANYTHING = "…"


def steps() -> list[tuple[str, str]]:
    """Each block of commands, and what it prints."""
    return [
        (commands, BLOCKS[index + 1][1])
        for index, (language, commands) in enumerate(BLOCKS)
        if language == "sh"
    ]


def program_of() -> str:
    (program,) = [text for language, text in BLOCKS if language == "python"]
    return program


@pytest.fixture
def port(tmp_path: Path) -> Iterator[str]:
    """The responder of the text runs at this port."""
    (tmp_path / "shop.py").write_text(program_of().replace(PORT, "0"), encoding="utf-8")
    package = str(Path(compoint.__file__).parents[1])
    with subprocess.Popen(
        [sys.executable, "shop.py"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": package},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    ) as shop:  # fmt: skip
        try:
            assert shop.stdout is not None
            line = shop.stdout.readline()
            match = re.fullmatch(r"serving at http://:(\d+)/orders\n", line)
            assert match, line + shop.stdout.read()
            yield match[1]
        finally:
            shop.kill()


def fits(printed: str, text: str) -> bool:
    pattern = ".*".join(map(re.escape, text.strip().split(ANYTHING)))
    return re.fullmatch(pattern, printed.strip()) is not None


def test_every_command_is_followed_by_what_it_prints() -> None:
    languages = [language for language, _ in BLOCKS]
    assert languages == ["python", *["sh", "text"] * len(steps())]
    assert len(steps()) > 10


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_commands_print_what_the_text_says(port: str, tmp_path: Path) -> None:
    """All in one folder, one after the other: later ones use files of earlier ones."""
    for commands, text in steps():
        done = subprocess.run(
            ["sh", "-ec", commands.replace(PORT, port)],
            cwd=tmp_path, capture_output=True, text=True, timeout=20, check=False,
        )  # fmt: skip
        assert done.returncode == 0, commands + done.stderr
        assert fits(done.stdout, text), f"{commands}\nprinted\n{done.stdout}\ninstead of\n{text}"


# --- the tables -------------------------------------------------------------------------------


def rows(heading: str) -> list[list[str]]:
    """The rows of the first table behind a heading."""
    section = HOWTO[HOWTO.index(f"\n## {heading}\n") :].split("\n## ")[1]
    lines = [line for line in section.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def test_the_table_of_types_is_complete() -> None:
    named = {re.findall(r"`([^`]+)`", row[0])[0] for row in rows("What a message is")[:6]}
    assert named == {BYTES, TEXT, JSON, *OURS.values()}


def test_every_status_of_a_refusal_is_in_the_table() -> None:
    told = {(int(row[0]), row[1]) for row in rows("When something is wrong")}
    known = {status for status, _ in told}
    assert {*_STATUS.values()} - known == set()
    for code in (Code.NO_SUCH_PATH, Code.WRONG_MODE, Code.STOPPED, Code.EXPIRED):
        assert (_STATUS[code], code.word) in told


def test_every_title_that_the_source_knows_is_in_the_table() -> None:
    told = {word for row in rows("When something is wrong") for word in row[1].split(", ")}
    source = "".join(
        file.read_text(encoding="utf-8")
        for file in (ROOT / "compoint" / "http").glob("_*.py")
        if file.name in {"_answers.py", "_asking.py", "_content.py", "_gateway.py", "_repeats.py",
                         "_talking.py", "_visit.py"}
    )  # fmt: skip
    used = set(re.findall(r"(?:problem_answer|ContentError)\(\s*\d{3}, \"([a-z ]+)\"", source))
    assert len(used) > 8
    assert used - told == {"no answer"}  # a server that does not answer cannot be had on purpose


def test_the_table_of_limits_is_true() -> None:
    bounds = Bounds()
    table = " ".join(" ".join(row) for row in rows("Limits"))
    sizes = [f"{bounds.body_bytes // MIB} MiB", f"{bounds.held_bytes // MIB} MiB",
             f"{bounds.json_bytes // MIB} MiB", f"{bounds.kept_bytes // MIB} MiB"]  # fmt: skip
    counts = [f"{bounds.conversations:,}".replace(",", " "), f"{bounds.writes}"]
    times = [f"{bounds.longest_wait_s:g} s", f"{bounds.idle_s / 60:g} minutes"]
    for each in [*sizes, *counts, *times]:
        assert each in table, each
    assert f"{IDEMPOTENCY_KEY.start} to {IDEMPOTENCY_KEY.stop - 1} characters" in HOWTO
    assert f"at most {bounds.wait_s:g} seconds" in HOWTO
    assert len(fields(Bounds)) == 13  # a new one belongs into the table
