"""Initiators behind proxies: which one is used, what it lets through, what it refuses."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator

import pytest
import trustme
from initiator_kit import (
    Connection,
    RawServer,
    WebServer,
    all_is_said,
    conversation,
    in_mode,
    no_proxies,
    reach,
    serve,
    tls_before,
)
from middleboxes import Squid

from compoint import ComPoint, ConnectError, Phase, PointTimeout, ServerComPoint
from compoint.testing import eventually

SHORT_S = 0.15


@pytest.fixture(autouse=True)
def _direct(monkeypatch: pytest.MonkeyPatch) -> None:
    no_proxies(monkeypatch)


@pytest.fixture
def server() -> Iterator[ServerComPoint]:
    with serve() as server:
        yield server


@pytest.fixture
def nobody() -> int:
    """A port at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        return int(reserved.getsockname()[1])


PORTAL = {"Server": "proxy/1", "Content-Type": "text/html"}


# --- which proxy --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
def test_requests_go_to_the_proxy_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    with WebServer.of(404, PORTAL) as proxy:
        monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        with pytest.raises(ConnectError) as caught:
            reach(80, "/orders", host="shop.invalid")
        assert [target for target, _ in proxy.requests] == ["http://shop.invalid:80/orders"]
        assert caught.value.what == (
            "no ComPoint answered: 404 Not Found from proxy/1, text/html "
            f"(through the proxy 127.0.0.1:{proxy.port})"
        )


@pytest.mark.parametrize("exception", ["127.0.0.1", "shop.example, 127.0.0.0/8", "*"])
def test_no_proxy_is_honoured(
    monkeypatch: pytest.MonkeyPatch, server: ServerComPoint, exception: str
) -> None:
    with WebServer.of(404) as proxy:
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy.port}")
        monkeypatch.setenv("NO_PROXY", exception)
        with reach(server.address.port) as point:
            conversation(point, server)
        assert proxy.requests == []


def test_a_proxy_for_https_is_not_asked_for_http(
    monkeypatch: pytest.MonkeyPatch, server: ServerComPoint
) -> None:
    with WebServer.of(404) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
        with reach(server.address.port) as point:
            conversation(point, server)
        assert proxy.requests == []


# --- what it refuses ----------------------------------------------------------------------------


def test_a_proxy_that_wants_a_password_says_where_to_put_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with WebServer.of(407, {**PORTAL, "Proxy-Authenticate": 'Basic realm="x"'}) as proxy:
        monkeypatch.setenv("HTTP_PROXY", f"http://ann:wrong@127.0.0.1:{proxy.port}")
        with pytest.raises(ConnectError) as caught:
            reach(80, host="shop.invalid")
        error = caught.value
        assert error.what == (
            "the proxy does not know us: 407 Proxy Authentication Required from proxy/1, text/html "
            f"(through the proxy 127.0.0.1:{proxy.port})"
        )
        assert error.phase is Phase.PROXY
        assert "HTTP_PROXY=http://name:password@host:port" in error.hint
        assert "wrong" not in str(error)
        assert len(proxy.requests) == 1


TUNNELS = {
    "a password": (
        b"407 Proxy Authentication Required", "does not know us", "name:password",
    ),
    "a port it does not like": (b"403 Forbidden", "does not let us through", "port 443 only"),
    "a peer it does not reach": (
        b"503 Service Unavailable", "does not let us through", "is the server",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("status", "told", "hint"), TUNNELS.values(), ids=TUNNELS)
def test_a_tunnel_that_is_refused_is_an_error_of_phase_proxy(
    monkeypatch: pytest.MonkeyPatch, status: bytes, told: str, hint: str
) -> None:
    def meet(visitor: Connection) -> None:
        assert visitor.hear_head().startswith(b"CONNECT shop.invalid:443 HTTP/1.")
        visitor.say(b"HTTP/1.1 %b\r\nContent-Length: 0\r\n\r\n" % status)

    with RawServer(meet) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://ann:secret@127.0.0.1:{proxy.port}")
        with pytest.raises(ConnectError) as caught:
            reach(443, host="shop.invalid", protocol="https")
        error = caught.value
        assert error.what == (
            f"the proxy 127.0.0.1:{proxy.port} {told} (Tunnel connection failed: {status.decode()})"
        )
        assert error.phase is Phase.PROXY
        assert hint in error.hint
        assert "secret" not in str(error)
        assert proxy.visits == 1


@pytest.mark.parametrize("protocol", ["http", "https"])
def test_a_proxy_that_is_not_there_is_an_error_of_phase_proxy(
    monkeypatch: pytest.MonkeyPatch, nobody: int, protocol: str
) -> None:
    monkeypatch.setenv("ALL_PROXY", f"http://ann:secret@127.0.0.1:{nobody}")
    with pytest.raises(ConnectError) as caught:
        reach(80, host="shop.invalid", protocol=protocol)
    error = caught.value
    assert error.what == f"the proxy 127.0.0.1:{nobody} was not reached (Connection refused)"
    assert error.phase is Phase.PROXY
    assert "NO_PROXY" in error.hint


def test_a_proxy_whose_host_is_not_known_is_an_error_of_phase_proxy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.invalid:3128")
    with pytest.raises(
        ConnectError, match=r"the proxy proxy\.invalid:3128 was not reached"
    ) as error:
        reach(80, host="127.0.0.1")
    assert error.value.phase is Phase.PROXY


def test_a_proxy_that_closes_at_once_is_asked_again_and_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def meet(visitor: Connection) -> None:
        visitor.hear_head()
        visitor.sock.shutdown(socket.SHUT_RDWR)

    with RawServer(meet) as proxy:
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy.port}")
        told = rf"no answer came \(.*\) \(through the proxy 127\.0\.0\.1:{proxy.port}\), again"
        with pytest.raises(ConnectError, match=told) as caught:
            reach(80, host="shop.invalid", timeout=SHORT_S)
        assert caught.value.phase is Phase.PROXY
        assert proxy.visits > 1


