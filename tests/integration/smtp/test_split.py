"""One mail to more recipients than its server takes at once, at real sockets: all have it once, and nobody is given up."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import Engine, select

from mailfleet_schema.engine import read_only
from mailfleet_schema.statements.operate import CONFIRM
from mailfleet_schema.statements.recipient import IN_DOUBT, recipients_of
from mailfleet_schema.states import OnDoubt
from mailfleet_workers.catcher import (
    Action,
    Catcher,
    Cut,
    Default,
    Event,
    Keep,
    MemoryStore,
    Say,
    Script,
    Step,
)
from mailfleet_workers.operators.mails import by_ids
from mailfleet_workers.smtp.envelope import Dsn
from tests.integration.smtp.branch import Branch, account, stamped
from tests.integration.smtp.dialogue import Dialogue, Peer

FULL = Say(452, "4.5.3 Too many recipients")


class Scene:
    """A worker and its one server; `asked` counts the RCPT commands of every transaction."""

    def __init__(self, engine: Engine, directory: Path, script: Script, stack: ExitStack) -> None:
        self._script = script
        self.asked: list[int] = []
        self.catcher = stack.enter_context(Catcher(MemoryStore(), self._asked))
        stack.enter_context(stamped())
        self.branch = Branch(engine, directory)
        self.branch.accounts["default"] = account("default", self.catcher.port)

    def _asked(self, event: Event) -> Action:
        if event.step is Step.MAIL:
            self.asked.append(0)
        elif event.step is Step.RCPT:
            self.asked[-1] += 1
        return self._script(event)

    def cap(self, recipients: int) -> None:
        """The account says how many the server takes."""
        of = self.branch.accounts["default"]
        self.branch.accounts["default"] = replace(of, recipients_per_message=recipients)

    def send_now(self, mail_id: int, *, most: int = 20) -> None:
        """Work as long as the mail is due at once."""
        for _ in range(most):
            if self.branch.hint(mail_id) == 0:
                return
            self.branch.deliver()
        raise AssertionError(f"still due after {most} transactions: {self.branch.state(mail_id)}")

    @property
    def taken(self) -> Counter[str]:
        return Counter(one for receipt in self.catcher.store.receipts() for one in receipt.recipients)

    def end(self) -> None:
        """Nothing is lost, nothing doubled, and no claim is left."""
        self.branch.findings(self.catcher.store.receipts()).raise_for()
        self.branch.end()
        assert self.catcher.faults == ()


Make = Callable[[Script], Scene]


@pytest.fixture
def scene(sqlite_engine: Engine, tmp_path: Path) -> Iterator[Make]:
    with ExitStack() as stack:
        yield lambda script: Scene(sqlite_engine, tmp_path, script, stack)


def people(number: int) -> tuple[str, ...]:
    return tuple(f"p{one:03d}@example.net" for one in range(number))


def takes(most: int, full: Say = FULL) -> Script:
    """A server that answers *full* to every recipient after *most* accepted ones."""

    def script(event: Event) -> Action:
        return full if event.step is Step.RCPT and len(event.recipients) >= most else Default()

    return script


@pytest.mark.parametrize(
    "full",
    [
        FULL,
        Say(452, "Too many recipients"),
        Say(552, "too many recipients"),
        Say(550, "5.5.3 Too many recipients"),
    ],
    ids=["4.5.3", "452", "552", "550"],
)
def test_a_server_that_takes_100_of_500(scene: Make, full: Say) -> None:
    """The others go at once in further transactions; it is no failure, and after the first one nobody is refused any more."""
    at = scene(takes(100, full))
    mail = at.branch.write("news", *people(500))
    at.send_now(mail)
    row = at.branch.row(mail)
    assert (row["state"], row["reason"], row["sum_fail"], row["waits"]) == ("sent", None, 0, 0)
    assert (row["sum_send"], row["sum_done"]) == (5, 1)
    assert at.taken == dict.fromkeys(people(500), 1)
    assert set(at.branch.outcomes(mail).values()) == {"accepted"}
    assert at.asked == [500, 100, 100, 100, 100], "learnt from the first refusal"
    at.end()


def test_what_was_learnt_holds_for_the_next_mail(scene: Make) -> None:
    """A second mail to many asks for no more at once than the server took of the first."""
    at = scene(takes(3))
    first, second = at.branch.write("one", *people(6)), at.branch.write("two", *people(6))
    at.send_now(first)
    at.send_now(second)
    assert at.asked == [6, 3, 3, 3]
    at.end()


def test_recipients_are_split_at_the_accounts_cap(scene: Make) -> None:
    """Five at a server that is said to take two: three transactions, none of them asked for more; each attempt has its queue id."""
    at = scene(lambda _event: Default())
    at.cap(2)
    mail = at.branch.write("news", *people(5))
    at.send_now(mail)
    assert at.asked == [2, 2, 1]
    assert at.branch.state(mail) == "sent"
    attempt = at.branch.tables.mail_attempt
    with read_only(at.branch.engine) as connection:
        rows = connection.execute(
            select(attempt.c.recipients, attempt.c.code, attempt.c.enhanced, attempt.c.queue_id)
            .where(attempt.c.mail_id == mail)
            .order_by(attempt.c.id)
        ).all()
    assert [tuple(row) for row in rows] == [
        (2, 250, "2.0.0", "1"),
        (2, 250, "2.0.0", "2"),
        (1, 250, "2.0.0", "3"),
    ]
    assert at.branch.row(mail)["queue_id"] == "3"
    at.end()


def test_three_recipients_250_550_450(scene: Make) -> None:
    """One is done, one failed, and the third alone is tried again."""
    ada, bob, cyd = "ada@example.net", "bob@example.net", "cyd@example.net"
    says: dict[str, Action] = {bob: Say(550, "5.1.1 unknown"), cyd: Say(450, "4.2.0 Greylisted")}
    at = scene(lambda event: says.get(event.argument, Default()) if event.step is Step.RCPT else Default())
    mail = at.branch.write("three", ada, bob, cyd)
    at.send_now(mail)
    assert at.branch.state(mail) == "queued: open: 1 of 3 recipients"
    assert at.branch.outcomes(mail) == {ada: "accepted", bob: "refused", cyd: "open"}
    assert at.taken == {ada: 1}
    del says[cyd]
    at.branch.wait_out()
    assert at.branch.state(mail) == "sent: partial"
    assert at.branch.outcomes(mail) == {ada: "accepted", bob: "refused", cyd: "accepted"}
    assert (at.asked, at.taken) == ([3, 1], {ada: 1, cyd: 1})
    at.end()


def test_whoever_waits_comes_after_those_who_had_no_turn(scene: Make) -> None:
    """Two at a time, the first greylisted and the fourth unknown: all others at once, the greylisted one when its time has come."""
    names = people(5)
    says: dict[str, Action] = {names[0]: Say(450, "4.2.0 Greylisted"), names[3]: Say(550, "5.1.1 unknown")}
    at = scene(lambda event: says.get(event.argument, Default()) if event.step is Step.RCPT else Default())
    at.cap(2)
    mail = at.branch.write("news", *names)
    at.send_now(mail)
    assert at.branch.state(mail) == "queued: open: 1 of 5 recipients"
    assert at.taken == dict.fromkeys((names[1], names[2], names[4]), 1)
    assert at.branch.row(mail)["sum_fail"] == 0
    says.clear()
    at.branch.wait_out()
    assert at.branch.state(mail) == "sent: partial"
    assert at.taken == dict.fromkeys((*names[:3], names[4]), 1)
    assert at.asked == [2, 2, 1, 1]
    at.end()


def test_a_transaction_whose_recipients_are_all_unknown_does_not_end_the_mail(scene: Make) -> None:
    """The first two do not exist: that says nothing of the others, who had no turn."""
    names = people(5)
    unknown = set(names[:2])
    at = scene(
        lambda event: (
            Say(550, "5.1.1 unknown") if event.step is Step.RCPT and event.argument in unknown else Default()
        )
    )
    at.cap(2)
    mail = at.branch.write("news", *names)
    at.send_now(mail)
    assert at.branch.state(mail) == "sent: partial"
    assert at.taken == dict.fromkeys(names[2:], 1)
    at.end()


def test_a_message_that_is_refused_ends_the_mail_for_all(scene: Make) -> None:
    """A final word on the message in the second transaction: the first two have it, the others are refused, and nobody is open."""
    names = people(6)
    at = scene(
        lambda event: (
            Say(554, "5.6.0 no such message")
            if event.step is Step.EOD and names[2] in event.recipients
            else Default()
        )
    )
    at.cap(2)
    mail = at.branch.write("news", *names)
    at.send_now(mail)
    assert at.branch.state(mail) == "sent: partial"
    assert at.branch.outcomes(mail) == dict.fromkeys(names[:2], "accepted") | dict.fromkeys(
        names[2:], "refused"
    )
    at.branch.end()


def test_a_doubt_in_one_transaction_is_of_its_recipients(scene: Make) -> None:
    """The second transaction is never answered: under resend its two get it again, the others once."""
    names, cuts = people(6), [Keep(Cut())]
    at = scene(
        lambda event: (
            cuts.pop() if event.step is Step.EOD and names[2] in event.recipients and cuts else Default()
        )
    )
    at.cap(2)
    mail = at.branch.write("news", *names, on_doubt=OnDoubt.RESEND_ONCE)
    at.send_now(mail)
    assert at.branch.row(mail)["state"] == "doubt"
    at.branch.wait_out()
    at.send_now(mail)
    assert at.branch.state(mail) == "sent"
    assert at.taken == dict.fromkeys(names, 1) | dict.fromkeys(names[2:4], 2)
    at.branch.end()


def test_a_confirmed_doubt_is_of_its_transaction(scene: Make) -> None:
    """Policy hold, the host is lost after the second dot: whoever confirms what arrived does not end the mail for the rest."""
    names, cuts = people(6), [Keep(Cut())]
    at = scene(
        lambda event: (
            cuts.pop() if event.step is Step.EOD and names[2] in event.recipients and cuts else Default()
        )
    )
    at.cap(2)
    mail = at.branch.write("news", *names)
    at.send_now(mail)
    at.branch.reconciler().run_once()
    assert at.branch.row(mail)["state"] == "held"
    assert {one for one, text in texts_of(at.branch, mail).items() if text == IN_DOUBT} == set(names[2:4])
    assert by_ids(at.branch.engine, CONFIRM, [mail]).changed == (mail,)
    at.send_now(mail)
    assert at.branch.state(mail) == "sent"
    assert at.taken == dict.fromkeys(names, 1)
    assert set(at.branch.outcomes(mail).values()) == {"accepted"}
    at.branch.end()


def texts_of(branch: Branch, mail_id: int) -> dict[str, str | None]:
    with read_only(branch.engine) as connection:
        return {one.address: one.text for one in recipients_of(connection, [mail_id])}


@pytest.mark.smtplib(16)
def test_a_recipient_that_is_not_ascii_fails_alone(sqlite_engine: Engine, tmp_path: Path) -> None:
    """A Bcc that a server without SMTPUTF8 cannot take is refused by us; the others have the mail."""

    def script(peer: Peer) -> None:
        peer.greet("8BITMIME")
        peer.accept_mail()
        peer.quit()

    with Dialogue(script) as server, stamped():
        branch = Branch(sqlite_engine, tmp_path)
        branch.accounts["default"] = account("default", server.port)
        mail = branch.write("hidden", "ada@example.net", bcc=("jörg@example.net",))
        branch.work()
        assert branch.state(mail) == "sent: partial"
        assert branch.outcomes(mail) == {"ada@example.net": "accepted", "jörg@example.net": "refused"}
        branch.end()
    assert server.lines("RCPT") == ["RCPT TO:<ada@example.net>"]


@pytest.mark.smtplib(15)
@pytest.mark.parametrize("offered", [True, False])
def test_reports_are_asked_for_of_a_server_that_offers_them(
    sqlite_engine: Engine, tmp_path: Path, offered: bool
) -> None:
    """An account's wish goes with every mail that says nothing itself; a server without DSN hears nothing of it."""

    def script(peer: Peer) -> None:
        peer.greet(*(["DSN"] if offered else []))
        peer.accept_mail()
        peer.quit()

    with Dialogue(script) as server, stamped():
        branch = Branch(sqlite_engine, tmp_path)
        asked = Dsn("hdrs", None, ("failure", "delay"))
        branch.accounts["default"] = account("default", server.port, dsn=asked)
        mail = branch.write("report", "ada+1@example.net")
        branch.work()
        assert branch.state(mail) == "sent"
        branch.end()
    of_mail = f" RET=HDRS ENVID=mail-{mail}" if offered else ""
    of_rcpt = " NOTIFY=FAILURE,DELAY ORCPT=rfc822;ada+2B1@example.net" if offered else ""
    assert server.lines("MAIL") == [f"MAIL FROM:<us@example.com>{of_mail}"]
    assert server.lines("RCPT") == [f"RCPT TO:<ada+1@example.net>{of_rcpt}"]


def test_a_message_larger_than_the_account_allows_is_not_offered(scene: Make) -> None:
    """It is refused before a connection is opened."""
    at = scene(lambda _event: Default())
    of = at.branch.accounts["default"]
    at.branch.accounts["default"] = replace(of, max_message_bytes=2000)
    mail = at.branch.write("large", text="A line of some length.\n" * 200)
    at.send_now(mail)
    assert at.branch.state(mail).startswith("failed: stop: message of ")
    assert at.branch.state(mail).endswith("bytes exceeds the 2000 that account default allows")
    assert len(at.asked) == 0
    at.branch.end()
