"""What has to be kept of a connection so that a later process can go on with it, as rows.

A row about a stream holds its counts; the messages that nobody has read and the bytes of one
that is not complete are rows of their own, which never change. So what a step costs does not
grow with what waits. `Keeper` tells what changed; `compoint.core.resumed` reads it back.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from compoint.core.codes import Code, Ending, How
from compoint.core.greeting import Greeting, Mode, parse_greeting

if TYPE_CHECKING:
    from compoint.core.assembly import Assembly
    from compoint.core.connection import Connection
    from compoint.core.stream import Stream

__all__ = [
    "ConnectionChanges", "Keeper", "KeptConnection", "KeptMessage", "KeptPiece", "KeptStream",
    "StreamChanges", "ending_of", "ending_row", "has_goodbye",
]  # fmt: skip


class KeptMessage(NamedTuple):
    """A message that nobody has read."""

    number: int
    form: int
    body: bytes


class KeptPiece(NamedTuple):
    """Bytes of a message that is not complete."""

    start: int
    body: bytes


class StreamChanges(NamedTuple):
    """What is to be kept of one stream that changed."""

    number: int
    #: Everything but the messages; replaces the row that is there.
    row: bytes
    #: Rows of messages with a lower number are needless.
    first_unread: int
    #: Rows to be added.
    messages: list[KeptMessage]
    #: False: the rows of pieces that are there are needless; before `pieces` are added.
    has_pieces: bool
    pieces: list[KeptPiece]


class ConnectionChanges(NamedTuple):
    """What is to be kept of a connection, beside what was kept before."""

    #: Everything but the streams; replaces the row that is there.
    row: bytes
    #: How many of the peer's bytes are in these rows; those behind have to be fed again.
    fed: int
    streams: list[StreamChanges]
    #: Streams all of whose rows are needless.
    gone: list[int]


class KeptStream(NamedTuple):
    """The rows of one stream; messages and pieces in order."""

    row: bytes
    messages: list[KeptMessage]
    pieces: list[KeptPiece]


class KeptConnection(NamedTuple):
    """All rows of a connection; the streams in order of their numbers."""

    row: bytes
    fed: int
    streams: list[KeptStream]


def ending_row(ending: Ending | None) -> list[Any] | None:
    """An ending as plain data."""
    if ending is None:
        return None
    return [ending.how.value, ending.code, ending.text, ending.retry_after_s]


def ending_of(row: list[Any] | None) -> Ending | None:
    """The same back."""
    if row is None:
        return None
    how, code, text, retry_after_s = row
    return Ending(How(how), Code.from_wire(code), text, retry_after_s)


def has_goodbye(kept: KeptConnection) -> bool:
    """Whether the program of that process had ended all it had begun, and nothing can begin."""
    row = json.loads(kept.row)
    is_responder = row["mode"] == Mode.WELCOME
    if is_responder and not (row["ending"] or row["is_leaving"]):
        parsed = parse_greeting(bytes.fromhex(row["peer"] or ""))
        # Not welcomed yet, or a channel may still be announced: somebody is wanted here.
        if parsed is None or (isinstance(parsed[0], Greeting) and parsed[0].mode is Mode.CHANNELS):
            return False
    return all(_has_goodbye(json.loads(stream.row)) for stream in kept.streams)


def _has_goodbye(row: dict[str, Any]) -> bool:
    ending = ending_of(row["ending"])
    # Of a peer that broke off, the program may not have heard yet.
    is_news = ending is not None and ending.how is not How.GOODBYE
    return bool(row["goodbye_said"]) and not is_news


class _Seen:
    """What is kept of one stream already."""

    __slots__ = ("assembly", "pieces_to", "received", "state")

    def __init__(self, received: int = 0) -> None:
        self.state: tuple[object, ...] = ()
        self.received = received
        self.assembly: Assembly | None = None
        self.pieces_to = 0


class Keeper:
    """Follows one connection."""

    def __init__(self, connection: Connection) -> None:
        """For a new connection, or one that was resumed and has done nothing since."""
        self._connection = connection
        self._seen: dict[int, _Seen] = {}
        for number, stream in connection.streams.items():
            seen = self._seen[number] = _Seen(stream.received)
            if stream.assembly is not None:
                seen.assembly, seen.pieces_to = stream.assembly, stream.assembly.position

    def changes(self) -> ConnectionChanges:
        """What the steps since the last call have changed; then it counts as kept.

        All output must have been taken: it is kept by whoever took it.
        """
        connection = self._connection
        if connection.has_output:
            raise ValueError("there is output that was not taken")
        streams = connection.streams
        gone = [number for number in self._seen if number not in streams]
        for number in gone:
            del self._seen[number]
        changed = (self._of_stream(stream) for stream in streams.values())
        row, fed = connection.kept_row()
        row["ending"] = ending_row(connection.ending)
        data = json.dumps(row).encode()
        return ConnectionChanges(data, fed, [one for one in changed if one is not None], gone)

    def _of_stream(self, stream: Stream) -> StreamChanges | None:
        seen = self._seen.get(stream.number)
        if seen is None:
            seen = self._seen[stream.number] = _Seen()
        # Taken from the inbox is read: its reader may be about to count it.
        unread = list(stream.inbox)
        state = _state_of(stream, len(unread))
        if state == seen.state:
            return None
        first_unread = stream.received - len(unread) + 1
        fresh = unread[max(0, seen.received + 1 - first_unread) :]
        numbers = range(stream.received - len(fresh) + 1, stream.received + 1)
        messages = [
            KeptMessage(number, *((0, item) if isinstance(item, bytes) else item))
            for number, item in zip(numbers, fresh, strict=True)
        ]
        assembly = stream.assembly
        has_pieces = assembly is not None and assembly is seen.assembly
        if not has_pieces:
            seen.assembly, seen.pieces_to = assembly, 0
        pieces = []
        if assembly is not None and assembly.position > seen.pieces_to:
            pieces.append(KeptPiece(seen.pieces_to, assembly.since(seen.pieces_to)))
            seen.pieces_to = assembly.position
        row = json.dumps(dict(zip(_FIELDS, state, strict=True)), default=ending_row).encode()
        seen.state, seen.received = state, stream.received
        return StreamChanges(stream.number, row, first_unread, messages, has_pieces, pieces)


_FIELDS: Final = (
    "number", "correlator", "is_open", "ending", "goodbye_said", "is_claimed", "written", "acked",
    "out_cost", "out_limit", "out_left", "peer_unread", "received", "unread", "in_cost",
    "in_limit", "window", "dropped_cost", "assembly", "position",
)  # fmt: skip


def _state_of(stream: Stream, unread: int) -> tuple[object, ...]:
    """All that is kept of a stream beside its messages, in the order of `_FIELDS`."""
    assembly = stream.assembly
    return (
        stream.number, stream.correlator, stream.is_open, stream.ending, stream.goodbye_said,
        stream.is_claimed, stream.written, stream.acked, stream.out_cost, stream.out_limit,
        stream.out_left, stream.peer_unread, stream.received, unread, stream.in_cost,
        stream.in_limit, stream.window, stream.dropped_cost,
        None if assembly is None else (assembly.form, assembly.size),
        # So that bytes alone are a change.
        0 if assembly is None else assembly.position,
    )  # fmt: skip
