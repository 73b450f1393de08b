"""A driver that keeps each step: what is on the disk when a call returns, and what is not."""

from __future__ import annotations

import errno
import json
import math
import threading
from typing import TYPE_CHECKING, Any

import pytest
from kept_rows import Rows

from compoint import (
    ClosedError,
    ComManager,
    ComPointAddress,
    EndOfMessages,
    PointTimeout,
    SessionLostError,
)
from compoint.core.connection import Connection
from compoint.core.keeping import Keeper, has_goodbye
from compoint.deadline import FOR_EVER, Deadline
from compoint.drive.keeping import KeepingDriver
from compoint.drive.plain import PlainServer, open_plain
from compoint.drive.stream_point import StreamPoint
from compoint.drive.waiter import Waiter
from compoint.drive.wire import Listener, Opener, Wire
from compoint.limits import CHUNK_BYTES, SMALL_BYTES
from compoint.testing import Background, eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from compoint.core.stream import Stream

PATIENCE_S = 10.0
HERE = ComPointAddress("memory", 1)
NO_ROOM = "the disk of the spool folder is full"


# --- a wire that keeps, in memory ---------------------------------------------------------------


class Disk:
    """What outlives the processes of one side, and how well it does."""

    def __init__(self) -> None:
        self.rows = Rows()
        self.arrived = b""
        #: How many steps were kept; and why none is now.
        self.steps = 0
        self.fault: BaseException | None = None
        #: While it is not set, a step takes its time.
        self.is_fast = threading.Event()
        self.is_fast.set()
        self.is_full = False
        self.other: Disk = self
        self.news: Callable[[], None] = lambda: None
        self.room: Callable[[], None] = lambda: None

    def arrive(self, data: bytes) -> None:
        self.arrived += data
        self.news()

    def empty(self) -> None:
        """There is room again."""
        self.is_full = False
        self.room()

    @property
    def counts(self) -> dict[str, Any]:
        """The row of the one stream."""
        row: dict[str, Any] = json.loads(self.rows.streams[1])
        return row

    @property
    def unread(self) -> list[bytes]:
        return [message.body for message in self.rows.messages.values()]


class KeptWire(Wire):
    """What one process has of it; bytes leave when they are kept."""

    has_heartbeat = False
    keeps = True
    peer = "the other disk"

    def __init__(self, disk: Disk) -> None:
        self.disk = disk
        self.kept = disk.rows.kept()
        self.taken = self.kept.fed if self.kept is not None else 0
        self.is_dead = self.is_abandoned = self.is_closed = False
        #: Whether the last step came behind `close`.
        self.is_done = False
        self.waiter = Waiter()
        self.when_ready: Callable[[], None] | None = None
        self.waits_to_send = False
        disk.news, disk.room = self.tell, self.tell_of_room

    @property
    def is_full(self) -> bool:  # type: ignore[override]
        return self.disk.is_full

    @property
    def trouble(self) -> str:
        return "the mail server is down" if self.disk.is_full else ""

    def keep(self, connection: Connection, keeper: Keeper) -> None:
        output = b"".join(connection.take_output())
        disk = self.disk
        assert not self.is_abandoned
        assert disk.is_fast.wait(PATIENCE_S)
        if self.is_dead:
            raise OSError(errno.EIO, "the process was killed")
        if disk.fault is not None:
            raise disk.fault
        disk.rows.commit(keeper.changes())
        disk.steps += 1
        self.is_done = self.is_closed
        if output:
            disk.other.arrive(output)

    def abandon(self) -> None:
        self.is_abandoned = True

    def tell(self) -> None:
        self.waiter.wake()
        call = self.when_ready
        if call is not None:
            call()

    def tell_of_room(self) -> None:
        # Who does not wait for it may sleep on.
        if self.waits_to_send:
            self.tell()

    def is_ready(self, *, to_send: bool) -> bool:
        return len(self.disk.arrived) > self.taken or (to_send and not self.is_full)

    def send(self, data: bytes | memoryview, /) -> int:
        raise AssertionError("`keep` is called in place of `send`")

    def receive(self, most: int, /) -> bytes:
        data = self.disk.arrived[self.taken : self.taken + most]
        if not data:
            raise BlockingIOError
        self.taken += len(data)
        return data

    def receive_into(self, room: memoryview, /) -> int:
        data = self.receive(len(room))
        room[: len(data)] = data
        return len(data)

    def wait(self, timeout_s: float | None, *, to_send: bool) -> None:
        self.waits_to_send = to_send
        if not self.is_ready(to_send=to_send):
            self.waiter.sleep(timeout_s)

    def wake(self) -> None:
        self.waiter.wake()

    def fileno(self) -> int:
        return -1

    def on_ready(self, call: Callable[[], None] | None) -> None:
        self.when_ready = call
        if call is not None and self.is_ready(to_send=False):
            call()

    def close(self) -> None:
        self.is_closed = True
        self.when_ready = None


