"""docs/howto/mail.md as a newcomer takes it: its settings, programs, commands and errors."""

from __future__ import annotations

import json
import os
import re
import shlex
import socket
import ssl
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
import trustme
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword

import compoint
from compoint._mail_settings import MailSettings
from compoint.cli._parser import parser
from compoint.config import load
from compoint.limits import CLOSE_S, KIB, MIB
from compoint.testing import eventually
from mail._backlog import BacklogBounds
from mail._dropbox import BAD_FILES, WAITING_BYTES, WAITING_FILES, Dropbox
from mail._mailbox import Bounds
from mail._mime import largest_payload
from mail._timers import Pace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from aiosmtpd.smtp import Envelope

ROOT: Final = Path(__file__).resolve().parents[2]
TEXT: Final = (ROOT / "docs" / "howto" / "mail.md").read_text(encoding="utf-8")
BLOCKS: Final = re.findall(r"^```(\w*)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
PROGRAMS: Final = {
    match[1]: text
    for language, text in BLOCKS
    if language == "python" and (match := re.match(r"# (\S+)\n", text))
}
SETTINGS: Final = [text for language, text in BLOCKS if language == "ini"]
COMMANDS: Final = [text for language, text in BLOCKS if language == "sh"]
SHOWN: Final = [text for language, text in BLOCKS if language == "text"]
PACKAGE: Final = str(Path(compoint.__file__).parents[1])

HOST: Final = "localhost"
#: What has been said when all is answered: the greeting, and a frame for each message.
ANSWERED_BYTES: Final = 54 + sum(
    16 + len(f"{one}: agreed") for one in ("atlas", "globe", "compass")
)
PASSWORD: Final = "made-for-programs"


# --- the provider ---------------------------------------------------------------------------


class Provider:
    """A mail server with TLS and a login, whose mailboxes are Maildirs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ca_file = folder / "ca.pem"
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(self.ca_file))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(HOST).configure_cert(context)
        self.port = free_port(socket.SOCK_STREAM)
        self._controller = Controller(
            self, hostname="127.0.0.1", port=self.port, tls_context=context,
            require_starttls=True, auth_required=True, authenticator=self._log_in,
        )  # fmt: skip
        self._controller.start()
        self._mails = 0
        #: Whose mails are taken and get lost.
        self.loses = ""

    def stop(self) -> None:
        if self._controller.loop.is_running():
            self._controller.stop()

    def maildir(self, user: str) -> Path:
        return self.folder / user

    def mails_of(self, user: str) -> list[Path]:
        return [*(self.maildir(user) / "new").iterdir()]

    def open_mailbox(self, user: str) -> None:
        for inner in ("tmp", "new", "cur"):
            (self.maildir(user) / inner).mkdir(parents=True)

    def _log_in(self, server: Any, session: Any, envelope: Any, way: str, given: Any) -> AuthResult:
        assert isinstance(given, LoginPassword)
        return AuthResult(success=given.password == PASSWORD.encode(), handled=False)

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's name
        self, server: Any, session: Any, envelope: Envelope, address: str, options: Any
    ) -> str:
        if not self.maildir(address.partition("@")[0]).is_dir():
            return "550 5.1.1 no such user here"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 ok"

    async def handle_DATA(self, server: Any, session: Any, envelope: Envelope) -> str:  # noqa: N802
        self._mails += 1
        for address in envelope.rcpt_tos:
            user = address.partition("@")[0]
            maildir = self.maildir(user)
            begun = maildir / "tmp" / f"{self._mails:06}"
            assert isinstance(envelope.original_content, bytes)
            begun.write_bytes(envelope.original_content)
            if user != self.loses:
                begun.rename(maildir / "new" / begun.name)
        return "250 2.0.0 queued"


def free_port(kind: socket.SocketKind = socket.SOCK_DGRAM) -> int:
    with socket.socket(socket.AF_INET, kind) as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


@pytest.fixture
def provider(tmp_path: Path) -> Iterator[Provider]:
    folder = tmp_path / "provider"
    folder.mkdir()
    provider = Provider(folder)
    yield provider
    provider.stop()


# --- its users --------------------------------------------------------------------------------


class User:
    """Somebody who does what the text says, in a home folder of their own."""

    def __init__(self, name: str, home: Path, provider: Provider | None) -> None:
        self.name = name
        self.home = home
        home.mkdir()
        self.environment = {
            key: value for key, value in os.environ.items() if key != "SEMPCONFIG"
        } | {"HOME": str(home), "PYTHONPATH": PACKAGE}
        files = next(text for text in COMMANDS if "mail-secret" in text)
        subprocess.run(
            files, shell=True, cwd=home, env=self.environment, input=f"{PASSWORD}\n".encode(),
            timeout=20, check=True,
        )  # fmt: skip
        if provider is not None:
            provider.open_mailbox(name)
            self.write_settings(self._with(provider))
        self.running: list[subprocess.Popen[str]] = []

    def _with(self, provider: Provider) -> str:
        """The settings of the text, with this provider's names and no home but this one."""
        text = SETTINGS[0].replace("shop@", f"{self.name}@").replace("smtp.example.org", HOST)
        text = text.replace("7101", str(free_port()))
        maildir = f"maildir = {provider.maildir(self.name)}"
        return re.sub("^imapHost.*$", maildir, text, flags=re.MULTILINE) + (
            f"smtpPort = {provider.port}\ncaFile = {provider.ca_file}\n"
            f"spool = {self.home}/spool\nrate = 100\n"
        )

    def write_settings(self, text: str) -> None:
        (self.home / "_sempconfig").write_text(text)

    def shorten_silence(self) -> None:
        """What gets lost is said again after a second, not after ten minutes."""
        with (self.home / "_sempconfig").open("a") as settings:
            settings.write("rtoMin = 1 s\nackDelay = 1 s\n")

    def share_secret(self, other: User) -> None:
        other.secret.write_bytes(self.secret.read_bytes())

    @property
    def secret(self) -> Path:
        return self.home / "mail-secret"

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        program = subprocess.Popen(
            [sys.executable, *arguments], cwd=self.home, env=self.environment,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        self.running.append(program)
        return program

    def run(self, name: str) -> subprocess.Popen[str]:
        """Start a program of the text, as it stands there."""
        (self.home / name).write_text(PROGRAMS[name], encoding="utf-8")
        return self.start(name)

    def command(self, *words: str) -> str:
        """What a command says."""
        return said(self.start("-m", "compoint.cli", *words))

    def conversation(self) -> dict[str, Any]:
        """The only one of the mailbox, as `status` shows it; empty: there is none."""
        found = json.loads(self.command("mail", "status", "--json"))["conversations"]
        return found[0] if found else {}

    def leave(self) -> None:
        for program in self.running:
            kill(program)


@pytest.fixture
def shop(provider: Provider, tmp_path: Path) -> Iterator[User]:
    user = User("shop", tmp_path / "shop", provider)
    yield user
    user.leave()


@pytest.fixture
def customer(provider: Provider, shop: User, tmp_path: Path) -> Iterator[User]:
    user = User("customer", tmp_path / "customer", provider)
    shop.share_secret(user)
    yield user
    user.leave()


def kill(program: subprocess.Popen[str]) -> None:
    program.kill()
    program.wait()
    assert program.stdout is not None
    program.stdout.close()


def next_line(program: subprocess.Popen[str]) -> str:
    assert program.stdout is not None
    return program.stdout.readline()


def said(program: subprocess.Popen[str]) -> str:
    """What a program prints until it has ended well."""
    assert program.stdout is not None
    text = program.stdout.read()
    program.wait()
    assert program.returncode == 0, text
    return text


# --- the programs -----------------------------------------------------------------------------


def test_every_program_of_the_text_is_run_by_a_test() -> None:
    assert set(PROGRAMS) == {"responder.py", "initiator.py", "shop.py", "customer.py"}


def test_the_programs_make_a_deal(shop: User, customer: User) -> None:
    responder = shop.run("responder.py")
    assert next_line(responder) == "serving at mail://:7100\n"
    assert said(customer.run("initiator.py")) == "2 x atlas: agreed\n"
    assert said(responder) == ""


def test_neither_program_has_to_come_first(shop: User, customer: User, provider: Provider) -> None:
    initiator = customer.run("initiator.py")
    eventually(lambda: provider.mails_of("shop"), 20, "the order is in the mailbox")
    responder = shop.run("responder.py")
    assert said(initiator) == "2 x atlas: agreed\n"
    assert said(responder) == "serving at mail://:7100\n"


def test_the_programs_are_those_over_tcp_but_for_address_and_patience() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for name in ("responder.py", "initiator.py"):
        start = readme.index(f"# {name}\n")
        over_tcp = readme[start : readme.index("```", start)]
        mine, theirs = PROGRAMS[name].splitlines(), over_tcp.splitlines()
        differing = [
            (one, other)
            for one, other in zip(mine, theirs, strict=True)
            if re.sub(r"timeout=\d+", "", one) != re.sub(r"timeout=\d+", "", other)
        ]
        assert [one.partition(" ")[0] for one, _ in differing] == ["address"]


def test_each_order_is_agreed_once_though_both_programs_are_killed(
    shop: User, customer: User, provider: Provider
) -> None:
    customer.shorten_silence()
    shop.shorten_silence()
    provider.loses = "customer"
    programs = [customer.run("customer.py"), shop.run("shop.py")]
    eventually(lambda: shop.conversation().get("said_bytes") == ANSWERED_BYTES, 30, "all answered")
    for program in programs:
        kill(program)
    provider.loses = ""
    buying = customer.run("customer.py")
    assert next_line(shop.run("shop.py")) == "serving at mail://:7100\n"
    assert said(buying) == "atlas: agreed\nglobe: agreed\ncompass: agreed\n"


def test_two_programs_need_no_mail_server_between_them(tmp_path: Path) -> None:
    """By the settings that the text names for that."""
    assert all(
        words in TEXT
        for words in ("`listenProtocol = smtp`", "`smtpTls = none`", "`listen = 2525`")
    )
    ports = {"shop": free_port(socket.SOCK_STREAM), "customer": free_port(socket.SOCK_STREAM)}
    shop, customer = (User(name, tmp_path / name, None) for name in ports)
    shop.share_secret(customer)
    for user, other in ((shop, "customer"), (customer, "shop")):
        user.write_settings(
            f"[mail]\nreceiverPort = {free_port()}\nreturnAddress = {user.name}@example.org\n"
            f"mailHost = {HOST}\nsmtpPort = {ports[other]}\nsmtpTls = none\n"
            f"secretFile = ~/mail-secret\nspool = {user.home}/spool\n"
            f"listen = {ports[user.name]}\nlistenProtocol = smtp\n"
        )
    try:
        responder = shop.run("responder.py")
        assert next_line(responder) == "serving at mail://:7100\n"
        assert said(customer.run("initiator.py")) == "2 x atlas: agreed\n"
        assert said(responder) == ""
    finally:
        shop.leave()
        customer.leave()


# --- settings -----------------------------------------------------------------------------------

#: What stands in the text as `key = value`, alone or beside another one.
NAMED: Final = re.findall(r"`(\w+) = ([^`]+)`", TEXT)


@pytest.fixture
def loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], MailSettings]:
    """The section [mail] of a settings file with this text."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("mail-secret", "mail-password"):
        (tmp_path / name).touch()

    def loaded(text: str) -> MailSettings:
        (tmp_path / "_sempconfig").write_text(text)
        found = load(tmp_path / "_sempconfig").mail
        assert found is not None
        return found

    return loaded


@pytest.mark.parametrize("text", SETTINGS, ids=["whole", "command"])
def test_the_settings_of_the_text_are_some(
    text: str, loaded: Callable[[str], MailSettings]
) -> None:
    found = loaded(text)
    assert found.return_address == "shop@example.org"
    assert found.trust == "secret"
    assert found.secret_file.endswith("/mail-secret")
    assert found.password_file.endswith("/mail-password") or found.password_command


@pytest.mark.parametrize(("key", "value"), NAMED, ids=[" = ".join(one) for one in NAMED])
def test_a_setting_that_the_text_names_can_be_set(
    key: str, value: str, loaded: Callable[[str], MailSettings]
) -> None:
    lines = [line for line in SETTINGS[0].splitlines() if not line.startswith(f"{key} ")]
    loaded("\n".join([*lines, f"{key} = {value}", ""]))


def test_the_text_gives_the_defaults_as_they_are() -> None:
    found = {name: field.default for name, field in MailSettings.__dataclass_fields__.items()}
    assert (found["ack_delay_s"], found["rto_min_s"], found["expire_s"]) == (30, 600, 5 * 86400)
    assert (found["rate"], found["daily"], found["max_mail_bytes"]) == (1, 400, 9 * MIB)
    assert found["spool"] == "~/.compoint/mail"
    assert 0.7 < largest_payload(9 * MIB) / (9 * MIB) < 0.76
    assert Pace().window_bytes == 8 * MIB
    assert (Bounds().conversations, Bounds().conversations_per_peer) == (10_000, 1_000)
    assert (WAITING_FILES, WAITING_BYTES, BAD_FILES) == (10_000, 512 * KIB * KIB, 100)
    backlog = BacklogBounds()
    assert (backlog.in_all, backlog.per_peer) == (512 * MIB, 64 * MIB)
    assert CLOSE_S == 10


# --- commands -----------------------------------------------------------------------------------


def commands() -> list[list[str]]:
    """All that the text shows of `compoint`, in blocks and in the middle of a line."""
    lines = [line for text in COMMANDS for line in text.splitlines()]
    lines += re.findall(r"`(compoint [^`]+)`", TEXT)
    found = (re.search(r"(?:^|bin/)compoint (.*)", line) for line in lines)
    return [shlex.split(match[1].replace("ID...", "0123abcd")) for match in found if match]


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_every_command_of_the_text_is_one(words: list[str]) -> None:
    parser().parse_args(words)


def test_every_command_about_mail_is_in_the_text() -> None:
    shown = {words[1] for words in commands() if words[0] == "mail"}
    assert shown == {"install", "doctor", "status", "flush", "cancel"}


def shape(text: str) -> list[str]:
    """The lines of an output, without what is different each time."""
    text = re.sub(r"\([^()]*\)", "()", text)
    text = re.sub(r"IMAP from \S+|Maildir \S+", "A WAY", text)
    text = re.sub(r"/\S*", "/", text)
    text = re.sub(r"[\w.]+@example\.org", "SOMEBODY", text)
    text = re.sub(r"\b[0-9a-f]{8}\b", "ID", text)
    text = re.sub(r"\b(smtp\.example\.org|localhost):\d+", "SERVER", text)
    text = re.sub(r"\d+(\.\d+)?", "1", text)
    return [re.sub(" +", " ", line).strip() for line in text.splitlines()]


def shown(first: str) -> list[str]:
    """The block of the text that begins so, in its shape."""
    return next(shape(text) for text in SHOWN if text.startswith(first))


def test_the_doctor_says_what_the_text_shows(shop: User) -> None:
    assert shape(shop.command("mail", "doctor")) == shown("right  configuration")


def test_the_status_shows_what_the_text_shows(shop: User, customer: User) -> None:
    buying = customer.run("customer.py")
    eventually(lambda: [*(customer.home / "spool").glob("conv*")], 20, "the store is there")
    serving = shop.run("shop.py")
    assert next_line(buying) == "atlas: agreed\n"
    assert said(buying).startswith("globe")
    Dropbox(str(shop.home / "spool")).put(b"no mail")
    bad = shop.home / "spool" / "bad"
    eventually(lambda: [*bad.iterdir()], 20, "it is put aside")
    lines = shape(shop.command("mail", "status"))
    serving.kill()
    expected = shown("mailbox shop")
    assert lines[:4] == expected[:4]
    assert lines[5:6] in ([], expected[5:6])


def test_what_waits_is_cancelled_and_flushed_as_the_text_shows(shop: User, customer: User) -> None:
    alone = customer.run("initiator.py")
    eventually(
        lambda: customer.conversation().get("next_try_s") is not None, 20, "the order is sent"
    )  # fmt: skip
    kill(alone)
    number = customer.conversation()["id"]
    assert shape(customer.command("mail", "cancel", number[:8])) == shown("b28962eb")
    (last,) = shape(customer.command("mail", "flush"))
    assert last == shown("1 mail taken out")[-1]


def test_install_prints_what_the_text_shows(shop: User) -> None:
    lines = iter(shop.command("mail", "install").splitlines())
    (block,) = [text for text in SHOWN if "mailcap" in text]
    for part in block.split("…\n"):
        # In this order, with other things in between.
        wanted = [shape(line)[0] for line in part.splitlines() if line]
        for want in wanted:
            assert any(_installed(line) == _installed(want) for line in lines), want


def _installed(line: str) -> str:
    """However the receiver program and its settings are named on this machine."""
    line = re.sub(r"(; |\"\|)/.*?( %s| --swallow)", r"\1/\2", line)
    return (shape(re.sub(r"from /.*", "from the _sempconfig in your home folder.", line)) or [""])[
        0
    ]


# --- errors ---------------------------------------------------------------------------------------


def row_of(words: str) -> str:
    """What the table of errors says in the row that holds these words, up to its first '…'."""
    (row,) = [line for line in TEXT.splitlines() if line.startswith("| `") and words in line]
    return row.split(" | ")[0].removeprefix("| ").replace("`", "")


_ASKING: Final = """\
import sys
from compoint import COMPOINT_INITIATOR, ComManager, ComPointAddress, ComPointException

