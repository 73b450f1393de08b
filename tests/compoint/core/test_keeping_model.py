"""Two kept machines whose processes are killed at any moment: nothing is lost, nothing twice.

The model is what each program did, as far as it was kept: a kill takes back what came after
the last kept step, in the machine and in the model. Hypothesis decides who does what, when
it is kept, who is killed, and how the bytes that arrived are cut.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)
from kept_rows import Rows
from wire_play import FIRST, SESSION, TOLL

from compoint.core.codes import Code, Ending, How
from compoint.core.connection import Connection, Happening, Side
from compoint.core.greeting import Greeting, Mode
from compoint.core.keeping import Keeper
from compoint.core.resumed import ResumedConnection
from compoint.limits import SMALL_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable

    from compoint.core.stream import Stream

WIDE = 3 * FIRST
LARGEST = 4 * FIRST
CHANNELS = 3

WHO = st.integers(0, 1)
CHANNEL = st.sampled_from([1, 1, 1, 2, 2, 3])
SMALL = st.sampled_from([0, 1, 20, 5000, SMALL_BYTES])
LARGE = st.sampled_from([0, 1, SMALL_BYTES + 1, FIRST, FIRST + 1, LARGEST])
CUT = st.sampled_from([1, 16, 17, 100, 5000, 70_000, 1 << 20, 1 << 20])

Message = tuple[int, bytes]


@dataclass
class End:
    """What the program at one end of a stream did, and knows to be kept after a kill."""

    written: list[Message] = field(default_factory=list)
    read: list[Message] = field(default_factory=list)
    #: A large message that was not given whole, and how much of it was.
    large: Message | None = None
    given: int = 0
    has_closed: bool = False
    has_reset: bool = False

    def copy(self) -> End:
        return replace(self, written=[*self.written], read=[*self.read])


def looks(stream: Stream) -> dict[str, Any]:
    """What a stream must look like again to a later process."""
    names = (
        "number", "correlator", "is_open", "ending", "goodbye_said", "is_claimed", "written",
        "acked", "peer_unread", "confirmed", "out_cost", "out_limit", "received", "in_cost",
        "in_limit", "window", "dropped_cost",
    )  # fmt: skip
    assembly = stream.assembly
    return {
        **{name: getattr(stream, name) for name in names},
        "inbox": list(stream.inbox),
        "assembly": assembly and (assembly.form, assembly.size, assembly.since(0)),
    }


@dataclass
class Kept:
    """What one side had committed last: its program's deeds and how its machine looked."""

    ends: dict[int, End] = field(default_factory=dict)
    streams: dict[int, dict[str, Any]] = field(default_factory=dict)
    ending: Ending | None = None
    is_leaving: bool = False


