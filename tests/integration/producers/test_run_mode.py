"""Mails that are not for this run mode, as an application with its own database stores them; a worker's part is played."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from mailfleet import AsyncMailer, Mailer, SendSkipped, Skipped
from mailfleet.tinymail import ERR_CHECK, code_of
from tests.integration.producers.databases import accept, mail, rows
from tests.unit.producers.brokers import MemoryBroker

pytestmark = pytest.mark.tinymail("15", "U8")

AGAINST = "condition: run mode: the mail is for product, this is test"


@pytest.fixture
def broker() -> MemoryBroker:
    return MemoryBroker()


@pytest.fixture
def mailer(engine: Engine, broker: MemoryBroker) -> Mailer:
    return Mailer("billing", engine=engine, broker=broker, run_mode="test")


def test_it_is_stored_and_hinted_to_nobody(mailer: Mailer, broker: MemoryBroker, engine: Engine) -> None:
    """The row says why, at once; a reconciler looks at it like at any other, and a worker has the last word."""
    with Session(engine) as session, session.begin():
        product, here = mailer.emit_many([mail(run_modes=["product"]), mail(run_modes=["!product"])], session)

    assert mailer.close()
    assert broker.ids == [here]
    first, second = rows(engine)
    assert (first.id, first.state, first.reason) == (product, "queued", AGAINST)
    assert (second.state, second.reason) == ("queued", None)
    assert first.look_at == second.look_at, "it is looked at like any other"
    assert mailer.status(product).reason == AGAINST
    assert accept(engine, product), "a worker of another mode may send it"
    assert rows(engine)[0].state == "sent"


def test_nobody_waits_for_it(mailer: Mailer, engine: Engine) -> None:
    """Whoever waits is told without waiting, and in TinyMail's number; the others of a batch are waited for."""
    answer = mailer.post(mail(run_modes=["product"]), 60)
    with pytest.raises(SendSkipped) as caught:
        mailer.send(mail(run_modes=["product"]), 60)

    first, second = rows(engine)
    assert answer == Skipped(first.id, "queued", AGAINST)
    assert code_of(answer) == code_of(caught.value) == ERR_CHECK
    assert (caught.value.mail_id, caught.value.state) == (second.id, "queued")
    one, other = mailer.post_many([mail(run_modes=["product"]), mail()], 0.05)
    assert isinstance(one, Skipped)
    assert not isinstance(other, Skipped)
    assert one.mail_id != other.mail_id  # type: ignore[union-attr]


async def test_nobody_waits_for_it_without_blocking(engine: Engine) -> None:
    """The same for coroutines."""
    async with AsyncMailer("billing", engine=engine, broker=MemoryBroker(), run_mode="test") as mailer:
        assert isinstance(await mailer.post(mail(run_modes=["product"]), 60), Skipped)


def test_a_later_time(mailer: Mailer, engine: Engine) -> None:
    """`auto` does not promise a time for it."""
    answer = mailer.auto(mail(run_modes=["product"], due_at=datetime.now(UTC) + timedelta(days=1)))

    assert answer == Skipped(rows(engine)[0].id, "queued", AGAINST)


def test_asked_for_by_its_id(mailer: Mailer, broker: MemoryBroker, engine: Engine) -> None:
    """That is a wish: it is hinted, and a worker votes."""
    product = mailer.emit(mail(run_modes=["product"]))

    assert mailer.emit(product) == product

    assert mailer.close()
    assert broker.ids == [product]


def test_edited(mailer: Mailer, broker: MemoryBroker, engine: Engine) -> None:
    """The vote is taken anew with what it says now, either way."""
    mail_id = mailer.emit(mail(run_modes=["product"]))

    version = mailer.edit(mail_id, mail(run_modes=["test"]), version=1)
    assert rows(engine)[0].reason is None
    assert mailer.close()
    assert broker.ids == [mail_id]
    mailer.edit(mail_id, mail(run_modes=["product"]), version=version)
    assert rows(engine)[0].reason == AGAINST
    assert mailer.close()
    assert broker.ids == [mail_id]
