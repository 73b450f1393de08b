"""ComPointAddress: both forms, the text form and its inverse, and every refusal by name."""

from __future__ import annotations

import copy
import dataclasses
import ipaddress
import pickle
import string
import unicodedata
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from compoint.address import ComPointAddress
from compoint.errors import AddressError, Fate, UsageError

# --- all valid addresses --------------------------------------------------------------------

protocols = st.from_regex(r"[a-z][a-z0-9+.-]{0,8}", fullmatch=True).filter(
    lambda protocol: protocol not in ("mail", "memory")
)
labels = st.from_regex(r"[a-zA-Z0-9_]([a-zA-Z0-9_-]{0,8}[a-zA-Z0-9_])?", fullmatch=True)
plain_names = st.builds(
    lambda front, last, dot: ".".join([*front, last]) + dot,
    st.lists(labels, max_size=3),
    st.from_regex(r"[a-zA-Z][a-zA-Z0-9]{0,8}", fullmatch=True),
    st.sampled_from(["", "."]),
)
world_names = st.text(st.characters(categories=("Ll", "Lu", "Lo")), min_size=1, max_size=8)
zones = st.from_regex(r"(%[A-Za-z0-9._~-]{1,8})?", fullmatch=True)
ipv6 = st.builds(lambda number, zone: f"{number}{zone}", st.ip_addresses(v=6), zones)
hosts = plain_names | st.ip_addresses(v=4).map(str) | ipv6 | world_names
paths = st.just("") | st.text(
    st.characters(exclude_categories=("Cc", "Cs"), exclude_characters="?#"), max_size=20
).map(lambda text: "/" + text)
ports = st.integers(1, 65_535)
local_ports = st.integers(0, 65_535)
atoms = st.text(string.ascii_letters + string.digits + "!#$%&'*+=?^_`{|}~-", min_size=1, max_size=8)
mailboxes = st.builds(
    lambda atoms_, name: f"{'.'.join(atoms_)}@{name}",
    st.lists(atoms, min_size=1, max_size=3),
    plain_names | world_names,
)


@st.composite
def addresses(draw: st.DrawFn) -> ComPointAddress:
    kind = draw(st.sampled_from(["remote", "local", "memory", "mail", "local mail"]))
    try:
        if kind == "remote":
            return ComPointAddress(draw(protocols), draw(hosts), draw(ports), draw(paths))
        if kind == "local":
            return ComPointAddress(draw(protocols), draw(local_ports), draw(paths))
        if kind == "memory":
            return ComPointAddress("memory", draw(local_ports), draw(paths))
        if kind == "mail":
            return ComPointAddress("mail", draw(mailboxes), draw(ports))
        return ComPointAddress("mail", draw(local_ports))
    except AddressError:
        # Not every word of letters is an international name; those that are stay in.
        assume(kind not in ("remote", "mail"))
        raise


@given(addresses())
@example(ComPointAddress("tcp", "fe80::1%25", 7100))
@example(ComPointAddress("tcp", "h", 7100, "/%2F/%/ä€𝄞/./../"))
def test_parse_is_the_inverse_of_str(address: ComPointAddress) -> None:
    again = ComPointAddress.parse(str(address))
    assert again == address
    assert str(again) == str(address)
    assert hash(again) == hash(address)


@given(addresses())
def test_nothing_but_an_international_name_leaves_printable_ascii(address: ComPointAddress) -> None:
    assume(address.host.isascii())
    assert all("!" <= character <= "~" for character in str(address))


@given(addresses())
def test_repr_evaluates_to_an_equal_address(address: ComPointAddress) -> None:
    assert eval(repr(address), {"ComPointAddress": ComPointAddress}) == address


@given(addresses())
def test_copies_and_pickles_are_equal(address: ComPointAddress) -> None:
    assert copy.copy(address) == copy.deepcopy(address) == address
    assert pickle.loads(pickle.dumps(address)) == address


