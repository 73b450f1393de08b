"""The process of a store is killed at every moment: what it reported is there, nothing is half."""

from __future__ import annotations

import random
import signal
import subprocess
from contextlib import closing
from pathlib import Path

import pytest
from store_kit import BOB, KEY, left_in, program

from mail._incoming import Early
from mail._outgoing import Said
from mail._store import Store

#: Step `n` changes something in every table, and makes something needless in most.
_STEPS = """
import os, sys
from store_kit import BOB, KEY, machine, mailbox_step, state, stream
from mail._incoming import Early
from mail._outgoing import Said
from mail._rate import BudgetState
from mail._state import Changes
from mail._store import Batch, Link, PostRow, Store
from mail._tombstone import Tombstone

folder = sys.argv[1]

def batch(n):
    body = bytes([n % 256]) * (10 + n % 7 * 10_000)
    now = state(said=n * 100_000, confirmed=(n - 2) * 100_000, received=n - 1)
    changes = Changes(now, [Said(n * 100_000, body)], [Early(n, body)])
    messages = stream(first_unread=n - 1, messages=[(n, 0, body)], pieces=[(n, body)])
    return Batch(
        mailbox=mailbox_step(
            changes, tombstones=[Tombstone(b"t" * 16, True, n, 0, "", 0.0)], next_post=n + 1
        ),
        arrived=[(KEY, n, b"x")], machines=[(KEY, machine(messages, row=b"%d" % n, fed=n))],
        links=[Link(KEY, n, str(n), "", False)],
        posts=[PostRow(n, str(n), "", ((KEY, n),), 0.0)], done_posts=[n - 2],
        budget=BudgetState(n, 0.0, ((n, n),)),
    )
"""

_LOOP = (
    _STEPS
    + """
store = Store(folder, BOB)
n = store.load().next_post
while True:
    store.commit(batch(n))
    print(n, flush=True)
    n += 1
"""
)

#: Killed before the n-th statement (0: never); says how far it got.
_KILLED_AT_A_STATEMENT = (
    _STEPS
    + """
import signal, sqlite3
import mail._store

left = int(sys.argv[2])

def count(statement):
    global left
    left -= 1
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)

def opened(path, call=mail._store.open_to_write):
    db = call(path)
    db.set_trace_callback(count)
    return db

mail._store.open_to_write = opened
store = Store(folder, BOB)
print("made", flush=True)
for n in (1, 2, 3):
    store.commit(batch(n))
    print(n, flush=True)
"""
)


def _last_step(store: Store) -> int:
    """How many steps are there; fails where one is not there in every table, or only half."""
    loaded = store.load()
    last = loaded.next_post - 1
    if not last:
        assert loaded == ([], [], [], None, 1)
        return 0
    (rows,) = loaded.conversations
    assert rows.machine is not None
    assert rows.link is not None
    assert loaded.budget is not None
    (stone,), (stream,) = loaded.tombstones, rows.machine.streams
    body = bytes([last % 256]) * (10 + last % 7 * 10_000)
    assert {
        last, rows.state.said // 100_000, int(rows.machine.row), rows.machine.fed, stone.have,
        rows.link.port, int(rows.link.name), int(loaded.budget.tokens), stream.pieces[0].start,
        loaded.posts[-1].number,
    } == {last}  # fmt: skip
    assert rows.said[-1] == Said(last * 100_000, body)
    assert rows.early[-1] == Early(last, body)
    assert stream.messages[-1] == (last, 0, body)
    assert stream.pieces == [(last, body)]
    assert [start for start, _ in rows.arrived] == [last]
    # Of what was needless nothing has stayed.
    behind = min(last, 2)
    assert [len(one) for one in (rows.said, rows.early, stream.messages, loaded.posts)] == [
        min(last, 3), behind, behind, behind,
    ]  # fmt: skip
    return last


@pytest.mark.timeout(180)
def test_killed_at_any_moment_it_has_all_that_was_reported_and_nothing_half(
    tmp_path: Path,
) -> None:
    chance = random.Random(7)
    reported = 0
    for _ in range(20):
        running = program(_LOOP, tmp_path / "spool")
        assert running.stdout is not None
        first = running.stdout.readline()
        assert first, running.communicate()[1]
        with pytest.raises(subprocess.TimeoutExpired):
            running.wait(chance.uniform(0.0, 0.15))
        running.kill()
        lines = (first + running.communicate(timeout=30)[0]).splitlines(keepends=True)
        whole = [int(line) for line in lines if line.endswith("\n")]
        assert whole == list(range(reported + 1, reported + 1 + len(whole)))
        with closing(Store(str(tmp_path / "spool"), BOB)) as store:
            last = _last_step(store)
        assert whole[-1] <= last <= whole[-1] + 1
        reported = last
    assert reported > 20


@pytest.mark.timeout(180)
def test_killed_before_any_statement_it_has_all_that_was_reported_and_nothing_half(
    tmp_path: Path,
) -> None:
    seen = set()
    for number in range(1, 400):
        folder = tmp_path / str(number)
        running = program(_KILLED_AT_A_STATEMENT, folder, number)
        reported, trouble = running.communicate(timeout=60)
        assert running.returncode in {0, -signal.SIGKILL}, trouble
        steps = [line for line in reported.split() if line != "made"]
        with closing(Store(str(folder), BOB)) as store:
            assert _last_step(store) == len(steps)
        seen.add(reported)
        if not running.returncode:
            break
    assert seen == {"", "made\n", "made\n1\n", "made\n1\n2\n", "made\n1\n2\n3\n"}


def test_who_looks_at_what_a_killed_process_left_takes_nothing_away(tmp_path: Path) -> None:
    running = program(_LOOP, tmp_path)
    assert running.stdout is not None
    first = running.stdout.readline()
    with Store.peek(str(tmp_path)) as view:
        assert view.pid == running.pid
    running.kill()
    steps = (first + running.communicate(timeout=30)[0]).count("\n")
    files = {
        file: file.read_bytes() for file in tmp_path.glob("*.sqlite*") if "shm" not in file.name
    }
    assert len(files) == 2
    with Store.peek(str(tmp_path)) as view:
        assert view.pid is None
        (seen,) = view.conversations
        assert steps * 100_000 <= seen.said
    assert {file: file.read_bytes() for file in files} == files
    with closing(Store(str(tmp_path), BOB)) as store:
        assert _last_step(store) >= steps
    assert left_in(tmp_path)["conversations"] == 1
    assert seen.key == KEY
