"""What is kept of a connection, and what a later process makes of it: one fact each."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import pytest
from kept_rows import Rows
from wire_play import (
    TOLL,
    WINDOW,
    announce,
    bundle,
    claim,
    credit,
    drop,
    frames_in,
    goodbye,
    greeting,
    message,
    more,
    reset,
    start,
    u64,
)

from compoint.core.codes import Code, Ending, How
from compoint.core.connection import Connection, Happening, Side
from compoint.core.framing import Kind
from compoint.core.greeting import Mode
from compoint.core.keeping import (
    ConnectionChanges,
    Keeper,
    KeptMessage,
    KeptPiece,
    StreamChanges,
    ending_of,
    ending_row,
    has_goodbye,
)
from compoint.core.resumed import ResumedConnection
from compoint.limits import FIRST_CREDIT_BYTES, LARGE_WINDOW_BYTES

if TYPE_CHECKING:
    from wire_play import Frame

    from compoint.core.greeting import Greeting
    from compoint.core.stream import Stream


class Life:
    """One side through the lives of its processes; the peer's bytes stay until they are kept."""

    def __init__(self, side: Side, mode: Mode = Mode.PLAIN) -> None:
        self.side = side
        own = mode if side is Side.INITIATOR else Mode.WELCOME
        self.machine = Connection(side, greeting(own), 0.0, math.inf, is_kept=True)
        self.keeper = Keeper(self.machine)
        self.rows = Rows()
        self.heard = b""

    def hears(self, *said: Frame | Greeting | bytes) -> None:
        for part in said:
            data = part if isinstance(part, bytes) else part.encode()
            self.heard += data
            self.machine.feed(data, 0.0)

    def keeps(self) -> ConnectionChanges:
        self.said = b"".join(self.machine.take_output())
        changes = self.keeper.changes()
        self.rows.commit(changes)
        return changes

    def keeps_stream(self) -> StreamChanges:
        (changes,) = self.keeps().streams
        return changes

    def dies(self, *, is_welcomed: bool = True) -> None:
        """The next process goes on, with the bytes that were not kept as taken."""
        kept = self.rows.kept()
        assert kept is not None
        self.machine = ResumedConnection(self.side, kept, 0.0, math.inf)
        self.keeper = Keeper(self.machine)
        if is_welcomed:
            self.machine.welcome()
        self.machine.feed(self.heard[kept.fed :], 0.0)

    def reads(self, stream: Stream | None = None) -> Any:
        stream = stream or self.stream
        item = stream.inbox.popleft()
        stream.taken += 1
        stream.taken_cost += len(item if isinstance(item, bytes) else item[1]) + TOLL
        self.machine.grant(stream)
        return item

    @property
    def stream(self) -> Stream:
        assert self.machine.plain is not None
        return self.machine.plain

    def says(self) -> list[Frame]:
        return frames_in(b"".join(self.machine.take_output()))


@pytest.fixture
def responder() -> Life:
    """A plain responder that has welcomed its peer and kept that."""
    life = Life(Side.RESPONDER)
    life.hears(greeting(Mode.PLAIN))
    life.machine.welcome()
    life.keeps()
    return life


@pytest.fixture
def initiator() -> Life:
    life = Life(Side.INITIATOR)
    life.hears(greeting(Mode.WELCOME))
    life.keeps()
    return life


@pytest.fixture
def service() -> Life:
    """A responder on a connection with one channel that it has claimed."""
    life = Life(Side.RESPONDER, Mode.CHANNELS)
    life.hears(greeting(Mode.CHANNELS))
    life.machine.welcome()
    life.hears(announce(1, "orders"))
    life.machine.claim(life.machine.streams[1])
    life.keeps()
    return life


# --- what a step changes ----------------------------------------------------------------------


def test_output_that_was_not_taken_is_refused(responder: Life) -> None:
    responder.machine.gather(responder.stream, 0, b"hello")
    with pytest.raises(ValueError, match="output"):
        responder.keeper.changes()


