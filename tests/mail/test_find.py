"""Finding what a mail brings, after gateways, lists and readers have had their way with it."""

from __future__ import annotations

import base64
import io
import json
import os
import quopri
import subprocess
import sys
import time
from email.message import EmailMessage
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from receiver_kit import PAYLOAD, ROOT, mail_of

from mail._find import Facts, Found, Kind, find
from mail._glance import is_surely_ours

ENCODED = base64.encodebytes(PAYLOAD)


def _found(mail: bytes) -> Found:
    return find(io.BytesIO(mail))


def _mail(head: str, body: bytes) -> bytes:
    return f"From: alice@example.org\nMIME-Version: 1.0\n{head}\n".encode() + b"\n" + body


def _brings(mail: bytes, *payloads: bytes) -> None:
    found = _found(mail)
    assert (found.kind, found.payloads) == (Kind.PAYLOADS, payloads or (PAYLOAD,))


def _is_foreign(mail: bytes) -> None:
    assert _found(mail)[:2] == (Kind.FOREIGN, ())


# --- the payload ------------------------------------------------------------------------------


def test_a_decoded_part_is_the_payload() -> None:
    _brings(PAYLOAD)


def test_a_part_that_the_reader_did_not_decode_is_the_payload() -> None:
    _brings(ENCODED)


def test_a_mail_as_a_peer_sends_it_brings_its_payload() -> None:
    _brings(mail_of())


def test_line_ends_of_the_network_change_nothing() -> None:
    _brings(mail_of().replace(b"\n", b"\r\n"))


def test_a_part_of_another_type_brings_its_payload() -> None:
    _brings(mail_of().replace(b"application/x-semper", b"application/octet-stream"))


def test_a_part_encoded_anew_as_quoted_printable_brings_its_payload() -> None:
    _brings(mail_of(encoding="quoted-printable"))


@pytest.mark.parametrize("width", [8, 60, 64, 998, 100_000])
def test_base64_wrapped_anew_brings_its_payload(width: int) -> None:
    letters = ENCODED.replace(b"\n", b"")
    lines = [letters[at : at + width] + b"\r\n" for at in range(0, len(letters), width)]
    _brings(_mail("Content-Transfer-Encoding: base64", b"".join(lines)))


def test_a_mail_that_lost_all_its_headers_about_content_brings_its_payload() -> None:
    _brings(_mail("X-Gateway: yes", ENCODED))


def test_base64_that_was_encoded_once_more_as_text_brings_its_payload() -> None:
    encoded = quopri.encodestring(ENCODED)
    _brings(_mail("Content-Transfer-Encoding: quoted-printable", encoded))


_FOOTER = b"-- \nSent by our list, unsubscribe at any time\n"


