"""ComManager: looks at the protocol of an address and opens the point that speaks it."""

from __future__ import annotations

import importlib
import importlib.util
import os
import threading
from typing import TYPE_CHECKING, ClassVar, Final, Literal, overload

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
    from importlib.metadata import EntryPoint, EntryPoints

    from compoint.address import ComPointAddress
    from compoint.config import Settings
    from compoint.drive.wire import Opener

__all__ = ["ENTRY_POINTS", "ComManager"]

ENTRY_POINTS: Final = "compoint.transports"

#: Our own transports: where each protocol's opener is found. Imported on first use.
_BUILT_IN: Final = {
    "tcp": ("compoint.tcp", "TcpOpener"),
    "memory": ("compoint.memory", "MemoryOpener"),
    "http": ("compoint.http", "HttpOpener"),
    "https": ("compoint.http", "HttpsOpener"),
    "mail": ("mail", "MailOpener"),
}


class ComManager:
    """The door to the transports. All verbs are class methods; any thread may call them."""

    _lock = threading.RLock()
    _settings: ClassVar[Settings | None] = None
    _openers: ClassVar[dict[str, Opener]] = {}
    #: Why a transport is not configured, by protocol; empty text: it is.
    _states: ClassVar[dict[str, str]] = {}

    @classmethod
    def init(cls, path: str | os.PathLike[str] | None = None) -> dict[str, str]:
        """Read the `_sempconfig` file and initialise every transport.

        The file is `path`, else $SEMPCONFIG, else `./_sempconfig`, else `~/_sempconfig`,
        else the defaults hold. Returns for each protocol an empty text, or why it cannot
        be used: one that is not configured, or damaged, or hidden by a file of the user,
        keeps no other from working. Calling it again reads the settings anew for what is
        opened later. A program that never calls it works with what the first use finds.

        Raises:
            ConfigError: lists every fault of the file; nothing was changed.
        """
        from compoint.config import load  # noqa: PLC0415 - light import

        settings = load(path)
        with cls._lock:
            cls._use(settings)
            states = {}
            for protocol in cls._known():
                try:
                    states[protocol] = cls._initialise(protocol, settings)
                except Exception as fault:  # noqa: BLE001 - transports of others may raise any
                    states[protocol] = str(fault) or type(fault).__name__
            return states

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
        resume: str = ...,
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
        cls,
        kind: ComPointKind,
        address: ComPointAddress,
        *,
        timeout: float | None = None,
        resume: str = "",
    ) -> ComPoint | ServerComPoint:
        """Open a ComPoint of the kind COMPOINT_INITIATOR or COMPOINT_SERVER.

        An initiator's way to the peer is opened within `timeout` seconds (None: the
        setting `connectTimeout`). A server only listens; it never waits here.

        `resume` is a name for this conversation of an initiator, by which a later process of
        the same mailbox takes it up again when this one is killed: behind the last message
        written, and before the first that no `read` has returned (see `statistics`). Only
        mail keeps conversations; over other transports, and when there is none of this name
        with this address, a new one begins.

        Raises:
            AddressError: the protocol is unknown, or the address lacks what it needs.
            ConfigError: the transport is not configured, or `_sempconfig` has faults.
            ConnectError: the peer was not reached, or the address cannot be used here.
            BusyError: another program serves this address; or another point has the
                conversation named by `resume`.
            PointTimeout: the peer was not reached in time.
            UsageError: `resume` for a server, which is given what was left at its address
                without asking.
        """
        from compoint.drive.plain import PlainServer, open_plain  # noqa: PLC0415 - light import

        opener = cls.opener(address.protocol)
        settings = cls.settings().point
        if kind is ComPointKind.SERVER:
            if resume:
                raise UsageError("only an initiator resumes", hint="leave `resume` out")
            return PlainServer(opener, address, settings)
        if kind is not ComPointKind.INITIATOR:
            raise UsageError(
                f"{kind!r} is no kind of ComPoint", hint="use COMPOINT_INITIATOR or COMPOINT_SERVER"
            )
        _check_reachable(address)
        deadline = Deadline(settings.connect_timeout_s if timeout is None else timeout)
        name = f"plain {resume}" if resume else ""
        return open_plain(opener, address, settings, deadline, resume=name)

    @classmethod
    def opener(cls, protocol: str) -> Opener:
        """The transport behind a protocol name, loaded and initialised on first use."""
        opener = cls._openers.get(protocol)
        if opener is None or cls._states[protocol]:
            with cls._lock:
                state = cls._initialise(protocol, cls.settings())
                opener = cls._openers[protocol]
            if state:
                raise ConfigError(
                    f"the transport {protocol!r} is not configured: {state}",
                    phase=Phase.CONFIGURE,
                )
        return opener

    @classmethod
    def _initialise(cls, protocol: str, settings: Settings) -> str:
        opener = cls._openers.get(protocol) or cls._load(protocol)
        # In this order: who looks without the lock finds no opener without its state.
        cls._states[protocol] = state = opener.initialise(settings)
        cls._openers[protocol] = opener
        return state

    @classmethod
    def _load(cls, protocol: str) -> Opener:
        if protocol in _BUILT_IN:
            return _load_built_in(*_BUILT_IN[protocol])
        for entry in _entries().select(name=protocol):
            return _load_entry(entry)
        raise AddressError(
            f"no transport speaks the protocol {protocol!r}",
            hint=f"known are {', '.join(cls._known())}",
        )

    @classmethod
    def _known(cls) -> list[str]:
        return sorted({*_BUILT_IN, *(entry.name for entry in _entries())})


