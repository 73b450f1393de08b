"""What the rooms of the mail transport take, made from section `[mail]` of the `_sempconfig`."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Final, NoReturn

from compoint.address import ComPointAddress
from compoint.config import MailSettings
from compoint.errors import ConfigError, Phase
from mail._mime import largest_payload
from mail._password import Password
from mail._private_file import read_private
from mail._rate import Budget, BudgetState
from mail._receiver_config import home_folder, whole_path
from mail._smtp import SubmissionSettings, Tls
from mail._timers import Pace

__all__ = ["ImapSettings", "ListenSettings", "OfficeSettings", "shared_secret", "spool_folder"]

_SMTP_PORTS: Final = {Tls.STARTTLS: 587, Tls.IMPLICIT: 465, Tls.NONE: 25, Tls.IN_THE_CLEAR: 25}
_IMAP_PORTS: Final = {Tls.STARTTLS: 143, Tls.IMPLICIT: 993, Tls.NONE: 143}

#: At least so many mails may leave at once, where the rate allows fewer per second.
_BURST: Final = 3
#: A shorter secret can be found by trying, with a single mail at hand.
_SECRET_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class ImapSettings:
    """Which mailbox is looked into by IMAP, and how we speak to its server."""

    host: str
    port: int
    #: STARTTLS, IMPLICIT, or NONE, which is for servers on this machine only.
    tls: Tls
    user: str
    password: Password
    folders: tuple[str, ...] = ("INBOX",)
    #: The authorities that the server's certificate is checked against; "": the system's.
    ca_file: str = ""
    #: The password is an OAuth access token (XOAUTH2).
    is_token: bool = False


@dataclass(frozen=True, slots=True)
class ListenSettings:
    """Where our own listener takes mails."""

    host: str
    port: int
    #: "lmtp" or "smtp".
    protocol: str = "lmtp"


@dataclass(frozen=True, slots=True)
class OfficeSettings:
    """All that one process needs to know for its mailbox."""

    mailbox: str
    #: The port of this machine at which the receiver program pokes.
    receiver_port: int
    #: The whole path.
    spool: str
    #: None: frames are made and taken without a secret.
    secret: bytes | None = field(repr=False)
    pace: Pace
    #: What one mail may carry.
    payload_bytes: int
    rate: float
    burst: int
    daily: int
    submission: SubmissionSettings
    #: The command that takes mails instead of `submission`; (): there is none.
    sendmail: tuple[str, ...]
    #: None: mails are not fetched by IMAP.
    imap: ImapSettings | None
    #: The whole path; "": no Maildir is watched.
    maildir: str
    #: None: the process does not listen.
    listen: ListenSettings | None

    @classmethod
    def of(cls, settings: MailSettings) -> OfficeSettings:
        """Reads the secret, but no password: that is read for each login.

        Raises:
            ConfigError: there is no secret to be had, or no home folder for `~`.
        """
        return cls(
            mailbox=settings.return_address,
            receiver_port=settings.receiver_port,
            spool=spool_folder(settings),
            secret=shared_secret(settings),
            pace=Pace(settings.rto_min_s, settings.ack_delay_s, settings.expire_s),
            payload_bytes=largest_payload(settings.max_mail_bytes),
            rate=settings.rate,
            burst=max(_BURST, math.ceil(settings.rate)),
            daily=settings.daily,
            submission=_submission(settings),
            sendmail=settings.sendmail_command,
            imap=_imap(settings),
            maildir=_folder("maildir", settings.maildir),
            listen=_listen(settings),
        )

    def budget(self, state: BudgetState | None = None) -> Budget:
        """How many mails may leave, going on from what was kept."""
        return Budget(self.rate, self.burst, self.daily, state)


def spool_folder(settings: MailSettings) -> str:
    """The whole path, as the receiver program finds it.

    Raises:
        ConfigError: it begins with `~`, and the user of this process has no home folder.
    """
    return _folder("spool", settings.spool)


def shared_secret(settings: MailSettings) -> bytes | None:
    """What the secret file holds, without the whitespace at its ends; None: trust is none.

    Raises:
        ConfigError: the file cannot be read, is not private, or holds too little.
    """
    if settings.trust == "none":
        return None
    secret = read_private(settings.secret_file, "secret file").strip()
    if len(secret) < _SECRET_BYTES:
        _fail(
            f"the secret file {settings.secret_file} holds {len(secret)} bytes, which can be"
            f" guessed; {_SECRET_BYTES} or more are asked for",
            f"fill it by: head -c 32 /dev/urandom | base64 > {settings.secret_file}",
        )
    return secret


def _submission(settings: MailSettings) -> SubmissionSettings:
    tls = Tls(settings.smtp_tls)
    return SubmissionSettings(
        settings.mail_host,
        settings.smtp_port or _SMTP_PORTS[tls],
        tls,
        settings.smtp_user,
        _password(settings),
        settings.password_is_token,
        settings.ca_file,
    )


def _imap(settings: MailSettings) -> ImapSettings | None:
    if not settings.imap_host:
        return None
    tls = Tls(settings.imap_tls)
    return ImapSettings(
        settings.imap_host,
        settings.imap_port or _IMAP_PORTS[tls],
        tls,
        settings.imap_user or settings.smtp_user,
        _password(settings),
        settings.imap_folders,
        settings.ca_file,
        settings.password_is_token,
    )


def _listen(settings: MailSettings) -> ListenSettings | None:
    if not settings.listen:
        return None
    address = ComPointAddress.parse(f"{settings.listen_protocol}://{settings.listen}")
    return ListenSettings(address.host, address.port, settings.listen_protocol)


def _password(settings: MailSettings) -> Password:
    return Password(settings.password_file, settings.password_command)


def _folder(key: str, text: str) -> str:
    if not text:
        return ""
    try:
        # Not $HOME, which may be another one than the receiver program's.
        return whole_path(text, home_folder() if text.startswith("~") else "")
    except ValueError as error:
        _fail(f"{key} is {text}, but {error}", f"write {key} without ~")


def _fail(what: str, hint: str) -> NoReturn:
    raise ConfigError(what, phase=Phase.CONFIGURE, hint=hint) from None
