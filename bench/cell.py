"""One measurement: a responder and an initiator, both fresh processes, and what came out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from bench.measure import Measure, Run, Sample
from bench.peers import Card, Stage
from bench.scale import Scale
from bench.worker import Spec

__all__ = ["CellError", "run_cell"]


class CellError(Exception):
    """A peer did not come through a measure; the text is one sentence for the table."""


def run_cell(measure: Measure, card: Card, scale: Scale, cores: tuple[int, int]) -> Run:
    """Measure one peer once; raises CellError if either side fails or takes too long."""
    with (
        card.staged() as stage,
        tempfile.TemporaryFile("w+") as theirs,
        tempfile.TemporaryFile("w+") as ours,
        _worker("responder", measure, card, scale, cores[0], stage, theirs) as responder,
        _worker("initiator", measure, card, scale, cores[1], stage, ours) as initiator,
    ):
        assert responder.stdout is not None
        address = responder.stdout.readline()
        try:
            outcome, _ = initiator.communicate(address, timeout=scale.limit_s)
        except subprocess.TimeoutExpired:
            raise CellError(f"no outcome within {scale.limit_s} s") from None
        if address and outcome:
            return {key: Sample(**sample) for key, sample in json.loads(outcome).items()}
        raise CellError(f"initiator: {_last_line(ours)}; responder: {_last_line(theirs)}")


@contextmanager
def _worker(
    role: str,
    measure: Measure,
    card: Card,
    scale: Scale,
    core: int,
    stage: Stage,
    complaints: IO[str],
) -> Iterator[subprocess.Popen[str]]:
    """One side, started now and ended, if need be by force, on the way out."""
    spec = Spec(role, measure.key, card.key, core, scale.to_json())
    process = subprocess.Popen(
        [*stage.prefix, sys.executable, "-m", "bench.worker", spec.to_text()],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=complaints,
        text=True,
        env={**os.environ, **stage.environment, **card.environment},
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def _last_line(complaints: IO[str]) -> str:
    complaints.seek(0)
    lines = [line.strip() for line in complaints if line.strip()]
    return lines[-1] if lines else "said nothing"
