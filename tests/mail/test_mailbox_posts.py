"""What a mailbox puts into a mail, and what becomes of it."""

from __future__ import annotations

from conversation_kit import BOB, PACE, START, later
from mailbox_kit import (
    HERE,
    NUMBER,
    alice,
    bob,
    saying,
    sent,
    settle,
    talking,
)

from compoint.core.codes import Code
from mail._envelope import Kind, Place, overhead
from mail._mailbox import ROOM_BYTES

# --- what goes into a mail ----------------------------------------------------------------------


def test_everything_that_is_due_for_a_peer_goes_into_one_mail() -> None:
    office = alice()
    for number in range(5):
        office.say(office.open(b"conversation %03d" % number, BOB), b"hello", START)
    post = sent(office, START).post
    assert len(post.frames) == len(post.parts) == 5
    assert office.make_mail(START) is None


def test_a_mail_is_for_one_recipient_and_the_longest_waiting_goes_first() -> None:
    office = alice()
    for second, who in enumerate([BOB, Place("carol@c.test", 1), BOB]):
        key = office.open(b"conversation %03d" % second, who)
        office.say(key, b"hello", later(second))
        office.box.next_timer(later(second))
    first, second = sent(office, later(9)).post, sent(office, later(9)).post
    assert [post.recipient for post in (first, second)] == [BOB.mailbox, "carol@c.test"]
    assert [len(post.parts) for post in (first, second)] == [2, 1]


def test_who_says_more_while_waiting_keeps_its_place() -> None:
    office = alice()
    first = office.open(NUMBER, BOB)
    second = office.open(b"conversation 000", BOB)
    for second_s, key in enumerate([first, second, first]):
        office.say(key, b"hello", later(second_s))
        office.box.next_timer(later(second_s))
    assert [key for key, _ in sent(office, later(9)).post.parts] == [first, second]


def test_who_was_at_rest_meanwhile_goes_behind_who_waits() -> None:
    office = alice()
    first = office.open(NUMBER, BOB)
    office.say(first, b"hello", START)
    sent(office, START)
    second = office.open(b"conversation 002", BOB)
    for second_s, key in ((1, second), (2, first)):
        office.say(key, b"hello", later(second_s))
        office.box.next_timer(later(second_s))
    assert [key for key, _ in sent(office, later(9)).post.parts] == [second, first]


def test_resets_fit_into_a_mail_as_well() -> None:
    office = alice()
    for number in range(40):
        key = office.open(b"conversation %03d" % number, BOB)
        office.box.conversations[key].break_off(Code.ABANDONED, "enough " * 200)
        office.box.touch(key)
    count = 0
    # Its size is looked at where it is made.
    while office.make_mail(START, ROOM_BYTES):
        count += sum(len(mail.post.frames) for mail in office.commit(START))
    assert count == 40


def test_what_does_not_fit_goes_into_the_next_mail() -> None:
    office = alice()
    for number in range(10):
        office.say(office.open(b"conversation %03d" % number, BOB), bytes(3000), START)
    posts = []
    while office.make_mail(START, ROOM_BYTES):
        posts += [mail.post for mail in office.commit(START)]
    said = sum(len(frame.body) for post in posts for frame in post.frames)
    assert (said, 4 <= len(posts) <= 10) == (30_000, True)


def test_a_conversation_that_says_much_does_not_silence_another() -> None:
    office = alice()
    much = office.open(NUMBER, BOB)
    office.say(much, bytes(500_000), START)
    office.make_mail(START, 100_000)
    other = office.open(b"conversation 002", BOB)
    office.say(other, b"me too", START)
    for second in (1, 2):
        office.make_mail(later(second), 100_000)
    parts = [[key for key, _ in mail.post.parts] for mail in office.commit(later(2))]
    assert parts == [[much], [much], [other, much]]


def test_an_overdue_peer_is_not_silenced_by_one_that_is_always_due() -> None:
    office = alice()
    key = office.open(NUMBER, BOB)
    carol = office.open(b"conversation 002", Place("carol@c.test", 1))
    office.say(carol, b"hello", START)
    recipients = []
    for second in range(2):
        office.say(key, b"hello", later(second))
        recipients.append(sent(office, later(second)).post.recipient)
    assert sorted(recipients) == [BOB.mailbox, "carol@c.test"]


def test_a_mail_of_acknowledgements_is_a_reply() -> None:
    there = bob()
    there.take_frame(saying(alice(), b"hello"), START)
    post = sent(there, later(30)).post
    assert ([frame.kind for frame in post.frames], post.is_reply) == ([Kind.ACK], True)


def test_a_mail_that_says_something_is_no_reply() -> None:
    office = alice()
    office.say(office.open(NUMBER, BOB), b"hello", START)
    assert not sent(office, START).post.is_reply


def test_the_numbers_of_mails_go_on_in_the_next_process() -> None:
    here, there = talking()
    before = here.numbers[-1]
    here.kill(START)
    here.say(HERE, b"more", START)
    settle([here, there], START)
    assert here.numbers[-1] == before + 1


def test_frames_fit_into_the_least_room_whatever_the_names() -> None:
    longest = Place(f"{'x' * 64}@{'.'.join(['y' * 61] * 4)}.test", 65535)
    assert 2 * (overhead(longest, longest) + 1030) <= ROOM_BYTES


# --- what became of it --------------------------------------------------------------------------


def test_silence_counts_from_the_submission() -> None:
    office = alice()
    office.say(office.open(NUMBER, BOB), b"hello", START)
    mail = office.make_mail(START)
    assert mail is not None
    assert office.box.next_timer(later(100)) == later(PACE.expire_s).now
    office.box.submitted(mail.post, later(100))
    assert office.box.next_timer(later(100)) == later(100 + PACE.rto_min_s).now


def test_a_mail_refused_for_good_breaks_every_conversation_in_it() -> None:
    office = alice()
    keys = [office.open(b"conversation %03d" % number, BOB) for number in range(2)]
    for key in keys:
        office.say(key, b"hello", START)
    mail = office.make_mail(START)
    assert mail is not None
    office.box.failed(mail.post, "550 no such user", START, is_final=True)
    for key in keys:
        ending = office.box.conversations[key].ending
        assert ending is not None
        assert ending.text == "550 no such user"


def test_a_mail_that_failed_for_now_is_made_again() -> None:
    office = alice()
    office.say(office.open(NUMBER, BOB), b"hello", START)
    mail = office.make_mail(START)
    assert mail is not None
    office.box.failed(mail.post, "451 later", START, is_final=False)
    assert office.box.next_timer(START) == later(PACE.rto_min_s).now


def test_a_mail_that_came_back_breaks_its_conversation_also_in_the_next_process() -> None:
    office = alice()
    office.say(office.open(NUMBER, BOB), b"hello", START)
    post = sent(office, START).post
    office.kill(START)
    office.box.bounced(post._replace(frames=[]), "5.1.1", "nobody", later(9), is_final=True)
    ending = office.box.conversations[HERE].ending
    assert ending is not None
    assert ending.text == "a mail came back: 5.1.1 nobody"


def test_what_became_of_a_mail_of_a_forgotten_conversation_is_passed_over() -> None:
    office = alice()
    office.say(office.open(NUMBER, BOB), b"hello", START)
    mail = office.make_mail(START)
    assert mail is not None
    office.box.conversations[HERE].failed(0, "no", START, is_final=True)
    office.release(HERE)
    office.box.submitted(mail.post, START)
    office.box.failed(mail.post, "no", START, is_final=True)
    office.box.bounced(mail.post, "5.0.0", "no", START, is_final=True)
    assert office.box.conversations == {}
