"""The door for both sides: open a channel, or start the place where channels arrive."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from channel.connections import connections
from channel.options import ChannelOptions
from compoint.deadline import Deadline
from compoint.drive.driver import Driver
from compoint.drive.stream_point import StreamPoint
from compoint.errors import Phase, UsageError
from compoint.limits import CORRELATOR_BYTES
from compoint.manager import ComManager

if TYPE_CHECKING:
    from channel.service_point import ChannelServicePoint
    from compoint.address import ComPointAddress
    from compoint.core.stream import Stream

__all__ = ["Channel", "ChannelPoint", "check_correlator"]

_DEFAULTS: Final = ChannelOptions()


class ChannelPoint(StreamPoint):
    """One end of a channel: a ComPoint that shares its connection with others."""

    def __init__(
        self,
        driver: Driver,
        stream: Stream,
        address: ComPointAddress,
        side: str,
        *,
        wide_window: int,
        is_dedicated: bool = False,
    ) -> None:
        name = f"channel {stream.correlator!r} at {address} ({side})"
        super().__init__(driver, stream, address, name, wide_window=wide_window)
        self._is_dedicated = is_dedicated

    @property
    def correlator(self) -> str:
        """The word by which both sides found each other."""
        return self._stream.correlator

    def _release(self) -> None:
        if self._is_dedicated:
            super()._release()
        else:
            self._driver.after_stream()


class Channel:
    """Opens channels. All verbs are static; any thread may call them."""

    @staticmethod
    def open_initiator_channel(
        address: ComPointAddress,
        options: ChannelOptions | None,
        correlator: str,
        *,
        timeout: float | None = None,
    ) -> ChannelPoint:
        """Ask for a channel at a service point and return this end of it.

        Does not wait for a responder: the channel is queued there until one comes, and
        messages may be written at once, up to the first credit. If the service point
        refuses the channel, the next read, write or flush says so. `timeout` bounds the
        reaching of the peer, if there is no connection yet (None: `connectTimeout`).

        Raises:
            UsageError: the correlator is no text or too long.
            AddressError, ConfigError, ConnectError, PointTimeout: as `ComManager.com_point`.
            BusyError: another point of this process has the channel to be resumed.
        """
        check_correlator(correlator)
        chosen = options or _DEFAULTS
        settings = ComManager.settings().point
        deadline = Deadline(settings.connect_timeout_s if timeout is None else timeout)
        is_dedicated = chosen.dedicated or chosen.resume
        if chosen.resume:
            driver, stream = connections.resume(address, correlator, deadline)
        else:
            driver, stream = connections.announce(
                address, correlator, deadline, is_dedicated=is_dedicated
            )
        return ChannelPoint(
            driver,
            stream,
            address,
            "initiator",
            wide_window=settings.wide_window_bytes,
            is_dedicated=is_dedicated,
        )

    @staticmethod
    def start_service_point_thread(address: ComPointAddress) -> ChannelServicePoint:
        """Start the thread that takes channels at a local address.

        Raises:
            AddressError, ConfigError: as `ComManager.com_point`.
            BusyError: another program serves this address.
        """
        from channel.service_point import ChannelServicePoint  # noqa: PLC0415 - a cycle by name

        return ChannelServicePoint(address)


def check_correlator(correlator: str) -> None:
    """Refuse what cannot travel as a correlator, before anything happens."""
    if not isinstance(correlator, str):
        raise UsageError(
            f"a correlator is a str, not {type(correlator).__name__}", phase=Phase.OPEN
        )
    try:
        size = len(correlator.encode())
    except UnicodeEncodeError as fault:
        raise UsageError(
            f"the correlator {correlator!r} is no valid text ({fault.reason})", phase=Phase.OPEN
        ) from fault
    if size > CORRELATOR_BYTES:
        raise UsageError(
            f"a correlator of {size} bytes, allowed are {CORRELATOR_BYTES}", phase=Phase.OPEN,
            hint="send long data as a message",
        )  # fmt: skip
