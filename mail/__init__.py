"""The door of the mail transport, which is not built yet: it only says so."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from compoint.drive.wire import Opener
from compoint.errors import ConfigError, Phase

if TYPE_CHECKING:
    from compoint.address import ComPointAddress
    from compoint.config import Settings
    from compoint.deadline import Deadline

__all__ = ["MailOpener"]


class MailOpener(Opener):
    """`mail:user@host:port`, some day. Until then it reports that it is not configured."""

    def initialise(self, settings: Settings) -> str:
        return "this release has no mail transport yet; use tcp"

    def connect(self, address: ComPointAddress, deadline: Deadline) -> NoReturn:
        raise _not_configured(address)

    def listen(self, address: ComPointAddress) -> NoReturn:
        raise _not_configured(address)


def _not_configured(address: ComPointAddress) -> ConfigError:
    return ConfigError(
        "this release has no mail transport yet", point=str(address), phase=Phase.CONFIGURE,
        hint="use tcp",
    )  # fmt: skip
