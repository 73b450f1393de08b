"""The steps of the demo: what is done, what is checked, and what it teaches."""

from __future__ import annotations

import importlib.metadata
import os
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import compoint
from compoint.address import ComPointAddress
from compoint.cli._faults import CommandFailed
from compoint.cli._file_messages import PIECE_BYTES
from compoint.cli._send import check_file
from compoint.cli._status import ask
from compoint.cli._visible import counted, size_in_words
from compoint.cli.demo._roles import STEP_S, Answer
from compoint.cli.demo._stage import Actor, Stage
from compoint.cli.demo._telling import Telling
from compoint.cli.examples.shop import SaleReceipt, offer_for, orders
from compoint.deadline import Deadline, clock
from compoint.limits import KIB

if TYPE_CHECKING:
    import argparse

    from compoint.cli._output import Output

__all__ = ["run"]

#: How often somebody looks whether the responder has begun to wait.
_LOOK_S: Final = 0.005


def run(given: argparse.Namespace, out: Output) -> int:
    """Tell the story; 0 means that every check was right."""
    started_at = clock()
    with tempfile.TemporaryDirectory(prefix="compoint-demo-") as folder:
        file = given.file or _readme(folder)
        check_file(file)
        if given.protocol == "mail":
            from compoint.cli.demo._mail import tell  # noqa: PLC0415 - the others need no mail

            checks = tell(out, file, folder)
        else:
            with Stage(given.protocol) as stage:
                story = _Story(stage, out, given.protocol)
                story.tell(file, folder)
                checks = story.checks
    elapsed_s = clock() - started_at
    out.say(f"All {checks} checks were right ({elapsed_s:.1f} s).")
    return 0


def _readme(folder: str) -> str:
    """The project's README: the file of a checkout, or what an installation keeps of it."""
    file = Path(compoint.__file__).resolve().parents[1] / "README.md"
    if file.is_file() and file.with_name("setup.cfg").is_file():
        return str(file)
    try:
        description = importlib.metadata.metadata("compoint").json.get("description", "")
    except importlib.metadata.PackageNotFoundError:
        raise CommandFailed("the README is not here; name a file with --file") from None
    copy = Path(folder, "README.md")
    copy.write_text(str(description), encoding="utf-8")
    return str(copy)


