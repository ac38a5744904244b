"""What TinyMail says that it has not tested, on a fleet: waits, rules, parts of batches, hooks, copies, forced recipients, headers."""

from collections.abc import Iterator, Mapping
from email import message_from_bytes
from email.message import Message
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from mailfleet import Failed, Mail, Pending, Retry, Sent, Skipped
from mailfleet.results import Result
from mailfleet_workers.catcher import Action, Default, Event, Say, Step
from tests.services.virtual_host import VirtualHost
from tests.stage import Stage, letters
from tests.waiting import wait_until

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(180)]

APP, ADA, BOB = "billing", "ada@example.net", "bob@example.net"


class Server:
    """Answers the dot by the subject, as `replies` has it, and every MAIL with `busy`, if that is something."""

    def __init__(self) -> None:
        self.replies: Mapping[str, Say] = {}
        self.busy: Say | None = None

    def __call__(self, event: Event) -> Action:
        if event.step is Step.MAIL and self.busy is not None:
            return self.busy
        if event.step is not Step.EOD:
            return Default()
        subject = str(message_from_bytes(event.message)["Subject"])
        return self.replies.get(subject, Default())


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def settings() -> dict[str, str]:
    """What one test needs beside the stage's own, as a parameter."""
    return {}


@pytest.fixture
def stage(
    tmp_path: Path, migrated_url: str, rabbitmq: VirtualHost, server: Server, settings: dict[str, str]
) -> Iterator[Stage]:
    ours = {f"APPS__{APP.upper()}__IMPORT": "tests.stage.letters", **settings}
    with Stage(tmp_path, migrated_url, rabbitmq.url, script=server, settings=ours) as stage:
        stage.parent(APP, "--processes", "2", environ=letters.environ(tmp_path), ready=2)
        yield stage


