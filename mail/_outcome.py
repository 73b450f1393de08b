"""What came of handing over one mail, in the same words for SMTP and the local command."""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass
from typing import Final

__all__ = ["Outcome", "Step", "Verdict", "judged", "one_line", "printable", "status_in"]

_STATUS: Final = re.compile(r"(?<![\d.])[245]\.\d{1,3}\.\d{1,3}(?![\d.])", re.ASCII)
#: What each line of a long answer repeats in front.
_LEAD: Final = re.compile(r"([245]\d\d[ -])?([245]\.\d{1,3}\.\d{1,3}(\s+|$))?", re.ASCII)
_UNPRINTABLE: Final = re.compile(r"[^\x20-\x7e\xa0-\U0010ffff]+")
_TEXT_CHARACTERS: Final = 500

#: 5.5.0 is what wrongly configured servers say for passing trouble, and 4.1.2 is what a
#: domain gets whose name server does not answer, at times in a 5xx answer (both as seen and
#: treated by Delta Chat).
_PASSING: Final = frozenset({"5.5.0", "4.1.2"})


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

    @property
    def is_of_the_way(self) -> bool:
        """Whether no mail would pass: the trouble lies in the connection or its settings."""
        ways = (Step.CONNECT, Step.TLS, Step.LOGIN)
        # 530: a login or STARTTLS is asked for. 126 and 127: the command does not start.
        return self.step in ways or self.code in {530, 126, 127}

    def __str__(self) -> str:
        numbers = f"{self.code or ''} {self.status}".strip()
        said = ": ".join(filter(None, [numbers, self.text]))
        return f"{self.verdict} ({self.step}): {said}"


def judged(step: Step, code: int, answer: bytes | str) -> Outcome:
    """The outcome that an SMTP answer other than the hoped-for one means."""
    text = answer if isinstance(answer, str) else answer.decode("utf-8", "replace")
    status = status_in(text[:16])
    is_final = 500 <= code <= 599 and status not in _PASSING
    verdict = Verdict.FINAL if is_final else Verdict.RETRY
    return Outcome(verdict, step, max(code, 0), status, one_line(text))


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
