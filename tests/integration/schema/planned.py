"""200,000 rows to plan on, and every statement that sending and reconciling run, with parameters as in real use.

There are three kinds of table. `settled` was analysed as it is: most rows sent, 1 % queued, few being sent or in doubt.
`quiet` was analysed in a quiet hour, when all rows were sent; then 50,000 were queued, and nobody has analysed it since.
That is what a database looks like in the minute in which it matters. `new` has 10,000 rows and was never
analysed: a first day.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import Engine, TextClause, text

from mailfleet_schema.dialects import Dialect, dialect_named
from mailfleet_schema.statements import account, claim, operate, reconcile, sent, settle, waiting, worker
from mailfleet_schema.statements.claim import Return
from mailfleet_schema.statements.settle import Settlement
from mailfleet_schema.states import Phase, State

ROWS = 200_000
QUEUED_SINCE = 50_000
#: Rows in one chunk, and in one page of the reconciler.
CHUNK = 50
PAGE = 200

#: Every row is due, and looked at, 10 ms before the one in front of it; the numbers are the row's own.
_SETTLED = """
    SELECT 'app-' || ((n / 1000) % 4),
           CASE WHEN n % 100 = 0 THEN 'queued' WHEN n % 1000 = 1 THEN 'sending' WHEN n % 1000 = 2 THEN 'doubt'
                WHEN n % 200 = 3 THEN 'failed' ELSE 'sent' END,
           CASE WHEN n % 1000 = 1 THEN CASE WHEN n % 2000 = 1 THEN 'dot' ELSE 'prepare' END END,
           CASE WHEN n % 1000 = 1 THEN 1 + (n / 1000) % 16 END,
           {due}, {due}, {due}, 1
    FROM {series}
"""
_SENT = "SELECT 'app-' || ((n / 1000) % 4), 'sent', NULL, NULL, {due}, {due}, {due}, 1 FROM {series}"
_BACKLOG = """
    SELECT 'app-' || ((n / 1000) % 4),
           CASE WHEN n % 25 = 1 THEN 'sending' WHEN n % 100 = 2 THEN 'doubt' ELSE 'queued' END,
           CASE WHEN n % 25 = 1 THEN CASE WHEN n % 2 = 1 THEN 'dot' ELSE 'prepare' END END,
           CASE WHEN n % 25 = 1 THEN 1 + (n / 1000) % 16 END,
           {due}, {due}, {due}, 1
    FROM {series}
