"""Templates of lazy mail, by app, name and version. A version is never changed: another content is another version."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from mailfleet_schema.dialects import Dialect, Executor, dialect_of
from mailfleet_schema.statements.template import template


@dataclass(frozen=True, slots=True)
class MailTemplate:
    """One version of a template. `subject` "" keeps the mail's own; at least one of `text` and `html` is there."""

    app: str
    name: str
    version: int
    subject: str
    text: str | None
    html: str | None
    created_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class TemplateName:
    """A template and its newest version, which came at `changed_at`."""

    app: str
    name: str
    newest: int
    changed_at: datetime | None


@template
def _add(d: Dialect) -> str:
    return d.format(
        """
        INSERT INTO {mail_template} (app, name, version, subject, text, html, created_at)
        SELECT v.app, v.name,
               COALESCE((SELECT max(t.version) FROM {mail_template} AS t WHERE t.app = v.app AND t.name = v.name), 0) + 1,
               v.subject, v.text, v.html, {clock}
        FROM {rows} WHERE true
        ON CONFLICT DO NOTHING
        RETURNING version
        """,
        rows=d.rows("rows", dict.fromkeys(("app", "name", "subject", "text", "html"), "text"), "v"),
    )


def add_template(
    connection: Executor, app: str, name: str, *, subject: str, text: str | None, html: str | None
) -> int | None:
    """Store the next version of template *name* of *app*; its number. None if somebody else took that: ask again."""
    d = dialect_of(connection)
    row = {"app": app, "name": name, "subject": subject, "text": text, "html": html}
    found = connection.execute(_add(d), {"rows": d.bind_rows([row])}).one_or_none()
    return None if found is None else found.version


@template
def _get(d: Dialect) -> str:
    return d.format(
        """
        SELECT app, name, version, subject, text, html, created_at FROM {mail_template}
        WHERE app = :app AND name = :name AND version = COALESCE(CAST(:version AS integer), version)
        ORDER BY version DESC LIMIT 1
        """
    )


def template_of(connection: Executor, app: str, name: str, version: int | None) -> MailTemplate | None:
    """Template *name* of *app* in *version*, None for its newest; None if there is none."""
    d = dialect_of(connection)
    bound = {"app": app, "name": name, "version": version}
    row = connection.execute(_get(d), bound).one_or_none()
    if row is None:
        return None
    return MailTemplate(
        row.app, row.name, row.version, row.subject, row.text, row.html, d.read_instant(row.created_at)
    )


@template
def _newest(d: Dialect) -> str:
    return d.format(
        "SELECT name, max(version) AS version FROM {mail_template} WHERE app = :app AND name {names} GROUP BY name",
        names=d.in_names("names"),
    )


def newest_versions(connection: Executor, app: str, names: Sequence[str]) -> dict[str, int]:
    """The newest versions of those of the templates *names* that *app* has."""
    d = dialect_of(connection)
    found = connection.execute(_newest(d), {"app": app, "names": d.bind_names(names)})
    return {row.name: row.version for row in found}


@template
def _names(d: Dialect) -> str:
    return d.format(
        """
        SELECT app, name, max(version) AS newest, max(created_at) AS changed_at FROM {mail_template}
        WHERE app = COALESCE(CAST(:app AS text), app) GROUP BY app, name ORDER BY app, name LIMIT :most
        """
    )


def template_names(connection: Executor, app: str | None, *, most: int) -> list[TemplateName]:
    """At most *most* templates of *app*, None for everybody's, by name."""
    d = dialect_of(connection)
    found = connection.execute(_names(d), {"app": app, "most": most})
    return [TemplateName(row.app, row.name, row.newest, d.read_instant(row.changed_at)) for row in found]


@template
def _versions(d: Dialect) -> str:
    return d.format(
        """
        SELECT version, created_at FROM {mail_template} WHERE app = :app AND name = :name
        ORDER BY version DESC LIMIT :most
        """
    )


def template_versions(
    connection: Executor, app: str, name: str, *, most: int
) -> list[tuple[int, datetime | None]]:
    """The *most* newest versions of template *name* of *app*, and when they came; newest first."""
    d = dialect_of(connection)
    found = connection.execute(_versions(d), {"app": app, "name": name, "most": most})
    return [(row.version, d.read_instant(row.created_at)) for row in found]
