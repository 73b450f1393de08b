"""The bell by which one thread wakes another that waits on descriptors."""

from __future__ import annotations

import os
import socket
import threading

from compoint.drive.pump import Bell


def test_a_ring_never_reaches_a_descriptor_that_took_the_place_of_a_closed_bell() -> None:
    # Seen as eight bytes too many in somebody's HTTP request, once in some hundred ends of
    # service points on a busy machine.
    stray: list[bytes] = []
    for _ in range(300):
        bell = Bell()
        has_begun = threading.Event()

        def ring(bell: Bell = bell, has_begun: threading.Event = has_begun) -> None:
            has_begun.set()
            for _ in range(40):
                bell.ring()

        ringing = threading.Thread(target=ring)
        ringing.start()
        has_begun.wait()
        bell.close()
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ringing.join()
            for one in (ours, theirs):
                one.setblocking(False)
                try:
                    stray.append(one.recv(100))
                except BlockingIOError:
                    pass
    assert stray == []


def test_a_closed_bell_may_be_rung_quieted_and_closed_again() -> None:
    bell = Bell()
    bell.close()
    bell.ring()
    bell.quiet()
    bell.close()
    assert bell.fileno() == -1


def test_a_bell_that_rings_already_takes_another_ring() -> None:
    bell = Bell()
    bell.ring()
    bell.ring()
    bell.quiet()
    assert os.get_blocking(bell.fileno()) is False
    bell.quiet()
    bell.close()
