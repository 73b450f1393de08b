"""The store: every row comes back as it was committed, and goes when it is needless."""

from __future__ import annotations

import math
import os
import sqlite3
import stat
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from conversation_kit import PACE, initiator, later, pair, said
from store_kit import BOB, KEY, OTHER, left_in, machine, mailbox_step, state, step, stream

from compoint.core.codes import Code
from compoint.core.keeping import KeptConnection, KeptStream
from compoint.errors import ClosedError
from mail._conversation import Conversation
from mail._envelope import Place
from mail._incoming import Early
from mail._mailbox import Mailbox
from mail._outgoing import Said
from mail._rate import BudgetState
from mail._state import Changes
from mail._store import Batch, Link, Loaded, PostRow, Rows, SpoolView, Store
from mail._tombstone import Tombstone

if TYPE_CHECKING:
    from collections.abc import Iterator

ALL = state(
    incarnation=b"alice 01", said=10, confirmed=3, is_ended=True, peer_window=(1 << 63) - 1,
    on_the_way=11, due_utc=1_800_000_000.25, tries=2, received=7, ends_at=9, told=6,
    round_trip_s=0.5, give_up_utc=1_800_432_000.0, last_utc=1_800_432_000.0,
    reset_utc=1_799_999_999.0, next_handle=4, how="broken", code=int(Code.EXPIRED),
    text="nobody \0 is\nhöre ☎",
)  # fmt: skip
STONE = Tombstone(b"t" * 16, True, -1, 21, "gone", 1_800_000_000.0)
POST = PostRow(7, "<7@example.org>", "alice@example.org", ((KEY, 3), (OTHER, 0)), 1_800_000_000.5)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "above" / "spool"


@pytest.fixture
def store(folder: Path) -> Iterator[Store]:
    store = Store(str(folder), BOB)
    yield store
    store.close()


def _only(loaded: Loaded) -> Rows:
    (rows,) = loaded.conversations
    return rows


def _next(store: Store) -> Loaded:
    """What the next process has."""
    store.close()
    with closing(Store(store.folder, BOB)) as again:
        return again.load()


# --- conversations ------------------------------------------------------------------------------


@pytest.mark.parametrize("given", [state(), ALL], ids=["fresh", "all"])
def test_every_field_of_a_state_comes_back_in_its_type(store: Store, given: Any) -> None:
    store.commit(step(given))
    kept = _only(_next(store)).state
    assert kept == given
    assert [type(one) for one in kept] == [type(one) for one in given]


def test_a_state_replaces_the_one_before(store: Store) -> None:
    store.commit(step(state()))
    store.commit(step(ALL))
    assert _only(store.load()).state == ALL


def test_the_columns_stand_in_the_order_of_the_fields(store: Store, folder: Path) -> None:
    store.commit(step(state()))
    with closing(sqlite3.connect(folder / "conversations.sqlite")) as db:
        states = [row[1] for row in db.execute("PRAGMA table_info(conversations)")]
        stones = [row[1] for row in db.execute("PRAGMA table_info(tombstones)")]
        links = [row[1] for row in db.execute("PRAGMA table_info(links)")]
    assert states[5:] == list(state()._fields[4:])
    assert stones[1:] == list(Tombstone._fields[2:])
    assert links[1:] == list(Link._fields[1:])


def test_both_sides_of_a_conversation_live_in_one_mailbox(store: Store) -> None:
    ours, theirs = state(KEY, said=1), state(OTHER, said=2)
    store.commit(step(ours, [Said(0, b"o")]))
    store.commit(step(theirs, [Said(0, b"t")]))
    kept = {rows.state: rows.said for rows in store.load().conversations}
    assert kept == {ours: [Said(0, b"o")], theirs: [Said(0, b"t")]}


