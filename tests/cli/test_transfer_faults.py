"""Transfers that go wrong: one sentence on both sides, and nothing left behind."""

import os
import shutil
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from channel import Channel, ChannelPoint
from compoint import ComPointAddress, EndOfMessages
from compoint.cli._faults import CommandFailed
from compoint.cli._file_messages import (
    FileAccepted,
    FileEnd,
    FileHeader,
    FileStored,
    TransferFailed,
)
from compoint.cli._send import check_file
from compoint.testing import eventually

Start = Callable[..., Any]

EMPTY_SHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

#: What the other side tells about Ctrl-C; if it struck while bytes were on their way, all
#: there is to be known is that the connection was given up.
INTERRUPTED = "it was interrupted|is lost|is gone"


@pytest.fixture
def into(tmp_path: Path) -> Path:
    return tmp_path / "into"


@pytest.fixture
def large(tmp_path: Path) -> str:
    """A file that takes long enough to be interrupted; it takes no room on the disk."""
    with open(tmp_path / "large", "wb") as file:
        file.truncate(20 * 2**30)
    return "large"


def is_midway(into: Path) -> bool:
    return any(each.stat().st_size for each in into.iterdir())


# --- one side disappears ----------------------------------------------------------------------


def test_a_killed_sender_leaves_no_file(
    command: Start, receiver: Start, into: Path, large: str
) -> None:
    receive, address = receiver()
    send = command("send", large, address, "--channel", "x")
    eventually(lambda: is_midway(into))
    send.process.kill()
    assert receive.ends() == 1
    assert os.listdir(into) == []
    assert receive.says("compoint: channel 'x' at .*(is gone|is lost)")


def test_a_killed_receiver_is_told_by_the_sender(
    command: Start, receiver: Start, into: Path, large: str
) -> None:
    receive, address = receiver()
    send = command("send", large, address, "--channel", "x")
    eventually(lambda: is_midway(into))
    receive.process.kill()
    assert send.ends() == 1
    assert send.says("compoint: channel 'x' at .*(is gone|is lost)")
    assert not (into / large).exists()


def test_ctrl_c_at_the_sender_leaves_no_file(
    command: Start, receiver: Start, into: Path, large: str
) -> None:
    receive, address = receiver()
    send = command("send", large, address, "--channel", "x")
    eventually(lambda: is_midway(into))
    send.process.send_signal(signal.SIGINT)
    assert send.ends() == 130
    assert receive.ends() == 1
    assert os.listdir(into) == []
    assert receive.says(INTERRUPTED)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_ctrl_c_and_other_signals_at_the_receiver_leave_no_file(
    command: Start, receiver: Start, into: Path, large: str, number: int, code: int
) -> None:
    receive, address = receiver()
    send = command("send", large, address, "--channel", "x")
    eventually(lambda: is_midway(into))
    receive.process.send_signal(number)
    assert receive.ends() == code
    assert os.listdir(into) == []
    assert send.ends() == 1
    assert send.says(INTERRUPTED)


def test_ctrl_c_at_a_terminal_ends_a_receiver_that_waits(receiver: Start) -> None:
    receive, _ = receiver(terminal=True)
    receive.type("\x03")
    assert receive.ends() == 130


def test_a_sender_that_is_still_queued_is_told_when_the_receiver_leaves(
    command: Start, receiver: Start, tmp_path: Path
) -> None:
    (tmp_path / "a").touch()
    receive, address = receiver()
    send = command("send", "a", address, "--channel", "another")
    send.says("waiting for one")
    receive.process.send_signal(signal.SIGINT)
    assert receive.ends() == 130
    assert send.ends() == 1
    assert send.says("refused .stopped.")


# --- the disk and the folder --------------------------------------------------------------------


def test_an_existing_file_is_not_overwritten(
    command: Start, receiver: Start, into: Path, tmp_path: Path
) -> None:
    into.mkdir()
    (into / "a").write_text("precious")
    (tmp_path / "a").write_text("new")
    receive, address = receiver()
    send = command("send", "a", address, "--channel", "x")
    assert send.ends() == 1
    assert receive.ends() == 1
    assert send.says("says: a exists already and is not overwritten")
    assert receive.says("into/a: exists already; --overwrite would replace it")
    assert (into / "a").read_text() == "precious"