@given(addresses())
def test_the_parts_of_an_address_make_the_same_address(address: ComPointAddress) -> None:
    again = ComPointAddress(address.protocol, address.host, address.port, address.path)
    assert again == address


@given(st.text(max_size=40) | st.text("atcp:/[]%25.@0#? ", max_size=20).map("tcp://{}".format))
def test_any_text_is_an_address_or_refused_by_name(text: str) -> None:
    try:
        address = ComPointAddress.parse(text)
    except AddressError:
        return
    assert ComPointAddress.parse(str(address)) == address


# --- the forms ------------------------------------------------------------------------------


def test_the_remote_form_has_all_its_parts() -> None:
    address = ComPointAddress("tcp", "shop.example", 7100, "/orders")
    assert (address.protocol, address.host, address.port, address.path, address.is_local) == (
        ("tcp", "shop.example", 7100, "/orders", False)
    )


def test_the_local_form_needs_only_protocol_and_port() -> None:
    address = ComPointAddress("tcp", 7100)
    assert (address.host, address.port, address.path, address.is_local) == ("", 7100, "", True)


@pytest.mark.parametrize(
    "address",
    [
        ComPointAddress("tcp", 7100, "/x"),
        ComPointAddress("tcp", 7100, path="/x"),
        ComPointAddress("tcp", port=7100, path="/x"),
        ComPointAddress("tcp", None, 7100, "/x"),
        ComPointAddress("tcp", "", 7100, path="/x"),
        ComPointAddress("tcp", host=None, port=7100, path="/x"),
        ComPointAddress.parse("tcp://:7100/x"),
    ],
    ids=repr,
)
def test_every_way_to_write_the_local_form_gives_the_same(address: ComPointAddress) -> None:
    assert address == ComPointAddress("tcp", "", 7100, "/x")


@pytest.mark.parametrize(
    "address",
    [
        ComPointAddress("tcp", "h", port=1, path="/x"),
        ComPointAddress("tcp", "h", 1, path="/x"),
        ComPointAddress("tcp", host="h", port=1, path="/x"),
        ComPointAddress(protocol="tcp", host="h", port=1, path="/x"),
    ],
    ids=repr,
)
def test_every_part_may_be_named(address: ComPointAddress) -> None:
    assert address == ComPointAddress("tcp", "h", 1, "/x")


@pytest.mark.parametrize(
    ("parts", "named"),
    [
        (("tcp", "h", 1, "/x", "y"), {}),
        (("tcp", 1, "/x", "y"), {}),
        (("tcp", 1), {"port": 2}),
        (("tcp", "h", 1), {"prot": 2}),
        (("tcp", 1), {"colour": 2}),
        ((), {}),
    ],
)
def test_a_call_that_no_form_allows_is_a_type_error(
    parts: tuple[Any, ...], named: dict[str, Any]
) -> None:
    with pytest.raises(TypeError):
        ComPointAddress(*parts, **named)


TEXTS = {
    "tcp://shop.example:7100/orders": ComPointAddress("tcp", "shop.example", 7100, "/orders"),
    "tcp://[::1]:7100": ComPointAddress("tcp", "::1", 7100),
    "tcp://[fe80::1%25eth0]:7100/x": ComPointAddress("tcp", "fe80::1%eth0", 7100, "/x"),
    "tcp://:7100": ComPointAddress("tcp", 7100),
    "tcp://:0/x": ComPointAddress("tcp", 0, "/x"),
    "memory://:7100": ComPointAddress("memory", 7100),
    "memory://:7100/path": ComPointAddress("memory", 7100, "/path"),
    "mail:bob@example.org:7100": ComPointAddress("mail", "bob@example.org", 7100),
    "mail://:7100": ComPointAddress("mail", 7100),
    "https://192.0.2.1:443/": ComPointAddress("https", "192.0.2.1", 443, "/"),
    "tcp://bücher.example:1/%C3%A4%20b%25": ComPointAddress("tcp", "bücher.example", 1, "/ä b%"),
    "http://h:80/a/./../b//c;d=1": ComPointAddress("http", "h", 80, "/a/./../b//c;d=1"),
}


