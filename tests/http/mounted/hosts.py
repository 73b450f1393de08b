"""Real web servers with the toy endpoint in them, as processes of their own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["Host", "gunicorn", "uvicorn"]

HERE: Final = Path(__file__).resolve().parent
ROOT: Final = HERE.parents[2]
#: How long a server waits at its stop for requests that are not answered.
GRACE_S: Final = 1


class Host:
    """A web server at a free port of loopback; its log goes to a file."""

    def __init__(self, command: list[str], folder: Path) -> None:
        self.log = folder / "log"
        environment = dict(os.environ)
        environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(HERE)])
        # gunicorn keeps a control socket in the user's folder.
        environment["HOME"] = environment["XDG_RUNTIME_DIR"] = str(folder)
        # Bound and listening before the server starts: who connects early waits in line.
        with socket.create_server(("127.0.0.1", 0)) as listening, self.log.open("wb") as log:
            self.port: int = listening.getsockname()[1]
            # Inherited by what it accepts; servers set it, unless they are given a socket.
            listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            fd = listening.fileno()
            self._process = subprocess.Popen(
                [sys.executable, "-m", *(part.format(fd=fd) for part in command)],
                pass_fds=[fd], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env=environment, cwd=folder,
            )  # fmt: skip

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def connect(self, timeout_s: float = 20.0) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=timeout_s)

    def stop(self) -> None:
        """Ask it to end, as a service manager does."""
        self._process.send_signal(signal.SIGTERM)

    def end(self, within_s: float) -> int:
        """Wait for its end; its exit code."""
        return self._process.wait(within_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
        try:
            self.end(within_s=GRACE_S + 10)
        finally:
            self._process.kill()
            self._process.wait()
            if kind is not None:
                print(self.log.read_text())


def gunicorn(folder: Path) -> Host:
    return Host(
        ["gunicorn", "--bind", "fd://{fd}", "--worker-class", "gthread", "--workers", "1",
         "--threads", "8", "--graceful-timeout", str(GRACE_S), "toy:wsgi"],
        folder,
    )  # fmt: skip


def uvicorn(folder: Path) -> Host:
    return Host(
        ["uvicorn", "--fd", "{fd}", "--http", "h11", "--loop", "asyncio", "--workers", "1",
         "--timeout-graceful-shutdown", str(GRACE_S), "toy:asgi"],
        folder,
    )  # fmt: skip
