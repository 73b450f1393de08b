"""What the fronts share: a thread that brings mails from somewhere into the drop box.

A front interprets nothing of a mail beyond whose it is. What is ours is kept for good first
and taken away from where it came second, so a crash in between makes a double, never a loss.
"""

from __future__ import annotations

import abc
import enum
import io
import logging
import threading
from collections.abc import Callable
from typing import Final

from compoint.limits import MIB
from mail._find import Kind, find
from mail._glance import is_surely_ours
from mail._mime import CONTENT_TYPE

__all__ = ["LOOK_BACK_S", "MAIL_BYTES", "RETRY_S", "Front", "Put", "Whose", "whose"]

_log = logging.getLogger("compoint.mail")

#: Keeps a mail for good, or raises OSError.
Put = Callable[[bytes], object]

#: The largest mail that is looked at, as in the receiver program: above what any provider
#: takes (25 to 50 MB). A larger one is not ours.
MAIL_BYTES: Final = 64 * MIB

#: What could not be kept is tried again after this time.
RETRY_S: Final = 5.0

#: A front that sees a mailbox for the first time looks at mails that came within this time:
#: longer than mail systems try (five days), and than what was said in them is waited for
#: unless the settings say so.
LOOK_BACK_S: Final = 14 * 86400.0

#: How long `stop` waits for the thread.
_STOP_S: Final = 2.0


class Whose(enum.Enum):
    """Whom a mail is for."""

    OURS = "ours"
    #: A report about a mail that may have been a person's: we take a copy and leave it.
    SHARED = "shared"
    FOREIGN = "foreign"


def whose(mail: bytes) -> Whose:
    """Whom a mail is for; raises nothing for what is in it."""
    if len(mail) > MAIL_BYTES:
        return Whose.FOREIGN
    if is_surely_ours(mail):
        return Whose.OURS
    match find(io.BytesIO(mail)).kind:
        case Kind.PAYLOADS:
            return Whose.OURS
        case Kind.REPORT:
            # It holds the mail it is about, or its headers.
            return Whose.OURS if CONTENT_TYPE.encode() in mail.lower() else Whose.SHARED
        case Kind.FOREIGN:
            return Whose.FOREIGN


class Front(abc.ABC):
    """One way in: a thread, alive from `start` to `stop`.

    From that thread it calls `put` with each mail that is ours, `poke` after one was kept, and
    `trouble` with one line for people about what is wrong, or with "" when all is well; with
    each only when it has changed. A mail that `put` cannot keep (OSError) stays where it is and
    is tried again.
    """

    def __init__(
        self,
        name: str,
        put: Put,
        poke: Callable[[], None],
        trouble: Callable[[str], None],
    ) -> None:
        self._put = put
        self._poke = poke
        self._trouble = trouble
        self._told: str | None = None
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"compoint {name}", daemon=True)

    def start(self) -> None:
        """Start the thread; called once."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread and wait for it, at most two seconds; any thread may call, again too.

        What could be slower (a name server, the command that gives the password) is left
        behind; nothing is put after it.
        """
        self._is_over.set()
        self._cut()
        if self._thread.ident is not None and self._thread is not threading.current_thread():
            self._thread.join(_STOP_S)

    def after_fork(self) -> None:  # noqa: B027 - most have nothing of the kind
        """In a forked child: give back what would keep the parent's place taken."""

    @abc.abstractmethod
    def _work(self) -> None:
        """Bring mails until `_is_over` is set."""

    def _cut(self) -> None:  # noqa: B027 - some wait for nothing else
        """Wake the thread where it does not wait for `_is_over`."""

    def _run(self) -> None:
        while not self._is_over.is_set():
            try:
                self._work()
            except Exception as error:  # noqa: BLE001 - a front outlives whatever it meets
                _log.exception("internal error in %s; please report it", self._thread.name)
                self._tell(f"something unexpected happened ({type(error).__name__})")
                self._is_over.wait(RETRY_S)

    def _keep(self, mail: bytes) -> bool:
        """Bring one mail to the drop box; False: it could not be kept, and people were told."""
        try:
            self._put(mail)
        except OSError as error:
            self._tell(f"mails cannot be kept: {error.strerror or error}")
            return False
        self._poke()
        return True

    def _tell(self, text: str) -> None:
        if text != self._told:
            self._told = text
            self._trouble(text)
