"""Two machines, several channels, every interleaving: the promises hold at each step.

The model is a list of what was written for each direction of each channel, and who has
closed. Hypothesis decides who writes, reads, drops, closes, and how many bytes travel.
"""

from __future__ import annotations

import struct
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
from wire_play import FIRST, SESSION, TOLL

from compoint.core.codes import Code, How
from compoint.core.connection import Connection, Happening, Side
from compoint.core.greeting import Greeting, Mode
from compoint.limits import SMALL_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable

    from compoint.core.stream import Stream

WIDE = 3 * FIRST
LARGEST = 4 * FIRST
CHANNELS = 4

CHANNEL = st.sampled_from([0, 0, 0, 1, 1, 2, 3])
WHO = st.integers(0, 1)
SMALL = st.sampled_from([0, 1, 20, 5000, SMALL_BYTES])
LARGE = st.sampled_from([0, 1, SMALL_BYTES + 1, FIRST, FIRST + 1, LARGEST])


class End:
    """One end of one channel: the machine's stream, and the truth about it."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        stream.has_waiters = stream.number % 2 == 0  # lone messages take a shortcut, or not
        self.written: list[tuple[int, bytes]] = []
        self.read: list[tuple[int, bytes]] = []
        self.large: tuple[int, bytes] | None = None
        self.given = 0
        self.has_closed = False
        self.has_reset = False

    @property
    def may_write(self) -> bool:
        return self.stream.is_open and self.large is None

    @property
    def room(self) -> int:
        return self.stream.out_limit - self.stream.out_cost


class Conversation(RuleBasedStateMachine):
    """An initiator (0) and a responder (1)."""

    def __init__(self) -> None:
        super().__init__()
        sides = ((Side.INITIATOR, Mode.CHANNELS), (Side.RESPONDER, Mode.WELCOME))
        self.machines = [
            Connection(side, Greeting(mode, LARGEST, FIRST, 0, SESSION), 0.0)
            for side, mode in sides
        ]
        self.wires = [bytearray(), bytearray()]  # from 0 to 1, from 1 to 0
        self.ends: list[dict[int, End]] = [{}, {}]
        self.count = 0

    def end(self, who: int, channel: int) -> End | None:
        return self.ends[who].get(channel + 1)

    def body(self, size: int) -> tuple[int, bytes]:
        """A message unlike all others, as far as its size allows."""
        self.count += 1
        mark = struct.pack("!I", self.count)
        return self.count % 3, (mark * (size // 4 + 1))[:size]

    # --- the life of a channel

    @initialize(is_claimed=st.booleans())
    def two_channels(self, is_claimed: bool) -> None:
        """Begin where something can happen at once."""
        self.announce()
        self.announce()
        self.travel(0, 1 << 20)
        if is_claimed:
            self.claim(0)
            self.claim(1)
            self.travel(1, 1 << 20)

    @precondition(lambda self: len(self.ends[0]) < CHANNELS)
    @rule()
    def announce(self) -> None:
        stream = self.machines[0].announce(f"channel {len(self.ends[0])}")
        self.ends[0][stream.number] = End(stream)

    @precondition(lambda self: any(not e.stream.is_claimed for e in self.ends[1].values()))
    @rule(channel=CHANNEL)
    def claim(self, channel: int) -> None:
        end = self.end(1, channel)
        if end is not None and not end.stream.is_claimed and not end.has_closed:
            self.machines[1].claim(end.stream)

    @precondition(lambda self: self.count > 5)
    @rule(who=WHO, channel=CHANNEL)
    def goodbye(self, who: int, channel: int) -> None:
        end = self.end(who, channel)
        if end is not None and self.count % 3 == 0:
            self.machines[who].goodbye(end.stream)
            end.has_closed = True
            end.large = None

    @precondition(lambda self: self.count > 5)
    @rule(who=WHO, channel=CHANNEL)
    def reset(self, who: int, channel: int) -> None:
        end = self.end(who, channel)
        if end is not None and self.count % 7 == 6:
            self.machines[who].reset(end.stream, Code.ABANDONED, "so")
            end.has_reset = True
            end.large = None

    # --- writing

    @rule(who=WHO, channel=CHANNEL, sizes=st.lists(SMALL, min_size=1, max_size=6))
    def write(self, who: int, channel: int, sizes: list[int]) -> None:
        end = self.end(who, channel)
        for size in sizes:
            if end is not None and end.may_write and end.room >= size + TOLL:
                form, body = self.body(size)
                self.machines[who].gather(end.stream, form, body)
                end.written.append((form, body))

    @rule(who=WHO, channel=CHANNEL, size=SMALL)
    def write_at_once(self, who: int, channel: int, size: int) -> None:
        end = self.end(who, channel)
        machine = self.machines[who]
        if end is not None and end.may_write and end.room >= size + TOLL:
            self.wires[who] += b"".join(machine.take_output())
            form, body = self.body(size)
            self.wires[who] += machine.frame(end.stream, form, body)
            end.written.append((form, body))

    @rule(who=WHO, channel=CHANNEL, size=LARGE)
    def begin(self, who: int, channel: int, size: int) -> None:
        end = self.end(who, channel)
        if end is not None and end.may_write and end.room >= TOLL:
            form, body = self.body(size)
            self.machines[who].begin(end.stream, form, size)
            end.large, end.given = (form, body), 0
            if not size:
                self._finish(end)

    @rule(who=WHO, channel=CHANNEL, count=st.sampled_from([1, 20_000, LARGEST, LARGEST]))
    def more(self, who: int, channel: int, count: int) -> None:
        end = self.end(who, channel)
        if end is None or end.large is None or not end.stream.is_open:
            return
        body = end.large[1]
        count = min(count, len(body) - end.given, end.room)
        if count > 0:
            piece = memoryview(body)[end.given : end.given + count]
            self.machines[who].more(end.stream, piece)
            end.given += count
            if end.given == len(body):
                self._finish(end)

    def _finish(self, end: End) -> None:
        assert end.large is not None
        end.written.append(end.large)
        end.large = None

    @precondition(lambda self: any(e.large for ends in self.ends for e in ends.values()))
    @rule(who=WHO, channel=CHANNEL)
    def drop(self, who: int, channel: int) -> None:
        end = self.end(who, channel)
        if end is not None and end.large is not None:
            self.machines[who].drop(end.stream)
            end.large = None

    @rule(who=WHO, channel=CHANNEL)
    def ask_ack(self, who: int, channel: int) -> None:
        end = self.end(who, channel)
        if end is not None and end.stream.is_open:
            self.machines[who].ask_ack(end.stream)

    @rule(who=WHO, channel=CHANNEL, wide=st.sampled_from([0, WIDE]))
    def be_stuck(self, who: int, channel: int, wide: int) -> None:
        end = self.end(who, channel)
        if end is not None and end.stream.is_claimed and end.stream.is_open:
            self.machines[who].set_stuck(end.stream, wide)

    # --- reading and travelling

    @rule(who=WHO, channel=CHANNEL, count=st.integers(1, 30))
    def read(self, who: int, channel: int, count: int) -> None:
        end = self.end(who, channel)
        if end is None or not end.stream.is_claimed or end.has_closed:
            return
        stream = end.stream
        for _ in range(min(count, len(stream.inbox))):
            form, body = _item(stream.inbox.popleft())
            end.read.append((form, body))
            stream.taken += 1
            stream.taken_cost += len(body) + TOLL
            if stream.taken_cost >= stream.grant_at:
                self.machines[who].grant(stream)
        if stream.assembly is not None and not stream.inbox:
            self.machines[who].grant(stream)

    @rule()
    def everything_travels(self) -> None:
        for step in range(4):
            self.travel(step % 2, 1 << 30)

    @rule(who=WHO, channel=CHANNEL)
    def a_program_reads_what_another_writes(self, who: int, channel: int) -> None:
        """As long as anything moves: so large messages come through, too."""
        for _ in range(12):
            self.more(1 - who, channel, LARGEST)
            self.everything_travels()
            self.read(who, channel, 30)

    @rule(who=WHO)
    def a_frame_travels_alone(self, who: int) -> None:
        wire = self.wires[who]
        self.travel(who, 0)
        if len(wire) >= 16 and self.machines[1 - who]._reader.is_empty:
            self.travel(who, 16 + int.from_bytes(wire[12:16], "big"))

    @rule(who=WHO, count=st.sampled_from([1, 16, 17, 100, 5000, 70_000, 1 << 20, 1 << 20]))
    def travel(self, who: int, count: int) -> None:
        """Bytes of `who` arrive at the other side."""
        wire = self.wires[who]
        wire += b"".join(self.machines[who].take_output())
        machine = self.machines[1 - who]
        while wire and count > 0:
            room = machine.room()
            if room is None:
                part = bytes(wire[: min(count, 65_536)])
                machine.feed(part, 0.0)
            else:
                part = bytes(wire[: min(count, len(room))])
                room[: len(part)] = part
                machine.filled(len(part), 0.0)
            del wire[: len(part)]
            count -= len(part)
            self._look(1 - who)

    def _look(self, who: int) -> None:
        machine = self.machines[who]
        for happening, stream in machine.take_events():
            if happening is Happening.GREETED:
                machine.welcome()
            elif happening is Happening.ANNOUNCED:
                assert stream is not None
                self.ends[who][stream.number] = End(stream)

    # --- the promises

    def each(self, look: Callable[[End, End | None], Any]) -> None:
        for who in (0, 1):
            for number, end in self.ends[who].items():
                look(end, self.ends[1 - who].get(number))

    @invariant()
    def nobody_is_to_blame(self) -> None:
        assert [machine.ending for machine in self.machines] == [None, None]

        def look(end: End, other: End | None) -> None:
            if end.stream.ending is not None and end.stream.ending.how is How.BROKEN:
                assert end.has_reset or (other is not None and other.has_reset)
                assert end.stream.ending.code is Code.ABANDONED

        self.each(look)

    @invariant()
    def every_message_arrives_once_whole_and_in_order(self) -> None:
        def look(end: End, other: End | None) -> None:
            here = end.read + [_item(item) for item in end.stream.inbox]
            written = other.written if other is not None else []
            assert here == written[: len(here)]
            assert end.stream.received == len(here)
            assert end.stream.taken == len(end.read)
            assert end.stream.written == len(end.written)

        self.each(look)

    @invariant()
    def confirmed_is_only_what_is_held(self) -> None:
        def look(end: End, other: End | None) -> None:
            assert 0 <= end.stream.confirmed <= end.stream.acked <= end.stream.written
            assert end.stream.acked <= (other.stream.received if other is not None else 0)

        self.each(look)

    @invariant()
    def memory_is_bounded(self) -> None:
        def look(end: End, _: End | None) -> None:
            stream = end.stream
            if stream.ending is None and stream.is_open:
                window = max(FIRST, WIDE)
                assert 0 <= stream.unread_bytes <= window + LARGEST + TOLL
                if not stream.is_claimed:
                    assert stream.unread_bytes <= FIRST

        self.each(look)

    @invariant()
    def nobody_sends_more_than_was_allowed(self) -> None:
        def look(end: End, other: End | None) -> None:
            stream = end.stream
            assert stream.out_cost <= stream.out_limit
            assert stream.in_cost <= stream.in_limit
            if other is not None:
                assert stream.out_limit <= max(other.stream.in_limit, FIRST)
                assert other.stream.in_cost <= stream.out_cost

        self.each(look)

    def teardown(self) -> None:
        """Everything travels at last; then both sides agree on everything."""
        for end in self.ends[0].values():
            if end.stream.is_open:
                self.machines[0].ask_ack(end.stream)
        for end in self.ends[1].values():
            if end.stream.is_open:
                self.machines[1].ask_ack(end.stream)
        for step in range(6):
            self.travel(step % 2, 1 << 30)
        self.every_message_arrives_once_whole_and_in_order()
        for number, end in self.ends[0].items():
            other = self.ends[1][number]
            for one, two in ((end, other), (other, end)):
                if one.stream.is_open and two.stream.is_open:
                    assert one.stream.out_cost == two.stream.in_cost
                    assert one.stream.confirmed == len(one.written) == two.stream.received


def _item(item: Any) -> tuple[int, bytes]:
    return item if isinstance(item, tuple) else (0, item)


TestConversation = Conversation.TestCase
TestConversation.settings = settings(max_examples=250, stateful_step_count=60, deadline=None)
