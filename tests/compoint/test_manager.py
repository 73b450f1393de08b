"""ComManager: settings, transports, and what it says when it cannot open a point."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING, Any, Final

import pytest

from channel import Channel
from compoint import (
    COMPOINT_INITIATOR,
    COMPOINT_SERVER,
    AddressError,
    ComManager,
    ComPointAddress,
    ComPointKind,
    ConfigError,
    Phase,
    ShadowedPackageError,
    UsageError,
)
from compoint.drive.lifetime import lifetime
from compoint.limits import EXIT_S, MESSAGE_BYTES
from compoint.memory import MemoryOpener
from compoint.testing import Background

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PATIENCE_S: Final = 10.0
HERE: Final = ComPointAddress("tcp", 0)


@pytest.fixture(autouse=True)
def unused(monkeypatch: pytest.MonkeyPatch) -> None:
    """ComManager as it is before anybody has called it."""
    monkeypatch.setattr(ComManager, "_settings", None)
    monkeypatch.setattr(ComManager, "_openers", {})
    monkeypatch.setattr(ComManager, "_states", {})
    monkeypatch.setattr(lifetime, "exit_s", lifetime.exit_s)


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Installs a package with one module and entry points for transports."""
    before = set(sys.modules)

    def install(module: str, **entries: str) -> None:
        (tmp_path / "pigeons.py").write_text(module)
        folder = tmp_path / "pigeon_post-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: pigeon-post\nVersion: 1.0\n")
        lines = [f"{name} = {value}" for name, value in entries.items()]
        (folder / "entry_points.txt").write_text("\n".join(["[compoint.transports]", *lines, ""]))
        monkeypatch.syspath_prepend(tmp_path)

    yield install
    for name in set(sys.modules) - before:
        if name == "pigeons":
            del sys.modules[name]


def exchange(address: ComPointAddress) -> object:
    """What a responder at this address reads when an initiator writes a dict."""
    with (
        ComManager.com_point(COMPOINT_SERVER, address) as server,
        ComManager.com_point(COMPOINT_INITIATOR, server.address) as initiator,
    ):
        initiator.write({"text": "hello"})
        with server.accept(timeout=PATIENCE_S) as responder:
            return responder.read(timeout=PATIENCE_S)


# --- init -------------------------------------------------------------------------------------


def test_init_reports_for_each_transport_whether_it_is_configured() -> None:
    states = ComManager.init()
    assert list(states) == ["http", "https", "mail", "memory", "tcp"]
    assert states["memory"] == states["tcp"] == ""
    assert states["mail"].startswith("mail is off; set receiverPort, returnAddress and mailHost")


def test_init_reads_the_file_and_what_is_opened_later_obeys_it(tmp_path: Path) -> None:
    file = tmp_path / "settings"
    file.write_text("[compoint]\nmaxMessage = 64 KiB\nexitTimeout = 3 s\n")
    ComManager.init(file)
    assert ComManager.settings().point.max_message_bytes == 64 * 1024
    assert lifetime.exit_s == 3.0


def test_init_with_faults_in_the_file_changes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "settings"
    file.write_text("[compoint]\nmaxMessage = 128 KiB\n")
    ComManager.init(file)
    file.write_text("[compoint]\nmaxMessage = 64 KiB\nwindow = wide\n[chanel]\n")
    with pytest.raises(ConfigError) as caught:
        ComManager.init(file)
    assert "window" in str(caught.value)
    assert "chanel" in str(caught.value)
    assert ComManager.settings().point.max_message_bytes == 128 * 1024


def test_init_twice_harms_no_point_that_is_open(tmp_path: Path) -> None:
    ComManager.init()
    opener = ComManager.opener("tcp")
    with (
        ComManager.com_point(COMPOINT_SERVER, HERE) as server,
        ComManager.com_point(COMPOINT_INITIATOR, server.address) as initiator,
    ):
        assert ComManager.init() == ComManager.init()
        initiator.write(b"still")
        with server.accept(timeout=PATIENCE_S) as responder:
            assert responder.read(timeout=PATIENCE_S) == b"still"
    assert ComManager.opener("tcp") is opener


