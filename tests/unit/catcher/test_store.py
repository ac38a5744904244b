"""The store in memory: numbers, order, waiting."""

import threading

import pytest

from mailfleet_workers.catcher.store import MemoryStore, Receipt


def receipt(sender: str = "a@x.test") -> Receipt:
    return Receipt(
        session_id=1,
        peer=("127.0.0.1", 1),
        helo=None,
        user=None,
        tls=False,
        sender=sender,
        recipients=("b@x.test",),
        message=b"Subject: x\r\n\r\n",
        received_at=1.5,
        monotonic=2.5,
    )


def test_numbers_in_order() -> None:
    """Receipts are numbered from 1 in the order they come, and listed and iterated in it."""
    store = MemoryStore()

    kept = [store.add(receipt(sender)) for sender in ("a@x.test", "b@x.test")]

    assert [one.number for one in kept] == [1, 2]
    assert list(store) == kept
    assert store.receipts() == tuple(kept)
    assert len(store) == 2


def test_many_threads_get_different_numbers() -> None:
    """Receipts added by several threads at once are all kept, each with its own number."""
    store = MemoryStore()
    threads = [threading.Thread(target=lambda: [store.add(receipt()) for _ in range(50)]) for _ in range(4)]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [one.number for one in store] == list(range(1, 201))


def test_waiting_ends_with_the_last_mail() -> None:
    """A wait ends when the count is reached by another thread, with all receipts."""
    store = MemoryStore()
    store.add(receipt())
    other = threading.Thread(target=lambda: store.add(receipt()))
    other.start()

    found = store.wait_for(2, 10)

    other.join()
    assert len(found) == 2


def test_waiting_in_vain_says_how_many_there_were() -> None:
    """After the deadline a wait raises, with the number of mails that did come."""
    store = MemoryStore()
    store.add(receipt())

    with pytest.raises(TimeoutError, match="1 of 3 mails"):
        store.wait_for(3, 0.01)
