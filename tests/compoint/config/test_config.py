"""The settings: where they are looked for, how they are read, and every fault by its place."""

from __future__ import annotations

import dataclasses
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compoint import config, limits
from compoint.config import (
    SETTINGS,
    ChannelSettings,
    HttpSettings,
    MailSettings,
    PointSettings,
    Setting,
    Settings,
    load,
)
from compoint.errors import ConfigError, Phase

if TYPE_CHECKING:
    from collections.abc import Callable


# --- where it is looked for -----------------------------------------------------------------


def put(path: Path, backlog: int) -> None:
    path.write_text(f"[compoint]\nbacklog = {backlog}\n", encoding="utf-8")


def test_without_any_file_the_defaults_hold() -> None:
    assert load() == Settings()
    assert Settings() == Settings(PointSettings(), ChannelSettings(), HttpSettings(), None, ())


def test_the_first_file_that_exists_wins(places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, named = places / "asked", places / "named"
    here, home = places / "here" / "_sempconfig", places / "home" / "_sempconfig"
    for backlog, path in enumerate([asked, named, here, home], start=1):
        put(path, backlog)
    monkeypatch.setenv("SEMPCONFIG", str(named))

    seen = [load(asked), load()]
    monkeypatch.delenv("SEMPCONFIG")
    seen.append(load())
    here.unlink()
    seen.append(load())

    assert [found.point.backlog for found in seen] == [1, 2, 3, 4]
    assert [found.sources for found in seen] == [
        (str(path),) for path in (asked, named, here, home)
    ]


def test_only_one_file_is_read(places: Path) -> None:
    put(places / "here" / "_sempconfig", 7)
    (places / "home" / "_sempconfig").write_text("[channel]\nmaxQueued = 8\n")
    assert load() == Settings(
        point=PointSettings(backlog=7), sources=(str(places / "here" / "_sempconfig"),)
    )


def test_a_path_may_be_text_and_may_name_the_home_folder(places: Path) -> None:
    put(places / "home" / "mine", 9)
    assert load("~/mine").point.backlog == 9


def test_an_empty_variable_names_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEMPCONFIG", "")
    assert load() == Settings()


def test_a_path_that_does_not_exist_is_a_fault(places: Path) -> None:
    put(places / "here" / "_sempconfig", 7)
    with pytest.raises(ConfigError, match=r"/absent: was asked for and does not exist"):
        load("absent/../absent")
    with pytest.raises(ConfigError, match=r"was asked for and does not exist"):
        load("")


def test_a_variable_that_names_no_existing_file_is_a_fault(
    places: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(places / "here" / "_sempconfig", 7)
    monkeypatch.setenv("SEMPCONFIG", "absent")
    with pytest.raises(ConfigError, match=r"absent: is named by \$SEMPCONFIG and does not exist"):
        load()


# --- files that cannot be read --------------------------------------------------------------


def test_a_folder_is_unreadable_and_said_to_be(places: Path) -> None:
    (places / "here" / "_sempconfig").mkdir()
    with pytest.raises(ConfigError, match=r"here/_sempconfig: cannot be read \(Is a directory\)"):
        load()


def test_a_link_to_nowhere_is_a_fault_and_not_passed_over(places: Path) -> None:
    (places / "here" / "_sempconfig").symlink_to(places / "absent")
    put(places / "home" / "_sempconfig", 7)
    with pytest.raises(ConfigError, match=r"cannot be read \(No such file"):
        load()


def test_a_socket_is_unreadable_and_said_to_be() -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("_sempconfig")  # relative: such paths are short
        with pytest.raises(ConfigError, match="cannot be read"):
            load()


def test_a_file_that_is_not_utf_8_is_a_fault_with_its_line(file: Path) -> None:
    file.write_bytes(b"[compoint]\n# caf\xc3\xa9\n# caf\xe9\n")
    with pytest.raises(ConfigError, match="line 3: is not UTF-8"):
        load(file)


def test_a_file_of_endless_length_is_not_read_to_its_end() -> None:
    with pytest.raises(ConfigError, match="is longer than 1048576 bytes"):
        load("/dev/zero")


def test_the_mark_that_some_editors_put_before_utf_8_is_no_fault(file: Path) -> None:
    file.write_bytes(b"\xef\xbb\xbf[compoint]\r\nbacklog = 5\r\n")
    assert load(file).point.backlog == 5


def test_an_empty_file_holds_the_defaults() -> None:
    assert load("/dev/null") == Settings(sources=("/dev/null",))


# --- values ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("1048576", 1_048_576), ("65536 B", 65_536), ("64 KiB", 65_536), ("64KiB", 65_536),
        ("3 MiB", 3 * 1024**2), ("1 GiB", 1024**3),
    ],
)  # fmt: skip
def test_a_size_is_read(read: Callable[[str], Settings], text: str, size_bytes: int) -> None:
    seen = read(f"[channel]\nmaxQueuedBytes = {text}").channel.max_queued_bytes
    assert seen == size_bytes
    assert isinstance(seen, int)


