"""The settings of a program: each with its key, what it may be, its default and its sentence.

Reading, checking and `sempconfig.example` are driven by these declarations.
"""

from __future__ import annotations

from dataclasses import MISSING, dataclass, field, fields
from typing import TYPE_CHECKING, Final

from compoint._kinds import (
    Clash,
    Count,
    File,
    Kind,
    Or,
    Seconds,
    Size,
    Switch,
    Value,
    setting,
)
from compoint._mail_settings import MailSettings
from compoint.limits import (
    BACKLOG,
    CONNECT_S,
    EXIT_S,
    FIRST_CREDIT_BYTES,
    GIB,
    GREETING_S,
    HEARTBEAT_S,
    HTTP_GIVE_UP_S,
    IDLE_CONNECTION_S,
    MESSAGE_BYTES,
    QUEUED_BYTES,
    QUEUED_CHANNELS,
    QUEUED_CHANNELS_PER_CONNECTION,
    QUEUED_S,
    WIDE_WINDOW_BYTES,
    WINDOW_BYTES,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "SECTIONS", "SETTINGS", "ChannelSettings", "HttpSettings", "MailSettings", "PointSettings",
    "Setting", "Settings", "point_clashes",
]  # fmt: skip

_TIB: Final = 1024 * GIB
_HOUR_S: Final = 3600.0
_DAY_S: Final = 24 * _HOUR_S


@dataclass(frozen=True, slots=True, kw_only=True)
class PointSettings:
    """Section `[compoint]`: what holds for every ComPoint of the program."""

    max_message_bytes: int = field(
        default=MESSAGE_BYTES,
        metadata=setting(
            "maxMessage",
            Size(FIRST_CREDIT_BYTES, 1 * _TIB),
            "The largest message this side takes; the writer of a larger one gets TooLargeError.",
        ),
    )
    window_bytes: int = field(
        default=WINDOW_BYTES,
        metadata=setting(
            "window",
            Size(FIRST_CREDIT_BYTES, 1 * GIB),
            "How much the peer may send ahead of this program's reads.",
        ),
    )
    wide_window_bytes: int = field(
        default=WIDE_WINDOW_BYTES,
        metadata=setting(
            "wideWindow",
            Size(FIRST_CREDIT_BYTES, 16 * GIB),
            "The window while this program waits in write(); never smaller than window.",
        ),
    )
    connect_timeout_s: float = field(
        default=CONNECT_S,
        metadata=setting(
            "connectTimeout",
            Seconds(0.1, _HOUR_S),
            "How long reaching a peer may take unless the call says otherwise.",
        ),
    )
    greeting_timeout_s: float = field(
        default=GREETING_S,
        metadata=setting(
            "greetingTimeout",
            Seconds(0.1, _HOUR_S),
            "How long a new connection may take to say who it is; then it is closed.",
        ),
    )
    exit_timeout_s: float = field(
        default=EXIT_S,
        metadata=setting(
            "exitTimeout",
            Seconds(0, _DAY_S),
            "How long all points together may take to say goodbye when the program ends.",
        ),
    )
    heartbeat_s: float = field(
        default=HEARTBEAT_S,
        metadata=setting(
            "heartbeat",
            Seconds(0.1, _HOUR_S, may_be_off=True),
            "How often a silent connection is asked for a sign of life; 0 turns it off.",
        ),
    )
    backlog: int = field(
        default=BACKLOG,
        metadata=setting(
            "backlog",
            Count(1, 65_536),
            "How many peers may wait to be accepted; the next one is refused.",
        ),
    )


def point_clashes(point: PointSettings) -> Iterator[Clash]:
    if point.wide_window_bytes < point.window_bytes:
        yield Clash(
            ("wideWindow", "window"),
            f"{point.wide_window_bytes} bytes are less than window, {point.window_bytes} bytes",
            "allowed is at least as much as window",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelSettings:
    """Section `[channel]`: what a service point queues, and the connections channels share."""

    max_queued: int = field(
        default=QUEUED_CHANNELS,
        metadata=setting(
            "maxQueued",
            Count(1, 1_000_000),
            "How many channels may wait for their responders; the next one is refused.",
        ),
    )
    max_queued_per_connection: int = field(
        default=QUEUED_CHANNELS_PER_CONNECTION,
        metadata=setting(
            "maxQueuedPerConnection",
            Count(1, 1_000_000),
            "How many of the waiting channels may come from one connection.",
        ),
    )
    max_queued_bytes: int = field(
        default=QUEUED_BYTES,
        metadata=setting(
            "maxQueuedBytes",
            Size(FIRST_CREDIT_BYTES, 16 * GIB),
            "How much the messages of all waiting channels may hold; what comes then is refused.",
        ),
    )
    max_queued_age_s: float = field(
        default=QUEUED_S,
        metadata=setting(
            "maxQueuedAge",
            Seconds(1, 30 * _DAY_S),
            "How long a channel waits for its responder; then it is refused.",
        ),
    )
    idle_connection_s: float = field(
        default=IDLE_CONNECTION_S,
        metadata=setting(
            "idleConnection",
            Seconds(0, _DAY_S),
            "How long a shared connection without channels is kept for the next one.",
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpSettings:
    """Section `[http]`: how initiators make their requests, and what servers take."""

    streams: bool = field(
        default=True,
        metadata=setting(
            "streams",
            Switch(),
            "Whether answers may come piece by piece where the way allows it; off: only polls.",
        ),
    )
    ca_file: str = field(
        default="",
        metadata=setting(
            "caFile",
            Or("default", "", File()),
            "The authorities that vouch for https servers, as PEM; default: those of requests.",
        ),
    )
    give_up_s: float = field(
        default=HTTP_GIVE_UP_S,
        metadata=setting(
            "giveUp",
            Seconds(0.1, _HOUR_S),
            "How long requests that fail are repeated before the way counts as lost.",
        ),
    )


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings of a program; `Settings()` holds the defaults."""

    point: PointSettings = PointSettings()
    channel: ChannelSettings = ChannelSettings()
    http: HttpSettings = HttpSettings()
    #: None: the mail transport is not configured.
    mail: MailSettings | None = None
    #: The absolute paths of the files that were read; empty if there are only defaults.
    sources: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Setting:
    """One line of the table of all settings, for documentation and checks."""

    section: str
    key: str
    #: The name of the attribute in the class of its section.
    attribute: str
    kind: Kind
    #: None: it has none; all of its section that have none are set together, or not at all.
    default: Value | None
    sentence: str


#: The class of each section.
SECTIONS: Final = {
    "compoint": PointSettings,
    "channel": ChannelSettings,
    "http": HttpSettings,
    "mail": MailSettings,
}

#: Every setting, in the order of `sempconfig.example`.
SETTINGS: Final = tuple(
    Setting(
        section=section,
        attribute=declared.name,
        default=None if declared.default is MISSING else declared.default,
        **declared.metadata,
    )
    for section, settings in SECTIONS.items()
    for declared in fields(settings)
)
