"""The promise, checked: I1 to I5 and I9 of `docs/promise.md`, per mail and recipient, over everything that is known.

It knows nothing of the product but its states: a checker that shared its reasoning would share its mistakes.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import Engine

from mailfleet_schema.states import OnDoubt, State
from mailfleet_workers.catcher import Receipt
from tests.checker.audit import Audit, Change
from tests.checker.copies import Copy, copies_of
from tests.checker.expected import Expected, Ledger
from tests.checker.findings import SHOWN, Breach, Findings
from tests.checker.known import Known
from tests.checker.rows import Row, rows_of
from tests.checker.trail import Trail, by_recipient_and_fence, listed, trails_of

__all__ = ["Breach", "Findings", "check", "check_fleet"]

#: These say why.
_WITH_REASON = frozenset({State.FAILED, State.HELD, State.EXPIRED})
#: SQLite keeps milliseconds.
_RESOLUTION_S = 0.001


def check_fleet(
    engine: Engine,
    ledger: Ledger,
    receipts: Iterable[Receipt],
    *,
    at_rest: bool = True,
    seed: int | None = None,
    stamped: bool = True,
    punctual: bool = False,
) -> Findings:
    """Read rows and audit (`Audit.install` came first) and `check` them.

    Give the sink's store itself as *receipts* while mail still flows: it is read after the rows.
    """
    rows = rows_of(engine)
    copies = copies_of(receipts)
    changes = Audit(engine).read()
    return check(
        ledger.expected, rows, copies, changes, at_rest=at_rest, seed=seed, stamped=stamped, punctual=punctual
    )


def check(
    expected: Iterable[Expected],
    rows: Iterable[Row],
    copies: Iterable[Copy],
    changes: Iterable[Change],
    *,
    at_rest: bool = True,
    seed: int | None = None,
    stamped: bool = True,
    punctual: bool = False,
    now: float | None = None,
    max_next_s: float = 86_400.0,
    max_age_s: float = 5 * 86_400.0,
) -> Findings:
    """Hold what producers did against the table, its history and the sink.

    *at_rest*: nothing is on its way any more, so every mail has ended or is due later than *now* (None: than anything
    that was seen). *stamped* False is for workers that do not name their claim in each message; then nothing can be
    said of single claims. *punctual*: a dot said after its claim was taken from a quiet worker is a breach too. It is
    none where processes are paused at random: one may stand between its last look at its heartbeat and the dot itself.
    *max_next_s* and *max_age_s* are the fleet's settings: a mail without `expires_at` expires when it is overdue by the
    one, or is wanted since the other.
    """
    given = list(expected), list(rows), list(copies), list(changes)
    case = _Case(*given, at_rest, stamped, punctual, max_next_s, max_age_s)
    seen = (*(one.at for one in case.copies), *(one.at for one in case.changes), 0.0)
    case.now = max(seen) if now is None else now
    return case.findings(seed)


@dataclass
class _Case:
    expected: Sequence[Expected]
    rows: Sequence[Row]
    copies: Sequence[Copy]
    changes: Sequence[Change]
    at_rest: bool
    stamped: bool
    punctual: bool
    max_next_s: float
    max_age_s: float
    now: float = 0.0
    _found: dict[tuple[str, str], dict[int, str]] = field(default_factory=dict)

    def findings(self, seed: int | None) -> Findings:
        mails = self._mails()
        for mail in mails:
            self._i1_outcomes(mail)
            self._i2_never_lost(mail)
            self._i3_copies(mail)
            self._i9_times(mail)
            if self.stamped:
                self._i5_fences(mail)
            if self.punctual and (late := self._after_taken(mail)):
                self._breach("I5", "a dot after its claim was taken", mail.id, f"{late[0]:.3f} s after")
        listed = [self._doubts(mail) for mail in mails]
        for mail, (doubts, seen) in zip(mails, listed, strict=True):
            if seen < doubts:
                self._breach("I3", "a doubt that nobody can see", mail.id, mail.expected.subject)
        duplicates: Counter[str] = Counter({policy.value: 0 for policy in OnDoubt})
        for mail in mails:
            extra = sum(max(0, n - mail.wanted()) for n in mail.count().values())
            duplicates[mail.expected.on_doubt] += extra
        states = Counter(mail.row.state for mail in mails if mail.row is not None)
        return Findings(
            breaches=self._breaches(),
            mails=len(mails),
            sent=states[State.SENT],
            held=states[State.HELD],
            lost=sum(self._lost(mail) for mail in mails),
            duplicates=dict(duplicates),
            doubts=sum(doubts for doubts, _ in listed),
            doubts_listed=sum(seen for _, seen in listed),
            early=sum(len(self._early(mail)) for mail in mails),
            sent_after_expiry=sum(len(self._late(mail)) for mail in mails),
            late=sum(len(self._after_taken(mail)) for mail in mails),
            evidence=self._evidence(mails),
            seed=seed,
        )

    def _mails(self) -> list[Known]:
        """The committed ones; what must not exist (I4) is judged on the way."""
        trails = trails_of(self.changes)
        of_subject: dict[str, list[Row]] = {}
        for each in self.rows:
            of_subject.setdefault(each.subject, []).append(each)
        copies: dict[str, list[Copy]] = {}
        for copy in self.copies:
            copies.setdefault(copy.subject, []).append(copy)
        found: list[Known] = []
        for one in self.expected:
            own, taken = of_subject.pop(one.subject, []), copies.pop(one.subject, [])
            for more in own[1:]:
                self._breach("I4", "more than one row of one mail", more.id, one.subject)
            row = next(iter(own), None)
            if one.committed is False:
                if row is not None:
                    self._breach("I4", "rolled back, and there is a row", row.id, one.subject)
                if taken:
                    self._breach("I4", "rolled back, and there are copies", 0, one.subject)
                continue
            if one.committed is None and row is None:
                if taken:
                    self._breach("I4", "no row, and there are copies", 0, one.subject)
                continue
            if row is not None and one.mail_id is not None and row.id != one.mail_id:
                self._breach("I4", "another id than the producer's", row.id, one.subject)
            trail = trails.get(row.id if row is not None else one.mail_id or 0, Trail())
            found.append(Known(one, row, trail, taken))
        self._i2_rows_that_are_gone(trails)
        for subject, left in of_subject.items():
            self._breach("I4", "a row that no producer knows", left[0].id, subject)
        for subject in copies:
            self._breach("I4", "copies that no producer knows", 0, subject)
        return found

    def _i2_rows_that_are_gone(self, trails: Mapping[int, Trail]) -> None:
        """Of those that a producer knows by their id, `_i2_never_lost` speaks."""
        # While mail flows, the audit is read later than the rows, and knows more mails.
        if not self.at_rest:
            return
        known = {one.id for one in self.rows} | {one.mail_id for one in self.expected}
        for mail_id, trail in trails.items():
            if mail_id not in known:
                self._breach("I2", "there was a row, and it is gone", mail_id, trail.changes[-1].state)

    # I1, I2.

    def _unsent(self, mail: Known) -> bool:
        return (
            mail.row is not None
            and mail.row.state == State.SENT
            and not mail.confirmed
            and bool(mail.missing())
        )

    def _i1_outcomes(self, mail: Known) -> None:
        if self._unsent(mail):
            self._breach("I1", "sent, and a recipient has no copy", mail.id, str(mail.missing()))
        elif without := mail.accepted_without():
            self._breach("I1", "accepted, and there is no copy", mail.id, str(without))
        if having := mail.refused_with():
            self._breach("I1", "refused, and there is a copy", mail.id, str(having))
        row = mail.row
        if row is not None and row.state == State.SENT and "open" in row.outcomes.values():
            self._breach("I1", "sent, and a recipient is open", mail.id, str(row.outcomes))

    def _stuck(self, mail: Known) -> bool:
        """Whether it should have ended, and has not."""
        if mail.row is None or not self.at_rest or mail.resting:
            return False
        scheduled = mail.row.state == State.QUEUED and mail.row.due_at > self.now
        return not (scheduled or mail.row.state == State.DRAFT)

    def _lost(self, mail: Known) -> bool:
        if mail.row is None or self._stuck(mail):
            return not mail.copies
        silent = self._silent(mail) and not mail.copies
        return self._unsent(mail) or bool(mail.accepted_without()) or silent

    def _silent(self, mail: Known) -> bool:
        return mail.row is not None and mail.row.state in _WITH_REASON and not mail.row.reason

    def _i2_never_lost(self, mail: Known) -> None:
        if mail.row is None:
            self._breach("I2", "committed, and there is no row", mail.id, mail.expected.subject)
        elif self._stuck(mail):
            self._breach("I2", "it has not ended", mail.id, mail.row.state)
        elif self._silent(mail):
            self._breach("I2", "ended without a reason", mail.id, mail.row.state)

    # I3: copies and doubts.

    def _i3_copies(self, mail: Known) -> None:
        policy, resends = mail.expected.on_doubt, mail.trail.resends
        if mail.moved > (asked := mail.expected.asked):
            self._breach("I3", "a person's doing, and no person did it", mail.id, f"{mail.moved} of {asked}")
        if mail.row is not None and mail.row.on_doubt != policy:
            self._breach("I3", f"the row's policy is not {policy}", mail.id, mail.row.on_doubt)
        most = {OnDoubt.HOLD.value: 0, OnDoubt.RESEND_ONCE.value: 1}.get(policy, resends)
        if resends > most:
            self._breach("I3", f"{policy}: sent again out of too many doubts", mail.id, str(resends))
        allowed = mail.wanted() + min(resends, most)
        for recipient, count in mail.count().items():
            if recipient not in mail.expected.recipients:
                self._breach("I3", "a copy for somebody else", mail.id, recipient)
            if count > allowed:
                self._breach(
                    "I3",
                    f"{policy}: more copies than doubts allow",
                    mail.id,
                    f"{recipient}: {count} of {allowed}",
                )

    def _doubts(self, mail: Known) -> tuple[int, int]:
        """How often it was in doubt, and how often somebody can see that."""
        doubts = mail.trail.doubts
        row_doubts = mail.row.doubts if mail.row is not None else 0
        seen = sum(listed(one, after) for one, after in doubts)
        seen -= max(0, mail.trail.resends - row_doubts)
        return len(doubts) + self._unnoticed(mail), seen

    def _unnoticed(self, mail: Known) -> int:
        """Claims whose copy is out, and which ended as if it were not: a doubt that nobody noticed."""
        if not self.stamped or mail.row is None or mail.row.max_done > 1:
            return 0
        found = set()
        for one in mail.copies:
            end = mail.trail.ends(one.fence) if one.fence is not None else None
            accepted = mail.row.outcomes.get(one.recipient) == "accepted"
            if end is not None and end.state not in {State.SENT, State.DOUBT} and not accepted:
                found.add(one.fence)
        return len(found)

    # I5, I9: claims and times.

    def _i5_fences(self, mail: Known) -> None:
        dots = mail.trail.dots
        for one in mail.copies:
            if one.fence is None:
                self._breach("I5", "a copy that names no claim", mail.id, one.recipient)
            elif one.fence not in dots:
                self._breach("I5", "a copy whose dot was not recorded", mail.id, f"fence {one.fence}")
            elif dots[one.fence].committed_at > one.at:
                self._breach("I5", "a copy before its record was committed", mail.id, f"fence {one.fence}")
        keys = [(one.recipient, one.fence) for one in mail.copies if one.fence is not None]
        for (recipient, fence), count in by_recipient_and_fence(keys).items():
            self._breach("I5", f"{count} copies of one claim", mail.id, f"{recipient}, fence {fence}")

    def _after_taken(self, mail: Known) -> list[float]:
        """By how many seconds copies came after others had taken their claim from a quiet worker."""
        taken = mail.trail.taken
        return [
            one.at - taken[one.fence]
            for one in mail.copies
            if one.fence in taken and one.at > taken[one.fence]
        ]

    def _i9_times(self, mail: Known) -> None:
        if early := self._early(mail):
            self._breach("I9", "a copy before its time", mail.id, f"{early[0]:.3f} s early")
        if late := self._late(mail):
            self._breach("I9", "recorded after expires_at", mail.id, f"{late[0]:.3f} s late")
        for one in mail.trail.expiries:
            if not self._expires(mail, one):
                self._breach("I9", "it has expired before its time", mail.id, f"{one.reason} at {one.at:.3f}")

    def _expires(self, mail: Known, change: Change) -> bool:
        """Whether one of the times at which it may expire had come with *change*."""
        since = (mail.expected.expires_at, 0.0), (change.due_at, self.max_next_s)
        # Its first change says since when it is wanted.
        times = (*since, (mail.trail.changes[0].due_at, self.max_age_s))
        return any(at is not None and change.at >= at + wait_s - _RESOLUTION_S for at, wait_s in times)

    def _early(self, mail: Known) -> list[float]:
        """By how many seconds copies came before the time that the producer, or their claim, says."""
        claims, found = mail.trail.claims, []
        for one in mail.copies:
            due = mail.expected.due_at or 0.0
            if one.fence is not None and one.fence in claims:
                due = max(due, claims[one.fence].due_at)
            if one.at < due - _RESOLUTION_S:
                found.append(due - one.at)
        return found

    def _late(self, mail: Known) -> list[float]:
        """By how many seconds the records of copies came after the expiry; without a stamp, of all records."""
        expires = mail.expected.expires_at
        if expires is None or mail.resent:
            return []
        fences = {one.fence for one in mail.copies}
        return [
            record.committed_at - expires
            for fence, record in mail.trail.dots.items()
            if (fence in fences or None in fences) and record.committed_at > expires + _RESOLUTION_S
        ]

    # Breaches with their evidence.

    def _breach(self, invariant: str, text: str, mail_id: int, detail: str) -> None:
        # Mails without an id are told apart by a key that is no id.
        mails = self._found.setdefault((invariant, text), {})
        mails.setdefault(mail_id or -len(mails) - 1, detail)

    def _breaches(self) -> tuple[Breach, ...]:
        return tuple(
            Breach(
                invariant,
                tuple(one for one in mails if one > 0),
                f"{text} ({'; '.join(list(mails.values())[:SHOWN])})",
            )
            for (invariant, text), mails in sorted(self._found.items())
        )

    def _evidence(self, mails: Sequence[Known]) -> dict[int, list[str]]:
        shown = {one for found in self._found.values() for one in list(found)[: 2 * SHOWN]}
        return {mail.id: mail.lines() for mail in mails if mail.id in shown}
