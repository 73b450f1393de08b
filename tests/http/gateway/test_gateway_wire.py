"""The wire between a server and the gateway, by itself."""

from __future__ import annotations

import pytest

from compoint.http._gateway_wire import GatewayWire
from compoint.testing import Background


class Far:
    """What stands at the other end."""

    def __init__(self) -> None:
        self.taken: list[bytes] = []
        self.losses = 0
        self.wire = GatewayWire("test", is_local=True, take=self.taken.append, lost=self._lose)

    def _lose(self) -> None:
        self.losses += 1


@pytest.fixture
def far() -> Far:
    return Far()


def test_what_the_server_sends_is_taken_at_once(far: Far) -> None:
    assert far.wire.send(memoryview(b"abc")) == 3
    assert far.wire.send_many([b"de", b"f"]) == 3
    assert far.taken == [b"abc", b"def"]


def test_bytes_come_out_in_order_however_they_are_cut(far: Far) -> None:
    far.wire.put([b"hello ", memoryview(b"world"), b"!"])
    room = bytearray(4)
    assert far.wire.receive(3) == b"hel"
    assert far.wire.receive_into(memoryview(room)) == 4
    assert room == b"lo w"
    assert far.wire.receive(100) == b"orld!"
    with pytest.raises(BlockingIOError):
        far.wire.receive(1)


def test_what_was_said_before_the_end_is_still_received(far: Far) -> None:
    far.wire.put([b"last words"])
    far.wire.end()
    assert far.wire.receive(100) == b"last words"
    assert far.wire.receive(100) == b""
    with pytest.raises(BrokenPipeError):
        far.wire.send(b"too late")


@pytest.mark.parametrize("what", ["bytes", "end", "call", "close"])
def test_a_waiting_thread_is_woken(far: Far, what: str) -> None:
    waiting = Background(far.wire.wait, None, to_send=False).blocked()
    if what == "bytes":
        far.wire.put([b"x"])
    else:
        {"end": far.wire.end, "call": far.wire.wake, "close": far.wire.close}[what]()
    waiting.result()


def test_there_is_always_room_to_send(far: Far) -> None:
    far.wire.wait(None, to_send=True)


def test_a_listener_is_called_for_bytes_and_for_the_end(far: Far) -> None:
    calls: list[str] = []
    far.wire.on_ready(lambda: calls.append("ready"))
    assert calls == []
    far.wire.put([b"x"])
    far.wire.end()
    assert len(calls) == 2


def test_a_listener_that_comes_late_is_called_at_once(far: Far) -> None:
    far.wire.put([b"x"])
    calls: list[str] = []
    far.wire.on_ready(lambda: calls.append("ready"))
    assert calls == ["ready"]
    far.wire.on_ready(None)
    far.wire.put([b"y"])
    assert calls == ["ready"]


def test_closing_tells_the_other_end_once(far: Far) -> None:
    far.wire.close()
    far.wire.close()
    assert far.losses == 1
    assert far.wire.receive(1) == b""
    far.wire.put([b"nobody takes it"])
    assert far.wire.receive(1) == b""


def test_a_childs_copy_tells_nobody(far: Far) -> None:
    far.wire.close_copy()
    assert far.losses == 0
