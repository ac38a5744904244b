"""Templates: what their headers mean, how rows are put into them, and what a hostile value cannot do."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailfleet.errors import InvalidMail
from mailfleet.mail import Mail
from mailfleet.validation import validate
from mailfleet_workers.cli.failure import Failure
from mailfleet_workers.cli.sending.template import HEADERS, Template, moment_of, parse_template

LETTER = """\
# For the autumn.
From: Billing <billing@example.com>
To: ${name} <${email}>,
  "Archive, all" <archive@example.com>
Cc: ${manager}
Reply-To: ${email}
Subject: Invoice $number: $$ ${sum}
Account: default
Priority: high
Due-At: 2031-10-05T08:00+02:00
Key: invoice-${number}
Mark: autumn
Tag: ${tag}
Tag: b
Unsubscribe: https://example.com/u?id=${number}
X-Campaign: ${tag}
Header: Auto-Submitted: auto-generated

Dear ${name},

you owe us $$ ${sum}.
"""
ROW = {
    "name": "Ada, Countess",
    "email": "ada@example.net",
    "manager": "",
    "number": "17",
    "sum": "12.50",
    "tag": "a",
    "first name": "Ada",
}


def parsed(text: str, folder: Path = Path()) -> Template:
    return parse_template(text, "letter.txt", folder)


def filled(text: str, folder: Path = Path(), **changes: str) -> Mail:
    return parsed(text, folder).mail(ROW | changes, moment_of)


def check(mail: Mail) -> None:
    validate(mail, new_message_id=lambda: "<1@x.example>", now=datetime(2026, 1, 1, tzinfo=UTC))


def test_letter() -> None:
    """Each header becomes its field, filled in with the row's values."""
    mail = filled(LETTER)

    assert mail == Mail(
        from_=("Billing", "billing@example.com"),
        to=[("Ada, Countess", "ada@example.net"), ("Archive, all", "archive@example.com")],
        cc=[],
        reply_to=["ada@example.net"],
        subject="Invoice 17: $ 12.50",
        text="Dear Ada, Countess,\n\nyou owe us $ 12.50.\n",
        account="default",
        priority="high",
        due_at=datetime.fromisoformat("2031-10-05T08:00+02:00"),
        idempotency_key="invoice-17",
        mark="autumn",
        tags=["a", "b"],
        list_unsubscribe=["https://example.com/u?id=17"],
        headers=[("X-Campaign", "a"), ("Auto-Submitted", "auto-generated")],
        attachments=[],
        inline=[],
    )
    check(mail)


def test_columns_are_known_with_their_lines() -> None:
    """Every column is listed with the line that names it first."""
    first: dict[str, int] = {}
    for name, _, line in parsed(LETTER).columns():
        first.setdefault(name, line)

    assert set(first) == {"name", "email", "manager", "number", "sum", "tag"}
    assert (first["manager"], first["tag"]) == (5, 13)


def test_files(tmp_path: Path) -> None:
    """Files are relative to the template; HTML is filled in, with values escaped."""
    (tmp_path / "letter.html").write_text("<p>Dear ${name}</p>")
    (tmp_path / "logo.png").write_bytes(b"PNG")
    (tmp_path / "pdf").mkdir()
    (tmp_path / "pdf" / "17.pdf").write_bytes(b"PDF")
    text = "To: ${email}\nHtml-File: letter.html\nInline: logo=logo.png\nAttach: pdf/${number}.pdf; filename=Bill ${number}.pdf\n"
    mail = filled(text, tmp_path, name="<b>&Co</b>")

    assert mail.html == "<p>Dear &lt;b&gt;&amp;Co&lt;/b&gt;</p>"
    assert mail.text is None
    assert [(one.filename, one.content) for one in mail.attachments] == [("Bill 17.pdf", b"PDF")]
    assert [(one.content_id, one.content) for one in mail.inline] == [("logo", b"PNG")]
    check(mail)


@pytest.mark.parametrize(
    "number", ["../secret", "../pdf/../secret", "/etc/hostname", "x/../../secret", "a\0b"]
)
def test_value_cannot_lead_out_of_the_folder(tmp_path: Path, number: str) -> None:
    """A value in a path names a file below the folder that the template named, whatever it is."""
    (tmp_path / "pdf").mkdir()
    (tmp_path / "secret.pdf").write_bytes(b"secret")
    with pytest.raises(InvalidMail) as caught:
        filled("To: a@example.net\nAttach: pdf/${number}.pdf\n\nx", tmp_path, number=number)

    assert caught.value.field == "attachments[0]"


