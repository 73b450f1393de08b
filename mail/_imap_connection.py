"""One IMAP connection: imaplib on a socket of ours, every read bounded in time and in bytes.

imaplib knows the grammar. It has no IDLE before Python 3.14, trusts the server with any
amount of memory, and cannot be ended by another thread; that is what is done here.
"""

from __future__ import annotations

import base64
import binascii
import imaplib
import re
import socket
import ssl
import threading
from contextlib import suppress
from typing import Final

from compoint.deadline import clock
from compoint.errors import ConfigError
from compoint.limits import CONNECT_S, KIB, MIB
from mail._front import MAIL_BYTES
from mail._settings import ImapSettings
from mail._smtp import Tls

__all__ = [
    "Abort",
    "Connection",
    "Error",
    "LoginRefusedError",
    "NoFolderError",
    "RefusedError",
    "Way",
]

#: How long the server may take for an answer.
ANSWER_S: Final = 60.0
#: How long it may take for a mail, which comes in one answer.
MAIL_S: Final = 600.0
#: How long it may take to leave IDLE: a dead way is noticed here (imapclient #403, #449).
DONE_S: Final = 15.0

#: What an answer may hold: the numbers of a hundred thousand mails.
ANSWER_BYTES: Final = 1 * MIB
#: What a mail's answer may hold beside the mail.
_BESIDE_BYTES: Final = 64 * KIB

#: A silent way is asked by the system whether it is still there (seconds, or how often).
_KEEPALIVE: Final = (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 15), ("TCP_KEEPCNT", 4))

_NEWS: Final = re.compile(rb"\* [0-9]+ (EXISTS|RECENT)\b", re.IGNORECASE)
_SIZE: Final = re.compile(rb"RFC822\.SIZE ([0-9]{1,20})\b", re.IGNORECASE)
_UID: Final = re.compile(rb"\bUID ([0-9]{1,10})\b", re.IGNORECASE)
_NO_BODY: Final = re.compile(rb"\bBODY\[\] NIL\b", re.IGNORECASE)

Error = imaplib.IMAP4.error
Abort = imaplib.IMAP4.abort


class LoginRefusedError(Exception):
    """The server does not let us in; asking again soon does not help."""


class NoFolderError(Exception):
    """The server does not open this folder."""


class RefusedError(Error):
    """The server answers NO or BAD; the connection is as good as before."""