try:
    address = ComPointAddress.parse(sys.argv[1])
    with ComManager.com_point(COMPOINT_INITIATOR, address) as point:
        point.write("hello")
        point.read(timeout=float(sys.argv[2]))
except ComPointException as error:
    print(f"{type(error).__name__}: {error}")
"""


def ask(user: User, to: str, patience_s: float = 20.0) -> str:
    # Not waited for: it tries to hand over what it has said.
    return next_line(user.start("-c", _ASKING, f"mail:{to}@example.org:7100", str(patience_s)))


def assert_is_said(row: str, error: str) -> None:
    name, _, what = re.sub("[;:]", "", row).partition(" ")
    plain = re.sub("[;:]", "", error)
    assert plain.startswith(name)
    for part in what.split("…"):
        assert part.strip() in plain, (part, error)


def test_a_mailbox_that_is_none_is_told_as_in_the_table(customer: User) -> None:
    assert_is_said(row_of("refused (recipient)"), ask(customer, "nobody"))


def test_a_wrong_password_is_told_as_in_the_table(customer: User) -> None:
    (customer.home / "mail-password").write_text("wrong\n")
    assert_is_said(row_of("refused (login)"), ask(customer, "shop"))


def test_a_server_that_is_down_is_told_as_in_the_table(customer: User, provider: Provider) -> None:
    provider.stop()
    assert_is_said(row_of("did not take a mail yet: … |"), ask(customer, "shop", 3))


def test_a_used_up_budget_is_told_as_in_the_table(customer: User) -> None:
    settings = (customer.home / "_sempconfig").read_text()
    customer.write_settings(f"{settings}daily = 1\n")
    first = customer.run("initiator.py")
    eventually(
        lambda: customer.conversation().get("next_try_s") is not None, 20, "the first mail is sent"
    )  # fmt: skip
    kill(first)
    assert_is_said(row_of("daily budget"), ask(customer, "shop", 3))


def test_a_peer_that_says_nothing_is_told_as_in_the_table(customer: User, shop: User) -> None:
    assert_is_said(row_of("has not greeted"), ask(customer, "shop", 2))


def test_a_second_process_is_told_as_in_the_table(customer: User, shop: User) -> None:
    serving = shop.run("shop.py")
    assert next_line(serving) == "serving at mail://:7100\n"
    assert_is_said(row_of("uses the mailbox"), ask(shop, "customer"))


def test_mail_that_is_off_is_told_as_in_the_table(customer: User) -> None:
    customer.write_settings("[compoint]\n")
    assert_is_said(row_of("mail is off"), ask(customer, "shop"))
