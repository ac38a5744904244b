"""What a storm does, and when: drawn from one seed before it begins.

The mails, their transactions, the times of kills, pauses and outages, and what the servers answer to each try of each
mail follow from the seed. Which process a kill strikes does too, as far as the same processes are alive: how fast a
machine is, is not in the seed.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Literal, Self

from mailfleet.mail import OnDoubt, Priority

Strike = Literal["kill", "pause", "broker", "database", "parent", "host"]

APPS = ("billing", "shop")
#: The servers that mail leaves through, and how often each is used. The last one is ailing.
ACCOUNTS = {"default": 0.51, "south": 0.47, "ailing": 0.02}


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """How large a storm is; times in seconds.

    `lasts_s`: mails are emitted and workers paused within it; kills may go on a little longer.
    """

    mails: int = 20_000
    kills: int = 420
    pauses: int = 44
    lasts_s: float = 80.0
    hosts: int = 2
    processes: int = 3
    threads: int = 4
    heap: int = 16
    #: Rows that a thread records at once. Left alone it is 1: here a mail waits for a processor, not for its server.
    chunk: int = 4
    quiet_s: float = 4.0
    settle_s: float = 6.0
    kill_every_s: tuple[float, float] = (0.05, 0.3)
    #: How much longer than `quiet_s` a worker is paused.
    beyond_quiet_s: tuple[float, float] = (0.3, 2.5)

    @property
    def kills_with_rows(self) -> int:
        """So many kills at least are to strike a worker with mails in its hands, or the storm shows nothing.

        A tenth: well below what a storm on a busy machine has. Two may be missing: in a small storm chance is large.
        """
        return max(0, self.kills // 10 - 2)

    @classmethod
    def of(cls, mails: int) -> Self:
        """A storm of *mails*, with kills, pauses and its length in proportion."""
        whole = cls()
        share = mails / whole.mails
        return replace(
            whole,
            mails=mails,
            kills=max(1, round(whole.kills * share)),
            pauses=max(1, round(whole.pauses * share)),
            lasts_s=max(10.0, whole.lasts_s * share),
        )


@dataclass(frozen=True, slots=True)
class Letter:
    """One mail of the plan. Times are seconds after its emission; None is not at all, or at once."""

    number: int
    app: str
    account: str
    priority: Priority
    on_doubt: OnDoubt
    recipients: int
    due_in_s: float | None
    expires_in_s: float | None
    bytes: int


@dataclass(frozen=True, slots=True)
class Transaction:
    """What an application does at once, `at` seconds after the beginning; it may roll back."""

    at: float
    letters: tuple[Letter, ...]
    rolls_back: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that follows from the seed. `strikes` are in the order of their times; pauses have their length."""

    seed: int
    figures: Figures
    transactions: tuple[Transaction, ...] = field(repr=False)
    strikes: tuple[tuple[float, Strike, float], ...] = field(repr=False)


def plan_of(seed: int, figures: Figures) -> Plan:
    """The storm that belongs to *seed*."""
    # Each part has numbers of its own: a change of one leaves the others as they were.
    return Plan(
        seed,
        figures,
        tuple(_transactions(random.Random(f"{seed} mails"), figures)),
        tuple(sorted(_strikes(random.Random(f"{seed} strikes"), figures))),
    )


def _strikes(rng: random.Random, figures: Figures) -> Iterator[tuple[float, Strike, float]]:
    at = 0.0
    for _ in range(figures.kills):
        at += rng.uniform(*figures.kill_every_s)
        yield at, "kill", 0.0
    for number in range(figures.pauses):
        # One in each of equal parts, so that there are always some, and never all.
        at = (number + rng.random()) * (figures.lasts_s - figures.quiet_s) / figures.pauses
        yield at, "pause", figures.quiet_s + rng.uniform(*figures.beyond_quiet_s)
    yield figures.lasts_s * rng.uniform(0.2, 0.4), "broker", 0.0
    yield figures.lasts_s * rng.uniform(0.45, 0.55), "parent", 0.0
    yield figures.lasts_s * rng.uniform(0.6, 0.7), "database", 0.0
    yield figures.lasts_s * rng.uniform(0.8, 0.9), "host", 0.0


def _transactions(rng: random.Random, figures: Figures) -> Iterator[Transaction]:
    number = committed = 0
    while committed < figures.mails:
        size = min(rng.choice((1, 1, 2, 10, 30, 60)), figures.mails - committed)
        at = figures.lasts_s * committed / figures.mails
        # The ailing server's mails come early: they wait long.
        early = at < figures.lasts_s / 2
        app = rng.choice(APPS)
        letters = tuple(_letter(rng, number + offset, app, early=early) for offset in range(size))
        rolls_back = rng.random() < 0.03
        yield Transaction(at, letters, rolls_back)
        number += size
        committed += 0 if rolls_back else size


def _letter(rng: random.Random, number: int, app: str, *, early: bool) -> Letter:
    accounts = ACCOUNTS if early else {**ACCOUNTS, "ailing": 0.0}
    account = rng.choices(tuple(accounts), tuple(accounts.values()))[0]
    scheduled = rng.random() < 0.08
    due_in_s = rng.uniform(0.5, 15.0) if scheduled else None
    expires_in_s = None
    if account == "ailing":
        # Where a server does not even greet, a mail waits for minutes: these end before.
        due_in_s, expires_in_s = None, rng.uniform(5.0, 30.0)
    elif rng.random() < 0.06:
        expires_in_s = (due_in_s or 0.0) + rng.uniform(0.5, 8.0)
    priorities: tuple[Priority, ...] = ("high", "normal", "bulk")
    policies: tuple[OnDoubt, ...] = ("resend_once", "resend", "hold")
    return Letter(
        number=number,
        app=app,
        account=account,
        priority=rng.choices(priorities, (1, 7, 2))[0],
        on_doubt=rng.choices(policies, (6, 2, 2))[0],
        recipients=rng.choices((1, 2, 5), (17, 2, 1))[0],
        due_in_s=due_in_s,
        expires_in_s=expires_in_s,
        bytes=rng.choices((40, 3_000, 60_000), (70, 29, 1))[0],
    )
