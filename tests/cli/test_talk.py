"""`compoint talk`: two persons, or a person and a program."""

import os
import signal
import socket
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channel import Channel
from compoint import (
    COMPOINT_INITIATOR,
    COMPOINT_SERVER,
    ComManager,
    ComPoint,
    ComPointAddress,
    EndOfMessages,
)
from compoint.cli._talk import LINE_BYTES, typed_lines
from compoint.testing import eventually

Start = Callable[..., Any]


def served(run: Any) -> str:
    """The address at which a talk waits."""
    address: str = run.says(r"waiting at (tcp://:\d+)")[1]
    return address


# --- two persons at terminals -------------------------------------------------------------------


@pytest.mark.parametrize("channel", [(), ("--channel", "x")], ids=["plain", "channel"])
def test_lines_go_both_ways_between_two_terminals(command: Start, channel: tuple[str]) -> None:
    one = command("talk", "tcp://:0", "--serve", *channel, terminal=True)
    other = command("talk", served(one), *channel, terminal=True)
    other.says("talking to")
    other.type("hello\n")
    one.says("< hello")
    one.type("schönen Abend: what news?\n")
    other.says("< schönen Abend: what news[?]")
    other.type("\x04")
    assert other.ends() == 0
    one.says("the peer has left")
    assert one.ends() == 0


def test_ctrl_c_leaves_in_good_order(command: Start) -> None:
    one = command("talk", "tcp://:0", "--serve", terminal=True)
    other = command("talk", served(one), terminal=True)
    other.type("last words\n")
    one.says("< last words")
    other.type("\x03")
    assert other.ends() == 130
    one.says("the peer has left")
    assert one.ends() == 0


def test_ctrl_c_ends_the_waiting_for_a_peer(command: Start) -> None:
    one = command("talk", "tcp://:0", "--serve", terminal=True)
    served(one)
    one.type("\x03")
    assert one.ends() == 130


# --- pipes --------------------------------------------------------------------------------------


def test_what_comes_through_a_pipe_is_sent_line_by_line(command: Start) -> None:
    with ComManager.com_point(COMPOINT_SERVER, ComPointAddress("tcp", 0)) as server:
        talk = command("talk", server.address)
        talk.type("one\n\ntwo\nno end of line")
        talk.process.stdin.close()
        with server.accept(timeout=5) as point:
            assert list(point) == ["one", "", "two", "no end of line"]
    assert talk.ends() == 0


def test_nothing_but_the_lines_of_the_peer_is_on_the_standard_output(
    command: Start, tmp_path: Any
) -> None:
    with (
        ComManager.com_point(COMPOINT_SERVER, ComPointAddress("tcp", 0)) as server,
        open(tmp_path / "out", "wb") as out,
    ):
        talk = command("talk", server.address, stdout=out)
        with server.accept(timeout=5) as point:
            point.write("one")
            point.write("two")
        talk.says("the peer has left")
        assert talk.ends() == 0
    assert (tmp_path / "out").read_text() == "one\ntwo\n"


def test_a_peer_that_has_not_taken_all_lines_is_told(command: Start) -> None:
    with ComManager.com_point(COMPOINT_SERVER, ComPointAddress("tcp", 0)) as server:
        talk = command("talk", server.address)
        talk.type("one\ntwo\n")
        point = server.accept(timeout=5)
        assert point.read(timeout=5) == "one"
        eventually(lambda: point.statistics().received == 2)
        point.close()
        talk.says("compoint: the peer has not taken the last 1 line: ")
        assert talk.ends() == 1


# --- foreign peers ------------------------------------------------------------------------------


@pytest.fixture
def talk_and_point(command: Start) -> Iterator[tuple[Any, ComPoint]]:
    """A talk at a terminal, and its peer in the hands of the test."""
    talk = command("talk", "tcp://:0", "--serve", terminal=True)
    address = ComPointAddress.parse(served(talk))
    with ComManager.com_point(COMPOINT_INITIATOR, address) as point:
        yield talk, point


def test_an_escape_sequence_of_the_peer_does_not_reach_the_terminal(
    talk_and_point: tuple[Any, ComPoint],
) -> None:
    talk, point = talk_and_point
    point.write("\x1b]0;owned\x07\x9b2J\rfake\nfake\u202e")
    talk.says(r"< \\x1b\]0;owned\\x07\\x9b2J\\rfake\\nfake\\u202e")
    point.close()
    assert talk.ends() == 0
    assert "\x1b" not in talk.said
    assert "\x07" not in talk.said
    assert "\x9b" not in talk.said
    assert "\u202e" not in talk.said


