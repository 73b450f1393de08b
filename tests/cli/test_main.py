"""The door of the command: help, exit codes, and no traceback that nobody asked for."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import compoint
from compoint.cli._parser import parser
from compoint.testing import eventually

Start = Callable[..., Any]

ROOT = Path(compoint.__file__).parents[1]


def test_the_version_is_that_of_the_package(command: Start) -> None:
    run = command("--version")
    assert run.ends() == 0
    assert run.said == f"compoint {compoint.__version__}\n"


def test_help_names_every_subcommand_and_exit_code(command: Start) -> None:
    run = command("--help")
    assert run.ends() == 0
    commands = ("demo", "send", "receive", "talk", "status", "mail")
    for word in (*commands, "exit codes:", "130 for Ctrl-C"):
        assert word in run.said


@pytest.mark.parametrize("name", ["demo", "send", "receive", "talk", "status", "mail"])
def test_every_subcommand_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        parser().parse_args([name, "--help"])
    assert end.value.code == 0
    assert f"usage: compoint {name}" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", ["--help", "status --help", "mail install --help"])
def test_help_loads_nothing_heavy(arguments: str) -> None:
    script = (
        "import sys; sys.argv[0] = 'compoint'\n"
        "from compoint.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        "heavy = {'rich', 'msgspec', 'socket', 'channel', 'subprocess', 'asyncio', 'json'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-S", "-c", script, *arguments.split()],
        env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stderr == "[]\n"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["dance"], "invalid choice: 'dance'"),
        (["status"], "the following arguments are required: ADDRESS"),
        (["status", "tcp:/nowhere"], "argument ADDRESS: "),
        (["status", "memory://:7100"], "reaches nobody outside one process"),
        (["send", "a", "tcp://:7100"], "the following arguments are required: --channel"),
        (["send", "a", "tcp://:7100", "--channel", "x", "--wait", "soon"], "'soon' is no number"),
        (["send", "a", "tcp://:7100", "--channel", "x", "--wait", "nan"], "'nan' is no number"),
        (["talk", "tcp://:7100", "--channel", "x" * 2000], "a correlator of 2000 bytes"),
        (["talk", "tcp://:7100", "--channel", "\udcff"], "is no valid text"),
        (["talk", "tcp://:7100", "--chan", "x"], "unrecognized arguments: --chan"),
    ],
)
def test_a_wrong_argument_exits_with_2_and_says_why(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        parser().parse_args(arguments)
    assert end.value.code == 2
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["talk", "tcp://:0"], "has port 0"),
        (["talk", "pigeon://:7100", "--serve"], "no transport speaks the protocol 'pigeon'"),
    ],
)
def test_wrong_usage_that_is_found_later_exits_with_2_as_well(
    command: Start, arguments: list[str], sentence: str
) -> None:
    run = command(*arguments)
    assert run.ends() == 2
    assert sentence in run.said
    assert run.said.count("\n") == 1


@pytest.mark.parametrize("place", ["before", "behind"])
def test_a_configuration_with_faults_is_wrong_usage_and_each_fault_has_a_line(
    command: Start, tmp_path: Path, place: str
) -> None:
    (tmp_path / "settings").write_text("[compoint]\nbacklog = many\nwindow = wide\n")
    option = ["--config", "settings"]
    status = ["status", "tcp://:7100"]
    run = command(*option, *status) if place == "before" else command(*status, *option)
    assert run.ends() == 2
    assert "2 faults" in run.said
    assert run.said.count("settings: ") == 2


def test_a_configuration_is_used(command: Start, tmp_path: Path) -> None:
    (tmp_path / "settings").write_text("[compoint]\nmaxMessage = 64 KiB\n")
    (tmp_path / "into").mkdir()
    (tmp_path / "a").write_bytes(bytes(200_000))
    receive = command(
        "receive", "tcp://:0", "--channel", "x", "--into", "into", "--config", "settings"
    )
    address = receive.says(r"at (tcp://:\d+),")[1]
    send = command("send", "a", address, "--channel", "x")
    assert send.ends() == 1
    assert receive.ends() == 1
    send.says("the peer takes 65536")


def test_only_debug_shows_a_traceback(command: Start) -> None:
    run = command("--debug", "send", "missing", "tcp://:7100", "--channel", "x")
    run.process.wait()
    run.says("Traceback .most recent call last.")
    run.said = ""  # what `ends` would complain about
    run.process.stdin.close()


@pytest.mark.parametrize(
    ("arguments", "codes"),
    [
        # argparse itself passes over an output that is not buffered and cannot be written.
        (["--help"], {0, 1}),
        (["demo", "--protocol", "memory", "--file", __file__], {1}),
    ],
    ids=["help", "demo"],
)
def test_a_reader_that_leaves_is_no_traceback(
    command: Start, arguments: list[str], codes: set[int]
) -> None:
    ours, theirs = os.pipe()
    os.close(ours)
    run = command(*arguments, stdout=theirs)
    os.close(theirs)
    assert run.ends() in codes
    assert run.said == ""


def test_closed_standard_streams_are_no_traceback(command: Start) -> None:
    run = command("demo", "--protocol", "memory", "--file", __file__, before="exec >&- <&-")
    assert run.ends() == 0
    assert run.said == ""


def test_a_terminal_of_few_letters_is_no_reason_to_fail(command: Start, tmp_path: Path) -> None:
    name = "Übersicht"
    run = command(
        "receive", "tcp://:0", "--channel", name, "--into", ".",
        before="export PYTHONIOENCODING=ascii",
    )  # fmt: skip
    run.says(r"channel \\xdcbersicht")


def test_a_signal_that_is_ignored_stays_ignored(command: Start, tmp_path: Path) -> None:
    run = command("receive", "tcp://:0", "--channel", "x", "--into", ".", before="trap '' HUP")
    run.says("receiving at")
    place = Path(f"/proc/{run.process.pid}/status")
    if not place.exists():
        pytest.skip("the system does not tell which signals a process ignores")
    eventually(lambda: "SigIgn" in place.read_text())
    ignored = next(line for line in place.read_text().splitlines() if line.startswith("SigIgn"))
    assert int(ignored.split()[1], 16) & 1
