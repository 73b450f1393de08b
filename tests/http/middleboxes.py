"""Real middleboxes on loopback: nginx and haproxy before a server, squid before a client.

Each is one process tree of its own with its settings in a temporary folder, so that nothing
of the machine's own installation is read or written. What is not told here is as the program
has it by default: that is what users meet.
"""

from __future__ import annotations

import abc
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Final, Self
from urllib.parse import quote

import pytest

from compoint.testing import eventually

__all__ = ["HAProxy", "Middlebox", "Nginx", "ReservedPort", "Squid"]

#: Daemons stand in folders that are not on every user's path.
_FOLDERS: Final = os.pathsep.join(
    [os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"]
)
_START_S: Final = 10.0
_STOP_S: Final = 5.0


class ReservedPort:
    """A port of loopback that nobody else is given while this is held.

    The socket is bound and does not listen; so a server that sets SO_REUSEADDR, as all of
    them do, may listen there, several times in turn, and in between a client is refused.
    """

    def __init__(self) -> None:
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind(("127.0.0.1", 0))
        self.number: int = self._socket.getsockname()[1]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._socket.close()


class Middlebox(abc.ABC):
    """One program between client and server; entered, it runs and answers on `port`.

    Entering skips the test where the program is not installed, and fails it with the
    program's own words where it does not start.
    """

    program: ClassVar[str]
    package: ClassVar[str]

    def __init__(self) -> None:
        self.port = 0
        self._folder = Path()
        self._stack = ExitStack()

    @property
    def url(self) -> str:
        """Where clients of the box knock."""
        return f"http://127.0.0.1:{self.port}"

    def log(self) -> str:
        """What the program has said so far."""
        return (self._folder / "log").read_text(errors="replace")

    @abc.abstractmethod
    def _settings(self) -> str:
        """The text of the settings file; `port` and `_folder` are known."""

    @abc.abstractmethod
    def _command(self, program: str, settings: str) -> list[str]:
        """How the program is started in the foreground, talking to stderr."""

    def __enter__(self) -> Self:
        program = shutil.which(self.program, path=_FOLDERS)
        if program is None:
            pytest.skip(f"{self.program} is not installed (Debian package: {self.package})")
        with ExitStack() as stack:
            self._folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            # Started by root, the programs work as users of their own.
            self._folder.chmod(0o755)
            self.port = stack.enter_context(ReservedPort()).number
            settings = self._folder / "settings"
            settings.write_text(
                "\n".join(line.strip() for line in self._settings().splitlines()) + "\n"
            )
            with (self._folder / "log").open("wb") as log:
                process = subprocess.Popen(
                    self._command(program, str(settings)), stdin=subprocess.DEVNULL, stdout=log,
                    stderr=log, cwd=self._folder, start_new_session=True,
                )  # fmt: skip
            stack.callback(self._end, process)
            self._wait_for(process)
            self._stack = stack.pop_all()
        return self

    def _wait_for(self, process: subprocess.Popen[bytes]) -> None:
        try:
            eventually(lambda: process.poll() is not None or self._answers(), _START_S)
            assert process.poll() is None, f"ended with {process.returncode}"
        except AssertionError as error:
            raise AssertionError(f"{self.program} did not start: {error}\n{self.log()}") from None

    def _answers(self) -> bool:
        with socket.socket() as knock:
            return knock.connect_ex(("127.0.0.1", self.port)) == 0

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        """End the program with all its workers and helpers, in good order if it can."""
        process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_STOP_S)
        _kill(process)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill the program and whatever it has started: it leads a group of its own."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


