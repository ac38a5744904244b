"""What `send`, `post` and `emit` answer in every case of TinyMail's matrix, with its integer, and what the row says then."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from mailfleet import (
    Failed,
    Invalid,
    InvalidMail,
    Lazy,
    Pending,
    Retry,
    RetryScheduled,
    SendFailed,
    SendSkipped,
    Sent,
    Skipped,
    Unknown,
    UnknownMail,
)
from mailfleet.tinymail import ERR_CHECK, ERR_OTHER, SUCCESS
from mailfleet_schema.dialects import SQLITE
from mailfleet_workers.catcher import Hold, Latch, Say, Step
from tests.integration.tinymail.room import ADA, TRY_NEXT_S, VERBS, Room, in_ms, mail, room
from tests.waiting import wait_until

each_verb = pytest.mark.parametrize("verb", VERBS)
NOT_NOW, NEVER = Say(451, "4.3.0 not now"), Say(550, "5.7.1 never")


def now_or_soon(code: int) -> bool:
    """What emit answers of a mail that is due."""
    return in_ms(-20) <= code <= in_ms(1)


def after(code: int, seconds: float) -> bool:
    return in_ms(seconds - 20) <= code <= in_ms(seconds + 1)


@pytest.mark.tinymail("1", "2", "3", "9", "M1")
@each_verb
def test_sent(office: Room, verb: str) -> None:
    """Send and post answer that it is sent, emit when it is due; the row is sent, with no failure."""
    answer, code = office.asked(verb, mail())

    if verb == "emit":
        assert now_or_soon(code)
    else:
        assert isinstance(answer, Sent)
        assert code == SUCCESS
    row = office.rests("sent")
    assert (row.sum_send, row.sum_fail, row.sum_done, row.reason) == (1, 0, 1, None)
    assert row.last_code == 250


@pytest.mark.tinymail("22", "M2", "U10")
@each_verb
@pytest.mark.parametrize("retry", [True, False])
def test_sent_and_more_copies_wanted(office: Room, verb: str, retry: bool) -> None:
    """As sent, whatever retry says; the next copy is due after try_next."""
    answer, code = office.asked(verb, mail(max_done=2), retry=retry)

    assert now_or_soon(code) if verb == "emit" else (isinstance(answer, Sent) and code == SUCCESS)
    row = office.rests("queued")
    assert (row.sum_send, row.sum_done, row.reason) == (1, 1, "copy")
    due = SQLITE.read_instant(row.due_at)
    assert due is not None
    assert after(round(due.timestamp() * 1000), TRY_NEXT_S)


@pytest.mark.tinymail("10", "13", "15", "M3", "D19")
@each_verb
def test_a_condition_that_does_not_hold(office: Room, verb: str) -> None:
    """It is not sent, and not silently so: the row says which; it counts neither as tried nor as failed."""
    answer, code = office.asked(verb, mail(run_modes=["product"]))

    expected = {"send": SendFailed, "post": Failed, "emit": int}
    assert isinstance(answer, expected[verb])
    assert now_or_soon(code) if verb == "emit" else code == ERR_CHECK
    wait_until(lambda: office.row().state == "failed", 20, lambda: str(office.row()))
    row = office.row()
    assert row.reason == "condition: run mode: the mail is for product, this is local"
    assert (row.sum_send, row.sum_fail) == (0, 0)
    assert office.server.asked == 0


@pytest.mark.tinymail("16", "M4", "D5")
@each_verb
@pytest.mark.parametrize("force", [False, True])
def test_somebody_else_has_it(office: Room, verb: str, force: bool) -> None:
    """A mail that is being sent is left to who sends it, forced or not; there is one copy."""
    latch = Latch()
    office.server.says[Step.EOD] = Hold(latch)
    mail_id = office.mailer.emit(mail())
    latch.wait_for_arrival(deadline_s=20)

    answer, code = office.asked(verb, mail_id, force=force)

    assert isinstance(answer, Skipped if verb == "post" else SendSkipped), answer
    assert code == ERR_CHECK
    latch.release()
    office.rests("sent")
    assert office.server.asked == 1


@pytest.mark.tinymail("7", "69", "M5", "D5")
@each_verb
def test_forced(office: Room, verb: str) -> None:
    """Limits that are used up do not count, the claim does: one more try, which is counted as any other."""
    sent = office.mailer.send(mail())

    answer, code = office.asked(verb, sent.mail_id, force=True)

    assert now_or_soon(code) if verb == "emit" else (isinstance(answer, Sent) and code == SUCCESS)
    wait_until(lambda: office.row().sum_done == 2, 20, lambda: str(office.row()))
    row = office.rests("sent")
    assert (row.sum_send, row.sum_fail) == (2, 0)


@pytest.mark.tinymail("M6")
@each_verb
def test_a_renderer_that_is_not_there(office: Room, verb: str) -> None:
    """It counts as a failure, and ends the mail: nobody will ever render it."""
    answer, code = office.asked(verb, mail(text=None, lazy=Lazy("nobody", {"number": 17})))

    expected = {"send": SendFailed, "post": Failed, "emit": int}
    assert isinstance(answer, expected[verb])
    assert now_or_soon(code) if verb == "emit" else code == ERR_CHECK
    row = office.rests("failed")
    assert (row.sum_send, row.sum_fail, row.cost_ms) == (1, 1, 0)
    assert row.reason.startswith("render: ")


@pytest.mark.tinymail("8", "9", "19", "M7")
@each_verb
def test_a_passing_error_with_tries_left(office: Room, verb: str) -> None:
    """The answer is when it is tried again, and so is the row's time."""
    office.server.says[Step.EOD] = NOT_NOW

    answer, code = office.asked(verb, mail())

    expected = {"send": RetryScheduled, "post": Retry, "emit": int}
    assert isinstance(answer, expected[verb]), answer
    assert now_or_soon(code) if verb == "emit" else after(code, TRY_NEXT_S)
    row = office.rests("queued")
    assert (row.sum_send, row.sum_fail, row.sum_done) == (1, 1, 0)
    due = SQLITE.read_instant(row.due_at)
    assert due is not None
    assert after(round(due.timestamp() * 1000), TRY_NEXT_S)
    assert (row.last_code, row.last_text) == (451, "4.3.0 not now")


