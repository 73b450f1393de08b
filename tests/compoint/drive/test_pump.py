"""The pump keeps the time, and one fault in its duties stops no other."""

from __future__ import annotations

import logging
import os
import threading
from typing import TYPE_CHECKING

import pytest

from compoint.deadline import clock
from compoint.drive.pump import Bell, Pump

if TYPE_CHECKING:
    from collections.abc import Iterator

PATIENCE_S = 10.0


@pytest.fixture
def pump() -> Iterator[Pump]:
    pump = Pump("test-pump")
    yield pump
    pump.stop()
    assert "test-pump" not in [thread.name for thread in threading.enumerate()]


def test_a_timer_is_called_when_it_is_due_and_not_before(pump: Pump) -> None:
    called: list[float] = []
    is_called = threading.Event()

    def call() -> None:
        called.append(clock())
        is_called.set()

    due = clock() + 0.03
    pump.call_at(due, call)
    assert is_called.wait(PATIENCE_S)
    assert due <= called[0] < due + 0.05


def test_timers_are_called_in_the_order_they_are_due(pump: Pump) -> None:
    called: list[int] = []
    is_over = threading.Event()
    now = clock()
    pump.call_at(now + 0.06, is_over.set)
    for number in (3, 1, 2):
        pump.call_at(now + number * 0.015, lambda number=number: called.append(number))
    assert is_over.wait(PATIENCE_S)
    assert called == [1, 2, 3]


def test_a_timer_is_called_again_at_the_time_it_names(pump: Pump) -> None:
    called: list[float] = []
    is_over = threading.Event()

    def call() -> float | None:
        called.append(clock())
        if len(called) == 3:
            is_over.set()
            return None
        return clock() + 0.005

    pump.call_at(clock(), call)
    assert is_over.wait(PATIENCE_S)
    assert len(called) == 3


def test_a_timer_that_names_the_past_does_not_keep_the_pump_from_its_other_duties(
    pump: Pump,
) -> None:
    pump.call_at(clock(), lambda: 0.0)
    is_called = threading.Event()
    pump.call_at(clock() + 0.02, is_called.set)
    assert is_called.wait(PATIENCE_S)


def test_a_cancelled_timer_is_not_called(pump: Pump) -> None:
    called: list[str] = []
    is_over = threading.Event()
    number = pump.call_at(clock() + 0.01, lambda: called.append("cancelled"))
    pump.call_at(clock() + 0.02, is_over.set)
    pump.cancel(number)
    assert is_over.wait(PATIENCE_S)
    assert called == []


def test_a_fault_in_one_duty_is_logged_and_stops_no_other(
    pump: Pump, caplog: pytest.LogCaptureFixture
) -> None:
    is_called = threading.Event()

    def fail() -> None:
        raise LookupError("a bug of ours")

    with caplog.at_level(logging.ERROR, "compoint.pump"):
        pump.call_at(clock(), fail)
        pump.call_at(clock() + 0.01, is_called.set)
        assert is_called.wait(PATIENCE_S)
    assert [record.message for record in caplog.records] == [
        "internal error in test-pump; please report it"
    ]
    assert pump.is_running


def test_the_pump_may_stop_itself(pump: Pump) -> None:
    pump.call_at(clock(), pump.stop)
    pump._thread.join(PATIENCE_S)
    assert not pump.is_running


def test_a_bell_rings_until_it_is_quieted() -> None:
    bell = Bell()
    os.set_blocking(bell.fileno(), False)
    for _ in range(3):
        bell.ring()
    bell.quiet()
    with pytest.raises(BlockingIOError):
        os.read(bell.fileno(), 8)
    bell.close()


def test_a_closed_bell_can_be_rung_and_closed_again() -> None:
    """Its number may belong to somebody else by then."""
    bell = Bell()
    bell.close()
    reading, writing = os.pipe()
    bell.close()
    bell.ring()
    os.write(writing, b"still open")
    assert os.read(reading, 100) == b"still open"
    os.close(reading)
    os.close(writing)


def test_timers_that_were_cancelled_are_soon_forgotten(pump: Pump) -> None:
    later = clock() + 60.0
    kept = pump.call_at(later, lambda: None)
    for _ in range(500):
        pump.cancel(pump.call_at(later, lambda: None))
    is_over = threading.Event()
    pump.call_at(clock(), is_over.set)
    assert is_over.wait(PATIENCE_S)
    assert len(pump._timers) < 100
    assert kept in [number for _, number in pump._timers]