@pytest.mark.parametrize(
    ("text", "time_s"),
    [
        ("10", 10),
        ("10 s", 10),
        ("1.5s", 1.5),
        ("5 min", 300),
        ("2 h", 7200),
        ("0.5 h", 1800),
        ("3 d", 259_200),
    ],
)
def test_a_time_is_read(read: Callable[[str], Settings], text: str, time_s: float) -> None:
    seen = read(f"[channel]\nmaxQueuedAge = {text}").channel.max_queued_age_s
    assert seen == time_s
    assert isinstance(seen, float)


@pytest.mark.parametrize(
    "text", ["64 KB", "64 kib", "1.5 MiB", "-1", "+65536", "64  KiB", "0x10000", "\u0666", "KiB"]
)
def test_what_is_no_size_is_a_fault(faults: Callable[[str], list[str]], text: str) -> None:
    assert faults(f"[compoint]\nwindow = {text}") == [
        (
            f"[compoint] window: {text!r} is not a size (units: B, KiB, MiB, GiB, TiB);"
            " allowed is a size from 64 KiB to 1 GiB, as in 64 KiB"
        )
    ]


@pytest.mark.parametrize(
    "text",
    ["10 ms", "ten", "-1", "nan", "inf", "1e3", "1,5", "1.", ".5", "1 H", "10 s 5", "\u0663"],
)
def test_what_is_no_time_is_a_fault(faults: Callable[[str], list[str]], text: str) -> None:
    assert faults(f"[compoint]\nheartbeat = {text}") == [
        (
            f"[compoint] heartbeat: {text!r} is not a time (units: s, min, h, d);"
            " allowed is 0 for off, or a time from 0.1 s to 1 h, as in 1.5 s"
        )
    ]


@pytest.mark.parametrize("text", ["1.0", "-1", "1_000", "many", "\u0663"])
def test_what_is_no_whole_number_is_a_fault(faults: Callable[[str], list[str]], text: str) -> None:
    assert faults(f"[compoint]\nbacklog = {text}") == [
        (
            f"[compoint] backlog: {text!r} is not a whole number;"
            " allowed is a whole number from 1 to 65536"
        )
    ]


@pytest.mark.parametrize(
    ("section", "key", "least", "below", "most", "above"),
    [
        ("compoint", "maxMessage", "64 KiB", "65535", "1 TiB", "1099511627777"),
        ("compoint", "window", "64 KiB", "65535", "64 MiB", "1073741825"),
        ("compoint", "wideWindow", "1 MiB", "65535", "16 GiB", "17179869185"),
        ("compoint", "connectTimeout", "0.1", "0.09", "1 h", "3600.1"),
        ("compoint", "greetingTimeout", "0.1", "0", "1 h", "61 min"),
        ("compoint", "exitTimeout", "0", None, "24 h", "25 h"),
        ("compoint", "heartbeat", "0.1", "0.09", "1 h", "3601"),
        ("compoint", "backlog", "1", "0", "65536", "65537"),
        ("channel", "maxQueued", "1", "0", "1000000", "1000001"),
        ("channel", "maxQueuedPerConnection", "1", "0", "1000000", "1000001"),
        ("channel", "maxQueuedBytes", "64 KiB", "65535", "16 GiB", "17 GiB"),
        ("channel", "maxQueuedAge", "1", "0.9", "720 h", "721 h"),
        ("channel", "idleConnection", "0", None, "24 h", "25 h"),
    ],
)
def test_each_setting_has_a_least_and_a_most(
    read: Callable[[str], Settings],
    faults: Callable[[str], list[str]],
    section: str,
    key: str,
    least: str,
    below: str | None,
    most: str,
    above: str,
) -> None:
    for allowed in (least, most):
        read(f"[{section}]\n{key} = {allowed}")
    if below is not None:
        assert (
            f"{key}: '{below}' is too small; allowed is "
            in faults(f"[{section}]\n{key} = {below}")[0]
        )
    assert (
        f"{key}: '{above}' is too large; allowed is " in faults(f"[{section}]\n{key} = {above}")[0]
    )


def test_a_heartbeat_of_0_turns_it_off(read: Callable[[str], Settings]) -> None:
    assert read("[compoint]\nheartbeat = 0 s").point.heartbeat_s == 0


def test_the_wide_window_is_never_smaller_than_the_window(
    faults: Callable[[str], list[str]],
) -> None:
    assert faults("[compoint]\nwindow = 128 MiB") == [
        (
            "[compoint] wideWindow: 67108864 bytes are less than window, 134217728 bytes;"
            " allowed is at least as much as window"
        )
    ]


