"""Delivery reports as mail systems write them, and what is read from each."""

from __future__ import annotations

import email
import email.policy
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mail._reports import Kind, Report, parse_report

ID = "0a1b2c3d-0000-4000-8000-123456789abc@example.org"

OUR_HEADERS = f"""\
From: <alice@example.org>
To: <bob@example.net>
Message-ID: <{ID}>
Subject: SEMPER Message
Content-Type: application/x-semper
Content-Transfer-Encoding: base64
"""

POSTFIX = f"""\
Return-Path: <>
Delivered-To: alice@example.org
Date: Fri, 20 Nov 2026 12:00:00 +0000 (UTC)
From: MAILER-DAEMON@mx.example.org (Mail Delivery System)
Subject: Undelivered Mail Returned to Sender
To: alice@example.org
Auto-Submitted: auto-replied
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status;
\tboundary="4RzX.1/mx.example.org"
Message-Id: <20261120120000.4RzX@mx.example.org>

This is a MIME-encapsulated message.

--4RzX.1/mx.example.org
Content-Description: Notification
Content-Type: text/plain; charset=us-ascii

This is the mail system at host mx.example.org.

I'm sorry to have to inform you that your message could not
be delivered to one or more recipients. It's attached below.

<bob@example.net>: host mx.example.net[192.0.2.7] said: 550 5.1.1
    <bob@example.net>: Recipient address rejected: User unknown in local
    recipient table (in reply to RCPT TO command)

--4RzX.1/mx.example.org
Content-Description: Delivery report
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.example.org
Original-Envelope-Id: 00ff:7+20x
X-Postfix-Queue-ID: 4RzX
X-Postfix-Sender: rfc822; alice@example.org
Arrival-Date: Fri, 20 Nov 2026 12:00:00 +0000 (UTC)

Final-Recipient: rfc822; bob@example.net
Original-Recipient: rfc822;bob@example.net
Action: failed
Status: 5.1.1
Remote-MTA: dns; mx.example.net
Diagnostic-Code: smtp; 550 5.1.1 <bob@example.net>: Recipient address rejected:
    User unknown in local recipient table

--4RzX.1/mx.example.org
Content-Description: Undelivered Message Headers
Content-Type: text/rfc822-headers

{OUR_HEADERS}
--4RzX.1/mx.example.org--
"""

EXIM = f"""\
Return-path: <>
Envelope-to: alice@example.org
X-Failed-Recipients: bob@example.net
Auto-Submitted: auto-replied
From: Mail Delivery System <Mailer-Daemon@mx.example.org>
To: alice@example.org
References: <{ID}>
Content-Type: multipart/report; report-type=delivery-status; boundary=1763640000-eximdsn-1
MIME-Version: 1.0
Subject: Mail delivery failed: returning message to sender
Message-Id: <E1vM-0001@mx.example.org>

--1763640000-eximdsn-1
Content-type: text/plain; charset=us-ascii

This message was created automatically by mail delivery software.

A message that you sent could not be delivered to one or more of its
recipients. This is a permanent error. The following address(es) failed:

  bob@example.net
    retry timeout exceeded

--1763640000-eximdsn-1
Content-type: message/delivery-status

Reporting-MTA: dns; mx.example.org

Action: failed
Final-Recipient: rfc822;bob@example.net
Status: 5.0.0

--1763640000-eximdsn-1
Content-type: message/rfc822

Return-path: <alice@example.org>
Received: from [127.0.0.1] (helo=[127.0.0.1])
\tby mx.example.org with esmtp (Exim 4.96)
{OUR_HEADERS}
AAAA

--1763640000-eximdsn-1--
"""

EXCHANGE = f"""\
From: <postmaster@example.onmicrosoft.com>
To: <alice@example.org>
Date: Fri, 20 Nov 2026 12:00:00 +0000
Content-Type: multipart/report; report-type=delivery-status;
\tboundary="b1_7f3e_"
X-MS-Exchange-Message-Is-Ndr:
Content-Language: en-GB
Message-ID: <9d2f@example.onmicrosoft.com>
In-Reply-To: <{ID}>
References: <{ID}>
Subject: Undeliverable: SEMPER Message
Auto-Submitted: auto-replied
MIME-Version: 1.0

--b1_7f3e_
Content-Type: multipart/alternative; differences=Content-Type;
\tboundary="b2_7f3e_"

--b2_7f3e_
Content-Type: text/plain; charset="us-ascii"
Content-Transfer-Encoding: quoted-printable

bob wasn't found at example.net.

--b2_7f3e_
Content-Type: text/html; charset="us-ascii"
Content-Transfer-Encoding: quoted-printable

<html><body><b>bob</b> wasn't found at example.net.</body></html>

--b2_7f3e_--

--b1_7f3e_
Content-Type: message/delivery-status

Reporting-MTA: dns;AM0PR01MB0001.eurprd01.prod.exchangelabs.com
Received-From-MTA: dns;mx.example.org
Arrival-Date: Fri, 20 Nov 2026 12:00:00 +0000

Final-Recipient: rfc822;bob@example.net
Action: failed
Status: 5.1.10
Diagnostic-Code: smtp;550 5.1.10 RESOLVER.ADR.RecipientNotFound;
 Recipient bob@example.net not found by SMTP address lookup
X-Display-Name: bob

--b1_7f3e_
Content-Type: message/rfc822

Received: from mx.example.org (192.0.2.1) by AM0.mail.protection.outlook.com
X-MS-Exchange-Organization-SCL: 1
{OUR_HEADERS}
AAAA

--b1_7f3e_--
"""