@pytest.mark.parametrize(("text", "address"), TEXTS.items(), ids=list(TEXTS))
def test_the_text_form_is_as_documented(text: str, address: ComPointAddress) -> None:
    assert str(address) == text
    assert ComPointAddress.parse(text) == address


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("mail://bob@example.org:7100", "mail:bob@example.org:7100"),
        ("mail::7100", "mail://:7100"),
        ("memory://localhost:7100", "memory://:7100"),
        ("tcp://SHOP.Example:7100", "tcp://shop.example:7100"),
        ("tcp://[0:0::0001]:7100", "tcp://[::1]:7100"),
        ("tcp://[fe80::1%eth0]:7100", "tcp://[fe80::1%25eth0]:7100"),
        ("tcp://bu\u0308cher.example:1", "tcp://b\u00fccher.example:1"),
        ("tcp://h:1/ä b", "tcp://h:1/%C3%A4%20b"),
        ("tcp://h:1/%61", "tcp://h:1/a"),
        ("mail:Bob@Example.org:1", "mail:Bob@example.org:1"),
        ("mail:bob@example.org.:1", "mail:bob@example.org:1"),
        ("mail:bob@b\u00fccher.example:1", "mail:bob@xn--bcher-kva.example:1"),
        ("mail:bob@BU\u0308CHER.example:1", "mail:bob@xn--bcher-kva.example:1"),
        ("mail:bob@XN--Bcher-KVA.example:1", "mail:bob@xn--bcher-kva.example:1"),
    ],
)
def test_other_spellings_of_a_place_become_the_one_we_keep(text: str, same: str) -> None:
    assert str(ComPointAddress.parse(text)) == same


def test_brackets_around_an_ipv6_host_are_taken_off() -> None:
    assert ComPointAddress("tcp", "[::1]", 1).host == "::1"


@given(world_names)
def test_an_international_name_is_kept_as_typed_in_lower_case(name: str) -> None:
    try:
        host = ComPointAddress("tcp", name, 1).host
    except AddressError:
        assume(False)
    assert host == unicodedata.normalize("NFC", name.lower())


def test_localhost_of_memory_is_the_same_place_as_no_host() -> None:
    assert ComPointAddress("memory", "localhost", 7100) == ComPointAddress("memory", 7100)
    assert ComPointAddress("memory", "localhost", 7100).is_local


# --- the value ------------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["protocol", "host", "port", "path", "other"])
def test_no_part_can_be_set(part: str) -> None:
    address = ComPointAddress("tcp", 7100)
    with pytest.raises((AttributeError, TypeError)):
        setattr(address, part, "x")
    assert str(address) == "tcp://:7100"


def test_an_address_has_slots_and_no_dict() -> None:
    assert not hasattr(ComPointAddress("tcp", 7100), "__dict__")


@pytest.mark.parametrize(
    "other",
    [
        ComPointAddress("tcps", "h", 1, "/x"),
        ComPointAddress("tcp", "i", 1, "/x"),
        ComPointAddress("tcp", "h", 2, "/x"),
        ComPointAddress("tcp", "h", 1, "/y"),
        ComPointAddress("tcp", "h", 1),
        "tcp://h:1/x",
    ],
    ids=repr,
)
def test_an_address_with_another_part_is_another(other: object) -> None:
    assert ComPointAddress("tcp", "h", 1, "/x") != other


def test_the_fields_are_in_the_order_of_the_remote_form() -> None:
    names = [field.name for field in dataclasses.fields(ComPointAddress)]
    assert names == ["protocol", "host", "port", "path"]


@given(addresses(), ports)
def test_with_port_changes_the_port_only(address: ComPointAddress, port: int) -> None:
    moved = address.with_port(port)
    assert moved.port == port
    assert (moved.protocol, moved.host, moved.path) == (
        (address.protocol, address.host, address.path)
    )


