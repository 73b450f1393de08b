"""Every blocking call of the product, up to the moment in which it blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from channel import Channel, ChannelServicePoint
from compoint import (
    COMPOINT_INITIATOR,
    COMPOINT_SERVER,
    ClosedError,
    ComManager,
    ComPoint,
    ComPointAddress,
    PointTimeout,
    Receipt,
    SessionLostError,
)
from compoint.point import ServerComPoint

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["CALLS", "POINT_CALLS", "SILENT_CALLS", "Scene"]

PATIENCE_S: Final = 5.0

POINT_CALLS: Final = tuple(
    f"{kind} {verb}"
    for kind in ("plain", "channel")
    for verb in ("read", "write", "flush", "close")
)
CALLS: Final = (
    "plain connect", "channel connect", "plain accept", "channel accept", *POINT_CALLS,
)  # fmt: skip

#: These wait for the peer's process, so it must be silent before they can block.
SILENT_CALLS: Final = tuple(call for call in POINT_CALLS if call.endswith(("flush", "close")))


class Scene:
    """One call: `open`, then the peer accepts, then `load`, then `block` blocks."""

    def __init__(self, call: str, plain_port: int, channel_port: int, full_port: int = 0) -> None:
        self.call = call
        self.kind, self.verb = call.split()
        self.port = plain_port if self.kind == "plain" else channel_port
        self.full_port = full_port
        self.point: ComPoint | None = None
        self.server: ServerComPoint | ChannelServicePoint | None = None

    def open(self) -> None:
        """Everything before the peer must do something."""
        if self.verb == "accept":
            here = ComPointAddress("tcp", 0)
            if self.kind == "plain":
                self.server = ComManager.com_point(COMPOINT_SERVER, here)
            else:
                self.server = Channel.start_service_point_thread(here)
        elif self.verb != "connect":
            self.point = self._connect(self.port, None)

    def _connect(self, port: int, timeout: float | None) -> ComPoint:
        address = ComPointAddress("tcp", "127.0.0.1", port)
        if self.kind == "plain":
            return ComManager.com_point(COMPOINT_INITIATOR, address, timeout=timeout)
        return Channel.open_initiator_channel(address, None, "scene", timeout=timeout)

    def greet(self) -> None:
        """The peer has accepted: wait until this side knows that, so nothing else is new."""
        if self.point is not None:
            self.point.write(b"first")
            self.point.flush(timeout=PATIENCE_S)

    def load(self) -> None:
        """Make sure that the call will block."""
        assert self.point is not None
        if self.verb == "write":
            for piece in (b"f" * 100_000, b""):
                self._fill(piece)
        elif self.verb in ("flush", "close"):
            self.point.write(b"unconfirmed")

    def _fill(self, piece: bytes) -> None:
        assert self.point is not None
        while True:
            try:
                self.point.write(piece, timeout=0.03)
            except PointTimeout:
                return

    def block(self, timeout: float | None = None) -> Any:
        """The call itself."""
        if self.verb == "connect":
            # Without a timeout the setting `connectTimeout` holds, which is long enough.
            return self._connect(self.full_port, timeout)
        if isinstance(self.server, ServerComPoint):
            return self.server.accept(timeout=timeout)
        if self.server is not None:
            return self.server.open_responder_channel(None, "scene", timeout=timeout)
        assert self.point is not None
        calls: dict[str, Callable[[], Any]] = {
            "read": lambda: self.point.read(timeout=timeout),  # type: ignore[union-attr]
            "write": lambda: self.point.write(b"x" * 1000, timeout=timeout),  # type: ignore[union-attr]
            "flush": lambda: self.point.flush(timeout=timeout),  # type: ignore[union-attr]
            "close": lambda: self.point.close(timeout=timeout),  # type: ignore[union-attr]
        }
        return calls[self.verb]()

    def close(self) -> None:
        """What another thread does to end the call."""
        if isinstance(self.server, ChannelServicePoint):
            self.server.stop()
        elif self.server is not None:
            self.server.close()
        elif self.point is not None:
            self.point.close(timeout=0)

    def check_usable(self) -> None:
        """After a deadline or Ctrl-C nothing is lost: the same call, now possible, succeeds.

        The peer has been told to do its part (`help_for`).
        """
        if self.verb == "connect":
            point = self._connect(self.port, PATIENCE_S)
            point.write(b"hello")
            point.flush(timeout=PATIENCE_S)
            point.close()
        elif self.verb == "accept":
            assert self.server is not None
            initiator = self._connect(self.server.address.port, PATIENCE_S)
            initiator.write(b"hello")
            responder = self.block(PATIENCE_S)
            assert responder.read(timeout=PATIENCE_S) == b"hello"
            responder.close()
            initiator.close()
        else:
            self._check_point_usable()

    def _check_point_usable(self) -> None:
        assert self.point is not None
        if self.verb == "read":
            assert self.point.read(timeout=PATIENCE_S) == b"hello"
        elif self.verb == "write":
            self.point.write(b"after", timeout=PATIENCE_S)
            assert self.point.statistics().is_open
        elif self.verb == "flush":
            self.point.flush(timeout=PATIENCE_S)
            assert self.point.statistics().confirmed == 2
        else:
            receipt = self.point.close(timeout=PATIENCE_S)
            assert receipt.written == 2
            assert receipt.is_complete or receipt.reason

    def check_closed(self) -> None:
        """After the own close every use says so."""
        if self.server is not None:
            _expect(ClosedError, lambda: self.block(0))
            assert not self.server.statistics().is_open
            return
        assert self.point is not None
        for use in self._uses():
            _expect(ClosedError, use)
        assert not self.point.statistics().is_open

    def check_lost(self) -> None:
        """After the loss of the peer every use says so, and the receipt names the missing."""
        assert self.point is not None
        if self.verb != "close":
            for use in self._uses():
                _expect(SessionLostError, use)
        assert not self.point.statistics().is_open
        receipt = self.point.close()
        assert receipt.is_complete or receipt.reason
        if self.verb in ("flush", "close"):
            assert receipt.unconfirmed == range(2, 3)

    def _uses(self) -> tuple[Callable[[], Any], ...]:
        point = self.point
        assert point is not None
        return (lambda: point.read(timeout=1), lambda: point.write(b"late", timeout=1))

    def tidy(self) -> None:
        if isinstance(self.server, ChannelServicePoint):
            self.server.stop()
        elif self.server is not None:
            self.server.close()
        if self.point is not None:
            self.point.abort("the scene is over")


def help_for(call: str) -> str:
    """What the peer must be told, so that the call can succeed after all."""
    kind, verb = call.split()
    return {"read": "write", "write": "drain", "connect": f"accept {kind}"}.get(verb, "")


def check_receipt(receipt: Receipt) -> None:
    """A close that could not confirm everything returns and names it."""
    assert receipt.unconfirmed == range(2, 3)
    assert receipt.reason


def _expect(kind: type[BaseException], use: Callable[[], Any]) -> None:
    try:
        value = use()
    except kind:
        return
    raise AssertionError(f"{value!r} instead of {kind.__name__}")