def with_settings(**settings: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("settings", [settings], ids=[" ".join(settings)])


def mail(subject: str, **more: Any) -> Mail:
    return Mail(**{"to": [ADA], "subject": subject, "text": "Hello", **more})


def rows(stage: Stage, *ids: int) -> list[Any]:
    found = stage.rows(
        "id", "state", "reason", "sum_send", "sum_fail", "sum_done", "waits", "last_code", ids=ids
    )
    by_id = {row.id: row for row in found}
    return [by_id[mail_id] for mail_id in ids]


def messages(stage: Stage) -> list[tuple[tuple[str, ...], Message]]:
    return [(one.recipients, message_from_bytes(one.message)) for one in stage.sink.store.receipts()]


@pytest.mark.tinymail("U1", "27", "28", "D6")
def test_an_account_waits(stage: Stage, server: Server) -> None:
    """One reply makes all processes wait; what waits says so and has used up no try."""
    server.busy = Say(421, "4.7.0 Too many messages, frequency limited")
    mailer = stage.mailer(APP)
    first = mailer.post(mail("first"))
    assert isinstance(first, Pending), first
    server.busy = None

    behind: list[Result] = []

    def all_wait() -> bool:
        # The other process hears of it with its next pass.
        behind[:] = [mailer.post(mail("behind")) for _ in range(8)]
        return {type(answer) for answer in behind} == {Pending}

    wait_until(all_wait, 20, lambda: str(behind))
    found = rows(stage, *(answer.mail_id for answer in behind if isinstance(answer, Pending)))
    assert all((row.sum_send, row.sum_fail) == (0, 0) and row.reason.startswith("wait") for row in found)
    taken = stage.copies()
    assert isinstance(mailer.post(mail("one more")), Pending)
    assert stage.copies() == taken


@pytest.mark.tinymail("U3", "26", "21")
@pytest.mark.parametrize(
    ("reply", "state", "fails"),
    [
        (Say(550, "5.1.1 No such user here"), "failed", 1),
        (Say(502, "Invalid input from 127.0.0.1 to somewhere"), "failed", 1),
        (Say(451, "4.3.0 Try again later"), "queued", 1),
    ],
    ids=["550", "502", "451"],
)
def test_rules_for_errors(stage: Stage, server: Server, reply: Say, state: str, fails: int) -> None:
    """The reply's code and text decide: for good, or for a while; other mail goes on."""
    server.replies = {"judged": reply}
    judged = stage.mailer(APP).post(mail("judged"))
    assert isinstance(judged, Failed | Retry), judged

    assert isinstance(stage.mailer(APP).post(mail("other")), Sent)
    (row,) = rows(stage, judged.mail_id)
    assert (row.state, row.sum_fail, row.last_code) == (state, fails, reply.code)


@pytest.mark.tinymail("U4", "39", "D2")
def test_a_batch_of_which_a_part_fails(stage: Stage, server: Server) -> None:
    """Each of ten has its own end: one is refused for good, one for now, eight are sent, once."""
    server.replies = {"mail 3": Say(554, "5.7.1 Spam"), "mail 7": Say(451, "4.3.0 Try again later")}

    answers = stage.mailer(APP).post_many([mail(f"mail {number}") for number in range(10)])

    kinds = [Failed if number == 3 else Retry if number == 7 else Sent for number in range(10)]
    assert [type(answer) for answer in answers] == kinds
    assert stage.copies() == {f"mail {number}": 1 for number in range(10) if number not in {3, 7}}


@pytest.mark.tinymail("U8", "15")
@with_settings(RUN_MODE="test")
def test_run_modes(stage: Stage) -> None:
    """Mails vote on the run mode, when they are stored and when they are claimed; what is not sent says why."""
    votes = {("test",): True, ("!test", "test"): False, ("product",): False, ("!product",): True, (): True}
    mailer = stage.mailer(APP)
    answers = mailer.post_many([mail(" ".join(modes), run_modes=modes) for modes in votes])

    assert [type(answer) for answer in answers] == [Sent if vote else Skipped for vote in votes.values()]
    for answer in answers:
        if isinstance(answer, Skipped):
            assert answer.reason.startswith("condition: run mode")
    # Nobody was hinted: a reconciler finds them, and the worker's vote is the last word.
    stage.wait_states({"sent": 3, "failed": 2}, 60)
    left = [answer.mail_id for answer in answers if isinstance(answer, Skipped)]
    assert all(row.reason.startswith("condition: run mode") for row in rows(stage, *left))


@pytest.mark.tinymail("U9", "24", "D1")
def test_a_hook_that_stops(stage: Stage, server: Server) -> None:
    """A mail that would be tried again is not, because its application said so."""
    server.replies = dict.fromkeys(("stopped", "other"), Say(451, "4.3.0 Try again later"))
    mailer = stage.mailer(APP)
    stopped = mailer.post(mail("stopped", mark=letters.STOPPED))
    other = mailer.post(mail("other", mark="another mark"))

    assert isinstance(stopped, Failed), stopped
    assert isinstance(other, Retry), other
    found = rows(stage, stopped.mail_id, other.mail_id)
    assert [(row.state, row.sum_fail) for row in found] == [("failed", 1), ("queued", 1)]
    assert found[0].reason == "stop: hook"


@pytest.mark.tinymail("U10", "22")
@with_settings(TIMING__TRY_NEXT_S="1")
def test_several_copies(stage: Stage) -> None:
    """Three copies, a second apart, each with a Message-ID of its own."""
    stage.mailer(APP).emit(mail("copies", max_done=3))

    stage.wait_states({"sent": 1}, 60)
    times = stage.arrivals()["copies"]
    assert len(times) == 3
    assert all(later - earlier >= 1 for earlier, later in pairwise(times))
    assert len({message["Message-ID"] for _, message in messages(stage)}) == 3


@pytest.mark.tinymail("U11", "45", "D34")
@with_settings(DELIVERY="redirect", OUTGOING__REDIRECT_TO="qa@example.com", OUTGOING__FORCE_PREFIX="[QA]")
def test_redirected_mail(stage: Stage) -> None:
    """Nobody real gets it, neither To, Cc nor Bcc; the prefix is in its subject."""
    sent = stage.mailer(APP).send(mail("Hello", cc=[BOB], bcc=["carol@example.net"]))

    assert isinstance(sent, Sent)
    ((recipients, message),) = messages(stage)
    assert (recipients, message["Subject"]) == (("qa@example.com",), "[QA] Hello")
    assert "carol@example.net" not in message.as_string()


@pytest.mark.tinymail("U12", "46", "D33")
def test_headers_to_find_it_by(stage: Stage) -> None:
    """Id and mark, whatever script the mark is in; a line break never gets into one."""
    mailer = stage.mailer(APP)
    sent = mailer.send(mail("Hello", mark="Frühling 2026"))
    wrong = mailer.post(mail("Hello", mark="spring\r\nBcc: eve@example.com"))

    ((_, message),) = messages(stage)
    assert message["X-Biz-Id"] == str(sent.mail_id)
    wait_until(lambda: getattr(wrong, "field", "") == "mark", 1, lambda: str(wrong))
