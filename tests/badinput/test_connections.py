"""A peer that breaks the rules before the greeting, or on the connection itself."""

from __future__ import annotations

import contextlib
import random
import socket
import struct
import tracemalloc
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Final

import pytest
from rude import HERE, PATIENCE_S, SCENES, Pair, Scene, hear_reset, words_of

from channel import Channel, ChannelServicePoint
from compoint import (
    COMPOINT_INITIATOR,
    COMPOINT_SERVER,
    ComManager,
    ComPoint,
    ComPointAddress,
    EndOfMessages,
    Fate,
    FrameError,
    ServerComPoint,
    SessionLostError,
    VersionError,
)
from compoint.core import connection
from compoint.core.codes import Code
from compoint.core.framing import HEADER, MAY_SKIP, Kind
from compoint.core.greeting import MAGIC, Greeting, Mode, Refusal
from compoint.limits import CONTROL_BYTES, GIB, MIB, SKIP_BYTES, UNGREETED
from compoint.testing import ScriptedPeer, ScriptedServer, configured, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

HEAD: Final = struct.Struct("!8sBBBxI")
GREETING: Final = Greeting(Mode.PLAIN, GIB, MIB, 0, bytes(16))


# --- at our door --------------------------------------------------------------------------------


class Door:
    """A plain server or a service point, with a conversation in good order going on there."""

    def __init__(self, kind: str) -> None:
        self.mode = Mode.PLAIN if kind == "plain" else Mode.CHANNELS
        self.place: ServerComPoint | ChannelServicePoint
        if kind == "plain":
            self.place = ComManager.com_point(COMPOINT_SERVER, HERE)
        else:
            self.place = Channel.start_service_point_thread(HERE)
        self.port = self.place.address.port
        self.good = self.pair()

    def pair(self) -> Pair:
        """Two good ends, new ones."""
        address = ComPointAddress("tcp", "127.0.0.1", self.port)
        initiator: ComPoint
        if isinstance(self.place, ServerComPoint):
            initiator = ComManager.com_point(COMPOINT_INITIATOR, address)
            initiator.write(0)
            responder = self.place.accept(timeout=PATIENCE_S)
        else:
            initiator = Channel.open_initiator_channel(address, None, "good")
            initiator.write(0)
            responder = self.place.open_responder_channel(None, "good", timeout=PATIENCE_S)
        assert responder.read(timeout=PATIENCE_S) == 0
        return Pair(initiator, responder)

    def close(self) -> None:
        self.good.check()
        self.good.initiator.abort("the test is over")
        self.good.responder.abort("the test is over")
        if isinstance(self.place, ServerComPoint):
            self.place.close()
        else:
            self.place.stop()


@pytest.fixture(params=["plain", "channels"])
def door(request: pytest.FixtureRequest) -> Iterator[Door]:
    door = Door(request.param)
    yield door
    door.close()


def greeting(mode: Mode, **changes: object) -> bytes:
    parts = {"mode": mode, "message_limit": GIB, "window": MIB, "heartbeat_ms": 0,
             "session": bytes(16), **changes}  # fmt: skip
    return Greeting(**parts).encode()  # type: ignore[arg-type]


_GARBAGE: Final[dict[str, tuple[bytes, str]]] = {
    "random bytes": (random.Random(7).randbytes(100_000), "no protocol we know"),
    "zeros": (bytes(100_000), "no protocol we know"),
    "half a magic": (MAGIC[:4] + b"junk", "no protocol we know"),
    "a huge greeting": (HEAD.pack(MAGIC, 1, 1, 1, GIB), f"a greeting of {GIB} bytes"),
    "a short greeting": (HEAD.pack(MAGIC, 1, 1, 1, 5) + b"short", "a damaged greeting"),
    "an unknown mode": (HEAD.pack(MAGIC, 1, 1, 9, 38) + GREETING.encode()[16:54], "a damaged"),
    "a path that lies": (
        HEAD.pack(MAGIC, 1, 1, 1, 38) + GREETING.encode()[16:52] + b"\xff\xff",
        "the path is longer than the greeting",
    ),
    "no window": (
        HEAD.pack(MAGIC, 1, 1, 1, 38) + struct.pack("!QQI16sH", GIB, 0, 0, bytes(16), 0),
        "a window of 0 bytes",
    ),
    "a welcome": (greeting(Mode.WELCOME), "in the wrong direction"),
    "a refusal": (Refusal(Code.BUSY, "me first").encode(), "in the wrong direction"),
}


