"""The drop box: whole mails only, for its owner only, never more than it may hold."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from mail import _dropbox
from mail._dropbox import Dropbox


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "above" / "spool"


@pytest.fixture
def box(folder: Path) -> Dropbox:
    return Dropbox(str(folder))


def _names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def test_a_mail_comes_out_as_it_was_put_in(box: Dropbox) -> None:
    name = box.put(b"\x00one\r\nmail\xff")
    assert box.waiting() == [name]
    assert Path(box.path(name)).read_bytes() == b"\x00one\r\nmail\xff"


def test_mails_wait_in_the_order_in_which_they_came(box: Dropbox) -> None:
    names = [box.put(b"%d" % number) for number in range(20)]
    assert box.waiting() == names


def test_a_mail_that_is_removed_is_gone(box: Dropbox) -> None:
    box.remove(box.put(b"x"))
    assert box.waiting() == []


def test_removing_a_mail_twice_is_no_fault(box: Dropbox) -> None:
    name = box.put(b"x")
    box.remove(name)
    box.remove(name)


def test_folders_and_mails_are_for_their_owner_only(box: Dropbox, folder: Path) -> None:
    before = os.umask(0)
    try:
        file = Path(box.path(Dropbox(str(folder)).put(b"x")))
    finally:
        os.umask(before)
    folders = [folder, *(folder / name for name in ("tmp", "new", "bad"))]
    assert {stat.S_IMODE(place.stat().st_mode) for place in folders} == {0o700}
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_folder_that_is_open_to_others_is_refused(box: Dropbox, folder: Path) -> None:
    folder.chmod(0o750)
    with pytest.raises(PermissionError, match="open to others"):
        Dropbox(str(folder))


def test_a_link_in_place_of_the_folder_is_refused(box: Dropbox, folder: Path) -> None:
    (folder.parent / "link").symlink_to(folder)
    with pytest.raises(NotADirectoryError, match="is a link or a file"):
        Dropbox(str(folder.parent / "link"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_folder_of_somebody_else_is_refused(box: Dropbox, folder: Path) -> None:
    os.chown(folder, 65534, 65534)
    with pytest.raises(PermissionError, match="belongs to somebody else"):
        Dropbox(str(folder))


def test_a_mail_that_cannot_be_written_whole_leaves_nothing(
    box: Dropbox, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(handle: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(OSError, match="Input/output error"):
        box.put(b"x")
    assert _names(folder / "new") == _names(folder / "tmp") == []


def test_a_mail_beyond_the_number_that_may_wait_is_not_taken(
    box: Dropbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_dropbox, "WAITING_FILES", 2)
    kept = [box.put(b"x"), box.put(b"x")]
    with pytest.raises(OSError, match="too much mail waits"):
        box.put(b"x")
    assert box.waiting() == kept


def test_a_mail_beyond_the_bytes_that_may_wait_is_not_taken(
    box: Dropbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_dropbox, "WAITING_BYTES", 10)
    kept = [box.put(b"123456"), box.put(b"1234")]
    with pytest.raises(OSError, match="too much mail waits"):
        box.put(b"1")
    assert box.waiting() == kept


def test_what_killed_writers_left_counts_as_waiting(
    box: Dropbox, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_dropbox, "WAITING_FILES", 1)
    (folder / "tmp" / "left").write_bytes(b"x")
    with pytest.raises(OSError, match="too much mail waits"):
        box.put(b"x")


def test_the_disk_is_not_filled_to_its_end(box: Dropbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_dropbox, "SPARE_BYTES", 1 << 62)
    with pytest.raises(OSError, match="disk of the spool folder is full"):
        box.put(b"x")


def test_a_mail_that_is_set_aside_waits_no_more_and_is_kept(box: Dropbox, folder: Path) -> None:
    name = box.put(b"rubbish")
    box.set_aside(name)
    assert box.waiting() == []
    assert (folder / "bad" / name).read_bytes() == b"rubbish"


def test_what_is_no_file_is_no_mail(box: Dropbox, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes(b"x")
    (folder / "new" / "0.folder").mkdir()
    (folder / "new" / "0.link").symlink_to(tmp_path / "elsewhere")
    os.mkfifo(folder / "new" / "0.pipe")
    name = box.put(b"x")
    assert box.waiting() == [name]


def test_what_will_not_go_does_not_keep_others_from_being_set_aside(
    box: Dropbox, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_dropbox, "BAD_FILES", 1)
    (folder / "bad" / "0.folder").mkdir()
    names = [box.put(b"x") for _ in range(3)]
    for name in names:
        box.set_aside(name)
    assert _names(folder / "bad") == ["0.folder", names[-1]]


def test_the_oldest_of_what_is_set_aside_go_when_there_are_too_many(
    box: Dropbox, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_dropbox, "BAD_FILES", 3)
    names = [box.put(b"x") for _ in range(5)]
    for name in names:
        box.set_aside(name)
    assert _names(folder / "bad") == names[2:]


def test_the_oldest_of_what_is_set_aside_go_when_it_is_too_much(
    box: Dropbox, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_dropbox, "BAD_BYTES", 10)
    names = [box.put(b"1234") for _ in range(4)]
    for name in names:
        box.set_aside(name)
    assert _names(folder / "bad") == names[2:]


def test_tidying_takes_what_killed_writers_left_and_nothing_younger(
    box: Dropbox, folder: Path
) -> None:
    for name, age_s in (("old", _dropbox.ABANDONED_S + 60), ("young", 60)):
        (folder / "tmp" / name).write_bytes(b"x")
        written_at = (folder / "tmp" / name).stat().st_mtime - age_s
        os.utime(folder / "tmp" / name, (written_at, written_at))
    box.tidy()
    assert _names(folder / "tmp") == ["young"]


def test_tidying_leaves_what_is_no_file(box: Dropbox, folder: Path) -> None:
    for name in ("0.folder", "1.folder"):
        (folder / "tmp" / name).mkdir()
        os.utime(folder / "tmp" / name, (0, 0))
    (folder / "tmp" / "old").write_bytes(b"x")
    os.utime(folder / "tmp" / "old", (0, 0))
    box.tidy()
    assert _names(folder / "tmp") == ["0.folder", "1.folder"]
