"""The names under which received files are stored, named after the attacks on them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compoint.cli._file_names import NAME_BYTES, safe_name


@given(st.text(st.characters(exclude_categories=("Cs",)), max_size=400))
def test_every_name_becomes_one_visible_name_inside_the_folder(name: str) -> None:
    safe = safe_name(name)
    assert safe
    assert safe.isprintable()
    assert not set(safe) & set('/\\:*?"<>|\0')
    assert not safe.startswith((".", " "))
    assert not safe.endswith((".", " "))
    assert len(safe.encode()) <= NAME_BYTES


@given(st.text(st.characters(exclude_categories=("Cs",)), max_size=400))
def test_a_safe_name_is_kept(name: str) -> None:
    safe = safe_name(name)
    assert safe_name(safe) == safe


@pytest.mark.parametrize(
    ("given_name", "safe"),
    [
        ("report 2026.pdf", "report 2026.pdf"),
        ("Zürich, Übersicht.txt", "Zürich, Übersicht.txt"),
        ("../../etc/passwd", "passwd"),
        ("/etc/passwd", "passwd"),
        ("..\\..\\windows\\system.ini", "system.ini"),
        ("C:\\boot.ini", "boot.ini"),
        ("..", "_"),
        (".", "_"),
        ("", "_"),
        ("folder/", "_"),
        (".bashrc", "bashrc"),
        (" .profile", "profile"),
        ("a\0b", "a_b"),
        ("a\x1b[2Jb", "a_[2Jb"),
        ("photo\u202egpj.exe", "photo_gpj.exe"),
        ("file.txt:stream", "file.txt_stream"),
        ("CON", "_CON"),
        ("nul.txt", "_nul.txt"),
        ("com1.tar.gz", "_com1.tar.gz"),
        ("console", "console"),
        ("name. . ", "name"),
    ],
)
def test_a_path_or_a_meaning_in_a_file_name_is_taken_away(given_name: str, safe: str) -> None:
    assert safe_name(given_name) == safe


def test_a_name_that_is_too_long_is_cut_before_its_extension() -> None:
    assert safe_name("é" * 300 + ".jpeg") == "é" * 125 + ".jpeg"


def test_a_device_name_that_is_too_long_is_cut_after_it_got_its_mark() -> None:
    safe = safe_name("nul." + "x" * 300)
    assert safe.startswith("_nul.")
    assert len(safe) == NAME_BYTES