@pytest.mark.parametrize("what", _GARBAGE)
def test_garbage_in_the_place_of_a_greeting(door: Door, what: str) -> None:
    says, words = _GARBAGE[what]
    with ScriptedPeer.visit(door.port) as peer:
        with contextlib.suppress(ConnectionError):  # closed before all of it was said
            peer.say(says)
        refusal = peer.hear_greeting()
        assert isinstance(refusal, Refusal)
        assert refusal.code is Code.BAD_GREETING
        assert words in refusal.text
    eventually(lambda: door.place.statistics().foreign == 1)
    door.good.check()


@pytest.mark.parametrize(("newest", "oldest"), [(0, 0), (9, 2), (255, 255), (1, 2)])
def test_an_initiator_of_another_version(door: Door, newest: int, oldest: int) -> None:
    with ScriptedPeer.visit(door.port) as peer:
        peer.say(HEAD.pack(MAGIC, newest, oldest, door.mode, GIB))
        refusal = peer.hear_greeting()
        assert isinstance(refusal, Refusal)
        text = f"this side speaks version 1 of the protocol, the peer versions {oldest} to {newest}"
        assert (refusal.code, refusal.text) == (Code.VERSION, text)
        assert peer.hear_all() == b""


def test_an_initiator_of_a_later_version_that_knows_ours_too(door: Door) -> None:
    later = greeting(door.mode, newest=7)
    # Its greeting may have more in it than ours.
    body = later[HEAD.size :] + b"extensions of a later version"
    with ScriptedPeer.visit(door.port) as peer:
        peer.say(HEAD.pack(MAGIC, 7, 1, door.mode, len(body)) + body)
        welcome = peer.hear_greeting()
        assert isinstance(welcome, Greeting)
        assert welcome.newest == 1


def test_a_peer_that_trickles_its_greeting_for_ever_is_sent_away_in_time() -> None:
    with configured(compoint={"greetingTimeout": "0.3 s"}):
        door = Door("plain")
    try:
        with ScriptedPeer.visit(door.port) as peer:
            peer.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            peer.socket.settimeout(0.02)
            said, heard = 0, b""
            slow = greeting(Mode.PLAIN, path="/" + "x" * 4000)
            while not heard:
                peer.say(slow[said : said + 1])
                said += 1
                door.good.check()
                try:
                    heard = peer.socket.recv(4096)
                except TimeoutError:
                    continue
            assert b"no greeting within 0.3 s" in heard
            assert said < len(slow)
    finally:
        door.close()


def test_a_peer_that_says_one_byte_at_a_time_is_understood(door: Door) -> None:
    with ScriptedPeer.visit(door.port) as peer, ExitStack() as stack:
        peer.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        says = greeting(door.mode)
        if door.mode is Mode.CHANNELS:
            payload = struct.pack("!Q", MIB) + b"slow"
            says += HEADER.pack(Kind.ANNOUNCE, 0, 0, 1, 0, len(payload)) + payload
        says += HEADER.pack(Kind.MESSAGE, 0, 0, 1, 0, 5) + b"hello"
        says += HEADER.pack(Kind.START, 0, 0, 1, 0, 8) + struct.pack("!Q", 4)
        for piece in (b"wo", b"rd"):
            says += HEADER.pack(Kind.MORE, 0, 0, 1, 0, 2) + piece
        for number in range(len(says)):
            peer.say(says[number : number + 1])
            if number % 16 == 0:
                door.good.check()
        if isinstance(door.place, ServerComPoint):
            point = door.place.accept(timeout=PATIENCE_S)
        else:
            point = door.place.open_responder_channel(None, "slow", timeout=PATIENCE_S)
        stack.callback(point.abort, "the test is over")
        assert [point.read(timeout=PATIENCE_S) for _ in range(2)] == [b"hello", b"word"]


def test_three_hundred_silent_connections_do_not_disturb_and_are_sent_away() -> None:
    with configured(compoint={"greetingTimeout": "1 s"}), ExitStack() as stack:
        door = Door("channels")
        stack.callback(door.close)
        for _ in range(300):
            stack.enter_context(ScriptedPeer.visit(door.port))
            door.good.check()
        eventually(lambda: door.place.statistics().refused == 300 - UNGREETED)
        assert door.place.statistics().ungreeted == UNGREETED
        eventually(lambda: door.place.statistics().ungreeted == 0)
        newcomer = door.pair()
        newcomer.check()
        newcomer.initiator.abort("the test is over")
        newcomer.responder.abort("the test is over")


