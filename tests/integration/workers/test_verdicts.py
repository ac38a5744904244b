"""From a claimed row to its settled result: what each answer of a server leaves in the database."""

import pytest

from mailfleet_schema.states import OnDoubt, Priority
from mailfleet_workers.smtp.base import Answer, Phase, Reply
from tests.integration.workers.office import Office
from tests.integration.workers.server import accept, cut_before_dot, refuse, refuse_mail

ADA, BOB, CYD = "ada@example.net", "bob@example.net", "cyd@example.net"


@pytest.mark.tinymail("21")
def test_accepted(office: Office) -> None:
    """250: sent, with reply, queue id and one attempt, and nobody holds the row any more."""
    mail = office.emit(ADA)
    office.deliver(mail)
    row = office.row(mail)
    assert office.state(mail) == "sent"
    assert (row["sum_send"], row["sum_done"], row["sum_fail"]) == (1, 1, 0)
    assert (row["last_code"], row["last_enhanced"], row["queue_id"]) == (250, "2.0.0", "Q1")
    assert row["sent_at"] is not None
    assert row["worker_id"] is None
    assert office.attempts(mail) == ["accepted"]
    assert office.server.taken == [ADA]
    assert office.notices == []
    office.nothing_is_left()


@pytest.mark.tinymail("21")
def test_stop(office: Office) -> None:
    """A final refusal: failed with its reason, never tried again."""
    mail = office.emit(ADA)
    office.server.script(ADA, refuse(550, "5.1.1 no such user"))
    office.deliver(mail)
    assert office.state(mail) == "failed: stop: refused"
    assert (office.row(mail)["last_code"], office.row(mail)["last_text"]) == (550, "5.1.1 no such user")
    assert office.hint(mail) == 0
    office.nothing_is_left()


def test_stop_at_mail(office: Office) -> None:
    """A final refusal before the record ends the mail as well, from `prepare`."""
    mail = office.emit(ADA)
    office.server.script(ADA, refuse_mail(550, "5.7.1 not you"))
    office.deliver(mail)
    assert office.state(mail) == "failed: stop: refused"
    assert office.server.dots == []
    office.nothing_is_left()


@pytest.mark.tinymail("19", "20")
def test_retry_until_max_fail(office: Office) -> None:
    """Transient refusals are tried again after growing waits; the third of three ends the mail."""
    mail = office.emit(ADA)
    office.server.script(ADA, refuse(451, "4.3.0 later"))
    for wait_s in (60, 300):
        office.deliver(mail)
        assert office.state(mail) == "queued: retry: later"
        assert wait_s - 5 < office.due_in_s(mail) <= wait_s
        assert office.notices.pop().due_in_s == wait_s
        assert office.hint(mail) == 0, "not due yet"
        office.let_pass(wait_s)
    office.deliver(mail)
    assert office.state(mail) == "failed: max_fail"
    assert office.attempts(mail) == ["retry"] * 3
    assert (office.row(mail)["sum_fail"], office.row(mail)["sum_send"]) == (3, 3)
    office.nothing_is_left()


def test_silence_before_the_dot(office: Office) -> None:
    """A connection that ends in the body is a Retry, from `prepare`, and the connection is not used again."""
    mail = office.emit(ADA)
    office.server.script(ADA, cut_before_dot, accept)
    office.deliver(mail)
    assert office.state(mail) == "queued: retry: connection reset"
    office.let_pass(60)
    office.deliver(mail)
    assert office.state(mail) == "sent"
    assert office.server.connects == 2
    office.nothing_is_left()


@pytest.mark.tinymail("21", "D2")
def test_wait_of_the_mail(office: Office) -> None:
    """A Wait of one recipient's mail: due then, no failure, others go on."""
    mail, other = office.emit(ADA), office.emit(BOB)
    office.server.script(ADA, refuse(450, "4.2.0 grey, come back"))
    office.deliver(mail, other)
    assert office.states([mail, other]) == ["queued: wait(recipient): greylisted", "sent"]
    assert (office.row(mail)["waits"], office.row(mail)["sum_fail"]) == (1, 0)
    assert 890 < office.due_in_s(mail) <= 900
    office.nothing_is_left()


@pytest.mark.tinymail("28", "31", "D27")
def test_wait_of_the_account_parks_the_account(office: Office) -> None:
    """A Wait of the account: all its waiting rows go back in one statement, without a try; other accounts go on."""
    mails = [office.emit(f"{n}@example.net") for n in range(20)]
    other = office.emit(BOB, account="other")
    office.server.script("0@example.net", refuse(450, "4.7.0 quota of the day"))
    assert office.hint(*mails, other) == 21
    office.sender.run_once(timeout_s=0.0)
    assert set(office.states(mails)) == {"queued: wait(account): quota"}, "the first batch parks them all"
    office.deliver()
    assert all(3500 < office.due_in_s(mail) < 3610 for mail in mails)
    assert [office.row(mail)["waits"] for mail in mails] == [1] * 20
    assert [office.attempts(mail) for mail in mails[1:]] == [[]] * 19
    assert office.state(other) == "sent"
    assert len({round(office.due_in_s(mail), 1) for mail in mails}) > 5, "they all come back at one instant"
    gate = office.limiter.gate(account="default", host="elsewhere")
    assert gate is not None
    office.nothing_is_left()