class _Story(Telling):
    """Six steps."""

    def __init__(self, stage: Stage, out: Output, protocol: str) -> None:
        super().__init__(out)
        self._protocol = protocol
        self._closings: list[tuple[Actor, str, Answer]] = []
        # All at once: they get ready while the first steps are told.
        self._shop = stage.enter("shop", "shop")
        self._a, self._b, self._c, self._d = (
            stage.enter(f"customer {letter}", "customer") for letter in "ABCD"
        )
        self._address = ""

    def tell(self, file: str, folder: str) -> None:
        """All steps, one after the other."""
        with self.naming_the_step():
            self._open_the_shop()
            self._come_early()
            self._meet()
            self._come_together()
            self._transfer(file, folder)
            self._leave()

    # --- the steps ----------------------------------------------------------------------

    def _open_the_shop(self) -> None:
        if self._protocol == "memory":
            place = "each in a thread of this one process, because memory reaches no other"
        else:
            place = "each in a process of its own"
        self._out.say(f"A shop (the responder) and its customers (initiators), {place}.")
        self.begin(1, "The shop starts a service point.")
        self._address = self._shop.do("open", protocol=self._protocol)["address"]
        self._does(self._shop, f"({self._shop.place}) listens at {self._address}")
        port = ComPointAddress.parse(self._address).port
        self.right("a free port was taken", expected=True, found=port > 0)
        self.lesson("one port serves any number of conversations, called channels")

    def _come_early(self) -> None:
        self.begin(2, "Customer A comes before the shop is ready for it.")
        self._order(self._a, "order-17")
        queued = self._shop.do("waiting")["queued"]
        shown = ", ".join(
            f"{name} with {counted(messages, 'message')}, {size_in_words(size)}"
            for name, messages, size in queued
        )
        self._does(self._shop, f"has not opened it; service_point.waiting() shows queued: {shown}")
        self.right(
            "order-17 is queued with its message",
            expected=[["order-17", 1]], found=[entry[:2] for entry in queued],
        )  # fmt: skip
        self.lesson("the initiator may come first; nothing it writes is lost")

    def _meet(self) -> None:
        self.begin(3, "The shop opens that channel, and they make a deal.")
        self._deal(self._a, "order-17")
        queued = self._shop.do("waiting")["queued"]
        self.right("nobody is queued any more", expected=[], found=queued)
        self.lesson("messages are objects of your own classes, checked when they arrive")

    def _come_together(self) -> None:
        self.begin(4, "Two customers come at once; the shop takes the second one first.")
        self._order(self._b, "order-18")
        self._order(self._c, "order-19")
        names = [entry[0] for entry in self._shop.do("waiting")["queued"]]
        self.right("both are queued", expected=["order-18", "order-19"], found=names)
        self._deal(self._c, "order-19")
        self._deal(self._b, "order-18")
        self.lesson("the correlator says who talks to whom, not who came first")

    def _transfer(self, file: str, folder: str) -> None:
        self.begin(5, "The shop waits for a file, and customer D sends it.")
        self._shop.start("take_file", correlator="file", folder=_received_in(folder))
        waiting = self._who_waits()
        shown = ", ".join(map(str, waiting))
        self._does(self._shop, f"opens the channel file; its status shows waiting: {shown}")
        self.right("the responder waits for this channel", expected=["file"], found=waiting)
        self.lesson("a responder may come first as well")
        self._d.start(
            "send_file", address=self._address, correlator="file", path=os.path.abspath(file)
        )
        sent = self._d.result()
        stored = self._shop.result()
        pieces = -(-stored["size_bytes"] // PIECE_BYTES)
        self._does(
            self._d,
            f"sends {os.path.basename(file)}, {size_in_words(stored['size_bytes'])} in "
            f"{counted(pieces, 'message')} of up to {PIECE_BYTES // KIB} KiB",
        )
        self._does(self._d, f"read a file with sha256 {sent['sha256']}")
        self._does(self._shop, f"has a file with sha256 {stored['sha256']}")
        self.right("both digests agree", expected=sent["sha256"], found=stored["sha256"])
        size_bytes = os.stat(file).st_size
        self.right("every byte is there", expected=size_bytes, found=stored["size_bytes"])
        self._closings += [(self._d, "file", sent), (self._shop, "file", stored)]
        self.lesson("large things travel in pieces, and either side can stop it with a reason")

    def _leave(self) -> None:
        self.begin(6, "Everybody has left; what do the receipts say?")
        for actor, correlator, closing in self._closings:
            written, confirmed = closing["written"], closing["confirmed"]
            self._does(
                actor, f"closed {correlator}: wrote {written}, {confirmed} confirmed by the peer"
            )
        missing = sum(each["written"] - each["confirmed"] for _, _, each in self._closings)
        self.right("nothing is missing anywhere", expected=0, found=missing)
        self._shop.do("leave")
        self._does(self._shop, "stops the service point")
        self.lesson("close() returns a receipt: nothing is lost in silence")
        self._out.say()

    # --- what happens in several of them ---------------------------------------------------

    def _order(self, customer: Actor, correlator: str) -> None:
        order = orders()[correlator]
        fields = {name: getattr(order, name) for name in order.__struct_fields__}
        wrote = customer.do("order", address=self._address, correlator=correlator, order=fields)[
            "order"
        ]
        self._does(customer, f"({customer.place}) opens {correlator} and writes {wrote}")

    def _deal(self, customer: Actor, correlator: str) -> None:
        customer.start("buy")
        sold = self._shop.do("sell", correlator=correlator)
        bought = customer.result()
        self._does(self._shop, f"opens {correlator} and reads {sold['order']}")
        self._does(self._shop, f"writes {sold['offer']}")
        self._does(customer, f"reads {bought['offer']} and writes {sold['agreed']!r}")
        self._does(self._shop, f"writes {sold['receipt']}")
        self._does(customer, f"reads {bought['receipt']}")
        order = orders()[correlator]
        offer = offer_for(order)
        receipt = SaleReceipt(order.number, offer.total)
        self.right(
            f"{correlator} has its own order, offer and receipt, on both sides",
            expected=[repr(each) for each in (order, offer, offer, receipt, receipt)],
            found=[sold["order"], sold["offer"], bought["offer"], sold["receipt"],
                   bought["receipt"]],
        )  # fmt: skip
        self._closings += [(customer, correlator, bought), (self._shop, correlator, sold)]

    def _who_waits(self) -> list[str | None]:
        """The correlators that responders wait for, as soon as there is one."""
        address = ComPointAddress.parse(self._address)
        deadline = Deadline(STEP_S)
        while not (responders := ask(address).responders):
            if deadline.is_over:
                raise CommandFailed("no responder began to wait")
            time.sleep(_LOOK_S)
        return [one.correlator for one in responders]

    def _does(self, actor: Actor, what: str) -> None:
        self.line(actor.name, what)


def _received_in(folder: str) -> str:
    """A folder for what is received: the file sent may lie in the other one."""
    inner = os.path.join(folder, "received")
    os.mkdir(inner)
    return inner
