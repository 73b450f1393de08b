"""What a small shop and its customers say to each other, and the orders in orders.json."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

from compoint import Streamable

__all__ = ["PRICES", "Offer", "Order", "SaleReceipt", "offer_for", "orders"]

PRICES = {"atlas": Decimal("24.90"), "globe": Decimal("89.00"), "compass": Decimal("7.45")}


class Order(Streamable, name="shop.Order"):
    """A customer wants something."""

    number: int
    item: str
    count: int = 1


class Offer(Streamable, name="shop.Offer"):
    """What it would cost; the customer answers "agreed" or leaves."""

    number: int
    total: Decimal


class SaleReceipt(Streamable, name="shop.SaleReceipt"):
    """Sold."""

    number: int
    paid: Decimal


def offer_for(order: Order) -> Offer:
    """What the shop asks for an order.

    Raises:
        LookupError: the shop does not have it.
    """
    return Offer(order.number, PRICES[order.item] * order.count)


def orders() -> dict[str, Order]:
    """The orders in orders.json, each by the correlator of its channel."""
    text = Path(__file__).with_name("orders.json").read_text(encoding="utf-8")
    return {entry["correlator"]: Order(**entry["order"]) for entry in json.loads(text)}
