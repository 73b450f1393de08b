"""The line in the mailcap: ours is changed, everything else stays as it is."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from receiver_kit import PAYLOAD, Mailbox, program_in

from mail._mailcap import (
    chosen_by_reader,
    hidden_by,
    install,
    mailcap_file,
    mailcap_line,
    remove,
    show,
)
from mail._recipes import receiver_command, recipes

LINE = mailcap_line("/opt/x/compoint-mail-receiver")
OTHERS = b"# mine \xff\r\ntext/html; lynx %s; \\\n  nametemplate=%s.html\n\nimage/*; feh %s"

needs_run_mailcap = pytest.mark.skipif(
    shutil.which("run-mailcap") is None, reason="run-mailcap (Debian: mailcap) is not installed"
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / ".mailcap"


# --- the line ---------------------------------------------------------------------------------


def test_the_line_leaves_quoting_to_the_reader() -> None:
    assert LINE == (
        "application/x-semper; /opt/x/compoint-mail-receiver %s; copiousoutput; "
        'description="SEMPER message"; x-compoint-mail'
    )


def test_the_mailcap_is_the_one_in_the_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/bob")
    assert mailcap_file() == "/home/bob/.mailcap"


def test_it_is_installed_where_there_is_no_mailcap(file: Path) -> None:
    assert install(str(file), LINE)
    assert file.read_text() == LINE + "\n"


def test_it_is_installed_on_top_and_all_else_stays_byte_for_byte(file: Path) -> None:
    file.write_bytes(OTHERS)
    assert install(str(file), LINE)
    assert file.read_bytes() == LINE.encode() + b"\n" + OTHERS


def test_installing_again_changes_nothing(file: Path) -> None:
    install(str(file), LINE)
    before = file.stat()
    assert not install(str(file), LINE)
    assert file.stat() == before


def test_an_older_line_of_ours_is_replaced_in_its_place(file: Path) -> None:
    old = b"application/x-semper; old %s; \\\n  x-compoint-mail\n"
    file.write_bytes(b"text/a; a %s\n" + old + b"text/b; b %s\n" + old)
    assert install(str(file), LINE)
    assert file.read_bytes() == b"text/a; a %s\n" + LINE.encode() + b"\ntext/b; b %s\n"


def test_removing_it_leaves_what_was_there_before(file: Path) -> None:
    file.write_bytes(OTHERS)
    install(str(file), LINE)
    assert remove(str(file))
    assert file.read_bytes() == OTHERS


def test_removing_what_is_not_there_changes_nothing(file: Path) -> None:
    assert not remove(str(file))
    assert not file.exists()


def test_a_line_for_the_same_type_that_is_not_ours_stays(file: Path) -> None:
    file.write_bytes(b"application/x-semper; other %s\n# x-compoint-mail\n")
    assert not remove(str(file))


def test_the_installed_line_is_shown(file: Path) -> None:
    assert show(str(file)) == ""
    file.write_bytes(OTHERS)
    install(str(file), LINE)
    assert show(str(file)) == LINE


# --- the file ---------------------------------------------------------------------------------


def test_the_rights_of_the_file_stay(file: Path) -> None:
    file.write_bytes(OTHERS)
    file.chmod(0o640)
    install(str(file), LINE)
    assert stat.S_IMODE(file.stat().st_mode) == 0o640


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_the_owner_of_the_file_stays(file: Path) -> None:
    file.write_bytes(OTHERS)
    os.chown(file, 65534, 65533)
    install(str(file), LINE)
    assert (file.stat().st_uid, file.stat().st_gid) == (65534, 65533)


def test_a_link_stays_a_link(file: Path, tmp_path: Path) -> None:
    real = tmp_path / "dotfiles" / "mailcap"
    real.parent.mkdir()
    real.write_bytes(OTHERS)
    file.symlink_to(real)
    install(str(file), LINE)
    assert file.readlink() == real
    assert real.read_bytes() == LINE.encode() + b"\n" + OTHERS


def test_a_file_that_cannot_be_replaced_is_as_it_was(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    file.write_bytes(OTHERS)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        install(str(file), LINE)
    assert file.read_bytes() == OTHERS
    assert list(tmp_path.iterdir()) == [file]


# --- what hides it ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "above", ["application/*; less %s", "*/*; less %s", "Application/X-Semper;less %s"]
)
def test_a_line_above_that_fits_too_is_named(file: Path, above: str) -> None:
    file.write_text(f"text/*; more %s\n{above}\n{LINE}\n")
    assert hidden_by(str(file)) == above


@pytest.mark.parametrize("above", ["text/*; less %s", "#application/*; less %s", ""])
def test_other_lines_above_hide_nothing(file: Path, above: str) -> None:
    file.write_text(f"{above}\n{LINE}\napplication/*; less %s\n")
    assert hidden_by(str(file)) == ""


# --- a real reader ----------------------------------------------------------------------------


@needs_run_mailcap
def test_run_mailcap_chooses_our_line(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text("application/*; less %s\n")
    install(str(file), LINE)
    monkeypatch.setenv("MAILCAPS", str(file))
    chosen = chosen_by_reader()
    assert chosen is not None
    assert chosen.startswith("/opt/x/compoint-mail-receiver ")


@needs_run_mailcap
def test_run_mailcap_chooses_nothing_without_a_line(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAILCAPS", str(file))
    assert chosen_by_reader() == ""


def test_without_run_mailcap_nobody_can_be_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert chosen_by_reader() is None


@needs_run_mailcap
def test_a_part_that_is_shown_by_run_mailcap_is_taken(
    file: Path, mailbox: Mailbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "with a space"
    folder.mkdir()
    program_in(folder)
    monkeypatch.setattr(sys, "executable", str(folder / "python"))
    file.write_text("text/plain; cat %s; copiousoutput\n")  # for the line that is said
    install(str(file), mailcap_line(receiver_command(str(mailbox.config))))
    part = tmp_path / "a part; touch $(x) 'y'"
    part.write_bytes(PAYLOAD)
    ran = subprocess.run(
        ["run-mailcap", "--action=view", f"application/x-semper:{part}"],
        env=os.environ | {"MAILCAPS": str(file)}, stdin=subprocess.DEVNULL,
        capture_output=True, timeout=30, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran
    assert mailbox.waiting() == [PAYLOAD]


# --- recipes ----------------------------------------------------------------------------------


def test_every_way_mail_can_come_has_its_recipe() -> None:
    assert set(recipes("bob")) == {".forward", "procmail", "maildrop", "sieve", "postfix alias"}


def test_recipes_name_the_program_of_this_installation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = program_in(tmp_path)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    for text in recipes("bob").values():
        assert str(program) in text


def test_without_an_installed_program_the_file_of_the_checkout_runs_as_mail_systems_run_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mailbox: Mailbox
) -> None:
    interpreter = tmp_path / "python"
    interpreter.symlink_to(sys.executable)
    monkeypatch.setattr(sys, "executable", str(interpreter))
    monkeypatch.setenv("PATH", str(tmp_path))
    command = receiver_command(str(mailbox.config))
    assert command.startswith(f"{interpreter} -P /")
    ran = subprocess.run(
        ["/bin/sh", "-c", command], input=PAYLOAD, env={}, cwd="/", capture_output=True, check=False
    )
    assert (ran.returncode, ran.stderr) == (0, b"")
    assert mailbox.waiting() == [PAYLOAD]


@pytest.mark.parametrize("path", ["/a/%s", "/a;b", "/a'b", "/$(a)", "/a\nb", '/a"', "/a\\b", "/|a"])
def test_a_path_that_mail_systems_would_misread_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="would misread the path"):
        receiver_command(config=path)
