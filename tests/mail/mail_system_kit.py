"""Two users of a real Postfix, each with the programs of its own, and the ways their mails come."""

from __future__ import annotations

import contextlib
import email
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from receiver_kit import ROOT, program_in

from bench.postfix import HOST, USER, Postfix, as_mail_user, mailbox_of, postfix_program
from mail._recipes import recipes

__all__ = ["PORT", "ROLES", "User", "needs_postfix", "own_port", "receiver_interpreter"]

PORT: Final = 7100
ROLES: Final = Path(__file__).with_name("talk_program.py")

needs_postfix = pytest.mark.skipif(
    not postfix_program(), reason="postfix is not installed, or we are not root"
)

#: For a network of microseconds, and tests that do not wait; of mails that get lost, none.
_QUICK: Final = {
    "rate": 1000, "daily": 100_000, "rtoMin": "20 s", "ackDelay": "0.3 s", "maxMail": "1 MiB",
}  # fmt: skip


def own_port() -> int:
    """A port that is free, for TCP or UDP."""
    with socket.create_server((HOST, 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def receiver_interpreter() -> str:
    """One that the user of the mail system may run: ours may lie in the home of another."""
    for one in (sys.executable, "/usr/bin/python3"):
        with contextlib.suppress(OSError, subprocess.CalledProcessError):
            subprocess.run(
                [one, "-P", "-c", "import mail.receiver"], user=USER, check=True, cwd="/",
                env={"PYTHONPATH": str(ROOT)}, capture_output=True, timeout=30,
            )  # fmt: skip
            return one
    pytest.skip(f"the user {USER} may run no interpreter, or not read these sources")


class User:
    """One mailbox of a Postfix, with the `_sempconfig` of its programs."""

    def __init__(self, name: str, postfix: Postfix, *, is_root: bool = False) -> None:
        self.name = name
        self.postfix = postfix
        self.mailbox = mailbox_of(name)
        self.folder = postfix.home / name
        self.folder.mkdir(mode=0o755)
        self.maildir = self.folder / "Maildir"
        self.config = self.folder / "_sempconfig"
        self._is_root = is_root
        secret = self.write("secret", "a secret of both sides\n")
        self.settings: dict[str, object] = {
            "receiverPort": own_port(), "returnAddress": self.mailbox, "mailHost": HOST,
            "smtpPort": postfix.port, "smtpTls": "none", "secretFile": secret,
            "spool": self.folder / "spool", **_QUICK,
        }  # fmt: skip
        # The mail system makes the Maildir.
        shutil.chown(self.folder, USER)

    def write(self, name: str, text: str) -> Path:
        """A file for the eyes of this user's programs only."""
        file = self.folder / name
        file.write_text(text)
        file.chmod(0o600)
        if not self._is_root:
            shutil.chown(file, USER)
        return file

    # --- the ways its mails come ------------------------------------------------------------

    def mails_go_to_the_receiver(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """By the recipe for .forward, as it is printed."""
        program_in(self.folder, receiver_interpreter())
        with monkeypatch.context() as patch:
            patch.setattr(sys, "executable", str(self.folder / "python"))
            self.postfix.forward(self.name, recipes(USER, str(self.config))[".forward"])

    def mails_go_to(self, maildir: Path) -> None:
        self.postfix.forward(self.name, f"{maildir}/\n")

    @contextlib.contextmanager
    def reads_mail(self) -> Iterator[None]:
        """A mail reader shows each mail that comes, by mailcap, as set up by our command."""
        self.configure()
        self.mails_go_to(self.maildir)
        assert self.run(sys.executable, "-m", "compoint.cli", "mail", "install") == 0
        reader = _Reader(self)
        thread = threading.Thread(target=reader.read, name="mail reader")
        thread.start()
        try:
            yield
        finally:
            reader.is_over.set()
            thread.join(30)

    # --- its programs -----------------------------------------------------------------------

    def configure(self, **settings: object) -> None:
        self.settings |= settings
        lines = [f"{key} = {value}" for key, value in self.settings.items()]
        self.write("_sempconfig", "\n".join(["[mail]", *lines, ""]))

    @contextlib.contextmanager
    def plays(self, role: str, address: str) -> Iterator[subprocess.Popen[str]]:
        """A program of this user plays one of ROLES."""
        self.configure()
        process = subprocess.Popen(
            self._as_user(sys.executable, "-P", ROLES, role, address),
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **self._surroundings,
        )  # fmt: skip
        with process:
            try:
                yield process
            finally:
                process.kill()

    def run(self, *command: object) -> int:
        """Run a command as this user, in silence."""
        return subprocess.run(
            self._as_user(*command), check=False, timeout=30, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **self._surroundings,
        ).returncode  # fmt: skip

    def _as_user(self, *command: object) -> list[str]:
        return list(map(str, command)) if self._is_root else as_mail_user(*command)

    @property
    def _surroundings(self) -> dict[str, Any]:
        own = {"HOME": str(self.folder), "SEMPCONFIG": str(self.config), "PYTHONPATH": str(ROOT)}
        return {"env": os.environ | own, "cwd": "/"}


class _Reader:
    """Shows all parts of all mails of a Maildir by mailcap, each once."""

    def __init__(self, user: User) -> None:
        self._user = user
        self.is_over = threading.Event()

    def read(self) -> None:
        while not self.is_over.wait(0.02):
            for mail in sorted(self._user.maildir.glob("new/*")):
                self._show(mail.read_bytes())
                mail.unlink()

    def _show(self, mail: bytes) -> None:
        for part in email.message_from_bytes(mail).walk():
            content = part.get_payload(decode=True)
            if isinstance(content, bytes):
                file = self._user.write("part", "")
                file.write_bytes(content)
                kind = part.get_content_type()
                # Its own exit code is that of the pager, which finds no terminal here.
                self._user.run("run-mailcap", "--action=view", f"{kind}:{file}")
