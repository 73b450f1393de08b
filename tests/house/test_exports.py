"""Doors and rooms: what a module offers, what it says it offers, and what others take."""

from __future__ import annotations

import ast
import importlib
import sys
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parents[2]
FILES: Final = sorted(
    file for name in ("compoint", "channel", "mail") for file in (ROOT / name).rglob("*.py")
)
#: A module of constants, all of which are meant for others.
ALL_PUBLIC: Final = "compoint.limits"


def _module(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"), filename=str(file))


def _offered(tree: ast.Module) -> list[str] | None:
    """What `__all__` says; None: there is none."""
    for node in tree.body:
        targets: list[ast.expr] = []
        if isinstance(node, ast.Assign):
            targets = node.targets
        elif isinstance(node, ast.AnnAssign):
            targets = [node.target]
        if any(isinstance(one, ast.Name) and one.id == "__all__" for one in targets):
            assert isinstance(node, (ast.Assign, ast.AnnAssign))
            assert node.value is not None
            return [str(name) for name in ast.literal_eval(node.value)]
    return None


def _defined(tree: ast.Module) -> list[ast.FunctionDef | ast.ClassDef]:
    return [node for node in tree.body if isinstance(node, (ast.FunctionDef, ast.ClassDef))]


@pytest.mark.parametrize("file", FILES, ids=_module)
def test_a_module_offers_its_public_classes_and_functions(file: Path) -> None:
    tree = _tree(file)
    public = {node.name for node in _defined(tree) if not node.name.startswith("_")}
    if file.name == "__main__.py":
        public.discard("main")  # run, never imported
    offered = _offered(tree)
    assert public <= set(offered or ())


@pytest.mark.parametrize("file", FILES, ids=_module)
def test_what_a_module_offers_exists_and_is_named_once(file: Path) -> None:
    if file.name == "__main__.py":
        return
    module = importlib.import_module(_module(file))
    offered = list(getattr(module, "__all__", ()))
    assert len(offered) == len(set(offered))
    assert [name for name in offered if not hasattr(module, name)] == []


def test_nobody_takes_from_a_module_what_it_does_not_offer() -> None:
    offered = {_module(file): _offered(_tree(file)) for file in FILES}
    taken = [
        f"{_module(file)} takes {node.module}.{alias.name}"
        for file in FILES
        for node in ast.walk(_tree(file))
        if isinstance(node, ast.ImportFrom) and node.module in offered
        for alias in node.names
        if node.module != ALL_PUBLIC
        and f"{node.module}.{alias.name}" not in offered  # a module of a package
        and alias.name not in (offered[node.module] or ())
    ]
    assert taken == []


@pytest.mark.parametrize("door", ["compoint", "channel", "mail"])
def test_a_door_offers_what_its_rooms_hold(door: str) -> None:
    """The door loads lazily: its table of rooms and the imports for type checkers agree."""
    module = importlib.import_module(door)
    tree = _tree(Path(str(module.__file__)))
    for_checkers = {
        alias.name: node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith(door + ".")
        for alias in node.names
    }
    assert for_checkers == module._ROOM_OF
    assert sorted(module.__all__) == sorted(for_checkers)
    for name, room in for_checkers.items():
        assert getattr(module, name) is getattr(sys.modules[str(room)], name)
        assert name in sys.modules[str(room)].__all__


def test_the_door_offers_every_error() -> None:
    import compoint
    from compoint import errors

    assert set(errors.__all__) <= set(compoint.__all__)


@pytest.mark.parametrize("door", ["compoint", "channel", "mail"])
def test_a_door_says_which_name_it_does_not_know(door: str) -> None:
    module = importlib.import_module(door)
    with pytest.raises(AttributeError, match=f"'{door}'.*'Shannel'"):
        module.Shannel  # noqa: B018
    assert set(module.__all__) <= set(dir(module))
