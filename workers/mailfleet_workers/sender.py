"""A sender thread: takes batches from the heap and delivers them, until the pool stops."""

import logging

from mailfleet.worker_thread import mark_worker_thread
from mailfleet_workers.delivery import Delivery
from mailfleet_workers.desk import Desk
from mailfleet_workers.telemetry.faults import UNEXPECTED

log = logging.getLogger(__name__)

#: How long a thread waits for rows before it looks whether to stop, in seconds.
WAIT_S = 2.0


class Sender:
    """One thread's loop. *high_only* threads are kept free for rows of priority `high`."""

    def __init__(self, desk: Desk, *, high_only: bool = False) -> None:
        self._desk = desk
        self._high_only = high_only
        self._delivery = Delivery(desk)

    def run(self) -> None:
        """Deliver until the desk stops; what waits in the heap then is given back by the pool."""
        mark_worker_thread()
        while not self._desk.stop.is_set():
            self.run_once()

    def run_once(self, *, timeout_s: float = WAIT_S) -> bool:
        """Deliver one batch; False when there was none within *timeout_s*."""
        batch = self._desk.heap.take(
            most=self._delivery.appetite, high_only=self._high_only, timeout_s=timeout_s
        )
        if batch is None:
            return False
        try:
            self._delivery.deliver(batch)
        except UNEXPECTED:
            # A bug: the rows stay claimed, and the reconciler frees what no thread holds. The thread goes on, whatever it was.
            log.exception("batch_lost", extra={"app": self._desk.app, "account": batch.account})
            self._desk.heap.forget(batch.rows)
        finally:
            self._desk.heap.finished(batch.account, foreign=batch.foreign)
        return True
