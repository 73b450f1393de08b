"""A mailbox under attack: the real program behind it, and peers whose frames are made by hand.

The program serves at PORT of alice's mailbox. Nothing is said again by itself in these tests,
so each mail that leaves is an answer to one that has come.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from hypothesis import given, settings
from hypothesis import strategies as st
from world_kit import World, mail_world

from compoint import (
    COMPOINT_SERVER,
    ComManager,
    ComPoint,
    ComPointAddress,
    ComPointException,
    ServerComPoint,
)
from compoint.core.framing import HEADER
from compoint.core.framing import Kind as InnerKind
from compoint.core.greeting import Greeting, Mode
from compoint.deadline import clock
from compoint.limits import GIB, MIB
from compoint.testing import configured, eventually
from mail import _offices
from mail._envelope import Flag, Frame, Kind, Place, encode, find_frames
from mail._find import find
from mail._inbound import Inbound
from mail._mime import new_mail, new_message_id
from mail._post_office import PostOffice

__all__ = [
    "ALICE", "ANSWERED", "BOB", "MALLORY", "PATIENCE_S", "PORT", "Scene", "a_scene", "any_mail",
    "check_nothing_harms", "frame", "frames_in", "greeted", "mail_of", "office_of",
]  # fmt: skip

ALICE: Final = "alice@example.org"
BOB: Final = "bob@example.net"
MALLORY: Final = "mallory@example.com"
PORT: Final = 7100
PATIENCE_S: Final = 20.0

#: How many mails leave when a program greets a peer: its greeting, maybe behind a confirmation.
ANSWERED: Final = (1, 2)

_DAILY: Final = 1_000_000
_QUIET_S: Final = 60.0
_SETTINGS: Final = {"rtoMin": "600 s", "ackDelay": "0.05 s", "daily": _DAILY}


# --- what peers send ----------------------------------------------------------------------------


def greeted(*messages: bytes) -> bytes:
    """What an initiator says: its greeting, and messages behind it."""
    said = Greeting(Mode.PLAIN, GIB, MIB, 0, os.urandom(16)).encode()
    for message in messages:
        said += HEADER.pack(InnerKind.MESSAGE, 0, 0, 1, 0, len(message)) + message
    return said


def frame(*messages: bytes, sender: str = MALLORY, **fields: Any) -> Frame:
    """The first frame of a new conversation with alice's program, but for some fields."""
    now = int(time.time())
    fresh = Frame(
        Kind.DATA, Flag.OPEN, os.urandom(16), b"store 01", Place(sender, 50_000),
        Place(ALICE, PORT), start=0, have=0, window=MIB, created=now, expires=now + 86_400,
        body=greeted(*messages),
    )  # fmt: skip
    return fresh._replace(**fields)


def mail_of(
    *parts: Frame | bytes, sender: str = MALLORY, secret: bytes | None = None, head: str = ""
) -> bytes:
    """A mail as peers make it, of frames and other bytes; `head` goes before its head."""
    payload = b"".join(part if isinstance(part, bytes) else encode(part, secret) for part in parts)
    mail = new_mail(
        payload, sender=sender, recipient=ALICE, message_id=new_message_id(sender), now=time.time()
    )
    return head.encode() + b"".join(mail.pieces())


def frames_in(mail: bytes) -> list[Frame]:
    """What a mail says."""

    payloads = find(io.BytesIO(mail)).payloads
    return [one.frame for payload in payloads for one in find_frames(payload).envelopes]


def office_of(settings: dict[str, object]) -> PostOffice:
    """The post office of this process with these settings, which is open."""
    return _offices._open[str(settings["spool"])].office


_LINES: Final = (
    b"Content-Type: multipart/mixed; boundary=b\r\n", b"Content-Type: message/rfc822\r\n",
    b"Content-Type: multipart/report; report-type=delivery-status; boundary=b\r\n",
    b"Content-Type: message/delivery-status\r\n", b"Action: failed\r\n", b"Status: 5.1.1\r\n",
    b"Content-Transfer-Encoding: base64\r\n", b"Content-Transfer-Encoding: x-uuencode\r\n",
    b"Content-Transfer-Encoding: quoted-printable\r\n", b"Content-Type: text/plain; charset=x\r\n",
    b"From: MAILER-DAEMON@x.test\r\n", b"From: \xff<<@\r\n", b"Message-ID: <x@y.test>\r\n",
    b"\r\n", b"--b\r\n", b"--b--\r\n", b" \r\n", b"begin 644 x\r\n", b"U01QUgEB\r\n", b"=\r\n",
    b"From x\n", b"\xff\xfe\r\n", b"SMPR\r\n", b"\r", b"\n",
)  # fmt: skip


