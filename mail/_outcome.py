"""What came of handing over one mail, in the same words for SMTP and the local command."""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass
from typing import Final

__all__ = [
    "Outcome",
    "Step",
    "Verdict",
    "is_quota",
    "judged",
    "one_line",
    "printable",
    "status_in",
]

_STATUS: Final = re.compile(r"(?<![\d.])[245]\.\d{1,3}\.\d{1,3}(?![\d.])", re.ASCII)
#: What each line of a long answer repeats in front.
_LEAD: Final = re.compile(r"([245]\d\d[ -])?([245]\.\d{1,3}\.\d{1,3}(\s+|$))?", re.ASCII)
_UNPRINTABLE: Final = re.compile(r"[^\x20-\x7e\xa0-\U0010ffff]+")
_TEXT_CHARACTERS: Final = 500

#: 5.5.0 is what wrongly configured servers say for passing trouble, and 4.1.2 is what a
#: domain gets whose name server does not answer, at times in a 5xx answer (both as seen and
#: treated by Delta Chat).
_PASSING: Final = frozenset({"5.5.0", "4.1.2"})

#: What only a login that is missing or wrong is answered by (RFC 4954 §6).
_LOGIN_CODES: Final = frozenset({530, 534, 535, 538})
#: What may be said of a mail for its size alone.
_TOO_LARGE: Final = frozenset({"5.2.3", "5.3.4"})

#: What providers say to an account that has sent too much, nearly always as a final refusal.
#: It passes within a day. Gmail: 5.4.5, which is congestion in RFC 3463.
_QUOTA_STATUS: Final = "5.4.5"
#: Of Microsoft (the account's own mailbox being full is among them), Amazon SES, Zoho.
_QUOTA_NAMES: Final = re.compile(
    r"SubmissionQuota|STOREDRV\.Submission\S*Quota|RefuseQuota"
    r"|Throttling failure|unusual sending activity",
    re.IGNORECASE,
)
#: In their own words; not that somebody's mailbox is full, nor that a mail is too large.
_QUOTA_WORDS: Final = re.compile(
    r"\b(sending|send|submission|relay|outgoing|outbound|mail) (limits?|rate)\b"
    r"|\b(sending|submission|relay|outgoing|outbound) quota\b"
    r"|\brate[ -]?limit|\bmessage rate\b"
    r"|\b(daily|hourly|monthly)\b.{0,40}\b(limit|quota)\b"
    r"|\b(e?mails?|messages|recipients) per (minute|hour|day)\b"
    r"|\byou('ve| have) (exceeded|reached) your\b.{0,40}\b(limit|quota)\b",
    re.IGNORECASE,
)
_ABOUT_THE_MAIL: Final = frozenset({"5.1.1", "5.2.2"}) | _TOO_LARGE
_SIZE: Final = re.compile(r"\bsize\b", re.IGNORECASE)


class Verdict(enum.StrEnum):
    """What is to be done with the mail now."""

    ACCEPTED = "accepted"  # nothing: it is the server's
    RETRY = "retry later"  # it was certainly not taken; the same mail may be sent again
    FINAL = "refused"  # it was not taken and never will be
    AMBIGUOUS = "ambiguous"  # it may have been taken; send the same mail, same identifier


class Step(enum.StrEnum):
    """How far it came: the step that was answered, or in which the connection ended."""

    CONNECT = "connect"
    TLS = "TLS"
    LOGIN = "login"
    SENDER = "sender"
    RECIPIENT = "recipient"
    CONTENT = "content"
    END = "end of content"
    COMMAND = "command"  # the local sendmail command


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one mail: what to do, how far it came, and what the server said."""

    verdict: Verdict
    step: Step
    #: Of the SMTP answer, or the exit code of the command; 0: there was none.
    code: int = 0
    #: The enhanced status (RFC 3463), "5.1.1", or "".
    status: str = ""
    #: One printable line, never longer than 500 characters.
    text: str = ""
    #: What was said meets every mail, though the step would not tell.
    meets_all: bool = False

    @property
    def is_of_the_way(self) -> bool:
        """Whether no mail would pass: the trouble lies in the connection or its settings."""
        return self.meets_all or self.step in {Step.CONNECT, Step.TLS, Step.LOGIN}

    def __str__(self) -> str:
        numbers = f"{self.code or ''} {self.status}".strip()
        said = ": ".join(filter(None, [numbers, self.text]))
        return f"{self.verdict} ({self.step}): {said}"


def judged(step: Step, code: int, answer: bytes | str) -> Outcome:
    """The outcome that an SMTP answer other than the hoped-for one means."""
    text = answer if isinstance(answer, str) else answer.decode("utf-8", "replace")
    status = status_in(text[:16])
    line = one_line(text)
    over_quota = is_quota(status, line)
    is_final = 500 <= code <= 599 and status not in _PASSING and not over_quota
    # A sender that is not taken is the account's; only the size is told with it.
    of_sender = step is Step.SENDER and is_final and code != 552 and status not in _TOO_LARGE
    return Outcome(
        Verdict.FINAL if is_final else Verdict.RETRY,
        step,
        max(code, 0),
        status,
        line,
        meets_all=over_quota or of_sender or code in _LOGIN_CODES,
    )


def is_quota(status: str, text: str) -> bool:
    """Whether a refusal says that the account has sent too much, which passes."""
    if status == _QUOTA_STATUS or _QUOTA_NAMES.search(text):
        return True
    if status in _ABOUT_THE_MAIL or _SIZE.search(text):
        return False
    return bool(_QUOTA_WORDS.search(text))


def status_in(text: str) -> str:
    """The first enhanced status in a text, or ""."""
    found = _STATUS.search(text)
    return found[0] if found else ""


def one_line(text: str) -> str:
    """A foreign text as one printable line, without the numbers that lead its lines.

    What a server says ends in errors and logs, so nothing in it may steer a terminal.
    """
    lines = (line.strip() for line in text.splitlines())
    return printable(" ".join(line[_lead(line) :] for line in lines if line))


def printable(text: str) -> str:
    """A foreign text without what is no letter, digit, sign or space, and never endless."""
    plain = _UNPRINTABLE.sub(" ", text).strip()
    return plain if len(plain) <= _TEXT_CHARACTERS else f"{plain[: _TEXT_CHARACTERS - 3]}..."


def _lead(line: str) -> int:
    found = _LEAD.match(line)
    return found.end() if found else 0
