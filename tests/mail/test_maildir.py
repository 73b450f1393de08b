"""The Maildir front: ours are taken out, everything else stays as it was."""

from __future__ import annotations

import mailbox as mailboxes
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from front_kit import LETTER, OUR_REPORT, THEIR_REPORT, Box, a_mail

import mail._maildir
from compoint.testing import eventually
from mail._front import LOOK_BACK_S
from mail._maildir import MaildirFront


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path / "spool")


@pytest.fixture
def maildir(tmp_path: Path) -> mailboxes.Maildir:
    return mailboxes.Maildir(tmp_path / "Maildir")


@pytest.fixture
def front(box: Box, maildir: mailboxes.Maildir, tmp_path: Path) -> Iterator[MaildirFront]:
    front = MaildirFront(str(tmp_path / "Maildir"), *box.ears)
    yield front
    front.stop()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What has to be tried again is tried again soon."""
    monkeypatch.setattr(mail._maildir, "RETRY_S", 0.05)


def quiet(front: MaildirFront, box: Box, maildir: mailboxes.Maildir) -> None:
    """Wait until all that is in the Maildir was looked at."""
    count = len(box.put_at)
    maildir.add(a_mail())
    box.eventually_has(count + 1)
    box.eventually_well()


def test_a_mail_of_ours_is_put_and_poked(front, box, maildir) -> None:
    front.start()
    maildir.add(a_mail())
    box.eventually_has(1)
    assert box.mails == [a_mail()]
    eventually(lambda: box.pokes == 1)


def test_a_mail_of_ours_is_taken_out_of_the_maildir(front, box, maildir) -> None:
    front.start()
    maildir.add(a_mail())
    eventually(lambda: box.put_at and len(maildir) == 0)


def test_mails_that_came_before_the_start_are_taken(front, box, maildir) -> None:
    maildir.add(a_mail())
    front.start()
    box.eventually_has(1)


def test_a_mail_that_a_reader_has_moved_to_cur_is_taken(front, box, maildir) -> None:
    message = mailboxes.MaildirMessage(a_mail())
    message.set_subdir("cur")
    message.set_flags("S")
    front.start()
    maildir.add(message)
    box.eventually_has(1)
    eventually(lambda: len(maildir) == 0)


def test_a_letter_of_a_person_stays_untouched(front, box, maildir, tmp_path) -> None:
    maildir.add(LETTER)
    [path] = (tmp_path / "Maildir" / "new").iterdir()
    before = path.stat()
    front.start()
    quiet(front, box, maildir)
    assert path.read_bytes() == LETTER
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == (before.st_mtime_ns, before.st_ino)
    assert box.mails == [a_mail()]


def test_a_letter_is_read_once_even_when_its_reader_gives_it_flags(
    front, box, maildir, monkeypatch
) -> None:
    read: list[str] = []
    content = mail._maildir._content
    monkeypatch.setattr(
        mail._maildir,
        "_content",
        lambda entry, since: read.append(entry.name) or content(entry, since),
    )
    key = maildir.add(LETTER)
    front.start()
    quiet(front, box, maildir)
    message = maildir[key]
    message.set_subdir("cur")
    message.set_flags("RS")
    maildir[key] = message
    quiet(front, box, maildir)
    assert len([name for name in read if name.startswith(key)]) == 1


def test_a_report_about_a_mail_of_ours_is_taken(front, box, maildir) -> None:
    front.start()
    maildir.add(OUR_REPORT)
    box.eventually_has(1)
    eventually(lambda: len(maildir) == 0)


def test_a_report_about_a_persons_mail_is_copied_once_and_left_to_the_person(
    front, box, maildir
) -> None:
    key = maildir.add(THEIR_REPORT)
    front.start()
    box.eventually_has(1)
    quiet(front, box, maildir)
    assert maildir.get_bytes(key) == THEIR_REPORT
    assert box.mails == [THEIR_REPORT, a_mail()]


def test_a_report_of_a_postmaster_is_copied_and_left_to_the_person(front, box, maildir) -> None:
    """In no form: it may be about anything."""
    report = b"Return-Path: <>\nFrom: postmaster@example.org\n\n550 5.1.1 no such user\n"
    key = maildir.add(report)
    front.start()
    box.eventually_has(1)
    quiet(front, box, maildir)
    assert maildir.get_bytes(key) == report
    assert box.mails == [report, a_mail()]


def test_a_mail_that_cannot_be_kept_stays_and_is_taken_later(
    front, box, maildir, impatient
) -> None:
    box.is_full = True
    maildir.add(a_mail())
    front.start()
    eventually(lambda: box.refused >= 2)
    assert len(maildir) == 1
    assert box.troubles == ["mails cannot be kept: the disk of the spool folder is full"]
    assert box.pokes == 0
    box.is_full = False
    box.eventually_has(1)
    box.eventually_well()
    assert len(maildir) == 0


def test_many_mails_are_taken_once_each(front, box, maildir) -> None:
    front.start()
    for number in range(100):
        maildir.add(a_mail(number))
    box.eventually_has(100)
    assert sorted(box.mails) == sorted(map(a_mail, range(100)))


def test_mails_are_taken_in_the_order_of_their_names(front, box, tmp_path) -> None:
    for number in (3, 1, 2):
        (tmp_path / "Maildir" / "new" / f"{number}.x.host").write_bytes(a_mail(number))
    front.start()
    box.eventually_has(3)
    assert box.mails == [a_mail(1), a_mail(2), a_mail(3)]


def test_a_mail_that_was_kept_and_cannot_be_removed_is_not_kept_again(
    front, box, maildir, impatient, monkeypatch
) -> None:
    refused: list[str] = []
    unlink = os.unlink

    def refuse(path: str) -> None:
        if "Maildir" not in str(path):
            unlink(path)
            return
        refused.append(path)
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "unlink", refuse)
    maildir.add(a_mail())
    front.start()
    eventually(lambda: len(refused) >= 3)
    assert len(box.put_at) == 1
    assert "cannot be taken (Permission denied)" in box.troubles[-1]
    monkeypatch.undo()
    eventually(lambda: len(maildir) == 0)


def test_a_mail_that_a_reader_moves_while_it_is_taken_is_taken_once(
    front, box, maildir, tmp_path, monkeypatch
) -> None:
    put = box.put

    def moved_meanwhile(content: bytes) -> None:
        put(content)
        for path in (tmp_path / "Maildir" / "new").iterdir():
            path.rename(tmp_path / "Maildir" / "cur" / f"{path.name}:2,S")

    front._put = moved_meanwhile
    maildir.add(a_mail())
    front.start()
    eventually(lambda: box.put_at and len(maildir) == 0)
    assert len(box.put_at) == 1


def test_a_maildir_that_is_not_there_is_named_and_used_when_it_comes(box, tmp_path) -> None:
    folder = tmp_path / "later"
    front = MaildirFront(str(folder), *box.ears)
    front.start()
    try:
        text = box.eventually_told("cannot be read (No such file or directory)")
        assert str(folder) in text
        mailboxes.Maildir(folder).add(a_mail())
        box.eventually_has(1)
        box.eventually_well()
    finally:
        front.stop()


def test_a_file_that_cannot_be_read_does_not_stop_the_others(
    front, box, maildir, impatient, monkeypatch
) -> None:
    key = maildir.add(a_mail(1))
    content = mail._maildir._content

    def unreadable(entry: os.DirEntry[str], since: float) -> bytes | None:
        if entry.name == key:
            raise PermissionError(13, "Permission denied")
        return content(entry, since)

    monkeypatch.setattr(mail._maildir, "_content", unreadable)
    front.start()
    maildir.add(a_mail(2))
    box.eventually_has(1)
    assert box.mails == [a_mail(2)]
    box.eventually_told("cannot be taken (Permission denied)")


def test_links_pipes_and_hidden_files_are_left_alone(front, box, maildir, tmp_path) -> None:
    new = tmp_path / "Maildir" / "new"
    (tmp_path / "elsewhere").write_bytes(a_mail(1))
    (new / "1.link").symlink_to(tmp_path / "elsewhere")
    os.mkfifo(new / "2.pipe")
    (new / ".hidden").write_bytes(a_mail(2))
    front.start()
    quiet(front, box, maildir)
    assert box.mails == [a_mail()]
    assert sorted(os.listdir(new)) == [".hidden", "1.link", "2.pipe"]


def test_a_mail_that_is_too_large_is_not_read(front, box, maildir, tmp_path, monkeypatch) -> None:
    huge = tmp_path / "Maildir" / "new" / "1.huge"
    with huge.open("wb") as file:
        file.write(a_mail())
        file.truncate(1 << 40)
    read: list[int] = []
    whose = mail._maildir.whose
    monkeypatch.setattr(
        mail._maildir, "whose", lambda content: read.append(len(content)) or whose(content)
    )
    front.start()
    quiet(front, box, maildir)
    assert read == [len(a_mail())]
    assert huge.exists()


def test_mails_older_than_any_conversation_are_not_read(front, box, maildir, tmp_path) -> None:
    old = tmp_path / "Maildir" / "new" / "1.old"
    old.write_bytes(a_mail(1))
    long_ago = time.time() - LOOK_BACK_S - 60
    os.utime(old, (long_ago, long_ago))
    front.start()
    quiet(front, box, maildir)
    assert box.mails == [a_mail()]


def test_mails_are_read_as_long_as_a_conversation_lasts(box, maildir, tmp_path) -> None:
    old, older = (tmp_path / "Maildir" / "new" / f"{number}.old" for number in (1, 2))
    for path, days in ((old, 29), (older, 31)):
        path.write_bytes(a_mail(days))
        os.utime(path, (time.time() - days * 86400,) * 2)
    (tmp_path / "Maildir" / "new" / "3.new").write_bytes(a_mail())
    front = MaildirFront(str(tmp_path / "Maildir"), *box.ears, expire_s=30 * 86400.0)
    front.start()
    try:
        box.eventually_well()
    finally:
        front.stop()
    assert box.mails == [a_mail(29), a_mail()]


def test_a_change_within_the_same_tick_of_the_file_system_is_seen(
    front, box, maildir, tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr(mail._maildir, "SETTLED_S", 1.0)
    new = tmp_path / "Maildir" / "new"
    front.start()
    box.eventually_well()
    at = new.stat().st_mtime_ns
    staged = tmp_path / "staged"
    staged.write_bytes(a_mail())
    staged.rename(new / "1.same.tick")
    os.utime(new, ns=(at, at))
    box.eventually_has(1)


def test_a_mail_that_comes_after_a_long_silence_is_taken_at_once(
    front, box, maildir, monkeypatch
) -> None:
    monkeypatch.setattr(mail._maildir, "SETTLED_S", 0.0)
    front.start()
    eventually(lambda: front._again_at - time.monotonic() > 10)
    maildir.add(a_mail())
    box.eventually_has(1, 5)


def test_a_quiet_maildir_is_not_listed_again_and_again(
    front, box, maildir, tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr(mail._maildir, "LOOK_S", 0.001)
    monkeypatch.setattr(mail._maildir, "SETTLED_S", 0.0)
    listed: list[str] = []
    scandir = os.scandir
    looks: list[object] = []
    stat = os.stat
    front.start()
    box.eventually_well()
    eventually(lambda: front._again_at - time.monotonic() > 10)
    monkeypatch.setattr(os, "scandir", lambda path: listed.append(path) or scandir(path))
    monkeypatch.setattr(os, "stat", lambda *a, **k: looks.append(a) or stat(*a, **k))
    eventually(lambda: len(looks) > 20)
    assert listed == []


def test_stopping_ends_it_at_once_even_among_many_mails(front, box, maildir) -> None:
    for number in range(50):
        maildir.add(a_mail(number))
    put = box.put

    def stop_after_five(content: bytes) -> None:
        put(content)
        if len(box.put_at) == 5:
            front._is_over.set()

    front._put = stop_after_five
    front.start()
    front._thread.join(5)
    assert len(box.put_at) == 5
    assert len(maildir) == 45


def test_stopping_twice_or_before_the_start_is_no_fault(front) -> None:
    front.stop()
    front.start()
    front.stop()
    front.stop()


def test_a_fault_of_ours_is_told_and_does_not_end_the_front(
    front, box, maildir, monkeypatch, caplog
) -> None:
    monkeypatch.setattr("mail._front.RETRY_S", 0.05)

    def fault(verdict: bytes) -> None:
        raise ZeroDivisionError

    whose = mail._maildir.whose
    monkeypatch.setattr(mail._maildir, "whose", fault)
    maildir.add(a_mail())
    front.start()
    box.eventually_told("something unexpected happened (ZeroDivisionError)")
    monkeypatch.setattr(mail._maildir, "whose", whose)
    box.eventually_has(1)
    box.eventually_well()
    assert "please report it" in caplog.text
