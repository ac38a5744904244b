"""AsyncMailer: the same semantics with AsyncSession and AsyncConnection, and no blocked loop."""

import asyncio
import statistics
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Engine
from sqlalchemy.event import listen
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_scoped_session,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import Session

from mailfleet import (
    AsyncMailer,
    Attachment,
    InvalidMail,
    Mail,
    Mailer,
    Pending,
    Refused,
    SendFailed,
    SendRefused,
    Sent,
)
from mailfleet.stores import Answer, Directory
from mailfleet_schema.states import State
from tests.integration.producers.databases import accept, ids, mail, rows, work
from tests.unit.producers.brokers import MemoryBroker
from tests.waiting import wait_until


@pytest.fixture
def broker() -> MemoryBroker:
    return MemoryBroker()


@pytest.fixture
def mailer(engine: Engine, broker: MemoryBroker) -> AsyncMailer:
    return AsyncMailer("billing", engine=engine, broker=broker)


@pytest.fixture
async def async_engine(engine: Engine) -> AsyncIterator[AsyncEngine]:
    """The application's own engine on the same database: aiosqlite, or psycopg's async side."""
    driver = "sqlite+aiosqlite" if engine.dialect.name == "sqlite" else "postgresql+psycopg"
    async_engine = create_async_engine(engine.url.set(drivername=driver))
    if engine.dialect.name == "sqlite":
        # SQLAlchemy's recipe: left alone, the driver does not begin before a SAVEPOINT, whose release then commits.
        listen(async_engine.sync_engine, "connect", _no_driver_transactions)
        listen(async_engine.sync_engine, "begin", _begin)
    yield async_engine
    await async_engine.dispose()


def _no_driver_transactions(connection: Any, _record: object) -> None:
    connection.isolation_level = None


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN")


async def hinted(mailer: AsyncMailer, broker: MemoryBroker) -> list[int]:
    """What was hinted, once everything is."""
    assert await mailer.close()
    return broker.ids


async def test_a_commit_stores_and_hints(
    engine: Engine, async_engine: AsyncEngine, mailer: AsyncMailer, broker: MemoryBroker
) -> None:
    """Rows and hints come with the commit of an AsyncSession, from SAVEPOINTs too."""
    async with AsyncSession(async_engine) as session, session.begin():
        first = await mailer.emit(mail(), session)
        async with session.begin_nested():
            second, third = await mailer.emit_many([mail(), mail()], session)
        assert await hinted(mailer, broker) == []

    assert sorted(await hinted(mailer, broker)) == [first, second, third] == ids(engine)


@pytest.mark.tinymail("48")
async def test_files_of_a_directory_are_read_in_a_thread(
    engine: Engine, async_engine: AsyncEngine, tmp_path: Path
) -> None:
    """A slow disk stops no other task; what makes the mails is asked in this one."""
    readers: list[int] = []
    makers: list[int] = []

    class Watched(Directory):
        def read(self, key: str, most: int) -> Answer:
            readers.append(threading.get_ident())
            return super().read(key, most)

    def mails() -> Iterator[Mail]:
        makers.append(threading.get_ident())
        yield mail(attachments=[Attachment.stored("files", "a")])

    (tmp_path / "a").write_bytes(b"x")
    mailer = AsyncMailer("billing", engine=engine, shelves={"files": Watched(tmp_path)})
    async with AsyncSession(async_engine) as session, session.begin():
        await mailer.emit(mail(attachments=[Attachment.stored("files", "a")]), session)
        await mailer.emit_many(mails(), session)

    here = threading.get_ident()
    assert len(readers) == 2
    assert here not in readers
    assert makers == [here]
    await mailer.close()


async def test_a_rollback_leaves_nothing(
    engine: Engine, async_engine: AsyncEngine, mailer: AsyncMailer, broker: MemoryBroker
) -> None:
    """Rollbacks, of SAVEPOINTs and of everything around released ones, leave no row and no hint."""
    async with AsyncSession(async_engine) as session:
        await mailer.emit(mail(), session)
        await session.rollback()
        kept = await mailer.emit(mail(), session)
        savepoint = await session.begin_nested()
        await mailer.emit(mail(), session)
        await savepoint.rollback()
        await session.commit()
        async with session.begin_nested():
            await mailer.emit(mail(), session)
        await session.rollback()
        await mailer.emit(mail(), session)

    assert ids(engine) == [kept]
    assert await hinted(mailer, broker) == [kept]


async def test_an_async_scoped_session_is_a_session(
    async_engine: AsyncEngine, mailer: AsyncMailer, broker: MemoryBroker
) -> None:
    """The session of the scope is meant."""
    sessions = async_scoped_session(async_sessionmaker(async_engine), scopefunc=asyncio.current_task)
    number = await mailer.emit(mail(), sessions)
    await sessions.commit()
    await sessions.remove()

    assert await hinted(mailer, broker) == [number]


