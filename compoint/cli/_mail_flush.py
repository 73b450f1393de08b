"""`compoint mail flush`: what waits in the mailbox leaves now, not at its next try."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from compoint.cli._faults import CommandFailed
from compoint.cli._mail_settings import mail_settings
from compoint.cli._visible import counted
from compoint.deadline import clock
from compoint.errors import BusyError
from mail._settings import OfficeSettings
from mail._store import Store
from mail._visit import Visit

if TYPE_CHECKING:
    import argparse

    from compoint.cli._output import Output

__all__ = ["run"]


def run(given: argparse.Namespace, out: Output) -> int:
    """Take what is in the drop box, hand over what waits, and tell of both."""
    settings = OfficeSettings.of(mail_settings())
    until = clock() + given.wait
    with _visit(settings, out) as visit:
        # What peers confirm in there need not be said again.
        taken, put_aside = visit.take_in(until)
        if taken:
            out.say(f"{counted(taken, 'mail')} taken out of the drop box")
        if put_aside:
            out.say(f"{counted(put_aside, 'mail')} put aside in {settings.spool}/bad")
        visit.hurry()
        visit.send(until)
        left = len(visit.waiting())
        refused = visit.refused
        trouble = visit.trouble
    if refused:
        raise CommandFailed(
            f"{counted(refused, 'mail')} refused; what was said in it is broken off"
        )
    if left:
        why = trouble or f"it takes longer than {given.wait:g} s"
        raise CommandFailed(
            f"not everything has left ({counted(left, 'conversation')} to go): {why}; "
            "`compoint mail status` shows them"
        )
    out.say("nothing waits to be sent")
    return 0


def _visit(settings: OfficeSettings, out: Output) -> Visit:
    try:
        return Visit(settings, out.say)
    except BusyError as error:
        pid = Store.holder(settings.spool)
        if pid in {None, os.getpid()}:  # it is the receiver port
            raise
        raise CommandFailed(
            f"process {pid} works with the mailbox {settings.mailbox} and sends what waits; "
            "`compoint mail status` shows it"
        ) from error
