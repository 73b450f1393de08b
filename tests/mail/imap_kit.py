"""IMAP servers for these tests: a real one in a folder of its own, and a scripted one."""

from __future__ import annotations

import contextlib
import getpass
import grp
import imaplib
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, Self

import pytest

from compoint.testing import eventually

HOST: Final = "127.0.0.1"
USER: Final = "bob"
PASSWORD: Final = "correct-horse-battery"

_DOVECOT: Final = shutil.which("dovecot", path=f"{os.environ.get('PATH', '')}:/usr/sbin")

needs_dovecot = pytest.mark.skipif(
    _DOVECOT is None or not os.path.exists("/usr/lib/dovecot/imap"),
    reason="dovecot-imapd is not installed",
)

_CONFIG: Final = """
base_dir = {folder}/run
state_dir = {folder}/state
log_path = {folder}/log
protocols = imap
listen = 127.0.0.1
ssl = {ssl}
disable_plaintext_auth = no
default_internal_user = {user}
default_internal_group = {group}
default_login_user = {user}
first_valid_uid = 1
mail_location = maildir:{folder}/mail
service imap-login {{
  chroot =
  inet_listener imap {{
    port = {port}
  }}
  inet_listener imaps {{
    port = {tls_port}
  }}
}}
service anvil {{
  chroot =
}}
service stats {{
  chroot =
}}
passdb {{
  driver = static
  args = password={password}
}}
userdb {{
  driver = static
  args = uid={uid} gid={gid} home={folder}
}}
namespace inbox {{
  inbox = yes
}}
"""


