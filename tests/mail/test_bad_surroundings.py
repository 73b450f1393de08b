"""A full disk, a mail server that will not, a folder or a port of somebody else: what is said.

Each trouble has one clear text for the program, within the time that the program gives; and
nothing is lost that was taken.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest
import trustme
from forger_kit import ALICE, BOB, MALLORY, PATIENCE_S, PORT, Scene, a_scene, frame, mail_of
from receiver_kit import Mailbox
from smtp_kit import CUT, HOST, SILENT, Scripted, Secret, Taken, real_server, server_context
from store_kit import program
from world_kit import report

from compoint import (
    COMPOINT_INITIATOR,
    COMPOINT_SERVER,
    BusyError,
    ComManager,
    ComPoint,
    ComPointAddress,
    ComPointException,
    ConfigError,
    PointTimeout,
    ServerComPoint,
    SessionLostError,
)
from compoint.testing import configured, eventually
from compoint.testing._settings import sempconfig_text
from mail import _dropbox, _inbound, _offices, _post_office
from mail._dropbox import Dropbox
from mail._envelope import Place
from mail._inbound import Inbound
from mail._submit import Submission

#: What a program is ready to wait in these tests, and how much longer it may take here.
WAIT_S: Final = 0.3
SLACK_S: Final = 4.0

THERE: Final = ComPointAddress("mail", BOB, PORT)
FULL: Final = "the disk of the spool folder is full"


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    # What could not be taken is tried again soon.
    monkeypatch.setattr(_inbound, "LOOK_S", 0.05)
    with a_scene(tmp_path) as scene:
        yield scene


def _told(call: Callable[[], object]) -> ComPointException:
    """With what a call ends, in time."""
    began = time.monotonic()
    with pytest.raises(ComPointException) as caught:
        call()
    assert time.monotonic() - began < WAIT_S + SLACK_S
    return caught.value


# --- a full disk --------------------------------------------------------------------------------


@contextlib.contextmanager
def _full_disk(scene: Scene) -> Iterator[None]:
    """Nothing can be added to the store; small files can be made."""
    most = max(file.stat().st_size for file in scene.spool.glob("conversations.sqlite*"))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_mail_that_finds_the_disk_full_waits_and_is_taken_when_there_is_room(
    scene: Scene,
) -> None:
    with _full_disk(scene):
        scene.world.deliver(ALICE, mail_of(frame(b"hello")), MALLORY)
        eventually(lambda: FULL in scene.office.trouble, PATIENCE_S)
        assert scene.office.trouble == f"mails wait in the drop box: {FULL}"
        assert (len(scene.files("new")), len(scene.files("bad"))) == (1, 0)
    scene.settles()
    assert scene.office.trouble == ""
    scene.reads(b"hello")
    scene.goes_on()


def test_a_report_that_finds_the_disk_full_waits_and_is_heard_when_there_is_room(
    scene: Scene,
) -> None:
    with configured(mail=scene.settings):
        point = _call()
    point.write(b"hello")
    scene.settles()
    ((_, mail),) = scene.left
    with _full_disk(scene):
        scene.world.deliver(ALICE, report(mail, BOB, "5.1.1", "550 nobody"))
        eventually(lambda: FULL in scene.office.trouble, PATIENCE_S)
        assert (len(scene.files("new")), len(scene.files("bad"))) == (1, 0)
    with pytest.raises(SessionLostError, match=r"5\.1\.1 nobody"):
        point.read(timeout=PATIENCE_S)
    point.close(timeout=0)
    scene.goes_on()


def test_a_program_that_writes_to_a_full_disk_is_told_so_and_can_go_on_anew(scene: Scene) -> None:
    scene.gets(mail_of(frame(b"hello")))
    point = scene.accept()
    assert point.read(timeout=PATIENCE_S) == b"hello"
    scene.settles()
    with _full_disk(scene):
        error = _told(lambda: point.write(os.urandom(16_000), timeout=WAIT_S))
        assert type(error) is SessionLostError
        assert FULL in str(error)
        assert FULL in str(_told(lambda: point.read(timeout=WAIT_S)))
        assert FULL in point.close(timeout=WAIT_S).reason
    scene.goes_on()


def test_a_mail_that_the_receiver_cannot_keep_stays_with_the_mail_system(
    scene: Scene, tmp_path: Path
) -> None:
    mailbox = Mailbox(tmp_path)
    mailbox.configure(receiverPort=scene.settings["receiverPort"], spool=scene.spool)
    mail = mail_of(frame(b"hello", bytes(9000)))
    limit = (resource.RLIMIT_FSIZE, (4096, 4096))
    ran = mailbox.receive(content=mail, preexec_fn=lambda: resource.setrlimit(*limit))
    assert (ran.code, ran.out) == (75, "")
    assert ran.err == "compoint-mail-receiver: File too large; try again later\n"
    assert scene.files("tmp") == scene.files("new") == scene.files("bad") == []
    assert mailbox.receive(content=mail).code == 0
    scene.settles()
    point = scene.accept()
    assert [point.read(timeout=PATIENCE_S) for _ in range(2)] == [b"hello", bytes(9000)]
    point.abort("the test is over")


# --- the mail server ----------------------------------------------------------------------------


@pytest.fixture
def program_of_alice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """Section [mail] of a program that gives up soon when nobody needs its mails any more."""
    monkeypatch.setattr(_offices, "LINGER_S", 0.1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind((HOST, 0))
        port = probe.getsockname()[1]
    return {
        "receiverPort": port, "returnAddress": ALICE, "mailHost": HOST, "smtpTls": "none",
        "trust": "none", "spool": tmp_path / "spool", "rate": 1000,
    }  # fmt: skip


@contextlib.contextmanager
def _calling(settings: dict[str, object], **more: object) -> Iterator[ComPoint]:
    """A point of alice's program that has said something to bob."""
    with configured(mail=settings | more):
        point = ComManager.com_point(COMPOINT_INITIATOR, THERE)
    try:
        point.write(b"hello")
        yield point
    finally:
        began = time.monotonic()
        point.close(timeout=WAIT_S)
        assert time.monotonic() - began < WAIT_S + SLACK_S


