"""Every row of TinyMail has a test that names it, and the page says which."""

from tests.tinymail.page import PAGE, proofs, rendered
from tests.tinymail.rows import ROWS

#: Rows that are still to be built; a row that has a test does not stand here.
NOT_YET: frozenset[str] = frozenset()


def test_every_row_is_proved() -> None:
    """A row without a test is listed as such, and no other is."""
    assert {row for row, tests in proofs().items() if not tests} == NOT_YET


def test_the_page_is_up_to_date() -> None:
    """`python -m tests.tinymail.page` writes it."""
    assert PAGE.read_text(encoding="utf-8") == rendered(proofs())


def test_rows_are_counted() -> None:
    """70 behaviours, 14 outcomes, 12 tests of its own and 16 that it has not, 38 defects."""
    assert len(ROWS) == 70 + 14 + 12 + 16 + 38
