"""What every test gets: settings of its own, and a look at what it leaves behind."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    # The suite runs from a checkout as well as against an installed wheel.
    sys.path.append(str(ROOT))

pytest.register_assert_rewrite("compoint.testing.contract")

# Minutes of tests, which `.ci/run` runs with COMPOINT_TESTS=all. Without it the suite is one
# that nobody minds to run after every change.
collect_ignore = [
    "badinput/test_announcements.py",
    "bench",
    "cli/test_mail_cancel.py",
    "cli/test_mail_doctor.py",
    "cli/test_mail_flush.py",
    "cli/test_mail_install.py",
    "cli/test_mail_status.py",
    "cli/test_transfer.py",
    "cli/test_transfer_faults.py",
    "compoint/core/test_any_bytes.py",
    "compoint/core/test_keeping_model.py",
    "http/gateway",
    "http/test_asgi.py",
    "http/test_initiator_answers.py",
    "http/test_initiator_ends.py",
    "http/test_initiator_proxies.py",
    "http/test_initiator_session.py",
    "http/test_initiator_tls.py",
    "http/test_initiator_weather.py",
    "http/test_middleboxes.py",
    "http/test_parked.py",
    "http/test_port_crowd.py",
    "http/test_port_fuzz.py",
    "http/test_port_times.py",
    "http/test_resting.py",
    "http/test_turns_bad_input.py",
    "http/test_turns_fuzz.py",
    "http/test_wsgi.py",
    "mail",
    "story/test_http_howto.py",
    "story/test_mail_howto.py",
    "ways",
]
if os.environ.get("COMPOINT_TESTS") == "all":
    collect_ignore.clear()

# No `_sempconfig` of the person who runs the tests must have a say in them, neither here
# nor in the processes that tests start.
_handle, _path = tempfile.mkstemp(suffix="_sempconfig")
os.close(_handle)
os.environ["SEMPCONFIG"] = _path

# A shell that starts the tests in the background lets them ignore Ctrl-C, and all they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Nor must a proxy or a bundle of certificates in their environment.
for _name in [name for name in os.environ if name.upper().endswith(("_PROXY", "_CA_BUNDLE"))]:
    del os.environ[_name]


def pytest_unconfigure() -> None:
    Path(_path).unlink(missing_ok=True)


@pytest.fixture(autouse=True)
def nothing_left_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail the test that leaves a thread, a descriptor or an open server behind."""
    from compoint.testing import Leaks

    leaks = Leaks()
    yield
    leaks.check()
