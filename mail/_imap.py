"""Mails from a mailbox at a provider: told by IMAP IDLE where the server can, else by looking.

What is ours gets a flag of ours and counts as read; all other mail stays untouched, and
nothing is ever deleted. Mails are known by their numbers (UID) and the numbers' validity,
so each is fetched once; if that is lost, mails come again, which does no harm.

One connection, renewed when it breaks: first soon, then more and more rarely, since providers
lock accounts that log in too often. A way that has gone silent is noticed by leaving IDLE
every few minutes.
"""

from __future__ import annotations

import imaplib
import json
import logging
import os
import random
import ssl
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from compoint.deadline import clock
from compoint.errors import ConfigError
from mail._front import LOOK_BACK_S, MAIL_BYTES, RETRY_S, Front, Put, Whose, whose
from mail._imap_connection import (
    Abort,
    Connection,
    Error,
    LoginRefusedError,
    NoFolderError,
    RefusedError,
    Way,
)
from mail._outcome import one_line
from mail._settings import ImapSettings

__all__ = ["ImapFront"]

_log = logging.getLogger("compoint.mail")

#: How long one IDLE lasts: shorter than routers on the way forget a silent connection.
IDLE_S: Final = 240.0
#: How often a server without IDLE is asked, and folders beside the first.
POLL_S: Final = 60.0
#: The rest after news that were none, so that a server cannot keep us busy with them.
NO_NEWS_S: Final = 1.0

#: So many logins within so many seconds, whatever happens.
LOGINS: Final = 2
LOGINS_S: Final = 120.0
#: The first and the longest pause after a failure, and after a refused login.
PAUSE_S: Final = (1.0, 300.0)
REFUSED_PAUSE_S: Final = (60.0, 3600.0)

#: So many connections may break, or fail, at one and the same mail.
FETCH_TRIES: Final = 3

#: What marks a mail as taken.
KEYWORD: Final = "$compoint"
#: So many mails are asked about, or marked, in one command.
_BATCH: Final = 100


@dataclass
class _Place:
    """How far a folder has been looked through."""

    validity: int
    last_uid: int = 0
    #: Kept, and to be marked.
    unmarked: list[int] = field(default_factory=list)
    #: How often in vain the next mail was asked for.
    tries: int = 0

    def may_try(self, uid: int) -> bool:
        """Count a try; False: there were enough, and the mails behind it must not wait."""
        self.tries += 1
        if self.tries <= FETCH_TRIES:
            return True
        _log.warning("a mail that the server cannot give is passed over (UID %d)", uid)
        self.tries = 0
        return False