def test_a_step_that_changes_nothing_names_no_stream(responder: Life) -> None:
    assert responder.keeps().streams == []


def test_a_message_is_added_once(responder: Life) -> None:
    responder.hears(message(b"one"), bundle(b"two", b"three", form=7))
    assert responder.keeps_stream().messages == [
        KeptMessage(1, 0, b"one"), KeptMessage(2, 7, b"two"), KeptMessage(3, 7, b"three"),
    ]  # fmt: skip
    responder.hears(message(b"four"))
    assert responder.keeps_stream().messages == [KeptMessage(4, 0, b"four")]


def test_a_message_that_was_read_is_needless(responder: Life) -> None:
    responder.hears(message(b"one"), message(b"two"))
    responder.keeps()
    responder.reads()
    changes = responder.keeps_stream()
    assert (changes.first_unread, changes.messages) == (2, [])


def test_a_message_that_was_read_before_it_was_kept_is_never_a_row(responder: Life) -> None:
    responder.hears(message(b"one"), message(b"two"))
    responder.reads()
    assert responder.keeps_stream().messages == [KeptMessage(2, 0, b"two")]


def test_a_message_that_is_just_being_read_counts_as_read(responder: Life) -> None:
    responder.hears(message(b"one"))
    responder.stream.inbox.popleft()
    changes = responder.keeps_stream()
    assert (changes.first_unread, changes.messages) == (2, [])
    responder.dies()
    assert (responder.stream.taken, responder.stream.unread_bytes) == (1, 0)


def test_every_read_is_a_change(responder: Life) -> None:
    assert responder.stream.grant_at <= 0
    responder.hears(message(b""), message(b""))
    responder.keeps()
    for _ in range(2):
        responder.reads()
        assert responder.stream.grant_at <= 0
        assert len(responder.keeps().streams) == 1


def test_the_bytes_of_an_unfinished_message_are_added_once(responder: Life) -> None:
    responder.hears(start(10), more(b"abc"))
    changes = responder.keeps_stream()
    assert (changes.has_pieces, changes.pieces) == (False, [KeptPiece(0, b"abc")])
    responder.hears(more(b"de"))
    changes = responder.keeps_stream()
    assert (changes.has_pieces, changes.pieces) == (True, [KeptPiece(3, b"de")])


def test_a_message_that_is_complete_is_a_message_and_no_pieces(responder: Life) -> None:
    responder.hears(start(4), more(b"abc"))
    responder.keeps()
    responder.hears(more(b"d"))
    changes = responder.keeps_stream()
    assert (changes.has_pieces, changes.pieces) == (False, [])
    assert changes.messages == [KeptMessage(1, 0, b"abcd")]


def test_the_next_unfinished_message_begins_anew(responder: Life) -> None:
    responder.hears(start(4), more(b"abc"))
    responder.keeps()
    responder.hears(more(b"d"), start(4), more(b"wxy"))
    changes = responder.keeps_stream()
    assert (changes.has_pieces, changes.pieces) == (False, [KeptPiece(0, b"wxy")])


def test_bytes_alone_are_a_change(responder: Life) -> None:
    # Behind the head of a frame no count but the position moves.
    frame = more(bytes(30_000)).encode()
    responder.hears(start(30_000), frame[:100])
    responder.keeps()
    responder.hears(frame[100:200])
    assert [len(piece.body) for piece in responder.keeps_stream().pieces] == [100]


def test_a_stream_that_is_over_is_gone(service: Life) -> None:
    service.machine.goodbye(service.machine.streams[1])
    service.keeps()
    service.hears(goodbye())
    assert service.keeps().gone == [1]
    assert service.keeps().gone == []


def test_a_frame_that_is_not_all_here_is_not_taken(responder: Life) -> None:
    frame = message(b"hello").encode()
    fed = responder.rows.fed
    responder.hears(frame + frame[:18])
    assert responder.keeps().fed == fed + len(frame)


def test_a_large_frame_is_taken_as_far_as_it_is_here(responder: Life) -> None:
    fed = responder.rows.fed
    said = start(30_000).encode() + more(bytes(30_000)).encode()[:1000]
    responder.hears(said)
    assert responder.keeps().fed == fed + len(said)