class KeptListener(Listener):
    """Here arrives one peer, whenever there is something of it; also after a kill."""

    address = HERE

    def __init__(self, disk: Disk) -> None:
        self.disk = disk
        self.has_come = False
        self.when_ready: Callable[[], None] | None = None

    def accept(self) -> Wire | None:
        if self.has_come or not self.disk.arrived:
            return None
        self.has_come = True
        return KeptWire(self.disk)

    def fileno(self) -> int:
        return -1

    def on_ready(self, call: Callable[[], None] | None) -> None:
        self.disk.news = call or (lambda: None)
        if call is not None:
            call()

    def close(self) -> None:
        pass


class KeptOpener(Opener):
    """Two disks that are each other's peer."""

    def __init__(self) -> None:
        self.ours, self.theirs = Disk(), Disk()
        self.ours.other, self.theirs.other = self.theirs, self.ours

    def connect(self, address: ComPointAddress, deadline: Deadline) -> Wire:
        return KeptWire(self.ours)

    def listen(self, address: ComPointAddress) -> Listener:
        return KeptListener(self.theirs)


class Stage:
    """Opens points and servers on two disks, and kills them."""

    def __init__(self) -> None:
        self.opener = KeptOpener()
        self.ours, self.theirs = self.opener.ours, self.opener.theirs
        self.points: list[StreamPoint] = []
        self.servers: list[PlainServer] = []

    def initiator(self) -> StreamPoint:
        """The point of a first or a later process."""
        settings = ComManager.settings().point
        self.points.append(open_plain(self.opener, HERE, settings, FOR_EVER))
        return self.points[-1]

    def responder(self) -> StreamPoint:
        settings = ComManager.settings().point
        server = PlainServer(self.opener, HERE, settings)
        self.servers.append(server)
        point = server.accept(timeout=PATIENCE_S)
        assert isinstance(point, StreamPoint)
        self.points.append(point)
        return point

    def kill(self, point: StreamPoint) -> None:
        """Nothing that this process does from here on reaches the disk."""
        wire_of(point).is_dead = True
        point.close(timeout=0)

    def clear(self) -> None:
        for disk in (self.ours, self.theirs):
            disk.fault, disk.is_full = None, False
            disk.is_fast.set()
        for point in self.points:
            point.close(timeout=0)
        for server in self.servers:
            server.close()


def wire_of(point: StreamPoint) -> KeptWire:
    wire = point._driver.wire
    assert isinstance(wire, KeptWire)
    return wire


@pytest.fixture
def stage() -> Iterator[Stage]:
    one = Stage()
    yield one
    one.clear()


@pytest.fixture
def ends(stage: Stage) -> tuple[StreamPoint, StreamPoint]:
    """Both ends of a conversation in which each has said something."""
    ours = stage.initiator()
    ours.write(b"hello")
    theirs = stage.responder()
    assert theirs.read(timeout=PATIENCE_S) == b"hello"
    theirs.write(b"welcome")
    assert ours.read(timeout=PATIENCE_S) == b"welcome"
    assert isinstance(ours._driver, KeepingDriver)
    return ours, theirs


def full() -> OSError:
    return OSError(errno.ENOSPC, NO_ROOM)


Ends = tuple[StreamPoint, StreamPoint]


# --- writing ------------------------------------------------------------------------------------


def test_a_message_is_kept_when_write_returns(stage: Stage, ends: Ends) -> None:
    for count in (2, 3, 4):
        ends[0].write(b"more")
        assert stage.ours.counts["written"] == count


def test_write_returns_only_when_the_message_is_kept(stage: Stage, ends: Ends) -> None:
    stage.ours.is_fast.clear()
    writing = Background(ends[0].write, b"more").blocked()
    assert not writing.is_over
    stage.ours.is_fast.set()
    writing.result()
    assert stage.ours.counts["written"] == 2


