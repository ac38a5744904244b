"""No history of crashes, pauses, lost commits and wrong clocks makes the fleet lose a mail or send one twice unasked."""

import itertools
import time

import pytest
from sqlalchemy import Engine

from tests.model.chances import ANY, DOUBTED, KILLED, OVERTAKEN
from tests.model.run import run_histories, run_round
from tests.model.world import world_of

#: How long the long test goes on with each database, in seconds, and after how many histories it is content.
LONG_S = 270.0
LONG = 5000
#: Histories with one seed, and their kind, in turn.
ROUND = 50
KINDS = (ANY, ANY, OVERTAKEN, KILLED, DOUBTED)


def test_sqlite_keeps_the_promise(sqlite_engine: Engine) -> None:
    """In SQLite the promise holds after every event of every history."""
    run_histories(sqlite_engine, histories=20)


def test_postgresql_keeps_the_promise(postgres_engine: Engine) -> None:
    """In PostgreSQL the promise holds after every event of every history."""
    run_histories(postgres_engine, histories=8)


@pytest.mark.acceptance
@pytest.mark.timeout(900)
def test_the_promise_for_long(engine: Engine) -> None:
    """The same for thousands of histories in either database; what is found names the seed of its round."""
    until = time.monotonic() + LONG_S
    with world_of(engine) as world:
        for number in itertools.count():
            try:
                run_round(world, number, histories=ROUND, events=KINDS[number % len(KINDS)])
            except AssertionError as breach:
                breach.add_note(f"seed {number}")
                raise
            if time.monotonic() > until or (number + 1) * ROUND >= LONG:
                print(f"{(number + 1) * ROUND} histories")
                return