def any_mail() -> st.SearchStrategy[bytes]:
    """Noise, lines in any order, and frames with right sums and wrong contents."""
    frames = st.builds(_mangled, st.lists(st.tuples(st.integers(4, 180), st.binary(max_size=9))))
    payloads = st.lists(st.binary(max_size=50) | frames, max_size=4).map(b"".join)
    lines = st.lists(st.sampled_from(_LINES) | st.binary(max_size=20), max_size=25).map(b"".join)
    return st.binary() | payloads | payloads.map(mail_of) | lines


def _mangled(changes: list[tuple[int, bytes]]) -> bytes:
    """A frame with other bytes in some places; its sum is right."""
    data = bytearray(encode(frame(b"x")))
    for at, new in changes:
        data[at : at + len(new)] = new
    if len(changes) < 8:
        data[8:12] = len(data).to_bytes(4)
    return bytes(data[:-16] + hashlib.sha256(data[:-16]).digest()[:16])


def check_nothing_harms(scene: Scene, examples: int) -> None:
    """Whatever comes, no more mails leave than came, and the next good one is read."""

    @settings(max_examples=examples, deadline=None, database=None)
    @given(st.lists(any_mail(), max_size=6))
    def harms_nothing(mails: list[bytes]) -> None:
        # A mail may say how it will be answered to several.
        frames = sum(len(frames_in(mail)) for mail in mails)
        assert scene.gets(*mails) <= ANSWERED[-1] * frames

    harms_nothing()
    scene.gets(mail_of(frame(b"good", sender=BOB), sender=BOB), sender=BOB)
    word: object = None
    while word != b"good":
        # Some of the mails were good ones, too.
        with scene.accept() as point, contextlib.suppress(ComPointException):
            word = point.read(timeout=0)
            point.abort("the test is over")
    scene.settles()


# --- the mailbox --------------------------------------------------------------------------------


class Scene:
    """Alice's program, and the mails that reach and leave her."""

    def __init__(self, world: World, folder: Path, settings: dict[str, object]) -> None:
        self.world = world
        self.spool = folder / "spool"
        self.settings = settings
        #: The mails that have left alice's mailbox, and to whom.
        self.left: list[tuple[str, bytes]] = []
        world.watch = lambda _, recipient, mail: self.left.append((recipient, mail))
        self.server: ServerComPoint
        self.start()

    def start(self) -> None:
        with configured(mail=self.settings):
            self.server = ComManager.com_point(COMPOINT_SERVER, ComPointAddress("mail", PORT))

    def restart(self) -> None:
        """The program ends in good order, and begins anew with what is kept."""
        self.stop()
        self.start()

    def stop(self) -> None:
        self.server.close()
        eventually(lambda: str(self.spool) not in _offices._open, PATIENCE_S)

    @property
    def office(self) -> PostOffice:
        return office_of(self.settings)

    @property
    def inbound(self) -> Inbound:
        return _offices._open[str(self.spool)]._inbound

    @property
    def made(self) -> int:
        """How many mails were made, taken by the mail server or not."""
        return _DAILY - self.office.budget.left_today(time.time())

    def files(self, inner: str) -> list[Path]:
        return sorted((self.spool / inner).iterdir())

    def gets(self, *mails: bytes, sender: str = MALLORY) -> int:
        """These arrive; how many mails were made when all they have caused has left."""
        before = self.made
        for mail in mails:
            self.world.deliver(ALICE, mail, sender)
        self.settles()
        return self.made - before

    def settles(self) -> None:
        eventually(lambda: not self.files("new"), PATIENCE_S, "alice has taken her mails")
        eventually(self._is_quiet, PATIENCE_S, "alice says nothing more")

    def _is_quiet(self) -> bool:
        due = self.office.next_mail()
        arrived = len(self.left) + self.world.counts["unknown"]
        return (due is None or due > clock() + _QUIET_S) and arrived == self.made

    def accept(self) -> ComPoint:
        return self.server.accept(timeout=PATIENCE_S)

    def reads(self, expected: bytes) -> None:
        """The next conversation begins with this message, and has no other."""
        point = self.accept()
        try:
            assert point.read(timeout=PATIENCE_S) == expected
            assert point.statistics().received == 1
        finally:
            point.abort("the test is over")
            self.settles()

    def goes_on(self) -> None:
        """Somebody else begins a conversation, and is heard before anybody that is not shown."""
        word = b"good " + os.urandom(4).hex().encode()
        self.gets(mail_of(frame(word, sender=BOB), sender=BOB), sender=BOB)
        self.reads(word)


@contextmanager
def a_scene(folder: Path, **settings: object) -> Iterator[Scene]:
    """Peers have mailboxes that take everything, and no programs."""
    with mail_world() as world:
        for peer in (BOB, MALLORY):
            world.box(peer, folder / peer)
        scene = Scene(
            world, folder / "alice", world.box(ALICE, folder / "alice", **_SETTINGS | settings)
        )
        try:
            yield scene
        finally:
            scene.server.close()
