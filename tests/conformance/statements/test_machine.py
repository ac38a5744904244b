"""No statement takes an arrow that is not listed, whatever happened before."""

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test
from sqlalchemy import Engine

from tests.conformance.statements.machine import Machine


def _run(engine: Engine, *, examples: int, steps: int) -> None:
    class Bound(Machine):
        def __init__(self) -> None:
            super().__init__(engine)

    run_state_machine_as_test(Bound, settings=settings(max_examples=examples, stateful_step_count=steps))


def test_sqlite_takes_listed_arrows_only(sqlite_engine: Engine) -> None:
    """In SQLite random statements change exactly the rows they should, along listed arrows."""
    _run(sqlite_engine, examples=70, steps=50)


def test_postgresql_takes_listed_arrows_only(postgres_engine: Engine) -> None:
    """In PostgreSQL random statements change exactly the rows they should, along listed arrows."""
    _run(postgres_engine, examples=20, steps=50)


@pytest.mark.acceptance
@pytest.mark.timeout(900)
def test_listed_arrows_only_for_long(engine: Engine) -> None:
    """The same for many more sequences, in both databases."""
    _run(engine, examples=400, steps=60)
