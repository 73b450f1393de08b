"""The IMAP front with servers that are silent, broken, slow, wrong or hostile."""

from __future__ import annotations

import contextlib
import gc
import select
import socket
import ssl
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from front_kit import LETTER, Box, a_mail
from imap_kit import CUT, HOST, PASSWORD, SILENT, USER, USUAL, Scripted

import mail._imap
import mail._imap_connection
from compoint.testing import asleep, eventually
from mail._imap import ImapFront
from mail._imap_connection import _encoded, _quoted
from mail._password import Password
from mail._settings import ImapSettings
from mail._smtp import Tls

Watch = Callable[..., ImapFront]


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path / "spool")


@pytest.fixture
def watch(tmp_path: Path, box: Box) -> Iterator[Watch]:
    """Starts a front on a server or a port; it is stopped in the end."""
    made: list[ImapFront] = []
    secret = tmp_path / "password"
    secret.write_text(PASSWORD)
    secret.chmod(0o600)

    def new(
        server: Scripted | int, tls: Tls = Tls.NONE, expire_s: float = 0.0, **more: Any
    ) -> ImapFront:
        port = server if isinstance(server, int) else server.port
        given = {"user": USER, "password": Password(file=str(secret))} | more
        settings = ImapSettings(HOST, port, tls, **given)
        made.append(ImapFront(settings, *box.ears, expire_s=expire_s))
        made[-1].start()
        return made[-1]

    yield new
    for front in made:
        front.stop()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever takes minutes takes moments."""
    monkeypatch.setattr(mail._imap, "LOGINS_S", 0.2)
    monkeypatch.setattr(mail._imap, "PAUSE_S", (0.05, 0.2))
    monkeypatch.setattr(mail._imap, "REFUSED_PAUSE_S", (0.05, 0.2))
    monkeypatch.setattr(mail._imap, "IDLE_S", 0.3)
    monkeypatch.setattr(mail._imap, "POLL_S", 0.1)
    monkeypatch.setattr(mail._imap_connection, "ANSWER_S", 0.5)
    monkeypatch.setattr(mail._imap_connection, "MAIL_S", 0.5)
    monkeypatch.setattr(mail._imap_connection, "DONE_S", 0.3)


def plain(mails: list[bytes]) -> list[bytes]:
    return [content.replace(b"\r\n", b"\n") for content in mails]


# --- one command goes wrong ---------------------------------------------------------------------

COMMANDS = [
    "GREETING", "CAPABILITY", "CHALLENGE", "AUTHENTICATE", "SELECT", "SEARCH", "SIZE", "BODY",
    "STORE",
]  # fmt: skip

FAULTS = {
    "ends": CUT,
    "says nothing more": SILENT,
    "says goodbye": b"* BYE the server goes down\r\n",
    "says rubbish": b"\xff\x00 )(]}{ rubbish {99\r\n* \r\n",
    "says half a line": lambda connection, tag: connection.sendall(b"* 1 FETCH (UID"),
    "answers another command": b"zzz1 OK done",
    "says no": b"TAG NO [SERVERBUG] not now",
    "says bad": b"TAG BAD what?",
    "drips": lambda connection, tag: _drip(connection),
    "never ends": lambda connection, tag: _flood(connection, b"x" * 65536),
    "repeats itself": lambda connection, tag: _flood(connection, b"* 1 EXISTS\r\n" * 4096),
}


def _drip(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while not select.select([connection], [], [], 0.02)[0]:  # until the client goes
            connection.sendall(b"*")


def _flood(connection: socket.socket, flood: bytes) -> None:
    with contextlib.suppress(OSError):
        while True:
            connection.sendall(flood)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("command", COMMANDS)
def test_a_server_that_fails_in_one_command_is_tried_again_and_the_mail_is_taken_once(
    command, fault, box, watch, impatient
) -> None:
    answers = {command: [FAULTS[fault], USUAL]}
    with Scripted(a_mail(), **answers) as server:
        front = watch(server)
        box.eventually_has(1)
        box.eventually_well()
        eventually(lambda: server.count("STORE") >= 1)
        server.eventually_hears("IDLE")
        front.stop()
    assert len(box.put_at) == 1
    assert plain(box.mails) == [a_mail()]


# --- in IDLE ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault", ["ends", "says nothing more", "says goodbye", "says half a line", "drips",
              "never ends", "repeats itself"],
)  # fmt: skip
@pytest.mark.parametrize("moment", ["IDLE", "DONE"])
def test_a_server_that_fails_in_idle_is_left_and_what_came_meanwhile_is_taken(
    moment, fault, box, watch, impatient
) -> None:
    with Scripted(**{moment: [FAULTS[fault], USUAL]}) as server:
        front = watch(server)
        server.eventually_hears("IDLE")
        server.mails[1] = a_mail()
        box.eventually_has(1)
        front.stop()
    assert len(box.put_at) == 1


def test_a_server_that_goes_silent_after_the_beginning_of_idle_is_noticed(
    box, watch, impatient
) -> None:
    """Behind a router that has forgotten the connection (paynani #37)."""

    def begin_and_say_no_more(connection: socket.socket, tag: bytes) -> None:
        connection.sendall(b"+ idling\r\n")
        while connection.recv(4096):
            pass

    with Scripted(IDLE=[begin_and_say_no_more, USUAL]) as server:
        front = watch(server)
        server.eventually_hears("IDLE")
        server.mails[1] = a_mail()
        box.eventually_has(1)
        assert server.count("connect") == 2
        front.stop()
    assert "the server does not answer in time" in box.troubles[1]


def test_a_goodbye_in_idle_is_believed_and_told(box, watch) -> None:
    with Scripted(IDLE=b"+ idling\r\n* BYE the server goes down") as server:
        watch(server)
        box.eventually_told("* BYE the server goes down", 5)


@pytest.mark.parametrize("fault", ["never ends", "repeats itself"])
def test_a_server_that_says_more_than_it_was_asked_for_is_left(fault, box, watch) -> None:
    """However much time and memory there is."""
    with Scripted(SEARCH=FAULTS[fault]) as server:
        watch(server)
        box.eventually_told("the server says more than it was asked for")


def test_idle_is_left_and_begun_again_while_nothing_happens(box, watch, impatient) -> None:
    with Scripted() as server:
        watch(server)
        server.eventually_hears("IDLE", 3)
        assert server.count("DONE") >= 2
        assert server.count("connect") == 1
    assert box.troubles[0] == ""


def test_a_mail_announced_in_idle_is_taken_at_once(box, watch) -> None:
    with Scripted() as server:
        watch(server)
        server.eventually_hears("IDLE")
        server.receive(a_mail())
        box.eventually_has(1, 5)


def test_a_mail_announced_before_idle_has_begun_is_taken_at_once(box, watch) -> None:
    def announce(connection: socket.socket, tag: bytes) -> None:
        server.mails[1] = a_mail()
        connection.sendall(b"* 1 EXISTS\r\n+ idling\r\n")

    with Scripted(IDLE=[announce, USUAL]) as server:
        watch(server)
        box.eventually_has(1, 5)


def test_a_mail_announced_in_the_answer_to_done_is_taken_at_once(box, watch, monkeypatch) -> None:
    def announce(connection: socket.socket, tag: bytes) -> None:
        server.mails[1] = a_mail()
        connection.sendall(b"* 1 EXISTS\r\n" + tag + b" OK done\r\n")
        monkeypatch.setattr(mail._imap, "IDLE_S", 240.0)

    monkeypatch.setattr(mail._imap, "IDLE_S", 0.1)
    with Scripted(DONE=[announce, USUAL]) as server:
        watch(server)
        box.eventually_has(1, 5)
        assert server.count("SELECT") == 1


def test_a_mail_announced_while_another_is_taken_is_taken_at_once(box, watch) -> None:
    def announce(connection: socket.socket, tag: bytes) -> None:
        server.mails[2] = a_mail(2)
        connection.sendall(b"* 2 EXISTS\r\n" + tag + b" OK done\r\n")

    with Scripted(a_mail(1), STORE=[announce, USUAL]) as server:
        watch(server)
        box.eventually_has(2, 5)


def test_a_server_that_announces_mails_all_the_time_does_not_keep_us_busy(
    box, watch, monkeypatch
) -> None:
    monkeypatch.setattr(mail._imap, "NO_NEWS_S", 0.3)
    lies = b"* 1 EXISTS\r\n+ idling\r\n* 1 EXISTS"
    with Scripted(IDLE=lies) as server:
        watch(server)
        server.eventually_hears("SEARCH", 4)
        times = server.times("SEARCH")
    # The first news are believed.
    assert times[3] - times[1] > 0.5


@pytest.mark.parametrize("answer", [b"TAG BAD not today", b"TAG NO not today", b"TAG OK done"])
def test_a_server_that_refuses_idle_is_asked_now_and_then(answer, box, watch, impatient) -> None:
    with Scripted(IDLE=answer) as server:
        watch(server)
        server.eventually_hears("SEARCH", 2)
        server.mails[1] = a_mail()
        box.eventually_has(1)
        assert (server.count("IDLE"), server.count("connect")) == (1, 1)


def test_a_server_without_idle_is_asked_now_and_then(box, watch, impatient) -> None:
    with Scripted(offers=b"IMAP4rev1 AUTH=PLAIN") as server:
        watch(server)
        server.eventually_hears("SEARCH", 2)
        server.mails[1] = a_mail()
        box.eventually_has(1)
        assert (server.count("IDLE"), server.count("connect")) == (0, 1)


# --- mails --------------------------------------------------------------------------------------


def test_a_mail_whose_size_is_too_large_is_not_fetched(box, watch) -> None:
    size = b"* 1 FETCH (UID 1 RFC822.SIZE 99999999999)\r\n* 2 FETCH (UID 2 RFC822.SIZE 500)"
    with Scripted(LETTER, a_mail(), SIZE=size + b"\r\nTAG OK done") as server:
        watch(server)
        box.eventually_has(1)
        assert [line for line in server.said if line.startswith("BODY")] == [
            "BODY 2 (UID BODY.PEEK[])"
        ]


@pytest.mark.parametrize(
    "size", [b"1" + b"0" * zeros for zeros in (9, 30, 5000)], ids=["1 GB", "10^30", "10^5000"]
)
def test_a_huge_mail_that_is_announced_takes_no_memory_and_is_passed_over_in_the_end(
    size, box, watch, impatient
) -> None:
    announced = b"* 1 FETCH (UID 1 BODY[] {%s}\r\n%s" % (size, b"x" * 1000)
    tries = [announced] * mail._imap.FETCH_TRIES
    with Scripted(a_mail(1), a_mail(), BODY=[*tries, USUAL]) as server:
        tracemalloc.start()
        try:
            watch(server)
            box.eventually_has(1)
            _, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert most < 50_000_000
    if len(size) < 5000:  # else the number is none
        box.eventually_told(f"the server announces {size.decode()} bytes")
    assert plain(box.mails) == [a_mail()]


def test_a_mail_that_the_server_cannot_give_does_not_hold_up_the_others(
    box, watch, impatient
) -> None:
    tries = [b"TAG NO [SERVERBUG] it is damaged"] * mail._imap.FETCH_TRIES
    with Scripted(a_mail(1), a_mail(2), BODY=[*tries, USUAL]) as server:
        watch(server)
        box.eventually_has(1)
        box.eventually_well()
    assert plain(box.mails) == [a_mail(2)]


def test_mails_behind_one_that_could_not_be_kept_wait_for_it(
    box, watch, impatient, monkeypatch
) -> None:
    """Or it would count as looked at, and be lost."""
    monkeypatch.setattr(mail._imap, "RETRY_S", 0.01)
    monkeypatch.setattr(mail._imap, "_BATCH", 2)
    put = box.put

    def full_for_a_moment(content: bytes) -> None:
        box.is_full = not box.refused
        put(content)

    box.put = full_for_a_moment
    with Scripted(*map(a_mail, range(5))) as server:
        watch(server)
        box.eventually_has(5)
    assert plain(box.mails) == [a_mail(number) for number in range(5)]


def test_a_full_drop_box_is_no_reason_to_pass_a_mail_over(
    box, watch, impatient, monkeypatch
) -> None:
    monkeypatch.setattr(mail._imap, "RETRY_S", 0.01)
    box.is_full = True
    with Scripted(a_mail()) as server:
        watch(server)
        eventually(lambda: box.refused > 3 * mail._imap.FETCH_TRIES)
        box.is_full = False
        box.eventually_has(1)


def test_a_mail_that_is_removed_while_we_fetch_it_is_passed_over(box, watch) -> None:
    with Scripted(a_mail(1), a_mail(2), BODY=[b"TAG OK done", USUAL]) as server:
        watch(server)
        box.eventually_has(1)
    assert plain(box.mails) == [a_mail(2)]


def test_a_mail_that_the_server_has_and_does_not_give_is_asked_for_again(
    box, watch, impatient
) -> None:
    nothing = b"* 1 FETCH (UID 1 BODY[] NIL)\r\nTAG OK done"
    with Scripted(a_mail(), BODY=[nothing, USUAL]) as server:
        watch(server)
        box.eventually_has(1)
        box.eventually_well()
    assert "has mail 1 and does not give it" in box.troubles[0]


def test_a_mail_that_the_server_never_gives_is_passed_over_and_named_in_the_log(
    box, watch, impatient, caplog
) -> None:
    nothing = b"* 1 FETCH (UID 1 BODY[] NIL)\r\nTAG OK done"
    tries = [nothing] * mail._imap.FETCH_TRIES
    with Scripted(a_mail(1), a_mail(2), BODY=[*tries, USUAL]) as server:
        watch(server)
        box.eventually_has(1)
    assert plain(box.mails) == [a_mail(2)]
    assert "a mail that the server cannot give is passed over (UID 1)" in caplog.text


def test_a_mail_that_is_gone_meanwhile_is_no_trouble(box, watch) -> None:
    with Scripted(a_mail(1), a_mail(2), BODY=[b"TAG OK done", USUAL]) as server:
        watch(server)
        box.eventually_has(1)
        box.eventually_well()
        assert box.troubles == [""]


@pytest.mark.parametrize(("expire_days", "days"), [(1, 14), (30, 30)])
def test_the_first_look_goes_back_two_weeks_or_as_long_as_a_conversation_lasts(
    expire_days, days, box, watch
) -> None:
    with Scripted() as server:
        watch(server, expire_s=expire_days * 86400.0)
        server.eventually_hears("IDLE")
        [search] = searches(server)
    since = time.strptime(search.split()[1], "%d-%b-%Y")
    # SINCE knows only dates, of whatever time zone.
    assert days <= (time.time() - time.mktime(since)) / 86400 <= days + 2.1


def test_flags_that_nobody_asked_for_are_not_taken_for_a_mail(box, watch) -> None:
    content = a_mail()
    answer = (
        b"* 7 FETCH (FLAGS (\\Seen))\r\n* 1 FETCH (BODY[] {%d}\r\n%s UID 1)\r\n"
        b"* 7 FETCH (FLAGS ())\r\nTAG OK [EXPUNGEISSUED] done"
    ) % (len(content), content)
    with Scripted(content, BODY=answer) as server:
        watch(server)
        box.eventually_has(1)
    assert plain(box.mails) == [content]


def test_new_numbers_of_all_mails_lead_to_a_new_look(box, watch, impatient) -> None:
    with Scripted(a_mail(1), LETTER, LETTER, IDLE=[USUAL, CUT, USUAL]) as server:
        watch(server)
        box.eventually_has(1)
        server.validity = 2
        server.mails = {1: a_mail(2)}
        box.eventually_has(2)


def test_a_server_without_keywords_of_clients_is_asked_to_mark_mails_as_read(box, watch) -> None:
    with Scripted(a_mail(), STORE=[b"TAG NO no keywords", USUAL]) as server:
        watch(server)
        server.eventually_hears("STORE", 2)
        server.eventually_hears("IDLE")
    first, second = (line for line in server.said if line.startswith("STORE"))
    assert first == r"STORE 1 +FLAGS.SILENT (\Seen $compoint)"
    assert second == r"STORE 1 +FLAGS.SILENT (\Seen)"


# A server that refuses a keyword names it within the list of flags.
SEARCHES_NO_KEYWORDS = {"UNKEYWORD": b"TAG BAD Command Argument Error. 11"}
KEEPS_NO_KEYWORDS = SEARCHES_NO_KEYWORDS | {
    "$compoint)": b"TAG NO no keywords", r"(\Seen)": b"TAG NO no flags at all",
}  # fmt: skip


def searches(server: Scripted) -> list[str]:
    return [line.partition(" ")[2] for line in server.said if line.startswith("SEARCH")]


@pytest.mark.parametrize(
    "refusal", [b"TAG BAD Command Argument Error. 11", b"TAG NO no keywords here"]
)
def test_a_server_that_cannot_search_for_keywords_is_asked_for_all_that_is_new(
    refusal, box, watch
) -> None:
    """Microsoft's (MailKit #702, imap_tools #181, node-imap #214)."""
    with Scripted(LETTER, a_mail(1), refuses={"UNKEYWORD": refusal}) as server:
        watch(server)
        server.eventually_hears("IDLE")
        server.receive(a_mail(2))
        box.eventually_has(2)
        box.eventually_well()
        assert server.count("connect") == 1
        refused, first, *later = searches(server)
    assert plain(box.mails) == [a_mail(1), a_mail(2)]
    assert refused == f"{first} UNKEYWORD $compoint"
    # Asked once in a connection: who says BAD too often is shut out.
    assert set(later) == {"UID 3:*"}


def test_a_server_that_cannot_search_at_all_is_named_with_its_words(box, watch) -> None:
    with Scripted(SEARCH=b"TAG BAD no searches here") as server:
        watch(server)
        box.eventually_told("no searches here")
        assert (server.count("SEARCH"), server.count("connect")) == (2, 1)


@pytest.mark.parametrize("refuses", [SEARCHES_NO_KEYWORDS, KEEPS_NO_KEYWORDS])
def test_where_no_flags_are_kept_each_mail_is_fetched_once_in_a_run(
    refuses, box, watch, impatient
) -> None:
    """Whatever is looked for again: after IDLE, in a new connection, beside other folders."""
    mails = (LETTER, a_mail(1), LETTER, a_mail(2))
    idle = [USUAL, USUAL, CUT, USUAL, USUAL, CUT, USUAL]
    with Scripted(*mails, refuses=refuses, IDLE=idle) as server:
        watch(server)
        server.eventually_hears("connect", 3)
        server.receive(a_mail(3))
        box.eventually_has(3)
        server.eventually_hears("IDLE", 10)
        fetched = [line for line in server.said if line.startswith("BODY")]
    assert fetched == [f"BODY {uid} (UID BODY.PEEK[])" for uid in range(1, 6)]
    assert len(box.put_at) == 3


def test_a_server_that_keeps_no_keywords_is_not_asked_to_again_and_again(box, watch) -> None:
    with Scripted(a_mail(1), refuses={"$compoint)": b"TAG BAD no keywords"}) as server:
        watch(server)
        server.eventually_hears("IDLE")
        server.receive(a_mail(2))
        server.eventually_hears("IDLE", 2)
        stored = [line for line in server.said if line.startswith("STORE")]
    assert stored == [
        r"STORE 1 +FLAGS.SILENT (\Seen $compoint)",
        r"STORE 1 +FLAGS.SILENT (\Seen)",
        r"STORE 2 +FLAGS.SILENT (\Seen)",
    ]


def test_a_folder_that_is_read_only_brings_its_mails_and_is_not_written_to(
    box, watch, caplog
) -> None:
    opened = b"* 2 EXISTS\r\n* OK [UIDVALIDITY 1] ok\r\nTAG OK [READ-ONLY] done"
    with Scripted(LETTER, a_mail(1), SELECT=opened) as server:
        watch(server)
        server.eventually_hears("IDLE")
        server.receive(a_mail(2))
        box.eventually_has(2)
        server.eventually_hears("IDLE", 2)
        assert (server.count("connect"), server.count("STORE")) == (1, 0)
        assert box.troubles == [""]
    assert "the folder INBOX is read-only: mails stay unread in it" in caplog.text


def test_a_folder_beside_one_that_is_read_only_is_marked(box, watch) -> None:
    opened = b"* 1 EXISTS\r\n* OK [UIDVALIDITY 1] ok\r\nTAG OK [READ-ONLY] done"
    with Scripted(a_mail(), SELECT=[opened, USUAL]) as server:
        watch(server, folders=("INBOX", "Shared"))
        server.eventually_hears("IDLE")
        verbs = [verb for verb in server.verbs() if verb in {"SELECT", "STORE"}]
    assert verbs == ["SELECT", "SELECT", "STORE"]


def test_nothing_but_our_own_mail_is_changed_and_nothing_is_deleted(box, watch) -> None:
    with Scripted(LETTER, a_mail(), LETTER) as server:
        watch(server)
        box.eventually_has(1)
        server.eventually_hears("IDLE")
    changing = {"STORE", "EXPUNGE", "DELETE", "MOVE", "COPY", "APPEND", "CLOSE"}
    assert [line for line in server.said if line.split()[0] in changing] == [
        r"STORE 2 +FLAGS.SILENT (\Seen $compoint)"
    ]


# --- logins -------------------------------------------------------------------------------------


def test_there_are_never_more_than_two_logins_within_the_time_of_two(
    box, watch, impatient, monkeypatch
) -> None:
    monkeypatch.setattr(mail._imap, "LOGINS_S", 0.6)
    monkeypatch.setattr(mail._imap, "PAUSE_S", (0.0, 0.0))
    with Scripted(SELECT=CUT) as server:
        watch(server)
        server.eventually_hears("AUTHENTICATE", 5)
        times = server.times("AUTHENTICATE")
    assert min(later - earlier for earlier, later in zip(times, times[2:], strict=False)) > 0.5


def test_pauses_grow_while_the_server_stays_broken(box, watch, monkeypatch) -> None:
    pauses: list[float] = []
    with Scripted(GREETING=CUT) as server:
        front = watch(server)
        eventually(lambda: front._failures == 1)
        wait = front._is_over.wait
        front.stop()
    front._is_over.clear()
    monkeypatch.setattr(front._is_over, "wait", lambda s: pauses.append(s) or wait(0))
    front._failures = 0
    for _ in range(12):
        front._pause(1.0, 300.0)
    assert all(2**n / 2 <= pause <= 2**n for n, pause in enumerate(pauses[:9]))
    assert all(150 <= pause <= 300 for pause in pauses[9:])


@pytest.mark.parametrize(
    ("answers", "pause"),
    [
        ({"AUTHENTICATE": b"TAG NO [AUTHENTICATIONFAILED] wrong"}, "REFUSED_PAUSE_S"),
        ({"SELECT": CUT}, "PAUSE_S"),
    ],
)
def test_a_refused_login_is_tried_again_much_later_than_a_broken_connection(
    answers, pause, box, watch, monkeypatch
) -> None:
    pauses: list[tuple[float, float]] = []
    monkeypatch.setattr(
        ImapFront, "_pause", lambda self, *given: pauses.append(given) or self._is_over.wait()
    )
    with Scripted(**answers) as server:
        watch(server)
        eventually(lambda: pauses == [getattr(mail._imap, pause)])


def test_after_all_was_looked_through_the_pauses_are_short_again(
    box, watch, impatient, monkeypatch
) -> None:
    with Scripted(GREETING=[CUT, CUT, USUAL]) as server:
        front = watch(server)
        server.eventually_hears("IDLE")
        assert front._failures == 0


def test_a_server_that_is_not_ready_for_logins_is_tried_again_soon(
    box, watch, impatient, monkeypatch
) -> None:
    monkeypatch.setattr(mail._imap, "REFUSED_PAUSE_S", (60.0, 60.0))
    answers = [b"TAG NO [UNAVAILABLE] the user database is away", USUAL]
    with Scripted(AUTHENTICATE=answers) as server:
        watch(server)
        server.eventually_hears("IDLE")


def test_a_server_without_plain_is_given_the_password_by_login_in_quotes(
    box, watch, tmp_path
) -> None:
    secret = tmp_path / "odd"
    secret.write_text('a "b\\c&d')
    secret.chmod(0o600)
    password = Password(file=str(secret))
    with Scripted(offers=b"IMAP4rev1 IDLE") as server:
        front = watch(server, user='"bob" & co', password=password)
        server.eventually_hears("IDLE")
        front.stop()
        [line] = [line for line in server.said if line.startswith("LOGIN")]
    assert line == 'LOGIN "\\"bob\\" & co" "a \\"b\\\\c&d"'


def test_a_server_without_any_login_by_password_is_told(box, watch) -> None:
    with Scripted(offers=b"IMAP4rev1 LOGINDISABLED") as server:
        watch(server)
        box.eventually_told("offers no login by a password")
        assert server.verbs() == ["connect", "CAPABILITY"]


def test_an_access_token_is_given_by_xoauth2(box, watch) -> None:
    import base64

    with Scripted() as server:
        watch(server, is_token=True)
        server.eventually_hears("IDLE")
        [given] = [line for line in server.said if line.startswith("given")]
    assert "AUTHENTICATE XOAUTH2" in server.said
    token = base64.b64decode(given.removeprefix("given "))
    assert token == f"user={USER}\1auth=Bearer {PASSWORD}\1\1".encode()


def test_a_password_that_cannot_be_had_is_told(box, watch, tmp_path) -> None:
    with Scripted() as server:
        watch(server, password=Password(file=str(tmp_path / "nothing")))
        box.eventually_told("nothing cannot be read (No such file or directory)")


@pytest.mark.parametrize("offers", [b"IMAP4rev1 IDLE AUTH=PLAIN", b"IMAP4rev1 IDLE"])
def test_the_password_is_in_no_trouble_no_log_and_no_object(offers, box, watch, caplog) -> None:
    caplog.set_level(0)
    with Scripted(offers=offers, SELECT=SILENT) as server:
        front = watch(server)
        server.eventually_hears("SELECT")  # soon after the login
        connections = [
            one for one in gc.get_objects()
            if isinstance(one, mail._imap_connection.Connection)
        ]  # fmt: skip
        assert connections
        for text in (*map(vars, connections), vars(front), caplog.text, box.troubles):
            assert PASSWORD not in str(text)
        del (
            connections,
            text,
        )
        front.stop()


# --- how the way is secured ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "is_near"),
    [("127.0.0.1", True), ("127.3.2.1", True), ("::1", True), ("::ffff:127.0.0.1", True),
     ("192.0.2.1", False), ("::ffff:192.0.2.1", False), ("fe80::1%eth0", False)],
)  # fmt: skip
def test_another_machine_is_not_spoken_to_without_tls(
    address, is_near, box, watch, monkeypatch
) -> None:
    class Far(socket.socket):
        def getpeername(self):
            return (address, 143)

    monkeypatch.setattr(mail._imap_connection.socket, "socket", Far)
    with Scripted() as server:
        watch(server)
        if is_near:
            box.eventually_well()
        else:
            box.eventually_told("without TLS anybody on the way may read the mails")
            assert server.said in (["connect"], [])


