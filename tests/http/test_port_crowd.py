"""The port and many peers at once, answered by several threads in any order."""

from __future__ import annotations

import contextlib
import random
from concurrent.futures import ThreadPoolExecutor

import pytest
from port_kit import TEXT, Desk, Peer, Visit, get, post, serving

from compoint.testing import Background

PEERS = 16
REQUESTS = 40


def answer_somehow(visit: Visit, how: int) -> None:
    """The request's own body, whole or in pieces."""
    body = visit.body
    if how % 3:
        visit.exchange.answer(200, TEXT, body)
        return
    visit.exchange.start(200, TEXT)
    for at in range(0, len(body), 10_000):
        visit.exchange.send(body[at : at + 10_000])
    visit.exchange.end()


def converse(peer: Peer, chance: random.Random) -> None:
    """Some requests, several of them ahead of their answers; each gets its own answer."""
    awaited: list[bytes] = []
    for number in range(REQUESTS):
        body = b"%d:" % number + chance.randbytes(chance.choice([0, 10, 1000, 40_000]))
        if chance.random() < 0.5:
            peer.say(post(body))
        else:
            head = get("/", "Transfer-Encoding: chunked", method="POST")
            peer.say(head + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body))
        awaited.append(body)
        while awaited and chance.random() < 0.6:
            assert peer.hear().body == awaited.pop(0)
    for body in awaited:
        assert peer.hear().body == body


@pytest.mark.parametrize("seed", range(4))
def test_every_peer_gets_its_own_answers_in_order(seed: int) -> None:
    chance = random.Random(seed)
    with ThreadPoolExecutor(3, thread_name_prefix="answering") as threads:

        def complete(visit: Visit) -> None:
            how = chance.randrange(12)
            if how < 4:
                answer_somehow(visit, how)
            else:
                threads.submit(answer_somehow, visit, how)

        with serving(Desk({"complete": complete}), half_closed_s=0.01) as scene:
            peers = scene.peers(PEERS)
            talks = [
                Background(converse, peer, random.Random(seed * 100 + number))
                for number, peer in enumerate(peers)
            ]
            for talk in talks:
                talk.result(within_s=30)
            for peer in peers:
                peer.close()
            scene.is_empty()
            assert scene.statistics.requests == PEERS * REQUESTS
            assert all("gone" not in visit.told for visit in scene.desk.visits)


@pytest.mark.parametrize("seed", range(4))
def test_peers_that_leave_at_any_moment_leave_nothing_behind(seed: int) -> None:
    chance = random.Random(seed)
    with ThreadPoolExecutor(2, thread_name_prefix="answering") as threads:

        def complete(visit: Visit) -> None:
            how = chance.randrange(12)
            if how < 4:
                answer_somehow(visit, how)
            else:
                threads.submit(answer_somehow, visit, how)

        def leave(own: random.Random) -> None:
            for _ in range(15):
                with Peer(scene.number) as peer:
                    data = post(own.randbytes(own.choice([0, 100, 100_000]))) * own.randrange(1, 4)
                    with contextlib.suppress(ConnectionError):
                        peer.say(data[: own.randrange(len(data) + 1)])
                        if own.random() < 0.3:
                            peer.end()
                    if own.random() < 0.5:
                        peer.reset()

        with serving(Desk({"complete": complete}), half_closed_s=0.01) as scene:
            leaving = [Background(leave, random.Random(seed * 100 + one)) for one in range(8)]
            for one in leaving:
                one.result(within_s=30)
            for _ in range(4):
                scene.turn()  # some have left and were not even accepted yet
            scene.is_empty()
            threads.shutdown()
            for visit in scene.desk.visits:
                assert visit.told.count("gone") <= 1
                assert visit.told[-1] in {"complete", "gone", "room"}
