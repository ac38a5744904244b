"""Mail that others than its app's workers may send: who may claim it, and who looks after it."""

from datetime import timedelta

import pytest
from sqlalchemy import text, update
from sqlalchemy.exc import IntegrityError

from mailfleet_schema.senders import ANY, Apps
from mailfleet_schema.statements import claim, reconcile, worker
from mailfleet_schema.statements.again import send_again
from mailfleet_schema.statements.claim import Claimed
from mailfleet_schema.states import OnDoubt, Phase, State
from tests.conformance.statements.bench import APP, OTHER_WORKER, PATIENCE, WORKER, Bench

EVERYBODY = (ANY,)
DAY_S = 86_400.0


def take(
    bench: Bench,
    *ids: int,
    apps: tuple[str, ...] = ("crm",),
    shares: bool = False,
    unknown: tuple[tuple[str, str], ...] = (),
    worker_id: int = OTHER_WORKER,
    room: int = 50,
) -> list[Claimed]:
    """Claim *ids* as a worker of *apps*."""
    with bench.engine.begin() as connection:
        return claim.claim_shared(
            connection, ids=ids, apps=apps, shares=shares, worker_id=worker_id, room=room, unknown=unknown
        )


@pytest.mark.tinymail("14", "D24")
@pytest.mark.parametrize(
    ("allowed", "as_own", "by_crm", "by_sharing"),
    [
        (None, True, False, False),
        ((APP,), True, False, False),
        (("crm",), False, True, False),
        (("news", "crm"), False, True, False),
        ((APP, "crm"), True, True, False),
        (("crm-2",), False, False, False),
        (("rm",), False, False, False),
        (EVERYBODY, True, False, True),
    ],
    ids=["nobody else", "itself", "crm", "a list", "itself and crm", "a longer name", "a shorter", "all"],
)
def test_who_may(bench: Bench, allowed: Apps, as_own: bool, by_crm: bool, by_sharing: bool) -> None:
    """The app's own workers, those whose app a list names, and those that share take what is theirs, and nobody else."""
    first, second, third = (bench.new(apps=allowed) for _ in range(3))
    assert bool(bench.claim([first])) is as_own
    assert bool(take(bench, second)) is by_crm
    assert bool(take(bench, third, apps=("other",), shares=True)) is by_sharing


@pytest.mark.tinymail("14")
def test_it_stays_its_apps(bench: Bench) -> None:
    """Whoever claims it, its app and account are the ones it was written with; the claim says who else may."""
    mail_id = bench.new(apps=("news", "crm"), account="bulk")
    (row,) = take(bench, mail_id)
    assert (row.app, row.account, row.apps, row.fence) == (APP, "bulk", ("news", "crm"), 1)
    assert bench.row(mail_id).worker_id == OTHER_WORKER


def test_an_own_app_takes_what_is_for_everybody(bench: Bench) -> None:
    """Of mail for everybody a worker that does not share takes that of its own apps."""
    mine, theirs = bench.new(apps=EVERYBODY), bench.new(app="news", apps=EVERYBODY)
    assert {row.id for row in take(bench, mine, theirs, apps=("crm", APP))} == {mine}
    assert {row.id for row in take(bench, mine, theirs, shares=True)} == {theirs}


def test_app_shared_is_everybodys(bench: Bench) -> None:
    """Mail of the app `shared` is for those that share too: its hints come in their queue."""
    mail_id = bench.new(app="shared")
    assert take(bench, mail_id) == []
    assert [row.id for row in take(bench, mail_id, shares=True)] == [mail_id]