def test_half_a_greeting_is_not_taken() -> None:
    life = Life(Side.RESPONDER)
    life.hears(greeting(Mode.PLAIN).encode()[:30])
    assert life.keeps().fed == 0


def test_what_comes_behind_a_greeting_without_an_answer_is_not_taken() -> None:
    life = Life(Side.RESPONDER)
    asking = greeting(Mode.PLAIN).encode()
    life.hears(asking, message(b"early"))
    assert life.keeps().fed == len(asking)


ENDINGS = [None, Ending(How.REFUSED, Code.BUSY, "später", 1.5), Ending(How.CUT, Code.INTERNAL, "x")]


@pytest.mark.parametrize("ending", ENDINGS)
def test_an_ending_comes_back_as_it_was(ending: Ending | None) -> None:
    assert ending_of(json.loads(json.dumps(ending_row(ending)))) == ending


# --- a responder of a later process -----------------------------------------------------------


def test_a_responder_asks_to_be_welcomed_once_more_and_says_nothing(responder: Life) -> None:
    responder.dies(is_welcomed=False)
    assert responder.machine.take_events() == [(Happening.GREETED, None)]
    assert responder.machine.asking == greeting(Mode.PLAIN)
    responder.machine.welcome()
    assert not responder.machine.has_output
    assert responder.machine.peer == greeting(Mode.PLAIN)
    assert responder.stream is responder.machine.streams[1]


def test_a_responder_that_was_never_asked_waits_for_the_greeting() -> None:
    life = Life(Side.RESPONDER)
    life.keeps()
    life.dies(is_welcomed=False)
    assert life.machine.take_events() == []
    life.hears(greeting(Mode.PLAIN))
    assert life.machine.take_events() == [(Happening.GREETED, None)]


def test_a_greeting_that_was_not_answered_is_answered_by_the_next_process() -> None:
    life = Life(Side.RESPONDER)
    life.hears(greeting(Mode.PLAIN), message(b"early"))
    life.keeps()
    life.dies()
    assert b"".join(life.machine.take_output()).startswith(greeting(Mode.WELCOME).encode())
    assert list(life.stream.inbox) == [b"early"]


def test_a_responder_may_die_again_before_it_is_welcomed(responder: Life) -> None:
    responder.hears(message(b"one"))
    responder.keeps()
    responder.dies(is_welcomed=False)
    responder.keeps()
    responder.dies()
    assert not responder.machine.has_output
    assert list(responder.stream.inbox) == [b"one"]


def test_what_is_kept_already_is_not_added_again_by_the_next_process(responder: Life) -> None:
    responder.hears(message(b"one"), start(10), more(b"abc"))
    responder.keeps()
    responder.dies()
    responder.hears(more(b"de"))
    changes = responder.keeps_stream()
    assert changes.messages == []
    assert (changes.has_pieces, changes.pieces) == (True, [KeptPiece(3, b"de")])


def test_bytes_before_the_welcome_wait_in_line(responder: Life) -> None:
    frame = more(bytes(30_000)).encode()
    responder.hears(start(30_000), frame[:20_000])
    responder.keeps()
    responder.dies(is_welcomed=False)
    # The memory of the message must not be filled past what was fed before.
    responder.machine.feed(frame[20_000:25_000], 0.0)
    assert responder.machine.room() is None
    responder.machine.feed(frame[25_000:] + message(b"next").encode(), 0.0)
    responder.machine.welcome()
    assert list(responder.stream.inbox) == [bytes(30_000), b"next"]


def test_a_responder_that_is_not_wanted_any_more_breaks_off(responder: Life) -> None:
    responder.dies(is_welcomed=False)
    responder.machine.refuse(Code.NO_SUCH_PATH, "nobody serves it now")
    (said,) = responder.says()
    assert (said.kind, said.stream) == (Kind.RESET, 0)
    assert responder.stream.ending is not None
    assert responder.stream.ending.how is How.BROKEN


