"""The sentence that says why a mail is not sent: one pure decision over what is known of it."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, assert_never

from mailfleet_schema.reasons import CONDITION
from mailfleet_schema.senders import ANY, Apps
from mailfleet_schema.statements.account import is_broken_account, unknown_account
from mailfleet_schema.statements.gate import reason_of
from mailfleet_schema.states import OnDoubt, Phase, State
from mailfleet_workers.clone_guard import REMEDY
from mailfleet_workers.scanning import Scan, since_when
from mailfleet_workers.views.base import View
from mailfleet_workers.views.spans import relative, span

WaitsFor = Literal[
    "nothing",
    "person",
    "time",
    "gate",
    "worker",
    "turn",
    "preparation",
    "server",
    "reconciler",
    "settling",
]


@dataclass(frozen=True, slots=True)
class Gate(View):
    """A closed gate: `key` of `scope` (account, host, recipient, app, all) waits `remaining_s` more.

    `until_at` and `remaining_s` None: until somebody opens it.
    """

    scope: str
    key: str
    until_at: datetime | None
    remaining_s: float | None
    reason: str


@dataclass(frozen=True, slots=True)
class Reply(View):
    """What a server said last, or what we saw instead: then `code` is None."""

    code: int | None
    enhanced: str | None
    text: str | None


@dataclass(frozen=True, slots=True)
class LastTry(View):
    """The last line of the mail's history; `queue_id` is the server's name of what it took over."""

    ended_at: datetime
    ago_s: float
    verdict: str
    phase: str | None
    host: str | None
    code: int | None = None
    enhanced: str | None = None
    queue_id: str | None = None


@dataclass(frozen=True, slots=True)
class Worker(View):
    """Who has the mail. `heartbeat_age_s`, `host` and `pid` are None when the worker's row is gone."""

    id: int
    host: str | None
    pid: int | None
    heartbeat_age_s: float | None
    quiet: bool


@dataclass(frozen=True, slots=True)
class Facts:
    """What the answer is made of. `…_in_s` is negative for what has passed; `look_in_s` until the reconciler looks.

    `app_heartbeat_age_s` is that of the liveliest worker that may send it, None when there is none; *apps* are whose may
    (`mailfleet_schema.senders`). `elsewhere` is what is different of the database's place, `scan` how the app is scanned.
    """

    app: str
    account: str
    state: State
    phase: str | None
    reason: str | None
    due_in_s: float
    expires_in_s: float | None
    look_in_s: float
    changed_ago_s: float
    sent_ago_s: float | None
    on_doubt: str
    doubts: int
    queue_id: str | None
    worker: Worker | None
    last_reply: Reply | None
    last_try: LastTry | None
    gate: Gate | None
    app_heartbeat_age_s: float | None
    quiet_s: float
    apps: Apps = None
    elsewhere: tuple[str, ...] = ()
    scan: Scan | None = None

    @property
    def whose(self) -> str:
        """Whose workers may send it, in words."""
        if self.apps is None:
            return f"app {self.app}"
        if ANY in self.apps:
            return f"app {self.app}, or of one that shares,"
        return f"app {' or '.join(self.apps)}" if self.apps else "no app at all"

    @property
    def through(self) -> bool:
        """Whether nothing more happens to it, or not before a person decides."""
        return self.state not in {State.QUEUED, State.SENDING, State.DOUBT}


def answer(facts: Facts) -> tuple[WaitsFor, str]:
    """What the mail waits for, as a word and as a sentence without its reply's text."""
    if facts.elsewhere and not facts.through:
        different = "; ".join(facts.elsewhere)
        return "person", f"The database is a copy, or was moved ({different}): {REMEDY}."
    match facts.state:
        case State.DRAFT:
            return "person", "It is a draft: nobody sends it until it is queued."
        case State.QUEUED:
            return _queued(facts)
        case State.SENDING:
            return _sending(facts)
        case State.DOUBT:
            return _doubt(facts)
        case State.HELD:
            return "person", _held(facts)
        case State.SENT:
            return "nothing", _sent(facts)
        case State.FAILED:
            return "nothing", f"It failed {_ago(facts)} and will not be tried again{_because(facts)}."
        case State.CANCELLED:
            return "nothing", f"It was cancelled {_ago(facts)}{_because(facts)}."
        case State.EXPIRED:
            return "nothing", f"It expired {_ago(facts)}{_because(facts)}."
        case _:
            assert_never(facts.state)


