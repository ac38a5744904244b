"""Scanning changed at run time: what is stored, and what a reconciler makes of it, in both databases."""

import logging
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine

from mailfleet_schema.engine import read_only
from mailfleet_schema.hint import Hint
from mailfleet_schema.states import Priority
from mailfleet_workers.operators import scans
from mailfleet_workers.reconciler import Pass
from mailfleet_workers.scanning import changed
from mailfleet_workers.views import status, why
from tests.integration.workers.office import APP, PATIENCE, Office

DAY_S = 86_400.0


@pytest.fixture
def office(engine: Engine, tmp_path: Path) -> Office:
    return Office(engine, tmp_path)


def said(engine: Engine) -> list[tuple[str, bool, float | None]]:
    with read_only(engine) as connection:
        return [(scan.app, scan.stopped, scan.every_s) for scan in changed(connection)]


@pytest.mark.tinymail("35")
def test_what_is_said(engine: Engine) -> None:
    """The last word counts: for one app, then for all of them; said twice it is no news, and keeps its time."""
    assert scans.set_interval(engine, "news", 60)
    assert scans.stop(engine, None)
    assert said(engine) == [("", True, None)]
    with read_only(engine) as connection:
        before = changed(connection)
    assert not scans.stop(engine, None)
    with read_only(engine) as connection:
        assert changed(connection) == before
    assert scans.set_interval(engine, "news", 0.5)
    assert said(engine) == [("", True, None), ("news", False, 0.5)]
    assert scans.reset(engine, "news")
    assert said(engine) == [("", True, None)]
    assert scans.stop(engine, "news")
    assert scans.reset(engine, None)
    assert said(engine) == []
    assert not scans.reset(engine, None)
    with pytest.raises(ValueError, match="more than 0"):
        scans.set_interval(engine, None, 0)


@pytest.mark.tinymail("35", "D19")
def test_stopped_is_not_silent(office: Office, caplog: pytest.LogCaptureFixture) -> None:
    """No hint for what nobody carries, but dead workers' mail is taken back, doubts are settled, what is overdue expires,
    and everybody says that it is stopped; also after a restart. Asked for, a scan finds all of it.
    """
    caplog.set_level(logging.WARNING)
    waiting, overdue, theirs = office.emit("a@x"), office.emit("b@x"), office.emit("c@x")
    assert office.hint(theirs) == 1
    office.heap.forget(office.heap.take_all())
    scans.stop(office.engine, APP)
    with office.engine.begin() as connection:
        mail = office.tables.mail
        row = office.row(overdue)
        old = row["due_at"].replace(year=row["due_at"].year - 1)
        connection.execute(mail.update().where(mail.c.id == overdue).values(due_at=old))

    assert office.reconciler().run_once() == Pass(expired=1, freed=1)
    assert office.reconciler().run_once() == Pass()  # another process, later
    assert (office.notices, office.states([waiting, overdue, theirs])) == (
        [],
        ["queued", "expired: max_next", "queued"],
    )
    assert "scan_stopped" in caplog.messages
    with read_only(office.engine) as connection:
        found = why(connection, waiting)
        assert found is not None
        assert "scanning is stopped since" in found.sentence
        assert [scan.stopped for scan in status(connection).scans] == [True]

    assert office.reconciler().run_once(asked=True) == Pass(hinted=2)
    assert {one.mail_id for one in office.notices} == {waiting, theirs}
    scans.reset(office.engine, APP)
    office.let_pass(60)
    assert office.reconciler().run_once().hinted == 2
    office.deliver(waiting, theirs)


