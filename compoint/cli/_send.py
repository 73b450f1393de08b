"""`compoint send`: files to a receiver, one after the other over one channel."""

from __future__ import annotations

import hashlib
import os
import stat
import time
from typing import TYPE_CHECKING, Final

from channel import Channel, ChannelOptions, ChannelPoint
from compoint.cli._conversation import heard, telling_the_peer
from compoint.cli._faults import CommandFailed
from compoint.cli._file_messages import (
    PIECE_BYTES,
    FileAccepted,
    FileEnd,
    FileHeader,
    FileStored,
)
from compoint.cli._visible import size_in_words
from compoint.deadline import Deadline, clock
from compoint.errors import ConnectError, PointTimeout

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator
    from io import RawIOBase

    from compoint.address import ComPointAddress
    from compoint.cli._output import Output
    from compoint.point import ComPoint

__all__ = ["check_file", "run", "send_file"]

#: There is no other channel of this process to share a connection with.
_ALONE: Final = ChannelOptions(dedicated=True)

#: While nothing listens, this often somebody looks again.
_RETRY_S: Final = 0.25

#: A receiver that is here answers faster; after this the person is told what is awaited.
_PATIENCE_S: Final = 1.0


def run(given: argparse.Namespace, out: Output) -> int:
    """Send all files; 0 means that the receiver has stored every one of them."""
    for path in given.files:
        check_file(path)
    point = _opened(given.address, given.channel, given.wait, out)
    with telling_the_peer(point):
        for path in given.files:
            send_file(point, path, out)
    return 0


def check_file(path: str) -> None:
    """Refuse at once what cannot be sent later.

    Raises:
        CommandFailed: it is not there, or is no regular file.
    """
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        raise _unreadable(path, error) from error
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "no regular file"
        raise CommandFailed(f"{path}: cannot be sent: it is {kind}")


def _opened(address: ComPointAddress, channel: str, wait_s: float, out: Output) -> ChannelPoint:
    """The channel; tries again for `wait_s` seconds while nothing listens there."""
    deadline = Deadline(wait_s)
    is_told = False
    while True:
        try:
            return Channel.open_initiator_channel(address, _ALONE, channel)
        except ConnectError:
            if deadline.is_over:
                raise
        if not is_told:
            out.say(f"nothing listens at {address} yet: trying for {wait_s:g} s")
            is_told = True
        time.sleep(min(_RETRY_S, deadline.remaining_s() or 0.0))


def send_file(point: ComPoint, path: str, out: Output) -> FileStored:
    """Send one file and wait until the receiver has stored it.

    Raises:
        CommandFailed: the file cannot be read, or one of the two sides gives up.
        ComPointException: as `ComPoint.read` and `write`.
    """
    # A name that is no valid text travels with marks in the place of what cannot be said.
    name = os.fsencode(os.path.basename(path)).decode(errors="replace")
    try:
        file = open(path, "rb", buffering=0)  # noqa: SIM115 - closed by the block below
        size_bytes = os.fstat(file.fileno()).st_size
    except OSError as error:
        raise _unreadable(path, error) from error
    with file:
        point.write(FileHeader(name, size_bytes))
        _await_acceptance(point, out)
        started_at = clock()
        with out.meter(name, size_bytes) as meter:
            sha256 = _send_pieces(point, _pieces(path, file, size_bytes), meter.advance)
            stored: FileStored = heard(point, FileStored)
    if stored.sha256 != sha256:
        raise CommandFailed(
            f"{name}: the receiver has stored something else: its sha256 is {stored.sha256}, "
            f"and {sha256} was sent"
        )
    out.say(
        f"sent {name} ({size_in_words(size_bytes)} in {clock() - started_at:.1f} s), "
        f"stored there as {stored.name}, sha256 {sha256}"
    )
    return stored


def _await_acceptance(point: ComPoint, out: Output) -> None:
    try:
        heard(point, FileAccepted, timeout=_PATIENCE_S)
    except PointTimeout:
        out.say("no receiver has opened this channel yet: waiting for one; Ctrl-C gives up")
        heard(point, FileAccepted)


def _send_pieces(point: ComPoint, pieces: Iterator[bytes], advance: Callable[[int], None]) -> str:
    """Send what is in a file; returns its digest."""
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
        point.write(piece)
        advance(len(piece))
    sha256 = digest.hexdigest()
    point.write(FileEnd(sha256))
    return sha256


def _pieces(path: str, file: RawIOBase, size_bytes: int) -> Iterator[bytes]:
    """Exactly `size_bytes` of a file, in pieces."""
    rest = size_bytes
    while rest:
        try:
            piece = file.read(min(PIECE_BYTES, rest))
        except OSError as error:
            raise _unreadable(path, error) from error
        if not piece:
            name = os.path.basename(path)
            raise CommandFailed(f"{name} became {size_in_words(rest)} shorter while it was sent")
        rest -= len(piece)
        yield piece


def _unreadable(path: str, error: OSError) -> CommandFailed:
    reason = error.strerror or str(error)
    return CommandFailed(
        f"{path}: cannot be read: {reason}",
        for_peer=f"{os.path.basename(path)} cannot be read: {reason}",
    )