def test_rows_come_back_in_order_of_their_starts(store: Store) -> None:
    early = [Early(300, b"a"), Early(5, b"c"), Early(70, b"b")]
    store.commit(step(state(), [Said(0, b"0")], early))
    store.commit(step(state(), [Said(1, b"1" * 300), Said(301, b"2")]))
    rows = _only(store.load())
    assert [one.start for one in rows.said] == [0, 1, 301]
    assert rows.early == sorted(early)


def test_what_the_peer_has_is_needless(store: Store) -> None:
    kept = [Said(0, b"abc"), Said(3, b"def"), Said(6, b"ghi")]
    store.commit(step(state(said=9), kept))
    store.commit(step(state(said=9, confirmed=5)))
    assert _only(store.load()).said == kept[1:]
    store.commit(step(state(said=9, confirmed=6)))
    assert _only(store.load()).said == kept[2:]


def test_what_came_early_is_needless_when_its_start_is_received(store: Store) -> None:
    store.commit(step(state(received=1), early=[Early(5, b"a"), Early(6, b"b"), Early(9, b"c")]))
    store.commit(step(state(received=6)))
    assert _only(store.load()).early == [Early(6, b"b"), Early(9, b"c")]


def test_what_no_machine_has_taken_comes_back(store: Store) -> None:
    store.commit(step(state(), arrived=[(KEY, 0, b"abc"), (KEY, 3, b"de")]))
    assert _only(store.load()).arrived == [(0, b"abc"), (3, b"de")]


def test_what_the_machine_has_taken_is_needless(store: Store) -> None:
    store.commit(step(state(), arrived=[(KEY, 0, b"abc"), (KEY, 3, b"de"), (KEY, 5, b"f")]))
    store.commit(Batch(machines=[(KEY, machine(fed=4))]))
    assert _only(store.load()).arrived == [(3, b"de"), (5, b"f")]


def test_a_conversation_without_a_machine_or_a_link_has_none(store: Store) -> None:
    store.commit(step(state()))
    assert _only(store.load())[4:] == (None, None)


def test_no_row_of_a_conversation_that_is_gone_is_left(store: Store, folder: Path) -> None:
    for key in (KEY, OTHER):
        store.commit(
            step(
                state(key), [Said(0, b"x")], [Early(5, b"y")], arrived=[(key, 0, b"z")],
                machines=[(key, machine(stream(messages=[(1, 0, b"m")], pieces=[(0, b"p")])))],
                links=[Link(key, 7100, "name", "/path", False)],
            )
        )  # fmt: skip
    store.commit(Batch(mailbox=mailbox_step(gone=[KEY])))
    of_one = [
        "conversations", "links", "said", "early", "arrived", "machines", "streams", "messages",
        "pieces",
    ]  # fmt: skip
    assert left_in(folder) == dict.fromkeys(of_one, 1)
    store.commit(Batch(mailbox=mailbox_step(gone=[OTHER])))
    assert left_in(folder) == {}


def test_a_conversation_that_goes_leaves_nothing_of_its_last_step(
    store: Store, folder: Path
) -> None:
    store.commit(step(state()))
    store.commit(
        Batch(
            mailbox=mailbox_step(gone=[KEY]), arrived=[(KEY, 0, b"z")],
            machines=[(KEY, machine(stream()))], links=[Link(KEY, 1, "", "", True)],
        )
    )  # fmt: skip
    assert left_in(folder) == {}


def test_a_conversation_that_begins_again_as_it_goes_keeps_its_new_rows(store: Store) -> None:
    store.commit(step(state(said=1), [Said(0, b"old")], arrived=[(KEY, 0, b"old")]))
    again = mailbox_step(Changes(state(said=2), [Said(0, b"new")], []), gone=[KEY])
    store.commit(Batch(mailbox=again, arrived=[(KEY, 0, b"new")]))
    rows = _only(store.load())
    assert (rows.state.said, rows.said, rows.arrived) == (2, [Said(0, b"new")], [(0, b"new")])