def test_an_existing_file_is_overwritten_if_that_was_asked_for(
    command: Start, receiver: Start, into: Path, tmp_path: Path
) -> None:
    into.mkdir()
    (into / "a").write_text("old")
    (tmp_path / "a").write_text("new")
    receive, address = receiver("--overwrite")
    assert command("send", "a", address, "--channel", "x").ends() == 0
    assert receive.ends() == 0
    assert (into / "a").read_text() == "new"


def test_a_disk_that_takes_no_more_is_one_sentence_on_both_sides(
    command: Start, receiver: Start, into: Path, tmp_path: Path
) -> None:
    with open(tmp_path / "a", "wb") as file:
        file.truncate(50_000_000)
    receive, address = receiver(before="ulimit -f 2000")
    send = command("send", "a", address, "--channel", "x")
    assert send.ends() == 1
    assert receive.ends() == 1
    assert send.says("says: a cannot be stored: File too large")
    assert receive.says("into/a: cannot be stored: File too large")
    assert os.listdir(into) == []


def test_a_folder_that_is_not_there_is_one_sentence(command: Start) -> None:
    receive = command("receive", "tcp://:0", "--channel", "x", "--into", "nowhere")
    assert receive.ends() == 1
    assert receive.said == "compoint: nowhere: is no folder; create it or name another\n"


def test_what_cannot_be_sent_is_refused_before_anybody_is_asked(command: Start) -> None:
    send = command("send", "missing", "tcp://127.0.0.1:1", "--channel", "x")
    assert send.ends() == 1
    assert send.said == "compoint: missing: cannot be read: No such file or directory\n"


@pytest.mark.parametrize(("path", "kind"), [(".", "a folder"), ("/dev/null", "no regular file")])
def test_only_regular_files_can_be_sent(path: str, kind: str) -> None:
    with pytest.raises(CommandFailed, match=f"cannot be sent: it is {kind}"):
        check_file(path)


# --- a sender that lies, played by the test -----------------------------------------------------


@pytest.fixture
def liar(receiver: Start) -> Iterator[tuple[Any, ChannelPoint]]:
    """A real receiver, and a channel to it in the hands of the test."""
    receive, address = receiver()
    with Channel.open_initiator_channel(ComPointAddress.parse(address), None, "x") as point:
        yield receive, point


def test_a_path_in_a_file_name_stays_inside_the_folder(
    liar: tuple[Any, ChannelPoint], into: Path
) -> None:
    receive, point = liar
    point.write(FileHeader("../../etc/passwd", 0))
    assert point.read(FileAccepted, timeout=5) == FileAccepted("passwd")
    point.write(FileEnd(EMPTY_SHA256))
    assert point.read(FileStored, timeout=5) == FileStored("passwd", EMPTY_SHA256)
    point.close()
    assert receive.ends() == 0
    assert os.listdir(into) == ["passwd"]


def test_a_wrong_digest_leaves_no_file(liar: tuple[Any, ChannelPoint], into: Path) -> None:
    receive, point = liar
    point.write(FileHeader("a", 4))
    point.read(FileAccepted, timeout=5)
    point.write(b"text")
    point.write(FileEnd(EMPTY_SHA256))
    assert "what came is not what was sent" in point.read(TransferFailed, timeout=5).reason
    assert receive.ends() == 1
    assert os.listdir(into) == []
    assert receive.says("compoint: a: what came is not what was sent")


@pytest.mark.parametrize(
    ("size", "sentence"),
    [
        (3, "a: more came than the announced 3 bytes"),
        (5, "a: 1 of the announced 5 bytes did not come"),
        (-1, "a cannot have -1 bytes"),
    ],
)
def test_a_size_that_is_a_lie_leaves_no_file(
    liar: tuple[Any, ChannelPoint], into: Path, size: int, sentence: str
) -> None:
    receive, point = liar
    point.write(FileHeader("a", size))
    point.write(b"text")
    point.write(FileEnd(EMPTY_SHA256))
    assert receive.ends() == 1
    assert os.listdir(into) == []
    assert receive.says(sentence)


def test_a_folder_that_vanishes_midway_is_one_sentence_on_both_sides(
    liar: tuple[Any, ChannelPoint], into: Path
) -> None:
    receive, point = liar
    point.write(FileHeader("a", 0))
    point.read(FileAccepted, timeout=5)
    shutil.rmtree(into)
    point.write(FileEnd(EMPTY_SHA256))
    failed = point.read(TransferFailed, timeout=5)
    assert failed.reason == "a cannot be stored: the folder is gone"
    assert receive.ends() == 1
    assert receive.says("into/a: cannot be stored: the folder is gone")