def test_a_footer_behind_the_base64_comes_behind_the_payload_at_most() -> None:
    payload = PAYLOAD[: len(PAYLOAD) // 3 * 3]
    body = base64.encodebytes(payload) + _FOOTER
    (found,) = _found(_mail("Content-Transfer-Encoding: base64", body)).payloads
    assert found.startswith(payload)


@pytest.mark.parametrize("missing", [1, 2])
def test_a_footer_behind_padding_is_left_out(missing: int) -> None:
    payload = PAYLOAD[: len(PAYLOAD) // 3 * 3 - missing]
    body = base64.encodebytes(payload) + _FOOTER * 3000
    _brings(_mail("Content-Transfer-Encoding: base64", body), payload)


@pytest.mark.parametrize("cut", [1, 2, 3, 4, 5])
def test_base64_that_is_cut_off_brings_what_is_left(cut: int) -> None:
    (found,) = _found(mail_of(PAYLOAD + b"!!").strip()[:-cut]).payloads
    assert PAYLOAD.startswith(found[: len(PAYLOAD)])
    assert len(found) >= len(PAYLOAD) - 4


def test_a_list_that_adds_a_part_with_its_footer_hides_nothing() -> None:
    mail = EmailMessage()
    mail["From"] = "list@example.org"
    mail.set_content("Please note our rules.")
    mail.add_attachment(PAYLOAD, "application", "octet-stream", filename="message.semper")
    mail.add_attachment("unsubscribe here")
    _brings(mail.as_bytes())


def test_a_mail_attached_to_a_warning_of_a_filter_is_looked_into() -> None:
    """SpamAssassin's report_safe wraps what it suspects."""
    mail = EmailMessage()
    mail.set_content("Spam detection software has identified this incoming email...")
    inner = EmailMessage()
    inner.set_content(PAYLOAD, "application", "x-semper")
    mail.add_attachment(inner)
    _brings(mail.as_bytes())


def test_every_part_with_a_payload_counts() -> None:
    mail = EmailMessage()
    mail.make_mixed()
    mail.add_attachment(PAYLOAD, "application", "x-semper")
    mail.add_attachment(b"SMPR two", "application", "x-semper")
    _brings(mail.as_bytes(), PAYLOAD, b"SMPR two")


def test_a_multipart_that_is_cut_off_brings_its_payload() -> None:
    head = 'Content-Type: multipart/mixed; boundary="b"'
    body = b"--b\nContent-Transfer-Encoding: base64\n\n" + ENCODED
    _brings(_mail(head, body))


# --- mail of others ---------------------------------------------------------------------------


def test_a_letter_is_foreign() -> None:
    _is_foreign(mail_of(b"Dear Bob, SMPR is a nice word", "8bit"))


def test_a_payload_quoted_in_an_answer_is_foreign() -> None:
    quoted = b"".join(b"> " + line for line in ENCODED.splitlines(keepends=True))
    _is_foreign(_mail("Content-Type: text/plain", b"Bob wrote:\n" + quoted))


def test_other_attachments_are_foreign() -> None:
    _is_foreign(mail_of(b"\x89PNG" + PAYLOAD))


def test_nothing_is_foreign() -> None:
    _is_foreign(b"")


def test_parts_nested_a_thousand_deep_are_foreign() -> None:
    head = b"".join(
        b'Content-Type: multipart/mixed; boundary="%d"\n\n--%d\n' % (n, n) for n in range(2000)
    )
    _is_foreign(head + ENCODED)


@given(st.binary(max_size=400))
def test_rubbish_is_foreign_and_raises_nothing(rubbish: bytes) -> None:
    assert _found(b"x" + rubbish).kind is not Kind.REPORT


_HEADERS = st.sampled_from(
    ["From", "Content-Type", "Content-Transfer-Encoding", "Return-Path", "Auto-Submitted"]
)
_VALUES = st.text(st.characters(codec="latin-1"), max_size=30) | st.sampled_from(
    ["base64", "x-uuencode", "multipart/mixed; boundary=b", "message/rfc822", "text/plain"]
)


@given(st.lists(st.tuples(_HEADERS, _VALUES), max_size=6), st.binary(max_size=100))
def test_no_header_makes_finding_raise(headers: list[tuple[str, str]], body: bytes) -> None:
    head = "".join(f"{name}: {value}\n" for name, value in headers).encode("latin-1")
    _found(head + b"\n--b\n" + body)


@given(st.binary(max_size=300), st.integers(8, 100))
def test_whatever_is_in_a_payload_comes_out_of_a_mail(rest: bytes, width: int) -> None:
    letters = base64.b64encode(b"SMPR" + rest)
    lines = [letters[at : at + width] + b"\n" for at in range(0, len(letters), width)]
    _brings(_mail("Content-Transfer-Encoding: base64", b"".join(lines)), b"SMPR" + rest)


# --- reports ----------------------------------------------------------------------------------

_REPORT = (
    'Content-Type: multipart/report; report-type=delivery-status; boundary="b"\n'
    "Return-Path: <>\nAuto-Submitted: auto-replied\n"
)


def test_a_report_with_our_own_mail_in_it_is_a_report_and_brings_no_payload() -> None:
    body = b"--b\n\nno such user\n--b\nContent-Type: message/rfc822\n\n" + mail_of() + b"\n--b--\n"
    assert _found(_mail(_REPORT, body))[:2] == (Kind.REPORT, ())


@pytest.mark.parametrize("sender", ["MAILER-DAEMON@gmx.net", "Mail-Daemon <mail-daemon@x.org>"])
def test_a_mail_of_a_mail_system_in_no_form_is_a_report(sender: str) -> None:
    """GMX and Yahoo send such."""
    mail = mail_of(b"A message could not be delivered", "8bit", From=sender)
    assert _found(mail).kind is Kind.REPORT


_POSTMASTER = "From: Postmaster <postmaster@example.net>\nAuto-Submitted: auto-replied\n"
_SAID = b"This user doesn't have an account: 550 5.1.1\n\nMessage-ID: <1@example.org>\n"


@pytest.mark.parametrize("said", ["Return-Path: <>", "From MAILER-DAEMON Fri Nov 20 2026"])
@pytest.mark.parametrize("body", [_SAID, _SAID + mail_of()], ids=["a text", "with our mail"])
def test_what_a_postmaster_writes_without_an_envelope_sender_is_a_report(
    said: str, body: bytes
) -> None:
    assert _found(f"{said}\n{_POSTMASTER}\n".encode() + body)[:2] == (Kind.REPORT, ())


def test_a_letter_of_a_postmaster_is_foreign() -> None:
    _is_foreign(f"Return-Path: <postmaster@example.net>\n{_POSTMASTER}\n".encode() + _SAID)


def test_a_peer_may_have_the_mailbox_of_a_postmaster() -> None:
    head = b"Return-Path: <postmaster@example.org>\n"
    _brings(head + mail_of(From="postmaster@example.org"))


def test_a_confirmation_that_a_mail_was_read_is_foreign() -> None:
    head = "Content-Type: multipart/report; report-type=disposition-notification; boundary=b"
    _is_foreign(_mail(head, b"--b\n\nread\n--b--\n"))


# --- facts ------------------------------------------------------------------------------------


def _facts(head: str) -> Facts:
    return _found(f"{head}\n\nhello".encode("latin-1")).facts


def test_what_the_headers_say_is_kept() -> None:
    assert _facts(
        "Return-Path: <bob+x@example.org>\nX-Original-To: shop+token@example.org\n"
        "Delivered-To: shop@example.org\nMessage-ID: <1@x>\nFrom: Bob <bob@example.org>\n"
        "Auto-Submitted: Auto-Replied (vacation); owner=x"
    ) == Facts(
        sender="bob@example.org",
        return_path="bob+x@example.org",
        recipient="shop+token@example.org",
        auto_submitted="auto-replied",
        message_id="<1@x>",
    )


def test_what_the_headers_do_not_say_is_empty() -> None:
    assert _facts("Subject: x") == Facts("", "", "", "", "", is_from_list=False)


@pytest.mark.parametrize(
    "head", ["Return-Path: <>\nFrom: a@b", "From MAILER-DAEMON Fri Nov 20 12:00:00 2026\nTo: a@b"]
)
def test_the_null_sender_is_told_from_an_unknown_one(head: str) -> None:
    assert _facts(head).return_path == "<>"


def test_the_line_of_a_mailbox_file_names_the_envelope_sender() -> None:
    assert _facts("From bob@x.org Fri Nov 20 12:00:00 2026\nTo: a@b").return_path == "bob@x.org"


def test_of_several_recipients_the_one_that_was_written_last_counts() -> None:
    assert _facts("Delivered-To: new@x\nDelivered-To: old@x").recipient == "new@x"


@pytest.mark.parametrize("head", ["List-Id: <list.example.org>", "Precedence: Bulk"])
def test_a_mail_of_a_list_is_known(head: str) -> None:
    assert _facts(head).is_from_list


# --- the first look ---------------------------------------------------------------------------


@pytest.mark.parametrize("mail", [PAYLOAD, ENCODED, mail_of(), mail_of().replace(b"\n", b"\r\n")])
def test_our_own_mails_are_known_at_first_sight(mail: bytes) -> None:
    assert is_surely_ours(mail)


@given(st.binary(max_size=100))
def test_what_looks_like_ours_at_first_sight_is_never_foreign(rest: bytes) -> None:
    mail = _mail("Content-Transfer-Encoding: base64", b"U01QUg" + base64.b64encode(rest))
    assert is_surely_ours(mail)
    assert _found(mail).kind is Kind.PAYLOADS


@pytest.mark.parametrize("newline", [b"\n", b"\r\n"])
def test_a_letter_with_a_whole_mail_of_ours_copied_into_it_is_not(newline: bytes) -> None:
    letter = b"From: carol@example.org\n\nLook what came:\n\n" + mail_of()
    letter = letter.replace(b"\n", newline)
    assert not is_surely_ours(letter)
    assert _found(letter).kind is Kind.FOREIGN


# --- its cost ---------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [20_000, 120_000])
@pytest.mark.parametrize("folds", ["", "\n "])
@pytest.mark.parametrize("name", ["Content-Type", "Content-Disposition", "content-type"])
def test_a_mail_with_a_header_made_to_be_costly_is_foreign_at_once(
    name: str, folds: str, length: int
) -> None:
    """Python's email package looks through a parameter once for each semicolon in it."""
    line = ";" * 900 + folds
    head = f'{name}: multipart/mixed; a="' + line * (length // len(line))
    began = time.process_time()
    _is_foreign(_mail(head, ENCODED))
    assert time.process_time() - began < 1


def test_many_parts_with_long_headers_are_foreign_at_once() -> None:
    part = b'--b\nContent-Type: multipart/mixed; a="' + b";" * 4000 + b"\n\nx\n"
    began = time.process_time()
    _is_foreign(_mail("Content-Type: multipart/mixed; boundary=b", part * 2000))
    assert time.process_time() - began < 2


@pytest.mark.parametrize("name", ["From", "Return-Path", "Delivered-To"])
def test_of_a_list_of_addresses_no_more_is_read_than_of_any_honest_one(name: str) -> None:
    began = time.process_time()
    assert _found(f"{name}: {'a@b,' * 2_000_000}\n\nhello".encode()).kind is Kind.FOREIGN
    assert time.process_time() - began < 2


def test_a_name_as_long_as_honest_programs_write_hides_no_payload() -> None:
    name = "".join(f"\n filename*{n}*=utf-8''%E5%8F%B0%E5%8C%97;" for n in range(40))
    mail = mail_of().replace(b"\n\n", f"\nContent-Disposition: attachment;{name}\n\n".encode(), 1)
    _brings(mail)


# --- its weight -------------------------------------------------------------------------------

_WEIGHED = """
import json, resource, sys
from mail._find import find
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with open(sys.argv[1], "rb") as mail:
    (payload,) = find(mail).payloads
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps([len(payload), (after - before) * 1024]))
"""


def test_a_large_mail_takes_less_memory_than_six_times_its_payload(tmp_path: Path) -> None:
    """Twenty times, by the usual way through the email package."""
    length = 16 * 1024 * 1024
    head = 'Content-Type: multipart/mixed; boundary="b"'
    encoded = base64.encodebytes(b"SMPR" + bytes(length - 4))
    body = b"--b\nContent-Transfer-Encoding: base64\n\n" + encoded + b"\n--b--\n"
    (tmp_path / "mail").write_bytes(_mail(head, body))
    ran = subprocess.run(
        [sys.executable, "-P", "-c", _WEIGHED, tmp_path / "mail"],
        env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, timeout=30, check=True,
    )  # fmt: skip
    found_bytes, memory_bytes = json.loads(ran.stdout)
    assert found_bytes == length
    assert memory_bytes < 6 * length
