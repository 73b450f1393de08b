"""What requests of plain HTTP clients wait for in a conversation."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from compoint.errors import Fate

if TYPE_CHECKING:
    from compoint.core.codes import Ending
    from compoint.core.stream import Item

__all__ = ["Outcome", "Reading", "Waiting", "Writing"]


class Outcome(enum.Enum):
    """What came of a `Waiting`."""

    DONE = "done"
    NOT_IN_TIME = "not in time"
    OVER = "over"  # the conversation was or is over; `ending` says how
    REPLACED = "replaced"  # a later request waits for the same
    WRONG_NUMBER = "wrong number"  # `number` is the one that is due
    TOO_LARGE = "too large"  # `number` is the most that the responder takes
    TOO_MANY = "too many"


@dataclass(slots=True, eq=False)
class Waiting:
    """What a request waits for. Once it is settled nothing here changes any more."""

    #: Until when; what has not come about by then is settled as NOT_IN_TIME.
    due: float
    #: Called with this when it is settled, while no lock of the gateway is held.
    then: Callable[[Any], object]
    outcome: Outcome | None = None
    ending: Ending | None = None
    number: int = 0
    #: How many messages of this side were confirmed when it was settled.
    confirmed: int = 0


@dataclass(slots=True, eq=False)
class Reading(Waiting):
    """Waits for a message; `number` is its number."""

    #: The number that was asked for; 0: whatever comes next.
    wanted: int = 0
    item: Item = b""


@dataclass(slots=True, eq=False)
class Writing(Waiting):
    """Waits until a message is confirmed; `number` is its number once it is given whole."""

    #: The number it must get; 0: whatever comes next.
    wanted: int = 0
    form: int = 0
    payload: bytes = b""
    #: How many of its bytes the machine has; -1: none, not even its beginning.
    position: int = -1
    #: What became of it, as far as is known when this is settled.
    fate: Fate = Fate.NOT_SENT
    #: Later requests for the same message, which get the same answer.
    repeats: list[Writing] = field(default_factory=list)

    @property
    def is_given(self) -> bool:
        """The responder has it, or all of it is on its way there: it has its number."""
        is_on_its_way = self.outcome is Outcome.NOT_IN_TIME and self.fate is Fate.UNKNOWN
        return self.outcome is Outcome.DONE or is_on_its_way
