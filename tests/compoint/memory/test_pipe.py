"""The memory transport: a wire of two bounded queues, and the names where initiators meet it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compoint import (
    COMPOINT_INITIATOR,
    COMPOINT_SERVER,
    BusyError,
    ComManager,
    ComPointAddress,
    ConnectError,
)
from compoint.deadline import FOR_EVER
from compoint.limits import BACKLOG
from compoint.memory import MemoryOpener, MemoryWire, memory_pair
from compoint.memory._pipe import PIPE_BYTES, MemoryListener
from compoint.testing import Background

if TYPE_CHECKING:
    from collections.abc import Callable

PATIENCE_S = 10.0
HERE = ComPointAddress("memory", 0)


# --- one wire ---------------------------------------------------------------------------------


@given(pieces=st.lists(st.binary(min_size=1, max_size=50)), most=st.integers(1, 70))
def test_bytes_come_out_in_order_however_they_are_cut(pieces: list[bytes], most: int) -> None:
    ours, theirs = memory_pair()
    for piece in pieces:
        assert ours.send(piece) == len(piece)
    ours.close()
    received = []
    while data := theirs.receive(most):
        assert len(data) <= most
        received.append(data)
    assert b"".join(received) == b"".join(pieces)


def test_a_full_wire_takes_what_fits_and_then_nothing() -> None:
    ours, theirs = memory_pair()
    assert ours.send(bytes(PIPE_BYTES + 5)) == PIPE_BYTES
    with pytest.raises(BlockingIOError):
        ours.send(b"x")
    assert len(theirs.receive(10)) == 10
    assert ours.send(bytes(50)) == 10


def test_what_was_sent_is_a_copy() -> None:
    ours, theirs = memory_pair()
    data = bytearray(b"before")
    ours.send(memoryview(data))
    data[:] = b"after!"
    assert theirs.receive(100) == b"before"


def test_an_empty_wire_has_nothing_to_receive() -> None:
    _, theirs = memory_pair()
    with pytest.raises(BlockingIOError):
        theirs.receive(10)
    with pytest.raises(BlockingIOError):
        theirs.receive_into(memoryview(bytearray(10)))


def test_bytes_are_received_straight_into_a_room() -> None:
    ours, theirs = memory_pair()
    ours.send(b"hello")
    room = bytearray(3)
    assert theirs.receive_into(memoryview(room)) == 3
    assert room == b"hel"
    assert theirs.receive(10) == b"lo"


def test_what_was_sent_before_the_end_is_still_received() -> None:
    ours, theirs = memory_pair()
    ours.send(b"last words")
    ours.close()
    assert theirs.receive(100) == b"last words"
    assert theirs.receive(100) == b""
    with pytest.raises(BrokenPipeError):
        theirs.send(b"too late")


def _end_of_peer(ours: MemoryWire, theirs: MemoryWire) -> None:
    theirs.close()


def _bytes_of_peer(ours: MemoryWire, theirs: MemoryWire) -> None:
    theirs.send(b"x")


def _call_for(ours: MemoryWire, theirs: MemoryWire) -> None:
    ours.wake()


@pytest.mark.parametrize("happens", [_end_of_peer, _bytes_of_peer, _call_for])
def test_a_waiting_thread_is_woken(happens: Callable[[MemoryWire, MemoryWire], None]) -> None:
    ours, theirs = memory_pair()
    waiting = Background(ours.wait, None, to_send=False).blocked()
    happens(ours, theirs)
    waiting.result()


def test_a_call_that_comes_before_the_waiting_is_not_lost() -> None:
    ours, _ = memory_pair()
    ours.wake()
    Background(ours.wait, None, to_send=False).result()


def test_who_waits_to_send_is_woken_by_room() -> None:
    ours, theirs = memory_pair()
    ours.send(bytes(PIPE_BYTES))
    waiting = Background(ours.wait, None, to_send=True).blocked()
    theirs.receive(10)
    waiting.result()


def test_a_listener_to_a_wire_is_called_for_bytes_and_for_the_end() -> None:
    ours, theirs = memory_pair()
    calls: list[str] = []
    theirs.on_ready(lambda: calls.append("ready"))
    assert calls == []
    ours.send(b"x")
    ours.close()
    assert len(calls) == 2


def test_a_listener_that_comes_late_is_called_at_once_for_bytes() -> None:
    ours, theirs = memory_pair()
    ours.send(b"x")
    calls: list[str] = []
    theirs.on_ready(lambda: calls.append("ready"))
    assert calls == ["ready"]
    theirs.on_ready(None)
    ours.send(b"y")
    assert calls == ["ready"]


def test_room_that_appears_before_anybody_listens_is_not_missed() -> None:
    """Else bytes that found no room would wait for ever, with nobody to send them."""
    ours, theirs = memory_pair()
    ours.send(bytes(PIPE_BYTES))
    with pytest.raises(BlockingIOError):
        ours.send(b"more")
    theirs.receive(PIPE_BYTES)
    calls: list[str] = []
    ours.on_ready(lambda: calls.append("ready"))
    assert calls == ["ready"]
    ours.send(b"more")
    # Nothing waits for room any more: no call, or the listener would spin.
    ours.on_ready(lambda: calls.append("again"))
    assert calls == ["ready"]


# --- places -------------------------------------------------------------------------------------


def test_a_free_port_is_found_and_given_back() -> None:
    with ComManager.com_point(COMPOINT_SERVER, HERE) as server:
        port = server.address.port
        assert port
        with pytest.raises(BusyError, match="in this process"):
            ComManager.com_point(COMPOINT_SERVER, ComPointAddress("memory", port))
    ComManager.com_point(COMPOINT_SERVER, ComPointAddress("memory", port)).close()


def test_threads_that_ask_for_free_ports_at_once_get_different_ones() -> None:
    at_once = threading.Barrier(8)

    def listen() -> MemoryListener:
        at_once.wait(PATIENCE_S)
        listener = MemoryOpener().listen(HERE)
        assert isinstance(listener, MemoryListener)
        return listener

    listeners = [one.result() for one in [Background(listen) for _ in range(8)]]
    assert len({listener.address.port for listener in listeners}) == 8
    for listener in listeners:
        listener.close()


def test_nobody_is_reached_where_nobody_listens() -> None:
    with pytest.raises(ConnectError, match="nobody listens there in this process"):
        ComManager.com_point(COMPOINT_INITIATOR, ComPointAddress("memory", 7))


def test_beyond_the_backlog_an_initiator_is_not_taken() -> None:
    listener = MemoryOpener().listen(HERE)
    wires = [MemoryOpener().connect(listener.address, FOR_EVER) for _ in range(BACKLOG)]
    with pytest.raises(ConnectError, match=f"{BACKLOG} initiators are waiting"):
        MemoryOpener().connect(listener.address, FOR_EVER)
    listener.close()
    assert [wire.receive(1) for wire in wires] == [b""] * BACKLOG


def test_an_initiator_that_comes_while_the_place_closes_is_cut() -> None:
    """It found the place before it was closed, and knocks behind it."""
    listener = MemoryOpener().listen(HERE)
    assert isinstance(listener, MemoryListener)
    ours, theirs = memory_pair()
    listener.close()
    listener.arrive(theirs)
    assert ours.receive(1) == b""


def test_closing_twice_leaves_the_next_one_at_this_port_alone() -> None:
    first = MemoryOpener().listen(HERE)
    first.close()
    second = MemoryOpener().listen(first.address)
    first.close()
    MemoryOpener().connect(second.address, FOR_EVER).close()
    second.close()
