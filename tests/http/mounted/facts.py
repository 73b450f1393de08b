"""What holds in every web server that the endpoint is mounted in."""

from __future__ import annotations

import http.client
from typing import TYPE_CHECKING, Any

import pytest
import requests

from compoint.testing import Background, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hosts import Host

__all__ = ["Facts", "request", "seen", "tell"]

PATIENCE_S = 20.0


def request(host: Host, method: str, path: str, **options: Any) -> requests.Response:
    with requests.Session() as session:
        session.trust_env = False
        return session.request(method, host.url + path, timeout=PATIENCE_S, **options)


def seen(host: Host, name: str) -> Any:
    return request(host, "GET", f"/seen/{name}").json()


def tell(host: Host, name: str, do: str, body: bytes = b"") -> str:
    """The name of the thread that did it."""
    return str(request(host, "POST", f"/tell/{name}?do={do}", data=body).json())


class Facts:
    """Inherited by the tests of each server, which brings the fixture `host`."""

    def test_a_request_reaches_the_endpoint_decoded(self, host: Host) -> None:
        came = request(host, "GET", "/echo/%C3%A9t%C3%A9?a=1&b=%26+%C3%A9&a=2&c=").json()
        assert came["method"] == "GET"
        assert came["path"] == "/echo/été"
        assert came["query"] == {"a": "2", "b": "& é", "c": ""}

    def test_headers_come_with_lower_case_names(self, host: Host) -> None:
        headers = {"X-Some-Thing": "Value", "Content-Type": "text/x"}
        came = request(host, "POST", "/echo", headers=headers).json()["headers"]
        assert came["x-some-thing"] == "Value"
        assert came["content-type"] == "text/x"

    def test_a_header_that_comes_twice_is_joined(self, host: Host) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", host.port, timeout=PATIENCE_S)
        connection.putrequest("GET", "/echo")
        connection.putheader("X-Two", "one")
        connection.putheader("X-Two", "two")
        connection.endheaders()
        with connection.getresponse() as response:
            assert b'"one,' in response.read().replace(b'"one, two"', b'"one,two"')
        connection.close()

    def test_a_posted_body_comes_back(self, host: Host) -> None:
        body = bytes(range(256)) * 4000
        assert request(host, "POST", "/echo", data=body).content == body

    def test_head_is_answered_with_the_length_and_no_body(self, host: Host) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", host.port, timeout=PATIENCE_S)
        connection.request("HEAD", "/seen/nobody")
        with connection.getresponse() as response:
            assert response.headers["content-length"] == "4"
            assert response.read() == b""
        # A body, had one been sent, would be taken for the next answer.
        connection.request("GET", "/seen/nobody")
        with connection.getresponse() as response:
            assert response.read() == b"null"
        connection.close()

    def test_a_chunked_body_arrives_whole(self, host: Host) -> None:
        def pieces() -> Iterator[bytes]:
            for number in range(100):
                yield b"%d," % number * 100

        assert request(host, "POST", "/echo", data=pieces()).content == b"".join(pieces())

    @pytest.mark.parametrize("is_chunked", [False, True], ids=["length", "chunked"])
    def test_a_body_too_large_gets_413_and_leaves_the_connection_in_order(
        self, host: Host, *, is_chunked: bool
    ) -> None:
        body = b"POST /none HTTP/1.1\r\n\r\n" * 50_000
        connection = http.client.HTTPConnection("127.0.0.1", host.port, timeout=PATIENCE_S)
        connection.request("POST", "/echo", body=iter([body]) if is_chunked else body)
        with connection.getresponse() as response:
            assert response.status == 413
            assert response.headers["content-type"] == "application/problem+json"
            response.read()
        # What is left of the body must not be taken for a request.
        try:
            connection.request("GET", "/seen/nobody")
            response = connection.getresponse()
        except ConnectionError:
            pass  # the server was not willing to read all the rest
        else:
            with response:
                assert (response.status, response.read()) == (200, b"null")
        connection.close()

    @pytest.mark.parametrize("path", ["/echo/%FF", "/echo/%00", "/echo?a=%FF", "/echo?a=%zz"])
    def test_what_cannot_be_decoded_is_refused(self, host: Host, path: str) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", host.port, timeout=PATIENCE_S)
        connection.request("GET", path)
        with connection.getresponse() as response:
            assert response.status == 400
            assert response.headers["content-type"] == "application/problem+json"
        connection.close()

    def test_a_peer_is_named_and_nobody_is_local(self, host: Host) -> None:
        """Behind a proxy, which may show nothing of itself, everybody comes from loopback."""
        came = request(host, "GET", "/echo").json()
        assert came["is_local"] is False
        assert came["peer"].startswith("http://127.0.0.1:")

    def test_an_answer_given_later_by_another_thread_arrives(self, host: Host) -> None:
        asking = Background(request, host, "GET", "/park/late")
        eventually(lambda: seen(host, "late") == ["complete"])
        assert tell(host, "late", "answer", b"at last") == "answerer"
        response = asking.result(PATIENCE_S)
        assert (response.status_code, response.content) == (200, b"at last")

    def test_several_requests_are_parked_at_once(self, host: Host) -> None:
        names = [f"parked-{number}" for number in range(6)]
        asking = [Background(request, host, "GET", f"/park/{name}") for name in names]
        for name in names:
            eventually(lambda name=name: seen(host, name) == ["complete"])
        for name in reversed(names):
            tell(host, name, "answer", name.encode())
        assert [one.result(PATIENCE_S).text for one in asking] == names

    @pytest.mark.parametrize("where", ["begin", "piece", "complete"])
    def test_an_exception_in_the_endpoint_is_answered_with_500_and_not_shown(
        self, host: Host, where: str
    ) -> None:
        response = request(host, "POST", f"/raise/{where}", data=b"x")
        assert response.status_code == 500
        assert response.headers["content-type"] == "application/problem+json"
        assert "secret" not in response.text
        assert "Traceback" not in response.text
        assert "a secret of the toy" in host.log.read_text()
