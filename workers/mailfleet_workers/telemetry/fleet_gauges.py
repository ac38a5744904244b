"""What the database says of the fleet, for whoever asks for metrics: open mails, overdue ones, workers, gates.

Every pool shows the same numbers, those of the whole fleet: take the largest over all pools, not their sum. The
database is asked by a thread of its own, so that one that hangs delays nobody for long; what was not answered in time is
left out, and `mailfleet_database_up` is 0. The cost is in what is open, not in what the table holds, and while
that is much the database is asked less often.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sqlalchemy import Engine, text
from sqlalchemy.exc import SQLAlchemyError

from mailfleet_schema.dialects import POSTGRESQL, Dialect, dialect_named
from mailfleet_schema.engine import read_only
from mailfleet_schema.statements.fleet_setting import all_settings
from mailfleet_schema.statements.gate import SCOPES
from mailfleet_schema.statements.home import differences
from mailfleet_workers.scanning import scan_of
from mailfleet_workers.telemetry.prometheus import PREFIX

if TYPE_CHECKING:
    from prometheus_client import Metric

log = logging.getLogger(__name__)

#: Answers are shown for so many seconds before the database is asked again.
KEEP_S = 10.0
#: The database gives at most one part in so many of its time to these questions.
SHARE = 50
#: However long they take, the database is asked after so many seconds.
MOST_KEEP_S = 120.0
#: How long who asks for metrics waits for an answer, in seconds.
PATIENCE_S = 5.0
#: A question that takes the database longer is cut off, in seconds.
CUT_S = 4.0

#: By their short names: labels and help.
FAMILIES: dict[str, tuple[tuple[str, ...], str]] = {
    "open": (("app", "state"), "Mails that are not through, by state."),
    "oldest_due_seconds": (("app", "priority"), "For how long the oldest mail is due that is still queued."),
    "workers": (("app",), "Worker processes whose heartbeat is young."),
    "gates": (("scope",), "Closed gates, which everybody waits for, by scope."),
    "scan_stopped": (("app",), "Whether operators have stopped that mail without a hint is looked for."),
}

_FEW = ("sending", "doubt", "held")


@dataclass(frozen=True, slots=True)
class FleetState:
    """Numbers of mails by app and state; seconds since the oldest is due by app and priority (none due: left out);
    workers by app that are alive; closed gates by scope; whether scanning is stopped by app; whether the database is a copy,
    or was moved.
    """

    open: dict[tuple[str, str], int]
    oldest_due_s: dict[tuple[str, str], float]
    workers: dict[str, int]
    gates: dict[str, int]
    scan_stopped: dict[str, bool] = field(default_factory=dict)
    elsewhere: bool = False


def statements(d: Dialect) -> dict[str, str]:
    """The questions by name. Each goes by a partial index, or reads a table with few rows."""
    due_s = f"CASE WHEN due_at <= {d.now} THEN -({d.seconds_until('due_at')}) END"
    found = {
        # One pass over what is queued gives both.
        "queued": f"SELECT app, priority, count(*), max({due_s}) FROM {{mail}} WHERE state = 'queued'"
        " GROUP BY app, priority",
        # The state is a word of the statement: only so can its partial index be used.
        **{
            state: f"SELECT app, count(*) FROM {{mail}} WHERE state = '{state}' GROUP BY app"
            for state in _FEW
        },
        "workers": f"SELECT app, count(*) FROM {{worker}} WHERE {d.seconds_until('heartbeat_at')} > -:quiet_s"
        " GROUP BY app",
        "gates": "SELECT scope, count(*) FROM {gate} WHERE until_at > {now} GROUP BY scope",
    }
    return {name: d.format(sql) for name, sql in found.items()}


def ask(engine: Engine, *, quiet_s: float, installation: str | None = None) -> FleetState:
    """Ask the database now. Raises SQLAlchemyError when it does not answer within some seconds."""
    d = dialect_named(engine.dialect.name)
    questions = statements(d)
    with read_only(engine) as connection:
        if d is POSTGRESQL:
            # For this transaction only: it may be a pooler's connection.
            connection.execute(text(f"SET LOCAL statement_timeout = {int(CUT_S * 1000)}"))

        def rows(name: str) -> list[tuple[object, ...]]:
            bound = {"quiet_s": quiet_s} if name == "workers" else {}
            return [tuple(row) for row in connection.execute(text(questions[name]), bound)]

        counts: dict[tuple[str, str], int] = {}
        oldest: dict[tuple[str, str], float] = {}
        for app, priority, count, due_s in rows("queued"):
            place = (str(app), "queued")
            counts[place] = counts.get(place, 0) + int(str(count))
            if due_s is not None:
                oldest[str(app), str(priority)] = float(str(due_s))
        for state in _FEW:
            counts |= {(str(app), state): int(str(count)) for app, count in rows(state)}
        workers = {str(app): int(str(count)) for app, count in rows("workers")}
        said = all_settings(connection)
        return FleetState(
            open=counts,
            oldest_due_s=oldest,
            workers=workers,
            scan_stopped={app: scan_of(app, said).stopped for app in {*workers, *(app for app, _ in counts)}},
            gates={str(scope): int(str(count)) for scope, count in rows("gates")},
            elsewhere=bool(differences(connection, installation=installation)),
        )


class FleetGauges:
    """A collector for a registry of the metrics library. *clock* is monotonic, in seconds. Thread-safe.

    An app and state that was there once is shown with 0 when nothing is left of it.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        quiet_s: float = 30.0,
        installation: str | None = None,
        patience_s: float = PATIENCE_S,
        keep_s: float = KEEP_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine = engine
        self._quiet_s = quiet_s
        self._installation = installation
        self._patience_s = patience_s
        self._keep_s = keep_s
        self._clock = clock
        self._changed = threading.Condition()
        self._asking_since: float | None = None
        self._answer: FleetState | None = None
        self._good_until = float("-inf")
        self._known = FleetState({}, {}, {}, {})

    def describe(self) -> "list[Metric]":
        """Nothing: a registry must not ask the database when it is set up."""
        return []

    def collect(self) -> "Iterator[Metric]":
        """The gauges; only `mailfleet_database_up` while the database does not answer."""
        from prometheus_client.core import GaugeMetricFamily

        state = self.state()
        yield GaugeMetricFamily(
            f"{PREFIX}_database_up", "Whether the database answered in time.", value=float(state is not None)
        )
        if state is None:
            return
        yield GaugeMetricFamily(
            f"{PREFIX}_database_elsewhere",
            "Whether the database is a copy, or was moved, and nobody has confirmed it.",
            value=float(state.elsewhere),
        )
        values: dict[str, dict[tuple[str, ...], float]] = {
            "open": {place: number for place, number in state.open.items()},  # noqa: C416 - a dict's key type is fixed
            "oldest_due_seconds": {place: seconds for place, seconds in state.oldest_due_s.items()},  # noqa: C416 - same
            "workers": {(app,): number for app, number in state.workers.items()},
            "gates": {(scope,): number for scope, number in state.gates.items()},
            "scan_stopped": {(app,): float(is_so) for app, is_so in state.scan_stopped.items()},
        }
        for name, (labels, meaning) in FAMILIES.items():
            family = GaugeMetricFamily(f"{PREFIX}_{name}", meaning, labels=labels)
            for place, value in sorted(values[name].items()):
                family.add_metric(list(place), value)
            yield family

    def state(self) -> FleetState | None:
        """What the database says, not older than it should be; None when it does not answer in time."""
        now = self._clock()
        with self._changed:
            if now < self._good_until:
                return self._answer
            if self._asking_since is None:
                self._asking_since = now
                threading.Thread(target=self._ask, name="mailfleet-gauges", daemon=True).start()
            # Who comes while an old question hangs does not wait for it as well.
            left_s = self._asking_since + self._patience_s - now
            answered = self._changed.wait_for(lambda: self._asking_since is None, max(0.0, left_s))
            return self._answer if answered else None

    def _ask(self) -> None:
        started = self._clock()
        answer: FleetState | None = None
        try:
            answer = ask(self._engine, quiet_s=self._quiet_s, installation=self._installation)
        except SQLAlchemyError as error:
            log.warning(
                "gauges_unknown", extra={"error": type(getattr(error, "orig", None) or error).__name__}
            )
        except Exception:
            log.exception("gauges_unknown")
        ended = self._clock()
        keep_s = min(max(self._keep_s, SHARE * (ended - started)), max(self._keep_s, MOST_KEEP_S))
        with self._changed:
            self._answer = None if answer is None else self._with_zeros(answer)
            # A failure is not kept: who asks next may find the database back.
            self._good_until = ended if answer is None else ended + keep_s
            self._asking_since = None
            self._changed.notify_all()

    def _with_zeros(self, answer: FleetState) -> FleetState:
        known = self._known
        self._known = FleetState(
            open=dict.fromkeys(known.open | answer.open, 0),
            oldest_due_s=dict.fromkeys(known.oldest_due_s | answer.oldest_due_s, 0.0),
            workers=dict.fromkeys(known.workers | answer.workers, 0),
            gates=dict.fromkeys(SCOPES, 0),
            scan_stopped=dict.fromkeys(known.scan_stopped | answer.scan_stopped, False),
        )
        return FleetState(
            open=self._known.open | answer.open,
            oldest_due_s=self._known.oldest_due_s | answer.oldest_due_s,
            workers=self._known.workers | answer.workers,
            gates=self._known.gates | answer.gates,
            scan_stopped=self._known.scan_stopped | answer.scan_stopped,
            elsewhere=answer.elsewhere,
        )
