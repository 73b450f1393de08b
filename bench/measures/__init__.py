"""All measures, in the order of the table."""

from bench.measure import Measure
from bench.measures.crowd import Crowd
from bench.measures.flood import Flood
from bench.measures.http import OVER_HTTP
from bench.measures.idle import Idle
from bench.measures.mail import BY_MAIL
from bench.measures.memory import LargeMessage
from bench.measures.one_way import OneWay
from bench.measures.opening import Opening, OpeningAlone
from bench.measures.parked import Parked
from bench.measures.round_trip import RoundTrip, TypedRoundTrip
from bench.measures.threads import EightThreads

__all__ = ["MEASURES", "measure"]

MEASURES: tuple[Measure, ...] = (
    RoundTrip(),
    TypedRoundTrip(),
    OneWay("one-way-64", "64 B one way", 64),
    OneWay("one-way-1k", "1 KiB one way", 1024),
    OneWay("one-way-1m", "1 MiB one way", 1024 * 1024),
    Opening(),
    OpeningAlone(),
    EightThreads(),
    Flood(),
    Crowd(),
    LargeMessage(),
    Idle(),
    *OVER_HTTP,
    Parked(),
    *BY_MAIL,
)

_BY_KEY = {one.key: one for one in MEASURES}


def measure(key: str) -> Measure:
    """The measure of that name; KeyError for a name that is none."""
    return _BY_KEY[key]
