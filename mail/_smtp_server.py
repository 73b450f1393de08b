"""The server's side of SMTP and LMTP, as far as aiosmtpd (extra `mail`) leaves it to us.

Imported by the listener on first use, since nobody else needs aiosmtpd.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from aiosmtpd.lmtp import LMTP
from aiosmtpd.smtp import SMTP, Envelope, Session

from compoint.limits import KIB
from mail._front import MAIL_BYTES

__all__ = ["Protocol", "new_protocol"]

#: What the envelope adds to a mail.
_ENVELOPE_BYTES: Final = 4 * KIB

#: The recipients of one mail; the next ones are to come with a mail of their own. Nobody may
#: allow fewer (RFC 5321 §4.5.3.1.8).
RECIPIENTS: Final = 100

#: Takes a mail for recipients that are ours; the answer for each, in order.
Deliver = Callable[[bytes, list[str]], list[str]]


class _Handler:
    """What we answer; its verbs are aiosmtpd's hooks."""

    def __init__(self, is_ours: Callable[[str], bool], deliver: Deliver) -> None:
        self._is_ours = is_ours
        self._deliver = deliver

    async def handle_MAIL(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if not address.isprintable():
            return "553 5.1.7 not an address"
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 2.1.0 OK"

    async def handle_RCPT(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        # It will stand in a header.
        if not address.isprintable():
            return "553 5.1.3 not an address"
        if not self._is_ours(address):
            return "550 5.1.1 no such mailbox here"
        if len(envelope.rcpt_tos) >= RECIPIENTS:
            return "452 4.5.3 too many recipients, send the mail to these once more"
        envelope.rcpt_tos.append(address)
        envelope.rcpt_options.extend(options)
        return "250 2.1.5 OK"

    async def handle_DATA(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope
    ) -> str:
        content = envelope.original_content or b""
        # The last mail system on the way writes the envelope into the mail (RFC 5321 §4.4).
        sender = (envelope.mail_from or "").strip("<>")
        answers = self._deliver(
            b"Return-Path: <%s>\r\n%s" % (sender.encode(), content), envelope.rcpt_tos
        )
        if isinstance(server, LMTP):
            return "\r\n".join(answers)
        # SMTP has one answer for all; who takes a mail twice drops the double.
        return next((answer for answer in answers if not answer.startswith("2")), answers[0])

    async def handle_exception(self, error: Exception) -> str:
        # For the time being: a mail must not be returned for a fault of ours.
        return f"451 4.3.0 something unexpected happened ({type(error).__name__})"


class Protocol(SMTP):
    """One connection, which tells when it is over and can be cut."""

    on_end: Callable[[Protocol], None]

    def cut(self) -> None:
        if isinstance(self.transport, asyncio.WriteTransport):
            self.transport.abort()

    async def push(self, status: Any) -> None:
        await super().push(status)
        # Or one that sends commands in bulk would keep all others waiting.
        await asyncio.sleep(0)

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        self.on_end(self)


class _LmtpProtocol(Protocol, LMTP):
    """LMTP answers a mail once for each recipient (RFC 2033 §4.2); aiosmtpd does it once."""

    _owed = 0

    async def push(self, status: Any) -> None:
        if isinstance(status, str):
            if status.startswith("354"):
                assert self.envelope is not None
                self._owed = len(self.envelope.rcpt_tos)
            elif self._owed:
                if "\r\n" not in status:  # the mail was too long, or something failed
                    status = "\r\n".join([status] * self._owed)
                self._owed = 0
        await super().push(status)


def new_protocol(
    protocol: str,
    is_ours: Callable[[str], bool],
    deliver: Deliver,
    loop: asyncio.AbstractEventLoop,
    on_end: Callable[[Protocol], None],
) -> Protocol:
    """A connection's protocol, "smtp" or "lmtp"."""
    kind: Final = _LmtpProtocol if protocol == "lmtp" else Protocol
    new = kind(
        _Handler(is_ours, deliver),
        data_size_limit=MAIL_BYTES - _ENVELOPE_BYTES,
        hostname="localhost",  # else asked of a name server
        ident="compoint",
        loop=loop,
    )
    new.on_end = on_end
    return new
