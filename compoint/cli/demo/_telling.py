"""How a demo is told: numbered steps, who does what, what was checked, and what it teaches."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from compoint.cli._faults import CommandFailed

if TYPE_CHECKING:
    from compoint.cli._output import Output

__all__ = ["Telling"]


class Telling:
    """The first check that fails ends it."""

    def __init__(self, out: Output) -> None:
        self._out = out
        self._step = ""
        self.checks = 0

    @contextmanager
    def naming_the_step(self) -> Iterator[None]:
        """What fails within names the step in which it did."""
        try:
            yield
        except CommandFailed as error:
            raise CommandFailed(f"demo: {self._step}: {error}") from error

    def begin(self, number: int, title: str) -> None:
        self._step = f"step {number}"
        self._out.say()
        self._out.say(f"{number}. {title}")

    def line(self, who: str, what: str) -> None:
        self._out.say(f"   {who:<10}  {what}")

    def right(self, what: str, *, expected: Any, found: Any) -> None:
        """Raises:
        CommandFailed: it is not.
        """
        if expected != found:
            raise CommandFailed(f"{what}: expected {expected!r}, found {found!r}")
        self.checks += 1
        self.line("right", what)

    def lesson(self, text: str) -> None:
        self.line("lesson", text)
