"""Everything at once, from a seed: servers that refuse and fall silent, a database that fails at any statement or commit,
drains, cancels and passes; afterwards every mail is accounted for, and no copy is there without its doubt.
"""

import random
import threading
from collections import Counter, deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event
from sqlalchemy.exc import SQLAlchemyError

from mailfleet_schema.statements.operate import CANCEL, operate
from mailfleet_schema.states import OnDoubt
from mailfleet_workers import courier, ledger
from mailfleet_workers.recovery import recover
from mailfleet_workers.sender import Sender
from mailfleet_workers.smtp.base import Answer
from tests.integration.workers.faults import failing_commit
from tests.integration.workers.office import APP, PATIENCE, Office
from tests.integration.workers.server import (
    Act,
    Server,
    Talk,
    accept,
    cut_after_dot,
    cut_and_not_taken,
    cut_before_dot,
    fail_after_dot,
    fail_before_dot,
    refuse,
    refuse_mail,
)

MAILS = 40
THREADS = 4
FINAL = {"sent", "failed", "cancelled", "expired", "held"}
ACTS: tuple[Act, ...] = (
    accept,
    accept,
    accept,
    accept,
    cut_before_dot,
    cut_after_dot,
    cut_and_not_taken,
    fail_before_dot,
    fail_after_dot,
    refuse(451, "4.3.0 later"),
    refuse(450, "4.2.0 grey"),
    refuse(450, "4.7.0 quota"),
    refuse_mail(451, "4.3.0 later"),
    refuse(550, "5.7.1 no"),
)

#: Seeds of the long run.
LONG = [pytest.param(seed, marks=pytest.mark.acceptance) for seed in (2, 3)]


class Weather:
    """How likely a statement fails at the moment; from a seed, whichever thread asks."""

    def __init__(self, engine: Engine, seed: int) -> None:
        self.odds = 0.0
        self.struck = 0
        self._rng = random.Random(seed)
        self._lock = threading.Lock()
        self._error = engine.dialect.loaded_dbapi.OperationalError
        for name in ("do_execute", "do_execute_no_params"):
            event.listen(engine, name, self.strike)

    def strike(self, *_: Any) -> None:
        with self._lock:
            strikes = self._rng.random() < self.odds
            self.struck += strikes
        if strikes:
            raise self._error("injected")


def storm(office: Office, rng: random.Random, mails: list[int]) -> None:
    """One round: hints, senders, a pass and some cancels, at once, until nothing waits."""
    senders = [Sender(office.desk) for _ in range(THREADS)]

    def send(sender: Sender) -> None:
        while sender.run_once(timeout_s=0.05):
            pass

    def hint() -> None:
        ids = rng.sample(mails, len(mails))
        for start in range(0, len(ids), 10):
            office.hint(*ids[start : start + 10])

    def reconcile() -> None:
        for _ in range(2):
            try:
                office.reconciler().run_once()
            except SQLAlchemyError:
                continue

    def cancel() -> None:
        try:
            with office.engine.begin() as connection:
                operate(connection, CANCEL, rng.sample(mails, 1), apps=[APP])
        except SQLAlchemyError:
            return

    with ThreadPoolExecutor(THREADS + 3) as threads:
        jobs = [threads.submit(one) for one in (hint, reconcile, cancel)]
        jobs += [threads.submit(send, sender) for sender in senders]
        for job in jobs:
            job.result(60)


