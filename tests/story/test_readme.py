"""The README as a newcomer takes it: its programs run, its commands exist, its tables are true."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import compoint
from compoint import COMPOINT_SERVER, AddressError, ComManager, ComPointAddress, ConfigError
from compoint.cli._parser import parser

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")

Program = subprocess.Popen[str]
Start = Callable[[str, str], Program]

#: The address in the programs; the tests put a free port in its place.
PORT = "7100"


def blocks(language: str) -> list[str]:
    """The code blocks of the README in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


PROGRAMS = {
    match[1]: block for block in blocks("python") if (match := re.match(r"# (\S+)\n", block))
}


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a program of the README, as it stands there but for the port."""
    running: list[Program] = []
    package = str(Path(compoint.__file__).parents[1])

    def start(name: str, port: str) -> Program:
        for file, text in PROGRAMS.items():
            (tmp_path / file).write_text(text.replace(PORT, port), encoding="utf-8")
        program = subprocess.Popen(
            [sys.executable, name],
            cwd=tmp_path, env={**os.environ, "PYTHONPATH": package},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        running.append(program)
        return program

    yield start
    for program in running:
        program.kill()
        program.communicate()


def port_of(program: Program) -> str:
    """The port at which a responder says it serves."""
    assert program.stdout is not None
    line = program.stdout.readline()
    match = re.fullmatch(r"serving at tcp://:(\d+)\n", line)
    assert match, line + program.stdout.read()
    return match[1]


def said(program: Program) -> str:
    """What a program printed, when it has ended well."""
    text, _ = program.communicate(timeout=20)
    assert program.returncode == 0, text
    return text


# --- the programs ---------------------------------------------------------------------------


def test_every_program_of_the_readme_is_run_by_a_test() -> None:
    assert len(PROGRAMS) == len(blocks("python"))
    assert set(PROGRAMS) == {
        "responder.py", "initiator.py", "order.py", "channel_responder.py", "channel_initiator.py",
    }  # fmt: skip


def test_the_plain_programs_make_a_deal(start: Start) -> None:
    responder = start("responder.py", "0")
    initiator = start("initiator.py", port_of(responder))
    assert said(initiator) == "2 x atlas: agreed\n"
    assert said(responder) == ""


def test_the_channel_programs_make_a_deal(start: Start) -> None:
    responder = start("channel_responder.py", "0")
    initiator = start("channel_initiator.py", port_of(responder))
    assert said(initiator) == "agreed\n"
    assert said(responder) == "Order(item='atlas', count=2)\n"


# --- the commands ---------------------------------------------------------------------------


def test_trying_and_testing_take_one_line_each() -> None:
    assert [len(block.splitlines()) for block in blocks("sh")] == [1, 1]


def test_each_line_starts_from_nothing_but_python() -> None:
    for line in blocks("sh"):
        assert line.startswith("python3 -m venv .venv && .venv/bin/pip install ")


def test_every_command_the_readme_shows_exists() -> None:
    shown = set(re.findall(r"(?:`|bin/)compoint ([a-z]+)", TEXT))
    known = parser().format_help()
    assert shown == {"demo", "send", "receive", "talk", "status"}
    assert [name for name in shown if not re.search(rf"^ +{name} ", known, re.MULTILINE)] == []


def test_ci_takes_the_test_command_from_the_readme() -> None:
    """The words by which `.ci/run` finds it."""
    match = re.search(r"^<!-- \.ci/run .*\n```sh\n(.*)\n```$", TEXT, re.MULTILINE)
    assert match
    assert match[1].endswith("python -m pytest -q")
    assert r"/^<!-- \.ci\/run /" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


# --- the table of transports ----------------------------------------------------------------


def transports(word: str) -> list[str]:
    """The protocols of the table's rows whose second column starts so."""
    table = TEXT[TEXT.index("| transport |") : TEXT.index("| promise |")]
    rows = re.findall(r"^\| (`.*?) \| (.*) \|$", table, re.MULTILINE)
    return [
        name
        for names, says in rows
        if says.startswith(word)
        for name in re.findall(r"`(\w+)`", names)
    ]


@pytest.mark.parametrize("protocol", transports("yes"))
def test_a_transport_that_works_today_serves(protocol: str) -> None:
    with ComManager.com_point(COMPOINT_SERVER, ComPointAddress(protocol, 0)) as server:
        assert server.address.port > 0


@pytest.mark.parametrize("protocol", [*transports("not yet"), *transports("once")])
def test_a_transport_that_is_not_there_yet_or_not_configured_says_so(protocol: str) -> None:
    with pytest.raises((AddressError, ConfigError), match=protocol):
        ComManager.com_point(COMPOINT_SERVER, ComPointAddress(protocol, 7100))


def test_the_table_names_every_transport() -> None:
    assert transports("yes") == ["tcp", "http", "memory"]
    assert transports("initiators only") == ["https"]
    assert transports("once") == ["mail"]
    assert transports("not yet") == ["tcps"]


def test_the_readme_is_one_screen() -> None:
    assert len(TEXT.splitlines()) <= 125
