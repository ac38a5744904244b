"""`send` and `scan` in the embedded mode: from arguments, a message, a table; what is caught, and what is said."""

import email
import email.policy
import json
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from pathlib import Path

import pytest

from mailfleet_schema.engine import open_engine, parse_url
from mailfleet_workers.catcher import DirectoryStore, Receipt
from mailfleet_workers.embedded import Embedded
from mailfleet_workers.settings import Settings
from tests.integration.cli.conftest import Command
from tests.integration.views.rows import Rows

NAMES = (
    "Ada Lovelace",
    "Юрий Долгорукий",
    "李清照",
    "فاطمة الفهرية",
    "मीराबाई",
    'O\'Brien, "C" <evil@example.org>',
)
SEND = ("send", "--from", "Billing <billing@example.com>", "--to", "Ada <ada@example.net>")
LETTER = (*SEND, "--subject", "Grüße", "--text", "hello $name")


def receipts(command: Command) -> list[tuple[Receipt, EmailMessage]]:
    """What the catching server has, in the order of arrival, parsed."""
    found = []
    for receipt in DirectoryStore(command.directory / "mailfleet-data" / "caught").receipts():
        message = email.message_from_bytes(receipt.message, policy=email.policy.default)
        assert isinstance(message, EmailMessage)
        found.append((receipt, message))
    return found


def body(message: EmailMessage, kind: str) -> str:
    part = message.get_body((kind,))
    assert part is not None
    return str(part.get_content())


def test_one_mail(command: Command) -> None:
    """A mail from options is sent while the command runs; the outcome is a line, and where the mail is."""
    result = command(*LETTER, "--cc", "bob@example.net", "--bcc", "eve@example.net", "--app", "billing")
    [(receipt, message)] = receipts(command)

    assert "250 2.0.0 Ok: queued as 1" in result.stdout
    assert "1 sent." in result.stdout
    assert "Nothing left this machine: the mails are in mailfleet-data/caught." in result.stdout
    assert receipt.recipients == ("ada@example.net", "bob@example.net", "eve@example.net")
    assert message["From"] == "Billing <billing@example.com>"
    assert (message["To"], message["Cc"], message["Bcc"]) == (
        "Ada <ada@example.net>",
        "bob@example.net",
        None,
    )
    assert message["Subject"] == "Grüße"
    assert body(message, "plain").rstrip() == "hello $name"
    assert command.json("list")["mails"][0]["app"] == "billing"


def test_files_of_one_mail(command: Command) -> None:
    """Text, HTML, attachments and inline images come from files."""
    for name, data in (
        ("a.txt", "grüße"),
        ("a.html", '<img src="cid:logo">'),
        ("a.pdf", "%PDF"),
        ("l.png", "PNG"),
    ):
        Path(name).write_text(data)
    command(
        *(
            "send",
            "--from",
            "a@example.com",
            "--to",
            "b@example.net",
            "--text-file",
            "a.txt",
            "--html-file",
            "a.html",
        ),
        *("--attach", "a.pdf", "--inline", "logo=l.png", "--json"),
    )
    [(_, message)] = receipts(command)
    parts = {part.get_filename(): part for part in message.walk() if part.get_filename()}

    assert body(message, "plain").rstrip() == "grüße"
    assert "cid:logo" in body(message, "html")
    assert parts["a.pdf"].get_content() == b"%PDF"
    assert parts["l.png"]["Content-ID"] == "<logo>"


def test_message_file(command: Command) -> None:
    """An .eml file is sent as it is meant."""
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "a@example.com", "Ada <ada@example.net>", "Grüße"
    message["X-Campaign"] = "autumn"
    message.set_content("hello\n")
    message.add_alternative("<p>hello</p>", subtype="html")
    Path("mail.eml").write_bytes(message.as_bytes())
    command("send", "--eml", "mail.eml", "--priority", "high")
    [(_, arrived)] = receipts(command)

    assert (arrived["Subject"], arrived["X-Campaign"]) == ("Grüße", "autumn")
    assert body(arrived, "html").rstrip() == "<p>hello</p>"
    assert command.json("list")["mails"][0]["priority"] == "high"


def write_campaign(count: int) -> None:
    Path("pdf").mkdir()
    lines = ["name;email;number"]
    for number in range(count):
        name = NAMES[number % len(NAMES)].replace('"', '""')
        lines.append(f'"{name}";p{number}@example.net;{number}')
        Path("pdf", f"{number}.pdf").write_text(f"%PDF {number}")
    Path("people.csv").write_text("\n".join(lines), encoding="utf-8-sig")
    Path("letter.html").write_text('<p>Dear ${name}<img src="cid:logo"></p>')
    Path("logo.png").write_text("PNG")
    Path("letter.txt").write_text(
        "From: Billing <billing@example.com>\nTo: ${name} <${email}>\nSubject: Invoice ${number}\n"
        "Html-File: letter.html\nInline: logo=logo.png\nAttach: pdf/${number}.pdf\nKey: invoice-${number}\n\n"
        "Dear ${name},\nyou owe us $$ ${number}.\n"
    )


