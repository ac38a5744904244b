"""What a person says of a database that is elsewhere: it was moved, or it is a copy; in both databases."""

from collections import Counter

import pytest
from sqlalchemy import Engine, select

from mailfleet_schema.engine import read_only
from mailfleet_schema.statements.home import home_recorded
from mailfleet_schema.statements.instance import instance_id
from mailfleet_schema.statements.operate import RELEASE
from mailfleet_schema.statements.webhook import register_endpoints
from mailfleet_schema.statements.worker import all_workers, beat
from mailfleet_schema.states import State
from mailfleet_schema.webhook import Endpoint
from mailfleet_workers.clone_guard import CloneGuard, Elsewhere
from mailfleet_workers.operators import copies
from mailfleet_workers.operators.copies import Confirmed, Found, OpenMail, Refused
from mailfleet_workers.operators.mails import by_filter
from mailfleet_workers.views.filter import Filter
from tests.conformance.statements.bench import Bench

FIRST = "system=1 database=2 table=3"


@pytest.fixture
def bench(engine: Engine) -> Bench:
    """A copy: one mail in every place but `sending(prepare)` and `sending(dot)`, where there are two; its workers are not heard of."""
    one = Bench(engine)
    one.new(state=State.DRAFT)
    for _ in range(2):
        one.new()
        one.claimed()
        one.dotted()
    one.held()
    one.doubted()
    one.sent()
    one.failed()
    with engine.begin() as connection:
        instance, worker, event = one.tables.instance, one.tables.worker, one.tables.webhook_event
        connection.execute(instance.update().values(home=FIRST))
        first = connection.execute(select(worker.c.heartbeat_at)).scalars().first()
        assert first is not None
        connection.execute(worker.update().values(heartbeat_at=first.replace(year=first.year - 1)))
        for number, state in enumerate(("open", "open", "delivered")):
            connection.execute(
                event.insert().values(
                    event_id=str(number),
                    endpoint="x",
                    app="billing",
                    mail_id=1,
                    type="sent",
                    payload={},
                    state=state,
                )
            )
    return one


def find(engine: Engine, installation: str | None = None) -> Found:
    with read_only(engine) as connection:
        return copies.find(connection, installation=installation, quiet_s=30.0)


def places(bench: Bench) -> Counter[str]:
    return Counter(str(row.place) for row in bench.rows().values())


def events(bench: Bench) -> Counter[str]:
    with read_only(bench.engine) as connection:
        return Counter(connection.execute(select(bench.tables.webhook_event.c.state)).scalars())


def copied(bench: Bench, open_mail: OpenMail) -> Confirmed | Refused:
    return copies.copied(
        bench.engine, find(bench.engine), new_instance="new", open_mail=open_mail, quiet_s=30.0
    )


def enter(engine: Engine) -> str:
    with engine.begin() as connection:
        return CloneGuard().enter(connection)


def test_what_is_found(bench: Bench) -> None:
    """Where it stood, where it stands, and how much open mail it has."""
    found = find(bench.engine)
    assert (found.recorded, found.elsewhere, found.alive) == (FIRST, True, 0)
    assert (found.queued, found.due, found.sending, found.doubt, found.held) == (2, 2, 4, 1, 1)


def test_moved(bench: Bench) -> None:
    """It keeps its id, so that its journals are read, and every row is as it was; workers begin."""
    before, found = bench.rows(), find(bench.engine)
    assert copies.moved(bench.engine, found, quiet_s=30.0) == Confirmed(found.instance)
    assert {one: row.columns for one, row in bench.rows().items()} == {
        one: row.columns for one, row in before.items()
    }
    assert enter(bench.engine) == found.instance
    assert (events(bench), find(bench.engine).elsewhere) == (Counter(open=2, delivered=1), False)


