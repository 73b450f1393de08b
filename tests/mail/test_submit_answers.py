"""What each answer of a mail server, or its lack, means for the mail."""

from __future__ import annotations

import socket
import tracemalloc

import pytest
from smtp_kit import ALICE, BOB, CUT, HOST, SILENT, STALL, Endless, Scripted, a_mail

from compoint.deadline import clock
from mail._outcome import Outcome, Step, Verdict, judged
from mail._smtp import SubmissionSettings, Tls
from mail._submit import Submission

STEPS = {
    "greeting": Step.CONNECT,
    "mail": Step.SENDER,
    "rcpt": Step.RECIPIENT,
    "data": Step.CONTENT,
    "end": Step.END,
}


def outcome_of(server: Scripted, payload: bytes = b"frames", **more: float) -> Outcome:
    way = Submission(SubmissionSettings(HOST, server.port, Tls.NONE, **more))  # type: ignore[arg-type]
    try:
        return way.send(a_mail(payload), sender=ALICE, recipient=BOB)
    finally:
        way.close()


@pytest.mark.parametrize("verb", STEPS)
@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        (b"421 4.3.2 shutting down\r\n", Verdict.RETRY),
        (b"451 4.7.1 greylisted, try again later\r\n", Verdict.RETRY),
        (b"452 4.2.2 mailbox full\r\n", Verdict.RETRY),
        (b"550 5.1.1 no such user\r\n", Verdict.FINAL),
        (b"554 transaction failed\r\n", Verdict.FINAL),
        (b"550 5.5.0 service unavailable\r\n", Verdict.RETRY),
        (b"550 4.1.2 domain not found\r\n", Verdict.RETRY),
    ],
)
def test_a_refusal_means_the_same_at_every_step(verb, answer, verdict):
    with Scripted(**{verb: answer}) as server:
        outcome = outcome_of(server)
    assert (outcome.verdict, outcome.step) == (verdict, STEPS[verb])
    assert outcome.code == int(answer[:3])


@pytest.mark.parametrize("verb", ["mail", "rcpt", "data", "end"])
@pytest.mark.parametrize("answer", [b"421 4.3.2 bye\r\n", b"451 later\r\n", b"550 no\r\n"])
def test_cpython_132796_a_connection_is_never_used_again_after_a_refusal(verb, answer):
    with Scripted(**{verb: [answer, b"250 ok\r\n" if verb != "data" else b"354 go\r\n"]}) as server:
        way = Submission(SubmissionSettings(HOST, server.port, Tls.NONE))
        first = way.send(a_mail(), sender=ALICE, recipient=BOB)
        second = way.send(a_mail(), sender=ALICE, recipient=BOB)
        way.close()
    assert first.verdict is not Verdict.ACCEPTED
    assert second.verdict is Verdict.ACCEPTED
    assert server.verbs().count("connect") == 2


@pytest.mark.parametrize("verb", STEPS)
@pytest.mark.parametrize("fault", [CUT, SILENT, b"", b"gibberish\r\n", b"x" * 9000 + b"\r\n"])
def test_a_fault_before_the_final_dot_is_clean_and_after_it_ambiguous(verb, fault):
    fault = fault or b"299 fine, is it not?\r\n"
    with Scripted(**{verb: fault}) as server:
        outcome = outcome_of(server, answer_s=0.2, end_s=0.2)
    is_late = verb == "end"
    assert outcome.verdict is (Verdict.AMBIGUOUS if is_late else Verdict.RETRY)
    assert outcome.step is STEPS[verb]


def test_forwardemail_547_a_421_after_the_dot_is_a_refusal_and_no_doubt():
    with Scripted(end=b"421 4.3.0 try later\r\n") as server:
        assert outcome_of(server).verdict is Verdict.RETRY


def test_a_server_has_more_time_for_the_final_dot_than_for_other_answers():
    with Scripted(end=SILENT) as server:
        outcome = outcome_of(server, answer_s=60, end_s=0.1)
    assert outcome.verdict is Verdict.AMBIGUOUS
    assert "timed out" in outcome.text


def test_a_server_that_stops_reading_a_large_mail_is_left_and_the_mail_is_not_in_doubt():
    with Scripted(data=STALL) as server:
        outcome = outcome_of(server, bytes(20_000_000), answer_s=0.5)
    assert (outcome.verdict, outcome.step) == (Verdict.RETRY, Step.CONTENT)


