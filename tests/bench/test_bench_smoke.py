"""`python -m bench --quick` as a user runs it: all of it works, and no row is missing."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.measures import MEASURES
from bench.peers import card
from bench.run import NOT_INSTALLED
from bench.scale import QUICK
from bench.targets import TARGETS

ROOT = Path(__file__).parents[2]

#: The process that ended, and what it wrote into its JSON file.
Outcome = tuple[subprocess.CompletedProcess[str], Any]


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    figures = tmp_path_factory.mktemp("bench") / "figures.json"
    command = [sys.executable, "-m", "bench", "--quick", "--placement", "two"]
    done = subprocess.run(
        [*command, "--json", str(figures)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    return done, json.loads(figures.read_text())


@pytest.mark.timeout(120)
def test_every_peer_has_a_row_for_every_figure_of_its_measures(outcome: Outcome) -> None:
    done, _ = outcome
    expected = [
        f"| {figure.title}, {figure.unit} {'↓' if figure.less_is_better else '↑'} | {title} |"
        for measure in MEASURES
        for figure in measure.figures(QUICK)
        for title in (card(key).title for key in measure.contenders)
    ]
    assert [start for start in expected if start not in done.stdout] == []


@pytest.mark.timeout(120)
def test_no_measurement_fails(outcome: Outcome) -> None:
    done, figures = outcome
    troubles = figures["placements"]["two"]["troubles"]
    assert {what: why for what, why in troubles.items() if why != NOT_INSTALLED} == {}
    assert done.returncode == 0, done.stderr


@pytest.mark.timeout(120)
def test_every_measurement_finds_the_figures_it_announces(outcome: Outcome) -> None:
    table, _, _ = outcome[0].stdout.partition("## Targets")
    assert [row for row in table.splitlines() if "not measured" in row] == []


@pytest.mark.timeout(120)
def test_every_target_of_the_placement_is_listed(outcome: Outcome) -> None:
    done, _ = outcome
    assert [target.title for target in TARGETS if f"| {target.title} |" not in done.stdout] == []
