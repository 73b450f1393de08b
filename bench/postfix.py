"""A Postfix of one's own: its configuration, queue and ports stand in one folder."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Final, Self

__all__ = ["DOMAIN", "HOST", "USER", "Postfix", "as_mail_user", "mailbox_of", "postfix_program"]

HOST: Final = "127.0.0.1"
DOMAIN: Final = "example.org"
#: Whose mail it delivers, and as whom it runs programs; it refuses to do so as root.
USER: Final = "nobody"

_START_S: Final = 20.0

_MAIN: Final = """\
compatibility_level = 3.6
queue_directory = {folder}/queue
data_directory = {folder}/data
maillog_file_prefixes = {folder}
maillog_file = {folder}/log
multi_instance_enable = yes
myhostname = mail.example.org
mydestination = example.org
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
smtpd_relay_restrictions = permit_mynetworks, reject
smtpd_peername_lookup = no
local_recipient_maps =
alias_maps =
recipient_delimiter = +
forward_path = {folder}/home/.forward$recipient_delimiter$extension, {folder}/home/.forward
default_transport = error:this Postfix sends nothing away
"""

_MASTER: Final = """\
{host}:{port} inet n - n - - smtpd
{host}:{submission} inet n - n - - smtpd
 -o smtpd_tls_security_level=encrypt -o smtpd_relay_restrictions=permit_sasl_authenticated,reject
pickup unix n - n 1 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
flush unix n - n 1000? 0 flush
showq unix n - n - - showq
error unix - - n - - error
discard unix - - n - - discard
local unix - n n - - local
lmtp unix - - n - - lmtp
postlog unix-dgram n - n - 1 postlogd
"""


def postfix_program() -> str:
    """Where Postfix is; empty if it is not installed, or cannot be started by this user."""
    found = shutil.which("postfix", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")
    return found if found and os.geteuid() == 0 else ""


def mailbox_of(extension: str) -> str:
    """A mailbox of USER; where its mails go stands in `home/.forward+EXTENSION`."""
    return f"{USER}+{extension}@{DOMAIN}"


def as_mail_user(*command: object) -> list[str]:
    """A command, to be run as USER by root.

    It may read what root may: our interpreter can lie in a folder that is closed to others.
    """
    # Of the rights that do it, the one that root has in containers, too.
    reading = "+dac_override"
    return [
        "setpriv", "--reuid", USER, "--regid", str(_group()), "--clear-groups",
        f"--inh-caps={reading}", f"--ambient-caps={reading}", *map(str, command),
    ]  # fmt: skip


def _group() -> int:
    import pwd

    return pwd.getpwnam(USER).pw_gid


class Postfix:
    """Entered, it takes mails at `port`, and at `submission_port` those of who has logged in by
    TLS; what it delivers as local mail is USER's.

    `settings` are further lines of main.cf, in which `{folder}` is its folder. Leaving stops it
    and takes the folder away.
    """

    def __init__(self, settings: str = "") -> None:
        self._program = postfix_program()
        # Not one of this process alone: USER has to go through it.
        self.folder = Path(tempfile.mkdtemp(prefix="postfix-"))
        self.folder.chmod(0o755)
        self.config = self.folder / "config"
        #: That of USER, which it may write to.
        self.home = self.folder / "home"
        self.port, self.submission_port = _free_ports(2)
        for folder in (self.config, self.home, self.folder / "queue", self.folder / "data"):
            folder.mkdir()
        shutil.chown(self.home, USER, _group())
        shutil.chown(self.folder / "data", "postfix")
        main = (_MAIN + settings).replace("{folder}", str(self.folder))
        (self.config / "main.cf").write_text(main)
        (self.config / "master.cf").write_text(
            _MASTER.format(host=HOST, port=self.port, submission=self.submission_port)
        )

    def __enter__(self) -> Self:
        try:
            self._command("start").check_returncode()
            self._wait_until_it_listens()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._command("stop")
        finally:
            shutil.rmtree(self.folder)

    @property
    def sendmail(self) -> str:
        """Its command that takes mails, for root."""
        return f"{os.path.dirname(self._program)}/sendmail -C {self.config}"

    def forward(self, extension: str, text: str) -> None:
        """Say where the mails for a mailbox go."""
        # At one stroke: a mail could be on its way already.
        draft = self.home / "draft"
        draft.write_text(text)
        shutil.chown(draft, USER)
        draft.rename(self.home / f".forward+{extension}")

    def queued(self) -> list[str]:
        """Why each mail is still in the queue; empty for one that is being delivered."""
        ran = subprocess.run(
            ["postqueue", "-c", self.config, "-j"], capture_output=True, timeout=30, check=True,
            env=self._environment(),
        )  # fmt: skip
        mails = [json.loads(line) for line in ran.stdout.splitlines()]
        return [to.get("delay_reason", "") for mail in mails for to in mail["recipients"]]

    def try_again(self) -> None:
        """Deliver now what is in the queue."""
        command = ["postqueue", "-c", str(self.config), "-f"]
        subprocess.run(command, timeout=30, check=True, env=self._environment())

    def log(self) -> str:
        log = self.folder / "log"
        return log.read_text(errors="replace") if log.exists() else ""

    def _command(self, word: str) -> subprocess.CompletedProcess[bytes]:
        # Its daemons keep the outputs open: a pipe would never end.
        with (self.folder / "said").open("ab") as said:
            return subprocess.run(
                [self._program, "-c", self.config, word], stdin=subprocess.DEVNULL, stdout=said,
                stderr=said, timeout=30, check=False, env=self._environment(),
            )  # fmt: skip

    def _environment(self) -> dict[str, str]:
        return {"PATH": f"{os.path.dirname(self._program)}:{os.defpath}"}

    def _wait_until_it_listens(self) -> None:
        ends_at = time.monotonic() + _START_S
        while time.monotonic() < ends_at:
            with socket.socket() as probe:
                if probe.connect_ex((HOST, self.port)) == 0:
                    return
            time.sleep(0.02)
        raise RuntimeError(f"Postfix does not listen: {self.log()[-2000:]}")


def _free_ports(count: int) -> list[int]:
    probes = [socket.create_server((HOST, 0)) for _ in range(count)]
    ports: list[int] = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports
