"""The receiver program: what it takes, what it answers, and that it never says more than it may."""

from __future__ import annotations

import json
import os
import pwd
import resource
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from receiver_kit import PAYLOAD, PROGRAM, ROOT, Mailbox, Ran, mail_of, receive

_HEAVY = {
    "asyncio", "cryptography", "email", "h11", "logging", "msgspec", "requests", "smtplib",
    "socket", "ssl", "sqlite3", "subprocess", "threading", "compoint.tcp", "compoint.http",
}  # fmt: skip
_MOST_S = 0.06


def _fails_softly(ran: Ran, why: str) -> None:
    """What a mail system sends back to the author of a mail must tell nothing of this machine."""
    assert ran.code == 75
    assert why in ran.err
    assert ran.err.startswith("compoint-mail-receiver: ")
    assert ran.err.count("\n") == 1
    assert ran.err.endswith("; try again later\n")
    assert "/" not in ran.err
    assert ran.out == ""


# --- taken ------------------------------------------------------------------------------------


def test_a_decoded_part_in_a_file_is_taken(mailbox: Mailbox, tmp_path: Path) -> None:
    (tmp_path / "part").write_bytes(PAYLOAD)
    assert mailbox.receive(tmp_path / "part").code == 0
    assert mailbox.waiting() == [PAYLOAD]


def test_a_decoded_part_on_its_input_is_taken(mailbox: Mailbox) -> None:
    assert mailbox.receive(content=PAYLOAD).code == 0
    assert mailbox.waiting() == [PAYLOAD]


def test_a_whole_mail_on_its_input_is_taken_as_it_is(mailbox: Mailbox) -> None:
    content = b"From alice@example.org Fri Nov 20 12:00:00 2026\n" + mail_of()
    assert mailbox.receive(content=content).code == 0
    assert mailbox.waiting() == [content]


def test_a_whole_mail_in_a_file_is_taken(mailbox: Mailbox, tmp_path: Path) -> None:
    (tmp_path / "mail").write_bytes(mail_of())
    assert mailbox.receive(tmp_path / "mail").code == 0
    assert mailbox.waiting() == [mail_of()]


def test_a_mail_that_a_gateway_has_encoded_anew_is_taken(mailbox: Mailbox) -> None:
    content = mail_of(encoding="quoted-printable")
    assert mailbox.receive(content=content).code == 0
    assert mailbox.waiting() == [content]


def test_a_report_of_a_mail_system_is_taken(mailbox: Mailbox) -> None:
    content = mail_of(b"no such user", "8bit", From="MAILER-DAEMON@example.org")
    assert mailbox.receive(content=content).code == 0
    assert mailbox.waiting() == [content]


def test_one_line_is_said_to_who_displays_a_part(mailbox: Mailbox, tmp_path: Path) -> None:
    (tmp_path / "part").write_bytes(PAYLOAD)
    ran = mailbox.receive(tmp_path / "part")
    assert ran == Ran(0, f"SEMPER message taken ({len(PAYLOAD)} bytes).\n", "")


def test_nothing_is_said_to_a_mail_system_about_what_is_taken(mailbox: Mailbox) -> None:
    """Exim with `return_output` returns a mail whose program has said anything."""
    assert mailbox.receive(content=mail_of()) == Ran(0, "", "")


def test_many_at_once_are_all_taken(mailbox: Mailbox) -> None:
    contents = [PAYLOAD + b"%d" % number for number in range(8)]
    programs = [
        subprocess.Popen(
            [*PROGRAM, "--config", mailbox.config], stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL, env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
        for _ in contents
    ]  # fmt: skip
    for program, content in zip(programs, contents, strict=True):
        program.communicate(content, timeout=30)
    assert [program.returncode for program in programs] == [0] * 8
    assert sorted(mailbox.waiting()) == contents


# --- the poke ---------------------------------------------------------------------------------


def test_the_reader_is_poked_when_the_mail_is_there(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as reader:
        reader.bind(("127.0.0.1", 0))
        reader.settimeout(10)
        mailbox = Mailbox(tmp_path, port=reader.getsockname()[1])
        assert mailbox.receive(content=PAYLOAD).code == 0
        assert len(reader.recv(100)) == 1
    assert mailbox.waiting() == [PAYLOAD]


def test_a_reader_that_does_not_run_is_no_fault(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as nobody:
        nobody.bind(("127.0.0.1", 0))
        mailbox = Mailbox(tmp_path, port=nobody.getsockname()[1])
    assert mailbox.receive(content=PAYLOAD).code == 0
    assert mailbox.waiting() == [PAYLOAD]


# --- the configuration ------------------------------------------------------------------------


def test_the_configuration_named_by_the_environment_is_used(mailbox: Mailbox) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "SEMPCONFIG": str(mailbox.config)}
    assert receive(content=PAYLOAD, env=environment).code == 0
    assert mailbox.waiting() == [PAYLOAD]


def test_the_configuration_that_is_asked_for_comes_first(mailbox: Mailbox, tmp_path: Path) -> None:
    environment = {"PYTHONPATH": str(ROOT), "SEMPCONFIG": str(tmp_path / "missing")}
    assert mailbox.receive(content=PAYLOAD, env=environment).code == 0


def test_the_current_folder_has_no_say(mailbox: Mailbox) -> None:
    """Under a mail system it is the queue's."""
    if (Path(pwd.getpwuid(os.geteuid()).pw_dir) / "_sempconfig").exists():
        pytest.skip("the home folder holds a _sempconfig, which the program would use")
    ran = receive(content=PAYLOAD, cwd=mailbox.folder, env={"PYTHONPATH": str(ROOT)})
    _fails_softly(ran, "the configuration cannot be read")
    assert mailbox.waiting() == []


def test_an_empty_environment_is_enough(mailbox: Mailbox) -> None:
    """So starts pipe(8) of Postfix: no HOME."""
    ran = mailbox.receive(content=PAYLOAD, env={"PYTHONPATH": str(ROOT)}, cwd="/")
    assert ran.code == 0


def test_faults_elsewhere_in_the_configuration_are_not_its_concern(mailbox: Mailbox) -> None:
    mailbox.config.write_text(mailbox.config.read_text() + "new = 1\n[newer]\nkey = %(value\n")
    assert mailbox.receive(content=PAYLOAD).code == 0


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({}, "no receiverPort"),
        ({"receiverPort": "0"}, "not the number of a port"),
        ({"receiverPort": "65536"}, "not the number of a port"),
        ({"receiverPort": "smtp"}, "not the number of a port"),
        ({"receiverPort": "7101", "spool": "here"}, "not the whole path"),
        ({"receiverPort": "7101", "spool": "/dev/null/spool"}, "Not a directory"),
        ({"receiverPort": "7101\n[mail]"}, "the configuration is not one"),
        ({"receiverPort": "7101", "\udcff": "1"}, "the configuration is not one"),
    ],
)
def test_a_mail_is_kept_by_the_mail_system_while_the_configuration_is_wrong(
    mailbox: Mailbox, settings: dict[str, str], why: str
) -> None:
    lines = [f"{key} = {value}\n" for key, value in settings.items()]
    mailbox.config.write_bytes("".join(["[mail]\n", *lines]).encode(errors="surrogateescape"))
    _fails_softly(mailbox.receive(content=PAYLOAD), why)


# --- what cannot be taken ---------------------------------------------------------------------


def test_a_file_that_is_missing_can_come_later(mailbox: Mailbox, tmp_path: Path) -> None:
    ran = mailbox.receive(tmp_path / "missing")
    _fails_softly(ran, "the mail cannot be read (No such file or directory)")


def test_wrong_arguments_return_no_mail(mailbox: Mailbox) -> None:
    _fails_softly(mailbox.receive("--swalow", content=PAYLOAD), "option --swalow not recognized")
    _fails_softly(mailbox.receive("one", "two", content=PAYLOAD), "one file at a time")


