"""From a hint to claimed rows: all that a broker's consumer does. It never sends.

A worker without a young heartbeat claims nothing. The hint is acknowledged when the claim is committed: from then on the
rows are the database's business. A hint may come twice, late or never; a row that cannot be claimed (gone, not due,
somebody else's) is simply left out.
"""

import logging
import random
import time
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from mailfleet.failpoints import failpoint
from mailfleet_schema.engine import read_only
from mailfleet_schema.hint import Hint, InvalidHint
from mailfleet_schema.statements import claim
from mailfleet_schema.statements.claim import Claimed, Return
from mailfleet_schema.statements.webhook import tell
from mailfleet_schema.topology import SHARED_APP
from mailfleet_schema.webhook import Endpoint
from mailfleet_workers.heap import RowHeap
from mailfleet_workers.notify import Notice, Notify
from mailfleet_workers.pulse import Pulse
from mailfleet_workers.taking import Taking, Unknown
from mailfleet_workers.telemetry import events
from mailfleet_workers.telemetry.meter import SILENT, Meter

log = logging.getLogger(__name__)


class IntakeClosed(Exception):  # noqa: N818 - reads as the fact it states
    """The pool is draining: the hint belongs to another process, or to this one's successor."""

    #: For brokers: neither acknowledged nor refused, the message goes back when the connection closes.
    leave_unacknowledged = True


#: A hint whose rows find no room for so long is let go, in seconds: `look_at` brings its rows back. Far below any
#: broker's acknowledgement timeout.
MOST_WAIT_S = 30.0
#: How long rows that do not all fit wait for more room, in seconds: a transaction for each of them costs more.
TOGETHER_S = 0.25
#: Between two tries to claim from a database that does not answer, in seconds.
AGAIN_S = 0.5
#: Rows whose threads were interrupted twice are worked on one at a time; each further one comes so much later, in seconds.
SUSPECT_S = 2.0
#: So many claims are remembered: more than are lost with the tail of a replication.
REMEMBERED = 20_000
#: When a claim is tried again whose fence was had before, in seconds.
REWOUND_S = 0.5
REWOUND = "the database has gone back"
#: So long a hint of shared mail waits until nothing of our own waits; others may have the time. In seconds.
IDLE_S = 1.0
#: Who is asked in our place is asked so much later, in seconds: all of them may be as busy.
PASS_ON_S = 1.0


