"""One SMTP connection to the mail server, from opening to the answer to a mail.

The commands and their grammar are smtplib's; here is decided what an answer means for the
mail. `smtplib.sendmail` is not used: it cannot say whether a connection ended before the final
dot or after it, copies a large mail several times, and leaves a connection open after a 421.
"""

from __future__ import annotations

import dataclasses
import enum
import ipaddress
import smtplib
import socket
import ssl
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from compoint.deadline import clock
from compoint.errors import ConfigError
from compoint.limits import CONNECT_S, KIB
from mail._mime import Mail
from mail._outcome import Outcome, Step, Verdict, judged, one_line, status_in
from mail._password import Password

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

__all__ = ["Connection", "SubmissionSettings", "Tls"]

#: How long a server may take for each answer, to its end, and each piece of the mail.
ANSWER_S: Final = 60.0
#: The same for the answer to the final dot: servers scan before they take (RFC 5321 §4.5.3.2.6).
END_S: Final = 600.0
#: How long the server's goodbye is waited for.
QUIT_S: Final = 2.0
#: What one answer may hold, all its lines together: those to EHLO have about twenty.
ANSWER_BYTES: Final = 64 * KIB


class Tls(enum.StrEnum):
    """How the connection is secured. Certificates are always checked."""

    STARTTLS = "starttls"  # port 587
    IMPLICIT = "tls"  # port 465
    NONE = "none"  # to this machine only
    IN_THE_CLEAR = "in-the-clear"  # anybody on the way may read all, the password too


@dataclass(frozen=True, slots=True)
class SubmissionSettings:
    """Which server takes our mails, and how we speak to it."""

    host: str
    port: int = 587
    tls: Tls = Tls.STARTTLS
    #: "": without a login.
    user: str = ""
    password: Password = field(default_factory=Password)
    #: The password is an OAuth access token, as Gmail and Microsoft ask for.
    is_token: bool = False
    #: The authorities that the server's certificate is checked against; "": the system's.
    ca_file: str = ""
    #: What we call ourselves in EHLO. Given, since finding a name may wait for a name server.
    local_name: str = "[127.0.0.1]"
    answer_s: float = ANSWER_S
    end_s: float = END_S