def _entries() -> EntryPoints:
    from importlib.metadata import entry_points  # noqa: PLC0415 - slow to import

    return entry_points(group=ENTRY_POINTS)


def _load_built_in(module_name: str, name: str) -> Opener:
    _check_ours(module_name)
    opener: Opener = getattr(importlib.import_module(module_name), name)()
    return opener


def _check_ours(module_name: str) -> None:
    """Refuse a file of the user where our package should be found, before it is run: it may
    be the very program that is running."""
    package = module_name.partition(".")[0]
    try:
        spec = importlib.util.find_spec(package)
    except ValueError:  # somebody has put a module without a spec in its place
        spec = None
    file = None if spec is None else spec.origin
    # All our packages lie side by side.
    ours = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    if file is None:
        raise ConfigError(
            f"the package {package!r} is missing beside {ours}", phase=Phase.CONFIGURE,
            hint="install compoint again",
        )  # fmt: skip
    if os.path.dirname(os.path.dirname(os.path.abspath(file))) != ours:
        raise ShadowedPackageError(
            f"the file {file} stands in the way of the package {package!r}",
            phase=Phase.CONFIGURE, hint="rename that file",
        )  # fmt: skip


def _load_entry(entry: EntryPoint) -> Opener:
    from compoint.drive.wire import Opener  # noqa: PLC0415 - light import

    whose = f"the entry point {entry.value!r} of {entry.name!r}"
    try:
        made = entry.load()()
    except Exception as fault:
        raise UsageError(
            f"{whose} cannot be used ({type(fault).__name__}: {fault})", phase=Phase.CONFIGURE,
            hint=f"repair or remove the package {_package_of(entry)} that brings it",
        ) from fault  # fmt: skip
    if not isinstance(made, Opener):
        raise UsageError(
            f"{whose} makes a {type(made).__name__}", phase=Phase.CONFIGURE,
            hint="it must make an Opener (compoint.drive.wire)",
        )  # fmt: skip
    return made


def _package_of(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist is not None else "?"


def _check_reachable(address: ComPointAddress) -> None:
    if address.port == 0:
        raise AddressError(
            f"{address} has port 0, which only a server can use",
            hint="take the port from the server's address",
        )
