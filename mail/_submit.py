"""Handing mails to the mail server over a connection that is kept and renewed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from compoint.deadline import clock
from compoint.errors import BusyError, ClosedError
from mail._mime import Mail, checked_mailbox
from mail._outcome import Outcome, Step, Verdict
from mail._smtp import Connection, SubmissionSettings, Tls

__all__ = ["Submission", "SubmissionSettings", "Tls"]

#: How long a connection is kept without a mail. Servers end theirs from about here on.
IDLE_S: Final = 30.0


class Submission:
    """Our side of the mail server. Connects with the first mail.

    One thread at a time may `send`; `close` may be called by any, also meanwhile.
    """

    def __init__(self, settings: SubmissionSettings, *, now: Callable[[], float] = clock) -> None:
        self._settings = settings
        self._now = now
        # Guards the two claims, so that exactly one thread closes; never held across I/O.
        self._lock = threading.Lock()
        self._is_sending = False
        self._is_closed = False
        self._connection = Connection(settings)
        self._used_at = 0.0

    @property
    def size_limit(self) -> int:
        """The largest mail the server takes, as it said last; 0: unknown or unlimited."""
        return self._connection.size_limit

    def send(self, mail: Mail, *, sender: str, recipient: str, envelope_id: str = "") -> Outcome:
        """Hand over one mail and return what came of it.

        `sender` and `recipient` are those of the envelope: bounces go to `sender`. A server
        that reports by RFC 3461 is asked to report failures only, without the content, and
        with `envelope_id`. Waits for the server, each step bounded by the settings' times.
        A wrong password, certificate or setting is an outcome too, at its step. After
        anything but ACCEPTED the connection is closed, and the next mail opens a new one.

        Raises:
            UsageError: an address is none.
            BusyError: another thread is sending.
            ClosedError: `close` was called before.
        """
        sender = checked_mailbox("envelope sender", sender)
        recipient = checked_mailbox("envelope recipient", recipient)
        with self._lock:
            if self._is_closed:
                raise ClosedError("the connection to the mail server was closed")
            if self._is_sending:
                raise BusyError("another thread is handing a mail to the server")
            self._is_sending = True
        try:
            return self._sent(mail, sender, recipient, envelope_id)
        finally:
            with self._lock:
                self._is_sending = False
                is_closed = self._is_closed
            if is_closed:
                self._connection.close()

    def _sent(self, mail: Mail, sender: str, recipient: str, envelope_id: str) -> Outcome:
        connection = self._connection
        if connection.is_open and self._now() - self._used_at > IDLE_S:
            connection.say_goodbye()
        was_open = connection.is_open
        outcome = connection.hand_over(mail, sender, recipient, envelope_id)
        if was_open and outcome.step is Step.SENDER and outcome.code in {0, 421}:
            # The server ended the old connection since the last mail, which is no news.
            outcome = connection.hand_over(mail, sender, recipient, envelope_id)
        if outcome.verdict is Verdict.ACCEPTED:
            self._used_at = self._now()
        return outcome

    def close(self) -> None:
        """End the connection; a `send` in another thread ends at once with its outcome.

        Otherwise says goodbye to the server and waits for its answer, at most 2 s. Does
        nothing the second time.
        """
        with self._lock:
            is_ours = not (self._is_closed or self._is_sending)
            self._is_closed = True
            if self._is_sending:
                self._connection.cut()
        if is_ours:
            self._connection.say_goodbye()