class Nginx(Middlebox):
    """nginx as a reverse proxy before the server at `upstream`, with its default buffering.

    `directives` are added to the location, each ended by a semicolon.
    """

    program = "nginx"
    package = "nginx"

    def __init__(self, upstream: int, directives: str = "") -> None:
        super().__init__()
        self._upstream = upstream
        self._directives = directives

    @classmethod
    def deaf(cls, upstream: int, directives: str = "") -> Self:
        """One that buffers even what the server asks not to be buffered."""
        return cls(upstream, f"proxy_ignore_headers X-Accel-Buffering; {directives}")

    def _settings(self) -> str:
        folder = self._folder
        return f"""
            daemon off;
            pid {folder}/pid;
            error_log stderr;
            events {{}}
            http {{
                access_log off;
                client_body_temp_path {folder}/body;
                proxy_temp_path {folder}/proxy;
                fastcgi_temp_path {folder}/fastcgi;
                uwsgi_temp_path {folder}/uwsgi;
                scgi_temp_path {folder}/scgi;
                server {{
                    listen 127.0.0.1:{self.port};
                    location / {{
                        proxy_pass http://127.0.0.1:{self._upstream};
                        {self._directives}
                    }}
                }}
            }}
        """

    def _command(self, program: str, settings: str) -> list[str]:
        return [program, "-p", str(self._folder), "-e", "stderr", "-c", settings]


class HAProxy(Middlebox):
    """haproxy as a reverse proxy that ends whatever is idle for `idle_s` seconds."""

    program = "haproxy"
    package = "haproxy"

    def __init__(self, upstream: int, idle_s: float = 10.0) -> None:
        super().__init__()
        self._upstream = upstream
        self._idle_ms = round(idle_s * 1000)

    def _settings(self) -> str:
        return f"""
            defaults
                mode http
                timeout connect {self._idle_ms}ms
                timeout client {self._idle_ms}ms
                timeout server {self._idle_ms}ms
                timeout http-request {self._idle_ms}ms
                timeout http-keep-alive {self._idle_ms}ms
            frontend clients
                bind 127.0.0.1:{self.port}
                default_backend servers
            backend servers
                server upstream 127.0.0.1:{self._upstream}
        """

    def _command(self, program: str, settings: str) -> list[str]:
        return [program, "-db", "-f", settings]


class Squid(Middlebox):
    """squid as a forward proxy to everywhere, also for CONNECT.

    With `accounts` (passwords by user name, without blanks and percent signs) it lets in only
    who proves to be one of them. `directives` are lines of its settings. Started by root, it
    works as the user that its package made: it refuses to be root.
    """

    program = "squid"
    package = "squid"

    def __init__(self, accounts: Mapping[str, str] | None = None, directives: str = "") -> None:
        super().__init__()
        self._accounts = accounts
        self._directives = directives

    def url_of(self, user: str, password: str) -> str:
        """The proxy's address with a name and a password in it, as HTTP_PROXY has them."""
        return f"http://{quote(user, safe='')}:{quote(password, safe='')}@127.0.0.1:{self.port}"

    def _settings(self) -> str:
        access = "http_access allow all" if self._accounts is None else self._only_known()
        # Logs and process ids would be written to the machine's own folders, and the pinger
        # needs more rights than we may have.
        return f"""
            http_port 127.0.0.1:{self.port}
            visible_hostname squid.test
            cache_log /dev/null
            access_log none
            pid_filename none
            netdb_filename none
            pinger_enable off
            coredump_dir {self._folder}
            max_filedescriptors 4096
            {self._directives}
            {access}
        """

    def _only_known(self) -> str:
        (self._folder / "accounts").write_text(
            "".join(f"{user} {password}\n" for user, password in (self._accounts or {}).items())
        )
        # squid's helper protocol: a line with a name and a password, answered by OK or ERR.
        helper = self._folder / "helper"
        helper.write_text(
            "while read -r account; do\n"
            f'if grep -Fqx "$account" {self._folder}/accounts; then echo OK; else echo ERR; fi\n'
            "done\n"
        )
        return f"""
            auth_param basic program /bin/sh {helper}
            auth_param basic children 1
            auth_param basic realm middlebox
            acl known proxy_auth REQUIRED
            http_access allow known
            http_access deny all
        """

    def _command(self, program: str, settings: str) -> list[str]:
        return [program, "-N", "-d", "1", "-n", self._service, "-f", settings]

    @property
    def _service(self) -> str:
        """The name of its shared memory: a second squid of the same name would share it."""
        return f"middlebox{self.port}"

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        """Asked to end, squid takes two seconds; killed, it leaves its shared memory behind."""
        _kill(process)
        for segment in Path("/dev/shm").glob(f"{self._service}-*"):
            segment.unlink()
