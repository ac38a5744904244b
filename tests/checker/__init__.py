"""What every scenario ends in: producers' word, the table, its audit and the sink's copies, held against the promise."""

from tests.checker.audit import Audit, Change
from tests.checker.check import check, check_fleet
from tests.checker.copies import Copy, copies_of
from tests.checker.expected import Expected, Ledger
from tests.checker.findings import Breach, Findings
from tests.checker.rows import Row, rows_of

__all__ = [
    "Audit",
    "Breach",
    "Change",
    "Copy",
    "Expected",
    "Findings",
    "Ledger",
    "Row",
    "check",
    "check_fleet",
    "copies_of",
    "rows_of",
]
