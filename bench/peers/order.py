"""The typed small message, as a user of ours would write it."""

from compoint import Streamable

__all__ = ["AN_ORDER", "Order"]


class Order(Streamable):
    """Three fields of three kinds."""

    item: str
    count: int
    price: float


AN_ORDER = Order(item="a book about the sea", count=2, price=19.5)
