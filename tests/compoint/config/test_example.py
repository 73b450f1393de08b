"""sempconfig.example: every setting with its sentence and its default, and nothing else."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from compoint.config import SETTINGS, MailSettings, Setting, Settings, load

if TYPE_CHECKING:
    from collections.abc import Callable

EXAMPLE = Path(__file__).parents[3] / "sempconfig.example"


@dataclasses.dataclass(frozen=True)
class Shown:
    """One setting as sempconfig.example shows it."""

    section: str
    key: str
    value: str
    sentence: str


def shown() -> list[Shown]:
    found: list[Shown] = []
    section = ""
    before = ""
    for line in EXAMPLE.read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif match := re.fullmatch(r"#(\w+) = (.+)", line):
            found.append(Shown(section, match[1], match[2], before.removeprefix("# ")))
        before = line
    return found


REQUIRED = [setting.key for setting in SETTINGS if setting.default is None]


def uncommented(*, with_placeholders: bool) -> str:
    return re.sub(
        r"(?m)^#(\w+) = ",
        lambda match: (
            match[0] if match[1] in REQUIRED and not with_placeholders else f"{match[1]} = "
        ),
        EXAMPLE.read_text(encoding="utf-8"),
    )


def test_the_example_shows_every_setting_once_with_its_sentence() -> None:
    assert [(line.section, line.key, line.sentence) for line in shown()] == [
        (setting.section, setting.key, setting.sentence) for setting in SETTINGS
    ]


@pytest.mark.parametrize(
    "setting",
    [setting for setting in SETTINGS if setting.default is not None],
    ids=lambda setting: f"{setting.section}-{setting.key}",
)
def test_the_example_shows_the_default(setting: Setting) -> None:
    (line,) = [
        line for line in shown() if (line.section, line.key) == (setting.section, setting.key)
    ]
    assert setting.kind.parse(line.value) == setting.default


def test_the_example_as_it_is_holds_the_defaults() -> None:
    assert load(EXAMPLE) == Settings(sources=(str(EXAMPLE),))


def test_the_example_uncommented_holds_the_defaults(read: Callable[[str], Settings]) -> None:
    text = uncommented(with_placeholders=False)
    assert text.count("\n#") < EXAMPLE.read_text(encoding="utf-8").count("\n#")
    assert dataclasses.replace(read(text), sources=()) == Settings()


def test_the_placeholders_of_mail_in_the_example_are_valid(read: Callable[[str], Settings]) -> None:
    text = uncommented(with_placeholders=True).replace("trust = secret", "trust = none")
    assert read(text).mail == MailSettings(
        receiver_port=7101, return_address="me@example.org", mail_host="smtp.example.org",
        trust="none",
    )  # fmt: skip


def test_the_example_names_the_sections_of_others(read: Callable[[str], Settings]) -> None:
    text = EXAMPLE.read_text(encoding="utf-8")
    assert "#[x-anything]" in text
    read(text.replace("#[x-anything]", "[x-anything]\nkey = value"))


def test_every_sentence_is_one_and_ends() -> None:
    for setting in SETTINGS:
        assert re.fullmatch(r"[A-Z][^\n]*\.", setting.sentence), setting.key
