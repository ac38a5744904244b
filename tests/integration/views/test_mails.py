"""Lists of mails: order, filters, pages, and the one line of each mail."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, Engine

from mailfleet_schema.content import Address
from mailfleet_schema.states import Priority, State
from mailfleet_workers.views import Filter, mails, mails_of, search, search_mails
from tests.integration.views.rows import Rows, content


def ids(lines: Iterable[mails.MailLine]) -> list[int]:
    return [line.id for line in lines]


def found(read: Connection, **wanted: Any) -> list[int]:
    return ids(search_mails(read, Filter(**wanted)).mails)


@pytest.mark.tinymail("59")
def test_newest_first_and_bounded(engine: Engine, read: Connection) -> None:
    """The newest mails come first, at most as many as asked for, and `next_before` continues."""
    rows = Rows(engine)
    made = [rows.insert() for _ in range(5)]
    first = search_mails(read, limit=2)
    second = search_mails(read, Filter(before_id=first.next_before), limit=2)
    third = search_mails(read, Filter(before_id=second.next_before), limit=2)

    assert [one.id for page in (first, second, third) for one in page.mails] == made[::-1]
    assert (third.next_before, third.bound) == (None, None)


def test_filters(engine: Engine, read: Connection) -> None:
    """Every filter is applied, and all of them together."""
    rows = Rows(engine)
    billing = rows.insert()
    news = rows.insert("news", account="bulk", priority=Priority.BULK)
    draft = rows.insert(state=State.DRAFT)

    assert found(read, apps=("news",)) == [news]
    assert found(read, states=(State.QUEUED,)) == [news, billing]
    assert found(read, states=(State.DRAFT, State.SENT)) == [draft]
    assert found(read, priority="bulk") == [news]
    assert found(read, account="default") == [draft, billing]
    assert found(read, from_id=news, before_id=draft) == [news]
    assert found(read, apps=("billing",), states=(State.QUEUED,), priority="bulk") == []


def test_by_time(engine: Engine, read: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    """From an instant on, up to another; where to begin is found by bisection."""
    monkeypatch.setattr(search, "PAGE", 3)
    monkeypatch.setattr(search, "MOST_ROWS", 6)
    rows, now = Rows(engine), Rows(engine).now()
    made = [rows.insert() for _ in range(40)]
    for age, mail_id in enumerate(reversed(made)):
        rows.change("mail", mail_id, created_at=now - timedelta(hours=age))

    def ago(hours: float) -> datetime:
        return now - timedelta(hours=hours)

    assert found(read, since=ago(3)) == made[:-5:-1]
    assert found(read, since=ago(34.5), until=ago(32.5)) == [made[6], made[5]]
    assert found(read, until=ago(38)) == [made[0]]
    assert found(read, since=now + timedelta(hours=1)) == []


def test_filter_goes_through_pages(engine: Engine, read: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    """What matches is found pages back, a limit is kept across pages, and a long search says where it stopped."""
    rows = Rows(engine)
    made = [rows.insert("news" if number % 4 == 0 else "billing") for number in range(20)]
    matching = [made[number] for number in range(0, 20, 4)][::-1]
    monkeypatch.setattr(search, "PAGE", 3)
    news = Filter(apps=("news",))

    assert ids(search_mails(read, news).mails) == matching
    assert search_mails(read, news, limit=2).next_before == matching[1]
    assert search_mails(read, Filter(apps=("nobody",))).next_before is None
    monkeypatch.setattr(search, "MOST_ROWS", 6)
    stopped = search_mails(read, news)
    assert ids(stopped.mails) == matching[:1]
    assert stopped.next_before == made[14]
    assert stopped.bound == f"looked at mails down to number {made[14]}"


def test_time_ends_a_search(engine: Engine, read: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that has used its time up says where it stopped."""
    rows = Rows(engine)
    made = [rows.insert() for _ in range(9)]
    monkeypatch.setattr(search, "PAGE", 3)
    times = iter([0.0, 1.0, search.BUDGET_S + 1.0])
    stopped = search_mails(read, Filter(apps=("nobody",)), clock=lambda: next(times))
    assert (stopped.mails, stopped.next_before) == ((), made[3])


def test_line(engine: Engine, read: Connection) -> None:
    """A line has the first recipient, how many there are, and the time until it is due by the database's clock."""
    rows = Rows(engine)
    to = (Address("Ada", "ada@example.net"), Address("", "bob@example.net"))
    rows.insert(content=content(to=to, bcc=(Address("", "eve@example.net"),)), due_in_s=100)
    [line] = search_mails(read).mails

    assert (line.to, line.recipients, line.subject) == ("ada@example.net", 3, "Invoice 17")
    assert 95 < line.due_in_s <= 100
    assert line.as_json()["due_at"].endswith("Z")


def test_mail_without_content(engine: Engine, read: Connection) -> None:
    """A row that another program wrote without its content is listed all the same."""
    rows = Rows(engine)
    mail_id = rows.insert()
    with engine.begin() as connection:
        connection.exec_driver_sql(
            f"DELETE FROM {'mailfleet_' if engine.dialect.name == 'sqlite' else 'mailfleet.'}mail_content"
        )

    assert [(line.id, line.to, line.subject) for line in search_mails(read).mails] == [(mail_id, None, None)]


def test_by_ids(engine: Engine, read: Connection) -> None:
    """Mails by id come in the order asked for; unknown ones are left out."""
    rows = Rows(engine)
    made = [rows.insert() for _ in range(3)]

    assert ids(mails_of(read, [made[2], 999, made[0]])) == [made[2], made[0]]


@pytest.mark.parametrize("limit", [0, 1001])
def test_limit_out_of_range(read: Connection, limit: int) -> None:
    """A limit that would read everything is refused."""
    with pytest.raises(ValueError, match="limit: expected 1 to 1000"):
        search_mails(read, limit=limit)
