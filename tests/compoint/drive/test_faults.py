"""Every way in which a conversation can end is an error of the right kind, with a next step."""

from __future__ import annotations

import pytest

from compoint import (
    BrokenError,
    ClosedError,
    ConnectError,
    EndOfMessages,
    Fate,
    FrameError,
    Phase,
    RefusedError,
    SessionLostError,
    VersionError,
)
from compoint.core.codes import REFUSALS, Code, Ending, How
from compoint.core.stream import Stream
from compoint.drive.faults import error_of, reason_of


def stream(written: int = 0, confirmed: int = 0) -> Stream:
    one = Stream(1, 0, 0)
    one.written, one.acked = written, confirmed
    return one


def error(how: How, code: Code = Code.INTERNAL, *, of: Stream | None = None) -> Exception:
    return error_of(Ending(how, code, "so it was"), of or stream(), "the point", Phase.READ, 1.5)


@pytest.mark.parametrize(
    ("how", "code", "kind"),
    [
        (How.GOODBYE, Code.CLOSED, EndOfMessages),
        (How.REFUSED, Code.BUSY, RefusedError),
        (How.BROKEN, Code.ABANDONED, SessionLostError),
        (How.FOREIGN, Code.BAD_GREETING, FrameError),
        (How.FOREIGN, Code.GREETING_TIMEOUT, ConnectError),
        (How.VERSION, Code.VERSION, VersionError),
        (How.CUT, Code.SILENT, SessionLostError),
        (How.FORKED, Code.INTERNAL, ClosedError),
    ],
)
def test_each_way_to_end_has_its_error(how: How, code: Code, kind: type[Exception]) -> None:
    fault = error(how, code)
    assert type(fault) is kind
    assert "the point" in str(fault)
    assert "so it was" in str(fault)


@pytest.mark.parametrize("how", [how for how in How if how is not How.GOODBYE])
def test_each_error_names_the_next_step(how: How) -> None:
    assert error(how, Code.STOPPED).hint  # type: ignore[attr-defined]


@pytest.mark.parametrize("how", [How.FOREIGN, How.VERSION])
def test_what_never_greeted_has_had_nothing(how: How) -> None:
    fault = error(how)
    assert fault.fate is Fate.NOT_SENT  # type: ignore[attr-defined]
    assert fault.phase is Phase.GREETING  # type: ignore[attr-defined]


@pytest.mark.parametrize("code", sorted(REFUSALS))
def test_a_refusal_names_its_code_in_words(code: Code) -> None:
    fault = error(How.REFUSED, code)
    assert isinstance(fault, RefusedError)
    assert fault.code == code.name.lower().replace("_", " ")
    assert f"refused ({fault.code})" in str(fault)


def test_a_refusal_that_may_pass_says_when_to_ask_again() -> None:
    ending = Ending(How.REFUSED, Code.BUSY, "later", 2.5)
    fault = error_of(ending, stream(), "the point", Phase.OPEN, None)
    assert isinstance(fault, RefusedError)
    assert fault.retry_after_s == 2.5
    assert fault.hint == "try again in 2.5 s"


@pytest.mark.parametrize(
    ("written", "confirmed", "words", "fate"),
    [
        (0, 0, "so it was", Fate.DELIVERED),
        (5, 5, "so it was", Fate.DELIVERED),
        (5, 4, "so it was; message 5 is unconfirmed", Fate.UNKNOWN),
        (5, 2, "so it was; messages 3 to 5 are unconfirmed", Fate.UNKNOWN),
    ],
)
def test_a_lost_conversation_names_what_is_unconfirmed(
    written: int, confirmed: int, words: str, fate: Fate
) -> None:
    fault = error(How.CUT, of=stream(written, confirmed))
    assert isinstance(fault, SessionLostError)
    assert isinstance(fault, BrokenError)
    assert fault.what == words
    assert fault.unconfirmed == range(confirmed + 1, written + 1)
    assert fault.fate is fate


def test_a_goodbye_that_left_messages_unread_says_how_many() -> None:
    ending = Ending(How.GOODBYE, Code.CLOSED, "the peer closed")
    assert reason_of(ending, stream(5, 3)) == "the peer closed without reading 2 of 5 messages"
    assert reason_of(ending, stream(5, 5)) == "the peer closed"