class ImapFront(Front):
    """Takes what is ours from the folders of an IMAP account; see Front.

    The first folder is watched, the others are looked into now and then. `notes` is a file
    that remembers across processes how far each was looked through; "": they are looked
    through again, as far back as LOOK_BACK_S, or `expire_s` if that is longer.
    """

    def __init__(
        self,
        settings: ImapSettings,
        put: Put,
        poke: Callable[[], None],
        trouble: Callable[[str], None],
        notes: str = "",
        expire_s: float = 0.0,
    ) -> None:
        super().__init__("imap", put, poke, trouble)
        # One day more: SINCE knows only dates, and not which time zone they are of.
        self._look_back_s = max(LOOK_BACK_S, expire_s) + 86400.0
        self._settings = settings
        self._notes = notes
        self._places = _read(notes, self._note_key(""))
        self._noted: dict[str, list[int]] = {}
        self._way = Way()
        self._logins: deque[float] = deque(maxlen=LOGINS)
        #: In a row, since everything was looked through.
        self._failures = 0
        self._found_any = False

    def _cut(self) -> None:
        self._way.cut()

    def _work(self) -> None:
        while not self._is_over.is_set():
            self._wait_for_login()
            pause_s = PAUSE_S
            try:
                self._serve()
                return
            except (LoginRefusedError, ConfigError) as error:
                pause_s = REFUSED_PAUSE_S
                text = str(error)
            except ssl.SSLCertVerificationError as error:
                text = f"the certificate was refused: {error.verify_message}"
            except (OSError, Error, ValueError, LookupError, TypeError) as error:
                # The last three: what imaplib makes of answers that are none.
                text = f"{getattr(error, 'strerror', None) or error or type(error).__name__}"
            finally:
                self._way.release()
                self._write_notes()
            if self._is_over.is_set():
                return
            server = f"{self._settings.host}:{self._settings.port}"
            self._tell(one_line(f"{server}: {text}"))
            self._pause(*pause_s)

    def _pause(self, shortest_s: float, longest_s: float) -> None:
        pause_s = min(shortest_s * 2.0 ** min(self._failures, 30), longest_s)
        self._failures += 1
        # Spread: a server that comes back must not meet all its clients at once.
        self._is_over.wait(pause_s * random.uniform(0.5, 1.0))  # noqa: S311 - no secret

    def _wait_for_login(self) -> None:
        if len(self._logins) == LOGINS:
            self._is_over.wait(max(0.0, self._logins[0] + LOGINS_S - clock()))

    # --- one connection -----------------------------------------------------------------

    def _serve(self) -> None:
        """Connect and bring mails; returns only when all is over."""
        connection = Connection(self._settings, self._way)
        try:
            self._logins.append(clock())
            connection.log_in()
            has_news = False
            while not self._is_over.is_set():
                is_all_done = self._look(connection, chosen_only=has_news)
                self._write_notes()
                has_news = self._wait(connection, is_all_done=is_all_done, had_news=has_news)
        finally:
            connection.shutdown()

    def _look(self, connection: Connection, *, chosen_only: bool) -> bool:
        """Look into all folders, or the one that is chosen; False: some have to wait."""
        first, *others = self._settings.folders
        is_all_done = True
        trouble = ""
        self._found_any = False
        # The first one last: it stays chosen.
        for folder in [first] if chosen_only else [*others, first]:
            try:
                if not chosen_only:
                    self._choose(connection, folder)
                is_all_done &= self._look_into(connection, self._places[folder])
            except NoFolderError as error:
                if folder == first:
                    raise ConfigError(str(error)) from None
                trouble = str(error)
        if is_all_done:
            self._failures = 0
            if trouble or not chosen_only:
                self._tell(one_line(trouble))
        return is_all_done

    def _wait(self, connection: Connection, *, is_all_done: bool, had_news: bool) -> bool:
        """Wait until it is time to look; True: only the chosen folder has news."""
        if not is_all_done:
            self._is_over.wait(RETRY_S)
            return False
        if had_news and not self._found_any:
            self._is_over.wait(NO_NEWS_S)
        if connection.has_grown():  # while its earlier mails were taken
            return True
        if connection.can_idle and not self._is_over.is_set():
            try:
                others = len(self._settings.folders) > 1
                return connection.wait_for_news(POLL_S if others else IDLE_S)
            except Abort:
                raise
            except Error:  # it offers IDLE and refuses it
                connection.capabilities = ()
        self._is_over.wait(POLL_S)
        return False

    # --- one folder ---------------------------------------------------------------------

    def _choose(self, connection: Connection, folder: str) -> None:
        validity = connection.choose(folder)
        place = self._places.get(folder)
        if place is None or place.validity != validity:
            self._places[folder] = _Place(validity)
            if connection.is_readonly:
                _log.warning("the folder %s is read-only: mails stay unread in it", folder)

    def _look_into(self, connection: Connection, place: _Place) -> bool:
        """Take what is new in the chosen folder; False: something could not be kept."""
        is_all_done = True
        uids = self._new_in(connection, place)
        self._found_any |= bool(uids)
        for start in range(0, len(uids), _BATCH):
            is_all_done = self._take(connection, place, uids[start : start + _BATCH])
            if not is_all_done or self._is_over.is_set():
                break
        _mark(connection, place)
        return is_all_done

    def _new_in(self, connection: Connection, place: _Place) -> list[int]:
        if place.last_uid:
            # "n:*" names the last mail even when its number is lower.
            found = _unmarked(connection, f"UID {place.last_uid + 1}:*")
            return [uid for uid in found if uid > place.last_uid]
        # In English, whatever the locale: "dd-Mon-yyyy hh:mm:ss zone", in quotes.
        since = imaplib.Time2Internaldate(time.time() - self._look_back_s)[1:12]
        return _unmarked(connection, f"SINCE {since}")

    def _take(self, connection: Connection, place: _Place, uids: list[int]) -> bool:
        sizes = connection.sizes(uids)
        for uid in uids:
            if self._is_over.is_set():
                break
            content = None
            if sizes.get(uid, 0) <= MAIL_BYTES and place.may_try(uid):
                content = connection.fetch_mail(uid)
                place.tries = 0
            verdict = Whose.FOREIGN if content is None else whose(content)
            if content is not None and verdict is not Whose.FOREIGN and not self._keep(content):
                return False
            place.last_uid = uid
            if verdict is Whose.OURS:
                place.unmarked.append(uid)
            if len(place.unmarked) >= _BATCH:
                _mark(connection, place)
        return True

    # --- notes --------------------------------------------------------------------------

    def _note_key(self, folder: str) -> str:
        return f"{self._settings.user}@{self._settings.host}:{self._settings.port}/{folder}"

    def _write_notes(self) -> None:
        noted = {
            self._note_key(folder): [place.validity, place.last_uid]
            for folder, place in self._places.items()
        }
        if not self._notes or noted == self._noted:
            return
        self._noted = noted
        # Without them mails are looked at once more, no worse; so a failure is none, and
        # they are not forced to the disk.
        with suppress(OSError):
            begun = f"{self._notes}.tmp"
            with open(begun, "w", encoding="utf-8") as file:
                json.dump(noted, file)
            os.replace(begun, self._notes)


def _unmarked(connection: Connection, criterion: str) -> list[int]:
    """The mails for which this holds, without those that are marked as far as can be known."""
    if connection.has_keywords:
        try:
            return connection.find(criterion, f"UNKEYWORD {KEYWORD}")
        except RefusedError:
            # Microsoft's servers among others. What was looked at is known by its number.
            connection.has_keywords = False
    return connection.find(criterion)


def _mark(connection: Connection, place: _Place) -> None:
    """Mark what was kept, so that neither a person nor another process of ours meets it."""
    uids = place.unmarked
    if uids and not connection.is_readonly:
        if connection.has_keywords:
            connection.has_keywords = connection.mark(uids, rf"(\Seen {KEYWORD})")
        if not connection.has_keywords:
            connection.mark(uids, r"(\Seen)")
    uids.clear()


def _read(notes: str, prefix: str) -> dict[str, _Place]:
    """What is noted of the folders of this account; nothing if that is damaged."""
    try:
        with open(notes, encoding="utf-8") as file:
            noted = json.load(file)
        return {
            key.removeprefix(prefix): _Place(int(validity), int(last_uid))
            for key, (validity, last_uid) in noted.items()
            if key.startswith(prefix)
        }
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
