"""The demo over mail: the example scripts as they are over tcp, and a file, in e-mails.

Alice and Bob have a mailbox each at a mail server of this process, and a `_sempconfig` each;
everything else is as on two machines.
"""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import sys
import threading
from contextlib import ExitStack
from io import BytesIO
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Final, Self

import compoint
from compoint.cli._faults import CommandFailed
from compoint.cli._visible import counted, size_in_words
from compoint.cli.demo._telling import Telling
from compoint.cli.examples.shop import SaleReceipt, offer_for, orders
from compoint.deadline import Deadline
from mail._dropbox import Dropbox
from mail._find import find
from mail._listener import ListenerFront
from mail._settings import ListenSettings

if TYPE_CHECKING:
    from compoint.cli._output import Output

__all__ = ["tell"]

_ALICE: Final = "alice@demo.example"
_BOB: Final = "bob@demo.example"
_SHOP: Final = f"mail:{_BOB}:7100"

#: How long one conversation may take.
_STEP_S: Final = 30.0

#: Runs the command without its console script.
_MODULE: Final = "-P -m compoint.cli"

_SEMPCONFIG: Final = """\
[mail]
receiverPort = {port}
returnAddress = {mailbox}
mailHost = 127.0.0.1
smtpPort = {smtp_port}
smtpTls = none
trust = none
spool = {spool}
# Mails take milliseconds here, and nobody counts them.
rate = 1000
daily = 1000000
rtoMin = 2 s
ackDelay = 0.5 s
"""

#: Somebody and a line they have said, or None: they have said all.
News = tuple[str, str | None]


def tell(out: Output, file: str, folder: str) -> int:
    """Tell the story; returns how many checks were right.

    Raises:
        ConfigError: the extra `mail` is not installed.
        CommandFailed: a check was not.
    """
    with ExitStack() as stack:
        story = _Story(out, folder, stack)
        with story.naming_the_step():
            story.set_up()
            story.deal(2, "Bob serves, and Alice orders, by the scripts that they use over tcp.")
            story.deal(3, "The same over a channel.", on="order-17")
            story.transfer(file)
    return story.checks


