"""Which fronts the settings ask for, beside the receiver program."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from mail._mime import checked_mailbox

if TYPE_CHECKING:
    from mail._front import Front, Put
    from mail._settings import OfficeSettings

__all__ = ["fronts"]


def fronts(
    settings: OfficeSettings,
    put: Put,
    poke: Callable[[], None],
    note_trouble: Callable[[str, str], None],
) -> Iterator[Front]:
    """Each of them, not started; `note_trouble` is called with its name and one line."""

    def trouble(name: str) -> Callable[[str], None]:
        return functools.partial(note_trouble, name)

    expire_s = settings.pace.expire_s
    # Each is loaded when it is used: some need what is not always installed.
    if settings.maildir:
        from mail._maildir import MaildirFront  # noqa: PLC0415

        yield MaildirFront(settings.maildir, put, poke, trouble("maildir"), expire_s)
    if settings.imap is not None:
        from mail._imap import ImapFront  # noqa: PLC0415

        notes = os.path.join(settings.spool, "imap")
        yield ImapFront(settings.imap, put, poke, trouble("imap"), notes, expire_s)
    if settings.listen is not None:
        from mail._listener import ListenerFront  # noqa: PLC0415

        # As mail systems write it, whose domains are in ASCII.
        boxes = {checked_mailbox("returnAddress", settings.mailbox).lower(): put}
        yield ListenerFront(settings.listen, boxes, poke, trouble("listener"))
