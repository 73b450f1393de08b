"""Initiators by https: whom they trust, and what they say of whom they do not."""

from __future__ import annotations

import contextlib
import datetime
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme
from initiator_kit import (
    Connection,
    RawServer,
    all_is_said,
    conversation,
    in_mode,
    no_proxies,
    reach,
    serve,
    tls_before,
)

from compoint import AddressError, ConnectError, Fate, Phase, PointTimeout, ServerComPoint
from compoint.testing import configured

SHORT_S = 0.15


@pytest.fixture(autouse=True)
def _direct(monkeypatch: pytest.MonkeyPatch) -> None:
    no_proxies(monkeypatch)


@pytest.fixture
def server() -> Iterator[ServerComPoint]:
    with serve() as server:
        yield server


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> str:
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return str(path)


@pytest.fixture
def other_ca_file(tmp_path: Path) -> str:
    path = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(str(path))
    return str(path)


def _tls(
    authority: trustme.CA, *names: str, not_after: datetime.datetime | None = None
) -> ssl.SSLContext:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names or ("127.0.0.1",), not_after=not_after).configure_cert(tls)
    return tls


@contextlib.contextmanager
def _front(server: ServerComPoint, tls: ssl.SSLContext) -> Iterator[int]:
    with tls_before(server.address.port, tls) as front:
        yield front.port
        all_is_said()


def _refused(port: int) -> ConnectError:
    with pytest.raises(ConnectError) as caught:
        reach(port, protocol="https")
    error = caught.value
    assert (error.phase, error.fate) == (Phase.TLS, Fate.NOT_SENT)
    return error


# --- trust --------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["streaming", "polling"])
def test_the_authority_of_cafile_is_trusted(
    authority: trustme.CA, ca_file: str, server: ServerComPoint, mode: str
) -> None:
    with (
        in_mode(mode, caFile=ca_file),
        _front(server, _tls(authority)) as port,
        reach(port, protocol="https") as point,
    ):
        conversation(point, server)


@pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_the_authority_of_the_environment_is_trusted(
    authority: trustme.CA, ca_file: str, server: ServerComPoint, name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv(name, ca_file)
    with _front(server, _tls(authority)) as port, reach(port, protocol="https") as point:
        conversation(point, server)


def test_cafile_wins_over_the_environment(
    authority: trustme.CA, ca_file: str, other_ca_file: str, server: ServerComPoint,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    with _front(server, _tls(authority)) as port:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", ca_file)
        with configured(http={"caFile": other_ca_file}):
            _refused(port)
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", other_ca_file)
        with configured(http={"caFile": ca_file}), reach(port, protocol="https") as point:
            conversation(point, server)


def test_an_unknown_authority_is_an_error_that_names_the_setting(
    authority: trustme.CA, server: ServerComPoint
) -> None:
    with _front(server, _tls(authority)) as port:
        error = _refused(port)
    assert error.what == (
        "the certificate is not to be trusted (unable to get local issuer certificate)"
    )
    assert "caFile" in error.hint
    assert "REQUESTS_CA_BUNDLE" in error.hint


def test_a_certificate_of_another_host_is_an_error_that_says_so(
    authority: trustme.CA, ca_file: str, server: ServerComPoint
) -> None:
    with (
        configured(http={"caFile": ca_file}),
        _front(server, _tls(authority, "shop.example")) as port,
    ):
        error = _refused(port)
    assert error.what == (
        "the certificate is not to be trusted (IP address mismatch, certificate is not valid for "
        "'127.0.0.1')"
    )
    assert "does the address name the host as the certificate does?" in error.hint


def test_a_certificate_that_has_expired_is_an_error_that_says_so(
    authority: trustme.CA, ca_file: str, server: ServerComPoint
) -> None:
    long_ago = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    with (
        configured(http={"caFile": ca_file}),
        _front(server, _tls(authority, not_after=long_ago)) as port,
    ):
        error = _refused(port)
    assert error.what == "the certificate is not to be trusted (certificate has expired)"
    assert "renew" in error.hint


def test_authorities_that_cannot_be_read_are_an_error_of_phase_tls(
    server: ServerComPoint, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "absent.pem"))
    error = _refused(server.address.port)
    assert "absent.pem" in error.what
    assert "REQUESTS_CA_BUNDLE" in error.hint


def test_authorities_that_are_none_are_an_error_of_phase_tls(
    server: ServerComPoint, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "ca.pem").write_text("nonsense")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "ca.pem"))
    error = _refused(server.address.port)
    assert "REQUESTS_CA_BUNDLE" in error.hint


def test_a_server_that_asks_for_a_certificate_is_an_error_of_phase_tls(
    authority: trustme.CA, ca_file: str, server: ServerComPoint
) -> None:
    tls = _tls(authority)
    tls.maximum_version = ssl.TLSVersion.TLSv1_2
    tls.verify_mode = ssl.CERT_REQUIRED
    tls.load_verify_locations(ca_file)
    with configured(http={"caFile": ca_file}), _front(server, tls) as port:
        error = _refused(port)
    assert "certificate of ours" in error.hint


# --- who does not speak TLS, or does where it should not ----------------------------------------


def test_https_to_a_server_that_speaks_http_says_so(server: ServerComPoint) -> None:
    error = _refused(server.address.port)
    assert error.what.startswith("no TLS with the peer (")
    assert "https" in error.hint


def test_http_to_a_server_that_speaks_https_says_so(
    authority: trustme.CA, server: ServerComPoint
) -> None:
    with _front(server, _tls(authority)) as port, pytest.raises(ConnectError) as caught:
        reach(port, timeout=SHORT_S)
    assert caught.value.phase is Phase.GREETING


def test_who_says_nothing_in_the_handshake_is_waited_for_in_time() -> None:
    with RawServer(lambda _: None) as silent:
        with pytest.raises((PointTimeout, ConnectError)) as caught:
            reach(silent.port, protocol="https", timeout=SHORT_S)
        assert caught.value.elapsed_s is not None
        assert caught.value.elapsed_s < SHORT_S + 1
        assert caught.value.hint


def test_who_closes_in_the_handshake_is_asked_again_and_named() -> None:
    def meet(visitor: Connection) -> None:
        visitor.sock.recv(1)
        visitor.sock.shutdown(socket.SHUT_RDWR)

    with RawServer(meet) as server:
        with pytest.raises(ConnectError, match="again and again"):
            reach(server.port, protocol="https", timeout=SHORT_S)
        assert server.visits > 1


def test_no_server_can_be_opened_for_https() -> None:
    from compoint import COMPOINT_SERVER, ComManager, ComPointAddress

    with pytest.raises(AddressError, match="no server can be opened for https"):
        ComManager.com_point(COMPOINT_SERVER, ComPointAddress("https", 0))