def _queued(facts: Facts) -> tuple[WaitsFor, str]:
    if facts.due_in_s > 0 and facts.reason == unknown_account(facts.account):
        unknown = f"Workers of app {facts.app} know no account {facts.account!r} that it may use"
        asked = f"at their next start, and {relative(facts.due_in_s)}"
        return "person", f"{unknown}. Somebody has to configure it; they look again {asked}."
    if facts.due_in_s > 0 and is_broken_account(facts.reason or ""):
        asked = f"as soon as it is changed, and {relative(facts.due_in_s)}"
        why = (facts.reason or "").partition(": ")[2]
        return "person", f"Its account {facts.account!r} cannot be used: {why}. Workers look again {asked}."
    if facts.due_in_s > 0:
        return _not_due(facts)
    if facts.expires_in_s is not None and facts.expires_in_s <= 0:
        return "reconciler", f"Its time to be sent ended {relative(facts.expires_in_s)}; it will be expired."
    since = "It is due" if facts.due_in_s > -1 else f"It has been due for {span(facts.due_in_s)}"
    if facts.gate is not None:
        return "gate", f"{since}, but {_gate(facts.gate)}."
    if facts.app_heartbeat_age_s is None:
        return "worker", f"{since}, but no worker of {facts.whose} is running.{_unhinted(facts)}"
    if facts.app_heartbeat_age_s > facts.quiet_s:
        seen = f"the last worker of {facts.whose} was seen {span(facts.app_heartbeat_age_s)} ago"
        return "worker", f"{since}, but {seen}.{_unhinted(facts)}"
    look = "the reconciler's look is due"
    if facts.look_in_s > 0:
        look = f"the reconciler's look comes {relative(facts.look_in_s)}"
    if facts.scan is not None and facts.scan.stopped:
        look = (
            f"scanning is stopped{since_when(facts.scan)}: if its hint is lost it waits for `mailfleet scan`"
        )
    turn = f"a worker of {facts.whose} takes it when its turn comes ({look})"
    return "turn", f"{since}; {turn}{_because(facts)}."


def _unhinted(facts: Facts) -> str:
    """The sentence that says why its mailer hinted nobody, empty where it did."""
    against = (facts.reason or "").startswith(f"{CONDITION}: ")
    return f" Its mailer hinted nobody{_because(facts)}; a worker has the last word." if against else ""


def _not_due(facts: Facts) -> tuple[WaitsFor, str]:
    gate, due_in_s = facts.gate, facts.due_in_s
    if gate is not None and (facts.reason or "").startswith(reason_of(gate.scope, "")):
        # It came back because of this gate.
        later = gate.remaining_s is not None and due_in_s - gate.remaining_s >= 1
        turn = f" Then it waits for its turn, {relative(due_in_s)}." if later else ""
        return "gate", f"It waits: {_gate(gate)}.{turn}"
    when = f"It waits for its time, {relative(due_in_s)}{_because(facts)}."
    if gate is not None and (gate.remaining_s is None or gate.remaining_s > due_in_s):
        return "gate", f"{when} Then {_gate(gate)}."
    return "time", when


def _sending(facts: Facts) -> tuple[WaitsFor, str]:
    worker = facts.worker
    who = "A worker" if worker is None else f"Worker {worker.id}{_place(worker)}"
    since = span(facts.changed_ago_s)
    if worker is not None and worker.quiet:
        age = worker.heartbeat_age_s
        gone = "is gone" if age is None else f"was last seen {span(age)} ago"
        then = "in doubt: the server may have it" if facts.phase == Phase.DOT else "queued again"
        return "reconciler", f"{who} had it and {gone}; the mail will be taken back and be {then}."
    if facts.phase == Phase.DOT:
        return "server", f"{who} is giving it to the server, or waits for the final reply, since {since}."
    return "preparation", f"{who} has taken it {since} ago and prepares it."


