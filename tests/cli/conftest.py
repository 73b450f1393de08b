"""The real command in a process of its own, on pipes or on a terminal of its own."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import compoint

# The kits beside these tests, and the mail servers of the tests of mail.
sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(1, str(Path(__file__).resolve().parents[1] / "mail"))

from work_kit import Work

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(compoint.__file__).parents[1]
COMMAND = [sys.executable, "-P", "-m", "compoint.cli"]


class Run:
    """One run of the command."""

    def __init__(
        self, arguments: tuple[object, ...], *, terminal: bool, before: str = "", **options: Any
    ) -> None:
        """`before` is a line for the shell that becomes the command."""
        self.said = ""
        self.ours = -1
        script = f'{before}\nexec "$@"'
        options["env"] = os.environ | {"PYTHONPATH": str(ROOT), "TERM": "xterm", "COLUMNS": "100"}
        if terminal:
            self.ours, theirs = pty.openpty()
            # The terminal that the first process of a session opens is the one whose
            # Ctrl-C becomes a signal.
            script += ' <"$0" >"$0" 2>&1'
            options |= {"stdin": theirs, "stdout": theirs, "stderr": theirs}
            name = os.ttyname(theirs)
        else:
            pipe = subprocess.PIPE
            options = {"stdin": pipe, "stdout": pipe, "stderr": pipe} | options
            name = "sh"
        self.process = subprocess.Popen(
            ["sh", "-c", script, name, *COMMAND, *map(str, arguments)],
            start_new_session=True, **options,
        )  # fmt: skip
        if terminal:
            os.close(theirs)
            self._sources = [self.ours]
        else:
            piped = (self.process.stdout, self.process.stderr)
            self._sources = [stream.fileno() for stream in piped if stream is not None]

    def type(self, text: str) -> None:
        """What a person types, or what comes through the pipe."""
        if self.ours >= 0:
            os.write(self.ours, text.encode())
        else:
            assert self.process.stdin is not None
            self.process.stdin.write(text.encode())
            self.process.stdin.flush()

    def says(self, what: str, within_s: float = 10.0) -> re.Match[str]:
        """Wait until the command has said it (a regular expression)."""
        ends_at = time.monotonic() + within_s
        while (match := re.search(what, self.said)) is None:
            is_more = self._listen(ends_at - time.monotonic())
            assert is_more or re.search(what, self.said), f"{what!r} is not in:\n{self.said}"
        return match

    def ends(self, within_s: float = 10.0) -> int:
        """Wait for the end of the command; returns its exit code."""
        if self.process.stdin is not None and not self.process.stdin.closed:
            self.process.stdin.close()
        ends_at = time.monotonic() + within_s
        while self._listen(ends_at - time.monotonic()):
            pass
        assert not self._sources, f"it has not ended within {within_s} s:\n{self.said}"
        code = self.process.wait(within_s)
        assert "Traceback" not in self.said, self.said
        return code

    def _listen(self, timeout_s: float) -> bool:
        """Hear more; False if the time is over or the command has closed its outputs."""
        if not self._sources:
            return False
        ready, _, _ = select.select(self._sources, [], [], max(0.0, timeout_s))
        for source in ready:
            try:
                data = os.read(source, 65536)
            except OSError:  # so a terminal says that its other side is gone
                data = b""
            if not data:
                self._sources.remove(source)
            self.said += data.decode(errors="replace")
        return bool(ready and self._sources)

    def finish(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()
        if self.ours >= 0:
            os.close(self.ours)


@pytest.fixture
def command(tmp_path: Path) -> Iterator[Callable[..., Run]]:
    """Starts the command: `command("status", address)`; `terminal=True`: on a terminal."""
    runs: list[Run] = []

    def start(*arguments: object, terminal: bool = False, **options: Any) -> Run:
        runs.append(Run(arguments, terminal=terminal, **{"cwd": tmp_path} | options))
        return runs[-1]

    yield start
    for run in runs:
        run.finish()


@pytest.fixture
def receiver(command: Callable[..., Run], tmp_path: Path) -> Callable[..., tuple[Run, str]]:
    """Starts `compoint receive` into the folder `into`; returns it and its address."""

    def start(*arguments: object, **options: Any) -> tuple[Run, str]:
        into = tmp_path / "into"
        into.mkdir(exist_ok=True)
        run = command(
            "receive", "tcp://:0", "--channel", "x", "--into", into, *arguments, **options
        )
        return run, run.says(r"receiving at (tcp://:\d+),")[1]

    return start


@pytest.fixture
def work(spool: Path) -> Iterator[Work]:
    """The process that works with the mailbox of a spool folder, which the test names."""
    work = Work(spool)
    yield work
    work.store.close()