def test_a_window_that_is_wrong_itself_is_not_compared(
    faults: Callable[[str], list[str]],
) -> None:
    assert len(faults("[compoint]\nwindow = many\nwideWindow = 64 KiB")) == 1


def test_both_windows_may_be_equal(read: Callable[[str], Settings]) -> None:
    point = read("[compoint]\nwindow = 2 MiB\nwideWindow = 2 MiB").point
    assert point.window_bytes == point.wide_window_bytes == 2 * 1024**2


def test_an_empty_value_is_a_fault(faults: Callable[[str], list[str]]) -> None:
    assert faults("[compoint]\nbacklog =") == [
        "[compoint] backlog: is empty; allowed is a whole number from 1 to 65536"
    ]


def test_a_comment_behind_a_value_is_a_fault_that_says_so(
    faults: Callable[[str], list[str]],
) -> None:
    assert "a comment needs a line of its own" in faults("[compoint]\nbacklog = 5 # five")[0]


def test_a_value_that_goes_on_in_the_next_line_is_a_fault_that_says_so(
    faults: Callable[[str], list[str]],
) -> None:
    assert "goes on in an indented line" in faults("[compoint]\nbacklog = 5\n  window = 6")[0]


def test_an_indented_setting_behind_an_empty_line_is_one(read: Callable[[str], Settings]) -> None:
    point = read("[compoint]\nbacklog = 5\n\n  heartbeat = 6").point
    assert (point.backlog, point.heartbeat_s) == (5, 6)


def test_percent_signs_mean_nothing(faults: Callable[[str], list[str]]) -> None:
    assert "'%(window)s' is not a whole number" in faults("[compoint]\nbacklog = %(window)s")[0]


# --- names ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("maxmessage", "did you mean maxMessage?"),
        ("MAXMESSAGE", "did you mean maxMessage?"),
        ("MaxMessage", "did you mean maxMessage?"),
        ("baklog", "did you mean backlog?"),
        ("maxQueued", "it belongs to [channel]"),
    ],
)
def test_an_unknown_key_is_a_fault_with_a_suggestion(
    faults: Callable[[str], list[str]], key: str, hint: str
) -> None:
    assert faults(f"[compoint]\n{key} = 1") == [f"[compoint] {key}: is no setting; {hint}"]


@pytest.mark.parametrize(
    ("section", "hint"),
    [
        ("Compoint", "did you mean compoint?"),
        ("chanel", "did you mean channel?"),
        ("other", "allowed are compoint, channel, http, mail"),
        ("DEFAULT", "allowed are compoint, channel, http, mail"),
        ("X-other", "allowed are compoint, channel, http, mail"),
    ],
)
def test_an_unknown_section_is_a_fault_with_a_suggestion(
    faults: Callable[[str], list[str]], section: str, hint: str
) -> None:
    assert faults(f"[{section}]\nbacklog = 1") == [f"[{section}]: is no section; {hint}"]


def test_an_unknown_key_that_is_like_no_other_gets_the_list(
    faults: Callable[[str], list[str]],
) -> None:
    assert faults("[http]\nzzz = 1") == [
        "[http] zzz: is no setting; allowed are streams, caFile, giveUp"
    ]


def test_a_key_of_two_other_sections_is_a_fault_that_names_both(
    faults: Callable[[str], list[str]],
) -> None:
    (line,) = faults("[compoint]\ncaFile = default")
    assert line == "[compoint] caFile: is no setting; it belongs to [http] or [mail]"


def test_sections_of_others_are_not_looked_at(read: Callable[[str], Settings]) -> None:
    text = "[x-anything]\nbacklog = many\nwhatever = %(x)s\n[compoint]\nbacklog = 5\n[x-]\n"
    assert read(text).point == PointSettings(backlog=5)


# --- syntax ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("\nbacklog = 1\nwindow = 2\n[compoint]", "line 2: stands before any section; "),
        ("[compoint]\n\nbacklog\n", "line 3: 'backlog' is no setting; "),
        ("[compoint]\n[compoint\n", "line 2: '[compoint' is no setting; "),
        ("[compoint]\n[channel]\n[compoint]\nbacklog = 1", "line 3: [compoint] comes twice; "),
        ("[compoint]\nbacklog = 1\nbacklog = 2\n", "line 3: [compoint] backlog is set twice; "),
        ("[compoint]\n= 2\n", "line 2: '= 2' is no setting; "),
        ("[compoint]\n[mail] on\n", "line 2: '[mail] on' is no setting; "),
        ("[compoint] backlog = 5", "line 1: stands before any section; "),
        ("[compoint]\rbacklog = 5", "line 1: stands before any section; "),
    ],
)
def test_a_line_that_is_not_ini_is_a_fault_with_its_number(
    faults: Callable[[str], list[str]], text: str, fault: str
) -> None:
    (line,) = faults(text)
    assert line.startswith(fault)


