"""The waiting rows of a process: their order, their bounds, and who may take them."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from mailfleet_schema.states import Priority
from mailfleet_workers.heap import Batch, RowHeap
from tests.unit.workers.making import claimed
from tests.waiting import wait_until

HIGH, NORMAL, BULK = Priority.HIGH, Priority.NORMAL, Priority.BULK


def take(heap: RowHeap, *, most: int = 64, high_only: bool = False, timeout_s: float = 0.0) -> Batch | None:
    return heap.take(most=most, high_only=high_only, timeout_s=timeout_s)


def ids(batch: Batch | None) -> list[int]:
    return [row.id for row in batch.rows] if batch else []


@pytest.mark.tinymail("36", "D21")
def test_priority_comes_first_then_due_time_then_id() -> None:
    """Rows of one account leave by priority, then by `due_at`, then by id."""
    heap = RowHeap(10)
    heap.put(
        [
            claimed(1, priority=BULK, due_s=-9),
            claimed(2, due_s=2),
            claimed(4, due_s=1),
            claimed(3, due_s=1),
            claimed(5, priority=HIGH, due_s=5),
        ]
    )
    assert ids(take(heap)) == [5, 3, 4, 2, 1]


@pytest.mark.tinymail("37", "40")
def test_a_batch_is_of_one_account() -> None:
    """A batch holds rows of the account whose best row comes first, and leaves the others' for the next thread."""
    heap = RowHeap(10)
    heap.put(
        [
            claimed(1, account="a", due_s=1),
            claimed(2, account="b", due_s=0),
            claimed(3, account="a", due_s=2),
            claimed(4, account="b", due_s=3),
        ]
    )
    first, second = take(heap), take(heap)
    assert (first and first.account, ids(first)) == ("b", [2, 4])
    assert (second and second.account, ids(second)) == ("a", [1, 3])
    assert take(heap) is None


@pytest.mark.tinymail("37")
def test_a_batch_has_at_most_so_many_rows() -> None:
    """`most` bounds a batch; what is left is still waiting."""
    heap = RowHeap(10)
    heap.put(claimed(n) for n in range(1, 6))
    assert ids(take(heap, most=2)) == [1, 2]
    assert ids(take(heap, most=2)) == [3, 4]
    assert ids(take(heap, most=2)) == [5]


def test_each_priority_has_room_of_its_own() -> None:
    """A full heap of bulk leaves the whole room for high and normal."""
    heap = RowHeap(3)
    heap.put(claimed(n, priority=BULK) for n in range(1, 4))
    assert heap.wait_for_room(BULK, 0.0) == 0
    assert heap.wait_for_room(HIGH, 0.0) == 3
    assert heap.wait_for_room(NORMAL, 0.0) == 3


def test_taking_makes_room() -> None:
    """Room counts the rows that wait, not those that a thread has taken."""
    heap = RowHeap(3)
    heap.put(claimed(n) for n in range(1, 4))
    take(heap, most=2)
    assert heap.wait_for_room(NORMAL, 0.0) == 2


def test_room_never_counts_below_nothing() -> None:
    """Two intakes that saw the same room may overfill the heap; it then has no room, and never a negative one."""
    heap = RowHeap(2)
    heap.put(claimed(n) for n in range(1, 6))
    assert heap.wait_for_room(NORMAL, 0.0) <= 0
    take(heap)
    assert heap.wait_for_room(NORMAL, 0.0) == 2


def test_threads_kept_for_high_take_nothing_else() -> None:
    """A thread with `high_only` leaves other rows, also those of the same account."""
    heap = RowHeap(10)
    heap.put([claimed(1), claimed(2, priority=HIGH), claimed(3, account="other", priority=BULK)])
    assert ids(take(heap, high_only=True)) == [2]
    assert take(heap, high_only=True) is None
    assert ids(take(heap)) == [1]


def test_threads_spread_over_accounts() -> None:
    """At equal priority the account with fewer threads comes first: a slow server does not gather them all."""
    heap = RowHeap(10)
    heap.put([claimed(n, account="slow", due_s=-n) for n in range(1, 4)])
    heap.put([claimed(9, account="fast"), claimed(8, account="slow", priority=HIGH, due_s=-1)])
    assert ids(take(heap, most=1)) == [8]
    assert ids(take(heap, most=1)) == [9]
    assert ids(take(heap, most=1)) == [3]
    heap.finished("fast")


def test_priority_goes_before_spreading() -> None:
    """A high row is taken by the second thread of its account while others' normal rows wait."""
    heap = RowHeap(10)
    heap.put([claimed(1, account="a"), claimed(2, account="b")])
    assert ids(take(heap)) == [1]
    heap.put([claimed(3, account="a", priority=HIGH)])
    assert ids(take(heap)) == [3]


