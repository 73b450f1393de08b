"""The real receiver program in a process of its own, and the mailbox it works for."""

from __future__ import annotations

import os
import subprocess
import sys
from email.message import EmailMessage
from pathlib import Path
from typing import Any, Final, NamedTuple

import mail

ROOT: Final = Path(mail.__file__).parents[1]
PROGRAM: Final = [sys.executable, "-P", "-m", "mail.receiver"]
PAYLOAD: Final = b"SMPR\x01" + bytes(range(256)) * 3


class Ran(NamedTuple):
    code: int
    out: str
    err: str


class Mailbox:
    """A folder with a `_sempconfig`, whose drop box the program fills."""

    def __init__(self, folder: Path, port: int = 9) -> None:
        self.folder = folder
        self.spool = folder / "spool"
        self.config = folder / "_sempconfig"
        self.configure(receiverPort=port, spool=self.spool)

    def configure(self, **settings: object) -> None:
        lines = [f"{key} = {value}" for key, value in settings.items()]
        self.config.write_text("\n".join(["[mail]", *lines, ""]))

    def receive(self, *arguments: object, content: bytes | None = None, **options: Any) -> Ran:
        """Run the program with this mailbox's configuration."""
        return receive("--config", self.config, *arguments, content=content, **options)

    def waiting(self) -> list[bytes]:
        return [file.read_bytes() for file in sorted(self.files("new"))]

    def files(self, inner: str) -> list[Path]:
        return [*(self.spool / inner).iterdir()] if (self.spool / inner).is_dir() else []


def receive(*arguments: object, content: bytes | None = None, **options: Any) -> Ran:
    options = {"env": os.environ | {"PYTHONPATH": str(ROOT)}} | options
    if content is None:
        options = {"stdin": subprocess.DEVNULL} | options
    ran = subprocess.run(
        [*PROGRAM, *map(str, arguments)], input=content, capture_output=True,
        timeout=30, check=False, **options,
    )  # fmt: skip
    return Ran(ran.returncode, ran.stdout.decode(), ran.stderr.decode())


def mail_of(payload: bytes = PAYLOAD, encoding: str = "base64", **headers: str) -> bytes:
    """A mail as a peer sends it."""
    message = EmailMessage()
    given = {"From": "alice@example.org", "To": "bob@example.org", "Subject": "SEMPER Message"}
    for name, value in (given | headers).items():
        message[name.replace("_", "-")] = value
    message.set_content(payload, "application", "x-semper", cte=encoding)
    return message.as_bytes()


def program_in(folder: Path, interpreter: str = sys.executable) -> Path:
    """The program as an installation puts it."""
    program = folder / "compoint-mail-receiver"
    program.write_text(
        f"#!{interpreter} -P\n"
        "import sys\n"
        f"sys.path.insert(0, {str(ROOT)!r})\n"
        "from mail.receiver import ComPointMailReceiver\n"
        "sys.exit(ComPointMailReceiver.main())\n"
    )
    program.chmod(0o755)
    return program
