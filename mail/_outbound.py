"""The thread that makes mails of what is to be said, and hands them to the mail server."""

from __future__ import annotations

import heapq
import itertools
import logging
import math
import random
import time
import uuid
from typing import TYPE_CHECKING, Final

from compoint.deadline import clock
from compoint.drive.waiter import Waiter
from mail._envelope import encode
from mail._mailbox import ROOM_BYTES
from mail._mime import largest_payload, new_mail, new_message_id
from mail._outcome import Verdict
from mail._sendmail import SendmailCommand
from mail._submit import Submission

if TYPE_CHECKING:
    from mail._mailbox import Post
    from mail._mime import Mail
    from mail._outcome import Outcome
    from mail._post_office import PostOffice

__all__ = ["LINGER_S", "Outbound"]

_log = logging.getLogger("compoint.mail")

#: What is to be said waits so long for more to go into the same mail.
GATHER_S: Final = 0.02
#: A mail that was not taken is handed over again after this time, then after twice as long.
AGAIN_S: Final = 5.0
AGAIN_MOST_S: Final = 900.0
#: How long mails are still handed over when no point is open any more.
LINGER_S: Final = 10.0
#: A disk that was full is looked at again after this time.
DISK_S: Final = 5.0


class _Again:
    """A mail that is to be handed over once more: the same, so that nobody gets it twice."""

    __slots__ = ("mail", "post", "tries", "until")

    def __init__(self, post: Post, mail: Mail, until: float) -> None:
        self.post = post
        self.mail = mail
        self.tries = 0
        self.until = until