@pytest.mark.tinymail("8", "M8")
@each_verb
@pytest.mark.parametrize("of_the_mail", [True, False], ids=["of the mail", "of the call"])
def test_a_passing_error_without_retry(office: Room, verb: str, of_the_mail: bool) -> None:
    """The first failure is the last, and the row remembers that it was to be so."""
    office.server.says[Step.EOD] = NOT_NOW
    more: dict[str, Any] = {} if of_the_mail else {"retry": False}

    answer, code = office.asked(verb, mail(retry=not of_the_mail), **more)

    expected = {"send": SendFailed, "post": Failed, "emit": int}
    assert isinstance(answer, expected[verb]), answer
    assert now_or_soon(code) if verb == "emit" else code == ERR_OTHER
    row = office.rests("failed")
    assert (row.sum_fail, row.reason, bool(row.retry)) == (1, "no retry", False)


@pytest.mark.tinymail("13", "19", "M9")
@each_verb
def test_the_last_failure_that_is_allowed(office: Room, verb: str) -> None:
    """It ends the mail, though the error would pass."""
    office.server.says[Step.EOD] = NOT_NOW

    answer, code = office.asked(verb, mail(max_fail=1))

    expected = {"send": SendFailed, "post": Failed, "emit": int}
    assert isinstance(answer, expected[verb]), answer
    assert now_or_soon(code) if verb == "emit" else code == ERR_OTHER
    row = office.rests("failed")
    assert (row.sum_fail, row.reason) == (1, "max_fail")


@pytest.mark.tinymail("11", "M10")
@each_verb
@pytest.mark.parametrize("address", ["ada..lovelace@example.net", "ada@", "Ada <ada@example.net"])
def test_an_address_that_is_none(office: Room, verb: str, address: str) -> None:
    """It is found before anything is written: no row, no retry."""
    answer, code = office.asked(verb, mail(to=[address]))

    assert isinstance(answer, Invalid if verb == "post" else InvalidMail)
    assert answer.field == "to[0]"
    assert code == ERR_OTHER
    assert office.count() == 0


@pytest.mark.tinymail("19", "21", "M10")
@each_verb
def test_an_address_that_the_server_refuses(office: Room, verb: str) -> None:
    """A final refusal ends the mail, whatever retry says."""
    office.server.says[Step.RCPT] = NEVER

    answer, code = office.asked(verb, mail(), retry=True)

    expected = {"send": SendFailed, "post": Failed, "emit": int}
    assert isinstance(answer, expected[verb]), answer
    assert now_or_soon(code) if verb == "emit" else code == ERR_OTHER
    row = office.rests("failed")
    assert (row.sum_send, row.sum_fail) == (1, 1)
    assert row.reason.startswith("stop: ")


def close_the_gate(office: Room) -> None:
    """A first mail finds that the account must wait."""
    office.server.says[Step.MAIL] = Say(421, "4.7.0 too many, try again later")
    first = office.mailer.post(mail(subject="first"), 20)
    assert isinstance(first, Pending | Retry), first
    office.server.says.clear()


