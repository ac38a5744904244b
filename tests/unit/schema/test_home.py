"""Where a database stands: what is compared, and what is left out where only one side knows it."""

import pytest

from mailfleet_schema.home import Home

HERE = Home(system="73", database="16385", table="16402")


@pytest.mark.parametrize(
    "home",
    [HERE, Home(inode="12"), Home(inode="12", installation="production"), Home()],
    ids=["postgresql", "sqlite", "named", "nothing"],
)
def test_what_is_stored_is_read_again(home: Home) -> None:
    """The text of a home says all of it."""
    assert Home.parse(str(home)) == home
    assert Home.parse(str(home)).differs(home) == ()


@pytest.mark.parametrize(
    ("other", "different"),
    [
        (Home(system="74", database="16385", table="16402"), "the cluster's system identifier was 73, is 74"),
        (Home(system="73", database="16390", table="16402"), "the database's oid was 16385, is 16390"),
        (Home("73", "16385", "16402", installation="staging"), "installation was none, is staging"),
        (Home(database="16385", table="17000"), "the oid of a table was 16402, is 17000"),
    ],
    ids=["other cluster", "other database", "other name", "server that does not tell, restored"],
)
def test_elsewhere(other: Home, different: str) -> None:
    """Each part that both know makes another place."""
    assert HERE.differs(other) == (different,)


@pytest.mark.parametrize(
    "other",
    [Home(system="73", database="16385", table="17000"), Home(database="16385", table="16402")],
    ids=["restored in place", "seen by a role that may not ask"],
)
def test_the_same_place(other: Home) -> None:
    """New tables in the same database are no copy; nor is a database whose cluster only one side knows."""
    assert HERE.differs(other) == ()


def test_a_text_that_nobody_of_us_wrote() -> None:
    """It is like no place, so that nothing is sent."""
    assert Home.parse("copy=unfinished").differs(HERE)
    assert Home.parse("nonsense").differs(Home(inode="3")) == ("the file's inode was none, is 3",)
