"""Two mailboxes, and processes at work for them that can be killed."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

import world_kit
from receiver_kit import PROGRAM, ROOT
from world_kit import GOOD, Weather, mail_world

from compoint.testing import eventually
from compoint.testing._settings import sempconfig_text
from mail._store import Store

#: How long anything may take on a machine that is busy with other things.
PATIENCE_S: Final = 60.0
PORT: Final = 7100

_LOOK_S: Final = 0.02
_PROGRAMS: Final = Path(__file__).with_name("kill_programs.py")


# --- processes ----------------------------------------------------------------------------


class Process:
    """One that was forked for a job."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.has_ended = threading.Event()
        self.status = 0

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        assert self.wait() == -signal.SIGKILL

    def stop(self) -> int:
        """Let it end in good order; returns its exit status."""
        if not self.has_ended.is_set():
            os.kill(self.pid, signal.SIGTERM)
        return self.wait()

    def wait(self, timeout_s: float = PATIENCE_S) -> int:
        assert self.has_ended.wait(timeout_s), f"the process {self.pid} does not end"
        return self.status


class Nursery:
    """Starts processes of `kill_programs`, and ends them all in the end."""

    def __init__(self, complaints: Path) -> None:
        self._complaints = complaints
        with complaints.open("wb") as errors:
            self._forker = subprocess.Popen(
                [sys.executable, "-P", str(_PROGRAMS)], text=True, stdin=subprocess.PIPE,
                stdout=subprocess.PIPE, stderr=errors, start_new_session=True,
                env=os.environ | {"PYTHONPATH": str(ROOT)},
            )  # fmt: skip
        self._processes: dict[int, Process] = {}
        self._started: queue.Queue[Process] = queue.Queue()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._listen, name="nursery")
        self._thread.start()

    def _listen(self) -> None:
        assert self._forker.stdout is not None
        for line in self._forker.stdout:
            what, *numbers = line.split()
            if what == "started":
                process = Process(int(numbers[0]))
                self._processes[process.pid] = process
                self._started.put(process)
            else:
                process = self._processes.pop(int(numbers[0]))
                process.status = int(numbers[1])
                process.has_ended.set()

    def start(self, job: dict[str, Any]) -> Process:
        assert self._forker.stdin is not None
        with self._lock:
            print(json.dumps(job), file=self._forker.stdin, flush=True)
            return self._started.get(timeout=PATIENCE_S)

    def close(self) -> None:
        """Ends what is left; fails when a process has complained."""
        assert self._forker.stdin is not None
        assert self._forker.stdout is not None
        self._forker.stdin.close()
        self._forker.wait(PATIENCE_S)
        self._thread.join()
        self._forker.stdout.close()
        assert "Traceback" not in self._complaints.read_text()


# --- mailboxes ----------------------------------------------------------------------------


class Box:
    """One mailbox: its settings, and what the programs at work for it have noted."""

    def __init__(self, way: world_kit.World, name: str, folder: Path) -> None:
        self.mailbox = f"{name}@kill.test"
        self.folder = folder / name
        self.folder.mkdir()
        self.spool = self.folder / "spool"
        self.config = self.folder / "_sempconfig"
        self.notes_file = self.folder / "notes"
        times = {"rtoMin": "0.3 s", "ackDelay": "0.05 s"}
        settings = way.box(self.mailbox, self.folder, **times)
        self.config.write_text(sempconfig_text({"mail": settings}))

    @property
    def address(self) -> str:
        return f"mail:{self.mailbox}:{PORT}"

    def notes(self, *kinds: str) -> list[list[Any]]:
        """All, or those of some kinds; fails when a program has failed."""
        if not self.notes_file.exists():
            return []
        # The last line may not be whole yet.
        lines = self.notes_file.read_text().split("\n")[:-1]
        notes = [json.loads(line) for line in lines]
        failed = [note[1] for note in notes if note[0] == "error"]
        assert not failed, "\n".join(failed)
        return [note for note in notes if not kinds or note[0] in kinds]

    def has_noted(self, *kinds: str) -> bool:
        return bool(self.notes(*kinds))

    @property
    def conversations(self) -> int:
        """How many are kept."""
        with Store.peek(str(self.spool)) as view:
            return len(view.conversations)


