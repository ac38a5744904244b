"""A copy of a database sends nothing, changes nothing, and says so; the database itself is never taken for one."""

import logging
import random
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import Engine, make_url, select, text

from mailfleet_schema.dialects import dialect_named
from mailfleet_schema.engine import open_engine, read_only
from mailfleet_schema.statements.home import home_now, home_recorded
from mailfleet_schema.tables import tables_of
from mailfleet_workers.clone_guard import CloneGuard, Elsewhere
from mailfleet_workers.embedded import Embedded
from mailfleet_workers.fleet.undertaker import Undertaker
from mailfleet_workers.limits.unlimited import UnlimitedLimiter
from mailfleet_workers.plan import PoolPlan
from mailfleet_workers.pool import Pool
from mailfleet_workers.pulse import Pulse
from mailfleet_workers.settings import Settings
from mailfleet_workers.smtp.pool import ConnectionPool
from tests.fix_postgres import execute
from tests.integration.workers.copies import WAYS, copied, copy_by_template
from tests.integration.workers.office import APP, PATIENCE, POLICY, RULES, Office
from tests.integration.workers.test_foreign_journal import claimed, killed
from tests.services.base import PostgresServer
from tests.services.locate import find_postgres
from tests.services.postgres import PrivatePostgres
from tests.services.standby import PrivateStandby


def everything(engine: Engine) -> list[object]:
    """All rows of all tables that workers write."""
    tables = tables_of(dialect_named(engine.dialect.name))
    with read_only(engine) as connection:
        return [
            [tuple(row) for row in connection.execute(select(table).order_by(*table.primary_key))]
            for table in (tables.mail, tables.worker, tables.mail_attempt, tables.instance, tables.gate)
        ]


def enter(engine: Engine, installation: str | None = None) -> str:
    with engine.begin() as connection:
        return CloneGuard(installation).enter(connection)


def pool(office: Office, engine: Engine, directory: Path) -> Pool:
    plan = PoolPlan(
        app=APP, threads=1, heap_rows=10, journal_dir=directory, patience=PATIENCE, policy=POLICY, drain_s=1.0
    )
    return Pool(
        plan,
        engine,
        limiter=UnlimitedLimiter(time.monotonic),
        connections=ConnectionPool(office.server.transport, time.monotonic),
        rules=RULES,
        way=office.way,
        notify=office.notices.extend,
        rng=random.Random(1),
    )


def test_the_first_of_many_records_where_it_stands(engine: Engine) -> None:
    """Twenty workers begin at once in a new database: one home is recorded, and all of them are at home."""
    with ThreadPoolExecutor(20) as threads:
        assert len(set(threads.map(lambda _: enter(engine), range(20)))) == 1
    with read_only(engine) as connection:
        assert home_recorded(connection) == str(home_now(connection))


