"""The numbers of the table: drawn from made-up repetitions whose answers are known."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.measure import Sample
from bench.measures import measure
from bench.peers import card
from bench.results import Results, percentile
from bench.run import NOT_INSTALLED, Placement
from bench.scale import FULL
from bench.table import number, table
from bench.targets import TARGETS, Verdict, verdicts


def results_of(**values: float) -> Results:
    """Results in which peers, named as in their keys with `_`, took so long for a round trip."""
    results = Results()
    for peer, value in values.items():
        results.add(peer.replace("_", "-"), {"round-trip": Sample(value, [value])})
    return results


@given(st.lists(st.integers(0, 1000), min_size=1), st.integers(1, 100))
def test_a_percentile_is_a_time_that_the_asked_share_does_not_exceed(
    times: list[float], percent: int
) -> None:
    found = percentile(times, percent)
    assert found in times
    assert sum(time <= found for time in times) * 100 >= percent * len(times)
    assert sum(time < found for time in times) * 100 < percent * len(times)


def test_the_result_is_the_median_of_the_repetitions() -> None:
    results = Results()
    for value in (9.0, 1.0, 2.0):
        results.add("raw", {"round-trip": Sample(value)})
    assert results.median("round-trip", "raw") == 2.0


def test_percentiles_come_from_the_times_of_all_repetitions_together() -> None:
    results = Results()
    results.add("raw", {"round-trip": Sample(1.0, [1.0] * 98)})
    results.add("raw", {"round-trip": Sample(7.0, [7.0, 8.0])})
    assert results.percentile("round-trip", "raw", 99) == 7.0


def test_what_was_not_measured_has_no_figures() -> None:
    assert Results().median("round-trip", "raw") is None
    assert Results().percentile("round-trip", "raw", 50) is None


def test_a_row_shows_each_figure_beside_its_ratio_to_raw() -> None:
    plan = [(measure("round-trip"), [card("raw"), card("zmq-pair")])]
    text = table(plan, Placement.TWO, FULL, results_of(raw=20.0, zmq_pair=50.0))
    assert "| pyzmq PAIR | 50.0 | 2.50 | 50.0 (2.50) | 50.0 (2.50) | – |" in text


def test_a_peer_that_is_not_installed_keeps_its_row() -> None:
    results = results_of(raw=20.0)
    results.troubles["round-trip", "websockets"] = NOT_INSTALLED
    plan = [(measure("round-trip"), [card("raw"), card("websockets")])]
    assert "| websockets.sync | not installed |" in table(plan, Placement.TWO, FULL, results)


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.123, "0.12"), (19.27, "19.3"), (1234567.8, "1 234 568"), (-0.1, "-0.10")],
)
def test_numbers_are_shown_in_about_three_digits(value: float, shown: str) -> None:
    assert number(value) == shown


@pytest.mark.parametrize(
    ("ours", "verdict"), [(23.0, Verdict.MET), (23.1, Verdict.MISSED), (None, Verdict.NOT_MEASURED)]
)
def test_a_target_is_met_up_to_its_limit_and_missed_beyond(
    ours: float | None, verdict: Verdict
) -> None:
    target = TARGETS[0]
    results = results_of(raw=20.0)
    if ours is not None:
        results.add("compoint-blocking", {"round-trip": Sample(ours)})
    assert target.judge(target.reading(results)) is verdict


def test_the_target_that_needs_a_free_core_is_not_asked_of_one_core() -> None:
    asked = [
        place
        for target, place, _ in verdicts({Placement.ONE: Results()})
        if target.title.startswith("ComPoint, brief spin")
    ]
    assert asked == []


def test_opening_is_judged_by_its_time_though_the_table_shows_a_rate() -> None:
    results = Results()
    results.add("raw", {"opening": Sample(9000.0)})
    results.add("compoint", {"opening": Sample(4500.0)})
    (target,) = [one for one in TARGETS if one.title.startswith("ComPoint: time to open")]
    assert target.reading(results) == 2.0
