"""A template: header lines, an empty line, a text; filled in for each row of a table. `docs/sending.md` describes it."""

import html
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from mailfleet.errors import InvalidMail
from mailfleet.mail import Mail
from mailfleet_workers.cli.failure import Failure
from mailfleet_workers.cli.sending.files import NamedFile, named_file, read_text
from mailfleet_workers.cli.sending.mailboxes import Mailbox, mailboxes
from mailfleet_workers.cli.sending.placeholders import Filled
from mailfleet_workers.settings.problems import nearest

_BOXES = {"to": "to", "cc": "cc", "bcc": "bcc", "reply-to": "reply_to"}
_WORDS = {
    "subject": "subject",
    "account": "account",
    "priority": "priority",
    "key": "idempotency_key",
    "mark": "mark",
}
_TIMES = {"due-at": "due_at", "expires-at": "expires_at"}
_REPEATED = ("tag", "unsubscribe", "header", "attach", "inline")
_FILES = ("html-file", "text-file")

#: Every header that a template may have.
HEADERS = ("from", *_BOXES, *_WORDS, *_TIMES, *_FILES, *_REPEATED)


@dataclass(frozen=True, slots=True)
class _Line:
    name: str
    value: str
    number: int


@dataclass(slots=True)
class Template:
    """A parsed template. `mail` fills it in; `columns` says which columns that needs, and in which file and line."""

    source: str
    sender: Mailbox | None = None
    boxes: dict[str, list[Mailbox]] = field(default_factory=dict)
    words: dict[str, Filled] = field(default_factory=dict)
    times: dict[str, Filled] = field(default_factory=dict)
    tags: list[Filled] = field(default_factory=list)
    unsubscribe: list[Filled] = field(default_factory=list)
    headers: list[tuple[str, Filled]] = field(default_factory=list)
    attachments: list[NamedFile] = field(default_factory=list)
    inline: list[NamedFile] = field(default_factory=list)
    text: Filled | None = None
    html: Filled | None = None

    def columns(self) -> Iterator[tuple[str, str, int]]:
        """Every column that is named: its name, the file and the line."""
        for part in self._parts():
            for name, line in part.columns():
                yield name, part.source, line

    def mail(self, values: Mapping[str, str], moment: Callable[[str, str], datetime]) -> Mail:
        """The mail for one row of *values*; *moment* reads a time. Raises InvalidMail for what cannot be filled in."""
        words: dict[str, Any] = {}
        for name, filled in self.words.items():
            if value := filled.fill(values).strip():
                words[name] = value
        for name, filled in self.times.items():
            if value := filled.fill(values).strip():
                words[name] = moment(value, name)
        for name, boxes in self.boxes.items():
            words[name] = [one for one in (box.fill(values) for box in boxes) if one is not None]
        # A value in HTML is text, never markup.
        escaped = {name: html.escape(value) for name, value in values.items()}
        return Mail(
            **words,
            from_=None if self.sender is None else self.sender.fill(values),
            text=None if self.text is None else self.text.fill(values),
            html=None if self.html is None else self.html.fill(escaped),
            tags=[value for value in (one.fill(values).strip() for one in self.tags) if value],
            list_unsubscribe=[one.fill(values).strip() for one in self.unsubscribe],
            headers=[(name, value) for name, value in self._headers(values) if value],
            attachments=[f.read(values, f"attachments[{n}]") for n, f in enumerate(self.attachments)],
            inline=[f.read(values, f"inline[{n}]") for n, f in enumerate(self.inline)],
        )

    def _headers(self, values: Mapping[str, str]) -> Iterator[tuple[str, str]]:
        for name, filled in self.headers:
            yield name, filled.fill(values).strip()

    def _parts(self) -> Iterator[Filled]:
        boxes = [box for each in self.boxes.values() for box in each]
        for box in (*boxes, *filter(None, [self.sender])):
            yield from filter(None, [box.name, box.address])
        yield from self.words.values()
        yield from self.times.values()
        yield from (*self.tags, *self.unsubscribe, *(filled for _, filled in self.headers))
        for file in (*self.attachments, *self.inline):
            yield from filter(None, [file.path, file.filename])
        yield from filter(None, [self.text, self.html])


