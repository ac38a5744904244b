"""What operators do to mails, by number and by filter, in both databases."""

import pytest
from sqlalchemy import Engine

from mailfleet_schema.statements.operate import CANCEL, CONFIRM, RELEASE, RETRY
from mailfleet_schema.statements.recipient import IN_DOUBT, Recipient, put_recipients, recipients_of
from mailfleet_schema.states import ContentPolicy, Priority, State
from mailfleet_workers.operators.mails import (
    OPERATIONS,
    STRETCH,
    Done,
    Left,
    by_filter,
    by_ids,
    count,
)
from mailfleet_workers.views import Filter, search
from mailfleet_workers.views.detail import show_mail
from tests.conformance.statements.bench import Bench

ADA, BOB = "ada@example.net", "bob@example.net"


@pytest.fixture
def bench(engine: Engine) -> Bench:
    return Bench(engine)


def states(bench: Bench) -> list[str]:
    return [str(row.place) for _, row in sorted(bench.rows().items())]


@pytest.mark.tinymail("D35")
def test_by_number(bench: Bench) -> None:
    """Of whatever app; what is left says in which state it is, and one that is none says so."""
    mine, other, sent = bench.new(), bench.new(app="news", state=State.DRAFT), bench.sent().id
    done = by_ids(bench.engine, CANCEL, [other, mine, sent, 4711, mine], reason="not wanted")
    assert done == Done((other, mine), (Left(sent, "sent", None), Left(4711, None, None)))
    assert bench.row(mine).reason == "not wanted"
    assert states(bench) == ["cancelled", "cancelled", "sent"]
    assert done.as_json() == {
        "changed": [other, mine],
        "left": [
            {"id": sent, "state": "sent", "reason": None, "purged_at": None},
            {"id": 4711, "state": None, "reason": None, "purged_at": None},
        ],
    }


def test_a_mail_that_is_being_sent(bench: Bench) -> None:
    """What is only prepared is taken from its worker; what a server is being given is not."""
    prepared, dotted = bench.claimed().id, bench.dotted().id
    assert by_ids(bench.engine, CANCEL, [prepared, dotted]).changed == (prepared,)
    assert states(bench) == ["cancelled", "sending(dot)"]


def test_held_mail_is_released_or_confirmed(bench: Bench) -> None:
    """One is sent again, the other counts as sent."""
    one, two = bench.held().id, bench.held().id
    assert by_ids(bench.engine, RELEASE, [one]).changed == (one,)
    assert by_ids(bench.engine, CONFIRM, [two]).changed == (two,)
    assert states(bench) == ["queued", "sent"]


@pytest.mark.parametrize(
    ("rows", "state", "after"),
    [
        ({ADA: IN_DOUBT, BOB: None}, "queued", {ADA: "accepted", BOB: "open"}),
        ({ADA: IN_DOUBT, BOB: "4.2.0 later"}, "queued", {ADA: "accepted", BOB: "open"}),
        ({ADA: IN_DOUBT}, "sent", {ADA: "accepted"}),
        ({ADA: None, BOB: "4.2.0 later"}, "sent", {ADA: "open", BOB: "open"}),
    ],
    ids=["others had no turn", "others wait", "nobody else is open", "held for something else"],
)
def test_a_confirmed_mail_goes_on_for_those_who_were_not_in_doubt(
    bench: Bench, rows: dict[str, str | None], state: str, after: dict[str, str]
) -> None:
    """Somebody saw what one transaction brought: that says nothing of recipients who were not named in it."""
    held = bench.held(content_policy=ContentPolicy.PURGE).id
    with bench.engine.begin() as connection:
        put_recipients(connection, [Recipient(held, one, "open", text=text) for one, text in rows.items()])
    assert by_ids(bench.engine, CONFIRM, [held]).changed == (held,)
    with bench.engine.connect() as connection:
        assert {one.address: one.outcome for one in recipients_of(connection, [held])} == after
        shown = show_mail(connection, held)
    assert bench.row(held).state == state
    assert bench.row(held).sum_done == (1 if state == "sent" else 0)
    assert shown is not None
    assert shown.content is not None
    assert (shown.content.purged_at is None) is (state == "queued")