#: What begins an answer and never ends it: said once, and again and again.
ENDLESS = {
    "lines": (b"220-", b"220-" + b"x" * 100 + b"\r\n"),
    "a line": (b"220-", b"x" * 1000),
}


@pytest.mark.parametrize("verb", [*STEPS, "ehlo"])
@pytest.mark.parametrize("endless", ["lines", "a line"])
def test_an_answer_without_an_end_is_left_and_no_mail_is_blamed(verb, endless):
    with Scripted(**{verb: Endless(*ENDLESS[endless])}) as server:
        outcome = outcome_of(server)
    assert outcome.verdict is (Verdict.AMBIGUOUS if verb == "end" else Verdict.RETRY)
    assert outcome.is_of_the_way
    assert "does not come to the end of its answer" in outcome.text


def test_an_answer_without_an_end_takes_no_memory():
    tracemalloc.start()
    try:
        with Scripted(ehlo=Endless(b"", b"250-X-" + b"x" * 100 + b"\r\n")) as server:
            assert outcome_of(server).verdict is Verdict.RETRY
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 4_000_000


@pytest.mark.parametrize("verb", [*STEPS, "ehlo"])
def test_an_answer_that_drips_has_the_time_of_one_answer(verb):
    with Scripted(**{verb: Endless(b"250-", b"x", every_s=0.05)}) as server:
        began = clock()
        outcome = outcome_of(server, answer_s=0.4, end_s=0.4)
        took_s = clock() - began
    assert outcome.verdict is (Verdict.AMBIGUOUS if verb == "end" else Verdict.RETRY)
    assert outcome.is_of_the_way
    assert "did not end its answer within 0.4 s" in outcome.text
    assert 0.3 < took_s < 10


def test_a_goodbye_that_drips_is_not_waited_for(monkeypatch):
    monkeypatch.setattr("mail._smtp.QUIT_S", 0.2)
    with Scripted(quit=Endless(b"221-", b"x", every_s=0.05)) as server:
        began = clock()
        assert outcome_of(server).verdict is Verdict.ACCEPTED
        assert clock() - began < 10


def test_a_server_with_many_extensions_is_understood():
    lines = b"".join(b"250-X-EXTENSION-%d\r\n" % number for number in range(2000))
    with Scripted(ehlo=lines + b"250 SIZE 123\r\n") as server:
        outcome = outcome_of(server)
    assert (outcome.verdict, outcome.code) == (Verdict.FINAL, 552)


def test_a_line_that_is_too_long_is_no_refusal_of_starttls():
    offer = b"250-scripted\r\n250 STARTTLS\r\n"
    with Scripted(ehlo=offer, starttls=b"220 " + b"x" * 9000 + b"\r\n") as server:
        way = Submission(SubmissionSettings(HOST, server.port, Tls.STARTTLS))
        outcome = way.send(a_mail(), sender=ALICE, recipient=BOB)
        way.close()
    assert (outcome.verdict, outcome.step) == (Verdict.RETRY, Step.TLS)


def test_nobody_listening_is_tried_again_later():
    with socket.create_server((HOST, 0)) as free:
        port = free.getsockname()[1]
    way = Submission(SubmissionSettings(HOST, port, Tls.NONE))
    outcome = way.send(a_mail(), sender=ALICE, recipient=BOB)
    way.close()
    assert (outcome.verdict, outcome.step) == (Verdict.RETRY, Step.CONNECT)
    assert "refused" in outcome.text
    assert f"{HOST}:{port}" in outcome.text
    assert outcome.is_of_the_way


def test_a_name_that_does_not_resolve_is_tried_again_later():
    way = Submission(SubmissionSettings("mail.invalid", 25, Tls.NONE))
    outcome = way.send(a_mail(), sender=ALICE, recipient=BOB)
    way.close()
    assert (outcome.verdict, outcome.step) == (Verdict.RETRY, Step.CONNECT)