def test_a_sender_that_closes_midway_leaves_no_file(
    liar: tuple[Any, ChannelPoint], into: Path
) -> None:
    receive, point = liar
    point.write(FileHeader("a", 4))
    point.read(FileAccepted, timeout=5)
    point.close()
    assert receive.ends() == 1
    assert os.listdir(into) == []


def test_a_peer_that_speaks_of_something_else_is_told_so(
    liar: tuple[Any, ChannelPoint], into: Path
) -> None:
    receive, point = liar
    point.write("hello?")
    failed = point.read(TransferFailed, timeout=5)
    assert failed.reason == "a message came that is no part of a file transfer"
    assert receive.ends() == 1
    assert receive.says("expected FileHeader")
    assert os.listdir(into) == []


def test_a_peer_that_sends_nothing_is_no_success(liar: tuple[Any, ChannelPoint]) -> None:
    receive, point = liar
    point.close()
    assert receive.ends() == 1
    assert receive.says("came and left without sending a file")


def test_control_characters_in_a_reason_do_not_reach_the_terminal(
    liar: tuple[Any, ChannelPoint],
) -> None:
    receive, point = liar
    point.write(TransferFailed("\x1b]0;owned\x07\ncompoint: fake"))
    assert receive.ends() == 1
    assert "\x1b" not in receive.said
    assert receive.says(r"says: \\x1b\]0;owned\\x07\\ncompoint: fake")


# --- a receiver that lies, played by the test ----------------------------------------------------


def test_a_receiver_that_has_stored_something_else_is_no_success(
    command: Start, tmp_path: Path
) -> None:
    (tmp_path / "a").write_text("text")
    with Channel.start_service_point_thread(ComPointAddress("tcp", 0)) as service_point:
        send = command("send", "a", service_point.address, "--channel", "x")
        with service_point.open_responder_channel(None, "x", timeout=5) as point:
            point.read(FileHeader, timeout=5)
            point.write(FileAccepted("a"))
            point.read(bytes, timeout=5)
            point.read(FileEnd, timeout=5)
            point.write(FileStored("a", EMPTY_SHA256))
            assert send.ends() == 1
            assert send.says("the receiver has stored something else")


def test_a_receiver_that_closes_instead_of_confirming_is_no_success(
    command: Start, tmp_path: Path
) -> None:
    (tmp_path / "a").write_text("text")
    with Channel.start_service_point_thread(ComPointAddress("tcp", 0)) as service_point:
        send = command("send", "a", service_point.address, "--channel", "x")
        with service_point.open_responder_channel(None, "x", timeout=5) as point:
            point.read(FileHeader, timeout=5)
            point.write(FileAccepted("a"))
        assert send.ends() == 1


def test_a_file_that_shrinks_while_it_is_sent_is_no_success(command: Start, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("text")
    with Channel.start_service_point_thread(ComPointAddress("tcp", 0)) as service_point:
        send = command("send", "a", service_point.address, "--channel", "x")
        with service_point.open_responder_channel(None, "x", timeout=5) as point:
            point.read(FileHeader, timeout=5)
            os.truncate(tmp_path / "a", 1)
            point.write(FileAccepted("a"))
            assert point.read(bytes, timeout=5) == b"t"
            reason = "a became 3 bytes shorter while it was sent"
            assert point.read(TransferFailed, timeout=5) == TransferFailed(reason)
            with pytest.raises(EndOfMessages):
                point.read(timeout=5)
        assert send.ends() == 1
        assert send.says(f"compoint: {reason}")


# --- nobody, or somebody else -------------------------------------------------------------------


def test_nobody_at_the_address_is_one_sentence(command: Start, tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    send = command("send", "a", f"tcp://127.0.0.1:{port}", "--channel", "x")
    assert send.ends() == 1
    assert send.says("nobody was reached .Connection refused.")
    assert send.said.count("\n") == 1


def test_a_peer_of_another_protocol_is_one_sentence(command: Start, tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        send = command("send", "a", f"tcp://127.0.0.1:{port}", "--channel", "x")
        peer, _ = server.accept()
        with peer:
            peer.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            assert send.ends() == 1
    assert send.says("compoint: channel 'x' at .*HTTP")
    assert send.said.count("\n") == 1


def test_a_port_that_is_taken_is_one_sentence(command: Start, into: Path) -> None:
    into.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"tcp://:{taken.getsockname()[1]}"
        receive = command("receive", address, "--channel", "x", "--into", into)
        assert receive.ends() == 1
    assert receive.says("another program listens at this port")
