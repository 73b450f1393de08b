"""The program compoint-mail-receiver: takes one mail into the drop box and tells the reader.

Mail readers start it by a mailcap, with the file of a decoded part; mail systems through a
pipe, with a whole mail on its input. Its exit code decides what becomes of the mail, so it is
0 only when the mail is on the disk, and 75 (try again later) for whatever goes wrong: any
other code makes a mail system return the mail at once, together with what stands on stderr.

It starts for every single mail: what is imported here is the latency of the mail transport.
"""

from __future__ import annotations

import os
import sys

if __name__ == "__main__" and not __package__:
    # By its path, in a checkout that was not installed.
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from mail._glance import is_surely_ours

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Final

__all__ = ["ComPointMailReceiver"]

#: The largest mail that is looked at: above what any provider takes (25 to 50 MB). A larger
#: one is not ours.
MAIL_BYTES: Final = 64 * 1024 * 1024

_NAME: Final = "compoint-mail-receiver"

_USAGE: Final = f"""\
usage: {_NAME} [--config FILE] [--swallow] [FILE]

Takes a mail for the programs of this user: from FILE (a decoded part, or a whole mail), or
from standard input. Mail readers and mail systems start it; see docs/howto/mail.md.

  --config FILE  the _sempconfig with receiverPort (and spool) in [mail]; without it, the
                 file named by $SEMPCONFIG, or _sempconfig in the home folder
  --swallow      exit with 0 on mail that is not for programs, which is thereby lost here

exit codes: 0 taken; 65 not for programs, not taken; 75 could not be taken, try again later
"""


class ComPointMailReceiver:
    """One run of the program."""

    @staticmethod
    def main(arguments: Sequence[str] | None = None) -> int:
        """Take one mail; returns the exit code, and never raises.

        Waits for nothing but its input and the disk.
        """
        try:
            return _run(sys.argv[1:] if arguments is None else arguments)
        except BaseException as error:  # noqa: BLE001 - a traceback would go to the sender
            _say(2, f"{_NAME}: {_reason(error)}; try again later")
            return os.EX_TEMPFAIL


def _run(arguments: Sequence[str]) -> int:
    import getopt  # noqa: PLC0415 - in main's care, as whatever can fail

    from mail._dropbox import Dropbox  # noqa: PLC0415
    from mail._receiver_config import ReceiverConfig  # noqa: PLC0415

    try:
        options, files = getopt.getopt(list(arguments), "", ["config=", "swallow", "help"])
    except getopt.GetoptError as error:
        raise ValueError(str(error)) from None
    given = dict(options)
    if "--help" in given:
        _say(1, _USAGE)
        return os.EX_OK
    if len(files) > 1:
        raise ValueError("one file at a time")
    content = _content(files[0] if files else "")
    config = ReceiverConfig(given.get("--config", ""))
    if not _is_ours(content):
        _say(1, "This mail is not for programs.")
        return os.EX_OK if "--swallow" in given else os.EX_DATAERR
    Dropbox(config.spool).put(content)
    _poke(config.port)
    if files:  # A mail reader shows it; mail systems may take any output for a failure.
        _say(1, f"SEMPER message taken ({len(content)} bytes).")
    return os.EX_OK


def _content(file: str) -> bytes:
    """All of it: a mail reader removes the file when this program returns."""
    pieces = []
    room = MAIL_BYTES + 1
    try:
        with open(file or 0, "rb", buffering=0, closefd=bool(file)) as source:
            while room and (piece := source.read(min(room, 1024 * 1024))):
                pieces.append(piece)
                room -= len(piece)
    except OSError as error:
        raise ValueError(f"the mail cannot be read ({error.strerror})") from None
    return b"".join(pieces)


def _is_ours(content: bytes) -> bool:
    if len(content) > MAIL_BYTES:
        return False
    if is_surely_ours(content):
        return True
    import io  # noqa: PLC0415

    from mail._find import Kind, find  # noqa: PLC0415 - the email package, rarely needed

    return find(io.BytesIO(content)).kind is not Kind.FOREIGN


def _poke(port: int) -> None:
    """Tell the reader that there is mail: one datagram, that never waits and may be lost.

    It carries nothing, so a forged one costs a look into the folder. Who is not listening
    looks into the folder when it starts.
    """
    # The module under `socket`, whose own import costs as much as all the rest of this run.
    import _socket  # noqa: PLC0415

    try:
        poker = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM)
        try:
            poker.setblocking(False)
            poker.sendto(b"\n", ("127.0.0.1", port))
        finally:
            poker.close()
    except OSError:
        pass


def _reason(error: BaseException) -> str:
    """For the sender's eyes too: no paths, nothing of the mail."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, ValueError) and type(error) is ValueError:
        return str(error)
    return f"something unexpected happened ({type(error).__name__})"


def _say(descriptor: int, text: str) -> None:
    """Say it to whoever listens; a closed output is no fault.

    Not by print: what is left in its buffer could still fail, and change the exit code,
    when the interpreter ends.
    """
    try:
        os.write(descriptor, f"{text.rstrip()}\n".encode())
    except OSError:
        pass


if __name__ == "__main__":
    sys.exit(ComPointMailReceiver.main())