GMAIL = f"""\
Delivered-To: alice@example.org
Return-Path: <>
Content-Type: multipart/report; boundary="000000000000a1"; report-type=delivery-status
To: alice@example.org
Auto-Submitted: auto-replied
Message-ID: <5ec2.GMR@mx.google.com>
Date: Fri, 20 Nov 2026 04:00:00 -0800 (PST)
From: Mail Delivery Subsystem <mailer-daemon@googlemail.com>
Subject: Delivery Status Notification (Delay)
In-Reply-To: <{ID}>

--000000000000a1
Content-Type: multipart/related; boundary="000000000000a2"

--000000000000a2
Content-Type: text/plain; charset="UTF-8"


** Delivery incomplete **

There was a temporary problem delivering your message to bob@example.net.

--000000000000a2--
--000000000000a1
Content-Type: message/delivery-status

Reporting-MTA: dns; googlemail.com
Arrival-Date: Fri, 20 Nov 2026 03:00:00 -0800 (PST)
X-Original-Message-ID: <{ID}>

Final-Recipient: rfc822; bob@example.net
Action: delayed
Status: 4.4.1
Diagnostic-Code: smtp; 421-4.4.1 The recipient server did not accept our requests to
 421-4.4.1 connect. Learn more at
 421 4.4.1 https://support.example/answer/7720
Last-Attempt-Date: Fri, 20 Nov 2026 04:00:00 -0800 (PST)
Will-Retry-Until: Mon, 23 Nov 2026 03:00:00 -0800 (PST)

--000000000000a1--
"""

GMX = f"""\
Return-Path: <>
Date: Fri, 20 Nov 2026 12:00:00 +0000
From: "GMX Mailer Daemon" <mailer-daemon@gmx.example>
To: alice@example.org
Subject: Mail delivery failed: returning message to sender
Auto-Submitted: auto-replied
MIME-Version: 1.0
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: 8bit

This message was created automatically by mail delivery software.

A message that you sent could not be delivered to one or more of
its recipients. This is a permanent error. The following address(es)
failed:

bob@example.net:
SMTP error from remote server for RCPT TO command, reason: 550-5.1.1 No such user. Please
 try
550 5.1.1 again

--- The header of the original message is following. ---

{OUR_HEADERS}
"""

YAHOO = f"""\
Return-Path: <>
From: MAILER-DAEMON@yahoo.example
To: alice@example.org
Message-ID: <17130.39992@sonic.example>
Subject: Failure Notice
MIME-Version: 1.0
Content-Type: text/plain; charset=UTF-8
Content-Transfer-Encoding: 7bit

Sorry, we were unable to deliver your message to the following address.

<bob@example.net>:
554: delivery error: dd Not a valid recipient - atlas117.mail.example

--- Below this line is a copy of the message.

DKIM-Signature: v=1; a=rsa-sha256; b=AAAA==
{OUR_HEADERS}
AAAA
"""

EXIM_WARNING = f"""\
Return-path: <>
Auto-Submitted: auto-replied
From: Mail Delivery System <Mailer-Daemon@mx.example.org>
To: alice@example.org
Subject: Warning: message 1vM-0001 delayed 24 hours
Content-Type: text/plain

A message that you sent has not yet been delivered to one or more of its
recipients after more than 24 hours on the queue on mx.example.org.

  Message-ID: <{ID}>

No action is required on your part. Delivery attempts will continue.
"""