class _Story(Telling):
    """Four steps."""

    def __init__(self, out: Output, folder: str, stack: ExitStack) -> None:
        super().__init__(out)
        self._folder = folder
        self._news: SimpleQueue[News] = SimpleQueue()
        self._mails = 0
        self._poker = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        self._ports = {mailbox: _free_port() for mailbox in (_ALICE, _BOB)}
        # Behind a port of its own, which nobody else on this machine needs.
        self._server = ListenerFront(
            ListenSettings("", 0, "smtp"), dict.fromkeys(self._ports, self._deliver), _nothing,
            self._note,
        )  # fmt: skip
        stack.callback(self._server.stop)
        self._server.start()

    # --- the mail server ----------------------------------------------------------------

    def _deliver(self, mail: bytes) -> None:
        """As a mail system with the receiver program: keep the mail, and poke."""
        facts = find(BytesIO(mail)).facts
        self._mails += 1
        way = f"{facts.return_path} to {facts.recipient}, {size_in_words(len(mail))}"
        self._news.put((f"mail {self._mails}", way))
        Dropbox(self._spool(facts.recipient)).put(mail)
        self._poker.sendto(b"", ("127.0.0.1", self._ports[facts.recipient]))

    def _note(self, trouble: str) -> None:
        if trouble:
            self._news.put(("server", trouble))

    def _spool(self, mailbox: str) -> str:
        return os.path.join(self._folder, mailbox)

    def _sempconfig(self, mailbox: str) -> str:
        return os.path.join(self._folder, f"{mailbox}_sempconfig")

    # --- the steps ----------------------------------------------------------------------

    def set_up(self) -> None:
        self._out.say(
            "Alice (the initiator) and Bob (the responder), each in a process of their own, by"
            " e-mail only."
        )
        self.begin(1, "A mail server starts on this machine; each of the two has a mailbox there.")
        smtp_port = self._server.port
        self.line("server", f"takes mails for {_ALICE} and {_BOB} at port {smtp_port}")
        for name, mailbox in (("alice", _ALICE), ("bob", _BOB)):
            port = self._ports[mailbox]
            settings = _SEMPCONFIG.format(
                port=port, mailbox=mailbox, smtp_port=smtp_port, spool=self._spool(mailbox)
            )
            Path(self._sempconfig(mailbox)).write_text(settings, encoding="utf-8")
            self.line(name, f"has receiverPort = {port}, returnAddress = {mailbox}, mailHost = ...")
        self.lesson("these three settings switch mail on; compoint mail doctor tries them out")

    def deal(self, number: int, title: str, on: str = "") -> None:
        """Run the example scripts, of points or (on a correlator) of channels."""
        self.begin(number, title)
        kind = "channel_" if on else ""
        examples = os.path.join(os.path.dirname(compoint.__file__), "cli", "examples")
        bob, alice = (
            [os.path.join(examples, f"{kind}{script}.py"), _SHOP, *filter(None, [on])]
            for script in ("responder", "initiator")
        )
        before = self._mails
        said = self._play(bob, alice)
        order = orders()["order-17"]
        offer = offer_for(order)
        receipt = SaleReceipt(order.number, offer.total)
        where = f" on {on}" if on else ""
        self.right(
            "both have said what they say over tcp",
            expected={
                "bob": [f"serving at {_SHOP}", f"read {order!r}{where}", f"wrote {offer!r}",
                        f"wrote {receipt!r}"],
                "alice": [f"wrote {order!r}{where}", f"read {offer!r}", f"read {receipt!r}"],
            },
            found=said,
        )  # fmt: skip
        self._carried(before)
        if on:
            self.lesson("any number of channels share a port, and any number of ports a mailbox")
        else:
            self.lesson("only the address differs; what is confirmed rides on what is said")

    def transfer(self, file: str) -> None:
        self.begin(4, "Alice sends Bob a file, by the command.")
        received = os.path.join(self._folder, "received")
        os.mkdir(received)
        command = _MODULE.split()
        before = self._mails
        self._play(
            [*command, "receive", _SHOP, "--channel", "file", "--into", received],
            [*command, "send", os.path.abspath(file), _SHOP, "--channel", "file"],
        )
        (stored,) = os.listdir(received)
        sent, found = _digest(file), _digest(os.path.join(received, stored))
        self.right("both digests agree", expected=sent, found=found)
        self._carried(before)
        self.lesson("whatever works over tcp works over mail; it only takes longer")
        self._out.say()

    def _carried(self, before: int) -> None:
        mails = self._mails - before
        self.right(f"{counted(mails, 'mail')} carried it", expected=True, found=mails > 0)

    # --- processes ----------------------------------------------------------------------

    def _play(self, bob: list[str], alice: list[str]) -> dict[str, list[str]]:
        """Run both to their ends, and show what they say and the mails; returns what they said.

        Raises:
            CommandFailed: one has not ended well.
        """
        deadline = Deadline(_STEP_S)
        said: dict[str, list[str]] = {"bob": [], "alice": []}
        with ExitStack() as stack:
            running = {
                "bob": stack.enter_context(_Process("bob", bob, self._sempconfig(_BOB))),
                "alice": stack.enter_context(_Process("alice", alice, self._sempconfig(_ALICE))),
            }
            for name, process in running.items():
                self.line(name, f"(process {process.pid}) runs {process.shown}")
                process.tell(self._news)
            while running:
                try:
                    who, line = self._news.get(timeout=deadline.remaining_s())
                except Empty:
                    raise CommandFailed(f"it takes more than {_STEP_S:g} s") from None
                if line is None:
                    running.pop(who).check(deadline)
                    continue
                self.line(who, line)
                if who in said:
                    said[who].append(line)
        return said


class _Process:
    """A program with the settings of one of the two; does not outlive its block."""

    def __init__(self, name: str, arguments: list[str], sempconfig: str) -> None:
        self._name = name
        #: As a person would write it.
        self.shown = " ".join(map(os.path.basename, arguments)).replace(_MODULE, "compoint")
        root = str(Path(compoint.__file__).parents[1])
        path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
        more = {"PYTHONPATH": path, "PYTHONUNBUFFERED": "1", "SEMPCONFIG": sempconfig}
        self._process = subprocess.Popen(  # noqa: S603 - our own programs
            [sys.executable, *arguments], env={**os.environ, **more}, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8",
            errors="replace",
            # Ctrl-C is for the demo; it ends the others itself.
            start_new_session=True,
        )  # fmt: skip
        self.pid: Final = self._process.pid
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        return self

    def tell(self, news: SimpleQueue[News]) -> None:
        """Put there each line that it says, then None."""
        self._thread = threading.Thread(target=self._listen, args=(news,), daemon=True)
        self._thread.start()

    def _listen(self, news: SimpleQueue[News]) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            news.put((self._name, line.rstrip("\n")))
        news.put((self._name, None))

    def check(self, deadline: Deadline) -> None:
        """Raises:
        CommandFailed: it has not ended well.
        """
        try:
            code = self._process.wait(deadline.remaining_s())
        except subprocess.TimeoutExpired:
            raise CommandFailed(f"{self._name}: its process does not end") from None
        if code:
            raise CommandFailed(f"{self._name}: its process has ended with exit code {code}")

    def __exit__(self, *exception: object) -> None:
        self._process.kill()
        self._process.wait()
        if self._thread is not None:
            self._thread.join()
        assert self._process.stdout is not None
        self._process.stdout.close()


def _digest(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def _nothing() -> None:
    """Instead of a poke, which goes to the port of the mailbox."""
