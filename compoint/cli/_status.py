"""`compoint status`: who is queued and who waits at a service point of this machine."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from compoint.cli._visible import counted, size_in_words
from compoint.core.greeting import Mode
from compoint.deadline import Deadline
from compoint.drive.plain import open_plain
from compoint.errors import UsageError
from compoint.manager import ComManager
from compoint.message import Streamable

if TYPE_CHECKING:
    import argparse

    from compoint.address import ComPointAddress
    from compoint.cli._output import Output

__all__ = ["QueuedChannel", "ServicePointStatus", "WaitingResponder", "ask", "run"]


class QueuedChannel(Streamable):
    """A channel whose responder has not come."""

    correlator: str
    peer: str
    age_s: float
    messages: int
    bytes: int


class WaitingResponder(Streamable):
    """A responder whose initiator has not come; without a correlator it takes anyone."""

    correlator: str | None
    age_s: float


class ServicePointStatus(Streamable):
    """What a service point says about itself; it lists only the first of many."""

    address: str
    connections: int
    queued: list[QueuedChannel]
    queued_in_all: int
    responders: list[WaitingResponder]
    responders_in_all: int


def run(given: argparse.Namespace, out: Output) -> int:
    """Ask and print."""
    if given.json:
        # Passed on as it came, so that what a newer service point tells is not lost.
        out.say(json.dumps(_asked(given.address, dict)))
        return 0
    _show(ask(given.address), out)
    return 0


def ask(address: ComPointAddress) -> ServicePointStatus:
    """The status of the service point at an address.

    Raises:
        ComPointException: it was not reached, is no service point, or does not tell.
    """
    status: ServicePointStatus = _asked(address, ServicePointStatus)
    return status


def _asked(address: ComPointAddress, wanted: Any) -> Any:
    if address.protocol == "mail":
        raise UsageError(
            "a service point is not asked by mail: the answer would take its time",
            point=str(address), hint="`compoint mail status` shows the conversations of a mailbox",
        )  # fmt: skip
    settings = ComManager.settings().point
    deadline = Deadline(settings.connect_timeout_s)
    opener = ComManager.opener(address.protocol)
    with open_plain(opener, address, settings, deadline, mode=Mode.STATUS) as point:
        return point.read(wanted, timeout=deadline.remaining_s())


def _show(status: ServicePointStatus, out: Output) -> None:
    out.say(f"service point {status.address}, {counted(status.connections, 'connection')}")
    out.table(
        _title(status.queued_in_all, "channel", "queued, waiting for a responder"),
        ("correlator", "from", "for", "messages", "size"),
        [
            (
                one.correlator,
                one.peer,
                _age(one.age_s),
                str(one.messages),
                size_in_words(one.bytes),
            )
            for one in status.queued
        ],
    )
    _tell_rest(status.queued_in_all - len(status.queued), out)
    out.table(
        _title(status.responders_in_all, "responder", "waiting for a channel"),
        ("correlator", "for"),
        [
            ("(any)" if one.correlator is None else one.correlator, _age(one.age_s))
            for one in status.responders
        ],
    )
    _tell_rest(status.responders_in_all - len(status.responders), out)


def _title(number: int, noun: str, state: str) -> str:
    return f"{counted(number, noun)} {state}" if number else f"no {noun} {state}"


def _tell_rest(number: int, out: Output) -> None:
    if number > 0:
        out.say(f"  and {number} more")


def _age(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