def test_a_starttls_offer_that_was_taken_out_on_the_way_ends_it(box, watch) -> None:
    with Scripted() as server:
        watch(server, Tls.STARTTLS)
        box.eventually_told("TLS not supported by server")
        assert server.verbs() == ["connect", "CAPABILITY"]


def test_a_server_that_lets_us_in_before_tls_began_is_left(box, watch) -> None:
    """The PREAUTH trick: STARTTLS is not allowed then, so all would go in the clear."""
    offers = b"IMAP4rev1 IDLE STARTTLS"
    with Scripted(a_mail(), offers=offers, GREETING=b"* PREAUTH welcome") as server:
        watch(server, Tls.STARTTLS)
        box.eventually_told("STARTTLS illegal in state AUTH")
        assert box.put_at == []
        assert "SELECT" not in server.verbs()


def test_what_was_slipped_in_before_tls_began_is_not_believed(box, watch, tmp_path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(HOST).configure_cert(context)
    offers = b"IMAP4rev1 IDLE STARTTLS AUTH=PLAIN"
    slipped_in = b"TAG OK begin\r\n* CAPABILITY IMAP4rev1"
    with Scripted(offers=offers, context=context, STARTTLS=slipped_in) as server:
        watch(server, Tls.STARTTLS, ca_file=str(tmp_path / "ca.pem"))
        box.eventually_told("the server spoke in the clear after the beginning of TLS")
        assert "AUTHENTICATE" not in server.verbs()


def test_a_plain_server_where_tls_was_expected_is_told(box, watch) -> None:
    with Scripted() as server:
        watch(server, Tls.IMPLICIT)
        assert "WRONG_VERSION_NUMBER" in box.eventually_told(f"{HOST}:{server.port}: ")


def test_a_missing_file_of_authorities_is_told(box, watch) -> None:
    watch(1, Tls.IMPLICIT, ca_file="/nowhere/ca.pem")
    box.eventually_told("No such file or directory")


# --- the end ------------------------------------------------------------------------------------


def stops_at_once(front: ImapFront) -> None:
    began_at = time.monotonic()
    front.stop()
    assert time.monotonic() - began_at < 1.5
    assert not front._thread.is_alive()


@pytest.mark.parametrize("command", [*COMMANDS, "IDLE"])
def test_stopping_ends_it_at_once_whatever_the_server_does_not_say(command, box, watch) -> None:
    with Scripted(a_mail(), **{command: SILENT}) as server:
        front = watch(server)
        # A silent greeting is not announced by anything.
        before = {"GREETING": "connect", "CHALLENGE": "AUTHENTICATE"}
        server.eventually_hears(before.get(command, command))
        stops_at_once(front)


def test_stopping_ends_an_idle_that_works(box, watch) -> None:
    with Scripted() as server:
        front = watch(server)
        server.eventually_hears("IDLE")
        stops_at_once(front)
    assert box.troubles == [""]


def test_stopping_ends_a_tls_handshake_that_is_not_answered(box, watch) -> None:
    with Scripted(GREETING=SILENT) as server:
        front = watch(server, Tls.IMPLICIT)
        server.eventually_hears("connect")
        stops_at_once(front)


def test_stopping_ends_a_pause(box, watch) -> None:
    with Scripted(GREETING=CUT) as server:
        front = watch(server)
        eventually(lambda: front._failures == 1)
        stops_at_once(front)


def test_stopping_ends_the_wait_for_the_next_login(box, watch, monkeypatch) -> None:
    monkeypatch.setattr(mail._imap, "PAUSE_S", (0.0, 0.0))
    with Scripted(SELECT=CUT) as server:
        front = watch(server)
        server.eventually_hears("SELECT", 2)
        stops_at_once(front)
        assert server.count("AUTHENTICATE") == 2


def test_stopping_ends_a_connection_that_nobody_accepts(box, watch) -> None:
    with contextlib.ExitStack() as stack:
        full = stack.enter_context(socket.create_server((HOST, 0), backlog=0))
        port = full.getsockname()[1]
        for _ in range(2):  # more than the system lets wait
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex((HOST, port))
        front = watch(port)
        assert front._thread.native_id is not None
        asleep(front._thread.native_id)
        stops_at_once(front)
        assert front._failures == 0


# --- names --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("INBOX", "INBOX"),
        ("Tom & Jerry", "Tom &- Jerry"),
        ("~peter/mail/台北/日本語", "~peter/mail/&U,BTFw-/&ZeVnLIqe-"),  # RFC 3501 §5.1.3
        ("Entwürfe", "Entw&APw-rfe"),
    ],
)
def test_names_of_folders_are_written_as_imap_does(name, written) -> None:
    assert _encoded(name) == written


def test_a_folder_name_cannot_end_its_quotes() -> None:
    assert _quoted('x" (y\\') == '"x\\" (y\\\\"'
