"""Limits that operators changed while workers run."""

import pytest
from sqlalchemy.exc import IntegrityError

from mailfleet_schema.statements import limit
from mailfleet_schema.statements.limit import LimitChange
from tests.conformance.statements.bench import Bench

RATES = LimitChange("account", "default", "messages", '["14/s", "10000/d"]')


def changes(bench: Bench) -> list[LimitChange]:
    with bench.engine.begin() as connection:
        return limit.changes(connection)


def put(bench: Bench, *all_of_them: LimitChange) -> None:
    with bench.engine.begin() as connection:
        for one in all_of_them:
            limit.set_limit(connection, one)


def test_a_change_stands_until_the_next(bench: Bench) -> None:
    """What is set for a name replaces what was set for it before, and nothing else."""
    assert changes(bench) == []
    host = LimitChange("host", "smtp.example.com", "messages", "[]")
    put(bench, host, RATES, LimitChange("account", "default", "messages", '["1/s"]'))
    put(bench, RATES, LimitChange("account", "default", "connections", "3"))
    assert changes(bench) == [LimitChange("account", "default", "connections", "3"), RATES, host]


def test_a_change_can_be_taken_back(bench: Bench) -> None:
    """Then the settings apply again; a second time there is nothing to take back."""
    put(bench, RATES)
    for expected in (True, False):
        with bench.engine.begin() as connection:
            assert not limit.unset_limit(connection, "account", "default", "recipients")
            assert limit.unset_limit(connection, "account", "default", "messages") is expected
    assert changes(bench) == []


@pytest.mark.parametrize(
    "wrong", [LimitChange("app", "x", "messages", "1"), LimitChange("host", "x", "m", "1")]
)
def test_the_table_knows_its_words(bench: Bench, wrong: LimitChange) -> None:
    """Another scope or name is a bug and refused by the table."""
    with pytest.raises(IntegrityError):
        put(bench, wrong)