def test_real_conversations_go_on_from_what_was_committed(store: Store) -> None:
    alice, bob = pair()
    said(bob, b"early", later(100))
    alice.take(said(bob, b"more", later(101)), later(101))
    alice.say(b"unsent", later(102))
    at = later(103)
    changes = alice.take_changes(at)
    store.commit(Batch(mailbox=mailbox_step(changes)))
    rows = _only(_next(store))
    again = Conversation.restore(rows.state, rows.said, rows.early, b"alice 01", PACE, at)
    assert again.take_changes(at).state == changes.state
    assert rows.said[-1].body == b"unsent"
    assert rows.early == [Early(8, b"more")]


def test_a_mailbox_goes_on_from_what_was_committed(store: Store) -> None:
    at = later(0)
    box = Mailbox(BOB, store.incarnation, PACE)
    box.open(KEY[0], 49152, Place("alice@a.test", 7100)).say(b"hello", at)
    box.touch(KEY)
    post = box.take_post(at, 100_000)
    assert post is not None
    store.commit(Batch(mailbox=box.take_changes(at)))
    loaded = _next(store)
    again = Mailbox(BOB, store.incarnation, PACE, next_post=loaded.next_post)
    again.restore((rows[:3] for rows in loaded.conversations), loaded.tombstones, at)
    repeated = again.take_post(at, 100_000)
    assert repeated is not None
    assert (post.number, repeated.number) == (1, 2)
    assert [frame.body for frame in repeated.frames] == [b"hello"]


# --- machines -----------------------------------------------------------------------------------


def test_a_machine_comes_back_with_its_streams_in_order(store: Store) -> None:
    both = machine(
        stream(300, b"late", messages=[(2, 1, b"two"), (10, 0, b"ten"), (3, 0, b"")]),
        stream(7, b"soon", pieces=[(256, b"b"), (0, b"a" * 256)]), row=b"all", fed=12,
    )  # fmt: skip
    store.commit(step(state(), machines=[(KEY, both)]))
    soon = KeptStream(b"soon", [], [(0, b"a" * 256), (256, b"b")])  # type: ignore[list-item]
    late = KeptStream(b"late", [(2, 1, b"two"), (3, 0, b""), (10, 0, b"ten")], [])  # type: ignore[list-item]
    assert _only(_next(store)).machine == KeptConnection(b"all", 12, [soon, late])


def test_rows_of_a_machine_and_its_streams_are_replaced(store: Store) -> None:
    store.commit(step(state(), machines=[(KEY, machine(stream(), row=b"old"))]))
    store.commit(Batch(machines=[(KEY, machine(stream(row=b"newer"), row=b"new", fed=1))]))
    assert _only(store.load()).machine == KeptConnection(b"new", 1, [KeptStream(b"newer", [], [])])


def test_a_message_that_was_read_is_needless(store: Store) -> None:
    messages = [(number, 0, b"%d" % number) for number in range(1, 5)]
    store.commit(step(state(), machines=[(KEY, machine(stream(messages=messages)))]))
    last = stream(first_unread=4, messages=[(5, 0, b"5")])
    store.commit(Batch(machines=[(KEY, machine(last))]))
    kept = _only(store.load()).machine
    assert kept is not None
    assert [one.number for one in kept.streams[0].messages] == [4, 5]


def test_the_pieces_of_a_message_that_is_complete_are_needless(store: Store) -> None:
    begun = stream(has_pieces=False, pieces=[(0, b"ab")])
    more = stream(has_pieces=True, pieces=[(2, b"cd")])
    next_one = stream(messages=[(1, 0, b"abcde")], has_pieces=False, pieces=[(0, b"xy")])
    found = []
    store.commit(step(state()))
    for one in (begun, more, next_one):
        store.commit(Batch(machines=[(KEY, machine(one))]))
        kept = _only(store.load()).machine
        assert kept is not None
        found.append([piece.body for piece in kept.streams[0].pieces])
    assert found == [[b"ab"], [b"ab", b"cd"], [b"xy"]]


