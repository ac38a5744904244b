"""200 mails from a table: made here, sent by `mailfleet send`, read back from a real Postfix field by field.

For every form of mailfleet the same: who uses it says in which environment the command runs, and who sends.
"""

import csv
import hashlib
import json
import random
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default as default_policy
from pathlib import Path
from typing import Any, cast

from mailfleet_workers.demo.content import PEOPLE, pdf, png
from tests.services.base import PostfixServer, StoredMail

MAILS = 200
#: One mail carries this much.
BIG = 25 * 1024 * 1024
BIG_ROW = 100

TEMPLATE = """\
From: "Büro, Grüße & Co." <billing@example.com>
To: ${name} <${email}>
Cc: ${copy}
Bcc: archive@example.org
Reply-To: Antwort <reply@example.com>
Subject: ${subject}
Html-File: letter.html
Inline: logo=logo.png
Attach: files/${number}.pdf; filename=Rechnung ${number} für ${name_for_file}.pdf
Attach: files/notes.txt; filename=заметки.txt
Attach: files/${third}; filename=データ.bin
X-Campaign: ${number}

Dear ${name},

this is line two, with a . at the start of the next:
.hidden
..twice
and a very long line: ${long}
"""

HTML = """\
<!DOCTYPE html>
<html><body><p><img src="cid:logo" alt=""></p>
<p>Dear <b>${name}</b>, number ${number}.</p>
.
</body></html>
"""


@dataclass(frozen=True)
class Row:
    """One row of the table, as it was written."""

    number: int
    name: str
    email: str
    subject: str
    copy: str
    third: str
    long: str

    @property
    def name_for_file(self) -> str:
        return self.name.replace('"', "").replace("/", "")


def rows() -> list[Row]:
    rng = random.Random(17)
    made = []
    for number in range(1, MAILS + 1):
        person = PEOPLE[number % len(PEOPLE)]
        made.append(
            Row(
                number=number,
                name=person.name,
                email=f"{person.mailbox}.{number}@example.net",
                subject=f"Счёт {number}: {person.name} — 第{number}号 " + "long " * (number % 30),
                copy=f"copy.{number}@example.org" if number % 5 == 0 else "",
                third="big.bin" if number == BIG_ROW else "small.bin",
                long="x" * rng.randint(10, 3000),
            )
        )
    return made


def write_files(directory: Path, table: list[Row]) -> dict[str, bytes]:
    """The table, the template and all files; returns the files' contents by name."""
    rng = random.Random(18)
    contents = {"notes.txt": "Zeile eins\r\nстрока два\n第三行\n".encode(), "small.bin": rng.randbytes(5000)}
    contents["big.bin"] = rng.randbytes(BIG)
    contents |= {f"{row.number}.pdf": pdf(f"Invoice {row.number}") for row in table}
    (directory / "files").mkdir()
    for name, content in contents.items():
        (directory / "files" / name).write_bytes(content)
    contents["logo.png"] = png(200, 40, 40)
    (directory / "logo.png").write_bytes(contents["logo.png"])
    (directory / "letter.html").write_text(HTML, encoding="utf-8")
    (directory / "letter.txt").write_text(TEMPLATE, encoding="utf-8")
    with (directory / "people.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["number", "name", "email", "subject", "copy", "third", "long", "name_for_file"])
        for row in table:
            writer.writerow(
                [
                    row.number,
                    row.name,
                    row.email,
                    row.subject,
                    row.copy,
                    row.third,
                    row.long,
                    row.name_for_file,
                ]
            )
    return contents


def run_send(directory: Path, environ: Mapping[str, str], *options: str) -> dict[str, Any]:
    """`mailfleet *options* send` for the whole table in *directory*; what it says of it."""
    command = [sys.executable, "-W", "error", "-m", "mailfleet", *options, "send", "--app", "billing"]
    command += ["--csv", "people.csv", "--template", "letter.txt", "--wait", "100", "--json"]
    done = subprocess.run(
        command, cwd=directory, env=dict(environ), capture_output=True, text=True, timeout=115, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return cast("dict[str, Any]", json.loads(done.stdout))


def leaf_parts(message: EmailMessage) -> list[EmailMessage]:
    return [part for part in message.walk() if not part.is_multipart()]


def lines(part: EmailMessage) -> list[str]:
    """A text body by lines: their ends are SMTP's (CRLF), in base64 also after decoding."""
    return cast("str", part.get_content()).replace("\r\n", "\n").rstrip("\n").split("\n")


def check_one(row: Row, stored: StoredMail, contents: dict[str, bytes]) -> None:
    message = message_from_bytes(stored.content, policy=default_policy)
    assert message.defects == []
    assert stored.return_path == "billing@example.com"
    (sender,) = message["From"].addresses
    assert (sender.display_name, sender.addr_spec) == ("Büro, Grüße & Co.", "billing@example.com")
    (to,) = message["To"].addresses
    assert (to.display_name, to.addr_spec) == (row.name, row.email)
    cc = [a.addr_spec for a in message["Cc"].addresses] if message["Cc"] else []
    assert cc == ([row.copy] if row.copy else [])
    (reply_to,) = message["Reply-To"].addresses
    assert (reply_to.display_name, reply_to.addr_spec) == ("Antwort", "reply@example.com")
    assert message["Bcc"] is None
    assert message["Subject"] == row.subject.strip()
    assert message["X-Campaign"] == str(row.number)
    text, html, logo, invoice, notes, third = leaf_parts(message)
    long_text = TEMPLATE.split("\n\n", 1)[1].replace("${name}", row.name).replace("${long}", row.long)
    assert lines(text) == long_text.rstrip("\n").split("\n")
    escaped = row.name.replace("&", "&amp;").replace('"', "&quot;").replace("'", "&#x27;")
    wanted_html = HTML.replace("${name}", escaped).replace("${number}", str(row.number))
    assert lines(html) == wanted_html.rstrip("\n").split("\n")
    assert (logo["Content-ID"], logo.get_content_type()) == ("<logo>", "image/png")
    files = [
        (logo, "logo.png", logo.get_filename()),
        (invoice, f"{row.number}.pdf", f"Rechnung {row.number} für {row.name_for_file}.pdf"),
        (notes, "notes.txt", "заметки.txt"),
        (third, row.third, "データ.bin"),
    ]
    for part, name, filename in files:
        assert part.get_filename() == filename
        payload = cast("bytes", part.get_payload(decode=True))
        assert hashlib.sha256(payload).digest() == hashlib.sha256(contents[name]).digest(), name
    assert invoice.get_content_type() == "application/pdf"


def check_all(table: list[Row], contents: dict[str, bytes], postfix: PostfixServer) -> None:
    """Every recipient got what the table and the files say, once; each mail has a Message-ID of its own."""
    copies = sum(1 for row in table if row.copy)
    stored = postfix.wait_for(2 * MAILS + copies, deadline_s=60)
    assert len(stored) == 2 * MAILS + copies
    by_recipient = {one.recipient: one for one in stored if one.recipient != "archive@example.org"}
    assert len(by_recipient) == MAILS + copies
    for row in table:
        check_one(row, by_recipient[row.email], contents)
        if row.copy:
            check_one(row, by_recipient[row.copy], contents)
    message_ids = {message_from_bytes(by_recipient[row.email].content)["Message-ID"] for row in table}
    assert len(message_ids) == MAILS
