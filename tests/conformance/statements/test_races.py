"""Two at once: PostgreSQL's transactions really run side by side; SQLite's writers take turns."""

import hashlib
import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import pytest
from sqlalchemy import Connection, Engine, text

from mailfleet_schema.statements import claim, operate, reconcile, settle
from mailfleet_schema.statements.attachment import read_attachment, store_attachments
from mailfleet_schema.statements.insert import Inserted, NewMail, insert_mails
from mailfleet_schema.statements.key import KeyTaken
from mailfleet_schema.statements.settle import Settlement
from mailfleet_schema.states import Phase, State
from tests.conformance.statements.bench import (
    APP,
    CONTENT,
    GRACE_S,
    OTHER_WORKER,
    PATIENCE,
    WORKER,
    Bench,
)
from tests.waiting import wait_until

DEADLINE_S = 20.0
T = TypeVar("T")


@contextmanager
def _impatient(engine: Engine) -> Iterator[Connection]:
    """A transaction in which waiting for anybody's lock is an error."""
    with engine.begin() as connection:
        connection.execute(text("SET LOCAL lock_timeout = '100ms'"))
        yield connection


@contextmanager
def _beside(engine: Engine, statement: Callable[[Connection], T]) -> Iterator[Future[T]]:
    """Run *statement* in a thread until it waits for a lock; the block lets it go on by ending its own transaction."""

    def run() -> T:
        with engine.begin() as connection:
            return statement(connection)

    waiting = text(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )

    def waits() -> bool:
        with engine.connect() as connection:
            return bool(connection.execute(waiting).scalar_one())

    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(run)
        wait_until(
            lambda: waits() or future.done(), DEADLINE_S, lambda: "the statement neither waits nor ends"
        )
        assert not future.done(), "the statement did not wait"
        yield future


def _claim_one(engine: Engine, mail_id: int, worker_id: int) -> int:
    with engine.begin() as connection:
        return len(claim.claim(connection, ids=[mail_id], app=APP, worker_id=worker_id, room=1))


def test_one_of_many_claims_wins(engine: Engine) -> None:
    """Whenever several workers claim the same row at the same time, exactly one gets it, once."""
    bench = Bench(engine)
    ids = [bench.new() for _ in range(20)]
    with ThreadPoolExecutor(4) as pool:
        for mail_id in ids:
            together = threading.Barrier(4)

            def run(worker_id: int, mail_id: int = mail_id, together: threading.Barrier = together) -> int:
                together.wait(DEADLINE_S)
                return _claim_one(engine, mail_id, worker_id)

            assert sum(pool.map(run, [WORKER, OTHER_WORKER] * 2)) == 1
    assert [row.fence for row in bench.rows().values()] == [1] * len(ids)


def test_a_claim_leaves_out_what_is_being_claimed(postgres_bench: Bench) -> None:
    """A claim does not wait for rows that another transaction holds: it takes the others."""
    ids = [postgres_bench.new() for _ in range(5)]
    with postgres_bench.engine.begin() as first:
        mine = claim.claim(first, ids=ids[:3], app=APP, worker_id=WORKER, room=9)
        with _impatient(postgres_bench.engine) as second:
            theirs = claim.claim(second, ids=ids, app=APP, worker_id=OTHER_WORKER, room=9)
    assert ({row.id for row in mine}, {row.id for row in theirs}) == (set(ids[:3]), set(ids[3:]))