def test_a_program_that_never_calls_init_works_with_the_defaults() -> None:
    assert exchange(HERE) == {"text": "hello"}
    assert ComManager.settings().point.max_message_bytes == MESSAGE_BYTES
    assert ComManager.settings().point.exit_timeout_s == EXIT_S


def test_a_program_that_never_calls_init_is_told_of_a_fault_in_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "settings"
    file.write_text("[compoint]\nwindow = wide\n")
    monkeypatch.setenv("SEMPCONFIG", str(file))
    with pytest.raises(ConfigError, match="window"):
        ComManager.com_point(COMPOINT_SERVER, HERE)


def test_eight_threads_may_begin_at_once() -> None:
    at_once = threading.Barrier(8)

    def begin(number: int) -> object:
        at_once.wait(PATIENCE_S)
        if number % 2:
            ComManager.init()
        address = ComPointAddress("memory" if number % 4 < 2 else "tcp", 0)
        return exchange(address), ComManager.opener("tcp")

    beginning = [Background(begin, number) for number in range(8)]
    results: Any = [one.result() for one in beginning]
    assert [message for message, _ in results] == [{"text": "hello"}] * 8
    assert len({opener for _, opener in results}) == 1


# --- which transport --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", list(ComPointKind))
def test_an_unknown_protocol_is_answered_with_the_known_ones(kind: Any) -> None:
    with pytest.raises(AddressError, match=r"'pigeon'.*known are http, https, mail, memory, tcp$"):
        ComManager.com_point(kind, ComPointAddress("pigeon", "loft", 7100))


@pytest.mark.parametrize("kind", list(ComPointKind))
def test_mail_says_that_it_is_not_configured(kind: Any) -> None:
    address = ComPointAddress("mail", "bob@example.org", 25)
    off = r"'mail' is not configured: mail is off; set receiverPort"
    with pytest.raises(ConfigError, match=off) as caught:
        ComManager.com_point(kind, address)
    assert caught.value.phase is Phase.CONFIGURE


def test_a_channel_over_mail_says_that_mail_is_not_configured() -> None:
    address = ComPointAddress("mail", "bob@example.org", 25)
    with pytest.raises(ConfigError, match="'mail' is not configured"):
        Channel.open_initiator_channel(address, None, "order-17")
    with pytest.raises(ConfigError, match="'mail' is not configured"):
        Channel.start_service_point_thread(address)


