"""`mailfleet template` on both databases: versions are added, listed and shown; what is no template is refused."""

import pytest
from sqlalchemy import Engine

from tests.integration.cli.conftest import Command

pytestmark = pytest.mark.tinymail("55")


@pytest.fixture
def mails(engine: Engine, command: Command) -> Command:
    command.environ["MAILFLEET_DATABASE_URL"] = engine.url.render_as_string(hide_password=False)
    (command.directory / "bill.txt").write_text("Dear {{ name }},\n")
    (command.directory / "bill.html").write_text("<p>Dear {{ name }}</p>")
    (command.directory / "bad.txt").write_text("x\n{% if %}")
    return command


def test_versions(mails: Command) -> None:
    """Each `add` is the next version; the newest and any other can be shown."""
    text = str(mails.directory / "bill.txt")
    assert mails("template", "add", "billing", "bill", "--text-file", text).stdout == (
        "Template bill of billing has version 1 now.\n"
    )
    html = str(mails.directory / "bill.html")
    added = mails.json("template", "add", "billing", "bill", "--subject", "Bill {{ n }}", "--html-file", html)
    assert added == {"app": "billing", "name": "bill", "version": 2}
    (listed,) = mails.json("template", "list")["templates"]
    assert (listed["app"], listed["name"], listed["newest"]) == ("billing", "bill", 2)
    assert mails.json("template", "list", "--app", "crm")["templates"] == []
    newest = mails.json("template", "show", "billing", "bill")
    assert (newest["version"], newest["subject"], newest["text"]) == (2, "Bill {{ n }}", None)
    assert newest["versions"] == [2, 1]
    shown = mails("template", "show", "billing", "bill", "--version", "1").stdout
    assert "billing/bill, version 1 of 2" in shown
    assert "Dear {{ name }}," in shown


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["billing", "bill", "--text-file", "bad.txt"], "text: line 2: Expected an expression"),
        (["billing", "bill", "--text-file", "bill.txt", "--subject", "{{"], "subject: line 1: unexpected"),
        (["billing", "bill"], "text: expected text or html, got neither"),
        (["billing", "../x", "--text-file", "bill.txt"], "name: expected a letter"),
        (["Billing", "bill", "--text-file", "bill.txt"], "app: expected "),
        (["billing", "bill", "--text-file", "nothing.txt"], "--text-file: "),
    ],
)
def test_what_is_refused(mails: Command, arguments: list[str], said: str) -> None:
    """In one line that names the option or part; nothing is written."""
    paths = [str(mails.directory / one) if one.endswith(".txt") else one for one in arguments]
    done = mails("template", "add", *paths, status=2)
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert mails.json("template", "list")["templates"] == []
    assert (
        "app billing has no template 'bill'" in mails("template", "show", "billing", "bill", status=2).stderr
    )
