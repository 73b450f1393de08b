"""The kit notices what it is there to notice."""

from __future__ import annotations

import os
import threading

import pytest

from compoint import COMPOINT_SERVER, ComManager, ComPointAddress, PointTimeout
from compoint.testing import Background, Leaks, configured, eventually
from compoint.testing.contract import PointContract


def test_a_leaked_descriptor_is_named() -> None:
    leaks = Leaks()
    ends = os.pipe()
    with pytest.raises(AssertionError, match=f"descriptor {ends[0]} .pipe"):
        leaks.check(within_s=0.01)
    for end in ends:
        os.close(end)
    leaks.check()


def test_a_leaked_thread_is_named() -> None:
    leaks = Leaks()
    end = threading.Event()
    thread = threading.Thread(target=end.wait, name="forgotten")
    thread.start()
    with pytest.raises(AssertionError, match="thread forgotten"):
        leaks.check(within_s=0.01)
    end.set()
    thread.join()
    leaks.check()


@pytest.mark.parametrize("protocol", ["tcp", "memory"])
def test_a_server_that_was_not_closed_is_named(protocol: str) -> None:
    leaks = Leaks()
    server = ComManager.com_point(COMPOINT_SERVER, ComPointAddress(protocol, 0))
    with pytest.raises(AssertionError, match=f"server {server.address}"):
        leaks.check(within_s=0.01)
    server.close()
    leaks.check()


def test_a_call_that_does_not_block_is_no_blocked_one() -> None:
    with pytest.raises(AssertionError, match="ended instead of blocking: 7"):
        Background(lambda: 7).blocked()


def test_a_call_that_does_not_end_fails_its_test() -> None:
    end = threading.Event()
    waiting = Background(end.wait)
    with pytest.raises(AssertionError, match="has not ended"):
        waiting.result(within_s=0.01)
    end.set()
    assert waiting.result()


def test_what_does_not_come_about_fails_its_test() -> None:
    with pytest.raises(AssertionError, match="the moon"):
        eventually(lambda: False, within_s=0.01, what="the moon")


def test_settings_hold_in_the_block_only() -> None:
    before = ComManager.settings()
    with configured(compoint={"backlog": 3}):
        assert ComManager.settings().point.backlog == 3
    assert ComManager.settings() == before


def test_a_third_party_needs_five_lines() -> None:
    """As the docstring of the suite shows it."""

    class TestPigeons(PointContract):
        protocol = "memory"

    with TestPigeons().pair() as (initiator, responder):
        initiator.write(b"coo")
        assert responder.read(timeout=5) == b"coo"
        with pytest.raises(PointTimeout):
            responder.read(timeout=0)
