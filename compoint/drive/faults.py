"""Endings of the machine as exceptions of the program: one table, one place."""

from __future__ import annotations

from typing import Final

from compoint.core.codes import Code, Ending, How
from compoint.core.stream import Stream
from compoint.errors import (
    ClosedError,
    ComPointException,
    ConnectError,
    EndOfMessages,
    Fate,
    FrameError,
    Phase,
    RefusedError,
    SessionLostError,
    VersionError,
)

__all__ = ["error_of", "reason_of"]

_HINTS: Final = {
    How.FOREIGN: "check host, port and protocol of the address",
    How.VERSION: "use releases that have a version of the protocol in common",
    How.FORKED: "open a new point in the child process",
    How.CUT: "open a new point and repeat what is unconfirmed",
    How.BROKEN: "the peer's log or traceback says more",
}
_REFUSAL_HINTS: Final = {
    Code.WRONG_MODE: "",
    Code.NO_SUCH_PATH: "check the path of the address",
    Code.STOPPED: "start the peer again",
    Code.NOT_LOCAL: "ask on the machine itself",
}


def error_of(
    ending: Ending, stream: Stream, point: str, phase: Phase, elapsed_s: float | None
) -> ComPointException:
    """The exception for a call that met the end of its stream."""
    hint = _HINTS.get(ending.how, "")
    if ending.how is How.GOODBYE:
        return EndOfMessages(ending.text, point=point, phase=phase, elapsed_s=elapsed_s)
    if ending.how is How.REFUSED:
        if ending.retry_after_s is not None:
            hint = f"try again in {ending.retry_after_s:.3g} s"
        else:
            hint = _REFUSAL_HINTS.get(ending.code, hint)
        return RefusedError(
            f"refused ({ending.code.word}): {ending.text}",
            point=point,
            phase=phase,
            elapsed_s=elapsed_s,
            hint=hint,
            code=ending.code.word,
            retry_after_s=ending.retry_after_s,
        )
    if ending.how is How.FORKED:
        return ClosedError(ending.text, point=point, phase=phase, hint=hint)
    if ending.how is How.VERSION:
        return VersionError(
            ending.text, point=point, phase=Phase.GREETING, hint=hint, fate=Fate.NOT_SENT
        )
    if ending.how is How.FOREIGN:
        kind = ConnectError if ending.code is Code.GREETING_TIMEOUT else FrameError
        return kind(
            ending.text,
            point=point,
            phase=Phase.GREETING,
            elapsed_s=elapsed_s,
            hint=hint,
            fate=Fate.NOT_SENT,
        )
    if ending.how is How.CUT and ending.code is Code.ABANDONED:
        hint = (
            "all up to the last call that succeeded is kept; go on with it by `resume`, or listen"
        )
    return SessionLostError(
        reason_of(ending, stream),
        point=point,
        phase=phase,
        elapsed_s=elapsed_s,
        hint=hint,
        fate=Fate.UNKNOWN if stream.confirmed < stream.written else Fate.DELIVERED,
        unconfirmed=range(stream.confirmed + 1, stream.written + 1),
    )


def reason_of(ending: Ending, stream: Stream) -> str:
    """Why a stream is over, with what is unconfirmed."""
    missing = stream.written - stream.confirmed
    if ending.how is How.GOODBYE and missing:
        return f"{ending.text} without reading {missing} of {stream.written} messages"
    if missing == 1:
        return f"{ending.text}; message {stream.written} is unconfirmed"
    if missing:
        return f"{ending.text}; messages {stream.confirmed + 1} to {stream.written} are unconfirmed"
    return ending.text