class Process:
    """One side: the machine and the program of a process that can be killed, and its disk."""

    def __init__(self, side: Side, mode: Mode) -> None:
        self.side = side
        self.greeting = Greeting(mode, LARGEST, FIRST, 0, SESSION)
        self.rows = Rows()
        #: What arrived and may have to be fed again: bytes of the conversation from `start` on.
        self.arrived = b""
        self.start = 0
        self.kept = Kept()
        self.begin()

    def begin(self) -> None:
        """The next process goes on with what is on the disk."""
        kept = self.rows.kept()
        if kept is None:
            self.machine = Connection(self.side, self.greeting, 0.0, math.inf, is_kept=True)
        else:
            self.machine = ResumedConnection(self.side, kept, 0.0, math.inf)
        self.keeper = Keeper(self.machine)
        self.ends = {number: end.copy() for number, end in self.kept.ends.items()}
        for end in self.ends.values():
            end.large = None
        self.streams: dict[int, Stream] = {}
        self.is_asked = False
        if self.machine.peer is not None or self.side is Side.INITIATOR:
            self.take_up()

    def take_up(self) -> None:
        """The streams are there, as they were kept."""
        machine = self.machine
        self.streams = dict(machine.streams)
        for number, stream in self.streams.items():
            self.ends.setdefault(number, End())
            stream.has_waiters = number % 2 == 0  # lone messages take a shortcut, or not
        if self.rows.row:
            assert {number: looks(one) for number, one in self.streams.items()} == self.kept.streams
            assert machine.is_leaving == self.kept.is_leaving

    @property
    def waiting(self) -> int:
        return self.start + len(self.arrived) - self.machine.bytes_in

    def feed(self, count: int) -> None:
        """Bytes that arrived go to the machine."""
        machine = self.machine
        count = min(count, self.waiting)
        while count:
            at = machine.bytes_in - self.start
            room = machine.room()
            if room is None:
                part = self.arrived[at : at + min(count, 65_536)]
                machine.feed(part, 0.0)
            else:
                part = self.arrived[at : at + min(count, len(room))]
                room[: len(part)] = part
                machine.filled(len(part), 0.0)
            count -= len(part)
            self.look()

    def look(self) -> None:
        for happening, stream in self.machine.take_events():
            if happening is Happening.GREETED:
                self.is_asked = self.side is Side.RESPONDER
            elif happening is Happening.ANNOUNCED:
                assert stream is not None
                self.streams[stream.number] = stream
                self.ends.setdefault(stream.number, End())
                stream.has_waiters = stream.number % 2 == 0

    def welcome(self) -> None:
        if self.is_asked:
            self.is_asked = False
            has_kept = self.machine.kept_row()[0]["peer"] is not None
            self.machine.welcome()
            announced = [
                stream.number
                for happening, stream in self.machine.events
                if happening is Happening.ANNOUNCED and stream is not None
            ]
            if has_kept:
                self.is_announced_again(announced)
            else:
                plain = self.machine.plain
                if plain is not None:
                    self.streams[1] = plain
                    self.ends.setdefault(1, End())
            self.look()

    def is_announced_again(self, announced: list[int]) -> None:
        """Every channel that somebody may still want to read, and no other."""
        if self.machine.plain is None:
            wanted = [n for n, looked in self.kept.streams.items() if not looked["goodbye_said"]]
            assert announced[: len(wanted)] == wanted

    def keep(self) -> bytes:
        """One step: everything is committed, then the bytes may leave."""
        out = b"".join(self.machine.take_output())
        changes = self.keeper.changes()
        self.rows.commit(changes)
        assert self.start <= changes.fed <= self.machine.bytes_in
        self.arrived = self.arrived[changes.fed - self.start :]
        self.start = changes.fed
        machine = self.machine
        self.kept = Kept(
            {number: end.copy() for number, end in self.ends.items()},
            {number: looks(stream) for number, stream in machine.streams.items()},
            machine.ending,
            machine.is_leaving,
        )
        return out


