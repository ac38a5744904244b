"""A filter as SQL: conditions on `mail` and `mail_content`, and which rows an index knows at once.

What somebody searches for is always a bound value; in a tsquery it is one quoted lexeme.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    FromClause,
    Integer,
    Select,
    Text,
    TextClause,
    and_,
    cast,
    func,
    literal,
    literal_column,
    or_,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import TSQUERY

from mailfleet_schema.dialects import POSTGRESQL, Dialect, dialect_of
from mailfleet_schema.search import (
    INDEX,
    MARK_SQL,
    SUBJECT_SQL,
    TERMS_SQL,
    terms_of_row,
    words_of_mark,
    words_of_subject,
)
from mailfleet_schema.tables import tables_of
from mailfleet_workers.views.filter import Filter, Term, Terms, lexeme, terms_of

_FOUND = "mailfleet_found"
_REF = ("ref_type", "ref_key1", "ref_key2")


@dataclass(frozen=True, slots=True)
class Conditions:
    """What a filter means on one connection. `where` has to hold for rows of `source`: `mail`, with its content if need be.

    `known` selects the ids of all rows that may do, by an index over contents; None where no index knows them. `id` is
    the mail's, `content_id` that of its content where `source` has it.
    """

    dialect: Dialect
    source: FromClause
    id: ColumnElement[int]
    where: tuple[ColumnElement[bool], ...] = ()
    known: Select[Any] | None = None
    content_id: ColumnElement[int] | None = None

    def between(self, low: int, high: int) -> list[ColumnElement[bool]]:
        """Rows from *low* to below *high*: said of both tables, so that both are read by these ids."""
        columns = [self.id] if self.content_id is None else [self.id, self.content_id]
        return [one for column in columns for one in (column >= low, column < high)]

    def among(self, ids: Sequence[int]) -> TextClause:
        """Rows of *ids*, however many: one bound value."""
        among = f"{self.dialect.table('mail')}.id {self.dialect.in_ids('ids')}"
        return text(among).bindparams(ids=self.dialect.bind_ids(ids))


def conditions(connection: Connection, wanted: Filter) -> Conditions:
    """*wanted* as SQL for *connection*. Raises InvalidSearch."""
    terms = terms_of(wanted)
    dialect = dialect_of(connection)
    tables = tables_of(dialect)
    mail, content = tables.mail, tables.mail_content.alias("c")
    where = _on_mail(mail, wanted)
    in_content: list[ColumnElement[bool]] = [
        content.c[name] == value for name, value in zip(_REF, wanted.ref, strict=False)
    ]
    known = list(in_content)
    if terms.all:
        if dialect is POSTGRESQL:
            words, indexed = _lowered(connection, terms)
            in_content += _on_content(mail, content, wanted, terms, words)
            needed = [*terms.needed, *([terms.sender] if terms.sender and not wanted.sender_accounts else [])]
            if indexed and needed:
                known.append(_has(needed, words))
        else:
            in_content.append(_registered(connection, mail, content, wanted, terms))
    if not in_content:
        return Conditions(dialect, mail, mail.c.id, tuple(where))
    return Conditions(
        dialect,
        mail.join(content, content.c.mail_id == mail.c.id),
        mail.c.id,
        (*where, *in_content),
        select(content.c.mail_id).where(*known) if known else None,
        content.c.mail_id,
    )


def _on_mail(mail: FromClause, wanted: Filter) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = []
    if wanted.apps:
        found.append(mail.c.app.in_(wanted.apps))
    if wanted.states:
        found.append(mail.c.state.in_([state.value for state in wanted.states]))
    if wanted.priority is not None:
        found.append(mail.c.priority == wanted.priority)
    if wanted.account is not None:
        found.append(mail.c.account == wanted.account)
    if wanted.reason is not None:
        found.append(mail.c.reason.contains(wanted.reason, autoescape=True))
    if wanted.outcome is not None:
        found.append(mail.c.sum_done == 0)
    if wanted.outcome == "failed":
        found.append(mail.c.sum_fail > 0)
    if wanted.since is not None:
        found.append(mail.c.created_at >= wanted.since)
    if wanted.until is not None:
        found.append(mail.c.created_at < wanted.until)
    return found


def _lowered(connection: Connection, terms: Terms) -> tuple[dict[str, str], bool]:
    """The words in lower case as this database knows it, and whether it has the index."""
    words = list(dict.fromkeys(term.word for term in terms.all))
    query = text(
        f"SELECT lower(v), to_regclass('mailfleet.{INDEX}') IS NOT NULL"
        " FROM unnest(CAST(:words AS text[])) WITH ORDINALITY AS t (v, n) ORDER BY n"
    )
    rows = connection.execute(query, {"words": words}).all()
    return dict(zip(words, (row[0] for row in rows), strict=True)), all(row[1] for row in rows)


def _has(terms: Sequence[Term], words: dict[str, str]) -> ColumnElement[bool]:
    """Whether a row of `mail_content` has all of *terms*: what the index is asked."""
    lexemes = []
    for term in terms:
        quoted = lexeme(term, words[term.word]).replace("\\", "\\\\").replace("'", "''")
        lexemes.append(f"'{quoted}'{':*' if term.begins else ''}")
    # The expression names columns alone: `mail` has none of these.
    row: ColumnElement[Any] = literal_column(TERMS_SQL)
    return row.bool_op("@@")(cast(literal(" & ".join(lexemes), Text), TSQUERY))


def _on_content(
    mail: FromClause, content: FromClause, wanted: Filter, terms: Terms, words: dict[str, str]
) -> Iterator[ColumnElement[bool]]:
    if terms.needed:
        yield _has(terms.needed, words)
    if terms.sender is not None:
        named = _has([terms.sender], words)
        yield or_(named, _unnamed(mail, content, wanted)) if wanted.sender_accounts else named
    for column, phrases in ((SUBJECT_SQL, terms.subject_phrases), (MARK_SQL, terms.mark_phrases)):
        for phrase in phrases:
            said = literal(" ") + func.lower(literal(phrase, Text)) + literal(" ")
            yield func.strpos(literal(" ") + literal_column(column, Text) + literal(" "), said) > 0


def _unnamed(mail: FromClause, content: FromClause, wanted: Filter) -> ColumnElement[bool]:
    return and_(content.c.sender.is_(None), mail.c.account.in_(wanted.sender_accounts))


def _registered(
    connection: Connection, mail: FromClause, content: FromClause, wanted: Filter, terms: Terms
) -> ColumnElement[bool]:
    """The same by a function of ours: SQLite's own lower() knows ASCII only."""
    if _FOUND not in connection.info:  # of the driver's connection, which keeps the function
        driver: Any = connection.connection.driver_connection
        driver.create_function(_FOUND, 8, _found, deterministic=True)
        connection.info[_FOUND] = True
    asked = {
        "needed": [[lexeme(term, term.word.lower()), term.begins] for term in terms.needed],
        "sender": terms.sender and [lexeme(terms.sender, terms.sender.word.lower()), terms.sender.begins],
        "accounts": wanted.sender_accounts,
        "subject": [phrase.lower() for phrase in terms.subject_phrases],
        "mark": [phrase.lower() for phrase in terms.mark_phrases],
    }
    # As text, as the function reads it.
    lists = [cast(content.c[name], Text) for name in ("to", "cc", "bcc", "sender")]
    called = func.mailfleet_found(
        json.dumps(asked), content.c.subject, content.c.mark, *lists, mail.c.account, type_=Integer
    )
    return called == 1


@lru_cache(maxsize=16)
def _asked(wanted: str) -> dict[str, Any]:
    asked: dict[str, Any] = json.loads(wanted)
    return asked


def _found(wanted: str, subject: Any, mark: Any, to: Any, cc: Any, bcc: Any, by: Any, account: Any) -> bool:
    asked = _asked(wanted)
    row = set(terms_of_row(subject, mark, (to, cc, bcc), by))

    def has(term: str, begins: bool) -> bool:
        return term in row or (begins and any(one.startswith(term) for one in row))

    if not all(has(*term) for term in asked["needed"]):
        return False
    if asked["sender"] and not has(*asked["sender"]) and (by is not None or account not in asked["accounts"]):
        return False
    return _has_phrases(words_of_subject(subject or ""), asked["subject"]) and _has_phrases(
        words_of_mark(mark or ""), asked["mark"]
    )


def _has_phrases(words: list[str], phrases: Sequence[str]) -> bool:
    said = f" {' '.join(words)} ".lower()
    return all(f" {phrase} " in said for phrase in phrases)