def test_no_row_of_a_stream_that_is_gone_is_left(store: Store, folder: Path) -> None:
    both = [stream(number, messages=[(1, 0, b"m")], pieces=[(0, b"p")]) for number in (1, 2)]
    store.commit(Batch(machines=[(KEY, machine(*both))]))
    store.commit(Batch(machines=[(KEY, machine(gone=[1]))]))
    assert left_in(folder) == {"machines": 1, "streams": 1, "messages": 1, "pieces": 1}


# --- the rest -----------------------------------------------------------------------------------


@pytest.mark.parametrize("is_released", [False, True])
def test_a_link_comes_back_and_is_replaced(store: Store, is_released: bool) -> None:
    link = Link(KEY, 7100, "order 7", "/orders", is_released)
    store.commit(step(state(), links=[link._replace(name="", is_released=not is_released)]))
    store.commit(Batch(links=[link]))
    kept = _only(store.load()).link
    assert kept == link
    assert kept is not None
    assert kept.is_released is is_released


def test_tombstones_come_back_are_replaced_and_forgotten(store: Store) -> None:
    other = STONE._replace(is_initiator=False, have=12, answered_utc=5.0)
    store.commit(Batch(mailbox=mailbox_step(tombstones=[STONE, other])))
    later_one = STONE._replace(until_utc=math.inf, answered_utc=1.5)
    store.commit(Batch(mailbox=mailbox_step(tombstones=[later_one])))
    assert sorted(store.load().tombstones) == [other, later_one]
    store.commit(Batch(mailbox=mailbox_step(forgotten=[(STONE.conversation, True)])))
    assert _next(store).tombstones == [other]


def test_posts_come_back_until_they_are_done(store: Store) -> None:
    replies = POST._replace(number=8, parts=())
    store.commit(Batch(posts=[replies, POST]))
    assert store.load().posts == [POST, replies]
    store.commit(Batch(done_posts=[7, 99]))
    assert _next(store).posts == [replies]


@pytest.mark.parametrize(
    "budget",
    [BudgetState(1.5, 1_800_000_000.25, ((499_999, 3), (500_000, 1))), BudgetState(5.0, -math.inf)],
)
def test_the_budget_comes_back(store: Store, budget: BudgetState) -> None:
    assert store.load().budget is None
    store.commit(Batch(budget=budget))
    store.commit(Batch())
    assert _next(store).budget == budget


def test_numbers_of_posts_never_go_back(store: Store) -> None:
    assert store.load().next_post == 1
    store.commit(Batch(mailbox=mailbox_step(next_post=9)))
    store.commit(Batch(mailbox=mailbox_step(next_post=3)))
    assert _next(store).next_post == 9


def test_a_store_stays_the_one_it_was(store: Store) -> None:
    assert len(store.incarnation) == 8
    store.close()
    with closing(Store(store.folder, BOB)) as again:
        assert again.incarnation == store.incarnation


def test_a_new_store_is_another_one(store: Store, tmp_path: Path) -> None:
    with closing(Store(str(tmp_path / "new"), BOB)) as new:
        assert new.incarnation != store.incarnation


def test_a_body_of_many_megabytes_comes_back(store: Store) -> None:
    body = os.urandom(1 << 20) * 9
    store.commit(step(state(said=len(body)), [Said(0, body)]))
    assert _only(store.load()).said == [Said(0, body)]


def test_a_commit_waits_for_the_disk(store: Store) -> None:
    assert store._db is not None
    assert store._db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert store._db.execute("PRAGMA synchronous").fetchone() == (2,)


def test_a_commit_that_may_be_repeated_does_not_but_the_next_one_does(store: Store) -> None:
    assert store._db is not None
    store.commit(step(state(said=1), [Said(0, b"x")]), is_repeatable=True)
    assert store._db.execute("PRAGMA synchronous").fetchone() == (1,)
    store.commit(step(state(said=2), [Said(1, b"y")]))
    assert store._db.execute("PRAGMA synchronous").fetchone() == (2,)
    assert _only(store.load()).said == [Said(0, b"x"), Said(1, b"y")]


