"""What follows from a seed."""

import itertools

import pytest

from tests.torture.plan import ACCOUNTS, APPS, Figures, plan_of


def test_a_seed_is_a_storm() -> None:
    """One seed is one plan, another seed is another."""
    figures = Figures.of(500)
    assert plan_of(7, figures) == plan_of(7, figures)
    assert plan_of(7, figures) != plan_of(8, figures)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_whole_storm(seed: int) -> None:
    """It has the figures that the promise is measured by: mails, kills at their intervals, pauses, both servers."""
    plan = plan_of(seed, Figures())
    assert sum(len(one.letters) for one in plan.transactions if not one.rolls_back) == 20_000
    assert any(one.rolls_back for one in plan.transactions)
    kinds = [kind for _, kind, _ in plan.strikes]
    assert kinds.count("kill") >= 400
    assert kinds.count("pause") >= 40
    assert [kinds.count(kind) for kind in ("broker", "database", "parent", "host")] == [1, 1, 1, 1]
    kills = [at for at, kind, _ in plan.strikes if kind == "kill"]
    assert all(0.05 <= later - sooner <= 0.3 for sooner, later in itertools.pairwise(kills))
    assert all(length > plan.figures.quiet_s for _, kind, length in plan.strikes if kind == "pause")


def test_every_kind_of_mail() -> None:
    """All apps, accounts, priorities and policies; some scheduled, some that expire, some to several recipients."""
    letters = [
        one for transaction in plan_of(1, Figures.of(2_000)).transactions for one in transaction.letters
    ]
    assert {one.app for one in letters} == set(APPS)
    assert {one.account for one in letters} == set(ACCOUNTS)
    assert {one.priority for one in letters} == {"high", "normal", "bulk"}
    assert {one.on_doubt for one in letters} == {"resend_once", "resend", "hold"}
    assert any(one.due_in_s for one in letters)
    assert any(one.expires_in_s for one in letters)
    assert any(one.recipients > 1 for one in letters)
    assert len({one.number for one in letters}) == len(letters)
    # A server that does not greet keeps its mail waiting for minutes: it must end before.
    assert all(one.expires_in_s for one in letters if one.account == "ailing")
