"""How many mails may go: a token bucket for the pace, and a budget for each day. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["Budget", "BudgetState"]

_HOUR_S: Final = 3600
#: The running hour and the 24 before it: together they hold every mail of the last 24 h.
_HOURS: Final = 25
#: Times since the epoch are rounded; that much of a mail may be missing, and is owed then.
_ROUNDING: Final = 1e-3


@dataclass(frozen=True, slots=True)
class BudgetState:
    """All a budget remembers, to be kept across restarts."""

    #: What was left in the bucket at the time `at`.
    tokens: float
    at: float
    #: (hour since the epoch, mails sent in it), oldest first.
    sent: tuple[tuple[int, int], ...] = ()


class Budget:
    """Lets mails pass at `rate` per second, `burst` at once, and `daily` in any 24 hours.

    The times are seconds since the epoch, since the day's budget outlives the process. The
    mails are counted by the hour, so one may have to wait up to an hour longer than 24 but
    never less. A clock set back stops nothing: what seems to lie ahead counts as of now.
    """

    __slots__ = ("_at", "_burst", "_daily", "_rate", "_sent", "_tokens")

    def __init__(
        self, rate: float, burst: int, daily: int, state: BudgetState | None = None
    ) -> None:
        if not (rate > 0 and burst >= 1 and daily >= 1):
            raise ValueError(f"rate, burst and daily are above 0, not {rate}, {burst}, {daily}")
        self._rate = rate
        self._burst = burst
        self._daily = daily
        self._tokens = float(burst) if state is None else state.tokens
        self._at = float("-inf") if state is None else state.at
        self._sent = {} if state is None else dict(state.sent)

    def wait_s(self, now: float) -> float:
        """Seconds until the next mail may go; 0: now."""
        self._settle(now)
        missing = 1.0 - self._tokens
        pace_s = missing / self._rate if missing > _ROUNDING else 0.0
        return max(pace_s, self._day_wait_s(now))

    def take(self, now: float) -> bool:
        """Count one mail, if it may go now; returns whether it may."""
        if self.wait_s(now) > 0:
            return False
        self._tokens -= 1.0
        hour = int(now // _HOUR_S)
        self._sent[hour] = self._sent.get(hour, 0) + 1
        return True

    def left_today(self, now: float) -> int:
        """How many mails the budget of the day still allows."""
        self._settle(now)
        return max(0, self._daily - sum(self._sent.values()))

    def state(self) -> BudgetState:
        return BudgetState(self._tokens, self._at, tuple(sorted(self._sent.items())))

    def _settle(self, now: float) -> None:
        """Fill the bucket for the time that has passed, and forget what is older than a day."""
        if now > self._at:
            gained = (now - self._at) * self._rate
            self._tokens = min(float(self._burst), self._tokens + gained)
        self._at = now
        hour = int(now // _HOUR_S)
        for sent_in in list(self._sent):
            if sent_in > hour:
                self._sent[hour] = self._sent.get(hour, 0) + self._sent.pop(sent_in)
            elif sent_in <= hour - _HOURS:
                del self._sent[sent_in]

    def _day_wait_s(self, now: float) -> float:
        too_many = sum(self._sent.values()) - self._daily + 1
        for hour in sorted(self._sent):
            if too_many <= 0:
                break
            too_many -= self._sent[hour]
            if too_many <= 0:
                return (hour + _HOURS) * _HOUR_S - now
        return 0.0
