"""How the script's words are written: rules, reports, and what a process holds."""

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mailfleet_schema.statements.gate import Gate
from mailfleet_workers.limits.base import Report, Request, Slot
from mailfleet_workers.limits.book import Limits
from mailfleet_workers.limits.line import RANK
from mailfleet_workers.limits.redis_script import Packed
from mailfleet_workers.limits.rule import Rule, Scope, Unit
from mailfleet_workers.limits.usage import RuleUse, Usage

_RENEWED = ("gone", "lost", "wanted", "unready")
_NO_REPORT = Report("", 0)


@dataclass(slots=True)
class Lease:
    """A grant or slot that we hold in one epoch, until `until` on our own clock if nobody renews it.

    In no epoch yet (``""``) it was granted without Redis, and is still to be told there. `lost` is never ours again, and is
    renewed all the same until its mail or connection has ended: a server may still take it. `told` means that its loss was
    said. A connection that is closed leaves its slot after `linger_s`.
    """

    account: str
    host: str
    epoch: str
    until: float
    report: Report = _NO_REPORT
    rules: str = ""
    slot: Slot | None = None
    lost: bool = False
    told: bool = False
    linger_s: float = 0.0

    def renew(self, epoch: str, until: float, *, lost: bool) -> None:
        """It is ours until then in *epoch*, or *lost* for good."""
        self.lost = self.told = self.lost or lost
        self.epoch, self.until = epoch, -math.inf if self.lost else until

    def adopted(self, epoch: str, now: float) -> bool:
        """Whether *epoch* has to take it as it is: it was granted before that, and nobody else can have it by *now*."""
        return self.epoch != epoch and (not self.epoch or now < self.until)


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
        rules = counted(limits)
        numbers = [
            limits.reserve,
            limits.max_idle_ms,
            1 if len(limits.weights) > 1 else 0,
            limits.connections or 0,
            limits.host_connections or 0,
            limits.login_gap_ms,
            limits.host_login_gap_ms,
            1 if limits.login else 0,
        ]
        for rule in rules.values():
            numbers += [rule.rate.window_ms, rule.rate.limit, rule.unit is Unit.RECIPIENTS]
        # As doubles: the script reads them at once.
        packed = struct.pack(f"<{len(numbers)}d", *numbers)
        names = " ".join(rules)
        return cls(limits, Packed.of((owner, limits.account, packed, names, *rules)), names)


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


def held_grant(held: Lease, epoch: str, now: float, names: Mapping[str, str]) -> str:
    """A grant for `renew`, with *names*, those of the rules that its account has now: 1 is to be adopted, 2 is lost."""
    r = held.report
    amounts = f"{r.remaining} {r.remaining_recipients} {r.unused} {r.unused_recipients}"
    over = held.lost or held.epoch != epoch or held.until <= now
    adopt = 1 if held.adopted(epoch, now) else 2 if over else 0
    rules = names.get(held.account, "")
    if rules != held.rules:
        # Those of the grant first, so that they stay what they are.
        rules = " ".join(dict.fromkeys((*held.rules.split(), *rules.split())))
    return f"{r.token} {amounts} {adopt} {rules}\n"


def held_slot(token: str, held: Lease, epoch: str, accounts: Mapping[str, Limits], now: float) -> str:
    """A slot for `renew`: 1 is to be adopted; 2 is lost, or of another epoch and lapsed there, so it is not ours."""
    limits = accounts.get(held.account)
    most = limits.connections or 0 if limits else 0
    adopt = 2 if held.lost else 0 if held.epoch == epoch else 1 if held.adopted(epoch, now) else 2
    return f"{token} {held.account} {most} {adopt}\n"


def renewal_words(
    owner: str,
    accounts: Mapping[str, Limits],
    grants: Mapping[str, Lease],
    slots: Mapping[str, Lease],
    now: float,
    epoch: str,
) -> list[object]:
    """All that *owner* holds of a host with *accounts*, for `renew` in *epoch*."""
    rules = {account: counted(each) for account, each in accounts.items()}
    names = {account: " ".join(each) for account, each in rules.items()}
    return [
        owner,
        next((one.host_connections or 0 for one in accounts.values()), 0),
        "".join(held_grant(held, epoch, now, names) for held in grants.values()),
        "".join(held_slot(token, held, epoch, accounts, now) for token, held in slots.items()),
        " ".join({held.account for held in slots.values()}),
        " ".join({name for each in rules.values() for name in each}),
    ]


@dataclass(frozen=True, slots=True)
class Renewed:
    """What `renew` answers in `epoch`: grants that count as sent by now, slots of others, accounts whose slots are wanted.

    `unready` are rules that do not know what was sent.
    """

    epoch: str
    gone: frozenset[str]
    lost: frozenset[str]
    wanted: frozenset[str]
    unready: frozenset[str]

    @classmethod
    def of(cls, epoch: str, answer: Sequence[bytes]) -> "Renewed":
        """*answer* has a word of what it says, and a name, in each item."""
        said = [one.decode().partition(" ") for one in answer]
        about = [frozenset(name for word, _, name in said if word == what) for what in _RENEWED]
        return cls(epoch, *about)


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


def question(request: Request, limits: Limits, reports: Sequence[Report]) -> tuple[str, str]:
    """What *request* asks, and what *reports* say, as words of the script."""
    slot = (limits.slots and request.slot) or "-"
    wished = ",".join(map(str, request.recipients)) or "-"
    weight = limits.weights.get(request.app, 1)
    question = (
        f"{request.token} {request.app} {RANK[request.priority]} {weight} {slot} {request.comes:d} {wished}"
    )
    return question, lines(reports) if reports else ""
