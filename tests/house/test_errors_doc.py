"""docs/reference/errors.md is compoint/errors.py: the same tree, the same fates."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import compoint.errors
from compoint.errors import ComPointException

ROOT: Final = Path(__file__).resolve().parents[2]
TEXT: Final = (ROOT / "docs" / "reference" / "errors.md").read_text(encoding="utf-8")
ROWS: Final = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in TEXT.splitlines()
    if line.startswith("| ") and not line.startswith("| error ")
]

ERRORS: Final = [
    value for value in vars(compoint.errors).values()
    if isinstance(value, type) and issubclass(value, ComPointException)
]  # fmt: skip


def drawn_tree() -> list[tuple[int, str, str]]:
    """Depth, name and built-in base of every line of the tree."""
    found = []
    for line in TEXT.split("```")[1].strip().splitlines():
        match = re.fullmatch(r"([│├└─ ]*)(\w+) *(?:\((\w+)\))?.*", line)
        assert match, line
        found.append((len(match[1]) // 3, match[2], match[3] or ""))
    return found


def real_tree() -> list[tuple[int, str, str]]:
    found = []
    for error in ERRORS:
        own = [base for base in error.__bases__ if not issubclass(base, ComPointException)]
        depth = sum(issubclass(base, ComPointException) for base in error.__mro__) - 1
        built_in = own[0].__name__ if depth and own else ""
        found.append((depth, error.__name__, built_in))
    return found


def test_the_tree_in_the_document_is_the_tree_of_classes() -> None:
    assert drawn_tree() == real_tree()


def test_every_error_has_its_row_in_the_same_order() -> None:
    assert [row[0] for row in ROWS] == [error.__name__ for error in ERRORS]


def test_every_row_says_what_happened_and_what_to_do_next() -> None:
    assert [row for row in ROWS if len(row) != 4 or not all(row)] == []


def test_the_fates_are_those_of_the_classes() -> None:
    assert {row[0]: row[3] for row in ROWS} == {
        error.__name__: error.fate.value for error in ERRORS
    }


def test_every_name_in_the_document_is_offered_by_the_package() -> None:
    assert [name for _, name, _ in drawn_tree() if not hasattr(compoint, name)] == []
