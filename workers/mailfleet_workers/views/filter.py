"""Which mails somebody means: what a list shows, and what a bulk operation changes."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from mailfleet.errors import InvalidMail, MailfleetError
from mailfleet.validation.addresses import addr_spec
from mailfleet_schema.hint import MAX_ID
from mailfleet_schema.search import (
    MOST_CHARACTERS,
    Kind,
    backwards,
    words_of_mark,
    words_of_subject,
)
from mailfleet_schema.states import State

#: More words than this are no search but a text.
MOST_WORDS = 20

_NO_TEXT = re.compile("[\x00\ud800-\udfff]")
_QUOTED = re.compile(r'"([^"]*)"')

#: `failed`: nothing is done and something failed, also where it is tried again. `undone`: nothing is done.
Outcome = Literal["failed", "undone"]


class InvalidSearch(MailfleetError, ValueError):  # noqa: N818 - reads as the fact it states
    """What cannot be searched: *field* says where, *reason* what was expected."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Filter:
    """Which mails; empty and None is no condition, and all that are given have to hold.

    `reason` is a part of the row's reason. `from_id` is included, `before_id` is not; so are `since` and `until` (aware),
    which are of the time when the mail was stored. `mark` and `subject` are words in any order, a phrase in double quotes, and
    with `*` at its end the beginning of a word; `recipient` (To, Cc or Bcc) and `sender` are an address or `@domain`, whatever
    their case. `sender_accounts` are the accounts whose own sender that is, for mails that name none. `ref` is a type with one
    key, two or none.
    """

    apps: tuple[str, ...] = ()
    states: tuple[State, ...] = ()
    priority: str | None = None
    account: str | None = None
    reason: str | None = None
    from_id: int | None = None
    before_id: int | None = None
    outcome: Outcome | None = None
    since: datetime | None = None
    until: datetime | None = None
    mark: str | None = None
    recipient: str | None = None
    sender: str | None = None
    sender_accounts: tuple[str, ...] = ()
    subject: str | None = None
    ref: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Term:
    """A term that a mail has to have, or one that begins so; `word` is not in lower case yet."""

    kind: Kind
    word: str
    begins: bool = False


@dataclass(frozen=True, slots=True)
class Terms:
    """What a filter asks of a mail's content. `sender` stands apart: an account's own may stand in for it.

    Phrases have one blank between their words.
    """

    needed: tuple[Term, ...] = ()
    sender: Term | None = None
    subject_phrases: tuple[str, ...] = ()
    mark_phrases: tuple[str, ...] = ()

    @property
    def all(self) -> tuple[Term, ...]:
        return self.needed if self.sender is None else (*self.needed, self.sender)


def terms_of(wanted: Filter) -> Terms:
    """The terms of *wanted*. Raises InvalidSearch for what cannot be searched, in any of its fields."""
    for field, values in (
        ("app", wanted.apps),
        ("account", (wanted.account, *wanted.sender_accounts)),
        ("priority", (wanted.priority,)),
        ("reason", (wanted.reason,)),
        ("ref", wanted.ref),
    ):
        _check_texts(field, values)
    for field, number in (("from_id", wanted.from_id), ("before_id", wanted.before_id)):
        if number is not None and not 0 <= number <= MAX_ID:
            raise InvalidSearch(field, f"expected 0 to {MAX_ID}, got {number}")
    for field, instant in (("since", wanted.since), ("until", wanted.until)):
        if instant is not None and instant.utcoffset() is None:
            raise InvalidSearch(field, "expected a time with its zone")
    if len(wanted.ref) > 3 or (wanted.ref and not wanted.ref[0]):
        raise InvalidSearch("ref", "expected a type, and perhaps one or two keys")
    subject, subject_phrases = _words("subject", wanted.subject)
    mark, mark_phrases = _words("mark", wanted.mark)
    recipient = _address("recipient", "r", wanted.recipient)
    return Terms(
        needed=(*subject, *mark, *([] if recipient is None else [recipient])),
        sender=_address("sender", "s", wanted.sender),
        subject_phrases=subject_phrases,
        mark_phrases=mark_phrases,
    )


def _check_texts(field: str, values: Iterable[str | None]) -> None:
    for value in values:
        if value is None:
            continue
        if len(value) > MOST_CHARACTERS:
            raise InvalidSearch(field, f"expected at most {MOST_CHARACTERS} characters, got {len(value)}")
        if found := _NO_TEXT.search(value):
            raise InvalidSearch(field, f"character U+{ord(found[0]):04X} is in no mail")


def _words(field: Literal["subject", "mark"], query: str | None) -> tuple[list[Term], tuple[str, ...]]:
    if query is None:
        return [], ()
    _check_texts(field, [query])
    kind: Kind = "t" if field == "subject" else "m"
    split = words_of_subject if field == "subject" else words_of_mark
    terms: list[Term] = []
    phrases: list[str] = []
    for position, part in enumerate(_QUOTED.split(query)):
        if position % 2:  # it was in quotes
            words = split(part)
            terms += [Term(kind, word) for word in words]
            phrases += [" ".join(words)] if len(words) > 1 else []
            continue
        for one in part.split():
            words = split(one.removesuffix("*"))
            terms += [Term(kind, word) for word in words]
            if one.endswith("*") and words:
                terms[-1] = Term(kind, words[-1], begins=True)
    if not terms:
        raise InvalidSearch(field, "expected a word")
    if len(terms) > MOST_WORDS:
        raise InvalidSearch(field, f"expected at most {MOST_WORDS} words, got {len(terms)}")
    return list(dict.fromkeys(terms)), tuple(phrases)


def _address(field: str, kind: Kind, query: str | None) -> Term | None:
    if query is None:
        return None
    known = searched_address(field, query)
    return Term(kind, known, begins=known.startswith("@"))


def searched_address(field: str, query: str) -> str:
    """*query*, an address or `@domain`, as it is stored: its domain in ASCII. Raises InvalidSearch for *field*."""
    _check_texts(field, [query])
    found = query.strip()
    try:
        if found.startswith("@"):
            return addr_spec(f"x{found}", field)[1:]
        return addr_spec(found, field)
    except InvalidMail as error:
        raise InvalidSearch(field, f"expected an address or @domain ({error.reason})") from None


def lexeme(term: Term, lowered: str) -> str:
    """The text of *term* as it is indexed, its word in lower case being *lowered*."""
    return f"{term.kind}:{lowered if term.kind in 'tm' else backwards(lowered)}"
