"""What the command prints: plain lines, or bars and tables where a terminal can show them.

Results go to the standard output, faults and remarks of `talk` to the standard error.
Everything passes through `visible`, because file names, correlators and the reasons of
peers are foreign text.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from io import TextIOWrapper
from typing import TYPE_CHECKING, Final, Self, TextIO

from compoint.cli._visible import size_in_words, visible
from compoint.deadline import clock

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

__all__ = ["Meter", "Output", "PlainMeter", "fault", "remark", "standard_output"]

#: A transfer that is not shown as a bar tells where it is this often.
_TELL_S: Final = 10.0


class Meter:
    """Shows how far a transfer is; a context manager around the transfer."""

    def advance(self, step_bytes: int) -> None:
        """So many bytes more are through."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        return


class PlainMeter(Meter):
    """A line every ten seconds, so that a log stays short and a person sees it is alive."""

    def __init__(self, output: Output, label: str, total_bytes: int) -> None:
        self._output = output
        self._label = label
        self._total_bytes = total_bytes
        self._done_bytes = 0
        self._tell_at = clock() + _TELL_S

    def advance(self, step_bytes: int) -> None:
        self._done_bytes += step_bytes
        now = clock()
        if now >= self._tell_at:
            self._tell_at = now + _TELL_S
            percent = 100 * self._done_bytes // max(1, self._total_bytes)
            total = size_in_words(self._total_bytes)
            self._output.say(f"{self._label}: {percent} % of {total}")


class Output:
    """Where results go."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.is_terminal = stream.isatty()

    def say(self, text: str = "") -> None:
        """One line, at once."""
        self.stream.write(f"{visible(text)}\n")
        self.stream.flush()

    def meter(self, label: str, total_bytes: int) -> Meter:
        """A meter for one transfer."""
        rich = self._rich()
        if rich is not None:
            meter: Meter = rich.bar(self.stream, visible(label), total_bytes)
            return meter
        return PlainMeter(self, label, total_bytes)

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """A title, and a table below it if there are rows."""
        self.say(title)
        shown = [[visible(cell) for cell in row] for row in rows]
        rich = self._rich()
        if not rows:
            pass
        elif rich is not None:
            rich.draw_table(self.stream, columns, shown)
        else:
            self._draw_columns([columns, *shown])

    def _draw_columns(self, lines: Sequence[Sequence[str]]) -> None:
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        for line in lines:
            cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
            self.say(f"  {'  '.join(cells)}".rstrip())

    def _rich(self) -> ModuleType | None:
        """The room of rich, if it is installed and there is a terminal to show it on."""
        if not self.is_terminal:
            return None
        try:
            from compoint.cli import _rich  # noqa: PLC0415 - an extra, and slow to import
        except ImportError:
            return None
        return _rich


def standard_output() -> Output:
    """The output of the command."""
    if sys.stdout is None:  # the shell's `>&-`
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - until the end
    if isinstance(sys.stdout, TextIOWrapper):
        # A character that the terminal's encoding lacks is no reason to fail.
        sys.stdout.reconfigure(errors="backslashreplace")
    return Output(sys.stdout)


def fault(*lines: str) -> None:
    """Say on the standard error what went wrong."""
    first, *more = lines
    for line in (f"compoint: {first}", *more):
        remark(line)


def remark(text: str) -> None:
    """One line on the standard error, beside the results."""
    if sys.stderr is not None:  # the shell's `2>&-`
        with suppress(OSError):  # there may be nobody left to tell
            sys.stderr.write(f"{visible(text)}\n")
            sys.stderr.flush()
