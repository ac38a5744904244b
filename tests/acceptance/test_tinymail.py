"""TinyMail's own tests, played on a fleet: PostgreSQL, RabbitMQ, worker processes and a server that catches mail."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from pathlib import Path
from typing import Any

import pytest

from mailfleet import Invalid, InvalidMail, Mail, SendFailed, Sent
from mailfleet.mailer import Mailer
from mailfleet.tinymail import SUCCESS, code_of, planned
from mailfleet_workers.catcher import Action, Default, Event, Say, Step
from tests.services.virtual_host import VirtualHost
from tests.stage import Stage
from tests.waiting import wait_until

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(180)]

APP, ADA = "billing", "ada@example.net"
#: A provider that takes mail of its own users only says this at MAIL.
FOREIGN = "somebody@elsewhere.example"


def script(event: Event) -> Action:
    """A well-meaning server, but for senders that are not its own."""
    if event.step is Step.MAIL and event.argument.startswith(FOREIGN):
        return Say(501, "mail from address must be same as authorization user")
    return Default()


@pytest.fixture
def stage(tmp_path: Path, migrated_url: str, rabbitmq: VirtualHost) -> Iterator[Stage]:
    with Stage(tmp_path, migrated_url, rabbitmq.url, script=script) as stage:
        stage.parent(APP, "--processes", "2", ready=2)
        yield stage


@pytest.fixture
def mailer(stage: Stage) -> Mailer:
    return stage.mailer(APP)


def mail(**more: Any) -> Mail:
    return Mail(**{"to": [ADA], "subject": "Hello", "text": "Hello", **more})


@pytest.mark.tinymail("T3")
def test_emit_post_and_send_in_time(stage: Stage, mailer: Mailer) -> None:
    """Emit is back long before send and post, which have waited for the server's answer."""
    began = time.monotonic()
    mailer.emit(mail(subject="emit"))
    emitted = time.monotonic()
    posted = mailer.post(mail(subject="post"))
    answered = time.monotonic()
    sent = mailer.send(mail(subject="send"))
    ended = time.monotonic()

    print(f"emit {emitted - began:.3f} s, post {answered - emitted:.3f} s, send {ended - answered:.3f} s")
    assert (type(posted), type(sent)) == (Sent, Sent)
    stage.wait_states({"sent": 3}, 30)
    assert stage.copies() == {"emit": 1, "post": 1, "send": 1}


@pytest.mark.tinymail("T5")
def test_single_mails_and_a_batch(stage: Stage, mailer: Mailer) -> None:
    """Ten one after the other, then ten at once: nothing is raised, each is sent once, over few connections."""
    for number in range(10):
        assert isinstance(mailer.send(mail(subject=f"single {number}")), Sent)
    answers = mailer.post_many([mail(subject=f"batch {number}") for number in range(10)])

    assert {type(answer) for answer in answers} == {Sent}
    assert set(stage.copies().values()) == {1}
    assert len(stage.copies()) == 20
    costs = stage.rows("cost_ms", "sent_at")
    print([row.cost_ms for row in costs])
    assert all(row.cost_ms is not None and row.sent_at is not None for row in costs)
    assert len({receipt.session_id for receipt in stage.sink.store.receipts()}) < 20


@pytest.mark.tinymail("T6", "49")
def test_a_batch_as_a_dry_run(stage: Stage, mailer: Mailer) -> None:
    """Mails whose subject asks for it count as sent, are marked so, and nobody gets them."""
    answers = mailer.post_many([mail(subject=f"[DRYRUN] {number}") for number in range(2)])

    assert [(type(a), getattr(a, "reason", None), code_of(a)) for a in answers] == [
        (Sent, "dry_run", SUCCESS)
    ] * 2
    assert stage.copies() == {}
    assert [row.sum_done for row in stage.rows("sum_done")] == [1, 1]


@pytest.mark.tinymail("T8")
def test_an_html_mail_with_a_mark(stage: Stage, mailer: Mailer) -> None:
    """It is sent, as HTML, with its mark in the header by which an answer is found."""
    sent = mailer.send(mail(text=None, html="<h1>Grüße</h1>", mark="campaign-7 spring"), retry=True)

    assert code_of(sent) == SUCCESS
    (receipt,) = stage.sink.store.receipts()
    message = message_from_bytes(receipt.message)
    assert (message.get_content_type(), message["X-Biz-Mark"]) == ("text/html", "campaign-7 spring")
    assert message["X-Biz-Id"] == str(sent.mail_id)


@pytest.mark.tinymail("T9", "41")
def test_a_mail_for_five_seconds_later(stage: Stage, mailer: Mailer) -> None:
    """The planned time is the one that was asked for; it is sent then, not before, and at most a second after it."""
    asked = datetime.now(UTC) + timedelta(seconds=5)
    mail_id = mailer.emit(mail(due_at=asked))
    when = planned(mailer.status(mail_id).due_at)

    assert abs(when - asked.timestamp() * 1000) <= 500
    stage.wait_states({"sent": 1}, 30)
    (arrived,) = stage.arrivals()["Hello"]
    late_s = arrived - asked.timestamp()
    print(f"{late_s:.3f} s after its time")
    assert 0 <= late_s <= 1


@pytest.mark.tinymail("T10", "26")
def test_a_sender_whom_the_server_refuses(stage: Stage, mailer: Mailer) -> None:
    """The mail has failed at once and for good; mail of the account's own sender goes on."""
    with pytest.raises(SendFailed) as refused:
        mailer.send(mail(from_=FOREIGN, subject="foreign"), retry=True)
    own = mailer.send(mail(subject="own"))

    assert refused.value.state == "failed"
    assert isinstance(own, Sent)
    row = stage.rows("state", "reason", "sum_fail", "last_code")[0]
    assert (row.state, row.sum_fail, row.last_code) == ("failed", 1, 501)
    assert stage.copies() == {"own": 1}


@pytest.mark.tinymail("T11")
def test_a_recipient_that_is_no_address(stage: Stage, mailer: Mailer) -> None:
    """It raises, naming the field; nothing is stored, so nothing is tried again."""
    with pytest.raises(InvalidMail, match=r"to\[0\]"):
        mailer.send(mail(to=["ada..lovelace@example.net"]), retry=True)
    answer = mailer.post(mail(to=["ada..lovelace@example.net"]))

    assert isinstance(answer, Invalid)
    assert stage.states() == {}
    wait_until(lambda: stage.copies() == {}, 1, lambda: str(stage.copies()))
