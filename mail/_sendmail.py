"""Handing mails to the sendmail command of this machine: one with a queue, or one like msmtp."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import tempfile
from typing import IO, Final

from mail._mime import Mail, checked_mailbox
from mail._outcome import Outcome, Step, Verdict, judged, one_line

__all__ = ["SendmailCommand"]

#: How long the command may take: it writes to its queue, or asks the mail server.
COMMAND_S: Final = 60.0
_TEXT_BYTES: Final = 2048

#: Exit codes (sysexits.h) that speak of settings, ours or those of the command: EX_USAGE,
#: EX_NOINPUT (a file it is to use), EX_NOPERM (its login, too), EX_CONFIG; and the shell's for
#: a program that does not start.
_SETTINGS: Final = frozenset({os.EX_USAGE, os.EX_NOINPUT, os.EX_NOPERM, os.EX_CONFIG, 126, 127})
#: Those that speak of the machine or the connection: EX_OSERR, EX_OSFILE, EX_CANTCREAT,
#: EX_IOERR, EX_PROTOCOL.
_PASSING: Final = frozenset({os.EX_OSERR, os.EX_OSFILE, os.EX_CANTCREAT, os.EX_IOERR,
                             os.EX_PROTOCOL})  # fmt: skip
#: Those that do so when no server's answer was repeated: EX_TEMPFAIL, and EX_NOHOST, with
#: which msmtp says that the name of its mail server is not found.
_PASSING_UNLESS_SAID: Final = frozenset({os.EX_TEMPFAIL, os.EX_NOHOST})
#: Those that speak of the mail: EX_DATAERR, EX_NOUSER. Not EX_UNAVAILABLE, which is anything,
#: greylisting too (msmtp), nor 1, which is everything (ssmtp, nullmailer).
_OF_THE_MAIL: Final = frozenset({os.EX_DATAERR, os.EX_NOUSER})

#: A mail server's answer that the command repeats: "msmtp: server message: 550 5.1.1 no",
#: "RCPT TO:<bob> (550 no)", "bob... 5.1.1 no".
_ANSWER: Final = re.compile(
    r"(?:^|[:(] ?|\.\.\. )"
    r"(?P<answer>(?P<code>[45][0-5]\d)(?=[ -]|$)|(?P<class>[45])\.\d{1,3}\.\d{1,3}(?= ))",
    re.ASCII | re.MULTILINE,
)
#: What Postfix says of a mail without a number, even with EX_TEMPFAIL (cleanup_strerror.c).
_REFUSED: Final = re.compile(r"message file too big|message content rejected")


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
        program = self._command[0]
        try:
            # Into a file: a process that the command leaves behind may keep its error output
            # open, and a pipe would be waited for.
            with tempfile.TemporaryFile() as said:
                done = subprocess.run(  # noqa: S603 - the user's own configuration names it
                    arguments,
                    input=b"".join(mail.pieces(b"\n")),
                    stdout=said,
                    stderr=said,
                    timeout=self._timeout_s,
                    check=False,
                )
                return _outcome(done.returncode, _text(said))
        except subprocess.TimeoutExpired:
            text = f"{program} did not end within {self._timeout_s:g} s"
            return Outcome(Verdict.AMBIGUOUS, Step.COMMAND, text=text)
        except OSError as error:
            text = f"{program} cannot be started: {error.strerror or error}"
            # Otherwise the machine is short of something: processes, memory, descriptors.
            is_setting = error.errno in {errno.ENOENT, errno.EACCES, errno.ENOTDIR, errno.ENOEXEC}
            verdict = Verdict.FINAL if is_setting else Verdict.RETRY
            return Outcome(verdict, Step.COMMAND, 127, text=text, meets_all=True)

    def close(self) -> None:
        """Nothing is open between two mails."""


def _outcome(code: int, text: str) -> Outcome:
    said = _said(text)
    verdict, meets_all = _judged(code, said, text)
    status = said.status if said else ""
    return Outcome(verdict, Step.COMMAND, max(code, 0), status, one_line(text), meets_all)


def _judged(code: int, said: Outcome | None, text: str) -> tuple[Verdict, bool]:
    """What to do with the mail, and whether all others would meet the same."""
    if code == 0:
        return Verdict.ACCEPTED, False
    if code < 0:  # killed by a signal, perhaps after it had queued the mail
        return Verdict.AMBIGUOUS, False
    if code in _SETTINGS:
        passes = said is not None and said.verdict is Verdict.RETRY
        return Verdict.RETRY if passes else Verdict.FINAL, True
    if code in _PASSING:
        return Verdict.RETRY, True
    if said is not None:
        return Verdict.RETRY if code == os.EX_TEMPFAIL else said.verdict, said.meets_all
    if code in _OF_THE_MAIL or _REFUSED.search(text):
        return Verdict.FINAL, False
    return Verdict.RETRY, code in _PASSING_UNLESS_SAID


def _said(text: str) -> Outcome | None:
    """What the mail server's answer means that the command repeats, if it does."""
    found = _ANSWER.search(text)
    if found is None:
        return None
    code = found["code"] or f"{found['class']}50"
    return judged(Step.COMMAND, int(code), text[found.start("answer") :])


def _text(said: IO[bytes]) -> str:
    said.seek(0)
    return said.read(_TEXT_BYTES).decode("utf-8", "replace")
