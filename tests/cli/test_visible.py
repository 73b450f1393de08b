"""What people see of foreign texts, and of sizes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compoint.cli._visible import counted, size_in_words, visible


@given(st.text(st.characters(exclude_categories=())))
def test_whatever_a_peer_says_only_printable_characters_reach_the_terminal(text: str) -> None:
    assert visible(text).isprintable()


@given(st.text(st.characters(exclude_categories=("C", "Z"))))
def test_what_is_printable_stays_as_it_is(text: str) -> None:
    assert visible(text) == text


@pytest.mark.parametrize(
    ("attack", "shown"),
    [
        ("\x1b]0;owned\x07", r"\x1b]0;owned\x07"),  # sets the title of the window
        ("\x1b[2J", r"\x1b[2J"),  # clears the screen
        ("\x9b2J", r"\x9b2J"),  # the same in one C1 character
        ("fine\ncompoint: all is lost", r"fine\ncompoint: all is lost"),  # a line like ours
        ("fine\rfake", r"fine\rfake"),  # writes over what is there
        ("exe.\u202egpj", r"exe.\u202egpj"),  # turns the direction of writing
    ],
)
def test_an_escape_sequence_of_a_peer_is_shown_and_not_obeyed(attack: str, shown: str) -> None:
    assert visible(attack) == shown


@pytest.mark.parametrize(
    ("size_bytes", "words"),
    [
        (0, "0 bytes"),
        (1, "1 byte"),
        (999, "999 bytes"),
        (1000, "1.0 kB"),
        (999_949, "999.9 kB"),
        (999_951, "1.0 MB"),
        (314_572_800, "314.6 MB"),
        (10**21, "1000.0 EB"),
    ],
)
def test_sizes_are_told_in_words(size_bytes: int, words: str) -> None:
    assert size_in_words(size_bytes) == words


def test_a_noun_agrees_with_its_number() -> None:
    assert [counted(number, "line") for number in (0, 1, 2)] == ["0 lines", "1 line", "2 lines"]
