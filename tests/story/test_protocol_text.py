"""docs/PROTOCOL.md says what the code does: tables, limits, and every byte of the examples."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from compoint import _plain, limits, message
from compoint.core import _handshake, connection
from compoint.core.codes import REFUSALS, Code, How
from compoint.core.connection import Connection, Side
from compoint.core.framing import ASK_ACK, HEADER, LONGEST_BYTES, MAY_SKIP, Kind
from compoint.core.greeting import MAGIC, Greeting, Mode
from compoint.message import decode, encode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from compoint.core.stream import Stream

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "PROTOCOL.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    """The text from a heading to the next one of its level."""
    level = title.partition(" ")[0]
    start = TEXT.index(title)
    end = re.search(rf"^{level} ", TEXT[start + len(title) :], re.MULTILINE)
    return TEXT[start : start + len(title) + end.start()] if end else TEXT[start:]


def table(text: str, first: str) -> list[list[str]]:
    """The rows of the table whose first column is called so."""
    lines = text[text.index(f"| {first} |") :].splitlines()
    rows = []
    for line in lines[2:]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


# --- tables -------------------------------------------------------------------------------------


def test_the_table_of_codes_is_the_enum() -> None:
    rows = table(section("## 7. Codes"), "code")
    assert [(int(row[0]), row[1]) for row in rows] == [(code.value, code.name) for code in Code]


def test_the_codes_that_refuse_are_marked() -> None:
    rows = table(section("## 7. Codes"), "code")
    assert {row[1] for row in rows if row[3] == "yes"} == {code.name for code in REFUSALS}


def test_the_table_of_kinds_is_the_enum() -> None:
    rows = table(section("## 4. Kinds"), "kind")
    assert [(int(row[0]), row[1]) for row in rows] == [(kind.value, kind.name) for kind in Kind]


def test_the_longest_payload_of_each_kind_is_named() -> None:
    for row in table(section("## 4. Kinds"), "kind"):
        assert getattr(limits, row[4]) == LONGEST_BYTES.get(int(row[0]), limits.CONTROL_BYTES)


def test_every_kind_has_its_paragraph() -> None:
    text = section("## 4. Kinds")
    headings = " ".join(re.findall(r"^### .*$", text, re.MULTILINE))
    assert all(kind.name in headings for kind in Kind)


def test_the_table_of_modes_is_the_enum() -> None:
    rows = table(section("## 2. The greeting"), "mode")
    assert [(int(row[0]), row[1]) for row in rows] == [(mode.value, mode.name) for mode in Mode]


def test_the_flags_have_their_values() -> None:
    rows = table(section("## 3. Frames"), "flag")
    assert {row[1]: int(row[0], 16) for row in rows} == {"ASK_ACK": ASK_ACK, "MAY_SKIP": MAY_SKIP}


def test_the_table_of_forms_is_that_of_the_messages() -> None:
    rows = table(section("## 9. Forms"), "form")
    forms = ["FORM_BYTES", "FORM_TEXT", "FORM_PLAIN", "FORM_TYPED"]
    assert [(int(row[0]), f"FORM_{row[1].upper()}") for row in rows] == [
        (getattr(message, form), form) for form in forms
    ]


def test_the_table_of_extensions_is_that_of_plain_data() -> None:
    codes = [int(row[0]) for row in table(section("## 9. Forms"), "code")]
    names = ["INT", "DECIMAL", "DATETIME", "DATETIME_FOLDED", "UUID_BYTES", "PAIRS"]
    assert codes == [getattr(_plain, name) for name in names]


# --- limits ---------------------------------------------------------------------------------------

UNITS = {"": 1, "B": 1, "s": 1, "KiB": limits.KIB, "MiB": limits.MIB, "GiB": limits.GIB}
LIMITS = {row[0]: row[1] for row in table(section("## 8. Limits"), "limit")}


def number(text: str) -> float:
    amount, _, unit = text.partition(" ")
    return float(amount) * UNITS[unit]


@pytest.mark.parametrize("name", LIMITS)
def test_a_limit_has_the_value_of_the_code(name: str) -> None:
    for place in (limits, _handshake, connection):
        if hasattr(place, name):
            assert getattr(place, name) == number(LIMITS[name])
            return
    pytest.fail(f"no limit is called {name}")


def test_every_limit_that_the_machine_keeps_is_named() -> None:
    units = {"KIB", "MIB", "GIB"}
    inside = {"RECEIVE_BYTES", "GATHER_BYTES"}  # habits of this implementation
    used = set()
    for room in (ROOT / "compoint" / "core").glob("*.py"):
        used |= set(re.findall(r"\b[A-Z][A-Z_]+\b", room.read_text(encoding="utf-8")))
    bounds = {name for name in vars(limits) if name.isupper()} & used
    assert bounds - units - inside <= set(LIMITS)


def test_the_magic_is_written_in_the_text() -> None:
    assert f"magic             {MAGIC.hex(' ')}" in section("## 2. The greeting")


def test_a_header_is_as_long_as_the_text_says() -> None:
    fields = re.findall(r"^    uint(\d+)", section("## 3. Frames"), re.MULTILINE)
    assert sum(map(int, fields)) // 8 == HEADER.size == 16


# --- examples -------------------------------------------------------------------------------------

Said = list[tuple[str, bytes]]


def examples() -> dict[str, Said]:
    """Heading -> what each side sends, in order."""
    found: dict[str, Said] = {}
    for part in section("## 10. Examples").split("\n### ")[1:]:
        heading = part.splitlines()[0]
        blocks = re.findall(r"```hex (\w+)\n(.*?)```", part, re.DOTALL)
        found[heading] = [(who, unhex(block)) for who, block in blocks]
    return found


def unhex(block: str) -> bytes:
    return bytes.fromhex(" ".join(line.partition("#")[0] for line in block.splitlines()))


class Play:
    """Two machines whose words are written down."""

    def __init__(self, mode: Mode, path: str = "", heartbeat_ms: int = 10_000) -> None:
        session = bytes(range(16))
        common = (limits.GIB, limits.MIB, heartbeat_ms, session)
        self.initiator = Connection(Side.INITIATOR, Greeting(mode, *common, path), 0.0)
        self.responder = Connection(Side.RESPONDER, Greeting(Mode.WELCOME, *common), 0.0)
        self.said: Said = []

    def travel(self) -> None:
        """What the two have to say arrives: first the initiator's, then the answer."""
        for who, one, two in (
            ("initiator", self.initiator, self.responder),
            ("responder", self.responder, self.initiator),
        ):
            if data := b"".join(one.take_output()):
                self.said.append((who, data))
                two.feed(data, 0.0)
                two.welcome()

    def write(self, machine: Connection, stream: Stream | None, *messages: Any) -> None:
        assert stream is not None
        for one in messages:
            machine.gather(stream, *encode(one))

    def read(self, machine: Connection, stream: Stream | None) -> list[Any]:
        """All messages that are here, decoded."""
        assert stream is not None
        found = []
        while stream.inbox:
            item = stream.inbox.popleft()
            form, payload = item if isinstance(item, tuple) else (0, item)
            stream.taken += 1
            stream.taken_cost += len(payload) + limits.MESSAGE_TOLL_BYTES
            found.append(decode(form, payload))
            machine.grant(stream)
        return found


