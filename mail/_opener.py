"""Where ComPoints over mail begin: `mail:user@host:port`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from compoint.drive.wire import Opener
from compoint.errors import AddressError, ComPointException, ConfigError, ConnectError, Phase
from mail._envelope import Place
from mail._offices import Staffed, staffed
from mail._port import MailPort
from mail._settings import OfficeSettings
from mail._wire import MailWire

if TYPE_CHECKING:
    from compoint.address import ComPointAddress
    from compoint.config import Settings
    from compoint.deadline import Deadline
    from compoint.drive.wire import Listener, Wire
    from mail._held import Held

__all__ = ["MailOpener"]


class MailOpener(Opener):
    """Reaches peers by mail. Nothing is opened before the first point."""

    def __init__(self) -> None:
        self._settings: OfficeSettings | None = None

    def initialise(self, settings: Settings) -> str:
        if settings.mail is None:
            self._settings = None
            return (
                "mail is off; set receiverPort, returnAddress and mailHost in [mail] of the "
                "_sempconfig (docs/howto/mail.md)"
            )
        try:
            self._settings = OfficeSettings.of(settings.mail)
        except ConfigError as error:
            return str(error)
        return ""

    def connect(self, address: ComPointAddress, deadline: Deadline) -> Wire:
        return self.resume(address, "", deadline)

    def resume(self, address: ComPointAddress, name: str, deadline: Deadline) -> Wire:
        if not address.host:
            raise AddressError(
                f"{address} names no mailbox", hint="write mail:user@host:port",
            )  # fmt: skip
        theirs = Place(address.host, address.port)
        one = self._staffed(address)
        try:
            held: Held | None = None
            if name:
                held = one.office.resume(theirs, address.path, name)
            if held is None:
                held = one.office.open(theirs, address.path, name)
        except OSError as error:
            one.leave()
            raise _not_open(address, error) from None
        except ComPointException as error:
            one.leave()
            error.point = str(address)
            raise
        except BaseException:  # Ctrl-C
            one.leave()
            raise
        return MailWire(one, held)

    def listen(self, address: ComPointAddress) -> Listener:
        one = self._staffed(address)
        mailbox = one.office.settings.mailbox
        if address.host and address.host.casefold() != mailbox.casefold():
            one.leave()
            raise AddressError(
                f"{address} is not the mailbox of this program, which is {mailbox}",
                hint="listen at a port without a mailbox, or change returnAddress",
            )
        try:
            return MailPort(one, address)
        except BaseException:
            one.leave()
            raise

    def _staffed(self, address: ComPointAddress) -> Staffed:
        assert self._settings is not None
        try:
            return staffed(self._settings)
        except OSError as error:
            raise _not_open(address, error) from None


def _not_open(address: ComPointAddress, error: OSError) -> ConnectError:
    return ConnectError(
        f"the spool of the mail transport cannot be used: {error.strerror or error}",
        point=str(address), phase=Phase.OPEN, hint="see [mail] spool in the _sempconfig",
    )  # fmt: skip