def test_folder_and_files_are_for_their_owner_only(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        folder = tmp_path / "spool"
        with closing(Store(str(folder), BOB)) as store:
            store.commit(step(state()))
            modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()}
    finally:
        os.umask(before)
    database = "conversations.sqlite"
    files = ["lock", database, f"{database}-wal", f"{database}-shm"]
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert modes == dict.fromkeys(files, 0o600) | dict.fromkeys(["tmp", "new", "bad"], 0o700)


def test_the_mailbox_may_be_spelled_with_other_capitals(store: Store) -> None:
    store.close()
    Store(store.folder, BOB.upper()).close()


def test_closing_twice_is_no_fault(store: Store) -> None:
    store.close()
    store.close()


def test_a_closed_store_says_so(store: Store) -> None:
    store.close()
    with pytest.raises(ClosedError, match=r"store of bob@example\.org is closed"):
        store.commit(Batch())
    with pytest.raises(ClosedError):
        store.load()


# --- looking from outside -----------------------------------------------------------------------


def test_who_looks_sees_what_was_committed(store: Store) -> None:
    messages = [(1, 0, b"one"), (2, 0, b"two")]
    store.commit(
        step(
            ALL._replace(said=10), machines=[(KEY, machine(stream(messages=messages)))],
            links=[Link(KEY, 7, "order", "/", True)], posts=[POST], budget=BudgetState(1.0, 2.0),
        )
    )  # fmt: skip
    one = machine(stream(messages=[(9, 0, b"nine")]))
    store.commit(step(state(OTHER, due_utc=5.0), machines=[(OTHER, one)]))
    with Store.peek(store.folder) as view:
        pass
    first, second = view.conversations
    if first.key == OTHER:
        first, second = second, first
    assert (view.mailbox, view.pid) == (BOB, os.getpid())
    assert (view.posts, view.budget) == ((POST,), BudgetState(1.0, 2.0))
    assert first.peer == ("alice@example.org", 7100)
    assert (first.port, first.name, first.is_released) == (7, "order", True)
    assert (first.said, first.confirmed, first.received, first.unread) == (10, 3, 7, 2)
    assert (first.due_utc, first.how, first.text) == (ALL.due_utc, "broken", ALL.text)
    assert (second.key, second.port, second.name, second.unread) == (OTHER, 49152, "", 1)
    assert (second.due_utc, second.how, second.text) == (5.0, "", "")


def test_looking_makes_nothing(tmp_path: Path) -> None:
    with Store.peek(str(tmp_path)) as view:
        assert view == SpoolView("", None)
    with Store.peek(str(tmp_path / "nothing")) as view:
        assert view == SpoolView("", None)
    assert [*tmp_path.iterdir()] == []


def test_who_looks_keeps_nobody_from_committing(store: Store) -> None:
    store.commit(step(state()))
    with Store.peek(store.folder) as view:
        store.commit(step(state(said=1)))
    assert view.conversations[0].said == 0
    assert _only(store.load()).state.said == 1


def test_who_looks_sees_a_store_that_nobody_uses(store: Store) -> None:
    store.commit(step(state()))
    store.close()
    with Store.peek(store.folder) as view:
        assert (view.mailbox, view.pid, len(view.conversations)) == (BOB, None, 1)


def test_a_conversation_of_real_frames_is_seen(store: Store) -> None:
    alice = initiator()
    said(alice, b"hello")
    store.commit(Batch(mailbox=mailbox_step(alice.take_changes(later(0)))))
    with Store.peek(store.folder) as view:
        (seen,) = view.conversations
    assert (seen.peer.mailbox, seen.said, seen.confirmed) == ("bob@b.test", 5, 0)
    assert seen.due_utc == later(600).utc
