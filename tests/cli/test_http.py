"""The command over HTTP: the same subcommands, with another address."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from channel import Channel
from compoint import ComPointAddress

Start = Callable[..., Any]


def test_a_file_is_sent_and_received(command: Start, tmp_path: Path) -> None:
    file = tmp_path / "a file"
    file.write_bytes(os.urandom(3_000_000))
    (tmp_path / "into").mkdir()
    receiver = command("receive", "http://:0/files", "--channel", "x", "--into", tmp_path / "into")
    address = receiver.says(r"receiving at (http://:\d+/files),")[1]
    sender = command("send", file, address.replace("://", "://localhost"), "--channel", "x")
    assert sender.ends() == 0
    assert receiver.ends() == 0
    got = (tmp_path / "into" / "a file").read_bytes()
    assert hashlib.sha256(got).digest() == hashlib.sha256(file.read_bytes()).digest()


def test_lines_go_both_ways(command: Start) -> None:
    one = command("talk", "http://:0", "--serve", terminal=True)
    other = command("talk", one.says(r"waiting at (http://:\d+)")[1], terminal=True)
    other.type("hello\n")
    one.says("< hello")
    one.type("good evening\n")
    other.says("< good evening")
    other.type("\x04")
    assert other.ends() == 0
    assert one.ends() == 0


def test_who_is_queued_is_shown(command: Start) -> None:
    with (
        Channel.start_service_point_thread(ComPointAddress("http", 0)) as service_point,
        Channel.open_initiator_channel(service_point.address, None, "order-17") as point,
    ):
        point.write("one")
        point.flush(timeout=5)
        status = command("status", service_point.address)
        assert status.ends() == 0
        assert "order-17" in status.said
        service_point.stop()


def test_a_channel_at_the_wrong_path_is_one_sentence(command: Start) -> None:
    with Channel.start_service_point_thread(ComPointAddress("http", 0, "/a")) as service_point:
        status = command("status", f"http://localhost:{service_point.address.port}/b")
        assert status.ends() == 1
        assert "nobody serves the path '/b' here" in status.said
        service_point.stop()