@pytest.mark.parametrize(
    ("open_mail", "done", "after", "told"),
    [
        (
            OpenMail.KEEP,
            Confirmed("new"),
            {"queued": 2, "sending(prepare)": 2, "sending(dot)": 2, "doubt": 1, "held": 1},
            {"open": 2, "delivered": 1},
        ),
        (OpenMail.HOLD, Confirmed("new", held=7, events=2), {"held": 8}, {"given_up": 2, "delivered": 1}),
        (
            OpenMail.CANCEL,
            Confirmed("new", cancelled=8, events=2),
            {"cancelled": 8},
            {"given_up": 2, "delivered": 1},
        ),
    ],
    ids=["keep", "hold", "cancel"],
)
def test_a_copy(
    bench: Bench, open_mail: OpenMail, done: Confirmed, after: dict[str, int], told: dict[str, int]
) -> None:
    """It is another database from now on; what is through and drafts stay, open mail becomes what was said."""
    assert copied(bench, open_mail) == done
    assert places(bench) == Counter({"draft": 1, "sent": 1, "failed": 1} | after)
    assert events(bench) == Counter(told)
    assert enter(bench.engine) == "new"
    with read_only(bench.engine) as connection:
        assert bool(all_workers(connection)) is (open_mail is OpenMail.KEEP)


@pytest.mark.parametrize("open_mail", [OpenMail.HOLD, OpenMail.CANCEL])
def test_endpoints_of_the_original(bench: Bench, open_mail: OpenMail) -> None:
    """They hear nothing of what a copy makes of its mails: not of those changes either."""
    with bench.engine.begin() as connection:
        register_endpoints(connection, [Endpoint("shop", events=frozenset({"held", "cancelled"}))])
    copied(bench, open_mail)
    assert events(bench)["open"] == 0


def test_what_was_held_can_be_released(bench: Bench) -> None:
    """A person may want it sent from the copy after all: it is due now, and nobody's claim."""
    copied(bench, OpenMail.HOLD)
    assert by_filter(bench.engine, RELEASE, Filter(reason="copied database")) == 7
    assert places(bench)["queued"] == 7


def test_a_confirmation_that_broke_off(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed in the middle, no worker begins; repeated, it goes on to its end."""

    def killed(*_: object, **__: object) -> int:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(copies, "by_filter", killed)
        with pytest.raises(KeyboardInterrupt):
            copied(bench, OpenMail.HOLD)
    with pytest.raises(Elsewhere):
        enter(bench.engine)
    assert copied(bench, OpenMail.HOLD) == Confirmed("new", held=7, events=2)
    assert enter(bench.engine) == "new"


@pytest.mark.parametrize("operation", ["moved", "copied"])
def test_workers_are_at_work(bench: Bench, operation: str) -> None:
    """A database that workers send from is neither moved nor a copy, whatever somebody's settings say."""
    with bench.engine.begin() as connection:
        connection.execute(bench.tables.instance.update().values(home=None))
    enter(bench.engine)
    found = find(bench.engine, "staging")
    assert found.elsewhere
    with bench.engine.begin() as connection:
        worker = bench.tables.worker
        assert beat(connection, connection.execute(select(worker.c.id)).scalars().first() or 0)
    before = bench.rows()
    if operation == "moved":
        done = copies.moved(bench.engine, found, quiet_s=30.0)
    else:
        done = copies.copied(bench.engine, found, new_instance="new", open_mail=OpenMail.CANCEL, quiet_s=30.0)
    assert isinstance(done, Refused)
    assert "stop them first" in done.reason
    assert [row.columns for row in bench.rows().values()] == [row.columns for row in before.values()]
    assert enter(bench.engine) == found.instance


def test_two_people_at_once(bench: Bench) -> None:
    """Who was slower changes nothing."""
    found = find(bench.engine)
    assert copies.moved(bench.engine, found, quiet_s=30.0) == Confirmed(found.instance)
    late = copies.copied(bench.engine, found, new_instance="x", open_mail=OpenMail.HOLD, quiet_s=30.0)
    assert late == Refused("it was changed meanwhile; look again")
    assert places(bench)["queued"] == 2


def test_a_database_that_nobody_has_used(engine: Engine) -> None:
    """There is nothing to confirm."""
    found = find(engine)
    assert (found.recorded, found.elsewhere) == (None, False)
    assert isinstance(copies.moved(engine, found, quiet_s=30.0), Refused)
    with read_only(engine) as connection:
        assert (home_recorded(connection), instance_id(connection)) == (None, found.instance)