def test_with_port_checks_the_port() -> None:
    with pytest.raises(AddressError, match="65536"):
        ComPointAddress("tcp", 7100).with_port(65_536)


@pytest.mark.parametrize(
    ("address", "text"),
    [
        (ComPointAddress("tcp", 7100), "ComPointAddress('tcp', 7100)"),
        (ComPointAddress("tcp", 7100, "/x"), "ComPointAddress('tcp', 7100, '/x')"),
        (ComPointAddress("tcp", "h", 7100, "/x"), "ComPointAddress('tcp', 'h', 7100, '/x')"),
    ],
)
def test_repr_is_the_call_that_makes_it(address: ComPointAddress, text: str) -> None:
    assert repr(address) == text


# --- refusals -------------------------------------------------------------------------------


def refusal(*parts: Any, **named: Any) -> str:
    with pytest.raises(AddressError) as caught:
        ComPointAddress(*parts, **named)
    return str(caught.value)


@pytest.mark.parametrize(
    "protocol", ["", "TCP", "1tcp", "t cp", "tcp:", "tcp\n", "täp", "+", None, 7, b"tcp"]
)
def test_a_protocol_that_is_none_is_refused(protocol: Any) -> None:
    text = refusal(protocol, "h", 1)
    assert text.startswith("the protocol is a letter")
    assert repr(protocol) in text


def test_an_upper_case_protocol_is_told_its_spelling() -> None:
    assert refusal("TCP", "h", 1).endswith("write 'tcp'")


@pytest.mark.parametrize("port", ["7100", 7100.0, None, b"1"])
def test_a_port_that_is_no_whole_number_is_refused(port: Any) -> None:
    assert refusal("tcp", "h", port).startswith("the port is a whole number, not ")


@pytest.mark.parametrize("flag", [True, False])
def test_a_bool_is_no_port(flag: bool) -> None:
    assert f"not {flag}" in refusal("tcp", flag)
    assert f"not {flag}" in refusal("tcp", "h", flag)


@pytest.mark.parametrize("port", [-1, 65_536, 10**100])
def test_a_port_out_of_range_is_refused(port: int) -> None:
    assert refusal("tcp", port).startswith("the port is from 1 to 65535, not ")


@pytest.mark.parametrize("parts", [("tcp", "h", 0), ("mail", "bob@example.org", 0)])
def test_port_0_with_a_host_is_refused(parts: tuple[Any, ...]) -> None:
    assert refusal(*parts).startswith("the port 0 means any free port of this machine")


@pytest.mark.parametrize("parts", [("tcp", 0), ("memory", 0), ("memory", "localhost", 0)])
def test_port_0_in_the_local_form_is_any_free_one(parts: tuple[Any, ...]) -> None:
    assert ComPointAddress(*parts).port == 0


def test_a_missing_port_is_refused() -> None:
    assert refusal("tcp", "h").startswith("the port is missing; write ComPointAddress('tcp',")
    assert refusal("tcp").startswith("the port is missing")


@pytest.mark.parametrize(
    "host",
    [
        "a b", " h", "h ", "h\n", "a\tb", "\x00", "a/b", "a\\b", "-a", "a-", "a..b", ".", ".a",
        "a%20b", "a?b", "a#b", "*", "a" * 64, ".".join(["a" * 60] * 5), "[h", "h]", "a,b",
        "\uff41\uff42.example", "a\uff0eb",
        "ü b", "℀.example", "-ü", "ü" * 64, "a\u200bb", "\ud800", "ü..a",
    ],
)  # fmt: skip
def test_a_host_that_is_no_name_is_refused(host: str) -> None:
    text = refusal("tcp", host, 7100)
    assert text.startswith("the host ")
    assert "write " in text


@pytest.mark.parametrize("host", [7.5, b"h", ["h"]])
def test_a_host_that_is_no_text_is_refused(host: Any) -> None:
    assert refusal("tcp", host, 7100).startswith("the host is a str, not ")


