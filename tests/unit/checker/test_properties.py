"""Over all histories that keep the promise the checker is silent; after one falsehood it is not."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from tests.checker import Change, Copy, Expected, Findings, Row, check

ADA = "ada@example.net"


class History:
    """One mail's life as a product that keeps its promise leads it; *draw* decides what the world does."""

    def __init__(self, policy: str) -> None:
        self.policy = policy
        self.changes: list[Change] = []
        self.copies: list[Copy] = []
        self._fence = self._doubts = 0
        self._at = 0.0
        self.expires_at: float | None = None
        self.outcomes: dict[str, str] = {}
        self._to("queued")

    def _to(self, state: str, phase: str | None = None, reason: str | None = None) -> None:
        self._at += 1
        at = self._at
        self.changes.append(Change(1, self._fence, state, phase, 7, self._doubts, at, at, 0.0, reason))

    def live(self, draw: st.DrawFn) -> None:
        """Attempt after attempt, until it ends."""
        for _ in range(draw(st.integers(0, 6))):
            self._fence += 1
            self._to("sending", "prepare")
            if draw(st.booleans()):
                self._to("queued")  # a wait, a drain, a crash before the record
                continue
            self._to("sending", "dot")
            arrived = draw(st.booleans())
            if arrived:
                self.copies.append(Copy("Mail 1", ADA, self._at + 0.5, self._fence, ""))
            if draw(st.booleans()):  # the answer was lost
                self._to("doubt", reason="quiet worker")
                if arrived and draw(st.booleans()):
                    self._to("sent")  # it came late
                    return
                if self.policy == "hold" or (self.policy == "resend_once" and self._doubts):
                    self._to("held", reason="doubt")
                    return
                self._doubts += 1
                self._to("queued", reason="doubt")
            elif arrived:
                self._to("sent")
                return
            elif draw(st.booleans()):
                self.outcomes = {ADA: "refused"}
                self._to("failed", reason="stop")
                return
            else:
                self._to("queued", reason="retry")
        if draw(st.booleans()):
            self.expires_at = self._at + draw(st.sampled_from([0.5, 1.0]))
            self._to("expired", reason="expires_at")
        else:
            self._to("failed", reason="max_fail")

    def lie(self, state: str) -> None:
        """One change more, which nobody asked for and whose time has not come."""
        self._fence += 1
        self._to(state, reason="expires_at")

    def row(self) -> Row:
        """How the table has it in the end."""
        last = self.changes[-1]
        more = {"on_doubt": self.policy, "doubts": self._doubts, "outcomes": self.outcomes}
        return Row(1, "Mail 1", last.state, last.reason, **more)  # type: ignore[arg-type]

    def expected(self) -> Expected:
        """The producer's word."""
        return Expected("Mail 1", 1, (ADA,), self.policy, expires_at=self.expires_at)

    def judged(self) -> Findings:
        """The checker's word."""
        return check([self.expected()], [self.row()], self.copies, self.changes, punctual=True)


@st.composite
def histories(draw: st.DrawFn) -> History:
    """Any life under any policy."""
    history = History(draw(st.sampled_from(["hold", "resend_once", "resend"])))
    history.live(draw)
    return history


@given(histories())
def test_a_promise_kept(history: History) -> None:
    """No breach, nothing lost, every doubt listed; extra copies are exactly what came beyond the first."""
    findings = history.judged()
    findings.raise_for()
    assert findings.lost == 0
    assert findings.doubts == findings.doubts_listed == [c.state for c in history.changes].count("doubt")
    assert sum(findings.duplicates.values()) == max(0, len(history.copies) - 1)
    assert findings.duplicates["hold"] == 0


@given(histories(), st.data())
def test_one_falsehood(history: History, data: st.DataObject) -> None:
    """A copy more or less, a claim or outcome that lies, a row that vanished, an end that nobody brought is found."""
    falsehoods = ["vanished"]
    if history.copies:
        falsehoods += ["doubled", "liar"]
    if history.changes[-1].state == "sent" and len(history.copies) == 1:
        falsehoods.append("swallowed")
    if history.changes[-1].state == "held":
        falsehoods += ["confirmed", "expired"]
    if not history.copies and history.changes[-1].state != "sent":
        falsehoods.append("accepted")
    rows = [history.row()]
    match data.draw(st.sampled_from(falsehoods)):
        case "doubled":
            history.copies.append(data.draw(st.sampled_from(history.copies)))
        case "liar":
            number = data.draw(st.integers(0, len(history.copies) - 1))
            history.copies[number] = replace(history.copies[number], fence=99)
        case "swallowed":
            history.copies.clear()
        case "confirmed":
            history.lie("sent")
            rows = [history.row()]
        case "expired":
            history.lie("expired")
            rows = [history.row()]
        case "accepted":
            rows = [replace(rows[0], outcomes={ADA: "accepted"})]
        case _:
            rows = []
    assert check([history.expected()], rows, history.copies, history.changes).breaches
