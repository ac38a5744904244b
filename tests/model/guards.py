"""Every guard of the product, and the product without it: what the model must be able to tell apart.

A guard of a statement is a piece of its text; what is left without it is a statement that the database still understands.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any
from unittest import mock

from sqlalchemy import TextClause, text

from mailfleet_schema.dialects import POSTGRESQL, SQLITE, Dialect
from mailfleet_schema.statements import claim, reconcile, settle, worker
from mailfleet_workers.journal import Journal
from mailfleet_workers.pulse import Pulse
from mailfleet_workers.reconciler import Pass, Reconciler
from tests.model.chances import ANY, DOUBTED, KILLED, OVERTAKEN, Events


@dataclass(frozen=True, slots=True)
class Guard:
    """One thing that keeps the promise, and a context manager in which it is gone.

    `events` are those among which it is found soon; it is no other than in any history, only more often needed.
    """

    name: str
    gone: Callable[[], AbstractContextManager[None]]
    events: Events = ANY


def without(
    name: str, module: ModuleType, statement: str, piece: str, instead: str = "", events: Events = ANY
) -> Guard:
    """The guard *piece* of the text of *statement*; *instead* stands there when it is gone.

    `gone` raises LookupError, before any history begins, when the statement of a dialect has no such piece.
    """

    @contextmanager
    def gone() -> Iterator[None]:
        whole: Callable[[Dialect], TextClause] = getattr(module, statement)

        def weakened(dialect: Dialect) -> TextClause:
            sql = " ".join(whole(dialect).text.split())
            old, new = dialect.format(piece), dialect.format(instead)
            if old not in sql:
                raise LookupError(f"{statement} has no {old!r}")
            return text(sql.replace(old, new))

        for dialect in (POSTGRESQL, SQLITE):
            weakened(dialect)
        with mock.patch.object(module, statement, weakened):
            yield

    return Guard(name, gone, events)


def _replaced(
    name: str, owner: type, method: str, instead: Callable[..., Any], events: Events = ANY
) -> Guard:
    @contextmanager
    def gone() -> Iterator[None]:
        with mock.patch.object(owner, method, instead):
            yield

    return Guard(name, gone, events)


def _no_dot(self: Journal, mail_id: int, fence: int) -> None:
    with self._lock:
        self._dots.add((mail_id, fence))


#: Whose claim it is; the worker's id alone would still tell two workers apart.
_FENCE = f"m.fence = v.fence AND {settle.CLAIMANT}"
_RETURNED = f"m.fence = v.fence AND {claim.CLAIMANT}"

STATEMENTS = (
    without("claim: queued", claim, "_claim", "state || '' = 'queued'", "state <> 'draft'"),
    without("claim: due", claim, "_claim", "AND due_at <= {now}"),
    without("claim: not expired", claim, "_claim", "(expires_at IS NULL OR expires_at > {now})", "true"),
    without(
        "claim: a known worker",
        claim,
        "_claim",
        "EXISTS (SELECT 1 FROM {worker} WHERE {worker}.id = :worker_id)",
        "0 < :worker_id",
        events=OVERTAKEN,
    ),
    without("claim: fence + 1", claim, "_claim", "fence = m.fence + 1", "fence = m.fence"),
    without("record: fence", settle, "_record", _FENCE, "true", events=OVERTAKEN),
    without("record: not expired", settle, "_record", "OR m.expires_at > {now}", "OR true"),
    without("result: fence", settle, "_settle", _FENCE, "true"),
    without("result: phase", settle, "_settle", "m.phase = v.phase", "true"),
    without("give back: fence", claim, "_give_back", _RETURNED, "true", events=OVERTAKEN),
    without(
        "give back: being sent",
        claim,
        "_give_back",
        "m.phase = COALESCE(v.phase, m.phase)",
        "true",
        events=OVERTAKEN,
    ),
    without(
        "give back: same phase",
        claim,
        "_give_back",
        "m.phase = COALESCE(v.phase, m.phase)",
        "m.phase IS NOT NULL",
        events=OVERTAKEN,
    ),
    without(
        "take back: of the quiet",
        reconcile,
        "_take_back",
        "'sending' AND worker_id",
        "'sending' OR worker_id",
    ),
    without(
        "take back: dot is doubt",
        reconcile,
        "_take_back",
        "CASE WHEN m.phase = 'dot' THEN 'doubt' ELSE 'queued' END",
        "'queued'",
    ),
    without("take back: being sent", reconcile, "_take_back", "state = 'sending' AND"),
    without("doubt: settle time", reconcile, "_settle_doubts", "AND look_at <= {now}"),
    without("doubt: in doubt", reconcile, "_settle_doubts", "state = 'doubt'", "state <> 'draft'"),
    without("expire: what is late", reconcile, "_expire", "OR m.wanted_at <=", "OR m.wanted_at >="),
    without(
        "doubt: hold",
        reconcile,
        "_settle_doubts",
        "m.on_doubt = 'resend' OR",
        "m.on_doubt <> 'resend_once' OR",
    ),
    without("doubt: once", reconcile, "_settle_doubts", "AND m.doubts = 0", events=DOUBTED),
    without("doubt: counted", reconcile, "_settle_doubts", "THEN 1 ELSE 0 END", "THEN 0 ELSE 0 END"),
    without(
        "retire: holds nothing",
        worker,
        "_retire",
        "AND NOT EXISTS (SELECT 1 FROM {mail} WHERE worker_id = :id AND state = 'sending')",
    ),
)

PARTS = (
    _replaced("heartbeat", Pulse, "fresh", lambda _self: True, events=OVERTAKEN),
    _replaced("journal: dot", Journal, "dot", _no_dot, events=KILLED),
    _replaced("journal: answer", Journal, "answer", lambda *_: None, events=KILLED),
    _replaced("look_at", Reconciler, "_expire_and_look", lambda _self: Pass()),
    _replaced("quiet workers", Reconciler, "_take_back_quiet", lambda _self: Pass()),
    _replaced("free own", Reconciler, "_free_own", lambda _self: Pass()),
    _replaced("doubts", Reconciler, "_settle_doubts", lambda _self: Pass()),
)

GUARDS = (*STATEMENTS, *PARTS)
