"""Sessions of `requests`: what is sent by ours, what by one of the user's."""

from __future__ import annotations

import base64
import hashlib
import math
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import requests
import requests.adapters
import requests.auth
from initiator_kit import (
    MODES,
    PATIENCE_S,
    WebServer,
    all_is_said,
    conversation,
    in_mode,
    no_proxies,
    reach,
    serve,
)
from initiator_relay import Relay, Visit

from compoint import ConnectError, ServerComPoint
from compoint.http import use_session
from compoint.testing import Background


@pytest.fixture(autouse=True)
def _direct(monkeypatch: pytest.MonkeyPatch) -> None:
    no_proxies(monkeypatch)


@pytest.fixture
def server() -> Iterator[ServerComPoint]:
    with serve() as server:
        yield server


@pytest.fixture
def session() -> Iterator[requests.Session]:
    """A Session of the user's, in use."""
    with requests.Session() as session:
        use_session(session)
        try:
            yield session
            all_is_said()
        finally:
            use_session(None)


@pytest.fixture(params=MODES)
def mode(request: pytest.FixtureRequest) -> Iterator[str]:
    with in_mode(request.param):
        yield request.param


def _speak(relay: Relay, server: ServerComPoint, count: int = 5) -> None:
    """A conversation with some requests of each kind."""
    point = reach(relay.port)
    with point, server.accept(timeout=PATIENCE_S) as responder:
        for number in range(count):
            point.write(number)
            assert responder.read(timeout=PATIENCE_S) == number
            responder.write(number)
            assert point.read(timeout=PATIENCE_S) == number


class Headers:
    """Notes the headers of the requests that pass a relay."""

    def __init__(self) -> None:
        self.seen: list[dict[str, str]] = []
        self.lock = threading.Lock()

    def __call__(self, visit: Visit) -> None:
        with self.lock:
            self.seen.append({name.lower(): value for name, value in visit.headers.items()})
        visit.pass_on()

    def values(self, name: str) -> set[str]:
        return {headers.get(name, "absent") for headers in self.seen}


# --- a Session of the user's ----------------------------------------------------------------------


def test_the_headers_of_a_users_session_are_sent_with_every_request(
    mode: str, server: ServerComPoint, session: requests.Session
) -> None:
    session.headers["X-Tenant"] = "blue"
    with Relay(server.address.port, headers := Headers()) as relay:
        _speak(relay, server)
        all_is_said()
    assert headers.values("x-tenant") == {"blue"}
    assert headers.values("content-type") == {"application/vnd.compoint.turns"}


def test_the_authentication_of_a_users_session_is_sent_with_every_request(
    mode: str, server: ServerComPoint, session: requests.Session
) -> None:
    session.auth = ("ann", "secret")
    with Relay(server.address.port, headers := Headers()) as relay:
        _speak(relay, server)
        all_is_said()
    assert headers.values("authorization") == {"Basic " + base64.b64encode(b"ann:secret").decode()}


def test_authentication_that_signs_sees_the_request_as_it_is_sent(
    server: ServerComPoint, session: requests.Session
) -> None:
    class Sign(requests.auth.AuthBase):
        def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
            assert isinstance(request.body, bytes)
            signed = request.body + request.headers["ComPoint-Ask"].encode()
            request.headers["X-Signature"] = hashlib.sha256(signed).hexdigest()
            return request

    wrong = []

    def check(visit: Visit) -> None:
        signed = visit.body + visit.ask.encode()
        if visit.headers["X-Signature"] != hashlib.sha256(signed).hexdigest():
            wrong.append(visit.ask)
        visit.pass_on()

    session.auth = Sign()
    with in_mode("polling"), Relay(server.address.port, check) as relay:
        _speak(relay, server)
        all_is_said()
        assert {"write", "poll"} <= set(relay.asks)
    assert wrong == []


def test_a_users_session_is_not_closed(mode: str, server: ServerComPoint) -> None:
    class Noting(requests.Session):
        is_closed = False

        def close(self) -> None:
            self.is_closed = True
            super().close()

    with Noting() as session:
        use_session(session)
        try:
            for _ in range(2):
                with reach(server.address.port) as point:
                    conversation(point, server)
                all_is_said()
            assert not session.is_closed
        finally:
            use_session(None)


def test_without_a_users_session_each_point_gets_one_of_its_own_again(
    server: ServerComPoint,
) -> None:
    with requests.Session() as session:
        session.headers["X-Tenant"] = "blue"
        use_session(session)
        use_session(None)
    with Relay(server.address.port, headers := Headers()) as relay:
        _speak(relay, server)
        all_is_said()
    assert headers.values("x-tenant") == {"absent"}


