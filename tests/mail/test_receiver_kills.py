"""The receiver program is killed at every step: a mail is in new/ whole, or not at all."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys

import pytest
from receiver_kit import PAYLOAD, PROGRAM, ROOT, Mailbox

_CONTENT = PAYLOAD * 4000

#: Steps: what it calls to keep a mail, killed before the first, after the last, and between.
_KILLED_AT_A_STEP = """
import os, signal, sys
step, when = sys.argv[1:3]
call = getattr(os, step)
files = 0

def fatal(*arguments, **options):
    global files
    # Folders are opened as well: only the mail's own file counts.
    is_mail = step != "open" or bool(arguments[1] & os.O_CREAT)
    files += is_mail
    if is_mail and files == number and when == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    if is_mail and step == "write" and when == "within":
        arguments = (arguments[0], arguments[1][: len(arguments[1]) // 2])
    result = call(*arguments, **options)
    if is_mail and files == number and when != "before":
        os.kill(os.getpid(), signal.SIGKILL)
    return result

number = int(sys.argv[3])
from mail._dropbox import Dropbox
from mail.receiver import ComPointMailReceiver
import mail.receiver, getopt, mail._receiver_config
Dropbox(sys.argv[4])
setattr(os, step, fatal)
sys.exit(ComPointMailReceiver.main(["--config", sys.argv[5]]))
"""


@pytest.mark.parametrize(
    ("step", "when", "number", "is_taken"),
    [
        ("open", "before", 1, False),
        ("open", "after", 1, False),
        ("write", "before", 1, False),
        ("write", "within", 1, False),
        ("write", "after", 1, False),
        ("fsync", "before", 1, False),
        ("fsync", "after", 1, False),
        ("rename", "before", 1, False),
        ("rename", "after", 1, True),
        ("fsync", "before", 2, True),
        ("fsync", "after", 2, True),
    ],
)
def test_a_mail_is_whole_or_not_there(
    mailbox: Mailbox, step: str, when: str, number: int, is_taken: bool
) -> None:
    ran = subprocess.run(
        [
            sys.executable, "-P", "-c", _KILLED_AT_A_STEP, step, when, str(number),
            str(mailbox.spool), str(mailbox.config),
        ],
        env=os.environ | {"PYTHONPATH": str(ROOT)}, input=_CONTENT, capture_output=True,
        timeout=30, check=False,
    )  # fmt: skip
    assert ran.returncode == -signal.SIGKILL, ran.stderr.decode()
    assert mailbox.waiting() == ([_CONTENT] if is_taken else [])


def test_killed_at_any_moment_a_mail_is_whole_or_not_there(mailbox: Mailbox) -> None:
    chance = random.Random(4)
    taken = 0
    for _ in range(60):
        program = subprocess.Popen(
            [*PROGRAM, "--config", mailbox.config], stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL, env=os.environ | {"PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        assert program.stdin is not None
        program.stdin.write(_CONTENT)
        program.stdin.close()
        try:
            program.wait(chance.uniform(0.0, 0.02))
        except subprocess.TimeoutExpired:
            program.kill()
        taken += program.wait(30) == 0
    waiting = mailbox.waiting()
    assert set(waiting) <= {_CONTENT}
    assert len(waiting) >= taken


def test_a_mail_system_that_tries_again_after_a_kill_succeeds(mailbox: Mailbox) -> None:
    mailbox.spool.mkdir(mode=0o700)
    (mailbox.spool / "tmp").mkdir()
    (mailbox.spool / "tmp" / "left-by-the-killed").write_bytes(_CONTENT[:1000])
    assert mailbox.receive(content=_CONTENT).code == 0
    assert mailbox.waiting() == [_CONTENT]