@pytest.mark.parametrize("way", WAYS)
def test_a_copy_sends_nothing(way: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """However it was made: no worker begins in it, no row of it changes, and the original goes on."""
    with copied(way, request) as (engine, copy):
        office = Office(engine, tmp_path)
        mail_id = office.emit("a@x")
        enter(engine)
        with copy() as clone:
            before = everything(clone)
            with pytest.raises(Elsewhere, match="mailfleet db confirm"):
                pool(office, clone, tmp_path / "clone").start()
            assert everything(clone) == before
        enter(engine)
        office.deliver(mail_id)
        assert office.state(mail_id) == "sent"
        office.nothing_is_left()


@pytest.mark.parametrize("way", ["file", "template"])
def test_a_parent_recovers_nothing_in_a_copy(
    way: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """A journal of the original that this host has kept changes no row of the copy, and is not put away either."""
    with copied(way, request) as (engine, copy):
        office = Office(engine, tmp_path)
        enter(engine)
        claimed(office)
        killed(office)
        with copy() as clone:
            before = everything(clone)
            watched = clone.execution_options()
            CloneGuard().watch(watched, always=True)
            with pytest.raises(Elsewhere):
                Undertaker(watched, office.directory, PATIENCE).run_once()
            assert everything(clone) == before
            with read_only(clone) as connection:  # who only reads is not kept from it
                assert connection.execute(text("SELECT 1")).scalar_one() == 1
        done = Undertaker(engine, office.directory, PATIENCE).run_once()
        assert (done.settled, done.doubt, done.queued) == (1, 1, 1)


def test_a_database_that_is_exchanged_under_a_worker(
    postgres_engine: Engine, postgres_server: PostgresServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Behind the same address there is a copy suddenly: no claim, no record, no pass, no beat is written there."""
    name = postgres_engine.url.database or ""
    office = Office(postgres_engine, tmp_path)
    guard = CloneGuard()
    with postgres_engine.begin() as connection:
        guard.enter(connection)
    guard.watch(postgres_engine)
    mails = [office.emit(f"{number}@x") for number in range(2)]
    assert office.hint(mails[0]) == 1  # it waits in the heap
    lost: list[bool] = []
    pulse = Pulse(
        postgres_engine,
        office.worker_id,
        heartbeat_s=5,
        quiet_s=30,
        clock=office.clock,
        check=guard.check,
        on_lost=lambda: lost.append(True),
    )
    assert pulse.run_once()
    with copy_by_template(postgres_engine, postgres_server) as clone:
        copy = clone.url.database or ""
        rename(postgres_server, name, f"{name}_x")
        rename(postgres_server, copy, name)
        plain = open_engine(postgres_engine.url)
        before = everything(plain)

        with caplog.at_level(logging.ERROR):
            office.deliver()
        assert [one.message for one in caplog.records if one.levelno == logging.ERROR] == [
            "database_elsewhere"
        ]
        assert office.hint(mails[1]) == 0
        with pytest.raises(Elsewhere):
            office.reconciler().run_once()
        assert not pulse.run_once()
        assert (pulse.lost, pulse.fresh(), lost) == (True, False, [True])
        assert guard.elsewhere is not None
        assert everything(plain) == before
        assert office.server.connects == 0
        plain.dispose()
        rename(postgres_server, name, copy)
        rename(postgres_server, f"{name}_x", name)
    assert office.state(mails[0]).startswith("sending(prepare)")
    office.heap.take_all()


def rename(server: PostgresServer, old: str, new: str) -> None:
    """*old* is *new* from now on; whoever is connected to it is not any more."""
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            # Not autovacuum, which only a superuser may end; renaming ends that by itself.
            " WHERE datname = %s AND backend_type = 'client backend'",
            [old],
        )
    execute(
        server, sql.SQL("ALTER DATABASE {} RENAME TO {}").format(sql.Identifier(old), sql.Identifier(new))
    )


def test_a_pooler_leads_to_another_database(office: Office) -> None:
    """The connection stays and what is behind it does not: the next heartbeat sees it, and no dot is said any more."""
    guard = CloneGuard()
    with office.engine.begin() as connection:
        guard.enter(connection)
    pulse = Pulse(
        office.engine,
        office.worker_id,
        heartbeat_s=5,
        quiet_s=30,
        clock=office.clock,
        check=guard.check,
    )
    assert pulse.run_once()
    with office.engine.begin() as connection:
        connection.execute(office.tables.instance.update().values(home="system=1 database=2 table=3"))
    beat = heartbeat(office)
    assert not pulse.run_once()
    assert pulse.lost
    assert heartbeat(office) == beat


def heartbeat(office: Office) -> object:
    with read_only(office.engine) as connection:
        return connection.execute(select(office.tables.worker.c.heartbeat_at)).scalar_one()


def test_another_database_at_the_same_place(office: Office) -> None:
    """A database with another id, at home where it is, is not the one that this worker has claims in."""
    guard = CloneGuard()
    with office.engine.begin() as connection:
        guard.enter(connection)
        connection.execute(office.tables.instance.update().values(id="another"))
    with read_only(office.engine) as connection, pytest.raises(Elsewhere, match="its id was"):
        guard.check(connection)
    enter(office.engine)  # a worker that begins now may use it


@pytest.mark.parametrize(
    ("first", "then", "fine"),
    [
        ("production", "production", True),
        ("production", "staging", False),
        ("production", None, False),
        (None, "production", False),
        (None, None, True),
    ],
)
def test_a_copy_of_the_whole_disk(engine: Engine, first: str | None, then: str | None, fine: bool) -> None:
    """What has everything that its original has is told from it by the name of the installation, and only by that."""
    enter(engine, first)
    if fine:
        enter(engine, then)
        return
    with pytest.raises(Elsewhere, match="installation was"):
        enter(engine, then)


def test_a_standby_that_takes_over_is_no_copy() -> None:
    """A streaming standby has its primary's identifier: nobody has to confirm a failover."""
    binaries = find_postgres()
    if binaries is None:
        pytest.fail("this test needs the programs of PostgreSQL on this machine", pytrace=False)
    with PrivatePostgres(binaries) as primary:
        with psycopg.connect(primary.dsn(), autocommit=True) as connection:
            connection.execute("CREATE DATABASE fleet")
        with PrivateStandby(binaries, primary) as standby:
            homes = []
            for server in (primary, standby):
                if server is standby:
                    standby.wait_caught_up()
                    primary.kill()
                    standby.promote()
                engine = open_engine(make_url(server.url("fleet")))
                with engine.begin() as connection:
                    connection.execute(text("CREATE SCHEMA IF NOT EXISTS mailfleet"))
                    connection.execute(text("CREATE TABLE IF NOT EXISTS mailfleet.instance (id text)"))
                    homes.append(home_now(connection))
                engine.dispose()
    assert homes[0].system is not None
    assert homes[0].differs(homes[1]) == ()


def test_a_role_that_may_not_ask(
    postgres_engine: Engine, postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the server does not tell its identifier, a copy is known by the numbers of its tables; the database itself is none."""
    monkeypatch.setattr("mailfleet_schema.statements.home._SYSTEM", text("SELECT no_such_function()"))
    enter(postgres_engine)
    with read_only(postgres_engine) as connection:
        assert home_now(connection).system is None
    enter(postgres_engine)
    with copy_by_template(postgres_engine, postgres_server) as clone, pytest.raises(Elsewhere):
        enter(clone)
    monkeypatch.undo()
    enter(postgres_engine)


def test_embedded_copy(tmp_path: Path) -> None:
    """The embedded mode refuses a copied folder before it starts anything, and its own folder under another name is none."""
    first, second, moved = tmp_path / "first", tmp_path / "second", tmp_path / "moved"
    account = {"default": {"from": "us@example.net"}}
    with Embedded(Settings.model_validate({"data_dir": first, "accounts": account}), apps=[APP]):
        pass
    second.mkdir()
    for path in first.glob("mailfleet.db*"):
        (second / path.name).write_bytes(path.read_bytes())
    with pytest.raises(Elsewhere):
        Embedded(Settings.model_validate({"data_dir": second, "accounts": account}), apps=[APP]).start()
    first.rename(moved)
    with Embedded(Settings.model_validate({"data_dir": moved, "accounts": account}), apps=[APP]):
        pass