class Connection:
    """Opened by the first `hand_over`; over after anything but ACCEPTED.

    One thread hands over and closes; another may only `cut`.
    """

    def __init__(self, settings: SubmissionSettings) -> None:
        self._settings = settings
        self._smtp: _Smtp | None = None
        self._step = Step.CONNECT
        self._is_cut = False
        #: The largest mail the server takes, as it says; 0: it names no limit.
        self.size_limit = 0

    @property
    def is_open(self) -> bool:
        return self._smtp is not None

    def hand_over(self, mail: Mail, sender: str, recipient: str, envelope_id: str) -> Outcome:
        """Open the connection if it is not, hand over one mail, and return what came of it."""
        try:
            return self._handed_over(self._opened(), mail, sender, recipient, envelope_id)
        except _Answered as answer:
            outcome = answer.outcome
        except (OSError, ValueError) as error:  # smtplib's and ssl's are OSErrors
            outcome = self._broken(error)
        self.close()
        return outcome

    def cut(self) -> None:
        """End the connection under the thread that uses it, which sees it break."""
        self._is_cut = True
        smtp = self._smtp
        sock = None if smtp is None else smtp.sock
        if sock is not None:
            with suppress(OSError):
                # That of the plain socket: an SSLSocket's would forget its encryption first.
                socket.socket.shutdown(sock, socket.SHUT_RDWR)

    def close(self) -> None:
        smtp, self._smtp = self._smtp, None
        if smtp is not None:
            smtp.close()

    def say_goodbye(self) -> None:
        """Close in good order; waits for the server's answer, at most QUIT_S."""
        smtp = self._smtp
        if smtp is not None:
            with suppress(OSError, ValueError):
                smtp.answer_s = QUIT_S
                smtp.quit()
        self.close()

    # --- opening ------------------------------------------------------------------------

    def _opened(self) -> _Smtp:
        if self._smtp is not None:
            return self._smtp
        settings = self._settings
        context = None
        if settings.tls in {Tls.STARTTLS, Tls.IMPLICIT}:
            self._step = Step.TLS
            context = ssl.create_default_context(cafile=settings.ca_file or None)
        self._step = Step.CONNECT
        sock = socket.create_connection(
            (settings.host, settings.port), min(CONNECT_S, settings.answer_s)
        )
        # Kept before anything is said, so that it can be cut and is closed in any case.
        self._smtp = smtp = _Smtp(sock, settings)
        if self._is_cut:
            raise ConnectionAbortedError("closed meanwhile")
        sock.settimeout(settings.answer_s)
        # The end of a mail must not wait for the acknowledgement of its beginning.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if settings.tls is Tls.NONE and not _is_loopback(sock):
            raise ConfigError(
                f"{settings.host} is another machine, and without TLS anybody on the way may"
                f" read the mails; set TLS, or {Tls.IN_THE_CLEAR} if that is meant"
            )
        if context is not None and settings.tls is Tls.IMPLICIT:
            self._step = Step.TLS
            smtp.sock = context.wrap_socket(sock, server_hostname=settings.host)
            self._step = Step.CONNECT
        self._expect(*smtp.getreply(), 220)
        smtp.ehlo_or_helo_if_needed()
        if context is not None and settings.tls is Tls.STARTTLS:
            self._step = Step.TLS
            if not smtp.has_extn("starttls"):
                # Never without: an attacker on the way can take the offer out.
                raise ConfigError(f"{settings.host} does not offer STARTTLS")
            smtp.starttls(context=context)
            self._step = Step.CONNECT
            smtp.ehlo_or_helo_if_needed()
        if settings.user:
            self._step = Step.LOGIN
            self._log_in(smtp)
        size = smtp.esmtp_features.get("size", "")
        self.size_limit = int(size) if size.isascii() and size.isdigit() else 0
        return smtp

    def _log_in(self, smtp: _Smtp) -> None:
        """Log in by the first way that both know, once.

        smtplib's `login` tries a wrong password by every way on offer, and servers lock
        accounts for that.
        """
        settings = self._settings
        offered = smtp.esmtp_features.get("auth", "").upper().split()
        ways = ("XOAUTH2",) if settings.is_token else ("PLAIN", "LOGIN", "CRAM-MD5")
        way = next((one for one in ways if one in offered), "")
        if not way:
            raise ConfigError(
                f"{settings.host} offers no login by {' or '.join(ways)},"
                f" but {' '.join(offered) or 'none at all'}"
            )
        if not settings.user.isascii():
            raise ConfigError("the user's name is not ASCII, which SMTP cannot carry")
        smtp.user, smtp.password = settings.user, settings.password.read()
        try:
            match way:
                case "PLAIN":
                    smtp.auth(way, smtp.auth_plain)
                case "LOGIN":
                    smtp.auth(way, smtp.auth_login)
                case "CRAM-MD5":
                    smtp.auth(way, smtp.auth_cram_md5)
                case _:
                    # A challenge is then the server's error; nothing is the answer to it.
                    token = f"user={smtp.user}\1auth=Bearer {smtp.password}\1\1"
                    smtp.auth(way, lambda challenge=None: "" if challenge else token)
        finally:
            smtp.password = ""

    # --- one mail -----------------------------------------------------------------------

    def _handed_over(
        self, smtp: _Smtp, mail: Mail, sender: str, recipient: str, envelope_id: str
    ) -> Outcome:
        self._step = Step.SENDER
        size = mail.size
        if 0 < self.size_limit < size:
            text = f"the mail has {size} bytes and the server takes {self.size_limit}"
            return Outcome(Verdict.FINAL, Step.SENDER, 552, "5.3.4", text)
        # Not by smtplib's `mail` and `rcpt`, which take each address apart for a display name.
        options = [f"SIZE={size}"] if smtp.has_extn("size") else []
        reports = smtp.has_extn("dsn")
        if reports:
            options.append("RET=HDRS")
            if envelope_id:
                options.append(f"ENVID={''.join(_xtext(envelope_id))}")
        self._expect(*smtp.docmd("MAIL", " ".join([f"FROM:<{sender}>", *options])), 250)
        self._step = Step.RECIPIENT
        notify = " NOTIFY=FAILURE" if reports else ""
        self._expect(*smtp.docmd("RCPT", f"TO:<{recipient}>{notify}"), 250, 251)
        self._step = Step.CONTENT
        self._expect(*smtp.docmd("DATA"), 354)
        last = b""
        for piece in mail.pieces():
            if last:
                smtp.send(last)
            last = piece
        # From here on the server may have it all.
        self._step = Step.END
        smtp.send(last + b".\r\n")
        smtp.answer_s = self._settings.end_s
        code, answer = smtp.getreply()
        self._expect(code, answer, 250)
        smtp.answer_s = self._settings.answer_s
        said = answer.decode("utf-8", "replace")
        return Outcome(Verdict.ACCEPTED, Step.END, code, status_in(said[:16]), one_line(said))

    def _expect(self, code: int, answer: bytes, *hoped: int) -> None:
        if code in hoped:
            return
        outcome = judged(self._step, code, answer)
        if self._step is Step.END and not 400 <= code <= 599:
            outcome = _ambiguous(outcome)
        raise _Answered(outcome)

    def _broken(self, error: OSError | ValueError) -> Outcome:
        """The outcome of a step that ended in an exception instead of an answer."""
        server = f"{self._settings.host}:{self._settings.port}"
        verdict, step, text = Verdict.FINAL, self._step, str(error)
        match error:
            case smtplib.SMTPHeloError() | smtplib.SMTPAuthenticationError():
                return judged(step, error.smtp_code, error.smtp_error)
            case smtplib.SMTPResponseException() if step is Step.TLS:  # to STARTTLS
                return judged(step, error.smtp_code, error.smtp_error)
            case ConfigError():
                pass
            case ssl.SSLCertVerificationError():
                text = f"the certificate of {server} was refused: {error.verify_message}"
            case ssl.SSLError() if step is Step.TLS:
                text = f"no TLS with {server} ({error.reason or error}); is it the right port?"
            case FileNotFoundError() | PermissionError() if step is Step.TLS:
                text = f"the file of authorities {self._settings.ca_file}: {error.strerror}"
            case _:
                verdict = Verdict.RETRY
                text = f"{server}: {error}"
        # A server that does not come to an end is no mail's fault; one that is silent may
        # be asking elsewhere about the recipient.
        is_endless = isinstance(error, _EndlessError)
        outcome = Outcome(verdict, step, text=one_line(text), meets_all=is_endless)
        return _ambiguous(outcome) if step is Step.END else outcome