class Way:
    """What another thread can end: the socket under a connection, from before it is connected."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_cut = False
        self._handle: socket.socket | None = None

    def hold(self, sock: socket.socket) -> None:
        """Know the way by this socket, in place of an earlier one.

        Raises:
            ConnectionAbortedError: it has been cut.
        """
        # A descriptor of its own: wrapping in TLS takes the other one away.
        handle = sock.dup()
        with self._lock:
            old, self._handle = self._handle, handle
            is_cut = self._is_cut
        if old is not None:
            old.close()
        if is_cut:
            raise ConnectionAbortedError("closed meanwhile")

    def cut(self) -> None:
        """End it for good; who waits for it sees it break."""
        with self._lock:
            self._is_cut = True
            if self._handle is not None:
                with suppress(OSError):
                    self._handle.shutdown(socket.SHUT_RDWR)

    def release(self) -> None:
        with self._lock:
            handle, self._handle = self._handle, None
        if handle is not None:
            handle.close()


class Connection(imaplib.IMAP4):
    """Connected, greeted and encrypted; `log_in` comes next.

    All verbs raise OSError or imaplib's errors, and are for one thread.
    """

    sock: socket.socket

    def __init__(self, settings: ImapSettings, way: Way) -> None:
        context = None
        if settings.tls in {Tls.STARTTLS, Tls.IMPLICIT}:
            context = ssl.create_default_context(cafile=settings.ca_file or None)
        sock = _connected(settings, way)
        try:
            if settings.tls is Tls.NONE:
                _check_near(sock, settings.host)
            if context is not None and settings.tls is Tls.IMPLICIT:
                sock = context.wrap_socket(sock, server_hostname=settings.host)
            self._settings = settings
            self._given = self._source = sock
            self._input = bytearray()
            self._idles = 0
            #: Whether clients may have flags of their own; to be unset when it shows.
            self.has_keywords = True
            self._allow(ANSWER_S, ANSWER_BYTES)
            super().__init__(settings.host, settings.port)
            if context is not None and settings.tls is Tls.STARTTLS:
                self._begin_tls(context)
        except BaseException:
            sock.close()
            raise

    def _begin_tls(self, context: ssl.SSLContext) -> None:
        try:
            self.starttls(context)
        except BaseException:
            self.sock.close()
            raise
        finally:
            # imaplib's own reader, which would keep the socket open.
            for name in ("file", "_file"):
                file = vars(self).pop(name, None)
                if file is not None:
                    file.close()

    # --- what imaplib calls -------------------------------------------------------------

    def open(self, host: str = "", port: int = 143, timeout: float | None = None) -> None:
        self.host, self.port = host, port
        self.sock = self._given

    def shutdown(self) -> None:
        self.sock.close()

    def read(self, size: int) -> bytes:
        if size - len(self._input) > self._left_bytes:
            raise Abort(f"the server announces {size} bytes")
        while len(self._input) < size:
            self._fill()
        return self._taken(size)

    def readline(self) -> bytes:
        if self._source is not self.sock:  # TLS has begun
            if self._input:
                raise Abort("the server spoke in the clear after the beginning of TLS")
            self._source = self.sock
        looked_at = 0
        while (end := self._input.find(b"\n", looked_at)) < 0:
            looked_at = len(self._input)
            self._fill()
        return self._taken(end + 1)

    def _log(self, line: str) -> None:
        """imaplib would keep the last lines, and so the password."""

    def _fill(self) -> None:
        left_s = self._until - clock()
        if left_s <= 0:
            raise TimeoutError("the server does not answer in time")
        self.sock.settimeout(left_s)
        try:
            piece = self.sock.recv(64 * KIB)
        except TimeoutError:
            raise TimeoutError("the server does not answer in time") from None
        if not piece:
            raise Abort("the server closed the connection")
        self._input += piece
        self._left_bytes -= len(piece)
        if self._left_bytes < 0:
            raise Abort("the server says more than it was asked for")

    def _taken(self, size: int) -> bytes:
        taken = bytes(memoryview(self._input)[:size])
        del self._input[:size]
        return taken

    def _allow(self, time_s: float, size: int = ANSWER_BYTES) -> None:
        """What the next exchange may cost."""
        self._until = clock() + time_s
        self._left_bytes = size
        self._source.settimeout(time_s)

    # --- verbs --------------------------------------------------------------------------

    def log_in(self) -> None:
        """Log in.

        Raises:
            LoginRefusedError: with the server's words.
            ConfigError: there is no password.
        """
        if self.state == "AUTH":  # by the certificate, or the machine
            return
        user, password = self._settings.user, self._settings.password.read()
        self._allow(ANSWER_S)
        try:
            if self._settings.is_token:
                token = f"user={user}\1auth=Bearer {password}\1\1".encode()
                # A challenge is then the server's error; nothing is the answer to it.
                self.authenticate("XOAUTH2", lambda challenge: b"" if challenge else token)
            elif "AUTH=PLAIN" in self.capabilities:
                self.authenticate("PLAIN", lambda _: f"\0{user}\0{password}".encode())
            elif "LOGINDISABLED" in self.capabilities:
                raise LoginRefusedError("the server offers no login by a password that we know")
            else:
                self.login(_quoted(user), password)
        except Abort:
            raise
        except (Error, binascii.Error) as error:
            said = error.args[0] if error.args else ""
            text = said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)
            if "[UNAVAILABLE]" in text:  # RFC 5530: later it may
                raise Abort(text) from None
            raise LoginRefusedError(f"the login was refused: {text}") from None
        # Most servers offer IDLE only now.
        _, offered = self.capability()
        if offered[-1]:
            self.capabilities = tuple(str(offered[-1], "ascii", "replace").upper().split())

    @property
    def can_idle(self) -> bool:
        return "IDLE" in self.capabilities

    def choose(self, folder: str) -> int:
        """Select a folder; returns the validity of its mails' numbers.

        `is_readonly` tells afterwards whether its mails can be marked.

        Raises:
            NoFolderError: the server does not open it.
        """
        self._allow(ANSWER_S)
        try:
            done, said = self.select(_quoted(_encoded(folder)))
        except self.readonly:  # it is open all the same
            self.is_readonly = True
        else:
            if done != "OK":
                text = str(said[-1] or b"", "utf-8", "replace")
                raise NoFolderError(f"the folder {folder} cannot be opened: {text}")
        validity = self.response("UIDVALIDITY")[1][0]
        return int(validity) if validity else 0

    def find(self, *criteria: str) -> list[int]:
        """The numbers of the mails for which these hold, in order of arrival.

        Raises:
            RefusedError: the server cannot search so.
        """
        self._allow(ANSWER_S)
        self.untagged_responses.pop("EXISTS", None)
        lines = self._ask("SEARCH", *criteria)
        return sorted(
            {int(uid) for line in lines if isinstance(line, bytes) for uid in line.split()}
        )

    def has_grown(self) -> bool:
        """Whether the server has announced mails since the last `find` began."""
        return self.response("EXISTS")[1] != [None]

    def sizes(self, uids: list[int]) -> dict[int, int]:
        """How large mails are, as far as the server says it."""
        self._allow(ANSWER_S)
        found = {}
        for answer in self._ask("FETCH", _set(uids), "(UID RFC822.SIZE)"):
            if isinstance(answer, bytes):
                uid, size = _UID.search(answer), _SIZE.search(answer)
                if uid and size:
                    found[int(uid[1])] = int(size[1])
        return found

    def fetch_mail(self, uid: int) -> bytes | None:
        """One mail as it is, not marked as read; None: it is gone."""
        self._allow(MAIL_S, MAIL_BYTES + _BESIDE_BYTES)
        # Between the answers may stand what was not asked for.
        for answer in self._ask("FETCH", str(uid), "(UID BODY.PEEK[])"):
            if isinstance(answer, tuple):
                return bytes(answer[1])
            if _NO_BODY.search(answer):
                raise Abort(f"the server has mail {uid} and does not give it")
        return None

    def mark(self, uids: list[int], flags: str) -> bool:
        """Add flags; returns whether the server took them."""
        self._allow(ANSWER_S)
        try:
            self._ask("STORE", _set(uids), "+FLAGS.SILENT", flags)
        except RefusedError:
            return False
        return True

    def wait_for_news(self, time_s: float) -> bool:
        """Wait for news of the folder, at most this long; returns whether there are some.

        Raises:
            IMAP4.error: the server refuses to idle (and not IMAP4.abort).
        """
        self._allow(ANSWER_S)
        self._idles += 1
        tag = b"idle%d" % self._idles
        self.send(tag + b" IDLE\r\n")
        line = b""
        has_news = False
        while not line.startswith(b"+"):
            line = self._idle_line()
            if line.startswith(tag):
                raise Error(f"IDLE: {line.decode('ascii', 'replace').strip()}")
            has_news |= bool(_NEWS.match(line))
        self._allow(time_s)
        try:
            while not has_news:
                line = self._idle_line()
                if line.startswith(tag):
                    raise Error("the server ended IDLE by itself")
                has_news = bool(_NEWS.match(line))
        except TimeoutError:
            pass
        self._allow(DONE_S)
        self.send(b"DONE\r\n")
        while not (line := self._idle_line()).startswith(tag):
            has_news |= bool(_NEWS.match(line))
        return has_news

    def _idle_line(self) -> bytes:
        line = self.readline()
        if line.upper().startswith(b"* BYE"):
            raise Abort(line.decode("ascii", "replace").strip())
        return line

    def _ask(self, verb: str, *arguments: str) -> list[bytes | tuple[bytes, bytes]]:
        try:
            done, answers = self.uid(verb, *arguments)
        except Abort:
            raise
        except Error as error:  # BAD
            raise RefusedError(str(error)) from None
        if done != "OK":
            raise RefusedError(f"{verb}: {done} {answers!r:.200}")
        return [answer for answer in answers if answer]


def _check_near(sock: socket.socket, host: str) -> None:
    # Asked of the socket, since names can lie.
    peer = str(sock.getpeername()[0])
    if peer != "::1" and not peer.startswith(("127.", "::ffff:127.")):
        raise ConfigError(
            f"{host} is another machine, and without TLS anybody on the way may"
            f" read the mails; set TLS, or {Tls.IN_THE_CLEAR} if that is meant"
        )


def _connected(settings: ImapSettings, way: Way) -> socket.socket:
    """A socket connected to the first address of the server that answers."""
    failure: OSError = ConnectionError("the server has no address")
    for family, kind, protocol, _, name in socket.getaddrinfo(
        settings.host, settings.port, type=socket.SOCK_STREAM
    ):
        try:
            sock = socket.socket(family, kind, protocol)
        except OSError as error:  # a family that this machine has not
            failure = error
            continue
        try:
            way.hold(sock)
            sock.settimeout(CONNECT_S)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for option, number in _KEEPALIVE:
                if hasattr(socket, option):
                    sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), number)
            sock.connect(name)
            return sock
        except ConnectionAbortedError:
            sock.close()
            raise
        except OSError as error:
            sock.close()
            failure = error
    raise failure


def _set(uids: list[int]) -> str:
    return ",".join(map(str, uids))


def _quoted(text: str) -> str:
    """RFC 3501 §4.3."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _encoded(folder: str) -> str:
    """RFC 3501 §5.1.3."""
    return re.sub(r"[^ -~]+", _shifted, folder.replace("&", "&-"))


def _shifted(match: re.Match[str]) -> str:
    coded = base64.b64encode(match[0].encode("utf-16-be")).rstrip(b"=")
    return f"&{coded.replace(b'/', b',').decode()}-"
