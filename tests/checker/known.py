"""One committed mail with everything that is known of it, and what follows from that for all invariants."""

from collections import Counter
from dataclasses import dataclass

from mailfleet_schema.states import FINAL, State
from tests.checker.copies import Copy
from tests.checker.expected import Expected
from tests.checker.findings import SHOWN
from tests.checker.rows import Row
from tests.checker.trail import Trail

#: Where a mail may stay for ever.
_REST = FINAL | {State.HELD}


@dataclass
class Known:
    """`row` None: it is gone, or never was. What people did counts only as far as the ledger knows of it."""

    expected: Expected
    row: Row | None
    trail: Trail
    copies: list[Copy]

    @property
    def id(self) -> int:
        """0 where nobody knows it."""
        return self.row.id if self.row is not None else self.expected.mail_id or 0

    @property
    def resting(self) -> bool:
        """Whether it is where a mail may stay."""
        return self.row is not None and self.row.state in _REST

    @property
    def forced(self) -> int:
        """Copies beyond those that the producer wanted."""
        return max(0, self.row.max_done - self.expected.max_done) if self.row is not None else 0

    @property
    def moved(self) -> int:
        """How often the table says that a person had it sent again, or confirmed it."""
        return self.trail.asked + self.trail.confirmed + self.forced

    @property
    def confirmed(self) -> bool:
        """Whether a person, whom the ledger knows of, said that it was sent."""
        return bool(self.trail.confirmed and self.expected.asked)

    @property
    def resent(self) -> int:
        """How often a person had it sent again, as far as the ledger knows of it."""
        return min(self.expected.asked, self.trail.asked + self.forced)

    def wanted(self) -> int:
        """Copies that somebody asked for."""
        return self.expected.max_done + self.resent

    def count(self) -> Counter[str]:
        """Copies by recipient."""
        return Counter(one.recipient for one in self.copies)

    def missing(self) -> list[str]:
        """Recipients without a copy who should have one if the mail is sent."""
        outcomes = self.row.outcomes if self.row is not None else {}
        has = self.count()
        return [one for one in self.expected.recipients if not has[one] and outcomes.get(one) != "refused"]

    def accepted_without(self) -> list[str]:
        """Recipients without a copy of whom the table says that a server took it."""
        outcomes = self.row.outcomes if self.row is not None else {}
        return [one for one in self.missing() if outcomes.get(one) == "accepted"]

    def refused_with(self) -> list[str]:
        """Recipients of whom the table says that they were refused, and who have a copy all the same.

        Not those whose copies are out of doubts: who got the copy of a lost answer may be refused at the second try.
        Nor those of a mail of many copies: the second may be refused after the first.
        """
        if self.row is None or self.row.max_done > 1:
            return []
        doubted = {doubt.fence for doubt, _ in self.trail.doubts}
        certain = {
            one.recipient
            for one in self.copies
            if one.fence not in doubted and not (one.fence is None and doubted)
        }
        return [one for one, outcome in self.row.outcomes.items() if outcome == "refused" and one in certain]

    def lines(self) -> list[str]:
        """For a person."""
        row = self.row
        now = f"{row.state} [{row.reason}] doubts {row.doubts}" if row is not None else "no row"
        head = f"mail {self.id} {self.expected.subject!r} {self.expected.on_doubt}: {now}"
        copies = [
            f"  copy {one.at:.6f} {one.recipient} fence {one.fence}"
            for one in sorted(self.copies, key=lambda copy: copy.at)[: 2 * SHOWN]
        ]
        return [head, *(f"  {line}" for line in self.trail.lines()), *copies]
