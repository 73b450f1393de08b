"""The port and peers that are slow, silent, half gone or gone."""

from __future__ import annotations

import contextlib
import os
import socket

import pytest
from port_kit import TEXT, Desk, Peer, Serving, Visit, at_once, get, post, serving

from compoint.limits import MIB
from compoint.testing import eventually

#: Soon, and never while a test runs.
SOON_S = 0.05
#: The same where a test must say something before.
HEAD_S = 0.3
PATIENCE_S = 10.0
CHUNKED = get("/", "Transfer-Encoding: chunked", method="POST")


def says_slowly(peer: Peer, data: bytes) -> bytes:
    """Say one byte after the other, a moment apart, until the other side ends."""
    peer.sock.settimeout(SOON_S / 5)
    with contextlib.suppress(ConnectionError):
        for at in range(len(data)):
            peer.say(data[at : at + 1])
            try:
                peer.sock.recv(1, socket.MSG_PEEK)
                break
            except TimeoutError:
                pass
    peer.sock.settimeout(PATIENCE_S)
    return peer.hear_end()


# --- slow ---------------------------------------------------------------------------------------


def test_a_head_of_one_byte_at_a_time_ends_at_its_deadline() -> None:
    with serving(head_s=HEAD_S) as scene, scene.peer() as peer:
        heard = says_slowly(peer, get("/" + "x" * 1000))
        assert heard.startswith(b"HTTP/1.1 408 ")
        assert b'"title": "too slow"' in heard
        assert scene.statistics.broken == 1
        scene.serves()


def test_a_head_begun_behind_another_request_has_its_own_deadline() -> None:
    with serving(head_s=HEAD_S) as scene, scene.peer() as peer:
        peer.say(get() + b"GET /")
        assert peer.hear().status == 200
        assert peer.hear().status == 408


def test_a_head_begun_on_an_idle_connection_has_the_same_deadline() -> None:
    with serving(head_s=HEAD_S) as scene, scene.peer() as peer:
        peer.say(get())
        assert peer.hear().status == 200
        peer.say(b"GET /")
        assert peer.hear().status == 408


def test_empty_lines_do_not_keep_a_connection() -> None:
    with serving(head_s=HEAD_S) as scene, scene.peer() as peer:
        says_slowly(peer, b"\r\n" * 1000)
        scene.is_empty()
        assert scene.statistics.requests == 0


def test_a_connection_without_a_first_request_is_closed_without_a_word() -> None:
    with serving(head_s=HEAD_S) as scene, scene.peer() as peer:
        assert peer.hear_end() == b""
        assert scene.statistics.broken == 0


def test_an_idle_connection_is_closed_without_a_word() -> None:
    with serving(idle_s=SOON_S) as scene, scene.peer() as peer:
        peer.say(get())
        assert peer.hear().status == 200
        assert peer.hear_end() == b""
        assert scene.statistics.broken == 0


def test_an_idle_connection_has_more_time_than_a_head() -> None:
    with serving(head_s=HEAD_S) as scene, scene.peer() as peer:
        for _ in range(2):
            peer.say(get())
            assert peer.hear().status == 200
            scene.moment(1.5 * HEAD_S)


def test_a_body_that_does_not_begin_ends_at_its_deadline() -> None:
    with serving(Desk(), body_s=SOON_S) as scene, scene.peer() as peer:
        peer.say(get("/", "Content-Length: 10", method="POST"))
        assert peer.hear().status == 408
        scene.desk.told("gone")


def test_a_body_without_progress_ends_at_its_deadline() -> None:
    with serving(Desk(), body_s=SOON_S) as scene, scene.peer() as peer:
        peer.say(get("/", "Content-Length: 10", method="POST") + b"12345")
        assert peer.hear().status == 408
        assert peer.hear_end() == b""
        scene.desk.told("piece", "gone")


def test_a_body_of_a_known_length_of_one_byte_at_a_time_ends_at_its_deadline() -> None:
    with serving(Desk(), body_s=SOON_S) as scene, scene.peer() as peer:
        peer.say(get("/", "Content-Length: 1000", method="POST"))
        assert says_slowly(peer, b"x" * 1000).startswith(b"HTTP/1.1 408 ")
        scene.desk.told("piece", "gone")