@pytest.mark.parametrize(
    "host",
    ["256.1.1.1", "127.1", "1.2.3.4.5", "2130706433", "01.2.3.4", "a.1", "0x7f.0x1", "1.1.1.1."],
)
def test_a_host_that_ends_in_a_number_is_an_ipv4_address_or_refused(host: str) -> None:
    assert "is not an IPv4 address" in refusal("tcp", host, 7100)


@pytest.mark.parametrize(
    "host", ["h:80", ":::", "1::2::3", "::g", "[::1", "::1]", "[]", "::1/64", " ::1", "[h]"]
)
def test_a_host_with_a_colon_is_an_ipv6_address_or_refused(host: str) -> None:
    assert "is not an IPv6 address" in refusal("tcp", host, 7100)


@pytest.mark.parametrize("host", ["fe80::1%", "fe80::1%a b", "fe80::1%a/b", "fe80::1%a%b", "::1%ü"])
def test_an_ipv6_zone_that_is_no_interface_is_refused(host: str) -> None:
    assert "zone" in refusal("tcp", host, 7100)


def test_a_scheme_inside_the_host_is_refused() -> None:
    assert "holds a protocol" in refusal("tcp", "http://shop.example", 7100)


def test_a_password_in_an_address_is_refused_and_not_repeated() -> None:
    for text in ("tcp://bob:secret@shop.example:7100", "http://secret@shop.example:80/x"):
        with pytest.raises(AddressError, match="no user and no password") as caught:
            ComPointAddress.parse(text)
        assert "secret" not in str(caught.value)
    assert "secret" not in refusal("tcp", "bob:secret@shop.example", 7100)


def test_memory_with_a_foreign_host_is_refused() -> None:
    assert "never leaves this process" in refusal("memory", "shop.example", 7100)


@pytest.mark.parametrize(
    "host",
    [
        "bob", "@example.org", "bob@", "bob@@example.org", "a b@example.org", '"bob"@example.org',
        "bob\r\nBcc: x@example.org", ".bob@example.org", "bob.@example.org", "bób@example.org",
        "a/b@example.org", "a" * 65 + "@example.org", "Bob <bob@example.org>", "bob@example.org\n",
        "bob@127.0.0.1", "bob@exa mple.org", "a@b@example.org",
    ],
)  # fmt: skip
def test_a_mailbox_that_is_none_is_refused(host: str) -> None:
    text = refusal("mail", host, 7100)
    assert "mailbox" in text
    assert "write " in text


@pytest.mark.parametrize("domain", ["straße.example", "a.βόλος.example"])
def test_a_domain_that_would_take_mails_to_another_one_is_refused(domain: str) -> None:
    text = refusal("mail", f"bob@{domain}", 7100)
    assert "another one to others; write it in its xn-- form" in text
    assert ComPointAddress("tcp", domain, 7100).host == domain


def test_a_domain_that_is_too_long_in_its_xn_form_is_refused() -> None:
    assert "longer than 253" in refusal("mail", "bob@" + "ü." * 100 + "example", 7100)


def test_a_path_in_a_mail_address_is_refused() -> None:
    assert "no place in a mail address" in refusal("mail", "bob@example.org", 7100, "/x")
    assert "no place in a mail address" in refusal("mail", 7100, "/x")


def test_a_path_without_a_slash_is_told_its_spelling() -> None:
    assert refusal("tcp", 7100, "orders").endswith("write '/orders'")


@pytest.mark.parametrize("path", ["/a?b=1", "/a#b", "/?", "/#"])
def test_a_query_or_a_fragment_is_refused(path: str) -> None:
    assert "holds a query or a fragment" in refusal("tcp", "h", 7100, path)
    with pytest.raises(AddressError, match="holds a query or a fragment"):
        ComPointAddress.parse(f"tcp://h:7100{path}")


