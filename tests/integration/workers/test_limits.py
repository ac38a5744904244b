"""A worker under limits: what is slept out, what comes back later and when, and what costs no permit."""

import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from sqlalchemy import Engine, event

from mailfleet_schema.content import Address, Content
from mailfleet_schema.statements.gate import Gate
from mailfleet_schema.statements.recipient import Recipient, put_recipients
from mailfleet_schema.states import ContentPolicy, Priority
from mailfleet_workers.limits.base import Grant, Refusal, Report, Request
from mailfleet_workers.limits.book import Book, Limits
from mailfleet_workers.limits.gates import EVERYBODY
from mailfleet_workers.limits.local import LocalLimiter
from mailfleet_workers.limits.refusals import Refusals
from mailfleet_workers.limits.rule import Rule
from mailfleet_workers.sender import Sender
from mailfleet_workers.smtp.base import Answer, Phase
from mailfleet_workers.views.detail import show_mail
from tests.conformance.limits.kinds import recipients, rule, wish
from tests.integration.workers.office import APP, Office
from tests.integration.workers.server import cut_before_dot, refuse_mail
from tests.waiting import wait_until

HOST = "default.example.net"
Make = Callable[..., Office]


@pytest.fixture
def office_of(engine: Engine, tmp_path: Path) -> Iterator[Make]:
    """Makes a worker under the rules given, on the real clock; it sends *chunk* mails at once."""
    made: list[Office] = []

    def make(
        *rules: Rule,
        idle_ms: int = 0,
        clock: Callable[[], float] = time.monotonic,
        limiter: type[LocalLimiter] = LocalLimiter,
        chunk: int = 8,
    ) -> Office:
        book = Book({"default": Limits("default", HOST, rules, max_idle_ms=idle_ms)})
        office = Office(engine, tmp_path, chunk=chunk, limiter=limiter(book, clock))
        office.desk = replace(office.desk, book=book)
        office.sender = Sender(office.desk)
        made.append(office)
        return office

    yield make
    for one in made:
        one.connections.close()
        one.journal.close()
        assert one.violations == []


def emitted(office: Office, number: int, name: str = "m", priority: Priority = Priority.NORMAL) -> list[int]:
    return [office.emit(f"{name}{n}@example.net", priority=priority) for n in range(number)]


def close(office: Office, scope: str, key: str, seconds: float = 600.0) -> None:
    office.limiter.close_gate(Gate(scope, key, seconds, 1, "full"))


def lift(office: Office) -> None:
    """What is left need not wait."""
    assert isinstance(office.limiter, LocalLimiter)
    office.limiter.book.replace({"default": Limits("default", HOST)})


def used(office: Office) -> list[int]:
    limiter = office.limiter
    assert isinstance(limiter, LocalLimiter)
    return [one.used for one in limiter.usage("default").rules]


@pytest.mark.tinymail("30")
def test_a_short_wait_is_slept_out(office_of: Make) -> None:
    """With three permits in 300 ms eight mails leave in three goes, none of them is given back."""
    office = office_of(rule("3/300ms"), idle_ms=3000)
    ids = emitted(office, 8)
    began = time.monotonic()
    office.deliver(*ids)
    assert office.states(ids) == ["sent"] * 8
    assert time.monotonic() - began >= 0.6
    assert {office.row(mail_id)["fence"] for mail_id in ids} == {1}
    office.nothing_is_left()


def test_one_thread_sleeps_for_an_account(office_of: Make) -> None:
    """A second thread takes nothing of the account meanwhile, unless it is of a higher priority."""
    office = office_of(rule("1/1s"), idle_ms=5000)
    first = emitted(office, 2, "a")
    office.hint(*first)
    sleeper = threading.Thread(target=office.sender.run_once, kwargs={"timeout_s": 0.0})
    sleeper.start()
    wait_until(lambda: "default" in office.heap._asleep, 10, lambda: "nobody sleeps", step_s=0.005)
    later, urgent = emitted(office, 1, "b"), emitted(office, 1, "c", Priority.HIGH)
    office.hint(*later)
    assert office.heap.take(most=5, high_only=False, timeout_s=0.0) is None
    office.hint(*urgent, priority=Priority.HIGH)
    batch = office.heap.take(most=5, high_only=False, timeout_s=0.0)
    assert batch is not None
    assert [row.id for row in batch.rows] == urgent
    office.heap.put_back(batch.rows)
    office.heap.finished("default")
    sleeper.join(20)
    lift(office)
    office.deliver()
    assert office.states([*first, *later, *urgent]) == ["sent"] * 4
    office.nothing_is_left()


class Watching(LocalLimiter):
    """Calls `at_ask` before each question."""

    at_ask: Callable[[], None] = staticmethod(lambda: None)

    def ask(self, request: Request, reports: Sequence[Report] = ()) -> Grant | Refusal:
        self.at_ask()
        return super().ask(request, reports)


