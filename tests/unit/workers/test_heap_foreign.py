"""Mail of other apps in a pool's heap: after its own, in what room that leaves, by some of its threads."""

from mailfleet_schema.statements.claim import Claimed
from mailfleet_schema.states import Priority
from mailfleet_workers.heap import RowHeap
from tests.unit.workers.making import claimed

HIGH, NORMAL, BULK = Priority.HIGH, Priority.NORMAL, Priority.BULK


def own(mail_id: int, priority: Priority = NORMAL, account: str = "default") -> Claimed:
    return claimed(mail_id, app="crm", priority=priority, account=account)


def foreign(mail_id: int, priority: Priority = NORMAL, account: str = "default") -> Claimed:
    return claimed(mail_id, app="billing", priority=priority, account=account)


def heap(capacity: int = 16, *, threads: int = 1) -> RowHeap:
    return RowHeap(capacity, own=["crm"], foreign_threads=threads)


def taken(pool: RowHeap, *, high_only: bool = False, most: int = 50) -> list[int]:
    batch = pool.take(most=most, high_only=high_only, timeout_s=0.0)
    return [] if batch is None else [row.id for row in batch.rows]


def test_own_goes_first() -> None:
    """Whatever its priority, own mail is taken before another app's `high`; one batch never has both."""
    pool = heap()
    pool.put([foreign(1, HIGH), own(2, BULK), own(3)])
    assert taken(pool) == [3, 2]
    assert taken(pool) == [1]


def test_own_goes_first_among_accounts() -> None:
    """The same where they go through several accounts."""
    pool = heap()
    pool.put([foreign(1, HIGH, "theirs"), own(2, BULK, "ours")])
    assert taken(pool) == [2]


def test_it_takes_no_room() -> None:
    """Foreign rows have a quarter of the heap, all priorities together, and none of the room of its own."""
    pool = heap(16)
    assert pool.wait_for_shared_room(NORMAL, 0.0) == 4
    pool.put([foreign(n, priority) for n, priority in enumerate((HIGH, NORMAL, BULK))])
    assert pool.wait_for_shared_room(HIGH, 0.0) == 1
    assert [pool.wait_for_room(priority, 0.0) for priority in Priority] == [16, 16, 16]


def test_none_comes_while_own_waits() -> None:
    """While one of its own waits, of whatever account and priority, a pool takes no other app's."""
    pool = heap()
    pool.put([own(1, BULK, "slow")])
    assert pool.wait_for_shared_room(HIGH, 0.0) == 0
    assert taken(pool) == [1]
    assert pool.wait_for_shared_room(HIGH, 0.0) == 4


def test_threads_are_left_for_own() -> None:
    """So many threads at most are at work on foreign rows; reserved ones take none, `high` or not."""
    pool = heap(threads=1)
    pool.put([foreign(1, HIGH, "a"), foreign(2, HIGH, "b")])
    assert taken(pool, high_only=True) == []
    assert taken(pool) == [1]
    assert taken(pool) == []
    pool.finished("a", foreign=True)
    assert taken(pool) == [2]


def test_it_yields() -> None:
    """A thread at work on foreign rows learns that own ones wait; one at work on its own goes on."""
    pool = heap()
    assert not pool.yields(foreign(1))
    pool.put([own(2, account="ours")])
    assert pool.yields(foreign(1))
    assert not pool.yields(own(3))


def test_it_yields_to_nobody_who_must_wait() -> None:
    """Own rows of another account that no thread may take now are no reason: the thread would come back at once, for ever."""
    pool = heap()
    with pool.asleep("ours", HIGH):
        pool.put([own(2, account="ours")])
        assert not pool.yields(foreign(1))
        assert pool.yields(foreign(1, account="ours"))
    assert pool.yields(foreign(1))


def test_it_gives_way() -> None:
    """What waits behind own rows can be taken out, and is held until it is given back; alone it stays."""
    pool = heap()
    row = foreign(1)
    pool.put([row])
    assert pool.take_foreign() == []
    pool.put([own(2)])
    assert pool.take_foreign() == [row]
    assert pool.holds(1, row.fence)
    assert pool.take_foreign() == []
    assert taken(pool) == [2]
    assert pool.wait_for_shared_room(NORMAL, 0.0) == 4


def test_a_sleeper_keeps_no_own_waiting() -> None:
    """While a thread sleeps out a limit for foreign rows, own ones of that account go on."""
    pool = heap(threads=2)
    with pool.asleep("default", HIGH, foreign=True):
        pool.put([foreign(1, HIGH), own(2, BULK)])
        assert taken(pool) == [2]
        assert taken(pool) == []
    assert taken(pool) == [1]


def test_a_refusal_of_foreign_rows_parks_no_own() -> None:
    """What was refused to another app's rows sends back no own ones of the account; the other way round it does."""
    pool = heap()
    pool.put([foreign(1), foreign(2, HIGH), own(3, BULK)])
    assert [row.id for row in pool.take_account("default", below=NORMAL, foreign=True)] == [1]
    assert [row.id for row in pool.take_account("default")] == [3, 2]


def test_without_names_all_are_own() -> None:
    """A heap that is told of no apps has no foreign rows."""
    pool = RowHeap(4)
    pool.put([foreign(1)])
    assert pool.wait_for_room(NORMAL, 0.0) == 3