def plain_conversation() -> Said:
    play = Play(Mode.PLAIN, "/orders")
    one, two = play.initiator, play.responder
    play.write(one, one.plain, "Hello")
    play.travel()
    play.travel()
    assert play.read(two, two.plain) == ["Hello"]
    play.write(two, two.plain, {"item": "book", "count": 2})
    play.travel()
    assert play.read(one, one.plain) == [{"item": "book", "count": 2}]
    assert one.plain is not None
    play.write(one, one.plain, b"one", b"", b"three")
    one.begin(one.plain, 0, 6)
    one.more(one.plain, memoryview(b"larg"))
    one.more(one.plain, memoryview(b"e!"))
    one.ask_ack(one.plain)
    play.travel()
    assert play.read(two, two.plain) == [b"one", b"", b"three", b"large!"]
    assert one.plain.confirmed == 5
    one.begin(one.plain, 0, 1000)
    one.more(one.plain, memoryview(b"abc"))
    one.goodbye(one.plain)
    assert two.plain is not None
    play.travel()
    assert two.plain.ending is not None
    assert two.plain.ending.how is How.GOODBYE
    two.goodbye(two.plain)
    play.travel()
    assert not one.streams
    assert not two.streams
    return play.said


def channels() -> Said:
    play = Play(Mode.CHANNELS)
    one, two = play.initiator, play.responder
    first = one.announce("order-17")
    play.write(one, first, "early")
    second = one.announce("order-18")
    play.travel()
    queued = two.streams[1]
    two.claim(queued)
    text = "32768 channels are waiting here"
    two.reset(two.streams[2], Code.QUEUE_FULL, text, retry_after_s=2.0)
    play.travel()
    assert play.read(two, queued) == ["early"]
    assert first.is_claimed
    assert second.ending is not None
    assert (second.ending.how, second.ending.retry_after_s) == (How.REFUSED, 2.0)
    one.goodbye(first)
    play.travel()
    two.goodbye(queued)
    play.travel()
    one.leave(Code.CLOSED, "no channel needed it any more")
    play.travel()
    assert two.ending is not None
    assert two.ending.how is How.GOODBYE
    return play.said