def test_a_users_session_decides_about_proxies_and_the_environment(
    server: ServerComPoint, session: requests.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    with WebServer.of(404) as proxy, WebServer.of(404) as other:
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{other.port}")
        session.trust_env = False
        with reach(server.address.port) as point:
            conversation(point, server)
        session.proxies["http"] = f"http://127.0.0.1:{proxy.port}"
        with pytest.raises(ConnectError, match="through the proxy"):
            reach(80, host="shop.invalid")
        assert (len(proxy.requests), other.requests) == (1, [])


def test_every_request_has_a_finite_timeout_and_follows_no_redirect(
    mode: str, server: ServerComPoint, session: requests.Session
) -> None:
    timeouts: list[Any] = []

    class Noting(requests.adapters.HTTPAdapter):
        def send(
            self, request: Any, stream: Any = False, timeout: Any = None, *rest: Any, **named: Any
        ) -> Any:
            timeouts.append(timeout)
            return super().send(request, stream, timeout, *rest, **named)

    session.mount("http://", Noting())
    with Relay(server.address.port) as relay:
        _speak(relay, server)
        all_is_said()
        assert len(timeouts) == len(relay.asks)
    for connect_s, answer_s in timeouts:
        assert 0 < connect_s < 60
        assert 0 < answer_s < 60
        assert math.isfinite(connect_s + answer_s)


# --- cookies --------------------------------------------------------------------------------------


@pytest.mark.parametrize("whose", ["ours", "the user's"])
def test_a_cookie_of_a_balancer_comes_back_with_every_later_request(
    mode: str, server: ServerComPoint, whose: str, request: pytest.FixtureRequest
) -> None:
    if whose != "ours":
        request.getfixturevalue("session")
    seen: list[str | None] = []

    def balance(visit: Visit) -> None:
        seen.append(visit.headers.get("Cookie"))
        visit.pass_on(headers={} if seen[-1] else {"Set-Cookie": "SERVERID=a1; path=/; HttpOnly"})

    with Relay(server.address.port, balance) as relay:
        _speak(relay, server)
        all_is_said()
    assert seen[0] is None
    assert len(seen) > 2
    assert set(seen[1:]) == {"SERVERID=a1"}


def test_a_cookie_of_one_point_is_not_sent_by_another(server: ServerComPoint) -> None:
    first: list[str | None] = []

    def balance(visit: Visit) -> None:
        if visit.headers.get("ComPoint-Open"):
            first.append(visit.headers.get("Cookie"))
        visit.pass_on(headers={"Set-Cookie": f"SERVERID=a{len(first)}"})

    with Relay(server.address.port, balance) as relay:
        for _ in range(2):
            _speak(relay, server)
            all_is_said()
    assert first == [None, None]


def test_a_cookie_that_changes_is_sent_as_it_is_now(mode: str, server: ServerComPoint) -> None:
    count = 0
    wrong = []
    lock = threading.Lock()

    def balance(visit: Visit) -> None:
        nonlocal count
        with lock:
            count += 1
            number = count
        cookie = visit.headers.get("Cookie", "")
        if cookie.count("=") != (number > 1):
            wrong.append(cookie)
        visit.pass_on(headers={"Set-Cookie": f"S={number}"})

    with Relay(server.address.port, balance) as relay:
        _speak(relay, server)
        all_is_said()
    assert wrong == []


# --- a Session that goes wrong --------------------------------------------------------------------


def test_a_session_whose_authentication_fails_is_an_error_and_no_hang(
    server: ServerComPoint, session: requests.Session
) -> None:
    class Broken(requests.auth.AuthBase):
        def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
            raise LookupError("no token")

    session.auth = Broken()
    reaching = Background(reach, server.address.port)
    error = reaching.error(PATIENCE_S)
    assert isinstance(error, ConnectError)
    assert error.what == (
        "the Session given to compoint.http.use_session has failed (LookupError('no token'))"
    )


def test_a_session_whose_authentication_is_not_reached_is_tried_again(
    server: ServerComPoint, session: requests.Session
) -> None:
    faults = [requests.ConnectionError("no token yet")] * 2

    class Waiting(requests.auth.AuthBase):
        def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
            if faults:
                raise faults.pop()
            return request

    session.auth = Waiting()
    with reach(server.address.port) as point:
        conversation(point, server)
