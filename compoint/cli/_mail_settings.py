"""Section [mail] of the settings, which the subcommands of `compoint mail` cannot do without."""

from __future__ import annotations

from typing import TYPE_CHECKING

from compoint.errors import ConfigError, Phase
from compoint.manager import ComManager

if TYPE_CHECKING:
    from compoint.config import MailSettings

__all__ = ["mail_settings"]


def mail_settings() -> MailSettings:
    """Raises:
    ConfigError: mail is off, or the settings have faults.
    """
    settings = ComManager.settings().mail
    if settings is None:
        raise ConfigError(
            "mail is off", phase=Phase.CONFIGURE,
            hint="set receiverPort, returnAddress and mailHost in [mail] of the _sempconfig",
        )  # fmt: skip
    return settings