@pytest.mark.tinymail("13", "16", "D5", "M5")
def test_only_what_may_be_claimed(bench: Bench) -> None:
    """A shared claim has every guard of a claim: state, time, expiry, room, a worker that is there."""
    ids = [bench.new(apps=EVERYBODY) for _ in range(7)]
    bench.shift(ids[0], 60, "due_at")
    past, mail = bench.row(ids[1]).due_at - timedelta(seconds=5), bench.tables.mail
    with bench.engine.begin() as connection:
        connection.execute(update(mail).where(mail.c.id == ids[1]).values(expires_at=past))
    bench.claim([ids[2]])
    assert take(bench, *ids, shares=True, worker_id=99) == []
    assert len(take(bench, *ids, shares=True, room=2)) == 2
    assert {row.id for row in take(bench, *ids, shares=True)} <= set(ids[3:])
    assert take(bench, *ids, shares=True) == []


def test_unknown_accounts_are_left_to_others(bench: Bench) -> None:
    """Mail of an account that a worker does not know stays where it is; that of another app's account of that name does not."""
    theirs, others = bench.new(apps=EVERYBODY), bench.new(app="news", apps=EVERYBODY)
    unknown = ((APP, "default"),)
    assert {row.id for row in take(bench, theirs, others, shares=True, unknown=unknown)} == {others}
    assert bench.row(theirs).state == "queued"


def test_it_may_be_said_whose_it_still_is(bench: Bench) -> None:
    """Those of a hint that are due, queued and shared are told, with who may send them."""
    plain, listed, everybody, gone = (
        bench.new(),
        bench.new(apps=("crm",)),
        bench.new(apps=EVERYBODY),
        bench.new(apps=EVERYBODY),
    )
    take(bench, gone, shares=True)
    with bench.engine.begin() as connection:
        found = claim.shared_of(connection, [plain, listed, everybody, gone])
    assert {row.id: row.apps for row in found} == {listed: ("crm",), everybody: EVERYBODY}


@pytest.mark.tinymail("14")
def test_every_reconciler_looks(bench: Bench) -> None:
    """A reconciler of any app looks at shared mail, once for all: the next look is pushed out for everybody."""
    shared, plain = bench.new(apps=("crm",)), bench.new()
    for mail_id in (shared, plain):
        bench.shift(mail_id, -60, "look_at")
    with bench.engine.begin() as connection:
        (row,) = reconcile.look(connection, ["other"], PATIENCE, most=9, shared=True)
        assert (row.mail_id, row.app, row.apps, row.looks) == (shared, APP, ("crm",), 0)
        assert reconcile.look(connection, ["other"], PATIENCE, most=9, shared=True) == []
    assert [row.mail_id for row in bench.look()] == [plain]


def test_its_own_apps_reconciler_says_who_may(bench: Bench) -> None:
    """A look at an app's mail tells of shared mail who may send it, as the look at all shared mail does."""
    mail_id = bench.new(apps=EVERYBODY)
    bench.shift(mail_id, -60, "look_at")
    (row,) = bench.look()
    assert (row.mail_id, row.apps) == (mail_id, EVERYBODY)


@pytest.mark.tinymail("13")
def test_what_nobody_may_send_expires(bench: Bench) -> None:
    """Mail for an app that is not there expires with a reason, by any app's reconciler; other apps' plain mail does not."""
    lost, plain = bench.new(apps=("gone",)), bench.new()
    for mail_id in (lost, plain):
        bench.shift(mail_id, -2 * DAY_S, "due_at", "look_at")
    with bench.engine.begin() as connection:
        assert reconcile.expire(connection, ["other"], PATIENCE, most=9, shared=True) == {lost}
    assert (bench.row(lost).state, bench.row(lost).reason) == ("expired", "max_next")


def test_lost_hints_of_shared_mail(bench: Bench) -> None:
    """After a broker loss a process of any app brings shared mail back."""
    mail_id = bench.new(apps=EVERYBODY)
    bench.shift(mail_id, 300, "look_at")
    with bench.engine.begin() as connection:
        assert reconcile.look_now(connection, [], beyond_s=10.0, most=9, shared=True) == 1
        assert reconcile.look_now(connection, [], beyond_s=10.0, most=9, shared=True) == 0


