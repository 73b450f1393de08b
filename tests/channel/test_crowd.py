"""Ten thousand channels on one port: what one costs, and that the last is as quick as the first."""

from __future__ import annotations

import gc
import statistics
import time
import tracemalloc
from typing import TYPE_CHECKING, Final

import pytest

from compoint.core.framing import HEADER, Kind
from compoint.core.greeting import Mode
from compoint.limits import FIRST_CREDIT_BYTES, KIB
from compoint.testing import ScriptedPeer, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from channel import ChannelPoint, ChannelServicePoint

CROWD: Final = 10_000
MOST_BYTES: Final = 4 * KIB
PATIENCE_S: Final = 10.0


def announcements(count: int) -> bytes:
    payloads = [FIRST_CREDIT_BYTES.to_bytes(8, "big") + b"order %05d" % n for n in range(count)]
    return b"".join(
        HEADER.pack(Kind.ANNOUNCE, 0, 0, number, 0, len(payload)) + payload
        for number, payload in enumerate(payloads, 1)
    )


@pytest.fixture
def crowd(place: ChannelServicePoint) -> Iterator[ScriptedPeer]:
    """A peer all of whose channels are queued."""
    with ScriptedPeer.visit(place.address.port) as peer:
        peer.greet(Mode.CHANNELS)
        peer.say(announcements(CROWD))
        peer.hear_greeting()
        eventually(lambda: place.statistics().queued == CROWD, PATIENCE_S)
        yield peer


def test_a_queued_channel_and_an_open_one_cost_at_most_4_kib(place: ChannelServicePoint) -> None:
    with ScriptedPeer.visit(place.address.port) as peer:
        peer.greet(Mode.CHANNELS)
        peer.hear_greeting()
        said = announcements(CROWD)
        gc.collect()
        tracemalloc.start()
        try:
            peer.say(said)
            eventually(lambda: place.statistics().queued == CROWD, 2 * PATIENCE_S)
            gc.collect()
            queued_bytes, _ = tracemalloc.get_traced_memory()
            points = [place.open_responder_channel(timeout=0) for _ in range(CROWD)]
            peer.hear(CROWD * (HEADER.size + 8))  # all are claimed
            gc.collect()
            open_bytes, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        peer.hang_up()
        eventually(lambda: place.statistics().connections == 0)
        del points
    assert queued_bytes / CROWD < MOST_BYTES
    assert open_bytes / CROWD < MOST_BYTES


def test_the_last_of_a_crowd_is_opened_as_fast_as_the_first(
    place: ChannelServicePoint, crowd: ScriptedPeer
) -> None:
    points: list[ChannelPoint] = []
    took_s: list[float] = []
    for number in range(CROWD):
        # From the front, from the back, and any: no place in the queue is worse.
        wanted = [f"order {number:05}", f"order {CROWD - 1 - number:05}", None][number % 3]
        before = time.thread_time()
        try:
            points.append(place.open_responder_channel(None, wanted, timeout=0))
        except TimeoutError:
            continue  # met from the other side before
        took_s.append(time.thread_time() - before)
    first, last = took_s[:1000], took_s[-1000:]
    assert statistics.median(last) < 2 * statistics.median(first)
    crowd.hang_up()
    eventually(lambda: place.statistics().connections == 0)


def test_looking_at_a_crowd_and_leaving_it_takes_no_long(
    place: ChannelServicePoint, crowd: ScriptedPeer
) -> None:
    before = time.thread_time()
    waiting = place.waiting()
    assert time.thread_time() - before < 1
    assert [one.correlator for one in waiting.queued[:2]] == ["order 00000", "order 00001"]
    assert len(waiting.queued) == CROWD
    crowd.hang_up()
    eventually(lambda: place.statistics().queued == 0)
