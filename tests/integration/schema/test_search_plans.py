"""Among 120,000 mails every statement of a search goes by an index, and visits a page of rows at most.

Run with `-s` to see the times.
"""

from collections.abc import Iterator
from typing import Any

import pytest
from psycopg import sql
from sqlalchemy import Engine, event, make_url

from mailfleet_schema.engine import open_engine
from mailfleet_schema.statements.operate import CANCEL
from mailfleet_schema.states import State
from mailfleet_workers.operators.mails import count
from mailfleet_workers.views import Filter, page_of_mails, search_mails
from mailfleet_workers.views.search import FEW, PAGE
from tests.fix_postgres import execute
from tests.fix_schema import copy_of_template
from tests.services.base import PostgresServer

ROWS = 120_000
#: Two tables, a page of each, and the row that shows that there are more.
MOST = 2 * max(FEW, PAGE) + 2

_FILL = (
    """
    INSERT INTO mailfleet.mail (app, account, state, sum_send, sum_done, sum_fail)
    SELECT 'app-' || n % 4, 'default', CASE WHEN n % 1000 = 0 THEN 'failed' WHEN n % 500 = 1 THEN 'queued' ELSE 'sent' END,
           1, CASE WHEN n % 500 < 2 THEN 0 ELSE 1 END, CASE WHEN n % 1000 = 0 THEN 3 ELSE 0 END
    FROM generate_series(1, {rows}) AS s (n)
    """,
    """
    INSERT INTO mailfleet.mail_content (mail_id, message_id, sender, "to", subject, text, mark, ref_type, ref_key1)
    SELECT n, '<' || n || '@example.net>',
           CASE WHEN n % 3 = 0 THEN jsonb_build_object('name', '', 'address', 'sender' || n % 7 || '@example.com') END,
           jsonb_build_array(jsonb_build_object('name', 'Ada', 'address', 'user' || n || '@' ||
               CASE WHEN n % 4 = 0 THEN 'example.org' ELSE 'example.net' END)),
           'Invoice number ' || n, repeat('x', 300), 'campaign-' || n / 1000 || ' all', 'invoice', n
    FROM generate_series(1, {rows}) AS s (n)
    """,
)


def _fill(engine: Engine, analysed: bool) -> None:
    with engine.begin() as connection:
        for table in ("mail", "mail_content"):
            connection.exec_driver_sql(f"ALTER TABLE mailfleet.{table} SET (autovacuum_enabled = false)")
        for statement in _FILL:
            connection.exec_driver_sql(statement.format(rows=ROWS).replace("%", "%%"))
    if analysed:
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("VACUUM ANALYZE")


@pytest.fixture(scope="module", params=[True, False], ids=["analysed", "never analysed"])
def filled(
    request: pytest.FixtureRequest, postgres_server: PostgresServer, postgres_template: str
) -> Iterator[Engine]:
    name = copy_of_template(postgres_server, postgres_template)
    engine = open_engine(make_url(postgres_server.url(name)))
    _fill(engine, request.param)
    yield engine
    engine.dispose()
    execute(postgres_server, sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def _nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for child in node.get("Plans", []):
        yield from _nodes(child)


def _visited(node: dict[str, Any]) -> int:
    removed = ("Rows Removed by Filter", "Rows Removed by Index Recheck")
    rows: int = node["Actual Rows"] + sum(node.get(name, 0) for name in removed)
    loops: int = node["Actual Loops"]
    return rows * loops


WANTED = {
    "all": Filter(),
    "a mark": Filter(mark="campaign-17"),
    "a word and a mark": Filter(mark="campaign-17", subject="17042"),
    "the mark of all": Filter(mark="all"),
    "the beginning of all marks": Filter(mark="campaign-*"),
    "a phrase of all": Filter(subject='"invoice number"', apps=("app-1",)),
    "a recipient": Filter(recipient="user4711@example.net"),
    "nobody": Filter(recipient="nobody@example.net"),
    "a large domain": Filter(recipient="@example.net"),
    "a domain that nobody has": Filter(recipient="@example.edu"),
    "a sender": Filter(sender="sender3@example.com"),
    "an account's sender": Filter(sender="sender3@example.com", sender_accounts=("default",)),
    "a subject": Filter(subject="invoice 4711"),
    "a reference": Filter(ref=("invoice", "4711")),
    "a type of reference": Filter(ref=("invoice",)),
    "failed": Filter(outcome="failed"),
    "undone of an app": Filter(outcome="undone", apps=("app-1",), states=(State.QUEUED,)),
    "an app that is none": Filter(apps=("nobody",)),
}


@pytest.mark.tinymail("59", "60", "61", "62", "63", "64", "65", "D33")
@pytest.mark.parametrize("name", WANTED)
def test_searches_go_by_indexes(filled: Engine, name: str) -> None:
    """Whatever is searched, however often it is there, in a list, a sorted page and a bulk operation."""
    asked: list[tuple[str, Any, Any]] = []
    bounds: list[Any] = [None]

    @event.listens_for(filled, "before_cursor_execute")
    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_more: Any) -> None:
        if "set_config" in statement:
            bounds.append((statement, parameters))
        elif "mailfleet.mail" in statement and statement.lstrip().startswith("SELECT"):
            asked.append((statement, parameters, bounds[-1]))

    @event.listens_for(filled, "rollback_savepoint")
    def end(*_arguments: Any) -> None:
        bounds.pop()

    wanted = WANTED[name]
    with filled.connect() as connection:
        listed = search_mails(connection, wanted)
        page_of_mails(connection, wanted, sort="-done,due")
        assert listed.bound is None
    if wanted.states or wanted.mark:
        count(filled, CANCEL, wanted)
    event.remove(filled, "before_cursor_execute", note)
    event.remove(filled, "rollback_savepoint", end)

    wrong, seen, spent = [], set(), 0.0
    times: dict[str, int] = {}
    for statement, parameters, bound in asked:
        times[statement] = times.get(statement, 0) + 1
        if times[statement] > 3:  # pages are alike
            continue
        with filled.connect() as connection:
            if bound is not None:
                connection.exec_driver_sql(*bound)
            explain = f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}"
            [[plan]] = connection.exec_driver_sql(explain, parameters).scalars()
        scans = [
            node for node in _nodes(plan["Plan"]) if node.get("Relation Name") in {"mail", "mail_content"}
        ]
        visited = sum(_visited(scan) for scan in scans)
        seen |= {node.get("Index Name") for node in _nodes(plan["Plan"])}
        spent += plan["Execution Time"]
        if "Seq Scan" in {scan["Node Type"] for scan in scans} or visited > MOST:
            wrong.append((visited, statement))
    print(f"{name}: {len(asked)} statements, {spent:.1f} ms, {sorted(filter(None, seen))}")
    assert wrong == []
    if wanted.mark or wanted.recipient:
        assert "mail_content_search" in seen
