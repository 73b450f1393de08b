"""Bars and tables for terminals: the only room that imports rich (extra `cli`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self, TextIO

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table
from rich.text import Text

from compoint.cli._output import Meter

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["bar", "draw_table"]


def draw_table(stream: TextIO, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Draw a table as wide as the terminal allows."""
    table = Table()
    for column in columns:
        table.add_column(Text(column))
    for row in rows:
        # As Text: markup in a foreign correlator stays what it is.
        table.add_row(*map(Text, row))
    _console(stream).print(table)


def bar(stream: TextIO, label: str, total_bytes: int) -> Meter:
    """A bar for one transfer."""
    return _Bar(_console(stream), label, total_bytes)


def _console(stream: TextIO) -> Console:
    return Console(file=stream, highlight=False, markup=False, emoji=False)


class _Bar(Meter):
    """Disappears when the transfer is over: the line that is said then tells the rest."""

    def __init__(self, console: Console, label: str, total_bytes: int) -> None:
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        self._task = self._progress.add_task(label, total=total_bytes)

    def advance(self, step_bytes: int) -> None:
        self._progress.advance(self._task, step_bytes)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._progress.stop()