def test_a_closed_input_returns_no_mail(mailbox: Mailbox) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    ran = subprocess.run(
        ["sh", "-c", '"$@" <&-', "sh", *PROGRAM, "--config", mailbox.config],
        env=environment, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert ran.returncode == 75


def test_a_closed_output_is_no_fault(mailbox: Mailbox) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    ran = subprocess.run(
        ["sh", "-c", '"$@" >&- 2>&-', "sh", *PROGRAM, "--config", mailbox.config],
        env=environment, input=PAYLOAD, timeout=30, check=False,
    )  # fmt: skip
    assert ran.returncode == 0
    assert mailbox.waiting() == [PAYLOAD]


def test_nobody_who_reads_the_output_is_no_fault(mailbox: Mailbox) -> None:
    ours, theirs = os.pipe()
    os.close(ours)
    try:
        ran = subprocess.run(
            [*PROGRAM, "--config", mailbox.config], env=os.environ | {"PYTHONPATH": str(ROOT)},
            input=PAYLOAD, stdout=theirs, stderr=theirs, timeout=30, check=False,
        )  # fmt: skip
    finally:
        os.close(theirs)
    assert ran.returncode == 0


def test_a_fault_nobody_thought_of_returns_no_mail_and_shows_no_traceback(
    mailbox: Mailbox, tmp_path: Path
) -> None:
    (tmp_path / "shadow").mkdir()
    (tmp_path / "shadow" / "configparser.py").write_text("raise RuntimeError('/secret')")
    path = os.pathsep.join([str(tmp_path / "shadow"), str(ROOT)])
    ran = mailbox.receive(content=PAYLOAD, env=os.environ | {"PYTHONPATH": path})
    _fails_softly(ran, "something unexpected happened (RuntimeError)")


def test_a_spool_that_is_open_to_others_takes_nothing(mailbox: Mailbox) -> None:
    mailbox.spool.mkdir(mode=0o755)
    _fails_softly(mailbox.receive(content=PAYLOAD), "the spool folder is open to others")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_spool_of_somebody_else_takes_nothing(mailbox: Mailbox) -> None:
    mailbox.spool.mkdir(mode=0o700)
    os.chown(mailbox.spool, 65534, 65534)
    _fails_softly(mailbox.receive(content=PAYLOAD), "belongs to somebody else")
    assert list(mailbox.spool.iterdir()) == []


def test_a_mail_that_does_not_fit_on_the_disk_is_not_half_taken(mailbox: Mailbox) -> None:
    def small_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    ran = mailbox.receive(content=PAYLOAD * 1000, preexec_fn=small_files)
    _fails_softly(ran, "File too large")
    assert mailbox.files("new") == mailbox.files("tmp") == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
def test_a_full_disk_keeps_the_mail_in_the_mail_system(mailbox: Mailbox) -> None:
    mailbox.spool.mkdir(mode=0o700)
    options = ["-t", "tmpfs", "-o", "size=1m,mode=0700", "tmpfs", str(mailbox.spool)]
    mounted = subprocess.run(["mount", *options], capture_output=True, timeout=30, check=False)
    if mounted.returncode:
        pytest.skip("this system does not let its root mount a small disk")
    try:
        _fails_softly(mailbox.receive(content=PAYLOAD), "the disk of the spool folder is full")
        assert mailbox.waiting() == []
    finally:
        subprocess.run(["umount", str(mailbox.spool)], timeout=30, check=True)


# --- mail of others ---------------------------------------------------------------------------

_LETTER = mail_of(b"Dear Bob, how are you?", "8bit")


def test_mail_for_people_is_not_taken(mailbox: Mailbox) -> None:
    ran = mailbox.receive(content=_LETTER)
    assert ran == Ran(65, "This mail is not for programs.\n", "")
    assert mailbox.waiting() == []


def test_mail_for_people_is_swallowed_when_told_so(mailbox: Mailbox) -> None:
    assert mailbox.receive("--swallow", content=_LETTER).code == 0
    assert mailbox.waiting() == []


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"])
def test_a_letter_with_a_whole_mail_of_ours_copied_into_it_is_not_taken(
    mailbox: Mailbox, line_end: bytes
) -> None:
    letter = b"From: alice@example.org\n\nDear Bob, what is this?\n\n" + mail_of()
    assert mailbox.receive(content=letter.replace(b"\n", line_end)).code == 65
    assert mailbox.waiting() == []


def test_an_empty_mail_is_not_taken(mailbox: Mailbox) -> None:
    assert mailbox.receive(content=b"").code == 65


def test_a_mail_larger_than_any_provider_takes_is_not_taken(
    mailbox: Mailbox, tmp_path: Path
) -> None:
    with (tmp_path / "huge").open("wb") as huge:
        huge.write(PAYLOAD)
        huge.truncate(64 * 1024 * 1024 + 1)
    assert mailbox.receive(tmp_path / "huge").code == 65


def test_a_mail_nested_a_thousand_deep_is_not_taken(mailbox: Mailbox) -> None:
    head = b"".join(
        b'Content-Type: multipart/mixed; boundary="%d"\n\n--%d\n' % (n, n) for n in range(2000)
    )
    assert mailbox.receive(content=head + b"\nhello\n").code == 65


# --- its weight -------------------------------------------------------------------------------

_WEIGHED = """
import json, sys, time
from mail.receiver import ComPointMailReceiver
code = ComPointMailReceiver.main(sys.argv[1:])
print(json.dumps([code, time.process_time(), sorted(sys.modules)]))
"""


def _weighed(mailbox: Mailbox, content: bytes) -> Any:
    ran = subprocess.run(
        [sys.executable, "-P", "-c", _WEIGHED, "--config", mailbox.config],
        env=os.environ | {"PYTHONPATH": str(ROOT)}, input=content,
        capture_output=True, timeout=30, check=True,
    )  # fmt: skip
    return json.loads(ran.stdout.splitlines()[-1])


def test_a_run_brings_nothing_heavy(mailbox: Mailbox) -> None:
    code, _, modules = _weighed(mailbox, mail_of())
    assert code == 0
    assert sorted(_HEAVY & set(modules)) == []


def test_a_run_takes_less_than_60_ms_with_the_start_of_the_interpreter(mailbox: Mailbox) -> None:
    assert min(_weighed(mailbox, mail_of())[1] for _ in range(7)) < _MOST_S


def test_the_usage_names_every_exit_code() -> None:
    ran = receive("--help")
    assert ran.code == 0
    assert "exit codes: 0 taken; 65 not for programs" in ran.out
    assert "75 could not be taken" in ran.out
