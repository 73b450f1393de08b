"""What the shop (the responder) and a customer (an initiator) do, verb by verb.

Each verb takes and returns JSON: the story may run in another process. Waits are bounded
in all verbs: a demo that hangs teaches nothing.
"""

from __future__ import annotations

import hashlib
import io
import os
from typing import TYPE_CHECKING, Any, Final

from channel import Channel
from compoint.address import ComPointAddress
from compoint.cli._conversation import heard, telling_the_peer
from compoint.cli._file_messages import FileHeader
from compoint.cli._output import Output
from compoint.cli._receive import receive_file
from compoint.cli._send import send_file
from compoint.cli.examples.shop import Offer, Order, SaleReceipt, offer_for

if TYPE_CHECKING:
    from channel import ChannelPoint, ChannelServicePoint
    from compoint.point import Receipt

__all__ = ["ROLES", "STEP_S", "Answer", "Customer", "Role", "Shop", "perform"]

#: How long one side waits for the other's next message or for its coming.
STEP_S: Final = 10.0

Answer = dict[str, Any]


class Role:
    """Somebody in the story; its public methods are its verbs."""

    def leave(self) -> Answer:
        """The story is over."""
        return {}


class Shop(Role):
    """The responder: has the service point, and opens channels one at a time."""

    def __init__(self) -> None:
        self._service_point: ChannelServicePoint | None = None

    @property
    def _place(self) -> ChannelServicePoint:
        assert self._service_point is not None
        return self._service_point

    def open(self, protocol: str) -> Answer:
        """Start the service point at any free port."""
        address = ComPointAddress(protocol, 0)
        self._service_point = Channel.start_service_point_thread(address)
        return {"address": str(self._service_point.address)}

    def waiting(self) -> Answer:
        """Who is queued here."""
        queued = self._place.waiting().queued
        return {"queued": [[one.correlator, one.messages, one.bytes] for one in queued]}

    def sell(self, correlator: str) -> Answer:
        """Open a channel, and serve the customer who is on it or comes."""
        with self._place.open_responder_channel(None, correlator, timeout=STEP_S) as point:
            order = point.read(Order, timeout=STEP_S)
            offer = offer_for(order)
            point.write(offer)
            agreed = point.read(str, timeout=STEP_S)
            receipt = SaleReceipt(order.number, offer.total)
            point.write(receipt)
            closing = point.close()
        told = {"order": repr(order), "offer": repr(offer), "agreed": agreed}
        return told | {"receipt": repr(receipt)} | _closing(closing)

    def take_file(self, correlator: str, folder: str) -> Answer:
        """Store the one file that comes over a channel."""
        point = self._place.open_responder_channel(None, correlator, timeout=STEP_S)
        with telling_the_peer(point):
            header = heard(point, FileHeader, timeout=STEP_S)
            stored = receive_file(point, header, folder, _quiet(), may_overwrite=False)
        # Looked up on the disk again: what counts is what is there now.
        with open(os.path.join(folder, stored.name), "rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            size_bytes = os.fstat(file.fileno()).st_size
        told = {"name": stored.name, "size_bytes": size_bytes, "sha256": sha256}
        return told | _closing(point.close())

    def leave(self) -> Answer:
        """Stop the service point."""
        if self._service_point is not None:
            self._service_point.stop()
        return {}


class Customer(Role):
    """An initiator."""

    def __init__(self) -> None:
        self._point: ChannelPoint | None = None

    def order(self, address: str, correlator: str, order: Answer) -> Answer:
        """Open a channel and write an order. Ends when the service point has it, which needs
        no responder."""
        place = ComPointAddress.parse(address)
        point = Channel.open_initiator_channel(place, None, correlator)
        wanted = Order(**order)
        point.write(wanted, timeout=STEP_S)
        point.flush(timeout=STEP_S)
        self._point = point
        return {"order": repr(wanted)}

    def buy(self) -> Answer:
        """Read the offer, agree, read the receipt, close."""
        assert self._point is not None
        with self._point as point:
            offer = point.read(Offer, timeout=STEP_S)
            point.write("agreed")
            receipt = point.read(SaleReceipt, timeout=STEP_S)
            closing = point.close()
        return {"offer": repr(offer), "receipt": repr(receipt)} | _closing(closing)

    def send_file(self, address: str, correlator: str, path: str) -> Answer:
        """Send a file over a channel; its digest is the one of what this side has read."""
        place = ComPointAddress.parse(address)
        point = Channel.open_initiator_channel(place, None, correlator)
        with telling_the_peer(point):
            stored = send_file(point, path, _quiet())
        return {"sha256": stored.sha256} | _closing(point.close())


def _quiet() -> Output:
    return Output(io.StringIO())


def _closing(receipt: Receipt) -> Answer:
    return {"written": receipt.written, "confirmed": receipt.confirmed}


ROLES: Final[dict[str, type[Role]]] = {"shop": Shop, "customer": Customer}


def perform(role: Role, verb: str, arguments: Answer) -> Answer:
    """Let somebody do something; what goes wrong is an answer, too: {"error": sentence}."""
    try:
        answer: Answer = getattr(role, verb)(**arguments)
    except Exception as error:  # noqa: BLE001 - told to the story, which fails with it
        return {"error": str(error) or type(error).__name__}
    return answer
