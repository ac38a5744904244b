"""The example applications on a real fleet: mail goes with the transaction, and arrives though the application is killed."""

import contextlib
from collections.abc import Iterator
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from http.client import HTTPException
from pathlib import Path
from typing import Any

import pytest

from tests.integration.examples.running import Running, running
from tests.services.virtual_host import VirtualHost
from tests.stage import Stage
from tests.waiting import wait_until


@pytest.fixture(scope="module")
def stage(directory: Path, database_url: str, virtual_host: VirtualHost) -> Iterator[Stage]:
    with Stage(directory, database_url, virtual_host.url) as stage:
        stage.parent("billing", "shop", "--processes", "1", ready=2)
        yield stage


@pytest.fixture(scope="module")
def billing(stage: Stage) -> Iterator[Running]:
    with running("billing", stage) as application:
        yield application


@pytest.fixture(scope="module")
def shop(stage: Stage) -> Iterator[Running]:
    with running("shop", stage) as application:
        yield application


def arrived(stage: Stage, recipient: str, count: int = 1) -> list[EmailMessage]:
    """What the server has taken for *recipient*, once there are so many."""

    def found() -> list[EmailMessage]:
        taken = [one for one in stage.sink.store.receipts() if recipient in str(one.recipients)]
        return [message_from_bytes(one.message, _class=EmailMessage, policy=default) for one in taken]

    wait_until(lambda: len(found()) >= count, 30, lambda: f"{len(found())} of {count} for {recipient}")
    return found()


def told(application: Running, path: str, state: str) -> dict[str, Any]:
    """What the application says of the mail, once it is in *state*."""
    wait_until(lambda: application.ask("GET", path)[1]["mail"]["state"] == state, 30, lambda: state)
    answer: dict[str, Any] = application.ask("GET", path)[1]
    return answer


def test_an_invoice_and_its_mail(stage: Stage, billing: Running) -> None:
    """The mail arrives with its attachment, and the application knows that it did."""
    status, answer = billing.ask("POST", "/invoices", {"customer": "ada@example.net", "cents": 1900})
    assert status == 201
    number = answer["number"]
    (mail,) = arrived(stage, "ada@example.net")
    (table,) = mail.iter_attachments()

    assert (mail["Subject"], mail["From"]) == (f"Invoice {number}", "Billing <billing@billing.example>")
    assert table.get_payload(decode=True) == f"number,euros\n{number},19.00\n".encode()
    assert told(billing, f"/invoices/{number}", "sent") == {
        "number": number,
        "customer": "ada@example.net",
        "cents": 1900,
        "mail": {"state": "sent", "reason": None},
    }


def test_an_invoice_that_is_rolled_back(stage: Stage, billing: Running) -> None:
    """What is refused after the mail was written leaves neither; what mailfleet refuses leaves no invoice."""
    before = stage.rows("id")
    status, _ = billing.ask("POST", "/invoices", {"customer": "poor@example.net", "cents": 500_001})
    wrong, answer = billing.ask("POST", "/invoices", {"customer": "no address", "cents": 1})

    assert (status, wrong) == (409, 422)
    assert answer["detail"].startswith("to:")
    assert stage.rows("id") == before
    status, answer = billing.ask("POST", "/invoices", {"customer": "poor@example.net", "cents": 1})
    assert status == 201
    assert [one["Subject"] for one in arrived(stage, "poor@example.net")] == [f"Invoice {answer['number']}"]


def test_an_order_and_its_mail(stage: Stage, shop: Running) -> None:
    """On Django's own connection, in its transaction; and Django's own mail goes the same way."""
    status, answer = shop.ask("POST", "/orders", {"customer": "bob@example.net", "article": "a lamp"})
    assert status == 201
    number = answer["number"]
    assert told(shop, f"/orders/{number}", "sent")["mail"] == {"state": "sent", "reason": None}
    assert shop.ask("POST", f"/orders/{number}/thank") == (200, {"messages": 1})
    confirmation, thanks = arrived(stage, "bob@example.net", 2)

    assert confirmation["Subject"] == f"Your order {number}"
    assert (thanks["Subject"], thanks["From"]) == (f"Thanks for order {number}", "Shop <orders@shop.example>")
    html = thanks.get_body(("html",))
    assert html is not None
    assert "<b>first</b>" in html.get_content()
    assert [one.get_filename() for one in thanks.iter_attachments()] == ["voucher.txt"]


def test_an_order_that_is_rolled_back(stage: Stage, shop: Running) -> None:
    """A constraint that fails after the mail was written, and an address that mailfleet refuses, leave neither."""
    with stage.engine.begin() as connection:
        connection.exec_driver_sql("INSERT INTO django_shop_stock (article, pieces) VALUES ('a kettle', 1)")
    before = stage.rows("id")
    order = {"customer": "eve@example.net", "article": "a kettle"}
    assert shop.ask("POST", "/orders", order)[0] == 201
    assert shop.ask("POST", "/orders", order)[0] == 409
    assert shop.ask("POST", "/orders", order | {"customer": "no address"})[0] == 422

    arrived(stage, "eve@example.net")
    assert len(stage.rows("id")) == len(before) + 1
    with stage.engine.begin() as connection:
        orders = connection.exec_driver_sql(
            "SELECT count(*) FROM django_shop_order WHERE article = 'a kettle'"
        ).scalar_one()
    assert orders == 1


@pytest.mark.parametrize(
    ("name", "path", "order"),
    [("billing", "/invoices", {"cents": 100}), ("shop", "/orders", {"article": "two chairs"})],
)
def test_an_application_that_is_killed(stage: Stage, name: str, path: str, order: dict[str, Any]) -> None:
    """Killed between the commit and the hint, it has lost nothing: the mail arrives once."""
    recipient = f"killed-{name}@example.net"
    with running(name, stage, {"MAILFLEET_FAILPOINTS": "in_publish=kill"}) as doomed:
        # The answer and the kill race.
        with contextlib.suppress(OSError, HTTPException):
            doomed.ask("POST", path, {"customer": recipient} | order)
        assert doomed.process.wait(30) == -9

    assert len(arrived(stage, recipient)) == 1
    wait_until(lambda: all(row.state == "sent" for row in stage.rows("state")), 30, lambda: "all sent")
    assert len(arrived(stage, recipient)) == 1
