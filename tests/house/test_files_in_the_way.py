"""A user's own `mail.py` or `channel.py` beside a script does not break the inside."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]

_EXCHANGE: Final = """
from compoint import COMPOINT_INITIATOR, COMPOINT_SERVER, ComManager, ComPointAddress
with ComManager.com_point(COMPOINT_SERVER, ComPointAddress("tcp", 0)) as server:
    with ComManager.com_point(COMPOINT_INITIATOR, server.address) as initiator:
        initiator.write({"text": "hello"})
        with server.accept(timeout=10) as responder:
            print(responder.read(timeout=10))
"""
_ASK_FOR_MAIL: Final = """
from compoint import COMPOINT_INITIATOR, ComManager, ComPointAddress, ShadowedPackageError
states = ComManager.init()
print(states["tcp"] == states["memory"] == "", "mail.py" in states["mail"])
try:
    ComManager.com_point(COMPOINT_INITIATOR, ComPointAddress("mail", "bob@example.org", 25))
except ShadowedPackageError as error:
    print(error)
"""


def _run(folder: Path, name: str, text: str) -> str:
    """Run a script beside the user's other files; what it prints."""
    script = folder / name
    script.write_text(text)
    ran = subprocess.run(
        [sys.executable, str(script)],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, cwd=folder,
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr == ""
    return ran.stdout


def test_plain_points_work_beside_files_of_the_user(tmp_path: Path) -> None:
    for name in ("channel", "mail", "config", "message", "errors", "address"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('imported by mistake')")
    assert _run(tmp_path, "script.py", _EXCHANGE) == "{'text': 'hello'}\n"


def test_a_mail_py_of_the_user_is_named_when_mail_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "mail.py").write_text("raise SystemExit('imported by mistake')")
    states, error = _run(tmp_path, "script.py", _ASK_FOR_MAIL).splitlines()
    assert states == "True True"
    assert error == (
        f"configure: the file {tmp_path / 'mail.py'} stands in the way of the package 'mail'; "
        "rename that file"
    )


def test_a_program_called_mail_py_is_not_run_twice(tmp_path: Path) -> None:
    """It is itself the file in the way, and importing it would start it again."""
    printed = _run(tmp_path, "mail.py", "print('started')" + _ASK_FOR_MAIL)
    assert printed.count("started") == 1
    assert f"the file {tmp_path / 'mail.py'} stands in the way" in printed


def test_a_mail_module_that_the_user_has_imported_is_named_too(tmp_path: Path) -> None:
    (tmp_path / "mail.py").write_text("send = print")
    printed = _run(tmp_path, "script.py", "import mail\n" + _ASK_FOR_MAIL)
    assert f"the file {tmp_path / 'mail.py'} stands in the way" in printed
