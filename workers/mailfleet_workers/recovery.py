"""What becomes of the rows of a worker that died: its journal says what it knew, the rest is taken back.

Whoever knows that the worker is dead calls this: the parent of a child, the next start on the same host, the one
process of the embedded mode.
"""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DataError, IntegrityError

from mailfleet_schema.engine import read_only
from mailfleet_schema.statements import claim, settle, worker
from mailfleet_schema.statements.claim import Held, Return
from mailfleet_schema.statements.instance import instance_id
from mailfleet_schema.statements.reconcile import Patience
from mailfleet_schema.statements.settle import Settlement
from mailfleet_schema.statements.webhook import tell
from mailfleet_schema.states import OnDoubt, Phase, State
from mailfleet_schema.webhook import Endpoint
from mailfleet_workers import journal
from mailfleet_workers.journal import Record
from mailfleet_workers.journal_entry import Entry
from mailfleet_workers.ledger import write_outcomes
from mailfleet_workers.outcome import Outcome
from mailfleet_workers.telemetry import events

log = logging.getLogger(__name__)

#: Rows that are recovered in one transaction.
PAGE = 500


@dataclass(slots=True)
class Recovered:
    """How many rows of dead workers were settled as answered, put back, held as poison, or are in doubt.

    `workers` are those whose rows were looked at.
    """

    settled: int = 0
    queued: int = 0
    doubt: int = 0
    workers: list[int] = field(default_factory=list)


def recover(
    engine: Engine,
    directory: Path,
    worker_ids: Sequence[int],
    patience: Patience,
    *,
    alone: bool = False,
    endpoints: Sequence[Endpoint] = (),
) -> Recovered:
    """Recover the rows of *worker_ids*, which are dead, with the journals in *directory*. Harmless when repeated.

    A foreign journal settles nothing and is put aside. It also says that the worker who died was another database's:
    one with the same id in this database may be alive on another host, so its rows are left to its heartbeat. *alone*
    says that no other process uses this database: then they are recovered, as without a journal.
    Raises NoInstance when the database does not know which one it is.
    """
    total = Recovered()
    if not worker_ids:
        return total
    with read_only(engine) as connection:
        instance = instance_id(connection)
    for worker_id in worker_ids:
        record = journal.read(directory, worker_id, instance=instance)
        if record.foreign and not record.ours and not alone:
            journal.remove(directory, worker_id, instance=instance)
            continue
        total.settled += settle_answered(engine, record.entries.values(), patience, endpoints)
        while True:
            with engine.begin() as connection:
                rows = claim.held_by(connection, [worker_id], most=PAGE)
                if not rows:
                    break
                if not _return(connection, rows, record, patience, total, endpoints):
                    # Left to `quiet_s`; the journal stays for whoever looks into it.
                    log.error("recovery_stuck", extra={"worker_id": worker_id, "mails": len(rows)})
                    break
        with engine.begin() as connection:
            gone = worker.retire(connection, worker_id)
        if gone or not rows:
            journal.remove(directory, worker_id, instance=instance)
        total.workers.append(worker_id)
    if total.workers:
        log.info(
            "recovered",
            extra={
                "workers": len(total.workers),
                "settled": total.settled,
                "queued": total.queued,
                "doubt": total.doubt,
            },
        )
    return total


def _outcome(entry: Entry) -> Outcome | None:
    """The result that an answered entry holds; None where there is none, or none that this version can read."""
    if entry.result is None:
        return None
    try:
        return Outcome.from_json(entry.result)
    except (KeyError, TypeError, ValueError):
        log.exception("journal_entry_unread", extra={"mail_id": entry.mail_id})
        return None


def settle_answered(
    engine: Engine, entries: Iterable[Entry], patience: Patience, endpoints: Sequence[Endpoint] = ()
) -> int:
    """Settle what *entries* of a journal say was answered; how many rows that changed. Harmless when repeated.

    Also rows that somebody else has put into doubt meanwhile: a late 250 settles it.
    """
    outcomes = [outcome for entry in entries if (outcome := _outcome(entry)) is not None]
    return sum(
        _write(engine, outcomes[start : start + PAGE], patience, endpoints)
        for start in range(0, len(outcomes), PAGE)
    )


def _write(
    engine: Engine, outcomes: Sequence[Outcome], patience: Patience, endpoints: Sequence[Endpoint]
) -> int:
    """Settle *outcomes*; those that the database refuses alone, then without their texts, and else not at all."""
    try:
        with engine.begin() as connection:
            ours = write_outcomes(
                connection,
                outcomes,
                grace_s=patience.grace_s,
                max_age_s=patience.max_age_s,
                endpoints=endpoints,
            )
        events.recovered(outcomes, ours=ours)
        return len(ours)
    except (DataError, IntegrityError, ValueError):
        if len(outcomes) > 1:
            return sum(_write(engine, [one], patience, endpoints) for one in outcomes)
        bare = outcomes[0].bare()
        if bare != outcomes[0]:
            return _write(engine, [bare], patience, endpoints)
        log.exception("recovery_refused", extra={"mail_id": outcomes[0].settlement.mail_id})
        return 0


def _return(
    connection: Connection,
    rows: Sequence[Held],
    record: Record,
    patience: Patience,
    total: Recovered,
    endpoints: Sequence[Endpoint],
) -> bool:
    """Put *rows* back or in doubt; False when none of them changed."""
    doubts: list[Held] = []
    returns: list[Return] = []
    for row in rows:
        entry = record.entries.get((row.mail_id, row.fence))
        said = entry is not None and entry.final
        unknown = row.phase is Phase.DOT and not record.complete
        if said or unknown:
            doubts.append(row)
        else:
            returns.append(Return(row.mail_id, row.fence, begun=entry is not None and entry.step == "begun"))
    # All of them are one worker's: whose journal it is.
    worker_id = rows[0].worker_id if rows else None
    queued = claim.give_back(
        connection, returns, grace_s=0.0, max_age_s=patience.max_age_s, worker_id=worker_id
    )
    tell(connection, endpoints, queued, states={State.HELD})
    doubted = put_in_doubt(connection, doubts, patience, "killed after the final dot", endpoints)
    events.taken_back(queued, reason="dead worker")
    events.doubted(doubted, reason="killed after the final dot")
    total.queued += len(queued)
    total.doubt += len(doubted)
    return bool(queued or doubted)


def put_in_doubt(
    connection: Connection,
    rows: Sequence[Held],
    patience: Patience,
    reason: str,
    endpoints: Sequence[Endpoint] = (),
) -> set[int]:
    """Rows whose final dot may have been said, and of whose answer nobody knows; the ids of those that still were.

    A row whose record a failover lost is recorded again first: the journal knows better than the database.
    """
    unrecorded = [(row.mail_id, row.fence) for row in rows if row.phase is Phase.PREPARE]
    # Also one that has expired meanwhile: it may be there already.
    settle.record(connection, unrecorded, expiring=False)
    doubted = settle.settle(connection, [_doubt(row, patience, reason) for row in rows], grace_s=0.0)
    tell(connection, endpoints, doubted)
    return doubted


def _doubt(row: Held, patience: Patience, reason: str) -> Settlement:
    return Settlement(
        mail_id=row.mail_id,
        fence=row.fence,
        phase=Phase.DOT,
        state=State.DOUBT,
        reason=reason,
        look_in_s=0.0 if row.on_doubt is OnDoubt.HOLD else patience.settle_s,
        sends=1,
        worker_id=row.worker_id,
    )
