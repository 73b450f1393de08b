"""The rules of the house that can be read off the source."""

from __future__ import annotations

import ast
import functools
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).resolve().parents[2]
PACKAGES: Final = ("compoint", "channel", "mail")
PRODUCT: Final = sorted(file for name in PACKAGES for file in (ROOT / name).rglob("*.py"))
TESTS: Final = sorted((ROOT / "tests").rglob("*.py"))

#: Where somebody waits for what cannot be told, with a bound; and why.
MAY_SLEEP: Final = {
    "compoint/testing/_patience.py": "the one place of the kit that looks again and again",
    "compoint/cli/_send.py": "a receiver that is not started yet can tell nobody when it is",
    "compoint/cli/demo/_story.py": "a service point's status can only be asked for",
}

#: Where a thread waits on an event that is set by threads of ours only, and in no program's call.
MAY_WAIT_ON_EVENTS: Final = {
    "mail/_front.py": "set by the thread for mails out",
    "mail/_visit.py": "a command's; nothing goes on behind its Ctrl-C",
}


def _name(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()


@functools.cache
def _tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"), filename=str(file))


@functools.cache
def _calls(tree: ast.Module) -> frozenset[str]:
    """What is called, as it is written: `print`, `time.sleep`."""
    return frozenset(
        ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)
    )


def _imports(tree: ast.Module) -> Iterator[str]:
    """What is imported: `pickle`, `time.sleep`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_the_rules_find_the_source() -> None:
    assert {"compoint/point.py", "channel/channel.py", "mail/__init__.py"} <= {
        _name(file) for file in PRODUCT
    }


@pytest.mark.parametrize("file", PRODUCT, ids=_name)
def test_every_module_says_what_it_is(file: Path) -> None:
    assert ast.get_docstring(_tree(file))


def test_every_test_file_says_what_it_is() -> None:
    assert [_name(file) for file in TESTS if not ast.get_docstring(_tree(file))] == []


@pytest.mark.parametrize("package", PACKAGES)
def test_every_package_says_that_it_is_typed(package: str) -> None:
    assert (ROOT / package / "py.typed").is_file()


def test_nothing_but_the_command_prints() -> None:
    printing = [
        _name(file) for file in PRODUCT
        if "print" in _calls(_tree(file)) and not _name(file).startswith("compoint/cli/")
    ]  # fmt: skip
    assert printing == []


def test_nothing_configures_logging() -> None:
    """An application decides about its log; a library brings a handler that does nothing."""
    configuring = {"basicConfig", "dictConfig", "fileConfig", "setLevel", "StreamHandler"}
    found = [
        f"{_name(file)}: {call}" for file in PRODUCT for call in _calls(_tree(file))
        if call.rpartition(".")[2] in configuring
    ]  # fmt: skip
    assert found == []


def test_nothing_can_run_what_a_peer_sends() -> None:
    """No pickle, on no path (saltstack CVE-2020-11651, pyro4 #1); no eval either."""
    modules = {"pickle", "_pickle", "cPickle", "marshal", "shelve", "dill", "cloudpickle", "code"}
    builtins = {"eval", "exec", "compile", "__import__"}
    found = [
        f"{_name(file)}: {used}"
        for file in PRODUCT
        for used in [
            *(name for name in _imports(_tree(file)) if name.partition(".")[0] in modules),
            *(call for call in _calls(_tree(file)) if call in builtins),
        ]
    ]
    assert found == []


def test_nobody_sleeps_but_the_few_places_that_say_why() -> None:
    sleeping = {
        _name(file)
        for file in [*PRODUCT, *TESTS]
        if "time.sleep" in [*_calls(_tree(file)), *_imports(_tree(file))]
    }
    assert sleeping == set(MAY_SLEEP)


def test_nothing_that_ctrl_c_could_leave_locked_is_used() -> None:
    """Events and conditions have a lock in Python code: interrupted there, it stays taken, and
    whoever comes next waits for ever. A Waiter has none."""
    kinds = {"Event", "Condition", "Semaphore", "BoundedSemaphore", "Barrier"}
    found = {
        _name(file)
        for file in PRODUCT
        if {f"threading.{kind}" for kind in kinds} & {*_calls(_tree(file)), *_imports(_tree(file))}
    }
    assert found == set(MAY_WAIT_ON_EVENTS)


def test_nothing_is_done_in_a_finalizer() -> None:
    """No lock and no I/O where the garbage collector may call at any moment."""
    found = [
        _name(file)
        for file in PRODUCT
        for node in ast.walk(_tree(file))
        if isinstance(node, ast.FunctionDef) and node.name == "__del__"
    ]
    assert found == []


def test_every_bound_is_used() -> None:
    bounds = {
        node.target.id
        for node in _tree(ROOT / "compoint" / "limits.py").body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }
    used = {
        name.rpartition(".")[2]
        for file in PRODUCT
        for name in _imports(_tree(file))
        if name.startswith("compoint.limits.")
    }
    assert len(bounds) > 20
    assert bounds - used == set()
