"""The local sendmail command: how it is called, and what its exit code means for the mail."""

from __future__ import annotations

import errno
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from smtp_kit import ALICE, BOB, CUT, HOST, Scripted, a_mail

from compoint.errors import UsageError
from mail._outcome import Outcome, Step, Verdict
from mail._sendmail import SendmailCommand, _outcome


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


#: What an exit code means that comes without any words.
ALONE = {
    os.EX_USAGE: (Verdict.FINAL, True),
    os.EX_DATAERR: (Verdict.FINAL, False),
    os.EX_NOINPUT: (Verdict.FINAL, True),
    os.EX_NOUSER: (Verdict.FINAL, False),
    os.EX_NOHOST: (Verdict.RETRY, True),
    os.EX_UNAVAILABLE: (Verdict.RETRY, False),
    os.EX_SOFTWARE: (Verdict.RETRY, False),
    os.EX_OSERR: (Verdict.RETRY, True),
    os.EX_OSFILE: (Verdict.RETRY, True),
    os.EX_CANTCREAT: (Verdict.RETRY, True),
    os.EX_IOERR: (Verdict.RETRY, True),
    os.EX_TEMPFAIL: (Verdict.RETRY, True),
    os.EX_PROTOCOL: (Verdict.RETRY, True),
    os.EX_NOPERM: (Verdict.FINAL, True),
    os.EX_CONFIG: (Verdict.FINAL, True),
    1: (Verdict.RETRY, False),
    127: (Verdict.FINAL, True),
}


@pytest.mark.parametrize("code", ALONE)
def test_an_exit_code_ends_a_conversation_only_if_it_speaks_of_the_mail(code):
    outcome = _outcome(code, "sendmail: no\n")
    assert (outcome.verdict, outcome.is_of_the_way) == ALONE[code]
    assert (outcome.code, outcome.status, outcome.text) == (code, "", "sendmail: no")


#: As msmtp, ssmtp, OpenSMTPD, Sendmail and Postfix write.
SAID = [
    (65, "msmtp: recipient address b@x not accepted\nmsmtp: server message: 550 5.1.1 no", False),
    (69, "msmtp: the server did not accept the mail\nmsmtp: server message: 554 no", False),
    (1, "sendmail: RCPT TO:<b@x> (550 5.1.1 no such user)", False),
    (70, "send-mail: command failed: 550 Invalid recipient", False),
    (68, "550 5.1.2 b@nowhere... Host unknown", False),
    (67, "b@x... 5.1.1 User unknown", False),
    (75, "sendmail: fatal: a@x(501): message file too big", False),  # seen with Postfix 3.7
    (65, "msmtp: sender not accepted\nmsmtp: server message: 530 5.7.0 log in", True),
    (1, "sendmail: Authorization failed (535 5.7.8 bad credentials)", True),
]  # fmt: skip


@pytest.mark.parametrize(("code", "text", "is_of_the_way"), SAID)
def test_a_refusal_that_the_command_repeats_is_final(code, text, is_of_the_way):
    outcome = _outcome(code, text)
    assert (outcome.verdict, outcome.is_of_the_way) == (Verdict.FINAL, is_of_the_way)


@pytest.mark.parametrize(
    ("code", "answer", "is_of_the_way"),
    [
        (69, "451 4.7.1 greylisted", False),
        (75, "451 4.7.1 greylisted", False),
        (75, "550 5.1.1 as the command sees it, this passes", False),
        (77, "454 4.7.0 no logins at the moment", True),
        (65, "550-5.4.5 Daily user sending\nmsmtp: server message: 550 5.4.5 limit exceeded", True),
        (76, "554 5.3.2 no service here", True),
    ],
)
def test_a_refusal_for_the_moment_that_the_command_repeats_is_tried_again(
    code, answer, is_of_the_way
):
    outcome = _outcome(code, f"msmtp: not accepted\nmsmtp: server message: {answer}\n")
    assert (outcome.verdict, outcome.is_of_the_way) == (Verdict.RETRY, is_of_the_way)


@pytest.mark.parametrize(
    "text",
    [
        "cannot connect to mail.example.org, port 587",
        "mail.example.org:465: connection reset",
        "sendmail: fatal: shop(501): Postfix 5.36.0, process 4512",
        "smtp 5.1.2 has crashed",
    ],
)
def test_a_number_in_the_words_of_a_command_is_no_answer_of_a_server(text):
    outcome = _outcome(os.EX_UNAVAILABLE, text)
    assert (outcome.verdict, outcome.status) == (Verdict.RETRY, "")


