"""The pace of mails and the budget of a day, with a clock in hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mail._rate import Budget, BudgetState

NOON = 1_700_000_000.0
HOUR = 3600.0
DAY = 24 * HOUR


def test_a_burst_goes_at_once_and_the_next_mail_waits_for_the_pace():
    budget = Budget(rate=0.5, burst=3, daily=100)
    assert [budget.take(NOON) for _ in range(4)] == [True, True, True, False]
    assert budget.wait_s(NOON) == pytest.approx(2)
    assert budget.take(NOON + budget.wait_s(NOON))


def test_a_refused_mail_costs_nothing():
    budget = Budget(rate=1, burst=1, daily=100)
    assert budget.take(NOON)
    for _ in range(5):
        assert not budget.take(NOON + 0.5)
    assert budget.take(NOON + 1)


def test_idle_time_saves_no_more_than_a_burst():
    budget = Budget(rate=1, burst=2, daily=100)
    assert [budget.take(NOON + DAY) for _ in range(3)] == [True, True, False]


def test_the_budget_of_the_day_stops_what_the_pace_would_let_pass():
    budget = Budget(rate=10, burst=10, daily=4)
    assert sum(budget.take(NOON) for _ in range(10)) == 4
    assert budget.left_today(NOON) == 0
    wait_s = budget.wait_s(NOON)
    assert DAY <= wait_s <= DAY + HOUR
    assert not budget.take(NOON + wait_s - 1)
    assert budget.take(NOON + wait_s)


def test_mails_come_free_by_the_hour_they_were_sent_in():
    budget = Budget(rate=1, burst=10, daily=3)
    midnight = NOON // HOUR * HOUR
    for hour in range(3):
        assert budget.take(midnight + hour * HOUR)
    assert budget.wait_s(midnight + 3 * HOUR) == pytest.approx(22 * HOUR)
    assert budget.take(midnight + 25 * HOUR)
    assert not budget.take(midnight + 25 * HOUR + 60)
    assert budget.take(midnight + 26 * HOUR)


def test_the_state_continues_in_the_next_process():
    budget = Budget(rate=0.1, burst=2, daily=3)
    assert budget.take(NOON)
    assert budget.take(NOON)
    again = Budget(rate=0.1, burst=2, daily=3, state=budget.state())
    assert again.wait_s(NOON) == budget.wait_s(NOON) == pytest.approx(10)
    assert again.left_today(NOON) == 1
    assert again.state() == budget.state()


def test_a_smaller_burst_in_the_configuration_holds_for_an_old_state():
    again = Budget(rate=1, burst=1, daily=9, state=BudgetState(tokens=50, at=NOON))
    assert [again.take(NOON + 0.01) for _ in range(2)] == [True, False]


def test_a_clock_set_back_stops_nothing_for_longer_than_its_pace():
    budget = Budget(rate=1, burst=1, daily=10)
    assert budget.take(NOON + 365 * DAY)
    assert budget.wait_s(NOON) <= 1
    assert budget.take(NOON + 1)


def test_what_was_sent_before_the_clock_was_set_back_still_counts():
    budget = Budget(rate=1, burst=5, daily=5)
    for _ in range(5):
        assert budget.take(NOON + 365 * DAY)
    assert budget.left_today(NOON) == 0
    assert budget.take(NOON + 25 * HOUR)


@pytest.mark.parametrize(("rate", "burst", "daily"), [(0, 1, 1), (1, 0, 1), (1, 1, 0)])
def test_a_budget_that_would_never_let_a_mail_pass_is_refused(rate, burst, daily):
    with pytest.raises(ValueError, match="above 0"):
        Budget(rate, burst, daily)


@given(
    st.lists(st.floats(0, 3 * HOUR), min_size=20, max_size=120),
    st.integers(1, 8),
    st.integers(1, 15),
    st.floats(0.001, 1),
)
def test_no_24_hours_hold_more_than_the_budget_and_no_stretch_more_than_the_pace(
    pauses, burst, daily, rate
):
    budget = Budget(rate, burst, daily)
    now, sent = NOON, []
    for pause in pauses:
        now += pause
        if budget.take(now):
            sent.append(now)
    for start in sent:
        assert sum(start <= one < start + DAY for one in sent) <= daily
        for end in sent:
            within = sum(start <= one <= end for one in sent)
            assert end < start or within <= burst + (end - start) * rate + 1e-3


@given(st.lists(st.booleans(), max_size=60), st.integers(1, 5), st.integers(1, 9))
def test_after_the_wait_it_names_the_next_mail_always_passes(waits, burst, daily):
    budget = Budget(0.3, burst, daily)
    now = NOON
    for is_patient in waits:
        now += budget.wait_s(now) if is_patient else 7.0
        may_go = budget.wait_s(now) == 0
        assert may_go or not is_patient
        assert budget.take(now) == may_go