def test_an_account_that_sleeps_is_left_alone() -> None:
    """While one thread sleeps out a wait of an account, nobody takes its rows; others' go on; then it is open again."""
    heap = RowHeap(10)
    heap.put([claimed(1, account="a"), claimed(2, account="b", due_s=9)])
    with heap.asleep("a"):
        assert ids(take(heap)) == [2]
        assert take(heap) is None
    assert ids(take(heap)) == [1]


def test_what_goes_first_is_not_kept_by_a_sleeper() -> None:
    """While a thread sleeps for rows of `bulk`, rows of a higher priority are taken, and those alone."""
    heap = RowHeap(10)
    heap.put(
        [
            claimed(1, priority=Priority.BULK),
            claimed(2, priority=Priority.HIGH),
            claimed(3, priority=Priority.BULK),
        ]
    )
    with heap.asleep("default", Priority.BULK) as first:
        assert first
        assert ids(take(heap)) == [2]
        assert take(heap) is None
        with heap.asleep("default", Priority.BULK) as second:
            assert not second
        with heap.asleep("default", Priority.HIGH) as other:
            assert other
    assert ids(take(heap)) == [1, 3]


def test_rows_that_were_not_begun_go_back_to_their_places() -> None:
    """`put_back` adds what a thread took and still holds, best first as before; what was lost meanwhile is left out."""
    heap = RowHeap(10)
    heap.put(claimed(n) for n in range(1, 4))
    batch = take(heap)
    assert batch is not None
    heap.forget([batch.rows[1]])
    heap.put_back(batch.rows)
    assert ids(take(heap)) == [1, 3]
    assert heap.count() == 2


def test_the_surplus_of_an_account() -> None:
    """`take_account` may keep the best rows, and leaves alone what has a higher priority than asked for."""
    heap = RowHeap(10)
    heap.put(claimed(n, priority=Priority.BULK) for n in range(1, 5))
    heap.put([claimed(9, priority=Priority.HIGH)])
    assert [row.id for row in heap.take_account("default", below=Priority.BULK, keep=1)] == [2, 3, 4]
    assert ids(take(heap)) == [9, 1]


def test_an_account_that_crowds_out_others() -> None:
    """An account is crowded when its rows of a priority take more than half of the room."""
    heap = RowHeap(4)
    heap.put([claimed(1), claimed(2)])
    assert not heap.crowded("default", Priority.NORMAL)
    heap.put([claimed(3)])
    assert heap.crowded("default", Priority.NORMAL)
    assert not heap.crowded("default", Priority.BULK)


def test_the_last_sleeper_opens_the_account() -> None:
    """Two threads sleep on one account: the first to wake does not open it for others."""
    heap = RowHeap(10)
    heap.put([claimed(1)])
    with heap.asleep("default"):
        with heap.asleep("default"):
            pass
        assert take(heap) is None
    assert ids(take(heap)) == [1]


def test_an_error_while_sleeping_wakes_the_account() -> None:
    """An exception in the sleeping thread leaves no account asleep."""
    heap = RowHeap(10)
    heap.put([claimed(1)])

    def fail() -> None:
        with heap.asleep("default"):
            raise RuntimeError("boom")

    with pytest.raises(RuntimeError):
        fail()
    assert ids(take(heap)) == [1]


def test_no_slot_for_one_more_thread() -> None:
    """After `cap` no more than so many threads work on the account for that time; one that sleeps is not counted."""
    now = [100.0]
    heap = RowHeap(10, clock=lambda: now[0])
    heap.put(claimed(n) for n in range(1, 9))
    take(heap, most=1)
    take(heap, most=1)
    heap.put([claimed(9, account="other")])
    heap.cap("default", 2, 1.0)
    assert ids(take(heap, most=1)) == [9]
    assert take(heap, most=1) is None
    heap.finished("default")
    assert ids(take(heap, most=1)) == [3]
    heap.put([claimed(10, priority=Priority.HIGH)])
    assert take(heap, most=1) is None
    with heap.asleep("default", Priority.NORMAL):
        assert ids(take(heap, most=1)) == [10]
        assert take(heap, most=1) is None
    now[0] += 1.0
    assert ids(take(heap, most=1)) == [4]


def test_all_rows_of_an_account_leave_together() -> None:
    """`take_account` takes what waits of one account and makes its room free; what threads hold stays held."""
    heap = RowHeap(3)
    heap.put([claimed(1, account="a"), claimed(2, account="b"), claimed(3, account="a")])
    assert sorted(row.id for row in heap.take_account("a")) == [1, 3]
    assert heap.take_account("a") == []
    assert heap.wait_for_room(NORMAL, 0.0) == 2
    assert heap.count() == 3
    assert ids(take(heap)) == [2]


