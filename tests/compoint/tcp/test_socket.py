"""The tcp transport: what it reaches, what it listens at, and what it says when it cannot."""

from __future__ import annotations

import contextlib
import resource
import socket
import sys
from typing import TYPE_CHECKING

import pytest

from compoint import (
    COMPOINT_INITIATOR,
    COMPOINT_SERVER,
    BusyError,
    ComManager,
    ComPointAddress,
    ConnectError,
    Fate,
    Phase,
    PointTimeout,
)
from compoint.deadline import FOR_EVER, Deadline
from compoint.tcp import TcpOpener
from compoint.testing import Background, ScriptedServer, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from compoint.drive.wire import Wire

PATIENCE_S = 10.0
HERE = ComPointAddress("tcp", 0)


def at(port: int, host: str = "127.0.0.1") -> ComPointAddress:
    return ComPointAddress("tcp", host, port)


@contextlib.contextmanager
def full_server() -> Iterator[int]:
    """A port whose backlog is full: the system answers no further initiator."""
    with socket.socket() as listener, contextlib.ExitStack() as stack:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            sock = stack.enter_context(socket.socket())
            sock.setblocking(False)
            sock.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


# --- reaching -----------------------------------------------------------------------------------


def test_where_nobody_listens_the_error_says_so_and_nothing_was_sent() -> None:
    with ScriptedServer() as server:
        port = server.port
    with pytest.raises(ConnectError, match=r"Connection refused.*is the server started") as caught:
        ComManager.com_point(COMPOINT_INITIATOR, at(port))
    error = caught.value
    assert (error.phase, error.fate, error.point) == (
        Phase.CONNECT, Fate.NOT_SENT, f"tcp://127.0.0.1:{port}"
    )  # fmt: skip
    assert error.elapsed_s is not None


def test_a_host_that_is_not_known_is_named() -> None:
    with pytest.raises(ConnectError, match=r"the host 'nowhere\.invalid' is not known") as caught:
        ComManager.com_point(COMPOINT_INITIATOR, at(7, "nowhere.invalid"))
    assert caught.value.phase is Phase.RESOLVE


@pytest.mark.skipif(sys.platform != "linux", reason="other systems answer a full backlog")
def test_a_peer_that_does_not_answer_is_given_up_at_the_deadline() -> None:
    with full_server() as port:
        deadline = Deadline(0.1)
        with pytest.raises(PointTimeout, match="not reached in time") as caught:
            TcpOpener().connect(at(port), deadline)
        assert deadline.is_over
        assert caught.value.phase is Phase.CONNECT
        assert 0.1 <= (caught.value.elapsed_s or 0) < 0.2


def test_with_no_time_left_nobody_is_asked() -> None:
    with ScriptedServer() as server, pytest.raises(PointTimeout):
        TcpOpener().connect(at(server.port), Deadline(0))


def test_every_address_of_a_host_is_tried() -> None:
    """`localhost` stands for ::1 and 127.0.0.1 on most systems; only one is served here."""
    with ScriptedServer() as server:
        TcpOpener().connect(at(server.port, "localhost"), Deadline(PATIENCE_S)).close()
        server.meet().hang_up()


def test_without_a_free_descriptor_the_error_says_so() -> None:
    with ScriptedServer() as server, no_descriptors_left():
        with pytest.raises(ConnectError, match="Too many open files"):
            TcpOpener().connect(at(server.port), FOR_EVER)
        with pytest.raises(ConnectError, match="Too many open files"):
            TcpOpener().listen(HERE)


def test_visitors_of_a_process_without_a_free_descriptor_are_turned_away() -> None:
    """Left in line, they would keep the pump awake."""
    visitors = [socket.socket() for _ in range(3)]
    with ComManager.com_point(COMPOINT_SERVER, HERE) as server, contextlib.ExitStack() as stack:
        with no_descriptors_left():
            for visitor in visitors:
                stack.enter_context(visitor)
                visitor.settimeout(PATIENCE_S)
                visitor.connect(("127.0.0.1", server.address.port))
                assert visitor.recv(1) == b""
        with ComManager.com_point(COMPOINT_INITIATOR, server.address) as initiator:
            initiator.write(b"now")
            with server.accept(timeout=PATIENCE_S) as responder:
                assert responder.read(timeout=PATIENCE_S) == b"now"