def test_the_exit_code_the_status_and_the_words_are_kept():
    outcome = outcome_of("import sys; sys.stderr.write('sendmail: 5.7.1 no'); sys.exit(69)")
    assert outcome == Outcome(Verdict.FINAL, Step.COMMAND, 69, "5.7.1", "sendmail: 5.7.1 no")


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


def test_a_machine_that_is_short_of_processes_is_tried_again_later(monkeypatch):
    def none_left(*_: object, **__: object) -> None:
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(subprocess, "Popen", none_left)
    outcome = outcome_of("")
    assert (outcome.verdict, outcome.is_of_the_way) == (Verdict.RETRY, True)
    assert "Resource temporarily unavailable" in outcome.text


def test_a_disk_that_has_no_room_for_the_words_is_tried_again_later(monkeypatch):
    def full() -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    outcome = outcome_of("")
    assert (outcome.verdict, outcome.is_of_the_way) == (Verdict.RETRY, True)


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


# --- with msmtp, which is the sendmail command of many machines without a queue ----------------

needs_msmtp = pytest.mark.skipif(shutil.which("msmtp") is None, reason="there is no msmtp")


def by_msmtp(folder: Path, port: int, host: str = HOST, **more: str) -> Outcome:
    settings = {"host": host, "port": port, "from": ALICE, "tls": "off", **more}
    lines = (f"{key} {value}\n" for key, value in settings.items())
    (folder / "msmtprc").write_text(f"account default\n{''.join(lines)}")
    (folder / "msmtprc").chmod(0o600)
    command = SendmailCommand(("msmtp", "-C", str(folder / "msmtprc")))
    return command.send(a_mail(), sender=ALICE, recipient=BOB)


@needs_msmtp
def test_msmtp_takes_our_arguments_and_passes_the_mail_on(tmp_path):
    with Scripted() as server:
        outcome = by_msmtp(tmp_path, server.port)
    assert outcome.verdict is Verdict.ACCEPTED
    assert f"MAIL FROM:<{ALICE}>" in server.said[2]
    assert f"RCPT TO:<{BOB}>" in server.said
    assert server.mails == [b"".join(a_mail().pieces())]


@needs_msmtp
@pytest.mark.parametrize("verb", ["mail", "rcpt", "data", "end"])
@pytest.mark.parametrize(
    ("answer", "verdict", "is_of_the_way"),
    [
        (b"451 4.7.1 greylisted\r\n", Verdict.RETRY, False),
        (b"550 5.1.1 no such user\r\n", Verdict.FINAL, False),
        (b"550 5.4.5 Daily user sending limit exceeded.\r\n", Verdict.RETRY, True),
        (CUT, Verdict.RETRY, True),
    ],
)
def test_what_the_mail_server_says_to_msmtp_is_what_counts(
    tmp_path, verb, answer, verdict, is_of_the_way
):
    with Scripted(**{verb: answer}) as server:
        outcome = by_msmtp(tmp_path, server.port)
    assert (outcome.verdict, outcome.is_of_the_way) == (verdict, is_of_the_way)


@needs_msmtp
@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        (b"535 5.7.8 wrong\r\n", Verdict.FINAL),
        (b"454 4.7.0 not now\r\n", Verdict.RETRY),
    ],
)
def test_a_login_of_msmtp_that_is_refused_is_trouble_of_the_way(tmp_path, answer, verdict):
    with Scripted(ehlo=b"250-scripted\r\n250 AUTH PLAIN\r\n", auth=answer) as server:
        outcome = by_msmtp(tmp_path, server.port, auth="plain", user="alice", password="x")
    assert (outcome.verdict, outcome.is_of_the_way) == (verdict, True)
    assert answer.decode().split()[1] == outcome.status


@needs_msmtp
def test_a_mail_server_that_msmtp_does_not_reach_is_tried_again_later(tmp_path):
    with socket.create_server((HOST, 0)) as free:
        port = free.getsockname()[1]
    for outcome in (by_msmtp(tmp_path, port), by_msmtp(tmp_path, 25, "nowhere.invalid")):
        assert (outcome.verdict, outcome.is_of_the_way) == (Verdict.RETRY, True)


@needs_msmtp
def test_a_file_of_msmtp_that_says_nonsense_is_trouble_of_the_way(tmp_path):
    outcome = by_msmtp(tmp_path, 25, nonsense="on")
    assert (outcome.verdict, outcome.is_of_the_way) == (Verdict.FINAL, True)
    assert "unknown command nonsense" in outcome.text