def test_link_cannot_lead_out_of_the_folder(tmp_path: Path) -> None:
    """A symbolic link that a value names is followed before it is judged."""
    (tmp_path / "pdf").mkdir()
    (tmp_path / "secret.pdf").write_bytes(b"secret")
    (tmp_path / "pdf" / "17.pdf").symlink_to(tmp_path / "secret.pdf")
    with pytest.raises(InvalidMail, match="outside"):
        filled("To: a@example.net\nAttach: pdf/${number}.pdf\n\nx", tmp_path)


def test_template_itself_may_name_any_file(tmp_path: Path) -> None:
    """Without a placeholder the path is the template's own word."""
    (tmp_path / "terms.txt").write_bytes(b"terms")
    (tmp_path / "here").mkdir()

    assert (
        filled("To: a@example.net\nAttach: ../terms.txt\n\nx", tmp_path / "here").attachments[0].content
        == b"terms"
    )


@given(value=st.text(max_size=60))
def test_value_never_adds_a_recipient_or_a_header(value: str) -> None:
    """Whatever a row says, a mail that passes the checks goes to the addresses that the template has, with its headers."""
    text = "To: ${name} <ada@example.net>\nSubject: for ${name}\nX-Name: n ${name}\n\nDear ${name}"
    mail = filled(text, name=value)
    try:
        checked = validate(mail, new_message_id=lambda: "<1@x.example>", now=datetime(2026, 1, 1, tzinfo=UTC))
    except InvalidMail:
        return

    assert checked.content.recipients() == ("ada@example.net",)
    assert [name for name, _ in checked.content.headers] == ["X-Name"]


@given(value=st.text(max_size=60))
def test_value_is_at_most_one_recipient(value: str) -> None:
    """A column that stands for a whole mailbox is one at most; an empty one is left out."""
    mail = filled("To: ${email}\nCc: c@example.net\n\nx", email=value)
    try:
        checked = validate(mail, new_message_id=lambda: "<1@x.example>", now=datetime(2026, 1, 1, tzinfo=UTC))
    except InvalidMail:
        return

    assert len(checked.content.to) == (1 if value.strip() else 0)


WRONG = {
    "unknown header": (
        "To: a@b.example\nSubjct: x\n\nx",
        "letter.txt line 2: unknown header Subjct (did you mean subject?)",
    ),
    "no header": ("To: a@b.example\nhello\n\nx", "letter.txt line 2: expected `Header: value`"),
    "twice": (
        "To: a@b.example\nSubject: x\nSubject: y\n\nx",
        "letter.txt line 3: subject is in line 2 already",
    ),
    "single dollar": ("To: a@b.example\n\nit is\n$5", "letter.txt line 4: a $ that begins no ${column}"),
    "open brace": ("To: a@b.example\n\nDear ${name", "letter.txt line 3: a $ that begins no ${column}"),
    "no body": ("To: a@b.example\nSubject: x\n", "letter.txt: there is no text"),
    "no recipient": ("Subject: x\n\nx", "letter.txt: there is no To, Cc or Bcc"),
    "two senders": (
        "From: a@b.example, c@d.example\nTo: a@b.example\n\nx",
        "letter.txt line 1: From: expected one",
    ),
    "inline without a name": (
        "To: a@b.example\nInline: logo.png\n\nx",
        "letter.txt line 2: Inline: expected cid=path",
    ),
    "header without a name": ("To: a@b.example\nHeader: x\n\nx", "letter.txt line 2: Header: expected"),
    "no such file": (
        "To: a@b.example\nHtml-File: none.html\n\nx",
        "letter.txt line 2: none.html cannot be read",
    ),
}


@pytest.mark.parametrize(("text", "message"), WRONG.values(), ids=WRONG.keys())
def test_mistake_in_a_template(text: str, message: str) -> None:
    """A mistake is named with file and line before any row is looked at."""
    with pytest.raises(Failure) as caught:
        parsed(text)

    assert str(caught.value).startswith(message)


def test_columns_may_have_any_name() -> None:
    """Between braces a column's name may have blanks and any letters; a byte order mark and CRLF do no harm."""
    assert filled("To: a@b.example\r\n\r\nDear ${first name}\r\n").text == "Dear Ada\n"


def test_time_without_a_zone_is_local() -> None:
    """A time without a zone gets the local one; nonsense is named."""
    assert moment_of("2031-10-05T08:00", "due_at").utcoffset() is not None
    with pytest.raises(InvalidMail, match="due_at: expected a time such as"):
        moment_of("tomorrow", "due_at")


def test_documentation_names_every_header() -> None:
    """`docs/sending.md` has each header that a template may have."""
    page = (Path(__file__).parents[3] / "docs" / "sending.md").read_text()

    assert [name for name in HEADERS if f"`{name.title()}`" not in page] == []
