"""docs/howto/http.md as a newcomer takes it: its programs run, also inside web servers."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import compoint
from compoint import COMPOINT_INITIATOR, ComManager, ComPoint, ComPointAddress, ConnectError
from compoint.testing import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "howto" / "http.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
PROGRAMS = {
    match[1]: text
    for language, text in BLOCKS
    if language == "python" and (match := re.match(r"# (\S+)\n", text))
}
PACKAGE = str(Path(compoint.__file__).parents[1])


def started(command: list[str], folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command, cwd=folder, env={**os.environ, "PYTHONPATH": PACKAGE},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def test_the_programs_make_a_deal(tmp_path: Path) -> None:
    for name in ("responder.py", "initiator.py"):
        (tmp_path / name).write_text(PROGRAMS[name].replace("8080", "0"), encoding="utf-8")
    with started([sys.executable, "responder.py"], tmp_path) as responder:
        try:
            assert responder.stdout is not None
            line = responder.stdout.readline()
            match = re.fullmatch(r"serving at http://:(\d+)/orders\n", line)
            assert match, line + responder.stdout.read()
            file = tmp_path / "initiator.py"
            file.write_text(file.read_text().replace('"localhost", 0', f'"localhost", {match[1]}'))
            with started([sys.executable, "initiator.py"], tmp_path) as initiator:
                said, _ = initiator.communicate(timeout=20)
            assert re.fullmatch(r"2 x atlas: agreed\nhttp, [a-z ]+\n", said), said
            assert responder.wait(timeout=20) == 0
        finally:
            responder.kill()


@pytest.fixture
def port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        number: int = one.getsockname()[1]
    return number


def command_of(program: str, port: int) -> list[str]:
    """The command of the text that starts this web server."""
    (found,) = re.findall(rf"^({program} .*)$|`({program} [^`]*)`", TEXT, re.MULTILINE)
    words = shlex.split("".join(found).replace("8000", str(port)))
    executable = Path(sys.executable).parent / words[0]
    words[0] = str(executable if executable.exists() else shutil.which(words[0]))
    return words if program == "gunicorn" else [*words, "--port", str(port)]


@pytest.fixture(params=["gunicorn", "uvicorn"])
def mounted(request: pytest.FixtureRequest, tmp_path: Path, port: int) -> Iterator[ComPointAddress]:
    """The application of the text runs in this web server; the address of its responder."""
    pytest.importorskip(request.param)
    text = PROGRAMS["application.py"].replace("8000", str(port))
    if request.param == "uvicorn":
        text = text.replace("wsgi_application", "asgi_application")
    (tmp_path / "application.py").write_text(text, encoding="utf-8")
    with started(command_of(request.param, port), tmp_path) as server:
        try:
            yield ComPointAddress("http", "127.0.0.1", port, "/orders")
        finally:
            server.terminate()
            try:
                server.communicate(timeout=5)
            except subprocess.TimeoutExpired:
                server.kill()
                server.communicate()


def reached(address: ComPointAddress) -> ComPoint:
    points: list[ComPoint] = []

    def is_there() -> bool:
        try:
            points.append(ComManager.com_point(COMPOINT_INITIATOR, address))
        except ConnectError:
            return False
        return True

    eventually(is_there, 20)
    return points[0]


def test_the_application_answers_inside_a_web_server(
    mounted: ComPointAddress, request: pytest.FixtureRequest
) -> None:
    with reached(mounted) as point:
        for number in range(20):
            point.write({"number": number})
            assert point.read(timeout=10) == {"number": number}
        point.write(bytes(3_000_000))
        assert point.read(timeout=10) == bytes(3_000_000)
        is_asgi = request.node.callspec.params["mounted"] == "uvicorn"
        carrier = "http, streaming" if is_asgi else "http, polling"
        assert point.statistics().carrier == carrier
        assert point.close(timeout=10).is_complete


def test_every_program_of_the_text_is_run_by_a_test() -> None:
    assert set(PROGRAMS) == {"responder.py", "initiator.py", "application.py"}
