"""The responder of channels: one port, and a channel for each order it expects.

python examples/channel_responder.py [tcp://:7100 [order-18 order-17 ...]]
"""

import sys

from shop import Order, SaleReceipt, offer_for, orders

from channel import Channel
from compoint import ComPointAddress

__all__: list[str] = []

# Create the local address.
address = ComPointAddress.parse(sys.argv[1] if len(sys.argv) > 1 else "tcp://:7100")

# Start a service-point thread; leaving the block stops it.
with Channel.start_service_point_thread(address) as service_point:
    print(f"serving at {service_point.address}", flush=True)

    # The order in which channels are opened here need not be the one in which they come.
    for correlator in sys.argv[2:] or orders():
        # Accept a channel with a specific correlator and open a responder ComPoint.
        with service_point.open_responder_channel(None, correlator) as com_point:
            # Receive the message.
            order = com_point.read(Order, timeout=60)
            print(f"read {order} on {correlator}")

            # Send the response.
            offer = offer_for(order)
            com_point.write(offer)
            print(f"wrote {offer}")

            # Exchange of more messages and responses.
            if com_point.read(str, timeout=60) == "agreed":
                receipt = SaleReceipt(order.number, offer.total)
                com_point.write(receipt)
                print(f"wrote {receipt}")
