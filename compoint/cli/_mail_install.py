"""`compoint mail install`: how mail for programs gets from mail readers and systems to us.

One line in the user's mailcap is written, or shown, or taken out; what belongs into the files
of mail systems is printed for copying, since who may change those, and where, only people know.
"""

from __future__ import annotations

import os
import pwd
from typing import TYPE_CHECKING, Final

from compoint.cli._faults import CommandFailed
from compoint.manager import ComManager
from mail._mailcap import (
    chosen_by_reader,
    hidden_by,
    install,
    mailcap_file,
    mailcap_line,
    remove,
    show,
)
from mail._receiver_config import ReceiverConfig, home_folder
from mail._recipes import receiver_command, recipes

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from compoint.cli._output import Output

__all__ = ["receiver_config", "run"]

_READERS: Final = """\
Readers that go by mailcap: neomutt, mutt, alpine. In neomutt and mutt, displaying a mail is
enough with this line in the muttrc:

    auto_view application/x-semper

Thunderbird, Outlook and web mail do not read mailcap. For them, or where nobody is to look at
the mail, the mail system hands it over; that takes one of the following. With imapHost or
maildir in [mail], the program fetches its mail itself and needs none of this.
"""


def run(given: argparse.Namespace, out: Output) -> int:
    """Write, show or remove, and tell what was done and what is to be done."""
    file = mailcap_file()
    if given.remove:
        _remove(file, out)
        return 0
    sources = ComManager.settings().sources
    try:
        config = receiver_config(sources)
        command = receiver_command(config)
        texts = recipes(pwd.getpwuid(os.geteuid()).pw_name, config)
    except ValueError as error:
        raise CommandFailed(str(error)) from error
    line = mailcap_line(command)
    if given.show:
        _show(file, line, out)
    else:
        _install(file, line, out)
    _say(_READERS, out)
    for name, text in texts.items():
        _say(f"--- {name} ---\n{text}", out)
    _tell_settings(config, out)
    if show(file) == line:
        _check(file, command)
    return 0


def _remove(file: str, out: Output) -> None:
    if remove(file):
        out.say(f"{file}: our line is taken out")
    else:
        out.say(f"{file}: there is no line of ours, nothing was changed")
    out.say(
        "What was copied into .forward or another file of a mail system has to be taken out there."
    )


def _show(file: str, line: str, out: Output) -> None:
    there = show(file)
    if there == line:
        _say(f"{file} has our line:\n\n    {line}\n", out)
        return
    if there:
        _say(f"{file} has another line of ours:\n\n    {there}\n", out)
    _say(f"`compoint mail install` would write this line into {file}:\n\n    {line}\n", out)


def _install(file: str, line: str, out: Output) -> None:
    there = show(file)
    if not install(file, line):
        did = "has our line already, nothing was changed"
    elif there:
        did = "has another line of ours now, in the place of the old one"
    else:
        did = "has one line more now, at its top"
    _say(f"{file} {did}:\n\n    {line}\n", out)


def _tell_settings(config: str, out: Output) -> None:
    """Whether the receiver program will find what it needs, by its own eyes."""
    named = config or "the _sempconfig in your home folder"
    try:
        ReceiverConfig(config)
    except ValueError as error:
        _say(
            f"Still to do: the receiver program takes its settings from {named},\n"
            f"and so far it would take no mail: {error}.",
            out,
        )
    else:
        out.say(f"The receiver program takes its settings from {named}.")


def _check(file: str, command: str) -> None:
    """Whether mail readers take our line and no other.

    Raises:
        CommandFailed: they do not; the sentence says which they take.
    """
    chosen = chosen_by_reader()
    if chosen is not None and chosen.startswith(f"{command} "):
        return
    hiding = hidden_by(file)
    if hiding:
        raise CommandFailed(
            f"{file}: mail readers take a line above ours instead of it: {hiding}; "
            "move ours above it, or narrow the other"
        )
    if chosen is not None:
        instead = f"would run {chosen!r}" if chosen else "finds nothing to run"
        raise CommandFailed(
            f"{file} has our line, but run-mailcap {instead}; does $MAILCAPS name other files?"
        )


def receiver_config(sources: Sequence[str]) -> str:
    """The settings file that the receiver program has to be told; empty: it finds it itself.

    Mail systems start it with another environment, in another folder: it looks into the home
    folder of the account only.

    Raises:
        ValueError: the user of this process has none.
    """
    at_home = os.path.join(home_folder(), "_sempconfig")
    if not sources:
        return ""
    if os.path.exists(at_home) and os.path.samefile(sources[0], at_home):
        return ""
    return sources[0]


def _say(text: str, out: Output) -> None:
    for line in text.split("\n"):
        out.say(line)
