"""The port as curl sees it."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
from port_kit import TEXT, Desk, Visit, at_once, echo, serving

from compoint.http._exchange import WholeBody
from compoint.limits import MIB

if TYPE_CHECKING:
    from pathlib import Path

CURL = shutil.which("curl")
pytestmark = pytest.mark.skipif(CURL is None, reason="curl is not installed")


def curl(*arguments: str, data: bytes = b"") -> tuple[int, str]:
    """The exit code and what was printed."""
    done = subprocess.run(
        [str(CURL), "-q", "-sS", "--noproxy", "*", "--max-time", "20", *arguments],
        input=data, capture_output=True, timeout=30, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout.decode() + done.stderr.decode()


def test_curl_gets() -> None:
    with serving() as scene:
        assert curl(scene.url("/a?b=c")) == (0, '["GET", "/a", {"b": "c"}, ""]')


def test_curl_asks_for_the_head_only() -> None:
    with serving(at_once(lambda visit: visit.answer(b"hello"))) as scene:
        code, said = curl("-I", scene.url())
        assert code == 0
        assert "content-length: 5" in said


@pytest.mark.parametrize("options", [[], ["--http1.0"], ["-H", "Transfer-Encoding: chunked"]])
def test_curl_posts_a_large_file(tmp_path: Path, options: list[str]) -> None:
    sent = tmp_path / "sent"
    sent.write_bytes(os.urandom(3 * MIB))

    class Mirror(Desk):
        def begin(self, exchange):
            return WholeBody(exchange, 4 * MIB, lambda body: exchange.answer(200, TEXT, body))

    if options == ["--http1.0"]:
        options = [*options, "-H", "Expect:"]
    with serving(Mirror()) as scene:
        back = tmp_path / "back"
        code, said = curl(
            *options, "--data-binary", f"@{sent}", "-o", str(back), scene.url("/mirror")
        )
        assert (code, said) == (0, "")
        assert back.read_bytes() == sent.read_bytes()


def test_curl_waits_for_100_continue_and_gets_it() -> None:
    with serving() as scene:
        code, said = curl(
            "-v", "-H", "Expect: 100-continue", "--expect100-timeout", "15",
            "-d", "body", scene.url(),
        )  # fmt: skip
        assert code == 0
        assert "< HTTP/1.1 100 Continue" in said
        assert '"body"]' in said


def test_curl_uses_one_connection_for_several_requests() -> None:
    with serving() as scene:
        code, said = curl("-v", scene.url("/1"), "-d", "x", scene.url("/2"))
        assert code == 0
        assert "Re-using existing connection" in said
        assert "left intact" in said


def test_curl_goes_through_the_port_as_through_a_proxy() -> None:
    with serving() as scene:
        code, said = curl("--noproxy", "", "-x", scene.url(), "http://elsewhere.invalid/a?b=c")
        assert (code, said) == (0, '["GET", "/a", {"b": "c"}, ""]')
        assert scene.desk.visit().request.headers["host"] == "elsewhere.invalid"


def test_curl_prints_a_streamed_answer_as_it_comes() -> None:
    with (
        serving(Desk()) as scene,
        subprocess.Popen(
            [str(CURL), "-q", "-sSN", "--noproxy", "*", scene.url()], stdout=subprocess.PIPE
        ) as process,
    ):
        assert process.stdout is not None
        exchange = scene.desk.told("complete").exchange
        exchange.start(200, TEXT)
        for line in (b"one\n", b"two\n"):
            exchange.send(line)
            assert process.stdout.readline() == line
        exchange.end()
        assert process.wait(10) == 0


def test_curl_streams_its_input_into_a_request() -> None:
    with serving(at_once(echo)) as scene, subprocess.Popen(
        [str(CURL), "-q", "-sS", "--noproxy", "*", "-T", ".", scene.url("/up")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        for line in (b"one\n", b"two\n"):
            process.stdin.write(line)
            process.stdin.flush()
            wait_for_line(scene.desk.visit(), line)
        process.stdin.close()
        assert process.stdout.read() == b'["PUT", "/up", {}, "one\\ntwo\\n"]'
        assert process.wait(10) == 0


def wait_for_line(visit: Visit, line: bytes) -> None:
    from compoint.testing import eventually

    eventually(lambda: visit.body.endswith(line))


def test_curl_is_told_what_is_wrong() -> None:
    with serving() as scene:
        code, said = curl("-H", "Content-Length: 4", "-H", "Content-Length: 5", "-d", "body",
                          scene.url())  # fmt: skip
        assert code == 0
        assert '"title": "bad request"' in said


def test_curl_speaking_tls_fails_at_once() -> None:
    with serving() as scene:
        code, said = curl("-k", scene.url().replace("http:", "https:"))
        assert code == 35
        assert "wrong version number" in said or "SSL" in said