def test_table(command: Command) -> None:
    """One mail for each row, with the row's own name, file and text; a repeated run sends nothing twice."""
    write_campaign(120)
    arguments = ("send", "--app", "billing", "--csv", "people.csv", "--template", "letter.txt")
    first = command.json(*arguments)
    arrived = {receipt.recipients[0]: message for receipt, message in receipts(command)}

    assert first["counts"] == {"sent": 120}
    assert set(arrived) == {f"p{number}@example.net" for number in range(120)}
    for number in range(len(NAMES)):
        message = arrived[f"p{number}@example.net"]
        assert message["To"].addresses[0].display_name == NAMES[number]
        assert body(message, "plain").split() == f"Dear {NAMES[number]}, you owe us $ {number}.".split()
        assert "<evil" not in body(message, "html")
        [attached] = message.iter_attachments()
        assert attached.get_content() == f"%PDF {number}".encode()
    again = command(*arguments)
    assert "120 sent." in again.stdout
    assert len(receipts(command)) == 120


def test_table_from_standard_input(command: Command) -> None:
    """The table may come through a pipe."""
    Path("letter.txt").write_text("From: a@example.com\nTo: ${email}\n\nhello")
    command("send", "--csv", "-", "--template", "letter.txt", stdin="email\nada@example.net\n")

    assert len(receipts(command)) == 1


def test_nothing_is_written_when_a_row_is_wrong(command: Command) -> None:
    """Every wrong row is named with row and field, and none is written, not even the right ones."""
    Path("letter.txt").write_text("From: a@example.com\nTo: ${email}\nKey: ${key}\nAttach: ${file}\n\nhello")
    Path("people.csv").write_text(
        "email,key,file\nada@example.net,1,letter.txt\nada.example.net,2,letter.txt\n"
        "bob@example.net,1,letter.txt\neve@example.net,3,none.txt\n"
    )

    assert command.complaints("send", "--csv", "people.csv", "--template", "letter.txt") == [
        "people.csv row 3: to[0]: the address has no @",
        "people.csv row 4: idempotency_key: '1' is that of people.csv row 2, which is another mail",
        "people.csv row 5: attachments[0]: there is no file none.txt",
        "3 of 4 mails are wrong; nothing was written",
    ]
    assert not Path("mailfleet-data").exists()


def test_many_mistakes_are_not_a_flood(command: Command) -> None:
    """Twenty lines show what a mistake in a thousand rows looks like."""
    Path("letter.txt").write_text("From: a@example.com\nTo: ${email}\n\nhello")
    Path("people.csv").write_text("email\n" + "nobody\n" * 1000)
    lines = command.complaints("send", "--csv", "people.csv", "--template", "letter.txt")

    assert lines[20:] == ["and 980 more", "1000 of 1000 mails are wrong; nothing was written"]


def test_missing_columns(command: Command) -> None:
    """A column that a template or a row lacks is named before anything is written."""
    Path("letter.txt").write_text("From: a@example.com\nTo: ${emial}\n\n${sum}")
    Path("people.csv").write_text("email,name\nada@example.net,Ada\n")
    arguments = ("send", "--csv", "people.csv", "--template", "letter.txt")

    assert command.complaints(*arguments) == [
        "letter.txt line 2: people.csv has no column 'emial' (did you mean email?)",
        "letter.txt line 4: people.csv has no column 'sum'",
        "its columns are email, name",
    ]
    Path("letter.txt").write_text("From: a@example.com\nTo: ${email}\n\n${name}")
    Path("people.csv").write_text("email,name\nada@example.net,Ada\nbob@example.net\n")
    assert command.complaints(*arguments) == ["people.csv row 3: no value for column 'name'"]


WRONG = {
    "nothing": ((), "nothing to send: give --to and --text, or --eml, or --csv and --template"),
    "half a table": (("--csv", "x"), "--csv and --template: give both"),
    "two sources": (("--eml", "x", "--to", "a@b.example"), "--eml and --to: the mail comes from one of them"),
    "one key for all rows": (
        ("--csv", "x", "--template", "y", "--key", "k"),
        "--key: every row needs a key of its own;",
    ),
    "no file": (("--eml", "none.eml"), "--eml: none.eml cannot be read (No such file or directory)"),
    "app": (("--app", "Bill", "--to", "a@b.example"), "--app: expected a name of 1 to 40 characters"),
    "address": (("--to", "a", "--from", "x@example.com", "--text", "x"), "to[0]: the address has no @"),
    "two addresses in one sender": (
        ("--from", "a@b.example,c@d.example", "--to", "a@b.example"),
        "from_: expected one address",
    ),
    "line end in a subject": (
        ("--to", "a@b.example", "--from", "a@b.example", "--text", "x", "--subject", "a\nBcc: e@x.example"),
        "subject: line break U+000A at position 1 is not allowed",
    ),
    "no sender": (
        ("--to", "a@b.example", "--text", "x"),
        "from_: nobody is named, and accounts.default.from is not set either",
    ),
    "time": (("--to", "a@b.example", "--due-at", "soon"), "--due-at: expected a time such as"),
    "account": (
        ("--to", "a@b.example", "--from", "a@b.example", "--text", "x", "--account", "defualt"),
        "account: app shared may not send through 'defualt' (did you mean default?)",
    ),
    "inline": (
        ("--to", "a@b.example", "--inline", "logo.png"),
        "--inline: expected CID=FILE, got 'logo.png'",
    ),
    "attachment": (
        ("--to", "a@b.example", "--from", "a@b.example", "--text", "x", "--attach", "none.pdf"),
        "attachments[0]: there is no file none.pdf",
    ),
    "two texts": (
        ("--to", "a@b.example", "--text", "x", "--text-file", "y"),
        "--text and --text-file: give one of them",
    ),
}


