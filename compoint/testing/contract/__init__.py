"""The promises of `compoint.point` as a suite that every transport can run.

For a transport that is reached through ComManager (an entry point of the group
`compoint.transports`), in a test file of yours:

    from compoint.testing.contract import PointContract, ServerContract

    class TestPoints(PointContract):
        protocol = "carrier-pigeon"

    class TestServers(ServerContract):
        protocol = "carrier-pigeon"

For anything else that makes ComPoints, say how a connected pair comes about:

    class TestPigeonChannels(PointContract):
        @contextmanager
        def meeting(self):
            with my_initiator() as initiator, my_responder() as responder:
                yield initiator, responder

Put `pytest.register_assert_rewrite("compoint.testing.contract")` into your conftest.py
to see the values of failed assertions. Needs pytest; this is the only part of the kit
that does.
"""

from __future__ import annotations

from compoint.testing.contract._base import ContractBase, PlainMeeting
from compoint.testing.contract._closing import ClosingContract
from compoint.testing.contract._limits import LimitsContract
from compoint.testing.contract._messages import MessagesContract
from compoint.testing.contract._server import ServerContract
from compoint.testing.contract._threads import ThreadsContract
from compoint.testing.contract._waiting import WaitingContract

__all__ = ["PlainMeeting", "PointContract", "ServerContract"]


class PointContract(
    MessagesContract, LimitsContract, WaitingContract, ClosingContract, ThreadsContract,
    ContractBase,
):  # fmt: skip
    """What every ComPoint promises. Subclass it, and set `protocol` or override `meeting`."""
