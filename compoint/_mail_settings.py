"""Section `[mail]` of the settings. Only declared here: `mail/_settings.py` makes use of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from compoint._kinds import (
    Choice,
    Clash,
    Command,
    Count,
    File,
    Folder,
    Host,
    HostAndPort,
    Or,
    Rate,
    Seconds,
    Size,
    Switch,
    Text,
    Texts,
    setting,
)
from compoint.limits import KIB, MIB

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["MailSettings", "mail_clashes"]

_DAY_S: Final = 86_400.0

_PORT: Final = Or("default", 0, Count(1, 65_535))
_HOST: Final = "a host name or IP address, as in smtp.example.org"


@dataclass(frozen=True, slots=True, kw_only=True)
class MailSettings:
    """Section `[mail]`: the first three switch the mail transport on, together or not at all."""

    receiver_port: int = field(
        metadata=setting(
            "receiverPort",
            Count(1, 65_535),
            "The port of this machine on which the receiver program tells of new mail.",
        )
    )
    return_address: str = field(
        metadata=setting(
            "returnAddress",
            Host("mail", "a mailbox, as in me@example.org"),
            "The mailbox of this program: the sender of its mails and where answers arrive.",
        )
    )
    mail_host: str = field(
        metadata=setting(
            "mailHost", Host("smtp", _HOST), "The mail server that takes the mails of this program."
        )
    )
    trust: str = field(
        default="secret",
        metadata=setting(
            "trust",
            Choice(("secret", "none")),
            "What vouches for mails: secret (of secretFile), or none, so that anybody forges them.",
        ),
    )
    secret_file: str = field(
        default="",
        metadata=setting(
            "secretFile",
            Or("none", "", File()),
            "The file with the secret that both sides share: 16 bytes or more, for its owner only.",
        ),
    )
    smtp_port: int = field(
        default=0,
        metadata=setting(
            "smtpPort",
            _PORT,
            "The port of mailHost; default: 587 for starttls, 465 for tls, 25 without TLS.",
        ),
    )
    smtp_tls: str = field(
        default="starttls",
        metadata=setting(
            "smtpTls",
            Choice(("starttls", "tls", "none", "in-the-clear")),
            "What secures the way to mailHost; none is for this machine, in-the-clear for any.",
        ),
    )
    smtp_user: str = field(
        default="",
        metadata=setting(
            "smtpUser",
            Or("none", "", Text("the name of a user")),
            "Who logs in at mailHost; none: mails are handed over without a login.",
        ),
    )
    password_file: str = field(
        default="",
        metadata=setting(
            "passwordFile",
            Or("none", "", File()),
            "The file whose first line is the password, for its owner only; read for each login.",
        ),
    )
    password_command: tuple[str, ...] = field(
        default=(),
        metadata=setting(
            "passwordCommand",
            Or("none", (), Command()),
            "The command that prints the password instead, run for each login without a shell.",
        ),
    )
    password_is_token: bool = field(
        default=False,
        metadata=setting(
            "passwordIsToken",
            Switch(),
            "Whether the password is an OAuth access token, as Gmail and Microsoft ask for.",
        ),
    )
    sendmail_command: tuple[str, ...] = field(
        default=(),
        metadata=setting(
            "sendmailCommand",
            Or("none", (), Command()),
            "The command that takes mails instead of mailHost, as in /usr/sbin/sendmail.",
        ),
    )
    ca_file: str = field(
        default="",
        metadata=setting(
            "caFile",
            Or("default", "", File()),
            "The authorities that vouch for mail servers, as PEM; default: those of the system.",
        ),
    )
    spool: str = field(
        default="~/.compoint/mail",
        metadata=setting(
            "spool",
            Folder(),
            "The folder of this mailbox's conversations and of mail that waits, as a whole path.",
        ),
    )
    # Of a limit of 10 MB, the least that is common (Postfix: 10 240 000 bytes), 9 MiB leave
    # half a megabyte to what is added on the way: headers, footers, shorter lines of base64.
    # Below 16 KiB the names in the frames would weigh more than what they carry; the receiver
    # program looks at no mail above 64 MiB.
    max_mail_bytes: int = field(
        default=9 * MIB,
        metadata=setting(
            "maxMail",
            Size(16 * KIB, 50 * MIB),
            "The largest mail that is sent; many servers take 10 MB, with what the way adds.",
        ),
    )
    rate: float = field(
        default=1.0,
        metadata=setting(
            "rate",
            Rate(0.001, 10_000),
            "How many mails per second leave in the long run; a few more may leave at once.",
        ),
    )
    daily: int = field(
        default=400,
        metadata=setting(
            "daily",
            Count(1, 100_000_000),
            "How many mails leave in any 24 hours; providers lock accounts that send too many.",
        ),
    )
    expire_s: float = field(
        default=5 * _DAY_S,
        metadata=setting(
            "expire",
            Seconds(0.1, 30 * _DAY_S),
            "How long nothing is confirmed until a conversation is given up.",
        ),
    )
    rto_min_s: float = field(
        default=600.0,
        metadata=setting(
            "rtoMin",
            Seconds(0.05, _DAY_S),
            "The shortest silence after which something is said again.",
        ),
    )
    ack_delay_s: float = field(
        default=30.0,
        metadata=setting(
            "ackDelay",
            Seconds(0.01, 3600.0),
            "How long an acknowledgement waits for something to ride on; not above rtoMin.",
        ),
    )
    imap_host: str = field(
        default="",
        metadata=setting(
            "imapHost",
            Or("none", "", Host("imap", _HOST.replace("smtp", "imap"))),
            "The IMAP server that is watched for new mails; none: they arrive another way.",
        ),
    )
    imap_port: int = field(
        default=0,
        metadata=setting(
            "imapPort", _PORT, "The port of imapHost; default: 993 for tls, 143 for the others."
        ),
    )
    imap_tls: str = field(
        default="tls",
        metadata=setting(
            "imapTls",
            Choice(("tls", "starttls", "none")),
            "What secures the way to imapHost; none is for this machine only.",
        ),
    )
    imap_user: str = field(
        default="",
        metadata=setting(
            "imapUser",
            Or("default", "", Text("the name of a user")),
            "Who logs in at imapHost, with the same password; default: smtpUser.",
        ),
    )
    imap_folders: tuple[str, ...] = field(
        default=("INBOX",),
        metadata=setting(
            "imapFolders",
            Texts("the names of folders, as in INBOX, Junk"),
            "The folders of imapHost that are watched, with commas between them.",
        ),
    )
    maildir: str = field(
        default="",
        metadata=setting(
            "maildir",
            Or("none", "", Folder()),
            "The Maildir that is watched for new mails, as a whole path.",
        ),
    )
    listen: str = field(
        default="",
        metadata=setting(
            "listen",
            Or("none", "", HostAndPort()),
            "The port, or host:port, on which the program itself takes mails from a mail server.",
        ),
    )
    listen_protocol: str = field(
        default="lmtp",
        metadata=setting(
            "listenProtocol",
            Choice(("lmtp", "smtp")),
            "What is spoken there: lmtp, by which mail servers deliver, or smtp.",
        ),
    )


def mail_clashes(mail: MailSettings) -> Iterator[Clash]:
    has_password = mail.password_file or mail.password_command
    if mail.trust == "secret" and not mail.secret_file:
        yield Clash(
            ("secretFile", "trust"),
            "is not set, and trust is secret",
            "name a secretFile that both sides share, or say trust = none",
        )
    if mail.password_file and mail.password_command:
        yield Clash(
            ("passwordCommand", "passwordFile"),
            "is set, and so is passwordFile",
            "delete one of them",
        )
    for key, user in (("smtpUser", mail.smtp_user), ("imapUser", mail.imap_user)):
        if user and not has_password:
            yield Clash(
                (key, "passwordFile", "passwordCommand"),
                "is a user without a password",
                "set passwordFile or passwordCommand",
            )
    if mail.imap_host and not (mail.imap_user or mail.smtp_user):
        yield Clash(
            ("imapHost", "imapUser", "smtpUser"),
            "has no user who logs in",
            "set imapUser or smtpUser",
        )
    elif has_password and not (mail.imap_user or mail.smtp_user):
        yield Clash(
            ("smtpUser", "imapUser"), "is not set, and a password is", "name whose password it is"
        )
    for key, time_s, other, most_s in (
        ("ackDelay", mail.ack_delay_s, "rtoMin", mail.rto_min_s),
        ("rtoMin", mail.rto_min_s, "expire", mail.expire_s),
    ):
        if time_s > most_s:
            yield Clash(
                (key, other),
                f"{time_s:g} s are more than {other}, {most_s:g} s",
                f"allowed is at most as much as {other}",
            )
