"""Watching descriptors: both pollers do the same."""

from __future__ import annotations

import os
import select
from typing import TYPE_CHECKING

import pytest

from compoint.drive import poller as room
from compoint.drive.poller import Poller, new_poller
from compoint.testing import Background

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PATIENCE_S = 10.0

KINDS: list[Callable[[], Poller]] = [room._Selector]
if hasattr(select, "epoll"):
    KINDS.append(room._Epoll)


@pytest.fixture(params=KINDS, ids=lambda kind: kind.__name__)
def poller(request: pytest.FixtureRequest) -> Iterator[Poller]:
    poller = request.param()
    yield poller
    poller.close()


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reading, writing = os.pipe()
    yield reading, writing
    for fd in (reading, writing):
        os.close(fd)


def test_what_is_watched_is_named_when_it_is_ready(poller: Poller, pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    poller.watch(reading, output=False)
    assert poller.wait(0) == []
    os.write(writing, b"x")
    assert poller.wait(PATIENCE_S) == [reading]


def test_room_for_output_is_named_if_asked_for(poller: Poller, pipe: tuple[int, int]) -> None:
    _, writing = pipe
    poller.watch(writing, output=True)
    assert poller.wait(PATIENCE_S) == [writing]


def test_watching_again_replaces_what_was_said(poller: Poller, pipe: tuple[int, int]) -> None:
    _, writing = pipe
    poller.watch(writing, output=True)
    poller.drop(writing)
    assert poller.wait(0) == []
    poller.watch(writing, output=True)
    assert poller.wait(PATIENCE_S) == [writing]


def test_what_is_dropped_is_not_named(poller: Poller, pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    poller.watch(reading, output=False)
    poller.drop(reading)
    os.write(writing, b"x")
    assert poller.wait(0) == []


def test_dropping_what_is_not_watched_or_closed_does_nothing(poller: Poller) -> None:
    reading, writing = os.pipe()
    poller.drop(reading)
    poller.watch(reading, output=False)
    os.close(reading)
    os.close(writing)
    poller.drop(reading)
    poller.drop(-1)


@pytest.mark.skipif(not hasattr(select, "epoll"), reason="the other poller has no such promise")
def test_another_thread_may_watch_while_one_waits(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    poller = new_poller()
    waiting = Background(poller.wait, PATIENCE_S).blocked()
    os.write(writing, b"x")
    poller.watch(reading, output=False)
    assert waiting.result() == [reading]
    poller.close()
