"""`compoint demo`: what it tells, and that it fails when something is wrong."""

import hashlib
import io
import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from compoint.cli._faults import CommandFailed
from compoint.cli._output import Output
from compoint.cli.demo._stage import Stage
from compoint.cli.demo._story import _Story

Start = Callable[..., Any]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "plan.txt"
    file.write_bytes(os.urandom(600_000))
    return file


def without_chance(said: str) -> str:
    """The text without what differs from run to run."""
    said = re.sub(r"process \d+", "process N", said)
    said = re.sub(r"://:\d+", "://:N", said)
    return re.sub(r"\d+\.\d s", "0.0 s", said)


@pytest.mark.parametrize("protocol", ["tcp", "http", "memory"])
def test_the_demo_tells_its_story_and_succeeds(command: Start, file: Path, protocol: str) -> None:
    started_at = time.monotonic()
    demo = command("demo", "--protocol", protocol, "--file", file)
    assert demo.ends() == 0
    assert time.monotonic() - started_at < 3
    order = [
        "1. The shop starts a service point.",
        "2. Customer A comes before the shop is ready for it.",
        "writes Order(number=17, item='atlas', count=2)",
        "service_point.waiting() shows queued: order-17 with 1 message, 102 bytes",
        "3. The shop opens that channel",
        "reads Order(number=17, item='atlas', count=2)",
        "writes Offer(number=17, total=Decimal('49.80'))",
        "reads SaleReceipt(number=17, paid=Decimal('49.80'))",
        "4. Two customers come at once",
        "opens order-19 and reads Order(number=19, item='compass', count=12)",
        "opens order-18 and reads Order(number=18, item='globe', count=1)",
        "5. The shop waits for a file",
        "its status shows waiting: file",
        "sends plan.txt, 600.0 kB in 3 messages of up to 256 KiB",
        f"customer D  read a file with sha256 {hashlib.sha256(file.read_bytes()).hexdigest()}",
        f"shop        has a file with sha256 {hashlib.sha256(file.read_bytes()).hexdigest()}",
        "6. Everybody has left",
        "All 11 checks were right",
    ]
    places = [demo.said.find(each) for each in order]
    assert -1 not in places, order[places.index(-1)]
    assert places == sorted(places)


def test_over_tcp_everybody_is_a_process_and_the_story_is_always_the_same(
    command: Start, file: Path
) -> None:
    runs = [command("demo", "--file", file) for _ in range(2)]
    assert [run.ends() for run in runs] == [0, 0]
    assert len(set(re.findall(r"\(process (\d+)\)", runs[0].said))) == 4
    assert "each in a process of its own" in runs[0].said
    assert len({without_chance(run.said) for run in runs}) == 1


# --- over mail --------------------------------------------------------------------------------


@pytest.fixture
def by_mail(command: Start, tmp_path: Path) -> Callable[..., Any]:
    """Starts the demo; its temporary files are in the folder `temporary`."""
    (tmp_path / "temporary").mkdir()
    more = f"export TMPDIR={tmp_path / 'temporary'}\n"

    def start(*arguments: object, before: str = "", **options: Any) -> Any:
        return command(
            "demo", "--protocol", "mail", *arguments, before=more + before, **options
        )  # fmt: skip

    return start


def leaves_nothing(demo: Any, folder: Path) -> bool:
    """No file, and none of the processes that it has named."""
    pids = re.findall(r"\(process (\d+)\)", demo.said)
    assert pids
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(int(pid), 0)
    return not list((folder / "temporary").iterdir())


def test_over_mail_the_same_scripts_and_a_file_pass_in_mails(
    by_mail: Start, file: Path, tmp_path: Path
) -> None:
    demo = by_mail("--file", file)
    assert demo.ends(30) == 0
    order = [
        "1. A mail server starts on this machine",
        "2. Bob serves, and Alice orders, by the scripts that they use over tcp.",
        "runs responder.py mail:bob@demo.example:7100",
        "runs initiator.py mail:bob@demo.example:7100",
        "mail 1      alice@demo.example to bob@demo.example, ",
        "bob         read Order(number=17, item='atlas', count=2)",
        "mail 2      bob@demo.example to alice@demo.example, ",
        "alice       read Offer(number=17, total=Decimal('49.80'))",
        "right       both have said what they say over tcp",
        "3. The same over a channel.",
        "runs channel_initiator.py mail:bob@demo.example:7100 order-17",
        "right       both have said what they say over tcp",
        "4. Alice sends Bob a file",
        "runs compoint send plan.txt mail:bob@demo.example:7100 --channel file",
        f"sha256 {hashlib.sha256(file.read_bytes()).hexdigest()}",
        "right       both digests agree",
        "All 6 checks were right",
    ]
    at = 0
    for line in order:
        at = demo.said.find(line, at)
        assert at >= 0, f"{line!r} is not in its place:\n{demo.said}"
    assert leaves_nothing(demo, tmp_path)