def test_all_rows_leave_at_a_drain() -> None:
    """`take_all` takes what waits of every account."""
    heap = RowHeap(9)
    heap.put([claimed(1, account="a"), claimed(2, account="b", priority=HIGH), claimed(3, account="a")])
    assert sorted(row.id for row in heap.take_all()) == [1, 2, 3]
    assert take(heap) is None
    assert heap.wait_for_room(HIGH, 0.0) == 9


def test_a_row_is_held_from_put_to_forget() -> None:
    """A row that waits or that a thread has taken is held; once forgotten it is not."""
    heap = RowHeap(9)
    row = claimed(1, 4)
    assert not heap.holds(1, 4)
    heap.put([row])
    assert heap.holds(1, 4)
    take(heap)
    assert heap.holds(1, 4)
    heap.forget([row])
    assert not heap.holds(1, 4)
    assert heap.count() == 0


def test_only_the_claim_itself_is_held() -> None:
    """An earlier or later claim of a row that we hold is not ours."""
    heap = RowHeap(9)
    heap.put([claimed(1, 4)])
    assert not heap.holds(1, 3)
    assert not heap.holds(1, 5)


def test_forgetting_an_old_claim_keeps_the_new_one() -> None:
    """A thread that lost a row, which this process has claimed again, forgets its own claim only."""
    heap = RowHeap(9)
    old, new = claimed(1, 4), claimed(1, 5)
    heap.put([old])
    take(heap)
    heap.put([new])
    heap.forget([old])
    assert heap.holds(1, 5)


@pytest.mark.tinymail("36")
def test_a_new_claim_replaces_the_waiting_one() -> None:
    """A row that was taken from us while it waited, and that we claimed again, leaves once, by its new claim.

    Two entries of one row could meet in one chunk, and the row would be sent twice.
    """
    heap = RowHeap(9)
    heap.put([claimed(1, 4), claimed(2, 1)])
    heap.put([claimed(1, 5)])
    batch = take(heap)
    assert [(row.id, row.fence) for row in (batch.rows if batch else ())] == [(1, 5), (2, 1)]
    assert heap.wait_for_room(NORMAL, 0.0) == 9


def test_closing_wakes_who_waits_for_rows_and_for_room() -> None:
    """`close` ends every wait at once: no rows and no room from then on."""
    heap = RowHeap(1)
    heap.put([claimed(1, priority=BULK)])
    waits: list[Callable[[], object]] = [
        lambda: take(heap, high_only=True, timeout_s=60),
        lambda: heap.wait_for_room(BULK, 60),
    ]
    with ThreadPoolExecutor(2) as threads:
        results = [threads.submit(wait) for wait in waits]
        # Both are inside their wait when the condition has two waiters.
        waiters = heap._changed._waiters  # type: ignore[attr-defined]
        wait_until(lambda: len(waiters) == 2, 5, lambda: f"{len(waiters)} of 2 wait")
        heap.close()
        assert [result.result(5) for result in results] == [None, 0]
    assert take(heap) is None
    assert heap.wait_for_room(HIGH, 60) == 0


def test_who_waits_for_more_room_waits_for_half_of_the_heap() -> None:
    """Rows that do not fit are not claimed one by one as others leave; nobody waits for more than half of the heap."""
    heap = RowHeap(8)
    heap.put([claimed(number) for number in range(8)])
    with ThreadPoolExecutor(1) as threads:
        result = threads.submit(heap.wait_for_room, NORMAL, 60, wanted=100)
        for _ in range(3):
            assert heap.take(most=1, high_only=False, timeout_s=0)
        assert heap.wait_for_room(NORMAL, 0.0) == 3
        assert not result.done()
        assert heap.take(most=1, high_only=False, timeout_s=0)
        assert result.result(5) == 4
    assert heap.wait_for_room(NORMAL, 0.0, wanted=100) == 4


@pytest.mark.tinymail("36", "D21")
def test_new_rows_wake_who_waits() -> None:
    """A thread that waits for rows gets those that are put meanwhile."""
    heap = RowHeap(1)
    with ThreadPoolExecutor(1) as threads:
        result = threads.submit(take, heap, timeout_s=60)
        heap.put([claimed(1)])
        assert ids(result.result(5)) == [1]


def test_room_wakes_who_waits() -> None:
    """An intake that waits for room goes on when a thread has taken rows."""
    heap = RowHeap(1)
    heap.put([claimed(1)])
    with ThreadPoolExecutor(1) as threads:
        result = threads.submit(heap.wait_for_room, NORMAL, 60)
        take(heap)
        assert result.result(5) == 1