@pytest.mark.tinymail("D35")
@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (Filter(), {0, 1, 2, 3, 4}),
        (Filter(apps=("news",)), {1}),
        (Filter(states=(State.HELD,)), {4}),
        (Filter(priority="bulk"), {2}),
        (Filter(account="second"), {3}),
        (Filter(reason="doub"), {4}),
        (Filter(reason="d%b"), set()),
        (Filter(apps=("billing",), states=(State.QUEUED,)), {0, 2, 3}),
        (Filter(apps=("nobody",)), set()),
        (Filter(mark="campaign-7"), {1, 3}),
        (Filter(mark="campaign-7", apps=("news",)), {1}),
        (Filter(recipient="ADA@example.net", account="second"), {3}),
        (Filter(recipient="@example.org"), set()),
        (Filter(outcome="undone", states=(State.QUEUED,)), {0, 1, 2, 3}),
        (Filter(ref=("invoice", "17")), {2}),
    ],
    ids=str,
)
def test_by_filter(bench: Bench, wanted: Filter, found: set[int]) -> None:
    """Counted first, then done: the same mails."""
    ids = [
        bench.new(),
        bench.new(app="news", mark="campaign-7"),
        bench.new(priority=Priority.BULK, ref=("invoice", "17", None)),
        bench.new(account="second", mark="sale campaign-7"),
        bench.held().id,
    ]
    bench.sent(mark="campaign-7")
    assert count(bench.engine, CANCEL, wanted) == len(found)
    assert by_filter(bench.engine, CANCEL, wanted) == len(found)
    assert {ids.index(number) for number, row in bench.rows().items() if row.state == "cancelled"} == found
    assert by_filter(bench.engine, CANCEL, wanted) == count(bench.engine, CANCEL, wanted) == 0


def test_what_many_have(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where an index knows too many rows all pages are gone through, and nothing is left out."""
    monkeypatch.setattr(search, "FEW", 3)
    monkeypatch.setattr(search, "PAGE", 4)
    monkeypatch.setattr(search, "MOST_ROWS", 4)
    made = [bench.new(mark="all" if n % 2 else "few") for n in range(20)]
    assert count(bench.engine, CANCEL, Filter(mark="all")) == 10
    assert by_filter(bench.engine, CANCEL, Filter(mark="all", from_id=made[2])) == 9
    assert states(bench).count("cancelled") == 9


def test_a_range_of_numbers(bench: Bench) -> None:
    """From one on, up to another that is not included."""
    ids = [bench.new() for _ in range(4)]
    assert by_filter(bench.engine, CANCEL, Filter(from_id=ids[1], before_id=ids[3])) == 2
    assert states(bench) == ["queued", "cancelled", "cancelled", "queued"]


def test_many_are_done_in_stretches(bench: Bench) -> None:
    """Each in a transaction of its own; what comes meanwhile is not touched."""
    number = STRETCH + 3
    for _ in range(number):
        bench.new()
    told: list[int] = []

    def tell(changed: int) -> None:
        told.append(changed)
        bench.new()

    assert by_filter(bench.engine, CANCEL, Filter(), told=tell) == number
    assert told == [STRETCH, number]
    assert states(bench).count("queued") == 2


def test_requeued_mail_is_looked_at_soon(bench: Bench) -> None:
    """All its failures are allowed again, and a reconciler finds it."""
    mail_id = bench.failed(max_fail=1).id
    assert by_ids(bench.engine, RETRY, [mail_id]).changed == (mail_id,)
    assert bench.row(mail_id).sum_fail == 0
    assert [one.mail_id for one in bench.look()] == [mail_id]


def test_every_word_has_an_operation() -> None:
    """Two words do not mean the same."""
    assert len(set(OPERATIONS.values())) == len(OPERATIONS)
