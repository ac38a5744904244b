"""Lazy mail in a fleet: real worker processes load the app's module, and will not start with a broken one."""

from collections.abc import Iterator
from email import message_from_bytes
from email.policy import default as default_policy
from pathlib import Path

import pytest

from mailfleet import Lazy, Mail
from mailfleet_schema.statements.mail_template import add_template
from tests.services.virtual_host import VirtualHost
from tests.stage import Stage
from tests.waiting import wait_until

APP = "billing"
MODULE = """
import os
from mailfleet import Attachment, CannotRender, Rendered, renderer

@renderer("invoice")
def invoice(parameter):
    if parameter is None:
        raise CannotRender("no number")
    return Rendered(f"Invoice {parameter}", f"by {os.getpid()}", attachments=[Attachment("a.txt", b"file")])
"""


@pytest.fixture(scope="module")
def stage(directory: Path, database_url: str, virtual_host: VirtualHost) -> Iterator[Stage]:
    (directory / "billing_mails.py").write_text(MODULE)
    (directory / "broken_mails.py").write_text("raise RuntimeError('no licence')\n")
    with Stage(directory, database_url, virtual_host.url) as stage:
        yield stage


@pytest.mark.tinymail("55", "M6", "D23")
def test_workers_render(stage: Stage) -> None:
    """By the app's function and by a template, in a worker and not here; what cannot be rendered fails visibly."""
    settings = {"MAILFLEET_APPS__BILLING__IMPORT": "billing_mails"}
    parent = stage.parent(APP, "--processes", "1", environ=settings, ready=1)
    with stage.engine.begin() as connection:
        add_template(connection, APP, "welcome", subject="Welcome {{ name }}", text="x", html=None)
    mailer = stage.mailer(APP)
    for lazy in (
        Lazy("invoice", 17),
        Lazy("jinja2", {"template": "welcome", "data": {"name": "Ada"}}),
        Lazy("invoice"),
        Lazy("nobody"),
    ):
        mailer.emit(Mail(to="ada@example.net", lazy=lazy))
    stage.wait_states({"sent": 2, "failed": 2}, 60)
    assert stage.copies() == {"Invoice 17": 1, "Welcome Ada": 1}
    assert {row.reason for row in stage.rows("reason")} == {
        None,
        "render: CannotRender: no number",
        "render: no renderer 'nobody' is registered",
    }
    (invoice,) = (
        message
        for receipt in stage.sink.store.receipts()
        if (message := message_from_bytes(receipt.message, policy=default_policy))["Subject"] == "Invoice 17"
    )
    body = invoice.get_body(("plain",))
    assert body is not None
    assert body.get_content().strip() == f"by {parent.children()[0]}"
    assert parent.stop() == 0


@pytest.mark.tinymail("55")
def test_a_broken_module_stops_the_start(stage: Stage) -> None:
    """The setting, the module and what it raised are said, with its traceback for its author; no process becomes ready."""
    settings = {"MAILFLEET_APPS__BILLING__IMPORT": "broken_mails"}
    parent = stage.parent(APP, "--processes", "1", environ=settings)
    said = (
        "mailfleet worker billing: apps.billing.import: expected modules that can be imported,"
        " got 'broken_mails: RuntimeError: no licence'"
    )
    wait_until(lambda: said in parent.log and "broken_mails.py" in parent.log, 60, lambda: parent.log[-2000:])
    assert parent.events("child_ready") == []
