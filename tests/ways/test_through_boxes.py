"""A file transfer, and a silence longer than the box allows, through real middleboxes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from middleboxes import HAProxy, Middlebox, Nginx, ReservedPort, Squid

import compoint
from compoint import COMPOINT_INITIATOR, COMPOINT_SERVER, ComManager, ComPointAddress
from compoint.testing import configured, eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PACKAGE = str(Path(compoint.__file__).parents[1])
BOXES: dict[str, Callable[[int], Middlebox]] = {
    "nginx": Nginx,
    "nginx that buffers all": Nginx.deaf,
    "haproxy": HAProxy,
    "squid": lambda _: Squid(),
}


@pytest.fixture
def upstream() -> Iterator[int]:
    with ReservedPort() as port:
        yield port.number


def command(*arguments: object, proxy: str = "") -> subprocess.Popen[str]:
    env = {**os.environ, "PYTHONPATH": PACKAGE}
    if proxy:
        env |= {"HTTP_PROXY": proxy, "http_proxy": proxy}
    return subprocess.Popen(
        [sys.executable, "-m", "compoint.cli", *map(str, arguments)],
        env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


@pytest.mark.parametrize("name", BOXES)
def test_a_file_passes(name: str, upstream: int, tmp_path: Path) -> None:
    file = tmp_path / "a file"
    file.write_bytes(os.urandom(5_000_000))
    into = tmp_path / "into"
    into.mkdir()
    serving = f"http://:{upstream}/files"
    with BOXES[name](upstream) as box:
        is_proxy = isinstance(box, Squid)
        port = upstream if is_proxy else box.port
        receive = command("receive", serving, "--channel", "x", "--into", into)
        try:
            assert receive.stdout is not None
            assert re.search("receiving at", receive.stdout.readline())
            send = command(
                "send", file, f"http://127.0.0.1:{port}/files", "--channel", "x",
                proxy=box.url if is_proxy else "",
            )  # fmt: skip
            said, _ = send.communicate(timeout=40)
            assert send.returncode == 0, said
            said, _ = receive.communicate(timeout=10)
            assert receive.returncode == 0, said
        finally:
            receive.kill()
            receive.communicate()
    assert (into / "a file").read_bytes() == file.read_bytes()


@pytest.mark.parametrize(
    ("name", "carrier"),
    [
        ("nginx", "http, streamed answers"),
        ("nginx that buffers all", "http, polling"),
        ("haproxy", "http, streamed answers"),
        ("squid", "http, streaming"),
    ],
)
def test_what_each_box_lets_pass_is_as_the_howto_says(
    name: str, carrier: str, upstream: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with configured(), BOXES[name](upstream) as box:
        is_proxy = isinstance(box, Squid)
        if is_proxy:
            monkeypatch.setenv("http_proxy", box.url)
        port = upstream if is_proxy else box.port
        with (
            ComManager.com_point(COMPOINT_SERVER, ComPointAddress("http", upstream)) as server,
            ComManager.com_point(
                COMPOINT_INITIATOR, ComPointAddress("http", "127.0.0.1", port)
            ) as initiator,
            server.accept(timeout=10) as responder,
        ):

            def has_found_out() -> bool:
                initiator.write("ping")
                responder.write(responder.read(timeout=5))
                initiator.read(timeout=5)
                return initiator.statistics().carrier == carrier

            eventually(has_found_out, 10)
        eventually(lambda: not any("courier" in one.name for one in threading.enumerate()), 5)


def test_a_silence_that_is_cut_ends_nothing_and_polls_take_over(upstream: int) -> None:
    with configured(), HAProxy(upstream, idle_s=1.5) as box:
        address = ComPointAddress("http", "127.0.0.1", box.port)
        with (
            ComManager.com_point(COMPOINT_SERVER, ComPointAddress("http", upstream)) as server,
            ComManager.com_point(COMPOINT_INITIATOR, address) as initiator,
            server.accept(timeout=10) as responder,
        ):
            assert initiator.statistics().carrier != "http, polling"
            # The box cuts the silent stream, and later the first polls.
            eventually(lambda: initiator.statistics().carrier == "http, polling", 10)
            for number in range(3):
                responder.write(number)
                assert initiator.read(timeout=10) == number
                initiator.write(number)
                assert responder.read(timeout=10) == number
        # Their last words still need the box.
        eventually(lambda: not any("courier" in one.name for one in threading.enumerate()), 5)
