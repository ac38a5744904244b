"""Where claimed rows go back: given up for now, each with the time at which it comes again.

What comes back at one instant is sent at one instant, and refused at one: waits are spread.
"""

from collections.abc import Sequence

from mailfleet_schema.statements.claim import Claimed, Return
from mailfleet_schema.states import Priority
from mailfleet_workers.desk import Desk, Way


class Returns:
    """Gives rows of *desk* back. It keeps nothing, so each thread may have its own."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def give_back(
        self,
        rows: Sequence[Claimed],
        due_in_s: float | None,
        reason: str | None,
        *,
        begun: bool = False,
    ) -> None:
        """Give *rows* back; those that wait come back spread over a tenth of their wait, not all at once."""
        spread = self._desk.rng.uniform
        waits = [None if due_in_s is None else due_in_s + spread(0.0, min(due_in_s / 10, 5.0)) for _ in rows]
        self._give_back(rows, waits, reason, begun=begun)

    def park(self, way: Way, rows: Sequence[Claimed], after_s: float, reason: str) -> None:
        """Give *rows* back for a limit or a gate that keeps them for *after_s* at least: each when its turn may come."""
        groups: dict[tuple[str, Priority], list[Claimed]] = {}
        for row in sorted(rows, key=lambda row: (row.due_at, row.id)):
            groups.setdefault((row.app, row.priority), []).append(row)
        parked: list[Claimed] = []
        waits: list[float | None] = []
        for (app, priority), group in groups.items():
            parked += group
            told = self._desk.limiter.park(
                app=app, account=way.account.name, priority=priority, mails=len(group), after_s=after_s
            )
            # Those that nobody told apart come spread over a tenth of their wait, not all at once.
            waits += [
                wait_s if wait_s > after_s else after_s + self._desk.rng.uniform(0.0, min(after_s / 10, 5.0))
                for wait_s in told
            ]
        self._give_back(parked, waits, reason)

    def _give_back(
        self,
        rows: Sequence[Claimed],
        waits: Sequence[float | None],
        reason: str | None,
        *,
        begun: bool = False,
    ) -> None:
        returns = [
            Return(row.id, row.fence, wait_s, reason, begun=begun, waited=wait_s is not None and not begun)
            for row, wait_s in zip(rows, waits, strict=True)
        ]
        self._desk.ledger.give_back(rows, returns)