def status() -> Said:
    play = Play(Mode.STATUS, heartbeat_ms=0)
    one, two = play.initiator, play.responder
    play.travel()
    play.write(two, two.plain, {"queued_in_all": 0})
    assert two.plain is not None
    two.goodbye(two.plain)
    play.travel()
    assert play.read(one, one.plain) == [{"queued_in_all": 0}]
    return play.said


def refusal() -> Said:
    play = Play(Mode.PLAIN, heartbeat_ms=0)
    data = b"".join(play.initiator.take_output())
    play.responder.feed(data, 0.0)
    play.said.append(("initiator", data))
    text = "1024 initiators are waiting to be accepted"
    play.responder.refuse(Code.BUSY, text, retry_after_s=1.0)
    play.travel()
    assert play.initiator.ending is not None
    assert play.initiator.ending.how is How.REFUSED
    return play.said


def signs_of_life_and_faults() -> Said:
    play = Play(Mode.CHANNELS)
    one, two = play.initiator, play.responder
    play.travel()
    one.on_timer(10.0)
    play.travel()
    unknown = HEADER.pack(99, 0, 0, 7, 0, 0)
    two.feed(unknown, 10.0)
    play.said.append(("initiator", unknown))
    play.travel()
    return play.said[2:]


PLAYS: dict[str, Callable[[], Said]] = {
    "10.1 A plain conversation": plain_conversation,
    "10.2 Two channels, one of them refused": channels,
    "10.3 A status request": status,
    "10.4 A refused greeting": refusal,
    "10.5 A sign of life, and a frame for nobody": signs_of_life_and_faults,
}


def test_every_example_has_its_play() -> None:
    assert list(examples()) == list(PLAYS)


@pytest.mark.parametrize("heading", PLAYS)
def test_the_machines_say_the_bytes_of_the_example(heading: str) -> None:
    said = examples()[heading]
    assert said == PLAYS[heading]()


# --- the remarks beside the bytes ------------------------------------------------------------


def remarks() -> Iterator[tuple[bytes, str]]:
    for block in re.findall(r"```hex \w+\n(.*?)```", TEXT, re.DOTALL):
        for line in block.splitlines():
            data, _, remark = line.partition("#")
            yield bytes.fromhex(data), remark.strip()


def test_each_line_that_begins_a_frame_names_its_kind() -> None:
    names = {kind.name: kind for kind in Kind}
    seen = set()
    for data, remark in remarks():
        word = remark.split()[0] if remark else ""
        if word in names:
            assert data[0] == names[word]
            assert len(data) == HEADER.size
            seen.add(word)
    assert seen == set(names)
