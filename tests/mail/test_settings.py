"""From section [mail] of the settings to what the rooms of the mail transport take."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest
from world_kit import mail_world

from compoint import COMPOINT_INITIATOR, COMPOINT_SERVER, ComManager, ComPointAddress
from compoint.config import SETTINGS, MailSettings, load
from compoint.errors import ConfigError
from compoint.testing import configured
from mail import _receiver_config
from mail._password import Password
from mail._private_file import FILE_BYTES, read_private
from mail._rate import BudgetState
from mail._receiver_config import ReceiverConfig
from mail._settings import (
    ImapSettings,
    ListenSettings,
    OfficeSettings,
    shared_secret,
    spool_folder,
)
from mail._smtp import SubmissionSettings, Tls
from mail._timers import Pace
from mail.receiver import MAIL_BYTES

ROOT: Final = Path(__file__).resolve().parents[2]
SECRET: Final = b"0123456789abcdef"


def settings(**given: Any) -> MailSettings:
    facts = {"receiver_port": 7101, "return_address": "me@a.test", "mail_host": "mx.test"}
    return MailSettings(**facts | {"trust": "none"} | given)


def office(**given: Any) -> OfficeSettings:
    return OfficeSettings.of(settings(**given))


@pytest.fixture
def private(tmp_path: Path) -> Path:
    file = tmp_path / "private"
    file.write_bytes(SECRET)
    file.chmod(0o600)
    return file


# --- what follows from what -----------------------------------------------------------------


def test_the_mailbox_and_the_port_of_the_receiver_are_passed_on() -> None:
    made = office()
    assert (made.mailbox, made.receiver_port) == ("me@a.test", 7101)


def test_the_defaults_are_those_of_the_rooms() -> None:
    assert office().pace == Pace()
    assert office().submission == SubmissionSettings("mx.test")


def test_the_times_become_the_pace() -> None:
    pace = office(rto_min_s=0.05, ack_delay_s=0.01, expire_s=0.1).pace
    assert pace == Pace(rto_min_s=0.05, ack_delay_s=0.01, expire_s=0.1)


@pytest.mark.parametrize(
    ("tls", "port"), [("starttls", 587), ("tls", 465), ("none", 25), ("in-the-clear", 25)]
)
def test_the_port_of_the_mail_server_follows_from_tls(tls: str, port: int) -> None:
    submission = office(smtp_tls=tls).submission
    assert (submission.tls, submission.port) == (Tls(tls), port)


def test_a_port_of_the_mail_server_that_is_set_stays() -> None:
    assert office(smtp_tls="tls", smtp_port=2525).submission.port == 2525


def test_every_way_to_secure_the_mail_server_can_be_set() -> None:
    (kind,) = [one.kind for one in SETTINGS if one.key == "smtpTls"]
    assert set(kind.words) == set(Tls)


def test_the_login_is_passed_on_and_no_password_is_read() -> None:
    submission = office(
        smtp_user="me", password_file="/absent", password_is_token=True, ca_file="/ca"
    ).submission
    assert submission == SubmissionSettings(
        "mx.test", user="me", password=Password("/absent"), is_token=True, ca_file="/ca"
    )


def test_the_password_command_is_passed_on() -> None:
    assert office(password_command=("pass", "x")).submission.password == Password(
        command=("pass", "x")
    )


def test_the_sendmail_command_is_passed_on() -> None:
    assert office().sendmail == ()
    assert office(sendmail_command=("/usr/sbin/sendmail", "-v")).sendmail == (
        "/usr/sbin/sendmail", "-v",
    )  # fmt: skip


@pytest.mark.parametrize(("rate", "burst"), [(0.5, 3), (3.0, 3), (3.1, 4), (100.0, 100)])
def test_at_least_three_mails_and_a_second_of_the_rate_may_leave_at_once(
    rate: float, burst: int
) -> None:
    made = office(rate=rate, daily=1000)
    assert (made.rate, made.burst) == (rate, burst)
    budget = made.budget()
    assert [budget.take(0.0) for _ in range(burst + 1)] == [True] * burst + [False]


def test_the_budget_of_the_day_is_passed_on() -> None:
    assert office(daily=2).budget().left_today(0.0) == 2


def test_a_budget_goes_on_from_what_was_kept() -> None:
    kept = BudgetState(tokens=0.0, at=0.0, sent=((0, 5),))
    assert office(daily=7).budget(kept).left_today(0.0) == 2


def test_a_mail_of_the_default_size_passes_a_limit_of_10_mb_with_room_for_more() -> None:
    """A footer, Received lines, and base64 in lines of 64 characters instead of 76."""
    payload = office().payload_bytes
    assert payload * 4 / 3 * 66 / 64 + 256 * 1024 < 10_000_000
    assert payload > 6_500_000


def test_the_largest_mail_bounds_what_it_carries() -> None:
    assert office(max_mail_bytes=16 * 1024).payload_bytes < 12 * 1024


def test_the_largest_mail_that_can_be_set_is_looked_at_by_the_receiver() -> None:
    (kind,) = [one.kind for one in SETTINGS if one.key == "maxMail"]
    assert int(kind.parse("50 MiB")) * 1.1 < MAIL_BYTES


# --- ways in --------------------------------------------------------------------------------


def test_nothing_is_watched_unless_it_is_set() -> None:
    made = office()
    assert (made.imap, made.maildir, made.listen) == (None, "", None)


@pytest.mark.parametrize(("tls", "port"), [("tls", 993), ("starttls", 143), ("none", 143)])
def test_the_port_of_imap_follows_from_tls(tls: str, port: int) -> None:
    imap = office(imap_host="imap.test", imap_tls=tls).imap
    assert imap is not None
    assert (imap.tls, imap.port) == (Tls(tls), port)


def test_imap_takes_the_login_and_the_authorities_of_the_mail_server() -> None:
    made = office(
        imap_host="imap.test", imap_port=1993, imap_folders=("A", "B"), smtp_user="me",
        password_command=("pass", "x"), password_is_token=True, ca_file="/ca",
    )  # fmt: skip
    assert made.imap == ImapSettings(
        "imap.test", 1993, Tls.IMPLICIT, "me", Password(command=("pass", "x")), ("A", "B"),
        "/ca", is_token=True,
    )  # fmt: skip


def test_imap_may_have_a_user_of_its_own() -> None:
    imap = office(imap_host="imap.test", smtp_user="me", imap_user="other").imap
    assert imap is not None
    assert imap.user == "other"


@pytest.mark.parametrize(
    ("listen", "host"), [("127.0.0.1:2525", "127.0.0.1"), ("[::1]:2525", "::1")]
)
@pytest.mark.parametrize("protocol", ["lmtp", "smtp"])
def test_a_listener_has_host_port_and_protocol(listen: str, host: str, protocol: str) -> None:
    made = office(listen=listen, listen_protocol=protocol).listen
    assert made == ListenSettings(host, 2525, protocol)


# --- folders --------------------------------------------------------------------------------

HOME: Final = pwd.getpwuid(os.geteuid()).pw_dir


def test_a_folder_in_the_home_folder_becomes_a_whole_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/elsewhere")
    made = office(spool="~/a/../box", maildir="~/Maildir")
    assert (made.spool, made.maildir) == (os.path.join(HOME, "box"), os.path.join(HOME, "Maildir"))


@pytest.mark.parametrize("spool", ["", "~", "~/box", "/var/lib//box/"])
def test_the_receiver_program_finds_the_same_drop_box(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spool: str
) -> None:
    monkeypatch.setenv("HOME", "/elsewhere")
    file = tmp_path / "_sempconfig"
    line = f"spool = {spool}\n" if spool else ""
    file.write_text(
        "[mail]\nreceiverPort = 7101\nreturnAddress = me@a.test\nmailHost = mx.test\n"
        f"trust = none\n{line}"
    )
    mine = load(file).mail
    assert mine is not None
    receiver = ReceiverConfig(str(file))
    assert (spool_folder(mine), mine.receiver_port) == (receiver.spool, receiver.port)


def test_a_user_without_an_account_is_told_to_write_the_whole_path(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def nobody(uid: int) -> None:
        raise KeyError(uid)

    monkeypatch.setattr(_receiver_config.pwd, "getpwuid", nobody)
    assert spool_folder(settings(spool="/var/box")) == "/var/box"
    with pytest.raises(ConfigError, match=r"is ~/box, but .* no account; write spool without"):
        spool_folder(settings(spool="~/box"))


# --- the mailbox ----------------------------------------------------------------------------

SPELLINGS: Final = ["shop@bücher.example", "SHOP@BÜCHER.example", "Shop@xn--bcher-KVA.example."]


@pytest.mark.parametrize("mine", SPELLINGS)
@pytest.mark.parametrize("theirs", SPELLINGS)
def test_a_mailbox_is_found_by_each_of_its_spellings(
    tmp_path: Path, mine: str, theirs: str
) -> None:
    def box(name: str, **more: object) -> dict[str, object]:
        return world.box(name, tmp_path / name, **more)

    with mail_world() as world:
        shop = box("shop@xn--bcher-kva.example", returnAddress=mine)
        for name in ("SHOP", "Shop"):
            world.also(f"{name}@xn--bcher-kva.example", "shop@xn--bcher-kva.example")
        with configured(mail=shop):
            server = ComManager.com_point(COMPOINT_SERVER, ComPointAddress("mail", mine, 7100))
        with configured(mail=box("bob@example.net")):
            point = ComManager.com_point(COMPOINT_INITIATOR, ComPointAddress("mail", theirs, 7100))
        with server, point:
            point.write(b"hello")
            with server.accept(timeout=20) as other:
                assert other.read(timeout=20) == b"hello"
                other.write(b"hello you")
                assert point.read(timeout=20) == b"hello you"


# --- the secret -----------------------------------------------------------------------------


def test_without_trust_there_is_no_secret(private: Path) -> None:
    assert office(trust="none", secret_file=str(private)).secret is None


def test_a_secret_is_what_its_file_holds(private: Path) -> None:
    assert office(trust="secret", secret_file=str(private)).secret == SECRET


def test_an_editors_line_break_is_not_part_of_the_secret(private: Path) -> None:
    private.write_bytes(b"\n " + SECRET + b" x\r\n\n")
    assert shared_secret(settings(trust="secret", secret_file=str(private))) == SECRET + b" x"


@pytest.mark.parametrize("content", [b"", SECRET[:-1], SECRET[:-1] + b"\n" * 9])
def test_a_secret_that_can_be_guessed_is_refused(private: Path, content: bytes) -> None:
    private.write_bytes(content)
    with pytest.raises(ConfigError, match=r"holds \d+ bytes, which can be guessed; 16 or more"):
        shared_secret(settings(trust="secret", secret_file=str(private)))


def test_the_advice_for_a_short_secret_makes_a_good_one(private: Path) -> None:
    private.write_bytes(b"short")
    mine = settings(trust="secret", secret_file=str(private))
    with pytest.raises(ConfigError) as caught:
        shared_secret(mine)
    subprocess.run(["sh", "-c", caught.value.hint.partition(": ")[2]], check=True, timeout=10)
    assert len(shared_secret(mine) or b"") > 40


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601])
def test_a_secret_that_others_may_read_or_change_is_refused(private: Path, mode: int) -> None:
    private.chmod(mode)
    with pytest.raises(ConfigError, match=r"others may read the secret file .*; chmod 600 it"):
        shared_secret(settings(trust="secret", secret_file=str(private)))


def test_a_secret_of_somebody_else_is_refused(
    private: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    os.chown(private, 12345, -1)
    with pytest.raises(ConfigError, match=r"the secret file .* belongs to somebody else"):
        shared_secret(settings(trust="secret", secret_file=str(private)))


def test_a_secret_file_that_has_gone_is_named(private: Path) -> None:
    private.unlink()
    with pytest.raises(ConfigError, match=r"the secret file .*/private cannot be read \(No such"):
        shared_secret(settings(trust="secret", secret_file=str(private)))


def test_a_file_that_is_too_long_is_not_half_a_secret(private: Path) -> None:
    private.write_bytes(b"x" * FILE_BYTES)
    assert len(read_private(str(private), "secret file")) == FILE_BYTES
    private.write_bytes(b"x" * (FILE_BYTES + 1))
    with pytest.raises(ConfigError, match="is longer than 65536 bytes"):
        read_private(str(private), "secret file")


def test_the_secret_is_not_shown(private: Path) -> None:
    assert "0123" not in repr(office(trust="secret", secret_file=str(private)))


# --- light ----------------------------------------------------------------------------------


def test_reading_the_settings_brings_nothing_of_the_mail_transport() -> None:
    look = "import sys, compoint.config; print([name for name in sys.modules if 'mail' in name])"
    looked = subprocess.run(
        [sys.executable, "-c", look], env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, timeout=30, check=True,
    )  # fmt: skip
    assert looked.stdout == "['compoint._mail_settings']\n"