def test_a_greeting_that_was_refused_is_not_asked_about_again() -> None:
    life = Life(Side.RESPONDER)
    life.hears(greeting(Mode.PLAIN))
    life.machine.refuse(Code.BUSY, "later")
    life.keeps()
    life.dies(is_welcomed=False)
    assert life.machine.take_events() == [(Happening.OVER, None)]


def test_channels_are_announced_again_those_too_that_were_claimed(service: Life) -> None:
    service.hears(announce(2, "invoices"))
    service.keeps()
    service.dies(is_welcomed=False)
    service.machine.take_events()
    service.machine.welcome()
    one, two = service.machine.streams.values()
    assert service.machine.take_events() == [
        (Happening.ANNOUNCED, one), (Happening.ANNOUNCED, two),
    ]  # fmt: skip
    assert [(s.correlator, s.is_claimed) for s in (one, two)] == [
        ("orders", True), ("invoices", False),
    ]  # fmt: skip


def test_a_channel_that_was_closed_here_is_not_announced_again(service: Life) -> None:
    service.machine.goodbye(service.machine.streams[1])
    service.keeps()
    service.dies(is_welcomed=False)
    service.machine.take_events()
    service.machine.welcome()
    assert service.machine.take_events() == []
    assert service.machine.streams[1].goodbye_said


def test_a_channel_is_claimed_once_for_its_peer(service: Life) -> None:
    service.dies()
    stream = service.machine.streams[1]
    limit = stream.in_limit
    service.machine.claim(stream)
    assert service.says() == [credit(limit)]


