"""Processes that tests talk with, line by line."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["HERE", "Process"]

HERE: Final = Path(__file__).resolve().parent
ROOT: Final = HERE.parent.parent


class Process:
    """A script of this folder in an interpreter of its own; its lines are its answers."""

    def __init__(self, script: str, *arguments: object, sempconfig: str = "") -> None:
        environment = dict(os.environ)
        environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(HERE)])
        if sempconfig:
            environment["SEMPCONFIG"] = sempconfig
        command = [sys.executable, "-X", "faulthandler", str(HERE / script), *map(str, arguments)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
            cwd=ROOT,
        )  # fmt: skip
        self.id = self._process.pid

    def say(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def hear(self) -> str:
        """The next line; pytest's own timeout bounds the wait.

        Raises:
            EOFError: the process has ended.
        """
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise EOFError(f"the process ended with {self._process.wait()}")
        return line.rstrip("\n")

    def ask(self, line: str) -> str:
        self.say(line)
        return self.hear()

    def interrupt(self) -> None:
        """Ctrl-C."""
        os.kill(self.id, signal.SIGINT)

    def stop(self) -> None:
        os.kill(self.id, signal.SIGSTOP)
        # The signal takes effect when the process is next seen by the scheduler.
        os.waitid(os.P_PID, self.id, os.WSTOPPED | os.WNOWAIT)

    def go_on(self) -> None:
        if self._process.poll() is None:
            os.kill(self.id, signal.SIGCONT)

    def kill(self) -> None:
        self._process.kill()

    def end(self, within_s: float = 10.0) -> int:
        """Wait for the end of the process; its exit code."""
        return self._process.wait(within_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
