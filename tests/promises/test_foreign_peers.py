"""Promise 10: peers that speak something else, in both directions.

(twisted/twisted #3478: garbage kept the link open for ever; prpl-tidybot #89 and
infernode-os/infernode #290: a silent client wedges accept; grpc/grpc #28323: an error that
hides that the other side speaks TLS.)
"""

from __future__ import annotations

import datetime as dt
import http.client
import http.server
import random
import shutil
import socket
import ssl
import subprocess
import threading
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Final

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from channel import Channel, ChannelServicePoint
from compoint import (
    COMPOINT_INITIATOR,
    COMPOINT_SERVER,
    ComManager,
    ComPoint,
    ComPointAddress,
    ConnectError,
    Fate,
    FrameError,
    PeerError,
    PointTimeout,
    SessionLostError,
)
from compoint.limits import UNGREETED
from compoint.point import ServerComPoint
from compoint.testing import (
    Background,
    ScriptedPeer,
    ScriptedServer,
    configured,
    eventually,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PATIENCE_S: Final = 5.0
#: What a good client may take at the most beside foreign ones; alone it takes a few ms.
PROMPT_S: Final = 0.25
GREETING_S: Final = 0.3

RANDOM: Final = random.Random(20).randbytes(5000)
SSH: Final = b"SSH-2.0-OpenSSH_9.6\r\n"
HTTP_GET: Final = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


def client_hello() -> bytes:
    """What a TLS client says first."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.create_default_context()
    tls = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


# --- our initiator at the wrong door ----------------------------------------------------------


@pytest.fixture(params=["plain", "channel"])
def reach(request: pytest.FixtureRequest) -> Iterator[Callable[[int], ComPoint]]:
    """Opens an initiator's point at a port."""
    with ExitStack() as stack:

        def open_point(port: int) -> ComPoint:
            address = ComPointAddress("tcp", "127.0.0.1", port)
            point: ComPoint
            if request.param == "plain":
                point = ComManager.com_point(COMPOINT_INITIATOR, address)
            else:
                point = Channel.open_initiator_channel(address, None, "lost")
            stack.callback(point.abort, "the test is over")
            return point

        yield open_point


def _check_told(point: ComPoint, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words) as caught:
        point.read(timeout=PATIENCE_S)
    assert caught.value.fate is Fate.NOT_SENT  # type: ignore[attr-defined]
    assert caught.value.phase == "greeting"  # type: ignore[attr-defined]
    with pytest.raises(kind):
        point.write(b"later", timeout=PATIENCE_S)
    receipt = point.close(timeout=1)
    assert receipt.confirmed == 0


@pytest.mark.parametrize(
    ("says", "words"),
    [
        (SSH, "SSH"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "HTTP"),
        (b'<!DOCTYPE HTML>\n<html lang="en">', "HTTP"),
        (b"\x15\x03\x03\x00\x02\x02\x46", "TLS"),
        (b"220 mail.example.org ESMTP\r\n", "mail"),
        (RANDOM, "no protocol we know"),
        (b"\x93ComPt\n\n" + bytes(100), "line end"),
    ],
    ids=["SSH", "HTTP", "HTML", "TLS", "SMTP", "random bytes", "line ends changed"],
)  # fmt: skip
def test_an_initiator_at_a_foreign_server_is_told_what_speaks_there(
    reach: Callable[[int], ComPoint], says: bytes, words: str
) -> None:
    with ScriptedServer() as server:
        point = reach(server.port)
        point.write(b"hello")
        with server.meet() as peer:
            peer.say(says)
            _check_told(point, FrameError, words)


def test_an_initiator_at_a_server_that_hangs_up_is_told_so(
    reach: Callable[[int], ComPoint],
) -> None:
    with ScriptedServer() as server:
        point = reach(server.port)
        server.meet().hang_up()
        _check_told(point, FrameError, "before its greeting")


def test_an_initiator_at_a_silent_server_is_told_after_the_greeting_timeout(
    reach: Callable[[int], ComPoint],
) -> None:  # RPyC and multiprocessing.connection hang here (measured)
    with configured(compoint={"greetingTimeout": f"{GREETING_S} s"}), ScriptedServer() as server:
        started_at = time.monotonic()
        point = reach(server.port)
        with server.meet():
            _check_told(point, ConnectError, "said nothing")
        assert time.monotonic() - started_at < GREETING_S + PROMPT_S


def test_an_initiator_at_a_real_web_server_is_told_that_it_speaks_http(
    reach: Callable[[int], ComPoint],
) -> None:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments: object) -> None:
            """Not into the output of the tests."""

    with http.server.HTTPServer(("127.0.0.1", 0), Quiet) as server:
        serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        serving.start()
        try:
            point = reach(server.server_address[1])
            with pytest.raises(FrameError, match="HTTP"):
                point.read(timeout=PATIENCE_S)
        finally:
            server.shutdown()
            serving.join()


