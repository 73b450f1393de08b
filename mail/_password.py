"""Where the password of the mail account comes from: a private file, or a command."""

from __future__ import annotations

import os
import stat
import subprocess
import tempfile
from dataclasses import dataclass
from typing import IO, Final, NoReturn

from compoint.errors import ConfigError, Phase

__all__ = ["Password"]

#: How long the command may take: long enough for a key ring that asks for a token.
COMMAND_S: Final = 30.0
_FILE_BYTES: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Password:
    """Names the source; the password itself is read for each login and not kept.

    So a token that expires is renewed, and neither the password nor the command's output is
    ever an argument of a process, part of an error, or logged.
    """

    file: str = ""
    #: A program and its arguments, run without a shell; the first line it prints counts.
    command: tuple[str, ...] = ()

    def read(self) -> str:
        """Read the file, or run the command and wait for it, at most COMMAND_S.

        Raises:
            ConfigError: there is no password to be had that way; says why.
        """
        raw = self._printed() if self.command else self._in_file()
        try:
            password = raw.split(b"\n", 1)[0].removesuffix(b"\r").decode("ascii")
        except UnicodeDecodeError:
            # Without the cause, which holds the bytes.
            _fail("the password holds a character that is not ASCII, which SMTP cannot carry")
        if not password or not password.isprintable():
            _fail("the password is empty or holds a control character")
        return password

    def _in_file(self) -> bytes:
        try:
            with open(self.file, "rb") as opened:
                about = os.fstat(opened.fileno())
                if about.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
                    _fail(f"others may read the password file {self.file}", "chmod 600 it")
                if about.st_uid not in {os.geteuid(), 0}:
                    _fail(f"the password file {self.file} belongs to somebody else")
                return opened.read(_FILE_BYTES)
        except OSError as error:
            _fail(f"the password file {self.file} cannot be read ({error.strerror})")

    def _printed(self) -> bytes:
        program = self.command[0]
        try:
            with _nameless_file() as printed:
                try:
                    done = subprocess.run(  # noqa: S603 - the user's own configuration names it
                        self.command,
                        stdin=subprocess.DEVNULL,
                        stdout=printed,
                        stderr=subprocess.DEVNULL,  # it may repeat what it was asked for
                        timeout=COMMAND_S,
                        check=False,
                    )
                    printed.seek(0)
                    said = printed.read(_FILE_BYTES)
                finally:
                    # What the command leaves behind has the file for as long as it lives.
                    printed.truncate(0)
        except subprocess.TimeoutExpired:
            _fail(f"the password command {program} did not end within {COMMAND_S:g} s")
        except OSError as error:
            _fail(f"the password command {program} cannot be started ({error.strerror})")
        if done.returncode:
            _fail(f"the password command {program} failed with exit code {done.returncode}")
        return said


def _nameless_file() -> IO[bytes]:
    """Takes what a command prints; a pipe would be waited for as long as anything holds it.

    An agent that the command starts may hold it for ever. In memory where the system can.
    """
    if hasattr(os, "memfd_create"):
        return open(os.memfd_create("printed"), "w+b", buffering=0)
    return tempfile.TemporaryFile(buffering=0)


def _fail(what: str, hint: str = "") -> NoReturn:
    raise ConfigError(what, phase=Phase.CONFIGURE, hint=hint) from None