def test_a_stream_may_be_slow_as_long_as_it_lives() -> None:
    with serving(Desk(), body_s=10 * SOON_S) as scene, scene.peer() as peer:
        peer.say(CHUNKED)
        for _ in range(15):
            peer.say(b"1\r\nx\r\n")
            scene.moment(SOON_S)
        peer.say(b"0\r\n\r\n")
        scene.desk.told("piece", "complete").answer()
        assert peer.hear().status == 200


def test_a_stream_that_says_nothing_ends_at_its_deadline() -> None:
    with serving(Desk(), body_s=SOON_S) as scene, scene.peer() as peer:
        peer.say(CHUNKED + b"1\r\nx\r\n")
        assert peer.hear().status == 408
        scene.desk.told("piece", "gone")


def test_a_body_that_was_paused_here_is_not_late() -> None:
    pausing = Desk({"begin": lambda visit: visit.exchange.pause()})
    with serving(pausing, body_s=SOON_S) as scene, scene.peer() as peer, scene.peer() as other:
        peer.say(post(b"body"))
        visit = scene.desk.visit()
        other.say(CHUNKED)
        scene.desk.visit(1).exchange.resume()
        assert other.hear().status == 408
        visit.exchange.resume()
        scene.desk.told("piece", "complete").answer()
        assert peer.hear().status == 200


def test_a_parked_request_has_no_deadline_of_the_ports() -> None:
    soon = {"head_s": HEAD_S, "body_s": SOON_S, "take_s": SOON_S, "idle_s": SOON_S}
    with serving(Desk(), **soon) as scene, scene.peer() as peer, scene.peer() as other:
        peer.say(get())
        visit = scene.desk.told("complete")
        assert other.hear_end() == b""  # its time was over, and it came later
        visit.answer()
        assert peer.hear().status == 200


@pytest.mark.parametrize("is_whole", [True, False])
def test_an_answer_that_is_not_taken_is_cut_at_its_deadline(is_whole: bool) -> None:
    def answer(visit: Visit) -> None:
        if is_whole:
            visit.answer(bytes(16 * MIB))
        else:
            visit.exchange.start(200, TEXT)
            visit.exchange.send(bytes(16 * MIB))

    with serving(at_once(answer), take_s=SOON_S) as scene, scene.peer() as peer:
        peer.say(get())
        scene.desk.told(*(["complete"] if is_whole else ["complete", "gone"]))
        scene.is_empty()
        assert scene.statistics.broken == 1
        assert len(peer.hear_end()) < 16 * MIB


def test_a_peer_that_takes_an_answer_slowly_gets_it() -> None:
    body = os.urandom(4 * MIB)
    answering = at_once(lambda visit: visit.answer(body))
    with serving(answering, take_s=20 * SOON_S) as scene, socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 << 10)
        sock.settimeout(PATIENCE_S)
        sock.connect(("127.0.0.1", scene.number))
        sock.sendall(get("/", "Connection: close"))
        heard = b""
        while more := sock.recv(64 << 10):
            heard += more
        assert heard.endswith(body)


def test_a_peer_that_takes_something_now_and_then_has_more_time() -> None:
    answering = at_once(lambda visit: visit.answer(bytes(32 * MIB)))
    with serving(answering, take_s=HEAD_S) as scene, scene.peer() as peer:
        peer.say(get())
        for _ in range(8):
            assert len(peer.hear_bytes(3 * MIB)) == 3 * MIB
            scene.moment(HEAD_S / 3)
        assert len(peer.hear_bytes(8 * MIB)) == 8 * MIB


def test_a_peer_that_stays_behind_its_last_answer_is_left() -> None:
    with serving(linger_s=SOON_S) as scene, scene.peer() as peer:
        peer.say(get("/", "Connection: close"))
        assert peer.hear().status == 200
        scene.is_empty()
        assert peer.hear_end() == b""


