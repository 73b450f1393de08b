"""What nobody has taken stays within bounds: by conversation, by peer, and in all."""

from __future__ import annotations

from mail._backlog import Backlog, BacklogBounds

ONE = (b"1" * 16, False)
OTHER = (b"2" * 16, False)
BOUNDS = BacklogBounds(per_conversation=10, per_peer=15, in_all=20)


def test_a_conversation_has_room_until_its_bound_is_reached() -> None:
    backlog = Backlog(BOUNDS)
    backlog.note(ONE, "a@a.test", 9)
    assert backlog.has_room(ONE, "a@a.test")
    backlog.note(ONE, "a@a.test", 10)
    assert not backlog.has_room(ONE, "a@a.test")
    assert backlog.has_room(OTHER, "a@a.test")


def test_all_conversations_of_a_peer_share_its_bound() -> None:
    backlog = Backlog(BOUNDS)
    backlog.note(ONE, "a@a.test", 9)
    backlog.note(OTHER, "A@a.test", 6)
    assert not backlog.has_room((b"3" * 16, False), "a@A.test")
    assert backlog.has_room((b"3" * 16, False), "b@a.test")


def test_all_peers_share_the_bound_of_the_mailbox() -> None:
    backlog = Backlog(BOUNDS)
    for name in "abc":
        backlog.note((name.encode() * 16, False), f"{name}@a.test", 7)
    assert backlog.in_all == 21
    assert not backlog.has_room(OTHER, "d@a.test")


def test_what_a_program_takes_makes_room_again() -> None:
    backlog = Backlog(BOUNDS)
    backlog.note(ONE, "a@a.test", 10)
    backlog.note(ONE, "a@a.test", 0)
    assert backlog.has_room(ONE, "a@a.test")
    assert backlog.in_all == 0
