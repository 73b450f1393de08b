"""The post offices of this process, with their threads: opened on first use, closed behind it.

The threads are no daemons: when a program ends, what it has said is handed to the mail server
first, within a bounded time.
"""

from __future__ import annotations

import logging
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

from compoint.deadline import clock
from compoint.drive.lifetime import lifetime
from compoint.drive.waiter import Waiter
from compoint.errors import BusyError, Phase
from mail._fronts import fronts
from mail._inbound import Inbound
from mail._outbound import LINGER_S, Outbound
from mail._post_office import PostOffice

if TYPE_CHECKING:
    from mail._front import Front
    from mail._settings import OfficeSettings

__all__ = ["Staffed", "staffed"]

_log = logging.getLogger("compoint.mail")

#: How much longer than LINGER_S it may take until nobody uses the mailbox any more.
SLACK_S: Final = 5.0


class Staffed:
    """A post office and its threads, counted by its users.

    Raises:
        BusyError, ConfigError, OSError: as `PostOffice`, `Inbound` and the fronts.
    """

    def __init__(self, settings: OfficeSettings) -> None:
        self.office: Final = PostOffice(settings)
        self._users = 0
        self._is_closed = False
        self._has_ended = False
        self._ended = Waiter()
        self._fronts: list[Front] = []
        try:
            self._inbound = Inbound(self.office)
        except BaseException:
            self.office.close()
            raise
        self._outbound = Outbound(self.office)
        self._inbound.start()
        try:
            put, poke = self._inbound.dropbox.put, self._inbound.poke
            for front in fronts(settings, put, poke, self.office.note_trouble):
                front.start()
                self._fronts.append(front)
        except BaseException:
            self._close()
            raise
        lifetime.servers.add(self)
        threading.Thread(target=self._run, name="compoint-mail-out").start()

    def enter(self) -> bool:
        """One user more; False: it is closed, or about to be."""
        with _lock:
            if self._is_closed:
                return False
            self._users += 1
            self._outbound.ends_at = None
        self._outbound.try_again()
        return True

    def leave(self) -> None:
        """One user less."""
        with _lock:
            self._users -= 1
            if not self._users:
                self._outbound.ends_at = clock() + LINGER_S
        self._outbound.look()

    @property
    def has_users(self) -> bool:
        with _lock:
            return self._users > 0 and not self._is_closed

    def wait_ended(self, timeout_s: float) -> bool:
        """Wait until the threads have ended and the mailbox is free; whether they have."""
        # Not by joining: an interrupted `join` takes a thread that lives for one that has ended.
        return self._has_ended or self._ended.sleep(timeout_s) or self._has_ended

    def _run(self) -> None:
        try:
            while True:
                self._outbound.run()
                with _lock:
                    # Somebody may have come in the last moment.
                    if not self._users or clock() >= self._outbound.stops_at:
                        self._is_closed = True
                        break
        except Exception as error:  # noqa: BLE001 - nobody must wait for this thread
            _log.exception("internal error in the mail transport; please report it")
            self.office.lose_all(f"internal error in the mail transport ({error!r})")
        finally:
            self._is_closed = True
            try:
                self._close()
            finally:
                with _lock:
                    if _open.get(self.office.settings.spool) is self:
                        del _open[self.office.settings.spool]
                self._has_ended = True
                self._ended.wake()

    def _close(self) -> None:
        with ExitStack() as last_first:
            last_first.callback(self.office.close)
            last_first.callback(self._outbound.close)
            last_first.callback(self._inbound.stop)
            for front in self._fronts:
                last_first.callback(front.stop)

    # --- the end of the process -----------------------------------------------------------

    def close_at_exit(self) -> None:
        """The program ends. Points are closed after this; none must keep it alive for ever."""
        last_s = lifetime.exit_s + LINGER_S
        self._outbound.stops_at = clock() + last_s
        self._outbound.look()
        # A mail server that does not answer is waited for much longer than that.
        watch = threading.Timer(last_s, self._outbound.cut)
        watch.daemon = True
        watch.start()

    def after_fork(self) -> None:
        self._is_closed = True
        for front in self._fronts:
            front.after_fork()
        self._inbound.after_fork()
        self.office.after_fork()
        _forget_all()


_lock = threading.Lock()
_opening = threading.Lock()
_open: dict[str, Staffed] = {}


def _forget_all() -> None:
    """In a child process: its parent's threads may have held the locks."""
    global _lock, _opening
    _lock, _opening = threading.Lock(), threading.Lock()
    _open.clear()


def staffed(settings: OfficeSettings) -> Staffed:
    """The post office with these settings, entered: `leave` it when it is not needed.

    Raises:
        BusyError, ConfigError, OSError: as `Staffed`.
    """
    with _opening:
        while True:
            one = _open.get(settings.spool)
            if one is None:
                break
            if one.office.settings == settings and one.enter():
                return one
            if one.has_users:
                raise BusyError(
                    f"the mailbox {settings.mailbox} is in use here with other settings",
                    phase=Phase.OPEN, hint="close its points before the settings change",
                )  # fmt: skip
            if not one.wait_ended(LINGER_S + SLACK_S):
                raise BusyError(
                    f"the mailbox {settings.mailbox} is not free yet: {one.office.trouble}",
                    phase=Phase.OPEN, hint="its last mails are being handed over; try again",
                )  # fmt: skip
        one = Staffed(settings)
        one.enter()
        _open[settings.spool] = one
        return one
