"""One deadline per operation: what is left of it, and when it is over."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compoint import deadline
from compoint.deadline import FOR_EVER, Deadline


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(deadline, "clock", clock)
    return clock


def test_a_deadline_tells_what_is_left_and_how_long_it_took(clock: Clock) -> None:
    one = Deadline(3.0)
    clock.now += 1
    assert one.remaining_s() == 2.0
    assert one.elapsed_s == 1.0
    assert not one.is_over


def test_a_deadline_is_over_when_its_time_has_come(clock: Clock) -> None:
    one = Deadline(3.0)
    clock.now += 3
    assert one.is_over
    assert one.remaining_s() == 0.0


def test_what_is_left_never_falls_below_zero(clock: Clock) -> None:
    one = Deadline(1.0)
    clock.now += 100
    assert one.remaining_s() == 0.0
    assert one.elapsed_s == 100.0


def test_a_deadline_of_zero_is_over_at_once(clock: Clock) -> None:
    assert Deadline(0).is_over


def test_a_deadline_of_none_never_comes(clock: Clock) -> None:
    one = Deadline(None)
    clock.now += 1e9
    assert one.remaining_s() is None
    assert not one.is_over
    assert one.elapsed_s == 1e9


def test_for_ever_begins_nowhere() -> None:
    assert FOR_EVER.remaining_s() is None
    assert FOR_EVER.elapsed_s is None


@pytest.mark.parametrize("timeout", [-1, -0.001, math.nan, -math.inf])
def test_a_timeout_that_is_no_length_of_time_is_refused(timeout: float) -> None:
    with pytest.raises(ValueError, match="a number of seconds >= 0"):
        Deadline(timeout)


@pytest.mark.parametrize("timeout", [math.inf, 1e300, 1e10])
def test_more_seconds_than_the_system_can_wait_are_for_ever(clock: Clock, timeout: float) -> None:
    one = Deadline(timeout)
    assert one.remaining_s() is None
    assert not one.is_over


times = st.floats(min_value=0, max_value=1e6)


@given(timeout=st.none() | times, passed=times, cap=times)
def test_a_capped_deadline_is_the_earlier_of_the_two(
    timeout: float | None, passed: float, cap: float
) -> None:
    clock = Clock()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(deadline, "clock", clock)
        whole = Deadline(timeout)
        clock.now += passed
        capped = whole.capped(cap)
        left = whole.remaining_s()
        assert capped.remaining_s() == pytest.approx(
            cap if left is None else min(cap, left), abs=1e-6
        )
        assert capped.started_at == whole.started_at
