"""How mail systems are told to hand our mails to the receiver program: texts to copy.

What differs is who the program runs as, and what becomes of a mail by its exit code: 0, it is
taken; 65, it is a person's; anything else, it has to be tried again. That is not only 75: on
the day on which the program cannot start any more (a removed virtual environment, a new
interpreter) the code is another, by which the mail system would return the mails at once.
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
    # Exim splits this line without a shell: so one is named, and nothing has to be quoted twice,
    # as the empty IFS keeps the words of the command whole. By some of its settings
    # (return_output) it returns a mail, instead of trying again, when anything is printed.
    ".forward": """\
# ~/.forward+semper takes what arrives for {user}+semper@... (or with another word in both
# places), if the server knows extensions (Postfix: recipient_delimiter). ~/.forward takes all
# mail of {user}. Either must be an address for programs only, as mail of people is returned to
# them; where people write to it too, take procmail, maildrop or Sieve. Have no other line in
# the file: what it keeps would come again with each new try. Write the file elsewhere and mv it
# into place: a server that is reading it would take pieces for addresses. For Postfix and Exim;
# why a mail could not be taken is not in their logs, `compoint mail doctor` tells.
"|/bin/sh -c 'IFS=; $0 $@ 2>/dev/null && exit; [ $? = 65 ] && exit 65; exit 75' {command}"
""",
    "procmail": """\
# In ~/.procmailrc, above the recipes for other mail. What looks like ours and is not (65) goes
# on to those; what could not be taken stays in the mail system, which tries again.
:0
* HB ?? ^(Content-Type:.*application/x-semper|U01QU)
* ! ^(Content-Type:.*delivery-status|From:.*mail(er)?-daemon)
{{
    :0 w
    | {command}

    TAKEN=$?

    :0
    * ! TAKEN ?? ^^65^^
    {{
        EXITCODE=75
        HOST
    }}
}}

# Reports of mail that was not delivered may be about ours; all of them go to the inbox too.
:0 wc
* ^(Content-Type:.*delivery-status|From:.*mail(er)?-daemon)
| {command} --swallow

:0 e
{{
    EXITCODE=75
    HOST
}}
""",
    "maildrop": """\
# In ~/.mailfilter, above the rules for other mail. What looks like ours and is not (65) goes on
# to those; what could not be taken stays in the mail system, which tries again. Reports of mail
# that was not delivered may be about ours; all of them go to the inbox too.
SHELL="/bin/sh"
if (/^Content-Type:.*delivery-status/ || /^From:.*mail(er)?-daemon/)
{{
    `{command} --swallow`
    if ($RETURNCODE != 0)
    {{
        EXITCODE=75
        exit
    }}
}}
elsif (/^Content-Type:.*application\\/x-semper/:hb || /^U01QU/:b)
{{
    `{command}`
    if ($RETURNCODE == 0)
    {{
        EXITCODE=0
        exit
    }}
    if ($RETURNCODE != 65)
    {{
        EXITCODE=75
        exit
    }}
}}
""",
    "sieve": """\
# At the top of the Sieve script of {user} (often ~/.dovecot.sieve), `require` before all else.
# Needs the administrator, in Dovecot's section plugin:
#   sieve_plugins = sieve_extprograms
#   sieve_extensions = +vnd.dovecot.pipe
#   sieve_pipe_bin_dir = a folder in which {name} is a link to
#     {program}
# What could not be taken goes to the inbox and is not tried again. Reports of mail that was not
# delivered may be about ours; all of them go to the inbox too.
require ["vnd.dovecot.pipe", "copy", "body"];
if anyof (header :contains "Content-Type" "delivery-status",
          header :contains "From" ["mailer-daemon", "mail-daemon"])
{{
    pipe :copy "{name}" [{arguments}"--swallow"];
}}
elsif anyof (header :contains "Content-Type" "application/x-semper",
             body :raw :contains :comparator "i;octet" "U01QU")
{{
    pipe "{name}"{optional};
    stop;
}}
""",
    "postfix alias": """\
# In a file of {user}, say /home/{user}/mail-aliases: Postfix runs what stands in an alias
# file as the owner of the file, and as nobody if that is root. It takes what arrives for
# semper@... (or with another word that is no alias or user yet): an address for programs only,
# as mail of people is returned to them. After each change {user} runs
#   postalias /home/{user}/mail-aliases
# and the administrator, once, adds the file to what stands in main.cf already, such as
#   alias_maps = hash:/etc/aliases, hash:/home/{user}/mail-aliases
# (hash, or what `postconf default_database_type` prints), and runs `postfix reload`.
semper: "|{command} || {{ [ $? = 65 ] && exit 65; exit 75; }}"
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
