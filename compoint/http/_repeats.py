"""Answers kept for a while, so that a repeated request has no second effect."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from compoint.deadline import clock
from compoint.http._answers import Answer, Refused, problem_answer

if TYPE_CHECKING:
    from compoint.http._exchange import Exchange
    from compoint.http._gateway_bounds import Bounds

__all__ = ["KeptAnswers", "Repeats"]

#: What an answer takes beside its body: a bound on bytes alone would let empty ones pile up.
_TOLL: Final = 1024


@dataclass(frozen=True, slots=True)
class _Kept:
    answer: Answer
    digest: bytes
    until: float


class KeptAnswers:
    """Answers by their names, the oldest given up first. Not for several threads at once."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._size = 0

    def get(self, name: str) -> _Kept | None:
        kept = self._kept.get(name)
        return kept if kept is not None and kept.until > clock() else None

    def keep(self, name: str, answer: Answer, digest: bytes = b"") -> None:
        self._drop(name)
        now = clock()
        self._kept[name] = _Kept(answer, digest, now + self._bounds.kept_s)
        self._size += _TOLL + len(answer[2])
        while self._kept and (
            len(self._kept) > self._bounds.kept_answers
            or self._size > self._bounds.kept_bytes
            or next(iter(self._kept.values())).until <= now
        ):
            self._drop(next(iter(self._kept)))

    def _drop(self, name: str) -> None:
        kept = self._kept.pop(name, None)
        if kept is not None:
            self._size -= _TOLL + len(kept.answer[2])


@dataclass(slots=True)
class _Running:
    """A request that is not answered yet, and those that repeat it."""

    digest: bytes
    exchanges: list[Exchange]


class Repeats:
    """Requests with an Idempotency-Key. Any thread may call."""

    def __init__(self, bounds: Bounds) -> None:
        # Held for a few steps; nothing else is taken inside it.
        self._lock = threading.Lock()
        self._kept = KeptAnswers(bounds)
        self._running: dict[str, _Running] = {}

    def is_first(self, key: str, digest: bytes, exchange: Exchange) -> bool:
        """Whether nobody has come with this key before.

        Otherwise the exchange gets the answer of the one who has, now or when there is one.

        Raises:
            Refused: the key was used for something else.
        """
        with self._lock:
            running = self._running.get(key)
            kept = None if running is not None else self._kept.get(key)
            known = running or kept
            if known is None:
                self._running[key] = _Running(digest, [exchange])
                return True
            if known.digest != digest:
                text = "this Idempotency-Key was used for another request"
                raise Refused(problem_answer(422, "key reused", text, hint="make a new key"))
            if running is not None:
                running.exchanges.append(exchange)
        if kept is not None:
            exchange.answer(*kept.answer)
        return False

    def answer(self, key: str, answer: Answer, *, keep: bool) -> None:
        """Answer all who came with this key; `keep`: and all who will."""
        with self._lock:
            running = self._running.pop(key)
            if keep:
                self._kept.keep(key, answer, running.digest)
        for exchange in running.exchanges:
            exchange.answer(*answer)