@pytest.mark.parametrize("size", [5, SMALL_BYTES + 1, CHUNK_BYTES + 1])
def test_a_message_that_could_not_be_kept_was_not_written(
    stage: Stage, ends: Ends, size: int
) -> None:
    stage.ours.fault = full()
    before = stage.theirs.arrived
    with pytest.raises(SessionLostError, match=NO_ROOM):
        ends[0].write(bytes(size), timeout=PATIENCE_S)
    assert stage.ours.counts["written"] == 1
    assert stage.theirs.arrived == before


def test_the_last_piece_of_a_large_message_counts_too(stage: Stage, ends: Ends) -> None:
    steps = stage.ours.steps
    writing = ends[0]._driver.connection.more

    def more(stream: Stream, piece: memoryview) -> None:
        writing(stream, piece)
        if not stream.out_left:
            stage.ours.fault = full()

    ends[0]._driver.connection = _with_more(ends[0]._driver.connection, more)
    with pytest.raises(SessionLostError, match=NO_ROOM):
        ends[0].write(bytes(2 * CHUNK_BYTES), timeout=PATIENCE_S)
    assert stage.ours.steps > steps
    assert stage.ours.counts["written"] == 1


def _with_more(connection: Connection, more: Any) -> Any:
    """The same machine, but that somebody looks at each piece."""

    class Watched:
        def __getattr__(self, name: str) -> Any:
            return more if name == "more" else getattr(connection, name)

    return Watched()


def test_behind_a_failed_step_every_call_says_why(stage: Stage, ends: Ends) -> None:
    stage.ours.fault = full()
    with pytest.raises(SessionLostError):
        ends[0].write(b"more")
    stage.ours.fault = None
    for call in (lambda: ends[0].write(b"again"), ends[0].flush, ends[0].read):
        with pytest.raises(SessionLostError, match=NO_ROOM):
            call()


def test_behind_a_failed_step_nothing_is_kept_any_more(stage: Stage, ends: Ends) -> None:
    stage.ours.fault = full()
    with pytest.raises(SessionLostError):
        ends[0].write(b"more")
    stage.ours.fault = None
    steps = stage.ours.steps
    assert wire_of(ends[0]).is_abandoned
    assert not ends[0].close(timeout=PATIENCE_S).is_complete
    assert stage.ours.steps == steps
    assert not stage.ours.counts["goodbye_said"]


def test_a_step_that_was_interrupted_is_the_last(stage: Stage, ends: Ends) -> None:
    stage.ours.fault = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        ends[0].write(b"more")
    stage.ours.fault = None
    assert wire_of(ends[0]).is_abandoned
    with pytest.raises(SessionLostError, match="interrupted"):
        ends[0].write(b"again")
    assert stage.ours.counts["written"] == 1


# --- reading ------------------------------------------------------------------------------------


def test_a_message_is_kept_as_read_when_read_returns(stage: Stage, ends: Ends) -> None:
    ends[0].write(b"one")
    ends[0].write(b"two")
    assert ends[1].read(timeout=PATIENCE_S) == b"one"
    counts = stage.theirs.counts
    assert counts["received"] - counts["unread"] == 2


def test_read_returns_only_when_the_message_is_kept_as_read(stage: Stage, ends: Ends) -> None:
    ends[0].write(b"one")
    stage.theirs.is_fast.clear()
    reading = Background(ends[1].read).blocked()
    assert not reading.is_over
    assert stage.theirs.counts["received"] == 1
    stage.theirs.is_fast.set()
    assert reading.result() == b"one"
    assert (stage.theirs.counts["received"], stage.theirs.unread) == (2, [])


def test_what_could_not_be_kept_as_read_is_not_returned(stage: Stage, ends: Ends) -> None:
    ends[0].write(b"one")
    stage.theirs.fault = full()
    with pytest.raises(SessionLostError, match=NO_ROOM):
        ends[1].read(timeout=PATIENCE_S)
    stage.theirs.fault = None
    with pytest.raises(SessionLostError, match=NO_ROOM):
        ends[1].read(timeout=PATIENCE_S)


def test_what_could_not_be_kept_as_read_is_read_by_the_next_process(
    stage: Stage, ends: Ends
) -> None:
    for body in (b"one", b"two", b"three"):
        ends[0].write(body)
    assert ends[1].read(timeout=PATIENCE_S) == b"one"
    stage.theirs.fault = full()
    with pytest.raises(SessionLostError):
        ends[1].read(timeout=PATIENCE_S)
    stage.theirs.fault = None
    stage.kill(ends[1])
    later = stage.responder()
    assert [later.read(timeout=PATIENCE_S) for _ in range(2)] == [b"two", b"three"]