class Dovecot:
    """A private Dovecot, run by this user (root: by nobody), with one mailbox."""

    def __init__(self, certificate: Any = None, settings: str = "") -> None:
        account = pwd.getpwnam("nobody" if os.geteuid() == 0 else getpass.getuser())
        # Not below the folder of the test: the names of its sockets would be too long.
        self.folder = Path(tempfile.mkdtemp(prefix="dovecot"))
        self.port, self.tls_port = _free_ports()
        config = _CONFIG.format(
            folder=self.folder, port=self.port, password=PASSWORD,
            tls_port=self.tls_port if certificate else 0, ssl="yes" if certificate else "no",
            user=account.pw_name, group=grp.getgrgid(account.pw_gid).gr_name,
            uid=account.pw_uid, gid=account.pw_gid,
        )  # fmt: skip
        if certificate:
            chain = b"".join(blob.bytes() for blob in certificate.cert_chain_pems)
            (self.folder / "chain.pem").write_bytes(chain)
            (self.folder / "key.pem").write_bytes(certificate.private_key_pem.bytes())
            config += f"ssl_cert = <{self.folder}/chain.pem\nssl_key = <{self.folder}/key.pem\n"
        (self.folder / "dovecot.conf").write_text(config + settings)
        self._as: dict[str, Any] = {}
        if os.geteuid() == 0:
            for path in (self.folder, *self.folder.iterdir()):
                os.chown(path, account.pw_uid, account.pw_gid)
            self._as = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.kill()
        shutil.rmtree(self.folder)

    def start(self) -> None:
        assert _DOVECOT is not None
        self._process = subprocess.Popen(
            [_DOVECOT, "-F", "-c", str(self.folder / "dovecot.conf")],
            start_new_session=True, cwd=self.folder,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **self._as,
        )  # fmt: skip
        try:
            eventually(self._answers, 20, "Dovecot answers")
        except AssertionError:
            log = (self.folder / "log").read_text()
            self.__exit__()
            raise AssertionError(log) from None

    def kill(self) -> None:
        """End all of its processes, without a goodbye to anybody."""
        process, self._process = self._process, None
        if process is not None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)
            eventually(lambda: not self._is_listened_to(), 10, "Dovecot is gone")
            # Whose owners are dead; the next Dovecot would wait for them, for two minutes.
            for lock in self.folder.glob("mail/**/*.lock"):
                lock.unlink()

    @contextlib.contextmanager
    def client(self) -> Iterator[imaplib.IMAP4]:
        """The mail reader of the person whose mailbox it is."""
        reader = imaplib.IMAP4(HOST, self.port, timeout=10)
        try:
            reader.login(USER, PASSWORD)
            yield reader
        finally:
            reader.logout()

    def deliver(self, *mails: bytes, folder: str = "INBOX") -> float:
        """Have mails come in; returns when the last one was there."""
        with self.client() as client:
            for mail in mails:
                assert client.append(folder, "", "", mail)[0] == "OK"
            return time.monotonic()

    def flags(self, folder: str = "INBOX") -> list[set[bytes]]:
        """Those of each mail."""
        with self.client() as client:
            client.select(folder, readonly=True)
            _, found = client.fetch("1:*", "(FLAGS)")
            return [set(imaplib.ParseFlags(line)) for line in found if isinstance(line, bytes)]

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self.folder / "log").read_text()
        try:
            with self.client():
                return True
        except (OSError, imaplib.IMAP4.error):
            return False

    def _is_listened_to(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection((HOST, self.port), 1):
            return True
        return False


def _free_ports() -> tuple[int, int]:
    with socket.create_server((HOST, 0)) as one, socket.create_server((HOST, 0)) as other:
        return one.getsockname()[1], other.getsockname()[1]


CUT: Final = b"cut"
SILENT: Final = b"silent"
#: The usual answer, in a list of answers.
USUAL: Final = b"usual"

Answer = bytes | Callable[[socket.socket, bytes], None]


class Scripted:
    """An IMAP server with one folder, which gives these answers instead of its own.

    They are by the command's name ("SELECT", "SEARCH", "SIZE", "BODY", "STORE", "IDLE", "DONE",
    "GREETING", ...), with TAG for the tag; a list is given one by one, the last again and
    again. CUT ends the connection, SILENT says nothing more; a function is given the
    connection and the tag. `refuses` has answers to all commands in which a word stands.
    """

    def __init__(
        self,
        *mails: bytes,
        offers: bytes = b"IMAP4rev1 IDLE AUTH=PLAIN",
        context: Any = None,
        refuses: dict[str, bytes] | None = None,
        **answers: Answer | list[Answer],
    ) -> None:
        #: The mails by their numbers.
        self.mails = dict(enumerate(mails, start=1))
        self.validity = 1
        self._offers = offers
        self._context = context
        self._refuses = refuses or {}
        self._answers = {k: list(v) if isinstance(v, list) else [v] for k, v in answers.items()}
        #: All commands of all connections, each connection introduced by "connect".
        self.said: list[str] = []
        self.said_at: list[float] = []
        self._connection: socket.socket | None = None
        self._listener = socket.create_server((HOST, 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._run, name="scripted", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        # Wakes the thread, which a close would not.
        for sock in (self._listener, self._connection):
            if sock is not None:
                with contextlib.suppress(OSError):
                    socket.socket.shutdown(sock, socket.SHUT_RDWR)
        self._thread.join(5)
        self._listener.close()

    def push(self, line: bytes) -> None:
        """Say something unasked, for instance in IDLE."""
        assert self._connection is not None
        self._connection.sendall(line + b"\r\n")

    def receive(self, mail: bytes) -> None:
        """A mail comes in, and who idles is told."""
        self.mails[max(self.mails, default=0) + 1] = mail
        self.push(b"* %d EXISTS" % len(self.mails))

    def count(self, verb: str) -> int:
        return self.verbs().count(verb)

    def verbs(self) -> list[str]:
        return [line.partition(" ")[0] for line in self.said]

    def times(self, verb: str) -> list[float]:
        return [at for at, name in zip(self.said_at, self.verbs(), strict=False) if name == verb]

    def eventually_hears(self, verb: str, count: int = 1) -> None:
        eventually(lambda: self.count(verb) >= count, 10, f"{count} {verb} in {self.said}")

    # --- the thread ---------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            # The client may break the connection at any time.
            with contextlib.suppress(OSError):
                self._note("connect")
                self._serve(connection)
            with contextlib.suppress(OSError):
                (self._connection or connection).close()
            connection.close()

    def _serve(self, connection: socket.socket) -> None:
        self._connection = connection
        is_on = self._say("GREETING", b"*", b"* OK scripted")
        while is_on:
            assert self._connection is not None
            words = _line(self._connection).split()
            if len(words) < 2:  # the end, or TLS
                return
            tag, verb, *rest = words
            is_on = self._command(
                tag, verb.upper().decode("latin-1"), b" ".join(rest).decode("latin-1")
            )

    def _command(self, tag: bytes, verb: str, rest: str) -> bool:
        if verb == "UID":
            verb, _, rest = rest.partition(" ")
        if verb == "FETCH":
            verb = "SIZE" if "SIZE" in rest else "BODY"
        self._note(f"{verb} {rest}".strip())
        for word, answer in self._refuses.items():
            if word in rest.split():
                assert self._connection is not None
                self._connection.sendall(answer.replace(b"TAG", tag) + b"\r\n")
                return True
        usual = b""
        match verb:
            case "CAPABILITY":
                usual = b"* CAPABILITY " + self._offers
            case "AUTHENTICATE":
                if not self._say("CHALLENGE", tag, b"+ "):
                    return False
                assert self._connection is not None
                self._note("given " + _line(self._connection).decode().strip())
            case "SELECT":
                usual = b"* %d EXISTS\r\n* OK [UIDVALIDITY %d] ok" % (
                    len(self.mails), self.validity,
                )  # fmt: skip
            case "SEARCH":
                found = re.match(r"UID (\d+):", rest)
                first = int(found[1]) if found else 0
                uids = [uid for uid in self.mails if uid >= first] or list(self.mails)[-1:]
                usual = b"* SEARCH " + b" ".join(b"%d" % uid for uid in uids)
            case "SIZE" | "BODY":
                usual = b"\r\n".join(
                    b"* %d FETCH (UID %d RFC822.SIZE %d)" % (uid, uid, len(self.mails[uid]))
                    if verb == "SIZE"
                    else b"* %d FETCH (UID %d BODY[] {%d}\r\n%s)"
                    % (uid, uid, len(self.mails[uid]), self.mails[uid])
                    for uid in map(int, rest.split()[0].split(","))
                    if uid in self.mails
                )
            case "IDLE":
                return self._idle(tag)
        lines = [usual] if usual else []
        is_on = self._say(verb, tag, b"\r\n".join([*lines, tag + b" OK done"]))
        if verb == "STARTTLS" and is_on:
            assert self._connection is not None
            self._connection = self._context.wrap_socket(self._connection, server_side=True)
        return is_on

    def _idle(self, tag: bytes) -> bool:
        if not self._say("IDLE", tag, b"+ idling"):
            return False
        if self._last.startswith(tag):
            return True
        assert self._connection is not None
        if not _line(self._connection):
            return False
        self._note("DONE")
        return self._say("DONE", tag, tag + b" OK done")

    def _say(self, verb: str, tag: bytes, usual: bytes) -> bool:
        answers = self._answers.get(verb, [USUAL])
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        connection = self._connection
        assert connection is not None
        self._last = b""
        if callable(answer):
            answer(connection, tag)
            return True
        if answer == CUT:
            return False
        if answer == SILENT:
            while connection.recv(4096):
                pass
            return False
        self._last = usual if answer == USUAL else answer.replace(b"TAG", tag)
        connection.sendall(self._last + b"\r\n")
        return True

    def _note(self, what: str) -> None:
        self.said_at.append(time.monotonic())
        self.said.append(what)


def _line(connection: socket.socket) -> bytes:
    """Byte by byte, so that nothing is left behind where TLS begins."""
    line = b""
    while not line.endswith(b"\n"):
        byte = connection.recv(1)
        if not byte:
            return b""
        line += byte
    return line
