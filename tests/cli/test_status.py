"""`compoint status` at real service points."""

import json
import re
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from channel import Channel, ChannelServicePoint
from compoint import COMPOINT_SERVER, ClosedError, ComManager, ComPointAddress
from compoint.testing import Background, eventually

Start = Callable[..., Any]


@pytest.fixture
def busy() -> Iterator[ChannelServicePoint]:
    """A service point with one channel queued and two responders waiting."""
    with Channel.start_service_point_thread(ComPointAddress("tcp", 0)) as service_point:
        with Channel.open_initiator_channel(service_point.address, None, "order-17") as point:
            point.write("one")
            point.write("two")
            point.flush(timeout=5)
            responders = [Background(service_point.open_responder_channel, None, "order-18")]
            eventually(lambda: len(service_point.waiting().responders) == 1)
            yield service_point
        service_point.stop()
        assert isinstance(responders[0].error(), ClosedError)


def test_who_is_queued_and_who_waits_is_shown_in_plain_columns(
    command: Start, busy: ChannelServicePoint
) -> None:
    status = command("status", busy.address)
    assert status.ends() == 0
    said = re.sub(r"\d+\.\d s", "0.0 s", re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:1", status.said))
    lines = [re.sub(" +", " ", line) for line in said.splitlines()]
    assert lines == [
        f"service point {busy.address}, 1 connection",
        "1 channel queued, waiting for a responder",
        " correlator from for messages size",
        " order-17 tcp://127.0.0.1:1 0.0 s 2 134 bytes",
        "1 responder waiting for a channel",
        " correlator for",
        " order-18 0.0 s",
    ]


def test_who_is_queued_and_who_waits_is_told_as_json(
    command: Start, busy: ChannelServicePoint
) -> None:
    status = command("status", busy.address, "--json")
    assert status.ends() == 0
    told = json.loads(status.said)
    assert told["address"] == str(busy.address)
    assert [(one["correlator"], one["messages"]) for one in told["queued"]] == [("order-17", 2)]
    assert [one["correlator"] for one in told["responders"]] == ["order-18"]
    assert (told["queued_in_all"], told["responders_in_all"]) == (1, 1)


def test_on_a_terminal_tables_are_drawn(command: Start, busy: ChannelServicePoint) -> None:
    status = command("status", busy.address, terminal=True)
    assert status.ends() == 0
    assert "┏━━━━━━" in status.said
    assert "│ order-17 " in status.said


def test_a_service_point_without_anybody_says_so(command: Start) -> None:
    with Channel.start_service_point_thread(ComPointAddress("tcp", 0)) as service_point:
        status = command("status", service_point.address)
        assert status.ends() == 0
    assert status.said.splitlines()[1:] == [
        "no channel queued, waiting for a responder",
        "no responder waiting for a channel",
    ]


def test_a_responder_that_takes_anybody_is_shown_as_such(command: Start) -> None:
    with Channel.start_service_point_thread(ComPointAddress("tcp", 0)) as service_point:
        responder = Background(service_point.open_responder_channel)
        eventually(lambda: service_point.waiting().responders)
        status = command("status", service_point.address)
        assert status.ends() == 0
    assert isinstance(responder.error(), ClosedError)
    assert "  (any) " in status.said


@pytest.mark.parametrize("terminal", [False, True], ids=["pipe", "terminal"])
def test_an_escape_sequence_in_a_correlator_does_not_reach_the_terminal(
    command: Start, *, terminal: bool
) -> None:
    attack = "\x1b]0;owned\x07[bold]fake"
    with (
        Channel.start_service_point_thread(ComPointAddress("tcp", 0)) as service_point,
        Channel.open_initiator_channel(service_point.address, None, attack) as point,
    ):
        point.write("x")
        point.flush(timeout=5)
        status = command("status", service_point.address, terminal=terminal)
        assert status.ends() == 0
    assert "\x1b]0" not in status.said
    assert "\x07" not in status.said
    assert r"\x1b]0;owned\x07[bold]fake" in status.said


def test_a_plain_server_is_one_sentence(command: Start) -> None:
    with ComManager.com_point(COMPOINT_SERVER, ComPointAddress("tcp", 0)) as server:
        status = command("status", server.address)
        assert status.ends() == 1
    assert status.says("compoint: .*refused .wrong mode.: this is a plain server ComPoint")
    assert status.said.count("\n") == 1


def test_nobody_at_the_address_is_one_sentence(command: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"tcp://:{taken.getsockname()[1]}"
    status = command("status", address)
    assert status.ends() == 1
    assert status.says("compoint: .*nobody was reached")
    assert status.said.count("\n") == 1


def test_over_mail_nothing_is_asked_and_no_mail_is_written(command: Start) -> None:
    status = command("status", "mail:shop@example.org:7100")
    assert status.ends() == 2
    assert status.says("compoint: .*not asked by mail.*`compoint mail status`")
