"""Hints of shared mail for which nobody has the time: they are passed on, and do not become ever more."""

import random
from collections.abc import Sequence

import pytest
from sqlalchemy import update

from mailfleet_schema.states import Priority
from mailfleet_workers.intake import Intake
from mailfleet_workers.notify import Notice
from tests.integration.workers.office import Office

APPS = ("crm", "news")
HOPS = 10


class Rolls(random.Random):
    """A die that shows what it is told."""

    def __init__(self, roll: float) -> None:
        super().__init__()
        self.roll = roll

    def random(self) -> float:
        return self.roll


class Busy:
    """The pools of two apps, each with mail of its own that waits; `passed` is what they have passed on."""

    def __init__(self, office: Office, rng: random.Random) -> None:
        self.passed: list[Notice] = []
        own = office.emit("own@example.net")
        assert office.hint(own) == 1
        self._intakes = {
            app: Intake(
                office.engine,
                office.heap,
                apps=[app],
                worker_id=office.worker_id,
                pulse=office.pulse,
                notify=self.passed.extend,
                rng=rng,
                most_wait_s=0.0,
            )
            for app in APPS
        }

    def take(self, app: str, *ids: int) -> None:
        """The pool of *app* gets a hint of *ids*."""
        hint = {"v": 1, "app": app, "priority": "normal", "ids": list(ids), "shared": True}
        assert self._intakes[app].take(hint) == 0

    def hand_round(self, notices: Sequence[Notice]) -> list[Notice]:
        """Every hint of *notices* reaches who is asked; what is passed on."""
        for one in notices:
            assert one.to is not None
            self.take(one.to, one.mail_id)
        passed = list(self.passed)
        self.passed.clear()
        return passed


@pytest.mark.tinymail("14", "D24")
@pytest.mark.parametrize(
    ("looks", "roll", "passed"),
    [(0, 0.999, True), (1, 0.499, True), (1, 0.5, False), (9, 0.099, True), (9, 0.101, False)],
)
def test_the_more_looks_the_less(office: Office, looks: int, roll: float, passed: bool) -> None:
    """The only hint of a mail is always passed on; one of ten that may be under way goes on once in ten times."""
    busy = Busy(office, Rolls(roll))
    mail = office.emit("ada@example.net", apps=APPS)
    with office.engine.begin() as connection:
        table = office.tables.mail
        connection.execute(update(table).where(table.c.id == mail).values(looks=looks))
    busy.take("crm", mail)
    assert [(one.mail_id, one.to) for one in busy.passed] == ([(mail, "news")] if passed else [])
    assert office.state(mail) == "queued"


def test_hints_die_out(office: Office) -> None:
    """Nobody has the time for long: each look sends a hint after those under way, and there are never more than mails."""
    busy = Busy(office, random.Random(1))
    mails = [office.emit(f"{n}@example.net", apps=APPS) for n in range(8)]
    under_way = [Notice("billing", Priority.NORMAL, mail, 0.0, "crm") for mail in mails]
    reconciler = office.reconciler()
    for looked in range(12):
        for _ in range(HOPS):
            under_way = busy.hand_round(under_way)
        assert len(under_way) <= len(mails), f"after {looked} looks"
        assert looked > 0 or len(under_way) == len(mails)
        office.let_pass(700)
        office.notices.clear()
        assert reconciler.run_once().hinted == len(mails)
        under_way += [one for one in office.notices if one.mail_id in mails]
    assert office.states(mails) == ["queued"] * len(mails)