def test_a_query_right_behind_the_port_is_refused() -> None:
    with pytest.raises(AddressError, match=r"query|starts with '/'"):
        ComPointAddress.parse("tcp://h:7100?x=1")


@pytest.mark.parametrize("path", ["/\n", "/a\x00b", "/\x7f", "/\x85", "/\ud800"])
def test_a_control_character_in_the_path_is_refused(path: str) -> None:
    assert "control character" in refusal("tcp", "h", 7100, path)


@pytest.mark.parametrize("path", [None, 7, b"/x"])
def test_a_path_that_is_no_text_is_refused(path: Any) -> None:
    assert refusal("tcp", "h", 7100, path).startswith("the path is a str, not ")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "the protocol is missing"),
        ("shop", "the protocol is missing"),
        ("shop.example:7100", "the protocol is followed by '://'"),
        ("tcp:7100", "the protocol is followed by '://'"),
        ("TCP://h:7100", "write 'tcp'"),
        (" tcp://h:7100", "the protocol is a letter"),
        ("//h:7100", "the protocol is missing|the protocol is a letter"),
        ("tcp://h", "the port is missing; write 'h:7100'"),
        ("tcp://h/x", "the port is missing"),
        ("mail:7100", "the port is missing; write ':7100'"),
        ("tcp:///x", "the port is missing"),
        ("tcp://h:", "the port is a whole number"),
        ("tcp://h:07", "the port is a whole number"),
        ("tcp://h:+7", "the port is a whole number"),
        ("tcp://h:\u0667", "the port is a whole number"),
        ("tcp://h:7100 ", "the port is a whole number"),
        ("tcp://h:99999", "the port is from 1 to 65535"),
        ("tcp://::1:7100", r"without brackets; write '\[::1\]'"),
        ("tcp://[::1]", "the port is missing behind the bracket"),
        ("tcp://[::1]7100", "the port is missing behind the bracket"),
        ("tcp://[::1]x:7100", "the port is missing behind the bracket"),
        ("tcp://[::1:7100", "no closing bracket"),
        ("tcp://[::1%25]:7100", "zone"),
        ("tcp://h:1/%zz", "two hexadecimal digits"),
        ("tcp://h:1/%", "two hexadecimal digits"),
        ("tcp://h:1/%ff", "not UTF-8"),
        ("tcp://h:1/a%2Fb", "encoded '/'"),
        ("tcp://h:1/a%2fb", "encoded '/'"),
        ("tcp://h:1/%00", "control character"),
        ("tcp://h:1/%3Fx", "query"),
        ("mail:bob@example.org", "the port is missing"),
        ("mail:bob@example.org:7100/x", "the port is a whole number"),
        ("memory://shop:1", "out of reach for memory"),
    ],
)
def test_a_text_that_is_no_address_is_refused(text: str, why: str) -> None:
    with pytest.raises(AddressError, match=why) as caught:
        ComPointAddress.parse(text)
    assert str(caught.value).startswith(f"{text!r}: the ")


def test_only_text_is_parsed() -> None:
    with pytest.raises(AddressError, match="to parse is a str"):
        ComPointAddress.parse(b"tcp://h:1")  # type: ignore[arg-type]


def test_a_refusal_stays_short_whatever_was_written() -> None:
    with pytest.raises(AddressError) as caught:
        ComPointAddress.parse("tcp://" + "x" * 100_000 + ":1")
    assert len(str(caught.value)) < 500


def test_a_refusal_is_the_callers_doing_and_nothing_was_sent() -> None:
    with pytest.raises(UsageError) as caught:
        ComPointAddress("tcp", 65_536)
    assert isinstance(caught.value, ValueError)
    assert caught.value.fate is Fate.NOT_SENT


def test_ipv6_hosts_are_kept_in_the_form_of_ipaddress() -> None:
    host = "2001:DB8:0:0:0:0:0:1"
    assert ComPointAddress("tcp", host, 1).host == str(ipaddress.ip_address(host))