@pytest.mark.parametrize(
    "statement",
    [
        lambda connection: {row.mail_id for row in reconcile.look(connection, [APP], PATIENCE, most=9)},
        lambda connection: reconcile.expire(connection, [APP], PATIENCE, most=9),
        lambda connection: reconcile.settle_doubts(connection, [APP], most=9).queued,
        lambda connection: reconcile.take_back(connection, [WORKER], PATIENCE, most=9).queued,
    ],
    ids=["look", "expire", "settle_doubts", "take_back"],
)
def test_reconcilers_leave_out_what_others_hold(
    postgres_bench: Bench, statement: Callable[[Connection], set[int]]
) -> None:
    """Any number of processes may run each pass at once: none waits, and none takes another's rows."""
    bench = postgres_bench
    for _ in range(2):
        looked, overdue = bench.new(), bench.new()
        bench.shift(looked, -60, "look_at")
        bench.shift(overdue, -7 * 86_400, "look_at", "due_at")
        bench.doubted()
        bench.claimed()
    held = {
        min(i for i, row in bench.rows().items() if row.state == state)
        for state in ("queued", "doubt", "sending")
    }
    held.add(min(i for i, row in bench.rows().items() if row.seconds("created_at", "due_at") > 86_400))
    with bench.engine.begin() as first:
        first.execute(
            text("SELECT id FROM mailfleet.mail WHERE id = ANY(:ids) FOR UPDATE"), {"ids": list(held)}
        )
        with _impatient(bench.engine) as second:
            found = statement(second)
    assert len(found) == 1
    assert not found & held


def test_a_cancel_that_comes_after_the_record_finds_nothing(postgres_bench: Bench) -> None:
    """Cancelling waits for the record that is being committed, and then knows that it is too late."""
    row = postgres_bench.claimed()
    with postgres_bench.engine.begin() as sender:
        assert settle.record(sender, [(row.id, row.fence)]).dot
        with _beside(
            postgres_bench.engine, lambda c: operate.operate(c, operate.CANCEL, [row.id], apps=[APP])
        ) as cancelled:
            sender.commit()
    assert cancelled.result() == set()
    assert postgres_bench.row(row.id).phase == "dot"


def test_a_record_that_comes_after_the_cancel_finds_nothing(postgres_bench: Bench) -> None:
    """The sender whose mail is being cancelled waits, and then does not say the dot."""
    row = postgres_bench.claimed()
    with postgres_bench.engine.begin() as operator:
        assert operate.operate(operator, operate.CANCEL, [row.id], apps=[APP])
        with _beside(postgres_bench.engine, lambda c: settle.record(c, [(row.id, row.fence)])) as recorded:
            operator.commit()
    assert recorded.result() == settle.Recorded(frozenset(), frozenset())
    assert postgres_bench.row(row.id).state == "cancelled"


def test_a_late_acceptance_loses_against_a_claim(postgres_bench: Bench) -> None:
    """A late 250 for a row that is being claimed again waits for the claim and then changes nothing."""
    row = postgres_bench.resent()
    late = Settlement(row.id, row.fence, Phase.DOT, State.SENT, dones=1)
    with postgres_bench.engine.begin() as claimer:
        assert claim.claim(claimer, ids=[row.id], app=APP, worker_id=OTHER_WORKER, room=1)
        with _beside(
            postgres_bench.engine, lambda c: settle.accept_late(c, [late], grace_s=GRACE_S)
        ) as accepted:
            claimer.commit()
    assert accepted.result() == set()
    assert postgres_bench.row(row.id).sum_done == 0


def test_a_result_and_a_late_acceptance_count_once(postgres_bench: Bench) -> None:
    """Two reports of one 250 at the same time, from the thread and from its replayed journal, are one copy."""
    row = postgres_bench.dotted()
    done = Settlement(row.id, row.fence, Phase.DOT, State.SENT, dones=1)
    with postgres_bench.engine.begin() as thread:
        assert settle.settle(thread, [done], grace_s=GRACE_S)
        with _beside(
            postgres_bench.engine, lambda c: settle.accept_late(c, [done], grace_s=GRACE_S)
        ) as replayed:
            thread.commit()
    assert replayed.result() == set()
    assert postgres_bench.row(row.id).sum_done == 1


def _keyed(payload: str = "same") -> NewMail:
    return NewMail(content=CONTENT, key="k", payload_hash=payload)


def _insert(connection: Connection, payload: str = "same") -> Inserted:
    return insert_mails(connection, APP, [_keyed(payload)], grace_s=GRACE_S)[0]


def test_a_hundred_mails_with_one_key_are_one(engine: Engine) -> None:
    """A hundred threads insert with the same key at once: one row, and everybody is told its id."""
    bench = Bench(engine)
    together = threading.Barrier(20)

    def run(_number: int) -> list[Inserted]:
        together.wait(DEADLINE_S)
        inserted = []
        for _ in range(5):
            with engine.begin() as connection:
                inserted.append(_insert(connection))
        return inserted

    with ThreadPoolExecutor(20) as pool:
        results = [one for several in pool.map(run, range(20)) for one in several]
    assert len(results) == 100
    assert sum(one.new for one in results) == 1
    assert {one.mail_id for one in results} == set(bench.rows())


