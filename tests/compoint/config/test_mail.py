"""Section [mail]: what switches mail on, what a setting may be, what does not go together."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from compoint.config import SETTINGS, MailSettings, Settings

if TYPE_CHECKING:
    from collections.abc import Callable

ON = {"receiverPort": "7101", "returnAddress": "me@example.org", "mailHost": "mx.example"}
FACTS = {"receiver_port": 7101, "return_address": "me@example.org", "mail_host": "mx.example"}
UNTRUSTED = {**ON, "trust": "none"}


def text(**given: object) -> str:
    return "\n".join(["[mail]", *(f"{key} = {value}" for key, value in given.items())])


@pytest.fixture
def some_file(tmp_path: Path) -> Path:
    file = tmp_path / "some"
    file.touch()
    return file


# --- on or off ------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "[mail]\n", "[mail]\n# receiverPort = 1\n"])
def test_mail_is_off_when_none_of_its_settings_is_set(
    read: Callable[[str], Settings], text: str
) -> None:
    assert read(text).mail is None


def test_mail_is_off_when_only_settings_with_defaults_are_set(
    read: Callable[[str], Settings],
) -> None:
    assert read(text(smtpUser="me", trust="secret")).mail is None


def test_a_wrong_value_is_told_even_while_mail_is_off(faults: Callable[[str], list[str]]) -> None:
    (line,) = faults(text(daily="many"))
    assert line.startswith("[mail] daily: 'many' is not a whole number; ")


def test_mail_is_on_when_all_that_have_no_default_are_set(
    read: Callable[[str], Settings],
) -> None:
    assert read(text(**UNTRUSTED)).mail == MailSettings(**FACTS, trust="none")


@pytest.mark.parametrize("kept", [[0], [1], [2], [0, 1], [0, 2], [1, 2]])
def test_mail_that_is_partly_set_is_a_fault_that_names_the_missing(
    faults: Callable[[str], list[str]], kept: list[int]
) -> None:
    given = {key: ON[key] for number, key in enumerate(ON) if number in kept}
    missing = ", ".join(key for key in ON if key not in given)
    assert faults(text(**given, trust="none")) == [
        f"[mail]: {missing} missing; set all of receiverPort, returnAddress, mailHost, or none"
    ]


# --- each value -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "value", "attribute", "read_as"),
    [
        ("returnAddress", "Me@Bücher.example", "return_address", "Me@xn--bcher-kva.example"),
        ("returnAddress", "me@example.org.", "return_address", "me@example.org"),
        ("smtpPort", "2525", "smtp_port", 2525),
        ("smtpPort", "default", "smtp_port", 0),
        ("smtpTls", "tls", "smtp_tls", "tls"),
        ("smtpTls", "none", "smtp_tls", "none"),
        ("smtpTls", "in-the-clear", "smtp_tls", "in-the-clear"),
        ("passwordIsToken", "on", "password_is_token", True),
        ("sendmailCommand", "/usr/sbin/sendmail", "sendmail_command", ("/usr/sbin/sendmail",)),
        ("sendmailCommand", "'a b' -c \"d e\" $HOME", "sendmail_command",
         ("a b", "-c", "d e", "$HOME")),
        ("spool", "~/box", "spool", "~/box"),
        ("spool", "/var/box", "spool", "/var/box"),
        ("maxMail", "16 KiB", "max_mail_bytes", 16_384),
        ("maxMail", "50 MiB", "max_mail_bytes", 50 * 1024**2),
        ("rate", "0.001", "rate", 0.001),
        ("rate", "10000", "rate", 10_000.0),
        ("daily", "1", "daily", 1),
        ("expire", "30 d", "expire_s", 30 * 86_400.0),
        ("rtoMin", "1 d", "rto_min_s", 86_400.0),
        ("ackDelay", "0.01", "ack_delay_s", 0.01),
        ("imapPort", "default", "imap_port", 0),
        ("imapPort", "1143", "imap_port", 1143),
        ("imapTls", "starttls", "imap_tls", "starttls"),
        ("imapTls", "none", "imap_tls", "none"),
        ("imapFolders", "INBOX,  Junk mail", "imap_folders", ("INBOX", "Junk mail")),
        ("maildir", "~/Maildir", "maildir", "~/Maildir"),
        ("listen", "2525", "listen", "127.0.0.1:2525"),
        ("listen", "0.0.0.0:25", "listen", "0.0.0.0:25"),
        ("listen", "[::1]:2525", "listen", "[::1]:2525"),
        ("listenProtocol", "smtp", "listen_protocol", "smtp"),
    ],
)  # fmt: skip
def test_a_value_is_read(
    read: Callable[[str], Settings], key: str, value: str, attribute: str, read_as: object
) -> None:
    mail = read(text(**UNTRUSTED | {key: value})).mail
    assert mail == dataclasses.replace(MailSettings(**FACTS, trust="none"), **{attribute: read_as})
    assert type(getattr(mail, attribute)) is type(read_as)


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [
        ("receiverPort", "0", "is too small; allowed is a whole number from 1 to 65535"),
        ("receiverPort", "65536", "is too large"),
        ("returnAddress", "me", "is not right: the host of a mail address is a mailbox"),
        ("returnAddress", "Me <me@example.org>", "allowed is a mailbox, as in me@example.org"),
        ("mailHost", "smtp://mx", "holds a protocol"),
        ("mailHost", "mx example", "allowed is a host name or IP address"),
        ("mailHost", "mx:25", "is not right"),
        ("trust", "signed", "is none of them; allowed is secret or none"),
        ("secretFile", "absent", "is no file; allowed is none, or the name of a file that exists"),
        ("smtpPort", "0", "is too small; allowed is default, or a whole number from 1 to 65535"),
        ("smtpPort", "65536", "is too large"),
        ("smtpTls", "ssl", "allowed is starttls, tls, none or in-the-clear"),
        ("smtpTls", "TLS", "is none of them"),
        ("smtpUser", "m\x07e", "holds a character that cannot be shown"),
        ("passwordFile", "absent", "is no file"),
        ("passwordCommand", "pass 'show", "is not a command (No closing quotation)"),
        ("passwordCommand", "''", "is not a command; allowed is none, or a command with its"),
        ("passwordIsToken", "yes", "is neither on nor off"),
        ("caFile", "absent", "is no file; allowed is default, or the name of a file that exists"),
        ("spool", "box", "is not a whole path; allowed is the whole path of a folder"),
        ("spool", "~other/box", "is not a whole path"),
        ("spool", "/b\x07x", "holds a character that cannot be shown"),
        ("maxMail", "16383", "is too small; allowed is a size from 16 KiB to 50 MiB"),
        ("maxMail", "51 MiB", "is too large"),
        ("rate", "0", "is too small; allowed is a number from 0.001 to 10000, as in 0.5"),
        ("rate", "10000.1", "is too large"),
        ("rate", "1e3", "is not a number"),
        ("daily", "0", "is too small"),
        ("expire", "0.05", "is too small; allowed is a time from 0.1 s to 30 d"),
        ("expire", "31 d", "is too large"),
        ("rtoMin", "0.04", "is too small; allowed is a time from 0.05 s to 1 d"),
        ("rtoMin", "25 h", "is too large"),
        ("ackDelay", "0.009", "is too small; allowed is a time from 0.01 s to 1 h"),
        ("ackDelay", "61 min", "is too large"),
        ("imapHost", "imap://mx", "holds a protocol"),
        ("imapPort", "0", "is too small"),
        ("imapTls", "in-the-clear", "is none of them; allowed is tls, starttls or none"),
        ("imapFolders", "INBOX,", "holds an empty one"),
        ("imapFolders", "A, B, A", "names one of them twice"),
        ("maildir", "Maildir", "is not a whole path; allowed is none, or the whole path"),
        ("listen", "0", "is not right: the port 0 means any free port"),
        ("listen", "65536", "is not right: the port is from 1 to 65535"),
        ("listen", "mx", "is not right: the port is missing"),
        ("listen", "mx:25/path", "is not a host and a port; allowed is none, or a port, or"),
        ("listen", "smtp://mx:25", "is not right"),
        ("listen", ":25", "is not"),
        ("listenProtocol", "http", "is none of them; allowed is lmtp or smtp"),
    ],
)
def test_a_wrong_value_is_the_only_fault(
    faults: Callable[[str], list[str]], key: str, value: str, why: str
) -> None:
    (line,) = faults(text(**UNTRUSTED | {key: value}))
    assert line.startswith(f"[mail] {key}: ")
    assert why in line


def test_times_may_be_tiny(read: Callable[[str], Settings]) -> None:
    mail = read(text(**UNTRUSTED, expire="0.1 s", rtoMin="0.05 s", ackDelay="0.01 s")).mail
    assert mail is not None
    assert (mail.expire_s, mail.rto_min_s, mail.ack_delay_s) == (0.1, 0.05, 0.01)


@pytest.mark.parametrize("key", ["secretFile", "passwordFile", "caFile"])
def test_a_file_is_kept_by_its_whole_path(
    read: Callable[[str], Settings], places: Path, key: str
) -> None:
    (places / "home" / "f").touch()
    given = UNTRUSTED | {"smtpUser": "me", "passwordFile": "~/f"} | {key: "~/f"}
    mail = read(text(**given)).mail
    (attribute,) = [one.attribute for one in SETTINGS if (one.section, one.key) == ("mail", key)]
    assert getattr(mail, attribute) == str(places / "home" / "f")


def test_a_home_folder_that_is_not_written_out_stays_so(
    read: Callable[[str], Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    """$HOME must have no say in it: the receiver program does not look there."""
    monkeypatch.setenv("HOME", "/elsewhere")
    mail = read(text(**UNTRUSTED)).mail
    assert mail is not None
    assert mail.spool == "~/.compoint/mail"


# --- values together ------------------------------------------------------------------------


def test_a_secret_is_asked_for_unless_trust_is_none(faults: Callable[[str], list[str]]) -> None:
    assert faults(text(**ON)) == [
        (
            "[mail] secretFile: is not set, and trust is secret;"
            " name a secretFile that both sides share, or say trust = none"
        )
    ]


def test_a_secret_file_is_trust_enough(read: Callable[[str], Settings], some_file: Path) -> None:
    assert read(text(**ON, secretFile=some_file)).mail == MailSettings(
        **FACTS, secret_file=str(some_file)
    )


def test_a_password_comes_one_way_only(faults: Callable[[str], list[str]], some_file: Path) -> None:
    both = {"passwordFile": some_file, "passwordCommand": "pass show mail"}
    assert faults(text(**UNTRUSTED, smtpUser="me", **both)) == [
        "[mail] passwordCommand: is set, and so is passwordFile; delete one of them"
    ]


@pytest.mark.parametrize("key", ["smtpUser", "imapUser"])
def test_a_user_needs_a_password(faults: Callable[[str], list[str]], key: str) -> None:
    assert faults(text(**UNTRUSTED, **{key: "me"})) == [
        f"[mail] {key}: is a user without a password; set passwordFile or passwordCommand"
    ]


@pytest.mark.parametrize("way", ["passwordFile", "passwordCommand"])
def test_a_user_with_a_password_is_complete(
    read: Callable[[str], Settings], some_file: Path, way: str
) -> None:
    mail = read(text(**UNTRUSTED, smtpUser="me", **{way: some_file})).mail
    assert mail is not None
    assert mail.smtp_user == "me"
    assert (mail.password_file, mail.password_command) in [
        (str(some_file), ()), ("", (str(some_file),))
    ]  # fmt: skip


def test_a_password_needs_a_user(faults: Callable[[str], list[str]]) -> None:
    assert faults(text(**UNTRUSTED, passwordCommand="pass show mail")) == [
        "[mail] smtpUser: is not set, and a password is; name whose password it is"
    ]


@pytest.mark.parametrize("password", [{}, {"passwordCommand": "pass show mail"}])
def test_imap_needs_a_user(faults: Callable[[str], list[str]], password: dict[str, str]) -> None:
    assert faults(text(**UNTRUSTED, imapHost="mx", **password)) == [
        "[mail] imapHost: has no user who logs in; set imapUser or smtpUser"
    ]


@pytest.mark.parametrize("key", ["smtpUser", "imapUser"])
def test_either_user_is_enough_for_imap(read: Callable[[str], Settings], key: str) -> None:
    given = {"imapHost": "imap.example", key: "me", "passwordCommand": "pass show mail"}
    mail = read(text(**UNTRUSTED, **given)).mail
    assert mail is not None
    assert mail.imap_host == "imap.example"


def test_an_acknowledgement_waits_no_longer_than_its_peer(
    faults: Callable[[str], list[str]],
) -> None:
    assert faults(text(**UNTRUSTED, rtoMin="5 s")) == [
        "[mail] ackDelay: 30 s are more than rtoMin, 5 s; allowed is at most as much as rtoMin"
    ]


def test_something_can_be_said_again_before_it_expires(
    faults: Callable[[str], list[str]],
) -> None:
    assert faults(text(**UNTRUSTED, expire="1 min")) == [
        "[mail] rtoMin: 600 s are more than expire, 60 s; allowed is at most as much as expire"
    ]


def test_what_clashes_only_because_it_is_wrong_itself_is_told_once(
    faults: Callable[[str], list[str]],
) -> None:
    wrong: dict[str, Any] = ON | {"secretFile": "absent", "smtpUser": "me", "passwordFile": "none2"}
    assert [line.split(": ")[0] for line in faults(text(**wrong))] == [
        "[mail] secretFile", "[mail] passwordFile",
    ]  # fmt: skip


def test_all_that_clashes_is_told_at_once(faults: Callable[[str], list[str]]) -> None:
    wrong: dict[str, Any] = ON | {"smtpUser": "me", "rtoMin": "5 s", "daily": "0"}
    assert [line.split(": ")[0] for line in faults(text(**wrong))] == [
        "[mail] daily", "[mail] secretFile", "[mail] smtpUser", "[mail] ackDelay",
    ]  # fmt: skip
