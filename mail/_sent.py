"""The mails that were handed to a mail system and may still come back. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from mail._batch import PostRow
    from mail._reports import Report

__all__ = ["Sent"]

#: A mail may come back as long as mail systems try, and a day (RFC 5321 §4.5.4.1).
COMES_BACK_S: Final = 6 * 86400.0
#: So many mails are remembered; of an older one it is then not known whose it was.
MOST: Final = 10_000


class Sent:
    """Knows each by its number, and by the name that a report calls it."""

    __slots__ = ("_by_name", "_rows")

    def __init__(self, rows: Iterable[PostRow] = ()) -> None:
        self._rows: dict[int, PostRow] = {}
        self._by_name: dict[str, int] = {}
        for row in rows:
            self.add(row)

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, row: PostRow) -> None:
        self._rows[row.number] = row
        self._by_name[row.message_id] = row.number

    def remove(self, number: int) -> None:
        row = self._rows.pop(number, None)
        if row is not None:
            self._by_name.pop(row.message_id, None)

    def meant_by(self, report: Report) -> PostRow | None:
        """The mail that a report speaks of; None: none of ours that is known.

        Anybody can write a report, but only who has handled the mail knows its name.
        """
        for name in (report.message_id, report.envelope_id):
            number = self._by_name.get(name)
            if number is not None:
                return self._rows[number]
        return None

    def remove_old(self, utc: float) -> list[int]:
        """Forget those that are not needed any more; returns their numbers."""
        old: list[int] = []
        for number, row in self._rows.items():
            is_full = len(self._rows) - len(old) > MOST
            if row.submitted_utc > utc - COMES_BACK_S and not is_full:
                break
            old.append(number)
        for number in old:
            self.remove(number)
        return old
