"""Bytes that wait at a wire without a descriptor, and who waits for them."""

from __future__ import annotations

from compoint.deadline import clock
from compoint.http._arrivals import Arrivals
from compoint.testing import Background, eventually

PATIENCE_S = 10.0


def test_a_call_before_the_first_sleep_is_not_lost() -> None:
    arrivals = Arrivals()
    arrivals.wake()
    arrivals.sleep(None)


def test_a_call_before_a_later_sleep_is_not_lost() -> None:
    arrivals = Arrivals()
    arrivals.sleep(0.0)
    arrivals.wake()
    arrivals.sleep(None)


def test_a_call_wakes_who_sleeps() -> None:
    arrivals = Arrivals()
    sleeping = Background(arrivals.sleep, None)
    eventually(lambda: arrivals._waiter is not None)
    arrivals.tell()
    sleeping.result(within_s=PATIENCE_S)


def test_a_call_that_nobody_slept_through_does_not_end_a_second_sleep() -> None:
    arrivals = Arrivals()
    arrivals.wake()
    arrivals.sleep(None)
    started = clock()
    arrivals.sleep(0.05)
    assert clock() - started >= 0.05


def test_bytes_come_out_in_order_however_they_are_cut() -> None:
    arrivals = Arrivals()
    for piece in (b"ab", b"cde", b"f", b"ghij"):
        arrivals.put(piece)
    room = bytearray(3)
    assert arrivals.take(1) == b"a"
    assert (arrivals.take_into(memoryview(room)), room) == (3, b"bcd")
    assert arrivals.size == 6
    arrivals.put(b"k")
    assert arrivals.take(100) == b"efghijk"
    assert (arrivals.size, arrivals.take(100)) == (0, b"")


def test_what_is_dropped_is_gone_and_what_comes_then_is_not() -> None:
    arrivals = Arrivals()
    arrivals.put(b"abc")
    assert arrivals.take(2) == b"ab"
    arrivals.drop()
    arrivals.put(b"def")
    assert arrivals.take(100) == b"def"
