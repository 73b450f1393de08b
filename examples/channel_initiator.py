"""The initiator of a channel: it may come before its responder.

python examples/channel_initiator.py [tcp://host:7100 [order-17]]
"""

import sys

from shop import Offer, SaleReceipt, orders

from channel import Channel
from compoint import ComPointAddress

__all__: list[str] = []

# Create the address of the responder.
address = ComPointAddress.parse(sys.argv[1] if len(sys.argv) > 1 else "tcp://:7100")
correlator = sys.argv[2] if len(sys.argv) > 2 else "order-17"

# Open an initiator ComPoint and initiate a channel; leaving the block closes both.
with Channel.open_initiator_channel(address, None, correlator) as com_point:
    # Send a message. If no responder is here yet, it waits at the service point.
    order = orders()[correlator]
    com_point.write(order)
    print(f"wrote {order} on {correlator}", flush=True)

    # Receive a response.
    offer = com_point.read(Offer, timeout=60)
    print(f"read {offer}")

    # Exchange of more messages and responses.
    com_point.write("agreed")
    print(f"read {com_point.read(SaleReceipt, timeout=60)}")