@pytest.mark.tinymail("27", "32", "D6")
def test_a_gate_reaches_other_workers_through_the_database(office: Office) -> None:
    """Another worker's limiter knows the gate after its next pass, and opens when the wait is over."""
    mail = office.emit(ADA)
    office.server.script(ADA, refuse(450, "4.7.0 quota"))
    office.deliver(mail)
    stranger = Office(office.engine, office.directory / "other", server=office.server)
    assert stranger.limiter.gate(account="default", host="h") is None
    stranger.know_gates()
    assert stranger.limiter.gate(account="default", host="h") is not None
    office.let_pass(3601)
    stranger.know_gates()
    assert stranger.limiter.gate(account="default", host="h") is None
    stranger.end()


@pytest.mark.tinymail("27", "U1")
def test_wait_of_the_host(office: Office) -> None:
    """A Wait of the host closes the host's gate, and its rows are due when it opens."""
    mails = [office.emit(f"{n}@example.net") for n in range(3)]
    office.server.script("0@example.net", refuse(421, "4.3.2 busy"))
    office.deliver(*mails)
    assert set(office.states(mails)) == {"queued: wait(host): busy"}
    gate = office.limiter.gate(account="another", host="default.example.net")
    assert gate is not None
    assert (gate.scope, gate.key) == ("host", "default.example.net")
    office.nothing_is_left()


def test_a_host_that_cannot_be_reached(chunks: Office) -> None:
    """No connection: the first row has the attempt, all wait for the host, nothing counts as a failure."""
    mails = [chunks.emit(f"{n}@example.net") for n in range(10)]
    chunks.server.refused.append(Answer(Phase.CONNECT, None, "connection refused"))
    chunks.deliver(*mails)
    assert all(state.startswith("queued: wait") for state in chunks.states(mails))
    assert [len(chunks.attempts(mail)) for mail in mails] == [1] + [0] * 9
    assert {chunks.row(mail)["sum_fail"] for mail in mails} == {0}
    assert chunks.server.connects == 1, "every row tried for itself"
    assert all(290 < chunks.due_in_s(mail) < 310 for mail in mails)
    chunks.nothing_is_left()


@pytest.mark.tinymail("20", "26")
def test_a_login_that_is_refused(office: Office) -> None:
    """A refused AUTH is a Wait of the account, never the mail's fault."""
    mail = office.emit(ADA)
    office.server.refused.append(Answer(Phase.AUTH, Reply(535, "5.7.8 wrong password")))
    office.deliver(mail)
    assert office.state(mail) == "queued: wait(account): refused"
    assert office.row(mail)["sum_fail"] == 0
    office.nothing_is_left()


def test_an_account_that_nobody_configured(office: Office) -> None:
    """Rows of an unknown account wait, with the reason, and are not lost."""
    mail = office.emit(ADA, account="unknown")
    office.deliver(mail)
    assert office.state(mail) == "queued: unknown account 'unknown'"
    assert office.due_in_s(mail) > 290
    office.nothing_is_left()


@pytest.mark.tinymail("D15")
def test_some_recipients_are_refused(office: Office) -> None:
    """One accepted, one refused for good, one told to wait: the retry goes to the last alone, then sent (partial)."""
    mail = office.emit(ADA, BOB, CYD)
    office.server.rcpt = {BOB: Reply(550, "5.1.1 no"), CYD: Reply(451, "4.7.1 grey")}
    office.deliver(mail)
    assert office.state(mail) == "queued: open: 1 of 3 recipients"
    assert office.outcomes(mail) == {ADA: "accepted", BOB: "refused", CYD: "open"}
    assert office.server.taken == [ADA]
    office.server.rcpt = {}
    office.let_pass(900)
    office.deliver(mail)
    assert office.state(mail) == "sent: partial"
    assert office.server.taken == [ADA, CYD]
    assert office.server.dots[-1].recipients == (CYD,)
    header = office.server.dots[-1].message.header
    assert all(address.encode() in header for address in (ADA, BOB, CYD)), "the full To stays in the header"
    office.nothing_is_left()


@pytest.mark.tinymail("22", "U10")
def test_copies(office: Office) -> None:
    """A mail with three copies is sent three times, a minute apart, then it is sent."""
    mail = office.emit(ADA, max_done=3)
    for state in ("queued: copy", "queued: copy", "sent"):
        office.deliver(mail)
        assert office.state(mail) == state
        office.let_pass(61)
    assert office.server.taken == [ADA] * 3
    assert office.row(mail)["sum_done"] == 3
    office.nothing_is_left()


@pytest.mark.tinymail("36", "D21")
def test_high_goes_first(office: Office) -> None:
    """Rows claimed together leave by priority."""
    bulk, normal, high = (
        office.emit(f"{priority}@example.net", priority=priority)
        for priority in (Priority.BULK, Priority.NORMAL, Priority.HIGH)
    )
    office.deliver(bulk, normal, high)
    assert office.server.taken == ["high@example.net", "normal@example.net", "bulk@example.net"]


@pytest.mark.parametrize("policy", list(OnDoubt))
def test_every_policy_sends(chunks: Office, policy: OnDoubt) -> None:
    """The doubt policy changes nothing where there is no doubt."""
    mails = [chunks.emit(f"{n}@example.net", on_doubt=policy) for n in range(12)]
    chunks.deliver(*mails)
    assert chunks.states(mails) == ["sent"] * 12
    assert sorted(chunks.server.taken) == sorted(f"{n}@example.net" for n in range(12))
    chunks.nothing_is_left()