def test_nobody_asks_beside_who_has_slept(office_of: Make) -> None:
    """When its wait is over the sleeper asks first: other threads take rows of the account if there is a permit again."""
    office = office_of(rule("1/500ms"), idle_ms=5000, limiter=Watching)
    assert isinstance(office.limiter, Watching)
    taken: list[bool] = []

    def look() -> None:
        batch = office.heap.take(most=1, high_only=False, timeout_s=0.0)
        taken.append(batch is not None)
        if batch is not None:
            office.heap.put_back(batch.rows)
            office.heap.finished("default")

    office.limiter.at_ask = look
    ids = emitted(office, 2)
    office.hint(*ids)
    batch = office.heap.take(most=2, high_only=False, timeout_s=0.0)
    later = emitted(office, 1, "b")
    office.hint(*later)
    assert batch is not None
    office.sender._delivery.deliver(batch)
    # Before the first permit, before the refusal, after the sleep; by then it has a thread of its own again.
    assert taken == [True, True, False]
    look()
    assert taken[-1]
    assert office.states(ids) == ["sent"] * 2
    lift(office)
    office.deliver()


def test_permits_one_by_one_read_contents_together(office_of: Make, engine: Engine) -> None:
    """Where permits are short mails ask one by one; what they say is read for several at once."""
    office = office_of(rule("6/400ms"), idle_ms=5000, chunk=1)
    reads: list[str] = []

    @event.listens_for(engine, "before_cursor_execute")
    def seen(_conn: object, _cursor: object, statement: str, *_: object) -> None:
        if "mail_content" in statement and statement.lstrip().startswith("SELECT"):
            reads.append(statement)

    ids = emitted(office, 12)
    office.deliver(*ids)
    event.remove(engine, "before_cursor_execute", seen)
    assert office.states(ids) == ["sent"] * 12
    # In batches of four: the first of each, and the others together.
    assert 3 <= len(reads) <= 6


@pytest.mark.tinymail("30", "31")
def test_a_long_wait_parks_the_account(office_of: Make) -> None:
    """What no permit comes for soon goes back, each for its turn; what is of a higher priority stays and asks itself."""
    office = office_of(rule("2/h"))
    ids, urgent = emitted(office, 12), emitted(office, 2, "u", Priority.HIGH)
    office.hint(*ids)
    office.sender.run_once(timeout_s=0.0)
    assert office.states(ids[:2]) == ["sent"] * 2
    assert set(office.states(ids[2:])) == {"queued: limit: account messages 2/h"}
    dues = [office.due_in_s(mail_id) for mail_id in ids[2:]]
    assert all(later >= earlier - 6.0 for earlier, later in pairwise(dues))
    # Two an hour: the first come after one window, the last of ten after five.
    assert 3500 < dues[0] < 3700
    assert 4 * 3600 < dues[-1] < 6 * 3600
    assert {office.row(mail_id)["sum_fail"] for mail_id in ids} == {0}
    office.hint(*urgent, priority=Priority.HIGH)
    office.deliver()
    assert set(office.states(urgent)) == {"queued: limit: account messages 2/h"}
    office.nothing_is_left()


def test_what_goes_before_is_not_parked_with_the_rest(office_of: Make) -> None:
    """A refusal of normal mail leaves the high mail that waits in the heap."""
    office = office_of(rule("1/h"))
    ids = emitted(office, 3)
    office.hint(*ids)
    batch = office.heap.take(most=2, high_only=False, timeout_s=0.0)
    urgent = emitted(office, 1, "u", Priority.HIGH)
    office.hint(*urgent, priority=Priority.HIGH)
    assert batch is not None
    office.sender._delivery.deliver(batch)
    office.heap.finished("default")
    assert office.state(ids[0]) == "sent"
    assert office.states(ids[1:]) == ["queued: limit: account messages 1/h"] * 2
    assert office.state(urgent[0]) == "sending(prepare)"
    office.deliver()
    office.nothing_is_left()


def test_a_mail_to_more_than_a_rule_allows_goes_in_several(office_of: Make) -> None:
    """More recipients than a rule allows at all: as many as it allows at once, the others when their time has come."""
    now = 1000.0
    office = office_of(recipients("5/h"), clock=lambda: now)
    office.desk = replace(office.desk, refusals=Refusals(lambda: now))
    office.sender = Sender(office.desk)
    names = tuple(f"w{n}@example.net" for n in range(12))
    to = tuple(Address("", name) for name in names)
    wide = office.emit(*names, content=Content("<wide@x>", None, to, subject="Hi", text="Hello"))
    for allowed in (5, 10):
        office.deliver(wide)
        assert office.state(wide) == f"queued: open: {12 - allowed} of 12 recipients"
        assert office.server.taken == list(names[:allowed])
        office.deliver(wide)
        assert office.state(wide) == "queued: limit: account recipients 5/h"
        now += 3700
        office.let_pass(3700)
    office.deliver(wide)
    assert office.state(wide) == "sent"
    assert office.server.taken == list(names)
    office.nothing_is_left()


