"""Mail servers for these tests: a real one in a thread, and one that follows a script."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Self

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, Envelope, LoginPassword

from mail._mime import Mail, new_mail

HOST = "127.0.0.1"
ALICE = "alice@example.org"
BOB = "bob@example.net"
ID = "0a1b2c3d-0000-4000-8000-123456789abc@example.org"


def a_mail(payload: bytes = b"frames") -> Mail:
    return new_mail(payload, sender=ALICE, recipient=BOB, message_id=ID, now=1_700_000_000)


@dataclass
class Taken:
    """What a real server took: an aiosmtpd handler."""

    envelopes: list[Envelope] = field(default_factory=list)

    async def handle_DATA(self, server: Any, session: Any, envelope: Envelope) -> str:  # noqa: N802
        self.envelopes.append(envelope)
        return "250 2.0.0 taken"


class Secret:
    """Lets in `user` with `password`, and counts the tries: an aiosmtpd authenticator."""

    def __init__(self, user: str, password: str) -> None:
        self._expected = LoginPassword(user.encode(), password.encode())
        self.tries = 0

    def __call__(
        self, server: Any, session: Any, envelope: Any, way: str, given: Any
    ) -> AuthResult:
        self.tries += 1
        return AuthResult(success=given == self._expected, handled=False)


@contextlib.contextmanager
def real_server(handler: Any, **options: Any) -> Iterator[int]:
    """aiosmtpd on a free port of this machine; yields the port."""
    with socket.create_server((HOST, 0)) as probe:
        port = probe.getsockname()[1]
    controller = Controller(handler, hostname=HOST, port=port, **options)
    controller.start()
    try:
        yield port
    finally:
        controller.stop()


CUT = b"cut"
SILENT = b"silent"
STALL = b"stall"


@dataclass(frozen=True)
class Endless:
    """An answer that never ends: this once, then that again and again."""

    first: bytes
    then: bytes
    every_s: float = 0.0


_Answer = bytes | Endless

_ANSWERS: dict[str, _Answer] = {
    "greeting": b"220 scripted\r\n",
    "ehlo": b"250-scripted\r\n250 SIZE 0\r\n",
    "mail": b"250 ok\r\n",
    "rcpt": b"250 ok\r\n",
    "data": b"354 go on\r\n",
    "end": b"250 2.0.0 taken\r\n",
    "quit": b"221 bye\r\n",
}


class Scripted:
    """An SMTP server that gives these answers, and remembers what it was told.

    A list is given one by one, the last again and again. CUT ends the connection instead of
    an answer; SILENT says nothing until the client has gone. STALL, for "data",
    asks for the mail and reads nothing of it.
    """

    def __init__(self, **answers: _Answer | list[_Answer] | list[bytes]) -> None:
        given = {**_ANSWERS, **answers}
        self._answers = {k: list(v) if isinstance(v, list) else [v] for k, v in given.items()}
        #: All lines of all connections, each connection introduced by "connect".
        self.said: list[str] = []
        self.mails: list[bytes] = []
        self._is_over = threading.Event()
        self._last: _Answer = b""
        self._listener = socket.create_server((HOST, 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._run, name="scripted", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._is_over.set()
        # Wakes the accept, which a close would not.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(5)
        self._listener.close()

    def verbs(self) -> list[str]:
        return [line.partition(" ")[0].lower() for line in self.said]

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection, connection.makefile("rb") as lines:
                self.said.append("connect")
                # The client may break the connection at any time.
                with contextlib.suppress(OSError):
                    self._serve(connection, lines)

    def _serve(self, connection: socket.socket, lines: Any) -> None:
        is_on = self._answer(connection, lines, "greeting")
        while is_on:
            line = lines.readline()
            if not line:
                return
            self.said.append(line.decode("latin-1").strip())
            verb = self.said[-1].partition(" ")[0].lower()
            is_on = self._answer(connection, lines, verb) and verb != "quit"
            if verb == "data" and is_on and self._asks_for_a_mail():
                mail = b"".join(iter(lines.readline, b".\r\n"))
                self.mails.append(mail)
                is_on = self._answer(connection, lines, "end")

    def _answer(self, connection: socket.socket, lines: Any, verb: str) -> bool:
        answers = self._answers.get(verb, [b"500 what?\r\n"])
        answer = self._last = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, Endless):
            connection.sendall(answer.first)
            while not self._is_over.wait(answer.every_s):
                connection.sendall(answer.then)
            return False
        if answer == CUT:
            return False
        if answer == SILENT:
            lines.read()
            return False
        if answer == STALL:
            connection.sendall(b"354 go on\r\n")
            self._is_over.wait(10)
            return False
        connection.sendall(answer)
        # An answer of 421 is the server's last.
        return not answer.startswith(b"421")

    def _asks_for_a_mail(self) -> bool:
        return isinstance(self._last, bytes) and self._last.startswith(b"354")


def server_context(certificate: Any) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context
