"""Templates of lazy mail: a new version of one, what there is, and one of them whole.

A version is never changed and never removed: mails that were emitted with it are rendered with it.
"""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Engine

from mailfleet.errors import InvalidMail, MailfleetError
from mailfleet.lazy_parameter import is_template_name
from mailfleet.validation.limits import DEFAULT_LIMITS
from mailfleet.validation.text import sized
from mailfleet_schema.names import EXPECTATION, InvalidName, check_name
from mailfleet_schema.statements import mail_template
from mailfleet_workers.template.processes import AtFault, Filled, TemplateProcesses
from mailfleet_workers.views.base import View

#: How often the next version's number is asked for, where others add to the same template.
TRIES = 20
#: So many templates, or versions of one, are listed.
MOST = 1000


class InvalidTemplate(MailfleetError, ValueError):  # noqa: N818 - reads as the fact it states
    """*field* of a template is wrong: *reason* says what was expected. Nothing was written."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.reason = reason


class UnknownTemplate(MailfleetError, LookupError):  # noqa: N818
    """There is no such template, or no such version of it."""

    def __init__(self, app: str, name: str, version: int | None) -> None:
        which = "" if version is None else f" version {version}"
        super().__init__(f"app {app} has no template {name!r}{which}")


@dataclass(frozen=True, slots=True)
class TemplateAdded(View):
    """A version that is stored now; mails that name no version take it from now on."""

    app: str
    name: str
    version: int


@dataclass(frozen=True, slots=True)
class TemplateListed(View):
    """A template, the number of its newest version, and when that came."""

    app: str
    name: str
    newest: int
    changed_at: datetime | None


@dataclass(frozen=True, slots=True)
class TemplateShown(View):
    """One version of a template, and the numbers of all, newest first."""

    app: str
    name: str
    version: int
    subject: str
    text: str | None
    html: str | None
    created_at: datetime | None
    versions: tuple[int, ...]


def add(
    engine: Engine,
    processes: TemplateProcesses,
    *,
    app: str,
    name: str,
    subject: str = "",
    text: str | None = None,
    html: str | None = None,
) -> TemplateAdded:
    """Store the next version of template *name* of *app*; *subject* "" keeps each mail's own.

    Raises InvalidTemplate, also for one that is no template; they are compiled in *processes*.
    """
    _check(app, name, subject, text, html)
    answer = processes.compile({"subject": subject or None, "text": text, "html": html})
    match answer:
        case Filled():
            pass
        case AtFault(reason=reason):
            field, colon, rest = reason.partition(":")
            part = field.partition(",")[0]
            if colon and part in {"subject", "text", "html"}:
                raise InvalidTemplate(
                    part, f"{field.removeprefix(part).lstrip(', ')}{colon}{rest}".lstrip(": ")
                )
            raise InvalidTemplate("template", reason)
        case _:
            raise InvalidTemplate("template", "it could not be compiled now: try again")
    for _ in range(TRIES):
        with engine.begin() as connection:
            version = mail_template.add_template(connection, app, name, subject=subject, text=text, html=html)
        if version is not None:
            return TemplateAdded(app, name, version)
    raise InvalidTemplate("template", "others add versions to it at this moment: try again")


def _check(app: str, name: str, subject: str, text: str | None, html: str | None) -> None:
    try:
        check_name("app", app)
    except InvalidName:
        raise InvalidTemplate("app", f"expected {EXPECTATION}") from None
    if not is_template_name(name):
        raise InvalidTemplate("name", "expected a letter, then up to 99 letters, digits, _, . and -")
    if text is None and html is None:
        raise InvalidTemplate("text", "expected text or html, got neither")
    try:
        sized(subject, "subject", DEFAULT_LIMITS.text)
        for part, source, most in (("text", text, DEFAULT_LIMITS.text), ("html", html, DEFAULT_LIMITS.html)):
            if source is not None:
                sized(source, part, most)
    except InvalidMail as error:
        raise InvalidTemplate(error.field, error.reason) from None


def listed(connection: Connection, app: str | None = None) -> list[TemplateListed]:
    """The templates of *app*, None for everybody's; `MOST` at most."""
    found = mail_template.template_names(connection, app, most=MOST)
    return [TemplateListed(one.app, one.name, one.newest, one.changed_at) for one in found]


def shown(connection: Connection, app: str, name: str, version: int | None = None) -> TemplateShown:
    """Template *name* of *app* in *version*, None for the newest. Raises UnknownTemplate."""
    found = mail_template.template_of(connection, app, name, version)
    if found is None:
        raise UnknownTemplate(app, name, version)
    numbers = mail_template.template_versions(connection, app, name, most=MOST)
    return TemplateShown(
        app=found.app,
        name=found.name,
        version=found.version,
        subject=found.subject,
        text=found.text,
        html=found.html,
        created_at=found.created_at,
        versions=tuple(number for number, _ in numbers),
    )
