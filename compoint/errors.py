"""The error tree, sorted by who is to blame.

Every error names the point, the phase it was in, what came, how long it took and what
to do next; `fate` says what became of the message that was on its way.
"""

from __future__ import annotations

import enum
from typing import Any

__all__ = [
    "AddressError",
    "BrokenError",
    "BusyError",
    "ClosedError",
    "ComPointException",
    "ConfigError",
    "ConnectError",
    "EndOfMessages",
    "Fate",
    "FrameError",
    "InternalError",
    "MessageError",
    "PeerError",
    "Phase",
    "PointTimeout",
    "RefusedError",
    "SessionLostError",
    "ShadowedPackageError",
    "TooLargeError",
    "UsageError",
    "VersionError",
]


class Fate(enum.StrEnum):
    """What became of the message an error is about."""

    NOT_SENT = "not sent"
    UNKNOWN = "unknown"
    DELIVERED = "delivered"


class Phase(enum.StrEnum):
    """What a point was doing when the error happened."""

    CONFIGURE = "configure"
    RESOLVE = "resolve"
    CONNECT = "connect"
    PROXY = "proxy"
    TLS = "TLS"
    GREETING = "greeting"
    OPEN = "open"
    ACCEPT = "accept"
    WRITE = "write"
    READ = "read"
    FLUSH = "flush"
    CLOSE = "close"


class ComPointException(Exception):
    """The root of all errors of this package.

    `what` is one sentence about what happened; the other parts are optional and are
    woven into `str(error)`: "POINT: PHASE: WHAT (after 1.2 s); HINT".
    """

    fate: Fate = Fate.UNKNOWN

    def __init__(
        self,
        what: str,
        *,
        point: str = "",
        phase: Phase | None = None,
        elapsed_s: float | None = None,
        hint: str = "",
        fate: Fate | None = None,
        **more: Any,
    ) -> None:
        super().__init__(what)
        self.what = what
        self.point = point
        self.phase = phase
        self.elapsed_s = elapsed_s
        self.hint = hint
        if fate is not None:
            self.fate = fate
        # Subclasses with attributes of their own (path, code, …) declare them and pass them here.
        for name, value in more.items():
            if name not in type(self).__annotations__:
                raise TypeError(f"{type(self).__name__} has no attribute {name!r}")
            setattr(self, name, value)

    def __str__(self) -> str:
        text = self.what
        if self.phase is not None:
            text = f"{self.phase}: {text}"
        if self.point:
            text = f"{self.point}: {text}"
        if self.elapsed_s is not None:
            text += f" (after {self.elapsed_s:.3g} s)"
        if self.hint:
            text += f"; {self.hint}"
        return text

    def __reduce__(self) -> tuple[Any, ...]:
        # Exceptions cross process borders (multiprocessing, futures); the default
        # protocol would call the class with `args` only and lose the keywords.
        return (_rebuild, (type(self), self.what, self.__dict__.copy()))


def _rebuild(cls: type[ComPointException], what: str, state: dict[str, Any]) -> ComPointException:
    error = cls.__new__(cls, what)
    error.args = (what,)
    error.__dict__.update(state)
    return error


# --- the caller's doing ---------------------------------------------------------------------


class UsageError(ComPointException):
    """The call cannot be carried out as it was made; nothing has happened."""

    fate = Fate.NOT_SENT


class AddressError(UsageError, ValueError):
    """A `ComPointAddress` that is none; says which part and why."""


class ConfigError(UsageError, ValueError):
    """The `_sempconfig` file or an option has faults; lists all of them at once."""


class ClosedError(UsageError):
    """This side closed the point, in this thread or in another; open a new one."""


class BusyError(UsageError):
    """Another thread is already reading here (or the port is already taken)."""


class ShadowedPackageError(UsageError, ImportError):
    """A file of the user stands where a package of ours should be found."""


# --- the peer's doing -----------------------------------------------------------------------


class PeerError(ComPointException):
    """The peer broke the rules of the protocol or of a message."""


class FrameError(PeerError):
    """What came is not our protocol, or breaks it."""


class TooLargeError(PeerError):
    """A message is larger than the side that must take it allows; it failed alone."""


class MessageError(PeerError, ValueError):
    """One message is not what was asked for; the point stays usable.

    `path` says where in the message the fault is (`$.items[2].price`).
    """

    path: str = "$"


class VersionError(PeerError):
    """The two sides have no version of the protocol in common."""


# --- the world's doing ----------------------------------------------------------------------


class BrokenError(ComPointException, ConnectionError):
    """The way to the peer is gone."""


class ConnectError(BrokenError):
    """The peer was never reached."""

    fate = Fate.NOT_SENT


class SessionLostError(BrokenError):
    """A conversation was cut and cannot go on.

    `unconfirmed` holds the numbers (the first message written is 1) of the messages that
    the peer has not confirmed.
    """

    unconfirmed: range = range(0)


# --- no fault at all ------------------------------------------------------------------------


class EndOfMessages(ComPointException, EOFError):
    """The peer closed in good order; nothing is missing."""

    fate = Fate.NOT_SENT


class PointTimeout(ComPointException, TimeoutError):
    """The deadline passed; the point is unharmed, call again."""

    fate = Fate.NOT_SENT


class RefusedError(ComPointException):
    """The peer understood and said no.

    `code` is one of the codes of docs/PROTOCOL.md; `retry_after_s` says when asking again
    may help (None: it will not).
    """

    code: str = ""
    retry_after_s: float | None = None
    fate = Fate.NOT_SENT


class InternalError(ComPointException):
    """Our bug; please report it with the text of this error."""