def _all_are_told(point: ComPoint, kind: type[ComPointException], *words: str) -> None:
    """Whatever the program waits for ends in time, with the same."""
    for call in (point.read, point.flush):
        error = _told(partial(call, timeout=WAIT_S))
        assert type(error) is kind
        for word in words:
            assert word in str(error)
    reason = point.close(timeout=WAIT_S).reason
    assert "not confirmed" in reason or words[0] in reason


PASSING: Final[dict[str, tuple[dict[str, Any], str]]] = {
    "says 4xx to every mail": ({"end": b"451 4.3.0 try again\r\n"}, "451 4.3.0: try again"),
    "says 4xx to every address": ({"rcpt": b"450 4.7.1 greylisted\r\n"}, "450 4.7.1: greylisted"),
    "says 4xx to everybody": ({"greeting": b"421 4.3.2 not now\r\n"}, "421 4.3.2: not now"),
    "hangs up": ({"greeting": CUT}, "mail server did not take a mail yet"),
    "hangs up after the dot": ({"end": CUT}, "ambiguous"),
}


@pytest.mark.parametrize("what", PASSING)
def test_of_a_server_that_takes_no_mail_yet_the_program_is_told_while_it_waits(
    program_of_alice: dict[str, object], what: str
) -> None:
    answers, words = PASSING[what]
    with Scripted(**answers) as server, _calling(program_of_alice, smtpPort=server.port) as point:
        eventually(lambda: server.said, PATIENCE_S)
        eventually(lambda: _offices._open[str(program_of_alice["spool"])].office.trouble)
        _all_are_told(point, PointTimeout, words)


def test_of_a_server_that_is_down_the_program_is_told_while_it_waits(
    program_of_alice: dict[str, object],
) -> None:
    with socket.create_server((HOST, 0)) as probe:
        port = probe.getsockname()[1]
    with _calling(program_of_alice, smtpPort=port) as point:
        eventually(lambda: _offices._open[str(program_of_alice["spool"])].office.trouble)
        _all_are_told(point, PointTimeout, "Connection refused", f"{HOST}:{port}")


@pytest.mark.parametrize("step", ["greeting", "ehlo", "data", "end"])
def test_a_server_that_says_nothing_is_named_and_keeps_no_call_longer_than_it_may_wait(
    program_of_alice: dict[str, object], step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_post_office, "SLOW_S", 0.0)
    with (
        Scripted(**{step: SILENT}) as server,
        _calling(program_of_alice, smtpPort=server.port) as point,
    ):
        eventually(lambda: _has_come_to(server, step), PATIENCE_S)
        try:
            _all_are_told(point, PointTimeout, "the mail server has not taken a mail for")
        finally:
            _end_waiting(program_of_alice)