async def test_a_core_connection_needs_publish(
    engine: Engine, async_engine: AsyncEngine, mailer: AsyncMailer, broker: MemoryBroker
) -> None:
    """As with the synchronous one: `publish` hints what is committed by then."""
    async with async_engine.begin() as connection:
        number = await mailer.emit(mail(), connection)
        assert await mailer.publish() == 0
    async with async_engine.connect() as connection:
        await mailer.emit(mail(), connection)
        await connection.rollback()

    assert await mailer.publish() == 1
    assert await hinted(mailer, broker) == [number] == ids(engine)


async def test_without_a_session(engine: Engine, mailer: AsyncMailer, broker: MemoryBroker) -> None:
    """Emitting alone commits and hints; wrong mails raise as ever."""
    number = await mailer.emit(mail())
    with pytest.raises(InvalidMail) as caught:
        await mailer.emit_many([mail(), mail("no address")])

    assert caught.value.field == "mails[1].to"
    assert await hinted(mailer, broker) == [number] == ids(engine)


async def test_sessions_of_the_other_kind_are_refused(engine: Engine, mailer: AsyncMailer) -> None:
    """A synchronous session would block the loop; the other way round it is told apart too."""
    with Session(engine) as session:
        with pytest.raises(TypeError, match="expected an AsyncSession"):
            await mailer.emit(mail(), session)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="AsyncMailer takes the async ones"):
            Mailer("billing").emit(mail(), AsyncSession())  # type: ignore[arg-type]


async def test_waiting_does_not_block_the_loop(
    engine: Engine, mailer: AsyncMailer, broker: MemoryBroker
) -> None:
    """While fifty coroutines wait for verdicts, the loop runs on; then each has its answer."""
    gaps = []

    async def tick() -> None:
        while True:
            before = time.monotonic()
            await asyncio.sleep(0.01)
            gaps.append(time.monotonic() - before)

    ticking = asyncio.create_task(tick())
    sending = [asyncio.create_task(mailer.send(mail(), deadline_s=60)) for _ in range(50)]
    await asyncio.to_thread(wait_until, lambda: len(broker.ids) == 50, 60, lambda: f"{len(broker.ids)}")
    gaps.clear()
    await asyncio.to_thread(wait_until, lambda: len(gaps) > 50, 30, lambda: f"only {len(gaps)} ticks")
    ticking.cancel()
    for number in ids(engine):
        await asyncio.to_thread(accept, engine, number)
    results = await asyncio.gather(*sending)

    assert statistics.median(gaps) < 0.2
    assert {type(one) for one in results} == {Sent}
    assert sorted(one.mail_id for one in results) == ids(engine)


async def test_bad_news(engine: Engine, mailer: AsyncMailer, broker: MemoryBroker) -> None:
    """`send` raises, `post` answers, `send_many` and `post_many` too."""

    async def fail_all(count: int) -> None:
        await asyncio.to_thread(wait_until, lambda: len(broker.ids) == count, 30, lambda: f"{broker.ids}")
        for row in rows(engine):
            if row.state == "queued":
                await asyncio.to_thread(work, engine, row.id, state=State.FAILED, reason="stop")

    failing = asyncio.create_task(fail_all(1))
    with pytest.raises(SendFailed):
        await mailer.send(mail())
    await failing
    failing = asyncio.create_task(fail_all(3))
    with pytest.raises(SendFailed):
        await mailer.send_many([mail(), mail()])
    await failing
    results = await mailer.post_many([mail("no address"), mail()], deadline_s=0)

    assert isinstance(results[1], Pending)
    assert await mailer.cancel(results[1].mail_id)


async def test_sqlite_refuses_inside_an_open_write_transaction(sqlite_engine: Engine) -> None:
    """The task that emitted and has not committed is refused at once; another task is not."""
    mailer = AsyncMailer("billing", engine=sqlite_engine)
    async_engine = create_async_engine(sqlite_engine.url.set(drivername="sqlite+aiosqlite"))
    emitted, posting = asyncio.Event(), asyncio.Event()

    async def other() -> object:
        await emitted.wait()
        posting.set()
        return await mailer.post(mail(), deadline_s=0)

    waiting = asyncio.create_task(other())
    began = time.monotonic()
    async with AsyncSession(async_engine) as session:
        await mailer.emit(mail(), session)
        refused = await mailer.post(mail())
        with pytest.raises(SendRefused, match="still open"):
            await mailer.send(mail())
        took = time.monotonic() - began
        emitted.set()
        await posting.wait()
        await session.commit()

    assert isinstance(refused, Refused)
    assert took < 0.9
    assert isinstance(await waiting, Pending)
    await async_engine.dispose()


async def test_over_shares_everything(engine: Engine, broker: MemoryBroker) -> None:
    """A mailer and its asynchronous side are one."""
    mailer = Mailer("billing", engine=engine, broker=broker)
    asynchronous = AsyncMailer.over(mailer)
    number = await asynchronous.emit(mail())

    assert (asynchronous.app, ids(engine)) == ("billing", [number])
    assert mailer.close()
    assert mailer.counts() == asynchronous.counts()
