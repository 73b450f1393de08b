"""ComManager: looks at the protocol of an address and opens the point that speaks it."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import threading
from typing import TYPE_CHECKING, Final, Literal, overload

from compoint.deadline import Deadline
from compoint.errors import (
    AddressError,
    ConfigError,
    Phase,
    ShadowedPackageError,
    UsageError,
)
from compoint.point import ComPoint, ComPointKind, ServerComPoint

if TYPE_CHECKING:
    from compoint.address import ComPointAddress
    from compoint.config import Settings
    from compoint.drive.wire import Opener

__all__ = ["ENTRY_POINTS", "ComManager"]

ENTRY_POINTS: Final = "compoint.transports"

#: Our own transports: where each protocol's opener is found. Imported on first use.
_BUILT_IN: Final = {
    "tcp": ("compoint.tcp", "TcpOpener"),
    "memory": ("compoint.memory", "MemoryOpener"),
    "mail": ("mail", "MailOpener"),
}


class ComManager:
    """The door to the transports. All verbs are class methods; any thread may call them."""

    _lock = threading.RLock()
    _settings: Settings | None = None
    _openers: dict[str, Opener] = {}
    #: Why a transport is not configured, by protocol; empty text: it is.
    _states: dict[str, str] = {}

    @classmethod
    def init(cls, path: str | os.PathLike[str] | None = None) -> dict[str, str]:
        """Read the `_sempconfig` file and initialise every transport.

        The file is `path`, else $SEMPCONFIG, else `./_sempconfig`, else `~/_sempconfig`,
        else the defaults hold. Returns for each protocol an empty text, or why it is not
        configured. Calling it again reads the settings anew for what is opened later. A
        program that never calls it works with what the first use finds.

        Raises:
            ConfigError: lists every fault of the file; nothing was changed.
        """
        from compoint.config import load  # noqa: PLC0415 - light import

        settings = load(path)
        with cls._lock:
            cls._use(settings)
            for protocol in cls._known():
                cls._initialise(protocol, settings)
            return dict(sorted(cls._states.items()))

    @classmethod
    def settings(cls) -> Settings:
        """The settings in force; reads them first if nobody has."""
        with cls._lock:
            if cls._settings is None:
                from compoint.config import load  # noqa: PLC0415 - light import

                cls._use(load())
            assert cls._settings is not None
            return cls._settings

    @classmethod
    def _use(cls, settings: Settings) -> None:
        from compoint.drive.lifetime import lifetime  # noqa: PLC0415 - light import

        cls._settings = settings
        lifetime.exit_s = settings.point.exit_timeout_s

    @overload
    @classmethod
    def com_point(
        cls,
        kind: Literal[ComPointKind.INITIATOR],
        address: ComPointAddress,
        *,
        timeout: float | None = ...,
    ) -> ComPoint: ...

    @overload
    @classmethod
    def com_point(
        cls,
        kind: Literal[ComPointKind.SERVER],
        address: ComPointAddress,
        *,
        timeout: float | None = ...,
    ) -> ServerComPoint: ...

    @classmethod
    def com_point(
        cls, kind: ComPointKind, address: ComPointAddress, *, timeout: float | None = None
    ) -> ComPoint | ServerComPoint:
        """Open a ComPoint of the kind COMPOINT_INITIATOR or COMPOINT_SERVER.

        An initiator's way to the peer is opened within `timeout` seconds (None: the
        setting `connectTimeout`). A server only listens; it never waits here.

        Raises:
            AddressError: the protocol is unknown, or the address lacks what it needs.
            ConfigError: the transport is not configured, or `_sempconfig` has faults.
            ConnectError: the peer was not reached, or the address cannot be used here.
            BusyError: another program serves this address.
            PointTimeout: the peer was not reached in time.
        """
        from compoint.drive.plain import PlainServer, open_plain  # noqa: PLC0415 - light import

        opener = cls.opener(address.protocol)
        settings = cls.settings().point
        if kind is ComPointKind.SERVER:
            return PlainServer(opener, address, settings)
        if kind is not ComPointKind.INITIATOR:
            raise UsageError(
                f"{kind!r} is no kind of ComPoint", hint="use COMPOINT_INITIATOR or COMPOINT_SERVER"
            )
        _check_reachable(address)
        deadline = Deadline(settings.connect_timeout_s if timeout is None else timeout)
        return open_plain(opener, address, settings, deadline)

    @classmethod
    def opener(cls, protocol: str) -> Opener:
        """The transport behind a protocol name, loaded and initialised on first use."""
        opener = cls._openers.get(protocol)
        if opener is None or cls._states.get(protocol, ""):
            with cls._lock:
                cls._initialise(protocol, cls.settings())
                opener = cls._openers[protocol]
                state = cls._states[protocol]
            if state:
                raise ConfigError(
                    f"the transport {protocol!r} is not configured: {state}",
                    phase=Phase.CONFIGURE,
                )
        return opener

    @classmethod
    def _initialise(cls, protocol: str, settings: Settings) -> None:
        if protocol not in cls._openers:
            cls._openers[protocol] = cls._load(protocol)
        cls._states[protocol] = cls._openers[protocol].initialise(settings)

    @classmethod
    def _load(cls, protocol: str) -> Opener:
        if protocol in _BUILT_IN:
            return _load_built_in(*_BUILT_IN[protocol])
        for entry in importlib.metadata.entry_points(group=ENTRY_POINTS, name=protocol):
            return _load_entry(entry)
        raise AddressError(
            f"no transport speaks the protocol {protocol!r}",
            hint=f"known are {', '.join(cls._known())}",
        )

    @classmethod
    def _known(cls) -> list[str]:
        entries = importlib.metadata.entry_points(group=ENTRY_POINTS)
        return sorted({*_BUILT_IN, *(entry.name for entry in entries)})


def _load_built_in(module_name: str, name: str) -> Opener:
    module = importlib.import_module(module_name)
    try:
        opener: Opener = getattr(module, name)()
    except AttributeError:
        raise shadowed(module_name, str(getattr(module, "__file__", "?"))) from None
    return opener


def _load_entry(entry: importlib.metadata.EntryPoint) -> Opener:
    from compoint.drive.wire import Opener  # noqa: PLC0415 - light import

    made = entry.load()()
    if not isinstance(made, Opener):
        raise UsageError(
            f"the entry point {entry.value!r} of {entry.name!r} makes a {type(made).__name__}",
            hint="it must make an Opener (compoint.drive.wire)",
        )
    return made


def shadowed(package: str, file: str) -> ShadowedPackageError:
    """The error for a user's file that stands where our package should be found."""
    return ShadowedPackageError(
        f"the file {file} stands in the way of the package {package!r}",
        hint="rename that file",
    )


def _check_reachable(address: ComPointAddress) -> None:
    if address.port == 0:
        raise AddressError(
            f"{address} has port 0, which only a server can use",
            hint="take the port from the server's address",
        )
