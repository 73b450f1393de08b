"""The queue of a service point against a list: any order of arrivals, claims and endings."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, multiple, rule

from channel.rendezvous import Bounds, Rendezvous
from compoint.core.codes import Code

BOUNDS = Bounds(channels=6, channels_per_connection=4, bytes_in_all=100, age_s=10.0)

correlators = st.sampled_from(["", "a", "b", "ä"])
connections = st.integers(1, 3)
sizes = st.sampled_from([0, 1, 20, 40, 60])
pauses = st.sampled_from([0.0, 1.0, 4.0, 9.0])


@dataclass
class Waiting:
    """One queued channel, as the model sees it."""

    arrival: int
    correlator: str
    connection: int
    arrived_at: float
    size: int = 0


class QueueAgainstList(RuleBasedStateMachine):
    """The model is a list in the order of arrival; everything is a walk through it."""

    arrivals = Bundle("arrivals")

    def __init__(self) -> None:
        super().__init__()
        self.queue: Rendezvous[int] = Rendezvous(BOUNDS)
        self.model: list[Waiting] = []
        self.now = 0.0
        self.number = 0

    def _bytes(self) -> int:
        return sum(one.size for one in self.model)

    @rule(target=arrivals, correlator=correlators, connection=connections)
    def arrive(self, correlator: str, connection: int):  # type: ignore[no-untyped-def]
        self.number += 1
        full = self.queue.arrive(self.number, correlator, connection, self.now)
        of_this = [one for one in self.model if one.connection == connection]
        if len(self.model) >= BOUNDS.channels or len(of_this) >= BOUNDS.channels_per_connection:
            expected = Code.QUEUE_FULL
        elif self._bytes() >= BOUNDS.bytes_in_all:
            expected = Code.QUEUE_BYTES
        else:
            assert full is None
            self.model.append(Waiting(self.number, correlator, connection, self.now))
            return self.number
        assert full is not None
        assert full.code is expected
        assert full.text
        return multiple()

    @rule(arrival=arrivals, size=sizes)
    def grow(self, arrival: int, size: int) -> None:
        full = self.queue.grow(arrival, size)
        entry = next((one for one in self.model if one.arrival == arrival), None)
        if entry is None:
            assert full is None
        elif size > entry.size and self._bytes() + size - entry.size > BOUNDS.bytes_in_all:
            assert full is not None
            assert full.code is Code.QUEUE_BYTES
        else:
            assert full is None
            entry.size = size

    @rule(correlator=st.none() | correlators)
    def claim(self, correlator: str | None) -> None:
        for one in self.model:
            if correlator in (None, one.correlator):
                assert self.queue.claim(correlator) == one.arrival
                self.model.remove(one)
                return
        assert self.queue.claim(correlator) is None

    @rule(arrival=arrivals)
    def withdraw(self, arrival: int) -> None:
        left = [one for one in self.model if one.arrival != arrival]
        assert self.queue.withdraw(arrival) is (len(left) < len(self.model))
        self.model = left

    @rule(pause=pauses)
    def expire(self, pause: float) -> None:
        self.now += pause
        late = [one for one in self.model if self.now - one.arrived_at >= BOUNDS.age_s]
        assert self.queue.expire(self.now) == [one.arrival for one in late]
        self.model = [one for one in self.model if one not in late]

    @rule()
    def clear(self) -> None:
        assert self.queue.clear() == [one.arrival for one in self.model]
        self.model = []

    @invariant()
    def the_queue_is_the_list(self) -> None:
        assert len(self.queue) == len(self.model)
        assert self.queue.ages(self.now) == [
            (one.arrival, self.now - one.arrived_at) for one in self.model
        ]
        assert self.queue.bytes_in_all == self._bytes()

    @invariant()
    def no_bound_is_exceeded(self) -> None:
        assert len(self.queue) <= BOUNDS.channels
        assert self.queue.bytes_in_all <= BOUNDS.bytes_in_all
        for connection in {one.connection for one in self.model}:
            of_this = [one for one in self.model if one.connection == connection]
            assert len(of_this) <= BOUNDS.channels_per_connection

    @invariant()
    def it_tells_who_waits(self) -> None:
        names = list(dict.fromkeys(one.correlator for one in self.model))
        assert sorted(self.queue.correlators(10)) == sorted(names)
        assert len(self.queue.correlators(2)) == min(2, len(names))


TestQueueAgainstList = QueueAgainstList.TestCase
TestQueueAgainstList.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_a_channel_that_has_left_the_queue_leaves_nothing_behind() -> None:
    queue: Rendezvous[int] = Rendezvous(BOUNDS)
    for number in range(4):
        queue.arrive(number, f"order {number}", number, 0.0)
        queue.grow(number, 20)
    queue.claim("order 0")
    queue.withdraw(1)
    queue.expire(100.0)
    assert (len(queue), queue.bytes_in_all, queue.correlators(9)) == (0, 0, [])
    assert not queue._by_correlator
    assert not queue._per_connection