def test_a_key_waits_for_who_came_first(postgres_bench: Bench) -> None:
    """The second of two waits until the first has committed, and gets its mail."""
    with postgres_bench.engine.begin() as first:
        mine = _insert(first)
        with _beside(postgres_bench.engine, _insert) as second:
            first.commit()
    assert second.result() == Inserted(mine.mail_id, new=False)


def test_a_key_is_free_when_who_came_first_gave_up(postgres_bench: Bench) -> None:
    """The second of two inserts its own mail when the first rolls back."""
    with postgres_bench.engine.connect() as first:
        transaction = first.begin()
        _insert(first)
        with _beside(postgres_bench.engine, _insert) as second:
            transaction.rollback()
    assert second.result().new
    assert set(postgres_bench.rows()) == {second.result().mail_id}


def test_another_payload_waits_and_is_refused(postgres_bench: Bench) -> None:
    """The second of two with another payload is refused, whatever it commits leaves no trace of it."""

    def refused(connection: Connection) -> str:
        other = NewMail(content=CONTENT, key="a", payload_hash="x")
        try:
            insert_mails(connection, APP, [other, _keyed("other")], grace_s=GRACE_S)
        except KeyTaken as taken:
            return taken.key
        return ""

    with postgres_bench.engine.begin() as first:
        mine = _insert(first)
        with _beside(postgres_bench.engine, refused) as second:
            first.commit()
    assert second.result() == "k"
    assert set(postgres_bench.rows()) == {mine.mail_id}
    with postgres_bench.engine.begin() as connection:
        assert connection.execute(text("SELECT key FROM mailfleet.mail_key")).scalars().all() == ["k"]


def test_files_stored_in_opposite_order_do_not_deadlock(postgres_bench: Bench) -> None:
    """Two transactions that store the same files, each in another order, at the same time, both commit."""
    engine = postgres_bench.engine
    rng = random.Random(7)
    with ThreadPoolExecutor(2) as pool:
        for _ in range(15):
            contents = [rng.randbytes(100) for _ in range(4)]
            blobs = {hashlib.sha256(content).hexdigest(): content for content in contents}
            together = threading.Barrier(2)

            def store(
                names: list[str],
                blobs: dict[str, bytes] = blobs,
                together: threading.Barrier = together,
            ) -> None:
                together.wait(DEADLINE_S)
                with engine.begin() as connection:
                    store_attachments(connection, APP, {name: blobs[name] for name in names})

            list(pool.map(store, [list(blobs), list(reversed(blobs))]))
            with engine.begin() as connection:
                assert all(read_attachment(connection, APP, name) == blobs[name] for name in blobs)


def test_a_file_waits_for_who_stores_it(postgres_bench: Bench) -> None:
    """A file that another transaction is storing is waited for, and stored by the second when the first gives up."""
    content = b"x" * 100
    blobs = {hashlib.sha256(content).hexdigest(): content}
    with postgres_bench.engine.connect() as first:
        transaction = first.begin()
        store_attachments(first, APP, blobs)
        with _beside(postgres_bench.engine, lambda c: store_attachments(c, APP, blobs)) as second:
            transaction.rollback()
    assert second.result() is None
    with postgres_bench.engine.begin() as connection:
        assert read_attachment(connection, APP, next(iter(blobs))) == content


def test_writers_of_sqlite_take_turns(sqlite_engine: Engine) -> None:
    """Threads that insert, claim and settle at once all succeed: nobody is told that the database is locked."""
    bench = Bench(sqlite_engine)

    def run(number: int) -> int:
        for _ in range(10):
            row = bench.dotted(app=APP, worker_id=WORKER if number % 2 else OTHER_WORKER)
            assert bench.settle(row, State.SENT, dones=1) == {row.id}
        return 10

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(run, range(8))) == 80
    assert {row.state for row in bench.rows().values()} == {"sent"}
