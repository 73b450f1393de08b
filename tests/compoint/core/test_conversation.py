"""One plain conversation, frame by frame: messages, credit, confirmation, goodbyes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from wire_play import (
    FIRST,
    NOBODY,
    TOLL,
    WINDOW,
    Frame,
    Scene,
    announce,
    bundle,
    credit,
    drop,
    goodbye,
    message,
    more,
    reset,
    start,
    u64,
)

from compoint.core.codes import Code, Ending, How
from compoint.core.connection import Side
from compoint.core.framing import ASK_ACK, Kind
from compoint.limits import CHUNK_BYTES, SMALL_BYTES

Stage = Callable[..., Scene]


# --- small messages ---------------------------------------------------------------------------


def test_one_message_leaves_in_one_frame(initiator: Scene) -> None:
    initiator.we_write(b"hello")
    assert initiator.machine.has_output
    initiator.we_say(message(b"hello"))
    initiator.silence()
    assert not initiator.machine.has_output


def test_a_lone_frame_is_the_same_frame(initiator: Scene) -> None:
    data = initiator.machine.frame(initiator.stream, 3, b"hello")
    assert data == message(b"hello", form=3).encode()
    assert (initiator.stream.written, initiator.stream.out_cost) == (1, 5 + TOLL)
    initiator.silence()


def test_messages_written_together_leave_together(initiator: Scene) -> None:
    for body in (b"one", b"", b"three"):
        initiator.we_write(body)
    initiator.we_say(bundle(b"one", b"", b"three"))
    assert initiator.stream.written == 3


def test_another_form_begins_another_frame(initiator: Scene) -> None:
    initiator.we_write(b"raw")
    initiator.we_write(b"text", form=1)
    initiator.we_write(b"text", form=1)
    initiator.we_say(message(b"raw"), bundle(b"text", b"text", form=1))


def test_what_may_be_appended_to_a_flood_is_never_more_than_the_credit(initiator: Scene) -> None:
    stream = initiator.stream
    stream.out_limit = stream.out_cost + 1000
    for _ in range(3):
        initiator.we_write(b"x" * 100)
        assert stream.gather_room == stream.out_limit - stream.out_cost


def test_what_was_gathered_leaves_before_what_is_said_behind_it(initiator: Scene) -> None:
    initiator.we_write(b"first")
    initiator.machine.ask_ack(initiator.stream)
    initiator.we_say(message(b"first"), credit(WINDOW, flags=ASK_ACK))


def test_a_flood_behind_a_slow_wire_is_cut_into_bundles_the_peer_takes(stage: Stage) -> None:
    scene = stage(Side.INITIATOR).after_greetings(window=WINDOW * 4)
    bodies = [bytes([i]) * SMALL_BYTES for i in range(40)]
    for body in bodies:
        scene.we_write(body)
    scene.we_say(*(bundle(*bodies[at : at + 10]) for at in range(0, 40, 10)))


def test_messages_arrive_in_order_with_their_forms(responder: Scene) -> None:
    responder.peer_says(
        message(b"raw"),
        message(b"text", form=1),
        bundle(b"", b"x"),
        bundle(b"a", b"b", form=2),
    )
    responder.we_see(responder.touched())
    assert list(responder.stream.inbox) == [
        b"raw", (1, b"text"), b"", b"x", (2, b"a"), (2, b"b"),
    ]  # fmt: skip
    assert responder.stream.received == 6
    assert responder.stream.unread_bytes == 10 + 6 * TOLL
    responder.silence()


def test_a_stream_is_touched_once_until_somebody_looked(responder: Scene) -> None:
    responder.peer_says(message(b"one"))
    responder.peer_says(message(b"two"))
    responder.we_see(responder.touched())
    responder.peer_says(message(b"three"))
    responder.we_see(responder.touched())


def test_a_bundle_full_of_empty_messages_is_taken(responder: Scene) -> None:
    responder.peer_says(bundle(*[b""] * 1000))
    assert list(responder.stream.inbox) == [b""] * 1000
    assert responder.stream.in_cost == 1000 * TOLL


def test_a_lone_message_wakes_nobody_where_nobody_waits(responder: Scene) -> None:
    stream = responder.stream
    stream.has_waiters = False
    responder.we_write(b"question")
    responder.we_say(message(b"question"))
    responder.peer_says(message(b"answer", ack=1, form=1))
    responder.peer_says(message(b"raw", ack=1))
    responder.silence()
    assert list(stream.inbox) == [(1, b"answer"), b"raw"]
    assert (stream.received, stream.confirmed, stream.in_cost) == (2, 1, 9 + 2 * TOLL)


def test_a_lone_message_that_asks_is_answered_though_nobody_waits(responder: Scene) -> None:
    responder.stream.has_waiters = False
    responder.peer_says(message(b"question", flags=ASK_ACK))
    responder.we_say(credit(WINDOW, ack=1))


def test_a_lone_message_after_our_goodbye_is_not_taken(responder: Scene) -> None:
    responder.stream.has_waiters = False
    responder.machine.goodbye(responder.stream)
    responder.peer_says(message(b"late"))
    assert not responder.stream.inbox
    assert responder.stream.received == 0


@pytest.mark.parametrize("known", [0, 9, 16, 18])
def test_a_part_of_a_large_message_that_looks_like_a_message_is_none(
    responder: Scene, known: int
) -> None:
    responder.stream.has_waiters = False
    body = message(b"decoy", stream=1).encode()
    data = more(body).encode()
    responder.peer_says(start(len(body)))
    responder.peer_says(data[:known])
    responder.peer_says(data[known:])
    assert list(responder.stream.inbox) == [body]


def test_a_part_for_nobody_that_looks_like_a_message_is_none(service: Scene) -> None:
    service.peer_says(announce(1))
    service.machine.streams[1].has_waiters = False
    decoy = message(b"decoy").encode()
    service.peer_says(more(b"", stream=9).head(len(decoy)))
    service.peer_says(decoy)
    assert not service.machine.streams[1].inbox


@pytest.mark.parametrize(
    "said", [[start(9), message(b"x")], [message(b"x", ack=1)], [message(b"x", ack=0xFFFF_FFFF)]]
)
def test_a_lone_message_that_breaks_a_rule_is_a_fault_though_nobody_waits(
    responder: Scene, said: list[Frame]
) -> None:
    responder.stream.has_waiters = False
    for frame in said:
        responder.peer_says(frame)
    assert responder.stream.ending is not None
    assert responder.stream.ending.code is Code.BAD_FRAME
    assert not responder.stream.inbox


# --- large messages ---------------------------------------------------------------------------


def test_a_large_message_leaves_in_pieces(initiator: Scene) -> None:
    machine, stream = initiator.machine, initiator.stream
    body = memoryview(b"abcdefghij")
    initiator.we_write(b"before")
    machine.begin(stream, 1, 10)
    machine.more(stream, body[:6])
    assert stream.written == 1
    machine.more(stream, body[6:])
    assert stream.written == 2
    initiator.we_write(b"behind")
    initiator.we_say(
        message(b"before"), start(10, form=1), more(b"abcdef"), more(b"ghij"), message(b"behind")
    )
    assert stream.out_cost == 6 + 10 + 6 + 3 * TOLL


def test_a_piece_longer_than_a_frame_is_cut(initiator: Scene) -> None:
    body = bytes(CHUNK_BYTES + 5)
    initiator.machine.begin(initiator.stream, 0, len(body))
    initiator.machine.more(initiator.stream, memoryview(body))
    initiator.we_say(start(len(body)), more(body[5:]), more(body[:5]))


def test_a_large_message_confirmed_with_its_last_byte_is_no_fault(initiator: Scene) -> None:
    # The peer may answer before the shell that wrote the last byte runs again.
    initiator.machine.begin(initiator.stream, 0, 3)
    initiator.machine.more(initiator.stream, memoryview(b"abc"))
    initiator.peer_says(credit(WINDOW * 2, ack=1))
    assert initiator.stream.ending is None
    assert initiator.stream.confirmed == 1


def test_an_empty_large_message_is_whole_at_once(initiator: Scene, responder: Scene) -> None:
    initiator.machine.begin(initiator.stream, 0, 0)
    assert initiator.stream.written == 1
    initiator.we_say(start(0))
    responder.peer_says(start(0, form=1), message(b"next"))
    assert list(responder.stream.inbox) == [(1, b""), b"next"]


def test_a_large_message_arrives_whole(responder: Scene) -> None:
    body = bytes(i % 251 for i in range(100_000))
    responder.peer_says(start(100_000, form=3), more(body[:70_000]))
    responder.silence()
    responder.peer_says(more(body[70_000:]))
    responder.we_see(responder.touched())
    assert list(responder.stream.inbox) == [(3, body)]
    assert responder.stream.received == 1


def test_bytes_go_straight_into_a_large_message(responder: Scene) -> None:
    machine = responder.machine
    body = bytes(i % 251 for i in range(100_000))
    assert machine.room() is None
    responder.peer_says(start(100_000))
    assert machine.room() is None
    responder.peer_says(more(b"").head(100_000), body[:5])
    assert machine.room() is None  # the size is not believed yet
    responder.peer_says(body[5:20_000])
    room = machine.room()
    assert room is not None
    assert len(room) == 80_000
    room[:50_000] = body[20_000:70_000]
    machine.filled(50_000, 1.0)
    room = machine.room()
    assert room is not None
    room[:] = body[70_000:]
    machine.filled(30_000, 2.0)
    with pytest.raises(ValueError, match="released"):
        len(room)  # a view that is held would make the message be copied
    responder.we_see(responder.touched())
    assert responder.we_read() == body
    assert machine.room() is None
    assert machine.heard_at == 2.0
    responder.peer_says(message(b"next"))
    assert responder.we_read() == b"next"


def test_bytes_received_for_a_stream_that_ended_meanwhile_go_nowhere(responder: Scene) -> None:
    machine = responder.machine
    responder.peer_says(start(50_000), more(b"").head(50_000), bytes(20_000))
    room = machine.room()
    assert room is not None
    machine.goodbye(responder.stream)
    machine.filled(len(room), 0.0)
    assert machine.room() is None
    responder.peer_says(message(b"late"), reset(Code.ABANDONED, "gone"))
    assert not responder.stream.inbox
    assert responder.stream.ending == Ending(How.BROKEN, Code.ABANDONED, "gone")


def test_bytes_received_for_a_connection_that_ended_meanwhile_go_nowhere(
    responder: Scene,
) -> None:
    machine = responder.machine
    responder.peer_says(start(50_000), more(b"").head(50_000), bytes(20_000))
    assert machine.room() is not None
    machine.cut("gone")
    machine.filled(30_000, 0.0)
    machine.feed(b"more", 0.0)
    assert machine.room() is None
    assert machine.statistics().bytes_in > 50_000


def test_the_callers_mistakes_are_told_to_the_caller(initiator: Scene) -> None:
    machine, stream = initiator.machine, initiator.stream
    machine.begin(stream, 0, 10)
    with pytest.raises(ValueError, match="another message is not finished"):
        machine.begin(stream, 0, 10)
    with pytest.raises(ValueError, match="11 bytes, where 10 are missing"):
        machine.more(stream, memoryview(bytes(11)))
    with pytest.raises(ValueError, match="0 bytes, where 10 are missing"):
        machine.more(stream, memoryview(b""))


def test_nobody_goes_on_with_a_message_whose_stream_is_over(initiator: Scene) -> None:
    initiator.machine.begin(initiator.stream, 0, 10)
    initiator.peer_says(reset(Code.ABANDONED, "gone"))
    with pytest.raises(ValueError, match="3 bytes, where 0 are missing"):
        initiator.machine.more(initiator.stream, memoryview(b"abc"))
    initiator.machine.drop(initiator.stream)
    initiator.we_say(start(10))


# --- dropping ---------------------------------------------------------------------------------


def test_a_message_taken_back_was_never_written(initiator: Scene) -> None:
    machine, stream = initiator.machine, initiator.stream
    machine.begin(stream, 0, 10)
    machine.more(stream, memoryview(b"abc"))
    machine.drop(stream)
    machine.drop(stream)
    initiator.we_say(start(10), more(b"abc"), drop())
    assert (stream.written, stream.out_cost) == (0, 3 + TOLL)
    initiator.we_write(b"next")
    initiator.we_say(message(b"next"))


def test_a_dropped_message_leaves_no_trace_but_its_cost(responder: Scene) -> None:
    stream = responder.stream
    responder.peer_says(start(10), more(b"abc"), drop(), message(b"next"))
    assert list(stream.inbox) == [b"next"]
    assert stream.received == 1
    assert stream.in_cost == 3 + 4 + 2 * TOLL
    assert stream.unread_bytes == 4 + TOLL
    responder.we_say()  # not yet worth a grant


def test_what_dropped_messages_cost_is_granted_again(responder: Scene) -> None:
    piece = bytes(CHUNK_BYTES - TOLL)
    responder.peer_says(start(1 << 20), more(piece), drop())
    responder.we_say(credit(WINDOW + CHUNK_BYTES))
    assert responder.stream.unread_bytes == 0


def test_reading_behind_a_dropped_message_grants_as_soon_as_ever(responder: Scene) -> None:
    count = WINDOW // 2 // SMALL_BYTES
    responder.peer_says(start(1 << 20), more(bytes(CHUNK_BYTES - TOLL)), drop())
    responder.peer_says(*[message(bytes(SMALL_BYTES - TOLL))] * count)
    responder.machine.take_output()
    for _ in range(count - 1):
        responder.we_read()
    responder.we_say()
    responder.we_read()
    responder.we_say(credit(WINDOW + CHUNK_BYTES + WINDOW // 2, ack=count))


def test_a_sender_that_drops_again_and_again_gains_no_credit(responder: Scene) -> None:
    # Each unfinished message extends the credit; taking it back must not leave that over.
    stream = responder.stream
    for _ in range(20):
        responder.peer_says(start(1 << 30))
        for _ in range(3 * WINDOW // CHUNK_BYTES):
            responder.peer_says(more(bytes(CHUNK_BYTES)))
        responder.peer_says(drop())
        assert stream.unread_bytes == 0
        assert stream.in_limit - stream.in_cost <= WINDOW


def test_dropping_gives_a_queued_channel_its_first_credit_again(service: Scene) -> None:
    service.peer_says(Frame(Kind.ANNOUNCE, u64(WINDOW) + b"x"))
    service.peer_says(start(1 << 20), more(bytes(FIRST - TOLL)), drop())
    service.we_say(credit(2 * FIRST))


# --- credit -----------------------------------------------------------------------------------


def test_reading_gives_credit_in_steps(responder: Scene) -> None:
    body = bytes(SMALL_BYTES - TOLL)
    count = WINDOW // SMALL_BYTES
    responder.peer_says(*[message(body)] * count)
    for _ in range(count // 2 - 1):
        responder.we_read()
    responder.we_say()
    responder.we_read()
    responder.we_say(credit(WINDOW + WINDOW // 2, ack=count))


def test_a_message_larger_than_the_window_comes_through(responder: Scene) -> None:
    size = 3 * WINDOW
    responder.peer_says(start(size))
    given = 0
    while given < size:
        piece = bytes(min(CHUNK_BYTES, size - given))
        assert responder.stream.in_cost + len(piece) <= responder.stream.in_limit
        responder.peer_says(more(piece))
        given += len(piece)
    assert [len(body) for body in responder.stream.inbox] == [size]


def test_a_message_larger_than_the_window_waits_behind_unread_ones(responder: Scene) -> None:
    stream = responder.stream
    responder.peer_says(message(b"unread"), start(3 * WINDOW))
    for _ in range(3):
        responder.peer_says(more(bytes(CHUNK_BYTES)))
    responder.we_say()
    responder.we_read()
    responder.machine.grant(stream)
    responder.we_say(credit(stream.in_limit, ack=1))
    assert stream.in_limit == stream.in_cost - TOLL + WINDOW


def test_more_credit_is_told_to_the_writer(initiator: Scene) -> None:
    initiator.peer_says(credit(WINDOW + 1))
    initiator.we_see(initiator.touched())
    assert initiator.stream.out_limit == WINDOW + 1


def test_less_credit_changes_nothing(initiator: Scene) -> None:
    initiator.peer_says(credit(5))
    initiator.silence()
    assert initiator.stream.out_limit == WINDOW


@pytest.mark.parametrize("has_waiters", [True, False])
def test_a_writer_that_is_stuck_takes_in_what_comes(responder: Scene, has_waiters: bool) -> None:
    stream = responder.stream
    stream.has_waiters = has_waiters
    responder.machine.set_stuck(stream, 4 * WINDOW)
    responder.we_say()
    body = bytes(SMALL_BYTES - TOLL)
    for _ in range(4 * WINDOW // SMALL_BYTES):
        responder.peer_says(message(body))
    assert stream.ending is None
    assert stream.unread_bytes == 4 * WINDOW
    assert stream.in_limit == 4 * WINDOW
    assert responder.machine.has_output


def test_a_writer_that_is_stuck_takes_in_large_messages(responder: Scene) -> None:
    stream = responder.stream
    responder.machine.set_stuck(stream, 4 * WINDOW)
    responder.peer_says(message(b"unread"), start(3 * WINDOW))
    for _ in range(3 * WINDOW // CHUNK_BYTES):
        responder.peer_says(more(bytes(CHUNK_BYTES)))
    assert stream.ending is None
    assert [len(body) for body in stream.inbox] == [6, 3 * WINDOW]


def test_the_wide_window_has_an_end_too(responder: Scene) -> None:
    stream = responder.stream
    responder.machine.set_stuck(stream, 2 * WINDOW)
    for _ in range(2 * WINDOW // SMALL_BYTES):
        responder.peer_says(message(bytes(SMALL_BYTES - TOLL)))
    assert stream.ending is None
    responder.peer_says(message(b""))
    assert stream.ending is not None
    assert stream.ending.code is Code.CREDIT_OVERRUN


def test_who_is_stuck_no_more_takes_nothing_back(responder: Scene) -> None:
    stream = responder.stream
    responder.machine.set_stuck(stream, 2 * WINDOW)
    for _ in range(WINDOW // SMALL_BYTES):
        responder.peer_says(message(bytes(SMALL_BYTES - TOLL)))
    limit = stream.in_limit
    assert limit > WINDOW
    responder.machine.set_stuck(stream, 0)
    responder.machine.grant(stream)
    assert stream.in_limit == limit


# --- confirmation -----------------------------------------------------------------------------


def test_every_frame_confirms_what_is_held(responder: Scene) -> None:
    responder.peer_says(message(b"one"), message(b"two"))
    responder.we_write(b"answer")
    responder.we_say(message(b"answer", ack=2))


def test_a_confirmation_is_told_to_the_writer(initiator: Scene) -> None:
    initiator.we_write(b"one")
    initiator.we_write(b"two")
    initiator.we_say(bundle(b"one", b"two"))
    initiator.peer_says(message(b"", ack=1))
    initiator.we_see(initiator.touched())
    assert (initiator.stream.confirmed, initiator.stream.written) == (1, 2)


def test_a_confirmation_is_given_when_asked_for(responder: Scene) -> None:
    responder.peer_says(message(b"one"), credit(WINDOW, flags=ASK_ACK))
    responder.we_say(credit(WINDOW, ack=1))
    responder.peer_says(message(b"two", flags=ASK_ACK))
    responder.we_say(credit(WINDOW, ack=2))
    responder.peer_says(bundle(b"three", b"four", flags=ASK_ACK))
    responder.we_say(credit(WINDOW, ack=4))


def test_confirmations_go_on_when_their_count_wraps(initiator: Scene) -> None:
    stream = initiator.stream
    stream.written = stream.acked = (1 << 32) - 2
    for _ in range(4):
        initiator.we_write(b"x")
    initiator.peer_says(credit(WINDOW * 2, ack=1))
    assert stream.acked == (1 << 32) + 1
    assert stream.ending is None
    initiator.peer_says(credit(WINDOW * 2, ack=3))
    assert stream.ending is not None
    assert stream.ending.code is Code.BAD_FRAME


def test_our_own_count_wraps_in_the_header(responder: Scene) -> None:
    responder.stream.received = (1 << 32) + 5
    responder.we_write(b"x")
    responder.we_say(message(b"x", ack=5))


# --- goodbyes ---------------------------------------------------------------------------------


def test_a_goodbye_follows_what_was_written_and_asks_for_its_confirmation(
    initiator: Scene,
) -> None:
    initiator.we_write(b"last")
    initiator.machine.goodbye(initiator.stream)
    initiator.machine.goodbye(initiator.stream)
    initiator.we_say(message(b"last"), goodbye(flags=ASK_ACK))
    assert not initiator.stream.is_open
    initiator.peer_says(credit(WINDOW, ack=1))
    initiator.we_see(initiator.touched())
    assert initiator.stream.confirmed == 1
    assert initiator.stream.ending is None


def test_a_goodbye_with_nothing_open_asks_for_nothing(initiator: Scene) -> None:
    initiator.machine.goodbye(initiator.stream)
    initiator.we_say(goodbye())


def test_after_the_peers_goodbye_its_messages_can_still_be_read(responder: Scene) -> None:
    responder.peer_says(message(b"last"), goodbye(flags=ASK_ACK))
    responder.we_say(credit(WINDOW, ack=1))
    responder.we_see(responder.touched())
    stream = responder.stream
    assert stream.ending == Ending(How.GOODBYE, Code.CLOSED, "the peer closed")
    assert not stream.is_open
    assert responder.we_read() == b"last"
    responder.machine.goodbye(stream)
    responder.we_say(goodbye(taken=1, ack=1))
    assert not responder.machine.streams


def test_reading_what_a_peer_left_behind_grants_it_nothing(responder: Scene) -> None:
    count = WINDOW // SMALL_BYTES
    responder.peer_says(*[message(bytes(SMALL_BYTES - TOLL))] * count, goodbye())
    for _ in range(count):
        responder.we_read()
    responder.we_say()


def test_messages_given_back_unread_are_not_confirmed(initiator: Scene) -> None:
    for body in (b"one", b"two", b"three"):
        initiator.we_write(body)
    initiator.peer_says(goodbye(taken=1, ack=2))
    assert initiator.stream.confirmed == 1
    assert initiator.stream.acked == 2


def test_a_goodbye_that_took_more_than_was_sent_confirms_no_more(initiator: Scene) -> None:
    initiator.we_write(b"one")
    initiator.peer_says(goodbye(taken=99, ack=1))
    assert initiator.stream.confirmed == 1


def test_goodbyes_that_cross_end_the_conversation(initiator: Scene) -> None:
    initiator.we_write(b"one")
    initiator.machine.goodbye(initiator.stream)
    initiator.we_say(message(b"one"), goodbye(flags=ASK_ACK))
    initiator.peer_says(message(b"unwanted"), goodbye(flags=ASK_ACK))
    initiator.we_see(initiator.touched())
    assert not initiator.machine.streams
    assert initiator.stream.ending is not None
    assert initiator.stream.ending.how is How.GOODBYE
    assert initiator.stream.confirmed == 0
    assert not initiator.stream.inbox
    initiator.silence()
    initiator.peer_says(credit(WINDOW), message(b"late"), reset(Code.ABANDONED, "late"))
    initiator.silence()


def test_a_goodbye_takes_an_unfinished_message_back(initiator: Scene) -> None:
    machine, stream = initiator.machine, initiator.stream
    machine.begin(stream, 0, 10)
    machine.more(stream, memoryview(b"abc"))
    machine.goodbye(stream)
    machine.drop(stream)
    initiator.we_say(start(10), more(b"abc"), drop(), goodbye())
    assert stream.written == 0


def test_what_comes_after_our_goodbye_is_not_taken(responder: Scene) -> None:
    stream = responder.stream
    responder.peer_says(start(10), more(b"abc"))
    responder.machine.goodbye(stream)
    responder.we_say(goodbye())
    responder.peer_says(
        more(b"def"), drop(), message(b"x"), bundle(b"y", b"z"), start(5),
        credit(WINDOW * 3, flags=ASK_ACK),
    )  # fmt: skip
    responder.we_say()
    assert (stream.received, list(stream.inbox), stream.ending) == (0, [], None)


def test_a_reset_ends_at_once_but_what_came_can_be_read(responder: Scene) -> None:
    responder.we_write(b"never sent")
    responder.peer_says(message(b"last"), reset(Code.ABANDONED, "its program left"))
    responder.we_say()
    assert not responder.machine.has_output
    responder.we_see(responder.touched())
    assert responder.stream.ending == Ending(How.BROKEN, Code.ABANDONED, "its program left")
    assert responder.we_read() == b"last"
    responder.machine.goodbye(responder.stream)
    responder.machine.reset(responder.stream, Code.STOPPED, "too")
    responder.we_say()
    assert responder.stream.ending.code is Code.ABANDONED


def test_our_reset_says_why(responder: Scene) -> None:
    responder.we_write(b"last")
    responder.machine.reset(responder.stream, Code.ABANDONED, "the program left", 2.0)
    responder.we_say(message(b"last"), reset(Code.ABANDONED, "the program left", 2.0))
    responder.we_see(responder.touched())
    assert responder.stream.ending == Ending(How.BROKEN, Code.ABANDONED, "the program left")
    assert not responder.machine.streams


def test_the_first_cause_of_an_ending_is_kept(responder: Scene) -> None:
    responder.peer_says(goodbye())
    responder.peer_says(reset(Code.ABANDONED, "later"))
    responder.machine.cut("later still")
    assert responder.stream.ending is not None
    assert responder.stream.ending.how is How.GOODBYE


def test_a_plain_responder_that_never_answered_has_refused(initiator: Scene) -> None:
    initiator.we_write(b"to nobody")
    initiator.peer_says(reset(Code.STOPPED, "the server was closed", stream=0, ack=0))
    assert initiator.stream.ending == Ending(How.REFUSED, Code.STOPPED, "the server was closed")


def test_a_responder_that_answered_cannot_refuse_any_more(initiator: Scene) -> None:
    initiator.peer_says(message(b"answer"), reset(Code.STOPPED, "stopping"))
    assert initiator.stream.ending == Ending(How.BROKEN, Code.STOPPED, "stopping")


def test_an_initiator_cannot_refuse(responder: Scene) -> None:
    responder.peer_says(reset(Code.STOPPED, "stopping"))
    assert responder.stream.ending is not None
    assert responder.stream.ending.how is How.BROKEN


# --- the end of the connection ------------------------------------------------------------------


def test_an_end_of_bytes_without_a_goodbye_is_a_cut(responder: Scene) -> None:
    responder.peer_says(message(b"last"))
    responder.machine.feed_end()
    responder.machine.feed_end()
    responder.we_see(responder.touched(), NOBODY)
    text = "the peer's process or the way to it is gone: end of data, no goodbye"
    assert responder.stream.ending == Ending(How.CUT, Code.INTERNAL, text)
    assert responder.we_read() == b"last"


def test_an_end_of_bytes_behind_a_goodbye_is_in_good_order(responder: Scene) -> None:
    responder.peer_says(goodbye())
    responder.machine.feed_end()
    assert responder.stream.ending is not None
    assert responder.stream.ending.how is How.GOODBYE


def test_nothing_is_said_on_a_connection_that_is_over(responder: Scene) -> None:
    machine, stream = responder.machine, responder.stream
    responder.we_write(b"in vain")
    machine.cut("gone")
    machine.take_events()
    machine.goodbye(stream)
    machine.ask_ack(stream)
    machine.leave(Code.CLOSED, "bye")
    machine.begin(stream, 0, 5)
    machine.more(stream, memoryview(b"abc"))
    machine.cut("again")
    assert machine.next_timer() is None
    responder.silence()


def test_leaving_lets_the_conversation_come_to_its_own_end(responder: Scene) -> None:
    responder.we_write(b"before")
    responder.machine.leave(Code.CLOSED, "bye")
    responder.we_say(message(b"before"), goodbye(text="bye", stream=0))
    responder.peer_says(message(b"last", ack=1))
    assert responder.we_read() == b"last"
    responder.peer_says(goodbye(taken=1, ack=1))
    assert responder.machine.ending is None
    responder.machine.take_events()
    responder.machine.goodbye(responder.stream)
    responder.we_say(goodbye(taken=1, ack=1))
    responder.we_see(NOBODY)
    assert responder.machine.ending == Ending(
        How.GOODBYE, Code.CLOSED, "the last conversation is over"
    )
    assert responder.stream.confirmed == 1


def test_leaving_without_a_conversation_is_the_end(service: Scene) -> None:
    service.machine.leave(Code.CLOSED, "bye")
    service.we_say(goodbye(text="bye", stream=0))
    service.we_see(NOBODY)
    assert service.machine.ending == Ending(How.GOODBYE, Code.CLOSED, "bye")


def test_leaving_for_another_reason_resets(responder: Scene) -> None:
    responder.machine.leave(Code.STOPPED, "the server was closed")
    responder.we_say(reset(Code.STOPPED, "the server was closed", stream=0))
    assert responder.stream.ending == Ending(How.BROKEN, Code.STOPPED, "the server was closed")


@pytest.mark.parametrize(
    ("said", "shown"), [("bye", "bye"), ("", "the peer closed the connection")]
)
def test_a_peer_that_leaves_without_a_conversation_is_gone(
    service: Scene, said: str, shown: str
) -> None:
    service.peer_says(goodbye(text=said, stream=0))
    assert service.machine.ending == Ending(How.GOODBYE, Code.CLOSED, shown)


def test_a_peer_that_leaves_goes_on_with_its_conversation(responder: Scene) -> None:
    responder.peer_says(goodbye(text="bye", stream=0), message(b"last"), goodbye())
    assert responder.we_read() == b"last"
    assert responder.machine.ending is None
    responder.machine.goodbye(responder.stream)
    assert responder.machine.ending is not None
    assert responder.machine.ending.how is How.GOODBYE
    assert responder.stream.ending == Ending(How.GOODBYE, Code.CLOSED, "the peer closed")


def test_a_peer_that_left_and_is_cut_leaves_its_conversation_incomplete(
    responder: Scene,
) -> None:
    responder.peer_says(goodbye(text="bye", stream=0))
    responder.machine.feed_end()
    assert responder.stream.ending is not None
    assert responder.stream.ending.how is How.CUT


def test_what_a_refused_conversation_confirmed_was_read_by_nobody(initiator: Scene) -> None:
    initiator.we_write(b"to nobody")
    initiator.machine.take_output()
    initiator.peer_says(credit(WINDOW, ack=1))
    assert initiator.stream.confirmed == 1
    initiator.peer_says(reset(Code.STOPPED, "stopped", ack=1))
    assert initiator.stream.ending is not None
    assert initiator.stream.ending.how is How.REFUSED
    assert initiator.stream.confirmed == 0