def _has_come_to(server: Scripted, step: str) -> bool:
    if step == "end":
        return bool(server.mails)
    return step in server.verbs() or (step == "greeting" and "connect" in server.said)


def _end_waiting(settings: dict[str, object]) -> None:
    """What else would take the minutes that mail servers are given."""
    sender = _offices._open[str(settings["spool"])]._outbound._sender
    assert isinstance(sender, Submission)
    sender.close()


FINAL: Final[dict[str, tuple[dict[str, Any], str]]] = {
    "refuses the mail": ({"end": b"554 5.7.1 looks like spam\r\n"}, "554 5.7.1: looks like spam"),
    "refuses the address": ({"rcpt": b"550 5.1.1 nobody\r\n"}, "550 5.1.1: nobody"),
    "refuses us": ({"mail": b"530 5.7.0 log in first\r\n"}, "530 5.7.0: log in first"),
    "refuses everybody": ({"greeting": b"554 5.3.2 no service\r\n"}, "554 5.3.2: no service"),
}


@pytest.mark.parametrize("what", FINAL)
def test_a_refusal_for_good_ends_what_waits_with_the_words_of_the_server(
    program_of_alice: dict[str, object], what: str
) -> None:
    answers, words = FINAL[what]
    with Scripted(**answers) as server, _calling(program_of_alice, smtpPort=server.port) as point:
        with pytest.raises(SessionLostError):
            point.read(timeout=PATIENCE_S)
        _all_are_told(point, SessionLostError, words)


def _certified(name: str, folder: Path) -> tuple[ssl.SSLContext, Path]:
    """For a server of this name; and the authority that vouches for it."""
    authority = trustme.CA()
    file = folder / "ca.pem"
    authority.cert_pem.write_to_path(str(file))
    return server_context(authority.issue_cert(name)), file


def test_a_wrong_certificate_ends_what_waits_and_names_the_fault(
    program_of_alice: dict[str, object], tmp_path: Path
) -> None:
    context, ca_file = _certified("other.example", tmp_path)
    more = {"smtpTls": "starttls", "caFile": ca_file}
    with (
        real_server(Taken(), tls_context=context) as port,
        _calling(program_of_alice, smtpPort=port, **more) as point,
    ):
        with pytest.raises(SessionLostError):
            point.read(timeout=PATIENCE_S)
        _all_are_told(point, SessionLostError, f"the certificate of {HOST}:{port} was refused")


