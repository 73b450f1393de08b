"""The greeting phase: who may talk at all."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from wire_play import (
    FIRST,
    NOBODY,
    WINDOW,
    Frame,
    Scene,
    announce,
    bundle,
    credit,
    goodbye,
    greeting,
    message,
    ping,
    pong,
    reset,
    start,
)

from compoint.core.codes import Code, Ending, How
from compoint.core.connection import Connection, Happening, Side
from compoint.core.foreign import HTTP_ANSWER
from compoint.core.framing import Kind
from compoint.core.greeting import Mode, Refusal
from compoint.limits import EARLY_BYTES, GREETING_S

GREETED = (Happening.GREETED, None)
Stage = Callable[..., Scene]


# --- in good order ----------------------------------------------------------------------------


def test_an_initiator_speaks_first_and_may_write_at_once(stage: Stage) -> None:
    scene = stage(Side.INITIATOR)
    scene.we_write(b"early")
    scene.we_say(scene.ours, message(b"early"))
    assert scene.stream.out_limit == FIRST
    scene.peer_greets()
    scene.we_see(GREETED, scene.touched())
    assert scene.stream.out_limit == WINDOW
    scene.silence()


def test_a_responder_answers_when_its_shell_says_so(stage: Stage) -> None:
    scene = stage(Side.RESPONDER)
    scene.silence()
    scene.peer_greets(path="/orders")
    scene.we_see(GREETED)
    scene.we_say()
    assert scene.machine.asking is not None
    assert scene.machine.asking.path == "/orders"
    scene.machine.welcome()
    scene.we_say(scene.ours)
    scene.we_see(scene.touched())
    assert scene.machine.asking is None
    scene.machine.welcome()
    scene.silence()


def test_what_came_behind_the_greeting_is_read_after_the_welcome(stage: Stage) -> None:
    scene = stage(Side.RESPONDER)
    scene.peer_says(greeting(Mode.PLAIN), message(b"one"))
    scene.peer_says(message(b"two"))
    scene.we_see(GREETED)
    scene.machine.welcome()
    scene.we_see(scene.touched())
    assert list(scene.stream.inbox) == [b"one", b"two"]


def test_what_came_behind_the_welcome_is_read_with_it(stage: Stage) -> None:
    scene = stage(Side.INITIATOR)
    scene.peer_says(greeting(Mode.WELCOME), message(b"hello"))
    scene.we_see(GREETED, scene.touched())
    assert list(scene.stream.inbox) == [b"hello"]


def test_a_smaller_window_of_the_peer_takes_no_credit_back(stage: Stage) -> None:
    scene = stage(Side.INITIATOR)
    scene.peer_greets(window=FIRST)
    assert scene.stream.out_limit == FIRST


def test_a_connection_of_channels_has_no_plain_stream(caller: Scene, service: Scene) -> None:
    assert caller.machine.plain is None
    assert service.machine.plain is None


def test_a_channel_may_be_announced_before_the_welcome(stage: Stage) -> None:
    scene = stage(Side.INITIATOR, Mode.CHANNELS)
    stream = scene.machine.announce("orders")
    scene.we_write(b"early", stream)
    scene.we_say(scene.ours, announce(1), message(b"early"))
    scene.peer_greets()
    scene.we_see(GREETED, scene.touched(stream))


def test_a_status_asker_gets_one_message_and_a_goodbye(stage: Stage) -> None:
    scene = stage(Side.INITIATOR, Mode.STATUS)
    scene.we_say(scene.ours)
    scene.peer_says(greeting(Mode.WELCOME), message(b"\x80", form=2), goodbye())
    scene.we_see(GREETED, scene.touched())
    assert list(scene.stream.inbox) == [(2, b"\x80")]
    assert scene.stream.ending == Ending(How.GOODBYE, Code.CLOSED, "the peer closed")


def test_a_status_is_answered_on_the_one_stream(stage: Stage) -> None:
    scene = stage(Side.RESPONDER, Mode.STATUS)
    scene.peer_greets()
    scene.machine.welcome()
    scene.we_write(b"\x80", form=2)
    scene.machine.goodbye(scene.stream)
    scene.we_say(scene.ours, message(b"\x80", form=2), goodbye(flags=1))


def test_a_large_status_leaves_whole_all_the_same(stage: Stage) -> None:
    scene = stage(Side.RESPONDER, Mode.STATUS)
    scene.peer_greets()
    scene.machine.welcome()
    scene.we_write(bytes(20_000), form=2)
    scene.we_say(scene.ours, start(20_000, form=2), Frame(Kind.MORE, bytes(20_000)))


# --- refusals ---------------------------------------------------------------------------------


def test_a_responder_refuses_with_a_code_and_a_sentence(stage: Stage) -> None:
    scene = stage(Side.RESPONDER)
    scene.peer_says(greeting(Mode.PLAIN), message(b"in vain"))
    scene.machine.refuse(Code.BUSY, "4 are waiting", retry_after_s=1.0)
    scene.we_say(Refusal(Code.BUSY, "4 are waiting", 1.0))
    scene.we_see(GREETED, NOBODY)
    scene.peer_says(message(b"still in vain"))
    scene.machine.welcome()
    scene.machine.refuse(Code.STOPPED, "too late to refuse")
    scene.silence()


def test_a_refused_initiator_knows_why_and_when_to_come_again(stage: Stage) -> None:
    scene = stage(Side.INITIATOR)
    scene.we_write(b"in vain")
    scene.peer_says(Refusal(Code.BUSY, "4 are waiting", 1.0))
    scene.we_see(scene.touched(), NOBODY)
    assert scene.stream.ending == Ending(How.REFUSED, Code.BUSY, "4 are waiting", 1.0)
    assert scene.stream.confirmed == 0
    assert not scene.stream.is_open


def test_frames_sent_behind_a_refused_greeting_are_not_sent_any_more(stage: Stage) -> None:
    scene = stage(Side.INITIATOR)
    scene.we_say(scene.ours)
    scene.we_write(b"in vain")
    scene.peer_says(Refusal(Code.STOPPED, "closed"))
    scene.we_say()
    assert not scene.machine.has_output


@pytest.mark.parametrize(
    ("code", "how"),
    [
        (Code.BAD_GREETING, How.FOREIGN),
        (Code.VERSION, How.VERSION),
        (Code.GREETING_TIMEOUT, How.REFUSED),
        (Code.NOT_LOCAL, How.REFUSED),
    ],
)
def test_each_refusal_ends_in_its_way(stage: Stage, code: Code, how: How) -> None:
    scene = stage(Side.INITIATOR)
    scene.peer_says(Refusal(code, "no"))
    assert scene.machine.ending == Ending(how, code, "no")


def test_a_responder_that_leaves_before_its_answer_refuses(stage: Stage) -> None:
    scene = stage(Side.RESPONDER)
    scene.peer_greets()
    scene.machine.leave(Code.STOPPED, "the server was closed")
    scene.we_say(Refusal(Code.STOPPED, "the server was closed"))


def test_a_peer_that_floods_an_unanswered_greeting_is_refused(stage: Stage) -> None:
    scene = stage(Side.RESPONDER)
    scene.peer_greets()
    scene.peer_says(bytes(EARLY_BYTES))
    scene.we_see(GREETED)
    scene.peer_says(b"x")
    text = f"more than {EARLY_BYTES} bytes behind a greeting without an answer"
    scene.we_say(Refusal(Code.CREDIT_OVERRUN, text))
    scene.we_see(NOBODY)


# --- other versions, other protocols ----------------------------------------------------------


def test_a_newer_peer_is_told_the_version_of_this_side(stage: Stage) -> None:
    scene = stage(Side.RESPONDER)
    scene.peer_greets(newest=3, oldest=2)
    text = "this side speaks version 1 of the protocol, the peer versions 2 to 3"
    scene.we_say(Refusal(Code.VERSION, text))
    scene.we_see(NOBODY)
    assert scene.machine.ending == Ending(How.VERSION, Code.VERSION, text)


def test_an_initiator_does_not_answer_another_version(stage: Stage) -> None:
    scene = stage(Side.INITIATOR)
    scene.we_say(scene.ours)
    scene.peer_says(Refusal(Code.VERSION, "too old", newest=2, oldest=2))
    scene.we_say()
    assert scene.machine.ending is not None
    assert scene.machine.ending.how is How.VERSION


FOREIGN = {
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n": "an HTTP request",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03": "a TLS handshake",
    b"SSH-2.0-OpenSSH_9.6\r\n": "an SSH banner",
    b"220 mail.example ESMTP\r\n": "a mail or FTP server",
    b"\xff\x00\x00\x00\x00\x00\x00\x00\x01\x7f": "a ZeroMQ greeting",
    bytes(range(40, 90)): "no protocol we know",
}


@pytest.mark.parametrize("side", Side)
@pytest.mark.parametrize("data", FOREIGN)
@pytest.mark.parametrize("step", [1, 3, 1000])
def test_a_foreign_peer_is_named(stage: Stage, side: Side, data: bytes, step: int) -> None:
    scene = stage(side)
    scene.machine.take_output()
    for at in range(0, len(data), step):
        scene.peer_says(data[at : at + step])
    ending = scene.machine.ending
    assert ending is not None
    assert (ending.how, ending.code) == (How.FOREIGN, Code.BAD_GREETING)
    assert FOREIGN[data] in ending.text
    said = b"".join(scene.machine.take_output())
    if side is Side.INITIATOR:
        assert said == b""
    elif data.startswith(b"GET"):
        assert said == HTTP_ANSWER
    else:
        assert said.startswith(b"\x93ComPt\r\n")
        assert FOREIGN[data].encode() in said


@pytest.mark.parametrize(
    ("side", "said"),
    [
        (Side.RESPONDER, greeting(Mode.WELCOME)),
        (Side.RESPONDER, Refusal(Code.BUSY, "no")),
        (Side.INITIATOR, greeting(Mode.PLAIN)),
    ],
)
def test_a_greeting_in_the_wrong_direction_is_foreign(
    stage: Stage, side: Side, said: object
) -> None:
    scene = stage(side)
    scene.peer_says(said)  # type: ignore[arg-type]
    assert scene.machine.ending is not None
    assert scene.machine.ending.how is How.FOREIGN
    assert "in the wrong direction" in scene.machine.ending.text


# --- silence and ends -------------------------------------------------------------------------


def test_a_responder_gives_a_silent_peer_up_in_time(stage: Stage) -> None:
    scene = stage(Side.RESPONDER)
    assert scene.machine.next_timer() == GREETING_S
    scene.machine.on_timer(GREETING_S - 0.1)
    scene.silence()
    scene.machine.on_timer(GREETING_S)
    scene.we_say(Refusal(Code.GREETING_TIMEOUT, "no greeting within 10 s"))
    scene.we_see(NOBODY)
    assert scene.machine.next_timer() is None
    scene.machine.on_timer(1e9)
    scene.silence()


def test_a_peer_that_nobody_answers_is_told_so(stage: Stage) -> None:
    scene = stage(Side.RESPONDER)
    scene.peer_greets()
    scene.machine.on_timer(GREETING_S)
    text = "nobody answered the greeting within 10 s"
    scene.we_say(Refusal(Code.GREETING_TIMEOUT, text))


def test_an_initiator_gives_a_silent_peer_up_in_time(stage: Stage) -> None:
    scene = stage(Side.INITIATOR)
    scene.machine.on_timer(GREETING_S)
    text = "the peer took the connection and said nothing for 10 s"
    assert scene.stream.ending == Ending(How.FOREIGN, Code.GREETING_TIMEOUT, text)


def test_the_time_for_a_greeting_can_be_shorter() -> None:
    machine = Connection(Side.RESPONDER, greeting(Mode.WELCOME), 5.0, greeting_s=2.0)
    assert machine.next_timer() == 7.0


@pytest.mark.parametrize(("seen", "shown"), [(b"", ""), (b"GE", " after b'GE'")])
def test_an_end_before_the_welcome_says_what_was_seen(
    stage: Stage, seen: bytes, shown: str
) -> None:
    scene = stage(Side.INITIATOR)
    scene.peer_says(seen)
    scene.machine.feed_end()
    text = f"the peer closed the connection before its greeting{shown}"
    assert scene.machine.ending == Ending(How.FOREIGN, Code.BAD_GREETING, text)


def test_a_peer_that_left_while_it_was_asking_is_cut(stage: Stage) -> None:
    scene = stage(Side.RESPONDER)
    scene.peer_greets()
    scene.machine.feed_end()
    assert scene.machine.ending is not None
    assert scene.machine.ending.how is How.CUT
    scene.machine.welcome()
    assert scene.machine.plain is None


def test_half_a_foreign_word_and_an_end_is_foreign(stage: Stage) -> None:
    scene = stage(Side.RESPONDER)
    scene.peer_says(b"GE")
    scene.machine.feed_end()
    assert scene.machine.ending is not None
    assert scene.machine.ending.how is How.FOREIGN


def test_who_comes_and_goes_without_a_word_is_just_gone(stage: Stage) -> None:
    scene = stage(Side.RESPONDER)
    scene.machine.feed_end()
    assert scene.machine.ending is not None
    assert scene.machine.ending.how is How.CUT


# --- heartbeats -------------------------------------------------------------------------------


def beating(stage: Stage, ours_ms: int, theirs_ms: int) -> Scene:
    scene = stage(Side.RESPONDER, heartbeat_ms=ours_ms)
    return scene.after_greetings(heartbeat_ms=theirs_ms)


def test_a_silent_peer_is_asked_three_times_and_then_given_up(stage: Stage) -> None:
    scene = beating(stage, 2000, 4000)
    for now in (2.0, 4.0, 6.0):
        assert scene.machine.next_timer() == now
        scene.machine.on_timer(now)
        scene.we_say(ping())
    scene.machine.on_timer(8.0)
    scene.we_say()
    text = "no sign of life from the peer for 8 s"
    assert scene.machine.ending == Ending(How.CUT, Code.SILENT, text)
    assert scene.stream.ending == scene.machine.ending


def test_any_byte_is_a_sign_of_life(stage: Stage) -> None:
    scene = beating(stage, 2000, 2000)
    scene.machine.on_timer(2.0)
    scene.now = 3.0
    scene.peer_says(pong())
    assert scene.machine.next_timer() == 5.0


def test_a_sign_of_life_is_given(responder: Scene) -> None:
    responder.peer_says(ping())
    responder.we_say(pong())


@pytest.mark.parametrize(("ours", "theirs"), [(0, 1000), (1000, 0)])
def test_either_side_can_turn_heartbeats_off(stage: Stage, ours: int, theirs: int) -> None:
    assert beating(stage, ours, theirs).machine.next_timer() is None


def test_a_peer_cannot_make_this_side_beat_wildly(stage: Stage) -> None:
    assert beating(stage, 10_000, 1).machine.next_timer() == 1.0


# --- statistics -------------------------------------------------------------------------------


def test_the_statistics_count_what_came(stage: Stage) -> None:
    scene = stage(Side.RESPONDER)
    assert not scene.machine.statistics().is_greeted
    scene.after_greetings()
    before = scene.machine.statistics()
    scene.now = 2.5
    scene.peer_says(message(b"one"), bundle(b"two", b"three"), credit(WINDOW * 2))
    after = scene.machine.statistics()
    assert (after.streams, after.frames_in - before.frames_in) == (1, 3)
    assert after.bytes_in - before.bytes_in == 19 + 16 + 12 + 8 + 24
    assert (after.heard_at, after.is_greeted, after.ending) == (2.5, True, None)
    scene.peer_says(reset(Code.STOPPED, "closed", stream=0))
    assert scene.machine.statistics().ending is scene.machine.ending