def test_a_full_disk_is_no_end_of_messages(stage: Stage, ends: Ends) -> None:
    """Not even when the peer's goodbye is here, behind a message nobody has read."""
    ends[0].write(b"one")
    ends[0].write(b"last")
    ends[0].close(timeout=0)
    assert ends[1].read(timeout=PATIENCE_S) == b"one"
    stage.theirs.fault = full()
    for _ in range(2):
        with pytest.raises(SessionLostError, match=NO_ROOM):
            ends[1].read(timeout=PATIENCE_S)


def test_what_another_thread_has_kept_as_read_is_not_lost(stage: Stage, ends: Ends) -> None:
    ends[0].write(b"one")
    ends[0].write(b"two")
    assert ends[1].read(timeout=PATIENCE_S) == b"one"
    driver = ends[1]._driver
    assert ends[1]._stream.inbox
    with driver.lock:
        reading = Background(ends[1].read).blocked()
        driver.flush()
        stage.theirs.fault = full()
    with pytest.raises(SessionLostError):
        reading.result()
    stage.theirs.fault = None
    stage.kill(ends[1])
    assert stage.responder().read(timeout=PATIENCE_S) == b"two"


def test_a_read_in_vain_ends_in_time(stage: Stage, ends: Ends) -> None:
    for timeout in (0, 0.02):
        with pytest.raises(PointTimeout):
            ends[1].read(timeout=timeout)
    ends[0].write(b"one")
    assert ends[1].read(timeout=PATIENCE_S) == b"one"


def test_a_message_wakes_who_waits_for_it(stage: Stage, ends: Ends) -> None:
    reading = Background(ends[1].read).blocked()
    ends[0].write(b"one")
    assert reading.result() == b"one"


# --- a wire that is full ------------------------------------------------------------------------


def test_a_full_wire_takes_the_message_that_fills_it(stage: Stage, ends: Ends) -> None:
    stage.ours.is_full = True
    ends[0].write(b"one")
    assert stage.ours.counts["written"] == 2


def test_write_waits_while_the_wire_is_full(stage: Stage, ends: Ends) -> None:
    stage.ours.is_full = True
    ends[0].write(b"one")
    writing = Background(ends[0].write, b"two").blocked()
    assert stage.ours.counts["written"] == 2
    stage.ours.empty()
    writing.result()
    assert stage.ours.counts["written"] == 3


def test_write_on_a_full_wire_ends_in_time_and_says_why(stage: Stage, ends: Ends) -> None:
    stage.ours.is_full = True
    ends[0].write(b"one")
    with pytest.raises(PointTimeout, match="the mail server is down"):
        ends[0].write(b"two", timeout=0.02)
    assert stage.ours.counts["written"] == 2
    stage.ours.empty()
    ends[0].write(b"two", timeout=PATIENCE_S)
    assert stage.ours.counts["written"] == 3


def test_room_is_noticed_while_another_thread_waits_for_messages(stage: Stage, ends: Ends) -> None:
    reading = Background(ends[0].read).blocked()
    stage.ours.is_full = True
    ends[0].write(b"one")
    writing = Background(ends[0].write, b"two").blocked()
    stage.ours.empty()
    writing.result()
    ends[1].write(b"done")
    assert reading.result() == b"done"


def test_two_writers_both_go_on_when_there_is_room(stage: Stage, ends: Ends) -> None:
    stage.ours.is_full = True
    ends[0].write(b"one")
    writing = [Background(ends[0].write, b"more").blocked() for _ in range(2)]
    stage.ours.empty()
    for one in writing:
        one.result()
    assert stage.ours.counts["written"] == 4


# --- the end ------------------------------------------------------------------------------------


def test_a_goodbye_is_kept(stage: Stage, ends: Ends) -> None:
    closing = Background(ends[0].close)
    with pytest.raises(EndOfMessages):
        ends[1].read(timeout=PATIENCE_S)
    assert closing.result().is_complete
    kept = stage.ours.rows.kept()
    assert kept is not None
    assert has_goodbye(kept)


def test_a_goodbye_that_is_not_answered_is_kept_all_the_same(stage: Stage, ends: Ends) -> None:
    stage.kill(ends[1])
    ends[0].write(b"last")
    assert not ends[0].close(timeout=0.02).is_complete
    later = stage.responder()
    assert later.read(timeout=PATIENCE_S) == b"last"
    with pytest.raises(EndOfMessages):
        later.read(timeout=PATIENCE_S)