class Intake:
    """Claims the rows of hints into *heap* for worker *worker_id*; *apps* are those whose rows it may take.

    One that *shares* takes mail that is for everybody, too; *unknown* are accounts of which it takes none. Shared mail that
    it has no time for is hinted to others by *notify*.
    """

    def __init__(
        self,
        engine: Engine,
        heap: RowHeap,
        *,
        apps: Sequence[str],
        worker_id: int,
        pulse: Pulse,
        shares: bool = False,
        unknown: Unknown | None = None,
        notify: Notify = lambda _: None,
        rng: random.Random | None = None,
        clock: Callable[[], float] = time.monotonic,
        most_wait_s: float = MOST_WAIT_S,
        meter: Meter = SILENT,
        endpoints: Sequence[Endpoint] = (),
    ) -> None:
        self._engine = engine
        self._heap = heap
        self._apps = frozenset(apps)
        self._taking = Taking(tuple(apps), shares)
        self._unknown = unknown or Unknown(clock)
        self._notify = notify
        self._rng = rng or random.Random()
        self._worker_id = worker_id
        self._pulse = pulse
        self._clock = clock
        self._most_wait_s = most_wait_s
        self._meter = meter
        self._endpoints = endpoints
        self._suspect: tuple[int, int] | None = None
        self._claimed: dict[int, int] = {}
        self.misses = 0

    def take(self, argument: Any) -> int:
        """Claim what the hint in *argument* names; returns how many rows.

        Raises InvalidHint for what is none, and IntakeClosed when the pool drains before every row was tried.
        """
        hint = Hint.from_argument(argument)
        if hint.app not in self._apps and hint.app != SHARED_APP:
            raise InvalidHint(f"app: expected one of {', '.join(sorted(self._apps))}, got {hint.app!r}")
        until = self._clock() + self._most_wait_s
        ids, taken = list(hint.ids), 0
        shared = hint.shared or hint.app not in self._apps
        failpoint("before_claim")
        while ids:
            if not self._pulse.fresh():
                if self._wait_for_database(until):
                    continue
                break
            if shared:
                # In a queue of our own no hint of our own may wait behind it. What is left of one may be others'.
                wait_s = IDLE_S if hint.app == SHARED_APP and not taken else 0.0
                room = self._heap.wait_for_shared_room(hint.priority, wait_s)
            else:
                room = self._heap.wait_for_room(hint.priority, max(0.0, until - self._clock()))
            if room <= 0:
                if self._heap.closed:
                    raise IntakeClosed
                if shared:
                    self._pass_on(hint, ids)
                    break
                log.info("hint_let_go", extra={"app": hint.app, "mails": len(ids)})
                break
            if room < len(ids) and not shared:
                room = self._heap.wait_for_room(hint.priority, TOGETHER_S, wanted=len(ids)) or room
            now, rest = ids[:room], ids[room:]
            try:
                taken += self._claim(hint, now, shared=shared)
            except SQLAlchemyError as error:
                log.warning("claim_failed", extra={"app": hint.app, "error": type(error).__name__})
                # A broker that kept its hints through an outage of the database must not lose all of them to it.
                if self._wait_for_database(until):
                    continue
                break
            ids = rest
        failpoint("before_ack")
        return taken

    def _pass_on(self, hint: Hint, ids: Sequence[int]) -> None:
        """Let others be asked for *ids*, for which we have no time; the look at a row of which nobody hears comes soon."""
        try:
            with read_only(self._engine) as connection:
                rows = claim.shared_of(connection, ids)
        except SQLAlchemyError as error:
            log.warning("claim_failed", extra={"app": hint.app, "error": type(error).__name__})
            return
        # A hint does not know where it has been, and goes round among the busy; each look at the row sends another one after it.
        # The more there are, the sooner one is let go.
        rows = [row for row in rows if self._rng.random() * (1 + row.looks) < 1]
        later_s = 0.0 if hint.app == SHARED_APP else PASS_ON_S
        self._notify(
            [Notice(row.app, row.priority, row.id, later_s, self._taking.instead(row)) for row in rows]
        )

    def _wait_for_database(self, until: float) -> bool:
        """Wait a moment; False when it is time to let the hint go: `look_at` brings its rows back."""
        left_s = until - self._clock()
        if left_s <= 0:
            return False
        if self._heap.wait_closed(min(left_s, AGAIN_S)):
            raise IntakeClosed
        return True

    def _claim(self, hint: Hint, ids: list[int], *, shared: bool) -> int:
        with self._heap.claiming:
            if self._heap.closed:
                raise IntakeClosed
            with self._engine.begin() as connection:
                rows = self._rows_of(connection, hint, ids, shared=shared)
                suspects = [row.id for row in rows if row.interruptions >= claim.MAX_INTERRUPTIONS]
                held = (
                    claim.hold_poison(connection, suspects, worker_id=self._worker_id) if suspects else set()
                )
                tell(connection, self._endpoints, held)
                rewound = [row for row in rows if self._claimed.get(row.id, 0) >= row.fence]
                returns = self._but_one_suspect([row for row in rows if row not in rewound])
                returns += [Return(row.id, row.fence, due_in_s=REWOUND_S, reason=REWOUND) for row in rewound]
                # The next pass hints them.
                later = claim.give_back(connection, returns, grace_s=0.0, worker_id=self._worker_id)
            taken = [row for row in rows if row.id not in held | later]
            events.claimed(taken, worker_id=self._worker_id)
            self._heap.put(taken)
            self._remember(rows)
        events.poisoned([row for row in rows if row.id in held], worker_id=self._worker_id)
        events.given_back(rows, returns, ours=later, held=(), worker_id=self._worker_id)
        if len(rows) < len(ids):
            self.misses += len(ids) - len(rows)
            self._meter.claim_missed(hint.app, len(ids) - len(rows))
        if rows:
            failpoint("after_claim")
        return len(rows)

    def _rows_of(self, connection: Connection, hint: Hint, ids: list[int], *, shared: bool) -> list[Claimed]:
        if not shared:
            return claim.claim(connection, ids=ids, app=hint.app, worker_id=self._worker_id, room=len(ids))
        return claim.claim_shared(
            connection,
            ids=ids,
            apps=self._taking.apps,
            shares=self._taking.shares,
            worker_id=self._worker_id,
            room=len(ids),
            unknown=self._unknown.pairs(),
        )

    def _remember(self, rows: Sequence[Claimed]) -> None:
        """Which claims this process has had: a fence is never the same twice, unless the database has gone back.

        After a failover that lost the tail an id may be another mail's, or the same one's that was sent already. What this
        process and its journal know of the older claim must not end the newer one, so that is given back until its fence
        is one of which nobody has spoken.
        """
        for row in rows:
            self._claimed[row.id] = max(row.fence, self._claimed.pop(row.id, 0))
        for mail_id in list(islice(self._claimed, max(0, len(self._claimed) - REMEMBERED))):
            del self._claimed[mail_id]

    def _but_one_suspect(self, rows: Sequence[Claimed]) -> list[Return]:
        """Of *rows* that were interrupted twice all but one, and that one too while another is at work here.

        A mail that ends its process interrupts whatever the other threads are at, again and again the same mails. Before
        the third time they are told apart: only one of them is here when it happens.
        """
        suspects = [row for row in rows if row.interruptions == claim.MAX_INTERRUPTIONS - 1]
        if suspects and (self._suspect is None or not self._heap.holds(*self._suspect)):
            self._suspect = suspects[0].id, suspects[0].fence
            suspects = suspects[1:]
        return [
            Return(row.id, row.fence, due_in_s=SUSPECT_S * number, reason="interrupted twice: one at a time")
            for number, row in enumerate(suspects, start=1)
        ]
