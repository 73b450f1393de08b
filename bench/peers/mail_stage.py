"""What the mail rows stand on: a Postfix, and two mailboxes whose mails it hands to a program."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from bench.peers import Stage
from bench.postfix import HOST, USER, Postfix, as_mail_user, mailbox_of

__all__ = [
    "FOLDER", "ROLES", "log_of", "with_receiver", "with_receiver_at_default_rate", "with_script",
    "with_sink",
]  # fmt: skip

ROLES: Final = ("initiator", "responder")
#: The variable with the home folder of the mailboxes: in it one folder for each role, with its
#: `_sempconfig`.
FOLDER: Final = "BENCH_MAIL_FOLDER"

_ROOT: Final = Path(__file__).parents[2]

#: What anybody would write who has only this to do.
_SCRIPT: Final = """\
import os
import socket
import sys

folder, port = sys.argv[1], int(sys.argv[2])
mail = sys.stdin.buffer.read()
name = f"{folder}/{os.getpid()}"
with open(f"{name}.tmp", "wb") as file:
    file.write(mail)
    file.flush()
    os.fsync(file.fileno())
os.rename(f"{name}.tmp", f"{name}.mail")
socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"", ("127.0.0.1", port))
"""

_RECEIVER: Final = f"""\
import sys
sys.path.insert(0, {str(_ROOT)!r})
from mail.receiver import ComPointMailReceiver
sys.exit(ComPointMailReceiver.main())
"""


def log_of(home: str) -> str:
    """What Postfix has noted so far."""
    return (Path(home).parent / "log").read_text()


@contextmanager
def with_script() -> Iterator[Stage]:
    """Each mail goes through a script that puts it into the folder of its role."""

    def command(program: Path, folder: Path, port: int) -> str:
        return f"{program} {folder} {port}"

    with Postfix() as postfix:
        _settle(postfix, _SCRIPT, command)
        yield _stage(postfix)


@contextmanager
def with_receiver() -> Iterator[Stage]:
    """Each mail goes through our receiver program; as many leave as there are."""
    with Postfix() as postfix:
        _settle(postfix, _RECEIVER, _receiver, "rate = 1000", "daily = 1000000")
        yield _stage(postfix)


@contextmanager
def with_receiver_at_default_rate() -> Iterator[Stage]:
    """The same, with the limits that spare the account at a provider."""
    with Postfix() as postfix:
        _settle(postfix, _RECEIVER, _receiver)
        yield _stage(postfix)


@contextmanager
def with_sink() -> Iterator[Stage]:
    """Each mail is taken, and thrown away."""
    with Postfix("transport_maps = static:discard:\n") as postfix:
        _settle(postfix, "", _receiver, "rate = 10000", "daily = 1000000")
        yield _stage(postfix)


def _receiver(program: Path, folder: Path, _port: int) -> str:
    # As the recipe for .forward has it.
    return f"{program} --config {folder}/_sempconfig --swallow"


def _stage(postfix: Postfix) -> Stage:
    environment = {FOLDER: str(postfix.home), "SMTP_PORT": str(postfix.port)}
    return Stage(environment, tuple(as_mail_user()))


def _settle(
    postfix: Postfix, script: str, command: Callable[[Path, Path, int], str], *settings: str
) -> None:
    """Make the mailbox of each role, and the program that its mails go to."""
    interpreter = _interpreter()
    program = postfix.home / "program"
    program.write_text(f"#!{interpreter}\n{script}")
    program.chmod(0o755)
    # As an installation does it; USER may not write beside the sources.
    subprocess.run([interpreter, "-m", "compileall", "-q", _ROOT / "mail"], check=False)
    for role in ROLES:
        folder = postfix.home / role
        folder.mkdir()
        port = _free_port()
        lines = [
            "[mail]", f"receiverPort = {port}", f"returnAddress = {mailbox_of(role)}",
            f"mailHost = {HOST}", f"smtpPort = {postfix.port}", "smtpTls = none", "trust = none",
            f"spool = {folder}/spool", *settings, "",
        ]  # fmt: skip
        (folder / "_sempconfig").write_text("\n".join(lines))
        shutil.chown(folder, USER)
        postfix.forward(role, f'"|{command(program, folder, port)} || exit 75"\n')


def _interpreter() -> str:
    """One that USER may run: ours may lie in the home of somebody else."""
    for one in (sys.executable, "/usr/bin/python3"):
        if os.access(one, os.X_OK) and not _fails(one):
            return one
    raise RuntimeError(f"the user {USER} may run no Python")


def _fails(interpreter: str) -> bool:
    try:
        return bool(
            subprocess.run([interpreter, "-c", ""], user=USER, cwd="/", check=False).returncode
        )
    except OSError:
        return True


def _free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port