@pytest.mark.tinymail("35", "70")
def test_scan_now(office: Office) -> None:
    """Every due mail is hinted once, by app and priority, before its next look too and while scanning is stopped; the count is told."""
    scans.stop(office.engine, None)
    due = [office.emit(f"{number}@x") for number in range(3)]
    high = office.emit("h@x", priority=Priority.HIGH)
    now = office.row(due[0])["due_at"]
    office.emit("later@x", due_at=now.replace(year=now.year + 1))
    hints: list[Hint] = []
    told: list[int] = []
    found = scans.scan_now(office.engine, hints.extend, [APP], PATIENCE, told=told.append)
    assert (found, told) == (4, [4])
    assert {(one.priority, one.ids) for one in hints} == {
        (Priority.NORMAL, tuple(due)),
        (Priority.HIGH, (high,)),
    }
    assert scans.scan_now(office.engine, hints.extend, ["news"], PATIENCE) == 0


@pytest.mark.tinymail("33", "D18", "U6")
@pytest.mark.parametrize(
    ("due_in_s", "place"),
    [
        (-DAY_S - 1, "expired: max_next"),
        (-DAY_S + 60, "hinted"),
        (0, "hinted"),
        (60, "later"),
        (30 * DAY_S, "later"),
    ],
    ids=["overdue for too long", "just not", "now", "in a minute", "in a month"],
)
def test_the_edges_of_the_window(office: Office, due_in_s: float, place: str) -> None:
    """TinyMail's window reached from `max-next` back to `try-next` ahead. Here what is older ends visibly, what is due is hinted, and
    what comes later is hinted in time, whatever the interval: it is looked at when it is due.
    """
    mail_id = office.emit("a@x")
    office.let_pass(0.001)
    move(office, mail_id, due_in_s)
    office.reconciler().run_once()
    hinted = [one.mail_id for one in office.notices]
    if place == "later":
        assert (hinted, office.state(mail_id)) == ([], "queued")
        office.let_pass(due_in_s + 1)
        office.reconciler().run_once()
        assert [one.mail_id for one in office.notices] == [mail_id]
        assert office.state(mail_id) == "queued"
    elif place == "hinted":
        assert (hinted, office.state(mail_id)) == ([mail_id], "queued")
    else:
        assert (hinted, office.state(mail_id)) == ([], place)
        with read_only(office.engine) as connection:
            found = why(connection, mail_id)
        assert found is not None
        assert "overdue for too long" in found.sentence


def move(office: Office, mail_id: int, due_in_s: float) -> None:
    """Due in so many seconds, as if it had been written so."""
    by = timedelta(seconds=due_in_s)
    row = office.row(mail_id)
    mail = office.tables.mail
    with office.engine.begin() as connection:
        connection.execute(
            mail.update()
            .where(mail.c.id == mail_id)
            .values(
                due_at=row["due_at"] + by,
                wanted_at=row["wanted_at"] + by,
                look_at=row["due_at"] + by if due_in_s > 0 else row["look_at"],
            )
        )


@pytest.mark.tinymail("38")
def test_a_backlog_is_said_once(office: Office, caplog: pytest.LogCaptureFixture) -> None:
    """More than `warn_backlog` due mails are one warning, however many passes find them; half of it is the end of it."""
    caplog.set_level(logging.INFO)
    for number in range(4):
        office.emit(f"{number}@x")
    passes = office.reconciler(warn_backlog=3)
    passes.run_once()
    passes.run_once()
    office.deliver(*range(1, 3))  # two are left: not half of it yet
    passes.run_once()
    office.deliver(3)
    passes.run_once()
    passes.run_once()
    events = [(one.message, one.__dict__["mails"]) for one in caplog.records if "backlog" in one.message]
    assert events == [("backlog", 4), ("backlog_over", 1)]


@pytest.mark.tinymail("38")
def test_what_is_not_due_is_no_backlog(office: Office, caplog: pytest.LogCaptureFixture) -> None:
    """A thousand mails for tomorrow are nothing to warn of."""
    now = office.row(office.emit("a@x"))["due_at"]
    for number in range(5):
        office.emit(f"{number}@x", due_at=now.replace(year=now.year + 1))
    office.reconciler(warn_backlog=1).run_once()
    assert "backlog" not in caplog.messages
