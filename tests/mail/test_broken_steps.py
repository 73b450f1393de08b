"""Steps that are broken off, by Ctrl-C, a disk, a fault of ours: nobody hangs, nothing is lost."""

from __future__ import annotations

import errno
import math
import os
import random
import signal
import socket
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import pytest
from forger_kit import office_of
from world_kit import World, mail_world

from compoint import (
    COMPOINT_INITIATOR,
    COMPOINT_SERVER,
    ClosedError,
    ComManager,
    ComPoint,
    ComPointAddress,
    ServerComPoint,
    SessionLostError,
)
from compoint.core.connection import Connection, Side
from compoint.core.greeting import Greeting, Mode
from compoint.core.keeping import Keeper
from compoint.deadline import clock
from compoint.testing import Background, configured, eventually
from mail import _offices, _outbound, _post_office, _store
from mail._conversation import Conversation
from mail._envelope import Place
from mail._mailbox import Mailbox
from mail._outbound import Outbound
from mail._post_office import PostOffice
from mail._settings import OfficeSettings
from mail._store import Store
from mail._timers import Moment

ALICE: Final = "alice@example.org"
BOB: Final = "bob@example.net"
PORT: Final = 7100
PATIENCE_S: Final = 20.0


class Scene:
    """Alice's program has two conversations with Bob's."""

    def __init__(self, world: World, folder: Path) -> None:
        self.alice = world.box(ALICE, folder / "alice")
        self.bob = world.box(BOB, folder / "bob")
        self.server = self.serve()
        self.one, self.bobs_one = self.begin("one")
        self.other, self.bobs_other = self.begin("other")

    def serve(self) -> ServerComPoint:
        with configured(mail=self.bob):
            return ComManager.com_point(COMPOINT_SERVER, ComPointAddress("mail", PORT))

    def call(self, name: str) -> ComPoint:
        with configured(mail=self.alice):
            return ComManager.com_point(
                COMPOINT_INITIATOR, ComPointAddress("mail", BOB, PORT), resume=name
            )

    def begin(self, name: str) -> tuple[ComPoint, ComPoint]:
        alice = self.call(name)
        alice.write("first")
        bob = self.server.accept(timeout=PATIENCE_S)
        assert bob.read(timeout=PATIENCE_S) == "first"
        return alice, bob

    def end(self) -> None:
        self.server.close()
        for point in (self.one, self.bobs_one, self.other, self.bobs_other):
            point.abort("the test is over")

    @property
    def office(self) -> PostOffice:
        return office_of(self.alice)

    def goes_on(self) -> None:
        """Neither conversation has lost or doubled anything; the first is taken up again."""
        self.other_goes_on()
        self.one.close(timeout=0)
        self.one = self.call("one")
        if self.one.statistics().written == 1:
            self.one.write("second")
        self.one.write("third")
        said = [self.bobs_one.read(timeout=PATIENCE_S) for _ in range(2)]
        assert said == ["second", "third"]
        _check_store(self.office)

    def other_goes_on(self) -> None:
        self.other.write("second")
        assert self.bobs_other.read(timeout=PATIENCE_S) == "second"


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with mail_world() as world:
        scene = Scene(world, tmp_path)
        try:
            yield scene
        finally:
            scene.end()


def _check_store(office: PostOffice) -> None:
    """What the next process would find is what this one has, without a hole."""
    with office._lock, office._whole:
        for rows in office._store.load().conversations:
            state = rows.state
            conversation = office._mailbox.conversations[state.conversation, state.is_initiator]
            assert state.said == conversation._out.said
            at = rows.said[0].start if rows.said else state.said
            assert at <= state.confirmed or not rows.said
            for row in rows.said:
                assert row.start == at
                at += len(row.body)
            assert at == state.said


# --- Ctrl-C -------------------------------------------------------------------------------------


@contextmanager
def _ctrl_c(
    monkeypatch: pytest.MonkeyPatch, of: type, name: str, *, is_before: bool
) -> Iterator[None]:
    """The next call of this verb is interrupted, once."""
    verb: Callable[..., Any] = getattr(of, name)
    is_due = True

    def interrupted(*arguments: Any, **more: Any) -> Any:
        nonlocal is_due
        if is_due and is_before:
            is_due = False
            raise KeyboardInterrupt
        result = verb(*arguments, **more)
        if is_due:
            is_due = False
            raise KeyboardInterrupt
        return result

    with monkeypatch.context() as patch:
        patch.setattr(of, name, interrupted)
        yield
    assert not is_due