# --- gone ---------------------------------------------------------------------------------------


def test_a_peer_that_resets_is_gone_at_once() -> None:
    with serving(Desk(), half_closed_s=PATIENCE_S) as scene:
        with scene.peer() as peer:
            peer.say(get())
            scene.desk.told("complete")
            peer.reset()
            scene.desk.told("complete", "gone").answer()
        assert scene.statistics.broken == 1


def test_a_peer_that_closes_is_gone() -> None:
    with serving(Desk(), half_closed_s=SOON_S) as scene:
        with scene.peer() as peer:
            peer.say(get())
            scene.desk.told("complete")
        scene.desk.told("complete", "gone").answer()


def test_a_peer_that_leaves_within_its_body_is_gone() -> None:
    with serving(Desk(), half_closed_s=PATIENCE_S) as scene:
        with scene.peer() as peer:
            peer.say(get("/", "Content-Length: 10", method="POST") + b"12345")
            scene.desk.told("piece")
        scene.desk.told("piece", "gone")


def test_a_peer_that_leaves_within_a_head_asked_nothing() -> None:
    with serving() as scene:
        with scene.peer() as peer:
            peer.say(b"GET / HTT")
            eventually(lambda: scene.statistics.connections == 1)
        scene.is_empty()
        assert scene.statistics.requests == 0


def test_a_peer_that_resets_while_paused_is_gone() -> None:
    """The pump tells of it although it does not listen."""
    pausing = Desk({"begin": lambda visit: visit.exchange.pause()})
    with serving(pausing) as scene, scene.peer() as peer:
        peer.say(get("/", f"Content-Length: {64 * MIB}", method="POST"))
        scene.desk.visit()
        peer.reset()
        scene.desk.told("gone")


def test_a_peer_that_resets_with_unread_requests_behind_a_parked_one_is_gone() -> None:
    with serving(Desk(), early_bytes=1000) as scene, scene.peer() as peer:
        peer.say(get() + get("/" + "x" * 2000))
        scene.desk.told("complete")
        scene.turn()
        peer.reset()
        scene.desk.told("complete", "gone")


def test_a_peer_that_leaves_while_the_endpoint_begins_is_gone() -> None:
    """Its Taker is not known yet when the loss is noticed."""
    leaving: list[Peer] = []

    def begin(visit: Visit) -> None:
        leaving.pop().reset()
        visit.exchange.start(200, TEXT)
        eventually(lambda: visit.exchange.send(b"x") and not scene.statistics.connections)

    with serving(Desk({"begin": begin})) as scene:
        peer = Peer(scene.number)
        leaving.append(peer)
        peer.say(get())
        scene.desk.told("gone")


def test_a_loss_that_an_answering_thread_notices_is_told_by_the_pump() -> None:
    with serving(Desk(), half_closed_s=PATIENCE_S) as scene, scene.peer() as peer:
        peer.say(get())
        visit = scene.desk.told("complete")
        with scene.held_pump():
            peer.reset()
            visit.exchange.start(200, TEXT)
            eventually(lambda: visit.exchange.send(b"x") and not scene.statistics.connections)
            assert visit.told == ["complete"]
        scene.desk.told("complete", "gone")
        assert visit.threads == {"port-pump"}


def test_a_streamed_answer_notices_that_its_peer_has_gone() -> None:
    with serving(Desk(), half_closed_s=PATIENCE_S) as scene:
        with scene.peer() as peer:
            peer.say(get())
            exchange = scene.desk.told("complete").exchange
            exchange.start(200, TEXT)
            while peer.hear_line() != b"\r\n":
                pass
        eventually(lambda: exchange.send(b"x") and scene.statistics.connections == 0)
        scene.desk.told("complete", "gone")


def test_who_is_gone_is_told_of_nothing_more() -> None:
    with serving(Desk(), half_closed_s=SOON_S) as scene:
        with scene.peer() as peer:
            peer.say(get())
            visit = scene.desk.told("complete")
        scene.desk.told("complete", "gone")
        visit.exchange.start(200, TEXT)
        visit.exchange.pause()
        visit.exchange.resume()
        visit.exchange.end()
        scene.turn()
        assert visit.told == ["complete", "gone"]