def read_template(path: Path) -> Template:
    """The template in the file *path*. Raises Failure with file and line of what is wrong."""
    return parse_template(read_text(path, "--template"), path.name, path.parent)


def parse_template(content: str, source: str, folder: Path) -> Template:
    """The template in *content*, whose name is *source* and whose files are relative to *folder*."""
    lines = content.replace("\r\n", "\n").split("\n")
    end = next((number for number, line in enumerate(lines) if not line.strip()), len(lines))
    found = Template(source)
    seen: dict[str, int] = {}
    for line in _unfolded(lines[:end], source):
        if line.name in seen and line.name not in {*_REPEATED, *_BOXES}:
            raise Failure(f"{source} line {line.number}: {line.name} is in line {seen[line.name]} already")
        seen[line.name] = line.number
        _take(found, line, folder)
    body = "\n".join(lines[end + 1 :])
    if body.strip():
        if "text-file" in seen:
            raise Failure(f"{source} line {seen['text-file']}: there is a text below the headers already")
        found.text = Filled(body, source, end + 2)
    if found.text is None and found.html is None:
        raise Failure(
            f"{source}: there is no text: write it below an empty line, or name Html-File or Text-File"
        )
    if not found.boxes:
        raise Failure(f"{source}: there is no To, Cc or Bcc")
    return found


def _unfolded(lines: Sequence[str], source: str) -> Iterator[_Line]:
    current: _Line | None = None
    for number, line in enumerate(lines, start=1):
        if line.startswith("#"):
            continue
        if line[:1] in {" ", "\t"} and current is not None:
            current = _Line(current.name, f"{current.value} {line.strip()}", current.number)
            continue
        if current is not None:
            yield current
        name, colon, value = line.partition(":")
        if not colon or not name.strip():
            raise Failure(
                f"{source} line {number}: expected `Header: value`, or an empty line before the text"
            )
        current = _Line(name.strip().lower(), value.strip(), number)
        if current.name.startswith("x-"):
            current = _Line("header", line.strip(), number)
    if current is not None:
        yield current


def _take(found: Template, line: _Line, folder: Path) -> None:
    source, filled = found.source, Filled(line.value, found.source, line.number)
    match line.name:
        case "from":
            boxes = mailboxes(line.value, source, line.number)
            if len(boxes) != 1:
                raise Failure(f"{source} line {line.number}: From: expected one address")
            found.sender = boxes[0]
        case name if name in _BOXES:
            found.boxes.setdefault(_BOXES[name], []).extend(mailboxes(line.value, source, line.number))
        case name if name in _WORDS:
            found.words[_WORDS[name]] = filled
        case name if name in _TIMES:
            found.times[_TIMES[name]] = filled
        case "tag":
            found.tags.append(filled)
        case "unsubscribe":
            found.unsubscribe.append(filled)
        case "header":
            name, colon, value = line.value.partition(":")
            if not colon:
                raise Failure(f"{source} line {line.number}: Header: expected `Header: Name: value`")
            found.headers.append((name.strip(), Filled(value.strip(), source, line.number)))
        case "attach":
            found.attachments.append(named_file(line.value, folder, source, line.number, inline=False))
        case "inline":
            found.inline.append(named_file(line.value, folder, source, line.number, inline=True))
        case "html-file" | "text-file":
            path = folder / line.value
            body = Filled(read_text(path, f"{source} line {line.number}"), path.name, 1)
            if line.name == "html-file":
                found.html = body
            else:
                found.text = body
        case name:
            known = ", ".join(one.title() for one in HEADERS)
            raise Failure(
                f"{source} line {line.number}: unknown header {name.title()}{nearest(name, HEADERS)};"
                f" known are {known}, and X-…"
            )


def moment_of(text: str, field_name: str) -> datetime:
    """An ISO 8601 time; one without a zone is local. Raises InvalidMail for *field_name*."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidMail(
            field_name, f"expected a time such as 2026-10-05T14:00 or …+02:00, got {text!r:.40}"
        ) from None
    return found.astimezone() if found.utcoffset() is None else found
