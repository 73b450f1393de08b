"""How much is measured: the whole run, or a smoke run that only proves that it works."""

from __future__ import annotations

import dataclasses
from typing import Any, Self

__all__ = ["FULL", "QUICK", "Scale"]

_MIB = 1024 * 1024


@dataclasses.dataclass(frozen=True, slots=True)
class Scale:
    """The same for every peer of a run; travels to the workers as JSON."""

    #: How often the round A B C A B C ... goes through all peers of a measure.
    repetitions: int
    #: How long one peer is measured in one repetition, warming up not counted.
    measuring_s: float
    #: How many untimed round trips come first.
    warm_up: int
    #: The most connections opened in one repetition, so that ports do not run out.
    most_opens: int
    #: Channels queued at once on one port.
    crowd: int
    #: Initiators of one server that wait for a message over HTTP.
    parked: int
    #: The one large message whose memory is measured.
    large_bytes: int
    #: No side of a measurement lives longer, whatever becomes of whoever started it.
    limit_s: int

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Self:
        return cls(**fields)


FULL = Scale(
    repetitions=3,
    measuring_s=0.3,
    warm_up=300,
    most_opens=2_000,
    crowd=10_000,
    parked=5_000,
    large_bytes=64 * _MIB,
    limit_s=45,
)

QUICK = Scale(
    repetitions=1,
    measuring_s=0.02,
    warm_up=20,
    most_opens=50,
    crowd=300,
    parked=50,
    large_bytes=4 * _MIB,
    limit_s=15,
)
