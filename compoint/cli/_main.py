"""Runs one subcommand and turns whatever happens into an exit code and one sentence."""

from __future__ import annotations

import importlib
import os
import signal
import sys
import traceback
from typing import TYPE_CHECKING, Final, NoReturn

from compoint.cli._faults import CommandFailed, why
from compoint.cli._output import Output, fault, standard_output
from compoint.cli._parser import ROOMS, parser
from compoint.errors import (
    BusyError,
    ClosedError,
    ComPointException,
    ConfigError,
    UsageError,
)

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence
    from types import FrameType

__all__ = ["main"]

FAILED: Final = 1
WRONG_USAGE: Final = 2
#: A command that a signal ended exits with this and the signal's number.
BY_SIGNAL: Final = 128


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code (0, 1, 2, or 128 + the number of a signal).

    Raises:
        SystemExit: argparse refused the arguments, or has shown help or the version.
    """
    is_debugging = False
    received = _end_by_exception(signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    try:
        out = standard_output()
        try:
            given = parser().parse_args(arguments)
            is_debugging = given.debug
            return _run(given, out)
        finally:
            out.stream.flush()
    except BrokenPipeError:
        # Whoever read the output has left, and need not be told. Python would complain
        # once more when it flushes at its end, so what is left goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except KeyboardInterrupt:
        return BY_SIGNAL + received[0]
    except Exception as error:  # noqa: BLE001 - the last door: no traceback without --debug
        if is_debugging:
            traceback.print_exc()
        elif not received:
            fault(*_sentence(error))
        # What fails after a signal fails because of it.
        if received:
            return BY_SIGNAL + received[0]
        return WRONG_USAGE if _is_wrong_usage(error) else FAILED


def _run(given: argparse.Namespace, out: Output) -> int:
    if given.config is not None:
        from compoint.manager import ComManager  # noqa: PLC0415 - --help is fast without it

        ComManager.init(given.config)
    code: int = importlib.import_module(ROOMS[given.command]).run(given, out)
    return code


def _end_by_exception(*numbers: signal.Signals) -> list[int]:
    """Let signals end the command as Ctrl-C does, so that it cleans up behind itself.

    Returns the list of those that come. What is ignored (`nohup`, `&`) stays ignored.
    """
    received: list[int] = []

    def end(number: int, _: FrameType | None) -> NoReturn:
        received.append(number)
        raise KeyboardInterrupt

    for number in numbers:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, end)
    return received


def _is_wrong_usage(error: Exception) -> bool:
    # A port that is taken is the world's doing, as far as this command is concerned.
    return isinstance(error, UsageError) and not isinstance(error, (BusyError, ClosedError))


def _sentence(error: Exception) -> list[str]:
    """What to tell about an error: one line, but for the faults of a configuration."""
    if isinstance(error, ConfigError):
        return str(error).split("\n")
    if isinstance(error, (CommandFailed, ComPointException)):
        return [str(error)]
    if isinstance(error, OSError):
        return [why(error)]
    mistake = f"{type(error).__name__}: {error}"
    return [f"a mistake of this command: {mistake}; please report what --debug shows"]
