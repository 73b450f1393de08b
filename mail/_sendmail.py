"""Handing mails to the sendmail command of this machine, which keeps its own queue."""

from __future__ import annotations

import os
import subprocess
import tempfile
from typing import IO, Final

from mail._mime import Mail, checked_mailbox
from mail._outcome import Outcome, Step, Verdict, one_line, status_in

__all__ = ["SendmailCommand"]

#: How long the command may take: it only writes to its queue.
COMMAND_S: Final = 60.0
_TEXT_BYTES: Final = 2048

#: Exit codes (sysexits.h) that speak of this machine's state and not of the mail:
#: EX_SOFTWARE, EX_OSERR, EX_OSFILE, EX_CANTCREAT, EX_IOERR, EX_TEMPFAIL.
_PASSING: Final = frozenset({os.EX_SOFTWARE, os.EX_OSERR, os.EX_OSFILE, os.EX_CANTCREAT,
                             os.EX_IOERR, os.EX_TEMPFAIL})  # fmt: skip


class SendmailCommand:
    """Runs the command once for each mail; any number of threads may send."""

    def __init__(self, command: tuple[str, ...], *, timeout_s: float = COMMAND_S) -> None:
        """`command`: the program and its own arguments, as ("/usr/sbin/sendmail",)."""
        self._command = command
        self._timeout_s = timeout_s

    def send(self, mail: Mail, *, sender: str, recipient: str, envelope_id: str = "") -> Outcome:
        """Hand over one mail, wait for the command and return what came of it.

        `envelope_id` is not passed on: its flag is not the same in all of them (Exim takes
        `-N` for "deliver nothing").

        Raises:
            UsageError: an address is none.
        """
        arguments = [
            *self._command,
            "-oi",  # a line with a dot is no end
            "-f",
            checked_mailbox("envelope sender", sender),
            "--",  # nothing behind is an option
            checked_mailbox("envelope recipient", recipient),
        ]
        # Into a file: a process that the command leaves behind may keep its error output
        # open, and a pipe would be waited for.
        with tempfile.TemporaryFile() as said:
            try:
                done = subprocess.run(  # noqa: S603 - the user's own configuration names it
                    arguments,
                    input=b"".join(mail.pieces(b"\n")),
                    stdout=said,
                    stderr=said,
                    timeout=self._timeout_s,
                    check=False,
                )
            except subprocess.TimeoutExpired:
                text = f"{self._command[0]} did not end within {self._timeout_s:g} s"
                return Outcome(Verdict.AMBIGUOUS, Step.COMMAND, text=text)
            except OSError as error:
                text = f"{self._command[0]} cannot be started: {error.strerror}"
                return Outcome(Verdict.FINAL, Step.COMMAND, 127, text=text)
            return _outcome(done.returncode, _text(said))

    def close(self) -> None:
        """Nothing is open between two mails."""


def _outcome(code: int, text: str) -> Outcome:
    if code == 0:
        verdict = Verdict.ACCEPTED
    elif code < 0:  # killed by a signal, perhaps after it had queued the mail
        verdict = Verdict.AMBIGUOUS
    elif code in _PASSING:
        verdict = Verdict.RETRY
    else:
        verdict = Verdict.FINAL
    return Outcome(verdict, Step.COMMAND, max(code, 0), status_in(text), one_line(text))


def _text(said: IO[bytes]) -> str:
    said.seek(0)
    return said.read(_TEXT_BYTES).decode("utf-8", "replace")
