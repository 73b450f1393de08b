"""The error tree: who is to blame, what a sentence says, and that nothing of it is lost."""

from __future__ import annotations

import copy
import pickle
from typing import Any, Final

import pytest

from compoint import errors
from compoint.errors import (
    BrokenError,
    BusyError,
    ClosedError,
    ComPointException,
    ConnectError,
    EndOfMessages,
    Fate,
    MessageError,
    PeerError,
    Phase,
    PointTimeout,
    RefusedError,
    SessionLostError,
    UsageError,
)

KINDS: Final[list[type[ComPointException]]] = [
    value
    for value in vars(errors).values()
    if isinstance(value, type) and issubclass(value, ComPointException)
]


def test_every_error_is_offered_by_its_module() -> None:
    assert {kind.__name__ for kind in KINDS} | {"Fate", "Phase"} == set(errors.__all__)


@pytest.mark.parametrize(
    ("kind", "also"),
    [
        ("AddressError", ValueError),
        ("ConfigError", ValueError),
        ("ShadowedPackageError", ImportError),
        ("MessageError", ValueError),
        ("BrokenError", ConnectionError),
        ("ConnectError", ConnectionError),
        ("SessionLostError", ConnectionError),
        ("EndOfMessages", EOFError),
        ("PointTimeout", TimeoutError),
    ],
)
def test_an_error_is_also_the_standard_one_that_scripts_catch(
    kind: str, also: type[Exception]
) -> None:
    assert issubclass(getattr(errors, kind), also)


@pytest.mark.parametrize(
    ("blamed", "kinds"),
    [
        (UsageError, "AddressError ConfigError ClosedError BusyError ShadowedPackageError"),
        (PeerError, "FrameError TooLargeError MessageError VersionError"),
        (BrokenError, "ConnectError SessionLostError"),
    ],
)
def test_errors_are_sorted_by_who_is_to_blame(blamed: type[ComPointException], kinds: str) -> None:
    below = {kind.__name__ for kind in KINDS if issubclass(kind, blamed) and kind is not blamed}
    assert below == set(kinds.split())


def test_the_end_and_a_timeout_are_nobodys_fault() -> None:
    for kind in (EndOfMessages, PointTimeout, RefusedError):
        assert kind.__bases__[0] is ComPointException
        assert not issubclass(kind, (UsageError, PeerError, BrokenError))


@pytest.mark.parametrize(
    "kind", [UsageError, BusyError, ConnectError, EndOfMessages, PointTimeout, RefusedError]
)
def test_what_never_left_is_not_sent(kind: type[ComPointException]) -> None:
    assert kind("x").fate is Fate.NOT_SENT


@pytest.mark.parametrize("kind", [SessionLostError, MessageError, ComPointException])
def test_what_may_have_arrived_is_unknown(kind: type[ComPointException]) -> None:
    assert kind("x").fate is Fate.UNKNOWN


def test_the_sentence_names_point_phase_what_time_and_the_next_step() -> None:
    error = ConnectError(
        "nobody was reached", point="tcp://h:1", phase=Phase.CONNECT, elapsed_s=1.2345,
        hint="is the server started?",
    )  # fmt: skip
    assert str(error) == (
        "tcp://h:1: connect: nobody was reached (after 1.23 s); is the server started?"
    )


def test_a_sentence_has_only_the_parts_that_are_known() -> None:
    assert str(ClosedError("it is closed")) == "it is closed"
    assert str(ClosedError("it is closed", hint="open a new one")) == "it is closed; open a new one"
    assert str(ClosedError("it is closed", elapsed_s=0.0)) == "it is closed (after 0 s)"


def test_an_error_has_the_attributes_of_its_kind_and_no_others() -> None:
    lost = SessionLostError("cut", unconfirmed=range(3, 5))
    assert lost.unconfirmed == range(3, 5)
    assert RefusedError("no", code="busy", retry_after_s=1.5).retry_after_s == 1.5
    assert MessageError("no", path="$.items[2]").path == "$.items[2]"
    with pytest.raises(TypeError, match="ClosedError has no attribute 'code'"):
        ClosedError("no", code="busy")


def test_an_error_without_details_has_the_defaults_of_its_kind() -> None:
    assert SessionLostError("cut").unconfirmed == range(0)
    assert (RefusedError("no").code, RefusedError("no").retry_after_s) == ("", None)
    assert MessageError("no").path == "$"


_DETAILS: Final[dict[str, dict[str, Any]]] = {
    "SessionLostError": {"unconfirmed": range(3, 5)},
    "RefusedError": {"code": "busy", "retry_after_s": 1.5},
    "MessageError": {"path": "$.price"},
}


@pytest.mark.parametrize("carry", [copy.copy, lambda error: pickle.loads(pickle.dumps(error))])
@pytest.mark.parametrize("kind", KINDS)
def test_an_error_crosses_the_border_of_a_process_whole(
    kind: type[ComPointException], carry: Any
) -> None:
    """multiprocessing and futures send exceptions; the library itself never does."""
    error = kind(
        "what", point="p", phase=Phase.READ, elapsed_s=2.0, hint="h", fate=Fate.DELIVERED,
        **_DETAILS.get(kind.__name__, {}),
    )  # fmt: skip
    carried = carry(error)
    assert type(carried) is kind
    assert carried.__dict__ == error.__dict__
    assert carried.args == error.args == ("what",)
    assert str(carried) == str(error)