def _doubt(facts: Facts) -> tuple[WaitsFor, str]:
    start = f"The server may have it: nothing was heard after the final dot{_because(facts)}."
    resend = facts.on_doubt == OnDoubt.RESEND or (facts.on_doubt == OnDoubt.RESEND_ONCE and facts.doubts == 0)
    policy = "it is sent again, and may arrive twice" if resend else "it is held for a person"
    when = "at the next look" if facts.look_in_s <= 0 else relative(facts.look_in_s)
    return "settling", f"{start} By policy {facts.on_doubt} {policy}, {when}."


def _held(facts: Facts) -> str:
    match facts.reason:
        case "poison":
            why = "its sender was interrupted three times while it was at work on this mail"
        case "doubt":
            why = "the server may have it, and sending it again could make a second copy"
        case None:
            why = "no reason is written"
        case other:
            why = reason_in_words(other)
    return f"It is held for a person: {why}."


def _sent(facts: Facts) -> str:
    ago = facts.changed_ago_s if facts.sent_ago_s is None else facts.sent_ago_s
    if facts.reason == "dry_run":
        return f"It counts as sent {relative(-ago)}; this was a dry run, and nothing left."
    queue_id = f", as {facts.queue_id}" if facts.queue_id else ""
    return f"It was sent: a server took it over {relative(-ago)}{queue_id}{_because(facts)}."


def _place(worker: Worker) -> str:
    return "" if worker.host is None else f" ({worker.host}, pid {worker.pid})"


def _gate(gate: Gate) -> str:
    match gate.scope:
        case "all":
            who = "everything"
        case "recipient":
            who = f"mail to {gate.key}"
        case _:
            who = f"{gate.scope} {gate.key}"
    if gate.remaining_s is None:
        return f"{who} is paused until somebody resumes it: {gate.reason}"
    return f"{who} has to wait {span(gate.remaining_s)} more: {gate.reason}"


def _ago(facts: Facts) -> str:
    return relative(-facts.changed_ago_s)


def _because(facts: Facts) -> str:
    return "" if facts.reason is None else f": {reason_in_words(facts.reason)}"


_WORDS = {
    "max_fail": "it failed as often as it may",
    "no retry": "it failed, and was not to be tried again",
    "max_next": "it was overdue for too long",
    "max_age": "it was too old",
    "expires_at": "the time it was wanted until went by",
    "partial": "some recipients were refused",
    "copy": "the next copy comes then",
    "stop: hook": "its application's hook stopped it",
    "redirected": "it went to outgoing.redirect_to instead of its recipients",
    "restricted": "recipients who are not in outgoing.allow were left out",
    "doubt": "it was in doubt, and is sent again",
    "quiet worker": "its worker was no longer heard of",
}
_KINDS = {
    "wait(mail)": "it has to wait",
    "without": "optional files were not there, and were left out",
    "wait(account)": "its account has to wait",
    "wait(host)": "its server has everybody wait",
    "wait(recipient)": "the server lets its recipient wait",
    "wait(app)": "its app has to wait",
    "wait(all)": "everything has to wait",
    "retry": "the last try failed",
    "stop": "refused for good",
    "condition": "a condition of it does not hold here",
    "render": "its content could not be rendered",
    "uncertain": "the connection broke",
    "open": "not all recipients are served",
}


def reason_in_words(reason: str) -> str:
    """The row's *reason* as a clause; one that is not known stands as it is."""
    if reason in _WORDS:
        return _WORDS[reason]
    kind, colon, detail = reason.partition(": ")
    said = " / ".join(detail.split("\n")).rstrip(".")
    return f"{_KINDS[kind]} ({said})" if colon and kind in _KINDS else reason.rstrip(".")
