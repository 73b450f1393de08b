"""What a store does where it cannot be: taken, foreign, damaged, full, forked."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import subprocess
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from store_kit import BOB, left_in, program, state, step

from compoint.errors import BusyError, ClosedError, ConfigError, InternalError
from mail._outgoing import Said
from mail._store import Batch, Store

_DATABASE = "conversations.sqlite"

#: Uses a mailbox until its input ends.
_USER = """
import sys
from store_kit import state, step
from mail._store import Store
store = Store(*sys.argv[1:3])
store.commit(step(state(said=5)))
print("using", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@pytest.fixture
def store(folder: Path) -> Iterator[Store]:
    store = Store(str(folder), BOB)
    yield store
    store.close()


@pytest.fixture
def user(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that uses bob's mailbox."""
    user = program(_USER, folder, BOB)
    assert user.stdout is not None
    assert user.stdout.readline() == "using\n", user.communicate()[1]
    yield user
    user.communicate(timeout=30)


def _refused(folder: Path, mailbox: str = BOB) -> str:
    with pytest.raises(ConfigError) as caught:
        Store(str(folder), mailbox)
    return str(caught.value)


def _made(folder: Path) -> Path:
    """The file of a store that was used and closed."""
    with closing(Store(str(folder), BOB)) as store:
        for number in range(60):
            store.commit(step(state((b"%016d" % number, True), said=999), [Said(0, b"x" * 999)]))
    return folder / _DATABASE


# --- one process per mailbox --------------------------------------------------------------------


def test_a_second_process_is_told_who_uses_the_mailbox(
    folder: Path, user: subprocess.Popen[str]
) -> None:
    with pytest.raises(BusyError) as caught:
        Store(str(folder), "carol@example.org")
    assert str(caught.value) == (
        f"open: another process (pid {user.pid}) uses the mailbox {BOB}; "
        "stop it, or give this program another mailbox or another spool folder"
    )


def test_a_mailbox_is_free_when_its_process_was_killed(
    folder: Path, user: subprocess.Popen[str]
) -> None:
    assert Store.holder(str(folder)) == user.pid
    user.kill()
    user.wait(30)
    assert Store.holder(str(folder)) is None
    with closing(Store(str(folder), BOB)) as store:
        assert Store.holder(str(folder)) == os.getpid()
        assert [rows.state.said for rows in store.load().conversations] == [5]


def test_a_mailbox_is_free_when_its_process_has_closed_it(store: Store, folder: Path) -> None:
    store.close()
    assert Store.holder(str(folder)) is None
    assert (folder / "lock").read_bytes() == b""
    Store(str(folder), BOB).close()


def test_a_second_store_in_one_process_is_refused(store: Store, folder: Path) -> None:
    with pytest.raises(BusyError, match=f"this process already uses the mailbox {BOB}"):
        Store(str(folder), BOB)
    store.commit(Batch())
    assert Store.holder(str(folder)) == os.getpid()


def test_the_process_that_is_told_apart_by_its_number_must_hold_the_lock(folder: Path) -> None:
    """After a kill the number may be that of a stranger."""
    Store(str(folder), BOB).close()
    (folder / "lock").write_text(f"{os.getpid()} {BOB}\n")
    assert Store.holder(str(folder)) is None


def test_nobody_holds_a_folder_that_is_not_there(folder: Path) -> None:
    assert Store.holder(str(folder)) is None
    assert not folder.exists()


def test_who_looks_sees_a_store_that_another_process_uses(
    folder: Path, user: subprocess.Popen[str]
) -> None:
    with Store.peek(str(folder)) as view:
        assert (view.mailbox, view.pid) == (BOB, user.pid)
        assert [one.said for one in view.conversations] == [5]


def test_a_store_that_another_program_keeps_locked_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mail import _database

    monkeypatch.setattr(_database, "_PATIENCE_S", 0.01)
    with closing(sqlite3.connect(_made(folder), isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(BusyError, match=r"another program keeps .*sqlite locked"):
            Store(str(folder), BOB)
        with pytest.raises(BusyError, match="locked"), Store.peek(str(folder)):
            pass
    Store(str(folder), BOB).close()


# --- the folder ---------------------------------------------------------------------------------


def test_a_folder_that_is_open_to_others_is_refused(folder: Path) -> None:
    folder.mkdir(0o755)
    told = _refused(folder)
    assert told.startswith(f"configure: {folder}: the spool folder is open to others; chmod it")
    assert "`spool` in section [mail]" in told
    assert [*folder.iterdir()] == []


def test_a_link_or_a_file_in_place_of_the_folder_is_refused(folder: Path) -> None:
    (folder.parent / "real").mkdir(0o700)
    folder.symlink_to(folder.parent / "real")
    assert "is a link or a file" in _refused(folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_folder_of_somebody_else_is_refused(store: Store, folder: Path) -> None:
    store.close()
    os.chown(folder, 65534, 65534)
    assert "the spool folder belongs to somebody else" in _refused(folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_somebody_else_can_neither_use_nor_look(
    store: Store, folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    told = _in_child(lambda: _as_somebody_else(folder))
    assert told == "PermissionError PermissionError PermissionError"


def _as_somebody_else(folder: Path) -> str:
    os.setuid(65534)
    told = []
    for look in (_looks, lambda folder: Store(folder, BOB), Store.holder):
        try:
            look(str(folder))
        except (OSError, ConfigError) as error:
            cause = error.__cause__ if isinstance(error, ConfigError) else error
            told.append(type(cause).__name__)
    return " ".join(told)


def _looks(folder: str) -> None:
    with Store.peek(folder):
        pass


def test_the_folder_of_another_mailbox_is_refused(store: Store, folder: Path) -> None:
    store.close()
    told = _refused(folder, "carol@example.org")
    assert f"the spool folder {folder} is that of {BOB}, not of carol@example.org" in told
    assert "a spool folder of its own for each mailbox" in told
    Store(str(folder), BOB).close()


# --- the file -----------------------------------------------------------------------------------


def _garbage(file: Path) -> None:
    file.write_bytes(b"no database at all " * 1000)


def _cut(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def _scribbled(file: Path) -> None:
    pages = bytearray(file.read_bytes())
    for page in range(4096, len(pages), 4096):
        pages[page : page + 64] = b"\xff" * 64
    file.write_bytes(pages)


def _emptied(file: Path) -> None:
    with closing(sqlite3.connect(file, isolation_level=None)) as db:
        db.execute("DELETE FROM meta")


def _foreign_rows(file: Path) -> None:
    with closing(sqlite3.connect(file, isolation_level=None)) as db:
        db.execute("INSERT INTO posts VALUES (1, '', '', '[[1]]', 0)")


def _no_text(file: Path) -> None:
    with closing(sqlite3.connect(file, isolation_level=None)) as db:
        db.execute("UPDATE conversations SET text = CAST(X'ff' AS TEXT)")


@pytest.mark.parametrize("damage", [_garbage, _cut, _scribbled, _emptied, _foreign_rows, _no_text])
def test_a_damaged_file_is_named_and_what_to_do(
    folder: Path, damage: Callable[[Path], None]
) -> None:
    file = _made(folder)
    damage(file)
    with pytest.raises(ConfigError) as caught, closing(Store(str(folder), BOB)) as store:
        store.load()
    assert f"{file} is damaged; move it and the files beside it" in str(caught.value)
    assert "the conversations in it are lost" in str(caught.value)
    with pytest.raises(ConfigError, match="is damaged"), Store.peek(str(folder)):
        pass
    file.unlink()
    Store(str(folder), BOB).close()


def test_a_file_that_is_damaged_while_it_is_used_fails_the_step(store: Store, folder: Path) -> None:
    store.close()
    file = _made(folder)
    with closing(Store(str(folder), BOB)) as used:
        _scribbled(file)
        with pytest.raises(OSError, match="is damaged; move it") as caught:
            used.commit(step(state(), [Said(0, b"x")]))
    assert caught.value.errno == errno.EIO


def test_a_file_of_a_newer_release_is_refused_and_unharmed(folder: Path) -> None:
    file = _made(folder)
    with closing(sqlite3.connect(file, isolation_level=None)) as db:
        db.execute("PRAGMA user_version = 2")
    before = file.read_bytes()
    told = _refused(folder)
    assert f"{file} was made by a newer release (its version is 2, known here is 1)" in told
    with pytest.raises(ConfigError, match="newer release"), Store.peek(str(folder)):
        pass
    assert file.read_bytes() == before


def test_a_database_of_another_program_is_refused_and_unharmed(folder: Path) -> None:
    file = _made(folder)
    file.unlink()
    with closing(sqlite3.connect(file)) as db:
        db.execute("CREATE TABLE theirs (it)")
    before = file.read_bytes()
    assert "is the database of another program; name another spool folder" in _refused(folder)
    assert file.read_bytes() == before


def test_who_was_refused_keeps_nobody_out(folder: Path) -> None:
    file = _made(folder)
    file.write_bytes(b"garbage" * 1000)
    _refused(folder)
    assert Store.holder(str(folder)) is None


# --- steps that fail ----------------------------------------------------------------------------


def test_nothing_of_a_step_that_failed_is_there_and_the_next_succeeds(store: Store) -> None:
    store.commit(step(state(said=1), [Said(0, b"x")]))
    twice = step(state(said=2), [Said(1, b"y"), Said(1, b"z")])
    with pytest.raises(InternalError, match="asked for something impossible"):
        store.commit(twice)
    (rows,) = store.load().conversations
    assert (rows.state.said, rows.said) == (1, [Said(0, b"x")])
    store.commit(step(state(said=2), [Said(1, b"y")]))
    (rows,) = store.load().conversations
    assert (rows.state.said, rows.said) == (2, [Said(0, b"x"), Said(1, b"y")])


def test_nothing_of_a_step_that_was_interrupted_is_there(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pieces() -> Iterator[Said]:
        yield Said(0, b"x")
        raise KeyboardInterrupt

    batch = step(state(said=2))
    assert batch.mailbox is not None
    batch.mailbox.changes[0] = batch.mailbox.changes[0]._replace(said=pieces())  # type: ignore[arg-type]
    with pytest.raises(KeyboardInterrupt):
        store.commit(batch)
    assert store.load().conversations == []
    store.commit(step(state(said=1), [Said(0, b"x")]))


#: Commits until it cannot; then what fills the disk goes, and it commits once more.
_FILLS = """
import errno, os, resource, sys
from store_kit import BOB, KEY, state, step
from mail._outgoing import Said
from mail._store import Store

folder, limit = sys.argv[1], int(sys.argv[2])
ballast = os.path.join(folder, "ballast")
store = Store(os.path.join(folder, "spool"), BOB)
if limit:
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
else:
    with open(ballast, "wb") as file:
        file.write(bytes(300_000))
size = 20_000

def commit(n):
    store.commit(step(state(said=n * size), [Said((n - 1) * size, bytes([n]) * size)]))

def kept():
    (rows,) = store.load().conversations
    assert rows.state.said == size * len(rows.said)
    assert all(one.body == bytes([n]) * size for n, one in enumerate(rows.said, 1))
    return len(rows.said)

n = 0
try:
    while True:
        commit(n + 1)
        n += 1
except OSError as error:
    print(n, errno.errorcode[error.errno], error.strerror, sep="|")
print(kept() == n)
try:
    commit(n + 1)
except OSError as error:
    print(errno.errorcode[error.errno])
print(kept() == n)
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
else:
    os.unlink(ballast)
commit(n + 1)
print(kept() == n + 1)
store.close()
store = Store(os.path.join(folder, "spool"), BOB)
print(kept() == n + 1)
store.close()
"""


def _check_filled(running: subprocess.Popen[str]) -> None:
    said, trouble = running.communicate(timeout=60)
    assert running.returncode == 0, trouble
    first, *rest = said.splitlines()
    steps, *fault = first.split("|")
    assert int(steps) > 2
    assert fault == ["ENOSPC", "the disk of the spool folder is full"]
    assert rest == ["True", "ENOSPC", "True", "True", "True"]


#: A store is wanted where there is no room; then there is.
_BEGINS_WITHOUT_ROOM = """
import errno, os, sys
from store_kit import BOB
from mail._store import Store

ballast = os.path.join(sys.argv[1], "ballast")
spool = os.path.join(sys.argv[1], "spool")
if sys.argv[2] == "used":
    Store(spool, BOB).close()
handle = os.open(ballast, os.O_CREAT | os.O_WRONLY)
try:
    while True:
        os.write(handle, bytes(4096))
except OSError:
    os.close(handle)
try:
    Store(spool, BOB)
except OSError as error:
    print(errno.errorcode[error.errno], error.strerror)
os.unlink(ballast)
Store(spool, BOB).close()
"""


@pytest.fixture
def small_disk(tmp_path: Path) -> list[str]:
    """What a program is to run under, to see a small disk; which goes with the program."""
    script = f"mount -t tmpfs -o size=1200k none '{tmp_path}' && exec \"$@\""
    under = ["unshare", "-m", "sh", "-c", script, "sh"]
    if not shutil.which("unshare"):
        pytest.skip("no disk of its own can be had: unshare is missing")
    if subprocess.run([*under, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no disk of its own can be had: mounting one is not allowed here")
    return under


def test_a_full_disk_fails_the_step_and_nothing_else(tmp_path: Path, small_disk: list[str]) -> None:
    _check_filled(program(_FILLS, tmp_path, 0, under=small_disk))


@pytest.mark.parametrize("before", ["used", "unused"])
def test_a_store_that_finds_no_room_says_so_and_can_be_had_later(
    tmp_path: Path, small_disk: list[str], before: str
) -> None:
    running = program(_BEGINS_WITHOUT_ROOM, tmp_path, before, under=small_disk)
    said, trouble = running.communicate(timeout=30)
    assert (said, trouble) == ("ENOSPC the disk of the spool folder is full\n", "")


def test_a_limit_of_the_user_fails_the_step_and_nothing_else(tmp_path: Path) -> None:
    _check_filled(program(_FILLS, tmp_path, 400_000))


# --- forks --------------------------------------------------------------------------------------


def _in_child(call: Callable[[], object]) -> str:
    """What a call returns in a forked child, which then ends as any program does."""
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            told = str(call())
        except BaseException:
            told = traceback.format_exc()
        os.write(writing, told.encode()[:4000])
        os._exit(0)
    os.close(writing)
    with open(reading, encoding="utf-8") as told:
        answer = told.read()
    os.waitpid(pid, 0)
    return answer


def test_the_parent_goes_on_while_a_child_has_its_copy(store: Store) -> None:
    store.commit(step(state(said=1)))

    def in_child() -> int:
        store.after_fork()
        store.close()
        return 0

    assert _in_child(in_child) == "0"
    store.commit(step(state(said=2)))
    assert Store.holder(store.folder) == os.getpid()
    assert [rows.state.said for rows in store.load().conversations] == [2]


def test_closing_in_a_child_is_not_closing(store: Store) -> None:
    assert _in_child(store.close) == "None"
    store.commit(step(state(said=2)))
    assert Store.holder(store.folder) == os.getpid()


@pytest.mark.parametrize("call", ["commit", "load"])
def test_a_child_cannot_use_the_store_of_its_parent(store: Store, call: str) -> None:
    arguments = (Batch(),) if call == "commit" else ()

    def use() -> str:
        with pytest.raises(ClosedError) as caught:
            getattr(store, call)(*arguments)
        return str(caught.value)

    assert _in_child(use) == f"the store of {BOB} is closed in this process"


def test_a_child_cannot_open_what_its_parent_has_opened(store: Store) -> None:
    """SQLite believes there to hold locks that only the parent has."""

    def use() -> str:
        store.after_fork()
        told = []
        for call in (lambda: Store(store.folder, BOB), lambda: _looks(store.folder)):
            with pytest.raises(BusyError) as caught:
                call()
            told.append(str(caught.value))
        return "\n".join(told)

    first, second = _in_child(use).splitlines()
    assert f"another process (pid {os.getpid()})" in first
    assert "this process was forked from one that used this spool folder" in second


def test_a_child_outliving_its_parent_cannot_open_what_that_had_opened(
    store: Store, folder: Path
) -> None:
    def use() -> str:
        store.after_fork()
        (folder / "lock").unlink()  # as if the parent were gone
        with pytest.raises(BusyError) as caught:
            Store(store.folder, BOB)
        return str(caught.value)

    assert "this process was forked from one that used this spool folder" in _in_child(use)


def test_a_mailbox_is_free_while_a_child_has_its_copy(store: Store, folder: Path) -> None:
    """A child that was made before anything could be told of it."""
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(writing)
        os.read(reading, 1)
        os._exit(0)
    store.close()
    Store(str(folder), BOB).close()
    os.close(writing)
    os.close(reading)
    os.waitpid(pid, 0)


#: A forked child ends as a program ends, when nobody uses the store it has a copy of.
_CHILD_ENDS_LAST = """
import os, sys
from store_kit import BOB, state, step
from mail._store import Store

store = Store(sys.argv[1], BOB)
store.commit(step(state(said=1)))
reading, writing = os.pipe()
if os.fork():
    os.close(reading)
    store.close()
    again = Store(sys.argv[1], BOB)
    again.commit(step(state(said=2)))
    os._exit(0)  # as if it were killed
store.after_fork()
os.close(writing)
os.read(reading, 1)
"""


def test_a_child_that_ends_takes_nothing_of_the_parent_s_away(folder: Path) -> None:
    ran = program(_CHILD_ENDS_LAST, folder)
    _, trouble = ran.communicate(timeout=30)  # until the child has ended, too
    assert (ran.returncode, trouble) == (0, "")
    with closing(Store(str(folder), BOB)) as store:
        assert [rows.state.said for rows in store.load().conversations] == [2]
    assert left_in(folder) == {"conversations": 1}
