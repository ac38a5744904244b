"""One look for mail that is due, whoever carries it: in a fleet it is hinted again, and the workers send it."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Engine

from mailfleet.broker.base import BrokerUnavailable, HintBroker
from mailfleet_schema.hint import Hint, group
from mailfleet_schema.senders import ANY, SHARED
from mailfleet_schema.statements.reconcile import Looked, Patience, look, look_now
from mailfleet_schema.states import Priority
from mailfleet_workers.reconciler import PAGE
from mailfleet_workers.views.base import View


@dataclass(frozen=True, slots=True)
class Hinted(View):
    """How many mails the broker was given; `problem` says why it took no more, None when all were."""

    mails: int
    problem: str | None = None


def hint_due(
    engine: Engine, broker: HintBroker, apps: Sequence[str], patience: Patience, *, most: int
) -> Hinted:
    """Give all due mail of *apps* to *broker*, each once; *most* is how many are queued in one of them, about."""
    hinted = 0
    seen: set[int] = set()
    # Not until there is nothing left: workers at work push rows further away again, for as long as there are some.
    for _ in range(most // PAGE + 1):
        with engine.begin() as connection:
            if not look_now(connection, apps, beyond_s=0.0, most=PAGE):
                break
    while True:
        with engine.begin() as connection:
            rows = look(connection, apps, patience, most=PAGE)
        # In a large backlog the first ones are due for another look before the last had theirs.
        rows = [row for row in rows if row.mail_id not in seen]
        if not rows:
            return Hinted(hinted)
        seen |= {row.mail_id for row in rows}
        try:
            # After the commit: a worker that is quicker would find the rows locked, and leave them.
            broker.publish(_hints(rows))
        except BrokerUnavailable as error:
            return Hinted(hinted, str(error))
        hinted += len(rows)


def _hints(rows: Sequence[Looked]) -> list[Hint]:
    """Hints for *rows*: those that several apps may send to all of them, whoever comes first has it."""
    own: list[tuple[str, Priority, int]] = []
    others: list[tuple[str, Priority, int]] = []
    for row in rows:
        names = (row.app,) if row.apps is None else (row.app, SHARED) if ANY in row.apps else row.apps
        for name in names:
            (own if name == row.app else others).append((name, row.priority, row.mail_id))
    return group(own) + group(others, shared=True)