def test_a_responder_over_mail_that_is_killed_fails_the_demo(
    by_mail: Start, file: Path, tmp_path: Path
) -> None:
    demo = by_mail("--file", file)
    bob = int(demo.says(r"bob +\(process (\d+)\)")[1])
    os.kill(bob, signal.SIGKILL)
    assert demo.ends(30) == 1
    demo.says("compoint: demo: step 2: bob: its process has ended with exit code -9\n")
    assert leaves_nothing(demo, tmp_path)


def test_ctrl_c_ends_the_demo_over_mail_and_leaves_nothing(
    by_mail: Start, file: Path, tmp_path: Path
) -> None:
    demo = by_mail("--file", file, terminal=True)
    demo.says("mail 1 ")
    demo.type("\x03")
    assert demo.ends(30) == 130
    assert leaves_nothing(demo, tmp_path)


def test_without_the_extra_it_says_what_to_install(
    by_mail: Start, file: Path, tmp_path: Path
) -> None:
    (tmp_path / "lacking").mkdir()
    (tmp_path / "lacking" / "aiosmtpd.py").write_text(
        "raise ModuleNotFoundError(\"No module named 'aiosmtpd'\", name='aiosmtpd')\n"
    )
    before = f"export PYTHONPATH={tmp_path / 'lacking'}:$PYTHONPATH"
    demo = by_mail("--file", file, before=before)
    assert demo.ends() == 2
    assert demo.said == (
        "compoint: configure: to listen for mails the package aiosmtpd is needed; "
        "pip install 'compoint[mail]'\n"
    )


# --- in memory --------------------------------------------------------------------------------


def test_in_memory_it_says_that_everybody_is_a_thread(command: Start, file: Path) -> None:
    demo = command("demo", "--protocol", "memory", "--file", file)
    assert demo.ends() == 0
    assert "each in a thread of this one process, because memory reaches no other" in demo.said
    assert "(process" not in demo.said


def test_the_file_is_the_readme_by_default(command: Start) -> None:
    demo = command("demo")
    assert demo.ends() == 0
    assert "sends README.md, " in demo.said


def test_a_killed_responder_fails_the_demo(command: Start, file: Path) -> None:
    demo = command("demo", "--file", file)
    shop = int(demo.says(r"shop +\(process (\d+)\)")[1])
    os.kill(shop, signal.SIGKILL)
    assert demo.ends() == 1
    assert "checks were right" not in demo.said
    demo.says(r"compoint: demo: step [2-5]: ")


def test_a_file_that_is_not_there_fails_the_demo(command: Start) -> None:
    demo = command("demo", "--file", "missing")
    assert demo.ends() == 1
    assert demo.said == "compoint: missing: cannot be read: No such file or directory\n"


def test_ctrl_c_ends_the_demo_and_all_its_processes(command: Start, file: Path) -> None:
    demo = command("demo", "--file", file, terminal=True)
    shop = int(demo.says(r"shop +\(process (\d+)\)")[1])
    demo.type("\x03")
    assert demo.ends() == 130
    with pytest.raises(ProcessLookupError):
        os.kill(shop, 0)


@pytest.mark.parametrize("protocol", ["tcp", "http", "memory"])
def test_what_goes_wrong_with_an_actor_says_who_and_why(protocol: str) -> None:
    with Stage(protocol) as stage:
        shop = stage.enter("the shop", "shop")
        assert shop.do("open", protocol=protocol)["address"].startswith(protocol)
        with pytest.raises(CommandFailed, match=r"^the shop: no transport speaks"):
            shop.do("open", protocol="pigeon")
        shop.do("leave")


def test_a_check_that_fails_says_what_was_expected_and_what_was_found() -> None:
    with Stage("memory") as stage:
        story = _Story(stage, Output(io.StringIO()), "memory")
        story._open_the_shop()
        stranger = stage.enter("a stranger", "customer")
        order = {"number": 1, "item": "globe"}
        stranger.do("order", address=story._address, correlator="order-1", order=order)
        complaint = r"expected \[\['order-17', 1\]\], found \[\['order-1', 1\]"
        with pytest.raises(CommandFailed, match=complaint):
            story._come_early()
        assert story.checks == 1
        story._shop.do("leave")
