"""The heap under threads: whatever they do at once, no row is lost and none is taken twice."""

import random
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailfleet_schema.statements.claim import Claimed
from mailfleet_schema.states import Priority
from mailfleet_workers.heap import RowHeap
from tests.unit.workers.making import claimed

TAKERS = 8
ROWS = 4000


@pytest.mark.parametrize("seed", range(3))
def test_nothing_is_lost_and_nothing_comes_twice(seed: int) -> None:
    """Eight threads take what two put, some put rows back, some park accounts: every row ends once."""
    heap, ended = RowHeap(200), threading.Event()
    counts: Counter[int] = Counter()
    lock = threading.Lock()

    def put(first: int) -> None:
        rng = random.Random(seed + first)
        rows = [
            claimed(n, account=rng.choice("abc"), priority=rng.choice(list(Priority)), due_s=rng.random())
            for n in range(first, ROWS + 1, 2)
        ]
        while rows:
            room = min(heap.wait_for_room(rows[-1].priority, 5.0), rng.randint(1, 20))
            assert room > 0, "no room within five seconds: the takers are stuck"
            now = rows[-1].priority
            some = [row for row in rows[-room:] if row.priority is now]
            heap.put(some)
            gone = {row.id for row in some}
            rows = [row for row in rows if row.id not in gone]

    def end(rows: list[Claimed]) -> None:
        heap.forget(rows)
        with lock:
            counts.update(row.id for row in rows)
            if sum(counts.values()) >= ROWS:
                ended.set()

    def work(number: int) -> None:
        rng = random.Random(seed * 100 + number)
        while not ended.is_set():
            batch = heap.take(most=rng.randint(1, 30), high_only=number == 0, timeout_s=0.05)
            if batch is None:
                continue
            rows = list(batch.rows)
            try:
                match rng.randrange(4):
                    case 0:  # not begun after all
                        kept = rng.randint(0, len(rows))
                        heap.put_back(rows[kept:])
                        rows = rows[:kept]
                    case 1:
                        heap.cap(batch.account, 1, 0.001)
                    case 2:
                        with heap.asleep(batch.account):
                            end(heap.take_account(batch.account))
                    case _:
                        pass
                assert all(heap.holds(row.id, row.fence) for row in rows)
                end(rows)
            finally:
                heap.finished(batch.account)

    with ThreadPoolExecutor(TAKERS + 2) as threads:
        jobs = [threads.submit(work, number) for number in range(TAKERS)]
        jobs += [threads.submit(put, first) for first in (1, 2)]
        assert ended.wait(60), f"{ROWS - sum(counts.values())} rows are missing"
        for job in jobs:
            job.result(10)
    assert counts == Counter(range(1, ROWS + 1))
    assert heap.count() == 0
    assert heap.take_all() == []
    assert [heap.wait_for_room(priority, 0.0) for priority in Priority] == [200, 200, 200]


@given(
    st.lists(
        st.tuples(st.sampled_from("ab"), st.sampled_from(Priority), st.integers(0, 5)),
        min_size=1,
        max_size=40,
    ),
    st.integers(1, 7),
)
def test_batches_come_in_order(rows: list[tuple[str, Priority, int]], most: int) -> None:
    """Every batch begins with the best row that waits, and is in order itself."""
    heap = RowHeap(100)
    waiting = [
        claimed(n, account=account, priority=priority, due_s=due)
        for n, (account, priority, due) in enumerate(rows, 1)
    ]
    rank = {priority: number for number, priority in enumerate(Priority)}
    heap.put(waiting)

    def order(row: Claimed) -> tuple[int, object, int]:
        return rank[row.priority], row.due_at, row.id

    while waiting:
        batch = heap.take(most=most, high_only=False, timeout_s=0.0)
        assert batch is not None
        assert batch.rows[0] == min(waiting, key=order)
        of_account = sorted((row for row in waiting if row.account == batch.account), key=order)
        assert list(batch.rows) == of_account[:most]
        waiting = [row for row in waiting if row not in batch.rows]
        heap.finished(batch.account)
    assert heap.take_all() == []
