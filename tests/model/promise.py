"""What mailfleet promises, checked against every committed state of the rows and every copy at the server.

I1 what is sent is at the server. I2 no row vanishes, none is silent, all come to rest. I3 a second copy comes only out of a
listed doubt, never under `hold`. I4 what was rolled back is not sent. I5 no copy without the record of its claim before it,
none twice by one claim. I9 nothing is claimed before it is due or recorded after it expires. And the rules that make these
hold: who is not heard says no dot; a doubt waits for its policy's time; only people move what is at its end.
"""

from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, text

from mailfleet_schema.dialects import Dialect
from mailfleet_schema.states import FINAL, OnDoubt, State
from tests.model.process import PATIENCE
from tests.model.server import Copy
from tests.model.times import Times

#: Where a mail rests.
REST = {*(state.value for state in FINAL), State.HELD.value, State.DRAFT.value}
_COLUMNS = "id, state, phase, reason, fence, worker_id, doubts, on_doubt, due_at, expires_at, look_at"
#: By how much sums of seconds may differ from what a database makes of them.
_ROUND_S = 0.01


@dataclass(frozen=True, slots=True)
class Seen:
    """A row as it was committed; times are seconds by the database's clock."""

    id: int
    state: str
    phase: str | None
    reason: str | None
    fence: int
    worker_id: int | None
    doubts: int
    on_doubt: str
    due_at: float
    expires_at: float | None
    look_at: float


@dataclass
class Mail:
    """What is known of one mail beside its row. `asked` counts the copies that a person asked for.

    By fence: `recorded` in the database, `said` is the dot, `answered` what a process heard of it, `doubted` was a doubt.
    """

    id: int
    recipients: tuple[str, ...]
    row: Seen
    copies: list[Copy] = field(default_factory=list)
    recorded: set[int] = field(default_factory=set)
    doubted: set[int] = field(default_factory=set)
    said: set[int] = field(default_factory=set)
    answered: set[int] = field(default_factory=set)
    resent: int = 0
    asked: int = 0
    doubted_at: float = 0.0