class ReceiverBox:
    """A mailbox into which mails come by the receiver program. Some of these are killed, and
    their mails are tried again, as mail systems do."""

    def __init__(self, box: Box, chance: random.Random, kill: float) -> None:
        self._config = box.config
        self._chance = chance
        self._kill = kill
        #: How many were killed before they had ended.
        self.killed = 0
        self._mails: queue.Queue[bytes | None] = queue.Queue()
        self._thread = threading.Thread(target=self._run, name="deliveries")
        self._thread.start()

    def deliver(self, mail: bytes) -> None:
        self._mails.put(mail)

    def stop(self) -> None:
        self._mails.put(None)
        self._thread.join()

    def _run(self) -> None:
        while mail := self._mails.get():
            if self._receive(mail) != 0:
                self._mails.put(mail)

    def _receive(self, mail: bytes) -> int:
        program = subprocess.Popen(
            [*PROGRAM, "--config", str(self._config)], stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL, env=os.environ | {"PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        assert program.stdin is not None
        with contextlib.suppress(BrokenPipeError), program.stdin:
            program.stdin.write(mail)
        if self._chance.random() < self._kill:
            try:
                program.wait(self._chance.uniform(0.0, 0.03))
            except subprocess.TimeoutExpired:
                program.kill()
        code = program.wait(PATIENCE_S)
        self.killed += code == -signal.SIGKILL
        return code


# --- two at work --------------------------------------------------------------------------


@dataclass
class Two:
    """An initiator's and a responder's mailbox, and the processes at work for them."""

    nursery: Nursery
    way: world_kit.World
    initiator: Box
    responder: Box
    #: How many messages each side says, and how many the initiator says at a time.
    total: int
    lead: int = 2
    is_channel: bool = False
    #: By mailboxes.
    running: dict[str, Process] = field(default_factory=dict)

    def start(self, box: Box, **job: Any) -> None:
        """Start the program of a mailbox, for the first time or again."""
        program = "initiate" if box is self.initiator else "respond"
        self.start_other(box, program, **job)

    def start_other(self, box: Box, program: str, **job: Any) -> None:
        self.running[box.mailbox] = self.nursery.start(
            {
                "program": program, "me": box.mailbox, "config": str(box.config),
                "spool": str(box.spool), "notes": str(box.notes_file),
                "server": self.responder.address, "total": self.total, "lead": self.lead,
                "is_channel": self.is_channel, "was_closing": box.has_noted("closing"),
            } | job
        )  # fmt: skip

    def kill(self, box: Box) -> None:
        self.running.pop(box.mailbox).kill()

    def until(self, claim: Callable[[], object], box: Box) -> bool:
        """Wait until `claim()` is true, or the process of a mailbox has ended; whether it has."""
        has_ended = self.running[box.mailbox].has_ended
        # Looking costs both processes time.
        eventually(lambda: has_ended.wait(_LOOK_S) or claim(), PATIENCE_S)
        return has_ended.is_set()

    @property
    def is_over(self) -> bool:
        """The conversation has ended, nothing of it is kept, and both programs have noticed."""
        done, there = self.initiator.notes("done"), self.responder.notes("open")
        pids = [self.running[box.mailbox].pid for box in (self.initiator, self.responder)]
        return (
            [note[-1][1] for note in (done, there) if note] == pids
            and not self.initiator.conversations
            and not self.responder.conversations
        )

    def finish(self) -> None:
        """Wait until the conversation has ended on both sides, and end the programs."""
        assert not self.until(lambda: self.is_over, self.responder), self.responder.notes()
        self.stop()

    def stop(self, *, may_be_killed: bool = False) -> None:
        """End the programs in good order."""
        good = {0, -signal.SIGKILL} if may_be_killed else {0}
        statuses = {self.running.popitem()[1].stop() for _ in [*self.running]}
        assert statuses <= good, statuses

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        for process in self.running.values():
            if not process.has_ended.is_set():
                process.kill()


@contextlib.contextmanager
def two_at_work(
    nursery: Nursery, folder: Path, total: int, weather: Weather = GOOD, **options: Any
) -> Iterator[Two]:
    with mail_world(weather) as way:
        boxes = [Box(way, name, folder) for name in ("ann", "bob")]
        with Two(nursery, way, *boxes, total, **options) as two:
            yield two


def lost_reads(box: Box, total: int) -> int:
    """Check what a program has noted over all its lives: every message once, in order.

    Returns how many messages were marked as read when it was killed, and that no read had
    returned; fails where that could be more than one for each kill.
    """
    read = wrote = lost = 0
    for kind, *rest in box.notes("begin", "wrote", "read"):
        if kind == "begin" and rest == [0, 0] and read:
            pass  # the initiator had closed and could not know: a conversation without messages
        elif kind == "begin":
            assert rest[0] - wrote in {0, 1}, box.notes()
            assert rest[1] - read in {0, 1}, box.notes()
            lost += rest[1] - read
            wrote, read = rest
        elif kind == "wrote":
            wrote += 1
            assert rest == [wrote], box.notes()
        else:
            read += 1
            assert rest == [read], box.notes()
    # Killed at its last message, it may have none left to begin again with.
    assert read in {total, total - 1}, box.notes()
    assert wrote in {total, total - 1}, box.notes()
    return lost + total - read
