"""`compoint receive`: serves a channel and stores the files that come over it."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

from channel import Channel
from compoint.cli._conversation import heard, telling_the_peer
from compoint.cli._faults import CommandFailed
from compoint.cli._file_messages import FileAccepted, FileEnd, FileHeader, FileStored
from compoint.cli._file_names import safe_name
from compoint.cli._incoming import IncomingFile
from compoint.cli._output import fault
from compoint.cli._visible import counted, size_in_words
from compoint.deadline import clock
from compoint.errors import EndOfMessages

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from channel import ChannelPoint
    from compoint.cli._output import Output
    from compoint.point import ComPoint

__all__ = ["receive_file", "run"]


def run(given: argparse.Namespace, out: Output) -> int:
    """Store what one sender sends; with --keep, what every sender sends until Ctrl-C."""
    folder = given.into
    if not os.path.isdir(folder):
        raise CommandFailed(f"{folder}: is no folder; create it or name another")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise CommandFailed(f"{folder}: nothing may be written there; allow it or name another")
    with Channel.start_service_point_thread(given.address) as service_point:
        out.say(f"receiving at {service_point.address}, channel {given.channel}, into {folder}")
        while True:
            point = service_point.open_responder_channel(None, given.channel)
            try:
                _receive_all(point, folder, out, may_overwrite=given.overwrite)
            except CommandFailed as error:
                if not given.keep:
                    raise
                fault(str(error))
            if not given.keep:
                return 0


def _receive_all(point: ChannelPoint, folder: str, out: Output, *, may_overwrite: bool) -> None:
    stored = 0
    with telling_the_peer(point):
        while True:
            try:
                header = heard(point, FileHeader)
            except EndOfMessages:
                # Between two files that is how a transfer ends.
                break
            receive_file(point, header, folder, out, may_overwrite=may_overwrite)
            stored += 1
        if not stored:
            raise CommandFailed(f"{point.peer} came and left without sending a file")
    out.say(f"{counted(stored, 'file')} received")


def receive_file(
    point: ComPoint, header: FileHeader, folder: str, out: Output, *, may_overwrite: bool
) -> FileStored:
    """Store the file that a header has announced; tells the peer when it is on the disk.

    Raises:
        CommandFailed: it cannot be stored, is not what was sent, or the peer gives up.
        ComPointException: as `ComPoint.read` and `write`.
    """
    name = safe_name(header.name)
    if header.size_bytes < 0:
        raise CommandFailed(f"{name} cannot have {header.size_bytes} bytes")
    started_at = clock()
    with IncomingFile(folder, name, may_overwrite=may_overwrite) as file:
        point.write(FileAccepted(name))
        with out.meter(name, header.size_bytes) as meter:
            sha256 = _receive_pieces(point, name, header.size_bytes, file.write, meter.advance)
        file.store()
    stored = FileStored(name, sha256)
    point.write(stored)
    out.say(
        f"received {file.path} ({size_in_words(header.size_bytes)} in "
        f"{clock() - started_at:.1f} s), sha256 {sha256}"
    )
    return stored


def _receive_pieces(
    point: ComPoint,
    name: str,
    size_bytes: int,
    write: Callable[[bytes], None],
    advance: Callable[[int], None],
) -> str:
    """Write what comes; returns its digest, which is the one the sender has found."""
    digest = hashlib.sha256()
    rest = size_bytes
    while not isinstance(message := heard(point, bytes | FileEnd), FileEnd):
        rest -= len(message)
        if rest < 0:
            raise CommandFailed(f"{name}: more came than the announced {size_bytes} bytes")
        digest.update(message)
        write(message)
        advance(len(message))
    if rest:
        raise CommandFailed(f"{name}: {rest} of the announced {size_bytes} bytes did not come")
    if message.sha256 != digest.hexdigest():
        raise CommandFailed(
            f"{name}: what came is not what was sent: its sha256 is {digest.hexdigest()}, "
            f"announced was {message.sha256}"
        )
    return message.sha256