"""


def _insert(engine: Engine, query: str, rows: int) -> None:
    d = dialect_named(engine.dialect.name)
    if d.name == "postgresql":
        start, series = "", f"generate_series(1, {rows}) AS s(n)"
        phase, worker_id = "CAST({} AS text)", "CAST({} AS bigint)"
    else:
        start = f"WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < {rows})"
        series, phase, worker_id = "s", "{}", "{}"
    query = query.replace("NULL, NULL", f"{phase.format('NULL')}, {worker_id.format('NULL')}")
    filled = query.format(due=d.plus(d.now, "-n * 0.01"), series=series)
    columns = "app, state, phase, worker_id, due_at, look_at, wanted_at, fence"
    with engine.begin() as connection:
        connection.execute(text(f"{start} INSERT INTO {d.table('mail')} ({columns}) {filled}"))


def _analyse(engine: Engine) -> None:
    command = "VACUUM ANALYZE" if engine.dialect.name == "postgresql" else "ANALYZE"
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(command))


def fill_settled(engine: Engine) -> None:
    """200,000 rows, most of them sent, and statistics that know it."""
    _insert(engine, _SETTLED, ROWS)
    _analyse(engine)


def _never_analyse(engine: Engine) -> None:
    if engine.dialect.name == "postgresql":
        with engine.begin() as connection:
            connection.execute(text("ALTER TABLE mailfleet.mail SET (autovacuum_enabled = false)"))


def fill_new(engine: Engine) -> None:
    """10,000 rows and no statistics."""
    _never_analyse(engine)
    _insert(engine, _BACKLOG, 10_000)
    _insert(engine, "SELECT 'app-1', 'sent', NULL, NULL, {due}, {due}, {due}, 1 FROM {series}", CHUNK)


def fill_quiet(engine: Engine) -> None:
    """200,000 sent rows with their statistics, and 50,000 newer ones that these do not know."""
    _never_analyse(engine)
    _insert(engine, _SENT, ROWS)
    _analyse(engine)
    _insert(engine, _BACKLOG, QUEUED_SINCE)


#: Attempts of the last four weeks, one every 24 seconds; and how many of them are in one of their index's ranges.
ATTEMPTS = 100_000
ATTEMPTS_OF_A_RANGE = 20_000


def fill_attempts(engine: Engine) -> None:
    """Attempts in the order of their time, as they are written."""
    d = dialect_named(engine.dialect.name)
    if d.name == "postgresql":
        start, series = "", f"generate_series(1, {ATTEMPTS}) AS s(n)"
    else:
        start, series = (
            f"WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < {ATTEMPTS})",
            "s",
        )
    ended = d.plus(d.now, f"(n - {ATTEMPTS}) * 24.0")
    columns = "mail_id, fence, worker_id, account, host, phase, verdict, recipients, ended_at"
    values = f"n, 1, 1, 'default', 'mx.example.com', 'eod', 'ok', 1, {ended}"
    with engine.begin() as connection:
        connection.execute(
            text(f"{start} INSERT INTO {d.table('mail_attempt')} ({columns}) SELECT {values} FROM {series}")
        )
    _analyse(engine)


def attempts(engine: Engine) -> "Planned":
    """What a rule of a minute is told from the attempts; `most` is of their table."""
    d = dialect_named(engine.dialect.name)
    parameters = {"accounts": d.bind_names(["default"]), "host": None, "window_s": 60.0, "step_s": 1.0}
    return Planned("sent attempts", sent._attempts, parameters, ATTEMPTS_OF_A_RANGE)


@dataclass(frozen=True)
class Planned:
    """A statement as it is run. `most` is how many rows of `mail` it may visit, None when that is not bounded."""

    name: str
    statement: Callable[[Dialect], TextClause]
    parameters: Mapping[str, Any]
    most: int | None


def planned(engine: Engine) -> list[Planned]:
    """Every statement, on rows that are there."""
    d = dialect_named(engine.dialect.name)
    with engine.begin() as connection:

        def some(condition: str) -> list[int]:
            query = f"SELECT id FROM {d.table('mail')} WHERE {condition} ORDER BY id DESC LIMIT {CHUNK}"
            return list(connection.execute(text(query)).scalars())

        queued, prepare = some("app = 'app-1' AND state = 'queued'"), some("phase = 'prepare'")
        dot, doubt, through = some("phase = 'dot'"), some("state = 'doubt'"), some("state = 'sent'")
        worker.register(connection, app="app-1", host="here", pid=1, version="1")
        looks = (
            f"SELECT min(look_at), max(look_at) FROM (SELECT look_at FROM {d.table('mail')}"
            f" WHERE app = 'app-1' AND state = 'queued' ORDER BY look_at LIMIT {PAGE}) AS page"
        )
        first, last = (d.read_instant(one) for one in connection.execute(text(looks)).one())
    assert first is not None
    assert last is not None
    assert all(len(ids) == CHUNK for ids in (queued, prepare, dot, doubt, through))

    def pairs(ids: list[int]) -> str:
        return d.bind_rows([{"mail_id": mail_id, "fence": 1, "worker_id": None} for mail_id in ids])

    results = [Settlement(mail_id, 1, Phase.DOT, State.SENT, sends=1, dones=1) for mail_id in dot]
    late = [Settlement(mail_id, 1, Phase.DOT, State.SENT, sends=1, dones=1) for mail_id in doubt]
    returns = [Return(mail_id, 1) for mail_id in prepare]
    age = {"grace_s": 10.0, "max_age_s": 432_000.0}
    steps = {"step_s": 10.0, "most_step_s": 640.0, "max_next_s": 86_400.0, "max_age_s": 432_000.0}
    page, shared = {"app": "app-1", "most": PAGE}, {"most": PAGE}
    quiet = {"worker_ids": d.bind_ids([2, 5]), "most": PAGE, "settle_s": 600.0}
    app = {"apps": d.bind_names(["app-1"])}
    unknown = {
        "accounts": d.bind_names(["default"]),
        "unknown": "unknown account %",
        "broken": "broken account %",
        "most_s": 610.0,
    }
    gated = {
        "app": "app-1",
        "after": d.bind_instant(first - timedelta(seconds=1)),
        "upto": d.bind_instant(last),
        "reason": "wait(account): %",
        "limited": "limit: wait(account): %",
        "others": d.bind_names(["other"]),
        "account": "default",
        "heard_s": waiting.GATE_HEARD_S,
    }
    accounts = {"accounts": d.bind_names(["default"])}
    domain = '%@example.net"%'
    # The page is read once to choose it and once to change it.
    chunk, twice, pages = CHUNK, 2 * CHUNK, 2 * PAGE
    return [
        Planned(
            "claim",
            claim._claim,
            {"ids": d.bind_ids(queued), "app": "app-1", "worker_id": 1, "room": CHUNK},
            twice,
        ),
        Planned(
            "claim_shared",
            claim._claim_shared,
            {
                "ids": d.bind_ids(queued),
                "apps": d.bind_names(["app-2"]),
                "shares": True,
                "unknown": d.bind_names([]),
                "worker_id": 1,
                "room": CHUNK,
            },
            twice,
        ),
        Planned("shared_of", claim._shared_of, {"ids": d.bind_ids(queued)}, chunk),
        Planned(
            "give_back",
            claim._give_back,
            {"rows": d.bind_rows(returns), "max_interruptions": 3, "worker_id": None, **age},
            chunk,
        ),
        Planned(
            "hold_poison",
            claim._hold_poison,
            {"ids": d.bind_ids(prepare), "worker_id": 1, "max_interruptions": 3},
            chunk,
        ),
        Planned("held_by", claim._held_by, {"worker_ids": d.bind_ids([2, 5]), "most": PAGE}, None),
        Planned("record", settle._record, {"rows": pairs(prepare), "expiring": True}, chunk),
        Planned("record one", settle._record, {"rows": pairs(prepare[:1]), "expiring": True}, 1),
        Planned("record expired", settle._expire, {"rows": pairs(prepare)}, chunk),
        Planned("settle", settle._settle, {"rows": d.bind_rows(results), **age}, chunk),
        Planned("settle one", settle._settle, {"rows": d.bind_rows(results[:1]), **age}, 1),
        Planned("accept_late", settle._accept_late, {"rows": d.bind_rows(late), **age}, chunk),
        Planned(
            "expire",
            reconcile._expire,
            {**page, "max_next_s": 86_400.0, "max_age_s": 432_000.0, "gone_only": False},
            pages,
        ),
        Planned("look", reconcile._look, {**page, **steps}, pages),
        Planned("due", reconcile._due, {"app": "app-1", "judged": PAGE}, PAGE),
        Planned("look_now", reconcile._look_now, {**page, "beyond_s": 0.0}, None),
        Planned("look_shared", reconcile._look_shared, {**shared, **steps}, pages),
        Planned("look_now_shared", reconcile._look_now_shared, {**shared, "beyond_s": 0.0}, None),
        Planned(
            "expire_shared",
            reconcile._expire_shared,
            {**shared, "max_next_s": 86_400.0, "max_age_s": 432_000.0, "gone_only": False},
            pages,
        ),
        Planned("holders_of_shared", reconcile._holders, {}, None),
        Planned("account_known", account._account_known, {"app": "app-1", **unknown}, None),
        Planned("next app", waiting._next_app, {"after": ""}, 1),
        Planned("account_queued", waiting._account_queued, {"app": "app-1", "account": "x"}, None),
        Planned(
            "stretch",
            waiting._stretch,
            {"app": "app-1", "after": gated["after"], "most": PAGE},
            PAGE,
        ),
        Planned("come_back", waiting._come_back, {**gated, "domain": None}, pages),
        Planned("come_back of a domain", waiting._come_back, {**gated, "domain": domain}, pages),
        Planned("sent unknown", sent._unknown, {**accounts, "window_s": 86_400.0}, None),
        Planned("settle_doubts", reconcile._settle_doubts, page, pages),
        Planned("settle_shared_doubts", reconcile._settle_shared_doubts, shared, pages),
        Planned("take_back", reconcile._take_back, quiet, None),
        Planned("ownerless", reconcile._ownerless, {}, None),
        Planned("retire", worker._retire, {"id": 2}, 1),
        *(
            Planned(
                operation.name,
                operate._STATEMENTS[operation],
                {"ids": d.bind_ids(through), "reason": None, **app},
                chunk,
            )
            for operation in operate.OPERATIONS
        ),
    ]
