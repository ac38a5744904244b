"""TinyMail's lists: all, failed and undone, sorted and in pages."""

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, Engine

from mailfleet_schema.states import State
from mailfleet_workers.views import Filter, InvalidSearch, page_of_mails, search
from mailfleet_workers.views.mails import MOST_LINES
from mailfleet_workers.views.search import FEW
from tests.integration.views.rows import Rows


@pytest.fixture
def rows(engine: Engine) -> Rows:
    return Rows(engine)


def listed(read: Connection, sort: str = "-id", wanted: Filter | None = None) -> list[int]:
    return [mail.id for mail in page_of_mails(read, wanted or Filter(), sort=sort).mails]


@pytest.mark.tinymail("59")
def test_all_in_pages(rows: Rows, read: Connection) -> None:
    """20 on a page unless told otherwise, the newest first; how many there are in all."""
    made = [rows.insert() for _ in range(45)]
    first = page_of_mails(read)
    assert [mail.id for mail in first.mails] == made[:24:-1]
    assert (first.page, first.size, first.sort, first.total, first.pages) == (1, 20, "-id", 45, 3)
    third = page_of_mails(read, page=3)
    assert [mail.id for mail in third.mails] == made[4::-1]
    assert page_of_mails(read, page=4).mails == ()
    assert page_of_mails(read, page=2, size=7).mails[0].id == made[37]
    assert first.bound is None


@pytest.mark.tinymail("60", "61", "U14")
def test_failed_and_undone(rows: Rows, read: Connection) -> None:
    """Failed is what has failed and is not done, also while it is tried again; undone is what is not done."""
    worker = rows.worker()
    waiting = rows.insert()
    made = {state: rows.insert() for state in (State.FAILED, State.QUEUED, State.SENT)}
    partly = rows.insert(max_done=2)
    draft = rows.insert(state=State.DRAFT)
    for state, mail_id in made.items():
        sums: dict[str, Any] = {"dones": 1} if state is State.SENT else {"fails": 1}
        rows.settle(rows.dot(rows.claim(mail_id, worker)), state, sends=1, **sums)
    rows.settle(rows.dot(rows.claim(partly, worker)), State.QUEUED, sends=1, dones=1)

    failed = [made[State.QUEUED], made[State.FAILED]]
    assert listed(read, wanted=Filter(outcome="failed")) == failed
    assert listed(read, wanted=Filter(outcome="undone")) == [draft, *failed, waiting]
    assert listed(read, wanted=Filter(outcome="failed", states=(State.FAILED,))) == [made[State.FAILED]]


@pytest.mark.tinymail("59", "U14")
def test_sorted(rows: Rows, read: Connection) -> None:
    """By number, by when it was sent, last tried or is due, either way; what has no such time is last."""
    a, b, c, d = (rows.insert() for _ in range(4))
    now, worker = rows.now(), rows.worker()
    first, last = rows.claim(a, worker), rows.claim(c, worker)
    for number, (mail_id, hours) in enumerate([(a, 2), (b, 1), (c, 1)], start=1):
        sent_at, due_at = now - timedelta(hours=hours), now - timedelta(hours=3 * number)
        rows.change("mail", mail_id, sent_at=sent_at, due_at=due_at)
    for number, claimed in enumerate([last, first, last], start=1):
        rows.attempt(claimed, worker)
        rows.change("mail_attempt", number, ended_at=now - timedelta(hours=9 - number))

    assert listed(read, "id") == [a, b, c, d]
    assert listed(read, "-id") == [d, c, b, a]
    assert listed(read, "-done") == [c, b, a, d]
    assert listed(read, "done,id") == [a, b, c, d]
    assert listed(read, " -done , id ") == [b, c, a, d]
    assert listed(read, "due") == [c, b, a, d]
    assert listed(read, "-send") == [c, a, d, b]
    assert listed(read, "send,-id") == [a, c, d, b]


@pytest.mark.tinymail("59")
@pytest.mark.parametrize(
    "sort", ["", "text", "id,", "-id;DROP TABLE mail", "done,-done", "--id", "ID", "id," * 1000]
)
def test_an_unknown_order(read: Connection, sort: str) -> None:
    """It is an error that says what is known."""
    with pytest.raises(InvalidSearch, match="sort: expected id, done, send, due"):
        page_of_mails(read, sort=sort)


@pytest.mark.parametrize(
    ("page", "size", "problem"),
    [(0, 20, "page"), (FEW + 1, 20, "page"), (1, 0, "size"), (1, MOST_LINES + 1, "size")],
)
def test_pages_that_are_none(read: Connection, page: int, size: int, problem: str) -> None:
    """Both are bounded."""
    with pytest.raises(InvalidSearch, match=f"{problem}: expected 1 to"):
        page_of_mails(read, page=page, size=size)


def test_a_sorted_list_is_bounded(rows: Rows, read: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of more mails than are sorted the newest are, or the oldest, and the answer says so."""
    made = [rows.insert() for _ in range(8)]
    for module in ("search", "mails"):
        monkeypatch.setattr(f"mailfleet_workers.views.{module}.FEW", 5)
    newest = page_of_mails(read, sort="due")
    assert (newest.total, newest.bound) == (5, "there are more: the newest 5 are sorted")
    assert {mail.id for mail in newest.mails} == set(made[3:])
    oldest = page_of_mails(read, sort="id")
    assert [mail.id for mail in oldest.mails] == made[:5]
    assert oldest.bound == "there are more: the oldest 5 are sorted"


@pytest.mark.parametrize(("sort", "words"), [("id", "up to number"), ("-id", "down to number")])
def test_a_search_that_gives_up_says_so(
    rows: Rows, read: Connection, monkeypatch: pytest.MonkeyPatch, sort: str, words: str
) -> None:
    """It names how far it came."""
    for _ in range(8):
        rows.insert()
    monkeypatch.setattr(search, "PAGE", 2)
    monkeypatch.setattr(search, "MOST_ROWS", 4)
    page = page_of_mails(read, Filter(apps=("nobody",)), sort=sort)
    assert page.total == 0
    assert page.bound is not None
    assert words in page.bound
