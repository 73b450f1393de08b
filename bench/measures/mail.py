"""By mail, through a Postfix: how long a message takes, and how many mails there are.

Skipped where Postfix is not installed, or where it cannot be started: only root may.
"""

from __future__ import annotations

import os
import statistics
import time
from typing import Final

from bench.measure import Figure, Measure, Run, Sample
from bench.peer import Line, Listener, Peer
from bench.scale import Scale

__all__ = ["BY_MAIL", "MailFlood", "MailPingPong", "MailSubmitting", "MailTime"]

#: Of submitting; the machine's disk has its moods.
_ROUNDS: Final = 5


class MailTime(Measure):
    """One message at a time, answered with the time at which it was read.

    The clock is that of the machine, so both processes have the same.
    """

    contenders = ("mail-trivial", "mail")

    @property
    def key(self) -> str:
        return "mail-time"

    def figures(self, scale: Scale) -> tuple[Figure, ...]:
        return (
            Figure("mail-submit-to-read", "Mail: from submitting to read()", "µs", True),
            Figure("mail-write-to-read", "Mail: from write() to read()", "µs", True),
        )

    def respond(self, listener: Listener, scale: Scale) -> None:
        def answer(line: Line) -> None:
            while True:
                line.receive()
                line.send(b"%d" % time.monotonic_ns())

        listener.serve(answer, in_threads=False)

    def initiate(self, peer: Peer, address: str, scale: Scale) -> Run:
        from bench.peers.mail import Mail
        from bench.peers.mail_trivial import Trivial

        assert isinstance(peer, Mail | Trivial)
        line, message = peer.connect(address), peer.message()
        written_us: list[float] = []
        submitted_us: list[float] = []
        for _ in range(2 + round(scale.measuring_s * 100)):
            written_ns = time.monotonic_ns()
            line.send(message)
            read_ns = int(line.receive())
            submitted_ns = next(at for at in peer.submitted_ns if at >= written_ns)
            written_us.append((read_ns - written_ns) / 1000)
            submitted_us.append((read_ns - submitted_ns) / 1000)
        # The first ones start the parts of Postfix that are not there yet.
        del written_us[:2], submitted_us[:2]
        return {
            "mail-submit-to-read": Sample(statistics.median(submitted_us), submitted_us),
            "mail-write-to-read": Sample(statistics.median(written_us), written_us),
        }


class MailPingPong(Measure):
    """Messages in turn, half of them each way; then the conversation is closed."""

    contenders = ("mail",)
    is_repeated = False

    @property
    def key(self) -> str:
        return "mail-ping-pong"

    def figures(self, scale: Scale) -> tuple[Figure, ...]:
        title = f"Mail: {_messages(scale)} messages, one answering the other, 64 B"
        return (Figure(self.key, title, "mails per message", True),)

    def respond(self, listener: Listener, scale: Scale) -> None:
        from bench.measure import echo

        listener.serve(echo, in_threads=False)

    def initiate(self, peer: Peer, address: str, scale: Scale) -> Run:
        line, message = peer.connect(address), peer.message()
        for _ in range(_messages(scale) // 2):
            line.send(message)
            line.receive()
        line.close()
        return {self.key: Sample(_mails() / _messages(scale))}


class MailFlood(Measure):
    """Messages one way, as fast as they can be written; one answer when all are here."""

    contenders = ("mail-default-rate",)
    is_repeated = False

    @property
    def key(self) -> str:
        return "mail-flood"

    def figures(self, scale: Scale) -> tuple[Figure, ...]:
        title = f"Mail: {self._count(scale)} messages one way, 64 B"
        return (
            Figure(self.key, title, "messages per mail", False),
            Figure("mail-flood-rate", title, "messages/s", False),
        )

    def _count(self, scale: Scale) -> int:
        return _messages(scale) * 20

    def respond(self, listener: Listener, scale: Scale) -> None:
        def count(line: Line) -> None:
            for _ in range(self._count(scale)):
                line.receive()
            line.send(b"all here")
            line.receive()

        listener.serve(count, in_threads=False)

    def initiate(self, peer: Peer, address: str, scale: Scale) -> Run:
        line, message = peer.connect(address), peer.message()
        began_at = time.perf_counter()
        for _ in range(self._count(scale)):
            line.send(message)
        line.receive()
        took_s = time.perf_counter() - began_at
        count = self._count(scale)
        return {self.key: Sample(count / _mails()), "mail-flood-rate": Sample(count / took_s)}


class MailSubmitting(Measure):
    """Mails that wait already are handed to Postfix, one after the other."""

    contenders = ("smtplib", "mail-submission", "mail-outbound")

    @property
    def key(self) -> str:
        return "mail-submit"

    def figures(self, scale: Scale) -> tuple[Figure, ...]:
        return (Figure(self.key, "Mail: submitting small mails", "mails/s", False),)

    def respond(self, listener: Listener, scale: Scale) -> None:
        listener.serve(lambda _: None, in_threads=False)

    def initiate(self, peer: Peer, address: str, scale: Scale) -> Run:
        from bench.peers.mail_submit import Submitter

        assert isinstance(peer, Submitter)
        count = _messages(scale)
        rates = [count / peer.submit(count) for _ in range(_ROUNDS)]
        return {self.key: Sample(statistics.median(rates))}


def _messages(scale: Scale) -> int:
    """100, but for a smoke run."""
    return max(10, round(scale.measuring_s * 1000 / 3))


def _mails() -> int:
    """How many mails have been delivered when no more come."""
    from bench.peers.mail_stage import FOLDER, log_of

    home = os.environ[FOLDER]
    before = -1
    while (now := log_of(home).count("status=sent")) != before:
        before = now
        time.sleep(0.5)
    return now


BY_MAIL: Final = (MailTime(), MailPingPong(), MailFlood(), MailSubmitting())
