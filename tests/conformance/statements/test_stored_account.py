"""Accounts that stand in the database: read by name and by page, replaced, removed, and never mistaken for their former selves."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from mailfleet_schema.statements import stored_account
from tests.conformance.statements.bench import Bench

NEWS = {
    "host": "smtp.example.com",
    "username": "news",
    "password": "env:NEWS",
    "limits": {"messages": ["5/s"]},
}


def put(bench: Bench, name: str, settings: Mapping[str, Any]) -> int:
    with bench.engine.begin() as connection:
        return stored_account.put(connection, name, json.dumps(settings))


def marks(bench: Bench, *names: str) -> dict[str, stored_account.Mark]:
    with bench.engine.begin() as connection:
        return stored_account.marks(connection, names)


@pytest.mark.tinymail("52")
def test_an_account_is_read_as_it_was_written(bench: Bench) -> None:
    """With tables and lists, by its name; others are not there."""
    assert put(bench, "news", NEWS) == 1
    put(bench, "other", {})
    with bench.engine.begin() as connection:
        (found,) = stored_account.read(connection, ["news", "missing"])
    assert (found.name, found.version, found.settings) == ("news", 1, NEWS)
    assert marks(bench, "news", "missing").keys() == {"news"}


@pytest.mark.tinymail("52", "53")
def test_every_change_has_another_mark(bench: Bench) -> None:
    """A version grows; where an account was removed and comes back, it was changed at another time."""
    put(bench, "news", NEWS)
    (first,) = marks(bench, "news").values()
    assert put(bench, "news", {"host": "smtp.example.org"}) == 2
    (second,) = marks(bench, "news").values()
    for removed in (True, False):
        with bench.engine.begin() as connection:
            assert stored_account.remove(connection, "news") is removed
    assert marks(bench, "news") == {}
    assert put(bench, "news", NEWS) == 1
    (third,) = marks(bench, "news").values()
    assert second != first
    assert third[1] >= second[1] >= first[1]


def test_pages_are_in_the_order_of_names(bench: Bench) -> None:
    """Each begins after the last name of the one before."""
    for name in ("c", "a", "b"):
        put(bench, name, {})
    with bench.engine.begin() as connection:
        assert [one.name for one in stored_account.page(connection, most=2)] == ["a", "b"]
        assert [one.name for one in stored_account.page(connection, after="b", most=2)] == ["c"]
