"""The programs that are killed, and the process that forks them.

Run as a program it reads jobs, one in each line, and forks a process for each: so a program
starts in milliseconds, and everything it knows comes from the disk. It answers by lines
`started PID` and `ended PID STATUS`.

Each program notes what has happened to it in a file before it goes on; what a killed process
had noted is there. It starts from what `point.statistics()` says, as a user's would.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import resource
import select
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from typing import Any, Final

from channel import Channel, ChannelOptions
from compoint import (
    COMPOINT_INITIATOR,
    COMPOINT_SERVER,
    BusyError,
    ComManager,
    ComPoint,
    ComPointAddress,
    ComPointException,
    EndOfMessages,
)
from mail._dropbox import Dropbox
from mail._store import Store
from mail._submit import Submission

Job = dict[str, Any]

NAME: Final = "talk"
#: How long anything may take on a machine that is busy with other things.
PATIENCE_S: Final = 60.0


class Notes:
    """What has happened to a program: each line is with the system when `add` returns."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def add(self, *note: object) -> None:
        os.write(self._file, f"{json.dumps(note)}\n".encode())


# --- the conversation -------------------------------------------------------------------


def _lead(point: ComPoint, job: Job, notes: Notes) -> None:
    """Say `total` messages, each when all but `lead` of the answers before it are here."""
    seen = point.statistics()
    written, read = seen.written, seen.read
    notes.add("begin", written, read)
    total = job["total"]
    while read < total:
        while written < min(total, read + job["lead"]):
            written += 1
            point.write([job["me"], written], timeout=PATIENCE_S)
            notes.add("wrote", written)
        read = _read(point, notes)


def _follow(point: ComPoint, job: Job, notes: Notes) -> None:
    """Answer each message, until the peer has closed."""
    seen = point.statistics()
    written, read = seen.written, seen.read
    notes.add("begin", written, read)
    with contextlib.suppress(EndOfMessages):
        while True:
            while written < read:
                written += 1
                point.write([job["me"], written], timeout=PATIENCE_S)
                notes.add("wrote", written)
            read = _read(point, notes)
    notes.add("end", read)


def _read(point: ComPoint, notes: Notes) -> int:
    message = point.read(timeout=PATIENCE_S)
    notes.add("read", message[1])
    return point.statistics().read


def _initiate(job: Job, notes: Notes) -> None:
    with _mailbox_open():
        point: ComPoint
        address = ComPointAddress.parse(job["server"])
        if job["is_channel"]:
            point = Channel.open_initiator_channel(address, ChannelOptions(resume=True), NAME)
        else:
            point = ComManager.com_point(COMPOINT_INITIATOR, address, resume=NAME)
        if job["was_closing"] and not point.statistics().written:
            # The one of this name had been closed: this is another one.
            notes.add("again")
        else:
            _lead(point, job, notes)
            notes.add("closing")
        receipt = point.close(timeout=PATIENCE_S)
        notes.add("done", os.getpid(), receipt.reason)
        _wait_for_the_end()


def _respond(job: Job, notes: Notes) -> None:
    address = ComPointAddress.parse(job["server"])
    if job["is_channel"]:
        with Channel.start_service_point_thread(address) as service:
            notes.add("open", os.getpid())
            while True:
                with service.open_responder_channel(correlator=NAME) as channel:
                    _follow(channel, job, notes)
    with ComManager.com_point(COMPOINT_SERVER, address) as server:
        notes.add("open", os.getpid())
        while True:
            with server.accept() as point:
                _follow(point, job, notes)


def _hold_open(job: Job, notes: Notes) -> None:
    """Any program of the mailbox."""
    with _mailbox_open():
        notes.add("here")
        _wait_for_the_end()


def _say_and_wait(job: Job, notes: Notes) -> None:
    """An initiator whose conversation has no name."""
    with _mailbox_open():
        point = ComManager.com_point(COMPOINT_INITIATOR, ComPointAddress.parse(job["server"]))
        for number in range(1, job["total"] + 1):
            point.write([job["me"], number])
            notes.add("wrote", number)
        _wait_for_the_end()


def _listen_until_lost(job: Job, notes: Notes) -> None:
    """A responder that reads on until the conversation has ended in one way or the other."""
    with (
        ComManager.com_point(COMPOINT_SERVER, ComPointAddress.parse(job["server"])) as server,
        server.accept() as point,
    ):
        try:
            while True:
                _read(point, notes)
        except ComPointException as error:
            notes.add("raised", type(error).__name__, str(error))
        _wait_for_the_end()