@pytest.mark.parametrize("seed", [1, *LONG])
@pytest.mark.parametrize("size", [1, 8])
def test_every_mail_is_accounted_for(
    engine: Engine, tmp_path: Path, seed: int, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing lost, nothing silent, copies only out of doubts, none under `hold`, nothing left in our hands."""
    monkeypatch.setattr(ledger, "TRY_AGAIN_S", 0.001)
    monkeypatch.setattr(courier, "CHUNK_STALE_S", 5.0)
    rng = random.Random(seed)
    office = Office(engine, tmp_path, chunk=size)
    server, weather = office.server, Weather(engine, seed)
    policies = {f"{n}@example.net": rng.choice(list(OnDoubt)) for n in range(MAILS)}
    mails = [office.emit(to, on_doubt=policy, max_fail=6) for to, policy in policies.items()]
    for to in policies:
        server.script(to, *rng.choices(ACTS, k=12), accept)
    with failing_commit(engine, done=True, times=0) as commits:
        for number in range(20):
            bad = number < 10
            weather.odds = 0.1 if bad else 0.0
            commits.left, commits.spared = (3, rng.randint(0, 30)) if bad else (0, 0)
            if not bad:
                server.acts = {}
            storm(office, rng, mails)
            weather.odds, commits.left = 0.0, 0
            office.reconciler().run_once()
            if all(office.row(mail)["state"] in FINAL for mail in mails):
                break
            office.let_pass(700 if number % 5 else 4000)
    assert weather.struck > 20, "the weather was fine"
    check(office, server, policies, mails)
    office.nothing_is_left()
    assert office.violations == []


def check(office: Office, server: Server, policies: dict[str, OnDoubt], mails: list[int]) -> None:
    copies = Counter(server.taken)
    for (to, policy), mail in zip(policies.items(), mails, strict=True):
        row = office.row(mail)
        told = f"mail {mail} to {to} ({policy}): {office.state(mail)}, {copies[to]} copies: {office.attempts(mail)}"
        assert row["state"] in FINAL, told
        assert row["state"] != "sent" or copies[to] >= 1, f"lost: {told}"
        assert row["state"] != "failed" or row["reason"], f"silent: {told}"
        # `doubts` counts what was sent again out of a doubt.
        assert copies[to] <= 1 + row["doubts"], f"doubled: {told}"
        assert policy is not OnDoubt.HOLD or copies[to] <= 1, f"doubled under hold: {told}"


class Killed(BaseException):
    """The process ends here: nothing that it would still do reaches the database."""


@pytest.mark.parametrize("seed", [1, LONG[0]])
def test_workers_that_die(engine: Engine, tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """One worker after the other is killed at some instant; with its journal, copies come out of the air only."""
    monkeypatch.setattr(ledger, "TRY_AGAIN_S", 0.001)
    rng, server, weather = random.Random(seed), Server(), Weather(engine, seed)
    policies = {f"{n}@example.net": rng.choice(list(OnDoubt)) for n in range(MAILS)}
    office = Office(engine, tmp_path, server=server, chunk=8)
    mails = [office.emit(to, on_doubt=policy) for to, policy in policies.items()]
    kills: Counter[str] = Counter()
    while any(office.row(mail)["state"] not in FINAL for mail in mails):
        waiting = [mail for mail in mails if office.state(mail).startswith("queued")]
        if waiting:
            batch = rng.sample(waiting, min(5, len(waiting)))
            victim = next(to for to, mail in server.ids.items() if mail == batch[-1])
            instant = rng.choice(["before the dot", "at the dot", "before the reply"])
            server.acts = {victim: deque([_killed(instant, office, weather)])}
            try:
                office.hint(*batch)
                office.deliver()
            except Killed:
                kills[instant] += 1
                weather.odds = 0.0
                office.connections.close()
                again = Office(engine, tmp_path, server=server, chunk=rng.choice([1, 8]))
                recover(engine, office.directory, [office.worker_id], PATIENCE)
                office = again
        office.let_pass(700)
        office.reconciler().run_once()
    assert kills.total() > 5, "nobody died"
    check(office, server, policies, mails)
    copies = Counter(server.taken)
    assert copies.total() - len(copies) <= kills["before the reply"], "a copy that was not in the air"
    assert (
        sum(office.row(mail)["doubts"] for mail in mails) <= kills["at the dot"] + kills["before the reply"]
    )
    assert office.violations == []
    office.end()


def _killed(instant: str, office: Office, weather: Weather) -> Act:
    def die() -> None:
        office.abandon.set()
        weather.odds = 1.0
        raise Killed

    def act(talk: Talk) -> Answer:
        match instant:
            case "before the dot":
                die()
            case "at the dot":
                talk.dot()
                die()
            case _:
                if talk.dot():
                    talk.take()
                die()
        raise AssertionError("die has raised")

    return act