class Promise:
    """Watches one history. `breaches` are sentences, the first of which is the cause of the others as a rule."""

    def __init__(self, dialect: Dialect, times: Times) -> None:
        self._dialect = dialect
        self._times = times
        self._rows = text(dialect.format(f"SELECT {_COLUMNS} FROM {{mail}}"))
        self._workers = text(dialect.format("SELECT id FROM {worker}"))
        self._recipients = text(
            dialect.format("SELECT address, outcome FROM {mail_recipient} WHERE mail_id = :id")
        )
        self.mails: dict[int, Mail] = {}
        self.breaches: list[str] = []
        #: Workers who were killed and whose journals lack nothing.
        self.whole: set[int] = set()
        #: Workers who are alive and whom the database has always heard.
        self.steady: Callable[[], Collection[int]] = tuple

    def expect(self, connection: Connection, mail_id: int, recipients: tuple[str, ...]) -> None:
        """A mail was committed."""
        row = self._read(connection)[mail_id]
        self.mails[mail_id] = Mail(mail_id, recipients, row)

    def observe(self, connection: Connection, *, person: bool = False) -> None:
        """Something was committed, by a *person* or by the fleet."""
        rows = self._read(connection)
        for mail_id, mail in self.mails.items():
            row = rows.get(mail_id)
            if row is None:
                self._say("I2", mail_id, "the row vanished")
            elif row != mail.row:
                was, mail.row = mail.row, row
                if person:
                    self._check_person(mail, was)
                else:
                    self._check_fleet(connection, mail, was)
        self._check_senders(connection)

    def take(self, copy: Copy) -> None:
        """The server has one more copy, at this moment."""
        mail = self._mail_to(copy.recipient)
        if mail is None:
            self._say("I4", 0, f"{copy.recipient} got a mail that was never committed")
            return
        if copy.fence not in mail.recorded:
            self._say("I5", mail.id, f"a copy by fence {copy.fence}, which was never recorded")
        if copy in mail.copies:
            self._say("I5", mail.id, f"a second copy by fence {copy.fence}")
        at_its_dot = mail.row.fence == copy.fence and mail.row.phase == "dot"
        if not at_its_dot and copy.fence not in mail.doubted:
            self._say("I3", mail.id, f"a copy by fence {copy.fence}, of which nobody doubted")
        mail.copies.append(copy)
        allowed = 1 + mail.resent + mail.asked
        number = Counter(one.recipient for one in mail.copies)[copy.recipient]
        if number > allowed:
            self._say("I3", mail.id, f"copy {number} for {copy.recipient}, {mail.resent} doubts were resent")

    def said_dot(self, recipient: str, fence: int, unheard_s: float) -> None:
        """A dot was allowed to a process that was last heard *unheard_s* ago."""
        mail = self._mail_to(recipient)
        if mail is not None:
            mail.said.add(fence)
        if unheard_s >= PATIENCE.quiet_s / 2:
            self._say("heartbeat", mail.id if mail else 0, f"a dot {unheard_s:g} s after the last heartbeat")

    def answered(self, recipient: str, fence: int) -> None:
        """A process hears what became of a dot; it writes that into its journal before anything else happens."""
        mail = self._mail_to(recipient)
        if mail is not None:
            mail.answered.add(fence)

    def _mail_to(self, recipient: str) -> Mail | None:
        return next((one for one in self.mails.values() if recipient in one.recipients), None)

    def unexpected(self, text: str) -> None:
        """The product has logged an error with a traceback."""
        self._say("bug", 0, text)

    def rests(self) -> bool:
        """Whether every mail has come to its end, or waits for a person."""
        return all(mail.row.state in REST for mail in self.mails.values())

    def check_rest(self, connection: Connection) -> None:
        """At the end of a history: nothing is lost, nothing is silent, every copy is known or listed."""
        for mail in self.mails.values():
            row = mail.row
            if row.state not in REST:
                self._say("I2", mail.id, "it does not come to rest")
            if row.state in {"failed", "expired", "held"} and not row.reason:
                self._say("I2", mail.id, "it has ended without a reason")
            known = row.state == "sent" or "accepted" in self._outcomes(connection, mail).values()
            for copy in mail.copies:
                if not known and copy.fence not in mail.doubted:
                    self._say("I3", mail.id, f"a copy by fence {copy.fence} that nobody lists")
            if row.doubts < mail.resent:
                self._say("I3", mail.id, f"{mail.resent} resent doubts, {row.doubts} counted")

    def _check_senders(self, connection: Connection) -> None:
        sending = [mail for mail in self.mails.values() if mail.row.state == "sending"]
        workers = set(connection.execute(self._workers).scalars()) if sending else set()
        for mail in sending:
            if mail.row.worker_id not in workers:
                self._say("worker", mail.id, "whoever sends it is not known: nobody would see him fall quiet")

    def _check_fleet(self, connection: Connection, mail: Mail, was: Seen) -> None:
        row, now = mail.row, self._times.told
        if was.state in REST and not (was.state == "held" and was.reason == "doubt" and row.state == "sent"):
            self._say("end", mail.id, f"{was.state} became {row.state}, and nobody asked")
        if row.fence < was.fence:
            self._say("fence", mail.id, f"fence {was.fence} became {row.fence}")
        if row.fence > was.fence:
            self._check_claim(mail, was)
        if row.phase == "dot" and (was.phase != "dot" or row.fence != was.fence):
            mail.recorded.add(row.fence)
            if was.phase != "prepare" or was.fence != row.fence:
                self._say("fence", mail.id, f"recorded out of {was.state}({was.phase}) {was.fence}")
            if row.expires_at is not None and row.expires_at <= now:
                self._say("I9", mail.id, f"recorded {now - row.expires_at:g} s after its expiry")
        if row.state == "doubt" and was.state != "doubt":
            mail.doubted.add(row.fence)
            mail.doubted_at = now
            self._check_doubt(mail)
        if was.phase == "dot" and row.state in {"queued", "failed", "held", "expired", "cancelled"}:
            self._check_certain(mail, was)
        if was.state == "doubt" and row.state != "sent":
            self._check_settled_doubt(mail, was)
        if row.state == "expired" and not self._late(row):
            self._say("end", mail.id, "it has expired before its time")
        if row.state == "sent":
            self._check_sent(connection, mail)
        self._check_looked_after(mail, was)

    def _check_claim(self, mail: Mail, was: Seen) -> None:
        now = self._times.told
        if was.state != "queued":
            self._say("fence", mail.id, f"claimed out of {was.state}({was.phase})")
        if was.due_at > now + _ROUND_S:
            self._say("I9", mail.id, f"claimed {was.due_at - now:g} s before it is due")
        if was.expires_at is not None and was.expires_at <= now:
            self._say("I9", mail.id, f"claimed {now - was.expires_at:g} s after its expiry")
        if mail.row.fence != was.fence + 1:
            self._say("fence", mail.id, f"a claim made fence {was.fence} to {mail.row.fence}")

    def _check_certain(self, mail: Mail, was: Seen) -> None:
        # Of several recipients some may have it, and the others are tried again.
        partly = len(mail.recipients) > 1 and (mail.row.reason or "").startswith("open: ")
        if not partly and any(copy.fence == was.fence for copy in mail.copies):
            self._say("I3", mail.id, f"back from its dot as if fence {was.fence} had sent no copy")

    def _check_doubt(self, mail: Mail) -> None:
        row = mail.row
        if row.fence not in mail.recorded:
            self._say("I5", mail.id, f"a doubt of fence {row.fence}, which was never recorded")
        if row.reason == "quiet worker" and row.worker_id in self.steady():
            self._say("heartbeat", mail.id, f"worker {row.worker_id} was called quiet, and never was")
        if row.worker_id in self.whole and row.reason == "killed after the final dot":
            if row.fence not in mail.said:
                self._say("journal", mail.id, "a doubt of a dot that was never said")
            if row.fence in mail.answered:
                self._say("journal", mail.id, "a doubt of what was answered")

    def _check_settled_doubt(self, mail: Mail, was: Seen) -> None:
        row, now = mail.row, self._times.told
        if row.state == "queued":
            mail.resent += 1
            if row.on_doubt == OnDoubt.HOLD or (row.on_doubt == OnDoubt.RESEND_ONCE and mail.resent > 1):
                self._say("I3", mail.id, f"resent against its policy, the {mail.resent}. time")
        elif row.state != "held":
            self._say("I3", mail.id, f"a doubt became {row.state}")
        elif row.on_doubt == OnDoubt.RESEND or (row.on_doubt == OnDoubt.RESEND_ONCE and not was.doubts):
            self._say("I2", mail.id, "held against its policy")
        waits_s = 0.0 if row.on_doubt == OnDoubt.HOLD else PATIENCE.settle_s
        if now < mail.doubted_at + waits_s - _ROUND_S:
            self._say("I3", mail.id, f"a doubt was settled after {now - mail.doubted_at:g} s")

    def _check_sent(self, connection: Connection, mail: Mail) -> None:
        outcomes = self._outcomes(connection, mail)
        have = {copy.recipient for copy in mail.copies}
        for recipient in mail.recipients:
            if recipient not in have and outcomes.get(recipient) != "refused":
                self._say("I1", mail.id, f"sent, and {recipient} has no copy")

    def _check_looked_after(self, mail: Mail, was: Seen) -> None:
        row, now = mail.row, self._times.told
        match row.state:
            case "queued":
                # Before it is due a hint travels, or the row is looked at; after that the steps are bounded.
                latest = max(now, row.due_at) + PATIENCE.grace_s + PATIENCE.most_step_s
            case "doubt":
                latest = now + PATIENCE.settle_s
            case _:
                return
        if row.look_at > latest + _ROUND_S and row.look_at != was.look_at:
            self._say("I2", mail.id, f"nobody looks at it for {row.look_at - now:g} s")

    def _check_person(self, mail: Mail, was: Seen) -> None:
        if mail.row.fence != was.fence + 1:
            self._say("fence", mail.id, f"a person's change left fence {was.fence} at {mail.row.fence}")
        if was.phase == "dot":
            self._say("fence", mail.id, "a person took it from its dot")
        if mail.row.state == "queued":
            mail.asked += 1

    def _late(self, row: Seen) -> bool:
        overdue = self._times.told - row.due_at > PATIENCE.max_next_s
        return overdue or (row.expires_at is not None and row.expires_at <= self._times.told)

    def _outcomes(self, connection: Connection, mail: Mail) -> dict[str, str]:
        return {r.address: r.outcome for r in connection.execute(self._recipients, {"id": mail.id})}

    def _read(self, connection: Connection) -> dict[int, Seen]:
        return {row.id: self._seen(row) for row in connection.execute(self._rows)}

    def _seen(self, row: Any) -> Seen:
        due_at, look_at = self._times.seconds(row.due_at), self._times.seconds(row.look_at)
        assert due_at is not None
        assert look_at is not None
        expires_at = self._times.seconds(row.expires_at)
        known: tuple[Any, ...] = (*row[:8], due_at, expires_at, look_at)
        return Seen(*known)

    def _say(self, invariant: str, mail_id: int, text: str) -> None:
        mail = self.mails.get(mail_id)
        told = f"{invariant}: mail {mail_id}: {text}" if mail else f"{invariant}: {text}"
        self.breaches.append(f"{told} at {self._times.told:g} s; {mail.row}" if mail else told)