def test_a_file_in_the_way_of_a_transport_keeps_no_other_from_working(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mail.py").write_text("raise SystemExit('imported by mistake')")
    monkeypatch.delitem(sys.modules, "mail", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    states = ComManager.init()
    assert states["tcp"] == ""
    assert str(tmp_path / "mail.py") in states["mail"]
    with pytest.raises(ShadowedPackageError, match="rename that file"):
        ComManager.com_point(COMPOINT_SERVER, ComPointAddress("mail", "bob@example.org", 25))
    assert exchange(HERE) == {"text": "hello"}


# --- what cannot be opened --------------------------------------------------------------------


@pytest.mark.parametrize("protocol", ["tcp", "memory"])
def test_an_initiator_needs_a_port(protocol: str) -> None:
    with pytest.raises(AddressError, match="port 0, which only a server can use"):
        ComManager.com_point(COMPOINT_INITIATOR, ComPointAddress(protocol, 0))


@pytest.mark.parametrize("kind", ["initiator", None, 1])
def test_something_else_is_no_kind_of_point(kind: Any) -> None:
    with pytest.raises(UsageError, match="COMPOINT_INITIATOR or COMPOINT_SERVER"):
        ComManager.com_point(kind, ComPointAddress("tcp", 7100))


# --- transports of others ---------------------------------------------------------------------

_PIGEONS: Final = """
from compoint.memory import MemoryOpener

class PigeonOpener(MemoryOpener):
    def initialise(self, settings):
        return ""

class SickOpener(MemoryOpener):
    def initialise(self, settings):
        return "no pigeon is well"

def wild():
    raise LookupError("all have flown")

loft = 17

def nest():
    return loft
"""


def test_a_transport_of_another_package_is_found_by_its_entry_point(
    install: Callable[..., None],
) -> None:
    install(_PIGEONS, pigeon="pigeons:PigeonOpener")
    assert exchange(ComPointAddress("pigeon", 0)) == {"text": "hello"}
    with pytest.raises(AddressError, match="known are http, https, mail, memory, pigeon, tcp"):
        ComManager.opener("owl")
    assert ComManager.init()["pigeon"] == ""


def test_channels_run_over_a_transport_of_another_package(install: Callable[..., None]) -> None:
    install(_PIGEONS, pigeon="pigeons:PigeonOpener")
    with (
        Channel.start_service_point_thread(ComPointAddress("pigeon", 0)) as place,
        Channel.open_initiator_channel(place.address, None, "letter") as initiator,
    ):
        initiator.write("coo")
        with place.open_responder_channel(None, "letter", timeout=PATIENCE_S) as responder:
            assert responder.read(timeout=PATIENCE_S) == "coo"


def test_a_transport_of_another_package_may_say_that_it_is_not_configured(
    install: Callable[..., None],
) -> None:
    install(_PIGEONS, pigeon="pigeons:SickOpener")
    assert ComManager.init()["pigeon"] == "no pigeon is well"
    with pytest.raises(ConfigError, match="'pigeon' is not configured: no pigeon is well"):
        ComManager.com_point(COMPOINT_SERVER, ComPointAddress("pigeon", 0))


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("pigeons:nest", "makes a int; it must make an Opener"),
        ("pigeons:loft", "'int' object is not callable"),
        ("pigeons:wild", "LookupError: all have flown"),
        ("pigeons:missing", "no attribute 'missing'"),
        ("nowhere:PigeonOpener", "No module named 'nowhere'"),
    ],
    ids=["no opener", "not callable", "raises", "no such object", "no such module"],
)
def test_a_wrong_entry_point_is_named_and_harms_nobody_else(
    install: Callable[..., None], value: str, words: str
) -> None:
    install(_PIGEONS, pigeon=value)
    with pytest.raises(UsageError) as caught:
        ComManager.com_point(COMPOINT_SERVER, ComPointAddress("pigeon", 0))
    assert f"the entry point {value!r} of 'pigeon'" in str(caught.value)
    assert words in str(caught.value)
    assert value in ComManager.init()["pigeon"]
    assert exchange(HERE) == {"text": "hello"}


def test_a_broken_entry_point_is_shown_with_the_package_that_brings_it(
    install: Callable[..., None],
) -> None:
    install(_PIGEONS, pigeon="pigeons:wild")
    with pytest.raises(UsageError, match="remove the package pigeon-post"):
        ComManager.opener("pigeon")


def test_no_entry_point_takes_the_place_of_a_transport_of_ours(
    install: Callable[..., None],
) -> None:
    install(_PIGEONS, tcp="pigeons:PigeonOpener")
    assert type(ComManager.opener("tcp")).__name__ == "TcpOpener"


def test_nobody_gets_a_transport_that_is_still_being_initialised(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    is_initialising, may_go_on = threading.Event(), threading.Event()

    def initialise(self: MemoryOpener, settings: object) -> str:
        is_initialising.set()
        may_go_on.wait(PATIENCE_S)
        return "it is broken"

    monkeypatch.setattr(MemoryOpener, "initialise", initialise)
    first = Background(ComManager.opener, "memory")
    is_initialising.wait(PATIENCE_S)
    second = Background(ComManager.opener, "memory").blocked()
    may_go_on.set()
    for one in (first, second):
        assert isinstance(one.error(), ConfigError)