@pytest.mark.parametrize(
    ("of", "verb", "is_before"),
    [
        (Conversation, "say_whole", False),
        (Mailbox, "take_changes", True),
        (Mailbox, "take_changes", False),
        (Store, "commit", True),
        (Store, "commit", False),
    ],
)
def test_a_write_that_is_interrupted_leaves_the_store_whole(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, of: type, verb: str, is_before: bool
) -> None:
    with (
        _ctrl_c(monkeypatch, of, verb, is_before=is_before),
        pytest.raises(KeyboardInterrupt),
    ):
        scene.one.write("second")
    scene.goes_on()


def test_interrupts_at_any_time_leave_the_store_whole_and_nobody_hanging(scene: Scene) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        for number in range(60):
            point = scene.call(f"interrupted {number}")
            try:
                signal.setitimer(signal.ITIMER_REAL, random.uniform(0.0005, 0.012))
                for _ in range(1000):
                    point.write(bytes(100))
            except KeyboardInterrupt:
                pass
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
            _check_store(scene.office)
            point.abort("interrupted")
    finally:
        signal.signal(signal.SIGALRM, before)
    scene.other_goes_on()


# --- an office without threads --------------------------------------------------------------


def _settings(folder: Path) -> OfficeSettings:
    """Of a program that gives up after an hour."""
    box = {
        "receiverPort": 1, "returnAddress": ALICE, "mailHost": "127.0.0.1", "trust": "none",
        "smtpTls": "none", "spool": folder / "spool", "expire": "1 h",
    }  # fmt: skip
    with configured(mail=box):
        settings = ComManager.settings().mail
    assert settings is not None
    return OfficeSettings.of(settings)


def _begin(office: PostOffice, peer: str = BOB) -> None:
    """A conversation with a name, in which somebody has said something."""
    held = office.open(Place(peer, PORT), "", "a name")
    mine = Greeting(Mode.PLAIN, 1 << 30, 1 << 20, 0, bytes(16), "")
    machine = Connection(Side.INITIATOR, mine, clock(), math.inf, is_kept=True)
    said = b"".join(machine.take_output())
    office.keep(held, Keeper(machine).changes(), said, is_released=False)


def _shift_clock(monkeypatch: pytest.MonkeyPatch, hours: float) -> None:
    later_s = 3600 * hours
    monkeypatch.setattr(
        _post_office, "moment", lambda: Moment(clock() + later_s, time.time() + later_s)
    )


# --- the disk -----------------------------------------------------------------------------------


