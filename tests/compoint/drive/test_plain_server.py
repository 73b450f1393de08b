"""The threads that wait in `accept`."""

from __future__ import annotations

import threading
from typing import Final

import pytest

from compoint import COMPOINT_INITIATOR, COMPOINT_SERVER, ComManager, ComPoint, ComPointAddress
from compoint.drive import plain
from compoint.drive.waiter import Waiter
from compoint.testing import Background

PATIENCE_S: Final = 5.0


def test_of_two_arrivals_each_wakes_a_thread_though_the_first_thread_is_slow(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    is_awake, may_go_on = threading.Event(), threading.Event()

    class SlowWaiter(Waiter):
        def sleep(self, timeout_s: float | None) -> bool:
            woken = super().sleep(timeout_s)
            if threading.current_thread() is slow.thread:
                is_awake.set()
                may_go_on.wait(PATIENCE_S)
            return woken

    monkeypatch.setattr(plain, "Waiter", SlowWaiter)
    with ComManager.com_point(COMPOINT_SERVER, ComPointAddress("memory", 0)) as server:
        slow: Background[ComPoint] = Background(server.accept)
        slow.blocked()
        other = Background(server.accept).blocked()
        come = [ComManager.com_point(COMPOINT_INITIATOR, server.address)]
        assert is_awake.wait(PATIENCE_S)
        come.append(ComManager.com_point(COMPOINT_INITIATOR, server.address))
        try:
            taken = [other.result(PATIENCE_S)]
        finally:
            may_go_on.set()
        taken.append(slow.result(PATIENCE_S))
        for point in [*come, *taken]:
            point.abort("the test is over")
