"""ComPointAddress: where a ComPoint is found, as a value and as one line of text.

    tcp://shop.example:7100/orders      remote form: protocol, host, port, path
    tcp://[fe80::1%25eth0]:7100         IPv6 in brackets, the zone behind %25 (RFC 6874)
    tcp://:7100/orders                  local form: this machine only; port 0 is any free one
    memory://:7100                      this process only
    mail:bob@example.org:7100           a mailbox and a port; mail://bob@example.org:7100 too

Everything is checked once, here, and kept in one spelling, so that equal places are equal
values: host names in lower case (Unicode names in NFC, never rewritten to their xn-- form,
because IDNA 2003 and 2008 rewrite differently), IPv6 compressed, `localhost` of `memory` as
no host. A mailbox is spelled as mails spell it: its domain in the xn-- form, without a closing
dot, and only if both rewrite it alike. The path is plain text, encoded only in `str(address)`;
its "." segments and a lone "/" stay as they are. There is no user, query or fragment: none of
them names a place.
"""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from dataclasses import dataclass
from typing import Any, Final, NoReturn, final, overload
from urllib.parse import quote, unquote

from compoint.errors import AddressError

__all__ = ["ComPointAddress"]

_PROTOCOL: Final = re.compile(r"[a-z][a-z0-9+.-]*")
_PORT: Final = re.compile(r"0|[1-9][0-9]{0,4}")
_LABEL: Final = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")
_ZONE: Final = re.compile(r"[A-Za-z0-9._~-]+")
# RFC 5322 atext without "/", which would blur the border to the path in the text form.
_MAIL_ATOM: Final = re.compile(r"[A-Za-z0-9!#$%&'*+=?^_`{|}~-]+")
_BROKEN_PERCENT: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
_ENCODED_SLASH: Final = re.compile(r"%2[Ff]")

_NAME_LENGTH: Final = 253  # RFC 1035 §2.3.4, as text without the closing dot
_MAIL_USER_LENGTH: Final = 64  # RFC 5321 §4.5.3.1.1
_PORTS: Final = range(65_536)
_PLAIN_IN_PATH: Final = "/:@!$&'()*+,;="  # RFC 3986 §3.3, beside the unreserved characters


@final
@dataclass(frozen=True, slots=True, init=False, repr=False)
class ComPointAddress:
    """Where a ComPoint is found: immutable, hashable, equal by value.

    The remote form names a host: `ComPointAddress("tcp", "shop.example", 7100, "/orders")`.
    The local form does not: `ComPointAddress("tcp", 7100)`, with a path
    `ComPointAddress("tcp", 7100, "/orders")`; a host of None or "" means the same. A server
    with a local address listens on the loopback interface only, and its port may be 0: any
    free one.

    `str(address)` is the text form and `ComPointAddress.parse` its inverse, for every
    address. Any part that is not valid raises AddressError, which says which part it is, why,
    and what to write instead.
    """

    protocol: str
    #: Without brackets; "" in the local form.
    host: str
    port: int
    #: Not percent-encoded; empty, or starting with "/".
    path: str

    @overload
    def __init__(self, protocol: str, port: int, path: str = "") -> None: ...

    @overload
    def __init__(self, protocol: str, host: str | None, port: int, path: str = "") -> None: ...

    @overload
    def __init__(
        self, protocol: str, *, port: int, host: str | None = None, path: str = ""
    ) -> None: ...

    def __init__(self, protocol: str, *parts: str | int | None, **named: str | int | None) -> None:
        host, port, path = _sorted_out(protocol, parts, named)
        fill = object.__setattr__  # the class is frozen, for us too
        fill(self, "protocol", _checked_protocol(protocol))
        fill(self, "host", _checked_host(protocol, host))
        fill(self, "port", _checked_port(port, may_be_zero=not self.host))
        fill(self, "path", _checked_path(protocol, path))

    @classmethod
    def parse(cls, text: str) -> ComPointAddress:
        """Read the text form; `parse(str(address)) == address` for every address.

        Raises:
            AddressError: the text is not an address; says which part and why.
        """
        if not isinstance(text, str):
            _refuse("text", f"to parse is a str, not {_shown(text)}", "write 'tcp://host:7100'")
        try:
            protocol, host, port, path = _split(text)
            return cls(protocol, host, port, path)
        except AddressError as error:
            # Behind a name before "@" there may be a password; mailboxes have none.
            if "@" not in text or text.startswith("mail:"):
                error.point = _shown(text)
            raise

    @property
    def is_local(self) -> bool:
        """True in the local form: no host, so this machine (for `memory`: this process)."""
        return not self.host

    def with_port(self, port: int) -> ComPointAddress:
        """The same address with another port, such as the one taken for 0."""
        return ComPointAddress(self.protocol, self.host, port, self.path)

    def __str__(self) -> str:
        if self.protocol == "mail" and self.host:
            return f"mail:{self.host}:{self.port}"
        host = f"[{self.host.replace('%', '%25')}]" if ":" in self.host else self.host
        return f"{self.protocol}://{host}:{self.port}{quote(self.path, safe=_PLAIN_IN_PATH)}"

    def __repr__(self) -> str:
        parts: list[str | int] = [self.protocol, self.host, self.port, self.path]
        return f"ComPointAddress({', '.join(repr(part) for part in parts if part != '')})"

    def __reduce__(self) -> tuple[Any, ...]:
        # Through the door, so that what comes out of a pickle has been checked too.
        return (ComPointAddress, (self.protocol, self.host, self.port, self.path))


