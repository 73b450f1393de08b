"""What both sides of a file transfer do when it cannot go on."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from compoint.cli._faults import CommandFailed
from compoint.cli._file_messages import TransferFailed
from compoint.errors import ComPointException, MessageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from compoint.point import ComPoint

__all__ = ["heard", "telling_the_peer"]

#: How long the peer may take to hear why this side gives up.
_TELL_S: Final = 5.0

#: The same when this side's person has pressed Ctrl-C.
_HURRY_S: Final = 1.0


class _PeerFailed(CommandFailed):
    """The peer gave up, and need not be told."""


def heard(point: ComPoint, wanted: Any, *, timeout: float | None = None) -> Any:
    """The next message, which is of the class (or one of the classes) wanted.

    Raises:
        CommandFailed: the peer says that it cannot go on.
        ComPointException: as `ComPoint.read`.
    """
    message = point.read(wanted | TransferFailed, timeout=timeout)
    if isinstance(message, TransferFailed):
        raise _peer_failed(point, message)
    return message


def _peer_failed(point: ComPoint, message: TransferFailed) -> _PeerFailed:
    return _PeerFailed(f"{point.peer} says: {message.reason}")


@contextmanager
def telling_the_peer(point: ComPoint) -> Iterator[None]:
    """Closes the point behind the block; a failure of this side is told to the peer before.

    Raises:
        CommandFailed: the transfer failed, on either side or in between.
    """
    try:
        yield
    except _PeerFailed:
        point.close(timeout=_TELL_S)
        raise
    except CommandFailed as error:
        _give_up(point, error.for_peer, _TELL_S)
        raise
    except MessageError as error:
        _give_up(point, "a message came that is no part of a file transfer", _TELL_S)
        raise CommandFailed(str(error)) from error
    except ComPointException as error:
        failure = _last_word(point) or CommandFailed(str(error))
        point.close(timeout=_TELL_S)
        raise failure from error
    except KeyboardInterrupt:
        _give_up(point, "it was interrupted", _HURRY_S)
        raise
    except BaseException as error:
        _give_up(point, f"it failed ({type(error).__name__})", _HURRY_S)
        raise
    point.close()


def _give_up(point: ComPoint, reason: str, within_s: float) -> None:
    """Tell the peer why, and leave.

    The reason goes as a message, because `close` waits until the peer has it; what `abort`
    says can be overtaken by the end of this process.
    """
    try:
        point.write(TransferFailed(reason), timeout=within_s)
    except ComPointException:
        # Between two files a goodbye would look like success.
        point.abort(reason)
    else:
        point.close(timeout=within_s)


def _last_word(point: ComPoint) -> CommandFailed | None:
    """Why the peer has left, if it said so before."""
    try:
        return _peer_failed(point, point.read(TransferFailed, timeout=0))
    except ComPointException:
        return None
