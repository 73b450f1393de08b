"""The local sendmail command: how it is called, and what its exit code means for the mail."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
from smtp_kit import ALICE, BOB, a_mail

from compoint.errors import UsageError
from mail._outcome import Outcome, Step, Verdict
from mail._sendmail import SendmailCommand


def outcome_of(script: str, *arguments: str, timeout_s: float = 30.0) -> Outcome:
    command = SendmailCommand((sys.executable, "-c", script, *arguments), timeout_s=timeout_s)
    return command.send(a_mail(), sender=ALICE, recipient=BOB, envelope_id="a:1")


def test_the_command_gets_the_mail_and_exactly_these_arguments(tmp_path):
    keep = (
        "import sys, json;"
        "json.dump([sys.argv[2:], sys.stdin.buffer.read().decode()], open(sys.argv[1], 'w'))"
    )
    outcome = outcome_of(keep, str(tmp_path / "called"))
    arguments, text = json.loads((tmp_path / "called").read_text())
    assert outcome == Outcome(Verdict.ACCEPTED, Step.COMMAND)
    assert arguments == ["-oi", "-f", ALICE, "--", BOB]
    assert text == b"".join(a_mail().pieces(b"\n")).decode()


@pytest.mark.parametrize(
    ("code", "verdict"),
    [
        (os.EX_TEMPFAIL, Verdict.RETRY),
        (os.EX_OSERR, Verdict.RETRY),
        (os.EX_IOERR, Verdict.RETRY),
        (os.EX_CANTCREAT, Verdict.RETRY),
        (os.EX_SOFTWARE, Verdict.RETRY),
        (os.EX_NOUSER, Verdict.FINAL),
        (os.EX_UNAVAILABLE, Verdict.FINAL),
        (os.EX_USAGE, Verdict.FINAL),
        (os.EX_NOPERM, Verdict.FINAL),
        (1, Verdict.FINAL),
    ],
)
def test_an_exit_code_is_what_sysexits_says(code, verdict):
    outcome = outcome_of(f"import sys; sys.stderr.write('sendmail: 5.7.1 no'); sys.exit({code})")
    assert outcome == Outcome(verdict, Step.COMMAND, code, "5.7.1", "sendmail: 5.7.1 no")


def test_a_command_that_was_killed_may_have_queued_the_mail():
    outcome = outcome_of("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    assert (outcome.verdict, outcome.code) == (Verdict.AMBIGUOUS, 0)


def test_a_command_that_does_not_end_is_ended_and_may_have_queued_the_mail():
    outcome = outcome_of("while True: pass", timeout_s=0.3)
    assert outcome.verdict is Verdict.AMBIGUOUS
    assert "did not end within 0.3 s" in outcome.text


def test_a_command_that_does_not_exist_is_trouble_of_the_way():
    command = SendmailCommand(("/nowhere/sendmail",))
    outcome = command.send(a_mail(), sender=ALICE, recipient=BOB)
    assert (outcome.verdict, outcome.step) == (Verdict.FINAL, Step.COMMAND)
    assert outcome.text == "/nowhere/sendmail cannot be started: No such file or directory"
    assert outcome.is_of_the_way


def test_a_command_that_reads_nothing_is_judged_by_its_exit_code():
    command = SendmailCommand((sys.executable, "-c", "raise SystemExit(75)"))
    outcome = command.send(a_mail(bytes(5_000_000)), sender=ALICE, recipient=BOB)
    assert outcome.verdict is Verdict.RETRY


def test_a_process_that_the_command_leaves_behind_is_not_waited_for(tmp_path):
    pid = tmp_path / "pid"
    script = (
        "import subprocess, sys, pathlib;"
        "left = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']);"
        f"pathlib.Path({str(pid)!r}).write_text(str(left.pid)); import os; os._exit(0)"
    )
    outcome = outcome_of(script, timeout_s=20)
    os.kill(int(pid.read_text()), 9)
    assert outcome.verdict is Verdict.ACCEPTED


def test_an_address_is_never_an_option_or_a_piece_of_shell(tmp_path):
    touched = tmp_path / "touched"
    command = SendmailCommand((sys.executable, "-c", "import sys; print(sys.argv[-2:])"))
    for recipient in (f"$(touch${{IFS}}{touched})@example.org", f"`touch`{touched}@example.org"):
        with pytest.raises(UsageError, match=r"^envelope recipient: "):
            command.send(a_mail(), sender=ALICE, recipient=recipient)
    outcome = command.send(a_mail(), sender=ALICE, recipient="-oQ$HOME@example.org")
    assert outcome.text == "['--', '-oQ$HOME@example.org']"
    assert not Path(touched).exists()
