"""The initiator of a plain ComPoint: orders something and reads the answers.

python examples/initiator.py [tcp://host:7100]
"""

import sys

from shop import Offer, SaleReceipt, orders

from compoint import COMPOINT_INITIATOR, ComManager, ComPointAddress

__all__: list[str] = []

# Create the address of the responder.
address = ComPointAddress.parse(sys.argv[1] if len(sys.argv) > 1 else "tcp://:7100")

# Open an initiator ComPoint; leaving the block closes it.
with ComManager.com_point(COMPOINT_INITIATOR, address) as com_point:
    # Send a message.
    order = orders()["order-17"]
    com_point.write(order)
    print(f"wrote {order}")

    # Receive a response.
    offer = com_point.read(Offer, timeout=10)
    print(f"read {offer}")

    # Exchange of more messages and responses.
    com_point.write("agreed")
    print(f"read {com_point.read(SaleReceipt, timeout=10)}")
