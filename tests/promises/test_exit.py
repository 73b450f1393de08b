"""Promise 5 at the end of a program: nothing written is lost, or it is named."""

from __future__ import annotations

import json
import threading

import pytest
from processes import Process

from channel import Channel
from compoint import (
    COMPOINT_INITIATOR,
    COMPOINT_SERVER,
    ComManager,
    ComPoint,
    ComPointAddress,
    ComPointException,
    SessionLostError,
)
from compoint.testing import Background, eventually

COUNT, SIZE = 60, 1_000_000
#: What the reader takes for each message.
WORK_S = 0.01


def _take_all(point: ComPoint) -> list[int]:
    """Read everything at leisure; the first byte of each message is its number."""
    came = []
    for message in point:
        assert len(message) == SIZE
        came.append(message[0])
        # The reader's work, not a wait for something: the subject is a slow reader.
        threading.Event().wait(WORK_S)
    return came


@pytest.mark.parametrize("manner", ["closes", "just ends", "leaves a with block"])
@pytest.mark.parametrize("kind", ["plain", "channel"])
def test_a_program_that_writes_60_megabytes_and_exits_loses_nothing(
    kind: str, manner: str
) -> None:  # zeromq/libzmq #1922, and the measured losses of field.md §1
    here = ComPointAddress("tcp", 0)
    if kind == "plain":
        with (
            ComManager.com_point(COMPOINT_SERVER, here) as server,
            Process("writer.py", kind, server.address.port, manner, COUNT, SIZE) as writer,
            server.accept(timeout=10) as point,
        ):
            _check(point, writer, manner)
    else:
        with (
            Channel.start_service_point_thread(here) as place,
            Process("writer.py", kind, place.address.port, manner, COUNT, SIZE) as writer,
            place.open_responder_channel(None, "bulk", timeout=10) as point,
        ):
            _check(point, writer, manner)


def _check(point: ComPoint, writer: Process, manner: str) -> None:
    assert _take_all(point) == list(range(COUNT))
    if manner == "closes":
        told = json.loads(writer.hear())
        assert told == {"written": COUNT, "confirmed": COUNT, "reason": ""}
    assert writer.end() == 0


@pytest.mark.parametrize("kind", ["plain", "channel"])
def test_the_receipt_names_what_a_reader_killed_midway_has_not_taken(kind: str) -> None:
    with Process("reader.py", kind, 10) as reader:
        address = ComPointAddress("tcp", "127.0.0.1", int(reader.hear()))
        point = _open(kind, address)
        writing = Background(_write_until_lost, point)
        assert reader.hear() == "10 read"
        reader.kill()
        written = writing.result(20)
        receipt = point.close()
        # A megabyte each, and the window holds one: the reader's process had the ten it read
        # and perhaps the next two; of the last ones the confirmation died with it.
        assert receipt.written == written
        assert 8 <= receipt.confirmed <= 12
        assert receipt.unconfirmed == range(receipt.confirmed + 1, written + 1)
        assert receipt.is_complete or receipt.reason


def _open(kind: str, address: ComPointAddress) -> ComPoint:
    if kind == "channel":
        return Channel.open_initiator_channel(address, None, "bulk")
    return ComManager.com_point(COMPOINT_INITIATOR, address)


def _write_until_lost(point: ComPoint) -> int:
    """Write until the way is lost; how many writes returned."""
    for number in range(COUNT):
        try:
            point.write(bytes([number]) * SIZE, timeout=20)
        except ComPointException:
            return number
    return COUNT


@pytest.mark.parametrize("kind", ["plain", "channel"])
def test_the_receipt_names_what_a_reader_that_closed_midway_has_not_read(kind: str) -> None:
    with Process("reader.py", kind, 10) as reader:
        address = ComPointAddress("tcp", "127.0.0.1", int(reader.hear()))
        point = _open(kind, address)
        for number in range(40):
            point.write(number)
        point.flush(timeout=10)
        assert reader.hear() == "10 read"
        assert reader.ask("close") == "closed"
        eventually(lambda: not point.statistics().is_open)
        receipt = point.close()
        assert (receipt.written, receipt.confirmed) == (40, 10)
        assert receipt.unconfirmed == range(11, 41)
        assert "without reading 30 of 40" in receipt.reason


def test_a_program_that_ends_with_an_exception_breaks_its_conversation_off() -> None:
    # grpc/grpc #17214
    with (
        ComManager.com_point(COMPOINT_SERVER, ComPointAddress("tcp", 0)) as server,
        Process("writer.py", "plain", server.address.port, "fails", 1, SIZE) as writer,
    ):
        with server.accept(timeout=10) as point:
            assert len(point.read(timeout=10)) == SIZE
            with pytest.raises(SessionLostError, match="ZeroDivisionError"):
                point.read(timeout=10)
        assert writer.end() == 1
