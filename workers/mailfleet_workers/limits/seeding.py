"""What a limiter that has lost its memory must be told: what was sent lately, from the database.

Everything that was granted before the loss is known after one lease: living workers have said what they still hold, and
what dead ones held is in the database, sent, in the air or in doubt. Until then nothing is granted; a fleet
that has just been started has nothing to wait for.
"""

import logging

from sqlalchemy import Engine

from mailfleet_schema.engine import read_only
from mailfleet_schema.statements import worker
from mailfleet_schema.statements.sent import Sent, sent
from mailfleet_workers.limits.base import CountingLimiter, Lacking, LimiterUnavailable
from mailfleet_workers.limits.book import Limits
from mailfleet_workers.limits.rule import Rule, Scope, Unit

log = logging.getLogger(__name__)

#: A window is told in so many steps.
STEPS = 60


class Seeding:
    """Tells *limiter* what it lacks, as the database at *engine* has it. Any number of processes may do it at once."""

    def __init__(self, engine: Engine, limiter: CountingLimiter, *, lease_s: float) -> None:
        self._engine = engine
        self._limiter = limiter
        self._lease_s = lease_s

    def run_once(self) -> bool:
        """Whether the limiter knows everything now. Raises SQLAlchemyError when the database does not answer."""
        try:
            told = [self._tell(one) for one in self._limiter.unready()]
        except LimiterUnavailable:
            return False  # it has been said
        return all(told)

    def _tell(self, lacking: Lacking) -> bool:
        with read_only(self._engine) as connection:
            if lacking.age_s < self._lease_s and worker.alive_before(
                connection, ago_s=lacking.age_s, quiet_s=self._lease_s
            ):
                return False
            found = []
            for name, rule, limits in lacking.rules:
                window_s = rule.rate.window_ms / 1000
                rows = sent(
                    connection,
                    accounts=self._accounts(rule, limits),
                    host=limits.host if rule.scope is Scope.HOST else None,
                    window_s=window_s,
                    step_s=window_s / STEPS,
                )
                found.append((name, [(row.age_s, _amount(rule, row)) for row in rows]))
        self._limiter.seed(lacking.host, found)
        fields = {"host": lacking.host, "rules": len(found), "after_s": round(lacking.age_s, 1)}
        log.info("limiter_told", extra=fields)
        return True

    def _accounts(self, rule: Rule, limits: Limits) -> list[str]:
        if rule.scope is Scope.ACCOUNT:
            return [limits.account]
        return [name for name, one in self._limiter.book.all().items() if one.host == limits.host]


def _amount(rule: Rule, row: Sent) -> int:
    return row.messages if rule.unit is Unit.MESSAGES else row.recipients
