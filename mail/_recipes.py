"""How mail systems are told to hand our mails to the receiver program: texts to copy.

What differs is who the program runs as, and what becomes of a mail when the program fails.
The `|| exit 75` is for the day on which it is not there any more (a removed virtual
environment, a new interpreter): without it the mail system would return the mails at once.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

__all__ = ["receiver_command", "recipes"]

_PROGRAM: Final = "compoint-mail-receiver"

#: What means the same in a mailcap, an alias file, a shell and each of the filters.
_HARMLESS: Final = re.compile(r"[\w./+@,=: -]+")

_RECIPES: Final = {
    ".forward": """\
# ~/.forward+semper takes what arrives for {user}+semper@..., if the server knows extensions
# (Postfix: recipient_delimiter); ~/.forward takes all mail of {user}: then put a line
# \\{user} above this one, which keeps every mail in the inbox as well. Write it elsewhere and
# mv it into place: a server that is reading the file would take pieces of it for addresses.
"|{command} --swallow || exit 75"
""",
    "procmail": """\
# In ~/.procmailrc, above the recipes for other mail. The second one gives what could not be
# taken back to the mail system, which tries again; without it, it would go to the inbox.
:0 w
* HB ?? ^(Content-Type:.*application/x-semper|U01QU)
* ! ^Content-Type:.*delivery-status
| {command} --swallow

:0 e
{{
    EXITCODE=75
    HOST
}}

# Reports of mail that was not delivered may be about ours; all of them go to the inbox too.
:0 wc
* ^Content-Type:.*delivery-status
| {command} --swallow
""",
    "maildrop": """\
# In ~/.mailfilter, above the rules for other mail. Reports of mail that was not delivered may
# be about ours; all of them go to the inbox too.
if (/^Content-Type:.*delivery-status/)
{{
    cc "|{command} --swallow || exit 75"
}}
elsif (/^Content-Type:.*application\\/x-semper/:hb || /^U01QU/:b)
{{
    to "|{command} --swallow || exit 75"
}}
""",
    "sieve": """\
# Needs the administrator: the plugin sieve_extprograms, and a link to
#   {program}
# in sieve_pipe_bin_dir. What could not be taken goes to the inbox and is not tried again.
# Reports of mail that was not delivered may be about ours; all of them go to the inbox too.
require ["vnd.dovecot.pipe", "copy", "body"];
if header :contains "Content-Type" "delivery-status"
{{
    pipe :copy "{name}" [{arguments}"--swallow"];
}}
elsif anyof (header :contains "Content-Type" "application/x-semper",
             body :raw :contains "U01QU")
{{
    pipe "{name}"{optional};
}}
""",
    "postfix alias": """\
# In a file of {user}, say /home/{user}/mail-aliases: Postfix runs what stands in an alias
# file as the owner of the file, and as nobody if that is root. The administrator adds the
# file to alias_maps in main.cf, and {user} runs postalias on it after each change.
semper: "|{command} --swallow || exit 75"
""",
}


def receiver_command(config: str = "") -> str:
    """The command that starts the receiver program of this installation, for a shell.

    `config`: the `_sempconfig` to use if it is not the one in the home folder.

    Raises:
        ValueError: a path holds characters that mean something to one of the mail systems.
    """
    command = _program()
    if config:
        command += ["--config", os.path.abspath(config)]
    for word in command:
        if not _HARMLESS.fullmatch(word):
            raise ValueError(f"mail systems would misread the path {word!r}; use a plainer one")
    return shlex.join(command)


def recipes(user: str, config: str = "") -> dict[str, str]:
    """For each way a mail can come, by name: the text to copy, with comments.

    Raises:
        ValueError: as `receiver_command`.
    """
    command = receiver_command(config)
    program, *rest = shlex.split(command)
    arguments = ", ".join(f'"{argument}"' for argument in rest)
    return {
        name: text.format(
            user=user,
            command=command,
            program=program,
            name=os.path.basename(program),
            arguments=arguments and f"{arguments}, ",
            optional=arguments and f" [{arguments}]",
        )
        for name, text in _RECIPES.items()
    }


def _program() -> list[str]:
    beside = os.path.join(os.path.dirname(sys.executable), _PROGRAM)
    if os.access(beside, os.X_OK):
        return [beside]
    installed = shutil.which(_PROGRAM)
    if installed:
        return [os.path.abspath(installed)]
    # A checkout that was not installed: mail systems do not know where its packages lie.
    folder = os.path.dirname(os.path.abspath(__file__))
    return [sys.executable, "-P", os.path.join(folder, "receiver.py")]