def test_a_flood_behind_a_greeting_that_is_refused(door: Door) -> None:
    """What nobody has asked for is not kept."""
    other = Mode.CHANNELS if door.mode is Mode.PLAIN else Mode.PLAIN
    says = greeting(other) + bytes(4 * MIB)
    with ScriptedPeer.visit(door.port) as peer:
        with suppress(ConnectionError):
            peer.say(says)
        # The rest of the flood may have turned the refusal into a reset on its way.
        with contextlib.suppress(ConnectionError, EOFError):
            refusal = peer.hear_greeting()
            assert isinstance(refusal, Refusal)
            assert refusal.code is Code.WRONG_MODE
    door.good.check()


# --- our initiator at a rude server ---------------------------------------------------------------


@pytest.fixture(params=["plain", "channel"])
def reached(request: pytest.FixtureRequest) -> Iterator[tuple[ComPoint, ScriptedPeer]]:
    """An initiator's point that has said something, and the server it has reached."""
    with ExitStack() as stack:
        server = stack.enter_context(ScriptedServer())
        address = ComPointAddress("tcp", "127.0.0.1", server.port)
        point: ComPoint
        if request.param == "plain":
            point = ComManager.com_point(COMPOINT_INITIATOR, address)
        else:
            point = Channel.open_initiator_channel(address, None, "lost")
        stack.callback(point.abort, "the test is over")
        point.write(b"hello")
        peer = stack.enter_context(server.meet())
        peer.hear_greeting()
        yield point, peer


def check_told(point: ComPoint, kind: type[Exception], words: str) -> None:
    for call in (point.read, point.flush):
        with pytest.raises(kind, match=words) as caught:
            call(timeout=PATIENCE_S)
        assert caught.value.fate is Fate.NOT_SENT  # type: ignore[attr-defined]
    assert point.close(timeout=PATIENCE_S).unconfirmed == range(1, 2)


def test_a_server_with_a_greeting_of_a_gibibyte(reached: tuple[ComPoint, ScriptedPeer]) -> None:
    point, peer = reached
    tracemalloc.start()
    try:
        peer.say(HEAD.pack(MAGIC, 1, 1, Mode.WELCOME, GIB) + bytes(1000))
        check_told(point, FrameError, f"a greeting of {GIB} bytes, allowed are 4096")
        _, most_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most_bytes < MIB
    assert peer.hear_all() is not None


def test_a_server_of_another_version(reached: tuple[ComPoint, ScriptedPeer]) -> None:
    point, peer = reached
    peer.say(HEAD.pack(MAGIC, 5, 4, Mode.WELCOME, 100))
    check_told(point, VersionError, "this side speaks version 1 .*, the peer versions 4 to 5")


def test_a_server_that_refuses_our_version(reached: tuple[ComPoint, ScriptedPeer]) -> None:
    point, peer = reached
    peer.say(Refusal(Code.VERSION, "only version 4 here").encode())
    check_told(point, VersionError, "only version 4 here")


@pytest.mark.parametrize("mode", [Mode.PLAIN, Mode.CHANNELS, Mode.STATUS])
def test_a_server_that_greets_like_an_initiator(
    reached: tuple[ComPoint, ScriptedPeer], mode: Mode
) -> None:
    point, peer = reached
    peer.say(greeting(mode))
    check_told(point, FrameError, f"in the wrong direction \\({mode.name.lower()}\\)")


def test_a_server_that_refuses_with_a_code_nobody_knows(
    reached: tuple[ComPoint, ScriptedPeer],
) -> None:
    point, peer = reached
    body = struct.pack("!HI", 999, 0xFFFFFFFF) + b"because of the weather \xff"
    peer.say(HEAD.pack(MAGIC, 1, 1, Mode.REFUSAL, len(body)) + body)
    with pytest.raises(Exception, match="because of the weather") as caught:
        point.read(timeout=PATIENCE_S)
    assert caught.value.code == "internal"  # type: ignore[attr-defined]


# --- the connection itself ------------------------------------------------------------------------


@pytest.fixture(params=sorted(SCENES))
def broken(request: pytest.FixtureRequest) -> Iterator[Scene]:
    """A scene whose scripted connection ends; the good pair elsewhere must not notice."""
    with SCENES[request.param]() as scene:
        yield scene
        scene.good.check()


def check_connection_reset(scene: Scene, code: Code, text: str) -> None:
    """The peer is told why and left; all programs on that connection are told, too."""
    assert hear_reset(scene.peer, stream=0) == (code, text)
    assert scene.peer.hear_all() == b""
    for point in (scene.point, scene.neighbour):
        if point is not None:
            _, error = words_of(point)
            assert isinstance(error, SessionLostError)
            assert error.what == f"the peer broke the rules: {text}"


