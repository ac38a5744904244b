"""Producers of a fleet under test: mails of all policies, one commit after another, and the word of who emitted them."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Self

from mailfleet import Mail
from mailfleet_schema.states import OnDoubt
from tests.checker import Findings, Ledger, check_fleet
from tests.stage.parent import Parent
from tests.stage.stage import Stage
from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]
STAMPED = "tests.stage.stamped"
POLICIES = ("hold", "resend_once", "resend")
assert {*POLICIES} == {policy.value for policy in OnDoubt}

#: A mail by its number; its subject is unique.
Make = Callable[[int], Mail]


def loading(*apps: str, modules: Sequence[str] = ()) -> dict[str, str]:
    """The environment in which the workers of *apps* name their claim in every message, and load *modules*."""
    loaded = ",".join((STAMPED, *modules))
    names = [app.upper().replace("-", "_") for app in apps]
    return {f"MAILFLEET_APPS__{name}__IMPORT": loaded for name in names} | {"PYTHONPATH": str(ROOT)}


def start_host(stage: Stage, app: str, name: str, *, ready: int | None = None) -> Parent:
    """A host of that *name* with one worker process of *app*; its journals are in a directory of its own."""
    environ = loading(app) | {"MAILFLEET_DATA_DIR": str(stage.directory / name)}
    return stage.parent(app, "--processes", "1", "--host", name, environ=environ, ready=ready)


def mixed(name: str) -> Make:
    """Mails `NAME 0`, `NAME 1`, …, each to one recipient, whose policies take turns."""

    def make(number: int) -> Mail:
        return Mail(
            to=[f"{number}@example.net"],
            subject=f"{name} {number}",
            text="Hello",
            on_doubt=POLICIES[number % len(POLICIES)],  # type: ignore[arg-type]
        )

    return make


def emit(stage: Stage, app: str, ledger: Ledger, mails: Sequence[Mail]) -> list[int]:
    """*mails* in one transaction, hinted after it, and in *ledger*; their ids."""
    ids = stage.mailer(app).emit_many(mails)
    for mail, mail_id in zip(mails, ids, strict=True):
        ledger.emitted(mail, mail_id)
    return ids


class Traffic:
    """Emits a mail of *app* every *every_s* seconds, in a thread, as long as the block lasts."""

    def __init__(self, stage: Stage, app: str, ledger: Ledger, make: Make, *, every_s: float) -> None:
        self._mailer = stage.mailer(app)
        self._ledger = ledger
        self._make = make
        self._every_s = every_s
        self._end = threading.Event()
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._run, name=f"traffic-{app}", daemon=True)
        #: When each subject was committed, in seconds since 1970.
        self.committed_at: dict[str, float] = {}

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        self._thread.join()
        if self._failure is not None and error is None:
            raise self._failure

    def _run(self) -> None:
        try:
            for number in count():
                if self._end.wait(self._every_s):
                    return
                mail = self._make(number)
                self._ledger.emitted(mail, self._mailer.emit(mail))
                self.committed_at[str(mail.subject)] = time.time()
        except Exception as error:  # noqa: BLE001 - raised again in the thread of the test
            self._failure = error

    def late(self, arrivals: Mapping[str, Sequence[float]]) -> list[float]:
        """How long each mail took from its commit to the server, in seconds, sorted."""
        return sorted(arrivals[name][0] - at for name, at in self.committed_at.items() if name in arrivals)


def percentiles(values: Sequence[float]) -> str:
    """For a person: p50, p99 and the greatest of *values*, which are sorted seconds."""
    p50, p99 = values[len(values) // 2], values[min(len(values) - 1, int(len(values) * 0.99))]
    return f"p50 {p50:.2f} s, p99 {p99:.2f} s, max {values[-1]:.2f} s"


def wait_rest(stage: Stage, deadline_s: float) -> None:
    """Until every mail has ended or is held."""
    moving = {"draft", "queued", "sending", "doubt"}
    wait_until(
        lambda: not moving & set(stage.states()),
        deadline_s,
        lambda: f"{dict(stage.states())} {stage.rows('id', 'state', 'phase', 'reason', 'due_at')[-5:]}",
        step_s=0.1,
    )


def judged(stage: Stage, ledger: Ledger) -> Findings:
    """What the checker finds now that everything is at rest, printed; raises AssertionError for any breach."""
    found = check_fleet(stage.engine, ledger, stage.sink.store.receipts())
    print(
        f"{found.mails} mails: sent {found.sent}, held {found.held}, lost {found.lost}, doubts {found.doubts}"
        f" (listed {found.doubts_listed}), duplicates {dict(found.duplicates)}"
    )
    found.raise_for()
    return found
