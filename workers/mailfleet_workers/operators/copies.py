"""What a person says of a database that is not where it was: it was moved, or it is a copy (decision 10).

Moved: everything of it goes on, with the journals on the workers' machines. A copy: it gets an id of its own, so that no
journal of its original is read for it, and its open mail, which the original sends, is held, cancelled, or kept.
"""

from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import Connection, Engine, text

from mailfleet_schema.dialects import dialect_of
from mailfleet_schema.engine import read_only
from mailfleet_schema.home import Home
from mailfleet_schema.statements import home, reconcile, worker
from mailfleet_schema.statements.copied import COPIED, give_up_events
from mailfleet_schema.statements.instance import instance_id
from mailfleet_schema.statements.operate import CANCEL, HOLD
from mailfleet_schema.statements.reconcile import Patience
from mailfleet_schema.states import State
from mailfleet_workers.operators.mails import STRETCH, by_filter
from mailfleet_workers.views.base import View
from mailfleet_workers.views.filter import Filter

#: While a copy is put in order: no place is like it, so that no worker begins in the middle.
_UNFINISHED = "copy=unfinished"


class OpenMail(StrEnum):
    """What becomes of the mail of a copy that is not through."""

    KEEP = "keep"
    HOLD = "hold"
    CANCEL = "cancel"


@dataclass(frozen=True, slots=True)
class Found(View):
    """A database and where it stands. `recorded` None: no worker has used it yet; `differences` empty: it stands where it stood.

    `alive` are workers with a young heartbeat. `due` are those of `queued` whose time has come.
    """

    instance: str
    recorded: str | None
    now: str
    differences: tuple[str, ...]
    alive: int
    queued: int
    due: int
    sending: int
    doubt: int
    held: int

    @property
    def elsewhere(self) -> bool:
        return bool(self.differences)


@dataclass(frozen=True, slots=True)
class Confirmed(View):
    """Workers may use it now, as database `instance`. `held` and `cancelled` mails and ended `events` are those of a copy."""

    instance: str
    held: int = 0
    cancelled: int = 0
    events: int = 0


@dataclass(frozen=True, slots=True)
class Refused(View):
    """Nothing was changed; `reason` says why, in words."""

    reason: str


def find(connection: Connection, *, installation: str | None, quiet_s: float) -> Found:
    """How the database of *connection* stands, for somebody whose settings name *installation*."""
    recorded = home.home_recorded(connection)
    now = home.home_now(connection, installation=installation)
    counts = _counts(connection)
    return Found(
        instance=instance_id(connection),
        recorded=recorded,
        now=str(now),
        differences=() if recorded is None else Home.parse(recorded).differs(now),
        alive=sum(one.quiet_for_s <= quiet_s for one in worker.all_workers(connection)),
        queued=counts.get(State.QUEUED, 0),
        due=counts.get("due", 0),
        sending=counts.get(State.SENDING, 0),
        doubt=counts.get(State.DOUBT, 0),
        held=counts.get(State.HELD, 0),
    )


def _counts(connection: Connection) -> dict[str, int]:
    d = dialect_of(connection)
    # A word of each statement, not a value: only so can a partial index be used.
    parts = [
        f"SELECT '{state}' AS name, count(*) AS mails FROM {{mail}} WHERE state = '{state}'"
        for state in (State.QUEUED, State.SENDING, State.DOUBT, State.HELD)
    ]
    parts.append("SELECT 'due', count(*) FROM {mail} WHERE state = 'queued' AND due_at <= {now}")
    rows = connection.execute(text(d.format(" UNION ALL ".join(parts))))
    return {row.name: row.mails for row in rows}


def moved(engine: Engine, found: Found, *, quiet_s: float) -> Confirmed | Refused:
    """It is the same database in another place, and its original is gone: nothing of it changes."""
    if found.recorded is None:
        return Refused("no worker has used it yet, so there is nothing to confirm")
    with engine.begin() as connection:
        if refused := _may_be_confirmed(connection, found, found.now, quiet_s=quiet_s):
            return refused
    return Confirmed(found.instance)


def copied(
    engine: Engine, found: Found, *, new_instance: str, open_mail: OpenMail, quiet_s: float
) -> Confirmed | Refused:
    """It is a copy, *new_instance* from now on. Broken off and repeated, it goes on; no worker begins before its end."""
    with engine.begin() as connection:
        if refused := _may_be_confirmed(connection, found, _UNFINISHED, quiet_s=quiet_s):
            return refused
    held = cancelled = events = 0
    if open_mail is not OpenMail.KEEP:
        _forget_workers(engine)
        held = by_filter(engine, HOLD, Filter(), reason=COPIED)
    if open_mail is OpenMail.CANCEL:
        cancelled = by_filter(engine, CANCEL, Filter(states=(State.HELD,)), reason=COPIED)
        held = 0
    if open_mail is not OpenMail.KEEP:
        # Those of the changes above too: the original's endpoints must not hear of its mail from here.
        events = _give_up_events(engine)
    with engine.begin() as connection:
        done = home.confirm(
            connection,
            found.now,
            instance=found.instance,
            new_instance=new_instance,
            recorded=_UNFINISHED,
        )
    if not done:
        return Refused("somebody else confirmed it at the same time")
    return Confirmed(new_instance, held=held, cancelled=cancelled, events=events)


def _may_be_confirmed(connection: Connection, found: Found, place: str, *, quiet_s: float) -> Refused | None:
    """Record *place*, unless workers are at work in this very database: then it is neither moved nor a copy."""
    alive = [one for one in worker.all_workers(connection) if one.quiet_for_s <= quiet_s]
    if alive:
        hosts = ", ".join(sorted({one.host for one in alive}))
        return Refused(
            f"{len(alive)} workers were heard of within the last {quiet_s:g} s ({hosts}); stop them first,"
            " or wait if they are those of the original"
        )
    same = home.confirm(
        connection, place, instance=found.instance, new_instance=found.instance, recorded=found.recorded
    )
    return None if same else Refused("it was changed meanwhile; look again")


def _forget_workers(engine: Engine) -> None:
    """The workers of the original are none of the copy's: what they held is queued or in doubt."""
    with read_only(engine) as connection:
        known = {one.id for one in worker.all_workers(connection)} | set(reconcile.ownerless(connection))
    ids = sorted(known)
    while ids:
        with engine.begin() as connection:
            taken = reconcile.take_back(connection, ids, Patience(), most=STRETCH)
        if not taken.queued | taken.doubt:
            break
    for one in ids:
        with engine.begin() as connection:
            worker.retire(connection, one)


def _give_up_events(engine: Engine) -> int:
    total = 0
    while True:
        with engine.begin() as connection:
            ended = give_up_events(connection, most=STRETCH)
        total += ended
        if not ended:
            return total
