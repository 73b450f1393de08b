"""A file on its way in leaves either all of itself or nothing."""

import errno
import os
import stat
from pathlib import Path

import pytest

from compoint.cli._faults import CommandFailed
from compoint.cli._incoming import IncomingFile


def names(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir())


def test_a_stored_file_is_the_only_thing_in_the_folder(tmp_path: Path) -> None:
    with IncomingFile(str(tmp_path), "a", may_overwrite=False) as file:
        file.write(b"one ")
        file.write(b"two")
        file.store()
    assert names(tmp_path) == ["a"]
    assert (tmp_path / "a").read_bytes() == b"one two"


def test_until_it_is_stored_nothing_has_its_name(tmp_path: Path) -> None:
    with IncomingFile(str(tmp_path), "a", may_overwrite=False) as file:
        file.write(b"half")
        assert len(names(tmp_path)) == 1
        assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("end", [KeyboardInterrupt, OSError, SystemExit])
def test_whatever_ends_it_early_nothing_is_left(tmp_path: Path, end: type[BaseException]) -> None:
    with (  # noqa: PT012 - what the end of the block does is tested
        pytest.raises(end),
        IncomingFile(str(tmp_path), "a", may_overwrite=True) as file,
    ):
        file.write(b"half")
        raise end
    assert names(tmp_path) == []


def test_an_existing_file_is_refused_before_anything_is_collected(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"precious")
    file = IncomingFile(str(tmp_path), "a", may_overwrite=False)
    with pytest.raises(CommandFailed, match="exists already; --overwrite would replace it"):
        file.__enter__()
    assert names(tmp_path) == ["a"]


def test_a_file_that_appears_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    with (  # noqa: PT012 - the block is what fails
        pytest.raises(CommandFailed, match="exists already"),
        IncomingFile(str(tmp_path), "a", may_overwrite=False) as file,
    ):
        file.write(b"new")
        (tmp_path / "a").write_bytes(b"precious")
        file.store()
    assert names(tmp_path) == ["a"]
    assert (tmp_path / "a").read_bytes() == b"precious"


def test_a_file_is_replaced_only_if_that_was_asked_for(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"old")
    with IncomingFile(str(tmp_path), "a", may_overwrite=True) as file:
        file.write(b"new")
        assert (tmp_path / "a").read_bytes() == b"old"
        file.store()
    assert names(tmp_path) == ["a"]
    assert (tmp_path / "a").read_bytes() == b"new"


def test_a_link_in_the_place_of_the_file_is_replaced_and_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    into = tmp_path / "into"
    into.mkdir()
    (into / "a").symlink_to(victim)
    with IncomingFile(str(into), "a", may_overwrite=True) as file:
        file.write(b"new")
        file.store()
    assert victim.read_bytes() == b"precious"
    assert (into / "a").read_bytes() == b"new"
    assert not (into / "a").is_symlink()


def test_a_link_to_nowhere_counts_as_an_existing_file(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "nowhere")
    with pytest.raises(CommandFailed, match="exists already"):
        IncomingFile(str(tmp_path), "a", may_overwrite=False).__enter__()


def test_a_folder_of_the_same_name_is_refused_even_with_overwrite(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(CommandFailed, match="there is a folder of this name"):
        IncomingFile(str(tmp_path), "a", may_overwrite=True).__enter__()


def test_a_folder_that_vanishes_is_named_here_and_not_to_the_peer(tmp_path: Path) -> None:
    into = tmp_path / "secret place"
    into.mkdir()
    with (  # noqa: PT012 - the block is what fails
        pytest.raises(CommandFailed, match=r"/a: .* the folder is gone") as caught,
        IncomingFile(str(into), "a", may_overwrite=False) as file,
    ):
        for each in into.iterdir():
            each.unlink()
        into.rmdir()
        file.store()
    assert "secret place" in str(caught.value)
    assert caught.value.for_peer == "a cannot be stored: the folder is gone"


def test_where_the_disk_knows_no_links_the_file_is_renamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def link(*_: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", link)
    with IncomingFile(str(tmp_path), "a", may_overwrite=False) as file:
        file.write(b"new")
        file.store()
    assert names(tmp_path) == ["a"]


def test_a_stored_file_has_the_rights_that_new_files_get(tmp_path: Path) -> None:
    (tmp_path / "ordinary").touch()
    with IncomingFile(str(tmp_path), "a", may_overwrite=False) as file:
        file.store()
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("ordinary", "a")}
    assert len(modes) == 1