@pytest.mark.parametrize(
    ("step", "code", "is_of_the_way"),
    [
        (Step.CONNECT, 554, True),
        (Step.LOGIN, 535, True),
        (Step.SENDER, 530, True),
        (Step.SENDER, 535, True),
        (Step.SENDER, 550, True),
        (Step.SENDER, 552, False),
        (Step.RECIPIENT, 550, False),
        (Step.END, 554, False),
    ],
)
def test_an_outcome_tells_trouble_of_the_way_from_trouble_of_the_mail(step, code, is_of_the_way):
    assert judged(step, code, "no").is_of_the_way is is_of_the_way


#: As providers say it, or their pages do.
QUOTAS = [
    b"550 5.4.5 Daily user sending limit exceeded. For more information go to ... - gsmtp",
    b"550 5.7.1 Daily SMTP relay limit exceeded for customer. - gsmtp",
    b"554 5.2.0 STOREDRV.Submission.Exception:SubmissionQuotaExceededException; lid size 4",
    b"554 5.2.2 mailbox full; STOREDRV.Submission.Exception:QuotaExceededException.MapiException",
    b"550 5.1.90 It can't be sent because you've reached your daily limit for message recipients",
    b"550 5.7.233 It can't be sent because your tenant exceeded its daily limit for sending email",
    b"450 Requested mail action not taken: Mail send limit exceeded",
    b"454 Throttling failure: Daily message quota exceeded.",
    b"454 Throttling failure: Maximum sending rate exceeded.",
    b"550 5.4.6 Unusual sending activity detected. Please try after sometime.",
    b"550 5.7.1 Your mail limit has been reached.",
    b"550 Domain example.org has exceeded the max emails per hour (100/100 (100%)) allowed.",
    b"554 5.7.1 <bob@example.net>: Recipient rejected: You have exceeded your Outmail quota",
    b"554 5.7.1 <DATA>: Data command rejected: only 10 messages per day",
]


@pytest.mark.parametrize("verb", ["mail", "rcpt", "end"])
@pytest.mark.parametrize("answer", QUOTAS)
def test_a_quota_of_the_provider_passes_and_meets_every_mail(verb, answer):
    with Scripted(**{verb: answer + b"\r\n"}) as server:
        outcome = outcome_of(server)
    assert (outcome.verdict, outcome.is_of_the_way) == (Verdict.RETRY, True)
    # With the words of the server.
    assert answer.decode().partition(" ")[2].removeprefix(outcome.status).strip() == outcome.text


@pytest.mark.parametrize(
    "answer",
    [
        b"550 5.1.1 bob@example.net: no such user, and no daily quota either",
        b"550 5.2.1 The user you are trying to contact is getting mail at a rate that prevents it",
        b"552 5.2.2 The email account that you tried to reach is over quota.",
        b"552 5.2.2 Mailbox full: the daily quota of bob@example.net is used up",
        b"552 Mail quota exceeded",
        b"552 5.2.3 Your message exceeds the sending limit",
        b"552 5.3.4 Your message exceeded Google's message size limits.",
        b"552 message size exceeds the relay limit",
        b"550 5.7.1 Message rejected as spam by Content Filtering.",
        b"554 5.7.1 <bob@example.net>: Relay access denied",
        b"550 5.7.26 This mail has been blocked because the sender is unauthenticated.",
    ],
)
def test_what_is_said_of_one_mailbox_or_one_mail_is_no_quota_of_the_account(answer):
    with Scripted(rcpt=answer + b"\r\n") as server:
        outcome = outcome_of(server)
    assert (outcome.verdict, outcome.is_of_the_way) == (Verdict.FINAL, False)


def test_the_text_of_a_long_answer_is_one_line_without_its_repeated_numbers():
    answer = b"5.7.26 Your email has been blocked\n5.7.26 because the sender is\n5.7.26  unknown"
    outcome = judged(Step.END, 550, answer)
    assert outcome.status == "5.7.26"
    assert outcome.text == "Your email has been blocked because the sender is unknown"


def test_what_a_server_says_cannot_steer_a_terminal_or_fill_a_log():
    outcome = judged(Step.END, 550, b"\x1b[2J\x07no\r\nforged line" + b"x" * 9000 + b"\xff")
    assert outcome.text.isprintable()
    assert len(outcome.text) == 500
    assert "no forged line" in outcome.text


def test_a_number_inside_a_text_is_no_status():
    assert judged(Step.END, 550, b"host 10.5.1.1 said no").status == ""
    assert judged(Step.END, 550, b"see rule 12345, 5.7.1").status == ""
