"""What a front is given in these tests: a real drop box, and ears for its troubles."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from receiver_kit import mail_of

from compoint.testing import eventually
from mail._dropbox import Dropbox

LETTER = b"From: carol@example.org\nSubject: hello\n\nDear Bob, how are you?\n"

REPORT = (
    b"From: MAILER-DAEMON@example.org\nTo: bob@example.org\n"
    b'Content-Type: multipart/report;\n report-type=delivery-status; boundary="b"\n\n'
    b"--b\n\nno such user\n--b\nContent-Type: text/rfc822-headers\n\n%s\n--b--\n"
)
#: About one of our mails, of which the report holds the headers only.
OUR_REPORT = REPORT % b"Subject: SEMPER Message\nContent-Type: application/x-semper"
#: About a mail that a person wrote.
THEIR_REPORT = REPORT % b"Subject: hello\nContent-Type: text/plain"


def a_mail(number: int = 0) -> bytes:
    return mail_of(b"SMPR\x01" + b"%06d" % number * 20)


class Box:
    """A drop box that counts, and can be told to be full."""

    def __init__(self, folder: Path) -> None:
        self.dropbox = Dropbox(str(folder))
        self.pokes = 0
        #: What was told, in order.
        self.troubles: list[str] = []
        self.is_full = False
        #: How often something was refused for being full.
        self.refused = 0
        self.put_at: list[float] = []

    def put(self, mail: bytes) -> None:
        if self.is_full:
            self.refused += 1
            raise OSError(28, "the disk of the spool folder is full")
        self.dropbox.put(mail)
        self.put_at.append(time.monotonic())

    def poke(self) -> None:
        self.pokes += 1

    @property
    def ears(self) -> tuple[Any, Any, Any]:
        return self.put, self.poke, self.troubles.append

    @property
    def mails(self) -> list[bytes]:
        paths = map(self.dropbox.path, self.dropbox.waiting())
        return [Path(path).read_bytes() for path in paths]

    def eventually_has(self, count: int, within_s: float = 10.0) -> None:
        eventually(lambda: len(self.put_at) >= count, within_s, f"{count} mails are kept")
        assert len(self.dropbox.waiting()) == count

    def eventually_told(self, words: str, within_s: float = 10.0) -> str:
        eventually(
            lambda: any(words in text for text in self.troubles), within_s,
            f"trouble with {words!r} in {self.troubles}",
        )  # fmt: skip
        return next(text for text in self.troubles if words in text)

    def eventually_well(self, within_s: float = 10.0) -> None:
        eventually(lambda: self.troubles[-1:] == [""], within_s, f"{self.troubles} ends well")