def _refuse(part: str, why: str, instead: str) -> NoReturn:
    """Raise the AddressError "the PART WHY; INSTEAD"."""
    raise AddressError(f"the {part} {why}", hint=instead) from None


def _shown(value: object) -> str:
    """The value as an error shows it: quoted, never long."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


# --- the arguments of the constructor -------------------------------------------------------


def _sorted_out(
    protocol: str, parts: tuple[object, ...], named: dict[str, Any]
) -> tuple[object, object, object]:
    """Host, port and path out of what the caller wrote; a number comes first in the local form."""
    is_local_form = bool(parts) and isinstance(parts[0], int)
    names = ("port", "path") if is_local_form else ("host", "port", "path")
    if len(parts) > len(names):
        raise TypeError(f"ComPointAddress takes at most {', '.join(names)} behind the protocol")
    found: dict[str, object] = dict(zip(names, parts, strict=False))
    for name, value in named.items():
        if name in found:
            raise TypeError(f"ComPointAddress got {name} twice")
        if name not in ("host", "port", "path"):
            raise TypeError(f"ComPointAddress has no argument {name!r}")
        found[name] = value
    if "port" not in found:
        _refuse("port", "is missing", f"write ComPointAddress({_shown(protocol)}, host, 7100)")
    return found.get("host"), found["port"], found.get("path", "")


def _checked_protocol(protocol: object) -> str:
    if isinstance(protocol, str) and _PROTOCOL.fullmatch(protocol):
        return protocol
    instead = "write a name such as 'tcp'"
    if isinstance(protocol, str) and _PROTOCOL.fullmatch(protocol.lower()):
        instead = f"write {_shown(protocol.lower())}"
    _refuse(
        "protocol",
        f"is a letter and then letters, digits, '+', '-' and '.', all lower case,"
        f" not {_shown(protocol)}",
        instead,
    )


def _checked_port(port: object, *, may_be_zero: bool) -> int:
    if isinstance(port, bool) or not isinstance(port, int):
        _refuse("port", f"is a whole number, not {_shown(port)}", "write a number such as 7100")
    if port not in _PORTS:
        _refuse("port", f"is from 1 to 65535, not {_shown(port)}", "write a number such as 7100")
    if port == 0 and not may_be_zero:
        _refuse(
            "port",
            "0 means any free port of this machine, so it cannot go with a host",
            "leave out the host, or write a port from 1 to 65535",
        )
    return int(port)


def _checked_path(protocol: str, path: object) -> str:
    if not isinstance(path, str):
        _refuse("path", f"is a str, not {_shown(path)}", "write a text such as '/orders', or ''")
    if not path:
        return ""
    if protocol == "mail":
        _refuse("path", f"{_shown(path)} has no place in a mail address", "leave it out")
    if not path.startswith("/"):
        _refuse("path", f"starts with '/', unlike {_shown(path)}", f"write {_shown('/' + path)}")
    if "?" in path or "#" in path:
        _refuse(
            "path",
            f"{_shown(path)} holds a query or a fragment, and an address has neither",
            "leave out '?', '#' and what follows, and send it in a message",
        )
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in path):
        _refuse(
            "path",
            f"{_shown(path)} holds a control character or half a surrogate pair",
            "leave it out",
        )
    return path


# --- hosts ----------------------------------------------------------------------------------


def _checked_host(protocol: str, host: object) -> str:
    """The host in the one spelling we keep; "" for none."""
    if host is None:
        return ""
    if not isinstance(host, str):
        _refuse("host", f"is a str, not {_shown(host)}", "write a name such as 'shop.example'")
    if not host:
        return ""
    if protocol == "memory":
        return _memory_host(host)
    if protocol == "mail":
        return _mailbox(host)
    if "@" in host:  # not shown: there may be a password in it
        _refuse(
            "host",
            "holds a '@', and an address has no user and no password",
            "write the name alone, such as 'shop.example'",
        )
    if "://" in host:
        _refuse(
            "host",
            f"{_shown(host)} holds a protocol",
            "write the name alone, or use ComPointAddress.parse for the whole text",
        )
    if ":" in host or host.startswith("["):
        return _ipv6(host)
    return _name(host)


def _memory_host(host: str) -> str:
    if host.lower() != "localhost":
        _refuse(
            "host",
            f"{_shown(host)} is out of reach for memory, which never leaves this process",
            "leave the host out, or use a protocol such as 'tcp'",
        )
    return ""


def _ipv6(host: str) -> str:
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    number, percent, zone = bare.partition("%")
    try:
        number = str(ipaddress.IPv6Address(number))
    except ValueError as error:
        _refuse(
            "host",
            f"{_shown(host)} is not an IPv6 address ({error})",
            "write '::1' or a name; the port is an argument of its own",
        )
    if percent and not _ZONE.fullmatch(zone):
        _refuse(
            "host",
            f"{_shown(host)} has a zone that is not the name or number of an interface",
            "write 'fe80::1%eth0', in the text form '[fe80::1%25eth0]'",
        )
    return number + percent + zone


def _name(host: str, part: str = "host") -> str:
    """A host name or IPv4 address, checked and in lower case."""
    name = unicodedata.normalize("NFC", host.lower())
    labels = name.removesuffix(".").split(".")
    if _NUMBER.fullmatch(labels[-1]):
        # No top-level domain is a number, and "127.1" or "0x7f.1" mean different machines
        # to different programs.
        return _ipv4(host, part)
    if len(name) > _NAME_LENGTH + name.endswith("."):
        _refuse(part, f"{_shown(host)} is longer than 253 characters", "write a shorter name")
    for label in labels:
        if not _is_label(label):
            _refuse(
                part,
                f"{_shown(host)} is no host name: {_shown(label)} is not a label of 1 to 63"
                " letters, digits, '-' and '_', without '-' at its ends",
                "write a name such as 'shop.example', or an IP address",
            )
    if not name.isascii():
        _check_idna(host, name, part)
    return name


def _is_label(label: str) -> bool:
    if label.isascii():
        return _LABEL.fullmatch(label) is not None
    if label.startswith("-") or label.endswith("-"):
        return False
    # The compatibility forms (full-width letters, ligatures, a dotted ℀) would be looked up
    # under another name than the one shown.
    return unicodedata.normalize("NFKC", label) == label and all(
        character.isalnum() or character in "-_" or unicodedata.category(character) in ("Mn", "Mc")
        for character in label
    )


def _check_idna(host: str, name: str, part: str) -> None:
    try:
        name.encode("idna")
    except UnicodeError as error:
        _refuse(
            part,
            f"{_shown(host)} cannot be looked up as an international name ({error})",
            "write the name in its xn-- form",
        )


def _ipv4(host: str, part: str) -> str:
    try:
        return str(ipaddress.IPv4Address(host))
    except ValueError as error:
        _refuse(
            part,
            f"{_shown(host)} ends in a number and is not an IPv4 address ({error})",
            "write four numbers from 0 to 255, such as 192.0.2.1",
        )


def _mailbox(host: str) -> str:
    """USER@DOMAIN; the user as typed (RFC 5321 §2.4 lets only its server fold the case)."""
    user, at, domain = host.rpartition("@")
    is_user = len(user) <= _MAIL_USER_LENGTH and all(
        _MAIL_ATOM.fullmatch(atom) for atom in user.split(".")
    )
    if not at or not is_user:
        _refuse(
            "host",
            f"of a mail address is a mailbox in ASCII, without quotes, spaces and '/',"
            f" not {_shown(host)}",
            "write it as in 'bob@example.org'",
        )
    name = _name(domain, "domain of the mailbox").removesuffix(".")
    if _NUMBER.fullmatch(name.rpartition(".")[2]):
        _refuse("domain of the mailbox", f"is a name, not {_shown(domain)}", "write the name")
    return f"{user}@{name if name.isascii() else _in_ascii(domain, name)}"


def _in_ascii(domain: str, name: str) -> str:
    """The domain of a mailbox in its xn-- form."""
    from encodings.idna import nameprep  # noqa: PLC0415 - slow, and rarely needed

    if any(nameprep(label) != label for label in name.split(".")):
        # IDNA 2003 takes "straße" for "strasse", which is somebody else's.
        _refuse(
            "domain of the mailbox",
            f"{_shown(domain)} is one domain to some programs and another one to others",
            "write it in its xn-- form",
        )
    return _name(name.encode("idna").decode("ascii"), "domain of the mailbox")


# --- the text form --------------------------------------------------------------------------


def _split(text: str) -> tuple[str, str, int, str]:
    protocol, colon, rest = text.partition(":")
    if not colon:
        _refuse("protocol", "is missing", "write it first, as in 'tcp://shop.example:7100'")
    _checked_protocol(protocol)
    if protocol == "mail":
        host, port = _host_and_port(rest.removeprefix("//"))
        return protocol, host, port, ""
    if not rest.startswith("//"):
        _refuse(
            "protocol",
            f"is followed by '://', unlike {_shown(protocol + ':')}",
            "write an address such as 'tcp://shop.example:7100'",
        )
    authority, path = _cut_before_path(rest[2:])
    if "@" in authority:
        _checked_host(protocol, authority)
    if authority.startswith("["):
        host, port = _bracketed_and_port(authority)
    else:
        host, port = _host_and_port(authority)
        if ":" in host:
            _refuse("host", f"{_shown(host)} stands without brackets", f"write '[{host[:60]}]'")
    return protocol, host, port, _decoded(path)


def _cut_before_path(rest: str) -> tuple[str, str]:
    border = re.search(r"[/?#]", rest)
    return (rest[: border.start()], rest[border.start() :]) if border else (rest, "")


def _bracketed_and_port(authority: str) -> tuple[str, int]:
    inside, bracket, behind = authority[1:].partition("]")
    if not bracket:
        _refuse("host", "has no closing bracket", "write it as in '[::1]:7100'")
    number, percent, zone = inside.partition("%")
    # RFC 6874 §2. A bare "%eth0", as other programs print it, is taken as well.
    zone = zone.removeprefix("25")
    nothing, colon, port = behind.partition(":")
    if nothing or not colon:
        _refuse("port", "is missing behind the bracket", "write it as in '[::1]:7100'")
    return f"[{number}{percent}{zone}]", _parsed_port(port)


def _host_and_port(authority: str) -> tuple[str, int]:
    host, colon, port = authority.rpartition(":")
    if not colon:
        # A number alone was most likely meant for the port of a server.
        whole = f":{authority}" if authority.isdecimal() else f"{authority}:7100"
        _refuse("port", "is missing", f"write {_shown(whole)}")
    return host, _parsed_port(port)


def _parsed_port(port: str) -> int:
    if not _PORT.fullmatch(port):
        _refuse(
            "port",
            f"is a whole number from 0 to 65535 without leading zeros, not {_shown(port)}",
            "write a number such as 7100",
        )
    return int(port)


def _decoded(path: str) -> str:
    if "?" in path or "#" in path:
        return path  # refused by the constructor, in the same words
    if _BROKEN_PERCENT.search(path):
        _refuse("path", "holds a '%' without two hexadecimal digits", "write '%25' for '%'")
    if _ENCODED_SLASH.search(path):
        _refuse(
            "path",
            "holds an encoded '/', which could not be told from a plain one",
            "write '/', or another character",
        )
    try:
        return unquote(path, errors="strict")
    except UnicodeDecodeError:
        _refuse("path", "is not UTF-8 once it is decoded", "encode the path as UTF-8")
