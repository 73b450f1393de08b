"""The responder of a plain ComPoint: serves one customer, then ends.

python examples/responder.py [tcp://:7100]
"""

import sys

from shop import Order, SaleReceipt, offer_for

from compoint import COMPOINT_SERVER, ComManager, ComPointAddress

__all__: list[str] = []

# Create the local address.
address = ComPointAddress.parse(sys.argv[1] if len(sys.argv) > 1 else "tcp://:7100")

# Open the server ComPoint; leaving the block closes it.
with ComManager.com_point(COMPOINT_SERVER, address) as server:
    print(f"serving at {server.address}", flush=True)

    # Accept the connection from the initiator, creating the responder ComPoint.
    with server.accept() as com_point:
        # Receive the message.
        order = com_point.read(Order, timeout=10)
        print(f"read {order}")

        # Send the response.
        offer = offer_for(order)
        com_point.write(offer)
        print(f"wrote {offer}")

        # Exchange of more messages and responses.
        if com_point.read(str, timeout=10) == "agreed":
            receipt = SaleReceipt(order.number, offer.total)
            com_point.write(receipt)
            print(f"wrote {receipt}")