def test_who_was_answered_is_not_gone() -> None:
    with serving() as scene:
        with scene.peer() as peer:
            peer.say(get())
            peer.hear()
        scene.is_empty()
        assert scene.desk.visit().told == ["complete"]
        assert scene.statistics.broken == 0


# --- half closed --------------------------------------------------------------------------------


def test_a_peer_that_has_ended_its_output_is_answered_within_a_moment() -> None:
    with serving(Desk(), half_closed_s=PATIENCE_S) as scene, scene.peer() as peer:
        peer.say(get("/0") + get("/1"))
        peer.end()
        for number in range(2):
            visit = scene.desk.told("complete", number=number)
            scene.turn()
            visit.answer(b"%d" % number)
            assert peer.hear().body == b"%d" % number
        assert peer.hear_end() == b""


def test_a_peer_that_has_ended_its_output_is_gone_behind_that_moment() -> None:
    with serving(Desk(), half_closed_s=SOON_S) as scene, scene.peer() as peer:
        peer.say(get())
        peer.end()
        scene.desk.told("complete", "gone")
        assert peer.hear_end() == b""


def test_each_request_of_a_peer_that_has_ended_its_output_has_that_moment() -> None:
    with serving(Desk(), half_closed_s=HEAD_S) as scene, scene.peer() as peer:
        peer.say(get() + get())
        peer.end()
        scene.desk.told("complete").answer()
        scene.desk.told("complete", "gone", number=1)


def test_a_peer_that_has_ended_its_output_is_left_with_its_last_answer() -> None:
    with serving(Desk(), linger_s=60, half_closed_s=PATIENCE_S) as scene, scene.peer() as peer:
        peer.say(get("/", "Connection: close"))
        peer.end()
        visit = scene.desk.told("complete")
        scene.turn()
        visit.answer()
        assert peer.hear().status == 200
        scene.is_empty()


def test_a_peer_that_has_ended_its_output_gets_a_large_answer_whole() -> None:
    body = os.urandom(16 * MIB)
    answering = at_once(lambda visit: visit.answer(body))
    with serving(answering, half_closed_s=SOON_S) as scene, scene.peer() as peer:
        peer.say(get())
        peer.end()
        scene.desk.told("complete")
        scene.turn()
        assert peer.hear().body == body
        assert peer.hear_end() == b""


# --- and nothing spins --------------------------------------------------------------------------


def turns_in_a_moment(scene: Serving) -> int:
    """How often the pump wakes by itself within a moment."""
    count = 0
    poller = scene.port.pump._poller
    wait = poller.wait

    def counted(timeout_s: float | None) -> list[int]:
        nonlocal count
        count += 1
        return wait(timeout_s)

    scene.turn()
    poller.wait = counted  # type: ignore[method-assign]
    scene.moment(0.2)
    poller.wait = wait  # type: ignore[method-assign]
    return count


@pytest.mark.parametrize("scene_name", ["parked", "ended", "ended and full", "early", "paused"])
def test_who_is_waited_for_costs_no_time(scene_name: str) -> None:
    """Unread input, the end of it and room for output must not keep the pump awake."""
    when = {"begin": lambda visit: visit.exchange.pause()} if scene_name == "paused" else {}
    with (
        serving(Desk(when), sweep_s=0.1, half_closed_s=PATIENCE_S, early_bytes=1000) as scene,
        scene.peer() as peer,
    ):
        peer.say(post(b"body"))
        visit = scene.desk.visit()
        if scene_name != "paused":
            scene.desk.told("piece", "complete")
        if scene_name.startswith("ended"):
            peer.end()
        if scene_name == "early":
            peer.say(b"x" * 100_000)
        if scene_name == "ended and full":
            visit.exchange.start(200, TEXT)
            while visit.exchange.send(bytes(MIB)):
                pass
        assert turns_in_a_moment(scene) < 60
        visit.exchange.end() if scene_name == "ended and full" else visit.answer()
