"""A fleet between bad servers and a bad network: every mail is counted at the end, for each of its recipients.

The server does something wrong at any step of some conversations, the network breaks connections at any byte, or lets them
fall silent. Who sends has the product's own workers and timeouts of seconds. The checker has the last word.
"""

import random
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from mailfleet import Mail
from mailfleet_schema.states import FINAL, OnDoubt, State
from mailfleet_workers.catcher import (
    Action,
    Catcher,
    Cut,
    Default,
    Delay,
    Drip,
    Event,
    Keep,
    MemoryStore,
    Reset,
    Say,
    Silent,
    Step,
)
from tests.checker import Audit, Findings, Ledger, check_fleet
from tests.services.virtual_host import VirtualHost
from tests.stage import Stage
from tests.stage.armed import armed
from tests.stage.proxy import STRAIGHT, Fate, Proxy, Route
from tests.waiting import wait_until

APP = "billing"
PROCESSES, THREADS = 2, 8
TIMEOUT_S = 1.5
#: Beyond the timeout.
LATE_S = 2.5
SETTINGS = {
    f"APPS__{APP.upper()}__THREADS": str(THREADS),
    # The first wait after a failure; later ones are five and 25 times as long.
    "TIMING__TRY_NEXT_S": "0.3",
    "TIMING__SETTLE_S": "4",
    **{
        f"ACCOUNTS__DEFAULT__TIMEOUTS__{name}": str(TIMEOUT_S) for name in ("COMMAND", "DATA", "BLOCK", "DOT")
    },
    "ACCOUNTS__DEFAULT__TIMEOUTS__QUIT": "0.5",
}
_REST = {state.value for state in (*FINAL, State.HELD)}

#: Whatever is said or not said to any command.
_ANYWHERE: tuple[Action, ...] = (
    Cut(),
    Reset(),
    Silent(),
    Delay(LATE_S),
    Delay(0.1),
    Say(451, "4.3.0 not now"),
    # A time is stated, so that the host does not wait for a minute.
    Say(421, "4.3.2 closing, try again in 1 second"),
)
_ALSO: dict[Step, tuple[Action, ...]] = {
    Step.RCPT: (
        Say(550, "5.1.1 unknown"),
        Say(450, "4.2.0 not now, try again in 1 second"),
        Drip(Default(), 0.15),
    ),
    Step.DATA: (Drip(Default(), 0.15),),
    # The server has the mail, and does not say so.
    Step.EOD: (Keep(Cut()), Keep(Reset()), Keep(Silent()), Drip(Default(), 0.15), Say(554, "5.6.0 no")),
    Step.AFTER_REPLY: (Cut(), Reset(), Silent()),
}
#: How many of a hundred events at a step go wrong.
_PERCENT = {Step.MAIL: 2, Step.RCPT: 4, Step.DATA: 2, Step.EOD: 12, Step.AFTER_REPLY: 3, Step.RSET: 10}


class BadServer:
    """By its seed; counts what it did."""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)
        self.done: Counter[str] = Counter()
        self.well = False

    def __call__(self, event: Event) -> Action:
        if self.well or self._rng.uniform(0, 100) >= _PERCENT.get(event.step, 0):
            return Default()
        choices = (*(_ANYWHERE if event.step is not Step.AFTER_REPLY else ()), *_ALSO.get(event.step, ()))
        action = self._rng.choice(choices)
        self.done[f"{event.step}: {type(action).__name__}"] += 1
        return action


class BadNetwork:
    """Three connections of ten end somewhere behind their EHLO; before it the host would wait for minutes."""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)
        self.done: Counter[str] = Counter()
        self.well = False

    def __call__(self, _number: int) -> Route:
        rng = self._rng
        if self.well or rng.random() >= 0.3:
            return STRAIGHT
        fate, byte = rng.choice(list(Fate)), int(rng.expovariate(1 / 4000))
        self.done[fate] += 1
        if rng.random() < 0.5:
            return Route(cut_up=100 + byte, fate=fate)
        return Route(cut_down=400 + byte, fate=fate)


@dataclass
class Scene:
    """A fleet, its bad server and network, and what its producers did."""

    stage: Stage
    catcher: Catcher
    server: BadServer
    network: BadNetwork
    proxy: Proxy
    ledger: Ledger
    seed: int

    def emit(self, count: int) -> None:
        """Mails of every policy, one to three recipients each."""
        rng = random.Random(self.seed)
        mails = [
            Mail(
                to=[f"{n}-{k}@example.net" for k in range(rng.choice((1, 1, 2, 3)))],
                subject=f"mail {n}",
                text="Hello" * rng.choice((1, 20, 2000)),
                on_doubt=rng.choice(list(OnDoubt)).value,
            )
            for n in range(count)
        ]
        for start in range(0, count, 100):
            page = mails[start : start + 100]
            for mail, mail_id in zip(page, self.stage.mailer(APP).emit_many(page), strict=True):
                self.ledger.emitted(mail, mail_id)

    def wait_rest(self, deadline_s: float) -> None:
        wait_until(
            lambda: not set(self.stage.states()) - _REST,
            deadline_s,
            lambda: f"not at rest: {dict(self.stage.states())}",
            step_s=0.2,
        )

    def findings(self) -> Findings:
        return check_fleet(self.stage.engine, self.ledger, self.catcher.store, seed=self.seed)


@pytest.fixture
def scene(tmp_path: Path, migrated_url: str, rabbitmq: VirtualHost) -> Iterator[Scene]:
    """Two processes of eight threads."""
    seed = random.SystemRandom().randrange(2**31)
    with ExitStack() as stack:
        server, network = BadServer(seed), BadNetwork(seed)
        catcher = stack.enter_context(Catcher(MemoryStore(), server))
        proxy = stack.enter_context(Proxy(("127.0.0.1", catcher.port), choose=network))
        settings = {**SETTINGS, "ACCOUNTS__DEFAULT__PORT": str(proxy.port)}
        stage = stack.enter_context(Stage(tmp_path, migrated_url, rabbitmq.url, settings=settings))
        Audit.install(stage.engine)
        environ = armed(APP, "", tmp_path / "once", also=("tests.stage.stamped",))
        stage.parent(APP, "--processes", str(PROCESSES), environ=environ, ready=PROCESSES)
        yield Scene(stage, catcher, server, network, proxy, Ledger(), seed)


@pytest.mark.acceptance
@pytest.mark.timeout(300)
def test_bad_servers_and_a_bad_network(scene: Scene) -> None:
    """Trouble at every step and byte: none lost, none of `hold` twice, a second copy only out of a listed doubt."""
    scene.emit(800)
    scene.wait_rest(240)
    findings = scene.findings()
    print(
        f"seed {scene.seed}: {findings.mails} mails, {findings.sent} sent, {findings.held} held,"
        f" {findings.doubts} doubts, duplicates {dict(findings.duplicates)},"
        f" {scene.proxy.connections} connections;"
        f" server {dict(scene.server.done)}; network {dict(scene.network.done)}"
    )
    findings.raise_for()
    assert not scene.catcher.faults
    assert (findings.lost, findings.early, findings.duplicates["hold"]) == (0, 0, 0)
    assert findings.doubts == findings.doubts_listed > 0
    # The trouble was there.
    assert sum(scene.server.done.values()) > 100
    assert set(scene.network.done) == set(Fate)
    failed = {row.reason for row in scene.stage.rows("state", "reason") if row.state == "failed"}
    assert all(reason == "max_fail" or reason.startswith("stop: ") for reason in failed), failed
