"""One line in the user's mailcap (RFC 1524), by which mail readers start the receiver program.

The line carries a mark of its own and is the only thing that is ever changed. A new one goes
to the top of the file, since readers take the first line that fits.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import subprocess
import tempfile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

__all__ = [
    "chosen_by_reader",
    "hidden_by",
    "install",
    "mailcap_file",
    "mailcap_line",
    "remove",
    "show",
]

_TYPE: Final = "application/x-semper"

#: RFC 1524 lets private fields begin with x-; readers pass over them.
_MARK: Final = "x-compoint-mail"

_OURS: Final = re.compile(rb";[ \t]*" + _MARK.encode() + rb"[ \t]*(;|$)")

#: With a backslash at its end, a line goes on in the next one.
_ENTRY: Final = re.compile(rb"(?:[^\n]*\\\n)*[^\n]*(?:\n|\Z)")

_RUN_MAILCAP_S: Final = 10.0


def mailcap_file() -> str:
    """The user's mailcap, which readers look at before those of the system."""
    return os.path.expanduser("~/.mailcap")


def mailcap_line(command: str) -> str:
    """The line for a command of the receiver program.

    %s stands without quotes: readers quote it themselves. No other % is used, since the
    names and parameters of parts are the sender's words.
    """
    return f'{_TYPE}; {command} %s; copiousoutput; description="SEMPER message"; {_MARK}'


def show(file: str) -> str:
    """The installed line; empty if there is none."""
    ours = [entry for entry in _entries(_read(file)) if _is_ours(entry)]
    return ours[0].decode(errors="replace").rstrip("\r\n") if ours else ""


def install(file: str, line: str) -> bool:
    """Put the line in place of ours, or on top; returns whether the file had to be changed.

    Raises:
        OSError: the file cannot be read or replaced; it is then as it was.
    """
    entries = _entries(_read(file))
    places = [place for place, entry in enumerate(entries) if _is_ours(entry)]
    ours = f"{line}\n".encode()
    kept = [entry for entry in entries if not _is_ours(entry)]
    kept.insert(places[0] if places else 0, ours)
    return _replace(file, b"".join(kept))


def remove(file: str) -> bool:
    """Take our line out; returns whether there was one. Raises as `install`."""
    return _replace(file, b"".join(e for e in _entries(_read(file)) if not _is_ours(e)))


def hidden_by(file: str) -> str:
    """The line above ours that readers take instead of it; empty if there is none."""
    for entry in _entries(_read(file)):
        if _is_ours(entry):
            break
        if _fits(entry):
            return entry.decode(errors="replace").strip()
    return ""


def chosen_by_reader() -> str | None:
    """The command that `run-mailcap` would run for a message; None if it is not installed.

    Waits for that program, ten seconds at most; then, and if no line fits, it is empty.
    """
    program = shutil.which("run-mailcap")
    if program is None:
        return None
    with tempfile.NamedTemporaryFile(prefix="semper-") as message:
        try:
            asked = subprocess.run(  # noqa: S603 - our own words only
                [program, "--norun", "--action=view", f"{_TYPE}:{message.name}"],
                stdin=subprocess.DEVNULL, capture_output=True, text=True,
                errors="replace", timeout=_RUN_MAILCAP_S, check=False,
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired):
            return ""
    return asked.stdout.strip()


# --- entries ----------------------------------------------------------------------------------


def _entries(content: bytes) -> list[bytes]:
    """The lines with those they go on in; joined they are the content, byte for byte."""
    return [entry for entry in _ENTRY.findall(content) if entry]


def _is_ours(entry: bytes) -> bool:
    one_line = entry.replace(b"\\\n", b"").strip()
    return not one_line.startswith(b"#") and _OURS.search(one_line) is not None


def _fits(entry: bytes) -> bool:
    """Whether readers take this entry for our type. One with a test may or may not."""
    kind = entry.partition(b";")[0].strip().lower()
    return kind in {_TYPE.encode(), b"application/*", b"application", b"*/*", b"*"}


# --- the file ---------------------------------------------------------------------------------


def _read(file: str) -> bytes:
    try:
        with open(file, "rb") as opened:
            return opened.read()
    except FileNotFoundError:
        return b""


def _replace(file: str, content: bytes) -> bool:
    """Replace the file at one stroke, with the same owner and rights; a link stays a link."""
    if content == _read(file):
        return False
    target = os.path.realpath(file)
    draft = f"{target}.{secrets.token_hex(4)}"
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    try:
        with open(handle, "wb") as opened:
            _take_after(target, handle)
            opened.write(content)
            opened.flush()
            os.fsync(handle)
        os.replace(draft, target)
    except BaseException:
        os.unlink(draft)
        raise
    return True


def _take_after(target: str, handle: int) -> None:
    try:
        before = os.stat(target)
    except FileNotFoundError:
        return
    if (before.st_uid, before.st_gid) != (os.geteuid(), os.getegid()):
        os.fchown(handle, before.st_uid, before.st_gid)
    os.fchmod(handle, before.st_mode & 0o7777)
