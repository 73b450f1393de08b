"""Which mail a report speaks of, and how long that is known."""

from __future__ import annotations

import pytest

from mail import _sent
from mail._batch import PostRow
from mail._reports import Kind, Report
from mail._sent import COMES_BACK_S, Sent


def row(number: int, utc: float = 0.0) -> PostRow:
    return PostRow(number, f"{number}@a.test", "bob@b.test", (((b"c" * 16, True), 0),), utc)


@pytest.mark.parametrize("field", ["message_id", "envelope_id"])
def test_a_report_names_a_mail_in_either_way(field: str) -> None:
    sent = Sent([row(1), row(2)])
    report = Report(Kind.FAILED, **{field: "2@a.test"})
    assert sent.meant_by(report) == row(2)


@pytest.mark.parametrize("name", ["", "3@a.test", "2@A.test"])
def test_a_report_about_another_mail_means_none(name: str) -> None:
    assert Sent([row(1), row(2)]).meant_by(Report(Kind.FAILED, message_id=name)) is None


def test_a_mail_that_was_removed_is_not_known_any_more() -> None:
    sent = Sent([row(1)])
    sent.remove(1)
    sent.remove(1)
    assert sent.meant_by(Report(Kind.FAILED, message_id="1@a.test")) is None


def test_mails_are_forgotten_when_they_can_not_come_back() -> None:
    sent = Sent([row(1, 10.0), row(2, 20.0)])
    assert sent.remove_old(15.0 + COMES_BACK_S) == [1]
    assert len(sent) == 1


def test_the_oldest_are_forgotten_when_there_are_too_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_sent, "MOST", 2)
    sent = Sent([row(1), row(2), row(3)])
    assert sent.remove_old(0.0) == [1]
    assert len(sent) == 2