@pytest.mark.parametrize("stream", [0, 1, 55])
@pytest.mark.parametrize("length", [SKIP_BYTES + 1, 0xFFFF_FFFF])
def test_a_frame_too_long_to_be_skipped(broken: Scene, stream: int, length: int) -> None:
    broken.peer.say_frame(Kind.MESSAGE, b"x", stream=stream, length=length)
    check_connection_reset(broken, Code.FRAME_TOO_LONG, f"a frame of {length} bytes")


@pytest.mark.parametrize("kind", [Kind.MESSAGE, Kind.CREDIT, 0, 77])
def test_a_frame_that_has_no_place_on_the_connection_itself(broken: Scene, kind: int) -> None:
    broken.peer.say_frame(kind, b"x", stream=0)
    text = f"a frame of kind {int(kind)} for the connection itself"
    check_connection_reset(broken, Code.UNKNOWN_FRAME, text)


@pytest.mark.parametrize("kind", [Kind.PING, Kind.PONG, Kind.RESET, Kind.GOODBYE])
def test_a_frame_too_long_on_the_connection_itself(broken: Scene, kind: Kind) -> None:
    length = CONTROL_BYTES + 1
    broken.peer.say_frame(kind, bytes(length), stream=0)
    check_connection_reset(broken, Code.FRAME_TOO_LONG, f"a {kind.name} frame of {length} bytes")


@pytest.mark.parametrize("kind", [Kind.RESET, Kind.GOODBYE])
def test_a_frame_too_short_on_the_connection_itself(broken: Scene, kind: Kind) -> None:
    broken.peer.say_frame(kind, b"x", stream=0)
    code, text = hear_reset(broken.peer, stream=0)
    assert code is Code.BAD_FRAME
    assert text.startswith(f"a damaged {kind.name} frame")


def test_an_unknown_frame_for_the_connection_that_may_be_skipped(scene: Scene) -> None:
    scene.peer.say_frame(77, b"x" * 10_000, stream=0, flags=MAY_SKIP)
    scene.peer.say_frame(Kind.MESSAGE, b"behind it")
    assert scene.point.read(timeout=PATIENCE_S) == b"behind it"


def test_a_goodbye_to_the_connection_leaves_its_conversations_alone(scene: Scene) -> None:
    scene.peer.say_frame(Kind.GOODBYE, bytes(10) + b"I want no more channels", stream=0)
    scene.peer.say_frame(Kind.MESSAGE, b"but this one")
    assert scene.point.read(timeout=PATIENCE_S) == b"but this one"


def test_a_channel_announced_behind_a_goodbye_to_the_connection() -> None:
    with SCENES["channel responder"]() as scene:
        scene.peer.say_frame(Kind.GOODBYE, bytes(10), stream=0)
        payload = struct.pack("!Q", MIB) + b"after all"
        scene.peer.say_frame(Kind.ANNOUNCE, payload, stream=3)
        assert hear_reset(scene.peer, stream=3)[0] is Code.STOPPED
        scene.check_others()
        assert isinstance(scene.place, ChannelServicePoint)
        assert scene.place.statistics().queued == 0


def test_a_goodbye_in_the_middle_of_a_message_loses_it_and_says_so(broken: Scene) -> None:
    broken.peer.say_frame(Kind.MESSAGE, b"whole")
    broken.peer.say_frame(Kind.START, struct.pack("!Q", 100))
    broken.peer.say_frame(Kind.MORE, b"half")
    broken.peer.hang_up()
    read, error = words_of(broken.point)
    assert read == [b"whole"]
    assert isinstance(error, SessionLostError)


def _say_for_ever(peer: ScriptedPeer, what: bytes) -> None:
    while True:
        peer.say(what)


def test_a_peer_that_asks_and_never_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers are owed to it; they may not pile up without end."""
    monkeypatch.setattr(connection, "CONTROL_FLOOD_BYTES", MIB // 4)
    pings = HEADER.pack(Kind.PING, 0, 0, 0, 0, 0) * 4096
    with SCENES["plain responder"]() as scene:
        with pytest.raises(ConnectionError):
            _say_for_ever(scene.peer, pings)
        _, error = words_of(scene.point)
        assert isinstance(error, SessionLostError)
        assert "of answers were asked for and not read" in str(error)
        scene.good.check()


def test_a_peer_that_closed_in_good_order_is_no_rude_one(broken: Scene) -> None:
    broken.peer.say_frame(Kind.GOODBYE, bytes(10))
    with pytest.raises(EndOfMessages):
        broken.point.read(timeout=PATIENCE_S)
