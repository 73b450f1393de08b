"""A mail to oneself, by which the way of mails is tried out; and what is found of it again.

It holds a frame as any mail does, tagged with the secret if there is one: a confirmation in a
conversation that nobody has. Whoever takes it for one, because it came too late, passes over it.
"""

from __future__ import annotations

import io
import os
import time
from typing import TYPE_CHECKING, Final, NamedTuple

from compoint.limits import KIB
from mail._envelope import EnvelopeError, Flag, Frame, Kind, Place, encode, find_frames
from mail._find import Kind as MailKind
from mail._find import find
from mail._mime import new_mail, new_message_id
from mail._reports import Kind as ReportKind
from mail._reports import parse_report

if TYPE_CHECKING:
    from mail._settings import OfficeSettings

__all__ = ["Probe", "Trace"]

#: Random bytes: enough for gateways that wrap, cut or recode.
_BODY_BYTES: Final = 4 * KIB
_LASTS_S: Final = 86400


class Trace(NamedTuple):
    """What a mail tells of the probe."""

    #: It is not the probe but the report that it was not delivered.
    is_report: bool
    #: What has happened to it; "": it is as it was sent.
    fault: str


class Probe:
    """A new one is recognised by numbers of its own.

    Raises:
        UsageError: the mailbox is none that a mail can name.
    """

    def __init__(self, settings: OfficeSettings) -> None:
        self._secret = settings.secret
        self._number = os.urandom(16)
        utc = time.time()
        place = Place(settings.mailbox, 1)
        frame = Frame(
            Kind.ACK, Flag(0), self._number, os.urandom(8), place, place, 0, 0, 0, int(utc),
            int(utc) + _LASTS_S, (), os.urandom(_BODY_BYTES),
        )  # fmt: skip
        self.mail: Final = new_mail(
            encode(frame, self._secret), sender=settings.mailbox, recipient=settings.mailbox,
            message_id=new_message_id(settings.mailbox), now=utc,
        )  # fmt: skip

    def trace(self, content: bytes) -> Trace | None:
        """What a mail that has arrived tells of the probe; None: nothing."""
        found = find(io.BytesIO(content))
        if found.kind is MailKind.REPORT:
            report = parse_report(content)
            if report is None or report.kind is not ReportKind.FAILED:
                return None
            if self.mail.message_id not in {report.message_id, report.envelope_id}:
                return None
            return Trace(is_report=True, fault=f"{report.status} {report.text}".strip())
        ours = [payload for payload in found.payloads if self._number in payload]
        if not ours:
            return None
        fault = self._fault(ours[0])
        if found.facts.is_from_list:
            fault = fault or "it came by a mailing list, whose mails are put aside"
        elif found.facts.return_path == "<>":
            fault = fault or "it came without an envelope sender; such mails are put aside"
        return Trace(is_report=False, fault=fault)

    def _fault(self, payload: bytes) -> str:
        inside = find_frames(payload)
        for envelope in inside.envelopes:
            if envelope.frame.conversation == self._number:
                try:
                    envelope.check_trust(self._secret)
                except EnvelopeError as error:
                    return str(error)
                return ""
        return "; ".join(map(str, inside.faults)) or "its frame is gone"
