"""What machines that are silent have in common stays empty, whoever speaks."""

from __future__ import annotations

import pytest
from wire_play import Scene, announce, bundle, message, more, start

from compoint.core._lives import _NONE
from compoint.core.connection import Connection, Side
from compoint.core.greeting import Mode
from compoint.core.stream import NOTHING, Stream


@pytest.mark.parametrize("has_waiters", [False, True])
@pytest.mark.parametrize(
    "said", [[message(b"x")], [bundle(b"x", b"y")], [start(1), more(b"x")], [message(b"x", form=1)]]
)
def test_a_message_is_nobody_elses(said, has_waiters: bool) -> None:
    speaker, silent = (Scene(Side.RESPONDER).after_greetings() for _ in range(2))
    assert speaker.stream.inbox is silent.stream.inbox is NOTHING
    speaker.stream.has_waiters = has_waiters
    speaker.peer_says(*said)
    assert speaker.stream.inbox
    assert not silent.stream.inbox
    assert not NOTHING


def test_a_channel_is_on_no_other_connection() -> None:
    plain = Scene(Side.RESPONDER).after_greetings()
    service = Scene(Side.RESPONDER, Mode.CHANNELS).after_greetings()
    caller = Scene(Side.INITIATOR, Mode.CHANNELS)
    service.peer_says(announce(1))
    channel = caller.machine.announce("orders")
    plain.peer_says(announce(2))
    assert list(service.machine.streams) == [1]
    assert list(caller.machine.streams.values()) == [channel]
    assert plain.machine.streams == {1: plain.stream}
    assert not _NONE


def test_a_plain_conversation_that_is_over_lives_no_more() -> None:
    scene = Scene(Side.RESPONDER).after_greetings()
    scene.machine.forget(scene.stream)
    assert not scene.machine.streams
    scene.peer_says(message(b"late"))
    assert not scene.stream.inbox


@pytest.mark.parametrize("kind", [Connection, Stream])
def test_it_has_no_dictionary_of_its_own(kind: type) -> None:
    assert not any("__dict__" in vars(base) for base in kind.__mro__)
