"""Shared access tokens: one lease at a time, written by its holder only, and taken over when it is over."""

from datetime import timedelta

import pytest
from sqlalchemy import text

from mailfleet_schema.dialects import dialect_named
from mailfleet_schema.statements import oauth_token
from mailfleet_schema.statements.oauth_token import StoredToken
from tests.conformance.statements.bench import Bench, about

NAME = "tenant/1234"


def read(bench: Bench, name: str = NAME) -> StoredToken | None:
    with bench.engine.begin() as connection:
        return oauth_token.read(connection, name)


def row(bench: Bench, name: str = NAME) -> StoredToken:
    found = read(bench, name)
    assert found is not None
    return found


def lease(bench: Bench, by: str, *, generation: int = 0, name: str = NAME, lease_s: float = 15.0) -> bool:
    with bench.engine.begin() as connection:
        return oauth_token.lease(connection, name, generation=generation, by=by, lease_s=lease_s)


def store(
    bench: Bench, by: str, *, sealed: bytes = b"sealed", expires_s: float = 3600.0, name: str = NAME
) -> int | None:
    with bench.engine.begin() as connection:
        return oauth_token.store(connection, name, by=by, sealed=sealed, expires_s=expires_s)


def fail(bench: Bench, by: str, reason: str = "token refused: invalid_grant", rest_s: float = 30.0) -> bool:
    with bench.engine.begin() as connection:
        return oauth_token.fail(connection, NAME, by=by, reason=reason, rest_s=rest_s)


def ago(bench: Bench, column: str, seconds: float, name: str = NAME) -> None:
    """Move *column* of a row back: the database's clock cannot be moved forward."""
    d = dialect_named(bench.engine.dialect.name)
    then = d.plus(column, "-CAST(:seconds AS DOUBLE PRECISION)")
    with bench.engine.begin() as connection:
        statement = d.format(f"UPDATE {{oauth_token}} SET {column} = {then} WHERE name = :name")
        connection.execute(text(statement), {"seconds": seconds, "name": name})


def test_a_name_without_a_row_is_leased_once(bench: Bench) -> None:
    """The first has it, for as long as it said; a second has not."""
    assert read(bench) is None
    assert lease(bench, "one")
    assert not lease(bench, "two")
    found = row(bench)
    assert (found.sealed, found.generation, found.held_by, found.left_s) == (None, 0, "one", None)
    assert found.held_s == about(15)


def test_what_the_holder_writes_is_there_for_all(bench: Bench) -> None:
    """Sealed bytes as they are, an end by the database's clock, another generation, and a lease that is over."""
    sealed = bytes(range(256))
    assert lease(bench, "one")
    assert store(bench, "one", sealed=sealed) == 1
    found = row(bench)
    assert (found.sealed, found.generation, found.held_by, found.held_s) == (sealed, 1, None, None)
    assert found.left_s == about(3600)
    assert lease(bench, "two", generation=1)
    assert store(bench, "two") == 2


def test_a_token_that_was_read_before_another_was_written_is_not_renewed(bench: Bench) -> None:
    """Who looked at generation 0 is told by the lease that there is another one by now."""
    assert lease(bench, "one")
    assert store(bench, "one") == 1
    assert not lease(bench, "late", generation=0)
    assert lease(bench, "early", generation=1)


def test_a_lease_that_is_over_is_somebody_elses(bench: Bench) -> None:
    """The next has it; what the first one writes or says after that is not taken."""
    assert lease(bench, "dead")
    ago(bench, "refreshing_until", 16)
    assert lease(bench, "heir")
    assert store(bench, "dead") is None
    assert not fail(bench, "dead")
    assert row(bench).held_by == "heir"
    assert store(bench, "heir") == 1


def test_after_a_failure_nobody_tries_for_a_while(bench: Bench) -> None:
    """Everybody reads why, the token before stays, and the next that works takes the reason away."""
    assert lease(bench, "one")
    assert store(bench, "one", sealed=b"before") == 1
    assert lease(bench, "two", generation=1)
    assert fail(bench, "two")
    found = row(bench)
    assert (found.sealed, found.held_by, found.reason) == (b"before", None, "token refused: invalid_grant")
    assert found.failed_at is not None
    assert found.changed_at - found.failed_at < timedelta(seconds=3)
    assert found.held_s == about(30)
    assert not lease(bench, "three", generation=1)
    ago(bench, "refreshing_until", 31)
    assert lease(bench, "three", generation=1)
    assert store(bench, "three") == 2
    assert (row(bench).reason, row(bench).failed_at) == (None, None)


def test_a_tokens_end_passes(bench: Bench) -> None:
    """Seconds that are left are below zero after it."""
    assert lease(bench, "one")
    store(bench, "one", expires_s=60)
    ago(bench, "expires_at", 90)
    assert row(bench).left_s == about(-30)


@pytest.mark.parametrize("start", ["tenant/", "tenant-a/"])
def test_rows_of_an_account_are_found_and_forgotten(bench: Bench, start: str) -> None:
    """By the beginning of their names, the youngest first; what is kept or younger stays, and so do other accounts."""
    names = [f"{start}old", f"{start}new", "tenan/old", "tenant-b/old", "other/old"]
    for name in names:
        assert lease(bench, name, name=name)
        store(bench, name, name=name)
    for name in names:
        if name.endswith("old"):
            ago(bench, "changed_at", 100, name)
    with bench.engine.begin() as connection:
        found = [one.name for one in oauth_token.beginning(connection, start)]
        assert found == [f"{start}new", f"{start}old"]
        assert oauth_token.forget(connection, start, keep=f"{start}old", older_s=50) == 0
        assert oauth_token.forget(connection, start, keep=f"{start}new", older_s=200) == 0
        assert oauth_token.forget(connection, start, keep=f"{start}new", older_s=50) == 1
        assert [one.name for one in oauth_token.beginning(connection, start)] == [f"{start}new"]
        assert len(oauth_token.beginning(connection, "")) == 4
