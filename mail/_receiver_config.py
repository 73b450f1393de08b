"""What the receiver program needs of the `_sempconfig`: two settings, read without the rest.

It starts for every mail, and under a mail system: there the current folder is the queue's and
$HOME may be missing, so neither is looked at. Faults elsewhere in the file are not its concern.
"""

from __future__ import annotations

import configparser
import os
import pwd

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

__all__ = ["ReceiverConfig", "home_folder", "whole_path"]

#: Where the drop box is unless `spool` says something else.
DEFAULT_SPOOL: Final = "~/.compoint/mail"


class ReceiverConfig:
    """The port to poke, and the folder of the drop box."""

    def __init__(self, path: str = "") -> None:
        """Read `path`, else the file named by $SEMPCONFIG, else the one in the home folder.

        Raises:
            ValueError: it cannot be read, or mail is not set up there; the text is for
                people and names no path.
        """
        home = home_folder()
        text = _text(path or os.environ.get("SEMPCONFIG") or os.path.join(home, "_sempconfig"))
        # As in compoint.config: keys as written, no [DEFAULT], no interpolation.
        ini = configparser.RawConfigParser(default_section="\n", empty_lines_in_values=False)
        ini.optionxform = str  # type: ignore[assignment,method-assign]
        try:
            ini.read_string(text)
        except configparser.Error:
            raise ValueError("the configuration is not one") from None
        self.port: Final = _port(ini.get("mail", "receiverPort", fallback=""))
        self.spool: Final = whole_path(ini.get("mail", "spool", fallback=DEFAULT_SPOOL), home)


def home_folder() -> str:
    """That of the process' user; not $HOME, which mail systems leave out.

    Raises:
        ValueError: the user has none.
    """
    try:
        return pwd.getpwuid(os.geteuid()).pw_dir
    except KeyError:
        raise ValueError("the user of this process has no account") from None


def _text(path: str) -> str:
    try:
        with open(path, "rb") as file:
            raw = file.read()
    except OSError as error:
        raise ValueError(f"the configuration cannot be read ({error.strerror})") from None
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError("the configuration is not one") from None


def _port(text: str) -> int:
    if not text:
        raise ValueError("the configuration has no receiverPort in [mail]")
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and 0 < int(text) <= 65_535):
        raise ValueError("receiverPort is not the number of a port")
    return int(text)


def whole_path(text: str, home: str) -> str:
    """The path of a folder that is written whole, or from `~` on.

    Raises:
        ValueError: it is not.
    """
    folder = home + text[1:] if text == "~" or text.startswith("~/") else text
    if not os.path.isabs(folder):
        raise ValueError("spool is not the whole path of a folder")
    return os.path.normpath(folder)
