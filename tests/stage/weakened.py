"""A module that an app's workers load (`apps.NAME.import`): it takes one guard out of the product that runs.

For the test of the checker: what is promised must not hold without its guards, and the checker must see that. A guard
that is no longer where it was looked for stops the worker.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args

from sqlalchemy import TextClause, text

from mailfleet_schema.dialects import Dialect, Executor
from mailfleet_schema.statements import claim, reconcile, settle
from mailfleet_schema.statements.reconcile import Looked, Patience
from mailfleet_schema.statements.settle import CLAIMANT, Recorded
from mailfleet_workers.journal import Journal
from mailfleet_workers.pulse import Pulse

Guard = Literal["fence", "record", "journal", "look_at", "heartbeat"]
GUARDS: tuple[Guard, ...] = get_args(Guard)

_VARIABLE = "STAGE_WEAKENED"
_STAMPED = "tests.stage.stamped"
_FENCE = " AND m.fence = v.fence"
ROOT = Path(__file__).parents[2]


def weakened(app: str, guard: Guard | None, *others: Mapping[str, str]) -> dict[str, str]:
    """The environment in which workers of *app* have no *guard* (None: all of them), stamp, and do what *others* say.

    *others* are environments like this one, such as `armed` gives.
    """
    variable = f"MAILFLEET_APPS__{app.upper().replace('-', '_')}__IMPORT"
    modules = [_STAMPED, *(name for one in others for name in one.get(variable, "").split(",") if name)]
    if guard is not None:
        modules.append(__name__)
    merged = {key: value for one in others for key, value in one.items()}
    taken = {} if guard is None else {_VARIABLE: guard}
    return merged | taken | {variable: ",".join(dict.fromkeys(modules)), "PYTHONPATH": str(ROOT)}


def weaken(guard: Guard) -> None:
    """Take *guard* out of this process. Raises ValueError if it is not where it was."""
    match guard:
        case "fence":
            # Whoever held a row once may record it, settle it and give it back.
            for module, name in (
                (settle, "_record"),
                (settle, "_expire"),
                (settle, "_settle"),
                (settle, "_accept_late"),
                (claim, "_give_back"),
            ):
                setattr(module, name, _without_fence(getattr(module, name)))
        case "record":
            # A dot is said of which the database does not know.
            settle.record = _say_that_it_is_recorded
        case "journal":
            # Nothing outlives the process.
            _replace(Journal, "_write", lambda _journal, _line: None)
        case "look_at":
            # Nobody finds what no hint brings.
            reconcile.look = _look_away
        case "heartbeat":
            # A worker that was away goes on where it was.
            _replace(Pulse, "fresh", lambda _pulse: True)
            _replace(Pulse, "held_since", lambda _pulse, _moment: True)


def _replace(owner: type, name: str, new: Callable[..., Any]) -> None:
    if name not in vars(owner):
        raise ValueError(f"{owner.__name__} has no {name}")
    setattr(owner, name, new)


def _without_fence(statement: Callable[[Dialect], TextClause]) -> Callable[[Dialect], TextClause]:
    @cache
    def weak(dialect: Dialect) -> TextClause:
        guarded = statement(dialect).text
        if _FENCE not in guarded:
            raise ValueError(f"no fence in {guarded}")
        return text(
            guarded.replace(_FENCE, "").replace(f" AND {CLAIMANT}", "").replace(f" AND {claim.CLAIMANT}", "")
        )

    return weak


def _say_that_it_is_recorded(
    connection: Executor,
    rows: Sequence[tuple[int, int]],
    *,
    worker_id: int | None = None,
    expiring: bool = True,
) -> Recorded:
    del connection, worker_id, expiring
    return Recorded(frozenset(mail_id for mail_id, _ in rows), frozenset())


def _look_away(
    connection: Executor, apps: Sequence[str], patience: Patience, *, most: int, shared: bool = False
) -> list[Looked]:
    return []


if guard := os.environ.get(_VARIABLE):
    weaken(next(one for one in GUARDS if one == guard))