def test_all_faults_are_told_at_once(faults: Callable[[str], list[str]]) -> None:
    text = """stray = 1
[compoint]
maxMessage = 0
nonsense
window = 1 MB
window = 2 MB
[channel]
more nonsense
maxQueud = 5
[compoint]
[mail]
receiverPort = 0
returnAddress = me@example.org
[other]
"""
    assert [line.split("; ")[0] for line in faults(text)] == [
        "line 1: stands before any section",
        "line 6: [compoint] window is set twice",
        "line 10: [compoint] comes twice",
        "line 4: 'nonsense' is no setting",
        "line 8: 'more nonsense' is no setting",
        "[compoint] maxMessage: '0' is too small",
        "[compoint] window: '1 MB' is not a size (units: B, KiB, MiB, GiB, TiB)",
        "[channel] maxQueud: is no setting",
        "[mail] receiverPort: '0' is too small",
        "[mail]: mailHost missing",
        "[mail] secretFile: is not set, and trust is secret",
        "[other]: is no section",
    ]


@pytest.mark.parametrize(
    "text", ["x\n" * 10_000, "[compoint]\n" + "x\n" * 10_000, "[compoint]\n" * 10_000]
)
def test_a_file_that_is_something_else_gets_a_short_error(
    faults: Callable[[str], list[str]], text: str
) -> None:
    lines = faults(text)
    assert len(lines) < 60
    assert len("\n".join(lines)) < 20_000


def test_many_unknown_names_get_a_short_error(faults: Callable[[str], list[str]]) -> None:
    lines = faults("[compoint]\n" + "".join(f"k{number} = 1\n" for number in range(10_000)))
    assert len(lines) == 51
    assert lines[-1] == "the rest was not read; correct these first"


def test_a_long_line_is_cut_in_the_error(faults: Callable[[str], list[str]]) -> None:
    (first, second) = faults(
        "[compoint]\nbacklog = " + "9" * 100_000 + "\n" + "k" * 100_000 + " = 1"
    )
    assert len(first) < 300
    assert len(second) < 300


def test_a_fault_is_found_while_configuring(read: Callable[[str], Settings]) -> None:
    with pytest.raises(ConfigError) as caught:
        read("[other]")
    assert caught.value.phase is Phase.CONFIGURE
    assert isinstance(caught.value, ValueError)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(
    st.lists(
        st.sampled_from(["[compoint]", "[mail]", "[", "]", "=", ":", "backlog", " ", "#", "1"])
        | st.text(max_size=5),
        max_size=30,
    ).map("\n".join)
    | st.text("[]=:#;\n\r\t compointbacklog15%\x00\x0b\x85\u2028")
)
def test_any_text_is_read_or_a_config_error(file: Path, text: str) -> None:
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        outcome = str(load(file).sources)
    except ConfigError as error:
        outcome = error.what
    assert str(file) in outcome


# --- the classes and their table ------------------------------------------------------------


def test_the_defaults_are_the_bounds_of_limits() -> None:
    assert dataclasses.astuple(PointSettings()) == (
        limits.MESSAGE_BYTES,
        limits.WINDOW_BYTES,
        limits.WIDE_WINDOW_BYTES,
        limits.CONNECT_S,
        limits.GREETING_S,
        limits.EXIT_S,
        limits.HEARTBEAT_S,
        limits.BACKLOG,
    )
    assert dataclasses.astuple(ChannelSettings()) == (
        limits.QUEUED_CHANNELS,
        limits.QUEUED_CHANNELS_PER_CONNECTION,
        limits.QUEUED_BYTES,
        limits.QUEUED_S,
        limits.IDLE_CONNECTION_S,
    )


def test_every_field_of_every_section_is_in_the_table() -> None:
    assert [(setting.section, setting.attribute) for setting in SETTINGS] == [
        (section, declared.name)
        for section, cls in [
            ("compoint", PointSettings),
            ("channel", ChannelSettings),
            ("http", HttpSettings),
            ("mail", MailSettings),
        ]
        for declared in dataclasses.fields(cls)
    ]


@pytest.mark.parametrize(
    "frozen",
    [Settings(), PointSettings(), ChannelSettings(), SETTINGS[0]],
    ids=lambda frozen: type(frozen).__name__,
)
def test_settings_are_frozen_and_slotted(frozen: Settings | Setting) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(frozen, dataclasses.fields(frozen)[0].name, None)
    assert not hasattr(frozen, "__dict__")


def test_settings_can_be_a_key() -> None:
    assert {Settings(): 1}[Settings()] == 1


def test_the_door_of_config_holds_what_it_says() -> None:
    assert all(hasattr(config, name) for name in config.__all__)