REPORTS = {
    "postfix": (
        POSTFIX,
        Report(
            Kind.FAILED,
            "5.1.1",
            "<bob@example.net>: Recipient address rejected: User unknown in local recipient table",
            "bob@example.net",
            "00ff:7 x",
            ID,
        ),
    ),
    "exim": (
        EXIM,
        Report(
            Kind.FAILED,
            "5.0.0",
            "This message was created automatically by mail delivery software. A message that you"
            " sent could not be delivered to one or more of its recipients. This is a permanent"
            " error. The following address(es) failed: bob@example.net retry timeout exceeded",
            "bob@example.net",
            message_id=ID,
        ),
    ),
    "exchange": (
        EXCHANGE,
        Report(
            Kind.FAILED,
            "5.1.10",
            "RESOLVER.ADR.RecipientNotFound; Recipient bob@example.net"
            " not found by SMTP address lookup",
            "bob@example.net",
            message_id=ID,
        ),
    ),
    "gmail": (
        GMAIL,
        Report(
            Kind.DELAYED,
            "4.4.1",
            "The recipient server did not accept our requests to connect. Learn more at"
            " https://support.example/answer/7720",
            "bob@example.net",
            message_id=ID,
        ),
    ),
    "gmx, without a report part": (
        GMX,
        Report(
            Kind.FAILED,
            "5.1.1",
            "SMTP error from remote server for RCPT TO command, reason: 550-5.1.1 No such user."
            " Please",
            message_id=ID,
        ),
    ),
    "yahoo, without a status either": (
        YAHOO,
        Report(
            Kind.FAILED,
            "",
            "554: delivery error: dd Not a valid recipient - atlas117.mail.example",
            message_id=ID,
        ),
    ),
    "an old exim's warning": (
        EXIM_WARNING,
        Report(
            Kind.DELAYED,
            "",
            "A message that you sent has not yet been delivered to one or more of its",
            message_id=ID,
        ),
    ),
}


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("system", REPORTS)
def test_the_report_of_a_mail_system_is_understood(system, newline):
    text, expected = REPORTS[system]
    assert parse_report(text.replace("\n", newline).encode()) == expected


@pytest.mark.parametrize(
    ("action", "kind"),
    [
        ("failed", Kind.FAILED),
        ("Failed (no such user)", Kind.FAILED),
        ("delayed", Kind.DELAYED),
        ("delivered", Kind.DELIVERED),
        ("relayed", Kind.DELIVERED),
        ("expanded", Kind.DELIVERED),
    ],
)
def test_the_action_decides_whatever_the_status_says(action, kind):
    report = parse_report(POSTFIX.replace("Action: failed", f"Action: {action}").encode())
    assert report is not None
    assert report.kind is kind


def test_a_queue_that_gave_up_is_a_failure_with_a_passing_status():
    text = POSTFIX.replace("Status: 5.1.1", "Status: 4.4.1")
    report = parse_report(text.encode())
    assert report is not None
    assert (report.kind, report.status) == (Kind.FAILED, "4.4.1")


def test_one_failure_among_several_recipients_is_a_failure():
    second = "\nFinal-Recipient: rfc822; eve@example.net\nAction: delivered\nStatus: 2.0.0\n"
    text = POSTFIX.replace("\nFinal-Recipient", f"{second}\nFinal-Recipient", 1)
    report = parse_report(text.encode())
    assert report is not None
    assert (report.kind, report.recipient) == (Kind.FAILED, "bob@example.net")


def test_the_address_that_we_wrote_to_counts_more_than_where_it_was_passed_on():
    text = POSTFIX.replace("Final-Recipient: rfc822; bob@", "Final-Recipient: rfc822; robert@")
    report = parse_report(text.encode())
    assert report is not None
    assert report.recipient == "bob@example.net"


def test_a_report_that_returns_a_large_mail_is_read_by_its_beginning():
    text = EXIM.replace("AAAA", "AAAA\n" * 1_000_000)
    assert parse_report(text.encode()) == REPORTS["exim"][1]


def test_what_lies_beyond_the_first_256_kib_is_not_looked_at():
    text = POSTFIX.replace("MAILER-DAEMON@", "friend@").replace("I'm sorry", "sorry " * 50_000)
    assert parse_report(text.encode()) is None


@pytest.mark.parametrize("form", ["message/rfc822", "text/rfc822-headers"])
@pytest.mark.parametrize("first", ["ours", "theirs"])
def test_an_identifier_that_outlook_has_replaced_is_found_beside_the_new_one(form, first):
    """Outlook.com's SMTP gives each mail another Message-ID, and keeps ours."""
    ours = f"X-Microsoft-Original-Message-ID:\n <{ID}>"
    theirs = "Message-ID: <DB9P@AM0.eurprd01.prod.outlook.com>"
    fields = [ours, theirs] if first == "ours" else [theirs, ours]
    text = EXCHANGE.replace(f"Message-ID: <{ID}>", "\n".join(fields))
    text = text.replace(f"In-Reply-To: <{ID}>", theirs.replace("Message-ID", "In-Reply-To"))
    text = text.replace("Content-Type: message/rfc822", f"Content-Type: {form}")
    for newline in ("\n", "\r\n"):
        report = parse_report(text.replace("\n", newline).encode())
        assert report is not None
        assert report.message_id == ID


