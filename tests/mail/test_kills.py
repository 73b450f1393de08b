"""Programs that talk over mail are killed, and go on: nothing is lost, nothing comes twice."""

from __future__ import annotations

import itertools
import random
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
from kill_kit import Box, Nursery, ReceiverBox, Two, lost_reads, two_at_work
from world_kit import GOOD, Weather


@pytest.fixture(scope="module")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    one = Nursery(tmp_path_factory.mktemp("nursery") / "complaints")
    yield one
    one.close()


# --- at each step that lasts ----------------------------------------------------------------


def _killed_at(nursery: Nursery, folder: Path, who: str, when: str, number: int) -> bool:
    """A short conversation; whether the process came to the step and was killed there."""
    folder.mkdir()
    with two_at_work(nursery, folder, total=2) as two:
        victim, other = two.initiator, two.responder
        if who == "responder":
            victim, other = other, victim
        two.start(other)
        two.start(victim, kill=[number, when])
        was_killed = two.until(lambda: two.is_over, victim)
        if was_killed:
            assert two.running.pop(victim.mailbox).wait() == -signal.SIGKILL
            two.start(victim)
            two.finish()
        else:
            # A step of the end may be the one.
            two.stop(may_be_killed=True)
        lost = lost_reads(victim, 2)
        assert lost <= was_killed
        assert lost_reads(other, 2) == 0
        return was_killed


@pytest.mark.parametrize("who", ["initiator", "responder"])
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.timeout(600)
def test_killed_at_any_step_that_lasts_it_goes_on(
    nursery: Nursery, tmp_path: Path, who: str, when: str
) -> None:
    def killed_at(number: int) -> bool:
        return _killed_at(nursery, tmp_path / f"{number}", who, when, number)

    steps = 0
    # Most of their time the programs wait for mails, and for each other.
    with ThreadPoolExecutor(4) as lanes:
        while all([*lanes.map(killed_at, range(steps + 1, steps + 9))]):
            steps += 8
    assert steps >= 16


# --- at random moments ----------------------------------------------------------------------

_KILLS = 6
_MANY = 60


def _until_read(two: Two, box: Box, count: int) -> None:
    assert not two.until(lambda: len(box.notes("read")) >= count, box)


def _talk_with_kills(two: Two, seed: int, *victims: Box) -> None:
    """A long conversation in which each victim is killed again and again."""
    chance = random.Random(seed)
    two.start(two.responder)
    two.start(two.initiator)
    for turn, box in itertools.product(range(1, _KILLS + 1), victims):
        _until_read(two, box, _MANY * turn // (_KILLS + 1))
        assert not two.running[box.mailbox].has_ended.wait(chance.uniform(0.0, 0.05))
        two.kill(box)
        two.start(box)
    two.finish()
    for box in (two.initiator, two.responder):
        assert lost_reads(box, _MANY) <= _KILLS * (box in victims)


@pytest.mark.timeout(300)
def test_a_responder_that_is_killed_again_and_again_goes_on(
    nursery: Nursery, tmp_path: Path
) -> None:
    with two_at_work(nursery, tmp_path, _MANY) as two:
        _talk_with_kills(two, 1, two.responder)


@pytest.mark.timeout(300)
def test_an_initiator_that_is_killed_again_and_again_goes_on(
    nursery: Nursery, tmp_path: Path
) -> None:
    with two_at_work(nursery, tmp_path, _MANY) as two:
        _talk_with_kills(two, 2, two.initiator)


@pytest.mark.timeout(300)
def test_both_are_killed_again_and_again_in_bad_weather(nursery: Nursery, tmp_path: Path) -> None:
    weather = Weather(lost=0.1, doubled=0.2, late=0.1)
    with two_at_work(nursery, tmp_path, _MANY, weather) as two:
        _talk_with_kills(two, 3, two.initiator, two.responder)


@pytest.mark.timeout(300)
def test_channels_and_service_points_go_on_as_well(nursery: Nursery, tmp_path: Path) -> None:
    with two_at_work(nursery, tmp_path, _MANY, is_channel=True) as two:
        _talk_with_kills(two, 4, two.initiator, two.responder)


@pytest.mark.timeout(300)
def test_receiver_programs_that_are_killed_lose_and_double_nothing(
    nursery: Nursery, tmp_path: Path
) -> None:
    chance = random.Random(5)
    with two_at_work(nursery, tmp_path, 20) as two, ExitStack() as receivers:
        boxes = []
        for box in (two.initiator, two.responder):
            two.way._boxes[box.mailbox] = receiver = ReceiverBox(box, chance, kill=0.7)
            receivers.callback(receiver.stop)
            boxes.append(receiver)
        two.start(two.responder)
        two.start(two.initiator)
        two.finish()
        assert sum(box.killed for box in boxes) > 5
        assert lost_reads(two.initiator, 20) == lost_reads(two.responder, 20) == 0


# --- what else may happen ---------------------------------------------------------------------


def test_what_an_initiator_without_a_name_had_said_arrives_and_then_the_peer_sees_the_end(
    nursery: Nursery, tmp_path: Path
) -> None:
    with two_at_work(nursery, tmp_path, 3) as two:
        two.way.weather = Weather(lost=1.0)
        two.start_other(two.responder, "listen until lost")
        two.start_other(two.initiator, "say and wait")
        two.until(lambda: len(two.initiator.notes("wrote")) == 3, two.responder)
        two.kill(two.initiator)
        assert not two.responder.notes()
        two.way.weather = GOOD
        two.start_other(two.initiator, "hold open")
        two.until(lambda: two.responder.has_noted("raised"), two.responder)
        *read, raised = two.responder.notes()
        assert read == [["read", 1], ["read", 2], ["read", 3]]
        assert raised[1] == "SessionLostError"
        two.until(lambda: not two.initiator.conversations, two.responder)
        two.until(lambda: not two.responder.conversations, two.responder)
        two.stop()


def test_mails_that_are_in_the_drop_box_again_after_a_power_cut_double_nothing(
    nursery: Nursery, tmp_path: Path
) -> None:
    seen: list[tuple[str, bytes, str]] = []
    with two_at_work(nursery, tmp_path, 20) as two:
        two.way.watch = lambda sender, recipient, mail: seen.append((recipient, mail, sender))
        two.start(two.responder)
        two.start(two.initiator)
        for mark, box in [(5, two.responder), (10, two.initiator), (15, two.responder)]:
            _until_read(two, box, mark)
            two.kill(box)
            for one in [*seen]:
                two.way.deliver(*one)
            two.start(box)
        two.finish()
        assert lost_reads(two.initiator, 20) <= 1
        assert lost_reads(two.responder, 20) <= 2


def test_a_full_disk_is_one_clear_error_and_with_room_again_the_conversation_goes_on(
    nursery: Nursery, tmp_path: Path
) -> None:
    with two_at_work(nursery, tmp_path, 0) as two:
        two.start_other(two.responder, "listen until lost")
        two.start_other(two.initiator, "fill the disk", times=3)
        two.until(lambda: two.initiator.has_noted("done"), two.responder)
        raised = two.initiator.notes("raised")
        assert len(raised) == 3
        assert all("the disk of the spool folder is full" in text for _, _, text in raised)
        ((_, _, written, reason),) = two.initiator.notes("done")
        assert not reason
        two.until(lambda: two.responder.has_noted("raised"), two.responder)
        *read, (_, error, _) = two.responder.notes()
        assert error == "EndOfMessages"
        assert read == [["read", number] for number in range(1, written + 1)]
        two.stop()
