"""What a limiter that has lost its memory must be told: what was sent lately, from the database.

Everything that was granted before the loss is known after one lease: living workers have said what they still hold, and
what dead ones held is in the database, sent, in the air or in doubt. Until then nothing is granted; a fleet
that has just been started has nothing to wait for.

A rule with another unit or window, set while others send, has no memory though its host has one. Until every process counts
in it, mail passes that it does not see: it is told a lease after the last of them must have heard of it. So is one that was
taken away and comes back.
"""

import logging
import math
from collections.abc import Callable

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from mailfleet_schema.engine import read_only
from mailfleet_schema.statements import worker
from mailfleet_schema.statements.sent import Sent, sent
from mailfleet_workers.limits.base import CountingLimiter, Lacking, LimiterUnavailable
from mailfleet_workers.limits.book import Limits
from mailfleet_workers.limits.rule import Rule, Scope, Unit
from mailfleet_workers.pulse import boottime

log = logging.getLogger(__name__)

#: A window is told in so many steps.
STEPS = 120
#: Every process has heard so many seconds after the first one that a limit was changed: they ask every two.
HEARD_S = 5.0
#: Processes that started within so many seconds of each other started with the same limits.
TOGETHER_S = 10.0

#: A rule's memory: its host, its account unless it is the host's own, what it counts, its window in ms.
_Memory = tuple[str, str, Unit, int]


class Seeding:
    """Tells *limiter* what it lacks, as the database at *engine* has it. Any number of processes may do it at once.

    Permits last for *lease_s*; a worker that was not heard from for *quiet_s* is gone. *clock* never stops.
    """

    def __init__(
        self,
        engine: Engine,
        limiter: CountingLimiter,
        *,
        lease_s: float,
        quiet_s: float = 30.0,
        clock: Callable[[], float] = boottime,
    ) -> None:
        self._engine = engine
        self._limiter = limiter
        self._lease_s = lease_s
        # Whose heartbeats are seldom lives all the same, and what a dead one held ends a lease after its death.
        self._quiet_s = max(lease_s, quiet_s)
        self._clock = clock
        self._late_s = lease_s + HEARD_S
        #: The memories that were not too new with the last pass; when too new ones were found; hosts that were looked at.
        self._known: set[_Memory] = set()
        self._since: dict[_Memory, float] = {}
        self._seen: set[str] = set()

    def run_once(self) -> bool:
        """Whether the limiter knows everything now. A host that cannot be told keeps none of the others from it."""
        # What is replaced meanwhile has not been looked at.
        book = self._limiter.book.all().values()
        # What was taken away and comes back is new.
        self._known &= {_memory(rule, limits) for limits in book for rule in limits.rules}
        late: set[_Memory] = set()
        failed: set[str] = set()
        told = True
        try:
            for lacking in self._limiter.unready():
                told &= self._told(lacking, late, failed)
        except LimiterUnavailable:
            return False  # it has been said
        memories = {_memory(rule, limits) for limits in book for rule in limits.rules}
        looked = {memory for memory in memories if memory[0] not in failed} - late
        self._known = looked | (memories & self._known)
        untold = late | {memory for memory in memories if memory[0] in failed}
        self._since = {memory: since for memory, since in self._since.items() if memory in untold}
        self._seen |= {limits.host for limits in book} - failed
        return told and not late

    def _told(self, lacking: Lacking, late: set[_Memory], failed: set[str]) -> bool:
        try:
            return self._tell(lacking, late)
        except LimiterUnavailable:
            raise
        except SQLAlchemyError as error:
            log.warning("limiter_not_told", extra={"host": lacking.host, "error": type(error).__name__})
        except Exception:
            # A bug, of which the other hosts know nothing.
            log.exception("limiter_not_told", extra={"host": lacking.host})
        failed.add(lacking.host)
        return False

    def _late(self, connection: Connection, lacking: Lacking) -> set[_Memory]:
        """The memories that cannot be told yet, because somebody may not count in them."""
        first = lacking.host not in self._seen
        if math.isinf(lacking.age_s) or (first and lacking.age_s < self._lease_s):
            return set()  # nobody else grants anything, or the host is new itself
        now = self._clock()
        lacks = {_memory(rule, limits) for _, rule, limits in lacking.rules} - self._known
        late = {memory for memory in lacks if now - self._since.setdefault(memory, now) < self._late_s}
        if late and first:
            # With the limits it started with, it need not wait for those that started together with it.
            ago_s = TOGETHER_S + max(now - self._since[memory] for memory in late)
            if not worker.alive_before(connection, ago_s=ago_s, quiet_s=self._quiet_s):
                return set()
        return late

    def _tell(self, lacking: Lacking, late: set[_Memory]) -> bool:
        with read_only(self._engine) as connection:
            late |= (ours := self._late(connection, lacking))
            if lacking.age_s < self._lease_s and worker.alive_before(
                connection, ago_s=lacking.age_s, quiet_s=self._quiet_s
            ):
                return False
            rules = [one for one in lacking.rules if _memory(one[1], one[2]) not in ours]
            if ours and not rules:
                return False
            found = []
            for name, rule, limits in rules:
                window_s = rule.rate.window_ms / 1000
                rows = sent(
                    connection,
                    accounts=self._accounts(rule, limits),
                    host=limits.host if rule.scope is Scope.HOST else None,
                    window_s=window_s,
                    step_s=window_s / STEPS,
                )
                found.append((name, [(row.age_s, _amount(rule, row)) for row in rows]))
        self._limiter.seed(lacking.host, found, epoch=lacking.epoch)
        fields = {"host": lacking.host, "rules": len(found), "after_s": round(lacking.age_s, 1)}
        log.info("limiter_told", extra=fields)
        return True

    def _accounts(self, rule: Rule, limits: Limits) -> list[str]:
        if rule.scope is Scope.ACCOUNT:
            return [limits.account]
        return [name for name, one in self._limiter.book.all().items() if one.host == limits.host]


def _amount(rule: Rule, row: Sent) -> int:
    return row.messages if rule.unit is Unit.MESSAGES else row.recipients


def _memory(rule: Rule, limits: Limits) -> _Memory:
    account = limits.account if rule.scope is Scope.ACCOUNT else ""
    return limits.host, account, rule.unit, rule.rate.window_ms