def _fill_the_disk(job: Job, notes: Notes) -> None:
    """An initiator whose disk is full while it speaks; with room again it goes on."""
    address = ComPointAddress.parse(job["server"])
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    with _mailbox_open():
        point = ComManager.com_point(COMPOINT_INITIATOR, address, resume=NAME)
        log = os.path.join(job["spool"], "conversations.sqlite-wal")
        for _ in range(job["times"]):
            goal = point.statistics().written + 20
            resource.setrlimit(resource.RLIMIT_FSIZE, (os.path.getsize(log) + 20_000, most))
            with contextlib.suppress(ComPointException):
                for number in itertools.count(point.statistics().written + 1):
                    _write_or_note(point, job, notes, number)
            resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
            with contextlib.suppress(ComPointException):
                point.close(timeout=0)
            point = _taken_up_again(address)
            notes.add("begin", point.statistics().written, point.statistics().read)
            for number in range(point.statistics().written + 1, goal + 1):
                _write_or_note(point, job, notes, number)
        receipt = point.close(timeout=PATIENCE_S)
        notes.add("done", os.getpid(), receipt.written, receipt.reason)
        _wait_for_the_end()


def _taken_up_again(address: ComPointAddress) -> ComPoint:
    """Behind a close: the library's own thread may be at that point for a moment more."""
    while True:
        with contextlib.suppress(BusyError):
            return ComManager.com_point(COMPOINT_INITIATOR, address, resume=NAME)


def _write_or_note(point: ComPoint, job: Job, notes: Notes, number: int) -> None:
    try:
        point.write([job["me"], number, "x" * 1000], timeout=PATIENCE_S)
    except ComPointException as error:
        notes.add("raised", type(error).__name__, str(error))
        raise
    notes.add("wrote", number)


@contextlib.contextmanager
def _mailbox_open() -> Iterator[None]:
    """Keep the post office at work, whatever becomes of points."""
    with ComManager.com_point(COMPOINT_SERVER, ComPointAddress("mail", 0)):
        yield


def _wait_for_the_end() -> None:
    threading.Event().wait()


_PROGRAMS: Final[dict[str, Callable[[Job, Notes], None]]] = {
    "initiate": _initiate, "respond": _respond, "hold open": _hold_open,
    "say and wait": _say_and_wait, "listen until lost": _listen_until_lost,
    "fill the disk": _fill_the_disk,
}  # fmt: skip


# --- one process ------------------------------------------------------------------------


class _Fatal:
    """Counts the steps that last, and kills the process before or after one of them."""

    def __init__(self, number: int, when: str) -> None:
        self._number = number
        self._when = when
        self._lock = threading.Lock()
        self._count = 0

    def around(self, owner: type, name: str) -> None:
        call = getattr(owner, name)

        def step(*arguments: Any, **options: Any) -> Any:
            with self._lock:
                self._count += 1
                number = self._count
            self._strike(number, "before")
            result = call(*arguments, **options)
            self._strike(number, "after")
            return result

        setattr(owner, name, step)

    def _strike(self, number: int, when: str) -> None:
        if (number, when) == (self._number, self._when):
            os.kill(os.getpid(), signal.SIGKILL)


def _end(*_: object) -> None:
    sys.exit()


def _run(job: Job) -> None:
    signal.signal(signal.SIGTERM, _end)
    if job.get("kill"):
        fatal = _Fatal(*job["kill"])
        fatal.around(Store, "commit")
        fatal.around(Dropbox, "remove")
        fatal.around(Dropbox, "set_aside")
        fatal.around(Submission, "send")
        fatal.around(Notes, "add")
    notes = Notes(job["notes"])
    try:
        # Found by the first use; `init` would read in all the other transports.
        os.environ["SEMPCONFIG"] = job["config"]
        _PROGRAMS[job["program"]](job, notes)
    except Exception:
        # Whoever reads the notes fails by it.
        notes.add("error", traceback.format_exc())


# --- the process that forks them --------------------------------------------------------


def _serve() -> Job | None:
    """Fork for each job; returns in each child with it, and here when no more come."""
    heard, bell = os.pipe()
    os.set_blocking(bell, False)
    signal.set_wakeup_fd(bell)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    alive: set[int] = set()
    while True:
        ready, _, _ = select.select([sys.stdin, heard], [], [])
        if heard in ready:
            os.read(heard, 64)
            _reap(alive)
        if sys.stdin in ready:
            line = sys.stdin.readline()
            if not line:
                for pid in alive:
                    os.kill(pid, signal.SIGKILL)
                return None
            pid = os.fork()
            if not pid:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                return json.loads(line)
            alive.add(pid)
            print("started", pid, flush=True)


def _reap(alive: set[int]) -> None:
    for pid in [*alive]:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            alive.discard(pid)
            print("ended", pid, os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    # A second copy of this module would have other steps to kill at.
    from compoint import message  # noqa: F401 - so that no child has to read it in
    from compoint.core import resumed  # noqa: F401
    from compoint.drive import keeping  # noqa: F401
    from mail import _opener  # noqa: F401

    given = _serve()
    if given is not None:
        _run(given)