def test_an_initiator_at_a_real_tls_server_is_told_that_nobody_greeted(
    reach: Callable[[int], ComPoint], tmp_path: Path
) -> None:
    """OpenSSL answers foreign bytes with a reset and no alert: more cannot be known."""
    context = _server_context(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            sock, _ = listener.accept()
            with sock, pytest.raises(ssl.SSLError):
                context.wrap_socket(sock, server_side=True)

        serving = Background(serve)
        point = reach(listener.getsockname()[1])
        _check_told(point, FrameError, "before its greeting")
        serving.result()


def _server_context(folder: Path) -> ssl.SSLContext:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(1).not_valid_before(now).not_valid_after(now + dt.timedelta(1))
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    file = folder / "server.pem"
    file.write_bytes(
        certificate.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context


# --- foreign visitors at our door -------------------------------------------------------------


class Door:
    """A plain server or a service point, seen by its visitors."""

    def __init__(self, kind: str) -> None:
        here = ComPointAddress("tcp", 0)
        self.place: ServerComPoint | ChannelServicePoint
        if kind == "plain":
            self.place = ComManager.com_point(COMPOINT_SERVER, here)
        else:
            self.place = Channel.start_service_point_thread(here)
        self.port = self.place.address.port

    def take(self, timeout: float) -> ComPoint:
        if isinstance(self.place, ServerComPoint):
            return self.place.accept(timeout=timeout)
        return self.place.open_responder_channel(timeout=timeout)

    def check_good_client(self) -> None:
        """A good client is served without delay."""
        address = ComPointAddress("tcp", "127.0.0.1", self.port)
        started_at = time.monotonic()
        initiator: ComPoint
        if isinstance(self.place, ServerComPoint):
            initiator = ComManager.com_point(COMPOINT_INITIATOR, address)
        else:
            initiator = Channel.open_initiator_channel(address, None, "good")
        with initiator:
            initiator.write(b"hello")
            with self.take(PATIENCE_S) as responder:
                assert responder.read(timeout=PATIENCE_S) == b"hello"
                responder.write(b"welcome")
                assert initiator.read(timeout=PATIENCE_S) == b"welcome"
                took_s = time.monotonic() - started_at
        assert took_s < PROMPT_S

    def check_nobody_else(self) -> None:
        """None of the foreign visitors has become a point."""
        with pytest.raises(PointTimeout):
            self.take(0)

    @property
    def foreign(self) -> int:
        return self.place.statistics().foreign

    @property
    def ungreeted(self) -> int:
        return self.place.statistics().ungreeted


@contextmanager
def _door(kind: str) -> Iterator[Door]:
    door = Door(kind)
    with door.place:
        yield door


@pytest.fixture(params=["plain", "channel"])
def door(request: pytest.FixtureRequest) -> Iterator[Door]:
    with _door(request.param) as door:
        yield door


@pytest.mark.parametrize(
    ("says", "answer"),
    [
        (HTTP_GET, b"HTTP/1.1 400"),
        (SSH, b"SSH banner"),
        (client_hello(), b"TLS handshake"),
        (RANDOM, b"no protocol we know"),
        (b"\x93ComPt\r\n\x01\x01\x01\x00\xff\xff\xff\xff", b"4294967295 bytes"),
        (b"\x93ComPt\r\n\x09\x08\x01\x00\x00\x00\x00\x00", b"versions 8 to 9"),
    ],
    ids=["HTTP", "SSH", "TLS", "random bytes", "a greeting of 4 GiB", "later versions"],
)
def test_a_foreign_visitor_is_answered_and_sent_away(
    door: Door, says: bytes, answer: bytes
) -> None:
    with ScriptedPeer.visit(door.port) as visitor:
        visitor.say(says)
        assert answer in visitor.hear_all()
    eventually(lambda: door.foreign == 1)
    door.check_nobody_else()
    door.check_good_client()


@pytest.mark.parametrize("kind", ["plain", "channel"])
def test_silent_visitors_delay_nobody_and_are_sent_away(kind: str) -> None:
    with (
        configured(compoint={"greetingTimeout": f"{GREETING_S} s"}),
        _door(kind) as door,
        ExitStack() as stack,
    ):
        visitors = [stack.enter_context(ScriptedPeer.visit(door.port)) for _ in range(100)]
        eventually(lambda: door.ungreeted == 100)
        door.check_good_client()
        door.check_nobody_else()
        eventually(lambda: door.ungreeted == 0, GREETING_S + 1)
        for visitor in visitors:
            assert b"no greeting within" in visitor.hear_all()


def test_beyond_the_bound_of_silent_visitors_the_next_is_closed_at_once() -> None:
    with _door("plain") as door, ExitStack() as stack:
        for _ in range(UNGREETED):
            stack.enter_context(ScriptedPeer.visit(door.port))
        eventually(lambda: door.ungreeted == UNGREETED)
        late = stack.enter_context(ScriptedPeer.visit(door.port))
        assert late.hear_all() == b""
        assert door.place.statistics().refused == 1


def test_a_visitor_that_greets_byte_by_byte_is_welcome() -> None:
    with (
        _door("plain") as door,
        ScriptedPeer.visit(door.port) as visitor,
        ScriptedServer() as paper,
        ScriptedPeer.visit(paper.port) as pen,
        paper.meet() as copy,
    ):
        pen.greet()
        pen.hang_up()
        for byte in copy.hear_all():
            visitor.say(bytes([byte]))
        with door.take(PATIENCE_S) as point:
            assert visitor.hear_greeting()
            visitor.hang_up()
            with pytest.raises(SessionLostError, match="no goodbye"):
                point.read(timeout=PATIENCE_S)


@pytest.mark.parametrize("count", [0, 1, 8, 15, 30])
def test_a_visitor_that_leaves_in_the_middle_of_its_greeting_is_forgotten(
    door: Door, count: int
) -> None:
    with ScriptedServer() as paper, ScriptedPeer.visit(paper.port) as pen, paper.meet() as copy:
        pen.greet()
        greeting = copy.hear(count)
    with ScriptedPeer.visit(door.port) as visitor:
        visitor.say(greeting)
    eventually(lambda: door.ungreeted == 0)
    door.check_nobody_else()
    door.check_good_client()


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl_is_told_that_this_is_no_web_server(door: Door) -> None:
    curl = subprocess.run(
        ["curl", "-sS", "--max-time", "5", "-i", f"http://127.0.0.1:{door.port}/"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert curl.returncode == 0, curl.stderr
    assert "400" in curl.stdout
    assert "not HTTP" in curl.stdout
    door.check_nobody_else()
    door.check_good_client()


def test_a_real_http_client_is_told_that_this_is_no_web_server(door: Door) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", door.port, timeout=5)
    connection.request("POST", "/", body=b"x" * 1000)
    answer = connection.getresponse()
    assert answer.status == 400
    assert b"not HTTP" in answer.read()
    connection.close()
    door.check_nobody_else()


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_openssl_s_client_fails_at_once(door: Door) -> None:
    openssl = subprocess.run(
        ["openssl", "s_client", "-connect", f"127.0.0.1:{door.port}"],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=10,
    )  # fmt: skip
    assert openssl.returncode != 0
    eventually(lambda: door.foreign == 1)
    door.check_nobody_else()
    door.check_good_client()


def test_many_foreign_visitors_at_once_do_not_delay_a_good_client(door: Door) -> None:
    with ExitStack() as stack:
        for number in range(60):
            visitor = stack.enter_context(ScriptedPeer.visit(door.port))
            visitor.say((b"", HTTP_GET, SSH, RANDOM)[number % 4])
        door.check_good_client()
        eventually(lambda: door.foreign == 45)
        door.check_nobody_else()


def test_a_point_timeout_of_accept_mentions_foreign_visitors() -> None:
    # data61/MP-SPDZ #875
    with _door("plain") as door:
        with ScriptedPeer.visit(door.port) as visitor:
            visitor.say(SSH)
            visitor.hear_all()
        eventually(lambda: door.foreign == 1)
        with pytest.raises(PointTimeout, match="something else"):
            door.take(0.01)


def test_every_foreign_error_is_the_peers_or_the_worlds_fault() -> None:
    assert issubclass(FrameError, PeerError)
    assert issubclass(ConnectError, ConnectionError)
