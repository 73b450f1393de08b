"""The middleboxes of these tests are what they claim to be, and leave nothing behind."""

from __future__ import annotations

import os
import socket
import ssl
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Final

import pytest
import requests
import trustme

from compoint.testing import Background

sys.path.insert(0, str(Path(__file__).resolve().parent))

from middleboxes import HAProxy, Middlebox, Nginx, ReservedPort, Squid

PATIENCE_S: Final = 10
#: Shorter than any idle limit that nobody has shrunk.
SOON_S: Final = 5


class Upstream(ThreadingHTTPServer):
    """An ordinary server; it answers a POST with its body and with its session header."""

    daemon_threads = False

    def __init__(self, port: int) -> None:
        #: What /park and /stream wait for.
        self.go_on = threading.Event()
        super().__init__(("127.0.0.1", port), _Handler)


class _Handler(BaseHTTPRequestHandler):
    server: Upstream

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/park":
            self.server.go_on.wait(PATIENCE_S)
        self.send_response(200)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("ComPoint-Session", self.headers.get("ComPoint-Session", "none"))
        self.send_header("X-Accel-Buffering", "no")
        self.end_headers()
        self.wfile.write(body)
        if self.path == "/stream":
            self.server.go_on.wait(PATIENCE_S)
            with suppress(ConnectionError):
                self.wfile.write(b" and the rest")

    def log_message(self, *_: object) -> None:
        """Tests print nothing."""