@pytest.mark.parametrize(("arguments", "complaint"), WRONG.values(), ids=WRONG.keys())
def test_mistakes(command: Command, arguments: tuple[str, ...], complaint: str) -> None:
    """A mistake in the arguments is one line, and nothing is written."""
    [line] = command.complaints("send", *arguments)

    assert line.startswith(complaint)
    assert not Path("mailfleet-data").exists()


def test_app_must_be_said_where_there_are_several(command: Command) -> None:
    """One app in the settings is meant without a word; of two, one has to be named."""
    Path("mailfleet.toml").write_text("[apps.billing]\n")
    assert command.json(*LETTER)["app"] == "billing"
    Path("mailfleet.toml").write_text("[apps.billing]\n[apps.news]\n")
    assert command.complaints(*LETTER) == ["--app: expected one of billing, news"]


def test_key_with_another_payload(command: Command) -> None:
    """The same key for the same mail is no error, for another mail it is."""
    command(*LETTER, "--key", "k")
    assert command.json(*LETTER, "--key", "k")["mails"][0]["id"] == 1
    [line] = command.complaints(*LETTER, "--key", "k", "--cc", "bob@example.net")
    assert line.endswith("belongs to mail 1 with another payload; nothing was written")


def test_later_mail_waits_as_planned(command: Command) -> None:
    """A mail for tomorrow is stored, and that is well; the command does not wait for it."""
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    found = command.json(*LETTER, "--due-at", tomorrow)

    assert found["counts"] == {"waiting": 1}
    assert receipts(command) == []


def test_refused_mail_ends_with_status_1(command: Command) -> None:
    """A mail that nobody takes is an outcome, not a mistake of the command."""
    Path("mailfleet.toml").write_text(
        'delivery = "live"\n[accounts.default]\nhost = "127.0.0.1"\nport = 1\ntls = "plain"\n'
    )
    result = command(*LETTER, "--wait", "20", status=0)

    # No answer before MAIL is a Wait of the host: the mail waits, and its reason is shown.
    assert "queued" in result.stdout
    assert "1 waiting for their time." in result.stdout


def test_dry_run_says_so(command: Command) -> None:
    """With an account of a real server and no `live`, nothing leaves, and that is said."""
    Path("mailfleet.toml").write_text('[accounts.default]\nhost = "127.0.0.1"\nport = 1\ntls = "plain"\n')
    result = command(*LETTER)

    assert "dry_run" in result.stdout
    assert 'This was a dry run; delivery = "live" in the settings sends.' in result.stdout


def test_scan_sends_what_is_due(command: Command) -> None:
    """What came due while nothing ran is sent by a scan; a second one finds nothing."""
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    found = command.json(*LETTER, "--due-at", tomorrow)
    assert found["counts"] == {"waiting": 1}
    # Its time comes between two runs, however slow they are.
    engine = open_engine(parse_url("database_url", Settings.load({}).database_url))
    rows = Rows(engine)
    rows.change("mail", found["mails"][0]["id"], due_at=rows.now() - timedelta(seconds=1))
    engine.dispose()
    assert receipts(command) == []
    found = command.json("scan")

    assert found["done"]
    assert len(receipts(command)) == 1
    assert "Nothing to do." in command("scan").stdout


def test_beside_a_running_process(command: Command) -> None:
    """While another process holds the database: reading works, scan leaves it alone, send hands over."""
    Path("mailfleet.toml").write_text("[timing]\ngrace_s = 0.2\nreconcile_s = 0.2\n")
    with Embedded(Settings.load({}), apps=["shared"]) as running:
        with running.engine.begin():  # the write lock is taken
            assert command.json("list")["mails"] == []
            assert command.json("status")["apps"] == []
        found = json.loads(command(*LETTER, "--json", "--wait", "30").stdout)
        workers = command.json("status")["workers"]
        assert command.json("scan") == {"found": {}, "done": True, "running_elsewhere": True}

    assert found["counts"] == {"sent": 1}
    assert found["notes"][0] == "Another process runs mailfleet on this database and sends these mails."
    assert [one["quiet"] for one in workers] == [False]