def test_close_on_a_full_disk_ends_and_says_why(stage: Stage, ends: Ends) -> None:
    ends[0].write(b"one")
    stage.ours.fault = full()
    receipt = ends[0].close(timeout=PATIENCE_S)
    assert not receipt.is_complete
    assert NO_ROOM in receipt.reason
    assert not stage.ours.counts["goodbye_said"]


def test_a_wire_is_closed_in_the_end(stage: Stage, ends: Ends) -> None:
    for point in ends:
        point.close(timeout=0)
        assert wire_of(point).is_closed


def test_a_closed_wire_is_told_when_nothing_is_needed_any_more(stage: Stage, ends: Ends) -> None:
    """It cannot know before: behind `close`, what has arrived may still be read."""
    ends[0].close(timeout=0)
    eventually(lambda: wire_of(ends[1]).is_closed)
    assert not wire_of(ends[1]).is_done
    with pytest.raises(EndOfMessages):
        ends[1].read(timeout=PATIENCE_S)
    assert wire_of(ends[1]).is_done


def test_a_closed_wire_is_told_that_a_point_is_closed(stage: Stage, ends: Ends) -> None:
    ends[0].close(timeout=0)
    eventually(lambda: wire_of(ends[1]).is_closed)
    ends[1].close(timeout=0)
    assert wire_of(ends[1]).is_done


def test_that_the_peer_has_ended_is_told_to_a_later_process_unless_it_was_told(
    stage: Stage, ends: Ends
) -> None:
    ends[0].close(timeout=0)
    eventually(lambda: wire_of(ends[1]).is_closed)
    assert not ends[1]._stream.is_end_told
    with pytest.raises(EndOfMessages):
        ends[1].write("too late")
    assert ends[1]._stream.is_end_told


# --- later processes ----------------------------------------------------------------------------


def test_an_initiator_goes_on_where_the_last_one_was(stage: Stage, ends: Ends) -> None:
    ends[0].write(b"one")
    ends[1].write(b"for you")
    stage.kill(ends[0])
    later = stage.initiator()
    later.write(b"two")
    assert [ends[1].read(timeout=PATIENCE_S) for _ in range(2)] == [b"one", b"two"]
    assert later.read(timeout=PATIENCE_S) == b"for you"
    later.flush(timeout=PATIENCE_S)
    statistics = later.statistics()
    assert (statistics.written, statistics.confirmed, statistics.read) == (3, 3, 2)


def test_a_responder_goes_on_where_the_last_one_was(stage: Stage, ends: Ends) -> None:
    ends[0].write(b"one")
    stage.kill(ends[1])
    ends[0].write(b"two")
    later = stage.responder()
    assert [later.read(timeout=PATIENCE_S) for _ in range(2)] == [b"one", b"two"]
    later.write(b"done")
    assert ends[0].read(timeout=PATIENCE_S) == b"done"


def test_messages_that_came_with_the_greeting_outlive_the_process(stage: Stage) -> None:
    ours = stage.initiator()
    ours.write(b"one")
    ours.write(b"two")
    first = stage.responder()
    eventually(lambda: stage.theirs.rows.streams)
    stage.kill(first)
    assert stage.theirs.unread == [b"one", b"two"]
    later = stage.responder()
    assert [later.read(timeout=PATIENCE_S) for _ in range(2)] == [b"one", b"two"]


def test_a_large_message_is_taken_back_when_its_writer_dies(stage: Stage, ends: Ends) -> None:
    ends[0].write(b"one")
    writing = Background(ends[0].write, _more_than_fits()).blocked()
    stage.kill(ends[0])
    assert isinstance(writing.error(), ClosedError)
    later = stage.initiator()
    later.write(b"two")
    assert [ends[1].read(timeout=PATIENCE_S) for _ in range(2)] == [b"one", b"two"]


def test_a_large_message_completes_when_its_reader_dies(stage: Stage, ends: Ends) -> None:
    ends[0].write(b"one")
    body = _more_than_fits()
    writing = Background(ends[0].write, body).blocked()
    stage.kill(ends[1])
    later = stage.responder()
    assert later.read(timeout=PATIENCE_S) == b"one"
    assert later.read(timeout=PATIENCE_S) == body
    writing.result()


def _more_than_fits() -> bytes:
    """Behind a message that nobody has read, it waits for a reader."""
    return bytes(range(256)) * (4 * ComManager.settings().point.window_bytes // 256)


def test_a_peer_may_take_hours_for_its_greeting(stage: Stage) -> None:
    ours = stage.initiator()
    assert ours._driver.connection.next_timer() is None
    assert ours._driver.connection._greeting_s == math.inf
