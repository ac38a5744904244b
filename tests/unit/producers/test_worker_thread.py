"""The mark of sending threads."""

import threading

from mailfleet.worker_thread import in_worker_thread, mark_worker_thread


def test_the_mark_belongs_to_one_thread() -> None:
    """A marked thread knows it; others do not."""
    seen: list[bool] = []

    def sender() -> None:
        seen.append(in_worker_thread())
        mark_worker_thread()
        mark_worker_thread()
        seen.append(in_worker_thread())

    thread = threading.Thread(target=sender)
    thread.start()
    thread.join()

    assert seen == [False, True]
    assert not in_worker_thread()
