"""`compoint mail doctor`: a mail to ourselves, and which step of its way fails.

The steps are done one by one, with the parts that programs use, so that each can be told
apart; the first that fails ends it.
"""

from __future__ import annotations

import os
import shlex
import socket
import subprocess
import time
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Final, NoReturn

from compoint.cli._faults import CommandFailed
from compoint.cli._mail_install import receiver_config
from compoint.cli._mail_settings import mail_settings
from compoint.deadline import clock
from compoint.manager import ComManager
from mail._batch import Batch
from mail._dropbox import Dropbox
from mail._fronts import fronts
from mail._outcome import Step, Verdict
from mail._probe import Probe
from mail._recipes import receiver_command
from mail._sendmail import SendmailCommand
from mail._settings import OfficeSettings
from mail._smtp import Tls
from mail._store import Store
from mail._submit import Submission

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from compoint.cli._output import Output
    from mail._outcome import Outcome

__all__ = ["run"]

#: How often the drop box is looked at, poke or no poke.
_LOOK_S: Final = 0.5
#: A mail system gives the receiver program minutes; it needs a fraction of a second.
_RECEIVER_S: Final = 30.0
#: How long its poke may take.
_POKE_S: Final = 1.0

#: What may be done about a step of the submission that fails.
_ADVICE: Final = {
    Step.CONNECT: "are mailHost and smtpPort right, and does a firewall let it pass?",
    Step.TLS: "are smtpTls and smtpPort right? caFile names the authority of a server that has "
    "one of its own",
    Step.LOGIN: "are smtpUser and the password right? Some providers ask for a password made "
    "for programs, or for a token (passwordIsToken)",
    Step.SENDER: "may the account send as returnAddress? A server may ask for a login first "
    "(smtpUser)",
    Step.RECIPIENT: "is returnAddress spelled right, and does its mailbox exist?",
    Step.CONTENT: "the words of the server say why it does not want such mails",
    Step.END: "the words of the server say why it does not want such mails",
    Step.COMMAND: "is sendmailCommand right, may this user run it, and are its own settings "
    "(mail server, login) right?",
}


def run(given: argparse.Namespace, out: Output) -> int:
    """All steps, one after the other."""
    settings = OfficeSettings.of(mail_settings())
    with ExitStack() as stack:
        _Doctor(settings, out, stack).examine(given.wait)
    return 0


