"""`compoint send` and `compoint receive`, both real."""

import hashlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import compoint
from channel import Channel
from compoint import ComPointAddress
from compoint.cli._file_messages import FileAccepted, FileEnd, FileHeader, FileStored

Start = Callable[..., Any]


def test_files_arrive_whole_and_both_sides_say_so(
    command: Start, receiver: Start, tmp_path: Path
) -> None:
    contents = {"a.bin": os.urandom(700_000), "empty": b"", "Übersicht.txt": b"text"}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    receive, address = receiver()
    send = command("send", *contents, address, "--channel", "x")
    assert send.ends() == 0
    assert receive.ends() == 0
    for name, content in contents.items():
        assert (tmp_path / "into" / name).read_bytes() == content
        sha256 = hashlib.sha256(content).hexdigest()
        assert f"stored there as {name}, sha256 {sha256}" in send.said
        assert f"into/{name} (" in receive.said
        assert f"sha256 {sha256}" in receive.said
    assert "3 files received" in receive.said
    # Nothing but lines where there is no terminal.
    assert (send.said + receive.said).replace("\n", "").isprintable()
    assert sorted(os.listdir(tmp_path / "into")) == sorted(contents)


def test_on_terminals_both_sides_show_a_bar(
    command: Start, receiver: Start, tmp_path: Path
) -> None:
    (tmp_path / "a.bin").write_bytes(bytes(3_000_000))
    receive, address = receiver(terminal=True)
    send = command("send", "a.bin", address, "--channel", "x", terminal=True)
    assert send.ends() == 0
    assert receive.ends() == 0
    for run in (send, receive):
        assert "a.bin \x1b" in run.said or "a.bin ━" in run.said
        assert "━━━━━" in run.said
        assert "\x1b[?25h" in run.said  # the cursor is back


def test_a_sender_may_come_before_its_receiver_has_opened_the_channel(
    command: Start, tmp_path: Path
) -> None:
    (tmp_path / "a").write_bytes(b"text")
    with Channel.start_service_point_thread(ComPointAddress("tcp", 0)) as service_point:
        send = command("send", "a", service_point.address, "--channel", "x")
        send.says("no receiver has opened this channel yet: waiting for one")
        with service_point.open_responder_channel(None, "x", timeout=5) as point:
            assert point.read(FileHeader, timeout=5) == FileHeader("a", 4)
            point.write(FileAccepted("a"))
            assert point.read(bytes, timeout=5) == b"text"
            end = point.read(FileEnd, timeout=5)
            point.write(FileStored("a", end.sha256))
            assert send.ends() == 0


def test_a_sender_may_be_told_to_wait_until_somebody_listens(
    command: Start, tmp_path: Path
) -> None:
    (tmp_path / "a").write_bytes(b"text")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    address = f"tcp://127.0.0.1:{port}"
    send = command("send", "a", address, "--channel", "x", "--wait", "20")
    send.says(f"nothing listens at {address} yet: trying for 20 s")
    (tmp_path / "into").mkdir()
    receive = command("receive", address, "--channel", "x", "--into", "into")
    assert send.ends() == 0
    assert receive.ends() == 0


def test_a_receiver_that_is_to_keep_on_takes_one_sender_after_the_other(
    command: Start, receiver: Start, tmp_path: Path
) -> None:
    receive, address = receiver("--keep")
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
        assert command("send", name, address, "--channel", "x").ends() == 0
    # One that fails (the file is there already) does not end it.
    assert command("send", "a", address, "--channel", "x").ends() == 1
    (tmp_path / "c").write_text("c")
    assert command("send", "c", address, "--channel", "x").ends() == 0
    receive.says("into/c ")
    receive.process.send_signal(2)
    assert receive.ends() == 130
    assert sorted(os.listdir(tmp_path / "into")) == ["a", "b", "c"]


#: Runs a command and prints its exit code and its greatest use of memory. A small process
#: of its own, because the system counts the starter's memory as the child's.
MEASURE = """
import json, resource, subprocess, sys
code = subprocess.run(sys.argv[1:], stdout=sys.stderr).returncode
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
print(json.dumps([code, peak]))
"""


def test_a_large_file_needs_little_memory_on_both_sides(tmp_path: Path) -> None:
    size = 300 * 2**20
    with open(tmp_path / "large", "wb") as file:
        file.truncate(size)
    root = str(Path(compoint.__file__).parents[1])
    base = [sys.executable, "-P", "-c", MEASURE, sys.executable, "-P", "-m", "compoint.cli"]
    (tmp_path / "into").mkdir()
    options: dict[str, Any] = {
        "cwd": tmp_path, "text": True, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE,
        "env": {**os.environ, "PYTHONPATH": root},
    }  # fmt: skip
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
    channel = (address, "--channel", "x")
    with (
        subprocess.Popen([*base, "receive", *channel, "--into", "into"], **options) as receive,
        subprocess.Popen([*base, "send", "large", *channel, "--wait", "9"], **options) as send,
    ):
        outcomes = [json.loads(run.communicate(timeout=50)[0]) for run in (send, receive)]
    assert [code for code, _ in outcomes] == [0, 0]
    assert os.stat(tmp_path / "into" / "large").st_size == size
    assert max(peak for _, peak in outcomes) < 100 * 2**20, outcomes