@pytest.mark.tinymail("27", "31", "M11", "D8")
@each_verb
def test_its_host_waits(office: Room, verb: str) -> None:
    """It is no failure: nobody was asked; the answer is the time at which the host is asked again."""
    close_the_gate(office)

    answer, code = office.asked(verb, mail())

    if verb != "emit":
        assert isinstance(answer, Pending), answer
        assert code > in_ms(5)
    row = office.rests("queued")
    assert (row.sum_send, row.sum_fail, row.waits) == (0, 0, 1)
    assert row.reason.startswith("wait")
    assert office.server.asked == 0


@pytest.mark.tinymail("28", "37", "39", "M12", "D3")
def test_its_host_waits_and_there_are_many(tmp_path: Path) -> None:
    """Those of that host wait, each with its reason; those of another host in the same batch are sent."""
    with room(tmp_path / "other") as other:
        account = {
            "host": "127.0.0.1",
            "port": other.fleet.catcher.port,
            "tls": "plain",
            "from": "news@example.com",
        }
        settings = {
            "delivery": "live",
            "accounts": {"default": {"from": "billing@example.com"}, "news": account},
            "apps": {"billing": {"accounts": ["default", "news"]}},
        }
        with room(tmp_path / "here", **settings) as office:
            close_the_gate(office)

            answers = office.mailer.post_many(
                [mail(account="news" if number % 2 else "default") for number in range(8)], 20
            )

            assert [type(answer) for answer in answers] == [Pending, Sent] * 4
            waiting = [office.row(answer.mail_id) for answer in answers if isinstance(answer, Pending)]
            assert all(row.sum_fail == 0 and row.reason.startswith("wait") for row in waiting)
            assert other.server.asked == 4


@pytest.mark.tinymail("4", "M13")
@each_verb
def test_an_id_that_nobody_knows(office: Room, verb: str) -> None:
    """It is told, as a value or as an error."""
    answer, code = office.asked(verb, 4711)

    assert isinstance(answer, Unknown if verb == "post" else UnknownMail)
    assert code == ERR_OTHER


@pytest.mark.tinymail("52", "M13", "D19")
@each_verb
def test_an_account_that_nobody_knows(office: Room, verb: str) -> None:
    """The mail is stored and waits until somebody configures it, which its row says; nothing counts against it."""
    _, code = office.asked(verb, mail(account="nowhere"))

    assert code > in_ms(-20)
    wait_until(lambda: office.row().reason is not None, 20, lambda: str(office.row()))
    assert office.row().reason == "unknown account 'nowhere'"
    assert (office.row().state, office.row().sum_fail) == ("queued", 0)


@pytest.mark.tinymail("43", "M14", "U15")
@each_verb
def test_while_the_process_ends(tmp_path: Path, verb: str) -> None:
    """A mail that comes while nobody sends any more is stored, and sent by the next process."""
    with room(tmp_path) as office:
        mailer = office.mailer
    answer: object
    if verb == "emit":
        answer = mailer.emit(mail())
    else:
        answer = getattr(mailer, verb)(mail(), 0.2)
        assert isinstance(answer, Pending), answer
    mailer.close()
    with room(tmp_path) as office:
        assert office.rests("sent").sum_done == 1
        assert office.server.asked == 1


@pytest.mark.tinymail("6", "41")
def test_auto(office: Room) -> None:
    """What is due is posted, what is to come is planned; a draft with a time as well."""
    later = datetime.now(UTC) + timedelta(hours=1)
    due, to_come = office.asked("auto", mail()), office.asked("auto", mail(due_at=later))
    draft = office.asked("auto", office.mailer.save(mail(due_at=later)))

    assert (type(due[0]), due[1]) == (Sent, SUCCESS)
    for _, code in (to_come, draft):
        assert after(code, 3600)
    assert office.server.asked == 1
    assert office.row().state == "queued"


@pytest.mark.tinymail("5", "67", "D12")
def test_plain_data(office: Room) -> None:
    """Every verb takes it, and what is wrong with it is an answer of post and auto, not an error of theirs."""
    plain = {"from_": "billing@example.com", "to": ADA, "subject": "Invoice 17", "html": "<p>Hello"}
    for verb in (*VERBS, "auto"):
        answer, code = office.asked(verb, plain)
        assert now_or_soon(code) if verb == "emit" else (isinstance(answer, Sent) and code == SUCCESS)
        answer, code = office.asked(verb, {**plain, "max_fail": "three"})
        assert isinstance(answer, Invalid if verb in {"post", "auto"} else InvalidMail)
        assert answer.field == "max_fail"
        assert code == ERR_OTHER