@pytest.mark.parametrize("text", [POSTFIX, GMAIL, EXCHANGE])
def test_the_identifier_is_that_of_the_returned_headers_or_of_what_stands_for_them(text):
    for line in (f"Message-ID: <{ID}>", f"X-Original-Message-ID: <{ID}>", f"In-Reply-To: <{ID}>"):
        only = line.replace(ID, "kept")
        rest = text.replace(line, only).replace(ID, "lost id")
        report = parse_report(rest.encode())
        assert report is not None
        assert report.message_id == ("kept" if only in rest else "")


def test_what_stands_in_the_returned_mail_is_not_the_reason():
    text = YAHOO.replace("554: delivery", "delivery") + "550 5.7.1 we like spam\n"
    report = parse_report(text.encode())
    assert report is not None
    assert report.status == ""
    assert report.text.startswith("Sorry, we were unable")


def test_a_report_inside_the_returned_mail_is_not_the_report():
    inner = email.message_from_string(POSTFIX, policy=email.policy.SMTP)
    outer = email.message.EmailMessage()
    outer["From"] = "friend@example.net"
    outer.set_content("look what I got")
    outer.add_attachment(inner)
    assert parse_report(outer.as_bytes()) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n\n",
        OUR_HEADERS + "\nAAAA\n",
        "From: bob@example.net\nAuto-Submitted: auto-replied\n\nOn holiday until 550 5.1.1\n",
        f"From: bob@example.net\nSubject: Re: failure\n\n550 5.1.1 no\nMessage-ID: <{ID}>\n",
        "From: mailer-daemon@example.net\nSubject: welcome\n\nYour account is ready.\n",
        POSTFIX.replace("Action: failed\n", "").replace("MAILER-DAEMON@", "friend@"),
    ],
)
def test_what_is_no_report_is_none(text):
    assert parse_report(text.encode()) is None


def test_a_report_part_without_a_known_action_is_read_as_text():
    text = POSTFIX.replace("Action: failed", "Action: sung")
    report = parse_report(text.encode())
    assert report is not None
    assert (report.kind, report.status, report.message_id) == (Kind.FAILED, "5.1.1", ID)


def test_what_a_report_says_cannot_steer_a_terminal_or_fill_a_log():
    text = POSTFIX.replace("User unknown", "\x1b[2J" + "x" * 5000).replace("00ff", "+1B[2J+0A")
    report = parse_report(text.encode())
    assert report is not None
    assert report.text.isprintable()
    assert report.envelope_id.isprintable()
    assert len(report.text) == 500


@pytest.mark.parametrize(
    "raw",
    [
        b"Content-Type: message/rfc822\n\n" * 9000,
        b"".join(
            b'Content-Type: multipart/mixed; boundary="%d"\n\n--%d\n' % (i, i) for i in range(300)
        ),
        POSTFIX.replace("us-ascii", "no-such-charset").encode(),
        POSTFIX.replace(
            "Content-Type: text/rfc822-headers", "Content-Type: message/rfc822"
        ).encode(),
        b"From: mailer-daemon@x\nContent-Transfer-Encoding: base64\n\n" + b"%" * 1000,
        b"From: mailer-daemon@x\n\n" + b"Message-ID:" * 20_000,
        b"From: mailer-daemon@x\n\n" + b" " * 200_000,
        b"From: mailer-daemon@x\n\n" + b"1" * 200_000,
    ],
)
def test_a_mail_made_to_trip_the_parser_raises_nothing(raw):
    parse_report(raw)


@pytest.mark.parametrize("length", [60_000, 120_000])
@pytest.mark.parametrize("name", ["Content-Type", "Content-Disposition", "content-type"])
def test_a_header_made_to_be_costly_takes_no_time(name, length):
    """Python's email package looks through a parameter once for each semicolon in it."""
    costly = f'{name}: multipart/report; a="' + ";" * length + "\n"
    returned = POSTFIX.replace("Content-Type: application/x-semper\n", costly)
    part = POSTFIX.replace("Content-Description: Delivery report\n", costly)
    began = time.process_time()
    assert parse_report((costly + POSTFIX).encode()) is None
    assert parse_report(part.encode()) is None
    parse_report(returned.encode())
    assert time.process_time() - began < 1


@given(st.binary(max_size=2000))
def test_no_bytes_make_the_parser_raise(raw):
    parse_report(raw)


@given(st.data())
def test_no_damage_to_a_report_makes_the_parser_raise(data):
    raw = bytearray(data.draw(st.sampled_from([text for text, _ in REPORTS.values()])).encode())
    for _ in range(data.draw(st.integers(1, 20))):
        at = data.draw(st.integers(0, len(raw) - 1))
        raw[at] = data.draw(st.integers(0, 255))
    parse_report(bytes(raw[: data.draw(st.integers(0, len(raw)))]))