class Outbound:
    """Runs until nobody uses the post office and all mails of the moment are handed over."""

    def __init__(self, office: PostOffice) -> None:
        settings = office.settings
        self._office = office
        self._sender: Submission | SendmailCommand
        if settings.sendmail:
            self._sender = SendmailCommand(settings.sendmail)
        else:
            self._sender = Submission(settings.submission)
        self._bell = Waiter()
        self._again: list[tuple[float, int, _Again]] = []
        self._count = itertools.count()
        #: Until then no mail is made: the last one showed that none would be taken.
        self._rests_until = 0.0
        #: The mail server takes none of our mails until somebody changes something.
        self._is_refused = False
        #: Nobody needs mails any more; what is under way has until then. None: somebody does.
        self.ends_at: float | None = None
        #: The program ends, and with it everything, whoever needs mails.
        self.stops_at = math.inf
        office.on_said = self._bell.wake

    def look(self) -> None:
        """There may be something to do."""
        self._bell.wake()

    def cut(self) -> None:
        """The time for mails is over, whatever the mail server does. Any thread may call."""
        if isinstance(self._sender, Submission):
            self._sender.close()

    def try_again(self) -> None:
        """Somebody new comes: what was refused before may be taken now."""
        if self._is_refused:
            self._rests_until = 0.0
            self._bell.wake()

    def run(self) -> None:
        """Until nobody uses it any more, and nothing can be done now."""
        while True:
            try:
                if self._is_over():
                    break
                until = self._step()
            except OSError as error:
                # What could not be kept was not said either; it will be said again.
                self._office.note_trouble("disk", error.strerror or str(error))
                until = clock() + DISK_S
            else:
                self._office.note_trouble("disk", "")
            if until is None or until > clock():
                self._sleep(until)

    def close(self) -> None:
        """Behind the last `run`."""
        if isinstance(self._sender, Submission):
            self._sender.close()

    def _is_over(self) -> bool:
        now = clock()
        if self.ends_at is None and now < self.stops_at:
            return False
        last = min(self.ends_at or math.inf, self.stops_at)
        try:
            due = self._office.next_mail()
        except OSError:
            if now < last:
                raise
            # Nobody waits for a disk for ever.
            due = now
        # The clock again: what has become due since is not to be left behind.
        if not self._again and (due is None or due > clock()):
            return True
        if now < last and self._rests_until < last and not self._is_refused:
            return False
        _log.warning(
            "mails are left in %s; the next program that uses the mailbox sends them, or "
            "`compoint mail flush` does",
            self._office.settings.spool,
        )
        return True

    def _sleep(self, until: float | None) -> None:
        times = [one for one in (until, self.ends_at) if one is not None]
        first = min([*times, self.stops_at])
        self._bell.sleep(max(0.0, first - clock()) if first < math.inf else None)

    def _step(self) -> float | None:
        """Do what is to be done now; when there will be more (None: not by itself)."""
        self._bell.sleep(0.0)
        now = clock()
        if self._again and self._again[0][0] <= now:
            self._hand_over(heapq.heappop(self._again)[2])
            return now
        again_at = self._again[0][0] if self._again else None
        if self._rests_until > now:
            return min(again_at or self._rests_until, self._rests_until)
        due = self._office.next_mail()
        if due is None or due > now:
            return min((one for one in (due, again_at) if one is not None), default=None)
        # Since then the first of it waits: long enough, if the last mail took its time.
        if now < due + GATHER_S:
            return due + GATHER_S
        pause_s = self._office.budget.wait_s(time.time())
        if pause_s > 0:
            self._office.settle()
            self._office.note_trouble("budget", _paused(pause_s))
            return now + pause_s if again_at is None else min(again_at, now + pause_s)
        self._office.note_trouble("budget", "")
        message_id = new_message_id(self._office.settings.mailbox)
        post = self._office.take_post(self._room(), message_id)
        if post is not None:
            self._hand_over(_Again(post, self._mail_of(post, message_id), _expiry(post)))
        return now

    def _room(self) -> int:
        settings = self._office.settings
        room = settings.payload_bytes
        if isinstance(self._sender, Submission) and self._sender.size_limit:
            room = min(room, largest_payload(self._sender.size_limit))
        return max(room, ROOM_BYTES)

    def _mail_of(self, post: Post, message_id: str) -> Mail:
        settings = self._office.settings
        return new_mail(
            b"".join(encode(frame, settings.secret) for frame in post.frames),
            sender=settings.mailbox,
            recipient=post.recipient,
            message_id=message_id,
            now=time.time(),
            thread=_thread(post),
            is_reply=post.is_reply,
        )

    # --- one mail -----------------------------------------------------------------------

    def _hand_over(self, again: _Again) -> None:
        post, mail = again.post, again.mail
        self._office.handing_over_since = clock()
        try:
            outcome = self._sender.send(
                mail, sender=self._office.settings.mailbox, recipient=post.recipient,
                envelope_id=mail.message_id,
            )  # fmt: skip
        finally:
            self._office.handing_over_since = None
        if outcome.verdict is Verdict.ACCEPTED:
            self._rests_until = 0.0
            self._is_refused = False
            self._office.note_trouble("out", "")
            self._office.submitted(post)
        elif outcome.verdict is not Verdict.FINAL:
            self._try_again(again, outcome)
        elif self._is_too_large(mail):
            # The server has said now what it takes: smaller mails are made of it.
            self._office.failed(post, str(outcome), is_final=False, at_once=True)
        elif outcome.is_of_the_way:
            reason = f"the mail server takes no mail of this program: {outcome}"
            self._office.note_trouble("out", reason)
            _log.error("%s", reason)
            # In this order: what was in no other mail so far has not begun.
            self._office.refuse_all(reason)
            self._office.failed(post, reason, is_final=False)
            self._rests_until = clock() + AGAIN_MOST_S
            self._is_refused = True
        else:
            reason = f"the mail server refused the mail to {post.recipient}: {outcome}"
            self._office.failed(post, reason, is_final=True)

    def _is_too_large(self, mail: Mail) -> bool:
        limit = self._sender.size_limit if isinstance(self._sender, Submission) else 0
        return 0 < limit < mail.size

    def _try_again(self, again: _Again, outcome: Outcome) -> None:
        text = f"the mail server did not take a mail yet: {outcome}"
        self._office.note_trouble("out", text)
        _log.info("%s", text)
        spread = random.uniform(0.75, 1.25)  # noqa: S311 - no secret: programs shall not march in step
        pause_s = min(AGAIN_S * 2.0**again.tries, AGAIN_MOST_S) * spread
        again.tries += 1
        if outcome.is_of_the_way:
            self._rests_until = clock() + pause_s
        if time.time() + pause_s > again.until:
            self._office.failed(again.post, text, is_final=False)
        else:
            heapq.heappush(self._again, (clock() + pause_s, next(self._count), again))


def _thread(post: Post) -> str:
    """What readers show the mails of a conversation together by, those of both sides."""
    if not post.parts:
        return ""
    (conversation, _), _ = post.parts[0]
    return f"{uuid.UUID(bytes=conversation)}@conversation.invalid"


def _expiry(post: Post) -> float:
    return max(frame.expires for frame in post.frames)


def _paused(pause_s: float) -> str:
    if pause_s < 60:
        return ""
    return f"the daily budget of mails is used up; the next one leaves in {pause_s / 3600:.1f} h"
