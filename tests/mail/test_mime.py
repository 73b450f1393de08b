"""One mail: what its header block holds, what must never get into it, and its size."""

from __future__ import annotations

import email
import email.policy
import re
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compoint.errors import UsageError
from mail._mime import (
    HEAD_BYTES,
    Mail,
    checked_mailbox,
    largest_payload,
    new_mail,
    new_message_id,
)

FIRST = "11111111-0000-4000-8000-000000000001@example.org"
SECOND = "22222222-0000-4000-8000-000000000002@example.org"


def built(payload: bytes = b"frames", **changes: object) -> Mail:
    fields: dict[str, object] = {
        "sender": "alice@example.org",
        "recipient": "bob@example.net",
        "message_id": SECOND,
        "now": 1_700_000_000,
    }
    return new_mail(payload, **(fields | changes))  # type: ignore[arg-type]


def whole(mail: Mail) -> bytes:
    return b"".join(mail.pieces())


def parsed(mail: Mail) -> email.message.EmailMessage:
    return email.message_from_bytes(whole(mail), policy=email.policy.SMTP)


def test_the_header_block_is_this_and_nothing_else():
    assert built(thread=FIRST).head.decode() == (
        "From: <alice@example.org>\r\n"
        "To: <bob@example.net>\r\n"
        "Date: Tue, 14 Nov 2023 22:13:20 +0000\r\n"
        f"Message-ID: <{SECOND}>\r\n"
        "Subject: SEMPER Message\r\n"
        "Auto-Submitted: auto-generated\r\n"
        "MIME-Version: 1.0\r\n"
        "Content-Type: application/x-semper\r\n"
        "Content-Transfer-Encoding: base64\r\n"
        f"In-Reply-To: <{FIRST}>\r\n"
        f"References: <{FIRST}>\r\n"
        "\r\n"
    )


def test_the_first_mail_of_a_thread_refers_to_none():
    assert b"References" not in built(thread=SECOND).head
    assert b"In-Reply-To" not in built().head


def test_a_bare_acknowledgement_says_that_it_is_a_reply():
    assert parsed(built(is_reply=True))["Auto-Submitted"] == "auto-replied"


@given(st.binary(max_size=400))
def test_any_payload_comes_back_from_a_standard_parser(payload):
    mail = parsed(built(payload))
    assert mail.get_content_type() == "application/x-semper"
    assert mail.get_content() == payload
    assert not mail.defects


def test_a_payload_of_many_pieces_comes_back():
    payload = bytes(range(256)) * 1000
    pieces = list(built(payload).pieces())
    assert len(pieces) > 3
    assert parsed(built(payload)).get_content() == payload


@given(st.binary(max_size=400))
def test_no_line_begins_with_a_dot_or_is_longer_than_standard(payload):
    lines = whole(built(payload)).split(b"\r\n")
    assert not any(line.startswith(b".") for line in lines)
    assert max(map(len, lines)) <= 78


@given(st.integers(0, 60_000))
def test_the_size_is_known_before_anything_is_encoded(length):
    mail = built(bytes(length))
    assert mail.size == len(whole(mail))


def test_the_local_command_gets_the_newlines_of_its_system():
    text = b"".join(built(bytes(200)).pieces(b"\n"))
    assert b"\r" not in text
    assert text == whole(built(bytes(200))).replace(b"\r\n", b"\n")


@given(st.integers(HEAD_BYTES, 200_000))
def test_the_largest_payload_fits_and_one_that_is_a_line_longer_does_not(limit):
    payload = largest_payload(limit)
    body = built(bytes(payload)).size - len(built().head)
    assert body <= limit - HEAD_BYTES
    assert built(bytes(payload + 57)).size - len(built().head) > limit - HEAD_BYTES


def test_a_limit_of_ten_megabytes_holds_seven_point_four():
    assert 7_400_000 < largest_payload(10_240_000) < 7_500_000


def test_a_limit_below_the_headers_holds_nothing():
    assert largest_payload(0) == largest_payload(HEAD_BYTES) == 0


def test_the_longest_header_block_stays_far_below_what_is_kept_free():
    user, domain = "u" * 64, ".".join(["d" * 60] * 4)
    mailbox = f"{user}@{domain}"
    identifier = new_message_id(mailbox)
    longest = built(sender=mailbox, recipient=mailbox, message_id=identifier, thread=FIRST)
    assert len(longest.head) < HEAD_BYTES // 2
    assert max(map(len, longest.head.split(b"\r\n"))) < 998  # RFC 5322 §2.1.1


def test_a_message_id_is_a_uuid_with_hyphens_in_the_domain_of_the_sender():
    left, at, domain = new_message_id("alice@example.org").partition("@")
    assert str(uuid.UUID(left)) == left
    assert uuid.UUID(left).version == 4
    assert (at, domain) == ("@", "example.org")


def test_an_international_domain_travels_in_its_ascii_form():
    assert checked_mailbox("To", "bob@bücher.example") == "bob@xn--bcher-kva.example"
    assert built(recipient="bob@bücher.example").head.isascii()


FIELDS = {
    "sender": "From",
    "recipient": "To",
    "message_id": "Message-ID",
    "thread": "In-Reply-To",
}


@pytest.mark.parametrize(
    "control", ["\r\n", "\n", "\r", "\0", "\x0b", "\x7f", "\x85", "\u2028", "\u202e"]
)
@pytest.mark.parametrize("argument", FIELDS)
def test_cve_2024_6923_a_line_break_in_an_address_makes_no_header(argument, control):
    for place in ("al{}ice@example.org", "alice@exa{}mple.org", "alice@example.org{}Bcc: x@y.z"):
        with pytest.raises(UsageError, match=f"^{FIELDS[argument]}: "):
            built(**{argument: place.format(control)})


@pytest.mark.parametrize("argument", FIELDS)
def test_cve_2026_0672_a_trailing_line_break_is_refused(argument):
    with pytest.raises(UsageError, match=f"^{FIELDS[argument]}: "):
        built(**{argument: "alice@example.org\n"})


@pytest.mark.parametrize("argument", ["message_id", "thread"])
@pytest.mark.parametrize(
    "text", ["a>b@example.org", "a b@example.org", "<a@b.c>", "a", "ä@b.c", "a@"]
)
def test_cve_2026_1299_an_identifier_cannot_close_its_own_brackets(argument, text):
    with pytest.raises(UsageError, match=f"^{FIELDS[argument]}: "):
        built(**{argument: text})


@pytest.mark.parametrize(
    "mailbox", ["", "bob", "bob@", "@x.y", "a,b@x.y", "<a@x.y>", 'a"b@x.y', "a b@x.y", "ä@x.y"]
)
def test_what_is_no_plain_mailbox_is_refused_by_the_name_of_its_field(mailbox):
    with pytest.raises(UsageError, match=r"^To: "):
        built(recipient=mailbox)


def test_nothing_but_the_four_arguments_differs_between_two_mails():
    one, other = built(b"one").head, built(b"something else").head
    assert one == other
    assert re.findall(rb"^Subject: (.*)\r$", one, re.MULTILINE) == [b"SEMPER Message"]