def test_a_proxy_that_says_nothing_is_waited_for_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    with RawServer(lambda _: None) as proxy:
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy.port}")
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
        for protocol in ("http", "https"):
            with pytest.raises((PointTimeout, ConnectError), match=r"the proxy 127\.0\.0\.1"):
                reach(80, host="shop.invalid", timeout=SHORT_S, protocol=protocol)


@pytest.mark.parametrize("url", ["socks5://127.0.0.1:1", "http://", "nonsense://x:1"])
def test_a_proxy_that_cannot_be_used_is_an_error(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("HTTP_PROXY", url)
    with pytest.raises(ConnectError, match="no such request can be made") as caught:
        reach(80, host="shop.invalid", timeout=SHORT_S)
    assert "proxy" in caught.value.hint


# --- through a real one -------------------------------------------------------------------------


def _goes_on(point: ComPoint, responder: ComPoint) -> str:
    """By what its bytes travel now, or soon: finding out takes a moment."""
    point.write("ping")
    assert responder.read(timeout=5) == "ping"
    responder.write("pong")
    assert point.read(timeout=5) == "pong"
    return point.statistics().carrier


def test_a_conversation_through_squid_streams(
    monkeypatch: pytest.MonkeyPatch, server: ServerComPoint
) -> None:
    with Squid({"ann": "p@ss:word"}) as box:
        monkeypatch.setenv("HTTP_PROXY", box.url_of("ann", "p@ss:word"))
        with reach(server.address.port) as point, server.accept(timeout=5) as responder:
            eventually(lambda: _goes_on(point, responder) == "http, streaming")
        all_is_said()


def test_a_conversation_through_squid_polls_where_it_is_told_to(
    monkeypatch: pytest.MonkeyPatch, server: ServerComPoint
) -> None:
    with Squid() as box, in_mode("polling"):
        monkeypatch.setenv("HTTP_PROXY", box.url)
        with reach(server.address.port) as point:
            conversation(point, server)
            assert point.statistics().carrier == "http, polling"
        all_is_said()


def test_squid_does_not_let_in_whom_it_does_not_know(
    monkeypatch: pytest.MonkeyPatch, server: ServerComPoint
) -> None:
    with Squid({"ann": "p@ss:word"}) as box:
        for url in (box.url, box.url_of("ann", "other")):
            monkeypatch.setenv("ALL_PROXY", url)
            for protocol in ("http", "https"):
                with pytest.raises(ConnectError, match="does not know us") as caught:
                    reach(server.address.port, protocol=protocol)
                assert caught.value.phase is Phase.PROXY


def test_a_server_that_squid_does_not_reach_is_named(
    monkeypatch: pytest.MonkeyPatch, nobody: int
) -> None:
    with Squid() as box:
        monkeypatch.setenv("ALL_PROXY", box.url)
        with pytest.raises(ConnectError, match=r"503 .*squid.*ERROR.*again and again"):
            reach(nobody, timeout=SHORT_S)
        with pytest.raises(ConnectError, match="503") as caught:
            reach(nobody, protocol="https")
        assert caught.value.phase is Phase.PROXY


def test_a_conversation_by_https_through_squid_streams(
    monkeypatch: pytest.MonkeyPatch, server: ServerComPoint
) -> None:
    authority = trustme.CA()
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    with (
        authority.cert_pem.tempfile() as ca_file,
        in_mode("streaming", caFile=ca_file),
        Squid({"ann": "p@ss:word"}) as box,
        tls_before(server.address.port, tls) as front,
    ):
        monkeypatch.setenv("HTTPS_PROXY", box.url_of("ann", "p@ss:word"))
        with (
            reach(front.port, protocol="https") as point,
            server.accept(timeout=5) as responder,
        ):
            eventually(lambda: _goes_on(point, responder).startswith("http, stream"))
        all_is_said()