@contextlib.contextmanager
def no_descriptors_left() -> Iterator[None]:
    """The process may open no further descriptor."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with socket.socket() as highest:
        lowest_free = highest.fileno()
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# --- listening ----------------------------------------------------------------------------------


def test_without_a_host_only_this_machine_is_served() -> None:
    with ComManager.com_point(COMPOINT_SERVER, HERE) as server:
        listening = _listening_at(server.address.port)
        assert listening == {"127.0.0.1"}


def _listening_at(port: int) -> set[str]:
    """The local IPv4 addresses at which this port is listened at, as the system tells."""
    found = set()
    with open("/proc/net/tcp", encoding="ascii") as table:
        for line in table.readlines()[1:]:
            local, state = line.split()[1], line.split()[3]
            address, _, number = local.partition(":")
            if state == "0A" and int(number, 16) == port:
                found.add(socket.inet_ntoa(bytes.fromhex(address)[::-1]))
    return found


def test_a_port_that_is_taken_is_busy() -> None:
    with ScriptedServer() as other:
        with pytest.raises(BusyError, match="another program listens at this port") as caught:
            ComManager.com_point(COMPOINT_SERVER, ComPointAddress("tcp", other.port))
        assert "0: any free one" in caught.value.hint


@pytest.mark.parametrize(
    ("host", "words"),
    [("192.0.2.1", "cannot listen here"), ("nowhere.invalid", "interface .* is not known")],
)
def test_an_interface_that_is_not_ours_cannot_be_listened_at(host: str, words: str) -> None:
    with pytest.raises(ConnectError, match=words):
        ComManager.com_point(COMPOINT_SERVER, at(7100, host))


def test_a_port_is_free_again_right_after_its_server_had_visitors() -> None:
    with ComManager.com_point(COMPOINT_SERVER, HERE) as server:
        port = server.address.port
        with ComManager.com_point(COMPOINT_INITIATOR, at(port)) as initiator:
            initiator.write(b"x")
            # The server's side closes first, so its port rests in TIME_WAIT.
            server.accept(timeout=PATIENCE_S).abort("enough")
    ComManager.com_point(COMPOINT_SERVER, ComPointAddress("tcp", port)).close()


def test_ipv6_is_spoken_where_there_is_any() -> None:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6) as free:
            port = free.getsockname()[1]
    except OSError:
        pytest.skip("this machine has no IPv6")
    server = ComManager.com_point(COMPOINT_SERVER, at(port, "::1"))
    with server, ComManager.com_point(COMPOINT_INITIATOR, server.address) as initiator:
        assert initiator.peer == f"tcp://[::1]:{server.address.port}"
        initiator.write(b"six")
        with server.accept(timeout=PATIENCE_S) as responder:
            assert responder.read(timeout=PATIENCE_S) == b"six"
            assert responder.peer.startswith("tcp://[::1]:")


# --- one wire -----------------------------------------------------------------------------------


@pytest.fixture
def wires() -> Iterator[tuple[Wire, Wire]]:
    """Both ends of a connection."""
    listener = TcpOpener().listen(HERE)
    assert listener.accept() is None
    ours = TcpOpener().connect(listener.address, Deadline(PATIENCE_S))
    accepted: list[Wire | None] = []
    eventually(lambda: accepted.append(listener.accept()) or accepted[-1])
    theirs = accepted[-1]
    assert theirs is not None
    yield ours, theirs
    for one in (ours, theirs, listener):
        one.close()


def test_a_waiting_thread_is_woken_by_a_call_and_by_bytes(wires: tuple[Wire, Wire]) -> None:
    ours, theirs = wires
    waiting = Background(ours.wait, None, to_send=False).blocked()
    ours.wake()
    waiting.result()
    waiting = Background(ours.wait, None, to_send=False).blocked()
    theirs.send(b"x")
    waiting.result()
    assert ours.receive(10) == b"x"


def test_a_call_that_comes_before_the_waiting_is_not_lost(wires: tuple[Wire, Wire]) -> None:
    ours, _ = wires
    ours.wake()
    Background(ours.wait, None, to_send=False).result()


@pytest.mark.parametrize("timeout_s", [3e6, 1e9])
def test_a_wire_may_wait_longer_than_the_system_can(
    wires: tuple[Wire, Wire], timeout_s: float
) -> None:
    ours, theirs = wires
    waiting = Background(ours.wait, timeout_s, to_send=False).blocked()
    theirs.send(b"x")
    waiting.result()


def test_many_buffers_leave_together_and_in_order(wires: tuple[Wire, Wire]) -> None:
    ours, theirs = wires
    buffers = [bytes([number]) * 10 for number in range(40)]
    sent = ours.send_many(buffers)
    assert sent >= 160
    theirs.wait(PATIENCE_S, to_send=False)
    assert theirs.receive(1000) == b"".join(buffers)[:sent]


def test_an_empty_wire_has_nothing_and_an_ended_one_has_the_end(wires: tuple[Wire, Wire]) -> None:
    ours, theirs = wires
    with pytest.raises(BlockingIOError):
        ours.receive(10)
    theirs.send(b"last")
    theirs.close()
    ours.wait(PATIENCE_S, to_send=False)
    assert ours.receive(10) == b"last"
    ours.wait(PATIENCE_S, to_send=False)
    assert ours.receive(10) == b""


def test_both_ends_are_known_to_be_on_this_machine(wires: tuple[Wire, Wire]) -> None:
    ours, theirs = wires
    assert ours.is_local
    assert theirs.is_local
    assert ours.peer.startswith("tcp://127.0.0.1:")
