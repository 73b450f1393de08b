"""Mails through a real mail server: what arrives, and how the connection is kept."""

from __future__ import annotations

import email
import email.policy

import pytest
from smtp_kit import ALICE, BOB, HOST, SILENT, Scripted, Taken, a_mail, real_server

from compoint.errors import BusyError, ClosedError, UsageError
from compoint.testing import Background
from mail._outcome import Outcome, Step, Verdict
from mail._smtp import SubmissionSettings, Tls
from mail._submit import IDLE_S, Submission


def submission(port: int, **more: object) -> Submission:
    return Submission(SubmissionSettings(HOST, port, Tls.NONE, **more))  # type: ignore[arg-type]


def send(way: Submission, payload: bytes = b"frames", envelope_id: str = "") -> Outcome:
    return way.send(a_mail(payload), sender=ALICE, recipient=BOB, envelope_id=envelope_id)


@pytest.mark.parametrize("size", [0, 1, 1000, 3_000_000])
def test_a_mail_arrives_as_it_was_made(size):
    payload = bytes(range(256)) * (size // 256 + 1)
    taken = Taken()
    with real_server(taken) as port:
        way = submission(port)
        outcome = send(way, payload[:size])
        way.close()
    assert outcome == Outcome(Verdict.ACCEPTED, Step.END, 250, "2.0.0", "taken")
    [envelope] = taken.envelopes
    assert (envelope.mail_from, envelope.rcpt_tos) == (ALICE, [BOB])
    assert envelope.original_content == b"".join(a_mail(payload[:size]).pieces())
    mail = email.message_from_bytes(envelope.original_content, policy=email.policy.SMTP)
    assert mail.get_content() == payload[:size]


def test_many_mails_share_one_connection():
    with Scripted() as server:
        way = submission(server.port)
        assert {send(way).verdict for _ in range(5)} == {Verdict.ACCEPTED}
        way.close()
    assert server.verbs() == ["connect", "ehlo", *["mail", "rcpt", "data"] * 5, "quit"]


def test_an_idle_connection_is_left_politely_and_renewed():
    time = 0.0
    with Scripted() as server:
        way = Submission(SubmissionSettings(HOST, server.port, Tls.NONE), now=lambda: time)
        send(way)
        time = IDLE_S
        send(way)
        time = 2 * IDLE_S + 0.1
        send(way)
        way.close()
    one_mail = ["mail", "rcpt", "data"]
    assert server.verbs() == [
        *("connect", "ehlo", *one_mail, *one_mail, "quit"),
        *("connect", "ehlo", *one_mail, "quit"),
    ]


@pytest.mark.parametrize("goodbye", [b"cut", b"421 4.4.2 idle too long\r\n"])
def test_getmail6_257_a_connection_that_the_server_ended_meanwhile_costs_no_mail(goodbye):
    with Scripted(mail=[b"250 ok\r\n", goodbye, b"250 ok\r\n"]) as server:
        way = submission(server.port)
        assert [send(way).verdict for _ in range(3)] == [Verdict.ACCEPTED] * 3
        way.close()
    assert server.verbs().count("connect") == 2
    assert len(server.mails) == 3


def test_a_server_that_ends_every_connection_is_not_asked_a_third_time():
    with Scripted(mail=[b"250 ok\r\n", b"cut"]) as server:
        way = submission(server.port)
        assert send(way).verdict is Verdict.ACCEPTED
        assert send(way).verdict is Verdict.RETRY
        way.close()
    assert server.verbs().count("connect") == 2


def test_a_new_connection_that_is_refused_is_left_for_later():
    with Scripted(mail=b"421 4.3.2 busy\r\n") as server:
        way = submission(server.port)
        assert send(way).verdict is Verdict.RETRY
        way.close()
    assert server.verbs().count("connect") == 1


def test_a_server_that_knows_no_ehlo_is_spoken_to_by_helo():
    with Scripted(ehlo=b"502 what?\r\n", helo=b"250 old\r\n") as server:
        way = submission(server.port)
        assert send(way, envelope_id="a1").verdict is Verdict.ACCEPTED
        way.close()
    assert f"MAIL FROM:<{ALICE}>" in server.said


def test_we_name_ourselves_without_asking_a_name_server():
    with Scripted() as server:
        way = submission(server.port)
        send(way)
        way.close()
    assert "ehlo [127.0.0.1]" in server.said


def test_a_server_that_reports_failures_is_asked_to_report_them_briefly():
    with Scripted(ehlo=b"250-scripted\r\n250 DSN\r\n") as server:
        way = submission(server.port)
        send(way, envelope_id="0a1b:7 +=é")
        way.close()
    assert f"MAIL FROM:<{ALICE}> RET=HDRS ENVID=0a1b:7+20+2B+3D+C3+A9" in server.said
    assert f"RCPT TO:<{BOB}> NOTIFY=FAILURE" in server.said


def test_a_server_that_knows_no_reports_is_not_asked_for_any():
    with Scripted(ehlo=b"250 scripted\r\n") as server:
        way = submission(server.port)
        send(way, envelope_id="0a1b:7")
        way.close()
    assert f"MAIL FROM:<{ALICE}>" in server.said
    assert f"RCPT TO:<{BOB}>" in server.said


def test_the_server_is_told_the_size_before_the_mail():
    with Scripted() as server:
        way = submission(server.port)
        send(way)
        way.close()
    assert f"MAIL FROM:<{ALICE}> SIZE={a_mail().size}" in server.said
    assert len(server.mails[0]) == a_mail().size


def test_a_mail_above_the_size_the_server_takes_is_not_even_begun():
    taken = Taken()
    with real_server(taken, data_size_limit=20_000) as port:
        way = submission(port)
        assert way.size_limit == 0
        assert send(way).verdict is Verdict.ACCEPTED
        outcome = send(way, bytes(15_000))
        assert way.size_limit == 20_000
        assert send(way).verdict is Verdict.ACCEPTED
        way.close()
    assert (outcome.verdict, outcome.code, outcome.status) == (Verdict.FINAL, 552, "5.3.4")
    assert (
        outcome.text
        == f"the mail has {a_mail(bytes(15_000)).size} bytes and the server takes 20000"
    )
    assert len(taken.envelopes) == 2


def test_a_line_break_in_an_envelope_address_adds_no_recipient():
    with Scripted() as server:
        way = submission(server.port)
        for sender, recipient in [
            (f"{ALICE}>\r\nRCPT TO:<eve@example.org", BOB),
            (ALICE, f"{BOB}>\r\nRCPT TO:<eve@example.org"),
        ]:
            with pytest.raises(UsageError, match=r"^envelope "):
                way.send(a_mail(), sender=sender, recipient=recipient)
        way.close()
    assert server.said == []


def test_close_wakes_a_send_that_waits_for_its_server():
    with Scripted(rcpt=SILENT) as server:
        way = submission(server.port)
        sending = Background(send, way).blocked()
        way.close()
        outcome = sending.result()
    assert (outcome.verdict, outcome.step) == (Verdict.RETRY, Step.RECIPIENT)


def test_close_twice_is_once_and_afterwards_nothing_is_sent():
    with Scripted() as server:
        way = submission(server.port)
        send(way)
        way.close()
        way.close()
        with pytest.raises(ClosedError):
            send(way)
    assert server.verbs().count("quit") == 1


def test_close_before_the_first_mail_connects_to_nothing():
    with Scripted() as server:
        submission(server.port).close()
    assert server.said == []


def test_a_second_sender_at_the_same_time_is_told_so():
    with Scripted(data=SILENT) as server:
        way = submission(server.port)
        sending = Background(send, way).blocked()
        with pytest.raises(BusyError):
            send(way)
        way.close()
        sending.result()


def test_an_outcome_says_in_one_line_what_happened_and_where():
    outcome = Outcome(Verdict.FINAL, Step.RECIPIENT, 550, "5.1.1", "no such user")
    assert str(outcome) == "refused (recipient): 550 5.1.1: no such user"
    assert str(Outcome(Verdict.RETRY, Step.CONNECT, text="down")) == "retry later (connect): down"
