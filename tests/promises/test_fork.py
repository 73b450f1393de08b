"""Promise 4 after `fork()`: the child's copy says so, the parent's is unharmed.

(grpc/grpc #13873, zeromq/pyzmq #1049, googleapis/google-cloud-python #4992: the child
hangs, aborts, or steals the parent's bytes.)
"""

from __future__ import annotations

import os
import traceback
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

import pytest

from channel import Channel, ChannelOptions
from compoint import (
    COMPOINT_INITIATOR,
    COMPOINT_SERVER,
    ClosedError,
    ComManager,
    ComPoint,
    ComPointAddress,
)
from compoint.testing import Background

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork"),
    # Newer interpreters warn of what is the very subject here: a fork among threads.
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning"),
]

PATIENCE_S = 5.0


def in_child(work: Callable[[], None]) -> None:
    """Run `work` in a forked child; fail with its traceback if it fails."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reading)
            work()
        except BaseException:
            os.write(writing, traceback.format_exc().encode()[-4000:])
        finally:
            # Not through pytest's own exit, which belongs to the parent.
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        trouble = pipe.read().decode()
    os.waitpid(child, 0)
    assert not trouble, trouble


def _expect_closed(use: Callable[[], object]) -> None:
    try:
        use()
    except ClosedError as error:
        assert "parent" in str(error), error  # noqa: PT017 - in a child, without pytest
        return
    raise AssertionError("the child's copy can be used")


@pytest.fixture(params=["plain tcp", "channel tcp", "dedicated tcp", "plain memory"])
def ends(request: pytest.FixtureRequest) -> Iterator[tuple[ComPoint, ComPoint]]:
    kind, protocol = request.param.split()
    here = ComPointAddress(protocol, 0)
    with ExitStack() as stack:
        if kind == "plain":
            server = stack.enter_context(ComManager.com_point(COMPOINT_SERVER, here))
            address = ComPointAddress(protocol, "localhost", server.address.port)
            initiator: ComPoint = ComManager.com_point(COMPOINT_INITIATOR, address)
            responder: ComPoint = server.accept(timeout=PATIENCE_S)
        else:
            place = stack.enter_context(Channel.start_service_point_thread(here))
            address = ComPointAddress(protocol, "localhost", place.address.port)
            options = ChannelOptions(dedicated=kind == "dedicated")
            initiator = Channel.open_initiator_channel(address, options, "fork")
            responder = place.open_responder_channel(None, "fork", timeout=PATIENCE_S)
        stack.callback(responder.abort, "the test is over")
        stack.callback(initiator.abort, "the test is over")
        yield initiator, responder


def _check_exchange(ends: tuple[ComPoint, ComPoint]) -> None:
    initiator, responder = ends
    for number in range(50):
        initiator.write(number, timeout=PATIENCE_S)
        assert responder.read(timeout=PATIENCE_S) == number
        responder.write(b"x" * 50_000, timeout=PATIENCE_S)
        assert len(initiator.read(timeout=PATIENCE_S)) == 50_000


@pytest.mark.parametrize(
    "use",
    [
        lambda point: point.read(timeout=1),
        lambda point: point.write(b"stolen", timeout=1),
        lambda point: point.write(bytes(1_000_000), timeout=1),
        lambda point: point.flush(timeout=1),
    ],
    ids=["read", "write", "large write", "flush"],
)
def test_the_childs_copy_of_a_point_says_that_it_is_the_parents(
    ends: tuple[ComPoint, ComPoint], use: Callable[[ComPoint], object]
) -> None:
    _check_exchange(ends)
    for point in ends:
        point.write(b"unread")

    def use_all() -> None:
        for point in ends:
            _expect_closed(partial(use, point))

    in_child(use_all)
    assert [point.read(timeout=PATIENCE_S) for point in ends] == [b"unread", b"unread"]
    _check_exchange(ends)


def test_a_child_that_closes_its_copy_does_not_close_the_parents(
    ends: tuple[ComPoint, ComPoint],
) -> None:
    def close_all() -> None:
        for point in ends:
            point.close()
            point.abort("the child is over")

    _check_exchange(ends)
    in_child(close_all)
    _check_exchange(ends)


def test_a_fork_while_a_thread_reads_harms_neither(ends: tuple[ComPoint, ComPoint]) -> None:
    initiator, responder = ends
    reading = Background(initiator.read).blocked()
    in_child(lambda: _expect_closed(lambda: initiator.read(timeout=1)))
    responder.write(b"for the parent")
    assert reading.result() == b"for the parent"


@pytest.mark.parametrize("protocol", ["tcp", "memory"])
def test_the_childs_copy_of_a_server_says_that_it_is_the_parents(protocol: str) -> None:
    with ComManager.com_point(COMPOINT_SERVER, ComPointAddress(protocol, 0)) as server:

        def use() -> None:
            _expect_closed(lambda: server.accept(timeout=1))
            server.close()

        in_child(use)
        address = ComPointAddress(protocol, "localhost", server.address.port)
        with (
            ComManager.com_point(COMPOINT_INITIATOR, address) as initiator,
            server.accept(timeout=PATIENCE_S) as responder,
        ):
            initiator.write(b"parent")
            assert responder.read(timeout=PATIENCE_S) == b"parent"


def test_the_childs_copy_of_a_service_point_says_that_it_is_the_parents() -> None:
    with Channel.start_service_point_thread(ComPointAddress("tcp", 0)) as place:

        def use() -> None:
            _expect_closed(lambda: place.open_responder_channel(None, "x", timeout=1))
            place.stop()

        in_child(use)
        address = ComPointAddress("tcp", "localhost", place.address.port)
        with Channel.open_initiator_channel(address, None, "x") as initiator:
            initiator.write(b"parent")
            with place.open_responder_channel(None, "x", timeout=PATIENCE_S) as responder:
                assert responder.read(timeout=PATIENCE_S) == b"parent"


@pytest.mark.parametrize("protocol", ["tcp", "memory"])
def test_a_child_can_open_points_of_its_own(protocol: str) -> None:
    def talk() -> None:
        with ComManager.com_point(COMPOINT_SERVER, ComPointAddress(protocol, 0)) as server:
            address = ComPointAddress(protocol, "localhost", server.address.port)
            with (
                ComManager.com_point(COMPOINT_INITIATOR, address) as initiator,
                server.accept(timeout=PATIENCE_S) as responder,
            ):
                initiator.write(b"child")
                assert responder.read(timeout=PATIENCE_S) == b"child"
                responder.write(b"answer")
                responder.flush(timeout=PATIENCE_S)
                assert initiator.read(timeout=PATIENCE_S) == b"answer"

    with ComManager.com_point(COMPOINT_SERVER, ComPointAddress(protocol, 0)):
        in_child(talk)


def test_a_child_can_open_channels_to_a_service_point_of_its_parent() -> None:
    with Channel.start_service_point_thread(ComPointAddress("tcp", 0)) as place:
        address = ComPointAddress("tcp", "localhost", place.address.port)
        with Channel.open_initiator_channel(address, None, "parent") as ours:
            ours.write(b"before")

            def talk() -> None:
                with Channel.open_initiator_channel(address, None, "child") as point:
                    point.write(b"from the child")
                    point.flush(timeout=PATIENCE_S)

            in_child(talk)
            with place.open_responder_channel(None, "child", timeout=PATIENCE_S) as theirs:
                assert theirs.read(timeout=PATIENCE_S) == b"from the child"
            with place.open_responder_channel(None, "parent", timeout=PATIENCE_S) as responder:
                assert responder.read(timeout=PATIENCE_S) == b"before"
                ours.write(b"after")
                assert responder.read(timeout=PATIENCE_S) == b"after"