@pytest.mark.parametrize(
    ("policy", "state"), [(OnDoubt.RESEND_ONCE, "queued"), (OnDoubt.HOLD, "held")], ids=str
)
def test_doubts_of_shared_mail(bench: Bench, policy: OnDoubt, state: str) -> None:
    """A doubt that a shared mail came into is settled by its policy, by any app's reconciler."""
    (row,) = take(bench, bench.new(apps=EVERYBODY, on_doubt=policy), shares=True)
    bench.record(row)
    bench.settle(row, State.DOUBT, look_in_s=0.0)
    with bench.engine.begin() as connection:
        assert reconcile.settle_doubts(connection, ["other"], most=9).queued == set()
        reconcile.settle_doubts(connection, ["other"], most=9, shared=True)
    assert bench.row(row.id).state == state


@pytest.mark.parametrize(
    ("phase", "state"), [(Phase.PREPARE, "queued"), (Phase.DOT, "doubt")], ids=["prepare", "dot"]
)
def test_it_comes_back_from_a_dead_worker(bench: Bench, phase: Phase, state: str) -> None:
    """Whoever holds shared mail is found by its row, and what it held comes back to all that may send it."""
    with bench.engine.begin() as connection:
        dead = worker.register(connection, app="crm", host="there", pid=1, version="1")
        connection.execute(
            update(bench.tables.worker)
            .where(bench.tables.worker.c.id == dead)
            .values(heartbeat_at=bench.tables.worker.c.started_at)
        )
    (row,) = take(bench, bench.new(apps=EVERYBODY), shares=True, worker_id=dead)
    if phase is Phase.DOT:
        bench.record(row)
    plain = bench.claimed()
    with bench.engine.begin() as connection:
        holders = reconcile.holders_of_shared(connection)
        assert holders == {dead}
        assert {one.id for one in worker.workers_of(connection, ["other"], holders)} == {dead}
    bench.take_back(dead)
    assert bench.row(row.id).state == state
    assert bench.row(plain.id).state == "sending"


@pytest.mark.tinymail("16", "M4")
def test_one_of_many_gets_it(bench: Bench) -> None:
    """A second claim of a row finds nothing; what the first has settled counts."""
    (row,) = take(bench, bench.new(apps=(APP, "crm")))
    assert bench.claim([row.id], worker_id=WORKER) == []
    bench.record(row)
    assert bench.settle(row, State.SENT, sends=1, dones=1) == {row.id}


def test_asked_again_it_says_who_may(bench: Bench) -> None:
    """A mail that is queued by its id is hinted to those who may send it."""
    mail_id = bench.new(apps=("crm",), state=State.DRAFT)
    with bench.engine.begin() as connection:
        found = send_again(connection, [mail_id], app=APP, at_once=True)
    assert getattr(found[mail_id], "apps", None) == ("crm",)


def test_workers_say_that_they_share(bench: Bench) -> None:
    """A worker's row says whose mail it takes beside its own, and whether it shares; sharing is no app."""
    with bench.engine.begin() as connection:
        made = worker.register(
            connection, app="crm", host="x", pid=1, version="1", also=("news",), shares=True
        )
        (found,) = [one for one in worker.all_workers(connection) if one.id == made]
    assert (found.also, found.shares) == (("news",), True)


@pytest.mark.parametrize(
    "setting", ["pool = 'other'", "only_apps = ' crm '"], ids=["another pool", "a list without a pool"]
)
def test_what_means_nothing_is_refused(bench: Bench, setting: str) -> None:
    """A row of other producers that says neither is not taken by the database."""
    mail_id = bench.new()
    statement = text(bench.dialect.format(f"UPDATE {{mail}} SET {setting} WHERE id = {mail_id}"))
    with bench.engine.begin() as connection, pytest.raises(IntegrityError):
        connection.execute(statement)
