"""`compoint talk`: lines typed by a person as messages, both ways.

The main thread reads what is typed, a second one prints what comes; a bell wakes the
first when the conversation is over. The standard output carries nothing but the peer's
lines, so that it can be piped.
"""

from __future__ import annotations

import os
import select
import sys
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

from channel import Channel, ChannelOptions
from compoint.cli._faults import CommandFailed
from compoint.cli._output import remark
from compoint.cli._visible import counted
from compoint.errors import ClosedError, ComPointException, EndOfMessages, MessageError
from compoint.manager import ComManager
from compoint.point import COMPOINT_INITIATOR, COMPOINT_SERVER

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from compoint.cli._output import Output
    from compoint.point import ComPoint

__all__ = ["LINE_BYTES", "run", "typed_lines"]

#: A longer line goes as several messages, so that an endless one fits into memory.
LINE_BYTES: Final = 64 * 1024

_READ_BYTES: Final = 64 * 1024


def run(given: argparse.Namespace, out: Output) -> int:
    """Talk until one side leaves: Ctrl-D here, or the peer's goodbye."""
    with ExitStack() as stack:
        point = _opened(given, stack)
        remark(f"talking to {point.peer}; Ctrl-D ends")
        return _Talk(point, out).run()


def _opened(given: argparse.Namespace, stack: ExitStack) -> ComPoint:
    """The point to talk over; what must live as long is put on the stack."""
    address, channel = given.address, given.channel
    if not given.serve:
        if channel is None:
            return ComManager.com_point(COMPOINT_INITIATOR, address)
        return Channel.open_initiator_channel(address, ChannelOptions(dedicated=True), channel)
    if channel is None:
        server = stack.enter_context(ComManager.com_point(COMPOINT_SERVER, address))
        remark(f"waiting at {server.address}; Ctrl-C gives up")
        return server.accept()
    service_point = stack.enter_context(Channel.start_service_point_thread(address))
    remark(f"waiting at {service_point.address}, channel {channel}; Ctrl-C gives up")
    return service_point.open_responder_channel(None, channel)


class _Talk:
    """One conversation."""

    def __init__(self, point: ComPoint, out: Output) -> None:
        self._point = point
        self._out = out
        self._mark = "< " if out.is_terminal else ""
        self._bell, self._ring = os.pipe()
        #: Why the printing thread has ended, if not by our closing.
        self._over: Exception | None = None

    def run(self) -> int:
        printing = threading.Thread(target=self._print_lines, name="compoint-talk", daemon=True)
        printing.start()
        try:
            self._send_lines()
        finally:
            # In good order after Ctrl-C, too: what was typed before it has been said.
            receipt = self._point.close()
            printing.join()
            os.close(self._ring)
            os.close(self._bell)
        if isinstance(self._over, EndOfMessages):
            remark("the peer has left")
        elif self._over is not None:
            raise self._over
        if not receipt.is_complete:
            lost = counted(len(receipt.unconfirmed), "line")
            raise CommandFailed(f"the peer has not taken the last {lost}: {receipt.reason}")
        return 0

    def _send_lines(self) -> None:
        if sys.stdin is None:  # the shell's `<&-`
            return
        for line in typed_lines(sys.stdin.fileno(), self._bell):
            try:
                self._point.write(line)
            except ComPointException:
                if self._over is None:
                    # The printing thread is about to find the same, with more to say.
                    select.select([self._bell], [], [])
                return

    def _print_lines(self) -> None:
        try:
            while True:
                try:
                    message = self._point.read()
                except MessageError as error:
                    remark(f"a message came that cannot be shown: {error}")
                    continue
                text = message if isinstance(message, str) else repr(message)
                self._out.say(f"{self._mark}{text}")
        except ClosedError:
            pass  # by us, because everything typed has been said
        except Exception as error:  # noqa: BLE001 - raised again by the main thread
            self._over = error
        finally:
            os.write(self._ring, b".")


def typed_lines(source: int, bell: int) -> Iterator[str]:
    """The lines that come from a descriptor, until its end or until the bell rings.

    What is no UTF-8 comes out with marks in its place.
    """
    rest = b""
    while True:
        ready, _, _ = select.select([source, bell], [], [])
        if bell in ready:
            return
        read = os.read(source, _READ_BYTES)
        *lines, rest = (rest + read).split(b"\n")
        for line in lines:
            yield from map(_text, _pieces(line))
        if not read:
            if rest:
                yield _text(rest)
            return
        *pieces, rest = _pieces(rest)
        yield from map(_text, pieces)


def _pieces(line: bytes) -> Iterator[bytes]:
    """A line in pieces that are not too long; mostly it is its only one."""
    while len(line) > LINE_BYTES:
        end = _end_of_piece(line)
        yield line[:end]
        line = line[end:]
    yield line


def _end_of_piece(line: bytes) -> int:
    """Where to cut a line that is too long: not inside a character, if it is UTF-8."""
    for end in range(LINE_BYTES, LINE_BYTES - 4, -1):
        if line[end] & 0xC0 != 0x80:
            return end
    return LINE_BYTES


def _text(line: bytes) -> str:
    return line.decode(errors="replace")
