"""The machine, floor 5: the greeting, before which nothing is believed.

An initiator speaks first and may send behind its greeting at once; a responder holds
that until its shell has said `welcome` or `refuse`. See docs/PROTOCOL.md §2.
"""

from __future__ import annotations

from typing import Final

from compoint.core._incoming import Incoming
from compoint.core._lives import Happening, Side
from compoint.core.codes import Code, Ending, How
from compoint.core.foreign import HTTP_ANSWER, Foreign
from compoint.core.greeting import (
    VERSION,
    Greeting,
    Mode,
    OtherVersion,
    Refusal,
    parse_greeting,
)
from compoint.limits import EARLY_BYTES, FIRST_CREDIT_BYTES

__all__ = ["Handshake"]

#: A peer cannot make this side ask for signs of life more often than this.
_LEAST_HEARTBEAT_MS: Final = 1000


class Handshake(Incoming):
    """Greets, welcomes, refuses."""

    __slots__ = ("_early", "_heartbeat_s", "asking", "peer")

    def __init__(self, side: Side, ours: Greeting, now: float, *, is_kept: bool) -> None:
        super().__init__(side, ours, now, is_kept=is_kept)
        #: The peer's greeting, once it is here and (for a responder) welcomed.
        self.peer: Greeting | None = None
        #: A responder's view of a greeting it has not answered yet.
        self.asking: Greeting | None = None
        self._early = b""
        self._heartbeat_s = 0.0
        if side is Side.INITIATOR:
            self._put(ours.encode())
            self._open(ours.mode, FIRST_CREDIT_BYTES)

    # --- commands of a responder ----------------------------------------------------------

    def welcome(self) -> None:
        """Answer the greeting: the connection is wanted. Reads what came behind it."""
        if self.asking is None or self.ending is not None:
            return
        greeting, self.asking = self.asking, None
        self._put(self.ours.encode())
        self._open(greeting.mode, greeting.window)
        self._begin(greeting)

    def refuse(self, code: Code, text: str, retry_after_s: float | None = None) -> None:
        """Answer the greeting: the connection is not wanted."""
        if self.ending is None:
            self._put(Refusal(code, text, retry_after_s).encode())
            self._finish(Ending(How.REFUSED, code, text, retry_after_s))

    def leave(self, code: Code, text: str) -> None:
        if self.side is Side.RESPONDER and self.peer is None:
            self.refuse(code, text)
        else:
            super().leave(code, text)

    # --- the peer's greeting --------------------------------------------------------------

    def _read_greeting(self, data: bytes) -> None:
        self._early += data
        if self.asking is not None:
            if len(self._early) > EARLY_BYTES:
                text = f"more than {EARLY_BYTES} bytes behind a greeting without an answer"
                self.refuse(Code.CREDIT_OVERRUN, text)
            return
        parsed = parse_greeting(self._early)
        if parsed is None:
            return
        greeting, used = parsed
        self._early = self._early[used:]
        if isinstance(greeting, Foreign):
            self._meet_foreign(greeting)
        elif isinstance(greeting, OtherVersion):
            self._meet_version(greeting)
        elif isinstance(greeting, Refusal):
            self._meet_refusal(greeting)
        else:
            self._meet(greeting)

    def _meet(self, greeting: Greeting) -> None:
        if (greeting.mode is Mode.WELCOME) != (self.side is Side.INITIATOR):
            self._meet_wrong_way(greeting.mode)
            return
        self.events.append((Happening.GREETED, None))
        if self.side is Side.RESPONDER:
            self.asking = greeting
        else:
            self._begin(greeting)

    def _begin(self, greeting: Greeting) -> None:
        """Both sides have greeted: frames may be read."""
        self.peer = greeting
        if self.ours.heartbeat_ms and greeting.heartbeat_ms:
            theirs_ms = max(greeting.heartbeat_ms, _LEAST_HEARTBEAT_MS)
            self._heartbeat_s = min(self.ours.heartbeat_ms, theirs_ms) / 1000
        if self.side is Side.INITIATOR and self.plain is not None:
            self.plain.out_limit = max(self.plain.out_limit, greeting.window)
        for stream in self.streams.values():
            self._touch(stream)
        early, self._early = self._early, b""
        if early:
            self._reader.feed(early)
            self._read_frames()

    # --- peers that are not taken -----------------------------------------------------------

    def _meet_foreign(self, foreign: Foreign) -> None:
        if foreign.is_http and self.side is Side.RESPONDER:
            # Somebody's browser or curl: answer in the words it understands.
            self._put(HTTP_ANSWER)
        elif self.side is Side.RESPONDER:
            self._put(Refusal(Code.BAD_GREETING, f"got {foreign.text}").encode())
        seen = f" ({self._early[:16]!r})"
        text = f"the peer does not speak our protocol: it sent {foreign.text}{seen}"
        self._finish(Ending(How.FOREIGN, Code.BAD_GREETING, text))

    def _meet_wrong_way(self, mode: Mode) -> None:
        self._meet_foreign(Foreign(f"a greeting in the wrong direction ({mode.name.lower()})"))

    def _meet_version(self, theirs: OtherVersion) -> None:
        text = (
            f"this side speaks version {VERSION} of the protocol, "
            f"the peer versions {theirs.oldest} to {theirs.newest}"
        )
        if self.side is Side.RESPONDER:
            self._put(Refusal(Code.VERSION, text).encode())
        self._finish(Ending(How.VERSION, Code.VERSION, text))

    def _meet_refusal(self, refusal: Refusal) -> None:
        if self.side is Side.RESPONDER:
            self._meet_wrong_way(Mode.REFUSAL)
            return
        hows = {Code.BAD_GREETING: How.FOREIGN, Code.VERSION: How.VERSION}
        how = hows.get(refusal.code, How.REFUSED)
        self._finish(Ending(how, refusal.code, refusal.text, refusal.retry_after_s))

    def _end_before_greeting(self) -> None:
        """The peer's bytes have ended without a greeting."""
        if self.side is Side.INITIATOR or (self._early and self.asking is None):
            seen = f" after {self._early[:16]!r}" if self._early else ""
            text = f"the peer closed the connection before its greeting{seen}"
            # Messages travel with the greeting: what was written may have been heard.
            is_lost = any(stream.written for stream in self.streams.values())
            how = How.CUT if is_lost else How.FOREIGN
            self._finish(Ending(how, Code.BAD_GREETING, text))
        else:
            self.cut("the peer left before the connection was welcomed")

    def _give_up_greeting(self, waited_s: float) -> None:
        waited = f"{waited_s:.3g} s"
        if self.side is Side.INITIATOR:
            text = f"the peer took the connection and said nothing for {waited}"
            self._finish(Ending(How.FOREIGN, Code.GREETING_TIMEOUT, text))
        elif self.asking is None:
            self.refuse(Code.GREETING_TIMEOUT, f"no greeting within {waited}")
        else:
            self.refuse(Code.GREETING_TIMEOUT, f"nobody answered the greeting within {waited}")