def test_a_claim_never_takes_credit_back(service: Life) -> None:
    stream = service.machine.streams[1]
    service.hears(message(bytes(100)))
    service.machine.set_stuck(stream, 4 * WINDOW)
    for _ in range(WINDOW // 16_384):
        service.hears(message(bytes(16_384 - TOLL)))
    service.keeps()
    limit = stream.in_limit
    assert limit > WINDOW
    service.dies()
    stream = service.machine.streams[1]
    service.machine.claim(stream)
    assert service.says()[-1] == credit(limit, ack=stream.received)


def test_a_number_is_not_used_twice(service: Life) -> None:
    service.machine.goodbye(service.machine.streams[1])
    service.hears(goodbye())
    service.keeps()
    service.dies()
    service.hears(announce(1, "again"))
    (said,) = service.says()
    assert said.kind == Kind.RESET
    assert int.from_bytes(said.payload[:2], "big") == Code.DUPLICATE_CHANNEL


# --- an initiator of a later process ------------------------------------------------------------


def test_an_initiator_greets_once() -> None:
    life = Life(Side.INITIATOR)
    life.keeps()
    life.dies()
    assert not life.machine.has_output
    life.machine.gather(life.stream, 0, b"hello")
    life.hears(greeting(Mode.WELCOME))
    assert life.says() == [message(b"hello")]


def test_an_initiator_goes_on_behind_what_it_has_said(initiator: Life) -> None:
    initiator.machine.gather(initiator.stream, 0, b"one")
    initiator.keeps()
    initiator.dies()
    assert initiator.stream.written == 1
    initiator.machine.gather(initiator.stream, 0, b"two")
    assert initiator.says() == [message(b"two")]
    initiator.hears(credit(WINDOW, ack=2))
    assert initiator.stream.confirmed == 2


def test_the_next_channel_gets_the_next_number() -> None:
    life = Life(Side.INITIATOR, Mode.CHANNELS)
    life.machine.announce("one")
    life.keeps()
    life.dies()
    assert life.machine.announce("two").number == 2


def test_who_has_left_has_left() -> None:
    life = Life(Side.INITIATOR, Mode.CHANNELS)
    life.hears(greeting(Mode.WELCOME))
    life.machine.announce("one")
    life.machine.leave(Code.CLOSED, "bye")
    life.keeps()
    life.dies()
    life.hears(claim(1))
    life.machine.goodbye(life.machine.streams[1])
    life.hears(goodbye())
    assert life.machine.ending == Ending(How.GOODBYE, Code.CLOSED, "the last conversation is over")


# --- large messages ---------------------------------------------------------------------------


def test_a_message_that_its_writer_left_unfinished_is_taken_back(initiator: Life) -> None:
    initiator.machine.begin(initiator.stream, 0, 100)
    initiator.machine.more(initiator.stream, memoryview(bytes(40)))
    initiator.keeps()
    initiator.dies()
    assert initiator.says() == [drop()]
    initiator.machine.begin(initiator.stream, 0, 50)
    assert initiator.says() == [start(50)]


def test_a_message_that_was_given_whole_is_not_taken_back(initiator: Life) -> None:
    initiator.machine.begin(initiator.stream, 0, 40)
    initiator.machine.more(initiator.stream, memoryview(bytes(40)))
    initiator.keeps()
    initiator.dies()
    assert not initiator.machine.has_output


def _cuts(said: bytes) -> list[int]:
    return sorted({0, 1, 16, 24, 30, 40, 41, 5000, 16_424, 20_000, len(said) - 1, len(said)})


SAID = (
    start(30_000, form=3).encode() + more(bytes(range(200)) * 150).encode() + message(b"x").encode()
)


@pytest.mark.parametrize("cut", _cuts(SAID))
def test_a_message_completes_wherever_its_reader_died(responder: Life, cut: int) -> None:
    responder.hears(SAID[:cut])
    responder.keeps()
    responder.heard += SAID[cut:]
    responder.dies()
    assert list(responder.stream.inbox) == [(3, bytes(range(200)) * 150), b"x"]


@pytest.mark.parametrize("cut", _cuts(SAID))
def test_what_was_read_is_counted_right_wherever_its_reader_died(responder: Life, cut: int) -> None:
    responder.hears(SAID[:cut])
    responder.keeps()
    responder.heard += SAID[cut:]
    responder.dies()
    assert responder.stream.unread_bytes == 30_000 + TOLL + 1 + TOLL
    responder.reads()
    responder.reads()
    assert responder.stream.taken_cost == responder.stream.in_cost


def test_a_frame_that_goes_nowhere_still_does(service: Life) -> None:
    # Its channel ended in the middle of a payload: the rest must not be read as frames.
    frame = more(bytes(30_000)).encode()
    service.hears(start(30_000), frame[:1000])
    service.machine.reset(service.machine.streams[1], Code.ABANDONED, "so")
    service.keeps()
    service.heard += frame[1000:] + announce(2, "next").encode()
    service.dies()
    assert list(service.machine.streams) == [2]
    assert service.machine.ending is None


def test_a_dropped_message_stays_spent(responder: Life) -> None:
    responder.hears(start(30_000), more(bytes(10_000)), drop())
    responder.keeps()
    responder.dies()
    assert responder.stream.in_cost == 10_000 + TOLL
    assert responder.stream.unread_bytes == 0


# --- counts and endings -------------------------------------------------------------------------


def test_credit_is_what_it_was(responder: Life) -> None:
    responder.hears(credit(3 * WINDOW))
    responder.machine.gather(responder.stream, 0, bytes(100))
    responder.keeps()
    responder.dies()
    stream = responder.stream
    assert (stream.out_limit, stream.out_cost) == (3 * WINDOW, 100 + TOLL)


def test_credit_grows_with_what_is_read_behind_the_death(responder: Life) -> None:
    bodies = [bytes(16_384 - TOLL)] * (WINDOW // 16_384)
    responder.hears(*(message(body) for body in bodies))
    responder.keeps()
    responder.dies()
    for _ in bodies:
        responder.reads()
    granted = [frame for frame in responder.says() if frame.kind == Kind.CREDIT]
    assert granted[-1].payload == u64(2 * WINDOW)


def test_a_goodbye_survives_with_what_was_not_read(initiator: Life) -> None:
    for body in (b"one", b"two"):
        initiator.machine.gather(initiator.stream, 0, body)
    initiator.machine.take_output()
    initiator.hears(message(b"last"), goodbye(1, "so long", ack=2))
    initiator.keeps()
    initiator.dies()
    stream = initiator.stream
    assert stream.ending == Ending(How.GOODBYE, Code.CLOSED, "so long")
    assert (stream.confirmed, stream.is_open) == (1, False)
    assert initiator.reads() == b"last"


def test_our_own_goodbye_is_said_once(initiator: Life) -> None:
    initiator.machine.goodbye(initiator.stream)
    initiator.keeps()
    initiator.dies()
    initiator.machine.goodbye(initiator.stream)
    assert not initiator.machine.has_output
    assert not initiator.stream.is_open


def test_the_end_of_the_connection_survives_with_the_messages(responder: Life) -> None:
    responder.hears(message(b"last"), reset(Code.INTERNAL, "no more", stream=0))
    responder.keeps()
    responder.dies(is_welcomed=False)
    assert responder.machine.ending == Ending(How.BROKEN, Code.INTERNAL, "no more")
    assert responder.machine.take_events() == [(Happening.GREETED, None), (Happening.OVER, None)]
    responder.machine.welcome()
    assert responder.stream.ending == responder.machine.ending
    assert responder.reads() == b"last"


@pytest.mark.parametrize("side", Side)
def test_a_plain_conversation_that_was_over_has_an_end(side: Side) -> None:
    # A point is made of it all the same, and must not wait for ever.
    life = Life(side)
    life.hears(greeting(Mode.PLAIN if side is Side.RESPONDER else Mode.WELCOME))
    life.machine.welcome()
    life.hears(goodbye())
    life.machine.goodbye(life.stream)
    life.keeps()
    life.dies()
    assert life.stream.ending is not None
    assert not life.stream.is_open
    life.machine.goodbye(life.stream)
    life.machine.forget(life.stream)
    assert not life.machine.has_output


# --- who is missed --------------------------------------------------------------------------------


def has_said_goodbye(life: Life) -> bool:
    life.keeps()
    kept = life.rows.kept()
    assert kept is not None
    return has_goodbye(kept)


def test_a_program_that_has_closed_is_not_missed(responder: Life) -> None:
    assert not has_said_goodbye(responder)
    responder.machine.goodbye(responder.stream)
    assert has_said_goodbye(responder)


def test_a_plain_conversation_that_is_over_misses_nobody(responder: Life) -> None:
    responder.hears(goodbye())
    assert not has_said_goodbye(responder)
    responder.machine.goodbye(responder.stream)
    assert has_said_goodbye(responder)


def test_a_service_is_missed_between_two_channels(service: Life) -> None:
    service.machine.goodbye(service.machine.streams[1])
    assert not has_said_goodbye(service)
    service.hears(goodbye())
    assert not has_said_goodbye(service)


def test_a_service_is_not_missed_when_its_peer_has_left(service: Life) -> None:
    service.hears(goodbye(stream=0))
    assert not has_said_goodbye(service)
    service.machine.goodbye(service.machine.streams[1])
    assert has_said_goodbye(service)


def test_who_was_not_welcomed_is_missed() -> None:
    life = Life(Side.RESPONDER)
    life.hears(greeting(Mode.PLAIN))
    assert not has_said_goodbye(life)
    life.machine.refuse(Code.BUSY, "later")
    assert has_said_goodbye(life)


# --- credit for a large message -----------------------------------------------------------------


def test_the_rest_of_a_large_message_is_allowed_at_once(responder: Life) -> None:
    """Over mail each further limit is a journey; so little is asked for."""
    size = LARGE_WINDOW_BYTES // 2
    responder.hears(start(size), more(bytes(FIRST_CREDIT_BYTES - TOLL)))
    (told,) = responder.says()
    assert told == credit(size + TOLL)


def test_of_a_very_large_message_no_more_than_the_large_window_is_allowed_ahead(
    responder: Life,
) -> None:
    responder.hears(start(1 << 30), more(bytes(10)))
    (told,) = responder.says()
    assert told == credit(10 + LARGE_WINDOW_BYTES)