class _Answered(Exception):
    """The server's answer ends the attempt."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome)
        self.outcome = outcome


class _EndlessError(ValueError):
    """The server's answer does not come to an end, in time or in bytes."""


class _Smtp(smtplib.SMTP):
    """smtplib on a socket that is connected already, each answer bounded in time and bytes."""

    sock: socket.socket  # or None when it is closed, which nobody asks once we have closed it
    user: str
    password: str

    def __init__(self, sock: socket.socket, settings: SubmissionSettings) -> None:
        self._connected = sock
        #: How long the whole of the next answer may take, and each piece of a mail.
        self.answer_s = settings.answer_s
        # The host is what STARTTLS checks the certificate for.
        super().__init__(settings.host, settings.port, local_hostname=settings.local_name)

    def connect(
        self, host: str = "", port: int = 0, source_address: object = None
    ) -> tuple[int, bytes]:
        # The greeting is read later, where a silent server can be left.
        self.sock = self._connected
        return 220, b""

    def getreply(self) -> tuple[int, bytes]:
        # STARTTLS and `close` put it away, and what was said too early with it.
        if self.file is None:
            self.file = _Answers(self.sock)
        self.file.begin(self.answer_s)
        reply = super().getreply()
        # For the TLS greeting, which may come next.
        self.sock.settimeout(self.answer_s)
        return reply

    def send(self, s: ReadableBuffer | str) -> None:
        # An SSLSocket's `sendall` has the time anew for each of its records.
        data = memoryview(s.encode(self.command_encoding) if isinstance(s, str) else s)
        until = clock() + self.answer_s
        while data:
            self.sock.settimeout(_left_s(until))
            data = data[self.sock.send(data) :]


class _Answers:
    """The server's side of the connection, as the file that smtplib reads its lines from."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._input = bytearray()

    def begin(self, time_s: float) -> None:
        """What the next answer may cost."""
        self._time_s = time_s
        self._until = clock() + time_s
        self._left_bytes = ANSWER_BYTES

    def readline(self, size: int) -> bytes:
        """The next line, shorter than `size`; or what there is of it when nothing follows."""
        size = min(size, self._left_bytes)
        while not (end := self._input.find(b"\n", 0, size) + 1):
            if len(self._input) >= size:
                raise _EndlessError("the server does not come to the end of its answer")
            if not self._fill():
                end = len(self._input)
                break
        line = bytes(self._input[:end])
        del self._input[:end]
        self._left_bytes -= end
        return line

    def _fill(self) -> bool:
        try:
            self._sock.settimeout(_left_s(self._until))
            piece = self._sock.recv(ANSWER_BYTES)
        except TimeoutError:
            if self._input or self._left_bytes < ANSWER_BYTES:
                raise _EndlessError(
                    f"the server did not end its answer within {self._time_s:g} s"
                ) from None
            raise TimeoutError("timed out") from None
        self._input += piece
        return bool(piece)

    def close(self) -> None:
        """The socket is closed by itself."""


def _left_s(until: float) -> float:
    left_s = until - clock()
    if left_s <= 0:
        raise TimeoutError("timed out")
    return left_s


def _ambiguous(outcome: Outcome) -> Outcome:
    return dataclasses.replace(outcome, verdict=Verdict.AMBIGUOUS)


def _is_loopback(sock: socket.socket) -> bool:
    """Whether the other end is this machine; asked of the socket, since names can lie."""
    ip = ipaddress.ip_address(sock.getpeername()[0].partition("%")[0])
    mapped = getattr(ip, "ipv4_mapped", None)
    return bool((mapped or ip).is_loopback)


def _xtext(text: str) -> Iterator[str]:
    """RFC 3461 §4."""
    for byte in text.encode():
        yield chr(byte) if 33 <= byte <= 126 and byte not in b"+=" else f"+{byte:02X}"
