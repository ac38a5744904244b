"""What the database says of the fleet: right in both dialects, by indexes, and never in the way."""

import socket
import threading
import time

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import Engine, make_url, text

from mailfleet_schema.dialects import POSTGRESQL, dialect_named
from mailfleet_schema.engine import open_engine
from mailfleet_schema.statements import gate, worker
from mailfleet_workers.telemetry.fleet_gauges import FleetGauges, FleetState, ask, statements
from tests.integration.schema.planned import fill_settled
from tests.waiting import wait_until


def put(engine: Engine, app: str, priority: str, state: str, overdue_s: int) -> None:
    d = dialect_named(engine.dialect.name)
    phase, owner = ("'dot'", "1") if state == "sending" else ("NULL", "NULL")
    sql = (
        "INSERT INTO {mail} (app, priority, state, phase, worker_id, due_at)"
        f" VALUES ('{app}', '{priority}', '{state}', {phase}, {owner}, {{due}})"
    )
    with engine.begin() as connection:
        connection.execute(text(d.format(sql, due=d.plus(d.now, str(-overdue_s)))))


def test_what_is_asked(engine: Engine) -> None:
    """Open mails by state, the oldest due one by priority, workers that are alive, gates that are closed."""
    for place in (
        ("billing", "high", "queued", 100),
        ("billing", "high", "queued", 50),
        ("billing", "bulk", "queued", -1000),
        ("billing", "bulk", "sending", 10),
        ("news", "normal", "doubt", 10),
        ("news", "normal", "held", 10),
        ("news", "normal", "sent", 10),
    ):
        put(engine, *place)
    with engine.begin() as connection:
        for _ in range(2):
            worker.register(connection, app="billing", host="h", pid=1, version="1")
        quiet = worker.register(connection, app="news", host="h", pid=1, version="1")
        d = dialect_named(engine.dialect.name)
        connection.execute(
            text(
                d.format(
                    "UPDATE {worker} SET heartbeat_at = {past} WHERE id = :id", past=d.plus(d.now, "-60")
                )
            ),
            {"id": quiet},
        )
        gate.close_gate(connection, scope="host", key="smtp.example.com", seconds=60, reason="x")
        gate.close_gate(connection, scope="account", key="default", seconds=-60, reason="x")
    state = ask(engine, quiet_s=30)
    assert state.open == {
        ("billing", "queued"): 3,
        ("billing", "sending"): 1,
        ("news", "doubt"): 1,
        ("news", "held"): 1,
    }
    assert set(state.oldest_due_s) == {("billing", "high")}
    assert state.oldest_due_s["billing", "high"] == pytest.approx(100, abs=20)
    assert (state.workers, state.gates) == ({"billing": 2}, {"host": 1})


def test_the_gauges(sqlite_engine: Engine) -> None:
    """They carry the documented names; what was there once is shown with 0 when it is gone."""
    now = [100.0]
    registry = CollectorRegistry()
    gauges = FleetGauges(sqlite_engine, keep_s=10, clock=lambda: now[0])
    registry.register(gauges)

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(name, labels)

    put(sqlite_engine, "billing", "high", "queued", 100)
    assert value("mailfleet_database_up") == 1
    assert value("mailfleet_open", app="billing", state="queued") == 1
    assert value("mailfleet_gates", scope="host") == 0
    oldest = value("mailfleet_oldest_due_seconds", app="billing", priority="high")
    assert oldest == pytest.approx(100, abs=20)
    with sqlite_engine.begin() as connection:
        connection.execute(text("DELETE FROM mailfleet_mail"))
    assert value("mailfleet_open", app="billing", state="queued") == 1, "ten seconds have not gone by"
    now[0] += 10.1
    assert value("mailfleet_open", app="billing", state="queued") == 0
    assert value("mailfleet_oldest_due_seconds", app="billing", priority="high") == 0


def test_the_cost_is_in_what_is_open(postgres_engine: Engine) -> None:
    """Among 200,000 rows every question about mail goes by its partial index."""
    fill_settled(postgres_engine)
    indexes = {"queued": "mail_look", "sending": "mail_held_by", "doubt": "mail_doubt", "held": "mail_held"}
    with postgres_engine.connect() as connection:
        for name, index in indexes.items():
            sql = statements(POSTGRESQL)[name]
            plan = "\n".join(row[0] for row in connection.execute(text(f"EXPLAIN {sql}")))
            assert f" {index}" in plan, plan
            assert "Seq Scan" not in plan, plan


def test_a_database_that_hangs_delays_one_scrape_a_little() -> None:
    """It takes connections and says nothing: the answer is that it is not up, and later scrapes do not wait."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        engine = open_engine(make_url(f"postgresql+psycopg://x@127.0.0.1:{port}/x"))
        registry = CollectorRegistry()
        registry.register(FleetGauges(engine, patience_s=0.2))
        took: list[float] = []
        for _ in range(6):
            started = time.monotonic()
            assert registry.get_sample_value("mailfleet_database_up") == 0
            took.append(time.monotonic() - started)
        first, *later = took
        assert first < 5.0
        # The quickest of them: a machine that is busy may keep any one of them waiting.
        assert min(later) < 0.15
        assert registry.get_sample_value("mailfleet_gates", {"scope": "host"}) is None
    # The server is gone, and so is the question's thread.
    wait_until(
        lambda: not any(thread.name == "mailfleet-gauges" for thread in threading.enumerate()),
        30,
        lambda: "the question still hangs",
    )
    engine.dispose()


def test_a_database_that_comes_back_is_found_at_once(sqlite_engine: Engine) -> None:
    """A failure is not kept for ten seconds."""
    gauges = FleetGauges(open_engine(make_url("postgresql+psycopg://x@127.0.0.1:1/x")))
    assert gauges.state() is None
    gauges._engine = sqlite_engine
    assert gauges.state() == FleetState(
        {}, {}, {}, dict.fromkeys(("account", "host", "recipient", "app", "all"), 0)
    )
