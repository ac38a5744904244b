"""Lazy mail in one process: the page's own example, and TinyMail's tests of lazy mail."""

import re
import runpy
import sys
from collections.abc import Iterator
from email import message_from_bytes
from email.policy import default as default_policy
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from mailfleet import Lazy, Mail, Rendered, registry, renderer
from mailfleet.tinymail import code_of
from mailfleet_workers.catcher import Action, Default, Event, Say, Step
from mailfleet_workers.embedded import Embedded
from tests.integration.embedded.test_embedded import settings
from tests.packaging.layout import ROOT

PAGE = ROOT / "docs" / "lazy-mail.md"


@pytest.fixture(autouse=True)
def nothing_registered() -> Iterator[None]:
    registry.forget()
    yield
    registry.forget()
    sys.modules.pop("billing_mails", None)


@pytest.mark.tinymail("55")
def test_the_example_of_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It runs as it stands there: two mails are sent, one cannot be rendered, one parameter is refused."""
    for block in re.findall(r"```python\n(# (\w+\.py)\n.*?)```", PAGE.read_text(), re.DOTALL):
        (tmp_path / block[1]).write_text(block[0])
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    runpy.run_path(str(tmp_path / "send_invoices.py"))
    first, second, refused, last = capsys.readouterr().out.splitlines()
    assert first.startswith("Sent(")
    assert "render: CannotRender: there is no such invoice" in second
    assert refused.startswith("Invalid(")
    assert "expected type 'integer'" in refused
    assert last.startswith("Sent(")
    caught = sorted(path for path in (tmp_path / "data" / "caught").rglob("*.eml"))
    messages = [message_from_bytes(path.read_bytes(), policy=default_policy) for path in caught]
    assert {str(one["Subject"]) for one in messages} == {"Invoice 17", "Welcome, Ada & Charles"}


@pytest.mark.tinymail("55", "T12", "D23")
def test_a_lazy_mail_that_is_refused_once(tmp_path: Path) -> None:
    """TinyMail's T12e: failed without a retry, sent by id, refused beyond its copies, forced; rendered once in all."""
    calls: list[Any] = []

    @renderer("bill")
    def bill(parameter: Any) -> Rendered:
        calls.append(parameter)
        return Rendered(text=f"rendered {len(calls)}")

    refusals = iter([Say(451, "4.3.0 later")])

    def once(event: Event) -> Action:
        return next(refusals, Default()) if event.step is Step.EOD else Default()

    with Embedded(settings(tmp_path), apps=["billing"], script=once) as fleet:
        mailer = fleet.mailer("billing")
        mail = mailer.save(Mail(from_="billing@example.com", to="ada@example.net", lazy=Lazy("bill", 17)))
        codes = [
            code_of(mailer.post(mail, retry=False)),
            code_of(mailer.post(mail, retry=False)),
            code_of(mailer.post(mail)),
            code_of(mailer.post(mail, force=True)),
        ]
        with fleet.engine.connect() as connection:
            query = text(
                "SELECT sum_send, sum_fail, sum_done, text FROM mailfleet_mail JOIN mailfleet_mail_content ON mail_id = id"
            )
            stored = tuple(connection.execute(query).one())
    assert codes == [-2, 0, -1, 0]
    assert stored == (3, 1, 2, "rendered 1")
    assert calls == [17]