class _Doctor:
    """What is opened is put on the stack."""

    def __init__(self, settings: OfficeSettings, out: Output, stack: ExitStack) -> None:
        self._settings = settings
        self._out = out
        self._stack = stack

    def examine(self, wait_s: float) -> None:
        settings = self._settings
        trust = "none" if settings.secret is None else "a secret"
        self._right(f"configuration: mailbox {settings.mailbox}, trust is {trust}")
        self._take_mailbox()
        self._poked = self._take_port()
        self._dropbox = Dropbox(settings.spool)
        self._try_receiver()
        self._start_fronts()
        probe = Probe(settings)
        since = self._submit(probe)
        self._await(probe, since, wait_s)

    def _right(self, what: str) -> None:
        self._out.say(f"right  {what}")

    def _note(self, what: str) -> None:
        self._out.say(f"note   {what}")

    # --- this machine -------------------------------------------------------------------

    def _take_mailbox(self) -> None:
        settings = self._settings
        store = Store(settings.spool, settings.mailbox)
        self._stack.callback(store.close)
        self._store = store
        self._right(f"spool folder: {settings.spool} can be used, and no process works with it")

    def _take_port(self) -> socket.socket:
        sock = self._stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        port = self._settings.receiver_port
        try:
            sock.bind(("127.0.0.1", port))
        except OSError as error:
            _fail(f"receiver port {port}: {error.strerror}", "give receiverPort another number")
        self._right(f"receiver port: {port} is free")
        return sock

    # --- the receiver program -----------------------------------------------------------

    def _try_receiver(self) -> None:
        """Run it as mail systems do. Where mails come another way, it need not work."""
        try:
            took_s = self._receive()
        except CommandFailed as failure:
            if not self._ways():
                raise
            self._note(str(failure))
        else:
            self._right(
                f"receiver program: took a mail in an empty environment ({_seconds(took_s)})"
            )

    def _receive(self) -> float:
        try:
            command = receiver_command(receiver_config(ComManager.settings().sources))
        except ValueError as error:
            raise CommandFailed(f"receiver program: {error}") from error
        probe = Probe(self._settings)
        started_at = clock()
        try:
            # As mail systems do: some leave out even $PATH and $HOME.
            done = subprocess.run(  # noqa: S603 - our own program
                [*shlex.split(command), "--swallow"], cwd="/", env={}, timeout=_RECEIVER_S,
                input=b"".join(probe.mail.pieces(b"\n")), capture_output=True, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            _fail(f"receiver program: {command} did not end", f"it had {_RECEIVER_S:g} s")
        except OSError as error:
            _fail(f"receiver program: {command}: {error.strerror}", "install compoint again")
        took_s = clock() - started_at
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip()
            _fail(
                f"receiver program: {command} ended with exit code {done.returncode}: {said}",
                "is compoint installed for this user?",
            )
        if not self._taken(probe):
            _fail(
                f"receiver program: {command} put the mail elsewhere",
                f"has its _sempconfig the spool folder {self._settings.spool}?",
            )
        if not self._is_poked(_POKE_S):
            self._note("the receiver program pokes another port, so mails are seen a second later")
        return took_s

    def _taken(self, probe: Probe) -> bool:
        for name, content in self._mails(set()):
            if probe.trace(content):
                self._dropbox.remove(name)
                return True
        return False

    # --- the way of a mail --------------------------------------------------------------

    def _start_fronts(self) -> None:
        for front in fronts(self._settings, self._dropbox.put, self._poke, self._note_trouble):
            front.start()
            self._stack.callback(front.stop)
        ways = self._ways() or ["the receiver program, as a mail system or reader starts it"]
        self._note(f"mails are awaited by {' or '.join(ways)}")

    def _ways(self) -> list[str]:
        """How mails come, beside the receiver program."""
        settings = self._settings
        ways = []
        if settings.maildir:
            ways.append(f"Maildir {settings.maildir}")
        if settings.imap is not None:
            ways.append(f"IMAP from {settings.imap.host}")
        if settings.listen is not None:
            ways.append(f"{settings.listen.protocol.upper()} at port {settings.listen.port}")
        return ways

    def _poke(self) -> None:
        with suppress(OSError):
            self._poked.sendto(b"", self._poked.getsockname())

    def _note_trouble(self, front: str, text: str) -> None:
        if text:
            self._note(f"{front}: {text}")

    def _submit(self, probe: Probe) -> float:
        """Hand the probe over; returns when that was."""
        settings = self._settings
        budget = settings.budget(self._store.load().budget)
        utc = time.time()
        pause_s = budget.wait_s(utc)
        if not budget.take(utc):
            _fail("rate and daily allow no mail now", f"try again in {pause_s:.0f} s")
        self._store.commit(Batch(budget=budget.state()))
        sender: Submission | SendmailCommand
        if settings.sendmail:
            sender = SendmailCommand(settings.sendmail)
        else:
            sender = Submission(settings.submission)
        self._stack.callback(sender.close)
        started_at = clock()
        outcome = sender.send(
            probe.mail, sender=settings.mailbox, recipient=settings.mailbox,
            envelope_id=probe.mail.message_id,
        )  # fmt: skip
        self._tell(outcome, clock() - started_at)
        return started_at

    def _tell(self, outcome: Outcome, took_s: float) -> None:
        for step, what in self._steps():
            if outcome.verdict is not Verdict.ACCEPTED and step is outcome.step:
                break
            self._right(f"mail server: {what}")
        if outcome.verdict is not Verdict.ACCEPTED:
            _fail(f"mail server: {outcome}", _ADVICE[outcome.step])
        said = f" ({outcome.text})" if outcome.text else ""
        self._right(f"mail server: takes the mail{said} ({_seconds(took_s)})")

    def _steps(self) -> Iterator[tuple[Step, str]]:
        """What comes before the content, as far as the settings ask for it."""
        if self._settings.sendmail:
            yield Step.COMMAND, f"{self._settings.sendmail[0]} is run"
            return
        server = self._settings.submission
        yield Step.CONNECT, f"{server.host}:{server.port} is reached"
        if server.tls in {Tls.STARTTLS, Tls.IMPLICIT}:
            yield Step.TLS, "speaks TLS, and its certificate is good"
        if server.user:
            yield Step.LOGIN, f"lets {server.user} in"
        yield Step.SENDER, f"takes mails from {self._settings.mailbox}"
        yield Step.RECIPIENT, f"takes mails to {self._settings.mailbox}"

    def _await(self, probe: Probe, since: float, wait_s: float) -> None:
        seen: set[str] = set()
        until = clock() + wait_s
        while True:
            is_last = clock() >= until
            for name, content in self._mails(seen):
                trace = probe.trace(content)
                if trace is None:
                    continue
                self._dropbox.remove(name)
                took = _seconds(clock() - since)
                if trace.is_report:
                    _fail(
                        f"the mail came back: {trace.fault}", "is the mailbox there, and not full?"
                    )
                if trace.fault:
                    _fail(
                        f"the mail arrived by {self._way(name)} after {took}, but {trace.fault}",
                        "something on the way changes mails; what was added or taken off?",
                    )
                self._right(f"the mail arrived by {self._way(name)} after {took}, undamaged")
                return
            if is_last:
                break
            self._is_poked(min(_LOOK_S, until - clock()))
        _fail(
            f"the mail did not arrive within {wait_s:g} s",
            "is it in the inbox or the spam folder of the mailbox? Then nothing hands it over: "
            "`compoint mail install --show` tells how; is it nowhere, the mail system may be slow",
        )

    def _way(self, name: str) -> str:
        # The name says which process has put it there.
        is_ours = name.split(".")[1:2] == [str(os.getpid())]
        return " or ".join(self._ways()) if is_ours else "the receiver program"

    def _mails(self, seen: set[str]) -> Iterator[tuple[str, bytes]]:
        """Those in the drop box that were not seen; all stay there for the next program."""
        for name in self._dropbox.waiting():
            if name not in seen:
                seen.add(name)
                with open(self._dropbox.path(name), "rb") as file:
                    yield name, file.read()

    def _is_poked(self, within_s: float) -> bool:
        self._poked.settimeout(max(0.001, within_s))
        try:
            self._poked.recv(1)
        except TimeoutError:
            return False
        return True


def _seconds(took_s: float) -> str:
    return f"{took_s:.2f} s"


def _fail(what: str, advice: str) -> NoReturn:
    raise CommandFailed(f"{what}; {advice}")