@contextmanager
def serving(tls: ssl.SSLContext | None = None) -> Iterator[Upstream]:
    with ReservedPort() as port, Upstream(port.number) as upstream:
        if tls is not None:
            upstream.socket = tls.wrap_socket(upstream.socket, server_side=True)
        thread = threading.Thread(target=upstream.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield upstream
        finally:
            upstream.go_on.set()
            upstream.shutdown()
            thread.join()


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with serving() as upstream:
        yield upstream


def post(url: str, proxy: str = "", **options: object) -> requests.Response:
    # The empty NO_PROXY of a caller's environment must not decide whether a proxy is used.
    with requests.Session() as session:
        session.trust_env = False
        if proxy:
            session.proxies = {"http": proxy, "https": proxy}
        return session.post(
            url, data=b"hello", headers={"ComPoint-Session": "s-1"}, timeout=PATIENCE_S, **options
        )  # fmt: skip


BEFORE_A_SERVER: Final = {"nginx": Nginx, "deaf nginx": Nginx.deaf, "haproxy": HAProxy}


@pytest.mark.parametrize("box", BEFORE_A_SERVER.values(), ids=BEFORE_A_SERVER)
def test_a_box_before_a_server_passes_a_post_and_its_answer(
    upstream: Upstream, box: Callable[[int], Middlebox]
) -> None:
    with box(upstream.server_port) as running:
        answer = post(running.url)
    assert (answer.status_code, answer.content) == (200, b"hello")
    assert answer.headers["ComPoint-Session"] == "s-1"


def test_squid_passes_a_post_and_its_answer(upstream: Upstream) -> None:
    with Squid() as box:
        answer = post(f"http://127.0.0.1:{upstream.server_port}/", box.url)
    assert (answer.status_code, answer.content) == (200, b"hello")
    assert answer.headers["ComPoint-Session"] == "s-1"
    assert "squid" in answer.headers["Via"]


def test_squid_passes_tls_to_any_port(tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    with serving(tls) as upstream, Squid() as box:
        url = f"https://127.0.0.1:{upstream.server_port}/"
        answer = post(url, box.url, verify=str(tmp_path / "ca.pem"))
    assert (answer.status_code, answer.content) == (200, b"hello")
    assert "Via" not in answer.headers


def test_squid_with_accounts_lets_in_only_who_is_known(upstream: Upstream) -> None:
    url = f"http://127.0.0.1:{upstream.server_port}/"
    with Squid({"ann": "p@ss:word"}) as box:
        proofs = (box.url_of("ann", "p@ss:word"), box.url_of("ann", "other"), box.url)
        seen = [post(url, proof).status_code for proof in proofs]
    assert seen == [200, 407, 407]


def test_two_squids_run_side_by_side(upstream: Upstream) -> None:
    url = f"http://127.0.0.1:{upstream.server_port}/"
    with Squid() as first, Squid() as second:
        assert [post(url, box.url).status_code for box in (first, second)] == [200, 200]
        assert first._service != second._service
    assert not list(Path("/dev/shm").glob(f"{first._service}-*"))


def test_nginx_passes_a_streamed_answer_at_once_when_the_server_asks(upstream: Upstream) -> None:
    with Nginx(upstream.server_port) as box:
        answer = post(box.url + "/stream", stream=True)
        assert answer.raw.read1() == b"hello"
        upstream.go_on.set()
        assert answer.raw.read() == b" and the rest"


def test_a_deaf_nginx_holds_a_streamed_answer_back(upstream: Upstream) -> None:
    with Nginx.deaf(upstream.server_port) as box:
        # Not even the head of the answer comes.
        asking = Background(post, box.url + "/stream", stream=True).blocked()
        upstream.go_on.set()
        assert asking.result().content == b"hello and the rest"


def hasty_nginx(upstream: int) -> Nginx:
    return Nginx(upstream, "proxy_read_timeout 200ms;")


def hasty_haproxy(upstream: int) -> HAProxy:
    return HAProxy(upstream, idle_s=0.2)


@pytest.mark.parametrize("box", [hasty_nginx, hasty_haproxy])
def test_the_idle_limit_answers_a_parked_request(
    upstream: Upstream, box: Callable[[int], Middlebox]
) -> None:
    with box(upstream.server_port) as running:
        asking = Background(post, running.url + "/park")
        assert asking.result(within_s=SOON_S).status_code == 504


def test_the_idle_limit_cuts_a_silent_stream_of_nginx(upstream: Upstream) -> None:
    with hasty_nginx(upstream.server_port) as box:
        asking = Background(post, box.url + "/stream")
        assert isinstance(asking.error(within_s=SOON_S), requests.exceptions.ChunkedEncodingError)


def test_where_the_end_of_the_connection_ends_an_answer_a_cut_looks_like_its_end(
    upstream: Upstream,
) -> None:
    with hasty_haproxy(upstream.server_port) as box:
        asking = Background(post, box.url + "/stream")
        assert asking.result(within_s=SOON_S).content == b"hello"


def children() -> set[int]:
    """The processes whose parent we are."""
    return {int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()}


@pytest.mark.parametrize(
    "box", [Nginx, HAProxy, lambda _: Squid()], ids=["nginx", "haproxy", "squid"]
)
def test_a_box_that_stopped_is_gone(box: Callable[[int], Middlebox]) -> None:
    before = children()
    with ReservedPort() as nowhere, box(nowhere.number) as running:
        folder = running._folder
        (process,) = children() - before
    with socket.socket() as knock:
        assert knock.connect_ex(("127.0.0.1", running.port)) != 0
    with pytest.raises(ProcessLookupError):
        os.killpg(process, 0)
    assert not folder.exists()


def test_a_box_that_does_not_start_says_why() -> None:
    with ReservedPort() as nowhere, pytest.raises(AssertionError, match='directive "nonsense"'):
        Nginx(nowhere.number, "nonsense;").__enter__()


def test_a_program_that_is_not_installed_skips_and_names_its_package() -> None:
    class Absent(Squid):
        program = "squid-of-another-machine"

    with pytest.raises(pytest.skip.Exception, match="Debian package: squid"):
        Absent().__enter__()


def test_a_reserved_port_is_refused_to_others() -> None:
    with ReservedPort() as port, socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind(("127.0.0.1", port.number))
    with socket.socket() as other:
        other.bind(("127.0.0.1", port.number))


def test_on_a_reserved_port_one_server_after_the_other_may_listen() -> None:
    with ReservedPort() as port:
        for _ in range(2):
            with Upstream(port.number):
                socket.create_connection(("127.0.0.1", port.number)).close()
            with socket.socket() as knock:
                assert knock.connect_ex(("127.0.0.1", port.number)) != 0
