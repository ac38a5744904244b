"""What a storm found: the figures of `build/torture.json`, and the same for people."""

import json
import math
import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mailfleet_schema.states import State
from tests.checker.audit import Change
from tests.checker.findings import Findings
from tests.torture.ground import Ground
from tests.torture.plan import Figures, Plan
from tests.torture.recovery import (
    doubts_by_worker,
    first_claim_after,
    holds,
    recovery_of,
    spread,
)
from tests.torture.storm import Storm

FILE = Path("build/torture.json")
#: The reasons with which a dead worker's rows come into doubt, and a quiet one's.
KILLED, QUIET = "killed after the final dot", "quiet worker"
#: Where the mails of a storm may end; nobody is there who would cancel one.
ENDS = frozenset(state.value for state in (State.SENT, State.FAILED, State.EXPIRED, State.HELD))
#: What a whole storm shows the end of: whoever was struck, and the servers.
RECOVERIES = ("broker", "database", "host lost", "killed", "paused")
#: The least shares, well below what a storm on a busy machine has: of mails that are sent (who may expire or be refused
#: is in the plan: one in twelve), of pauses that hit a worker with rows, and of those whose worker lived on.
SENT, PAUSES_WITH_ROWS, RESUMED = 0.85, 0.3, 0.75
#: So many may be missing besides: in a small storm chance is large.
SENT_SPARE, SPARE = 10, 2


def report_of(
    plan: Plan, ground: Ground, storm: Storm, findings: Findings, changes: Sequence[Change]
) -> dict[str, Any]:
    """The figures, in the order in which they are printed."""
    log, figures = storm.log, plan.figures
    claims = holds(changes)
    recovery = recovery_of(storm.victims.struck, claims)
    for outage in log.outages:
        if outage.back_at is not None:
            after = first_claim_after(changes, outage.back_at)
            recovery[outage.kind] = [] if after is None else [after]
    states: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    for (state, reason), mails in sorted(ground.ends().items()):
        states[state] += mails
        if reason:
            reasons[f"{state}: {reason}"] += mails
    kinds = Counter(outage.kind for outage in log.outages if outage.back_at is not None)
    return {
        "seed": plan.seed,
        "mails": findings.mails,
        "worker_kills": log.kills,
        "pauses": log.pauses,
        "broker_faults": kinds["broker"],
        "database_faults": kinds["database"],
        "lost": findings.lost,
        "duplicates_hold": findings.duplicates["hold"],
        "duplicates_resend_once": findings.duplicates["resend_once"],
        "doubts": findings.doubts,
        "doubts_listed": findings.doubts_listed,
        "early": findings.early,
        "sent_after_expiry": findings.sent_after_expiry,
        "recovery_s": {
            kind: asdict(found) for kind, values in sorted(recovery.items()) if (found := spread(values))
        },
        "duplicates_resend": findings.duplicates["resend"],
        "sent": findings.sent,
        "held": findings.held,
        "left_open": log.left_open,
        "states": dict(states),
        "reasons": dict(reasons.most_common()),
        "kills_with_rows": len(recovery.get("killed", ())),
        "pauses_with_rows": len(recovery.get("paused", ())),
        "rolled_back": storm.producer.rolled_back,
        "commits_in_doubt": storm.producer.in_doubt,
        "doubts_most_per_kill": max(doubts_by_worker(claims, KILLED).values(), default=0),
        "doubts_most_per_pause": max(doubts_by_worker(claims, QUIET).values(), default=0),
        "parents_killed": log.parents_killed,
        "hosts_lost": log.hosts_lost,
        "resumed": log.resumed,
        "workers_born": storm.victims.born,
        "threads": figures.threads,
        "chunk": figures.chunk,
        "kill_interval_s": list(figures.kill_every_s),
        "mails_per_s": round(findings.mails / max(1.0, log.took_s["storm"] + log.took_s["calm"]), 1),
        "took_s": log.took_s,
        "server_faults": sum(mood.done.total() for mood in ground.moods.values()),
        "versions": {
            "python": platform.python_version(),
            "postgresql": ground.postgres.version,
            "rabbitmq": ground.rabbit.version,
        },
    }


def breaches_of(report: Mapping[str, Any], findings: Findings, plan: Plan) -> list[str]:
    """What the run was to show and did not, in words; the checker's own breaches are told by the checker."""
    figures = plan.figures
    wanted = (
        ("worker_kills", figures.kills),
        ("pauses", figures.pauses),
        ("broker_faults", 1),
        ("database_faults", 1),
        ("parents_killed", 1),
        ("hosts_lost", 1),
        ("mails", figures.mails),
        ("sent", _floor(SENT, figures.mails, SENT_SPARE)),
        ("kills_with_rows", figures.kills_with_rows),
        ("pauses_with_rows", _floor(PAUSES_WITH_ROWS, figures.pauses)),
        ("resumed", _floor(RESUMED, figures.pauses)),
    )
    found = [f"{key}: {report[key]} of {least}" for key, least in wanted if report[key] < least]
    bounds = (
        ("lost", 0),
        ("left_open", 0),
        ("duplicates_hold", 0),
        ("early", 0),
        ("sent_after_expiry", 0),
        ("doubts_most_per_kill", figures.threads),
        ("doubts_most_per_pause", figures.threads * figures.chunk),
    )
    found += [f"{key}: {report[key]}, at most {most}" for key, most in bounds if report[key] > most]
    if report["doubts_listed"] != report["doubts"]:
        found.append(f"doubts: {report['doubts']}, listed {report['doubts_listed']}")
    found += [f"{mails} mails are {state}" for state, mails in report["states"].items() if state not in ENDS]
    recovery = report["recovery_s"]
    if figures.mails >= Figures().mails:
        found += [f"recovery_s: nothing of {kind}" for kind in RECOVERIES if kind not in recovery]
    found += [
        f"recovery_s: {kind} has no end" for kind in recovery if not math.isfinite(recovery[kind]["max"])
    ]
    found += [f"{breach.invariant}: {breach.text}" for breach in findings.breaches]
    return found


def _floor(share: float, whole: int, spare: int = SPARE) -> int:
    return max(0, int(share * whole) - spare)


def write(report: Mapping[str, Any], path: Path) -> None:
    """Put the figures where `docs/promise.md` is made from."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=2) + "\n")


def lines_of(report: Mapping[str, Any]) -> list[str]:
    """For a terminal: one figure on each line."""
    found = []
    for key, value in report.items():
        if isinstance(value, Mapping):
            found += [f"{key + ' ' + str(part):32} {_shown(each)}" for part, each in value.items()]
        else:
            found.append(f"{key:32} {_shown(value)}")
    return found


def _shown(value: object) -> str:
    if isinstance(value, Mapping):
        return "  ".join(f"{name} {each}" for name, each in value.items())
    return str(value)