@contextmanager
def _no_disk(monkeypatch: pytest.MonkeyPatch, *names: str) -> Iterator[None]:
    """Nothing can be written, or read: `save`, `load`."""
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = sqlite3.SQLITE_IOERR

    def broken(*_: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        for name in names:
            patch.setattr(_store, name, broken)
        yield


@pytest.mark.parametrize("names", [["save"], ["save", "load"]])
def test_a_write_that_the_disk_does_not_take_harms_nothing_else(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, names: list[str]
) -> None:
    with (
        _no_disk(monkeypatch, *names),
        pytest.raises(SessionLostError, match="disk I/O error"),
    ):
        scene.one.write("second")
    scene.goes_on()


def test_what_could_not_be_read_for_a_full_disk_is_read_by_who_opens_anew(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when its peer has closed meanwhile: nothing more will arrive here."""
    scene.one.write("second")
    assert scene.one.close(timeout=PATIENCE_S).confirmed == 2
    eventually(lambda: scene.bobs_one._driver.is_closed, PATIENCE_S)  # type: ignore[attr-defined]
    with _no_disk(monkeypatch, "save"), pytest.raises(SessionLostError, match="disk I/O error"):
        scene.bobs_one.read(timeout=PATIENCE_S)
    scene.bobs_one.close(timeout=0)
    scene.server.close()
    scene.bobs_other.abort("the test is over")
    eventually(lambda: str(scene.bob["spool"]) not in _offices._open, PATIENCE_S)
    scene.server = scene.serve()
    scene.bobs_one = scene.server.accept(timeout=PATIENCE_S)
    assert scene.bobs_one.read(timeout=PATIENCE_S) == "second"


def test_a_point_that_could_not_be_let_go_for_a_full_disk_is_let_go_later(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = Store.commit

    def full(self: Store, batch: _store.Batch, **more: Any) -> None:
        if batch.links:
            raise OSError(errno.ENOSPC, "the disk of the spool folder is full")
        commit(self, batch, **more)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "commit", full)
        scene.bobs_one.close(timeout=PATIENCE_S)
    scene.one.close(timeout=PATIENCE_S)
    bobs = office_of(scene.bob)
    eventually(lambda: len(bobs._mailbox.conversations) == 1, PATIENCE_S, "only the other is left")


def test_a_disk_that_stays_full_keeps_no_program_alive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    office = PostOffice(_settings(tmp_path))
    _begin(office)
    outbound = Outbound(office)
    # There is something to be kept: a conversation is given up.
    _shift_clock(monkeypatch, hours=1.5)
    outbound.ends_at = clock()
    with _no_disk(monkeypatch, "save"):
        Background(outbound.run).result(PATIENCE_S)
    outbound.close()
    office.close()


def test_what_was_handed_over_is_known_to_the_next_process_though_the_budget_is_used_up(
    tmp_path: Path,
) -> None:
    """Else it would be handed over once more, out of tomorrow's budget."""
    with mail_world() as world:
        with configured(mail=world.box(ALICE, tmp_path, daily=1)):
            settings = ComManager.settings().mail
        assert settings is not None
        world.box(BOB, tmp_path / "bob")
        office = PostOffice(OfficeSettings.of(settings))
        _begin(office)
        _begin(office, "carol@example.net")
        outbound = Outbound(office)
        running = Background(outbound.run)
        eventually(lambda: [one for one in _on_the_way(office) if one], PATIENCE_S)
        outbound.stops_at = clock()
        outbound.look()
        running.result(PATIENCE_S)
        outbound.close()
        office.close()


def _on_the_way(office: PostOffice) -> list[int]:
    """How far each conversation was submitted, as the next process finds it."""
    with office._lock:
        return [rows.state.on_the_way for rows in office._store.load().conversations]


# --- a fault of ours ----------------------------------------------------------------------------


def test_where_mails_cannot_be_made_any_more_everybody_is_told(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise KeyError("fault")

    arriving = Background(scene.server.accept)
    reading = Background(scene.one.read)
    with monkeypatch.context() as patch:
        patch.setattr(_outbound, "new_mail", broken)
        scene.one.write("second")
        assert "internal error in the mail transport" in str(reading.error(PATIENCE_S))
        with suppress(SessionLostError):  # it may have made a mail already, to confirm
            scene.bobs_one.write("answer")
        closed = arriving.error(PATIENCE_S)
    assert type(closed) is ClosedError
    assert "internal error in the mail transport" in str(closed)
    assert "please report it" in caplog.text


# --- who is gone --------------------------------------------------------------------------------


def test_a_conversation_that_nobody_heard_or_took_up_again_is_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program that is killed again and again, each time with a name of its own."""
    settings = _settings(tmp_path)
    office = PostOffice(settings)
    _begin(office)
    office.close()
    left = []
    for hours in (0.5, 1.5, 2.5):
        _shift_clock(monkeypatch, hours)
        office = PostOffice(settings)
        office.next_mail()
        left.append([one.ending is None for one in office._mailbox.conversations.values()])
        office.close()
    # It lives; it is over, and a program may ask why; it is gone.
    assert left == [[True], [False], []]


def _answer_at(port: int) -> int:
    with socket.socket() as visitor:
        return visitor.connect_ex(("127.0.0.1", port))


def test_a_child_does_not_keep_the_port_of_the_listener(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with mail_world() as world:
        box = world.box(ALICE, tmp_path, listen=f"127.0.0.1:{port}")
        with configured(mail=box):
            server = ComManager.com_point(COMPOINT_SERVER, ComPointAddress("mail", PORT))
        ours, theirs = os.pipe()
        child = os.fork()
        if not child:  # pragma: no cover - it lives until the pipe ends
            os.close(theirs)
            os.read(ours, 1)
            os._exit(0)
        try:
            server.close()
            eventually(lambda: str(box["spool"]) not in _offices._open, PATIENCE_S)
            eventually(lambda: _answer_at(port) == errno.ECONNREFUSED, PATIENCE_S)
        finally:
            os.close(ours)
            os.close(theirs)
            os.waitpid(child, 0)
