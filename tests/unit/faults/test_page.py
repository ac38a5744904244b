"""Every fault of smtplib has a test that names it, every cell of the table is one that is played, and the page says both."""

from mailfleet_workers.catcher import Step
from tests.faults.page import PAGE, answers, proofs, renewed
from tests.faults.rows import FAULTS
from tests.integration.smtp.answers import COLUMNS, ROWS, WORDS, table
from tests.integration.smtp.outage import FAULTS as DONE

#: Faults whose tests are still to come; one that has a test does not stand here.
NOT_YET: frozenset[int] = frozenset()


def test_every_fault_is_proved() -> None:
    """A fault without a test is listed as such, and no other is."""
    assert list(FAULTS) == list(range(1, 24))
    assert {number for number, tests in proofs().items() if not tests} == NOT_YET


def test_the_page_is_up_to_date() -> None:
    """`python -m tests.faults.page` writes it."""
    page = PAGE.read_text(encoding="utf-8")
    assert renewed(page) == page, "run: python -m tests.faults.page"


def test_the_table_is_whole() -> None:
    """Every step of a conversation that can be answered, times everything that a server can do, has a known word."""
    cells = table()
    assert set(cells) == {(row, column) for row in ROWS for column in COLUMNS}
    assert set(cells.values()) == set(WORDS)
    assert set(COLUMNS) <= set(DONE)
    # We never say NOOP and VRFY, and nothing is answered after a reply.
    assert {row.step for row in ROWS.values()} == set(Step) - {Step.AFTER_REPLY, Step.NOOP, Step.VRFY}
    assert len(answers()) == len(ROWS) + len(COLUMNS) + len(WORDS) + 8
