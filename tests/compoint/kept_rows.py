"""A store for one machine, in memory: its rows, pruned as the changes say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from compoint.core.keeping import KeptConnection, KeptMessage, KeptPiece, KeptStream

if TYPE_CHECKING:
    from compoint.core.keeping import ConnectionChanges, StreamChanges

__all__ = ["Rows"]


class Rows:
    """As strict as a database: nothing is added twice, and no count goes back."""

    def __init__(self) -> None:
        self.row = b""
        self.fed = 0
        self.streams: dict[int, bytes] = {}
        self.messages: dict[tuple[int, int], KeptMessage] = {}
        self.pieces: dict[tuple[int, int], KeptPiece] = {}
        self.first_unread: dict[int, int] = {}

    def commit(self, changes: ConnectionChanges) -> None:
        assert changes.fed >= self.fed
        self.row, self.fed = changes.row, changes.fed
        for number in changes.gone:
            # One that came and went within one step has no rows.
            self.streams.pop(number, None)
            self._prune(number, None)
        for one in changes.streams:
            self._commit_stream(one)

    def _commit_stream(self, changes: StreamChanges) -> None:
        number = changes.number
        self.streams[number] = changes.row
        assert changes.first_unread >= self.first_unread.get(number, 1)
        self.first_unread[number] = changes.first_unread
        for message in changes.messages:
            assert (number, message.number) not in self.messages
            self.messages[number, message.number] = message
        self._prune(number, changes.first_unread, has_pieces=changes.has_pieces)
        for piece in changes.pieces:
            assert (number, piece.start) not in self.pieces
            self.pieces[number, piece.start] = piece

    def _prune(self, number: int, first_unread: int | None, *, has_pieces: bool = False) -> None:
        for key in list(self.messages):
            if key[0] == number and (first_unread is None or key[1] < first_unread):
                del self.messages[key]
        for key in list(self.pieces):
            if key[0] == number and not has_pieces:
                del self.pieces[key]

    def kept(self) -> KeptConnection | None:
        """All of them; None: nothing was ever kept."""
        if not self.row:
            return None
        streams = [
            KeptStream(
                row,
                [self.messages[key] for key in sorted(self.messages) if key[0] == number],
                [self.pieces[key] for key in sorted(self.pieces) if key[0] == number],
            )
            for number, row in sorted(self.streams.items())
        ]
        return KeptConnection(self.row, self.fed, streams)