def test_an_escape_sequence_in_the_reason_of_the_peer_does_not_either(
    talk_and_point: tuple[Any, ComPoint],
) -> None:
    talk, point = talk_and_point
    talk.says("talking to")
    point.abort("\x1b[2J\ncompoint: fake")
    assert talk.ends() == 1
    assert "\x1b" not in talk.said
    talk.says(r"\\x1b\[2J\\ncompoint: fake")


def test_messages_that_are_no_text_are_shown_all_the_same(
    talk_and_point: tuple[Any, ComPoint],
) -> None:
    talk, point = talk_and_point
    point.write({"price": [1, 2.5, None]})
    point.write(b"\x00\xff")
    talk.says(r"< \{'price': \[1, 2.5, None\]\}")
    talk.says(r"< b'\\x00\\xff'")


def test_a_service_point_is_not_taken_for_a_person(command: Start) -> None:
    with Channel.start_service_point_thread(ComPointAddress("tcp", 0)) as service_point:
        talk = command("talk", service_point.address, terminal=True)
        assert talk.ends() == 1
    talk.says("compoint: .*this is a service point: open a channel")


def test_a_peer_of_another_protocol_is_one_sentence(command: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        talk = command("talk", f"tcp://:{server.getsockname()[1]}", terminal=True)
        peer, _ = server.accept()
        with peer:
            peer.sendall(b"SSH-2.0-OpenSSH_9.6\r\n")
            assert talk.ends() == 1
    talk.says("compoint: .*SSH")


def test_a_killed_peer_is_one_sentence(command: Start) -> None:
    one = command("talk", "tcp://:0", "--serve", terminal=True)
    other = command("talk", served(one), terminal=True)
    one.says("talking to")
    other.process.send_signal(signal.SIGKILL)
    assert one.ends() == 1
    one.says("compoint: .*(is gone|is lost)")


def test_a_program_may_be_the_peer_on_a_channel(command: Start) -> None:
    talk = command("talk", "tcp://:0", "--serve", "--channel", "x")
    address = ComPointAddress.parse(served(talk))
    with Channel.open_initiator_channel(address, None, "x") as point:
        point.write("how much?")
        talk.says("how much[?]")
        talk.type("12\n")
        assert point.read(str, timeout=5) == "12"
        talk.process.stdin.close()
        with pytest.raises(EndOfMessages):
            point.read(timeout=5)
    assert talk.ends() == 0


# --- the lines that are typed ---------------------------------------------------------------------


def lines_of(data: bytes) -> list[str]:
    """What `typed_lines` makes of bytes that come out of a file."""
    bell, ring = os.pipe()
    try:
        with tempfile.TemporaryFile() as source:
            source.write(data)
            source.seek(0)
            return list(typed_lines(source.fileno(), bell))
    finally:
        os.close(bell)
        os.close(ring)


@given(st.lists(st.text(st.characters(exclude_characters="\n", codec="utf-8"), max_size=50)))
def test_every_line_comes_out_as_it_was_typed(lines: list[str]) -> None:
    assert lines_of("".join(f"{line}\n" for line in lines).encode()) == lines


@pytest.mark.parametrize("end", ["", "\n"])
def test_a_line_that_is_too_long_is_sent_in_pieces_that_break_no_character(end: str) -> None:
    # The limit lies inside of the é.
    line = "x" * (LINE_BYTES - 1) + "é" * LINE_BYTES
    pieces = lines_of(f"{line}{end}".encode())
    assert "".join(pieces) == line
    assert [len(piece.encode()) for piece in pieces] == [
        LINE_BYTES - 1, LINE_BYTES, LINE_BYTES
    ]  # fmt: skip


def test_what_is_no_text_is_sent_with_marks_in_its_place() -> None:
    assert lines_of(b"caf\xe9\n") == ["caf\ufffd"]


def test_the_bell_ends_the_typing() -> None:
    source, end = os.pipe()
    bell, ring = os.pipe()
    os.write(ring, b".")
    os.write(end, b"too late\n")
    assert list(typed_lines(source, bell)) == []
    for descriptor in (source, end, bell, ring):
        os.close(descriptor)
