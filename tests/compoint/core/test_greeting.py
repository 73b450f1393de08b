"""Greetings: ours come through whole, others are recognised, nothing raises."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wire_play import FIRST, greeting

from compoint.core.codes import Code
from compoint.core.foreign import look
from compoint.core.greeting import (
    MAGIC,
    VERSION,
    Foreign,
    Greeting,
    Mode,
    OtherVersion,
    Refusal,
    parse_greeting,
)
from compoint.limits import GREETING_BYTES

GREETINGS = st.builds(
    Greeting,
    st.sampled_from([mode for mode in Mode if mode is not Mode.REFUSAL]),
    st.integers(FIRST, 2**64 - 1),
    st.integers(FIRST, 2**64 - 1),
    st.integers(0, 2**32 - 1),
    st.binary(min_size=16, max_size=16),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=40),
    newest=st.integers(VERSION, 255),
    oldest=st.integers(0, VERSION),
)


@given(GREETINGS, st.binary(max_size=20))
def test_a_greeting_comes_out_as_it_was_said(said: Greeting, behind: bytes) -> None:
    data = said.encode()
    assert parse_greeting(data + behind) == (said, len(data))


@given(GREETINGS)
def test_a_greeting_is_waited_for_byte_by_byte(said: Greeting) -> None:
    data = said.encode()
    assert all(parse_greeting(data[:count]) is None for count in range(len(data)))


@given(st.binary(max_size=100), st.booleans())
def test_no_bytes_make_the_greeting_raise(data: bytes, is_close: bool) -> None:
    parsed = parse_greeting(MAGIC + data if is_close else data)
    assert parsed is None or isinstance(parsed[0], (Greeting, Refusal, OtherVersion, Foreign))


@given(st.binary(max_size=60))
def test_a_verdict_does_not_change_as_more_bytes_come(data: bytes) -> None:
    verdicts = [look(data[:count]) for count in range(len(data) + 1)]
    first = next((verdict for verdict in verdicts if verdict is not None), None)
    known = [verdict for verdict in verdicts if verdict is not None]
    assert all(verdict == first for verdict in known)


def test_a_refusal_comes_out_as_it_was_said() -> None:
    said = Refusal(Code.BUSY, "come later", 1.5)
    data = said.encode()
    assert parse_greeting(data) == (said, len(data))


@pytest.mark.parametrize(
    ("banner", "words"),
    [
        (b"GET / HTTP/1.1\r\n", "an HTTP request"),
        (b"POST /x HTTP/1.1\r\n", "an HTTP request"),
        (b"PRI * HTTP/2.0\r\n", "an HTTP request"),
        (b"HTTP/1.1 400 Bad Request\r\n", "an HTTP answer"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "an SSH banner"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01", "a TLS handshake"),
        (b"\x15\x03\x03\x00\x02\x02\x32", "a TLS alert"),
        (b"220 mail.example ESMTP\r\n", "a mail or FTP server"),
        (b"* OK IMAP4rev1 ready\r\n", "an IMAP server"),
        (b"+OK POP3 ready\r\n", "a POP3 server"),
        (b"\xff\x00\x00\x00\x00\x00\x00\x00\x01\x7f", "a ZeroMQ greeting"),
        (b"\x93ComPt\n\x01\x01", "line end changed"),
        (b"\x00\x01\x02\x03", "no protocol we know"),
        (b"EHLO client\r\n", "no protocol we know"),
    ],
)
def test_a_foreign_protocol_is_named_however_its_bytes_come(banner: bytes, words: str) -> None:
    for count in range(1, len(banner) + 1):
        parsed = parse_greeting(banner[:count])
        if parsed is not None:
            assert isinstance(parsed[0], Foreign)
            assert words in parsed[0].text
            assert parsed[1] == 0
    assert parsed is not None


def test_the_magic_is_what_the_protocol_text_says() -> None:
    assert MAGIC == b"\x93ComPt\r\n"


@pytest.mark.parametrize(("newest", "oldest"), [(VERSION + 1, VERSION + 1), (0, 0), (0, 5)])
def test_another_version_is_seen_before_its_body(newest: int, oldest: int) -> None:
    head = bytearray(greeting(Mode.PLAIN).encode()[:16])
    head[8:10] = bytes([newest, oldest])
    head[12:16] = b"\xff\xff\xff\xff"
    assert parse_greeting(bytes(head)) == (OtherVersion(newest, oldest), 0)


def test_a_longer_version_range_than_ours_is_welcome() -> None:
    said = greeting(Mode.PLAIN, newest=9, oldest=1)
    assert parse_greeting(said.encode()) == (said, len(said.encode()))


def test_a_greeting_too_long_is_refused_before_it_is_here() -> None:
    head = bytearray(greeting(Mode.PLAIN).encode()[:16])
    head[12:16] = (GREETING_BYTES + 1).to_bytes(4, "big")
    parsed = parse_greeting(bytes(head))
    assert parsed is not None
    assert "a greeting of 4097 bytes" in parsed[0].text  # type: ignore[union-attr]


def damaged(change: tuple[int, bytes], **fields: int) -> str:
    data = bytearray(greeting(Mode.PLAIN, path="/a", **fields).encode())
    at, what = change
    data[at : at + len(what)] = what
    parsed = parse_greeting(bytes(data))
    assert parsed is not None
    assert isinstance(parsed[0], Foreign)
    return parsed[0].text


def test_a_small_window_is_refused() -> None:
    assert "a window of 65535 bytes" in damaged((0, b""), window=FIRST - 1)


def test_a_small_message_limit_is_refused() -> None:
    assert "a message limit of 65535 bytes" in damaged((0, b""), message_limit=FIRST - 1)


def test_an_unknown_mode_is_refused() -> None:
    assert "a damaged greeting" in damaged((10, b"\x63"))


def test_a_path_longer_than_the_greeting_is_refused() -> None:
    assert "the path is longer than the greeting" in damaged((16 + 36, b"\x00\x09"))


def test_a_path_that_is_no_text_is_refused() -> None:
    assert "a damaged greeting" in damaged((16 + 38, b"\xff\xff"))


def test_a_body_too_short_is_refused() -> None:
    assert "a damaged greeting" in damaged((12, b"\x00\x00\x00\x05"))


def test_what_follows_the_path_is_left_to_later_versions() -> None:
    data = greeting(Mode.PLAIN, path="/a").encode()
    longer = data[:12] + (len(data) - 16 + 5).to_bytes(4, "big") + data[16:] + b"later"
    assert parse_greeting(longer) == (greeting(Mode.PLAIN, path="/a"), len(longer))


def test_a_path_that_does_not_fit_is_the_callers_mistake() -> None:
    greeting(Mode.PLAIN, path="/" * 4058).encode()
    with pytest.raises(ValueError, match="a path of 4059 bytes, allowed are 4058"):
        greeting(Mode.PLAIN, path="/" * 4059).encode()