class Never(LocalLimiter):
    """One whose rules nobody knows, and let nothing pass."""

    def ask(self, request: Request, reports: Sequence[Report] = ()) -> Grant | Refusal:
        return Refusal("account recipients 0/h", math.inf)


@pytest.mark.parametrize("policy", [ContentPolicy.KEEP, ContentPolicy.PURGE])
def test_one_that_some_have_got_and_that_can_never_pass(office_of: Make, policy: ContentPolicy) -> None:
    """What earlier tries reached counts: the mail ends as sent in part, the others' addresses as refused, its content as it says."""
    office = office_of(recipients("1/h"), limiter=Never)
    ada, others = "ada@example.net", ("bob@example.net", "eve@example.net")
    mail = office.emit(ada, *others, content_policy=policy)
    with office.engine.begin() as connection:
        told = [Recipient(mail, ada, "accepted"), *(Recipient(mail, one, "open") for one in others)]
        put_recipients(connection, told)
    office.deliver(mail)
    assert office.state(mail) == "sent: partial"
    assert office.outcomes(mail) == {ada: "accepted"} | dict.fromkeys(others, "refused")
    assert office.server.taken == []
    with office.engine.connect() as connection:
        shown = show_mail(connection, mail)
    assert shown is not None
    assert shown.content is not None
    assert (shown.content.purged_at is not None) is (policy is ContentPolicy.PURGE)
    office.nothing_is_left()


def test_a_gate_of_a_domain_parks_its_mails_only(office_of: Make) -> None:
    """A mail with a recipient behind the gate waits for it; the others of its chunk go, and it costs no permit."""
    office = office_of(rule("10/h"))
    close(office, "recipient", "slow.example")
    ids = [
        office.emit(f"{n}@{domain}") for n, domain in enumerate(["a.example", "SLOW.example", "b.example"])
    ]
    office.deliver(*ids)
    assert office.states(ids) == ["sent", "queued: wait(recipient): full", "sent"]
    assert 590 < office.due_in_s(ids[1]) < 670
    assert used(office) == [2]
    office.nothing_is_left()


@pytest.mark.tinymail("31", "D8")
@pytest.mark.parametrize(
    ("scope", "key"), [("app", APP), ("all", EVERYBODY), ("account", "default"), ("host", HOST)]
)
def test_a_gate_keeps_everything_behind_it(office_of: Make, scope: str, key: str) -> None:
    """Nothing connects, nothing counts, and all that waits in the heap comes back after it."""
    office = office_of(rule("10/h"))
    close(office, scope, key)
    ids = emitted(office, 3)
    office.deliver(*ids)
    assert office.states(ids) == [f"queued: wait({scope}): full"] * 3
    assert all(590 < office.due_in_s(mail_id) < 670 for mail_id in ids)
    assert (office.server.connects, used(office)) == (0, [0])
    office.nothing_is_left()


def test_a_gate_of_another_app_keeps_nothing(office_of: Make) -> None:
    """Other apps, hosts and domains are not ours."""
    office = office_of()
    for scope in ("app", "account", "host", "recipient"):
        close(office, scope, "another")
    ids = emitted(office, 2)
    office.deliver(*ids)
    assert office.states(ids) == ["sent"] * 2
    office.nothing_is_left()


def test_no_connection_costs_no_permit(office_of: Make) -> None:
    """A server that is down for a day does not use up the day's limit."""
    office = office_of(rule("5/d"))
    for n in range(4):
        office.server.refused.append(Answer(Phase.CONNECT, None, "connection refused"))
        ids = emitted(office, 5, f"r{n}-")
        office.deliver(*ids)
        assert all(state.startswith("queued: wait") for state in office.states(ids))
        office.limiter.refresh_gates([Gate("host", HOST, 0.0, n + 1, "opened")])
        assert used(office) == [0]
    ids = emitted(office, 5)
    office.deliver(*ids)
    assert office.states(ids) == ["sent"] * 5
    assert used(office) == [5]
    assert isinstance(office.limiter.ask(wish("more")), Refusal)
    office.nothing_is_left()


def test_what_reached_mail_costs_a_permit(office_of: Make) -> None:
    """A refusal of MAIL and a cut in the body were heard of: the server may count them."""
    office = office_of(rule("5/d"))
    office.server.script("m0@example.net", refuse_mail(451, "later"))
    office.server.script("m1@example.net", cut_before_dot)
    office.deliver(*emitted(office, 2))
    assert used(office) == [2]
    office.nothing_is_left()


@pytest.mark.parametrize("limit", [rule("50/d"), recipients("50/d")])
def test_the_rest_of_a_chunk_goes_over_another_connection(office_of: Make, limit: Rule) -> None:
    """A connection that is cut in a chunk is replaced: the others have their permits already."""
    office = office_of(limit)
    office.server.script("m1@example.net", cut_before_dot)
    ids = emitted(office, 4)
    office.deliver(*ids)
    assert office.states(ids) == ["sent", "queued: retry: connection reset", "sent", "sent"]
    assert used(office) == [4]
    office.nothing_is_left()