class KeptConversation(RuleBasedStateMachine):
    """An initiator (0) and a responder (1); which mode, the subclasses say."""

    mode: Mode

    def __init__(self) -> None:
        super().__init__()
        self.sides = [
            Process(Side.INITIATOR, self.mode),
            Process(Side.RESPONDER, Mode.WELCOME),
        ]
        self.count = 0
        self.has_left = False

    def at(self, who: int, number: int) -> tuple[Process, Stream, End] | None:
        """One end of a stream, if this process has it; a plain connection has only one."""
        side = self.sides[who]
        number = number if self.mode is Mode.CHANNELS else 1
        stream, end = side.streams.get(number), side.ends.get(number)
        return None if stream is None or end is None else (side, stream, end)

    def at_open(self, who: int, number: int, cost: int = 0) -> tuple[Process, Stream, End] | None:
        """The same, if its program may write so much."""
        place = self.at(who, number)
        if place is None or not place[1].is_open or place[2].large is not None:
            return None
        return place if place[1].out_limit - place[1].out_cost >= cost else None

    def body(self, size: int) -> Message:
        """A message unlike all others, as far as its size allows."""
        self.count += 1
        mark = struct.pack("!I", self.count)
        return self.count % 3, (mark * (size // 4 + 1))[:size]

    # --- keeping, travelling, dying -----------------------------------------------------

    @rule(who=WHO)
    def keep(self, who: int) -> None:
        side, other = self.sides[who], self.sides[1 - who]
        other.arrived += side.keep()

    @rule(who=WHO, count=CUT)
    def feed(self, who: int, count: int) -> None:
        self.sides[who].feed(count)

    @rule(who=WHO)
    def welcome(self, who: int) -> None:
        self.sides[who].welcome()

    @rule(who=WHO, is_welcomed=st.booleans())
    def kill(self, who: int, is_welcomed: bool) -> None:
        side = self.sides[who]
        side.begin()
        assert side.machine.ending == side.kept.ending
        side.look()
        if is_welcomed:
            side.welcome()
        # A point can be made of it whatever has become of its stream.
        machine = side.machine
        if self.mode is Mode.PLAIN and machine.peer is not None:
            assert machine.plain is not None
            assert machine.plain.number in machine.streams or machine.plain.ending is not None

    @rule()
    def everything_travels(self) -> None:
        for step in range(4):
            self.sides[step % 2].welcome()
            self.keep(step % 2)
            self.feed(1 - step % 2, 1 << 30)
            self.sides[1 - step % 2].welcome()

    # --- the life of a stream -------------------------------------------------------------

    @rule(number=CHANNEL)
    def claim(self, number: int) -> None:
        place = self.at(1, number)
        if place is not None and not place[2].has_closed and self.mode is Mode.CHANNELS:
            # A responder of a later process claims what one of a former may have claimed.
            place[0].machine.claim(place[1])

    @precondition(lambda self: self.count > 8)
    @rule(who=WHO, number=CHANNEL)
    def goodbye(self, who: int, number: int) -> None:
        place = self.at(who, number)
        if place is not None and self.count % 3 == 0:
            side, stream, end = place
            stream.inbox.clear()
            side.machine.goodbye(stream)
            end.has_closed, end.large = True, None

    @precondition(lambda self: self.count > 8)
    @rule(who=WHO, number=CHANNEL)
    def reset(self, who: int, number: int) -> None:
        place = self.at(who, number)
        if place is not None and self.count % 7 == 6 and not place[2].has_closed:
            side, stream, end = place
            stream.inbox.clear()
            side.machine.reset(stream, Code.ABANDONED, "so")
            end.has_reset = end.has_closed = True
            end.large = None

    # --- writing --------------------------------------------------------------------------

    @rule(who=WHO, number=CHANNEL, sizes=st.lists(SMALL, min_size=1, max_size=6))
    def write(self, who: int, number: int, sizes: list[int]) -> None:
        for size in sizes:
            place = self.at_open(who, number, size + TOLL)
            if place is not None:
                side, stream, end = place
                form, body = self.body(size)
                side.machine.gather(stream, form, body)
                end.written.append((form, body))

    @rule(who=WHO, number=CHANNEL, size=LARGE)
    def begin(self, who: int, number: int, size: int) -> None:
        place = self.at_open(who, number, TOLL)
        if place is None:
            return
        side, stream, end = place
        form, body = self.body(size)
        side.machine.begin(stream, form, size)
        if size:
            end.large, end.given = (form, body), 0
        else:
            end.written.append((form, body))

    @rule(who=WHO, number=CHANNEL, count=st.sampled_from([1, 20_000, LARGEST, LARGEST]))
    def more(self, who: int, number: int, count: int) -> None:
        place = self.at(who, number)
        if place is None or place[2].large is None or not place[1].is_open:
            return
        side, stream, end = place
        assert end.large is not None
        body = end.large[1]
        count = min(count, len(body) - end.given, stream.out_limit - stream.out_cost)
        if count > 0:
            side.machine.more(stream, memoryview(body)[end.given : end.given + count])
            end.given += count
            if end.given == len(body):
                end.written.append(end.large)
                end.large = None

    @precondition(lambda self: any(e.large for side in self.sides for e in side.ends.values()))
    @rule(who=WHO, number=CHANNEL)
    def drop(self, who: int, number: int) -> None:
        place = self.at(who, number)
        if place is not None and place[2].large is not None:
            place[0].machine.drop(place[1])
            place[2].large = None

    @rule(who=WHO, number=CHANNEL)
    def ask_ack(self, who: int, number: int) -> None:
        place = self.at(who, number)
        if place is not None and place[1].is_open:
            place[0].machine.ask_ack(place[1])

    @rule(who=WHO, number=CHANNEL, wide=st.sampled_from([0, WIDE]))
    def be_stuck(self, who: int, number: int, wide: int) -> None:
        place = self.at(who, number)
        if place is not None and place[1].is_claimed and place[1].is_open:
            place[0].machine.set_stuck(place[1], wide)

    # --- reading --------------------------------------------------------------------------

    @rule(who=WHO, number=CHANNEL, count=st.integers(1, 30), is_kept_half_way=st.booleans())
    def read(self, who: int, number: int, count: int, is_kept_half_way: bool = False) -> None:
        """As `StreamPoint.read` does it; another thread may keep while it is at it."""
        place = self.at(who, number)
        if place is None or place[2].has_closed or (who == 1 and not place[1].is_claimed):
            return
        side, stream, end = place
        for _ in range(min(count, len(stream.inbox))):
            form, body = _item(stream.inbox.popleft())
            end.read.append((form, body))
            if is_kept_half_way:
                is_kept_half_way = False
                self.keep(who)
            stream.taken += 1
            stream.taken_cost += len(body) + TOLL
            assert stream.taken_cost >= stream.grant_at
            side.machine.grant(stream)
        if stream.assembly is not None and not stream.inbox:
            side.machine.grant(stream)

    @rule(who=WHO, number=CHANNEL)
    def a_program_reads_what_another_writes(self, who: int, number: int) -> None:
        """As long as anything moves: so large messages come through, too."""
        for _ in range(8):
            self.more(1 - who, number, LARGEST)
            self.everything_travels()
            self.read(who, number, 30)

    @rule(
        who=WHO, number=CHANNEL, size=st.sampled_from([20, 20_000, LARGEST]), is_kept=st.booleans(),
        counts=st.lists(st.sampled_from([10, 24, 30, 5000, 30_000]), min_size=1, max_size=3),
    )  # fmt: skip
    def a_reader_dies_in_the_middle_of_a_frame(
        self, who: int, number: int, size: int, is_kept: bool, counts: list[int]
    ) -> None:
        self.everything_travels()
        if size <= SMALL_BYTES:
            self.write(1 - who, number, [size])
        else:
            self.begin(1 - who, number, size)
            self.more(1 - who, number, LARGEST)
        self.keep(1 - who)
        for count in counts:
            self.feed(who, count)
            if is_kept:
                self.keep(who)
        self.kill(who, is_welcomed=True)

    # --- the promises -----------------------------------------------------------------------

    def each(self, look: Callable[[Stream, End, Stream | None, End | None], None]) -> None:
        for who in (0, 1):
            side, other = self.sides[who], self.sides[1 - who]
            for number, stream in side.streams.items():
                look(stream, side.ends[number], other.streams.get(number), other.ends.get(number))

    @invariant()
    def nobody_is_to_blame(self) -> None:
        for side in self.sides:
            ending = side.machine.ending
            assert ending is None or (self.has_left and ending.how is How.GOODBYE)

        def look(stream: Stream, end: End, _: Stream | None, other: End | None) -> None:
            ending = stream.ending
            if ending is not None and ending.how is not How.GOODBYE:
                assert (ending.how, ending.code) == (How.BROKEN, Code.ABANDONED)
                assert end.has_reset or (other is not None and other.has_reset)

        self.each(look)

    @invariant()
    def every_message_arrives_once_whole_and_in_order(self) -> None:
        def look(stream: Stream, end: End, _: Stream | None, other: End | None) -> None:
            written = other.written if other is not None else []
            here = end.read + [_item(item) for item in stream.inbox]
            assert here == written[: len(here)]
            assert stream.written == len(end.written)
            if not end.has_closed:
                assert stream.received == len(here)
                assert stream.taken == len(end.read)

        self.each(look)
        for side, other in (self.sides, self.sides[::-1]):
            for number, end in side.kept.ends.items():
                partner = other.kept.ends.get(number)
                # What was read and kept had been given to a kept step before.
                assert partner is not None or not end.read
                assert partner is None or end.read == partner.written[: len(end.read)]

    @invariant()
    def what_waits_is_counted(self) -> None:
        for side in self.sides:
            machine = side.machine
            for number, stream in side.streams.items():
                if not stream.is_open:
                    continue
                waiting = sum(len(_item(item)[1]) + TOLL for item in stream.inbox)
                if stream.assembly is not None:
                    waiting += stream.assembly.position + TOLL
                if machine._filling is not None and machine._filling.number == number:
                    waiting += machine._reader.left
                assert stream.unread_bytes == waiting

    @invariant()
    def confirmed_is_only_what_is_held(self) -> None:
        def look(stream: Stream, _: End, other: Stream | None, __: End | None) -> None:
            assert 0 <= stream.confirmed <= stream.acked <= stream.written
            if other is not None:
                assert stream.acked <= other.received

        self.each(look)

    @invariant()
    def nobody_sends_more_than_was_allowed(self) -> None:
        def look(stream: Stream, _: End, other: Stream | None, __: End | None) -> None:
            assert stream.out_cost <= stream.out_limit
            assert stream.in_cost <= stream.in_limit
            if other is not None:
                assert stream.out_limit <= max(other.in_limit, FIRST)
                assert other.in_cost <= stream.out_cost

        self.each(look)

    @invariant()
    def the_disk_holds_only_what_is_needed(self) -> None:
        for side in self.sides:
            rows = side.rows
            streams = side.kept.streams
            assert rows.streams.keys() == streams.keys()
            unread = {
                (number, message)
                for number, looked in streams.items()
                for message in range(
                    looked["received"] - len(looked["inbox"]) + 1, looked["received"] + 1
                )
            }
            assert rows.messages.keys() == unread
            for number, looked in streams.items():
                pieces = sum(len(p.body) for key, p in rows.pieces.items() if key[0] == number)
                assert pieces == (len(looked["assembly"][2]) if looked["assembly"] else 0)

    def teardown(self) -> None:
        """Nobody dies any more: everything is said, read and kept; then both sides agree."""
        # The last large message needs the most turns: window by window.
        for _ in range(12):
            for who in (0, 1):
                side = self.sides[who]
                side.welcome()
                for number in list(side.streams):
                    if not side.streams[number].is_claimed and who == 1:
                        self.claim(number)
                    self.be_stuck(who, number, 0)
                    self.more(who, number, LARGEST)
                    self.read(who, number, 1 << 20)
                    self.ask_ack(who, number)
            self.everything_travels()
            self.every_message_arrives_once_whole_and_in_order()
            self.nobody_is_to_blame()

        def look(stream: Stream, end: End, other: Stream | None, partner: End | None) -> None:
            if end.has_reset or partner is None or partner.has_reset or other is None:
                return
            if not end.has_closed:
                assert end.read == partner.written
                how = stream.ending and stream.ending.how
                assert how is (How.GOODBYE if partner.has_closed else None)
            if stream.is_open and other.is_open:
                assert end.large is None
                assert stream.out_cost == other.in_cost
                assert stream.confirmed == len(end.written) == other.received

        self.each(look)


def _item(item: Any) -> Message:
    return item if isinstance(item, tuple) else (0, item)


class Plain(KeptConversation):
    """One stream, from the greeting on."""

    mode = Mode.PLAIN

    @initialize(is_greeted=st.booleans())
    def greet(self, is_greeted: bool) -> None:
        if is_greeted:
            self.everything_travels()


class Channels(KeptConversation):
    """Streams that are announced and claimed."""

    mode = Mode.CHANNELS

    @initialize(is_claimed=st.booleans())
    def two_channels(self, is_claimed: bool) -> None:
        """Begin where something can happen at once."""
        self.announce()
        self.announce()
        if is_claimed:
            self.everything_travels()
            self.claim(1)
            self.claim(2)
            self.everything_travels()

    @precondition(lambda self: len(self.sides[0].ends) < CHANNELS)
    @rule()
    def announce(self) -> None:
        side = self.sides[0]
        if not side.machine.is_leaving:
            stream = side.machine.announce(f"channel {len(side.ends) + 1}")
            side.streams[stream.number] = stream
            side.ends[stream.number] = End()

    @precondition(lambda self: self.count > 15)
    @rule(who=WHO)
    def leave(self, who: int) -> None:
        """In good order: those channels that live go on."""
        machine = self.sides[who].machine
        if self.count % 5 == 4 and machine.peer is not None and machine.ending is None:
            self.has_left = True
            machine.leave(Code.CLOSED, "so long")


TestPlain = Plain.TestCase
TestPlain.settings = settings(max_examples=120, stateful_step_count=60, deadline=None)
TestChannels = Channels.TestCase
TestChannels.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)
