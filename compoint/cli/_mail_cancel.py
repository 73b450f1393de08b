"""`compoint mail cancel`: breaks conversations off that no program is to go on with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from compoint.cli._faults import CommandFailed
from compoint.cli._mail_settings import mail_settings
from compoint.cli._visible import counted
from compoint.deadline import clock
from mail._settings import OfficeSettings
from mail._visit import Visit

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Sequence

    from compoint.cli._output import Output
    from mail._mailbox import Key

__all__ = ["run"]


def run(given: argparse.Namespace, out: Output) -> int:
    """Break them off (none, if one of them is not to be found), and tell their peers."""
    with Visit(OfficeSettings.of(mail_settings()), out.say) as visit:
        peers = visit.peers()
        keys = _found(peers, given.ids)
        to_be_told = visit.cancel(keys)
        for key in keys:
            number = key[0].hex()[:8]
            heard = "" if key in to_be_told else ", which need not be told"
            out.say(f"{number} with {peers[key]}{heard}: cancelled")
        visit.send(clock() + given.wait)
        untold = [key for key in to_be_told if not visit.has_spoken(key)]
        trouble = visit.trouble
    if untold:
        raise CommandFailed(
            f"the mail to {counted(len(untold), 'peer')} did not leave, because "
            f"{trouble or 'it took too long'}; who says something more is told then"
        )
    return 0


def _found(here: Iterable[Key], beginnings: Sequence[str]) -> list[Key]:
    """The conversations whose numbers begin so; both sides, where both are in this mailbox."""
    found = []
    for beginning in beginnings:
        keys = [key for key in here if key[0].hex().startswith(beginning)]
        numbers = {number for number, _ in keys}
        if len(numbers) != 1:
            many = f"{len(numbers)} conversations begin" if numbers else "no conversation begins"
            raise CommandFailed(
                f"{many} with {beginning}; nothing was cancelled; `compoint mail status` shows them"
            )
        found += keys
    return list(dict.fromkeys(found))