def test_a_wrong_password_ends_what_waits_is_tried_once_and_is_not_shown(
    program_of_alice: dict[str, object], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "password"
    file.write_text("wrong horse\n")
    file.chmod(0o600)
    door = Secret("alice", "correct horse")
    context, ca_file = _certified(HOST, tmp_path)
    more = {"smtpTls": "starttls", "caFile": ca_file, "smtpUser": "alice", "passwordFile": file}
    with (
        real_server(Taken(), tls_context=context, authenticator=door) as port,
        _calling(program_of_alice, smtpPort=port, **more) as point,
    ):
        with pytest.raises(SessionLostError):
            point.read(timeout=PATIENCE_S)
        _all_are_told(point, SessionLostError, "535 5.7.8", "login")
    assert door.tries == 1
    assert "wrong horse" not in caplog.text


_HANGS: Final = """
import sys
from compoint import COMPOINT_INITIATOR, ComManager, ComPointAddress
from compoint.drive.lifetime import lifetime
from mail import _offices
point = ComManager.com_point(COMPOINT_INITIATOR, ComPointAddress.parse(sys.argv[1]))
lifetime.exit_s, _offices.LINGER_S = 0.2, 0.3
point.write(b"hello")
sys.stdin.read()
"""


@pytest.mark.parametrize("step", ["greeting", "end"])
def test_a_server_that_says_nothing_does_not_keep_a_program_alive(
    program_of_alice: dict[str, object], step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Scripted(**{step: SILENT}) as server:
        config = tmp_path / "_sempconfig"
        config.write_text(sempconfig_text({"mail": program_of_alice | {"smtpPort": server.port}}))
        monkeypatch.setenv("SEMPCONFIG", str(config))
        with program(_HANGS, THERE) as running:
            try:
                eventually(lambda: _has_come_to(server, step), PATIENCE_S)
                running.communicate(timeout=15)
            finally:
                running.kill()
        assert running.returncode == 0


# --- folders, ports, settings ---------------------------------------------------------------------


def _serve() -> ServerComPoint:
    return ComManager.com_point(COMPOINT_SERVER, ComPointAddress("mail", PORT))


def _call() -> ComPoint:
    return ComManager.com_point(COMPOINT_INITIATOR, THERE)


_BOTH: Final[tuple[Callable[[], object], ...]] = (_serve, _call)


def _refused(settings: dict[str, object]) -> ComPointException:
    with configured(mail=settings):
        for opens in _BOTH:
            with pytest.raises(ComPointException) as caught:
                opens()
    return caught.value


@pytest.fixture
def spool(program_of_alice: dict[str, object]) -> Path:
    """The folder of a mailbox that was used."""
    with configured(mail=program_of_alice | {"smtpPort": 9}):
        _serve().close()
    _has_ended(program_of_alice)
    return Path(str(program_of_alice["spool"]))


def _has_ended(settings: dict[str, object]) -> None:
    eventually(lambda: str(settings["spool"]) not in _offices._open, PATIENCE_S)


def test_a_spool_folder_that_is_open_to_others_is_refused(
    program_of_alice: dict[str, object], spool: Path
) -> None:
    spool.chmod(0o750)
    error = _refused(program_of_alice)
    assert type(error) is ConfigError
    assert f"{spool}: the spool folder is open to others; chmod it to 0700" in str(error)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_spool_folder_of_somebody_else_is_refused(
    program_of_alice: dict[str, object], spool: Path
) -> None:
    os.chown(spool, 65534, 65534)
    error = _refused(program_of_alice)
    assert type(error) is ConfigError
    assert f"{spool}: the spool folder belongs to somebody else" in str(error)


def test_a_store_that_is_damaged_is_named_and_what_to_do(
    program_of_alice: dict[str, object], spool: Path
) -> None:
    (spool / "conversations.sqlite").write_bytes(b"no database at all " * 1000)
    error = _refused(program_of_alice)
    assert type(error) is ConfigError
    assert f"{spool}/conversations.sqlite is damaged; move it" in str(error)


def test_a_mailbox_that_another_process_uses_is_refused(
    program_of_alice: dict[str, object], spool: Path
) -> None:
    script = (
        "import sys; from mail._store import Store; s = Store(*sys.argv[1:]); print(flush=True)"
    )
    with program(f"{script}; sys.stdin.read()", spool, ALICE) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "\n"
        error = _refused(program_of_alice)
        assert type(error) is BusyError
        assert f"another process (pid {running.pid}) uses the mailbox {ALICE}" in str(error)
        running.communicate(timeout=PATIENCE_S)


def test_a_receiver_port_that_is_taken_is_named(program_of_alice: dict[str, object]) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind((HOST, int(str(program_of_alice["receiverPort"]))))
        error = _refused(program_of_alice)
    assert type(error) is BusyError
    assert f"the receiver port {program_of_alice['receiverPort']} cannot be used" in str(error)
    assert "Address already in use" in str(error)
    # And nothing was left in its way.
    with configured(mail=program_of_alice):
        _serve().close()
    _has_ended(program_of_alice)


@pytest.mark.parametrize("missing", ["receiverPort", "returnAddress", "mailHost"])
def test_of_the_three_that_switch_mail_on_the_missing_one_is_named(
    program_of_alice: dict[str, object], missing: str
) -> None:
    del program_of_alice[missing]
    with pytest.raises(ConfigError, match=missing):
        _refused(program_of_alice)


def test_where_none_of_them_is_set_mail_is_off_and_says_how_to_switch_it_on() -> None:
    for opens in _BOTH:
        with configured(), pytest.raises(ComPointException) as caught:
            opens()
        assert "mail is off; set receiverPort, returnAddress and mailHost in [mail]" in str(
            caught.value
        )


def test_forged_mails_can_only_be_asked_for_by_name(program_of_alice: dict[str, object]) -> None:
    del program_of_alice["trust"]
    with pytest.raises(ConfigError, match=r"secretFile.*trust = none"):
        _refused(program_of_alice)


# --- the drop box ---------------------------------------------------------------------------------


@pytest.fixture
def mortal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    """Alice's program looks often, and may read no file whose mode does not allow it."""
    monkeypatch.setattr(_inbound, "LOOK_S", 0.05)
    monkeypatch.setattr(_inbound, "AGAIN_S", 0.1)
    libc = ctypes.CDLL(None)
    version = (ctypes.c_uint32 * 2)(0x20080522, 0)
    # The effective ones of this thread and of those that it starts, and five numbers more.
    rights = (ctypes.c_uint32 * 6)()
    assert libc.capget(version, rights) == 0
    before = rights[0]
    # Not CAP_DAC_OVERRIDE, not CAP_DAC_READ_SEARCH.
    rights[0] = before & ~0b110
    assert libc.capset(version, rights) == 0
    try:
        with a_scene(tmp_path) as scene:
            yield scene
    finally:
        rights[0] = before
        assert libc.capset(version, rights) == 0


def _locked(scene: Scene, *words: bytes) -> list[Path]:
    """Mails that stand in front of all others, and that the program may not read."""
    files = [scene.spool / "new" / f"0000.{number}" for number in range(len(words))]
    for file, word in zip(files, words, strict=True):
        begun = scene.spool / "tmp" / file.name
        begun.write_bytes(mail_of(frame(word)))
        begun.chmod(0)
        begun.rename(file)
    return files


def _hears(scene: Scene, word: bytes) -> None:
    """Somebody else says it, and is heard."""
    scene.world.deliver(ALICE, mail_of(frame(word, sender=BOB), sender=BOB), BOB)
    point = scene.accept()
    assert point.read(timeout=PATIENCE_S) == word
    point.abort("the test is over")


def test_a_mail_that_cannot_be_read_keeps_no_other_waiting_and_is_kept(mortal: Scene) -> None:
    (file,) = _locked(mortal, b"locked")
    _hears(mortal, b"good")
    assert (mortal.files("new"), mortal.files("bad")) == ([file], [])


def test_a_mail_that_cannot_be_read_is_named_to_who_reads_and_once_in_the_log(
    mortal: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    (file,) = _locked(mortal, b"locked")
    text = f"a mail cannot be taken: {file} (Permission denied)"
    eventually(lambda: mortal.office.trouble == text, PATIENCE_S)
    with configured(mail=mortal.settings):
        point = _call()
    assert text in str(_told(lambda: point.read(timeout=WAIT_S)))
    point.abort("the test is over")
    told = [one for one in caplog.records if str(file) in one.getMessage()]
    assert [one.levelname for one in told] == ["WARNING"]


def test_of_several_mails_that_cannot_be_read_one_is_named_until_they_are_gone(
    mortal: Scene,
) -> None:
    files = _locked(mortal, b"locked", b"locked")
    text = f"2 mails cannot be taken, such as: {files[0]} (Permission denied)"
    eventually(lambda: mortal.office.trouble == text, PATIENCE_S)
    for file in files:
        file.unlink()
    eventually(lambda: mortal.office.trouble == "", PATIENCE_S)


def test_a_mail_that_can_be_read_again_is_read(mortal: Scene) -> None:
    (file,) = _locked(mortal, b"late")
    eventually(lambda: mortal.office.trouble, PATIENCE_S)
    file.chmod(0o600)
    point = mortal.accept()
    assert point.read(timeout=PATIENCE_S) == b"late"
    point.abort("the test is over")
    eventually(lambda: not (mortal.files("new") or mortal.office.trouble), PATIENCE_S)


def test_a_mail_that_cannot_be_read_is_not_tried_again_at_each_look(
    mortal: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_inbound, "AGAIN_S", 600.0)
    tries: list[str] = []
    read = Inbound._read

    def counted(inbound: Inbound, name: str) -> Any:
        tries.append(name)
        return read(inbound, name)

    monkeypatch.setattr(Inbound, "_read", counted)
    (file,) = _locked(mortal, b"locked")
    for word in (b"one", b"two", b"three"):
        _hears(mortal, word)
    assert tries.count(file.name) == 1


def test_more_mails_that_cannot_be_read_than_a_step_takes_keep_no_other_waiting(
    mortal: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_inbound, "AGAIN_S", 600.0)
    files = _locked(mortal, *[b"locked"] * 300)
    _hears(mortal, b"good")
    assert mortal.files("new") == sorted(files)


def test_folders_links_and_pipes_in_the_drop_box_keep_no_mail_waiting(
    scene: Scene, tmp_path: Path
) -> None:
    new = scene.spool / "new"
    (new / "0000.folder").mkdir()
    (new / "0000.link").symlink_to(tmp_path)
    os.mkfifo(new / "0000.pipe")
    _hears(scene, b"good")
    eventually(lambda: len(scene.files("new")) == 3, PATIENCE_S)
    assert (scene.files("bad"), scene.office.trouble) == ([], "")


def test_a_mail_that_vanishes_before_it_is_read_is_nothing(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    waiting = Dropbox.waiting
    monkeypatch.setattr(Dropbox, "waiting", lambda box: ["0000.gone", *waiting(box)])
    _hears(scene, b"good")
    assert (scene.inbound.put_aside, scene.office.trouble) == ({}, "")
    assert "0000.gone" not in caplog.text


@pytest.mark.parametrize("step", ["remove", "set_aside"])
def test_a_mail_that_cannot_be_taken_away_keeps_no_other_waiting(
    scene: Scene, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = getattr(Dropbox, step)

    def refuse(box: Dropbox, name: str) -> None:
        if name.startswith("0000."):
            raise PermissionError(1, "Operation not permitted")
        honest(box, name)

    monkeypatch.setattr(Dropbox, step, refuse)
    file = scene.spool / "new" / "0000.1"
    file.write_bytes(mail_of(frame(b"stays")) if step == "remove" else b"no mail of a peer")
    text = f"a mail cannot be taken: {file} (Operation not permitted)"
    eventually(lambda: scene.office.trouble == text, PATIENCE_S)
    if step == "remove":
        point = scene.accept()
        assert point.read(timeout=PATIENCE_S) == b"stays"
        point.abort("the test is over")
    _hears(scene, b"good")
    assert scene.files("new") == [file]


def test_what_killed_receivers_leave_while_a_program_lives_is_taken_away(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_inbound, "TIDY_EACH_S", 0.05)
    scene.restart()
    old, young = (scene.spool / "tmp" / name for name in ("old", "young"))
    for file, age_s in ((young, 60.0), (old, _dropbox.ABANDONED_S + 60)):
        file.write_bytes(b"half a ma")
        os.utime(file, (time.time() - age_s,) * 2)
    eventually(lambda: not old.exists(), PATIENCE_S)
    assert young.exists()
    scene.goes_on()


# --- another name for the mailbox -----------------------------------------------------------------

ALIAS: Final = "alice.b@example.org"


def _warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [one.getMessage() for one in caplog.records if one.name == "compoint.mail"]


def test_frames_for_another_mailbox_are_told_once_counted_put_aside_and_not_answered(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    mails = [mail_of(frame(b"x", receiver=Place(ALIAS, PORT))) for _ in range(3)]
    assert scene.gets(*mails) == 0
    (text,) = _warnings(caplog)
    assert text.startswith(f"{MALLORY} writes to the mailbox {ALIAS}, and that of this program is ")
    assert ALICE in text
    assert scene.office.counts()["foreign"] == 3
    assert scene.inbound.put_aside == {"for another mailbox": 3}
    assert len(scene.files("bad")) == 3
    scene.goes_on()


def test_each_spelling_of_another_mailbox_is_told_and_no_more_than_some(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(30):
        scene.gets(mail_of(frame(b"x", receiver=Place(f"alice{number}@example.org", PORT))))
    told = _warnings(caplog)
    assert [f"alice{number}@" in one for number, one in enumerate(told)] == [True] * 20
    scene.goes_on()


def test_beside_a_frame_for_another_mailbox_ours_is_taken(scene: Scene) -> None:
    other = frame(b"x", receiver=Place(ALIAS, PORT))
    scene.gets(mail_of(other, frame(b"hello")))
    assert scene.files("bad") == []
    scene.reads(b"hello")


def test_the_mailbox_in_other_letters_is_ours(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    scene.gets(mail_of(frame(b"hello", receiver=Place("ALICE@Example.org", PORT))))
    assert _warnings(caplog) == []
    scene.reads(b"hello")


def test_who_has_not_the_secret_is_not_told_to_be_for_another_mailbox(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "secret"
    file.write_bytes(b"agreed by telephone, long enough")
    file.chmod(0o600)
    with a_scene(tmp_path, trust="secret", secretFile=file) as scene:
        assert scene.gets(mail_of(frame(b"x", receiver=Place(ALIAS, PORT)))) == 0
        assert scene.inbound.put_aside == {"untrusted": 1}
    assert not any(ALIAS in one for one in _warnings(caplog))
