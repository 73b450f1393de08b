"""Those who hand mails to the mail server, each with as many mails that wait already."""

from __future__ import annotations

import abc
import dataclasses
import os
import smtplib
import tempfile
import threading
import time
from typing import Final

from bench.peer import Handler, Line, Listener, Peer
from bench.peers.mail_stage import FOLDER
from bench.postfix import DOMAIN, HOST, mailbox_of
from compoint import ComManager
from compoint.core.keeping import ConnectionChanges
from compoint.deadline import clock
from mail._envelope import Place
from mail._mailbox import Post
from mail._mime import Mail, new_mail, new_message_id
from mail._outbound import Outbound
from mail._post_office import PostOffice
from mail._settings import OfficeSettings
from mail._submit import Submission

__all__ = ["Flushing", "Smtplib", "Submitter", "Submitting"]

#: What a frame has beside its message, about.
_FRAME_BYTES: Final = 230
_SENDER: Final = mailbox_of("initiator")


class _Nobody(Listener):
    """The mails go nowhere."""

    @property
    def address(self) -> str:
        return "nowhere"

    def serve(self, handle: Handler, *, in_threads: bool) -> None:
        threading.Event().wait()


class Submitter(Peer):
    """Someone with mails from one mailbox, each to another one."""

    def listen(self) -> Listener:
        return _Nobody()

    def connect(self, address: str) -> Line:
        raise NotImplementedError

    @abc.abstractmethod
    def submit(self, count: int) -> float:
        """Hand over so many mails, after a first one; the seconds that took."""

    def settings(self) -> OfficeSettings:
        """As if this were the initiator."""
        ComManager.init(os.path.join(os.environ[FOLDER], "initiator", "_sempconfig"))
        settings = ComManager.settings().mail
        assert settings is not None
        return OfficeSettings.of(settings)

    def mails(self, count: int) -> list[Mail]:
        """As ours sends them for one message each."""
        frame = os.urandom(_FRAME_BYTES + self.message_bytes)
        return [
            new_mail(
                frame, sender=_SENDER, recipient=_recipient(number),
                message_id=new_message_id(_SENDER), now=time.time(),
            )
            for number in range(count)
        ]  # fmt: skip


def _recipient(number: int) -> str:
    return f"peer{number}@{DOMAIN}"


class Smtplib(Submitter):
    """`smtplib.sendmail`."""

    def submit(self, count: int) -> float:
        mails = [b"".join(mail.pieces()) for mail in self.mails(count + 1)]
        port = int(os.environ["SMTP_PORT"])
        with smtplib.SMTP(HOST, port, local_hostname="bench") as server:
            server.sendmail(_SENDER, [_recipient(count)], mails.pop())
            began_at = clock()
            for number, mail in enumerate(mails):
                server.sendmail(_SENDER, [_recipient(number)], mail)
            return clock() - began_at


class Submitting(Submitter):
    """The room that hands over, and nothing else."""

    def submit(self, count: int) -> float:
        mails = self.mails(count + 1)
        submission = Submission(self.settings().submission)
        self._hand_over(submission, mails.pop(), count)
        began_at = clock()
        for number, mail in enumerate(mails):
            self._hand_over(submission, mail, number)
        took_s = clock() - began_at
        submission.close()
        return took_s

    def _hand_over(self, submission: Submission, mail: Mail, number: int) -> None:
        outcome = submission.send(
            mail, sender=_SENDER, recipient=_recipient(number), envelope_id=mail.message_id
        )
        if outcome.code != 250:
            raise RuntimeError(f"not taken: {outcome}")


class Flushing(Submitter):
    """The thread of a process for mails out, which begins with a full store."""

    def submit(self, count: int) -> float:
        # An empty store each time: who is left in the last one would be written to as well.
        with tempfile.TemporaryDirectory(dir=os.path.join(os.environ[FOLDER], "initiator")) as new:
            return self._flush(dataclasses.replace(self.settings(), spool=new), count)

    def _flush(self, settings: OfficeSettings, count: int) -> float:
        office = PostOffice(settings)
        for number in range(count + 1):
            held = office.open(Place(_recipient(number), 7100), "")
            nothing = ConnectionChanges(b"{}", 0, [], [])
            office.keep(held, nothing, b"x" * self.message_bytes, is_released=False)
        outbound = Outbound(office)
        times = self._note_submitted(office, outbound, count + 1)
        outbound.run()
        office.close()
        return times[-1] - times[0]

    def _note_submitted(self, office: PostOffice, outbound: Outbound, last: int) -> list[float]:
        """When each was noted as submitted; with the last one the thread ends."""
        times: list[float] = []
        note = office.submitted

        def noting(post: Post) -> None:
            note(post)
            times.append(clock())
            if len(times) == last:
                outbound.stops_at = clock()

        office.submitted = noting  # type: ignore[method-assign]
        return times
