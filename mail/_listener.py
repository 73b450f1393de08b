"""Mails straight from a mail system, by LMTP or SMTP: the listener of the extra `mail`.

It takes mails for programs only, and refuses others so that their senders are told. The
answer to a mail is given after it was kept; what cannot be kept now stays with the sender,
who tries again.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from compoint.address import ComPointAddress
from compoint.drive.listening import ListeningSocket
from compoint.errors import ConfigError, Phase
from mail._front import Front, Put, Whose, whose
from mail._settings import ListenSettings

if TYPE_CHECKING:
    from mail._smtp_server import Protocol

__all__ = ["ListenerFront"]

_log = logging.getLogger("compoint.mail")

#: Connections at once; the next one is told to come later. Each may hold a mail in memory.
CONNECTIONS: Final = 50
#: How long connections may take to end when all is over.
_END_S: Final = 1.0


class ListenerFront(Front):
    """Takes mails for some mailboxes at a port; see Front.

    `boxes` says where the mails of a mailbox are put: by its address in ASCII and small letters,
    or by a function that is given such an address and returns None where there is no such
    mailbox. A mail for alice+anything@host is alice@host's, unless that has a box of its own.
    However many recipients of a mail are the same mailbox, it is put once.
    """

    def __init__(
        self,
        settings: ListenSettings,
        boxes: Mapping[str, Put] | Callable[[str], Put | None],
        poke: Callable[[], None],
        trouble: Callable[[str], None],
    ) -> None:
        super().__init__("listener", _nowhere, poke, trouble)
        self._settings = settings
        self._box = boxes.get if isinstance(boxes, Mapping) else boxes
        self._loop: asyncio.AbstractEventLoop | None = None
        self._listening: ListeningSocket | None = None
        self._connections: set[Protocol] = set()
        self._visits: set[asyncio.Task[Any]] = set()

    @property
    def port(self) -> int:
        """The port, once started; where 0 was asked for, the one that was taken."""
        return self._settings.port if self._listening is None else self._listening.address.port

    def start(self) -> None:
        """Listen, and start the thread.

        Raises:
            ConfigError: the extra `mail` is not installed.
            BusyError: somebody else listens at the port.
            ConnectError: the address cannot be listened at.
        """
        try:
            from mail._smtp_server import new_protocol  # noqa: PLC0415 - an extra
        except ModuleNotFoundError as missing:
            raise ConfigError(
                f"to listen for mails the package {missing.name} is needed",
                phase=Phase.CONFIGURE, hint="pip install 'compoint[mail]'",
            ) from None  # fmt: skip
        self._new_protocol = new_protocol
        settings = self._settings
        loop = asyncio.new_event_loop()
        try:
            self._listening = ListeningSocket(ComPointAddress("tcp", settings.host, settings.port))
        except BaseException:
            loop.close()
            raise
        self._loop = loop
        super().start()

    def after_fork(self) -> None:
        # Not by the loop, whose set of descriptors the system shares with the parent.
        if self._listening is not None:
            self._listening.close()

    # --- the thread ---------------------------------------------------------------------

    def _cut(self) -> None:
        if self._loop is not None:
            with suppress(RuntimeError):  # it is closed already
                self._loop.call_soon_threadsafe(self._loop.stop)

    def _work(self) -> None:
        loop, listening = self._loop, self._listening
        assert loop is not None
        assert listening is not None
        loop.set_exception_handler(_note)
        loop.add_reader(listening.fileno(), self._accept)
        self._tell("")
        try:
            loop.run_forever()
        finally:
            loop.remove_reader(listening.fileno())
            listening.close()
            loop.run_until_complete(self._end_connections())
            loop.close()

    async def _end_connections(self) -> None:
        # Not cancelled: their sockets would be lost.
        while self._visits:
            await asyncio.wait(self._visits)
        for connection in list(self._connections):
            connection.cut()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=_END_S)
        await asyncio.sleep(0)  # the transports close in the loop's next round

    def _accept(self) -> None:
        assert self._loop is not None
        assert self._listening is not None
        visitor = self._listening.accept()
        if visitor is None:
            return
        sock = visitor[0]
        if len(self._connections) >= CONNECTIONS:
            with suppress(OSError):
                sock.setblocking(False)
                sock.send(b"421 4.3.2 too many connections, try again later\r\n")
            sock.close()
            return
        protocol = self._new_protocol(
            self._settings.protocol, self._is_ours, self._deliver, self._loop,
            self._connections.discard,
        )  # fmt: skip
        self._connections.add(protocol)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        visit = self._loop.create_task(self._loop.connect_accepted_socket(lambda: protocol, sock))
        self._visits.add(visit)  # the loop itself does not keep it
        visit.add_done_callback(self._visits.discard)

    # --- one mail -----------------------------------------------------------------------

    def _is_ours(self, recipient: str) -> bool:
        return self._box_of(recipient) is not None

    def _box_of(self, recipient: str) -> tuple[str, Put] | None:
        """Whose box it is, and the box."""
        user, _, host = recipient.lower().rpartition("@")
        while (box := self._box(f"{user}@{host}")) is None:
            if "+" not in user:
                return None
            user = user.rpartition("+")[0]
        return f"{user}@{host}", box

    def _deliver(self, content: bytes, recipients: list[str]) -> list[str]:
        """Keep a mail in the recipients' boxes, once in each; the answer for each recipient."""
        if whose(content) is Whose.FOREIGN:
            return ["550 5.7.1 this mailbox takes mails for programs only"] * len(recipients)
        of_boxes: dict[str, str] = {}
        answers = []
        for recipient in recipients:
            found = self._box_of(recipient)
            if found is None:  # since it was asked about
                answers.append("450 4.2.1 the mailbox is not there now")
                continue
            mailbox, put = found
            if mailbox not in of_boxes:
                of_boxes[mailbox] = self._answer(content, recipient, put)
            answers.append(of_boxes[mailbox])
        if all(answer.startswith("2") for answer in answers):
            self._tell("")
        return answers

    def _answer(self, content: bytes, recipient: str, put: Put) -> str:
        self._put = put
        if self._keep(b"Delivered-To: %s\r\n%s" % (recipient.encode(), content)):
            return "250 2.0.0 taken"
        return "452 4.3.1 the mail cannot be kept now"


def _nowhere(mail: bytes) -> None:
    """In place of the box, of which there is one for each mail."""


def _note(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """What connections leave behind when they break; nothing of it concerns people."""
    _log.debug("listener: %s", context.get("message"))
