"""How the script's words are written: rules, reports, and what a process holds."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mailfleet_schema.statements.gate import Gate
from mailfleet_workers.limits.base import Report, Slot
from mailfleet_workers.limits.book import Limits
from mailfleet_workers.limits.redis_script import Packed
from mailfleet_workers.limits.rule import Rule, Scope, Unit
from mailfleet_workers.limits.usage import RuleUse, Usage


@dataclass(slots=True)
class Lease:
    """A grant or slot that we hold in one epoch, until `until` on our own clock if nobody renews it."""

    account: str
    host: str
    epoch: str
    until: float
    report: Report = field(default_factory=lambda: Report("", 0))
    rules: str = ""
    slot: Slot | None = None


def suffix(rule: Rule, limits: Limits) -> str:
    """The name of *rule* among the keys of its host; rules of one window and unit have one log."""
    whose = "r:h" if rule.scope is Scope.HOST else f"r:a:{limits.account}"
    unit = "m" if rule.unit is Unit.MESSAGES else "r"
    return f"{whose}:{unit}:{rule.rate.window_ms}"


def counted(limits: Limits) -> dict[str, Rule]:
    """The rules by their names: of several for one window and unit only the least counts."""
    found: dict[str, Rule] = {}
    for rule in limits.rules:
        name = suffix(rule, limits)
        if name not in found or rule.rate.limit < found[name].rate.limit:
            found[name] = rule
    return found


def rules_of(limits: Limits) -> list[object]:
    """Each rule's name and limit."""
    return [word for name, rule in counted(limits).items() for word in (name, rule.rate.limit)]


def named(name: str, limits: Limits) -> str:
    """The rule of that *name* in words; *name* itself if it is none."""
    rule = counted(limits).get(name)
    return name if rule is None else str(rule)


@dataclass(frozen=True, slots=True)
class Spec:
    """What every question about *limits* says alike, as it is sent; and the names of its rules."""

    limits: Limits
    words: Packed
    names: str

    @classmethod
    def of(cls, limits: Limits, owner: str) -> "Spec":
        """For questions of *owner*."""
        words = [
            owner,
            limits.account,
            limits.reserve,
            limits.max_idle_ms,
            1 if len(limits.weights) > 1 else 0,
            limits.connections or 0,
            limits.host_connections or 0,
            limits.login_gap_ms,
            limits.host_login_gap_ms,
            1 if limits.login else 0,
            *(
                word
                for name, rule in counted(limits).items()
                for word in (name, rule.rate.window_ms, rule.rate.limit)
            ),
        ]
        return cls(limits, Packed.of(words), " ".join(counted(limits)))


def lines(reports: Sequence[Report]) -> str:
    """*reports*, a line each."""
    return "".join(
        f"{r.token} {r.remaining} {r.remaining_recipients} {r.unused} {r.unused_recipients}\n"
        for r in reports
    )


def login_words(slot: Slot, limits: Limits) -> list[object]:
    """What logins of *slot* are judged by."""
    gaps = limits.login_gap_ms, limits.host_login_gap_ms
    return [slot.token, slot.account, *gaps, 1 if limits.login else 0]


def held_grant(held: Lease, epoch: str) -> str:
    """A grant for `renew`; one of another epoch is to be adopted."""
    r, adopt = held.report, int(held.epoch != epoch)
    amounts = f"{r.remaining} {r.remaining_recipients} {r.unused} {r.unused_recipients}"
    return f"{r.token} {amounts} {adopt} {held.rules}\n"


def held_slot(token: str, held: Lease, epoch: str, accounts: Mapping[str, Limits]) -> str:
    """A slot for `renew`; one of another epoch is to be adopted."""
    limits = accounts.get(held.account)
    most = limits.connections or 0 if limits else 0
    return f"{token} {held.account} {most} {int(held.epoch != epoch)}\n"


def renewal_words(
    owner: str,
    accounts: Mapping[str, Limits],
    grants: Mapping[str, Lease],
    slots: Mapping[str, Lease],
    epoch: str,
) -> list[object]:
    """All that *owner* holds of a host with *accounts*, for `renew` in *epoch*."""
    return [
        owner,
        next((one.host_connections or 0 for one in accounts.values()), 0),
        "".join(held_grant(held, epoch) for held in grants.values()),
        "".join(held_slot(token, held, epoch, accounts) for token, held in slots.items()),
        " ".join({held.account for held in slots.values()}),
        " ".join({name for each in accounts.values() for name in counted(each)}),
    ]


def gate_words(gates: Sequence[Gate], book: Mapping[str, Limits]) -> dict[str, list[object]]:
    """Those of *gates* that concern what *book* limits, by host."""
    by_host: dict[str, list[object]] = {}
    for gate in gates:
        if gate.scope == "account" and gate.key in book and book[gate.key].any:
            host = book[gate.key].host
        elif gate.scope == "host" and any(one.host == gate.key and one.any for one in book.values()):
            host = gate.key
        else:
            continue
        words = [gate.scope, gate.key, math.ceil(gate.remaining_s * 1000), gate.generation, gate.reason]
        by_host.setdefault(host, []).extend(words)
    return by_host


def read_usage(limits: Limits, numbers: Sequence[float], *, lease_s: float) -> Usage:
    """What the script says of *limits*: eight numbers, then three for each rule."""
    rules = [
        RuleUse(rule, int(numbers[at]), int(numbers[at + 1]), max(0.0, numbers[at + 2] / 1000))
        for rule, at in zip(counted(limits).values(), range(8, len(numbers), 3), strict=True)
    ]
    return Usage(
        account=limits.account,
        host=limits.host,
        ready_in_s=0.0 if numbers[1] else max(0.0, lease_s - numbers[0] / 1000),
        rules=tuple(rules),
        connections=int(numbers[2]),
        host_connections=int(numbers[3]),
        waiting=int(numbers[4]),
        parked_s=numbers[5] / 1000,
        login_failures=int(numbers[6]),
        login_wait_s=numbers[7] / 1000,
    )
