"""`compoint mail install`: what it writes, what it prints, and what a mail reader makes of it."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import compoint
from compoint.cli._parser import parser
from mail._mailcap import mailcap_line
from mail._recipes import receiver_command, recipes

Start = Callable[..., Any]

ROOT = Path(compoint.__file__).parents[1]
USER = pwd.getpwuid(os.geteuid()).pw_name
OTHERS = "# mine\ntext/plain; cat %s; copiousoutput\nimage/*; feh %s\n"

needs_run_mailcap = pytest.mark.skipif(
    shutil.which("run-mailcap") is None, reason="run-mailcap (Debian: mailcap) is not installed"
)


class Home:
    """The home folder of a user, with settings for mail."""

    def __init__(self, folder: Path) -> None:
        self.config = folder / "_sempconfig"
        self.spool = folder / "spool"
        self.mailcap = folder / ".mailcap"
        self.config.write_text(
            "[mail]\nreceiverPort = 9\nreturnAddress = bob@example.org\n"
            f"mailHost = smtp.example.org\ntrust = none\nspool = {self.spool}\n"
        )

    @property
    def line(self) -> str:
        return mailcap_line(receiver_command(str(self.config)))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("SEMPCONFIG", "MAILCAPS"):
        monkeypatch.delenv(name, raising=False)
    return Home(tmp_path)


# --- the line ---------------------------------------------------------------------------------


def test_one_line_goes_to_the_top_of_the_mailcap_and_the_rest_stays(
    command: Start, home: Home
) -> None:
    home.mailcap.write_text(OTHERS)
    install = command("mail", "install")
    assert install.ends() == 0
    assert home.mailcap.read_text() == f"{home.line}\n{OTHERS}"
    assert install.said.startswith(
        f"{home.mailcap} has one line more now, at its top:\n\n    {home.line}\n"
    )


def test_a_second_run_changes_nothing(command: Start, home: Home) -> None:
    assert command("mail", "install").ends() == 0
    before = home.mailcap.stat()
    again = command("mail", "install")
    assert again.ends() == 0
    assert home.mailcap.stat() == before
    assert again.said.startswith(f"{home.mailcap} has our line already, nothing was changed:")


def test_an_older_line_of_ours_is_replaced_in_its_place(command: Start, home: Home) -> None:
    home.mailcap.write_text("text/a; a %s\napplication/x-semper; old %s; x-compoint-mail\n")
    install = command("mail", "install")
    assert install.ends() == 0
    assert home.mailcap.read_text() == f"text/a; a %s\n{home.line}\n"
    assert "has another line of ours now, in the place of the old one" in install.said


def test_show_writes_nothing(command: Start, home: Home) -> None:
    show = command("mail", "install", "--show")
    assert show.ends() == 0
    assert not home.mailcap.exists()
    assert show.said.startswith(
        f"`compoint mail install` would write this line into {home.mailcap}:\n\n    {home.line}\n"
    )


def test_show_tells_of_a_line_that_is_there(command: Start, home: Home) -> None:
    assert command("mail", "install").ends() == 0
    show = command("mail", "install", "--show")
    assert show.ends() == 0
    assert show.said.startswith(f"{home.mailcap} has our line:\n\n    {home.line}\n")


def test_show_tells_of_an_older_line_and_of_the_new_one(command: Start, home: Home) -> None:
    old = "application/x-semper; old %s; x-compoint-mail"
    home.mailcap.write_text(f"{old}\n")
    show = command("mail", "install", "--show")
    assert show.ends() == 0
    assert home.mailcap.read_text() == f"{old}\n"
    assert show.said.startswith(f"{home.mailcap} has another line of ours:\n\n    {old}\n")
    assert f"\n    {home.line}\n" in show.said


def test_remove_takes_the_line_out_and_the_rest_stays(command: Start, home: Home) -> None:
    home.mailcap.write_text(OTHERS)
    assert command("mail", "install").ends() == 0
    remove = command("mail", "install", "--remove")
    assert remove.ends() == 0
    assert home.mailcap.read_text() == OTHERS
    assert remove.said.startswith(f"{home.mailcap}: our line is taken out\n")


def test_removing_what_is_not_there_is_no_fault(command: Start, home: Home) -> None:
    remove = command("mail", "install", "--remove")
    assert remove.ends() == 0
    assert not home.mailcap.exists()
    assert "there is no line of ours, nothing was changed" in remove.said


def test_a_mailcap_that_cannot_be_read_is_one_sentence(command: Start, home: Home) -> None:
    home.mailcap.mkdir()
    install = command("mail", "install")
    assert install.ends() == 1
    assert install.said == f"compoint: {home.mailcap}: Is a directory\n"


# --- what is printed --------------------------------------------------------------------------


def test_every_recipe_is_printed_as_it_is_to_be_copied(command: Start, home: Home) -> None:
    show = command("mail", "install", "--show")
    assert show.ends() == 0
    for name, text in recipes(USER, str(home.config)).items():
        assert f"\n--- {name} ---\n{text}" in show.said


def test_what_is_to_be_done_for_mail_readers_is_said(command: Start, home: Home) -> None:
    install = command("mail", "install")
    assert install.ends() == 0
    assert "\n    auto_view application/x-semper\n" in install.said
    assert "Thunderbird, Outlook and web mail do not read mailcap." in install.said
    assert "maildir in [mail], the program fetches its mail itself" in install.said


def test_only_the_program_and_paths_make_a_line_wider_than_100_columns(
    command: Start, home: Home, tmp_path: Path
) -> None:
    install = command("mail", "install")
    assert install.ends() == 0
    program = receiver_command(str(home.config))
    said = install.said.replace(program, "PROGRAM").replace(str(tmp_path), "~")
    said = said.replace(str(ROOT), "~")
    assert [line for line in said.splitlines() if len(line) > 100] == []


# --- settings ---------------------------------------------------------------------------------


def test_the_settings_of_the_command_are_those_of_the_line(
    command: Start, home: Home, tmp_path: Path
) -> None:
    config = tmp_path / "elsewhere"
    home.config.rename(config)
    install = command("mail", "install", "--config", "elsewhere")
    assert install.ends() == 0
    assert f" --config {config} %s;" in home.mailcap.read_text()
    assert f"The receiver program takes its settings from {config}.\n" in install.said


def test_settings_in_the_home_of_the_account_need_not_be_named(home: Home, tmp_path: Path) -> None:
    # The receiver program goes by the account, not by $HOME: so the account has to move.
    script = (
        "import pwd, sys\n"
        "me = pwd.getpwuid(0)\n"
        f"pwd.getpwuid = lambda _: pwd.struct_passwd([*me[:5], {str(tmp_path)!r}, me[6]])\n"
        "from compoint.cli import main\n"
        "sys.exit(main(['mail', 'install', '--show']))\n"
    )
    shown = subprocess.run(
        [sys.executable, "-P", "-c", script], cwd=tmp_path, timeout=30, check=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
    ).stdout  # fmt: skip
    assert mailcap_line(receiver_command()) in shown
    assert "--config" not in shown
    assert "takes its settings from the _sempconfig in your home folder.\n" in shown


def test_settings_without_mail_are_said_to_be_still_to_do(command: Start, home: Home) -> None:
    home.config.write_text("[compoint]\nbacklog = 5\n")
    install = command("mail", "install")
    assert install.ends() == 0
    assert home.mailcap.exists()
    assert (
        f"Still to do: the receiver program takes its settings from {home.config},\n"
        "and so far it would take no mail: the configuration has no receiverPort in [mail].\n"
    ) in install.said


def test_settings_with_a_fault_end_the_command_before_anything_is_written(
    command: Start, home: Home
) -> None:
    home.config.write_text("[mail]\nreceiverPort = nine\n")
    install = command("mail", "install")
    assert install.ends() == 2
    assert "the configuration has" in install.said
    assert not home.mailcap.exists()


def test_a_path_that_mail_systems_would_misread_is_refused(
    command: Start, home: Home, tmp_path: Path
) -> None:
    home.config.rename(tmp_path / "$(touch x)")
    install = command("mail", "install", "--config", "$(touch x)")
    assert install.ends() == 1
    assert install.said.count("\n") == 1
    assert install.said.startswith("compoint: mail systems would misread the path")
    assert not home.mailcap.exists()


# --- what readers make of it ------------------------------------------------------------------


@pytest.mark.parametrize(
    "before",
    [pytest.param("", marks=needs_run_mailcap), "PATH=/nowhere"],
    ids=["run-mailcap", "no run-mailcap"],
)
@pytest.mark.parametrize("option", [[], ["--show"]], ids=["install", "show"])
def test_a_wildcard_line_above_ours_is_named(
    command: Start, home: Home, before: str, option: list[str]
) -> None:
    home.mailcap.write_text(f"application/*; less %s\n{home.line}\n")
    install = command("mail", "install", *option, before=before)
    assert install.ends() == 1
    assert install.said.splitlines()[-1] == (
        f"compoint: {home.mailcap}: mail readers take a line above ours instead of it: "
        "application/*; less %s; move ours above it, or narrow the other"
    )


@needs_run_mailcap
def test_a_line_above_ours_that_does_not_hold_hides_nothing(command: Start, home: Home) -> None:
    home.mailcap.write_text(f"application/*; less %s; test=false\n{home.line}\n")
    assert command("mail", "install").ends() == 0


@needs_run_mailcap
def test_a_mailcap_that_readers_do_not_look_at_is_told(
    command: Start, home: Home, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("application/*; less %s\n")
    install = command("mail", "install", before=f"export MAILCAPS='{elsewhere}'")
    assert install.ends() == 1
    assert "has our line, but run-mailcap would run 'less " in install.said
    elsewhere.write_text("")
    install = command("mail", "install", before=f"export MAILCAPS='{elsewhere}'")
    assert install.ends() == 1
    assert "has our line, but run-mailcap finds nothing to run" in install.said


@needs_run_mailcap
def test_a_part_that_a_reader_shows_gets_into_the_drop_box(
    command: Start, home: Home, tmp_path: Path
) -> None:
    home.mailcap.write_text(OTHERS)  # it has a line for what the receiver program says
    assert command("mail", "install").ends() == 0
    part = tmp_path / "part"
    part.write_bytes(b"SMPR\x01 and more")
    shown = subprocess.run(
        ["run-mailcap", "--action=view", f"application/x-semper:{part}"],
        env=os.environ | {"PYTHONPATH": str(ROOT)}, stdin=subprocess.DEVNULL,
        capture_output=True, timeout=30, check=False,
    )  # fmt: skip
    assert shown.returncode == 0, shown
    (taken,) = (home.spool / "new").iterdir()
    assert taken.read_bytes() == part.read_bytes()


# --- the parser -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", " cancel", " doctor", " flush", " install", " status"])
def test_every_mail_subcommand_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        parser().parse_args(["mail", *name.split(), "--help"])
    assert end.value.code == 0
    assert f"usage: compoint mail{name} " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["dance"], "invalid choice: 'dance'"),
        (["install", "--show", "--remove"], "not allowed with argument --show"),
        (["cancel"], "the following arguments are required: ID"),
        (["flush", "--wait", "long"], "'long' is no number of seconds"),
    ],
)
def test_a_wrong_argument_exits_with_2_and_says_why(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        parser().parse_args(["mail", *arguments])
    assert end.value.code == 2
    assert sentence in capsys.readouterr().err
