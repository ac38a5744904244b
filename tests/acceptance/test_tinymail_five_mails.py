"""TinyMail's largest test on a fleet: five mails from insert to their ends, and one that is asked for again and again by its id."""

from collections import Counter
from collections.abc import Iterator
from email import message_from_bytes
from pathlib import Path
from typing import Any

import pytest

from mailfleet import Failed, Lazy, Mail, Mailer, RetryScheduled, Sent, Skipped
from mailfleet.tinymail import ERR_CHECK, ERR_OTHER, SUCCESS, code_of
from mailfleet_schema.dialects import POSTGRESQL
from mailfleet_schema.tables import tables_of
from mailfleet_workers.catcher import Action, Default, Event, Say, Step
from tests.services.virtual_host import VirtualHost
from tests.stage import Stage, letters
from tests.waiting import wait_until

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(180)]

APP, ADA = "billing", "ada@example.net"
TRY_NEXT_S = 3
NOT_NOW = Say(451, "4.3.0 a mock of ours")


class Server:
    """Refuses for now: mails with `always-fail` in their subject always, those with `fail-once` the first time."""

    def __init__(self) -> None:
        self._seen: Counter[str] = Counter()

    def __call__(self, event: Event) -> Action:
        if event.step is not Step.EOD:
            return Default()
        subject = str(message_from_bytes(event.message)["Subject"])
        self._seen[subject] += 1
        if "always-fail" in subject or ("fail-once" in subject and self._seen[subject] == 1):
            return NOT_NOW
        return Default()


@pytest.fixture
def stage(tmp_path: Path, migrated_url: str, rabbitmq: VirtualHost) -> Iterator[Stage]:
    ours = {
        f"APPS__{APP.upper()}__IMPORT": "tests.stage.letters",
        "TIMING__TRY_NEXT_S": str(TRY_NEXT_S),
    }
    with Stage(tmp_path, migrated_url, rabbitmq.url, script=Server(), settings=ours) as stage:
        stage.parent(APP, "--processes", "2", environ=letters.environ(tmp_path), ready=2)
        yield stage


@pytest.fixture
def mailer(stage: Stage) -> Mailer:
    return stage.mailer(APP)


def mail(subject: str, **more: Any) -> Mail:
    return Mail(**{"to": [ADA], "subject": subject, "text": "Hello", **more})


def lazy(subject: str, name: str, parameter: str) -> Mail:
    return mail(subject, text=None, lazy=Lazy(name, parameter))


def sums(stage: Stage, mail_id: int) -> tuple[str, int, int, int]:
    """State, and how often it was sent, failed, done."""
    (row,) = stage.rows("state", "sum_send", "sum_fail", "sum_done", ids=[mail_id])
    return row.state, row.sum_send, row.sum_fail, row.sum_done


def body(stage: Stage, mail_id: int) -> str | None:
    table = tables_of(POSTGRESQL).mail_content
    with stage.engine.connect() as connection:
        found = connection.execute(table.select().where(table.c.mail_id == mail_id)).one()
    return None if found.text is None else str(found.text)


def wait_sums(stage: Stage, mail_id: int, *expected: object) -> None:
    wait_until(lambda: sums(stage, mail_id) == expected, 60, lambda: str(sums(stage, mail_id)))


@pytest.mark.tinymail("T12", "D20")
def test_a_saved_mail_and_its_end(stage: Stage, mailer: Mailer) -> None:
    """T12a: stored with all sums at 0, and nobody's until it is emitted; then sent with 1/0/1."""
    draft = mailer.save(mail("one"))
    (row,) = stage.rows("state", "sent_at", "last_text", ids=[draft])
    assert (row.state, row.sent_at, row.last_text) == ("draft", None, None)
    assert sums(stage, draft) == ("draft", 0, 0, 0)

    mailer.emit(mail("a later one is sent, and the draft stays"))
    stage.wait_states({"draft": 1, "sent": 1}, 30)
    mailer.emit(draft)

    wait_sums(stage, draft, "sent", 1, 0, 1)
    assert stage.rows("sent_at", ids=[draft])[0].sent_at is not None


@pytest.mark.tinymail("T12", "8", "20", "55", "D23")
def test_five_mails(stage: Stage, mailer: Mailer, rabbitmq: VirtualHost) -> None:
    """T12b to T12d: what each of five is after its first try, after all tries, and that nothing is left in any queue.

    Where a renderer fails, TinyMail gives the mail up; here it is tried again.
    """
    always, once, moody, rendered, plain = (
        mailer.save(one)
        for one in (
            mail("always-fail"),
            mail("fail-once"),
            lazy("lazy moody", "moody-letter", "Moody"),
            lazy("lazy", "letter", "Ada"),
            mail("plain"),
        )
    )
    for failing in (always, once, moody):
        with pytest.raises(RetryScheduled):
            mailer.send(failing, retry=True)
        state, sent, failed, done = sums(stage, failing)
        assert (state, done) == ("queued", 0)
        assert sent == failed >= 1
    assert body(stage, moody) is None
    for good in (rendered, plain):
        assert isinstance(mailer.send(good, retry=True), Sent)
        assert sums(stage, good) == ("sent", 1, 0, 1)
    assert body(stage, rendered) == "Dear Ada"

    wait_sums(stage, always, "failed", 3, 3, 0)
    wait_sums(stage, once, "sent", 2, 1, 1)
    wait_sums(stage, moody, "sent", 2, 1, 1)
    assert stage.rows("reason", ids=[always])[0].reason == "max_fail"
    assert stage.rows("last_text", ids=[always])[0].last_text == NOT_NOW.text
    assert stage.rows("reason", ids=[once])[0].reason is None
    assert [sums(stage, good) for good in (rendered, plain)] == [("sent", 1, 0, 1)] * 2
    assert stage.copies() == {"fail-once": 1, "lazy moody": 1, "lazy": 1, "plain": 1}
    # Counts of the management API are some seconds old.
    wait_until(
        lambda: all(queue["messages"] == 0 for queue in rabbitmq.management.queues()),
        30,
        lambda: str([(queue["name"], queue["messages"]) for queue in rabbitmq.management.queues()]),
    )


@pytest.mark.tinymail("T12", "7", "8", "69")
def test_one_mail_asked_for_again_and_again(stage: Stage, mailer: Mailer) -> None:
    """T12e: a lazy mail without retry: its renderer fails, its server fails, it is sent, it is left, it is forced: 4/2/2."""
    moody = mailer.save(lazy("lazy fail-once", "moody-letter", "Eve"))
    steps = [
        (Failed, ERR_OTHER, ("failed", 1, 1, 0)),
        (Failed, ERR_OTHER, ("failed", 2, 2, 0)),
        (Sent, SUCCESS, ("sent", 3, 2, 1)),
        (Skipped, ERR_CHECK, ("sent", 3, 2, 1)),
    ]
    for kind, code, expected in steps:
        answer = mailer.post(moody, retry=False)
        assert isinstance(answer, kind), answer
        assert code_of(answer) == code
        assert sums(stage, moody) == expected
    forced = mailer.post(moody, retry=False, force=True)

    assert isinstance(forced, Sent)
    assert sums(stage, moody) == ("sent", 4, 2, 2)
    assert body(stage, moody) == "Dear Eve"
    assert stage.copies() == {"lazy fail-once": 2}
