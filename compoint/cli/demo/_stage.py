"""Puts each role of the demo into a process of its own, or into a thread of this one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from abc import ABC, abstractmethod
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Final, Self

import compoint
from compoint.cli._faults import CommandFailed
from compoint.cli.demo._roles import ROLES, Answer, perform

__all__ = ["Actor", "Stage"]

#: How long a process may take to end when nobody tells it what to do any more.
_END_S: Final = 2.0


class Actor(ABC):
    """Somebody on the stage: does one thing at a time."""

    def __init__(self, name: str) -> None:
        self.name = name

    def do(self, verb: str, **arguments: Any) -> Answer:
        """Do something and tell what came of it."""
        self.start(verb, **arguments)
        return self.result()

    @abstractmethod
    def start(self, verb: str, **arguments: Any) -> None:
        """Begin to do something; `result` is to be called before the next."""

    def result(self) -> Answer:
        """Wait for what came of it.

        Raises:
            CommandFailed: it went wrong, or the process is gone.
        """
        answer = self._answer()
        if "error" in answer:
            raise CommandFailed(f"{self.name}: {answer['error']}")
        return answer

    @property
    @abstractmethod
    def place(self) -> str:
        """Where it plays, for people."""

    @abstractmethod
    def _answer(self) -> Answer: ...

    @abstractmethod
    def end(self) -> None:
        """Off the stage, whatever it is doing."""


class _Process(Actor):
    def __init__(self, name: str, role: str) -> None:
        super().__init__(name)
        # -P and the path: the package of this process, whatever lies in the current folder.
        root = str(Path(compoint.__file__).parents[1])
        path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
        self._process = subprocess.Popen(  # noqa: S603 - our own module, a role of our own
            [sys.executable, "-P", "-m", "compoint.cli.demo", role],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8",
            env={**os.environ, "PYTHONPATH": path},
            # Ctrl-C is for the demo; it ends the others itself.
            start_new_session=True,
        )  # fmt: skip

    def start(self, verb: str, **arguments: Any) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(f"{json.dumps({'verb': verb, 'arguments': arguments})}\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._gone() from None

    def _answer(self) -> Answer:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise self._gone()
        answer: Answer = json.loads(line)
        return answer

    def _gone(self) -> CommandFailed:
        code = self._process.wait()
        how = f"by signal {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
        return CommandFailed(f"{self.name}: its {self.place} has ended {how}")

    @property
    def place(self) -> str:
        return f"process {self._process.pid}"

    def end(self) -> None:
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        with suppress(BrokenPipeError):
            process.stdin.close()
        try:
            process.wait(_END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


class _Thread(Actor):
    place = "a thread"

    def __init__(self, name: str, role: str) -> None:
        super().__init__(name)
        self._role = ROLES[role]()
        self._wishes: SimpleQueue[tuple[str, Answer] | None] = SimpleQueue()
        self._answers: SimpleQueue[Answer] = SimpleQueue()
        # A daemon: after Ctrl-C nobody waits for what it is waiting for.
        threading.Thread(target=self._play, name=f"demo {name}", daemon=True).start()

    def _play(self) -> None:
        while (wish := self._wishes.get()) is not None:
            self._answers.put(perform(self._role, *wish))

    def start(self, verb: str, **arguments: Any) -> None:
        self._wishes.put((verb, arguments))

    def _answer(self) -> Answer:
        return self._answers.get()

    def end(self) -> None:
        self._wishes.put(None)


class Stage:
    """All actors of one demo; leaving its block ends them."""

    def __init__(self, protocol: str) -> None:
        # A memory address reaches no other process.
        self._kind = _Thread if protocol == "memory" else _Process
        self._actors: list[Actor] = []

    def enter(self, name: str, role: str) -> Actor:
        """Somebody comes onto the stage."""
        actor = self._kind(name, role)
        self._actors.append(actor)
        return actor

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        for actor in reversed(self._actors):
            actor.end()
